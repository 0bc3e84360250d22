"""Uploads that appear whole, from outside: the real command, real clients, and processes that are killed."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.disks import ways_in
from tests.integration.clients import lftp
from tests.integration.harness import ServedCase
from tests.support.cases import InAPlace
from tests.support.doors import FILE, Door, Doors, Wire
from tests.support.packets import CREAT, EXCL, FAILURE, NO_ATTRS, OK, TRUNC, WRITE, request, string, u32, u64
from tests.support.processes import Argument, command, descendants, is_alive, program, require
from tests.support.uploads import LOOKS_LEFT, is_temporary
from tests.support.waiting import PATIENCE, until

NEW = WRITE | CREAT | TRUNC
KILLS = 24
MIB = 1 << 20
PACE = "20000"  # Kbit/s: slow enough to be caught on the way
# What looks at a file over and over, and makes another one when it has looked ten times. It stops at the
# first content that is not the same byte all through.
WATCH = """
import os, sys
looks = 0
while not os.path.exists(sys.argv[2]):
    with open(sys.argv[1], "rb") as file:
        content = file.read()
    looks += 1
    if looks == 10:
        open(sys.argv[3], "w").close()
    if content.count(content[:1]) != len(content) or len(content) % 10007:
        sys.exit(f"half a file: {len(content)} bytes, {content[:9]!r} to {content[-9:]!r}")
"""


def setUpModule() -> None:
    require("sftp", "lftp")


def jail(top: Path, *options: Argument) -> list[str]:
    return command("pysftpjail", "--logfile", top.parent / "log", "--atomic-uploads", *options, top)


def temporary(top: Path) -> list[str]:
    return sorted(name for name in os.listdir(top) if is_temporary(name))


class OnAWire(Doors):
    """Packets to the real command, on a socket as sshd hands it over."""

    options: tuple[Argument, ...] = ()

    def setUp(self) -> None:
        super().setUp()
        self.file = self.root / "f"
        self.seed = random.randrange(2**32)
        self.order = random.Random(self.seed)

    def argv(self, log: Path, code: str) -> list[str]:
        return jail(self.root, *self.options)

    def begin(self, flags: int = NEW) -> tuple[Door, Wire, socket.socket]:
        """A session in which half a file was written to f."""
        session = self.on_socket()
        wire = session[1]
        self.open(wire, flags=flags)
        self.assertEqual(wire.ask("write", FILE, u64(0), string(b"half")).content, OK)
        return session

    def assert_as_before(self, left: bool = False) -> None:
        self.assertEqual(self.file.read_bytes(), b"old")
        self.assertEqual([name for name in os.listdir(self.root) if not is_temporary(name)], ["f"])
        self.assertEqual(len(temporary(self.root)), left)

    def test_a_client_that_is_gone_leaves_the_old_file(self) -> None:
        self.file.write_bytes(b"old")
        door, _, ours = self.begin()
        self.assert_as_before(left=True)
        ours.close()
        self.assertEqual(door.end(), 0)
        self.assert_as_before()

    def test_a_connection_that_ends_inside_a_packet_leaves_the_old_file(self) -> None:
        self.file.write_bytes(b"old")
        door, wire, ours = self.begin()
        wire.send(request("write", 9, FILE, u64(4), string(bytes(200_000)))[:100_000])
        ours.shutdown(socket.SHUT_WR)
        door.end()
        self.assert_as_before()

    def test_a_server_that_is_told_to_end_leaves_the_old_file(self) -> None:
        self.file.write_bytes(b"old")
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            door, _, _ = self.begin()
            door.process.send_signal(number)
            self.assertEqual(door.end(), 0)
            self.assert_as_before()

    def test_a_new_session_removes_what_a_killed_one_left_and_no_more(self) -> None:
        self.file.write_bytes(b"old")
        left = self.root / LOOKS_LEFT  # as by a server that was killed
        left.touch()
        alive, wire, _ = self.begin()
        self.assertFalse(left.exists())
        killed, other, _ = self.on_socket()
        self.open(other, b"g", flags=NEW)
        killed.process.kill()
        killed.process.wait()
        mine = self.root / (LOOKS_LEFT + "-of-mine")
        mine.touch()
        self.assertEqual(len(temporary(self.root)), 3)
        self.on_socket()
        self.assertEqual(len(temporary(self.root)), 2)
        self.assertTrue(mine.exists())
        self.assertEqual(wire.ask("close", FILE).content, OK)
        self.assertEqual((self.file.read_bytes(), temporary(self.root)), (b"half", [mine.name]))
        self.assertIn("removed 1 temporary files of interrupted uploads", alive.log())

    def test_a_session_that_may_only_read_removes_nothing(self) -> None:
        left = self.root / LOOKS_LEFT
        left.touch()
        self.options = ("-R",)
        _, _, ours = self.on_socket()
        ours.close()
        self.assertTrue(left.exists())

    def test_an_exclusive_upload_does_not_replace_what_came_meanwhile(self) -> None:
        _, wire, _ = self.begin(WRITE | CREAT | EXCL)
        self.file.write_bytes(b"old")
        self.assertEqual(wire.ask("close", FILE).content, FAILURE)
        self.assert_as_before()

    def test_a_server_that_ends_at_any_moment_leaves_the_old_or_the_new_file_whole(self) -> None:
        sizes = [self.order.randrange(1, 3 * MIB) for _ in range(KILLS)]
        before = b"old"
        self.file.write_bytes(before)
        outcomes = {"old": 0, "new": 0}
        # How long a whole upload takes here now: the end comes within one and a half times that time.
        began = time.monotonic()
        self.upload_until_it_ends(b"\0" * max(sizes), None)
        whole = time.monotonic() - began
        self.assertLess(whole, PATIENCE)
        before = self.file.read_bytes()
        for number, size in enumerate(sizes, 1):
            content = bytes([number]) * size
            ending = self.order.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
            moment = self.order.random() * whole * size / max(sizes) * 1.5
            self.upload_until_it_ends(content, moment, ending)
            found = self.file.read_bytes()
            self.assertIn(len(found), (len(before), size), f"seed {self.seed}, kill {number}")
            self.assertTrue(found in (before, content), f"seed {self.seed}, kill {number}")
            outcomes["new" if found == content else "old"] += 1
            before = found
            most = 1 if ending == signal.SIGKILL else 0  # the next start removes that one
            self.assertLessEqual(len(temporary(self.root)), most, f"seed {self.seed}, {number}")
        _, _, ours = self.on_socket()
        ours.close()
        self.assertEqual((os.listdir(self.root)), ["f"], f"seed {self.seed}, {outcomes}")

    def upload_until_it_ends(
        self, content: bytes, moment: float | None, ending: int = signal.SIGKILL
    ) -> None:
        """Upload f in a session of its own, whose server gets a signal after so many seconds, or later."""
        door, _, ours = self.on_socket()
        packets = [request("open", 1, string(b"f"), u32(NEW), NO_ATTRS)]
        for at in range(0, len(content), 65536):
            packets.append(request("write", 2, FILE, u64(at), string(content[at : at + 65536])))
        packets.append(request("close", 3, FILE))
        deadline = time.monotonic() + (PATIENCE if moment is None else moment)
        ours.setblocking(False)
        todo = memoryview(b"".join(packets))
        while time.monotonic() < deadline:
            try:
                todo = todo[ours.send(todo[:65536]) :] if todo else todo
            except BlockingIOError:
                pass
            try:
                ours.recv(65536)
            except BlockingIOError:
                if not todo and self.file.stat().st_size == len(content):
                    break
        door.process.send_signal(ending)
        door.process.wait(PATIENCE)
        ours.close()

    def test_two_sessions_that_upload_one_name_and_one_that_watches_see_only_whole_files(self) -> None:
        stop, looked = self.place / "stop", self.place / "looked"
        self.file.write_bytes(b"\0" * 10007)
        watching = subprocess.Popen(
            [sys.executable, "-c", WATCH, self.file, stop, looked], stderr=subprocess.PIPE
        )
        self.addCleanup(watching.communicate)
        self.addCleanup(watching.kill)
        wires = [self.on_socket()[1] for _ in range(2)]
        handles = [0, 0]
        for turn in itertools.count():
            if turn >= 60 and (looked.exists() or watching.poll() is not None):
                break
            which = self.order.randrange(2)
            wire, content = wires[which], bytes([turn % 256]) * (10007 * self.order.randrange(1, 20))
            self.open(wire, flags=NEW)
            handles[which] += 1
            handle = string(u32(handles[which]))
            for at in range(0, len(content), 30_000):
                wire.ask("write", handle, u64(at), string(content[at : at + 30_000]))
            self.assertEqual(wire.ask("close", handle).content, OK, f"seed {self.seed}")
            self.assertTrue(self.file.read_bytes() == content, f"seed {self.seed}, turn {turn}")
        stop.touch()
        _, errors = watching.communicate(timeout=PATIENCE)
        self.assertEqual((watching.returncode, errors), (0, b""), f"seed {self.seed}")
        self.assertEqual(temporary(self.root), [])

    def test_a_full_disk_is_told_and_leaves_the_old_file(self) -> None:
        # A file system of one mebibyte in a mount namespace that ends with the server.
        mounted = 'mount -t tmpfs -o size=1m none "$0" && printf old > "$0/f" && exec "$@"'
        spaces = ["unshare", *ways_in()[0], "sh", "-c", mounted, str(self.root)]
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        with theirs:
            argv = [*spaces, *jail(self.root)]
            process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        wire = Wire(ours.fileno(), ours.fileno())
        wire.hello()
        inside = Path(f"/proc/{process.pid}/root{self.root}")
        self.open(wire, flags=NEW)
        statuses = [wire.ask("write", FILE, u64(n << 17), string(bytes(1 << 17))).content for n in range(9)]
        self.assertEqual((statuses[0], statuses[-1]), (OK, FAILURE))
        self.assertEqual(wire.ask("close", FILE).content, FAILURE)
        self.assertEqual((os.listdir(inside), (inside / "f").read_bytes()), (["f"], b"old"))
        self.assertEqual(os.listdir(self.root), [])


class WithOpenSSH(InAPlace):
    """OpenSSH's sftp, which starts the server itself."""

    def setUp(self) -> None:
        super().setUp()
        self.top = self.place / "top"
        self.top.mkdir()
        self.local = self.place / "local"
        self.content = random.Random(1).randbytes(4 * MIB)
        self.local.write_bytes(self.content)
        self.file = self.top / "f"

    def start(self, *commands: str, pace: str | None = None) -> subprocess.Popen[bytes]:
        """An sftp in a process group of its own, with a batch of commands."""
        limit = ["-l", pace] if pace else []
        process = subprocess.Popen(
            [program("sftp"), *limit, "-b", "-", "-D", shlex.join(jail(self.top))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.place,
            start_new_session=True,
        )

        def end() -> None:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

        self.addCleanup(end)
        assert process.stdin is not None
        process.stdin.write("".join(f"{line}\n" for line in commands).encode())
        process.stdin.close()
        process.stdin = None
        return process

    def sftp(self, *commands: str) -> str:
        process = self.start(*commands)
        out, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0, out)
        return out.decode()

    def caught_on_its_way(self, *commands: str) -> tuple[subprocess.Popen[bytes], int]:
        """A client that has written a part of a file, and the process id of its server."""
        process = self.start(*commands, pace=PACE)

        def some() -> bool:
            with contextlib.suppress(FileNotFoundError):
                names = temporary(self.top)
                return bool(names) and (self.top / names[0]).stat().st_size > 100_000
            return False

        until(some, "a part is written")
        (server,) = (pid for pid, _, _ in descendants(process.pid))
        return process, server

    def gone(self, server: int) -> None:
        until(lambda: not is_alive(server), "the server has ended")

    def test_put_makes_and_replaces_a_file_with_its_mode_and_times(self) -> None:
        os.utime(self.local, (1_000_000_000, 1_000_000_000))
        os.chmod(self.local, 0o640)
        for _ in range(2):
            self.sftp("put -p local f")
            self.assertTrue(self.file.read_bytes() == self.content)
            self.assertEqual(self.file.stat().st_mtime, 1_000_000_000)
            self.assertEqual(self.file.stat().st_mode & 0o777, 0o640)
            self.local.write_bytes(self.content[::-1])
            os.utime(self.local, (1_000_000_000, 1_000_000_000))
            self.content = self.content[::-1]
        self.assertEqual(os.listdir(self.top), ["f"])

    def test_reput_goes_on_with_a_file_in_place(self) -> None:
        self.file.write_bytes(self.content[:MIB])
        inode = self.file.stat().st_ino
        self.sftp("reput local f")
        self.assertTrue(self.file.read_bytes() == self.content)
        self.assertEqual(self.file.stat().st_ino, inode)

    def test_get_during_a_put_gets_the_old_file(self) -> None:
        self.file.write_bytes(b"old")
        process, _ = self.caught_on_its_way("put local f")
        process.send_signal(signal.SIGSTOP)  # until the other one has got it, however long its server starts
        self.sftp("get f got")
        process.send_signal(signal.SIGCONT)
        self.assertEqual((self.place / "got").read_bytes(), b"old")
        self.assertEqual(process.wait(PATIENCE), 0)
        self.assertTrue(self.file.read_bytes() == self.content)
        self.assertEqual(temporary(self.top), [])

    def test_a_client_that_is_killed_leaves_the_old_file(self) -> None:
        self.file.write_bytes(b"old")
        process, server = self.caught_on_its_way("put local f")
        process.kill()
        process.wait()
        self.gone(server)
        self.assertEqual((os.listdir(self.top), self.file.read_bytes()), (["f"], b"old"))

    def test_a_server_that_is_killed_leaves_a_file_that_the_next_one_removes(self) -> None:
        self.file.write_bytes(b"old")
        process, server = self.caught_on_its_way("put local f")
        os.kill(server, signal.SIGKILL)
        self.assertNotEqual(process.wait(PATIENCE), 0)
        self.gone(server)  # and its lock
        self.assertEqual((len(temporary(self.top)), self.file.read_bytes()), (1, b"old"))
        self.sftp("ls")
        self.assertEqual(os.listdir(self.top), ["f"])

    def test_ctrl_c_makes_sftp_close_the_file_and_so_half_of_it_is_put_in_place(self) -> None:
        # As documented: to close a file is the client's word that it is whole.
        self.file.write_bytes(b"old")
        process, server = self.caught_on_its_way("put local f")
        os.killpg(process.pid, signal.SIGINT)
        process.wait(PATIENCE)
        self.gone(server)
        found = self.file.read_bytes()
        self.assertEqual(os.listdir(self.top), ["f"])
        self.assertTrue(100_000 < len(found) < len(self.content), len(found))
        self.assertTrue(self.content.startswith(found))


class WithLftp(ServedCase):
    """lftp behind a real sshd."""

    @classmethod
    def server_command(cls) -> list[str]:
        return cls.jail_command("--atomic-uploads")

    def test_put_replaces_a_file_and_mirror_makes_a_tree(self) -> None:
        content = random.Random(2).randbytes(MIB)
        (self.local / "f").write_bytes(content)
        (self.jail / "f").write_bytes(b"old")
        (self.local / "tree" / "below").mkdir(parents=True)
        for number in range(20):
            (self.local / "tree" / "below" / f"{number}").write_bytes(b"%d" % number)
        lftp(self, "put f", "mirror -R --no-perms tree")
        self.assertTrue((self.jail / "f").read_bytes() == content)
        for number in range(20):
            self.assertEqual((self.jail / "tree" / "below" / f"{number}").read_bytes(), b"%d" % number)
        self.wait_until_no_server_is_left()
        self.assertEqual([path for path in self.jail.rglob("*") if is_temporary(path.name)], [])
