"""pysftpserver.stdio: run() on sockets, pipes and files, as a process that tests look at from outside.

Nothing here waits for a fixed time and hopes: tests wait for a condition, with a deadline. The one window
of time is that in which a server that has nothing to do must use no processor.
"""

from __future__ import annotations

import os
import pty
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tty
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pysftpserver.server import SFTPServer
from pysftpserver.storage import SFTPServerStorage
from tests.packets import (
    CREAT,
    EOF,
    FAILURE,
    HELLO,
    MAX_DATA,
    NO_ATTRS,
    OK,
    READ,
    WRITE,
    Attributes,
    Reader,
    Reply,
    attrs,
    parse,
    replies,
    request,
    string,
    u32,
    u64,
)

ROOT = Path(__file__).parents[1]
PATIENCE = 20.0  # seconds for what takes milliseconds
WINDOW = 0.3  # seconds in which an idle server is watched
TICKS = 3  # of the 100 a second that the kernel counts: what an idle server may use in that window
RESIDENT = 20 << 10  # KiB
FILE = string(u32(1))  # the first handle of a session

SERVE = """
import signal, sys
from pysftpserver.server import SFTPServer
from pysftpserver.storage import SFTPServerStorage
signal.signal(signal.SIGUSR1, lambda *_: None)
sys.exit(SFTPServer(SFTPServerStorage(sys.argv[1]), logfile=sys.argv[2]).run())
"""


def wait_for(what: str, condition: Callable[[], Any]) -> Any:
    """Return what condition() returns as soon as that is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.005)
    raise AssertionError(f"not within {PATIENCE:g} seconds: {what}")


class Door:
    """A server process on a directory, and this end of its input and output."""

    def __init__(self, root: Path, stdin: Any, stdout: Any, code: str = SERVE) -> None:
        self.log_path = root.parent / "log"
        self.log_path.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, root, self.log_path],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.pid = self.process.pid

    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def end(self) -> int:
        """Wait until it ends by itself; return its exit status. Nothing may be on standard error."""
        try:
            _, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise AssertionError(f"the server does not end; its log:\n{self.log()}") from None
        if errors:
            raise AssertionError(f"on standard error:\n{errors.decode()}")
        return self.process.returncode

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def ticks(self) -> int:
        """Processor time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def memory(self, field: str = "VmHWM") -> int:
        """KiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        raise AssertionError(f"no {field}")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Wire:
    """A client's end of a session on two descriptors or a socket."""

    def __init__(self, reading: Any, writing: Any) -> None:
        self._reading = reading
        self._writing = writing

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._writing, view) :]

    def take(self, size: int) -> bytes:
        """Exactly size bytes, or fewer at the end."""
        data = bytearray()
        while len(data) < size:
            try:
                piece = os.read(self._reading, size - len(data))
            except ConnectionResetError:  # it went with input unread
                break
            if not piece:
                break
            data += piece
        return bytes(data)

    def packet(self) -> bytes:
        return self.take(int.from_bytes(self.take(4), "big"))

    def reply(self) -> tuple[int, Reply]:
        body = self.packet()
        reader = Reader(body[1:])
        return reader.u32(), parse(body[0], reader)

    def ask(self, name: str, *parts: bytes) -> Reply:
        self.send(request(name, 1, *parts))
        return self.reply()[1]

    def hello(self) -> None:
        self.send(HELLO)
        if self.packet()[0] != 2:
            raise AssertionError("no VERSION")


class Doors(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="pysftpserver-stdio-"))
        self.addCleanup(shutil.rmtree, self.place)
        self.root = self.place / "root"
        self.root.mkdir()
        self.doors: list[Door] = []
        # A test that hangs in a system call would hang the run: kill what it waits for.
        watchdog = threading.Timer(3 * PATIENCE, lambda: [door.process.kill() for door in self.doors])
        watchdog.daemon = True
        watchdog.start()
        self.addCleanup(watchdog.cancel)

    def door(self, stdin: Any, stdout: Any, code: str = SERVE) -> Door:
        door = Door(self.root, stdin, stdout, code)
        self.doors.append(door)
        self.addCleanup(door.kill)
        return door

    def on_socket(self, code: str = SERVE) -> tuple[Door, Wire, socket.socket]:
        """A server on one socket for both directions, as sshd hands it over."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        with theirs:
            door = self.door(theirs, theirs, code)
        wire = Wire(ours.fileno(), ours.fileno())
        wire.hello()
        return door, wire, ours

    def on_pipes(self) -> tuple[Door, Wire, Callable[[], None], Callable[[], None]]:
        """A server on two pipes; functions that close our end of its input and of its output."""
        their_in, our_out = os.pipe()
        our_in, their_out = os.pipe()
        door = self.door(their_in, their_out)
        os.close(their_in)
        os.close(their_out)
        open_ones = {our_out, our_in}

        def closer(descriptor: int) -> Callable[[], None]:
            def close() -> None:
                if descriptor in open_ones:
                    open_ones.remove(descriptor)
                    os.close(descriptor)

            self.addCleanup(close)
            return close

        wire = Wire(our_in, our_out)
        wire.hello()
        return door, wire, closer(our_out), closer(our_in)

    def big_file(self, size: int = 4 << 20) -> bytes:
        content = random.Random(size).randbytes(size)
        (self.root / "f").write_bytes(content)
        return content

    def open(self, wire: Wire, name: bytes = b"f", flags: int = READ) -> None:
        """OPEN; the handle must be FILE if it is the session's first."""
        reply = wire.ask("open", string(name), u32(flags), NO_ATTRS)
        self.assertEqual(reply.kind, "handle")

    def block_output(self, wire: Wire, door: Door, count: int = 16) -> None:
        """Ask for more than the way back holds, and wait until the server waits."""
        self.open(wire)
        wire.send(b"".join(request("read", n, FILE, u64(n * 1000), u32(MAX_DATA)) for n in range(count)))
        self.wait_until_it_waits(door)

    def wait_until_it_waits(self, door: Door) -> None:
        def quiet() -> bool:
            before = door.ticks()
            if door.state() != "S":
                return False
            time.sleep(0.03)
            return door.state() == "S" and door.ticks() == before

        wait_for("the server waits", quiet)

    def assert_idle(self, door: Door) -> None:
        self.wait_until_it_waits(door)
        before = door.ticks()
        time.sleep(WINDOW)
        self.assertLessEqual(door.ticks() - before, TICKS)


class Ends(Doors):
    def test_the_end_of_input_ends_the_session_cleanly(self):
        for pieces in ([], [b"\0"], [request("stat", 1, string(b"."))[:-1]]):
            with self.subTest(pieces):
                door, wire, ours = self.on_socket()
                wire.send(b"".join(pieces))
                ours.shutdown(socket.SHUT_WR)
                self.assertEqual(wire.take(1), b"")
                self.assertEqual(door.end(), 0)

    def test_what_was_asked_before_the_end_of_input_is_all_answered(self):
        content = self.big_file()
        for start in (self.on_socket, self.on_pipes):
            started = start()
            door, wire = started[:2]
            self.open(wire)
            wire.send(b"".join(request("read", n, FILE, u64(n), u32(MAX_DATA)) for n in range(100)))
            if start == self.on_socket:
                started[2].shutdown(socket.SHUT_WR)
            else:
                started[2]()
            for n in range(100):
                self.assertEqual(wire.reply(), (n, ("data", content[n : n + MAX_DATA], b"")))
            self.assertEqual(wire.take(1), b"")
            self.assertEqual(door.end(), 0)

    def test_an_end_before_init_is_clean(self):
        door = self.door(subprocess.DEVNULL, subprocess.DEVNULL)
        self.assertEqual(door.end(), 0)

    def test_open_handles_are_closed_and_logged_at_the_end(self):
        self.big_file()
        door, wire, ours = self.on_socket()
        self.open(wire)
        wire.ask("opendir", string(b"."))
        wire.ask("read", FILE, u64(0), u32(1000))
        ours.close()
        self.assertEqual(door.end(), 0)
        self.assertIn('forced close "f" bytes read 1000 written 0\n', door.log())
        self.assertIn('forced closedir "."\n', door.log())
        self.assertIn("session closed for local user", door.log())

    def test_an_ending_signal_ends_an_idle_session_cleanly(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            with self.subTest(number):
                self.big_file(10)
                door, wire, _ = self.on_socket()
                self.open(wire)
                door.process.send_signal(number)
                self.assertEqual(wire.take(1), b"")
                self.assertEqual(door.end(), 0)
                self.assertIn('forced close "f"', door.log())

    def test_an_ending_signal_ends_a_transfer_that_nobody_reads(self):
        self.big_file()
        for number in (signal.SIGTERM, signal.SIGHUP):
            for start in (self.on_socket, self.on_pipes):
                with self.subTest(number, start=start.__name__):
                    door, wire, *_ = start()
                    self.block_output(wire, door)
                    door.process.send_signal(number)
                    self.assertEqual(door.end(), 0)
                    self.assertIn('forced close "f"', door.log())

    def test_an_ending_signal_ends_a_transfer_at_full_speed(self):
        self.big_file()
        door, wire, ours = self.on_socket()
        self.open(wire)
        stop = threading.Event()

        def ask() -> None:
            try:
                while not stop.is_set():
                    ours.sendall(request("read", 1, FILE, u64(0), u32(MAX_DATA)))
            except OSError:
                pass

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            for _ in range(50):
                wire.packet()
            door.process.send_signal(signal.SIGTERM)
            while wire.take(1 << 20):
                pass
        finally:
            stop.set()
            asking.join(PATIENCE)
        self.assertEqual(door.end(), 0)
        self.assertIn('forced close "f"', door.log())

    def test_a_peer_that_vanishes_while_replies_wait_ends_the_session_cleanly(self):
        self.big_file()
        door, wire, ours = self.on_socket()
        self.block_output(wire, door)
        ours.close()
        self.assertEqual(door.end(), 0)
        self.assertIn('forced close "f"', door.log())

    def test_a_reader_that_vanishes_while_replies_wait_ends_the_session_cleanly(self):
        self.big_file()
        door, wire, _, close_output = self.on_pipes()
        self.block_output(wire, door)
        close_output()
        self.assertEqual(door.end(), 0)
        self.assertIn('forced close "f"', door.log())

    def test_a_reader_that_vanishes_from_an_idle_session_ends_it(self):
        door, _, _, close_output = self.on_pipes()
        close_output()
        self.assertEqual(door.end(), 0)

    def test_a_terminal_serves_and_ends_cleanly_when_it_is_hung_up(self):
        for one_descriptor in (False, True):
            ours, theirs = pty.openpty()
            tty.setraw(theirs)
            code = SERVE
            if one_descriptor:
                code = SERVE.replace("logfile=sys.argv[2])", "logfile=sys.argv[2], fd_out=0)")
                self.assertNotEqual(code, SERVE)
            with self.subTest(one_descriptor=one_descriptor):
                door = self.door(theirs, theirs, code)
                os.close(theirs)
                wire = Wire(ours, ours)
                wire.hello()
                self.assertEqual(wire.ask("stat", string(b".")).kind, "attrs")
                os.close(ours)
                self.assertEqual(door.end(), 0)

    def test_a_broken_length_ends_with_status_11(self):
        for data in (u32(262145) + b"\5", u32(0) + b"\5", u32(2**32 - 1) + b"\5"):
            door, wire, _ = self.on_socket()
            wire.send(data)
            self.assertEqual(wire.take(1), b"")
            self.assertEqual(door.end(), 11)
            self.assertIn("error: session ends", door.log())

    def test_a_file_that_shrinks_while_it_is_sent_ends_the_session_with_no_invented_byte(self):
        content = self.big_file()
        door, wire, _ = self.on_socket()
        self.block_output(wire, door)
        os.truncate(self.root / "f", 0)
        got = wire.take(1 << 30)
        stream = b""
        for n in range(16):
            size = len(content[n * 1000 : n * 1000 + MAX_DATA])
            stream += u32(size + 9) + b"\x67" + u32(n) + u32(size) + content[n * 1000 : n * 1000 + size]
        self.assertTrue(stream.startswith(got))
        self.assertLess(len(got), len(stream))
        self.assertEqual(door.end(), 11)
        self.assertEqual(door.log().count("shrank"), 1)
        self.assertIn('forced close "f"', door.log())

    def test_a_file_that_shrinks_before_another_request_ends_the_session_with_no_invented_byte(self):
        content = self.big_file()
        door, wire, _ = self.on_socket()
        self.block_output(wire, door, 4)  # so little that what comes next is served at once
        os.truncate(self.root / "f", 0)
        wire.send(request("stat", 99, string(b"f")))
        got = wire.take(1 << 30)
        header = u32(MAX_DATA + 9) + b"\x67" + u32(0) + u32(MAX_DATA)
        self.assertTrue((header + content[:MAX_DATA]).startswith(got[: len(header) + MAX_DATA]))
        self.assertLess(len(got), 4 * (len(header) + MAX_DATA))
        self.assertEqual(door.end(), 11)
        self.assertIn("shrank", door.log())

    def test_an_interrupt_that_is_raised_still_closes_everything(self):
        closed = []

        class Storage(SFTPServerStorage):
            def close(self, handle: int) -> None:
                closed.append(handle)
                super().close(handle)

            def lstat(self, path: bytes) -> Any:
                raise KeyboardInterrupt

        self.big_file(10)
        source = self.place / "input"
        source.write_bytes(
            HELLO + request("open", 1, string(b"f"), u32(READ), NO_ATTRS) + request("lstat", 2, string(b"f"))
        )
        with source.open("rb") as stdin, (self.place / "output").open("wb") as stdout:
            server = SFTPServer(Storage(self.root), fd_in=stdin.fileno(), fd_out=stdout.fileno())
            with self.assertRaises(KeyboardInterrupt):
                server.run()
        self.assertEqual(len(closed), 1)


class Moves(Doors):
    def session(self) -> bytes:
        reads = [request("read", 10 + n, FILE, u64(n * 100_000), u32(MAX_DATA)) for n in range(20)]
        return b"".join(
            (HELLO, request("open", 1, string(b"f"), u32(READ), NO_ATTRS), *reads, request("close", 99, FILE))
        )

    def assert_session(self, output: bytes, content: bytes) -> None:
        answers = replies(output)
        self.assertEqual([n for n, _ in answers], [1, *range(10, 30), 99])
        for n in range(20):
            expected = content[n * 100_000 : n * 100_000 + MAX_DATA]
            self.assertEqual(answers[1 + n][1].content, expected)

    def test_files_as_input_and_output(self):
        content = self.big_file()
        source, target = self.place / "input", self.place / "output"
        source.write_bytes(self.session())
        for mode in ("wb", "ab"):  # sendfile refuses the second
            target.write_bytes(b"")
            with self.subTest(mode), source.open("rb") as stdin, target.open(mode) as stdout:
                door = self.door(stdin, stdout)
                self.assertEqual(door.end(), 0)
                self.assert_session(target.read_bytes(), content)

    def test_pipes_and_sockets_whatever_the_pieces_they_deliver(self):
        content = self.big_file()
        for start in (self.on_socket, self.on_pipes):
            door, wire, *rest = start()
            for byte in self.session()[len(HELLO) :]:
                wire.send(bytes([byte]))
            rest[0].shutdown(socket.SHUT_WR) if start == self.on_socket else rest[0]()
            self.assert_session(wire.take(1 << 30), content)
            self.assertEqual(door.end(), 0)

    def test_run_in_a_thread_changes_no_signals_and_leaks_nothing(self):
        content = self.big_file()
        before = signal.getsignal(signal.SIGTERM)
        descriptors = len(os.listdir("/proc/self/fd"))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.settimeout(None)
            server = SFTPServer(SFTPServerStorage(self.root), fd_in=theirs.fileno(), fd_out=theirs.fileno())
            statuses: list[int] = []
            thread = threading.Thread(target=lambda: statuses.append(server.run()))
            thread.start()
            wire = Wire(ours.fileno(), ours.fileno())
            wire.send(self.session())
            ours.shutdown(socket.SHUT_WR)
            received = b""
            while not received.endswith(b"Success\0\0\0\0"):
                received += ours.recv(1 << 20)
            thread.join(PATIENCE)
            self.assertEqual(statuses, [0])
            self.assert_session(received, content)
            self.assertTrue(os.get_blocking(theirs.fileno()))
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)
        self.assertEqual(len(os.listdir("/proc/self/fd")), descriptors)

    def test_run_in_the_main_thread_puts_signals_and_flags_back(self):
        self.big_file(10)
        source = self.place / "input"
        source.write_bytes(HELLO)
        numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
        before = [signal.getsignal(number) for number in numbers]
        descriptors = len(os.listdir("/proc/self/fd"))
        with source.open("rb") as stdin, (self.place / "output").open("wb") as stdout:
            os.set_blocking(stdin.fileno(), False)
            SFTPServer(SFTPServerStorage(self.root), fd_in=stdin.fileno(), fd_out=stdout.fileno()).run()
            self.assertFalse(os.get_blocking(stdin.fileno()), "as it was found")
            self.assertTrue(os.get_blocking(stdout.fileno()))
        self.assertEqual([signal.getsignal(number) for number in numbers], before)
        self.assertEqual(signal.set_wakeup_fd(-1), -1)
        self.assertEqual(len(os.listdir("/proc/self/fd")), descriptors)

    def test_flags_are_put_back_after_a_signal_and_after_a_broken_length(self):
        for ending in (signal.SIGTERM, u32(0) + b"\0"):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                door = self.door(theirs, theirs)
                wire = Wire(ours.fileno(), ours.fileno())
                wire.hello()
                self.assertFalse(os.get_blocking(theirs.fileno()), "the server's own flag is this one")
                wire.send(ending) if isinstance(ending, bytes) else door.process.send_signal(ending)
                door.end()
                self.assertTrue(os.get_blocking(theirs.fileno()))

    def test_requests_are_served_while_a_large_reply_waits_to_be_read(self):
        """The client sends 8 MiB and reads nothing: the replies to its WRITEs are small, and fit."""
        content = self.big_file()
        door, wire, *_ = self.on_pipes()
        self.open(wire)
        self.open(wire, b"g", WRITE | CREAT)
        target = string(u32(2))
        chunk = content[:MAX_DATA]
        wire.send(request("read", 1, FILE, u64(0), u32(MAX_DATA)))
        for n in range(32):
            wire.send(request("write", 100 + n, target, u64(n * MAX_DATA), string(chunk)))
        wait_for("all is written", lambda: (self.root / "g").stat().st_size == 32 * MAX_DATA)
        self.assertEqual(wire.reply(), (1, ("data", chunk, b"")))
        for n in range(32):
            number, reply = wire.reply()
            self.assertEqual((number, reply.content), (100 + n, OK))
        self.assertEqual((self.root / "g").read_bytes(), chunk * 32)

    def test_memory_stays_flat_while_nobody_reads(self):
        self.big_file()
        shapes = {
            "spans": lambda n: request("read", n, FILE, u64(0), u32(MAX_DATA)),
            "small reads": lambda n: request("read", n, FILE, u64(0), u32(30_000)),
            "spans that must be settled": lambda n: (
                request("read", n, FILE, u64(0), u32(MAX_DATA)) + request("fstat", n, FILE)
            ),
            "statuses": lambda n: request("stat", n, string(b"missing")),
            "attributes": lambda n: request("fstat", n, FILE),
        }
        for what, shape in shapes.items():
            with self.subTest(what):
                door, wire, ours = self.on_socket()
                self.open(wire)
                ours.setblocking(False)
                block = b"".join(shape(n) for n in range(2000))
                sent = 0
                while True:  # until the server takes no more
                    try:
                        sent += ours.send(block[sent % len(block) :])
                    except BlockingIOError:
                        self.wait_until_it_waits(door)
                        try:
                            sent += ours.send(block[sent % len(block) :])
                        except BlockingIOError:
                            break
                self.assertLess(sent, 8 << 20, "it reads without end")
                self.assertLess(door.memory(), RESIDENT)
                ours.close()
                self.assertEqual(door.end(), 0)

    def test_as_many_handles_as_limits_promises_can_be_opened_and_the_rest_still_works(self):
        self.big_file(10)
        code = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))\n" + SERVE
        for kind, rest in (("open", u32(READ) + NO_ATTRS), ("opendir", b"")):
            _, wire, _ = self.on_socket(code)
            promised = int.from_bytes(wire.ask("limits").content[24:], "big")
            self.assertIn(promised, range(16, 80))
            for _ in range(promised):
                self.assertEqual(wire.ask(kind, string(b"f" if rest else b"."), rest).kind, "handle")
            self.assertEqual(wire.ask(kind, string(b"f" if rest else b"."), rest).content, FAILURE)
            if rest:
                self.assertEqual(wire.ask("read", FILE, u64(0), u32(5)).kind, "data")
            else:
                self.assertEqual(wire.ask("readdir", FILE).kind, "name")
            mode = attrs(Attributes(permissions=0o600))
            self.assertEqual(wire.ask("setstat", string(b"f"), mode).content, OK)

    def test_descriptors_do_not_leak_over_100000_opens_and_closes_of_files_and_directories(self):
        self.big_file(10)
        door, wire, _ = self.on_socket()
        before = door.descriptors()
        opens = {
            "open": request("open", 1, string(b"f"), u32(READ), NO_ATTRS),
            "opendir": request("opendir", 1, string(b".")),
        }
        at_once = 250  # the replies fit the way back, so nobody waits for the other
        memory = 0
        for one in opens.values():
            for turn in range(100_000 // at_once):
                wire.send(one * at_once)
                handles = [wire.packet() for _ in range(at_once)]
                self.assertEqual({len(handle) for handle in handles}, {13}, "a HANDLE each")
                wire.send(b"".join(request("close", 1, handle[5:]) for handle in handles))
                for _ in range(at_once):
                    self.assertEqual(wire.packet()[5:9], u32(OK))
                if turn == 200:  # the allocator has found its shape
                    memory = door.memory()
            self.assertEqual(door.descriptors(), before)
            self.assertLess(door.memory() - memory, 1024, "KiB")


class UsesNoProcessor(Doors):
    def test_when_idle(self):
        for start in (self.on_socket, self.on_pipes):
            self.assert_idle(start()[0])

    def test_when_the_output_is_blocked_and_the_input_is_quiet(self):
        self.big_file()
        for start in (self.on_socket, self.on_pipes):
            door, wire, *_ = start()
            self.block_output(wire, door)
            self.assert_idle(door)

    def test_when_the_client_has_sent_everything_and_does_not_read(self):
        self.big_file()
        door, wire, ours = self.on_socket()
        self.block_output(wire, door)
        ours.shutdown(socket.SHUT_WR)
        self.assert_idle(door)

    def test_when_a_pipe_is_at_its_end_and_the_output_is_blocked(self):
        self.big_file()
        door, wire, close_input, _ = self.on_pipes()
        self.block_output(wire, door)
        close_input()
        self.assert_idle(door)

    def test_when_a_file_is_at_its_end_and_the_output_is_blocked(self):
        self.big_file()
        source = self.place / "input"
        reads = (request("read", n, FILE, u64(0), u32(MAX_DATA)) for n in range(64))
        source.write_bytes(HELLO + request("open", 1, string(b"f"), u32(READ), NO_ATTRS) + b"".join(reads))
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        with source.open("rb") as stdin:
            door = self.door(stdin, writing)
        os.close(writing)
        wait_for("the session begins", lambda: "open" in door.log())
        self.assert_idle(door)

    def test_when_the_output_is_blocked_and_more_input_waits_than_it_takes(self):
        self.big_file()
        for start in (self.on_socket, self.on_pipes):
            door, wire, *_ = start()
            self.block_output(wire, door)
            os.set_blocking(wire._writing, False)
            with self.assertRaises(BlockingIOError):
                for _ in range(1000):
                    wire.send(request("read", 1, FILE, u64(0), u32(MAX_DATA)) * 1000)
            self.assert_idle(door)

    def test_when_half_a_packet_waits(self):
        door, wire, _ = self.on_socket()
        wire.send(request("write", 1, FILE, u64(0), string(bytes(MAX_DATA)))[:-1])
        self.assert_idle(door)

    def test_after_a_signal_that_the_program_around_it_handles(self):
        door, wire, _ = self.on_socket()
        door.process.send_signal(signal.SIGUSR1)
        self.assert_idle(door)
        self.assertEqual(wire.ask("stat", string(b".")).kind, "attrs")


class Memory(Doors):
    """A gibibyte each way stays under 20 MiB resident."""

    COUNT = (1 << 30) // MAX_DATA + 1
    AHEAD = 16  # requests on their way

    def download(self, wire: Wire) -> int:
        """Read all of the file; the bytes that came."""
        asked, came = 0, 0
        for answered in range(self.COUNT):
            while asked < min(self.COUNT, answered + self.AHEAD):
                wire.send(request("read", asked, FILE, u64(asked * MAX_DATA), u32(MAX_DATA)))
                asked += 1
            header = wire.take(13)
            self.assertEqual((header[4], header[5:9]), (103, u32(answered)))
            size = int.from_bytes(header[9:], "big")
            self.assertEqual(len(wire.take(size)), size)
            came += size
        return came

    def test_down(self):
        for way in ("all holes", "with blocks"):
            (self.root / "f").write_bytes(b"x" * 4096 if way == "with blocks" else b"")
            os.truncate(self.root / "f", 1 << 30)
            with self.subTest(way):
                door, wire, ours = self.on_socket()
                self.open(wire)
                self.assertEqual(self.download(wire), 1 << 30)
                self.assertEqual(wire.ask("read", FILE, u64(1 << 30), u32(1)).content, EOF)
                self.assertLess(door.memory(), RESIDENT)
                ours.close()
                self.assertEqual(door.end(), 0)

    def test_up(self):
        """To the same 64 MiB of the file again and again: it is the server's memory that is watched."""
        door, wire, ours = self.on_socket()
        self.open(wire, b"f", WRITE | CREAT)
        chunk = string(random.Random(1).randbytes(MAX_DATA))
        window = (64 << 20) // MAX_DATA
        for n in range(self.COUNT):
            wire.send(request("write", n, FILE, u64(n % window * MAX_DATA), chunk))
            if n >= self.AHEAD:
                self.assertEqual(wire.packet()[5:9], u32(OK))
        for _ in range(self.AHEAD):
            self.assertEqual(wire.packet()[5:9], u32(OK))
        self.assertEqual((self.root / "f").stat().st_size, window * MAX_DATA)
        self.assertLess(door.memory(), RESIDENT)
        ours.close()
        self.assertEqual(door.end(), 0)
