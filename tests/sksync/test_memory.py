"""Resident memory of both sides, as processes of the command: the peaks that the kernel has counted.

In make test-hard 4 GiB travel without digests, sparse at the sending side; with digests, which take a second
for each half GiB, one. Daily it is a thirty-second part, which is still many times what may be resident.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from tests.sksync.peers import HELLO, OLD, rest
from tests.sksync.processes import ProcessCase, peak
from tests.support.hard import IS_HARD
from tests.support.ports import LOOPBACK
from tests.support.waiting import until

MOST = 40 << 10  # KiB
LARGE = 4 << 30 if IS_HARD else 128 << 20  # bytes
DIGESTED = LARGE // 4
MANY = 5000 if IS_HARD else 200  # small files
MOST_DEAF = 1 << 10  # KiB, for each client that does not read
NAMES = 200_000 if IS_HARD else 50_000  # of a listing
MOST_FOR_NAMES = (90 if IS_HARD else 48) << 10  # KiB, with a listing of that many


class Memory(ProcessCase):
    def setUp(self) -> None:
        super().setUp()
        self.other = self.place / "other"
        self.other.mkdir()

    def sparse(self, where: Path, size: int) -> Path:
        path = where / "large"
        with path.open("wb") as file:
            file.truncate(size)
        os.utime(path, (OLD, OLD))
        return path

    def sync_and_measure(
        self, sync_type: str, protocol: str = "pysksync 1", most: int = MOST
    ) -> subprocess.Popen[bytes]:
        server, port = self.start_server()
        began = time.monotonic()
        client = self.start_client(port, client_path=str(self.other), sync_type=sync_type, protocol=protocol)
        peaks = self.finish(client, server)
        seconds = time.monotonic() - began
        self.report(f"{sync_type}, {protocol}: client {peaks[0]} KiB, server {peaks[1]} KiB", seconds)
        for kib in peaks:
            self.assertGreater(kib, 4 << 10, "nothing was measured")
            self.assertLess(kib, most)
        return client

    def report(self, text: str, seconds: float) -> None:
        if "PYSKSYNC_FIGURES" in os.environ:
            print(f"\n{self._testMethodName}: {text}, {seconds:.1f} seconds")

    def test_a_large_file_from_the_server_takes_no_memory(self) -> None:
        self.sparse(self.share, LARGE)
        self.sync_and_measure("from_server_use_time")
        self.assertEqual((self.other / "large").stat().st_size, LARGE)

    def test_a_large_file_to_the_server_takes_no_memory(self) -> None:
        self.sparse(self.other, LARGE)
        self.sync_and_measure("to_server_use_time")
        self.assertEqual((self.share / "large").stat().st_size, LARGE)

    def test_a_large_file_with_its_digest_takes_no_memory_either_way(self) -> None:
        large = self.sparse(self.share, DIGESTED)
        self.sync_and_measure("from_server_use_time", "pysksync 2")
        large.unlink()
        self.sync_and_measure("to_server_use_time", "pysksync 2")
        self.assertEqual(large.stat().st_size, DIGESTED)

    def test_many_small_files_take_no_memory_either_way(self) -> None:
        for number in range(MANY):
            self.put(f"many/{number}", b"small")
        self.sync_and_measure("from_server_use_time", "pysksync 2")
        for path in (self.share / "many").iterdir():
            path.unlink()
        self.sync_and_measure("to_server_use_time", "pysksync 2")
        self.assertEqual(len(list((self.share / "many").iterdir())), MANY)

    def test_a_listing_of_many_names_takes_a_known_amount(self) -> None:
        server, port = self.start_server()
        began = time.monotonic()
        with socket.create_connection((LOOPBACK, port), 60) as raw:
            raw.sendall(HELLO + b"5\n0\n/share\n/c\n")
            for start in range(0, NAMES, 1000):
                names = (
                    b"%d pictures/2024/IMG_%08d.jpeg\n" % (OLD * 1000, number)
                    for number in range(start, start + 1000)
                )
                raw.sendall(b"".join(names))
            raw.sendall(b"\n")
            raw.shutdown(socket.SHUT_WR)
            self.assertIn(b"old\n", rest(raw))
        most = peak(server)
        self.report(f"{NAMES} names: server {most} KiB", time.monotonic() - began)
        self.assertLess(most, MOST_FOR_NAMES)

    def test_clients_that_do_not_read_take_a_few_buffers_each(self) -> None:
        self.sparse(self.share, LARGE)
        server, port = self.start_server(timeout=1)
        raws = [socket.create_connection((LOOPBACK, port), 60) for _ in range(10)]
        for raw in raws:
            self.addCleanup(raw.close)
            raw.sendall(HELLO + b"2\n0\n/share\n/c\n\n")
        log: Path = server.log  # type: ignore[attr-defined]
        until(lambda: log.read_bytes().count(b"silent or too slow") == 10, "they are not left")
        self.report(f"ten that do not read: server {peak(server)} KiB", 0)
        self.assertLess(peak(server), MOST + len(raws) * MOST_DEAF)
