"""Users as Redis holds them: the names of the keys, and a user's record from their values.

For the server (asyncio), and for the commands that ask and edit (not asyncio). What may not enter: opening
and losing connections, asyncio.
Facts: docs/sshd.md, "In Redis".
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field

from pysftpserver.failures import reason_of
from pysftpserver.formats import REDIS_USER
from pysftpserver.people.records import Record, build, parse_active, parse_keys, unusable
from pysftpserver.people.users import DirectoryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Self

    from pysftpserver.people.settings import PeopleSettings

USERS = "solt.sftp.users"
USER = "solt.sftp.user."
CODE = "solt.sftp.code."
CODE_SECONDS = 300  # for which a used code is remembered, longer than it is valid
FIELDS = (
    *("name", "folder", "active", "storage", "run_as", "site"),
    *("password", "totp", "methods", "principals", "networks", "version"),
)
LONGEST_ID = 128  # characters
# The library's messages on passwords and Redis's access lists, in its several classes of errors.
_REFUSALS = {
    "WRONGPASS": "the password is wrong",
    "invalid username-password": "the password is wrong",
    "invalid password": "the password is wrong",
    "NOAUTH": "it requires a password; set redis_pass",
    "Authentication required": "it requires a password; set redis_pass",
    "already authenticated": "it requires a password; set redis_pass",
    "called without any password configured": "it has no password; remove redis_pass",
    "DB index is out of range": "it has no database of that number; change redis_dbindex",
    "invalid DB index": "it has no database of that number; change redis_dbindex",
    "No permissions": "its access list forbids a command that is needed here",
    "no permissions": "its access list forbids a command that is needed here",
    "NOPERM": "its access list forbids a command that is needed here",
}


@dataclass(frozen=True)
class RedisAddress:
    """Where the users are. Its texts do not contain the password."""

    host: str = "localhost"
    port: int = 6379
    db: int = 1
    password: str | None = field(default=None, repr=False)
    channel: str = "sftp_users"

    @classmethod
    def of(cls, settings: PeopleSettings) -> Self:
        """The address that the settings name."""
        return cls(
            settings.redis_host,
            settings.redis_port,
            settings.redis_dbindex,
            settings.redis_pass,
            settings.redis_channel,
        )

    def options(self, patience: float) -> dict[str, Any]:
        """The arguments with which the library connects. patience: seconds for an answer."""
        return {
            "host": self.host,
            "port": self.port,
            "db": self.db,
            "password": self.password,
            "socket_timeout": patience,
            "socket_connect_timeout": patience,
            "protocol": 2,  # the only one of Redis before 6
        }

    def __str__(self) -> str:
        return f"{self.host}:{self.port}, database {self.db}"


class Refused(DirectoryError):
    """Redis has refused the connection or a command: the settings are wrong."""


def hash_key(id: str) -> str:
    """The key of a user's fields."""
    return f"{USER}{id}"


def set_key(id: str) -> str:
    """The key of a user's SSH keys."""
    return f"{USER}{id}.keys"


def code_key(id: str, step: int) -> str:
    """The key that marks a user's one-time code of a step as used."""
    return f"{CODE}{step}.{id}"


def new_folder() -> str:
    """A folder for a user without one."""
    return uuid.uuid4().hex


def parse_id(raw: object) -> str | None:
    """A user's id; None for anything else, because a message on the channel may be anything."""
    text = _text(raw)
    if text is None or not 0 < len(text) <= LONGEST_ID or not text.isprintable() or re.search(r"\s", text):
        return None
    # Its hash would have the name of another user's set of keys.
    return None if text.endswith(".keys") else text


def parse_record(id: str, values: Any, members: Any) -> Record:
    """A user's record.

    values: the answer to HMGET of FIELDS; members: that to SMEMBERS of the keys; either may be an exception.
    The folder must have been filled in.
    """
    if isinstance(values, Exception) or isinstance(members, Exception):
        return unusable(id, "", "the keys of this user in Redis have the wrong type")
    texts = [None if value is None else _text(value) for value in values]
    for field_name, raw, text in zip(FIELDS, values, texts, strict=True):
        if raw is not None and text is None:
            return unusable(id, texts[0] or "", f"the field {field_name} is not text")
    name, folder, active, storage, run_as, site, password, totp, methods, principals, networks, form = texts
    problem = REDIS_USER.problem(form)
    if problem is not None:
        return unusable(id, name or "", problem)
    if name is None:
        return unusable(id, "", "there is no name")
    if folder is None:
        return unusable(id, name, "there is no folder")
    is_active = parse_active(active) if active is not None else None
    problems = [] if is_active is not None else ["active is neither True nor False; it counts as False"]
    keys, left_out = parse_keys(_text(member) or "?" for member in sorted(members))
    combinations = methods.split() if methods is not None else None
    rest = storage, problems + left_out, run_as, site, password, totp, combinations, principals, networks
    return build(id, name, folder, bool(is_active), keys, *rest)


def pairs(answers: Sequence[Any]) -> list[tuple[Any, Any]]:
    """The fields and keys of each user, from alternating answers to HMGET and SMEMBERS.

    Data of a wrong type affects that user only; any other exception among the answers is raised.
    """
    for answer in answers:
        if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
            raise answer
    return list(zip(answers[::2], answers[1::2], strict=True))


def wants_folder(values: Any) -> bool:
    """Whether a user lacks only the folder, which is then created."""
    return not isinstance(values, Exception) and values[0] is not None and values[1] is None


def parse_ids(raw: Iterable[object]) -> tuple[list[str], int]:
    """The ids in the set of users, and the number of its members that are not ids."""
    every = [parse_id(one) for one in raw]
    ids = sorted(id for id in every if id is not None)
    return ids, len(every) - len(ids)


def chunks(ids: Sequence[str], size: int = 100) -> Iterable[Sequence[str]]:
    """Ids in portions, so that Redis's other clients and this process's other work do not wait long."""
    return (ids[start : start + size] for start in range(0, len(ids), size))


def words_of_failure(error: BaseException) -> tuple[str, bool]:
    """What failed, without secrets, and whether the settings are at fault."""
    text = " ".join(str(error).split())
    for sign, words in _REFUSALS.items():
        if sign in text:
            return words, True
    if isinstance(error, TimeoutError):
        return "no answer in time", False
    cause = error.__cause__ or error.__context__
    number = next((one.errno for one in (error, cause) if isinstance(one, OSError) and one.errno), None)
    if number is not None and number > 0:
        return reason_of(OSError(number, "")), False
    known = (
        ("Connection refused", "connection refused"),
        ("loading the dataset", "it is loading its data"),
        ("Name or service not known", "there is no host of that name"),
        ("imeout", "no answer in time"),
        ("onnection closed", "the connection was closed"),
    )
    for sign, words in known:
        if sign in text:
            return words, False
    return f"{type(error).__name__}", False


def _text(raw: object) -> str | None:
    if isinstance(raw, str):
        return raw
    try:
        return raw.decode() if isinstance(raw, bytes) else None
    except UnicodeDecodeError:
        return None
