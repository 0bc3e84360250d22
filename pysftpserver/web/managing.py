"""Users, for operators: finds, adds and changes them as pysftpctl does, and tells how full storages are.

What may not enter: HTML, sessions, concrete storages.
"""

from __future__ import annotations

import time

from pysftpserver.failures import BadInput
from pysftpserver.people.editors import editor
from pysftpserver.people.keys import BadKey, parse_entry
from pysftpserver.people.user_storages import make_folder
from pysftpserver.people.users import DirectoryError
from pysftpserver.web.files import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.people.records import Record
    from pysftpserver.people.settings import PeopleSettings
    from pysftpserver.people.users import User

    Space = tuple[int, int]  # bytes: used, free

MOST = 100  # users listed at once
FOR_SPACE = 1.0  # seconds for asking storages how full they are, for one list
KEPT = 60.0  # seconds for which their answers are kept
MOST_KEPT = 1000


class Found:
    """Users that a search has found. total: their number. space: by name, if it was asked for."""

    def __init__(self, records: list[Record], total: int, space: dict[str, Space]) -> None:
        self.records, self.total, self.space = records, total, space


class Managing:
    """Finds, adds and changes users. open_storage: opens the storage of a user."""

    def __init__(
        self, values: PeopleSettings, open_storage: Callable[[User, str], SFTPAbstractServerStorage]
    ) -> None:
        self._values = values
        self._open = open_storage
        self._kept: dict[str, tuple[float, Space | None]] = {}

    def found(self, asked: str) -> tuple[Found, str]:
        """The users whose name, folder or storage contains a text, and what is wrong; "": nothing."""
        try:
            with editor(self._values) as users:
                records = users.records()
        except DirectoryError as error:
            return Found([], 0, {}), error.message
        asked = asked.casefold().strip()
        records = [record for record in records if asked in _words(record).casefold()]
        shown, space = records[:MOST], {}
        until = time.monotonic() + FOR_SPACE
        for record in shown:
            if time.monotonic() < until:
                found = self.space(record.user)
                if found is not None:
                    space[record.name] = found
        return Found(shown, len(records), space), ""

    def record(self, name: str) -> Record | None:
        """The record of a user, even one that cannot be used. Raises Unavailable."""
        with editor(self._values) as users:
            return next((record for record in users.records() if record.name == name), None)

    def _has_quota(self, user: User) -> bool:
        """Whether a site file, which may have quotas, applies to the storage of a user."""
        return bool(user.site or self._values.site)

    def space(self, user: User | None) -> Space | None:
        """(bytes used, bytes free) of a user who may have a quota; None for other users, or if unknown."""
        if user is None or not user.is_active or not self._has_quota(user):
            return None
        at, found = self._kept.get(user.name, (-KEPT, None))
        if time.monotonic() - at < KEPT:
            return found
        try:
            storage = self._open(user, "")
            try:
                found = Tree(storage).space(b"/")
            finally:
                storage.release()
        except Exception:  # an administrator's own class may raise anything; the session's log says why
            found = None
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[user.name] = time.monotonic(), found
        return found

    def add(self, form: dict[str, str]) -> str:
        """Add a user; return what was done. Raises DirectoryError, BadInput, Unavailable."""
        name, keys = form.get("name", ""), _lines(form.get("keys", ""))
        with editor(self._values) as users:
            user = users.add(name, keys, form.get("folder") or None)
        problem = make_folder(self._values, user, None)
        if problem is not None:
            raise BadInput(f"added the user {user.name}, but {problem}")
        return f"added the user {user.name}"

    def change(self, form: dict[str, str]) -> str:
        """Change a user; return what was done. Raises DirectoryError, BadInput."""
        name, what = form.get("name", ""), form.get("what", "")
        changes: dict[str, dict[str, object]] = {
            "activate": {"is_active": True},
            "deactivate": {"is_active": False},
            "add_keys": {"add_keys": _lines(form.get("keys", ""))},
            "remove_key": {"remove_keys": [form.get("key", "")]},
        }
        if what not in changes or what == "add_keys" and not changes[what]["add_keys"]:
            raise BadInput("say what to change; a key is a line such as ssh-ed25519 AAAA...")
        with editor(self._values) as users:
            users.change(name, **changes[what])
        return f"{DONE[what]} {name}"


DONE = {
    "activate": "activated the user",
    "deactivate": "deactivated the user",
    "add_keys": "added keys of the user",
    "remove_key": "removed a key of the user",
}


def _lines(text: str) -> list[str]:
    """Keys, one on each line. Raises BadInput. Unlike pysftpctl, this does not read files."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        try:
            parse_entry(line)
        except BadKey as error:
            raise BadInput(f"key {number}: {error}") from None
    return lines


def _words(record: Record) -> str:
    user = record.user
    return record.name if user is None else " ".join((user.name, user.folder, user.storage or ""))
