"""The storage on fsspec: uploads that appear whole, archives, file objects that cannot seek, and secrets."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from stat import S_ISDIR
from typing import Any, ClassVar
from unittest import mock

import fsspec
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.fsspecstorage import SFTPServerFsspecStorage
from pysftpserver.pysftpexceptions import (
    SFTPException,
    SFTPFailure,
    SFTPForbidden,
    SFTPNotFound,
    SFTPUnavailable,
    SFTPUnsupported,
)
from tests.support.cases import InAPlace
from tests.support.paths import IN_MEMORY

NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class Answered(Exception):
    """What an HTTP library raises for an answer."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(status, words)
        self.status = status


class StoreFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file of Store: its parts become an object when they are committed."""

    def _initiate_upload(self) -> None:
        self.parts = b""

    def _upload_chunk(self, final: bool = False) -> bool:
        if Store.failure is not None:
            raise Store.failure
        self.parts += self.buffer.getvalue()
        if final and self.autocommit:
            self.commit()
        return True

    def commit(self) -> None:
        Store.objects[self.path] = self.parts

    def discard(self) -> None:
        Store.discarded.append(self.path)


class Store(AbstractFileSystem):  # type: ignore[misc]
    """A file system as those on object stores are: files are written in order, no empty directories."""

    protocol = "teststore"
    cachable = False
    objects: ClassVar[dict[str, bytes]] = {}
    discarded: ClassVar[list[str]] = []
    failure: ClassVar[BaseException | None] = None

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        path = self._strip_protocol(path)
        if path in self.objects:
            return {"name": path, "type": "file", "size": len(self.objects[path])}
        if any(name.startswith(f"{path}/") for name in self.objects):
            return {"name": path, "type": "directory", "size": 0}
        raise FileNotFoundError(path)

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[dict[str, Any]]:
        prefix = self._strip_protocol(path) + "/"
        names = {prefix + n.removeprefix(prefix).split("/")[0] for n in self.objects if n.startswith(prefix)}
        return [self.info(name) for name in sorted(names)]

    def _open(self, path: str, mode: str = "rb", **options: Any) -> StoreFile:
        options.pop("block_size", None)
        return StoreFile(self, path, mode, block_size=8, **options)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        return self.objects[path][start:end]

    def rm_file(self, path: str) -> None:
        del self.objects[path]

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        self.objects[path2] = self.objects[path1]

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        pass


class Web(Store):
    """A web server: each page is a file to it, and its address after redirects ends in a slash or not."""

    protocol = "testweb"

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        info = super().info(path)
        found = {"size": info["size"] or 7, "type": "file", "Last-Modified": "Sun, 09 Sep 2001 01:46:40 GMT"}
        return {**info, **found, "url": self._url(path, info)}

    def _url(self, path: str, info: dict[str, Any]) -> str:
        return f"http://{path}" + "/" * (info["type"] == "directory" and "/" in path)

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[dict[str, Any]]:
        found = [{**info, "size": None, "name": info["url"]} for info in super().ls(path)]
        return [*found, {"name": f"http://{path}/?C=N;O=D", "size": None, "type": "file"}]


fsspec.register_implementation("teststore", Store, clobber=True)
fsspec.register_implementation("testweb", Web, clobber=True)


class Files(InAPlace):
    made_in = IN_MEMORY

    def content(self, storage: SFTPServerFsspecStorage, path: bytes) -> bytes:
        handle = storage.open(path, os.O_RDONLY, 0)
        try:
            return storage.read(handle, 0, 1 << 20)
        finally:
            storage.close(handle)

    def names(self, storage: SFTPServerFsspecStorage, path: bytes = b"/") -> list[bytes]:
        return sorted(name for name, _ in storage.opendir(path) if name not in (b".", b".."))


class OnAStore(Files):
    def setUp(self) -> None:
        super().setUp()
        Store.objects.clear()
        Store.discarded.clear()
        self.enterContext(mock.patch.object(Store, "failure", None))
        self.storage = SFTPServerFsspecStorage("teststore://b/users", key="geheim")

    def test_an_upload_appears_when_it_is_closed_and_is_discarded_when_it_is_abandoned(self) -> None:
        Store.objects["b/users/f"] = b"old"
        handle = self.storage.open(b"/f", NEW, 0o666)
        for off in (0, 10):
            self.storage.write(handle, off, b"0123456789")
        self.assertEqual(Store.objects, {"b/users/f": b"old"})
        self.storage.close(handle)
        self.assertEqual(Store.objects, {"b/users/f": b"0123456789" * 2})
        discarded = len(Store.discarded)
        for end in (self.storage.abandon, self.spoiled):
            handle = self.storage.open(b"/f", NEW, 0o666)
            self.storage.write(handle, 0, b"half of a new one")
            end(handle)
            del handle
            discarded += 1
            self.assertEqual(len(Store.discarded), discarded)
            self.assertEqual(Store.objects, {"b/users/f": b"0123456789" * 2})
        self.assertEqual(list(self.storage._fs.transaction.files), [])

    def spoiled(self, handle: Any) -> None:
        self.storage.spoil(handle)
        with self.assertRaisesRegex(SFTPFailure, "Not put in place"):
            self.storage.close(handle)

    def test_what_cannot_be_written_is_refused_with_words_at_open_or_at_the_write(self) -> None:
        handle = self.storage.open(b"/f", NEW, 0o666)
        self.storage.write(handle, 0, b"01234")
        with self.assertRaisesRegex(SFTPUnsupported, "in order: byte 5 comes next, not 7"):
            self.storage.write(handle, 7, b"7")
        with self.assertRaisesRegex(SFTPFailure, "Not put in place"):
            self.storage.close(handle)
        self.assertEqual(Store.objects, {})
        Store.objects["b/users/f"] = b"old"
        with self.assertRaisesRegex(SFTPUnsupported, "only replace them"):
            self.storage.open(b"/f", os.O_WRONLY, 0)
        with self.assertRaises(SFTPUnsupported):
            self.storage.setstat(b"/f", SFTPAttributes(size=2))
        self.storage.setstat(b"/f", SFTPAttributes(permissions=0o600, atime=1, mtime=1))  # changes nothing
        self.storage.setstat(b"/f", SFTPAttributes(size=0))
        self.assertEqual(Store.objects, {"b/users/f": b""})

    def test_a_new_file_that_came_meanwhile_is_not_replaced(self) -> None:
        handle = self.storage.open(b"/f", NEW | os.O_EXCL, 0o666)
        Store.objects["b/users/f"] = b"another's"
        with self.assertRaises(FileExistsError):
            self.storage.close(handle)
        self.assertEqual(Store.objects, {"b/users/f": b"another's"})

    def test_empty_directories_stay_for_the_session(self) -> None:
        self.storage.mkdir(b"/d", 0o777)
        self.storage.mkdir(b"/d/[e]*", 0o777)
        self.assertEqual(self.names(self.storage, b"/d"), [b"[e]*"])
        self.storage.close(self.storage.open(b"/d/[e]*/f?", NEW, 0o666))
        self.storage.rename(b"/d/[e]*", b"/d/new")
        self.assertEqual(Store.objects, {"b/users/d/new/f?": b""})
        self.storage.rm(b"/d/new/f?")
        self.assertEqual(self.names(self.storage, b"/d/new"), [])
        self.storage.rmdir(b"/d/new")
        self.storage.rmdir(b"/d")
        self.assertEqual(self.names(self.storage), [])

    def test_a_directory_that_moves_half_way_says_what_has_moved(self) -> None:
        for name in "abc":
            Store.objects[f"b/users/d/{name}"] = b"x"
        copy = Store.cp_file

        def failing(fs: Store, path1: str, path2: str, **options: Any) -> None:
            if len([name for name in Store.objects if "/new/" in name]) == 2:
                raise OSError("full")
            copy(fs, path1, path2)

        Store.cp_file = failing  # type: ignore[method-assign]
        self.addCleanup(setattr, Store, "cp_file", copy)
        with self.assertRaisesRegex(SFTPFailure, "2 files are at the new place"):
            self.storage.rename(b"/d", b"/new")
        self.assertEqual(len(Store.objects), 3)

    def test_failures_have_words_for_clients_and_no_secrets(self) -> None:
        for failure, kind in (
            (TimeoutError("geheim"), SFTPUnavailable),
            (ConnectionResetError("https://me:geheim@host/?token=geheim"), SFTPUnavailable),
            (Answered(503, "geheim"), SFTPUnavailable),
            (RuntimeError("bad key geheim"), SFTPFailure),
            (PermissionError("geheim"), SFTPForbidden),
            (FileNotFoundError("geheim"), SFTPNotFound),
        ):
            Store.failure = failure
            with self.subTest(failure=failure), self.assertRaises(kind) as caught:
                self.storage.stat(b"/d/f")
            texts = f"{caught.exception} {caught.exception.__cause__}"
            self.assertNotIn("geheim", texts)
        for url in ("nosuch://me:geheim@host/?sig=geheim", "zip://::teststore://b/missing"):
            with self.subTest(url), self.assertRaises((ValueError, OSError)) as wrong:
                SFTPServerFsspecStorage(url)
            self.assertNotIn("geheim", str(wrong.exception))
        self.assertNotIn("geheim", SFTPServerFsspecStorage("teststore://me:geheim@b/", key="geheim").label)


class InADirectory(Files):
    def test_an_upload_is_beside_its_place_until_it_is_closed(self) -> None:
        (self.place / "f").write_bytes(b"old")
        storage = SFTPServerFsspecStorage(f"file://{self.place}")
        self.assertFalse(storage.uses_network)
        handle = storage.open(b"/f", NEW, 0o666)
        storage.write(handle, 4, b"new ")
        storage.write(handle, 0, b"all ")
        self.assertEqual((self.place / "f").read_bytes(), b"old")
        storage.close(handle)
        self.assertEqual((self.place / "f").read_bytes(), b"all new ")
        handle = storage.open(b"/f", NEW, 0o666)
        storage.write(handle, 0, b"half")
        storage.abandon(handle)
        self.assertEqual((self.place / "f").read_bytes(), b"all new ")
        self.assertEqual(os.listdir(self.place), ["f"])

    def test_names_that_are_patterns_elsewhere_are_names(self) -> None:
        storage = SFTPServerFsspecStorage(f"file://{self.place}")
        for name in (b"*", b"[a]", b"?"):
            storage.close(storage.open(b"/" + name, NEW, 0o666))
        storage.rename(b"/*", b"/moved*")
        storage.rm(b"/?")
        self.assertEqual(self.names(storage), [b"[a]", b"moved*"])

    def test_what_others_change_is_seen_at_once(self) -> None:
        storage = SFTPServerFsspecStorage(f"file://{self.place}")
        self.assertEqual(self.names(storage), [])
        (self.place / "f").write_bytes(b"x")
        self.assertEqual(self.names(storage), [b"f"])
        self.assertEqual(storage.stat(b"/f").size, 1)

    def test_a_page_of_the_web_is_a_directory_if_its_address_ends_so(self) -> None:
        self.enterContext(mock.patch.object(Store, "objects", {"h/d/f": b"content", "h/g": b"g"}))
        storage = SFTPServerFsspecStorage("testweb://h")
        self.assertEqual(self.names(storage), [b"d", b"g"])
        entries = dict(storage.opendir(b"/d"))
        self.assertEqual((entries[b"f"].size, entries[b"f"].mtime), (7, 1_000_000_000))
        self.assertEqual(entries[b"f"], storage.stat(b"/d/f"))
        self.assertTrue(S_ISDIR(dict(storage.opendir(b"/"))[b"d"].permissions or 0))

    def test_a_place_that_is_not_there_is_noticed(self) -> None:
        SFTPServerFsspecStorage(f"file://{self.place}").connect()
        with self.assertRaises((SFTPException, OSError)):
            SFTPServerFsspecStorage(f"file://{self.place}/missing").connect()


class InArchives(Files):
    def setUp(self) -> None:
        super().setUp()
        self.big = os.urandom(100_000)
        with zipfile.ZipFile(self.place / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo("d/f", (2001, 2, 3, 4, 5, 6)), self.big)
        with tarfile.open(self.place / "a.tar", "w") as tar:
            member = tarfile.TarInfo("d/f")
            member.size, member.mtime, member.mode = len(self.big), 1_000_000_000, 0o640
            tar.addfile(member, io.BytesIO(self.big))

    def test_archives_are_read_only_with_words(self) -> None:
        place = self.place
        for url in (
            f"zip://{place}/a.zip",
            f"tar://{place}/a.tar",
            f"zip://::file://{place}/a.zip",
            f"zip://::simplecache::file://{place}/a.zip",
        ):
            with self.subTest(url):
                storage = SFTPServerFsspecStorage(url)
                self.assertEqual(self.names(storage, b"/"), [b"d"])
                self.assertEqual(self.content(storage, b"/d/f"), self.big)
                handle = storage.open(b"/d/f", os.O_RDONLY, 0)
                for off in (50_000, 10, 99_990, 0):
                    self.assertEqual(storage.read(handle, off, 20), self.big[off : off + 20])
                storage.close(handle)
                self.assertGreaterEqual(storage.stat(b"/d/f").mtime or 0, 900_000_000)
                with self.assertRaisesRegex(SFTPForbidden, "read-only"):
                    storage.open(b"/d/f", os.O_WRONLY, 0)
                for method, *arguments in (
                    ("rm", b"/d/f"),
                    ("rmdir", b"/d"),
                    ("mkdir", b"/e", 0),
                    ("rename", b"/d/f", b"/g"),
                    ("setstat", b"/d/f", SFTPAttributes(size=0)),
                ):
                    with self.assertRaisesRegex(SFTPUnsupported, "read-only"):
                        getattr(storage, method)(*arguments)
