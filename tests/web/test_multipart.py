"""Forms with files, taken apart while they arrive: what browsers send, and what nobody should."""

from __future__ import annotations

import io
import unittest
from collections.abc import Callable

from pysftpserver.web import multipart
from pysftpserver.web.multipart import Malformed, boundary_of, form_parts
from tests.support.examples import example, given, settings, st

BOUNDARY = b"----WebKitFormBoundary7MA4YWxkTrZu0gW"
#: Contents that look like the end of a part, or nearly.
CONTENT = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [b"\r", b"\n", b"\r\n", b"--", b"\r\n--", b"\r\n--" + BOUNDARY[:-1], BOUNDARY, b"--" + BOUNDARY]
        ),
    ),
    max_size=8,
).map(b"".join)
NAME = st.text(st.characters(exclude_characters='"\r\n', exclude_categories=("Cs",)), max_size=20).map(
    str.encode
)


def body_of(parts: list[tuple[bytes, bytes | None, bytes]], boundary: bytes = BOUNDARY) -> bytes:
    """A form as browsers send it. parts: (name, name of a file or None, content)."""
    found = bytearray()
    for name, filename, content in parts:
        found += b'--%b\r\nContent-Disposition: form-data; name="%b"' % (boundary, name)
        if filename is not None:
            found += b'; filename="%b"\r\nContent-Type: text/html' % filename
        found += b"\r\n\r\n%b\r\n" % content
    return bytes(found + b"--" + boundary + b"--\r\n")


def reader(data: bytes, sizes: list[int] | None = None) -> Callable[[int], bytes]:
    """What reads a body in pieces of these sizes, over and over."""
    stream, turn = io.BytesIO(data), iter(())

    def read(most: int) -> bytes:
        nonlocal turn
        size = next(turn, None)
        if size is None:
            turn = iter(sizes or [most])
            size = next(turn)
        return stream.read(min(most, size))

    return read


def parse(data: bytes, sizes: list[int] | None = None, boundary: bytes = BOUNDARY):
    return [
        (part.name, part.filename, b"".join(part.pieces))
        for part in form_parts(reader(data, sizes), boundary)
    ]


class TestForms(unittest.TestCase):
    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(NAME, st.none() | NAME, CONTENT), max_size=4),
        st.lists(st.integers(1, 70), min_size=1, max_size=5),
    )
    def test_whatever_was_sent_is_found_again_however_it_arrives(self, parts, sizes) -> None:
        parts = [part for part in parts if b"\r\n--" + BOUNDARY not in b"\r\n" + part[2] + b"\r\n"]
        parts = [part for part in parts if not any(b"%" in (name or b"") for name in part[:2])]
        self.assertEqual(parse(body_of(parts), sizes), parts)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=300), st.lists(st.integers(1, 70), min_size=1, max_size=3))
    @example(b"--" + BOUNDARY + b"--", [1])
    def test_anything_else_is_malformed_or_has_parts(self, data, sizes) -> None:
        for sent in (data, b"--" + BOUNDARY + b"\r\n" + data, body_of([(b"a", b"b", data)])[: len(data)]):
            try:
                parse(sent, sizes)
            except Malformed:
                pass

    def test_a_body_that_breaks_off_is_malformed_wherever_that_is(self) -> None:
        whole = body_of([(b"csrf", None, b"token"), (b"file", b"name", b"content\r\n")])
        for end in range(len(whole) - 2):
            with self.assertRaises(Malformed, msg=str(end)):
                parse(whole[:end])

    def test_memory_is_bounded_by_what_is_read_at_once(self) -> None:
        largest = 0
        piece = b"\r\n--" + BOUNDARY[:-1]
        data = body_of([(b"file", b"name", piece * 100_000)])
        for part in form_parts(reader(data), BOUNDARY):
            for found in part.pieces:
                largest = max(largest, len(found))
        self.assertLessEqual(largest, 2 * multipart.RECEIVE)

    def test_what_is_too_long_is_malformed(self) -> None:
        for data in (
            b"x" * 2000 + body_of([]),
            b"--" + BOUNDARY + b" " * 2000 + b"\r\n",
            b"--" + BOUNDARY + b"\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
            b"--" + BOUNDARY + b"\r\nX: " + b"x" * (1 << 20),
            body_of([(b"x", None, b"")]).replace(b"--\r\n", b"\r\n"),
            body_of([(b"x", None, b"")] * (multipart.MOST_PARTS + 1)),
        ):
            with self.assertRaises(Malformed):
                parse(data)
        part = next(form_parts(reader(body_of([(b"x", None, b"y" * 100)])), BOUNDARY))
        with self.assertRaises(Malformed):
            part.value(99)

    def test_names_are_unescaped_as_browsers_escape_them_and_no_further(self) -> None:
        for sent, name in (
            (b"%22a%22.txt", b'"a".txt'),
            (b"100%25.txt", b"100%25.txt"),
            (b"a\\b", b"a\\b"),
            (b"line%0D%0Abreak", b"line\r\nbreak"),
            (b"; name=x", b"; name=x"),
            ("naïve.txt".encode(), "naïve.txt".encode()),
            (b"\xff", b"\xff"),
        ):
            self.assertEqual(parse(body_of([(b"f", sent, b"")])), [(b"f", name, b"")])

    def test_headers_that_mean_nothing_clear_are_malformed(self) -> None:
        for header in (
            b"",
            b"Content-Type: text/plain",
            b"Content-Disposition: attachment; name=x",
            b'Content-Disposition: form-data; filename="x"',
            b'Content-Disposition: form-data; name="x',
            b'Content-Disposition: form-data; name="x"y"',
        ):
            with self.assertRaises(Malformed, msg=header):
                parse(b"--%b\r\n%b\r\n\r\n\r\n--%b--" % (BOUNDARY, header, BOUNDARY))

    def test_boundaries(self) -> None:
        for kind, boundary in (
            ("multipart/form-data; boundary=abc", b"abc"),
            ('Multipart/Form-Data; charset=utf-8; boundary="a b:c"', b"a b:c"),
            ("multipart/form-data; boundary=abc; charset=utf-8", b"abc"),
        ):
            self.assertEqual(boundary_of(kind), boundary)
        for kind in (
            *("multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=abc"),
            *("multipart/form-data; boundary=" + "x" * 71, 'multipart/form-data; boundary="a\u00e9"'),
            'multipart/form-data; boundary="ends with a blank "',
        ):
            with self.assertRaises(Malformed, msg=kind):
                boundary_of(kind)
