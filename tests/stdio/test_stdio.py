"""pysftpserver.stdio: run() on sockets, pipes and files: what goes through, at what price."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading

from pysftpserver.server import SFTPServer
from pysftpserver.storage import SFTPServerStorage
from tests.support import packets as sftp
from tests.support.doors import FILE, RESIDENT, SERVE, Doors, Wire
from tests.support.hard import IS_HARD
from tests.support.packets import Attributes, attrs, replies, request, string, u32, u64
from tests.support.processes import open_descriptors
from tests.support.waiting import PATIENCE, until


class Moves(Doors):
    def session(self) -> bytes:
        reads = [request("read", 10 + n, FILE, u64(n * 100_000), u32(sftp.MAX_DATA)) for n in range(20)]
        return b"".join(
            (
                sftp.HELLO,
                request("open", 1, string(b"f"), u32(sftp.READ), sftp.NO_ATTRS),
                *reads,
                request("close", 99, FILE),
            )
        )

    def assert_session(self, output: bytes, content: bytes) -> None:
        answers = replies(output)
        self.assertEqual([n for n, _ in answers], [1, *range(10, 30), 99])
        for n in range(20):
            expected = content[n * 100_000 : n * 100_000 + sftp.MAX_DATA]
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
            for byte in self.session()[len(sftp.HELLO) :]:
                wire.send(bytes([byte]))
            rest[0].shutdown(socket.SHUT_WR) if start == self.on_socket else rest[0]()
            self.assert_session(wire.take(1 << 30), content)
            self.assertEqual(door.end(), 0)

    def test_run_in_a_thread_changes_no_signals_and_leaks_nothing(self):
        content = self.big_file()
        before = signal.getsignal(signal.SIGTERM)
        descriptors = open_descriptors()
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
        self.assertEqual(open_descriptors(), descriptors)

    def test_run_in_the_main_thread_puts_signals_and_flags_back(self):
        self.big_file(10)
        source = self.place / "input"
        source.write_bytes(sftp.HELLO)
        numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
        before = [signal.getsignal(number) for number in numbers]
        descriptors = open_descriptors()
        with source.open("rb") as stdin, (self.place / "output").open("wb") as stdout:
            os.set_blocking(stdin.fileno(), False)
            SFTPServer(SFTPServerStorage(self.root), fd_in=stdin.fileno(), fd_out=stdout.fileno()).run()
            self.assertFalse(os.get_blocking(stdin.fileno()), "as it was found")
            self.assertTrue(os.get_blocking(stdout.fileno()))
        self.assertEqual([signal.getsignal(number) for number in numbers], before)
        self.assertEqual(signal.set_wakeup_fd(-1), -1)
        self.assertEqual(open_descriptors(), descriptors)

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
        self.open(wire, b"g", sftp.WRITE | sftp.CREAT)
        target = string(u32(2))
        chunk = content[: sftp.MAX_DATA]
        wire.send(request("read", 1, FILE, u64(0), u32(sftp.MAX_DATA)))
        for n in range(32):
            wire.send(request("write", 100 + n, target, u64(n * sftp.MAX_DATA), string(chunk)))
        until(lambda: (self.root / "g").stat().st_size == 32 * sftp.MAX_DATA, "all is written")
        self.assertEqual(wire.reply(), (1, ("data", chunk, b"")))
        for n in range(32):
            number, reply = wire.reply()
            self.assertEqual((number, reply.content), (100 + n, sftp.OK))
        self.assertEqual((self.root / "g").read_bytes(), chunk * 32)

    def test_as_many_handles_as_limits_promises_can_be_opened_and_the_rest_still_works(self):
        self.big_file(10)
        code = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))\n" + SERVE
        for kind, rest in (("open", u32(sftp.READ) + sftp.NO_ATTRS), ("opendir", b"")):
            _, wire, _ = self.on_socket(code)
            promised = int.from_bytes(wire.ask("limits").content[24:], "big")
            self.assertIn(promised, range(16, 80))
            for _ in range(promised):
                self.assertEqual(wire.ask(kind, string(b"f" if rest else b"."), rest).kind, "handle")
            self.assertEqual(wire.ask(kind, string(b"f" if rest else b"."), rest).content, sftp.FAILURE)
            if rest:
                self.assertEqual(wire.ask("read", FILE, u64(0), u32(5)).kind, "data")
            else:
                self.assertEqual(wire.ask("readdir", FILE).kind, "name")
            mode = attrs(Attributes(permissions=0o600))
            self.assertEqual(wire.ask("setstat", string(b"f"), mode).content, sftp.OK)


SLOW = """
import os, sys, time
from pysftpserver.server import SFTPServer
from pysftpserver.storage import SFTPServerStorage

class Slow(SFTPServerStorage):
    uses_network = True

    def stat(self, path):
        while path.endswith(b"slow") and not os.path.exists("go"):
            time.sleep(0.01)
        return super().stat(path)

os.chdir(sys.argv[1])
sys.exit(SFTPServer(Slow("."), logfile=sys.argv[2]).run())
"""


class Waits(Doors):
    def test_a_reply_does_not_wait_for_a_later_request_that_waits_for_another_host(self):
        self.big_file(10)
        (self.root / "slow").touch()
        _, wire, _ = self.on_socket(SLOW)
        asked = (
            request("stat", number, string(name)) for number, name in ((1, b"f"), (2, b"slow"), (3, b"f"))
        )
        wire.send(b"".join(asked))  # in one piece
        self.assertEqual(wire.reply()[0], 1)
        (self.root / "go").touch()
        self.assertEqual([wire.reply()[0] for _ in range(2)], [2, 3])


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
        reads = (request("read", n, FILE, u64(0), u32(sftp.MAX_DATA)) for n in range(64))
        source.write_bytes(
            sftp.HELLO + request("open", 1, string(b"f"), u32(sftp.READ), sftp.NO_ATTRS) + b"".join(reads)
        )
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        with source.open("rb") as stdin:
            door = self.door(stdin, writing)
        os.close(writing)
        until(lambda: "open" in door.log(), "the session begins")
        self.assert_idle(door)

    def test_when_the_output_is_blocked_and_more_input_waits_than_it_takes(self):
        self.big_file()
        for start in (self.on_socket, self.on_pipes):
            door, wire, *_ = start()
            self.block_output(wire, door)
            os.set_blocking(wire._writing, False)
            with self.assertRaises(BlockingIOError):
                for _ in range(1000):
                    wire.send(request("read", 1, FILE, u64(0), u32(sftp.MAX_DATA)) * 1000)
            self.assert_idle(door)

    def test_when_half_a_packet_waits(self):
        door, wire, _ = self.on_socket()
        wire.send(request("write", 1, FILE, u64(0), string(bytes(sftp.MAX_DATA)))[:-1])
        self.assert_idle(door)

    def test_after_a_signal_that_the_program_around_it_handles(self):
        door, wire, _ = self.on_socket()
        door.process.send_signal(signal.SIGUSR1)
        self.assert_idle(door)
        self.assertEqual(wire.ask("stat", string(b".")).kind, "attrs")


class Memory(Doors):
    """A gibibyte each way stays under 20 MiB resident; 64 MiB are tried daily."""

    SIZE = 1 << 30 if IS_HARD else 1 << 26
    COUNT = SIZE // sftp.MAX_DATA + 1
    AHEAD = 16  # requests on their way

    def download(self, wire: Wire) -> int:
        """Read all of the file; the bytes that came."""
        asked, came = 0, 0
        for answered in range(self.COUNT):
            while asked < min(self.COUNT, answered + self.AHEAD):
                wire.send(request("read", asked, FILE, u64(asked * sftp.MAX_DATA), u32(sftp.MAX_DATA)))
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
            os.truncate(self.root / "f", self.SIZE)
            with self.subTest(way):
                door, wire, ours = self.on_socket()
                self.open(wire)
                self.assertEqual(self.download(wire), self.SIZE)
                self.assertEqual(wire.ask("read", FILE, u64(self.SIZE), u32(1)).content, sftp.EOF)
                self.assertLess(door.memory(), RESIDENT)
                ours.close()
                self.assertEqual(door.end(), 0)

    def test_up(self):
        """To the same 64 MiB of the file again and again: it is the server's memory that is watched."""
        door, wire, ours = self.on_socket()
        self.open(wire, b"f", sftp.WRITE | sftp.CREAT)
        chunk = string(random.Random(1).randbytes(sftp.MAX_DATA))
        window = (64 << 20) // sftp.MAX_DATA
        for n in range(self.COUNT):
            wire.send(request("write", n, FILE, u64(n % window * sftp.MAX_DATA), chunk))
            if n >= self.AHEAD:
                self.assertEqual(wire.packet()[5:9], u32(sftp.OK))
        for _ in range(self.AHEAD):
            self.assertEqual(wire.packet()[5:9], u32(sftp.OK))
        self.assertEqual((self.root / "f").stat().st_size, window * sftp.MAX_DATA)
        self.assertLess(door.memory(), RESIDENT)
        ours.close()
        self.assertEqual(door.end(), 0)
