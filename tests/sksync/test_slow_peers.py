"""Peers that are slow, and far from silent: they are waited for, though the system holds MiB for them."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from unittest import mock

from pysftpserver.sksync import wire
from pysftpserver.sksync.client import SyncType, sync
from pysftpserver.sksync.wire import Dialect
from tests.sksync.peers import PeerCase, opening, read_listing
from tests.support.ports import LOOPBACK
from tests.support.waiting import PATIENCE, until

TIMEOUT = 1.0  # seconds, which are fewer than all of it takes
SIZE = 3_000_000  # bytes; what the system holds ahead of a reader is not much less
PIECE, PAUSE = 20_000, 0.01  # bytes and seconds: thousands of times the speed at which a peer is left


def slowly(raw: socket.socket, size: int) -> int:
    """Read so many bytes, or what there is up to the end."""
    found = 0
    while found < size and (piece := raw.recv(min(PIECE, size - found))):
        found += len(piece)
        time.sleep(PAUSE)  # the slowness is what is tested
    return found


class SilentPeers(PeerCase):
    """What is complete is put in place while they are silent."""

    def setUp(self) -> None:
        super().setUp()
        for side in ("session", "client"):
            self.enterContext(mock.patch(f"pysftpserver.sksync.{side}.MOST_SECONDS", 0.01))

    def test_a_file_of_a_client_that_stalls_is_put_in_place(self) -> None:
        with self.serve().connect() as raw:
            raw.sendall(opening(1, "/share") + b"2000000000000 1\n2000000000000 2\n\n3\nabc")
            until(lambda: (self.share / "1").exists(), "the first file is in its place")
            raw.sendall(b"4\nabcd")
            until(lambda: (self.share / "2").exists(), "the second one, too")
        self.assertEqual((self.share / "1").read_bytes() + (self.share / "2").read_bytes(), b"abcabcd")

    def test_a_file_of_a_server_that_stalls_is_put_in_place(self) -> None:
        is_there = threading.Event()

        def serve(raw: socket.socket) -> None:
            raw.sendall(wire.ESTABLISHED)
            read_listing(raw)
            raw.sendall(b"\n1\n2000000000000\n3\nabc")
            until(lambda: (self.share / "1").exists(), "the file is in its place")
            is_there.set()
            raw.sendall(b"\n")

        kind = SyncType.FROM_SERVER_USE_TIME
        request = self.request(self.fake(serve).port, kind, dialect=Dialect.PYSKSYNC_1)
        summary = sync(self.jailed(self.share), request)
        self.assertTrue(is_there.is_set())
        self.assertEqual(summary.received, {"1": 3})


class SlowPeers(PeerCase):
    def test_a_client_that_reads_slowly_gets_all_of_a_large_file(self) -> None:
        self.put("large", bytes(SIZE))
        serving = self.serve(timeout=TIMEOUT)
        with serving.connect(buffer=4096) as raw:
            raw.sendall(opening(2, "/share") + b"%d below/file\n%d old\n\n" % ((2_000_000_000_000,) * 2))
            said = len(wire.ESTABLISHED + b"\nlarge\n1000000000000\n3000000\n" + b"\n")
            self.assertEqual(slowly(raw, SIZE + 1000), SIZE + said)

    def test_a_server_that_reads_slowly_is_sent_all_of_a_large_file(self) -> None:
        self.put("large", bytes(SIZE))
        got: list[int] = []
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
            listener.bind((LOOPBACK, 0))
            listener.listen()

            def serve() -> None:
                raw, _ = listener.accept()
                with raw, suppress(OSError):
                    raw.settimeout(PATIENCE)
                    raw.sendall(wire.ESTABLISHED)
                    read_listing(raw)
                    raw.sendall(b"large\n")
                    got.append(slowly(raw, SIZE + len(b"3000000\n")))
                    raw.sendall(b"\n\n")

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            port = listener.getsockname()[1]
            kind = SyncType.TO_SERVER_USE_TIME
            request = self.request(port, kind, timeout=TIMEOUT, dialect=Dialect.PYSKSYNC_1)
            summary = sync(self.jailed(self.share), request)
            thread.join(PATIENCE)
        self.assertEqual((got, summary.sent), ([SIZE + 8], {"large": SIZE}))
