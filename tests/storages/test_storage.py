"""The plain storage beyond the storage contract: home, umask, real files, and descriptors."""

from __future__ import annotations

import errno
import gc
import os
import pwd
import stat
from pathlib import Path
from unittest import mock

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.tree import TreeRules
from pysftpserver.host import linux
from pysftpserver.pysftpexceptions import SFTPNotFound
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.testing import (
    SFTPTestClient,
    get_sftpdata,
    get_sftphandle,
    get_sftpname,
    get_sftpstatus,
    sftpint64,
    sftpstring,
)
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.cases import InAPlace
from tests.support.hard import IS_HARD
from tests.support.uploads import descriptors

CREATE = os.O_WRONLY | os.O_CREAT
BIG = 256 << 10  # bytes; enough for a door to send the file itself and not its bytes


class InADirectory(InAPlace):
    def work_in(self, directory: Path) -> None:
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(directory)


class Home(InADirectory):
    def test_a_relative_home_is_the_directory_it_was_when_the_storage_was_made(self) -> None:
        (self.place / "home").mkdir()
        self.work_in(self.place)
        storage = SFTPServerStorage("home")
        os.chdir("/")
        self.assertEqual(storage.home, os.fsencode(self.place / "home"))
        client = SFTPTestClient(storage)
        handle = get_sftphandle(client.call("open", b"f", CREATE, 0o666))
        client.call("close", handle)
        self.assertTrue((self.place / "home" / "f").exists())

    def test_storages_with_different_homes_live_in_one_process_which_stays_where_it_is(self) -> None:
        homes = [self.place / name for name in ("one", "two")]
        for home in homes:
            home.mkdir()
        self.work_in(self.place)
        clients = [SFTPTestClient(SFTPServerStorage(home)) for home in homes]
        clients.append(SFTPTestClient(SFTPServerVirtualChroot(self.place, home=b"/two")))
        for number, client in enumerate(clients):
            handle = get_sftphandle(client.call("open", b"f%d" % number, CREATE, 0o666))
            client.call("close", handle)
        self.assertEqual(os.listdir(homes[0]), ["f0"])
        self.assertEqual(sorted(os.listdir(homes[1])), ["f1", "f2"])
        self.assertEqual(get_sftpname(clients[2].call("realpath", b".")), b"/two")
        self.assertEqual(os.getcwd(), str(self.place))

    def test_the_home_may_have_any_name(self) -> None:
        home = os.fsencode(self.place) + b"/with \xff\n"
        os.mkdir(home)
        client = SFTPTestClient(SFTPServerStorage(home))
        client.call("mkdir", b"d", 0o777)
        self.assertEqual(os.listdir(home), [b"d"])
        self.assertEqual(get_sftpname(client.call("realpath", b".")), home)

    def test_users_have_their_homes_from_the_system(self) -> None:
        storage = SFTPServerStorage(self.place)
        user = pwd.getpwuid(0)
        self.assertEqual(storage.userhome(b""), storage.home)
        self.assertEqual(storage.userhome(user.pw_name.encode()), user.pw_dir.encode())
        self.assertEqual(storage.username(0), user.pw_name.encode())
        self.assertIsNone(storage.username(4_000_000_001))
        self.assertIsNone(storage.groupname(4_000_000_001))
        for name in (b"no-such-user", b"\xff\0"):
            with self.assertRaises(SFTPNotFound):
                storage.userhome(name)


class Umask(InADirectory):
    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(os.umask, os.umask(0o027))

    def process_umask(self) -> int:
        mask = os.umask(0o077)
        os.umask(mask)
        return mask

    def mode_of_new(self, storage: SFTPAbstractServerStorage, name: str, mode: int) -> tuple[int, int]:
        """The permissions of a new file and of a new directory."""
        path = b"/" + name.encode() if storage.home == b"/" else storage.home + b"/" + name.encode()  # type: ignore[operator]
        storage.close(storage.open(path + b"-file", CREATE, mode))
        storage.mkdir(path + b"-dir", mode)
        found = (os.stat(self.place / f"{name}-{kind}").st_mode & 0o7777 for kind in ("file", "dir"))
        return next(found), next(found)

    def test_each_storage_has_its_own_and_the_process_keeps_its(self) -> None:
        for kind in (SFTPServerStorage, SFTPServerVirtualChroot):
            with self.subTest(kind.__name__):
                strict, lax, none = kind(self.place, 0o077), kind(self.place, 0), kind(self.place)
                self.assertEqual(self.process_umask(), 0o027)
                prefix = kind.__name__
                for turn in range(2):  # in turns: no call leaves anything behind for the next
                    name = f"{prefix}-{turn}"
                    self.assertEqual(self.mode_of_new(strict, name + "s", 0o777), (0o700, 0o700))
                    self.assertEqual(self.mode_of_new(lax, name + "l", 0o777), (0o777, 0o777))
                    self.assertEqual(self.mode_of_new(none, name + "n", 0o777), (0o750, 0o750))
                    self.assertEqual(self.mode_of_new(lax, name + "e", 0o640), (0o640, 0o640))
                self.assertEqual(self.process_umask(), 0o027)

    def test_a_lax_umask_does_not_change_an_existing_file(self) -> None:
        storage = SFTPServerStorage(self.place, 0)
        path = os.fsencode(self.place / "f")
        storage.close(storage.open(path, CREATE, 0o600))
        storage.close(storage.open(path, CREATE | os.O_TRUNC, 0o777))
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        with self.assertRaises(FileExistsError):
            storage.open(path, CREATE | os.O_EXCL, 0o777)

    def test_setting_permissions_is_not_subject_to_it(self) -> None:
        storage = SFTPServerStorage(self.place, 0o077)
        path = os.fsencode(self.place / "f")
        storage.close(storage.open(path, CREATE, 0o666))
        storage.setstat(path, SFTPAttributes(permissions=0o666))
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o666)


class Files(InADirectory):
    def setUp(self) -> None:
        super().setUp()
        self.storage = SFTPServerStorage(self.place)

    def path(self, name: str) -> bytes:
        return os.fsencode(self.place / name)

    def test_sparse_files_of_more_than_four_gibibytes_work(self) -> None:
        handle = self.storage.open(self.path("f"), os.O_RDWR | os.O_CREAT, 0o666)
        self.storage.write(handle, 5 << 30, b"tail")
        self.assertEqual(self.storage.fstat(handle).size, (5 << 30) + 4)
        self.assertEqual(self.storage.read(handle, (5 << 30) - 2, 100), b"\0\0tail")
        self.storage.fsetstat(handle, SFTPAttributes(size=6 << 30))
        self.storage.close(handle)
        st = os.stat(self.path("f"))
        self.assertEqual(st.st_size, 6 << 30)
        self.assertLess(st.st_blocks * 512, 1 << 20)

    def test_opening_a_fifo_does_not_wait_for_its_other_end(self) -> None:
        os.mkfifo(self.path("fifo"))
        self.storage.close(self.storage.open(self.path("fifo"), os.O_RDONLY, 0))
        with self.assertRaises(OSError) as raised:
            self.storage.open(self.path("fifo"), os.O_WRONLY, 0)
        self.assertEqual(raised.exception.errno, errno.ENXIO)

    def test_setting_attributes_continues_after_one_failed_and_reports_it(self) -> None:
        os.mkdir(self.path("d"))
        with self.assertRaises(IsADirectoryError):
            self.storage.setstat(self.path("d"), SFTPAttributes(size=0, permissions=0o711, atime=5, mtime=7))
        st = os.stat(self.path("d"))
        self.assertEqual((st.st_mode & 0o777, st.st_atime, st.st_mtime), (0o711, 5, 7))

    def test_descriptors_are_not_inherited_by_programs(self) -> None:
        handle = self.storage.open(self.path("f"), CREATE, 0o666)
        self.assertFalse(os.get_inheritable(handle))
        self.storage.close(handle)

    def test_an_entry_that_vanishes_while_it_is_listed_is_left_out(self) -> None:
        for number in range(20):
            (self.place / str(number)).touch()
        listing = self.storage.opendir(os.fsencode(self.place))
        first = [next(listing)[0] for _ in range(3)]  # both dots, and one that makes the system read ahead
        for number in range(20):
            if b"%d" % number not in first:
                (self.place / str(number)).unlink()
        self.assertEqual(list(listing), [])
        listing.close()

    def test_thousands_of_opens_and_closes_leave_the_descriptors_as_they_were(self) -> None:
        client = SFTPTestClient(self.storage)
        (self.place / "f").touch()
        before = len(descriptors())
        for _ in range(25_000 if IS_HARD else 1_500):
            client.call("close", get_sftphandle(client.call("open", b"f", os.O_RDONLY, 0)))
        for _ in range(12_500 if IS_HARD else 750):
            client.call("close", get_sftphandle(client.call("opendir", b".")))
            client.call("open", b"missing", os.O_RDONLY, 0)
            client.call("opendir", b"f")
        self.assertLessEqual(len(descriptors()), before)  # what earlier tests had may go meanwhile

    def test_a_listing_that_is_never_closed_closes_itself(self) -> None:
        before = len(descriptors())
        for _ in range(10):
            next(self.storage.opendir(os.fsencode(self.place)))
        gc.collect()
        self.assertLessEqual(len(descriptors()), before)  # what earlier tests had may go meanwhile

    def test_a_session_that_ends_closes_what_is_open(self) -> None:
        client = SFTPTestClient(self.storage)
        (self.place / "f").touch()
        before = len(descriptors())
        for _ in range(10):
            client.call("open", b"f", os.O_RDONLY, 0)
            client.call("readdir", get_sftphandle(client.call("opendir", b".")))
        client.close()
        self.assertLessEqual(len(descriptors()), before)  # what earlier tests had may go meanwhile


class RenameWhereTheKernelCannotExclude(TreeRules, InADirectory):
    """The rules of the contract again, on a file system without renameat2's RENAME_NOREPLACE."""

    number = errno.EINVAL

    def setUp(self) -> None:
        super().setUp()
        error = OSError(self.number, os.strerror(self.number))
        patch = mock.patch.object(linux, "rename_noreplace", side_effect=error)
        self.refused = patch.start()
        self.addCleanup(patch.stop)

    def make_storage(self) -> SFTPAbstractServerStorage:
        return SFTPServerVirtualChroot(self.place)

    def test_the_other_way_is_taken(self) -> None:
        self.put(b"/f", b"content")
        self.storage.rename(b"/f", b"/g")
        self.refused.assert_called_once()
        self.assertEqual(os.stat(self.place / "g").st_nlink, 1)


class RenameWhereTheKernelDoesNotKnowHow(RenameWhereTheKernelCannotExclude):
    number = errno.ENOSYS


# --- fileno() is a capability, and a subclass that overrides a method is asked through it -----------------


class Shouting(SFTPServerStorage):
    def read(self, handle: int, off: int, size: int) -> bytes:
        return super().read(handle, off, size).upper()


class Swapping(SFTPServerStorage):
    def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
        assert isinstance(chunk, bytes)  # no view for who does not know of descriptors
        super().write(handle, off, chunk.swapcase())


class SpeakingForItself(Shouting):
    """Says that its descriptors are as good as its read()."""

    def fileno(self, handle: int) -> int | None:
        return handle


class Hiding(SFTPServerStorage):
    def fileno(self, handle: int) -> int | None:
        return None


class Overriding(InADirectory):
    def client_of(self, kind: type[SFTPServerStorage]) -> SFTPTestClient:
        (self.place / "f").write_bytes(b"a" * BIG)
        client = SFTPTestClient(kind(self.place))
        self.addCleanup(client.close)
        return client

    def got(self, client: SFTPTestClient, size: int) -> bytes:
        handle = get_sftphandle(client.call("open", b"f", os.O_RDONLY, 0))
        return get_sftpdata(client.call("read", handle, 0, size))

    def test_a_read_of_ones_own_is_used_although_there_is_a_descriptor(self) -> None:
        for size in (10, 200_000):
            self.assertEqual(self.got(self.client_of(Shouting), size), b"A" * size)

    def test_a_read_put_on_the_object_is_used_too(self) -> None:
        (self.place / "f").write_bytes(b"a" * BIG)
        storage = SFTPServerStorage(self.place)
        storage.read = lambda handle, off, size: b"mine"  # type: ignore[method-assign]
        self.assertEqual(self.got(SFTPTestClient(storage), 200_000), b"mine")

    def test_a_write_of_ones_own_gets_bytes(self) -> None:
        client = self.client_of(Swapping)
        handle = get_sftphandle(client.call("open", b"f", os.O_WRONLY, 0))
        self.assertEqual(get_sftpstatus(client.call("write", handle, 0, b"abC")), 0)
        self.assertEqual((self.place / "f").read_bytes()[:4], b"ABca")

    def test_whoever_overrides_fileno_as_well_speaks_for_both(self) -> None:
        self.assertEqual(self.got(self.client_of(SpeakingForItself), 200_000), b"a" * 200_000)

    def test_a_storage_may_hide_its_descriptors(self) -> None:
        self.assertEqual(self.got(self.client_of(Hiding), 200_000), b"a" * 200_000)

    def test_copying_in_the_server_goes_through_the_methods_of_ones_own(self) -> None:
        for kind, expected in ((Shouting, b"A"), (Swapping, b"A"), (SFTPServerStorage, b"a")):
            with self.subTest(kind.__name__):
                client = self.client_of(kind)
                source = get_sftphandle(client.call("open", b"f", os.O_RDONLY, 0))
                target = get_sftphandle(client.call("open", b"copy", CREATE | os.O_TRUNC, 0o666))
                self.assertEqual(get_sftpstatus(self.copy(client, source, target)), 0)
                self.assertEqual((self.place / "copy").read_bytes(), expected * BIG)

    @staticmethod
    def copy(client: SFTPTestClient, source: bytes, target: bytes) -> bytes:
        numbers = sftpint64(0) + sftpint64(0) + sftpstring(target) + sftpint64(0)
        return client.ask(200, sftpstring(b"copy-data"), sftpstring(source), numbers)


class OldPlugin(SFTPServerStorage):
    """Its rename() knows no replace, as in plugins that are older than posix-rename."""

    def rename(self, old: bytes, new: bytes) -> None:  # type: ignore[override]
        super().rename(old, new)


class OlderPlugins(InADirectory):
    def test_a_rename_that_cannot_replace_is_not_announced_and_not_asked_to(self) -> None:
        (self.place / "f").touch()
        client = SFTPTestClient(OldPlugin(self.place))
        self.assertNotIn(b"posix-rename@openssh.com", client.extensions)
        self.assertEqual(get_sftpstatus(client.call("rename", b"f", b"g")), 0)
        self.assertTrue(stat.S_ISREG(os.stat(self.place / "g").st_mode))
        self.assertEqual(get_sftpstatus(client.call("rename", b"g", b"h", True)), 8)
