"""Clients that take their time, or all of it: silent, byte by byte, never reading, at every step."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from pysftpserver.sksync import wire
from pysftpserver.sksync.connection import MOST_UNSENT
from pysftpserver.sksync.tls import server_context
from tests.sksync.certificates import Pair
from tests.sksync.peers import HELLO, NEWER, PeerCase, Serving, opening, read_line, rest
from tests.support.waiting import PATIENCE, until

TIMEOUT = 0.4  # seconds, of the servers here
SLOW = 0.02  # seconds from byte to byte: fifty a second, which is below what patience.py allows
TIME = b"%d" % (NEWER * 1000)
UPLOAD = opening(1, "/share")
LOGIN = wire.srp_start("somebody", 12345)
STEPS = {
    "before anything": b"",
    "in the name of the protocol": b"pysk",
    "after the name of the protocol": HELLO,
    "in the type": HELLO + b"1",
    "after the type": HELLO + b"1\n",
    "before the paths": HELLO + b"1\n0\n",
    "between the paths": HELLO + b"1\n0\n/share\n",
    "before the listing": UPLOAD,
    "in the listing": UPLOAD + TIME + b" new\n",
    "in a line of the listing": UPLOAD + TIME + b" new\n12",
    "before a length": UPLOAD + TIME + b" old\n\n",
    "in a length": UPLOAD + TIME + b" old\n\n1",
    "before a content": UPLOAD + TIME + b" old\n\n10\n",
    "in a content": UPLOAD + TIME + b" old\n\n10\nabc",
    "before the next length": UPLOAD + TIME + b" one\n" + TIME + b" two\n\n1\na",
    "before a digest": opening(1, "/share", b"pysksync 2\n") + TIME + b" old\n\n3\nabc",
    "in the login": LOGIN[:-9],
    "after the first line of the login": LOGIN,
}


class Silence(PeerCase):
    def test_a_client_that_falls_silent_at_any_step_is_left(self) -> None:
        serving = self.serve(timeout=TIMEOUT)
        raws = []
        with self.nothing_changes():
            for said in STEPS.values():
                raw = serving.connect()
                self.addCleanup(raw.close)
                raw.sendall(said)
                raws.append(raw)
            for step, raw in zip(STEPS, raws, strict=True):
                with self.subTest(step):
                    rest(raw)
            patience = f"silent or too slow for {TIMEOUT:g} seconds"
            until(lambda: sum(patience in line for line in serving.lines) == len(STEPS))
            (self.share / "one").unlink()
        self.assert_serves(serving)

    def test_silent_clients_hold_up_nobody(self) -> None:
        serving = self.serve(timeout=600, max_clients=100)
        for said in list(STEPS.values()) * 5:
            raw = serving.connect()
            self.addCleanup(raw.close)
            raw.sendall(said)
        began = time.monotonic()
        self.assert_serves(serving)
        serving.stop()  # nor the end of the server
        self.assertLess(time.monotonic() - began, PATIENCE / 2)
        self.assert_no_leftovers()

    def test_a_byte_now_and_then_does_not_keep_a_connection(self) -> None:
        serving = self.serve(timeout=TIMEOUT)
        with self.nothing_changes():
            threads = [
                threading.Thread(target=self.trickle, args=(serving, start, more))
                for start, more in (
                    (b"", b"x" * 5000),
                    (UPLOAD, TIME + b" new" + b"x" * 5000),
                    (UPLOAD, (TIME + b" n\n") * 500),
                    (UPLOAD + TIME + b" old\n\n", b"0" * 5000),
                    (UPLOAD + TIME + b" old\n\n9999\n", b"x" * 5000),
                    (b"", LOGIN[:-1] * 5),
                )
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
                self.assertFalse(thread.is_alive(), "a trickle went on and on")
            until(lambda: sum("too slow" in line for line in serving.lines) == len(threads))
        self.assert_serves(serving)

    def trickle(self, serving: Serving, start: bytes, more: bytes) -> None:
        with serving.connect() as raw, contextlib.suppress(OSError):
            raw.sendall(start)
            for byte in more:
                raw.sendall(bytes([byte]))
                time.sleep(SLOW)  # the slowness is what is tested

    def test_one_that_is_slow_to_close_is_not_waited_for(self) -> None:
        serving = self.serve(max_clients=1)
        raw = serving.connect()
        self.addCleanup(raw.close)
        raw.sendall(opening(1, "/share") + b"\n")
        serving.said("received 0 files")

        def is_free() -> bool:
            with serving.connect() as other:
                other.sendall(HELLO)
                return read_line(other) == wire.ESTABLISHED

        until(is_free, "the place is not free again")


class NotReading(PeerCase):
    def test_a_client_that_never_reads_is_left_and_costs_two_buffers(self) -> None:
        self.put("large", bytes(64 << 20))
        serving = self.serve(timeout=TIMEOUT)
        reads: list[int] = []
        from pysftpserver.sksync import sending

        before = sending.Sender._read

        def counted(sender: sending.Sender, handle: object, offset: int, size: int) -> bytes:
            reads.append(size)
            return before(sender, handle, offset, size)

        sending.Sender._read = counted  # type: ignore[method-assign]
        self.addCleanup(setattr, sending.Sender, "_read", before)
        with self.nothing_changes(), serving.connect(buffer=4096) as raw:
            raw.sendall(opening(2, "/share") + b"\n")
            serving.said("silent or too slow")
            # What the system buffers comes on top: net.ipv4.tcp_wmem's most.
            self.assertLess(sum(reads), MOST_UNSENT + (16 << 20))
        self.assert_serves(serving)

    def test_a_client_that_reads_no_requests_gets_no_more_than_a_few(self) -> None:
        serving = self.serve(timeout=TIMEOUT)
        names = b"".join(TIME + b" %06d" % number + b"n" * 200 + b"\n" for number in range(5000))
        with self.nothing_changes(), serving.connect() as raw:
            raw.sendall(UPLOAD + names + b"\n")
            serving.said("silent or too slow")
            asked = rest(raw).removeprefix(wire.ESTABLISHED)
            self.assertLess(len(asked), 70 << 10)
        self.assert_serves(serving)


class Handshakes(PeerCase):
    def setUp(self) -> None:
        super().setUp()
        pair = Pair(self.place, "server")
        self.context = server_context(pair.certfile, pair.keyfile, None, "TLSv1.2")

    def test_a_handshake_that_does_not_go_on_is_ended(self) -> None:
        serving = self.serve(tls=self.context, timeout=TIMEOUT)
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        with self.nothing_changes():
            for said in (b"", hello[:1], hello):
                serving.lines.clear()
                with self.subTest(said), serving.connect() as raw:
                    raw.sendall(said)
                    rest(raw)
                    serving.said("TLS: the handshake was not completed")
            serving.lines.clear()
            raw = serving.connect()
            self.addCleanup(raw.close)
            trickling = threading.Thread(target=self.trickle, args=(raw, hello + bytes(600)))
            trickling.start()
            serving.said("TLS: the handshake was not completed")
            trickling.join(PATIENCE)
        self.assertEqual(serving.errors, [])

    def trickle(self, raw: socket.socket, said: bytes) -> None:
        with contextlib.suppress(OSError):
            for byte in said:
                raw.sendall(bytes([byte]))
                time.sleep(SLOW)


class Ends(PeerCase):
    def test_an_end_that_is_asked_for_does_not_wait_for_anybody(self) -> None:
        self.put("large", bytes(64 << 20))
        serving = self.serve(timeout=600)
        with self.nothing_changes():
            for said in (b"", UPLOAD, UPLOAD + TIME + b" old\n\n1000\nabc", opening(2, "/share") + b"\n"):
                raw = serving.connect()
                self.addCleanup(raw.close)
                raw.sendall(said)
                if said:
                    self.assertEqual(read_line(raw), wire.ESTABLISHED)
            began = time.monotonic()
            serving.stop()
            self.assertLess(time.monotonic() - began, PATIENCE / 2)
        self.assertEqual(serving.errors, [])
