"""Filenames in GridFS and paths of the storage: one for each, and the database's order."""

from __future__ import annotations

import random
import unittest

from pysftpserver.storages.mongo.bitmap import Bitmap
from pysftpserver.storages.mongo.names import (
    NAME_MAX,
    after,
    ancestors,
    below,
    component,
    is_reachable,
    moved,
    name_of,
    parent_of,
    to_bytes,
    to_text,
)
from tests.support.examples import example, given, seed, settings, st
from tests.support.hard import IS_HARD

SEED = 20261123
ODD = [
    "/",
    ".",
    "..",
    "\0",
    "é",
    "€",
    "\U0001f600",
    "\uf07f",
    "\uf080",
    "\uf0ff",
    "\uf100",
    "\ufffd",
    "\uffff",
]
TEXTS = st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=3)), max_size=8).map("".join)
#: Bytes of all sorts, and more often such as begin or end in the middle of a character.
RAW = st.one_of(
    st.binary(max_size=40),
    TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.builds(lambda text, cut: text.encode("utf-8", "surrogatepass")[cut:-1], TEXTS, st.integers(0, 3)),
)
NAMES = RAW.map(lambda raw: raw.replace(b"/", b"").replace(b"\0", b"")).filter(
    lambda raw: raw not in (b"", b".", b"..")
)


def settled(count: int = 150):
    return settings(max_examples=count if IS_HARD else count // 4, database=None)


class EveryPathHasOneFilename(unittest.TestCase):
    @seed(SEED)
    @settled(400)
    @given(RAW)
    @example("\uf0e9".encode())
    @example(b"\xef\x82")
    @example(b"\xef\x82\x80\x80")
    @example(b"\xed\xa0\x80")
    def test_and_the_path_comes_back_from_it(self, raw: bytes) -> None:
        text = to_text(raw)
        text.encode()  # a database takes it
        self.assertEqual(to_bytes(text), raw)

    @seed(SEED)
    @settled(400)
    @given(RAW, RAW)
    @example("\uf0e9".encode(), b"\xe9")
    @example("\uf0c3\uf0a9".encode(), "é".encode())
    def test_and_no_two_have_the_same(self, one: bytes, other: bytes) -> None:
        self.assertEqual(to_text(one) == to_text(other), one == other)

    @seed(SEED)
    @settled()
    @given(RAW, RAW)
    def test_which_is_put_together_from_its_components(self, one: bytes, other: bytes) -> None:
        self.assertEqual(to_text(one + b"/" + other), f"{to_text(one)}/{to_text(other)}")

    @seed(SEED)
    @settled()
    @given(NAMES)
    def test_and_each_name_in_it_is_found_again(self, raw: bytes) -> None:
        text = component(raw)
        self.assertEqual(name_of(text), raw)
        self.assertTrue(is_reachable(f"a/{text}/b"))

    def test_plain_utf_8_is_its_own_filename(self) -> None:
        for text in ("a/b", "é", "日本", "\U0001f600", "\ufffd", "\uf07f", "\uf100", "\ue000"):
            with self.subTest(text):
                self.assertEqual(to_text(text.encode()), text)

    def test_a_name_may_have_as_many_bytes_as_in_other_file_systems_and_no_more(self) -> None:
        self.assertEqual(component(b"x" * NAME_MAX), "x" * NAME_MAX)
        self.assertEqual(name_of("é" * 127 + "x"), "é".encode() * 127 + b"x")
        self.assertIsNone(name_of("é" * 128))
        for raw in (b"x" * (NAME_MAX + 1), b"a\0b"):
            with self.assertRaises(OSError):
                component(raw)

    def test_bytes_that_are_no_text_count_once_each(self) -> None:
        raw = b"\xff" * NAME_MAX
        self.assertEqual(name_of(component(raw)), raw)


class FilenamesOfAnotherFormHaveNoPath(unittest.TestCase):
    @seed(SEED)
    @settled(400)
    @given(TEXTS)
    @example("\uf0c3\uf0a9")  # the bytes of "é", which has a filename already
    @example("\uf0ef\uf082\uf080")
    def test_a_filename_has_a_path_only_if_that_has_this_filename(self, text: str) -> None:
        name = name_of(text)
        if name is not None:
            self.assertEqual(component(name), text)
        elif text not in ("", ".", "..") and "/" not in text and "\0" not in text:
            raw = to_bytes(text)
            self.assertTrue(len(raw) > NAME_MAX or to_text(raw) != text, ascii(text))

    def test_nor_have_those_with_empty_parts_or_dots(self) -> None:
        for filename in ("", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "../a", "a/..", "a\0", "a/\0/b"):
            with self.subTest(filename):
                self.assertFalse(is_reachable(filename))

    def test_nor_has_what_is_no_text(self) -> None:
        for filename in (None, 7, b"a", ["a"], {"a": 1}, "caf\udce9", "caf\udce9/a"):
            with self.subTest(filename=filename):
                self.assertFalse(is_reachable(filename))


class TheOrderIsTheDatabases(unittest.TestCase):
    """MongoDB compares strings by their UTF-8."""

    @seed(SEED)
    @settled()
    @given(st.lists(TEXTS, max_size=20))
    def test_code_points_have_the_order_of_their_utf_8(self, texts: list[str]) -> None:
        self.assertEqual(sorted(texts), sorted(texts, key=lambda text: text.encode()))

    @seed(SEED)
    @settled(400)
    @given(NAMES, TEXTS)
    @example(b"sub", "sub0")
    @example(b"sub", "sub/\U0010ffff")
    @example(b"sub", "sub.")
    @example(b"sub", "sub")
    def test_all_that_is_in_a_directory_and_nothing_else_is_in_its_range(self, raw: bytes, text: str) -> None:
        first = below(component(raw))
        for name in (text, component(raw) + text, first + text):
            behind = str(after(first))
            self.assertEqual(first <= name < behind, name.startswith(first), ascii(name))

    @seed(SEED)
    @settled()
    @given(st.lists(NAMES, min_size=1, max_size=5).map(lambda parts: "/".join(map(component, parts))))
    def test_a_name_is_in_all_the_directories_above_it(self, name: str) -> None:
        self.assertEqual((ancestors(name) or [""])[-1], parent_of(name))
        for directory in ancestors(name):
            self.assertTrue(name.startswith(below(directory)))
            self.assertEqual(moved(moved(name, directory, "new"), "new", directory), name)

    def test_nothing_is_behind_the_top(self) -> None:
        self.assertEqual(below(""), "")
        self.assertIsNone(after(""))


class ABitmapIsASetOfNumbers(unittest.TestCase):
    def test_whatever_is_done_to_it(self) -> None:
        for number in range(SEED, SEED + 40):
            with self.subTest(seed=number):
                self.compare(random.Random(number))

    def compare(self, rng: random.Random) -> None:
        bitmap, model = Bitmap(), set[int]()
        most = rng.choice((5, 20, 70, 300))
        for _ in range(120):
            number = rng.randrange(most)
            if rng.random() < 0.9:
                for one in range(number, number + rng.choice((1, 1, 9, 33))):
                    bitmap.add(one)
                    model.add(one)
            else:
                had = any(one >= number for one in model)
                self.assertEqual(bitmap.cut(number), had)
                model = {one for one in model if one < number}
            stop = rng.randrange(most + 40)
            self.assertEqual(len(bitmap), len(model))
            wanted = [one in model for one in range(most + 80)]
            self.assertEqual([one in bitmap for one in range(most + 80)], wanted)
            self.assertEqual(list(bitmap.gaps(stop)), gaps(model, stop))

    def test_a_large_number_leaves_one_long_gap(self) -> None:
        bitmap = Bitmap()
        bitmap.add(1 << 22)
        self.assertEqual(list(bitmap.gaps((1 << 22) + 2)), [(0, 1 << 22), ((1 << 22) + 1, (1 << 22) + 2)])
        self.assertTrue(bitmap.cut(1))
        self.assertEqual(len(bitmap), 0)


def gaps(model: set[int], stop: int) -> list[tuple[int, int]]:
    """The runs of numbers below stop that are not in a set, number by number."""
    runs: list[tuple[int, int]] = []
    for number in range(stop):
        if number not in model:
            if runs and runs[-1][1] == number:
                runs[-1] = runs[-1][0], number + 1
            else:
                runs.append((number, number + 1))
    return runs
