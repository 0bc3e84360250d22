"""Content over WebDAV, each way that it may go: through TLS, without descriptors, and cut short."""

from __future__ import annotations

import hashlib
import os
import random
import ssl
from pathlib import Path
from unittest import mock

from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.sksync.certificates import Pair
from tests.support.waiting import until
from tests.web.davs import DavCase
from tests.web.serving import HOST, Browser, Served

SIZE = 3_000_001  # bytes: several buffers, and not a whole number of them


class Ways(DavCase):
    """What the classes below have in common."""

    def check_both_ways(self) -> None:
        data = random.Random(1).randbytes(SIZE)
        pieces = (data[start : start + 70_000] for start in range(0, SIZE, 70_000))
        for path, body in (("/a", data), ("/chunked", pieces)):
            self.assertEqual(self.status("PUT", path, body), 201)
            self.assertEqual(hashlib.sha256((self.jail / path[1:]).read_bytes()).digest(), self.digest(data))
            self.assertEqual(self.digest(self.ask("GET", path).body), self.digest(data))
        middle = self.ask("GET", "/a", Range=f"bytes=1000001-{SIZE - 2}").body
        self.assertEqual(self.digest(middle), self.digest(data[1_000_001:-1]))
        self.assertEqual(self.status("COPY", "/a", Destination=self.url("/b")), 201)
        self.assertEqual(self.digest((self.jail / "b").read_bytes()), self.digest(data))

    def digest(self, data: bytes) -> bytes:
        return hashlib.sha256(data).digest()


class TestPlain(Ways):
    def test_content_goes_both_ways(self) -> None:
        self.check_both_ways()

    def test_content_goes_both_ways_where_a_storage_has_no_descriptors(self) -> None:
        with mock.patch.object(SFTPServerVirtualChroot, "fileno", return_value=None):
            self.check_both_ways()

    def test_a_file_that_becomes_shorter_ends_the_connection(self) -> None:
        size = 64 << 20
        with open(self.jail / "a", "wb") as file:
            file.truncate(size)
        peer = self.begin("GET /a", length=0)
        found = len(peer.recv(1000))
        os.truncate(self.jail / "a", 1 << 20)
        while got := len(peer.recv(1 << 20)):
            found += got
        self.assertLess(found, size)

    def test_a_client_that_vanishes_leaves_no_file_open(self) -> None:
        with open(self.jail / "a", "wb") as file:
            file.truncate(64 << 20)
        opened: list[object] = []
        real = SFTPServerVirtualChroot.close

        def close(storage: SFTPServerVirtualChroot, handle: object) -> None:
            opened.append(handle)
            real(storage, handle)

        with mock.patch.object(SFTPServerVirtualChroot, "close", close):
            peer = self.begin("GET /a", length=0)
            self.assertTrue(peer.recv(1000).startswith(b"HTTP/1.1 200 "))
            peer.close()
            until(lambda: opened, "the file is closed when its reader has gone")


class TestTLS(Ways):
    pair: Pair

    @classmethod
    def make(cls, place: Path) -> Served:
        cls.pair = Pair(place, "web", (HOST,))
        Path(cls.pair.keyfile).chmod(0o600)
        return Served(place, certificate=cls.pair.certfile, private_key=cls.pair.keyfile)

    def setUp(self) -> None:
        super().setUp()
        context = ssl.create_default_context(cafile=self.pair.certfile)
        self.browser = Browser(self.served.port, context=context)
        self.addCleanup(self.browser.close)

    def url(self, path: str) -> str:
        return super().url(path).replace("http://", "https://")

    def test_content_goes_both_ways(self) -> None:
        self.check_both_ways()
        self.assertEqual(sorted(os.listdir(self.jail)), ["a", "b", "chunked"])
