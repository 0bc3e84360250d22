"""A storage that fails in a server's process: one failure for each request, and nothing else is lost.

tests/engine/test_storage_faults.py has this for the engine alone; here are run(), real files and descriptors
to leak, listings that fail half-way, the fast path, and exceptions as the interpreter itself raises them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

from tests.faults import plugins
from tests.faults.sessions import KIB, NEW, FaultCase, Session, Upload, content_of
from tests.support import packets as sftp
from tests.support.packets import Client, request, string, u32, u64
from tests.support.storages import Whole

STORAGES = ("storage=armed", "storage=armed-descriptors")
BY_DESCRIPTOR = {"open", "close", "write", "fstat", "fsync", "fsetstat"}  # READs go by it alone
FILES = {"x", "f", "d", "d/one", "d/two"}
# What changes something or opens it, and has no answer of which another could be made.
DOING = set("setstat lsetstat fsetstat mkdir rmdir rm rename symlink link write fsync close open".split())


class PluginCase(FaultCase):
    """A storage that fails on order, on a few files; x is what tests.support.packets.WAYS act on."""

    def setUp(self) -> None:
        super().setUp()
        self.control = self.place / "control"
        self.control.write_text("")
        self.content = content_of(self.order, 100_000)
        self.put_files()

    def put_files(self) -> None:
        for name in ("x", "f", "d/one", "d/two"):
            (self.served / name).parent.mkdir(exist_ok=True)
            (self.served / name).write_bytes(self.content)

    def begin(self, storage: str, *options: str) -> Session:
        return self.start(storage, f"control={self.control}", *options)

    @contextmanager
    def armed(self, method: str, fault: str) -> Iterator[None]:
        self.control.write_text(f"{method} {fault}")
        try:
            yield
        finally:
            self.control.write_text("")

    def words(self, fault: str) -> str | None:
        """What the system says of an error; None for what is no error of the system's."""
        return os.strerror(getattr(errno, fault)) if hasattr(errno, fault) else None

    def assert_failed(self, status: tuple[object, str], fault: str) -> None:
        self.assertEqual(status[0], sftp.FAILURE)
        self.assertNotIn("/host/path", status[1])
        words = self.words(fault)
        if words is not None:
            self.assertEqual(status[1], words)
        self.assertTrue(status[1])

    def end(self, session: Session, *options: str) -> None:
        session.leave()
        self.assertNotIn("forced close", session.door.log(), "a handle that the client did not have")
        self.assertNotIn("/host/path", session.door.log())
        self.assert_files_are_whole(*options)

    def assert_files_are_whole(self, *options: str) -> None:
        self.assert_next_session_works(*options, files=FILES)
        for name in ("x", "f", "d/one", "d/two"):
            self.assertEqual((self.served / name).read_bytes(), self.content, name)


class PluginsThatFail(PluginCase):
    def test_every_method_is_tried_here(self):
        self.assertEqual(set(sftp.WAYS) - {"checksum"}, set(plugins.METHODS))  # no file has a digest ready

    def test_with_any_error_in_any_method_give_one_failure_and_lose_no_descriptor(self):
        for storage in STORAGES:
            session = self.begin(storage)
            descriptors = session.door.descriptors()
            for method in plugins.METHODS:
                name, parts = sftp.WAYS[method]
                if storage == "storage=armed-descriptors" and method not in BY_DESCRIPTOR:
                    continue
                for fault in plugins.ERRORS:
                    with self.subTest(storage=storage, method=method, fault=fault):
                        handle = session.open(b"f", sftp.READ | sftp.WRITE)
                        filled = [handle if part == "{h}" else part for part in parts]
                        with self.armed(method, fault):
                            # The one behind it shows that there is one reply, and that service goes on.
                            failed, alive = session.exchange(
                                request(name, session.next_number(), *filled),
                                request("limits", session.next_number()),
                            )
                        self.assertEqual((failed.kind, alive.kind), ("status", "extended"))
                        self.assert_failed((failed.content, failed.message.decode()), fault)
                        if method != "close":  # whose handle is gone, whatever it raised
                            session.must("close", handle)
                        self.assertNotEqual(session.status("close", handle)[0], sftp.OK)
                        self.assertEqual(session.door.descriptors(), descriptors)
            self.end(session)

    def test_in_a_listing_give_a_failure_and_the_directory_can_be_closed(self):
        for storage in STORAGES:
            session = self.begin(storage)
            descriptors = session.door.descriptors()
            for fault in plugins.ERRORS:
                with self.subTest(storage=storage, fault=fault):
                    handle = session.open(b"d", kind="opendir")
                    with self.armed("next", fault):
                        status = session.status("readdir", handle)
                    if fault == "StopIteration":
                        self.assertEqual(status[0], sftp.EOF)
                    else:
                        self.assert_failed(status, fault)
                    self.assertEqual(session.ask("readdir", handle).kind, "name")  # it has not begun
                    with self.armed("closedir", fault):
                        self.assert_failed(session.status("close", handle), fault)
                    self.assertNotEqual(session.status("close", handle)[0], sftp.OK)
                    self.assertEqual(session.door.descriptors(), descriptors)
            self.end(session)

    def test_at_the_beginning_of_a_listing_give_a_failure_and_the_listing_is_closed(self):
        closed = []

        class Listing:
            def __init__(self, error: str) -> None:
                self.error = error

            def __iter__(self) -> Iterator[Any]:
                return plugins.ERRORS[self.error](lambda: None)

            def close(self) -> None:
                closed.append(self.error)

        # Not on real files: their listings close themselves when nobody refers to them any more.
        for fault in plugins.ERRORS:
            with self.subTest(fault=fault):
                storage = Whole()
                storage.opendir = lambda path, fault=fault: Listing(fault)
                client = Client(storage)
                self.assertEqual(client.status("opendir", string(b"d")), sftp.FAILURE)
                client.server.close()
                self.assertEqual(closed[-1:], [fault])

    def test_in_the_middle_of_pipelined_writes_are_failures_one_by_one(self):
        for storage in STORAGES:
            for options in ((), ("hook=yes",)):
                session = self.begin(storage, *options)
                for fault in plugins.ERRORS:
                    with self.subTest(storage=storage, options=options, fault=fault, seed=self.seed):
                        self.upload_with(fault, session)
                self.end(session)

    def upload_with(self, fault: str, session: Session) -> None:
        """An upload of which two WRITEs and an fsync fail."""
        upload = Upload(content_of(self.order, 300_000))
        handle = session.open(b"upload", NEW)
        session.write(upload, handle, upload.pieces(32 * KIB, 98_304))
        with self.armed("write", fault):
            session.write(upload, handle, [(98_304, 100_000), (198_304, 1)])
        self.assertEqual(set(upload.refused), {(98_304, 100_000), (198_304, 1)})
        for reply in upload.refused.values():
            self.assert_failed((reply.content, reply.message.decode()), fault)
        session.write(upload, handle, [(198_305, len(upload.content) - 198_305)])
        self.assert_upload(upload, "upload")
        session.write(upload, handle, list(upload.refused))
        with self.armed("fsync", fault):
            self.assert_failed(session.status("fsync", handle), fault)
        session.must("fsync", handle)
        session.must("close", handle)
        self.assertEqual(self.assert_upload(upload, "upload"), upload.content)
        session.must("remove", string(b"upload"))

    def test_at_every_close_of_the_sessions_end_are_logged_and_the_rest_is_closed(self):
        for fault in ("EIO", "MemoryError", "SystemExit", "GeneratorExit"):
            for method in ("close", "closedir"):
                with self.subTest(fault=fault, method=method):
                    session = self.begin("storage=armed")
                    for _ in range(3):
                        session.open(b"f")
                        session.open(b"d", kind="opendir")
                    self.control.write_text(f"{method} {fault}")
                    session.leave()
                    self.control.write_text("")
                    log = session.door.log()
                    self.assertEqual(log.count('forced close "f"'), 3)
                    self.assertEqual(log.count('forced closedir "d"'), 3)
        self.assert_files_are_whole()

    def test_at_a_copy_are_failures_that_leave_a_beginning(self):
        session = self.begin("storage=armed")
        for fault in plugins.ERRORS:
            for method in ("read", "write", "fstat"):
                with self.subTest(fault=fault, method=method):
                    source, target = session.open(b"f"), session.open(b"copy", NEW)
                    arguments = (source, u64(0), u64(0), target, u64(0))
                    with self.armed(method, fault):
                        self.assert_failed(session.status("copy-data", *arguments), fault)
                    data = (self.served / "copy").read_bytes()
                    self.assertEqual(data, self.content[: len(data)])
                    session.must("copy-data", *arguments)
                    self.assertEqual((self.served / "copy").read_bytes(), self.content)
                    session.must("close", source)
                    session.must("close", target)
                    session.must("remove", string(b"copy"))
        self.end(session)

    def test_are_failures_for_openssh_which_says_so_and_leaves_with_a_status(self):
        (self.local / "new").write_bytes(self.content)
        commands = {
            "write": "put new upload",
            "open": "put new upload",
            "close": "put new upload",
            "read": "get f copy",
            "next": "ls -l d",
            "mkdir": "mkdir new",
            "rm": "rm f",
            "rename": "rename f new",
        }
        for fault, (method, command) in zip(cycle(("EIO", "SystemExit")), commands.items()):
            with self.subTest(fault=fault, method=method):
                options = ("storage=armed", f"control={self.control}")
                with self.armed(method, fault):
                    status, said = self.sftp(command, options=options)
                self.assertEqual(status, 1, said)
                self.assertNotIn("/host/path", said)
                (self.served / "upload").unlink(missing_ok=True)
        self.assert_files_are_whole()


class PluginsWithOddAnswers(PluginCase):
    """Answers that the interface does not allow. Whatever is made of them, each request has one reply."""

    def test_of_any_kind_in_any_method_have_one_reply_and_the_session_goes_on(self):
        for storage in STORAGES:
            session = self.begin(storage)
            for method, (name, parts) in sftp.WAYS.items():
                if storage == "storage=armed-descriptors" and method not in {*BY_DESCRIPTOR, "read"}:
                    continue
                answers = set(plugins.ANSWERS)
                if method in DOING:
                    answers -= plugins.MADE_FROM_THE_TRUE_ONE
                for answer in sorted(answers):
                    with self.subTest(storage=storage, method=method, answer=answer):
                        handle = session.open(b"f", sftp.READ | sftp.WRITE)
                        filled = [handle if part == "{h}" else part for part in parts]
                        with self.armed(method, answer):
                            odd, alive = session.exchange(
                                request(name, session.next_number(), *filled),
                                request("limits", session.next_number()),
                            )
                        self.assertEqual(alive.kind, "extended")
                        if odd.kind == "handle":
                            self.close_odd_handle(session, method, string(odd.content))
                        if method != "close":
                            session.must("close", handle)
                        self.assertEqual(session.content(b"f"), self.content)
            session.leave()
        self.assert_files_are_whole()

    def close_odd_handle(self, session: Session, method: str, handle: bytes) -> None:
        """What was opened where there is no file or no listing is of no use, and can be given back."""
        if method == "open":
            self.assertEqual(session.ask("read", handle, u64(0), u32(1)).kind, "status")
        session.ask("close", handle)
        self.assertNotEqual(session.status("close", handle)[0], sftp.OK)

    def test_in_a_listing_have_one_failure_and_the_rest_can_be_read(self):
        session = self.begin("storage=armed")
        for answer in sorted(set(plugins.ANSWERS) - {"shorter"}):  # an entry has no more than two parts
            with self.subTest(answer=answer):
                handle = session.open(b"d", kind="opendir")
                with self.armed("next", answer):
                    self.assertEqual(session.status("readdir", handle)[0], sftp.FAILURE)
                session.ask("readdir", handle)
                session.must("close", handle)
                self.assertEqual(session.names(b"d"), {"one", "two"})
        self.end(session)

    def test_to_reads_give_no_byte_that_the_storage_did_not(self):
        for options in ((), ("hook=yes",)):
            session = self.begin("storage=armed", *options)
            handle = session.open(b"f")
            for length in (1, 10, 32 * KIB, sftp.MAX_DATA):
                true = self.content[:length]
                for answer, expected in (
                    ("shorter", true[:3]),
                    ("longer", (true + bytes(length))[:length]),  # what was not asked for is cut off
                    ("view", true),
                    ("text", sftp.FAILURE),
                    ("number", sftp.FAILURE),
                    ("negative", sftp.FAILURE),
                    ("list", sftp.FAILURE),
                    ("itself", sftp.FAILURE),
                ):
                    with self.subTest(options=options, length=length, answer=answer):
                        with self.armed("read", answer):
                            reply = session.ask("read", handle, u64(0), u32(length))
                        self.assertEqual(reply.content, expected)
            session.must("close", handle)
            self.end(session)

    def test_of_a_few_bytes_a_read_are_put_together_by_openssh(self):
        few = self.content[:3000]
        (self.served / "few").write_bytes(few)
        with self.armed("read", "shorter"):
            status, said = self.sftp("get few copy", options=("storage=armed", f"control={self.control}"))
        self.assertEqual(status, 0, said)
        self.assertEqual((self.local / "copy").read_bytes(), few)
        (self.served / "few").unlink()
        self.assert_files_are_whole()
