"""Uploads that appear whole: what a file is before, while and after it is written, on all storages."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from typing import Any
from unittest import mock

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.uploads import atomic
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from tests.support.packets import CREAT, FAILURE, OK, READ, TRUNC, WRITE, request, string, u64
from tests.support.processes import open_descriptors
from tests.support.uploads import (
    NEW,
    NEW_CONTENT,
    OLD_CONTENT,
    ONLY_NEW,
    InAJail,
    InAJailWithTheWalk,
    OnAStorage,
    OnThePlainStorage,
    access_list,
    write_request,
)
from tests.support.waiting import until

TYPE_CHECKING = False
Base = OnAStorage if TYPE_CHECKING else object  # no case by itself: the storage comes with the last classes

BOTH = os.O_RDWR | os.O_CREAT | os.O_TRUNC
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


class AppearingRules(Base):
    """When a file is there, and with what in it."""

    def test_a_new_file_is_not_there_before_it_is_closed(self) -> None:
        handle = self.storage.open(self.path("f"), NEW, 0o666)
        self.storage.write(handle, 0, b"half")
        self.assertEqual(self.names(), [])
        with self.assertRaises(FileNotFoundError):
            self.storage.stat(self.path("f"))
        self.storage.write(handle, 4, b" and half")
        self.storage.close(handle)
        self.assertEqual((self.top / "f").read_bytes(), b"half and half")

    def test_a_file_that_is_emptied_keeps_its_content_until_it_is_closed(self) -> None:
        file = self.old_file()
        for flags in (NEW, os.O_WRONLY | os.O_TRUNC, BOTH, NEW | os.O_APPEND):
            with self.subTest(flags=bin(flags)):
                file.write_bytes(OLD_CONTENT)
                handle = self.storage.open(self.path("f"), flags, 0o666)
                self.storage.write(handle, 0, NEW_CONTENT)
                self.assertEqual(file.read_bytes(), OLD_CONTENT)
                self.storage.close(handle)
                self.assertEqual(file.read_bytes(), NEW_CONTENT)

    def test_who_has_the_old_file_open_keeps_all_of_it(self) -> None:
        self.old_file()
        reader = self.storage.open(self.path("f"), os.O_RDONLY, 0)
        self.upload("f")
        self.assertEqual(self.storage.read(reader, 0, 100), OLD_CONTENT)
        self.storage.close(reader)

    def test_who_looks_all_the_time_never_sees_half_a_file(self) -> None:
        wholes = [bytes([letter]) * self.order.randrange(1, 200_000) for letter in b"abcdefgh"]
        (self.top / "f").write_bytes(wholes[0])
        odd: list[bytes] = []
        looks = 0
        done = threading.Event()

        def look() -> None:
            nonlocal looks
            while not done.is_set():
                content = (self.top / "f").read_bytes()
                looks += 1
                if content not in wholes:
                    odd.append(content[:20] + b"... of %d" % len(content))

        def upload() -> bool:
            content = self.order.choice(wholes)
            handle = self.storage.open(self.path("f"), NEW, 0o666)
            for at in range(0, len(content), 30_000):
                self.storage.write(handle, at, content[at : at + 30_000])
            self.storage.close(handle)
            return looks > 10

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            for _ in range(60):
                upload()
            until(upload, "somebody looks")
        finally:
            done.set()
            watcher.join()
        self.assertEqual(odd, [], f"seed {self.seed}")

    def test_a_file_that_is_not_emptied_is_written_in_place(self) -> None:
        file = self.old_file()
        inode = file.stat().st_ino
        for flags, expected in (
            (os.O_WRONLY | os.O_CREAT, b"THE old content"),
            (os.O_RDWR | os.O_CREAT, b"THE old content"),
            (os.O_WRONLY | os.O_CREAT | os.O_APPEND, b"THE old contentTHE"),
        ):
            handle = self.storage.open(self.path("f"), flags, 0o600)
            self.storage.write(handle, 0, b"THE")
            self.assertEqual((file.read_bytes(), self.temporary()), (expected, []))
            self.storage.close(handle)
            self.assertEqual((file.read_bytes(), file.stat().st_ino), (expected, inode))

    def test_a_file_that_is_not_emptied_is_opened_once_whatever_becomes_of_its_name(self) -> None:
        file = self.old_file()
        open_it = SFTPServerStorage.open

        def then_removed(*arguments: Any) -> int:
            descriptor = open_it(*arguments)
            os.unlink(file)  # which fails when it is called again
            return descriptor

        with mock.patch.object(SFTPServerStorage, "open", then_removed):
            handle = self.storage.open(self.path("f"), os.O_WRONLY | os.O_CREAT, 0o666)
            self.storage.close(handle)
        self.assertEqual(self.names(), [], "made anew in place")

    def test_a_file_that_another_session_is_uploading_is_refused_until_that_has_ended(self) -> None:
        other = self.make_storage()
        for end in (self.storage.close, self.storage.abandon):
            handle = self.storage.open(self.path("f"), NEW, 0o666)
            for flags in (NEW, ONLY_NEW, os.O_RDWR | os.O_CREAT):
                with self.assertRaisesRegex(SFTPFailure, "^Another session is uploading this file"):
                    other.open(self.path("f"), flags, 0o666)
            other.close(other.open(self.path("g"), NEW, 0o666))
            self.storage.write(handle, 0, b"1" * 50)
            end(handle)
            with mock.patch.object(self, "storage", other):
                self.upload("f")
            self.assertEqual((self.top / "f").read_bytes(), NEW_CONTENT)
            (self.top / "f").unlink()

    def test_segments_that_are_written_to_several_handles_make_one_file(self) -> None:
        for old in (False, True):
            file = self.old_file() if old else self.top / "f"
            ways = (NEW, os.O_WRONLY | os.O_CREAT, os.O_WRONLY, os.O_RDWR)
            handles = [self.storage.open(self.path("f"), flags, 0o666) for flags in ways]
            for number, handle in enumerate(handles):
                self.storage.write(handle, 10 * number, b"%d" % number * 10)
            self.order.shuffle(handles)
            for handle in handles:
                self.assertEqual(file.read_bytes() if old else file.exists(), OLD_CONTENT if old else False)
                self.storage.close(handle)
            self.assertEqual(file.read_bytes(), b"0" * 10 + b"1" * 10 + b"2" * 10 + b"3" * 10)
            file.unlink()

    def test_a_segment_that_could_not_be_written_breaks_the_file_for_all_its_handles(self) -> None:
        handles = [self.storage.open(self.path("f"), NEW, 0o666) for _ in range(3)]
        self.storage.spoil(handles[1])
        for handle in handles:
            with self.assertRaisesRegex(SFTPFailure, "^Not put in place"):
                self.storage.close(handle)
        handles = [self.storage.open(self.path("f"), NEW, 0o666) for _ in range(2)]
        self.storage.abandon(handles[0])
        self.assertRaises(SFTPFailure, self.storage.close, handles[1])
        self.assertEqual(self.names(), [])

    def test_a_file_that_is_being_uploaded_is_known_by_its_directory_and_its_name(self):
        (self.top / "d").mkdir()
        os.symlink("d", self.top / "link")
        first = self.storage.open(self.path("d/f"), NEW, 0o666)
        with self.assertRaises(FileExistsError):
            self.storage.open(self.path("link/f"), ONLY_NEW, 0o666)
        other = self.storage.open(self.path("f"), NEW, 0o666)
        again = self.storage.open(self.path("link/f"), os.O_WRONLY | os.O_CREAT, 0o666)
        for handle, content in ((first, b"1"), (other, b"2"), (again, b"3")):
            self.storage.write(handle, 0, content)
            self.storage.close(handle)
        self.assertEqual(((self.top / "d/f").read_bytes(), (self.top / "f").read_bytes()), (b"3", b"2"))

    def test_an_abandoned_upload_leaves_nothing_and_the_old_file(self) -> None:
        file = self.old_file()
        for name in ("f", "g"):
            handle = self.storage.open(self.path(name), NEW, 0o666)
            self.storage.write(handle, 0, NEW_CONTENT)
            self.storage.abandon(handle)
        self.assertEqual((self.names(), file.read_bytes()), (["f"], OLD_CONTENT))

    def test_an_abandoned_handle_of_a_file_in_place_is_closed(self) -> None:
        file = self.old_file()
        handle = self.storage.open(self.path("f"), os.O_WRONLY, 0)
        self.storage.write(handle, 0, b"THE")
        self.storage.abandon(handle)
        self.assertEqual(file.read_bytes(), b"THE old content")

    def test_a_session_that_ends_leaves_only_what_was_closed(self) -> None:
        file = self.old_file()
        client = self.client()
        for name in ("closed", "f", "new"):
            handle = client.open(self.path(name), WRITE | CREAT | TRUNC)
            self.assertEqual(client.status("write", *write_request(handle, NEW_CONTENT)), OK)
            if name == "closed":
                self.assertEqual(client.status("close", handle), OK)
        client.server.close()
        self.assertEqual((self.names(), self.temporary()), (["closed", "f"], []))
        self.assertEqual(file.read_bytes(), OLD_CONTENT)


class ExclusiveRules(Base):
    def test_an_exclusive_upload_needs_a_free_name(self) -> None:
        file = self.old_file()
        (self.top / "dangling").symlink_to("missing")
        (self.top / "d").mkdir()
        for name in ("f", "dangling", "d", "."):
            for extra in (0, os.O_TRUNC):
                with self.subTest(name), self.assertRaises(OSError):
                    self.storage.open(self.path(name), ONLY_NEW | extra, 0o666)
        self.assertEqual((self.names(), file.read_bytes()), (["d", "dangling", "f"], OLD_CONTENT))

    def test_an_exclusive_upload_appears_when_it_is_closed(self) -> None:
        self.upload("f", flags=ONLY_NEW)
        self.assertEqual((self.top / "f").read_bytes(), NEW_CONTENT)

    def test_an_exclusive_upload_replaces_nothing_that_came_meanwhile(self) -> None:
        for number in (None, errno.ENOSYS, errno.EINVAL):  # a file system without the call, too
            refusal = None if number is None else OSError(number, os.strerror(number))
            how = atomic.rename_noreplace if refusal is None else mock.Mock(side_effect=refusal)
            with self.subTest(number), mock.patch.object(atomic, "rename_noreplace", how):
                handle = self.storage.open(self.path("f"), ONLY_NEW, 0o666)
                self.storage.write(handle, 0, NEW_CONTENT)
                file = self.old_file()
                with self.assertRaises(FileExistsError):
                    self.storage.close(handle)
                self.assertEqual((file.read_bytes(), self.temporary()), (OLD_CONTENT, []))
                file.unlink()
                self.upload("f", flags=ONLY_NEW)
                self.assertEqual((file.read_bytes(), self.temporary()), (NEW_CONTENT, []))
                file.unlink()


class AttributeRules(Base):
    def test_what_replaces_a_file_has_its_permissions_owner_and_group(self) -> None:
        file = self.old_file()
        if os.getuid() == 0:
            os.chown(file, 1234, 2345)
        for mode in (0o600, 0o640, 0o2640, 0o777, 0o1644):
            os.chmod(file, mode)
            before = file.stat()
            self.upload("f", mode=0o611)
            after = file.stat()
            self.assertNotEqual(after.st_ino, before.st_ino)
            self.assertEqual((after.st_uid, after.st_gid), (before.st_uid, before.st_gid))
            if os.getuid() == 0:  # others may not set every bit
                self.assertEqual(oct(after.st_mode), oct(before.st_mode))

    def test_what_replaces_a_program_is_not_set_uid_or_set_gid(self) -> None:
        file = self.old_file()
        for mode, expected in ((0o4755, 0o755), (0o2755, 0o755), (0o6755, 0o755), (0o4644, 0o644)):
            os.chmod(file, mode)
            self.upload("f")
            self.assertEqual(oct(stat.S_IMODE(file.stat().st_mode)), oct(expected))

    def test_a_group_or_an_owner_that_cannot_be_given_leaves_nobody_with_more(self) -> None:
        file = self.old_file()
        refused = mock.Mock(side_effect=PermissionError(errno.EPERM, "no"))
        for mode, expected in ((0o660, 0o600), (0o664, 0o644), (0o6775, 0o755), (0o646, 0o666)):
            os.chmod(file, mode)
            with mock.patch.object(atomic.os, "fchown", refused):
                handle = self.storage.open(self.path("f"), NEW, 0o666)
            self.assertEqual(oct(self.storage.fstat(handle).permissions or 0), oct(stat.S_IFREG | expected))
            self.storage.close(handle)

    def test_nobody_else_can_open_the_new_file_before_it_is_like_the_old_one(self) -> None:
        file = self.old_file()
        os.chmod(file, 0o640)
        modes = []

        def look(descriptor: int, old: int) -> int:
            modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
            return 0o640

        with mock.patch.object(atomic, "_make_alike", look):
            self.upload("f", mode=0o666)
        self.assertEqual(modes, [0o600])

    def test_other_users_cannot_open_an_upload_and_so_not_lock_what_is_left_of_it(self) -> None:
        os.chmod(self.old_file("old"), 0o664)
        for name, asked, expected in (("old", None, 0o664), ("new", None, 0o644), ("newer", 0o604, 0o604)):
            handle = self.storage.open(self.path(name), NEW, 0o644)
            if asked is not None:
                self.storage.fsetstat(handle, SFTPAttributes(permissions=asked))
            self.assertEqual(
                oct(self.storage.fstat(handle).permissions or 0), oct(stat.S_IFREG | expected), name
            )
            (temporary,) = self.temporary()
            self.assertEqual(stat.S_IMODE(os.stat(self.top / temporary).st_mode) & 0o077, 0, name)
            self.storage.close(handle)
            self.assertEqual(oct(stat.S_IMODE(os.stat(self.top / name).st_mode)), oct(expected), name)

    def test_the_mode_of_a_new_file_is_what_the_umask_leaves(self) -> None:
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)
        for umask, mode, expected in (
            (None, 0o666, 0o600),
            (0o022, 0o666, 0o644),
            (0o027, 0o777, 0o750),
            (0, 0o666, 0o666),
            (0o177, 0o644, 0o600),
            (0o022, 0o444, 0o444),
        ):
            for flags in (NEW, ONLY_NEW, os.O_RDWR | os.O_CREAT):
                with self.subTest(umask=umask, mode=oct(mode), flags=bin(flags)):
                    self.storage = self.make_storage(umask)
                    self.upload("f", flags=flags, mode=mode)
                    self.assertEqual(oct(stat.S_IMODE((self.top / "f").stat().st_mode)), oct(expected))
                    os.unlink(self.top / "f")

    def test_an_access_control_list_goes_with_the_content(self) -> None:
        file = self.old_file()
        entries = access_list(user=6, named_1234=6, group=0, mask=6, other=0)
        self.set_list(file, ACCESS, entries)
        self.upload("f")
        self.assertEqual(os.getxattr(file, ACCESS), entries, "its group has got what named users had")

    def test_the_list_of_a_directory_is_not_put_on_a_file_that_had_none(self) -> None:
        file = self.old_file()
        os.chmod(file, 0o640)
        entries = access_list(user=7, named_1234=7, group=7, mask=7, other=7)
        self.set_list(self.top, DEFAULT, entries)
        self.upload("f")
        self.assertEqual(oct(stat.S_IMODE(file.stat().st_mode)), oct(0o640))
        with self.assertRaises(OSError) as raised:
            os.getxattr(file, ACCESS)
        self.assertEqual(raised.exception.errno, errno.ENODATA)

    def set_list(self, path: os.PathLike[str], kind: str, entries: bytes) -> None:
        try:
            os.setxattr(path, kind, entries)
        except OSError as error:
            self.assertEqual(error.errno, errno.EOPNOTSUPP)
            self.skipTest("this file system has no access control lists")


class LinkRules(Base):
    def test_what_a_link_leads_to_is_replaced_and_the_link_stays(self) -> None:
        (self.top / "d").mkdir()
        target = self.old_file("d/f")
        (self.top / "relative").symlink_to("d/f")
        (self.top / "absolute").symlink_to(os.fsdecode(self.path("d/f")))
        (self.top / "both").symlink_to("d/../relative")
        (self.top / "to-d").symlink_to("d")
        for name in ("relative", "absolute", "both", "to-d/f"):
            target.write_bytes(OLD_CONTENT)
            self.upload(name, name.encode())
            self.assertEqual(target.read_bytes(), name.encode())
        self.assertEqual(self.names(), ["absolute", "both", "d", "relative", "to-d"])
        self.assertTrue((self.top / "both").is_symlink())

    def test_a_file_is_made_at_the_end_of_a_dangling_link(self) -> None:
        (self.top / "d").mkdir()
        (self.top / "link").symlink_to("d/new")
        self.upload("link")
        self.assertEqual((self.top / "d" / "new").read_bytes(), NEW_CONTENT)
        self.assertTrue((self.top / "link").is_symlink())

    def test_links_that_lead_nowhere_are_refused(self) -> None:
        (self.top / "loop").symlink_to("loop")
        (self.top / "no-directory").symlink_to("missing/f")
        (self.top / "slash").symlink_to("missing/")
        (self.top / "dot").symlink_to("missing/.")
        for name in ("loop", "loop/f", "no-directory", "slash", "dot"):
            with self.subTest(name), self.assertRaises(OSError):
                self.storage.open(self.path(name), NEW, 0o666)

    def test_a_link_to_outside_leads_to_the_inside_of_a_jail(self) -> None:
        outside = self.place / "outside"
        outside.write_bytes(OLD_CONTENT)
        (self.top / "up").symlink_to("../outside")
        (self.top / "absolute").symlink_to(outside)
        if self.kind is not SFTPAtomicVirtualChroot:
            return self.upload("up", OLD_CONTENT)  # the plain storage follows it, as it may
        self.upload("up")
        self.assertEqual((self.top / "outside").read_bytes(), NEW_CONTENT)
        with self.assertRaises(FileNotFoundError):
            self.upload("absolute")
        self.assertEqual((outside.read_bytes(), len(os.listdir(self.place))), (OLD_CONTENT, 2))

    def test_an_upload_ends_in_the_directory_where_it_was_opened(self) -> None:
        elsewhere = self.place / "elsewhere"
        elsewhere.mkdir()
        for replaced in (False, True):
            (self.top / "d").mkdir()
            handle = self.storage.open(self.path("d/f"), NEW, 0o666)
            os.rename(self.top / "d", self.top / "moved")
            if replaced:
                (self.top / "d").symlink_to(elsewhere)
            self.storage.write(handle, 0, NEW_CONTENT)
            self.storage.close(handle)
            self.assertEqual((self.top / "moved" / "f").read_bytes(), NEW_CONTENT)
            os.unlink(self.top / "moved" / "f")
            os.rmdir(self.top / "moved")
        self.assertEqual((os.listdir(elsewhere), self.names()), ([], ["d"]))

    def test_an_upload_into_a_directory_that_was_removed_fails(self) -> None:
        (self.top / "d").mkdir()
        for remade in (False, True):
            handle = self.storage.open(self.path("d/f"), NEW, 0o666)
            for name in os.listdir(self.top / "d"):
                os.unlink(self.top / "d" / name)
            os.rmdir(self.top / "d")
            if remade:
                (self.top / "d").mkdir()
            self.storage.write(handle, 0, NEW_CONTENT)
            with self.assertRaises(FileNotFoundError):
                self.storage.close(handle)
            (self.top / "d").mkdir(exist_ok=True)
            self.assertEqual(os.listdir(self.top / "d"), [])


class NameRules(Base):
    def test_what_is_no_name_of_a_file_is_refused(self) -> None:
        (self.top / "d").mkdir()
        self.old_file()
        names = ("d", "d/", "d/.", "d/..", ".", "..", "", "f/", "f/.", "new/", "new/.", "new/..", "f/new")
        for name in names:
            for flags in (NEW, NEW | os.O_EXCL, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_CREAT):
                with self.subTest(name, flags=bin(flags)), self.assertRaises(OSError):
                    self.storage.open(self.path(name), flags, 0o666)
        with self.assertRaises(FileNotFoundError):
            self.storage.open(b"", NEW, 0o666)
        self.assertEqual(self.names(), ["d", "f"])

    def test_a_name_may_be_as_long_as_the_file_system_has_them(self) -> None:
        self.upload("x" * 255)
        self.assertEqual(self.names(), ["x" * 255])
        with self.assertRaises(OSError) as raised:
            self.storage.open(self.path("x" * 256), NEW, 0o666)
        self.assertEqual(raised.exception.errno, errno.ENAMETOOLONG)

    def test_a_path_may_be_as_long_as_the_kernel_takes_it(self) -> None:
        longest = 4095 - len(self.path(""))
        for name in (b"./" * 2000 + b"f", b"d/" * 1000 + b"f"):
            name = b"/" * (longest - len(name)) + name
            path = self.path(name)
            self.assertEqual(len(path), 4095)
            if b"d/" in name:
                with self.assertRaises(FileNotFoundError):
                    self.storage.open(path, NEW, 0o666)
            elif len(name) == longest:
                self.storage.close(self.storage.open(path, NEW, 0o666))
                with self.assertRaises(OSError) as raised:
                    self.storage.open(path + b"f", NEW, 0o666)
                self.assertEqual(raised.exception.errno, errno.ENAMETOOLONG)
        self.assertEqual(self.names(), ["f"])

    def test_a_fifo_is_written_to_and_not_replaced(self) -> None:
        os.mkfifo(self.top / "fifo")
        with self.assertRaises(OSError) as raised:
            self.storage.open(self.path("fifo"), NEW, 0o666)  # as everywhere: nobody reads
        self.assertEqual(raised.exception.errno, errno.ENXIO)
        reader = os.open(self.top / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        with mock.patch.object(
            SFTPServerStorage, "open", autospec=True, side_effect=SFTPServerStorage.open
        ) as opened:
            handle = self.storage.open(self.path("fifo"), NEW, 0o666)
        self.assertEqual(opened.call_count, 1, "opened and closed for a look, which to a reader is its end")
        os.write(handle, b"through")
        self.storage.close(handle)
        self.assertEqual(os.read(reader, 100), b"through")
        self.assertTrue((self.top / "fifo").is_fifo())

    def test_sockets_and_devices_are_not_replaced(self) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.fspath(self.top / "socket"))
        with self.assertRaises(OSError):
            self.storage.open(self.path("socket"), NEW, 0o666)
        self.assertTrue((self.top / "socket").is_socket())
        if os.getuid() == 0:
            os.mknod(self.top / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            self.upload("null")
            self.assertTrue((self.top / "null").is_char_device())


class HandleRules(Base):
    def test_random_writes_sizes_and_reads_do_what_they_do_in_place(self) -> None:
        handle = self.storage.open(self.path("f"), BOTH, 0o666)
        model = bytearray()
        for step in range(150):
            off, chunk = self.order.randrange(60_000), self.order.randbytes(self.order.randrange(1, 5_000))
            self.storage.write(handle, off, chunk)
            model.extend(bytes(max(0, off - len(model))))
            model[off : off + len(chunk)] = chunk
            if step % 10 == 0:
                size = self.order.randrange(65_000)
                self.storage.fsetstat(handle, SFTPAttributes(size=size))
                model[:] = model[:size] + bytes(max(0, size - len(model)))
            where = self.order.randrange(65_000)
            self.assertEqual(self.storage.read(handle, where, 500), model[where : where + 500], self.seed)
            self.assertEqual(self.storage.fstat(handle).size, len(model), self.seed)
        self.storage.fsync(handle)
        self.storage.fsetstat(handle, SFTPAttributes(permissions=0o604, atime=7, mtime=8))
        self.storage.close(handle)
        file = self.top / "f"
        self.assertEqual(file.read_bytes(), model, self.seed)
        self.assertEqual((file.stat().st_mode & 0o777, file.stat().st_mtime), (0o604, 8))

    def test_two_descriptors_a_handle_are_enough(self) -> None:
        before = open_descriptors()
        handles = [self.storage.open(self.path(f"f{n}"), NEW, 0o666) for n in range(20)]
        self.assertLessEqual(open_descriptors() - before, 2 * len(handles))
        for handle in handles:
            self.storage.close(handle)
        self.assertEqual(len(self.names()), 20)

    def test_content_is_copied_into_an_upload_by_the_kernel(self) -> None:
        source = os.urandom(300_000)
        (self.top / "source").write_bytes(source)
        client = self.client()
        reading, writing = client.open(self.path("source")), client.open(self.path("f"), WRITE | CREAT)
        with mock.patch.object(self.storage, "read", wraps=self.storage.read) as read:
            reply = client.status("copy-data", reading, u64(0), u64(0), writing, u64(0))
            self.assertEqual((reply, read.call_count), (OK, 1))  # one, for nothing, to be sure that it may
        self.assertEqual(self.names(), ["source"])
        self.assertEqual(client.status("close", writing), OK)
        self.assertEqual((self.top / "f").read_bytes(), source)

    def test_the_fast_path_serves_uploads_and_an_error_there_breaks_them(self) -> None:
        file = self.old_file()
        client = self.client(level=0)
        handle = client.open(self.path("f"), READ | WRITE | TRUNC)
        opened = client.server.handles.file(handle[4:])
        self.assertTrue(opened.takes_views)
        self.assertEqual(opened.descriptor, opened.object)
        with mock.patch("pysftpserver.engine.handlers.serve_write") as slow:
            self.assertEqual(client.status("write", *write_request(handle, NEW_CONTENT)), OK)
            failing = mock.Mock(side_effect=OSError(errno.ENOSPC, "full"))
            with mock.patch("pysftpserver.storage.os.pwrite", failing):
                client.feed(request("write", 7, handle, u64(3), string(b"more")))
            self.assertEqual((slow.call_count, failing.call_count), (0, 1))
        self.assertEqual(client.status("write", *write_request(handle, b"more", 3)), OK)
        self.assertEqual(client.status("close", handle), FAILURE)
        self.assertEqual((file.read_bytes(), self.temporary()), (OLD_CONTENT, []))


class Rules(AppearingRules, ExclusiveRules, AttributeRules, LinkRules, NameRules, HandleRules):
    """All that is to be tried on each storage."""


class PlainStorage(Rules, OnThePlainStorage):
    """All of them on the file system as it is."""


class Jail(Rules, InAJail):
    """All of them in a jail."""


class JailWithTheWalk(Rules, InAJailWithTheWalk):
    """All of them in a jail on a kernel without openat2."""
