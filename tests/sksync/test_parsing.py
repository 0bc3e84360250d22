"""Pieces to lines, listings and contents: however a stream is cut, the same comes out."""

from __future__ import annotations

import hashlib
import unittest
from collections.abc import Callable
from typing import Any

from pysftpserver.sksync import wire
from pysftpserver.sksync.parsing import (
    Damaged,
    DownloadParser,
    LineParser,
    ListingParser,
    UploadParser,
)
from pysftpserver.sksync.wire import Dialect, Malformed
from tests.sksync.serving import cuts
from tests.support.examples import given, st

CONTENTS = st.lists(st.binary(max_size=60), max_size=5)
#: Bytes of a piece; negative ones are seeds of random ones.
CUTS = st.integers(-1000, 40)


class Files:
    """A sink that keeps what it gets, and looks at the order of the calls."""

    def __init__(self) -> None:
        self.files: list[tuple[str, int, bytes]] = []
        self._coming: tuple[str, int, int] | None = None

    def begin(self, name: str, mtime: int, length: int) -> None:
        assert self._coming is None
        self._coming = (name, mtime, length)
        self._content = b""

    def write(self, piece: memoryview) -> None:
        assert len(piece) > 0
        self._content += piece

    def end(self) -> None:
        assert self._coming is not None
        name, mtime, length = self._coming
        assert len(self._content) == length
        self.files.append((name, mtime, self._content))
        self._coming = None


def feed(parser: Any, stream: bytes, how: int) -> bytes:
    """Feed a parser until it is done; what it left. Each piece lies in a larger buffer, as in real life."""
    pieces = list(cuts(stream, how))
    for number, piece in enumerate(pieces):
        buffer = bytearray(b"\n7 x\n" + piece + b"\nrest\n")
        used = parser.feed(buffer, 5, 5 + len(piece)) - 5
        for place in range(len(buffer)):  # nothing may be kept but copies
            buffer[place] = 0
        if parser.is_done:
            return piece[used:] + b"".join(pieces[number + 1 :])
        assert used == len(piece), (used, piece)
    return b""


def content(dialect: Dialect, data: bytes) -> bytes:
    """A length and what follows it, as the page has it."""
    digest = hashlib.md5(data).hexdigest().encode() + b"\n" if dialect.has_digests else b""
    return b"%d\n" % len(data) + data + digest


def names_of(contents: list[bytes]) -> list[tuple[str, int]]:
    return [(f"d/f{number}", 1000 + number) for number in range(len(contents))]


def everything(name: str, mtime: int) -> None:
    """A check that lets all files in."""


class SomeLines(unittest.TestCase):
    @given(st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"")), max_size=6), CUTS)
    def test_lines_are_the_same_however_they_are_cut(self, lines: list[bytes], how: int) -> None:
        stream = b"".join(line + b"\n" for line in lines)
        parser = LineParser()
        found = []
        for piece in cuts(stream, how):
            start = 0
            while start < len(piece):
                line, start = parser.feed(piece, start, len(piece))
                found += [line] if line is not None else []
        self.assertEqual(found, lines)

    def test_a_line_may_have_64_kib_and_not_one_byte_more_however_it_is_cut(self) -> None:
        longest = b"x" * (wire.MOST_LINE - 1) + b"\n"
        for how in (0, 1000, 65535, -3):
            with self.subTest(how):
                self.assertEqual(self._lines(longest, how), [longest[:-1]])
                for bad in (b"x" + longest, b"x" * wire.MOST_LINE):
                    with self.assertRaises(Malformed):
                        self._lines(bad, how)

    def _lines(self, stream: bytes, how: int) -> list[bytes]:
        parser = LineParser()
        found = [parser.feed(piece, 0, len(piece))[0] for piece in cuts(stream, how)]
        return [line for line in found if line is not None]


class Listings(unittest.TestCase):
    def parser(self, dialect: Dialect = Dialect.PYSKSYNC_2, **limits: Any) -> ListingParser:
        given = {"is_recursive": True, "most_names": 100, "most_bytes": 10_000} | limits
        return ListingParser(dialect, **given)

    @given(CUTS)
    def test_the_captured_listing_is_read_however_it_is_cut(self, how: int) -> None:
        parser = self.parser(Dialect.SKSYNC_1)
        stream = b"1345316070000 test2.txt\n1345316082000 test1.txt\n1345316010000 test3.txt\n\n"
        self.assertEqual(feed(parser, stream + b"what follows", how), b"what follows")
        expected = {"test2.txt": 1345316070, "test1.txt": 1345316082, "test3.txt": 1345316010}
        self.assertEqual((parser.files, parser.is_done), (expected, True))

    def test_it_is_not_done_before_the_empty_line(self) -> None:
        parser = self.parser()
        feed(parser, b"1000 a\n2000 b", 0)
        self.assertEqual((parser.files, parser.is_done), ({"a": 1}, False))

    @given(CUTS)
    def test_names_that_are_not_in_the_encoding_are_counted_and_the_others_stay(self, how: int) -> None:
        parser = self.parser()
        feed(parser, b"1000 caf\xe9\n2000 b\n3000 \xff\n\n", how)
        self.assertEqual((parser.files, parser.undecodable), ({"b": 2}, 2))

    def test_a_name_in_a_directory_is_refused_where_one_directory_was_asked_for(self) -> None:
        with self.assertRaises(Malformed):
            feed(self.parser(is_recursive=False), b"1000 d/f\n\n", 0)

    def test_a_listing_of_as_many_names_and_bytes_as_it_may_have_is_taken_and_no_longer_one(self) -> None:
        three = b"1000 a\n1000 b\n1000 \xff\n"
        for how in (0, 1, -7):
            with self.subTest(how):
                feed(self.parser(most_names=3, most_bytes=len(three) + 1), three + b"\n", how)
                for limits in ({"most_names": 2}, {"most_bytes": len(three) - 1}):
                    with self.assertRaises(Malformed):
                        feed(self.parser(**limits), three + b"\n", how)


class Contents(unittest.TestCase):
    @given(CONTENTS, st.sampled_from(Dialect), CUTS)
    def test_uploads_are_the_same_however_they_are_cut(
        self, contents: list[bytes], dialect: Dialect, how: int
    ) -> None:
        names = names_of(contents)
        sink = Files()
        parser = UploadParser(dialect, sink, names)
        stream = b"".join(content(dialect, data) for data in contents)
        self.assertEqual(feed(parser, stream + b"rest", how), b"rest")
        expected = [(*name, data) for name, data in zip(names, contents, strict=True)]
        self.assertEqual((sink.files, parser.count, parser.is_done), (expected, len(expected), True))

    @given(CONTENTS, st.sampled_from(Dialect), CUTS)
    def test_downloads_are_the_same_however_they_are_cut(
        self, contents: list[bytes], dialect: Dialect, how: int
    ) -> None:
        names = names_of(contents)
        sink = Files()
        parser = DownloadParser(dialect, sink, everything)
        stream = b"".join(
            f"{name}\n{mtime * 1000 + 999}\n".encode() + content(dialect, data)
            for (name, mtime), data in zip(names, contents, strict=True)
        )
        self.assertEqual(feed(parser, stream + b"\nrest", how), b"rest")
        expected = [(*name, data) for name, data in zip(names, contents, strict=True)]
        self.assertEqual((sink.files, parser.count, parser.is_done), (expected, len(expected), True))

    @given(CUTS)
    def test_one_stray_empty_line_before_the_first_length_is_passed_over(self, how: int) -> None:
        sink = Files()
        parser = UploadParser(Dialect.SKSYNC_1, sink, [("a", 1), ("b", 2)])
        feed(parser, b"\n1\nx0\n", how)
        self.assertEqual((sink.files, parser.is_done), ([("a", 1, b"x"), ("b", 2, b"")], True))

    def test_an_empty_line_anywhere_else_is_refused(self) -> None:
        for stream in (b"\n\n1\nx0\n", b"1\nx\n0\n", b"1\nx\n"):
            with self.subTest(stream), self.assertRaises(Malformed):
                feed(UploadParser(Dialect.SKSYNC_1, Files(), [("a", 1), ("b", 2)]), stream, 0)

    def test_where_nothing_is_wanted_nothing_is_read(self) -> None:
        parser = UploadParser(Dialect.PYSKSYNC_2, Files(), [])
        self.assertTrue(parser.is_done)
        self.assertEqual(parser.feed(b"3\nabc", 0, 5), 0)

    @given(CUTS)
    def test_content_with_a_wrong_digest_is_damaged_and_does_not_end(self, how: int) -> None:
        for make in (self._upload, self._download):
            sink = Files()
            parser, head = make(sink)
            digest = hashlib.md5(b"abd").hexdigest().encode()
            with self.assertRaises(Damaged):
                feed(parser, head + b"3\nabc" + digest + b"\n", how)
            self.assertEqual((sink.files, parser.count), ([], 0))

    def test_a_digest_in_capitals_fits(self) -> None:
        sink = Files()
        digest = hashlib.md5(b"abc").hexdigest().upper().encode()
        feed(self._upload(sink)[0], b"3\nabc" + digest + b"\n", 0)
        self.assertEqual(sink.files, [("a", 1, b"abc")])

    def _upload(self, sink: Files) -> tuple[UploadParser, bytes]:
        return UploadParser(Dialect.PYSKSYNC_2, sink, [("a", 1)]), b""

    def _download(self, sink: Files) -> tuple[DownloadParser, bytes]:
        return DownloadParser(Dialect.PYSKSYNC_2, sink, everything), b"a\n1000\n"

    def test_what_is_no_file_ends_the_stream_before_anything_is_written(self) -> None:
        def refuse(name: str, mtime: int) -> None:
            raise Malformed("not this one")

        cases: tuple[tuple[bytes, Callable[[str, int], None]], ...] = (
            (b"a\n-1\n1\nx", everything),
            (b"a\n1000\n-1\nx", everything),
            (b"a\n1000\n\n", everything),
            (b"../a\n1000\n1\nx", everything),
            (b"/a\n1000\n1\nx", everything),
            (b"a\0\n1000\n1\nx", everything),
            (b"\x81\n1000\n1\nx", everything),
            (b"a\n1000\n1\nx", refuse),
        )
        for stream, check in cases:
            for how in (0, 1):
                with self.subTest(stream, how=how):
                    sink = Files()
                    with self.assertRaises(Malformed):
                        feed(DownloadParser(Dialect.SKSYNC_1, sink, check), stream, how)
                    self.assertEqual(sink.files, [])
