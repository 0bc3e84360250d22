"""Reads a site file into plain objects, and reports every mistake with file, line and key.

Its possible content is in schema.py. What may not enter: layers, how storages are opened.
Facts: the TOML specification 1.0.
"""

from __future__ import annotations

import os
import stat

from pysftpserver.failures import BadInput, one_line, reason_of
from pysftpserver.site import lines, schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST = 1 << 20  # bytes
ONE_OF = {
    "rule": ("allow", "deny", "hidden"),
    "gate": ("clamd", "ask", "limit"),
    "quota": ("bytes", "files"),
    "event": ("run", "post", "socket"),
}
ALONE = ("rule",)  # tables that have exactly one of these keys


class Mistakes(BadInput):
    """The mistakes in a site file. lines: one for each, with file, line and key."""

    def __init__(self, message: str, public: str | None = None, lines: tuple[str, ...] = ()) -> None:
        super().__init__(message, public)
        self.lines = lines or (message,)


def mistakes_of(lines: list[str]) -> Mistakes:
    """The exception for mistakes. lines: at least one."""
    more = f" (and {len(lines) - 1} more; pysftpsite --check names all)" if lines[1:] else ""
    return Mistakes(lines[0] + more, lines=tuple(lines))


class Entry:
    """A table of the file. Its keys are attributes, with defaults for those not given.

    table: its name. number: counted from 1. line: on which it begins. place: of the table, for messages.
    given: the keys in the file, with their lines.
    """

    def __init__(self, path: str, table: str, number: int, line: int, given: dict[str, int]) -> None:
        self.table, self.number, self.line, self.given = table, number, line, given
        self.path_of_file = path
        self.place = f"{path}: line {line}: {table} {number}"

    def at(self, key: str) -> str:
        """The place of a key, for messages."""
        return f"{self.path_of_file}: line {self.given.get(key, self.line)}: {key}"

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Site:
    """The content of a site file.

    file: its path. storage: the name of the storage at the top; None: the one that the door opens. across,
    hidden, state, ledger, ledger_secret: the keys of these names. groups: the users of each, or patterns for
    them. names: None without that table.
    """

    def __init__(
        self, file: str, top: Entry, tables: dict[str, list[Entry]], groups: dict[str, tuple[str, ...]]
    ):
        self.file, self.top, self.groups = file, top, groups
        self.storage: str | None = top.storage
        self.across: str | None = top.across
        self.hidden: tuple[str, ...] = top.hidden
        self.state: str | None = top.state
        self.ledger: str | None = top.ledger
        self.ledger_secret: str | None = top.ledger_secret
        self.mounts, self.rules = tables["mount"], tables["rule"]
        self.gates, self.quotas, self.events = tables["gate"], tables["quota"], tables["event"]
        self.names: Entry | None = (tables["names"] or [None])[0]  # type: ignore[list-item]


def read(path: str) -> Site:
    """Read a site file. Raises BadInput; Mistakes if its content is wrong."""
    return parse(_text(path), path)


def parse(text: str, path: str) -> Site:
    """The same for the text of a site file. path: for messages."""
    import tomllib

    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise mistakes_of([f"{path}: {one_line(str(error))}"]) from None
    except ValueError:
        raise mistakes_of([f"{path}: a number in it is too long"]) from None
    reading = _Reading(text, path)
    site = reading.site(tables)
    if reading.mistakes:
        raise mistakes_of([words for _, words in sorted(reading.mistakes)])
    return site


class _Reading:
    """One reading of one file. mistakes: those found, each with its line."""

    def __init__(self, text: str, path: str) -> None:
        self.path = path
        self.mistakes: list[tuple[int, str]] = []
        self._lines = lines.places(text)

    def site(self, tables: dict[str, Any]) -> Site:
        many = [name for name, table in schema.BY_NAME.items() if name and table.keys is not None]
        top = {key: value for key, value in tables.items() if key not in schema.BY_NAME}
        entries = {name: self._entries(name, tables[name]) if name in tables else [] for name in many}
        site = Site(self.path, self._entry("", 0, top), entries, self._groups(tables.get("group", {})))
        self._check(site)
        return site

    def _line(self, table: str, number: int, key: str = "") -> int:
        return self._lines.get((table, number, key)) or self._lines.get((table, number, "")) or 1

    def _say(self, table: str, number: int, key: str, words: str) -> None:
        line = self._line(table, number, key)
        self.mistakes.append((line, f"{self.path}: line {line}: {one_line(key or table)}: {words}"))

    def _entries(self, name: str, found: Any) -> list[Entry]:
        table = schema.BY_NAME[name]
        several = table.is_many or name == "quota"
        if type(found) is dict and (not table.is_many):
            found = [found]
        elif type(found) is not list or not several or any(type(one) is not dict for one in found):
            self._say(name, 1, "", f"write {'tables' if table.is_many else 'a table'}, {table.form}")
            return []
        return [self._entry(name, number, one) for number, one in enumerate(found, 1)]

    def _entry(self, name: str, number: int, found: dict[str, Any]) -> Entry:
        keys = schema.BY_NAME[name].keys or {}
        given = {key: self._line(name, number, key) for key in found}
        entry = Entry(self.path, name, number, self._line(name, number), given)
        for key in keys.values():
            setattr(entry, key.attribute, key.default)
            if key.name not in found and key.default is schema.Required:
                self._say(name, number, "", f"{key.name}: missing")
        for key_name, value in found.items():
            row = keys.get(key_name)
            if row is None:
                known = [*keys, *([] if name else filter(None, schema.BY_NAME))]
                self._say(name, number, key_name, f"unknown key; known are {', '.join(known)}")
                continue
            try:
                setattr(entry, row.attribute, row.kind.convert(value))
            except TypeError:
                self._say(name, number, key_name, f"write {row.kind.words}")
            except ValueError as error:
                self._say(name, number, key_name, one_line(str(error)))
        self._check_kind(entry, found)
        return entry

    def _check_kind(self, entry: Entry, found: dict[str, Any]) -> None:
        """Check that a rule, gate, quota or event has the keys without which it would have no effect."""
        choice = ONE_OF.get(entry.table, ())
        count = sum(found.get(key) not in (None, False) for key in choice)
        if choice and not count or count > 1 and entry.table in ALONE:
            words = " or ".join((", ".join(choice[:-1]), choice[-1]))
            self._say(
                entry.table, entry.number, "", f"give {'one of ' if entry.table in ALONE else ''}{words}"
            )

    def _groups(self, found: Any) -> dict[str, tuple[str, ...]]:
        groups = {}
        if type(found) is not dict:
            self._say("group", 1, "", "write a table, [group]")
            return {}
        for name, users in found.items():
            try:
                groups[name] = schema.TEXTS.convert(users) if users != [] else ()
                schema.PLACE.convert(f"/{name}")
                if "/" in name or name.startswith("."):
                    raise ValueError("a group's name is a single name, without a leading dot")
            except TypeError:
                self._say("group", 1, name, f"write {schema.TEXTS.words}")
            except ValueError as error:
                self._say("group", 1, name, one_line(str(error)))
        return groups

    def _check(self, site: Site) -> None:
        """Check tables against each other."""
        seen: dict[str, Entry] = {}
        for mount in site.mounts:
            other = seen.setdefault(mount.path, mount) if isinstance(mount.path, str) else mount
            if other is not mount and not (_is_for_some(mount) and _is_for_some(other)):
                self._say("mount", mount.number, "path", f"{mount.path} is mounted twice")
        for entry in (*site.mounts, *site.rules, *site.gates, *site.quotas, *site.events):
            for group in entry.groups:
                if group not in site.groups:
                    self._say(
                        entry.table, entry.number, "groups", f"{one_line(group)}: no such group in [group]"
                    )
        if site.ledger is not None and site.storage is None:
            words = "needs storage in this file as well: all hosts have to mean the same one"
            self._say("", 0, "ledger", words)
        if site.state is None:
            for entry in (*site.quotas, *site.events):
                self._say(entry.table, entry.number, "", "needs a directory for its ledger; give state")


def _is_for_some(entry: Entry) -> bool:
    return bool(entry.users or entry.groups)


def _text(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise BadInput(f"{path}: not a regular file")
            if found.st_mode & stat.S_IWOTH:
                raise BadInput(f"{path}: it is writable by everybody; run chmod o-w on it")
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise BadInput(f"{path}: larger than {LONGEST >> 20} MiB")
        return content.decode()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {reason_of(error)}; name a site file that this account can read") from None
