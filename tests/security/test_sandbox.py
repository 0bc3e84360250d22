"""The sandbox: what a plugin that tries everything can do with it, and what it can do without it.

Without it, most attempts must succeed: otherwise their failure inside would prove nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

from pysftpserver.host import sandbox
from tests.support.cases import InAPlace
from tests.support.doors import Wire
from tests.support.packets import CREAT, NO_ATTRS, OK, READ, WRITE, string, u32, u64
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

REFUSED = "PermissionError: "
SET_PERMISSIONS = 4


def setUpModule() -> None:
    try:
        abi = sandbox.landlock_abi()
    except OSError as error:
        raise unittest.SkipTest(f"no Landlock here: {error.strerror}") from None
    if abi < sandbox.LEAST_ABI:
        raise unittest.SkipTest("this kernel's Landlock is too old")


class Guests(InAPlace):
    """A guest process on a jail, a directory outside with things in it, and what listens outside."""

    def setUp(self) -> None:
        super().setUp()
        self.jail = self.place / "jail"
        self.outside = self.place / "outside"
        self.log_path = self.place / "log"
        for directory in (self.jail, self.outside):
            directory.mkdir()
            (directory / "file").write_bytes(b"content")
            (directory / "other").write_bytes(b"other content")
            (directory / "empty").mkdir()
            shutil.copy("/bin/true", directory / "program")

    def guest(self, *arguments: str, before: tuple[str, ...] = ()) -> Wire:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        with theirs:
            process = subprocess.Popen(
                [*before, sys.executable, "-m", "tests.security.guest", self.jail, self.log_path, *arguments],
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.PIPE,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TZ": "Asia/Tokyo"},
            )
        self.process = process

        def end() -> None:
            watchdog.cancel()
            ours.close()
            _, errors = process.communicate(timeout=PATIENCE)
            self.assertEqual((process.returncode, errors), (0, b""))

        watchdog = threading.Timer(3 * PATIENCE, process.kill)
        watchdog.start()
        self.addCleanup(end)
        wire = Wire(ours.fileno(), ours.fileno())
        wire.hello()
        return wire

    def try_it(self, wire: Wire, *words: object) -> str:
        reply = wire.ask("readlink", string(" ".join(map(str, words)).encode()))
        self.assertEqual(reply.kind, "name", reply)
        return reply.content[0].name.decode()

    def level(self) -> str:
        """The one line of the log that says what is in force."""
        lines = re.findall(r"sandbox: .*", self.log_path.read_text())
        self.assertEqual(len(lines), 1, lines)
        return lines[0]

    def escapes(self, directory: Path) -> list[tuple[object, ...]]:
        """What is to be refused outside. Each leaves the things in the directory as the next needs them."""
        return [
            ("read", directory / "file"),
            ("write", directory / "file"),
            ("create", directory / "new"),
            ("truncate", directory / "file"),
            ("listing", directory),
            ("mkdir", directory / "made"),
            ("symlink", directory / "sym"),
            ("mkfifo", directory / "fifo"),
            ("rename", directory / "file", directory / "renamed"),
            ("link", directory / "other", directory / "hard"),
            ("remove", directory / "other"),
            ("rmdir", directory / "empty"),
            ("thread", directory / "program"),
        ]


class Confined(Guests):
    def test_nothing_outside_the_jail_can_be_opened_made_or_removed(self):
        before = {path: path.stat() for path in sorted(self.outside.iterdir())}
        wire = self.guest("on")
        for attempt in self.escapes(self.outside):
            with self.subTest(attempt[0]):
                self.assertTrue(self.try_it(wire, *attempt).startswith(REFUSED), self.try_it(wire, *attempt))
        self.assertEqual({path: path.stat() for path in sorted(self.outside.iterdir())}, before)

    def test_the_same_attempts_succeed_without_a_sandbox_and_inside_the_jail(self):
        # So a refusal above is the sandbox's, and the session itself lacks nothing.
        for wire, directory in ((self.guest("off"), self.outside), (self.guest("on"), self.jail)):
            for attempt in self.escapes(directory):
                with self.subTest(attempt[0], directory=directory.name):
                    self.assertRegex(self.try_it(wire, *attempt), "^done: ")

    def test_nothing_goes_from_the_jail_to_the_outside_or_comes_in(self):
        wire = self.guest("on")
        for attempt in (
            ("rename", self.jail / "file", self.outside / "gone"),
            ("rename", self.outside / "file", self.jail / "come"),
            ("link", self.jail / "file", self.outside / "gone"),
            ("link", self.outside / "file", self.jail / "come"),
            ("copy", self.jail / "file", self.outside / "gone"),
            ("copy", self.outside / "file", self.jail / "come"),
        ):
            with self.subTest(attempt):
                self.assertRegex(self.try_it(wire, *attempt), "^(PermissionError|OSError: Invalid cross)")
        self.assertEqual(sorted(os.listdir(self.outside)), ["empty", "file", "other", "program"])

    def test_no_program_is_started_not_even_from_the_jail(self):
        wire = self.guest("on")
        for attempt in (("execute", self.jail / "program"), ("execute", "/bin/true"), ("run_shell",)):
            with self.subTest(attempt):
                self.assertTrue(self.try_it(wire, *attempt).startswith(REFUSED))
        self.assertTrue(self.try_it(wire, "execute_from_memory").startswith(REFUSED))
        other = self.guest("off")
        self.assertEqual(self.try_it(other, "execute", self.outside / "program"), "done: 0")
        self.assertEqual(self.try_it(other, "execute_from_memory"), "done: 0")

    def test_no_process_is_started_which_could_outlive_the_session(self):
        confined, free = self.guest("on"), self.guest("off")
        for way in ("fork", "vfork", "clone", "clone3"):
            with self.subTest(way):
                if way in ("clone", "clone3"):
                    self.assertEqual(self.try_it(free, "child", way), "done: 0")
                answer = self.try_it(confined, "child", way)
                self.assertRegex(answer, "^(PermissionError|OSError: Function not implemented)")

    def test_there_are_no_network_sockets_of_any_kind(self):
        with socket.socket() as listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            receiver.bind(("127.0.0.1", 0))
            attempts = (
                ("tcp_connect", listener.getsockname()[1]),
                ("tcp_listen",),
                ("tcp6",),
                ("udp_send", receiver.getsockname()[1]),
                ("netlink",),
            )
            confined, free = self.guest("on"), self.guest("off")
            for attempt in attempts:
                with self.subTest(attempt[0]):
                    self.assertEqual(self.try_it(confined, *attempt), REFUSED + "Permission denied")
                    self.assertRegex(self.try_it(free, *attempt), "^done: ")
            for attempt in ("io_uring", "pair_of_others"):
                self.assertEqual(self.try_it(confined, attempt), REFUSED + "Permission denied")
            self.assertNotIn("Permission", self.try_it(free, "pair_of_others"))

    def test_local_sockets_go_on_working_and_abstract_ones_of_others_do_not(self):
        # The path of a socket is short, whatever TMPDIR is.
        directory = self.enterContext(tempfile.TemporaryDirectory(dir="/tmp"))
        path, name = f"{directory}/socket", f"pysftpserver-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX) as local, socket.socket(socket.AF_UNIX) as abstract:
            local.bind(path)
            abstract.bind("\0" + name)
            local.listen()
            abstract.listen()
            wire = self.guest("on")
            self.assertEqual(self.try_it(wire, "local_socket"), "done: 1")
            self.assertEqual(self.try_it(wire, "connect_local", path), "done: None")
            answer = self.try_it(wire, "connect_abstract", name)
            if sandbox.landlock_abi() >= sandbox.SCOPE_ABI:
                self.assertTrue(answer.startswith(REFUSED), answer)

    def test_there_are_no_new_privileges(self):
        self.assertEqual(self.try_it(self.guest("on"), "no_new_privileges"), "done: 1")
        self.assertEqual(self.try_it(self.guest("off"), "no_new_privileges"), "done: 0")

    def test_other_processes_get_no_signals_and_keep_their_memory_and_limits(self):
        wire = self.guest("on")
        self.assertTrue(self.try_it(wire, "limits_of", os.getpid()).startswith(REFUSED))
        self.assertEqual(self.try_it(wire, "own_limits"), "done: 2")
        self.assertEqual(self.try_it(self.guest("off"), "limits_of", os.getpid()), "done: 2")
        pid = os.getpid()
        if sandbox.landlock_abi() >= sandbox.SCOPE_ABI:
            self.assertTrue(self.try_it(wire, "signal", pid).startswith(REFUSED))
        self.assertTrue(self.try_it(wire, "read_memory", pid).startswith(REFUSED))
        self.assertEqual(self.try_it(self.guest("off"), "signal", pid), "done: None")

    def test_what_landlock_does_not_cover_is_what_the_page_says(self):
        wire = self.guest("on")
        self.assertEqual(self.try_it(wire, "look", self.outside / "file"), "done: 7")
        self.assertEqual(self.try_it(wire, "chmod", self.outside / "file"), "done: None")
        page = (ROOT / "docs" / "security.md").read_text()
        self.assertIn(
            "Landlock does not stop the process from reading or changing attributes by a path outside", page
        )

    def test_a_read_only_session_can_only_read_even_in_the_jail(self):
        wire = self.guest("on", "read-only")
        for attempt in self.escapes(self.jail):
            reads = attempt[0] in ("read", "listing", "thread")
            with self.subTest(attempt[0]):
                self.assertRegex(self.try_it(wire, *attempt), "^done: " if reads else f"^{REFUSED}")
        self.assertIn("only to be read", self.level())

    def test_the_log_says_once_what_is_in_force(self):
        self.guest("on")
        abi = sandbox.landlock_abi()
        self.assertRegex(self.level(), rf"\Asandbox: Landlock {abi}: files beneath the storage only\b")
        self.assertIn("no network sockets", self.level())


class StillServed(Guests):
    """Sessions in the sandbox can do everything that they need."""

    def test_names_dates_and_the_log_are_as_without_a_sandbox(self):
        confined, free = self.guest("on"), self.guest("off")
        for attempt in ("names", "hour"):
            with self.subTest(attempt):
                self.assertEqual(self.try_it(confined, attempt), self.try_it(free, attempt))
        self.assertIn("b'root', b'root'", self.try_it(confined, "names"))
        self.assertEqual(self.try_it(confined, "hour"), "done: 09 JST")
        self.assertEqual(confined.ask("mkdir", string(b"logged"), NO_ATTRS).content, OK)
        self.assertIn('mkdir name "logged"', self.log_path.read_text())

    def test_attributes_change_and_files_move_between_directories(self):
        wire = self.guest("on")
        self.assertEqual(wire.ask("rename", string(b"file"), string(b"empty/file")).content, OK)
        self.assertEqual(wire.ask("hardlink", string(b"other"), string(b"empty/other")).content, OK)
        change = u32(SET_PERMISSIONS | 1) + u64(3) + u32(0o600)
        self.assertEqual(wire.ask("setstat", string(b"empty/file"), change).content, OK)
        self.assertEqual((self.jail / "empty" / "file").read_bytes(), b"con")
        self.assertEqual((self.jail / "empty" / "file").stat().st_mode & 0o777, 0o600)
        self.assertEqual(wire.ask("open", string(b"n"), u32(READ | WRITE | CREAT), NO_ATTRS).kind, "handle")
        self.assertEqual(wire.ask("statvfs", string(b"/")).kind, "extended")

    def test_a_kernel_without_landlock_or_seccomp_gets_one_line_and_the_session_goes_on(self):
        for hidden, words in (
            (
                "444",
                r"sandbox: no programs or other processes; no network sockets "
                r"\(without Landlock: function not implemented\)",
            ),
            ("317,277", r"sandbox: Landlock \d+: .* \(without seccomp: function not implemented\)"),
        ):
            self.log_path.unlink(missing_ok=True)
            wire = self.guest("on", before=(sys.executable, "-m", "tests.security.without", hidden))
            with self.subTest(hidden):
                self.assertEqual(wire.ask("stat", string(b"file")).kind, "attrs")
                self.assertRegex(self.level(), rf"\A{words}\Z")

    def test_every_older_landlock_is_used_as_far_as_it_goes(self):
        # The kernel takes the smaller structures of its older versions.
        code = (
            "import os, sys; from pysftpserver.host import sandbox\n"
            "sandbox.landlock_abi = lambda: int(sys.argv[1])\n"
            "where = os.open(sys.argv[2], os.O_PATH); print(sandbox.confine([where]))\n"
            "for path in (sys.argv[2] + '/file', sys.argv[3] + '/file'):\n"
            "    try: os.close(os.open(path, os.O_RDWR)); print('opened')\n"
            "    except PermissionError: print('refused')\n"
            "try: os.truncate(sys.argv[3] + '/file', 7); print('truncated')\n"
            "except PermissionError: print('not truncated')\n"
            "os.rename(sys.argv[2] + '/file', sys.argv[2] + '/empty/file')"
        )
        for abi in range(1, sandbox.landlock_abi() + 1):
            (self.jail / "file").write_bytes(b"")
            done = subprocess.run(
                [sys.executable, "-c", code, str(abi), self.jail, self.outside],
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                timeout=PATIENCE,
            )
            line, *outcomes, truncated = done.stdout.splitlines()
            with self.subTest(abi):
                self.assertEqual(done.stderr, "")
                if abi < sandbox.LEAST_ABI:
                    self.assertIn("(without Landlock: this kernel has version 1)", line)
                    self.assertEqual(outcomes, ["opened", "opened"])
                    continue
                self.assertIn(f"Landlock {abi}: files beneath the storage only", line)
                self.assertEqual("others can be truncated" in line, truncated == "truncated")
                self.assertEqual(truncated == "truncated", abi < 3)
                self.assertEqual("no TCP" in line, abi >= sandbox.NETWORK_ABI)
                self.assertEqual("no signals" in line, abi >= sandbox.SCOPE_ABI)
                self.assertEqual(outcomes, ["opened", "refused"])


class WhatAStorageNeeds(unittest.TestCase):
    def test_a_territory_that_is_not_a_directory_is_refused(self):
        for mistake in ("os.memfd_create('x')", "99", "-5"):
            code = f"try: confine([{mistake}])\nexcept ValueError as error: print(error)"
            with self.subTest(mistake):
                self.assertRegex(self.confine(code)[0], r"^territory\(\): not a directory's descriptor: ")
        serve = (
            "import sys\nfrom pysftpserver.server import SFTPServer\n"
            "from pysftpserver.virtualchroot import SFTPServerVirtualChroot\n"
            "class Mistaken(SFTPServerVirtualChroot):\n"
            "    def territory(self): return [99]\n"
            "server = SFTPServer(Mistaken('/'), fd_in=os.open('/dev/null', os.O_RDONLY))\n"
            "try: server.run(sandbox=True)\nexcept ValueError: print('not served')"
        )
        self.assertEqual(self.confine(serve), ["not served"])

    def test_threads_that_run_already_are_told_as_what_the_sandbox_lacks(self):
        start = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        (line,) = self.confine(
            "import tempfile\n" + start + "print(confine([os.open('/tmp', os.O_PATH)]))\nos._exit(0)"
        )
        self.assertIn("(without other threads: they run already)", line)

    def test_a_thread_that_was_started_inside_does_not_abort_the_process_at_its_end(self):
        code = (
            "import threading\nconfine([os.open('/tmp', os.O_PATH)])\n"
            "def spin():\n    while True: pass\n"
            "threading.Thread(target=spin, daemon=True).start()"
        )
        for _ in range(5):
            self.assertEqual(self.confine(code), [])

    def test_the_drop_in_says_by_default_what_its_sandbox_lacks_and_nothing_otherwise(self):
        command = [sys.executable, ROOT / "bin" / "pysftpserver", "-e"]
        without = [sys.executable, "-m", "tests.security.without", "444", *command]
        for words, line in (([*without], r"sandbox: .*without Landlock: .*\n"), (command, "")):
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                timeout=PATIENCE,
            )
            self.assertEqual(done.returncode, 0)
            self.assertRegex(done.stderr, rf"\A{line}\Z")

    def confine(self, code: str) -> list[str]:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "import os, socket\nfrom pysftpserver.host.sandbox import confine\n" + code,
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=PATIENCE,
        )
        self.assertEqual(done.stderr, "")
        return done.stdout.splitlines()

    def test_a_storage_that_needs_the_network_keeps_it(self):
        line, family = self.confine("print(confine(None, network=True)); print(socket.socket().family.name)")
        self.assertEqual(family, "AF_INET")
        self.assertIn("the network is left open", line)
        self.assertNotIn("TCP", line)

    def test_a_storage_that_needs_any_file_keeps_them_and_loses_the_network(self):
        line, size = self.confine("print(confine(None)); print(len(open('/etc/passwd').read()) > 0)")
        self.assertEqual(size, "True")
        self.assertNotIn("files", line)
        self.assertIn("no network sockets", line)

    def test_several_directories_are_allowed_and_none_is_none(self):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            code = (
                f"places = {one!r}, {other!r}\n"
                "confine([os.open(place, os.O_PATH) for place in places][:{}])\n"
                "for place in places:\n"
                "    try: print(os.listdir(place))\n"
                "    except PermissionError: print('refused')"
            )
            self.assertEqual(self.confine(code.format(2)), ["[]", "[]"])
            self.assertEqual(self.confine(code.format(1)), ["[]", "refused"])
            self.assertEqual(self.confine(code.format(0)), ["refused", "refused"])
