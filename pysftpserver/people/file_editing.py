"""The editor of a TOML file of users. Only the table of the edited user changes; the file is replaced whole.

A user's table is cut out and edited with tomlkit, which keeps comments; then the new text is parsed and
compared with what was wanted. A lock on the file makes editors take turns; a text editor takes no lock, so
the file is compared once more before it is replaced. What may not enter: asyncio. Facts: flock(2), rename(2).
"""

from __future__ import annotations

import copy
import fcntl
import os
import re
import tomllib
from contextlib import contextmanager

from pysftpserver.failures import needed, reason_of
from pysftpserver.host import wholefiles
from pysftpserver.people import users_file
from pysftpserver.people.editing import Change, UsersEditor, usable, with_keys
from pysftpserver.people.roster import shown
from pysftpserver.people.users import DirectoryError

with needed("sshd", "tomlkit"):
    import tomlkit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from pysftpserver.people.records import Record
    from pysftpserver.people.users import User

    Value = str | bool | list[str]

MODE, MODE_OF_ROOTS = 0o600, 0o640  # of a new file
HEADER = re.compile(r"^[ \t]*\[.*", re.MULTILINE)
TRAILING = re.compile(
    r"(?:^[ \t\r]*(?:#.*)?\n)*(?:^[ \t\r]*(?:#.*)?)?\Z", re.MULTILINE
)  # comments, empty lines


class FileEditor(UsersEditor):
    """Users in a TOML file. add() creates the file if there is none."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Resolves a link: the link stays, and its target is replaced.
        self._path, self._shown = os.path.realpath(path), os.fspath(path)
        self._is_root = os.geteuid() == 0

    def records(self) -> list[Record]:
        users_file.check_presence(self._path, self._shown)
        return sorted(users_file.load(self._path, self._is_root).records, key=lambda record: record.name)

    def _new_folder(self, name: str) -> str:
        return name

    def _add(self, name: str, keys: list[str], fields: dict[str, str]) -> User:
        self._add_all([(name, keys, fields)])
        return self._user(name)

    def _add_all(self, users: Sequence[tuple[str, list[str], dict[str, str]]]) -> None:
        tables: dict[str, dict[str, Value]] = {}
        self._make()
        with self._edited() as edit:
            for name, keys, fields in users:
                if name in edit.users or name in tables:
                    raise DirectoryError(f"there is already a user named {shown(name)}")
                tables[name] = {"folder": fields["folder"], "keys": keys, **fields}
            if tables:
                edit.wanted.setdefault("users", {}).update(copy.deepcopy(tables))
                edit.new = _with_table(edit.old, tables)

    def _change(self, name: str, change: Change) -> User:
        with self._edited() as edit:
            table = edit.table(name)
            values: dict[str, Value | None] = {}
            keys = with_keys(table.get("keys", []), change.add_keys, change.remove_keys)
            if keys != table.get("keys", []):
                values["keys"] = keys
            if change.folder is not None:
                values["folder"] = change.folder
            for field in ("storage", "run_as", "site", "principals", "networks", "password", "totp"):
                text = getattr(change, field)
                if text is not None:
                    values[field] = text or None
            if change.methods is not None:
                values["methods"] = list(change.methods) or None
            if change.is_active is not None:
                values["active"] = change.is_active
            merged = {**table, **values}
            edit.wanted["users"][name] = {key: value for key, value in merged.items() if value is not None}
            edit.new = _with_values(edit.old, name, edit.users[name], values)
        return self._user(name)

    def remove(self, name: str) -> None:
        with self._edited() as edit:
            if name not in edit.users:
                raise DirectoryError(f"no user named {shown(name)}")
            del edit.wanted["users"][name]
            edit.new = _without_table(edit.old, name, edit.users[name])
            if edit.new is not None and not edit.wanted["users"] and "[users]" not in edit.new:
                # The server considers a file without this table incomplete.
                edit.new = _with_table(edit.new, {})

    def close(self) -> None:
        pass  # nothing is held between two changes

    def _user(self, name: str) -> User:
        """The user as now in the file. Raises DirectoryError."""
        for record in self.records():
            if record.name == name:
                return usable(record, name)
        raise DirectoryError(f"no user named {shown(name)}")

    def _make(self) -> None:
        """Create the file if there is none; if root creates it, for the account that owns its directory."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
            try:
                directory = os.stat(os.path.dirname(self._path))
                if self._is_root and (directory.st_uid or directory.st_gid):
                    os.fchown(descriptor, directory.st_uid, directory.st_gid)
                    os.fchmod(descriptor, MODE_OF_ROOTS)
            finally:
                os.close(descriptor)
        except FileExistsError:
            pass
        except OSError as error:
            raise DirectoryError(f"users file {self._path}: {reason_of(error)}") from None

    @contextmanager
    def _edited(self) -> Iterator[_Edit]:
        """Lock the file for a block; at its end, write the new text if it means what was wanted."""
        with self._locked():
            text, seen = users_file.read_trusted(self._path, "users file", self._is_root)
            edit = _Edit(self._path, text)
            yield edit
            new = edit.checked()
            if new == text:
                return
            try:
                self._replace(new, seen)
            except OSError as error:
                raise DirectoryError(f"users file {self._path}: {reason_of(error)}") from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock that makes this the only editor of the file, until the end of the block."""
        while True:
            users_file.check_presence(self._path, self._shown)
            try:
                descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError as error:
                raise DirectoryError(f"users file {self._path}: {reason_of(error)}") from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if not self._is_still(descriptor):
                    continue  # another editor has replaced it while this one waited
                yield
                return
            finally:
                os.close(descriptor)

    def _is_still(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _replace(self, text: str, seen: users_file.Signature) -> None:
        """Replace the file with a new one of the same owner and mode. Raises OSError."""
        was = os.stat(self._path)
        with wholefiles.open_temporary(self._path, mode=was.st_mode & 0o7777) as new:
            if (was.st_uid, was.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(new.file.fileno(), was.st_uid, was.st_gid)
            new.file.write(text.encode())
            new.sync()
            if users_file.signature(self._path) != seen:
                raise DirectoryError(f"users file {self._path}: it was changed just now; try again")
            new.commit()


class _Edit:
    """A change being made. wanted: what the new text has to mean. new: None: it could not be written."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self.old = text
        self.new: str | None = text
        parsed = users_file.parse(path, text)
        self.users: dict[str, Any] = parsed.get("users", {})
        self.wanted = copy.deepcopy(parsed)

    def table(self, name: str) -> dict[str, Any]:
        """A user's fields. Raises DirectoryError if there is no such user, or the fields are malformed."""
        if name not in self.users:
            raise DirectoryError(f"no user named {shown(name)}")
        table = self.users[name]
        problems = users_file.field_problems(table) if isinstance(table, dict) else ["it is not a table"]
        if problems:
            raise DirectoryError(f"user {shown(name)}: {'; '.join(problems)}")
        return dict(table)

    def checked(self) -> str:
        """The new text. Raises DirectoryError unless it means what was wanted."""
        try:
            if self.new is not None and users_file.parse(self._path, self.new) == self.wanted:
                return self.new
        except DirectoryError:
            pass
        raise DirectoryError(
            f"users file {self._path}: the user has no plain table [users.NAME]; edit the file by hand"
        )


# --- the text ---------------------------------------------------------------------------------------------


def _split(text: str, name: str, table: object) -> tuple[str, str, str] | None:
    """(the text before a user's table, the table, the text after it). table: its parsed value.

    None if there is no table [users.NAME] in one piece. Comments after its last value are not the user's.
    """
    headers = list(HEADER.finditer(text))
    for number, header in enumerate(headers):
        if _parsed(header[0].rstrip()) != {"users": {name: {}}}:
            continue
        # The first end that makes valid TOML: a line within a list or a text may begin with [ as well.
        for end in (*(one.start() for one in headers[number + 1 :]), len(text)):
            found = _parsed(text[header.start() : end])
            if found is not None:
                break
        if found == {"users": {name: table}}:
            own = TRAILING.sub("", text[header.start() : end])
            end = header.start() + len(own)
            return text[: header.start()], own, text[end:]
    return None


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _with_values(text: str, name: str, table: object, values: Mapping[str, Value | None]) -> str | None:
    """The text with these values in a user's table; a value None removes that key."""
    parts = _split(text, name, table)
    if parts is None:
        return None
    before, own, behind = parts
    document = tomlkit.parse(own if own.endswith("\n") else own + _newline(text))
    edited: Any = document["users"][name]
    for field, value in values.items():
        if value is None:
            edited.pop(field, None)
        else:
            edited[field] = _item(value)
    return before + _lines(tomlkit.dumps(document), text) + behind


def _without_table(text: str, name: str, table: object) -> str | None:
    """The text without a user's table."""
    parts = _split(text, name, table)
    if parts is None:
        return None
    before, _, behind = parts
    if not before or before.endswith(("\n\n", "\n\r\n")):  # one empty line is enough
        behind = behind.removeprefix("\r\n").removeprefix("\n")
    return before + behind


def _with_table(text: str, users: Mapping[str, Mapping[str, Value]]) -> str:
    """The text with users added at its end; with an empty table [users] if there are none."""
    newline = _newline(text)
    items = {name: {field: _item(value) for field, value in one.items()} for name, one in users.items()}
    if text and not text.endswith("\n"):
        text += newline
    gap = newline if text.strip() and not text.endswith(newline * 2) else ""
    return text + gap + _lines(tomlkit.dumps({"users": items}), text)


def _item(value: Value) -> Any:
    """A value for tomlkit: a list of several elements gets a line for each."""
    item: Any = tomlkit.item(value)
    if isinstance(value, list):
        item.multiline(len(value) > 1)
    return item


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _lines(new: str, text: str) -> str:
    """New text with the line ends of the existing text."""
    return re.sub(r"\r?\n", _newline(text), new)
