"""Databases that refuse, hang up, are silent, step down or stop, and what a session says and does then.

What the driver retries (one attempt more of what is safe to repeat) no client notices. Everything else is
one clean status; nothing is half stored, and the session goes on.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
import time
import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pymongo

from pysftpserver.engine.log import ERROR
from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.storages.embedded import LOOPBACK, EmbeddedMongo
from pysftpserver.storages.mongo import bucket, listing
from pysftpserver.storages.mongo.bucket import CHUNK_SIZE
from tests.mongo.databases import VARIABLE, DatabaseCase, uri
from tests.mongo.proxies import Proxy
from tests.mongo.sessions import get, orphans, put
from tests.support import packets as sftp
from tests.support.packets import Attributes, Client, attrs, string, u64
from tests.support.waiting import PATIENCE, until

OLD, FRESH = b"old" * 300_000, b"fresh" * 200_000
HANGS_UP: dict[str, Any] = {"closeConnection": True}
NO_PRIMARY, UNAUTHORIZED, NO_SPACE, REFUSED = 10107, 13, 14031, 20
CHMOD = attrs(Attributes(permissions=0o600))


def error(code: int) -> dict[str, Any]:
    return {"errorCode": code}


class FailureCase(DatabaseCase):
    """A session, whose database fails when asked to, and another one that looks on."""

    def setUp(self) -> None:
        super().setUp()
        if VARIABLE in os.environ:
            raise unittest.SkipTest("a server of its own is asked to fail")
        self.looking = self.open_storage()
        self.storage = self.connected(uri() + "/")
        put(self.looking, b"/f", OLD)
        put(self.looking, b"/g", b"of g")
        self.client = Client(self.storage)

    def connected(self, address: str, more: str = "") -> SFTPServerMongoStorage:
        """A storage that looks often whether there is a primary again."""
        storage = SFTPServerMongoStorage.from_uri(f"{address}?heartbeatFrequencyMS=500{more}", self.db_name)
        self.addCleanup(storage.close_client)
        return storage

    @contextlib.contextmanager
    def failing(self, *commands: str, times: int | None = None, how: dict[str, Any]) -> Iterator[None]:
        """Have those commands of storages fail, all of them or the next ones."""
        mode: Any = "alwaysOn" if times is None else {"times": times}
        data = {"failCommands": list(commands), "appName": "pysftpserver", **how}
        self.other.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
        try:
            yield
        finally:
            self.other.admin.command({"configureFailPoint": "failCommand", "mode": "off"})

    def upload(self, client: Client, content: bytes = FRESH, path: bytes = b"/f") -> list[object]:
        """The statuses of an upload's WRITEs and its CLOSE."""
        handle = client.open(path, sftp.WRITE | sftp.CREAT | sftp.TRUNC)
        statuses = [
            client.status("write", handle, u64(off), string(content[off : off + sftp.MAX_DATA]))
            for off in range(0, len(content), sftp.MAX_DATA)
        ]
        return [*statuses, client.status("close", handle)]

    def download(self, client: Client, path: bytes = b"/f") -> bytes:
        handle = client.open(path, sftp.READ)
        data = bytearray()
        while (
            reply := client.ask("read", handle, u64(len(data)), (sftp.MAX_DATA).to_bytes(4, "big"))
        ).kind == "data":
            data += reply.content
        self.assertEqual(reply.content, sftp.EOF, reply)
        client.status("close", handle)
        return bytes(data)

    def names(self, client: Client) -> set[bytes]:
        handle = client.opendir(b"/")
        names: set[bytes] = set()
        while (reply := client.ask("readdir", handle)).kind == "name":
            names |= {entry.name for entry in reply.content}
        self.assertEqual(reply.content, sftp.EOF, reply)
        client.status("close", handle)
        return names - {b".", b".."}

    def assert_clean(self, reply: Any, status: int = sftp.FAILURE) -> None:
        """A status with words in it that tell nothing about the host; the log has the cause."""
        self.assertEqual((reply.kind, reply.content), ("status", status), reply)
        self.assertTrue(reply.message)
        self.assertNotRegex(reply.message.decode(), r"[0-9]+\.[0-9]+\.|:[0-9]{2,}|mongodb|localhost|Error\b")
        self.assertRegex(self.client.lines(ERROR)[-1], r"failed because of \w+")

    def assert_nothing_is_stored(self) -> None:
        self.assertEqual(get(self.looking, b"/f"), OLD)
        self.assertEqual(self.gridfs.get_last_version("f").read(), OLD)
        for file in self.gridfs.find():
            self.assertEqual(len(file.read()), file.length)

    def assert_goes_on(self) -> None:
        """The session does what a session does."""
        self.assertEqual(set(self.upload(self.client)), {sftp.OK})
        self.assertEqual(self.download(self.client), FRESH)
        self.assertEqual(get(self.looking, b"/f"), FRESH)
        self.assertIn(b"f", self.names(self.client))
        self.assertEqual(self.client.status("remove", string(b"/f")), sftp.OK)
        for file in self.gridfs.find():
            self.assertEqual(len(file.read()), file.length)


class Refusals(FailureCase):
    REQUESTS: dict[str, tuple[Any, ...]] = {
        "find": ("setstat", string(b"/f"), CHMOD),
        "update": ("setstat", string(b"/f"), CHMOD),
        "delete": ("remove", string(b"/g")),
        "insert": ("mkdir", string(b"/new"), sftp.NO_ATTRS),
        "commitTransaction": ("posix-rename", string(b"/f"), string(b"/g")),
    }

    def test_what_the_driver_retries_no_client_notices(self):
        for how in (HANGS_UP, error(NO_PRIMARY)):
            for command, request in self.REQUESTS.items():
                if how == error(NO_PRIMARY) and command in ("find", "update"):
                    continue  # as the others, and each takes the driver half a second
                put(self.looking, b"/f", OLD)
                put(self.looking, b"/g", b"of g")
                with self.subTest(command=command, how=how), self.failing(command, times=1, how=how):
                    self.assertEqual(self.client.status(*request), sftp.OK)
                self.database["fs.nodes"].delete_many({})

    def test_a_whole_session_goes_on_while_single_commands_fail(self):
        for command in ("find", "insert", "findAndModify"):
            with self.subTest(command=command), self.failing(command, times=1, how=HANGS_UP):
                put(self.looking, b"/f", OLD)
                self.assert_goes_on()

    def test_what_goes_on_failing_is_a_failure_with_words_and_the_session_goes_on(self):
        for how in (HANGS_UP, error(NO_PRIMARY), error(REFUSED)):
            for command, request in self.REQUESTS.items():
                if command == "commitTransaction" or how == error(NO_PRIMARY) and command != "insert":
                    continue  # of the first nobody knows whether it has come about; the others take long
                with self.subTest(command=command, how=how):
                    put(self.looking, b"/f", OLD)
                    put(self.looking, b"/g", b"of g")
                    with self.failing(command, how=how):
                        self.assert_clean(self.client.ask(*request))
                    self.assert_nothing_is_stored()
                    self.assert_goes_on()

    def test_a_rename_whose_transaction_fails_leaves_both_files(self):
        for command in ("update", "find"):
            with self.subTest(command=command):
                with self.failing(command, how=error(REFUSED)):
                    self.assert_clean(self.client.ask("posix-rename", string(b"/f"), string(b"/g")))
                self.assert_nothing_is_stored()
                self.assertEqual(get(self.looking, b"/g"), b"of g")
        self.assert_goes_on()

    def test_a_transaction_is_tried_for_a_limited_time(self):
        put(self.looking, b"/f", OLD)
        began = time.monotonic()
        with (
            mock.patch.object(bucket, "TRANSACTION_LASTS", 1.0),
            self.failing("update", how=error(NO_PRIMARY)),
        ):
            self.assert_clean(self.client.ask("posix-rename", string(b"/f"), string(b"/g")))
        self.assertLess(time.monotonic() - began, PATIENCE / 2)
        self.assert_nothing_is_stored()
        self.assert_goes_on()

    def test_what_is_not_allowed_is_permission_denied(self):
        for command, request in (("find", "stat"), ("delete", "remove")):
            with self.failing(command, how=error(UNAUTHORIZED)):
                self.assert_clean(self.client.ask(request, string(b"/f")), sftp.PERMISSION_DENIED)
        with self.failing("insert", how=error(UNAUTHORIZED)):
            self.assertIn(sftp.PERMISSION_DENIED, self.upload(self.client))
        self.assert_nothing_is_stored()

    def test_a_full_disk_is_named(self):
        handle = self.client.open(b"/f", sftp.WRITE | sftp.CREAT | sftp.TRUNC)
        self.assertEqual(self.client.status("write", handle, u64(0), string(b"x")), sftp.OK)
        with self.failing("insert", how=error(NO_SPACE)):
            reply = self.client.ask("close", handle)
        self.assert_clean(reply)
        self.assertEqual(reply.message, b"No space left on device")
        self.assert_nothing_is_stored()


class Uploads(FailureCase):
    def test_chunks_that_cannot_be_stored_fail_a_write_or_the_close_and_leave_the_old_file(self):
        for how in (HANGS_UP, error(NO_PRIMARY), error(REFUSED), error(NO_SPACE)):
            with self.subTest(how=how):
                with self.failing("insert", how=how):
                    statuses = self.upload(self.client, FRESH * 6)
                self.assertIn(sftp.FAILURE, statuses[:-1])
                self.assertEqual(statuses[-1], sftp.FAILURE)
                self.assert_nothing_is_stored()
        self.assert_goes_on()

    def test_one_that_failed_can_be_repeated_while_the_session_reads_the_file(self):
        reading = self.client.open(b"/f", sftp.READ)
        with self.failing("insert", how=error(REFUSED)):
            self.assertIn(sftp.FAILURE, self.upload(self.client, FRESH * 6))
        reply = self.client.ask("read", reading, u64(0), (1000).to_bytes(4, "big"))
        self.assertEqual(reply.content, OLD[:1000])
        self.assert_goes_on()

    def failing_before_the_document(self, how: dict[str, Any]) -> Any:
        """An upload whose last INSERT, that of its document, fails every time; the reply to CLOSE."""
        handle = self.client.open(b"/f", sftp.WRITE | sftp.CREAT | sftp.TRUNC)
        self.assertEqual(self.client.status("write", handle, u64(0), string(b"x" * CHUNK_SIZE)), sftp.OK)
        finish = self.storage._files._by_name["f"].draft.finish

        with contextlib.ExitStack() as stack:

            def finish_and_fail() -> None:
                finish()
                stack.enter_context(self.failing("insert", how=how))

            self.storage._files._by_name["f"].draft = mock.Mock(
                wraps=self.storage._files._by_name["f"].draft, finish=finish_and_fail, **self.figures()
            )
            return self.client.ask("close", handle)

    def figures(self) -> dict[str, Any]:
        draft = self.storage._files._by_name["f"].draft
        return {name: getattr(draft, name) for name in ("identity", "length", "chunk_size", "base")}

    def test_a_document_that_may_have_been_stored_is_taken_back_before_its_chunks_are(self):
        concern = {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}
        for how in (concern, HANGS_UP, error(NO_PRIMARY), error(REFUSED)):
            with self.subTest(how=how):
                self.assert_clean(self.failing_before_the_document(how))
                self.assert_nothing_is_stored()
                self.assertEqual(orphans(self.database), 0)
        self.assert_goes_on()

    def test_a_document_that_cannot_be_taken_back_keeps_its_chunks(self):
        concern = {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}
        with mock.patch("pysftpserver.storages.mongo.openfiles.revoke", side_effect=_lost()):
            self.assert_clean(self.failing_before_the_document(concern))
        for file in self.gridfs.find():
            self.assertEqual(len(file.read()), file.length)

    def test_what_is_stored_is_stored_though_the_rest_cannot_be_cleared_away(self):
        for commands in (("findAndModify",), ("delete",)):
            with self.subTest(commands=commands):
                put(self.looking, b"/f", OLD)
                with self.failing(*commands, how=HANGS_UP):
                    self.assertEqual(set(self.upload(self.client)), {sftp.OK})
                self.assertEqual(get(self.looking, b"/f"), FRESH)
                for file in self.gridfs.find():
                    self.assertEqual(len(file.read()), file.length)
        self.assertEqual(set(self.upload(self.client)), {sftp.OK})
        self.assertEqual(self.database["fs.files"].count_documents({"filename": "f"}), 1)

    def test_a_file_that_was_cut_off_in_vain_is_not_stored(self):
        handle = self.client.open(b"/f", sftp.WRITE)
        for off in range(0, 12 * CHUNK_SIZE, CHUNK_SIZE):
            self.client.status("write", handle, u64(off), string(b"x" * CHUNK_SIZE))
        with self.failing("delete", how=error(REFUSED)):
            size = attrs(Attributes(size=CHUNK_SIZE))
            self.assert_clean(self.client.ask("fsetstat", handle, size))
        self.assertEqual(self.client.status("close", handle), sftp.FAILURE)
        self.assert_nothing_is_stored()

    def test_a_copy_inside_the_database_that_fails_stores_nothing(self):
        handle = self.client.open(b"/f", sftp.WRITE)
        self.client.status("write", handle, u64(len(OLD)), string(b"more"))
        with self.failing("aggregate", how=error(REFUSED)):
            self.assert_clean(self.client.ask("close", handle))
        self.assert_nothing_is_stored()
        self.assertEqual(orphans(self.database), 0)


class StepDowns(FailureCase):
    def setUp(self) -> None:
        super().setUp()
        self.stepping: Any = pymongo.MongoClient(uri() + "/?directConnection=true")
        self.addCleanup(self.stepping.close)

    def step_down(self) -> None:
        admin = self.stepping.admin
        until(lambda: admin.command("hello")["isWritablePrimary"], "a primary")
        admin.command({"replSetStepDown": 1, "force": True})

    def test_a_session_survives_one_in_the_middle_of_an_upload_a_download_and_a_listing(self):
        handle = self.client.open(b"/f", sftp.READ)
        first = self.client.ask("read", handle, u64(0), (1000).to_bytes(4, "big")).content
        self.step_down()
        rest = self.client.ask("read", handle, u64(len(OLD) - 1000), (1000).to_bytes(4, "big")).content
        self.assertEqual((first, rest), (OLD[:1000], OLD[-1000:]))

        directory = self.client.opendir(b"/")
        self.step_down()
        names = {entry.name for entry in self.client.content("name", "readdir", directory)}
        self.assertLessEqual({b"f", b"g"}, names)

        handle = self.client.open(b"/f", sftp.WRITE | sftp.CREAT | sftp.TRUNC)
        content = FRESH * 6
        statuses = []
        for off in range(0, len(content), sftp.MAX_DATA):
            if off == 8 * sftp.MAX_DATA:
                self.step_down()
            part = string(content[off : off + sftp.MAX_DATA])
            statuses.append(self.client.status("write", handle, u64(off), part))
        statuses.append(self.client.status("close", handle))
        # The driver repeats a write only if the server says that it may: MongoDB does, SecantusDB does not.
        is_stored = set(statuses) == {sftp.OK}
        self.assertEqual(statuses[-1], sftp.OK if is_stored else sftp.FAILURE)
        until(lambda: self.stepping.admin.command("hello")["isWritablePrimary"], "a primary")
        self.assertEqual(get(self.looking, b"/f"), content if is_stored else OLD)
        until(
            lambda: self.client.status("mkdir", string(b"/new"), sftp.NO_ATTRS) == sftp.OK,
            "the driver knows it",
        )
        self.assert_goes_on()


class Listings(FailureCase):
    def test_one_that_breaks_off_is_not_taken_for_a_whole_one(self):
        for number in range(10):
            put(self.looking, b"/%d" % number, b"")
        with mock.patch.object(listing, "BATCH", 3):
            directory = self.client.opendir(b"/")
            with self.failing("getMore", how=HANGS_UP):
                self.assert_clean(self.client.ask("readdir", directory))
            self.assertEqual(self.client.status("readdir", directory), sftp.FAILURE)
        self.assertEqual(len(self.names(self.client)), 12)


class Connections(FailureCase):
    def setUp(self) -> None:
        super().setUp()
        self.proxy = Proxy(LOOPBACK, int(uri().rpartition(":")[2]))
        self.addCleanup(self.proxy.close)
        self.storage = self.connected(f"mongodb://{LOOPBACK}:{self.proxy.port}/", "&directConnection=true")
        self.client = Client(self.storage)

    def test_those_that_are_cut_in_the_middle_of_a_reply_are_made_anew(self):
        for _ in range(3):
            self.proxy.cut_after(200)
            self.assertEqual(self.download(self.client), OLD)
        handle = self.client.open(b"/f", sftp.WRITE | sftp.CREAT | sftp.TRUNC)
        for off in range(0, len(FRESH), sftp.MAX_DATA):
            if off == sftp.MAX_DATA:
                self.proxy.cut_after(50)
            self.client.status("write", handle, u64(off), string(FRESH[off : off + sftp.MAX_DATA]))
        self.proxy.cut_after(50)
        self.assertEqual(self.client.status("close", handle), sftp.OK)
        self.assert_goes_on()

    def test_those_that_are_silent_for_a_while_are_waited_for(self):
        handle = self.client.open(b"/f", sftp.READ)
        self.proxy.pause()
        timer = threading.Timer(1.0, self.proxy.go_on)
        timer.start()
        self.addCleanup(timer.join)
        reply = self.client.ask("read", handle, u64(CHUNK_SIZE * 2), (1000).to_bytes(4, "big"))
        self.assertEqual(reply.kind, "data")
        self.assert_goes_on()


class StoppedServers(unittest.TestCase):
    def test_a_session_says_so_within_the_drivers_limit_and_ends_at_once(self):
        with tempfile.TemporaryDirectory(prefix="pysftpserver-mongo-") as directory:
            with EmbeddedMongo(directory) as server:
                where = f"mongodb://{LOOPBACK}:{server.port}/?serverSelectionTimeoutMS=300"
                storage = SFTPServerMongoStorage.from_uri(where, "stopped")
                self.addCleanup(storage.close_client)
                storage.connect()  # which has more time than what comes later
                storage.prepare()
                put(storage, b"/f", OLD)
                client = Client(storage)
                reading = client.open(b"/f", sftp.READ)
                writing = client.open(b"/g", sftp.WRITE | sftp.CREAT | sftp.TRUNC)
                client.status("write", writing, u64(0), string(FRESH[: sftp.MAX_DATA]))
        began = time.monotonic()
        requests = [
            ("stat", string(b"/f")),
            ("read", reading, u64(0), (1000).to_bytes(4, "big")),
            ("posix-rename", string(b"/f"), string(b"/h")),
            ("close", writing),
        ]
        for name, *parts in requests:
            reply = client.ask(name, *parts)
            self.assertEqual((reply.kind, reply.content), ("status", sftp.FAILURE), name)
            self.assertTrue(re.search(rb"database", reply.message), reply)
        client.server.close()
        storage.close_client()
        self.assertLess(time.monotonic() - began, PATIENCE)


def _lost() -> Exception:
    from pymongo.errors import AutoReconnect

    return AutoReconnect("lost")
