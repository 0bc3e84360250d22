"""All users of a directory, by id and by name, and which of them change when records do.

If two ids have one name, it belongs to the lowest id, numbers before other ids, regardless of the order in
which they arrived. An unusable id keeps its name, so that a mistake in a record does not give the name to
another user.
What may not enter: where users come from, asyncio.
"""

from __future__ import annotations

from pysftpserver.failures import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from typing import TypeVar

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.people.records import Record
    from pysftpserver.people.users import User

    T = TypeVar("T")

PORTION = 500  # users in one step; some milliseconds


def id_order(id: str) -> tuple[bool, int, str]:
    """A key to sort ids by: numbers first, by value."""
    is_number = id.isascii() and id.isdecimal()
    return not is_number, int(id) if is_number else 0, id


class _Index:
    """Records by id, and ids by name."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.ids: dict[str, set[str]] = {}
        self.authorities: dict[bytes, int] = {}  # number of records with each

    def find(self, name: str) -> User | None:
        ids = self.ids.get(name)
        return self.records[min(ids, key=id_order)].user if ids else None

    def store(self, id: str, record: Record | None) -> None:
        before = self.records.pop(id, None)
        if before is not None:
            self.ids[before.name].discard(id)
            if not self.ids[before.name]:
                del self.ids[before.name]
        for entry, change in ((before, -1), (record, 1)):
            for blob, _ in entry.user.authorities if entry is not None and entry.user is not None else ():
                self.authorities[blob] = self.authorities.get(blob, 0) + change
                if not self.authorities[blob]:
                    del self.authorities[blob]
        if record is not None:
            self.records[id] = record
            self.ids.setdefault(record.name, set()).add(id)


class Roster:
    """Users in memory. log: each problem is written to it once, as long as it lasts."""

    def __init__(self, log: SFTPLog) -> None:
        self._log = log
        self._index = _Index()
        self._told: dict[str, list[str]] = {}

    def find(self, name: str) -> User | None:
        """The user of that name; None: there is none."""
        return self._index.find(name)

    def has(self, name: str) -> bool:
        """Whether a record has that name, a usable one or not."""
        return name in self._index.ids

    def has_authority(self, blob: bytes) -> bool:
        """Whether that key is the CA of any user."""
        return blob in self._index.authorities

    def users(self) -> list[User]:
        """All users, in the order of their names."""
        found = (self.find(name) for name in sorted(self._index.ids))
        return [user for user in found if user is not None]

    def put(self, id: str, record: Record | None) -> list[str]:
        """Store the record of one id, None: remove it; returns the names whose user has changed."""
        before = self._index.records.get(id)
        names = sorted({entry.name for entry in (before, record) if entry is not None})
        known = {name: self.find(name) for name in names}
        self._index.store(id, record)
        self._tell({id} | {other for name in names for other in self._index.ids.get(name, ())})
        return [name for name in names if self.find(name) != known[name]]

    def replacing(self, records: Iterable[Record]) -> Generator[None, None, list[str]]:
        """Replace all records; returns the names whose user has changed.

        In short steps, between which the event loop does other work; find() gives the new users after the
        last one. Nothing else may change the roster meanwhile. telling() has to follow.
        """
        old, new = self._index, _Index()
        for some in _portions(records):
            for record in some:
                known = old.records.get(record.id)
                # Unchanged records stay the objects that gc.freeze() has taken out of collections.
                new.store(record.id, known if known == record else record)
            yield
        changed = []
        for names in _portions(old.ids.keys() | new.ids.keys()):
            changed += [name for name in names if old.find(name) != new.find(name)]
            yield
        self._index = new
        return sorted(changed)

    def telling(self) -> Generator[None, None, None]:
        """Log the problems that have not been logged yet, in short steps too."""
        for ids in _portions(self._index.records.keys() | self._told.keys()):
            self._tell(ids)
            yield

    def _tell(self, ids: Iterable[str]) -> None:
        for id in sorted(ids, key=id_order):
            record = self._index.records.get(id)
            lines = [] if record is None else self._lines(record)
            if lines != self._told.get(id, []):
                for line in lines:
                    self._log.error(line)
            if lines:
                self._told[id] = lines
            else:
                self._told.pop(id, None)

    def _lines(self, record: Record) -> list[str]:
        who = f"user {shown(record.id)}"
        if record.name not in ("", record.id):
            who += f" ({shown(record.name)})"
        end = "; the user cannot log in" if record.user is None else ""
        lines = [f"{who}: {problem}{end}" for problem in record.problems]
        first = min(self._index.ids[record.name], key=id_order)
        if record.name and first != record.id:
            lines.append(
                f"{who}: the name belongs to user {shown(first)}, whose id is lower; this one is left out"
            )
        return lines


def _portions(things: Iterable[T]) -> Iterator[Sequence[T]]:
    every = list(things)
    return (every[start : start + PORTION] for start in range(0, len(every), PORTION))


def shown(text: str) -> str:
    """Other people's text as one line of ASCII, for a log."""
    return show(text.encode("utf-8", "backslashreplace"))
