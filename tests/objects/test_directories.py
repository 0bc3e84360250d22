"""Directories of an object store: implied ones, those that markers stand for, listings and renames."""

from __future__ import annotations

import os
from stat import S_ISDIR
from unittest import mock

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure, SFTPNotFound
from tests.objects.stores import StoreCase, fake
from tests.support.hard import IS_HARD

MANY = 100_000 if IS_HARD else 3_000


class DirectoryCase(StoreCase):
    server = "fake"

    def setUp(self):
        super().setUp()
        self.storage = self.open_storage()

    def names(self, path=b"/", storage=None):
        return sorted(
            name for name, _ in (storage or self.storage).opendir(path) if name not in (b".", b"..")
        )

    def counted(self, call, *arguments):
        """How many requests a call makes."""
        before = len(fake().requests)
        call(*arguments)
        return len(fake().requests) - before


class Directories(DirectoryCase):
    def test_what_keys_imply_and_what_markers_stand_for_are_directories(self):
        for key in ("implied/f", "marked/", "hadoop_$folder$", "both/", "both_$folder$", "both/f"):
            self.put_object(key)
        names = [b"both", b"hadoop", b"implied", b"marked"]
        self.assertEqual(self.names(), names)
        for name, attrs in self.storage.opendir(b"/"):
            if name in names:
                self.assertTrue(S_ISDIR(attrs.permissions), name)
                self.assertEqual(self.storage.stat(b"/" + name), attrs)
        self.assertEqual(self.names(b"/hadoop"), [])
        self.assertEqual(self.names(b"/both"), [b"f"])

    def test_an_empty_directory_is_removed_with_every_marker_of_it(self):
        for key in ("d/", "d_$folder$", "e_$folder$"):
            self.put_object(key)
        for path in (b"/d", b"/e"):
            self.storage.rmdir(path)
        self.assertEqual(self.all_keys(), [])

    def test_a_directory_outlives_the_last_file_in_it(self):
        self.put_object("d/e/f")
        self.storage.rm(b"/d/e/f")
        self.assertEqual(self.names(b"/d/e"), [])
        self.storage.rmdir(b"/d/e")
        self.assertEqual(self.names(b"/d"), [])
        self.storage.rmdir(b"/d")
        self.assertEqual(self.all_keys(), [])

    def test_a_file_and_a_directory_of_one_name_are_both_reachable_and_reported(self):
        for key in ("a", "a!", "a/f"):
            self.put_object(key, key.encode())
        self.assertEqual(self.names(), [b"a", b"a!"])
        self.assertEqual(self.storage.stat(b"/a").size, 1)
        self.assertTrue(S_ISDIR(self.storage.stat(b"/a/").permissions))
        self.assertEqual(self.names(b"/a/"), [b"f"])
        handle = self.storage.open(b"/a/f", os.O_RDONLY, 0)
        self.assertEqual(self.storage.read(handle, 0, 9), b"a/f")
        self.assertEqual(self.storage.remarks(), ["a: both a file and a directory; listings show the file."])

    def test_keys_that_no_path_leads_to_are_left_out_and_reported(self):
        for key in ("x//y", "./z", "good", "dir/../w"):
            self.put_object(key)
        self.assertEqual(self.names(), [b"dir", b"good", b"x"])
        self.assertEqual(self.names(b"/x"), [])
        self.assertEqual(len(self.storage.remarks()), 3)

    def test_where_the_store_holds_no_markers_a_new_directory_is_there_for_its_session(self):
        put = self.other.put

        def without_slash(key, body, *more):
            return put(key.rstrip("/"), body, *more)

        self.storage._store.put = without_slash
        delete = self.storage._store.delete
        self.storage._store.delete = lambda key: delete(key.rstrip("/"))
        self.storage.mkdir(b"/d", 0o777)
        self.storage.mkdir(b"/d/e", 0o777)
        self.assertEqual((self.names(), self.names(b"/d"), self.all_keys()), ([b"d"], [b"e"], []))
        self.storage.rename(b"/d", b"/new")
        self.storage.close(self.storage.open(b"/new/e/f", os.O_WRONLY | os.O_CREAT, 0o666))
        self.assertEqual(self.all_keys(), ["new/e/f"])
        self.storage.rm(b"/new/e/f")
        for path in (b"/new/e", b"/new"):
            self.assertEqual(self.names(os.path.dirname(path)), [os.path.basename(path)])
            self.storage.rmdir(path)
        self.assertEqual(self.names(), [])


class Listings(DirectoryCase):
    def test_a_listing_streams_one_request_for_1000_names_and_a_bounded_memory(self):
        objects = fake().buckets[self.bucket]
        self.put_object("d/00000")
        for number in range(1, MANY):
            objects[f"d/{number:05}"] = objects["d/00000"]
        before = len(fake().requests)
        entries = self.storage.opendir(b"/d")
        self.assertEqual(len(fake().requests) - before, 1)
        first = [next(entries)[0] for _ in range(10)]
        self.assertEqual(first[2:4], [b"00000", b"00001"])
        self.assertLessEqual(len(fake().requests) - before, 2)  # the next page at most is fetched ahead
        self.assertEqual(sum(1 for _ in entries), MANY + 2 - 10)
        self.assertEqual(len(fake().requests) - before, MANY // 1000)

    def test_a_page_that_fails_ends_the_listing_with_words(self):
        objects = fake().buckets[self.bucket]
        self.put_object("00000")
        for number in range(1, 1500):
            objects[f"{number:05}"] = objects["00000"]
        entries = self.storage.opendir(b"/")
        refuse = mock.patch.object(fake(), "fault", lambda *request: (403, "AccessDenied"))
        with refuse, self.assertRaisesRegex(SFTPException, "denies access"):
            list(entries)
        self.assertEqual(len(self.names()), 1500)

    def test_a_prefix_is_the_top_and_nothing_beside_it_is_seen(self):
        for key in ("users/alice/f", "users/alice2/g", "users/al"):
            self.put_object(key)
        storage = self.open_storage("users/alice")
        self.assertEqual(self.names(storage=storage), [b"f"])
        self.assertEqual(self.names(b"/../../..", storage), [b"f"])
        for path in (b"/../alice2/g", b"/..//../users/alice2/g"):
            self.assertRaises(OSError, storage.stat, path)
        storage.rm(b"/f")
        self.assertEqual(self.names(storage=storage), [])


class Requests(DirectoryCase):
    """What calls cost."""

    def test_a_small_file_is_read_with_one_request(self):
        self.put_object("f", b"content")
        handle = self.storage.open(b"/f", os.O_RDONLY, 0)
        self.assertEqual(self.counted(self.storage.read, handle, 0, 32768), 0)
        self.assertEqual(self.storage.fstat(handle).size, 7)

    def test_files_that_are_put_into_one_directory_take_two_requests_each(self):
        self.storage.mkdir(b"/d", 0o777)

        def put(name):
            handle = self.storage.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            self.storage.write(handle, 0, b"x")
            self.storage.close(handle)

        self.assertEqual([self.counted(put, b"/d/%d" % number) for number in range(3)], [2, 2, 2])

    def test_attributes_of_a_file_take_one_request_and_of_its_listing_none(self):
        self.put_object("f", b"content")
        self.assertEqual(self.counted(self.storage.stat, b"/f"), 1)
        self.assertEqual(self.counted(list, self.storage.opendir(b"/")), 0)


class Renames(DirectoryCase):
    def test_a_directory_of_2500_keys_is_moved(self):
        objects = fake().buckets[self.bucket]
        self.put_object("old/")
        count = 2500 if IS_HARD else 50
        for number in range(count):
            objects[f"old/{number:04}"] = objects["old/"]
        self.storage.rename(b"/old", b"/new")
        self.assertEqual(self.names(), [b"new"])
        self.assertEqual(len(self.names(b"/new")), count)

    def test_a_rename_that_is_interrupted_says_what_has_moved_and_loses_nothing(self):
        for number in range(20):
            self.put_object(f"old/{number:02}", b"%d" % number)
        refuse = lambda method, key, query: (403, "AccessDenied") if key == "new/10" else None  # noqa: E731
        words = (
            r"denies access \(AccessDenied\)\. \d+ files up to 0\d are in the new directory, the others still"
        )
        with mock.patch.object(fake(), "fault", refuse), self.assertRaisesRegex(SFTPFailure, words):
            self.storage.rename(b"/old", b"/new")
        self.assertEqual(len(self.names(b"/old") + self.names(b"/new")), 20)

    def test_a_rename_of_a_file_does_not_replace_what_appears_meanwhile(self):
        self.put_object("f", b"content")
        self.put_object("g", b"of another")
        with self.assertRaisesRegex(OSError, "File exists"):
            self.storage.rename(b"/f", b"/g")
        self.assertEqual(self.get_object("g"), b"of another")

    def test_a_file_whose_copy_fails_stays(self):
        self.put_object("f", b"content")
        refuse = lambda method, key, query: (403, "AccessDenied") if method == "PUT" else None  # noqa: E731
        with mock.patch.object(fake(), "fault", refuse), self.assertRaises(SFTPException):
            self.storage.rename(b"/f", b"/g")
        self.assertEqual(self.all_keys(), ["f"])

    def test_names_that_the_store_cannot_hold_are_refused(self):
        self.put_object("f")
        with self.assertRaisesRegex(SFTPException, "UTF-8"):
            self.storage.rename(b"/f", b"/\xff")
        with self.assertRaisesRegex(OSError, "too long"):
            self.storage.mkdir(b"/" + b"x" * 1024, 0o777)
        self.assertRaises(SFTPNotFound, self.storage.stat, b"")


class Times(StoreCase):
    server = "fake"
    settings = "&times=metadata"

    def test_times_are_kept_in_rclones_metadata_and_listings_agree(self):
        storage = self.open_storage()
        self.put_object("rclone", b"x", mtime="1000000000.123456789")
        self.put_object("plain", b"x")
        handle = storage.open(b"/written", os.O_WRONLY | os.O_CREAT, 0o666)
        storage.write(handle, 0, b"x")
        storage.fsetstat(handle, SFTPAttributes(atime=5, mtime=1_100_000_000, permissions=0o600))
        storage.close(handle)
        storage.setstat(b"/plain", SFTPAttributes(atime=5, mtime=1_200_000_000))
        times = {name: attrs.mtime for name, attrs in storage.opendir(b"/") if not name.startswith(b".")}
        self.assertEqual(
            times, {b"rclone": 1_000_000_000, b"written": 1_100_000_000, b"plain": 1_200_000_000}
        )
        for name, mtime in times.items():
            self.assertEqual(storage.stat(b"/" + name).mtime, mtime)
        self.assertEqual(self.other.head("written").metadata, {"mtime": "1100000000"})

    def test_the_time_of_a_large_file_is_set_when_its_parts_are_in_the_store(self):
        storage = self.open_storage()
        handle = storage.open(b"/f", os.O_WRONLY | os.O_CREAT, 0o666)
        for off in range(0, 11 << 20, 1 << 20):
            storage.write(handle, off, bytes(1 << 20))
        storage.fsetstat(handle, SFTPAttributes(atime=5, mtime=1_100_000_000))
        storage.close(handle)
        self.assertEqual(storage.stat(b"/f").mtime, 1_100_000_000)

    def test_without_it_a_setstat_is_accepted_and_changes_nothing(self):
        self.settings = ""
        storage = self.open_storage()
        self.put_object("f", b"x")
        before = storage.stat(b"/f")
        storage.setstat(b"/f", SFTPAttributes(atime=5, mtime=5, permissions=0o600, uid=1, gid=1))
        self.assertEqual(storage.stat(b"/f"), before)
