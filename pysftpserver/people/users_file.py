"""Reads a TOML file of users: the users, and what is wrong with some of them.

For the server, which reads it again when it changes, and for commands. What may not enter: asyncio, logs,
writing.
Facts: the TOML specification 1.0; sshd_config(5) on StrictModes, for the same reasons.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import tomllib
from dataclasses import dataclass

from pysftpserver.failures import reason_of
from pysftpserver.formats import USERS_FILE
from pysftpserver.host.accounts import own_group, own_reason
from pysftpserver.people.keys import parse_authorized_keys, parse_entry
from pysftpserver.people.records import build, folder_problem, parse_keys, unusable
from pysftpserver.people.users import DirectoryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.people.records import Record

LARGEST = 64 << 20  # bytes
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
#: The fields of a user: type, what it has to be, and what it is for.
FIELDS: dict[str, tuple[type, str, str]] = {
    "folder": (
        str, "text",
        "The user's folder, a single name below sftp_path. The default is the user's name, if that will do.",
    ),
    "keys": (
        list, "a list of texts",
        "Public keys: base64 alone, or whole lines of a .pub file. There is none by default.",
    ),
    "active": (bool, "true or false", "Whether the user may log in. The default is true."),
    "authorized_keys": (
        str, "text",
        "A file with a key on each line; a relative name begins beside this file. There is none by default.",
    ),
    "storage": (
        str, "text",
        "Name of the storage that holds the user's files; storage_schemes has to allow it. The default is "
        "that of the setting storage, or the folder.",
    ),
    "run_as": (
        str, "text",
        "Account of the host that the user's sessions run as; run_as_accounts has to allow it. The default "
        "is that of the setting run_as, or the server's own.",
    ),
    "site": (
        str, "text",
        "Absolute path of the site file that the user's files are put under. The default is that of the "
        "setting site, if there is one.",
    ),
    "principals": (
        str, "text",
        "Principals, separated by commas, of which a certificate of the user needs one. The default is the "
        "user's name.",
    ),
    "networks": (
        str, "text",
        "Networks that the user may log in from, separated by commas, without those after a !. The default "
        "is everywhere.",
    ),
    "password": (
        str, "text", "Hash of the user's password, as pysftpctl passwd writes it. There is none by default.",
    ),
    "totp": (
        str, "text",
        "Secret of the user's one-time codes, as pysftpctl totp writes it. There is none by default.",
    ),
    "methods": (
        list, "a list of texts",
        "What lets the user in, as in the setting auth_methods, which is the default.",
    ),
}  # fmt: skip
SECRETS = ("password", "totp")
Signature = tuple[int, ...]


@dataclass(frozen=True)
class Loaded:
    """The content of a file. has_table: whether there is a table [users], which may be empty.

    signatures: signature() of each file that was read, by path.
    """

    records: tuple[Record, ...]
    has_table: bool
    signatures: dict[str, Signature | None]


def signature(path: str) -> Signature | None:
    """The time, size, inode, mode and owner of a file, which show that it has changed; None: not readable."""
    try:
        return _signature(os.stat(path))
    except (OSError, ValueError):
        return None


def _signature(found: os.stat_result) -> Signature:
    return (
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_size,
        found.st_ino,
        found.st_dev,
        found.st_mode,
        found.st_uid,
    )


def check_presence(path: str, shown: str | None = None) -> None:
    """Raises DirectoryError, with the command that creates it, for a missing file. shown: its name."""
    if not os.path.lexists(path):
        name = shown or path
        raise DirectoryError(
            f"users file {name}: no such file or directory; create it with: pysftpctl --users "
            f"{shlex.quote(name)} add NAME --key FILE"
        )


def load(path: str, any_owner: bool = False) -> Loaded:
    """Read a file of users. Raises DirectoryError, with the line and column of an error in TOML.

    any_owner: it may belong to any account, for commands that root runs.
    """
    text, found = read_trusted(path, "users file", any_owner)
    tables = parse(path, text)
    signatures: dict[str, Signature | None] = {path: found}
    users = tables.get("users", {})
    records = tuple(_record(name, table, path, signatures, any_owner) for name, table in users.items())
    return Loaded(records, "users" in tables, signatures)


def parse(path: str, text: str) -> dict[str, Any]:
    """The tables of a file of users. Raises DirectoryError."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DirectoryError(f"users file {path}: {_where(str(error), text)}") from None
    except (RecursionError, ValueError):
        raise DirectoryError(f"users file {path}: nested too deeply, or a number in it is too long") from None
    problem = USERS_FILE.problem(tables.get("version"))
    if problem is not None:
        raise DirectoryError(f"users file {path}: version: {problem}")
    for name in tables:
        if name not in ("users", "version"):
            raise DirectoryError(
                f"users file {path}: {name!r} does not belong there; users are in [users.NAME]"
            )
    users = tables.get("users", {})
    if not isinstance(users, dict):
        raise DirectoryError(f"users file {path}: users are in tables, [users.NAME]")
    return tables


def read_trusted(path: str, what: str, any_owner: bool = False) -> tuple[str, Signature]:
    """A file's text and its signature. any_owner: as in load().

    Raises DirectoryError if it cannot be read, or is writable by other accounts.
    """
    content, found = read_trusted_bytes(path, what, any_owner)
    try:
        return content.decode(), found
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DirectoryError(f"{what} {path}: line {line}: not UTF-8") from None


def read_trusted_bytes(path: str, what: str, any_owner: bool = False) -> tuple[bytes, Signature]:
    """The same for a file with any content. Raises DirectoryError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            found = os.fstat(descriptor)
            problem = distrust(found, any_owner) or _distrust_directory(path)
            if problem:
                raise DirectoryError(f"{what} {path}: {problem}")
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(LARGEST + 1)
        finally:
            os.close(descriptor)
        if len(content) > LARGEST:
            raise DirectoryError(f"{what} {path}: larger than {LARGEST >> 20} MiB")
        return content, _signature(found)
    except PermissionError as error:
        raise DirectoryError(
            f"{what} {path}: {own_reason(error)}; run chgrp {own_group()} {shlex.quote(path)} && chmod 640 "
            f"{shlex.quote(path)}, in a directory that the account may enter, such as /etc/pysftpserver"
        ) from None
    except (OSError, ValueError) as error:
        raise DirectoryError(f"{what} {path}: {reason_of(error)}") from None


def distrust(found: os.stat_result, any_owner: bool = False) -> str | None:
    """Why a file cannot be trusted; None: it can."""
    if not stat.S_ISREG(found.st_mode):
        return "not a regular file"
    if found.st_mode & OTHERS_WRITE:
        return f"it is writable by others (mode {stat.S_IMODE(found.st_mode):04o}); run chmod go-w on it"
    if not any_owner and found.st_uid not in (0, os.geteuid()):
        return f"it belongs to user number {found.st_uid}; chown it to root or to the account that runs this"
    return None


def _distrust_directory(path: str) -> str | None:
    """The same for its directory: unless it is sticky, accounts that may write it can replace the file."""
    mode = os.stat(os.path.dirname(os.path.realpath(path))).st_mode
    if mode & OTHERS_WRITE and not mode & stat.S_ISVTX:
        return f"its directory is writable by others (mode {stat.S_IMODE(mode):04o}); run chmod go-w on that"
    return None


def _record(
    name: str, table: Any, path: str, signatures: dict[str, Signature | None], any_owner: bool
) -> Record:
    """The record of one user. Any mistake makes the user unusable, so that a typing error lets no one in.

    path: the users file, which may name an authorized_keys file. signatures: gets that file's.
    """
    if not isinstance(table, dict):
        return unusable(name, name, "not a table; users are in [users.NAME]")
    problems = list(field_problems(table))
    if problems:
        return unusable(name, name, *problems)
    folder = table.get("folder")
    if folder is None:
        folder = name
        if folder_problem(name):
            return unusable(name, name, "there is no folder, and the name is not a valid one")
    keys, problems = parse_keys(table.get("keys", []))
    if "authorized_keys" in table:
        try:
            full = os.path.join(os.path.dirname(path), table["authorized_keys"])
            signatures[full] = signature(full)
            text, signatures[full] = read_trusted(full, "authorized_keys file", any_owner)
            more, wrong = parse_authorized_keys(text, parse_entry)
            keys += [entry for entry, _ in more]
            problems += [f"authorized_keys file {table['authorized_keys']}, {one}" for one in wrong]
        except DirectoryError as error:
            problems.append(str(error))
    if stat.S_IROTH & (signatures[path] or (0,) * 7)[5] and not table.keys().isdisjoint(SECRETS):
        problems.append("others may read the users file, which has its password or secret; chmod o-r it")
    names = ("storage", "run_as", "site", "methods", "principals", "networks", *SECRETS)
    others = {field: table.get(field) for field in names}
    return build(name, name, folder, table.get("active", True), keys, problems=problems, **others)


def field_problems(table: dict[str, Any]) -> list[str]:
    """What is wrong with the names and types of a user's fields."""
    problems = []
    for field, value in table.items():
        if field not in FIELDS:
            problems.append(f"{field!r} is not a field of a user; the fields are {', '.join(FIELDS)}")
            continue
        kind, words, _ = FIELDS[field]
        is_right = isinstance(value, kind)
        if kind is list and is_right:
            is_right = all(isinstance(one, str) for one in value)
        if not is_right:
            problems.append(f"{field} is not {words}")
    return problems


def _where(message: str, text: str) -> str:
    """tomllib's message with the place in front; at the end of the file, tomllib gives none."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if found:
        return f"line {found[2]}, column {found[3]}: {found[1]}"
    words = message.removesuffix(" (at end of document)")
    lines = text.split("\n")
    return f"line {len(lines)}, column {len(lines[-1]) + 1}: {words} (at the end)"
