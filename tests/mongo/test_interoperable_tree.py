"""The storage and other programs that use the same bucket through GridFS: names, directories, prefixes."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.storages.mongo import listing
from tests.mongo.clients import names
from tests.mongo.databases import DatabaseCase
from tests.mongo.sessions import get, put

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
REFUSED = (OSError, SFTPException)


def kinds(storage: SFTPServerMongoStorage, path: bytes = b"/") -> dict[bytes, str]:
    """What is in a directory: "d", "-" or "l" for each name."""
    found: dict[bytes, str] = {}
    for name, attrs in storage.opendir(path):
        assert name not in found, name
        found[name] = {0o040000: "d", 0o100000: "-", 0o120000: "l"}[(attrs.permissions or 0) & 0o170000]
    return {name: kind for name, kind in found.items() if name not in (b".", b"..")}


class NamesOfOtherPrograms(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.storage = self.open_storage()

    def raw(self, filename: bytes) -> None:
        """A file whose name is no UTF-8, if the server takes that."""
        doc = {"filename": "x" * len(filename), "length": 0, "chunkSize": 1000, "uploadDate": NOW}
        data = bson.encode(doc).replace(b"x" * len(filename), filename)
        self.database["fs.files"].insert_one(RawBSONDocument(data))

    def test_that_no_path_can_have_cannot_be_reached_and_cause_no_errors(self) -> None:
        odd = ["", "/", "/x", "x/", "x//y", "x/./y", "x/../y", "./x", "../x", ".", "..", "z/.", "z/..", "//"]
        odd += ["nul\0", "nul\0/x", "d/nul\0x", "d//", "d/\uf0c3\uf0a9", "n" * 256, "n/" + "é" * 128]
        for filename in [*odd, "d/plain", "x/plain", "plain"]:
            self.gridfs.put(filename.encode(), filename=filename)
        wanted = {b"d": "d", b"n": "d", b"plain": "-", b"x": "d", b"z": "d"}
        self.assertEqual(kinds(self.storage), wanted)
        for directory, there in ((b"/d", [b"plain"]), (b"/x", [b"plain"]), (b"/n", []), (b"/z", [])):
            self.assertEqual(names(self.storage, directory), there)
        for path in (
            b"/nul",
            b"/nul\0",
            b"/nul\0/x",
            b"/d/nul\0x",
            b"/x/y",
            b"/" + b"n" * 256,
            b"/d/\xc3\xa9",
        ):
            with self.subTest(path), self.assertRaises(REFUSED):
                self.storage.open(path, os.O_RDONLY, 0)
        for path in (b"//x", b"/x/", b"/./x", b"/../x", b"/.", b"/..", b"/z/.", b"/x/../z"):
            with self.subTest(path):
                self.assertEqual((self.storage.stat(path).permissions or 0) & 0o170000, 0o040000)
        self.assertEqual(get(self.storage, b"/x//plain"), b"x/plain")
        (remark,) = self.storage.remarks()
        self.assertIn(f": {len(odd)}, such as ''", remark)

    def test_that_are_missing_or_no_text_are_remarked_upon(self) -> None:
        self.gridfs.put(b"1")
        for filename in (None, 7, 7.5, {"a": 1}, True, b"bytes", ["plain", "d/other"]):
            self.gridfs.put(b"2", filename=filename)
        self.gridfs.put(b"3", filename="plain")
        self.assertEqual(names(self.storage), [b"plain"])
        self.assertEqual(get(self.storage, b"/plain"), b"3")
        (remark,) = self.storage.remarks()
        self.assertIn(": 8, such as None", remark)

    def test_that_are_lists_of_names_are_none_of_them(self) -> None:
        self.gridfs.put(b"1", filename=["plain", "d/other"])
        self.gridfs.put(b"2", filename="z")
        self.assertEqual(names(self.storage), [b"z"])
        with self.assertRaises(FileNotFoundError):
            self.storage.stat(b"/plain")

    def test_that_are_no_utf_8_are_not_to_be_reached_and_remarked_upon(self) -> None:
        try:
            self.raw(b"d/caf\xe9")
        except OperationFailure:
            self.skipTest("this server takes no such names")
        for filename in (b"\xff\xff/f", b"caf\xe9/f", b"caf\xe9"):
            self.raw(filename)
        for filename in ("caf\ua000", "caf\ufffd", "d/f", "z"):
            self.gridfs.put(b"1", filename=filename)
        wanted = ["caf\ua000".encode(), "caf\ufffd".encode(), b"d", b"z"]
        self.assertEqual(names(self.storage), wanted)
        self.assertEqual(names(self.storage, b"/d"), [b"f"])
        self.assertIn(": 4, such as", self.storage.remarks()[0])

    def test_may_be_escaped_ones_and_are_the_bytes_they_stand_for(self) -> None:
        self.gridfs.put(b"1", filename="caf\uf0e9/\uf080")
        self.assertEqual(names(self.storage), [b"caf\xe9"])
        self.assertEqual(get(self.storage, b"/caf\xe9/\x80"), b"1")
        put(self.storage, b"/caf\xe9/\xef\x82\x80", b"2")
        self.assertEqual(self.gridfs.get_last_version("caf\uf0e9/\uf0ef\uf082\uf080").read(), b"2")
        self.assertEqual(self.storage.remarks(), [])


class RawNames:
    """Files as a server has them whose names it does not look into; in the order of their bytes."""

    def __init__(self, *filenames: bytes) -> None:
        self._filenames = sorted(filenames)
        self.asked = 0

    def aggregate(self, pipeline: list[dict[str, Any]], **_: Any) -> RawNames:
        self.asked += 1
        condition = pipeline[0]["$match"]["filename"]
        low, end = condition["$gte"].encode(), condition.get("$lt")
        there = [name for name in self._filenames if low <= name and (end is None or name < end.encode())]
        return RawNames(*there)

    def batch_size(self, size: int) -> None:
        pass

    def __enter__(self) -> RawNames:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for name in self._filenames:
            yield {"filename": name.decode(errors="surrogateescape"), "uploadDate": NOW}


class NamesThatAreNoUTF8(DatabaseCase):
    """For servers that take none: what is listed of a collection that has some."""

    def listed(self, *filenames: bytes) -> list[bytes]:
        bucket = self.open_storage().bucket
        errors = bucket.names.codec_options.unicode_decode_error_handler
        self.assertEqual(errors, "surrogateescape")  # as RawNames has it
        bucket.names = collection = RawNames(*filenames)  # type: ignore[assignment]
        found = [name for name, _ in listing.entries(bucket, "")]
        self.assertLess(collection.asked, 2 * len(filenames) + 4)
        return found

    def test_do_not_end_a_listing_nor_keep_it_from_its_end(self) -> None:
        valid = ["a", "caf\ua000", "caf\ufffd", "d/f", "z", "\U0001f600/x", "\U0001f601"]
        odd = [
            b"\xff\xff/f",
            b"caf\xe9/f",
            b"caf\xe9/g",
            b"caf\xe9",
            b"d/\xff",
            b"a\x80",
            b"\xf0\x9f/x",
            b"\xc3",
        ]
        wanted = sorted(name.partition("/")[0].encode() for name in valid)
        self.assertEqual(self.listed(*odd, *(name.encode() for name in valid)), wanted)

    def test_do_so_even_where_they_are_many_behind_a_directory(self) -> None:
        odd = [b"b\xff%04d/x" % number for number in range(700)]
        self.assertEqual(self.listed(b"a/x", *odd, b"b", b"c", b"d/x"), [b"a", b"b", b"c", b"d"])


class AFileAndADirectoryOfOneName(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.storage = self.open_storage()

    def test_the_file_hides_the_directory(self) -> None:
        for filename in ("a", "a/b", "a/c/d", "a-x", "a-x/y", "a.", "a0", "b/c"):
            self.gridfs.put(filename.encode(), filename=filename)
        self.assertEqual(kinds(self.storage), {b"a": "-", b"a-x": "-", b"a.": "-", b"a0": "-", b"b": "d"})
        self.assertEqual(get(self.storage, b"/a"), b"a")
        for path in (b"/a/b", b"/a/c", b"/a/", b"/a/.", b"/a/.."):
            with self.subTest(path), self.assertRaises(NotADirectoryError):
                self.storage.stat(path)
        with self.assertRaises(NotADirectoryError):
            self.storage.opendir(b"/a")
        (remark,) = self.storage.remarks()
        self.assertIn(": 3, such as 'a-x/y'", remark)

    def test_and_removing_the_file_shows_it(self) -> None:
        for filename in ("a", "a/b"):
            self.gridfs.put(filename.encode(), filename=filename)
        self.storage.rm(b"/a")
        self.assertEqual(kinds(self.storage), {b"a": "d"})
        self.assertEqual(get(self.storage, b"/a/b"), b"a/b")

    def test_a_file_of_another_program_hides_what_sftp_has_made(self) -> None:
        self.storage.mkdir(b"/d", 0o755)
        self.storage.symlink(b"/l", b"d")
        put(self.storage, b"/d/f", b"1")
        for filename in ("d", "l"):
            self.gridfs.put(b"2", filename=filename)
        self.assertEqual(kinds(self.storage), {b"d": "-", b"l": "-"})
        self.assertEqual(get(self.storage, b"/l"), b"2")
        for path in (b"/d", b"/l"):
            self.storage.rm(path)
        self.assertEqual(kinds(self.storage), {b"d": "d", b"l": "l"})
        self.assertEqual(get(self.storage, b"/l/f"), b"1")


class DirectoriesThatOnlyTheirFilesImply(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.storage = self.open_storage()

    def test_are_there_at_once_and_gone_with_their_files_when_another_program_deletes_them(self) -> None:
        identity = self.gridfs.put(b"1", filename="a/b/c")
        self.assertEqual(kinds(self.storage), {b"a": "d"})
        self.assertEqual(kinds(self.storage, b"/a"), {b"b": "d"})
        self.assertEqual(self.storage.stat(b"/a/b").permissions, 0o040755)
        with self.assertRaises(FileExistsError):
            self.storage.mkdir(b"/a", 0o755)
        with self.assertRaises(OSError):
            self.storage.rmdir(b"/a")
        self.gridfs.delete(identity)
        self.assertEqual(names(self.storage), [])
        with self.assertRaises(FileNotFoundError):
            self.storage.opendir(b"/a")

    def test_stay_when_sftp_removes_their_last_file_or_moves_it_away(self) -> None:
        for filename in ("a/b/f", "c/d/f", "e/f"):
            self.gridfs.put(b"1", filename=filename)
        self.storage.rm(b"/a/b/f")
        self.storage.rename(b"/c/d/f", b"/f")
        self.storage.rename(b"/e", b"/a/e")
        self.assertEqual(kinds(self.storage), {b"a": "d", b"c": "d", b"f": "-"})
        self.assertEqual((names(self.storage, b"/a"), names(self.storage, b"/c")), ([b"b", b"e"], [b"d"]))
        self.storage.rmdir(b"/a/b")
        self.storage.rmdir(b"/c/d")
        self.storage.rmdir(b"/c")
        self.assertEqual(kinds(self.storage), {b"a": "d", b"f": "-"})

    def test_may_have_others_made_in_them(self) -> None:
        identity = self.gridfs.put(b"1", filename="a/b/f")
        self.storage.mkdir(b"/a/b/new", 0o700)
        self.storage.symlink(b"/a/link", b"b/new")
        put(self.storage, b"/a/link/g", b"2")
        self.assertEqual(self.gridfs.get_last_version("a/b/new/g").read(), b"2")
        self.gridfs.delete(identity)
        self.assertEqual(kinds(self.storage, b"/a"), {b"b": "d", b"link": "l"})
        self.assertEqual(kinds(self.storage, b"/a/b"), {b"new": "d"})

    def test_have_attributes_once_they_are_set(self) -> None:
        identity = self.gridfs.put(b"1", filename="a/b/f")
        self.storage.setstat(b"/a/b", SFTPAttributes(permissions=0o700, uid=7, gid=8, atime=1, mtime=2))
        self.gridfs.delete(identity)
        attrs = self.storage.stat(b"/a/b")
        self.assertEqual((attrs.permissions, attrs.uid, attrs.mtime), (0o040700, 7, 2))
        self.storage.setstat(b"/", SFTPAttributes(permissions=0o711))
        self.assertEqual(self.storage.stat(b"/").permissions, 0o040711)

    def test_are_renamed_with_all_that_is_in_them(self) -> None:
        for filename in ("a/f", "a/b/c/g", "a-b/f", "a0"):
            self.gridfs.put(filename.encode(), filename=filename)
            self.gridfs.put(filename.encode() * 2, filename=filename)
        self.storage.rename(b"/a", b"/z")
        self.assertEqual(kinds(self.storage), {b"a-b": "d", b"a0": "-", b"z": "d"})
        self.assertEqual(sorted(self.gridfs.list()), ["a-b/f", "a0", "z/b/c/g", "z/f"])
        self.assertEqual(get(self.storage, b"/z/b/c/g"), b"a/b/c/ga/b/c/g")
        self.storage.rename(b"/z/b", b"/z/c")
        self.assertEqual(self.gridfs.get_version("z/c/c/g", 0).read(), b"a/b/c/g")
        self.storage.mkdir(b"/empty", 0o755)
        self.storage.rename(b"/z/c", b"/empty", replace=True)
        self.assertEqual(names(self.storage, b"/empty/c"), [b"g"])
        with self.assertRaises(OSError):
            self.storage.rename(b"/z", b"/empty", replace=True)


class OneBucketManyUsers(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.open_storage(prefix="users/a")
        self.other = self.open_storage(prefix="users/ab")
        self.everything = self.open_storage()
        for filename in ("users/a/f", "users/ab/g", "users/b", "secret", "users/a-"):
            self.gridfs.put(filename.encode(), filename=filename)

    def test_see_what_is_their_own_and_nothing_else(self) -> None:
        self.assertEqual(kinds(self.alice), {b"f": "-"})
        self.assertEqual(kinds(self.other), {b"g": "-"})
        for path in (b"/users/ab/g", b"/../ab/g", b"/../../secret", b"/b/g", b"../secret", b"b", b"/secret"):
            with self.subTest(path), self.assertRaises(FileNotFoundError):
                self.alice.stat(path)
        self.assertEqual(self.alice.realpath(b"/../.././../f"), b"/f")
        self.assertEqual(get(self.alice, b"/../../f"), b"users/a/f")
        self.assertEqual([attrs.size for name, attrs in self.alice.opendir(b"/..") if name == b"f"], [9])

    def test_cannot_leave_by_links(self) -> None:
        for number, target in enumerate(
            (b"/secret", b"../../secret", b"/../../secret", b"/users/ab/g", b"..")
        ):
            self.alice.symlink(b"/l%d" % number, target)
        for number in range(4):
            with self.subTest(number), self.assertRaises(FileNotFoundError):
                self.alice.open(b"/l%d" % number, os.O_RDONLY, 0)
        self.assertEqual(self.alice.realpath(b"/l4/l4/f"), b"/f")
        put(self.alice, b"/l1", b"mine")
        self.assertEqual(self.gridfs.get_last_version("users/a/secret").read(), b"mine")
        self.assertEqual(self.gridfs.get_last_version("secret").read(), b"secret")

    def test_cannot_change_anything_outside(self) -> None:
        self.alice.rename(b"/f", b"/../../moved")
        self.assertEqual(names(self.alice), [b"moved"])
        self.alice.mkdir(b"/../ab", 0o755)
        put(self.alice, b"/../ab/g", b"mine")
        for path in (b"/", b"/..", b"/../.."):
            with self.subTest(path), self.assertRaises(REFUSED):
                self.alice.rmdir(path)
            with self.subTest(path), self.assertRaises(REFUSED):
                self.alice.rename(path, b"/x")
        self.alice.rename(b"/../ab", b"/z")
        self.assertEqual(names(self.other), [b"g"])
        self.assertEqual(get(self.other, b"/g"), b"users/ab/g")
        self.assertEqual(names(self.everything), [b"secret", b"users"])
        self.assertEqual(names(self.everything, b"/users"), [b"a", b"a-", b"ab", b"b"])

    def test_have_their_directories_seen_from_further_up(self) -> None:
        new = self.open_storage(prefix="teams/new")
        self.assertEqual(names(new), [])
        new.mkdir(b"/d", 0o755)
        self.assertEqual(names(self.everything, b"/teams/new"), [b"d"])
        self.alice.rm(b"/f")
        self.assertEqual(names(self.everything, b"/users/a"), [])
        new.setstat(b"/", SFTPAttributes(permissions=0o700))
        self.assertEqual(self.everything.stat(b"/teams/new").permissions, 0o040700)

    def test_are_told_of_their_own_oddities(self) -> None:
        self.gridfs.put(b"1", filename="users/ab//odd")
        self.gridfs.put(b"2")
        self.assertEqual((self.alice.remarks(), len(self.other.remarks())), ([], 1))

    def test_may_have_buckets_of_their_own_instead(self) -> None:
        own = self.open_storage(bucket="own.files")
        put(own, b"/f", b"1")
        self.assertEqual((names(own), names(self.alice)), ([b"f"], [b"f"]))
        self.assertEqual(self.database["own.files.files"].count_documents({}), 1)
