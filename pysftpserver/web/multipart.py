"""multipart/form-data, parsed while it arrives: fields in memory, content of files piece by piece.

Memory is bounded, however long the body and however small its pieces. What may not enter: what fields
mean, storages. Facts: RFC 2046 (section 5.1.1), RFC 7578; HTML Living Standard, "Multipart form data".
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_HEADER = 16384  # bytes of the header of a part
MOST_PARTS = 10_000
MOST_PADDING = 1024  # bytes of blanks after a boundary, and of text before the first one
RECEIVE = 131072  # bytes that are asked for at once
_BOUNDARY = re.compile(
    r'multipart/form-data\s*(?:;.*?)?;\s*boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))\s*(?:;.*)?', re.I
)
_CHARACTERS = re.compile(r"[0-9A-Za-z'()+_,./:=? -]*[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, bchars
_DISPOSITION = re.compile(rb'form-data((?:\s*;\s*[\w*-]+=(?:"[^"]*"|[^\s;"]*))*)(?:\s*;)?', re.I)
_PARAMETER = re.compile(rb';\s*([\w*-]+)=(?:"([^"]*)"|([^\s;"]*))')


class Malformed(ValueError):
    """A malformed body. The text is for people."""

    def __init__(self, words: str = "The form has not arrived as a browser sends it; try again.") -> None:
        super().__init__(words)


class FormPart:
    """A part of a form. filename: as the browser sent it; None: it is a field, and not a file."""

    def __init__(self, name: bytes, filename: bytes | None, pieces: Iterator[bytes]) -> None:
        self.name, self.filename, self.pieces = name, filename, pieces

    def value(self, most: int) -> bytes:
        """All of its content. Raises Malformed if it is longer than this many bytes."""
        found = bytearray()
        for piece in self.pieces:
            found += piece
            if len(found) > most:
                raise Malformed("A field of the form is too long.")
        return bytes(found)


def boundary_of(kind: str) -> bytes:
    """The boundary of the parts, from a Content-Type. Raises Malformed."""
    found = _BOUNDARY.fullmatch(kind.strip())
    boundary = (found[1] or found[2]) if found else ""
    if not _CHARACTERS.fullmatch(boundary):
        raise Malformed
    return boundary.encode()


def form_parts(read: Callable[[int], bytes], boundary: bytes) -> Iterator[FormPart]:
    """The parts of a body. Content that was not read before the next part is skipped. Raises Malformed.

    read: takes a maximum number of bytes and returns some; none at the end.
    """
    body = _Body(read, boundary)
    body.skip_preamble()
    for _ in range(MOST_PARTS):
        if not body.begins_part():
            return
        name, filename = _names_in(body.header())
        pieces = body.content()
        yield FormPart(name, filename, pieces)
        for _ in pieces:
            pass
    raise Malformed(f"Send at most {MOST_PARTS} files at once.")


class _Body:
    """A body being parsed. The buffer holds at most two reads, or a header."""

    def __init__(self, read: Callable[[int], bytes], boundary: bytes) -> None:
        self._read = read
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # the first boundary has no line before it

    def _more(self) -> None:
        found = self._read(RECEIVE)
        if not found:
            raise Malformed("The upload broke off; try again.")
        self._buffer += found

    def _until(self, end: bytes, most: int) -> bytes:
        """Take the bytes before an end, and the end."""
        looked = 0
        while (at := self._buffer.find(end, looked)) < 0:
            looked = max(0, len(self._buffer) - len(end) + 1)
            if len(self._buffer) > most + len(end):
                raise Malformed
            self._more()
        if at > most:
            raise Malformed
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return found

    def skip_preamble(self) -> None:
        """Skip the bytes before the first part."""
        self._until(self._delimiter, MOST_PADDING)

    def begins_part(self) -> bool:
        """After a delimiter: whether another part follows."""
        while len(self._buffer) < 2:
            self._more()
        if self._buffer.startswith(b"--"):
            return False
        if self._until(b"\r\n", MOST_PADDING).strip(b" \t"):
            raise Malformed
        return True

    def header(self) -> list[bytes]:
        """The lines of a part's header."""
        self._buffer[:0] = b"\r\n"  # a header without a line has no line before its end
        return self._until(b"\r\n\r\n", MOST_HEADER).split(b"\r\n")

    def content(self) -> Iterator[bytes]:
        """The content up to the next delimiter, which is also taken."""
        keep = len(self._delimiter) - 1
        while (at := self._buffer.find(self._delimiter)) < 0:
            if len(self._buffer) > keep:
                piece = bytes(self._buffer[:-keep])
                del self._buffer[:-keep]
                yield piece
            self._more()
        piece = bytes(self._buffer[:at])
        del self._buffer[: at + len(self._delimiter)]
        if piece:
            yield piece


def _names_in(lines: list[bytes]) -> tuple[bytes, bytes | None]:
    """The names of a field and of a file in a part's header."""
    for line in lines:
        key, _, value = line.partition(b":")
        if key.strip().lower() != b"content-disposition":
            continue
        said = _DISPOSITION.fullmatch(value.strip())
        if said is None:
            raise Malformed
        found = {
            name.lower(): _unescaped(quoted or word) for name, quoted, word in _PARAMETER.findall(said[1])
        }
        if b"name" not in found:
            raise Malformed
        return found[b"name"], found.get(b"filename")
    raise Malformed


def _unescaped(text: bytes) -> bytes:
    """A name with the escapes that browsers make undone, and no others."""
    return text.replace(b"%22", b'"').replace(b"%0D", b"\r").replace(b"%0A", b"\n")
