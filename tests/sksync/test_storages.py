"""A sync with a database on either side, or on both: the same as with directories."""

from __future__ import annotations

from typing import Any

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.sksync.client import Dialect, SyncType
from pysftpserver.sksync.listing import listing
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.mongo.databases import DatabaseCase
from tests.sksync import oldstyle
from tests.sksync.serving import NOW, Directories, put, tree
from tests.support.waiting import until

NAMES = ("plain.txt", "d/e/deep", "caf\u00e9/\u03b1\u03b2", "\u65e5\u672c\u8a9e", "with space", "empty")
BIG = b"0123456789abcdef" * 40_000  # more than one chunk, and more than one block


def content_of(name: str) -> bytes:
    return b"" if name == "empty" else BIG if name == "d/e/deep" else name.encode()


class WithADatabase(DatabaseCase, Directories):
    def fill(self, storage: SFTPServerMongoStorage, top: str = "") -> None:
        """NAMES, with their contents and times."""
        for name in NAMES:
            path = f"/{top}{name}".encode()
            parts = path.split(b"/")
            for count in range(2, len(parts)):
                directory = b"/".join(parts[:count])
                try:
                    storage.stat(directory)
                except Exception:
                    storage.mkdir(directory, 0o777)
            handle = storage.open(path, 0o101, 0o666)
            content = content_of(name)
            if content:
                storage.write(handle, 0, content)
            storage.fsetstat(handle, SFTPAttributes(atime=NOW, mtime=NOW))
            storage.close(handle)

    def found(self, storage: SFTPServerMongoStorage, top: str = "") -> dict[str, tuple[bytes, int]]:
        """(content, seconds) of all files, as the storage itself has them."""
        files = {}
        for name, mtime in listing(storage, f"/{top}".encode(), True, Dialect.PYSKSYNC_2).files.items():
            handle = storage.open(f"/{top}{name}".encode(), 0, 0)
            content = bytearray()
            while piece := storage.read(handle, len(content), 1 << 20):
                content += piece
            storage.close(handle)
            files[name] = (bytes(content), mtime)
        return files

    def names_in_the_database(self) -> list[str]:
        return [file["filename"] for file in self.database["fs.files"].find()]

    @property
    def expected(self) -> dict[str, tuple[bytes, int]]:
        return {name: (content_of(name), NOW) for name in NAMES}

    def assert_only_these(self, done: Any, sent: tuple[str, ...], received: tuple[str, ...]) -> None:
        self.assertEqual((set(done.sent), set(done.received)), (set(sent), set(received)))
        self.assertEqual(done.failed, {})

    def test_a_server_on_a_database_sends_and_takes_the_same_files_as_one_on_a_directory(self) -> None:
        storage = self.open_storage()
        self.fill(storage, "there/")
        served = self.serve(storage)
        both = {"sync_type": SyncType.BIDIRECTIONAL_USE_TIME}
        planned = self.sync(served.port, is_dry=True, **both)
        self.assertEqual(tree(self.here), {})
        done = self.sync(served.port, **both)
        self.assert_only_these(done, (), NAMES)
        self.assertEqual(planned.received, done.received)
        self.assertEqual(tree(self.here), self.expected)
        self.assert_only_these(self.sync(served.port, **both), (), ())
        put(self.here, "new/f", b"new", NOW + 5)
        put(self.here, "plain.txt", b"newer", NOW + 5)
        self.assert_only_these(self.sync(served.port, **both), ("new/f", "plain.txt"), ())
        self.assertEqual(self.found(storage, "there/"), tree(self.here))
        self.assert_only_these(self.sync(served.port, **both), (), ())
        self.assertEqual([name for name in self.names_in_the_database() if ".pysksync" in name], [])

    def test_a_client_on_a_database_is_brought_up_to_date_and_brings_it_on(self) -> None:
        for name in NAMES:
            put(self.there, name, content_of(name))
        storage = self.open_storage()
        port = self.serve().port
        wanted = {"storage": storage, "path": "backup", "sync_type": SyncType.BIDIRECTIONAL_USE_TIME}
        self.assert_only_these(self.sync(port, **wanted), (), NAMES)
        self.assertEqual(self.found(storage, "backup/"), self.expected)
        self.assert_only_these(self.sync(port, **wanted), (), ())
        (self.there / "plain.txt").unlink()
        self.assert_only_these(self.sync(port, **wanted), ("plain.txt",), ())
        self.assertEqual(tree(self.there), self.expected)
        self.assert_only_these(self.sync(port, **wanted), (), ())

    def test_the_old_client_and_the_old_server_see_no_difference(self) -> None:
        storage = self.open_storage()
        self.fill(storage, "there/")
        served = self.serve(storage)
        for title in oldstyle.TITLES:
            here = self.here / title
            here.mkdir()
            sayable = [name for name in NAMES if title != "sksync 1" or name.isascii()]
            sent, received = oldstyle.client(served.port, here, title)
            self.assertEqual((sent, sorted(received)), ([], sorted(sayable)))
            self.assertEqual(oldstyle.client(served.port, here, title), ([], []))
        server = oldstyle.Server(self.root)
        self.addCleanup(server.stop)
        wanted = {"storage": storage, "path": "there", "sync_type": SyncType.TO_SERVER_USE_TIME}
        self.assert_only_these(self.sync(server.port, **wanted), NAMES, ())
        self.assertEqual(tree(self.there), self.expected)
        self.assert_only_these(self.sync(server.port, **wanted), (), ())

    def test_a_database_can_be_synced_with_a_database(self) -> None:
        server, client = self.open_storage(bucket="server"), self.open_storage(bucket="client")
        self.fill(server, "there/")
        served = self.serve(server)
        both = {"storage": client, "sync_type": SyncType.BIDIRECTIONAL_USE_TIME}
        self.assert_only_these(self.sync(served.port, **both), (), NAMES)
        self.assertEqual(self.found(client), self.found(server, "there/"))
        self.assert_only_these(self.sync(served.port, **both), (), ())

    def test_what_is_half_received_is_neither_listed_nor_left(self) -> None:
        storage = self.open_storage()
        self.fill(storage, "there/")
        before = self.found(storage, "there/")
        served = self.serve(storage)
        client = self.raw(served.port)
        client.say(b"pysksync 1\n1\n0\nthere\nhere\n%d000 plain.txt\n\n500000\n" % (NOW + 9))
        self.assertEqual([client.line(), client.line()], [b"Protocol Established\n", b"plain.txt\n"])
        client.say(b"x" * 400_000)
        other = self.serve(SFTPServerVirtualChroot(self.root))
        self.assertEqual(oldstyle.client(other.port, self.here), ([], []))
        self.assertEqual(oldstyle.client(served.port, self.here)[0], [])
        self.assertEqual(tree(self.here), before)
        client.close()
        served.log.wait("before 'plain.txt' was complete")
        self.assertEqual(self.found(storage, "there/"), before)

        def is_clean() -> bool:
            names = self.names_in_the_database()
            return not any(".pysksync" in name for name in names)

        until(is_clean, "nothing is left")

    def test_two_clients_that_send_the_same_names_leave_whole_files_of_one_or_the_other(self) -> None:
        storage = self.open_storage()
        storage.mkdir(b"/there", 0o777)
        port = self.serve(storage).port
        names = [f"f{number}" for number in range(5)]
        for number in range(2):
            for name in names:
                put(self.place / f"client-{number}", name, b"%d" % number * 300_000, NOW + number)
        self.at_once(2, lambda number: oldstyle.client(port, self.place / f"client-{number}", kind=4))
        found = self.found(storage, "there/")
        self.assertEqual(set(found), set(names))
        for content, mtime in found.values():
            self.assertEqual(content, b"%d" % (mtime - NOW) * 300_000)
