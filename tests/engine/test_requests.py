"""The table of requests and its handlers: each row, on the plain storage and on made-up ones."""

from __future__ import annotations

import errno
import os
import pwd
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.engine.log import VERBOSE
from pysftpserver.engine.requests import EXTENDED_REQUESTS, REQUESTS
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storage import SFTPServerStorage
from tests.support import packets
from tests.support import packets as sftp
from tests.support.cases import OnFiles
from tests.support.packets import Attributes, Client, Reader, attrs, string, u32, u64
from tests.support.storages import Whole

REFERENCE = "/usr/lib/openssh/sftp-server"
ROWS = [*REQUESTS.values(), *EXTENDED_REQUESTS.values()]
NAMES = [row.name for row in ROWS]
# What sftp-server(8) refuses in read-only mode, besides an OPEN that could change something.
WRITERS = set(
    """write setstat fsetstat remove mkdir rmdir rename symlink posix-rename hardlink fsync lsetstat
    copy-data""".split()
)


class Modes(Whole):
    """Notes the modes that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int | None] = []

    def open(self, path: bytes, flags: int, mode: int) -> object:
        self.seen.append(mode)
        return object()

    def mkdir(self, path: bytes, mode: int) -> None:
        self.seen.append(mode)

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self.seen.append(attrs.permissions)

    lsetstat = fsetstat = setstat


class Table(unittest.TestCase):
    def test_has_the_names_of_the_reference_in_its_order(self):
        printed = subprocess.run([REFERENCE, "-Q", "requests"], capture_output=True, text=True, check=True)
        own = ["check-file-name", "check-file-handle", "check-file"]
        self.assertEqual(NAMES, [*printed.stdout.split(), *own])

    def test_marks_what_writes_as_the_reference_does(self):
        self.assertEqual({row.name for row in ROWS if row.writes}, WRITERS)

    def test_names_as_many_fields_as_its_decoder_returns(self):
        for row in ROWS:
            body = sftp.BODIES.get(row.name, b"")
            with self.subTest(row.name):
                self.assertEqual(len(row.fields), len(row.decode(body, 0, len(body))))

    def test_has_a_body_for_every_row_here(self):
        self.assertEqual(set(NAMES), set(sftp.BODIES) | {"limits"})

    def test_version_announces_exactly_these_extensions_with_their_versions(self):
        client = Client(SFTPServerStorage("/"))
        self.assertEqual(packets.extensions(client.version), packets.EXTENSIONS)


class Access(unittest.TestCase):
    """Read-only mode and the lists, for every row: refused means not a single call of the storage."""

    def refused(self, name: str, **options: Any) -> bool:
        """Whether a request is refused; if it is, check that nothing was done."""
        storage = Whole()
        client = Client(storage, **options)
        table = client.server.handles
        table.add_file(b"f", os.O_RDWR, object())
        table.add_directory(b"d", storage.opendir(b"d"))
        table.add_file(b"copy", os.O_RDWR, object())
        storage.calls.clear()
        reply = client.ask(name, sftp.BODIES.get(name, b""))
        if reply.content != sftp.PERMISSION_DENIED:
            self.assertNotIn(reply.content, (sftp.OP_UNSUPPORTED, sftp.BAD_MESSAGE))
            return False
        self.assertEqual(reply.kind, "status")
        self.assertEqual(storage.calls, [])
        return True

    def test_nothing_is_refused_by_default(self):
        for name in NAMES:
            with self.subTest(name):
                self.assertFalse(self.refused(name))

    def test_denied_is_refused_and_the_rest_is_not(self):
        for denied in NAMES:
            self.assertEqual({name for name in NAMES if self.refused(name, deny=[denied])}, {denied})

    def test_what_is_not_allowed_is_refused(self):
        for allowed in NAMES:
            refused = {name for name in NAMES if self.refused(name, allow=[allowed])}
            self.assertEqual(refused, set(NAMES) - {allowed})

    def test_an_empty_list_of_allowed_requests_refuses_everything(self):
        self.assertEqual({name for name in NAMES if self.refused(name, allow=[])}, set(NAMES))

    def test_denied_beats_allowed(self):
        for name in NAMES:
            with self.subTest(name):
                self.assertTrue(self.refused(name, allow=NAMES, deny=[name]))

    def test_read_only_refuses_what_writes(self):
        refused = {name for name in NAMES if self.refused(name, read_only=True)}
        self.assertEqual(refused, WRITERS | {"open"})

    def test_read_only_refuses_every_open_that_could_change_something_and_no_other(self):
        for flags in range(64):
            client = Client(Whole(), read_only=True)
            reply = client.ask("open", string(b"f"), u32(flags), sftp.NO_ATTRS)
            with self.subTest(flags):
                self.assertEqual(
                    reply.content == sftp.PERMISSION_DENIED,
                    bool(flags & (sftp.WRITE | sftp.CREAT | sftp.TRUNC)),
                )

    def test_read_only_refuses_before_it_looks_at_a_handle(self):
        client = Client(Whole(), read_only=True)
        self.assertEqual(client.status("write", string(b"?"), u64(0), string(b"")), sftp.PERMISSION_DENIED)
        self.assertEqual(client.status("fsync", string(b"?")), sftp.PERMISSION_DENIED)

    def test_refused_extensions_are_not_announced(self):
        for name, row in EXTENDED_REQUESTS.items():
            if name in packets.SILENT:
                continue
            announced = packets.extensions(Client(Whole(), deny=[row.name]).version)
            self.assertEqual(set(packets.EXTENSIONS) - set(announced), {name})
            self.assertEqual(set(packets.extensions(Client(Whole(), allow=[row.name]).version)), {name})
        announced = packets.extensions(Client(Whole(), read_only=True).version)
        self.assertEqual(
            {name.decode().partition("@")[0] for name in announced},
            set("check-file expand-path fstatvfs home-directory limits statvfs users-groups-by-id".split()),
        )

    def test_a_refusal_is_logged_with_its_reason(self):
        for options, words in (
            ({"deny": ["mkdir"]}, "Refusing denylisted mkdir request"),
            ({"allow": ["stat"]}, "Refusing non-allowlisted mkdir request"),
            ({"read_only": True}, "Refusing mkdir request in read-only mode"),
        ):
            client = Client(Whole(), **options)
            client.log.clear()
            client.ask("mkdir", sftp.BODIES["mkdir"])
            with self.subTest(options):
                self.assertEqual(client.lines(VERBOSE), [words, "sent status Permission denied"])

    def test_a_failure_is_logged_with_the_words_that_the_client_gets(self):
        client = Client(Whole())
        for error, words in (
            (SFTPFailure("The store is\nbusy"), "sent status Failure: The store is\\nbusy"),
            (SFTPFailure(), "sent status Failure"),
            (FileNotFoundError(errno.ENOENT, ""), "sent status No such file"),
        ):
            client.log.clear()
            with self.subTest(words), mock.patch.object(Whole, "rm", side_effect=error):
                client.ask("remove", string(b"/f"))
                self.assertEqual(client.lines(VERBOSE)[-1], words)

    def test_a_refused_request_reaches_no_storage_even_if_it_is_logged(self):
        storage = Whole()
        client = Client(storage, deny=["expand-path"])
        self.assertEqual(client.status("expand-path", string(b"~someone")), sftp.PERMISSION_DENIED)
        self.assertEqual(storage.calls, [])


class Requests(OnFiles):
    """What tests/differential/ does not ask the reference as well."""

    def test_every_row_is_served(self):
        for name in NAMES:
            self.setUp()
            client = self.client
            client.open(b"f", sftp.READ | sftp.WRITE)
            client.opendir(b"d")
            client.open(b"copy", sftp.WRITE | sftp.CREAT)
            (self.root / "n").unlink(missing_ok=True)
            body = sftp.BODIES.get(name, b"")
            if name == "symlink":
                body = string(b"f") + string(b"n")
            if name == "home-directory":
                body = string(b"root")
            with self.subTest(name):
                reply = client.ask(name, body)
                self.assertTrue(reply.kind != "status" or reply.content == sftp.OK, reply)
            client.server.close()

    def test_open_passes_flags_and_mode_on(self):
        seen: list[tuple[int, int]] = []
        storage = Whole()
        storage.open = lambda path, flags, mode: seen.append((flags, mode)) or object()
        client = Client(storage)
        cases = {
            0: os.O_RDONLY,
            sftp.READ: os.O_RDONLY,
            sftp.WRITE: os.O_WRONLY,
            sftp.READ | sftp.WRITE: os.O_RDWR,
            sftp.APPEND: os.O_RDONLY | os.O_APPEND,
            sftp.WRITE | sftp.APPEND | sftp.CREAT: os.O_WRONLY | os.O_APPEND | os.O_CREAT,
            sftp.READ | sftp.TRUNC: os.O_RDONLY | os.O_TRUNC,
            sftp.WRITE | sftp.CREAT | sftp.EXCL | sftp.TRUNC: os.O_WRONLY
            | os.O_CREAT
            | os.O_EXCL
            | os.O_TRUNC,
            sftp.READ | 0xFFFFFFC0: os.O_RDONLY,
        }
        for flags, expected in cases.items():
            client.open(b"f", flags)
            self.assertEqual(seen.pop(), (expected, 0o666), flags)
        for mode, expected in ((0o100600, 0o600), (0o177777, 0o1777), (0, 0)):
            client.open(b"f", sftp.CREAT | sftp.WRITE, attrs(Attributes(size=5, permissions=mode)))
            self.assertEqual(seen.pop()[1], expected)

    def test_set_uid_and_set_gid_bits_are_dropped_unless_they_are_allowed(self):
        asked = attrs(Attributes(size=3, permissions=0o107755, times=(1, 2)))
        mode_only = attrs(Attributes(permissions=0o7755))
        for options, dropped in (({}, 0o6000), ({"allow_setid": True}, 0)):
            storage = Modes()
            client = Client(storage, **options)
            handle = client.open(b"f", sftp.CREAT | sftp.WRITE, asked)
            for name, *body in (
                ("mkdir", string(b"d"), asked),
                ("setstat", string(b"f"), asked),
                ("fsetstat", handle, asked),
                ("lsetstat", string(b"f"), mode_only),
            ):
                self.assertEqual(client.status(name, *body), sftp.OK)
            expected = [0o7755, 0o7755, 0o107755, 0o107755, 0o7755]
            self.assertEqual([*map(oct, storage.seen)], [oct(mode & ~dropped) for mode in expected])

    def test_expand_path_knows_the_session_home_and_other_users(self):
        root = os.fsencode(self.root.resolve())
        user = pwd.getpwuid(0)
        home = os.fsencode(os.path.realpath(user.pw_dir))
        for path, expected in (
            (b"~", root),
            (b"~/", root),
            (b"~/f", root + b"/f"),
            (b"f", root + b"/f"),
            (b"", root),
            (b"x~", root + b"/x~"),
            (b"~" + user.pw_name.encode(), home),
            (b"~" + user.pw_name.encode() + b"/x", home + b"/x"),
        ):
            with self.subTest(path):
                self.assertEqual(self.client.content("name", "expand-path", string(path))[0].name, expected)
        for path in (b"~nosuchuser", b"~nosuchuser/x", b"~~"):
            reply = self.client.ask("expand-path", string(path))
            self.assertEqual((reply.content, reply.message.lower()), (sftp.NO_SUCH_FILE, b"no such user"))

    def test_home_directory_is_the_named_users(self):
        user = pwd.getpwuid(0)
        (entry,) = self.client.content("name", "home-directory", string(user.pw_name.encode()))
        self.assertEqual(entry.name, os.fsencode(user.pw_dir))
        (entry,) = self.client.content("name", "home-directory", string(b""))
        self.assertEqual(entry.name, self.client.server.storage.home)
        self.assertEqual(self.client.status("home-directory", string(b"nosuchuser")), sftp.FAILURE)

    def test_statvfs_and_fstatvfs_answer_the_figures_of_the_file_system(self):
        handle = self.client.open(b"f")
        figures = os.statvfs(self.root)
        for name, target in (("statvfs", string(b"f")), ("fstatvfs", handle)):
            reader = Reader(self.client.content("extended", name, target))
            numbers = [reader.u64() for _ in range(11)]
            reader.finish()
            self.assertEqual(
                (numbers[0], numbers[1], numbers[2], numbers[5], numbers[10]),
                (figures.f_bsize, figures.f_frsize, figures.f_blocks, figures.f_files, figures.f_namemax),
            )
            self.assertEqual(numbers[9] & ~3, 0)

    def test_statvfs_maps_the_flags(self):
        body = Client(Whole()).content("extended", "statvfs", string(b"/"))
        self.assertEqual(body, u64(7) * 9 + u64(3) + u64(7))

    def test_names_of_any_bytes_make_the_round_trip(self):
        names = [b"a b", b"'\"", b"new\nline", b"\xff\xfe", b"x" * 255, b"-rf", b"~", b"*?["]
        for name in names:
            self.client.open(name, sftp.WRITE | sftp.CREAT)
        handle = self.client.opendir(b".")
        listed = {entry.name for entry in self.client.content("name", "readdir", handle)}
        self.assertEqual(listed, {*names, b".", b"..", b"f", b"d", b"l"})
        for name in names:
            self.assertEqual(self.client.status("remove", string(name)), sftp.OK)


class MadeUpStorages(unittest.TestCase):
    def test_chunks_are_bytes_for_storages_without_descriptors(self):
        chunks = []
        storage = Whole()
        storage.write = lambda handle, off, chunk: chunks.append((off, chunk))
        client = Client(storage)
        client.status("write", client.open(b"f", sftp.WRITE), u64(7), string(b"data"))
        self.assertEqual(chunks, [(7, b"data")])
        self.assertIs(type(chunks[0][1]), bytes)

    def test_a_read_that_a_subclass_overrides_is_never_passed_by(self):
        class Upper(SFTPServerStorage):
            def read(self, handle: int, off: int, size: int) -> bytes:
                return super().read(handle, off, size).upper()

        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "f").write_bytes(b"secret" * 50_000)
            client = Client(Upper(directory))
            handle = client.open(b"f")
            got = client.content("data", "read", handle, u64(0), u32(sftp.MAX_DATA))
            self.assertEqual(got, (b"SECRET" * 50_000)[: sftp.MAX_DATA])
            target = client.open(b"g", sftp.WRITE | sftp.CREAT)
            self.assertEqual(client.status("copy-data", handle, u64(0), u64(0), target, u64(0)), sftp.OK)
            self.assertEqual(Path(directory, "g").read_bytes(), b"SECRET" * 50_000)
            client.server.close()

    def test_a_write_that_a_subclass_overrides_is_never_passed_by(self):
        class Upper(SFTPServerStorage):
            def write(self, handle: int, off: int, chunk: Any) -> None:
                super().write(handle, off, chunk.upper())

        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "f").write_bytes(b"secret" * 50_000)
            client = Client(Upper(directory))
            target = client.open(b"g", sftp.WRITE | sftp.CREAT)
            self.assertEqual(client.status("write", target, u64(0), string(b"abc")), sftp.OK)
            source = client.open(b"f")
            self.assertEqual(client.status("copy-data", source, u64(0), u64(0), target, u64(3)), sftp.OK)
            self.assertEqual(Path(directory, "g").read_bytes(), b"ABC" + b"SECRET" * 50_000)
            client.server.close()
