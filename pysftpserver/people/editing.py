"""Changing users: one interface for every directory of users, and what its editors share.

For commands: it blocks. Every method works on the current state and changes all or nothing; concurrent
editors do not interfere. A running server notices changes by itself.
What may not enter: asyncio, where a directory keeps its users (redis_editing.py, file_editing.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from pysftpserver.people import methods as ways
from pysftpserver.people.keys import BadKey, entry_line, fingerprint, parse_entry
from pysftpserver.people.records import (
    account_problem,
    folder_problem,
    name_problem,
    networks_problem,
    principals_problem,
    site_problem,
    storage_problem,
)
from pysftpserver.people.roster import shown
from pysftpserver.people.users import DirectoryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Self

    from pysftpserver.people.keys import Entry
    from pysftpserver.people.records import Record
    from pysftpserver.people.users import User


class Change(NamedTuple):
    """A change of a user; None: no change. storage: "": back to the folder. run_as, site: "": the server's
    choice. password, totp: "": none. methods: (): the server's choice. principals: "": the user's name.
    networks: "": all.

    Keys that the user has are not added again.
    """

    add_keys: Sequence[str] = ()
    remove_keys: Sequence[str] = ()
    folder: str | None = None
    storage: str | None = None
    run_as: str | None = None
    site: str | None = None
    principals: str | None = None
    networks: str | None = None
    is_active: bool | None = None
    password: str | None = None
    totp: str | None = None
    methods: Sequence[str] | None = None


class UsersEditor(ABC):
    """The users of a directory, open for changes. A context manager.

    All methods except close() raise DirectoryError: the directory cannot be used, there is no such user, or
    the change is not possible. Keys are texts as in keys.py; a key to be removed may be given as its
    fingerprint (SHA256:...) as well.
    """

    @abstractmethod
    def records(self) -> list[Record]:
        """All users in the order of their names, including unusable ones with their problems."""

    def add(
        self,
        name: str,
        keys: Iterable[str],
        folder: str | None = None,
        storage: str | None = None,
        run_as: str | None = None,
        site: str | None = None,
        principals: str | None = None,
        networks: str | None = None,
    ) -> User:
        """Add an active user. folder: None: a new one or the user's name, depending on the directory."""
        fields = {"folder": self._new_folder(name) if folder is None else folder}
        others = {"storage": storage, "run_as": run_as, "site": site}
        others |= {"principals": principals, "networks": networks}
        fields |= {field: text for field, text in others.items() if text}
        check(name, **fields)
        return self._add(name, list(clean_keys(keys).values()), fields)

    def add_all(self, users: Sequence[tuple[str, Sequence[str], Mapping[str, str]]]) -> None:
        """Add active users, all or none. users: (name, keys, fields as add() takes them) of each."""
        checked = []
        for name, keys, given in users:
            fields = {"folder": self._new_folder(name), **given}
            try:
                check(name, **fields)
                checked.append((name, list(clean_keys(keys).values()), fields))
            except DirectoryError as error:
                raise DirectoryError(f"user {shown(name)}: {error}") from None
        self._add_all(checked)

    def _add_all(self, users: Sequence[tuple[str, list[str], dict[str, str]]]) -> None:
        """Add users whose values have been checked."""
        added = []
        try:
            for name, keys, fields in users:
                self._add(name, keys, fields)
                added.append(name)
        except DirectoryError:
            for name in added:
                self.remove(name)
            raise

    @abstractmethod
    def _new_folder(self, name: str) -> str:
        """The folder of a new user."""

    @abstractmethod
    def _add(self, name: str, keys: list[str], fields: dict[str, str]) -> User:
        """Add a user whose values have been checked. fields: the folder, and other fields that are given."""

    def change(self, name: str, **fields: Any) -> User:
        """Change what is given. fields: those of Change."""
        change = Change(**fields)
        own = change.principals, change.networks
        check(None, change.folder, change.storage, change.run_as, change.site, *own)
        wrong = ways.problem(change.methods) if change.methods else None
        if wrong:
            raise DirectoryError(wrong)
        return self._change(name, change)

    @abstractmethod
    def _change(self, name: str, change: Change) -> User:
        """Make a change whose values have been checked."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a user. The user's files stay."""

    @abstractmethod
    def close(self) -> None:
        """Release what the editor holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def check(
    name: str | None = None,
    folder: str | None = None,
    storage: str | None = None,
    run_as: str | None = None,
    site: str | None = None,
    principals: str | None = None,
    networks: str | None = None,
) -> None:
    """Raises DirectoryError for values that would make the user unusable."""
    problems = (
        name_problem(name) if name is not None else None,
        folder_problem(folder) if folder is not None else None,
        storage_problem(storage) if storage is not None else None,
        account_problem(run_as) if run_as is not None else None,
        site_problem(site) if site else None,
        principals_problem(principals) if principals else None,
        networks_problem(networks) if networks else None,
    )
    for problem in problems:
        if problem:
            raise DirectoryError(problem)


def usable(record: Record, name: str) -> User:
    """The user of a record that was just written. name: for the message. Raises DirectoryError."""
    if record.user is None:
        raise DirectoryError(f"written, but user {shown(name)} cannot be used: {'; '.join(record.problems)}")
    return record.user


def clean_keys(texts: Iterable[str]) -> dict[Entry, str]:
    """The lines to write, by the entry that each means. Raises DirectoryError for an invalid key."""
    lines = {}
    for number, text in enumerate(texts, 1):
        try:
            entry, comment = parse_entry(text)
        except BadKey as error:
            raise DirectoryError(f"key {number}: {error}") from None
        lines[entry] = entry_line(entry, comment if comment.isprintable() else "")
    return lines


def with_keys(texts: Iterable[str], add: Iterable[str], remove: Iterable[str]) -> list[str]:
    """A user's keys after a change; lines that are not keys stay. Raises DirectoryError."""
    kept: list[tuple[Entry | None, str]] = [(_entry(text), text) for text in texts]
    for number, wanted in enumerate(remove, 1):
        gone = [entry for entry, _ in kept if entry is not None and _means(wanted, entry, number)]
        if not gone:
            raise DirectoryError(f"key {number} to be removed: the user has no such key")
        kept = [(entry, text) for entry, text in kept if entry not in gone]
    present = {entry for entry, _ in kept}
    new = (line for entry, line in clean_keys(add).items() if entry not in present)
    return [text for _, text in kept] + list(new)


def _means(wanted: str, entry: Entry, number: int) -> bool:
    """Whether a text names that key, whether it is a CA's or not."""
    if wanted.startswith("SHA256:"):
        return wanted.rstrip("=") == fingerprint(entry[0])
    try:
        return parse_entry(wanted)[0] == entry
    except BadKey as error:
        raise DirectoryError(f"key {number} to be removed: {error}") from None


def _entry(text: str) -> Entry | None:
    try:
        return parse_entry(text)[0]
    except BadKey:
        return None
