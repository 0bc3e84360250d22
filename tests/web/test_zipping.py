"""Zips that are made while they are sent: readers of zips find in them what was in the tree."""

from __future__ import annotations

import io
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

from pysftpserver.http import ReplyBroken
from pysftpserver.http.files import FileProblem
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from pysftpserver.web.files import Tree
from pysftpserver.web.wire import Refusal, Reply
from pysftpserver.web.zipping import LONGEST, PIECE, attachment, folded, safe_name, told_apart, zip_reply
from tests.support.examples import given, settings, st
from tests.support.hard import IS_HARD

NOISE = os.urandom(PIECE + 1)
ZEROS = bytes(2 * PIECE)
GIB = 1 << 30


class Watched(SFTPServerVirtualChroot):
    """A jail that says how many files are open and how much was read. fails_at: an offset, in every file."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.open_handles = 0
        self.bytes_read = 0
        self.fails_at: int | None = None

    def open(self, path: bytes, flags: int, mode: int) -> int:
        handle = super().open(path, flags, mode)
        self.open_handles += 1
        return handle

    def read(self, handle: int, off: int, size: int) -> bytes:
        if self.fails_at is not None and off >= self.fails_at:
            raise OSError(5, "Input/output error")
        found = super().read(handle, off, size)
        self.bytes_read += len(found)
        return found

    def close(self, handle: int) -> None:
        super().close(handle)
        self.open_handles -= 1


class ZipCase(unittest.TestCase):
    """A jail of the test's own."""

    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="pysftpserver-zip-"))
        self.addCleanup(shutil.rmtree, self.root)
        self.jail = self.root / "jail"
        self.jail.mkdir()
        self.storage = Watched(self.jail)
        self.tree = Tree(self.storage)

    def fill(self, **files: bytes | None) -> None:
        """Make files; None is a directory. _ stands for a slash in names, and __ for a dot."""
        for name, content in files.items():
            path = self.jail / name.replace("__", ".").replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir()
            else:
                path.write_bytes(content)

    def reply(self, *paths: bytes, most: int = 1000) -> Reply:
        """The reply with a zip of these."""
        reply = zip_reply(self.tree, paths or [b"/"], "all", most)
        self.addCleanup(reply.body.close)  # type: ignore[attr-defined]
        return reply

    def zipped(self, *paths: bytes) -> bytes:
        """A zip of these. If a length is announced, it is right."""
        reply = self.reply(*paths)
        data = b"".join(reply.body)
        if reply.length is not None:
            self.assertEqual(len(data), reply.length)
        self.assertEqual(self.storage.open_handles, 0)
        return data

    def read(self, *paths: bytes) -> dict[str, bytes | None]:
        """The content of a zip of these, by name; None for directories. zipfile has found no fault in it."""
        with zipfile.ZipFile(io.BytesIO(self.zipped(*paths))) as whole:
            self.assertIsNone(whole.testzip())
            return {info.filename: None if info.is_dir() else whole.read(info) for info in whole.infolist()}

    def names(self, *paths: bytes) -> list[str]:
        return sorted(self.read(*paths))


class What(ZipCase):
    def test_a_folder_is_in_it_with_all_that_is_in_it_and_empty_folders(self):
        self.fill(box_notes__txt=b"words " * 9999, box_photo__jpg=NOISE, box_in_deep_0=b"", box_empty=None)
        self.assertEqual(
            self.read(b"/box"),
            {
                "box/": None,
                "box/notes.txt": b"words " * 9999,
                "box/photo.jpg": NOISE,
                "box/in/": None,
                "box/in/deep/": None,
                "box/in/deep/0": b"",
                "box/empty/": None,
            },
        )

    def test_of_the_root_the_content_is_at_the_top(self):
        self.fill(a=b"1", b_c=b"2")
        self.assertEqual(self.read(), {"a": b"1", "b/": None, "b/c": b"2"})

    def test_several_files_of_several_folders_are_told_apart(self):
        self.fill(a_x__txt=b"1", b_x__txt=b"2", c_X__TXT=b"3")
        found = self.read(b"/a/x.txt", b"/b/x.txt", b"/c/X.TXT")
        self.assertEqual(found, {"x.txt": b"1", "x (2).txt": b"2", "X (3).TXT": b"3"})

    def test_what_is_compressed_already_is_stored_and_the_length_is_said(self):
        self.fill(a_photo__JPG=NOISE, a_film__mp4=b"0" * 1000, a_b=None)
        reply = self.reply(b"/a")
        self.assertEqual(reply.length, len(self.zipped(b"/a")))
        with zipfile.ZipFile(io.BytesIO(self.zipped(b"/a"))) as whole:
            self.assertEqual({info.compress_type for info in whole.infolist()}, {zipfile.ZIP_STORED})

    def test_text_is_deflated_and_no_length_is_said(self):
        self.fill(a_text=b"0" * 1_000_000)
        self.assertIsNone(self.reply(b"/a").length)
        self.assertLess(len(self.zipped(b"/a")), 10_000)

    def test_times_are_in_it_also_those_before_1980_and_after_2107(self):
        for number, when in enumerate((0, 1_000_000_001, 5_000_000_000)):
            self.fill(**{f"a{number}": b"x"})
            os.utime(self.jail / f"a{number}", (when, when))
        with zipfile.ZipFile(io.BytesIO(self.zipped())) as whole:
            years = {info.filename: info.date_time[0] for info in whole.infolist()}
        self.assertEqual(years, {"a0": 1980, "a1": 2001, "a2": 2107})

    def test_it_is_named_for_a_download_whatever_its_name(self):
        full = "a%22b%5Cc%0D%0AX%3A%201%C3%A9.zip"
        plain = 'attachment; filename="a_b_c__X: 1_.zip"'
        found = attachment('a"b\\c\r\nX: 1é.zip')
        self.assertEqual(found, f"{plain}; filename*=UTF-8''{full}")


class Unpackers(ZipCase):
    def test_programs_of_others_find_no_fault_in_it(self):
        self.fill(box_notes__txt=b"words " * 9999, box_photo__jpg=NOISE, box_empty=None)
        (self.jail / "box" / "Grüße.txt").write_bytes(b"x")
        archive = self.root / "all.zip"
        archive.write_bytes(self.zipped(b"/box"))
        checks = (["unzip", "-t"], ["7z", "t"], ["7zz", "t"], [sys.executable, "-m", "zipfile", "-t"])
        there = [check for check in checks if shutil.which(check[0])]
        self.assertGreaterEqual(len(there), 3, "tools/debian.sh test installs them")
        for check in there:
            with self.subTest(check[0]):
                subprocess.run([*check, archive], check=True, capture_output=True)
        out = self.root / "out"
        language = {**os.environ, "LC_ALL": "C.UTF-8"}
        subprocess.run(["unzip", "-q", archive, "-d", out], check=True, env=language)
        subprocess.run(["diff", "-r", self.jail, out], check=True)

    @unittest.skipUnless(IS_HARD, "it takes minutes: make test-hard")
    def test_files_of_more_than_4_gib_and_more_than_65535_names_need_zip64_and_flat_memory(self):
        large = self.jail / "large"
        large.mkdir()
        with open(large / "sparse.mp4", "wb") as file:
            file.truncate(4 * GIB + 1)
        (large / "after.zip").write_bytes(NOISE)
        many = large / "many"
        many.mkdir()
        for number in range(70_000):
            (many / f"{number}.png").write_bytes(b"x")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reply = zip_reply(self.tree, [b"/large"], "large", 80_000)
        archive = self.root / "large.zip"
        size = 0
        with open(archive, "wb") as file:
            for piece in reply.body:
                size += len(piece)
                if piece == ZEROS[: len(piece)]:
                    file.seek(len(piece), os.SEEK_CUR)
                else:
                    file.write(piece)
        self.assertEqual(size, reply.length)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        self.assertLess(grown, 200_000, "KiB")
        subprocess.run(["unzip", "-tqq", archive], check=True)
        with zipfile.ZipFile(archive) as whole:
            self.assertEqual(whole.getinfo("large/sparse.mp4").file_size, 4 * GIB + 1)
            self.assertEqual(whole.read("large/after.zip"), NOISE)
            self.assertEqual(len(whole.infolist()), 70_004)


class Breaking(ZipCase):
    def test_a_file_that_cannot_be_read_to_its_end_breaks_it_off(self):
        self.fill(a__txt=b"1", b__bin=os.urandom(3 * PIECE))
        self.storage.fails_at = PIECE
        with self.assertRaises(ReplyBroken):
            b"".join(self.reply().body)
        self.assertEqual(self.storage.open_handles, 0)

    def test_a_file_that_is_gone_or_shorter_than_was_said_breaks_it_off(self):
        for number, change in enumerate((Path.unlink, lambda path: path.write_bytes(b"0" * 10))):
            path = self.jail / f"{number}.jpg"
            path.write_bytes(b"0" * 1000)
            reply = self.reply(b"/" + path.name.encode())
            change(path)
            with self.assertRaises(ReplyBroken):
                b"".join(reply.body)

    def test_of_a_file_that_grows_there_is_what_was_there_before(self):
        self.fill(log__jpg=b"0" * 1000)
        reply = self.reply(b"/log.jpg")
        (self.jail / "log.jpg").write_bytes(b"1" * 5000)
        with zipfile.ZipFile(io.BytesIO(b"".join(reply.body))) as whole:
            self.assertEqual(whole.read("log.jpg"), b"1" * 1000)

    def test_a_client_that_leaves_ends_the_reading_and_closes_the_file(self):
        self.fill(a__bin=os.urandom(40 * PIECE))
        ends: list[bool] = []
        reply = zip_reply(self.tree, [b"/"], "all", finished=lambda: ends.append(True))
        next(iter(reply.body))
        self.assertEqual(self.storage.open_handles, 1)
        reply.body.close()  # type: ignore[attr-defined]
        reply.body.close()  # type: ignore[attr-defined]
        self.assertEqual(self.storage.open_handles, 0)
        self.assertEqual(ends, [True])
        self.assertLess(self.storage.bytes_read, 4 * PIECE)

    def test_the_end_is_told_where_nothing_was_sent(self):
        ends: list[bool] = []
        zip_reply(self.tree, [b"/"], "all", finished=lambda: ends.append(True)).body.close()  # type: ignore[attr-defined]
        self.assertEqual(ends, [True])

    def test_too_many_names_and_folders_in_one_another_are_refused_before_anything_is_sent(self):
        self.fill(a_b_c_d=b"")
        self.assertEqual(len(self.names(b"/a")), 4)
        with self.assertRaisesRegex(Refusal, "more than 3 files") as caught:
            self.reply(b"/a", most=3)
        self.assertEqual(caught.exception.status, 413)
        os.makedirs(self.jail / "/".join("d" * 70))
        with self.assertRaisesRegex(Refusal, "folders in one another"):
            self.reply(b"/d")

    def test_a_folder_that_cannot_be_listed_is_named_before_anything_is_sent(self):
        self.fill(a_b_c=b"")
        failing = mock.Mock(side_effect=PermissionError(13, "Permission denied"))
        opendir = self.storage.opendir
        with (
            mock.patch.object(
                self.storage, "opendir", lambda path: (failing if path == b"/a/b" else opendir)(path)
            ),
            self.assertRaisesRegex(FileProblem, "^a/b: permission denied"),
        ):
            self.reply(b"/a")

    def test_what_is_not_there_is_a_problem_before_anything_is_sent(self):
        with self.assertRaisesRegex(FileProblem, "no such file"):
            self.reply(b"/nothing")


class Links(ZipCase):
    def test_links_are_what_they_lead_to_and_lead_nowhere_else(self):
        (self.root / "secret").write_bytes(b"secret")
        self.fill(a_file=b"1", b_other=b"2")
        for name, target in {
            "file": "../a/file",
            "folder": "../a",
            "out": str(self.root / "secret"),
            "up": "../../secret",
            "dangling": "nothing",
        }.items():
            (self.jail / "b" / name).symlink_to(target)
        os.mkfifo(self.jail / "b" / "fifo")
        self.assertEqual(
            self.read(b"/b"),
            {"b/": None, "b/other": b"2", "b/file": b"1", "b/folder/": None, "b/folder/file": b"1"},
        )

    def test_loops_of_links_end(self):
        self.fill(a_x=b"1", b_y=b"2")
        for place, target in {"a/self": ".", "a/b": "../b", "b/a": "../a", "b/root": "/"}.items():
            (self.jail / place).symlink_to(target)
        found = self.names(b"/a")
        self.assertIn("a/b/y", found)
        self.assertLess(len(found), 12)


NAMES = st.binary(min_size=1, max_size=LONGEST).filter(lambda name: b"/" not in name and b"\0" not in name)
HOSTILE = st.sampled_from(
    [
        b"..",
        b".",
        b".. ",
        b"...",
        b"C:",
        b"c:\\x",
        b"..\\..\\x",
        b"a\\b",
        b"\xff\xfe",
        b"x:stream",
        b"\x1b[2J",
    ]
    + ["\u202egpj.exe".encode(), "é".encode(), "e\u0301".encode(), b"A", b"a", b"a (2)", b"\r\nX: y"]
)


class Names(unittest.TestCase):
    @settings(deadline=None, max_examples=1000 if IS_HARD else 60, database=None)
    @given(st.lists(NAMES | HOSTILE, max_size=20))
    def test_every_name_is_one_safe_name_of_its_own(self, names: Iterable[bytes]) -> None:
        taken: dict[str, int] = {}
        given = [told_apart(safe_name(name), taken) for name in names]
        self.assertEqual(len({folded(name) for name in given}), len(given))
        for name in given:
            self.assertTrue(name.strip(". "))
            self.assertTrue(name.isprintable() or not any(ord(char) < 32 for char in name))
            self.assertFalse(set(name) & set("/\\:\0\x7f"))
            self.assertLessEqual(len(name.encode()), LONGEST)

    def test_good_names_stay(self):
        for name in ("Grüße aus Köln.txt", ".profile", "a b (1).tar.gz", "日本.pdf", "-rf"):
            self.assertEqual(safe_name(name.encode()), name)

    def test_many_names_that_become_the_same_take_no_long_time(self):
        taken: dict[str, int] = {}
        short = mock.Mock(side_effect=lambda name, number: f"{name[:4]} ({number})")
        with mock.patch("pysftpserver.web.zipping.numbered", short):
            for number in range(2000):
                told_apart(f"same{number // 2}", taken)
        self.assertLess(short.call_count, 6000)
