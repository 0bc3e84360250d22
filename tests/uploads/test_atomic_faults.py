"""Uploads that appear whole, when something goes wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.hook import SFTPHook
from pysftpserver.pysftpexceptions import SFTPFailure, SFTPForbidden
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.uploads import atomic, temporary
from tests.cli.commands import CommandCase
from tests.support.packets import CREAT, FAILURE, OK, PERMISSION_DENIED, READ, TRUNC, WRITE, u64
from tests.support.uploads import (
    NEW,
    NEW_CONTENT,
    OLD_CONTENT,
    ONLY_NEW,
    InAJail,
    InAJailWithTheWalk,
    OnAStorage,
    OnThePlainStorage,
    write_request,
)

TYPE_CHECKING = False
Base = OnAStorage if TYPE_CHECKING else object  # no case by itself: the storage comes with the last classes

KIB = 1 << 10


def failing(number: int = errno.EIO) -> Any:
    """A function that fails."""

    def fail(*arguments: Any, **named: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


class FailureRules(Base):
    """What fails leaves the old file, and no temporary one."""

    def assert_not_put_in_place(self, handle: int, error: type[Exception] = SFTPFailure) -> None:
        with self.assertRaises(error):
            self.storage.close(handle)
        self.assertEqual((self.names(), self.temporary()), (["f"], []))
        self.assertEqual((self.top / "f").read_bytes(), OLD_CONTENT)

    def test_a_write_that_failed_makes_the_close_fail(self) -> None:
        self.old_file()
        handle = self.storage.open(self.path("f"), NEW, 0o666)
        with mock.patch("pysftpserver.storage.os.pwrite", failing(errno.ENOSPC)), self.assertRaises(OSError):
            self.storage.write(handle, 0, NEW_CONTENT)
        self.storage.write(handle, 0, NEW_CONTENT)  # that another one goes well heals nothing
        self.assert_not_put_in_place(handle)

    def test_a_file_that_grows_over_a_limit_is_not_put_in_place(self) -> None:
        self.old_file()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))
        for options in ({"level": 0}, {}):  # on the fast path, and on the other
            client = self.client(**options)
            handle = client.open(self.path("f"), WRITE | TRUNC)
            resource.setrlimit(resource.RLIMIT_FSIZE, (64 * KIB, hard))
            statuses = [
                client.status("write", *write_request(handle, bytes(40 * KIB), at)) for at in (0, 40 * KIB)
            ]
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            self.assertEqual(statuses, [OK, FAILURE])
            self.assertEqual(client.status("close", handle), FAILURE)
            self.assertEqual(((self.top / "f").read_bytes(), self.temporary()), (OLD_CONTENT, []))

    def test_an_fsync_that_failed_makes_the_close_fail(self) -> None:
        self.old_file()
        handle = self.storage.open(self.path("f"), NEW, 0o666)
        with mock.patch("pysftpserver.storage.os.fsync", failing()), self.assertRaises(OSError):
            self.storage.fsync(handle)
        self.storage.fsync(handle)  # the kernel says it once
        self.assert_not_put_in_place(handle)

    def test_a_disk_that_is_full_only_when_the_file_is_closed_is_noticed_before_it_is_in_place(self) -> None:
        self.old_file()
        handle = self.storage.open(self.path("f"), NEW, 0o666)
        close = os.close

        def full(descriptor: int) -> None:
            is_upload = ".pysftpserver-upload-" in os.readlink(f"/proc/self/fd/{descriptor}")
            close(descriptor)
            if is_upload:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with mock.patch("os.close", full):
            self.assert_not_put_in_place(handle, OSError)

    def test_a_write_that_a_hook_refuses_makes_the_close_fail(self) -> None:
        class Quota(SFTPHook):
            def before_write(self, event: Any) -> None:
                if event.arguments["offset"]:
                    raise SFTPForbidden("over quota")

        file = self.old_file()
        client = self.client()
        client.server.hook = Quota()
        handle = client.open(self.path("f"), WRITE | TRUNC)
        self.assertEqual(client.status("write", *write_request(handle, NEW_CONTENT)), OK)
        self.assertEqual(client.status("write", *write_request(handle, NEW_CONTENT, 3)), PERMISSION_DENIED)
        self.assertEqual(client.status("close", handle), FAILURE)
        self.assertEqual((file.read_bytes(), self.temporary()), (OLD_CONTENT, []))

    def test_a_file_in_place_is_closed_as_ever_after_a_write_was_refused(self) -> None:
        self.old_file()
        client = self.client(deny=["write"])
        for flags in (WRITE, READ):
            handle = client.open(self.path("f"), flags)
            self.assertEqual(client.status("write", *write_request(handle, NEW_CONTENT)), PERMISSION_DENIED)
            self.assertEqual(client.status("close", handle), OK)

    def test_a_session_that_may_not_write_empties_no_file(self) -> None:
        file = self.old_file()
        client = self.client(deny=["write"])
        handle = client.open(self.path("f"), WRITE | TRUNC)
        self.assertEqual(client.status("write", *write_request(handle, NEW_CONTENT)), PERMISSION_DENIED)
        self.assertEqual(client.status("close", handle), FAILURE)
        self.assertEqual(file.read_bytes(), OLD_CONTENT)

    def test_a_copy_whose_source_cannot_be_read_is_not_put_in_place(self) -> None:
        file = self.old_file()
        (self.top / "source").write_bytes(bytes(300_000))
        client = self.client()
        reading, writing = client.open(self.path("source")), client.open(self.path("f"), WRITE | TRUNC)
        copy = mock.Mock(side_effect=[1000, None])
        with mock.patch("os.copy_file_range", copy), mock.patch("os.pread", failing()):
            reply = client.status("copy-data", reading, u64(0), u64(0), writing, u64(0))
        self.assertEqual((reply, copy.call_count), (FAILURE, 2))
        self.assertEqual(client.status("close", writing), FAILURE)
        self.assertEqual((file.read_bytes(), self.temporary()), (OLD_CONTENT, []))

    def test_a_copy_that_meets_the_end_of_its_source_is_the_clients_affair(self) -> None:
        (self.top / "source").write_bytes(NEW_CONTENT)
        client = self.client()
        reading, writing = client.open(self.path("source")), client.open(self.path("f"), WRITE | CREAT)
        client.status("copy-data", reading, u64(0), u64(1 << 20), writing, u64(0))
        self.assertEqual(client.status("close", writing), OK)
        self.assertEqual((self.top / "f").read_bytes(), NEW_CONTENT)

    def test_an_upload_that_cannot_be_put_in_place_is_taken_away(self) -> None:
        for flags in (NEW, ONLY_NEW):
            handle = self.storage.open(self.path("d"), flags, 0o666)
            (self.top / "d").mkdir()
            (self.top / "d" / "f").touch()
            with self.assertRaises(OSError):
                self.storage.close(handle)
            self.assertEqual((self.names(), self.temporary()), (["d"], []))
            (self.top / "d" / "f").unlink()
            (self.top / "d").rmdir()

    def test_an_upload_whose_file_somebody_removed_fails(self) -> None:
        self.old_file()
        handle = self.storage.open(self.path("f"), NEW, 0o666)
        (self.top / self.temporary()[0]).unlink()
        self.assert_not_put_in_place(handle, FileNotFoundError)
        handle = self.storage.open(self.path("f"), NEW, 0o666)
        (self.top / self.temporary()[0]).unlink()
        self.storage.abandon(handle)

    def test_a_file_that_somebody_put_in_an_uploads_place_is_not_published_and_stays(self) -> None:
        self.old_file()
        for ends in (self.storage.close, self.storage.abandon):
            handle = self.storage.open(self.path("f"), NEW, 0o666)
            there = self.top / self.temporary()[0]
            (self.top / "theirs").write_bytes(b"half")
            (self.top / "theirs").rename(there)
            with self.assertRaises(FileNotFoundError):
                self.storage.open(self.path("f"), NEW, 0o666)
            with contextlib.suppress(FileNotFoundError):
                ends(handle)
            self.assertEqual((there.read_bytes(), (self.top / "f").read_bytes()), (b"half", OLD_CONTENT))
            there.unlink()

    def test_an_upload_that_fails_after_it_was_renamed_leaves_the_next_one_alone(self) -> None:
        other, handles = self.make_storage(), []
        fsync = os.fsync

        def fails(descriptor: int) -> None:
            fsync(descriptor)
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                handles.append(other.open(self.path("f"), NEW, 0o666))
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        handle = self.storage.open(self.path("f"), NEW, 0o666)
        with mock.patch("os.fsync", fails):
            self.storage.fsync(handle)
            with self.assertRaises(OSError):
                self.storage.close(handle)
        other.write(handles[0], 0, NEW_CONTENT)
        other.close(handles[0])
        self.assertEqual((self.top / "f").read_bytes(), NEW_CONTENT)

    def test_what_others_have_put_at_the_temporary_name_stops_no_upload(self) -> None:
        def file(path: Path) -> None:
            path.write_bytes(b"half")

        def link(path: Path) -> None:
            path.symlink_to("f")

        there = self.top / os.fsdecode(temporary.locked_name(b"f"))
        for make in (Path.mkdir, os.mkfifo, link, file):
            self.old_file()
            make(there)
            uid = os.getuid() + (make is file)  # then it is another user's
            with self.subTest(make), mock.patch("os.geteuid", return_value=uid):
                self.upload("f")
                self.assertEqual((self.top / "f").read_bytes(), NEW_CONTENT)
                self.assertEqual(self.temporary(), [there.name])
            there.rmdir() if make is Path.mkdir else there.unlink()

    def test_a_handle_whose_close_fails_breaks_the_file_and_leaves_no_descriptor(self) -> None:
        close = os.close
        for order in (1, -1):
            handles = [self.storage.open(self.path("f"), NEW, 0o666) for _ in range(2)][::order]
            fails = max(handles)

            def broken(descriptor: int, fails: int = fails) -> None:
                close(descriptor)
                if descriptor == fails:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))

            failed = 0
            with mock.patch("pysftpserver.storage.os.close", broken):
                for handle in handles:
                    try:
                        self.storage.close(handle)
                    except (OSError, SFTPFailure):
                        failed += 1
            self.assertEqual(failed, 2 if order == -1 else 1)
            self.assertEqual(self.names(), [] if order == -1 else ["f"])
            (self.top / "f").unlink(missing_ok=True)

    def test_whatever_fails_while_an_upload_is_opened_leaves_no_file_and_no_descriptor(self) -> None:
        # That no descriptor is left is looked at when the test ends.
        file = self.old_file()
        calls = ("os.open", "os.fchmod", "os.fchown", "os.fstat", "os.urandom", "fcntl.flock", "os.getxattr")
        for call in calls:
            whole = getattr(sys.modules[call.split(".")[0]], call.split(".")[1])
            for attempt in range(1, 12):
                fails = _Nth(whole, attempt)
                with self.subTest(call, attempt=attempt), mock.patch(call, fails):
                    try:
                        handle = self.storage.open(self.path("f"), NEW, 0o666)
                    except OSError:
                        self.assertEqual(self.temporary(), [])
                    else:
                        self.storage.abandon(handle)
                if fails.count < attempt:
                    break
        self.assertEqual((self.names(), file.read_bytes()), (["f"], OLD_CONTENT))

    def test_an_old_file_that_cannot_be_closed_leaves_no_upload_without_a_handle(self) -> None:
        file = self.old_file()
        close = os.close

        def broken(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            close(descriptor)
            if path == str(file):
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        with mock.patch("os.close", broken):
            handle = self.storage.open(self.path("f"), NEW, 0o666)
        self.storage.abandon(handle)

    def test_whatever_fails_while_an_upload_is_closed_leaves_one_whole_file(self) -> None:
        for flags in (NEW, ONLY_NEW):
            for call in (
                "os.rename",
                "os.dup",
                "os.fsync",
                "os.open",
                "pysftpserver.uploads.atomic.rename_noreplace",
            ):
                with self.subTest(call, flags=bin(flags)):
                    if flags == NEW:
                        self.old_file()
                    handle = self.storage.open(self.path("f"), flags, 0o666)
                    self.storage.write(handle, 0, NEW_CONTENT)
                    self.storage.fsync(handle)
                    with mock.patch(call, failing()):
                        try:
                            self.storage.close(handle)
                        except OSError:
                            pass
                    whole = [NEW_CONTENT, OLD_CONTENT] if flags == NEW else [NEW_CONTENT, None]
                    file = self.top / "f"
                    self.assertIn(file.read_bytes() if file.exists() else None, whole)
                    self.assertEqual(self.temporary(), [])
                    file.unlink(missing_ok=True)

    def test_a_file_system_that_cannot_lock_refuses_the_upload(self) -> None:
        with mock.patch("fcntl.flock", failing(errno.ENOLCK)):
            with self.assertRaises(OSError):
                self.storage.open(self.path("f"), NEW, 0o666)
        self.assertEqual(self.temporary(), [])

    def test_an_upload_is_synced_if_it_replaces_a_file_or_the_client_asks(
        self,
    ) -> None:
        synced: list[str] = []

        def fsync(descriptor: int) -> None:
            synced.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

        cases = (("f", False, []), ("f", False, ["file"]), ("g", True, ["file", "file", "directory"]))
        for name, asks, expected in cases:
            handle = self.storage.open(self.path(name), NEW, 0o666)
            with mock.patch("os.fsync", fsync):
                if asks:
                    self.storage.fsync(handle)
                self.storage.close(handle)
            self.assertEqual(synced, expected)
            synced.clear()

    def test_a_file_is_synced_before_it_is_renamed_over_another(self) -> None:
        for name in ("new", "new2", "old"):
            (self.top / name).write_bytes(OLD_CONTENT)
        with mock.patch("os.fsync") as fsync:
            self.storage.rename(self.path("new"), self.path("free"), replace=True)
            self.assertEqual(fsync.call_count, 0)
            self.storage.rename(self.path("new2"), self.path("old"), replace=True)
        self.assertEqual(fsync.call_count, 1)


class _Nth:
    """Calls a function, but raises at the nth call."""

    def __init__(self, function: Any, number: int) -> None:
        self.function, self.number = function, number
        self.count = 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.count += 1
        if self.count == self.number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self.function(*arguments, **named)


class PlainStorage(FailureRules, OnThePlainStorage):
    """All of them on the file system as it is."""


class Jail(FailureRules, InAJail):
    """All of them in a jail."""


class JailWithTheWalk(FailureRules, InAJailWithTheWalk):
    """All of them in a jail on a kernel without openat2."""


class Overridden(OnThePlainStorage):
    def test_what_a_subclass_does_when_files_are_closed_is_done_when_they_are_abandoned(self) -> None:
        closed = []

        class Counting(atomic.SFTPAtomicStorage):
            def close(self, handle: int) -> None:
                closed.append(handle)
                super().close(handle)

        self.old_file()
        storage = Counting(self.top)
        for flags in (os.O_RDONLY, os.O_WRONLY, NEW):
            storage.abandon(storage.open(self.path("f"), flags, 0o666))
        self.assertEqual(len(closed), 3)

    def test_storages_of_which_half_a_file_is_kept_answer_a_close_as_ever(self) -> None:
        self.storage = SFTPServerStorage(self.top)  # type: ignore[assignment]
        client = self.client(deny=["write"])
        handle = client.open(self.path("f"), WRITE | CREAT)
        self.assertEqual(client.status("write", *write_request(handle, NEW_CONTENT)), PERMISSION_DENIED)
        self.assertEqual(client.status("close", handle), OK)


UPLOAD = """
import os, sys
from pysftpserver.uploads.atomic import SFTPAtomicStorage
storage = SFTPAtomicStorage(sys.argv[1])
"""


class AsAnotherUser(CommandCase):
    """For whom permissions of files count."""

    def upload(self, code: str) -> str:
        done = self.run_argv(["-c", UPLOAD + code, str(self.jail)], obedient=True)
        self.assertEqual(done.stderr.decode(), "")
        return done.stdout.decode().strip()

    def test_a_file_in_a_directory_that_cannot_be_written_to_cannot_be_replaced(self) -> None:
        (self.jail / "f").write_bytes(OLD_CONTENT)
        os.chmod(self.jail, 0o555)
        self.addCleanup(os.chmod, self.jail, 0o755)
        said = self.upload("""
for flags in (os.O_TRUNC, os.O_CREAT | os.O_TRUNC):
    try:
        storage.open(os.fsencode(sys.argv[1]) + b"/f", os.O_WRONLY | flags, 0o666)
    except PermissionError:
        print("refused")
handle = storage.open(os.fsencode(sys.argv[1]) + b"/f", os.O_WRONLY | os.O_CREAT, 0o666)
storage.write(handle, 0, b"THE")
storage.close(handle)
""")
        self.assertEqual(said, "refused\nrefused")
        self.assertEqual(((self.jail / "f").read_bytes(), os.listdir(self.jail)), (b"THE old content", ["f"]))

    def test_a_file_that_may_not_be_written_to_is_not_replaced(self) -> None:
        (self.jail / "f").write_bytes(OLD_CONTENT)
        os.chmod(self.jail / "f", 0o444)
        said = self.upload("""
try:
    storage.open(os.fsencode(sys.argv[1]) + b"/f", os.O_WRONLY | os.O_TRUNC, 0o666)
except PermissionError:
    print("refused")
""")
        self.assertEqual((said, (self.jail / "f").read_bytes()), ("refused", OLD_CONTENT))

    def test_an_upload_works_where_the_directory_may_not_be_read(self) -> None:
        os.chmod(self.jail, 0o333)
        self.addCleanup(os.chmod, self.jail, 0o755)
        self.upload("""
print(storage.remove_leftovers())
handle = storage.open(os.fsencode(sys.argv[1]) + b"/f", os.O_WRONLY | os.O_CREAT, 0o666)
storage.write(handle, 0, b"new")
storage.fsync(handle)
storage.close(handle)
""")
        os.chmod(self.jail, 0o755)
        self.assertEqual((os.listdir(self.jail), (self.jail / "f").read_bytes()), (["f"], NEW_CONTENT))

    def test_as_many_uploads_as_a_session_may_have_open_find_descriptors(self) -> None:
        said = self.upload("""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from pysftpserver.engine.limits import Limits
top = os.fsencode(sys.argv[1])
handles = [storage.open(top + b"/f%d" % n, os.O_WRONLY | os.O_CREAT, 0o666) for n in range(Limits().handles)]
for handle in handles:
    storage.close(handle)
print(len(handles), len(os.listdir(top)))
""")
        count, there = map(int, said.split())
        self.assertEqual(count, there)
        self.assertGreater(count, 10)
