"""Peers that are slow, and far from silent: they are waited for, though the system holds MiB for them."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

from pysftpserver.sksync import wire
from pysftpserver.sksync.client import SyncType, sync
from pysftpserver.sksync.wire import Dialect
from tests.sksync.peers import PeerCase, opening, read_listing
from tests.support.ports import LOOPBACK
from tests.support.waiting import PATIENCE

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
