"""Files that wait: nothing that the gates have not let in is ever visible, whatever a session does."""

from __future__ import annotations

import contextlib
import os
import signal
import unittest
from collections.abc import Callable, Iterator
from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.mountedstorage import SFTPServerMountedStorage
from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure, SFTPForbidden, SFTPNotFound
from pysftpserver.site.gates import Rejected
from pysftpserver.site.layer import Layer
from pysftpserver.uploads import temporary
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from pysftpserver.uploads.files import open_temporary
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.mongo.databases import DatabaseCase
from tests.objects.stores import StoreCase
from tests.site.gatekeepers import listening
from tests.site.test_guard_contract import under
from tests.support.cases import InAPlace
from tests.support.hard import IS_HARD
from tests.support.memory import SFTPServerMemoryStorage

TEXT = """
[[gate]]
path = "/in/**"
limit = { magic = "text", pattern = ["*.csv", "d"] }
"""
GOOD, BETTER, BAD = b"good" * 10_000, b"better" * 10_000, b"bad\0" * 10_000
NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def put(storage: SFTPAbstractServerStorage, path: bytes, content: bytes, flags: int = NEW) -> None:
    handle = storage.open(path, flags, 0o644)
    try:
        for off in range(0, len(content), 16_384):
            storage.write(handle, off, content[off : off + 16_384])
    except BaseException:
        storage.abandon(handle)
        raise
    storage.close(handle)


def content(storage: SFTPAbstractServerStorage, path: bytes) -> bytes | None:
    """None where there is nothing."""
    try:
        handle = storage.open(path, os.O_RDONLY, 0)
    except (FileNotFoundError, SFTPNotFound):
        return None
    found = b""
    while piece := bytes(storage.read(handle, len(found), 1 << 20)):
        found += piece
    storage.close(handle)
    return found


def names(storage: SFTPAbstractServerStorage, path: bytes) -> set[bytes]:
    return {name for name, _ in storage.opendir(path)} - {b".", b".."}


class OnAnyStorage:
    """What holds on every storage. text: the site file."""

    text = TEXT
    lacks: frozenset[str] = frozenset()

    def below(self) -> SFTPAbstractServerStorage:
        raise NotImplementedError

    def setUp(self: Any) -> None:
        super().setUp()  # type: ignore[misc]
        self.bottom = self.below()
        for path in (b"/in", b"/out"):
            with contextlib.suppress(OSError, SFTPException):
                self.bottom.mkdir(path, 0o777)
        self.storage = under(self.bottom, self.text)

    def assert_refused(self: Any, call: Callable[..., object], *arguments: Any) -> None:
        with self.assertRaisesRegex(SFTPForbidden, "^Not (accepted|allowed): "):
            call(*arguments)

    def assert_clean(self: Any, *expected: bytes) -> None:
        """/in has these names, below the layer as well."""
        self.assertEqual(names(self.storage, b"/in"), set(expected))
        self.assertEqual(names(self.bottom, b"/in"), set(expected))

    def test_files_are_let_in_and_a_rejected_one_leaves_the_old_one(self: Any) -> None:
        put(self.storage, b"/in/x.csv", GOOD)
        self.assertEqual(content(self.storage, b"/in/x.csv"), GOOD)
        put(self.storage, b"/in/x.csv", BETTER)
        self.assertEqual(content(self.storage, b"/in/x.csv"), BETTER)
        for path in (b"/in/x.csv", b"/in/new.csv"):
            self.assert_refused(put, self.storage, path, BAD)
        self.assert_refused(put, self.storage, b"/in/x.exe", GOOD)
        self.assertEqual(content(self.storage, b"/in/x.csv"), BETTER)
        self.assert_clean(b"x.csv")
        put(self.storage, b"/out/x.exe", BAD)  # no gates there

    def test_nothing_is_visible_before_the_last_handle_is_closed(self: Any) -> None:
        other = under(self.bottom, self.text)
        put(self.storage, b"/in/x.csv", GOOD)
        handle = self.storage.open(b"/in/x.csv", NEW, 0o644)
        self.storage.write(handle, 0, BAD)
        waiting = [name for name in names(self.bottom, b"/in") if temporary.is_temporary(name)]
        for storage in (self.storage, other):
            self.assertEqual(names(storage, b"/in"), {b"x.csv"})
            self.assertEqual(content(storage, b"/in/x.csv"), GOOD)
            for name in waiting:
                with self.assertRaises((OSError, SFTPException)):
                    storage.open(b"/in/" + name, os.O_RDONLY, 0)
                with self.assertRaises((OSError, SFTPException)):
                    storage.rename(b"/in/" + name, b"/out/x")
                with self.assertRaises((OSError, SFTPException)):
                    put(storage, b"/in/" + name, GOOD, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                    self.fail(f"{name!r} was made again")
        self.storage.abandon(handle)
        self.assert_clean(b"x.csv")
        handle = self.storage.open(b"/in/x.csv", NEW, 0o644)
        self.storage.write(handle, 0, BETTER)
        self.storage.spoil(handle)
        with self.assertRaises(SFTPFailure):
            self.storage.close(handle)
        self.assertEqual(content(self.storage, b"/in/x.csv"), GOOD)
        self.assert_clean(b"x.csv")

    def test_what_is_renamed_to_a_gate_is_looked_at(self: Any) -> None:
        put(self.storage, b"/out/good", GOOD)
        put(self.storage, b"/out/bad", BAD)
        for replace in (False, True):
            self.assert_refused(self.storage.rename, b"/out/bad", b"/in/x.csv", *([True] if replace else ()))
        self.assert_refused(self.storage.rename, b"/out/good", b"/in/x.exe", True)
        self.assertEqual(names(self.storage, b"/out"), {b"good", b"bad"})
        self.assert_clean()
        self.storage.rename(b"/out/good", b"/in/x.csv")
        self.assertEqual(content(self.storage, b"/in/x.csv"), GOOD)
        self.assertEqual(names(self.storage, b"/out"), {b"bad"})
        put(self.storage, b"/out/better", BETTER)
        with self.assertRaises((OSError, SFTPException)):
            self.storage.rename(b"/out/better", b"/in/x.csv")
        self.assertEqual(content(self.storage, b"/in/x.csv"), GOOD)
        self.storage.rename(b"/out/better", b"/in/x.csv", True)
        self.assertEqual(content(self.storage, b"/in/x.csv"), BETTER)
        self.assert_clean(b"x.csv")
        self.assert_refused(self.storage.rename, b"/in/x.csv", b"/in/x.exe")
        self.storage.rename(b"/in/x.csv", b"/in/y.csv")
        self.storage.rename(b"/in/y.csv", b"/out/y.exe")
        self.assert_clean()

    def test_temporary_names_of_clients_are_looked_at_and_count_as_the_final_name(self: Any) -> None:
        self.assert_refused(put, self.storage, b"/in/x.csv.filepart", BAD)
        self.assert_refused(put, self.storage, b"/in/x.exe.filepart", GOOD)
        put(self.storage, b"/in/x.csv.filepart", GOOD)
        self.assert_clean(b"x.csv.filepart")
        self.assert_refused(self.storage.rename, b"/in/x.csv.filepart", b"/in/x.exe", True)
        self.storage.rename(b"/in/x.csv.filepart", b"/in/x.csv", True)
        self.assert_clean(b"x.csv")

    def test_what_other_doors_receive_is_looked_at_under_its_final_name(self: Any) -> None:
        for path, sent, is_good in (
            (b"/in/x.csv", BAD, False),
            (b"/in/x.exe", GOOD, False),
            (b"/in/x.csv", GOOD, True),
        ):
            file = open_temporary(self.storage, path, None)
            file.write(memoryview(sent))
            if is_good:
                file.commit()
            else:
                self.assert_refused(file.commit)
                self.assert_clean()
        self.assertEqual(content(self.storage, b"/in/x.csv"), GOOD)
        self.assert_clean(b"x.csv")

    def test_leftovers_are_removed_by_the_next_upload_to_the_directory(self: Any) -> None:
        left = b"/in/" + new_name_of_a_dead_process()
        put(self.bottom, left, BAD)
        self.assertEqual(names(self.storage, b"/in"), set())
        self.assert_refused(put, self.storage, b"/in/x.csv", BAD)
        self.assert_clean()

    def test_a_directory_is_not_renamed_to_a_gate(self: Any) -> None:
        self.storage.mkdir(b"/out/d", 0o777)
        put(self.storage, b"/out/d/bad", BAD)
        self.assert_refused(self.storage.rename, b"/out/d", b"/in/d")
        self.storage.mkdir(b"/in/d", 0o777)
        put(self.storage, b"/in/d/x.csv", GOOD)
        self.assert_clean(b"d")

    def test_quarantine_is_kept_and_hidden(self: Any) -> None:
        storage = under(self.bottom, QUARANTINES.format(self.gate()))
        put(storage, b"/in/x.csv", GOOD)
        self.assert_refused(put, storage, b"/in/x.csv", BAD)
        self.assertEqual(content(storage, b"/in/x.csv"), GOOD)
        (kept,) = names(self.bottom, b"/kept/here")
        self.assertTrue(kept.endswith(b"-x.csv"), kept)
        self.assertEqual(content(self.bottom, b"/kept/here/" + kept), BAD)
        self.assertNotIn(b"here", names(storage, b"/kept"))
        with self.assertRaises((OSError, SFTPException)):
            storage.open(b"/kept/here/" + kept, os.O_RDONLY, 0)
        self.assertEqual(names(self.bottom, b"/in"), {b"x.csv"})

    def gate(self: Any) -> str:
        """The socket of a program that sends to quarantine what is not GOOD or BETTER."""

        def handle(talk: Any) -> None:
            talk.rfile.readline()
            is_good = talk.rfile.read(len(GOOD)) == GOOD
            talk.wfile.write(b'{"verdict": "%b"}\n' % (b"accept" if is_good else b"quarantine"))

        import tempfile

        place = self.enterContext(tempfile.TemporaryDirectory())
        return self.enterContext(listening(f"{place}/gate.sock", handle))  # type: ignore[no-any-return]


QUARANTINES = """
[[gate]]
path = "/in/**"
ask = "{}"
quarantine = "/kept/here"
"""


def new_name_of_a_dead_process() -> bytes:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    system, _, began = temporary.new_name().removeprefix(temporary.PREFIX).split(b"-")[:3]
    return b"%b%b-%d-%b-%b" % (temporary.PREFIX, system, pid, began, b"0" * 16)


class Directories(OnAnyStorage, InAPlace):
    """On real files there is more to try."""

    def below(self) -> SFTPAbstractServerStorage:
        (self.place / "jail").mkdir()
        return SFTPServerVirtualChroot(str(self.place / "jail"), 0o022)

    def test_what_is_there_is_copied_before_it_is_written_to(self) -> None:
        path = self.place / "jail" / "in" / "x.csv"
        put(self.storage, b"/in/x.csv", b"caf\xc3\xa9")
        self.assertEqual(path.stat().st_mode & 0o777, 0o644)
        path.chmod(0o640)
        os.utime(path, (1, 1))
        put(self.storage, b"/in/x.csv", b"\xc3\xa9!", os.O_WRONLY | os.O_APPEND)
        self.assertEqual(path.read_bytes(), b"caf\xc3\xa9\xc3\xa9!")
        self.assertEqual(path.stat().st_mode & 0o777, 0o640)
        put(self.storage, b"/in/x.csv", b"C", os.O_RDWR)
        self.assertEqual(path.read_bytes(), b"Caf\xc3\xa9\xc3\xa9!")
        for flags, sent in ((os.O_WRONLY | os.O_APPEND, b"\0"), (os.O_RDWR, b"\0")):
            self.assert_refused(put, self.storage, b"/in/x.csv", sent, flags)
        for change in (self.storage.setstat, self.storage.lsetstat):
            self.assert_refused(change, b"/in/x.csv", SFTPAttributes(size=4))
        self.assertEqual(path.read_bytes(), b"Caf\xc3\xa9\xc3\xa9!")
        self.storage.setstat(b"/in/x.csv", SFTPAttributes(size=3, permissions=0o600, atime=5, mtime=6))
        self.assertEqual(path.read_bytes(), b"Caf")
        self.assertEqual((path.stat().st_mode & 0o777, path.stat().st_mtime), (0o600, 6))
        self.assert_clean(b"x.csv")

    def test_permissions_are_those_that_the_client_sets_and_nobody_reads_it_before(self) -> None:
        handle = self.storage.open(b"/in/x.csv", NEW, 0o664)
        (waiting,) = (self.place / "jail" / "in").iterdir()
        self.assertEqual(waiting.stat().st_mode & 0o777, 0o600)
        self.assertEqual((self.storage.fstat(handle).permissions or 0) & 0o777, 0o644)
        self.storage.fsetstat(handle, SFTPAttributes(permissions=0o440, atime=1, mtime=2))
        self.assertEqual((self.storage.fstat(handle).permissions or 0) & 0o777, 0o440)
        self.assertEqual(waiting.stat().st_mode & 0o777, 0o600)
        self.storage.close(handle)
        found = (self.place / "jail" / "in" / "x.csv").stat()
        self.assertEqual((found.st_mode & 0o777, found.st_mtime), (0o440, 2))

    def test_a_handle_that_another_session_has_open_does_not_reach_what_was_let_in(self) -> None:
        other = under(self.bottom, self.text)
        put(self.storage, b"/out/x", GOOD)
        handle = other.open(b"/out/x", os.O_WRONLY, 0)
        self.storage.rename(b"/out/x", b"/in/x.csv")
        other.write(handle, 0, BAD)
        other.close(handle)
        self.assertEqual(content(self.storage, b"/in/x.csv"), GOOD)

    def test_a_door_that_keeps_its_file_open_does_not_reach_it_either(self) -> None:
        path = temporary.temporary_path(b"/in/x.csv")
        handle = self.storage.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self.storage.write(handle, 0, GOOD)
        self.storage.rename(path, b"/in/x.csv", True)
        self.storage.write(handle, 0, BAD)
        self.storage.close(handle)
        self.assertEqual(content(self.storage, b"/in/x.csv"), GOOD)

    def test_two_names_of_a_file_are_refused_and_links_that_are_there_lead_to_files(self) -> None:
        put(self.storage, b"/out/x", BAD)
        put(self.storage, b"/in/x.csv", GOOD)
        for old, new in ((b"/out/x", b"/in/y.csv"), (b"/in/x.csv", b"/out/y"), (b"/in/x.csv", b"/in/y.csv")):
            self.assert_refused(self.storage.link, old, new)
        self.storage.symlink(b"/out/l", b"/in/x.csv")
        self.assert_refused(self.storage.rename, b"/out/l", b"/in/l")
        self.bottom.symlink(b"/in/l", b"/in/x.csv")
        self.assert_refused(put, self.storage, b"/in/l", BAD)  # it leads to the file
        put(self.storage, b"/in/l", BETTER)
        self.assertEqual(content(self.bottom, b"/in/x.csv"), BETTER)
        self.assert_clean(b"l", b"x.csv")

    def test_segments_through_several_handles_are_one_file(self) -> None:
        first = self.storage.open(b"/in/x.csv", NEW, 0o644)
        second = self.storage.open(b"/in/x.csv", os.O_WRONLY | os.O_CREAT, 0o644)
        self.storage.write(second, 4, b"good")
        self.storage.close(second)
        self.assertEqual(names(self.storage, b"/in"), set())
        self.storage.write(first, 0, b"good")
        self.storage.close(first)
        self.assertEqual(content(self.storage, b"/in/x.csv"), b"goodgood")
        self.assert_clean(b"x.csv")

    def test_a_name_that_has_to_be_free_is_free_when_the_file_gets_it(self) -> None:
        handle = self.storage.open(b"/in/x.csv", NEW | os.O_EXCL, 0o644)
        self.storage.write(handle, 0, GOOD)
        put(self.bottom, b"/in/x.csv", BETTER)
        with self.assertRaises(OSError):
            self.storage.close(handle)
        self.assertEqual(content(self.storage, b"/in/x.csv"), BETTER)
        self.assert_clean(b"x.csv")

    def test_a_process_that_is_killed_at_any_moment_leaves_nothing_that_was_not_let_in(self) -> None:
        """It is killed before each call of the storage in turn."""
        count, is_over = 0, False
        while not is_over:
            with contextlib.suppress(OSError, SFTPException):
                self.bottom.rm(b"/in/x.csv")
            for path in (b"/in/x.csv", b"/out/good", b"/out/bad"):
                put(self.bottom, path, BAD if path.endswith(b"bad") else GOOD)
            is_over = self.run_and_kill(count)
            found = content(self.storage, b"/in/x.csv")
            self.assertIn(found, (GOOD, BETTER), count)
            for name in names(self.storage, b"/in") - {b"x.csv"}:
                self.assertIn(content(self.storage, b"/in/" + name), (GOOD, BETTER), (name, count))
            count += 1 if IS_HARD else 4
        self.assertGreater(count, 100)
        put(under(self.bottom, self.text), b"/in/x.csv", GOOD)  # and removes what they have left
        self.assertEqual([name for name in names(self.bottom, b"/in") if temporary.is_temporary(name)], [])

    def run_and_kill(self, count: int) -> bool:
        """Upload in several ways in a process that is killed before a call; whether it came to its end."""
        pid = os.fork()
        if not pid:
            try:
                storage = under(Mortal(self.bottom, count), self.text)
                for _ in uploads(storage):
                    pass
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitpid(pid, 0)[1]
        self.assertIn(status, (0, signal.SIGKILL))
        return status == 0


def uploads(storage: SFTPAbstractServerStorage) -> Iterator[None]:
    """Uploads in all ways."""

    def door(path: bytes, sent: bytes) -> None:
        file = open_temporary(storage, path, None)
        file.write(memoryview(sent))
        file.commit()

    for sent in (BAD, BETTER, BAD):
        for attempt in (
            lambda sent=sent: put(storage, b"/in/x.csv", sent),
            lambda sent=sent: put(storage, b"/in/y.csv", sent),
            lambda sent=sent: put(storage, b"/in/x.csv", sent, os.O_RDWR),
            lambda sent=sent: put(storage, b"/in/z.csv.filepart", sent),
            lambda: storage.rename(b"/in/z.csv.filepart", b"/in/z.csv", True),
            lambda sent=sent: door(b"/in/d.csv", sent),
            lambda: storage.rename(b"/out/bad", b"/in/x.csv", True),
        ):
            try:
                attempt()
            except (Rejected, FileNotFoundError):
                pass
            yield
    storage.rename(b"/out/good", b"/in/x.csv", True)


class Mortal(Layer):
    """A storage that kills its process before a call. count: calls until then."""

    def __init__(self, below: SFTPAbstractServerStorage, count: int) -> None:
        super().__init__(below)
        self.left = count

    def _counted(name: str) -> Any:  # type: ignore[misc]
        def call(self: Any, *arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return getattr(self.below, name)(*arguments, **named)

        return call

    for _name in ("open", "write", "close", "fsync", "fsetstat", "setstat", "rename", "rm", "sync_directory"):
        locals()[_name] = _counted(_name)


class Mounts(OnAnyStorage, InAPlace):
    """/in is another storage, and so is the quarantine."""

    def below(self) -> SFTPAbstractServerStorage:
        (self.place / "jail").mkdir()
        (self.place / "jail" / "kept").mkdir()
        jail = SFTPServerVirtualChroot(str(self.place / "jail"))
        kept = SFTPServerMemoryStorage()
        mounts = {b"/in": SFTPServerMemoryStorage(), b"/kept/here": kept}
        return SFTPServerMountedStorage(jail, mounts, across="copy")


class OnMemory(OnAnyStorage, unittest.TestCase):
    def below(self) -> SFTPAbstractServerStorage:
        return SFTPServerMemoryStorage()


class AtomicUploads(OnAnyStorage, InAPlace):
    def below(self) -> SFTPAbstractServerStorage:
        return SFTPAtomicVirtualChroot(str(self.place))


class InGridFS(OnAnyStorage, DatabaseCase):
    def below(self) -> SFTPAbstractServerStorage:
        return self.open_storage()


class AsObjects(OnAnyStorage, StoreCase):
    """In a bucket, what is not closed is not there."""

    def below(self) -> SFTPAbstractServerStorage:
        return self.open_storage()


if not IS_HARD:
    del AtomicUploads, InGridFS


if __name__ == "__main__":
    unittest.main()
