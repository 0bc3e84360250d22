"""ONE table of the content of site files: tables, their keys, valid values, and defaults.

Reading a file (file.py), messages about mistakes and the reference in docs/site.md use it. A new key is a row
here, and an attribute of the Entry that file.py makes of each table. What may not enter: files, layers.
"""

from __future__ import annotations

import posixpath

from pysftpserver.site import actions, magic, patterns, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
MOST = (1 << 63) - 1  # bytes, and files
MOST_SECONDS = 86_400


class Kind:
    """A kind of value. words: for messages, after "write". convert: raises ValueError or TypeError.

    If the error has a text, that is used in place of words.
    """

    def __init__(self, words: str, convert: Callable[[Any], Any]) -> None:
        self.words, self.convert = words, convert


def _is(kind: type) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError
        return value

    return convert


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError
    if not value or not value.isprintable():
        raise ValueError("write a text of printable characters")
    return value


def _bytes(value: Any) -> int:
    if type(value) is str:
        digits = value.strip().rstrip("BKMGTibkmgtI").strip()
        unit = value.strip()[len(digits) :].strip().upper()
        if not digits.isascii() or not digits.replace("_", "").isdecimal() or unit not in UNITS:
            raise TypeError
        value = int(digits[:20]) * UNITS[unit]
    return _count(value)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MOST:
        raise TypeError
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value <= MOST_SECONDS:
        raise TypeError
    return float(value)


def _each(convert: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """A function that converts one text, or a list of them."""

    def convert_all(value: Any) -> tuple[Any, ...]:
        found = value if type(value) is list else [value]
        if any(type(one) is not str for one in found) or not found:
            raise TypeError
        return tuple(convert(one) for one in found)

    return convert_all


def _checked(check: Callable[[str], object]) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        check(_text(value))
        return value

    return convert


def _one_of(*words: str) -> Kind:
    shown = " or ".join(f'"{word}"' for word in words)

    def convert(value: Any) -> Any:
        if type(value) is not str or value not in words:
            raise TypeError
        return value

    return Kind(shown, convert)


def _place(value: Any) -> str:
    """An absolute path of the tree, without a pattern."""
    path = _text(value)
    if posixpath.normpath(path) != path or not path.startswith("/") or path.startswith("//") or path == "/":
        raise ValueError("write an absolute path such as /archive")
    return path


def _host_path(value: Any) -> str:
    path = _text(value)
    if not path.startswith("/") or "{" in path:
        raise ValueError("write an absolute path of this host, without fields in braces")
    return path


def _network(text: str) -> Any:
    import ipaddress

    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text}: write networks such as 10.0.0.0/8") from None


def _redis(value: Any) -> str:
    from pysftpserver.site.resp import Address

    url = _text(value)
    Address(url)
    return url


def _url(value: Any) -> str:
    from urllib.parse import urlsplit

    url = _text(value)
    try:
        parts = urlsplit(url)
        has_place = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # of the port, or of an address
        has_place = False
    if (
        not has_place
        or parts.scheme not in ("http", "https")
        or parts.username
        or parts.fragment
        or " " in url
    ):
        raise ValueError("write http://HOST/PATH or https://HOST/PATH, without a name and a password")
    return url


TEXT = Kind("a text", _text)
FLAG = Kind("true or false", _is(bool))
BYTES = Kind('a number of bytes, or a text such as "10 GiB"', _bytes)
COUNT = Kind("a whole number", _count)
SECONDS = Kind(f"a number of seconds, at most {MOST_SECONDS}", _seconds)
TEXTS = Kind("a text, or a list of texts", _each(_text))
PATHS = Kind("a pattern of paths, or a list of them", _each(_checked(patterns.check_path)))
NAMES = Kind("a pattern of names, or a list of them", _each(_checked(patterns.check_name)))
TEMPORARY = Kind(
    "a pattern of names with one *, or a list of them", _each(_checked(patterns.check_temporary))
)
PLACE = Kind("an absolute path such as /archive", _place)
HOST_PATH = Kind("an absolute path of this host", _host_path)
ACTIONS = Kind(
    "an action, or a list of them", lambda value: frozenset().union(*_each(actions.expanded)(value))
)
NETWORKS = Kind("a network such as 10.0.0.0/8, or a list of them", _each(_network))
MAGIC = Kind("a kind of file, or a list of them", _each(_checked(magic.check)))
HOURS = Kind('hours such as "mon-fri 08:00-18:00", or a list of them', _each(times.Hours))
URL = Kind("a URL", _url)
REDIS = Kind("a URL of Redis", _redis)


def _limit(value: Any) -> dict[str, Any]:
    if type(value) is not dict or not value:
        raise TypeError
    kinds = {"size": BYTES, "pattern": NAMES, "magic": MAGIC}
    found: dict[str, Any] = dict.fromkeys(kinds)
    for key, one in value.items():
        if key not in kinds:
            raise ValueError(f"unknown key {key}; known are {', '.join(kinds)}")
        try:
            found[key] = kinds[key].convert(one)
        except TypeError:
            raise ValueError(f"{key}: write {kinds[key].words}") from None
    return found


LIMIT = Kind('a table such as { size = "1 GiB", pattern = "*.csv", magic = "text" }', _limit)

EVENTS = tuple("upload download delete rename mkdir rmdir login logout rejected".split())


def _event(text: str) -> str:
    if text not in EVENTS:
        raise ValueError(f"{text}: unknown; known are {', '.join(EVENTS)}")
    return text


ON = Kind("an event, or a list of them", _each(_event))


class Required:
    """The default of a required key."""


class Key:
    """A key. default: as converted; Required: there is none. text: one sentence, for the documentation."""

    def __init__(self, name: str, kind: Kind, default: Any, text: str) -> None:
        self.name, self.kind, self.default, self.text = name, kind, default, text

    @property
    def attribute(self) -> str:
        """Its name in an Entry: a keyword of Python gets an underscore."""
        return f"{self.name}_" if self.name in ("or", "from") else self.name


class Table:
    """A table. form: how it is written. name: its name. keys: by their names; None: any, each a list of
    names.

    is_many: whether there may be several. text: its purpose.
    """

    def __init__(self, form: str, keys: tuple[Key, ...] | None, text: str) -> None:
        self.form, self.text = form, text
        self.name = form.strip("[]") if form.startswith("[") else ""
        self.is_many = form.startswith("[[")
        self.keys = None if keys is None else {key.name: key for key in keys}


USERS = Key("users", TEXTS, (), "Only for users with these names; patterns such as `p-*` are allowed.")
GROUPS = Key("groups", TEXTS, (), "Only for members of these groups; with `users` as well, for either.")
PATH = Key("path", PATHS, ("/**",), "Paths that it applies to, as patterns. The default is all.")

TABLES = (
    Table(
        "",
        (
            Key("storage", TEXT, None, "The name of the storage at the top, by [storages.md](storages.md)."),
            Key("across", _one_of("copy"), None,
                "What a rename from one storage to another does: `\"copy\"` copies and removes. The default "
                "is to refuse it."),
            Key("hidden", PATHS, (), "Paths that do not exist for clients, with all that is below them."),
            Key("state", HOST_PATH, None,
                "A directory of this host for the ledger, which quotas and events need; "
                "not in a jail."),
            Key("ledger", REDIS, None,
                "Redis, where quotas are counted for several hosts: `redis://HOST:PORT/DB` or `unix:/PATH`, "
                "with `?prefix=NAME` for each of several sites. The default is `state`."),
            Key("ledger_secret", HOST_PATH, None,
                "A file whose first line is the password of `ledger`, or a user, a space and the password."),
        ),
        "At the top of the file, above all tables.",
    ),
    Table(
        "[[mount]]",
        (
            Key("path", PLACE, Required,
                "Where the storage is mounted: an absolute path. With `{group}` in it, there is one for each "
                "group of the user."),
            Key("storage", TEXT, Required, "The name of the storage; not another site file."),
            Key("read_only", FLAG, False, "Refuse all changes in it."),
            USERS,
            GROUPS,
        ),
        "Another storage in the same tree.",
    ),
    Table("[group]", None, "The key is the name of a group, the value a list of its users or patterns."),
    Table(
        "[[rule]]",
        (
            PATH,
            USERS,
            GROUPS,
            Key("networks", NETWORKS, (), "Only for clients in these networks."),
            Key("hours", HOURS, (), "Only at these hours of the host, such as `\"mon-fri 08:00-18:00\"`."),
            Key("allow", ACTIONS, None, "Allow these actions, and refuse all others."),
            Key("deny", ACTIONS, None, "Refuse these actions, and allow all others."),
            Key("hidden", FLAG, False, "The paths do not exist for the client."),
        ),
        "What may be done where. The first rule that matches path, user, network and hour decides; what no "
        "rule matches is allowed. A rule has one of `allow`, `deny` and `hidden`.",
    ),
    Table(
        "[names]",
        (
            Key("refuse", NAMES, (), "Names that nothing new may have, as patterns; case does not matter."),
            Key("largest", BYTES, None, "Maximum size of a file."),
            Key("temporary", TEMPORARY, actions.TEMPORARY,
                "Names under which clients upload before they rename. Writing such a file again is part "
                "of the upload, and so is its rename to the final name."),
        ),
        "Limits on the names and sizes of new files.",
    ),
    Table(
        "[quota]",
        (
            Key("bytes", BYTES, None, "Maximum number of bytes that may be stored."),
            Key("files", COUNT, None, "Maximum number of files that may be stored."),
            Key("per", _one_of("user", "group", "site"), "user", "Whose files are counted together."),
            PATH,
            USERS,
            GROUPS,
        ),
        "Limits on what is stored. There may be several, as `[[quota]]`.",
    ),
    Table(
        "[[gate]]",
        (
            PATH,
            USERS,
            GROUPS,
            Key("clamd", HOST_PATH, None, "The socket of clamd, which scans the file."),
            Key("ask", HOST_PATH, None, "The socket of a program of yours, which is asked about the file."),
            Key("limit", LIMIT, None, "Limits: `size`, `pattern` of the name, `magic` of the content."),
            Key("or", _one_of("reject", "accept"), "reject", "What to do while the gate is unreachable."),
            Key("quarantine", PLACE, None, "Where files in quarantine go; clients cannot see it."),
            Key("timeout", SECONDS, 60.0, "Seconds to wait for an answer."),
        ),
        "A check that every file must pass before it is visible under its name.",
    ),
    Table(
        "[[event]]",
        (
            Key("on", ON, Required, f"Events: {', '.join(EVENTS)}."),
            PATH,
            USERS,
            GROUPS,
            Key("run", TEXTS, None, "A program and its arguments; no shell is involved."),
            Key("post", URL, None, "A URL that gets the event as JSON."),
            Key("secret", HOST_PATH, None, "A file whose first line is the key of the signature of `post`."),
            Key("socket", HOST_PATH, None, "A Unix socket that gets the event as a line of JSON."),
            Key("wait", FLAG, False, "Reply to the client only when the event is delivered."),
            Key("timeout", SECONDS, 60.0, "Seconds that one delivery may take."),
        ),
        "A notification of what has happened.",
    ),
)  # fmt: skip
BY_NAME = {table.name: table for table in TABLES}


def reference() -> str:
    """The tables and their keys, for the documentation."""
    lines: list[str] = []
    for table in TABLES:
        lines += [f"### `{table.form}`" if table.form else "### At the top", "", table.text, ""]
        if table.keys is None:
            continue
        lines += ["| key | default | meaning |", "| --- | --- | --- |"]
        for key in table.keys.values():
            lines.append(f"| `{key.name}` | {_default(key)} | {key.text} |")
        lines.append("")
    return "\n".join(lines)


def _default(key: Key) -> str:
    if key.default is Required:
        return "has to be given"
    if key.default in (None, ()):
        return "none"
    if isinstance(key.default, tuple):
        return ", ".join(f"`{one}`" for one in key.default)
    return f"`{str(key.default).lower() if isinstance(key.default, bool) else key.default}`"
