"""Verifies the chain of audit logs: finds records that were changed, removed, reordered or added.

The files of one log, including rotated ones, are read as one, in the order of their records' numbers.
What may not enter: what records say, and how the chain is written (engine/chain.py).
"""

from __future__ import annotations

import heapq
import json
import zlib
from hashlib import sha256

from pysftpserver.engine.chain import HEAD_SIZE, NONE, STATE, link_of, read_head
from pysftpserver.failures import BadInput, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pysftpserver.engine.chain import Link

COMPRESSED = ".gz"


class Place:
    """A line of a log. link: the chain fields of its record; None if it is not a record. rests: hashes of the
    lines before it that are not records, with and without the line end of the last, which the next record
    gives it. order: the highest number so far in its file. is_torn: whether it has no line end. is_added:
    whether it is a record without chain fields, which a part of a record cannot be.
    """

    __slots__ = ("is_added", "is_torn", "link", "number", "order", "path", "rests")

    def __init__(
        self,
        path: str,
        number: int,
        link: Link | None,
        order: int,
        rests: Collection[str] = (),
        is_torn: bool = False,
        is_added: bool = False,
    ) -> None:
        self.path = path
        self.number = number
        self.link = link
        self.order = order
        self.rests = rests
        self.is_torn = is_torn
        self.is_added = is_added

    def __str__(self) -> str:
        return f"{self.path}, line {self.number}"


class Verified:
    """The result. problems, notes: lines of text. records: number of them. head: of the last one, or ""."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.records = 0
        self.head = ""


def lines_of(path: str) -> Iterator[bytes]:
    """The lines of a log, compressed or not. Raises BadInput."""
    try:
        if path.endswith(COMPRESSED):
            import gzip

            with gzip.open(path) as compressed:
                yield from compressed
        else:
            with open(path, "rb") as file:
                yield from file
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BadInput(f"{path}: {reason_of(error)}; name an audit log that can be read") from None


def verify(paths: Sequence[str], heads: Mapping[int, str]) -> Verified:
    """Verify the files of one log. heads: hashes of records by their numbers, kept elsewhere.

    Raises BadInput.
    """
    verifying = _Verifying(heads)
    states = [state for path in paths if (state := verifying.state_of(path))]  # before more is written
    for place in heapq.merge(*map(_places, paths), key=lambda place: place.order):
        verifying.see(place)
    verifying.finish(states)
    return verifying.verified


def _places(path: str) -> Iterator[Place]:
    order, rests = 0, ["", ""]
    rest = sha256()
    for number, line in enumerate(lines_of(path), 1):
        link = link_of(line[:-1]) if line.endswith(b"\n") else None
        if link is None:
            is_torn = not line.endswith(b"\n")
            unended = rest.copy()
            unended.update(line[:-1])
            rest.update(line)
            rests = [rest.hexdigest(), unended.hexdigest()]
            yield Place(path, number, None, order, (), is_torn, _is_object(line))
            continue
        order = max(order, link.seq)
        yield Place(path, number, link, order, rests)
        rest, rests = sha256(), ["", ""]


def _is_object(line: bytes) -> bool:
    try:
        return type(json.loads(line)) is dict
    except (ValueError, RecursionError):
        return False


class _Verifying:
    """One verification of a chain. heads: as for verify()."""

    def __init__(self, heads: Mapping[int, str]) -> None:
        self.verified = Verified()
        self._heads = dict(heads)
        self._last: Place | None = None
        self._strays: dict[str, list[Place]] = {}  # lines that are not records, by their files

    def state_of(self, path: str) -> tuple[int, str] | None:
        """Number and hash of the last record, from the FILE.chain of a log; None: there is none."""
        try:
            with open(path + STATE, "rb") as file:
                content = file.read(HEAD_SIZE + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadInput(f"{path}{STATE}: {reason_of(error)}; make it readable") from None
        try:
            state = read_head(content)
        except OSError as error:
            raise BadInput(f"{path}: {reason_of(error)}") from None
        if state is not None:
            return state[:2]
        if content:  # it is empty until the first record
            self._complain(f"{path}{STATE}: it was changed")
        return None

    def see(self, place: Place) -> None:
        """Check the next line."""
        link = place.link
        if link is None:
            self._strays.setdefault(place.path, []).append(place)
            return
        self._look_at_strays(place, link)
        self.verified.records += 1
        if not link.is_intact:
            self._complain(f"{place}: record {link.seq} was changed")
        if self._last is None or self._last.link is None:
            self._look_at_first(place, link)
        elif link.seq <= self._last.link.seq:
            self._complain(f"{place}: record {link.seq} is out of its order, or there twice")
            return
        else:
            self._look_at_next(place, link, self._last, self._last.link)
        known = self._heads.pop(link.seq, link.hash)
        if known != link.hash:
            self._complain(f"{place}: record {link.seq} is another than the head that was given")
        self._last = place

    def _look_at_first(self, place: Place, link: Link) -> None:
        if link.seq == 1 and link.prev == NONE:
            return
        if self._heads.get(link.seq - 1) == link.prev:
            del self._heads[link.seq - 1]
            missing = f"records 1 to {link.seq - 1} are not in these files; a head stands for them"
            self.verified.notes.append(missing)
            return
        what = f"records 1 to {link.seq - 1} are missing" if link.seq > 1 else "it is not the first one"
        self._complain(f"{place}: {what}; name the older files too, or give the last record's --head")

    def _look_at_next(self, place: Place, link: Link, last: Place, before: Link) -> None:
        missing = link.seq - before.seq - 1
        if missing:
            what = f"record {link.seq - 1} is" if missing == 1 else f"{missing} records are"
            self._complain(f"{place}: {what} missing before record {link.seq}")
        elif link.prev != before.hash and link.is_intact and before.is_intact:
            self._complain(f"{last}: record {before.seq} was replaced; record {link.seq} follows another one")

    def _look_at_strays(self, place: Place, link: Link) -> None:
        strays = self._strays.pop(place.path, [])
        if not strays:
            if link.skipped:
                self._complain(f"{place}: what was before record {link.seq} is missing")
            return
        if link.skipped not in place.rests:
            self._complain_of(strays)
        elif link.seq == 1:
            self.verified.notes.append(f"{place.path}: the chain begins in line {place.number}")
        elif any(stray.is_added for stray in strays):
            self._complain_of(strays)
        else:
            note = f"{strays[0]}: what a killed session has left; record {link.seq} vouches for it"
            self.verified.notes.append(note)

    def _complain_of(self, strays: Iterable[Place]) -> None:
        for place in strays:
            what = (
                "a record that is not of the chain was added" if place.is_added else "no record of the chain"
            )
            self._complain(f"{place}: {what}")

    def finish(self, states: Iterable[tuple[int, str]]) -> None:
        """Finish after the last line. states: last records, from the FILE.chain of each log."""
        for path, strays in self._strays.items():
            if len(strays) == 1 and strays[0].is_torn and not strays[0].is_added:
                self.verified.notes.append(f"{strays[0]}: what a killed session has left")
            elif not self.verified.records:
                what = f"none of {len(strays)} lines is a record of a chain; was it written with a chain?"
                self._complain(f"{path}: {what}")
            else:
                self._complain_of(strays)
        link = self._last.link if self._last is not None else None
        seq = 0 if link is None else link.seq
        if link is not None:
            self.verified.head = f"{link.seq}:{link.hash}"
        states = list(states)
        for number, digest in states:
            if number > seq:
                self._complain(f"the end is missing: the last record is {seq}, and {number} were written")
            elif link is not None and number == seq and link.is_intact and digest != link.hash:
                self._complain(f"{self._last}: record {seq} was replaced")
        if not states:
            note = f"there is no FILE{STATE}, so records that were cut off at the end are not found"
            self.verified.notes.append(note)
        for number in self._heads:
            self._complain(f"record {number}, whose head was given, is missing")

    def _complain(self, text: str) -> None:
        self.verified.problems.append(text)


def head(text: str) -> tuple[int, str]:
    """Number and hash of a head, NUMBER:HASH. Raises ValueError."""
    number, _, digest = text.partition(":")
    if not (number.isdecimal() and number.isascii() and 0 < len(number) < 20 and len(digest) == len(NONE)):
        raise ValueError(text)
    return int(number), digest.lower()
