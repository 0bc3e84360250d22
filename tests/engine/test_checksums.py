"""check-file: digests of files and their parts, against hashlib."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable
from typing import Any

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.engine import checksums
from pysftpserver.storage import SFTPServerStorage
from tests.support import packets as sftp
from tests.support.cases import OnFiles
from tests.support.examples import given, settings, st
from tests.support.packets import Client, Reader, string, u32, u64
from tests.support.processes import open_descriptors
from tests.support.storages import Whole

CONTENT = bytes(range(251)) * 2500  # more than two steps, and a multiple of no block
ALGORITHMS: dict[str, Callable[[bytes], bytes]] = {
    name: lambda data, name=name: hashlib.new(name, data).digest()
    for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
}
ALGORITHMS["crc32"] = lambda data: zlib.crc32(data).to_bytes(4, "big")


def expected(content: bytes, offset: int, length: int, block: int, algorithm: str = "md5") -> bytes:
    """What the draft says: digests of the part's blocks, the last one shorter."""
    part = content[offset : offset + length] if length else content[offset:]
    blocks = [part[at : at + block] for at in range(0, len(part), block)] if block else [part]
    return b"".join(map(ALGORITHMS[algorithm], blocks))


class NoDescriptors(SFTPServerStorage):
    def fileno(self, handle: int) -> None:
        return None


class Knowing(NoDescriptors):
    """Has digests of its own, which are wrong, to be told from others."""

    asked: list[tuple[bytes, str]]

    def checksum(self, path: bytes, algorithm: str) -> bytes | None:
        self.asked.append((path, algorithm))
        return {"md5": b"m" * 16, "sha1": b"not twenty"}.get(algorithm)


class Checks(OnFiles):
    def setUp(self) -> None:
        super().setUp()
        (self.root / "f").write_bytes(CONTENT)
        (self.root / "empty").write_bytes(b"")

    def check(
        self,
        client: Client,
        offset: int,
        length: int,
        block: int,
        names: str = "md5",
        path: bytes = b"f",
    ) -> tuple[str, bytes]:
        """The algorithm and the digests: the same by name, by handle, and as paramiko asks."""
        rest = string(names.encode()) + u64(offset) + u64(length) + u32(block)
        handle = client.open(path)
        by_name = client.content("extended", "check-file-name", string(path), rest)
        self.assertEqual(client.content("extended", "check-file-handle", handle, rest), by_name)
        as_paramiko = client.content("extended", "check-file", handle, rest)
        self.assertEqual(as_paramiko, string(b"check-file") + by_name)
        client.status("close", handle)
        reader = Reader(by_name)
        return reader.string().decode(), reader.rest()

    def other(self, storage: type[SFTPServerStorage]) -> Client:
        client = Client(storage(self.root))
        self.addCleanup(client.server.close)
        return client

    def test_the_table_of_sizes_is_that_of_the_digests(self):
        sizes = {name: len(make().digest()) for name, make in checksums.ALGORITHMS.items()}
        self.assertEqual(checksums.SIZES, sizes)

    def test_every_algorithm_of_a_whole_file_and_of_an_empty_one(self):
        for algorithm in ALGORITHMS:
            for path, content in ((b"f", CONTENT), (b"empty", b"")):
                with self.subTest(algorithm, path=path):
                    found = self.check(self.client, 0, 0, 0, algorithm, path)
                    self.assertEqual(found, (algorithm, expected(content, 0, 0, 0, algorithm)))

    @settings(max_examples=25, deadline=None)
    @given(
        st.integers(0, len(CONTENT) + 300),
        st.sampled_from((0, 1, 255, 256, 257, 1000, 262_144, len(CONTENT), 1 << 40, (1 << 64) - 1))
        | st.integers(0, len(CONTENT) + 300),
        st.sampled_from((0, 256, 257, 1000, 65_536, 262_144, 262_145, 1 << 20, (1 << 32) - 1)),
        st.sampled_from(("md5", "crc32")),
    )
    def test_ranges_and_blocks_of_every_shape(self, offset: int, length: int, block: int, algorithm: str):
        wanted = expected(CONTENT, offset, length, block, algorithm)
        for client in (self.client, self.other(NoDescriptors)):
            self.assertEqual(self.check(client, offset, length, block, algorithm), (algorithm, wanted))

    def test_nothing_in_a_part_is_one_digest_of_nothing_and_no_block(self):
        for path, offset in ((b"empty", 0), (b"empty", 5), (b"f", len(CONTENT)), (b"f", len(CONTENT) + 9)):
            for length in (0, 1, 1 << 33):
                with self.subTest(path, offset=offset, length=length):
                    for block, digests in ((0, ALGORITHMS["md5"](b"")), (256, b"")):
                        found = self.check(self.client, offset, length, block, path=path)
                        self.assertEqual(found, ("md5", digests))

    def test_the_first_algorithm_of_the_clients_list_that_there_is_counts(self):
        self.assertEqual(self.check(self.client, 0, 9, 0, "sha3-256,sha256,md5")[0], "sha256")
        self.assertEqual(self.check(self.client, 0, 9, 0, "crc32,,sha256")[0], "crc32")

    def refused(self, name: str, *parts: bytes, client: Client | None = None) -> str:
        """The words of a failure."""
        reply = (client or self.client).ask(name, *parts)
        self.assertEqual((reply.kind, reply.content), ("status", sftp.FAILURE))
        return reply.message.decode()

    def test_what_cannot_be_is_refused_with_words(self):
        def rest(algorithms: bytes = b"md5", block: int = 0) -> bytes:
            return string(algorithms) + u64(0) + u64(0) + u32(block)

        handle = self.client.open(b"f")
        writing = self.client.open(b"f", sftp.WRITE)
        directory = string(u32(3))
        self.client.opendir(b"d")
        os.mkfifo(self.root / "fifo")
        for words, name, *parts in (
            ("None of these algorithms", "check-file-name", string(b"f"), rest(b"sha3-256,MD5")),
            ("None of these algorithms", "check-file-handle", handle, rest(b"")),
            ("at least 256", "check-file-name", string(b"f"), rest(block=1)),
            ("at least 256", "check-file", handle, rest(block=255)),
            ("not open for reading", "check-file-handle", writing, rest()),
            ("Not the handle", "check-file-handle", directory, rest()),
            ("Not the handle", "check-file", string(b"????"), rest()),
            ("Only regular files", "check-file-name", string(b"d"), rest()),
            ("Only regular files", "check-file-name", string(b"fifo"), rest()),
            ("Only regular files", "check-file-name", string(b"/dev/zero"), rest()),
        ):
            with self.subTest(words, name=name):
                self.assertIn(words, self.refused(name, *parts))
        self.assertEqual(self.client.status("check-file-name", string(b"none"), rest()), sftp.NO_SUCH_FILE)
        beyond = string(b"md5") + u64(1 << 63) + u64(0) + u32(0)
        self.assertEqual(self.client.status("check-file-handle", handle, beyond), sftp.BAD_MESSAGE)

    def test_more_digests_than_a_reply_holds_are_refused_before_anything_is_read(self):
        os.truncate(self.root / "f", 1 << 40)
        rest = string(b"md5") + u64(0) * 2 + u32(256)
        self.assertIn("room for", self.refused("check-file-name", string(b"f"), rest))
        self.assertEqual(self.client.server.steps, 0)

    def test_a_file_that_hides_its_size_is_read_to_its_end(self):
        with open("/proc/version", "rb") as file:
            content = file.read()
        found = self.check(self.client, 0, 0, 0, path=b"/proc/version")
        self.assertEqual(found[1], expected(content, 0, 0, 0))
        found = self.check(self.client, 3, 1 << 40, 256, path=b"/proc/version")
        self.assertEqual(found[1], expected(content, 3, 0, 256))

    def test_nothing_stays_open(self):
        before = open_descriptors()
        self.check(self.client, 0, 0, 0)
        self.refused("check-file-name", string(b"d"), string(b"md5") + u64(0) * 2 + u32(0))
        self.assertEqual(open_descriptors(), before)

    def test_a_storages_own_digest_is_taken_for_whole_files_asked_for_by_name(self):
        client = self.other(Knowing)
        storage: Any = client.server.storage
        storage.asked = []
        for algorithm, part, is_known in (
            ("md5", (0, 0, 0), True),
            ("md5", (1, 0, 0), False),
            ("md5", (0, len(CONTENT), 0), False),
            ("md5", (0, 0, 1 << 30), False),
            ("sha1", (0, 0, 0), False),  # of another length than the algorithm's
            ("crc32", (0, 0, 0), False),
        ):
            rest = string(algorithm.encode()) + u64(part[0]) + u64(part[1]) + u32(part[2])
            found = client.content("extended", "check-file-name", string(b"f"), rest)
            wanted = b"m" * 16 if is_known else expected(CONTENT, *part, algorithm)
            self.assertEqual(found, string(algorithm.encode()) + wanted)
            by_handle = client.content("extended", "check-file-handle", client.open(b"f"), rest)
            self.assertEqual(by_handle, string(algorithm.encode()) + expected(CONTENT, *part, algorithm))
        path = os.fsencode(self.root / "f")
        self.assertEqual(storage.asked, [(path, "md5"), (path, "sha1"), (path, "crc32")])

    def test_a_subclass_that_reads_otherwise_is_not_bypassed(self):
        class Decrypting(Knowing):
            asked: list[tuple[bytes, str]] = []

            def read(self, handle: int, off: int, size: int) -> bytes:
                return super().read(handle, off, size).replace(b"a", b"b")

        found = self.check(self.other(Decrypting), 0, 0, 0)[1]
        self.assertEqual(found, expected(CONTENT.replace(b"a", b"b"), 0, 0, 0))
        self.assertEqual(Decrypting.asked, [])

    def test_stops_when_the_session_has_to_end(self):
        class Endless(Whole):
            def fstat(self, handle: object) -> SFTPAttributes:
                return SFTPAttributes(size=2**40)

            def read(self, handle: object, off: int, size: int) -> bytes:
                self.act("read")
                if len(self.calls) > 100:
                    client.server.stopping = True
                return bytes(1000)

        client = Client(Endless())
        rest = string(b"md5") + u64(0) * 2 + u32(0)
        self.assertEqual(client.status("check-file-name", string(b"f"), rest), sftp.FAILURE)
        self.assertEqual(client.server.storage.calls[-1], "close")

    def test_waits_for_a_turn_and_gives_it_back_whatever_happens(self):
        class Turns:
            taken = waited = 0

            def take(self) -> bool:
                self.waited += 1
                self.taken += self.waited % 3 == 0
                return self.waited % 3 == 0

            def give_back(self) -> None:
                self.taken -= 1

        turns = self.client.server.turns = Turns()
        self.check(self.client, 0, 0, 0)
        self.assertEqual((turns.waited, turns.taken), (9, 0))
        self.assertEqual(self.client.server.steps, 6 + 3 * -(-len(CONTENT) // checksums.STEP))

        def fail(*arguments: object) -> None:
            raise OSError(5, "input/output error")

        self.client.server.storage.read = fail
        self.client.server.storage.fileno = lambda handle: None
        self.assertEqual(
            self.client.status("check-file-name", string(b"f"), string(b"md5") + u64(0) * 2 + u32(0)),
            sftp.FAILURE,
        )
        self.assertEqual(turns.taken, 0)

    def test_a_session_may_be_without(self):
        client = Client(self.storage(), checksums=False)
        self.assertNotIn(b"check-file", sftp.extensions(client.version))
        for name in ("check-file-name", "check-file-handle", "check-file"):
            self.assertEqual(client.status(name, sftp.BODIES[name]), sftp.OP_UNSUPPORTED)
