"""pysftpserver.testing: the packet helpers mean what plugins' tests expect, and the contract can fail.

What may not enter: rules of storages; they are in the contract itself.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import unittest
from io import BytesIO
from shutil import rmtree
from typing import Any

from pysftpserver import abstractstorage
from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.base import METHODS
from pysftpserver.pysftpexceptions import SFTPNotFound, SFTPUnsupported
from pysftpserver.server import *  # noqa: F403
from pysftpserver.server import (
    SSH2_FX_NO_SUCH_FILE,
    SSH2_FXF_CREAT,
    SSH2_FXP_CLOSE,
    SSH2_FXP_INIT,
    SSH2_FXP_OPEN,
    SSH2_FXP_READ,
    SSH2_FXP_STAT,
    SFTPServer,
)
from pysftpserver.testing import *  # noqa: F403
from pysftpserver.testing import (
    SFTPTestClient,
    StorageContract,
    get_sftpdata,
    get_sftphandle,
    get_sftpint,
    get_sftpint64,
    get_sftpname,
    get_sftpnames,
    get_sftppackets,
    get_sftpstat,
    get_sftpstatus,
    get_sftpstring,
    sftpattrs,
    sftpcmd,
    sftpint,
    sftpint64,
    sftpstring,
    t_path,
)
from tests.support.hard import IS_HARD
from tests.support.memory import SFTPServerMemoryStorage


class OneFile(SFTPAbstractServerStorage):
    """Written as plugins have always been."""

    def open(self, filename: bytes, flags: int, mode: int) -> Any:
        name = filename.decode()
        if name == "test":
            return BytesIO(b"This is a test file.")
        raise SFTPNotFound

    def read(self, handle: Any, off: int, size: int) -> bytes:
        data: bytes = handle.read(size)
        return data

    def close(self, handle: Any) -> None:
        handle.close()


class AsPluginsAreTested(unittest.TestCase):
    """The steps of the plugin tutorial that users know."""

    def setUp(self) -> None:
        before = os.getcwd()
        os.chdir(t_path())
        self.addCleanup(os.chdir, before)
        self.home = "home"
        if not os.path.isdir(self.home):
            os.mkdir(self.home)
        self.server = SFTPServer(OneFile(), logfile=t_path("log"), raise_on_error=True)

    def tearDown(self) -> None:
        os.chdir(t_path())
        rmtree(self.home)

    def test_read(self) -> None:
        self.server.input_queue = sftpcmd(
            SSH2_FXP_OPEN, sftpstring(b"test"), sftpint(SSH2_FXF_CREAT), sftpint(0)
        )
        self.server.process()
        handle = get_sftphandle(self.server.output_queue)

        self.server.output_queue = b""
        self.server.input_queue = sftpcmd(SSH2_FXP_READ, sftpstring(handle), sftpint64(0), sftpint(20))
        self.server.process()
        self.assertEqual(get_sftpdata(self.server.output_queue), b"This is a test file.")

        self.server.output_queue = b""
        self.server.input_queue = sftpcmd(SSH2_FXP_CLOSE, sftpstring(handle))
        self.server.process()
        self.assertEqual(get_sftpstatus(self.server.output_queue), 0)

    def test_what_a_request_raises_comes_out_of_process(self) -> None:
        self.server.input_queue = sftpcmd(
            SSH2_FXP_OPEN, sftpstring(b"other"), sftpint(SSH2_FXF_CREAT), sftpint(0)
        )
        self.assertRaises(SFTPNotFound, self.server.process)
        self.assertEqual(get_sftpstatus(self.server.output_queue), SSH2_FX_NO_SUCH_FILE)

    @classmethod
    def tearDownClass(cls) -> None:
        os.unlink(t_path("log"))
        rmtree(t_path("home"), ignore_errors=True)


class PacketHelpers(unittest.TestCase):
    def test_requests_have_their_length_type_and_id_in_front(self) -> None:
        self.assertEqual(
            sftpcmd(SSH2_FXP_STAT, sftpstring(b"/")), bytes.fromhex("0000000a1100000000000000012f")
        )
        self.assertEqual(sftpcmd(SSH2_FXP_STAT, request_id=258), bytes.fromhex("000000051100000102"))

    def test_init_has_a_version_where_others_have_an_id(self) -> None:
        self.assertEqual(sftpcmd(SSH2_FXP_INIT, sftpint(3)), bytes.fromhex("000000050100000003"))

    def test_numbers_and_strings_are_undone_by_their_counterparts(self) -> None:
        self.assertEqual(get_sftpint(sftpint(4_000_000_000)), 4_000_000_000)
        self.assertEqual(get_sftpint64(sftpint64(1 << 63)), 1 << 63)
        self.assertEqual(get_sftpstring(sftpstring(b"a\xff\0")), b"a\xff\0")

    def test_attributes_go_both_ways(self) -> None:
        storage = SFTPServerMemoryStorage()
        client = SFTPTestClient(storage)
        attrs = SFTPAttributes(permissions=0o751, atime=1, mtime=2)
        client.send(sftpcmd(SSH2_FXP_OPEN, sftpstring(b"/f"), sftpint(0x1A), sftpattrs(attrs)))
        client.call("setstat", b"/f", attrs)
        got = get_sftpstat(client.call("stat", b"/f"))
        self.assertEqual(((got.permissions or 0) & 0o7777, got.atime, got.mtime, got.size), (0o751, 1, 2, 0))

    def test_another_reply_than_expected_is_named(self) -> None:
        client = SFTPTestClient(SFTPServerMemoryStorage())
        reply = client.call("stat", b"/missing")
        with self.assertRaisesRegex(AssertionError, r"expected a ATTRS reply, got STATUS 2 \(No such file\)"):
            get_sftpstat(reply)
        with self.assertRaisesRegex(AssertionError, "expected one STATUS reply, got 2 packets"):
            get_sftpstatus(reply * 2)
        with self.assertRaisesRegex(AssertionError, "expected one DATA reply, got 0 packets"):
            get_sftpdata(b"")

    def test_several_replies_are_taken_apart(self) -> None:
        client = SFTPTestClient(SFTPServerMemoryStorage())
        requests = [sftpcmd(SSH2_FXP_STAT, sftpstring(path)) for path in (b"/", b"/missing", b"/..")]
        replies = get_sftppackets(client.send(b"".join(requests)))
        self.assertEqual([reply[4] for reply in replies], [105, 101, 105])

    def test_the_names_of_a_listing_are_told_from_a_single_name(self) -> None:
        client = SFTPTestClient(SFTPServerMemoryStorage())
        listing = client.call("readdir", get_sftphandle(client.call("opendir", b"/")))
        self.assertEqual(get_sftpnames(listing), [b".", b".."])
        with self.assertRaisesRegex(AssertionError, "holds 2 names"):
            get_sftpname(listing)
        self.assertEqual(get_sftpname(client.call("realpath", b".")), b"/")

    def test_the_working_folder_goes_with_its_process_and_is_not_a_childs_to_remove(self) -> None:
        script = (
            "import os\n"
            "from pysftpserver.testing import t_path\n"
            "open(t_path('f'), 'w').close()\n"
            "if not os.fork():\n"
            "    raise SystemExit\n"
            "os.wait()\n"
            "print(t_path('f'), os.path.exists(t_path('f')), t_path('f') == os.path.join(t_path(), 'f'))\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
        self.assertEqual(done.stderr, "")
        path, *answers = done.stdout.split()
        self.assertEqual(answers, ["True", "True"])
        self.assertFalse(os.path.exists(os.path.dirname(path)))


def verdicts(
    make: type[SFTPAbstractServerStorage], unsupported: str = "", only: str = ""
) -> unittest.TestResult:
    """What the contract says to a storage. only: the name of the one test to run; all without it."""

    class Contract(StorageContract, unittest.TestCase):
        def make_storage(self) -> SFTPAbstractServerStorage:
            return make()

        def put(self, path: bytes, content: bytes) -> None:
            if not isinstance(self.storage, SFTPServerMemoryStorage):
                super().put(path, content)
                return
            # Whatever the storage leaves out: it is the one in memory all the same.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            handle = SFTPServerMemoryStorage.open(self.storage, path, flags, 0o666)
            SFTPServerMemoryStorage.write(self.storage, handle, 0, content)

    Contract.unsupported = frozenset(unsupported.split())
    result = unittest.TestResult()
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Contract)
    (unittest.TestSuite([Contract(only)]) if only else suite).run(result)
    return result


class Truncating(SFTPServerMemoryStorage):
    def write(self, handle: Any, off: int, chunk: bytes) -> None:
        super().write(handle, off, chunk[: 1 << 20])


class Repeating(SFTPServerMemoryStorage):
    def read(self, handle: Any, off: int, size: int) -> bytes:
        data: bytes = super().read(handle, off, size)
        return data or super().read(handle, 0, 1)


class Replacing(SFTPServerMemoryStorage):
    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        super().rename(old, new, True)


class Following(SFTPServerMemoryStorage):
    def lstat(self, path: bytes) -> SFTPAttributes:
        return self.stat(path)


class Dotless(SFTPServerMemoryStorage):
    def opendir(self, path: bytes) -> Any:
        return (entry for entry in super().opendir(path) if entry[0] not in (b".", b".."))


class Late(SFTPServerMemoryStorage):
    def opendir(self, path: bytes) -> Any:
        yield from super().opendir(path)


class Touching(SFTPServerMemoryStorage):
    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        super().setstat(path, attrs)
        if attrs.size is not None:
            super().setstat(path, SFTPAttributes(size=attrs.size))


class Crashing(SFTPServerMemoryStorage):
    def stat(self, path: bytes) -> SFTPAttributes:
        try:
            return super().stat(path)
        except OSError:
            raise KeyError(path) from None


class Misnaming(SFTPServerMemoryStorage):
    def rmdir(self, path: bytes) -> None:
        try:
            super().rmdir(path)
        except OSError:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES)) from None


class Decoding(SFTPServerMemoryStorage):
    def open(self, path: bytes, flags: int, mode: int) -> Any:
        return super().open(path.decode().encode(), flags, mode)


class Deaf(SFTPServerMemoryStorage):
    def open(self, path: bytes, flags: int, mode: int) -> Any:
        return super().open(path, flags & ~os.O_EXCL, mode)


class Silent(SFTPServerMemoryStorage):
    def link(self, old: bytes, new: bytes) -> None:
        raise SFTPUnsupported


class Mute(SFTPServerMemoryStorage):
    def statvfs(self, path: bytes) -> Any:
        return os.statvfs_result((0,) * 11)


class Lying(SFTPServerMemoryStorage):
    def checksum(self, path: bytes, algorithm: str) -> bytes | None:
        return bytes(16) if algorithm == "md5" else None


FIELDS = {"owner": "uid gid", "permissions": "permissions", "times": "atime mtime"}

BROKEN = {
    Truncating: "test_chunks_of_several_mebibytes_are_stored_whole",
    Repeating: "test_read_at_end",
    Replacing: "test_rename_onto_existing",
    Following: "test_lstat_of_link",
    Dotless: "test_an_empty_directory_holds_the_two_dots",
    Late: "test_opendir_of_missing",
    Touching: "test_setstat_all_at_once",
    Crashing: "test_stat_missing",
    Misnaming: "test_rmdir_of_missing",
    Decoding: "test_names_that_are_not_utf8",
    Deaf: "test_open_exclusive_status",
    Silent: "test_a_hard_link_is_another_name_of_the_same_file",
    Lying: "test_a_checksum_that_the_storage_has_is_that_of_the_content",
    Mute: "test_statvfs_plausible",
}


class TheContractCanFail(unittest.TestCase):
    def test_a_storage_that_breaks_a_rule_fails_at_that_rule(self) -> None:
        for broken, rule in BROKEN.items():
            with self.subTest(broken.__name__):
                result = verdicts(broken, only=rule)
                failed = {case.id() for case, _ in result.failures + result.errors}
                self.assertTrue(any(rule in name for name in failed), failed)

    def test_a_method_that_is_missing_and_not_declared_fails(self) -> None:
        result = verdicts(OneFile, "")
        self.assertFalse(result.wasSuccessful())

    def test_a_method_that_is_declared_missing_and_is_there_fails(self) -> None:
        result = verdicts(SFTPServerMemoryStorage, "fsync")
        failed = {case.id().rpartition(".")[2] for case, _ in result.failures + result.errors}
        self.assertIn("test_everything_declared_unsupported_is_refused_as_such [fsync]", failed)
        self.assertIn("test_an_extension_is_announced_if_the_storage_has_its_methods", failed)

    def test_a_storage_may_leave_out_any_method_if_it_says_so(self) -> None:
        """Each costs a run of the whole contract: daily those that rules most often forget to name."""
        for method in sorted(METHODS if IS_HARD else {"close", "fstat", "lstat", "mkdir", "rm", "setstat"}):
            with self.subTest(method):
                left_out = {method: getattr(SFTPAbstractServerStorage, method)}
                result = verdicts(type("Incomplete", (SFTPServerMemoryStorage,), left_out), method)
                self.assertEqual(result.failures + result.errors + result.skipped, [])

    def test_a_storage_may_be_unable_to_set_a_field_if_it_says_so(self) -> None:
        for field, names in FIELDS.items():

            class Incomplete(SFTPServerMemoryStorage):
                fields = names

                def _change(self, node: Any, attrs: SFTPAttributes) -> None:
                    if any(getattr(attrs, name) is not None for name in self.fields.split()):
                        raise SFTPUnsupported
                    super()._change(node, attrs)

            with self.subTest(field):
                result = verdicts(Incomplete, field)
                self.assertEqual(result.failures + result.errors + result.skipped, [])

    def test_nothing_is_skipped(self) -> None:
        for storage, unsupported in ((SFTPServerMemoryStorage, ""), (SFTPServerMemoryStorage, "link owner")):
            self.assertEqual(verdicts(storage, unsupported).skipped, [])

    def test_every_method_that_a_storage_can_leave_out_is_known_to_the_contract(self) -> None:
        with_defaults = {"realpath", "userhome", "username", "groupname"}
        with_defaults |= {"fileno", "territory", "abandon", "spoil", "check_root", "sync_directory"}
        with_defaults |= {"promise_read", "promise_write", "copy_range", "checksum", "release"}
        with_defaults |= {"reads", "check_write", "path_of"}
        methods = {
            name
            for name, value in vars(abstractstorage.SFTPAbstractServerStorage).items()
            if callable(value) and not name.startswith("_")
        }
        self.assertEqual(METHODS, methods - with_defaults)
