"""pysftpserver.stdio: every way in which a session of run() ends."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import threading
import tty
from typing import Any

from pysftpserver.server import SFTPServer
from pysftpserver.storage import SFTPServerStorage
from tests.support.doors import FILE, SERVE, Doors, Wire
from tests.support.packets import EOF, HELLO, MAX_DATA, NO_ATTRS, READ, WRITE, request, string, u32, u64
from tests.support.waiting import PATIENCE, until


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

    def test_a_copy_without_an_end_ends_with_its_client(self):
        for start in (self.on_socket, self.on_pipes):
            with self.subTest(start.__name__):
                door, wire, *rest = start()
                self.open(wire, b"/dev/zero")
                self.open(wire, b"/dev/null", WRITE)
                wire.send(request("copy-data", 3, FILE, u64(0), u64(0), string(u32(2)), u64(0)))
                before = door.ticks()
                until(lambda door=door, before=before: door.ticks() > before, "it copies")
                rest[-1].close() if start == self.on_socket else rest[-1]()
                self.assertEqual(door.end(), 0)
                self.assertIn('forced close "/dev/null"', door.log())

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

    def test_a_file_that_shrinks_while_it_is_sent_gives_true_bytes_and_then_its_end(self):
        content = self.big_file()
        door, wire, ours = self.on_socket()
        self.block_output(wire, door)
        os.truncate(self.root / "f", 0)
        kinds = []
        for n in range(16):
            number, reply = wire.reply()
            self.assertEqual(number, n)
            kinds.append(reply.kind)
            expected = content[n * 1000 : n * 1000 + MAX_DATA] if reply.kind == "data" else EOF
            self.assertEqual(reply.content, expected)
        self.assertEqual(kinds, sorted(kinds), "data, and from some reply on the end")
        self.assertEqual({*kinds}, {"data", "status"})
        ours.close()
        self.assertEqual(door.end(), 0)
        self.assertIn('forced close "f"', door.log())

    def test_a_file_that_shrinks_before_another_request_is_as_that_request_found_it(self):
        content = self.big_file()
        door, wire, ours = self.on_socket()
        self.block_output(wire, door, 4)  # so little that what comes next is served at once
        os.truncate(self.root / "f", 0)
        wire.send(request("stat", 99, string(b"f")))
        replies = [wire.reply() for _ in range(5)]
        self.assertEqual(replies[0], (0, ("data", content[:MAX_DATA], b"")))
        self.assertEqual([number for number, _ in replies], [0, 1, 2, 3, 99])
        self.assertEqual(replies[3][1].content, EOF)
        ours.close()
        self.assertEqual(door.end(), 0)

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
