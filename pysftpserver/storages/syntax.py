"""The text of a storage's name: parses it, and fills in the user.

`{user}`, `{folder}` and `{group}` in a name stand for the user of a session. They are filled in after the
name was parsed, so that a value can never be a separator, a setting or another argument, and never leaves the
directory that it names. What may not enter: which storages there are, files. Facts: RFC
3986 on URLs; path_resolution(7).
"""

from __future__ import annotations

from pysftpserver.failures import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

FIELDS = ("user", "folder", "group")
OLDER = {"name": "user"}  # in the arguments of classes
LONGEST_VALUE = 255  # bytes, as a file's name


def pieces(text: str, known: tuple[str, ...] = FIELDS) -> Iterator[tuple[str, str | None]]:
    """Yield (literal text, name of the field after it) for each field, and (the rest, None).

    Braces around anything that is not in known are literal text.
    """
    literal = ""
    while "{" in text:
        before, _, after = text.partition("{")
        name, brace, rest = after.partition("}")
        if brace and name in known:
            yield literal + before, name
            literal, text = "", rest
        else:
            literal, text = f"{literal}{before}{{", after
    yield literal + text, None


def fields(text: str, known: tuple[str, ...] = FIELDS) -> set[str]:
    """The fields in a text."""
    return {name for _, name in pieces(text, known) if name is not None}


def check_braces(text: str) -> None:
    """Raises ValueError for a text with braces around anything that is not a field."""
    for literal, _ in pieces(text):
        if "{" in literal or "}" in literal:
            inside = literal.partition("{")[2].partition("}")[0]
            shown = "{" + inside + "}" if inside.isidentifier() else "a brace"
            raise ValueError(f"{shown}: only {{user}}, {{folder}} and {{group}} may be in braces")


def value_of(field: str, values: Mapping[str, str], *, is_in_url: bool = False) -> str:
    """The value of a field. is_in_url: whether it becomes part of a URL.

    Raises ValueError if it is not known, or is not a single name that stays in the directory around it.
    """
    value = values.get(field)
    if value is None:
        raise ValueError(f"{{{field}}}: no {field} is known here")
    if not value:
        why = "it is empty"
    elif "/" in value or value.startswith((".", "~")) or is_in_url and "\\" in value:
        why = "it is not a single name; slashes and a leading . or ~ are not allowed"
    elif is_in_url and value.endswith((".", " ")):
        why = "it ends with a . or a space, without which it is the same name for some servers"
    elif not value.isprintable():
        why = "it has unprintable characters"
    elif len(value.encode()) > LONGEST_VALUE:  # printable text can be encoded
        why = f"it is longer than {LONGEST_VALUE} bytes"
    else:
        return value
    raise ValueError(
        f"{{{field}}}: {one_line(value)[:LONGEST_VALUE]!r} cannot be part of a storage's name: {why}"
    )


def filled(text: str, values: Mapping[str, str]) -> str:
    """A path, or the value of a setting, with its fields filled in. Raises ValueError."""
    return _filled(text, FIELDS, lambda field: value_of(field, values))


def filled_url(text: str, values: Mapping[str, str]) -> str:
    """A URL with its fields filled in, percent-encoded. Raises ValueError."""
    from urllib.parse import quote

    return _filled(text, FIELDS, lambda field: quote(value_of(field, values, is_in_url=True), safe=""))


def filled_arguments(arguments: Any, values: Mapping[str, str]) -> Any:
    """A value from JSON, with the fields in all its texts filled in. Raises ValueError."""
    if isinstance(arguments, str):
        return _filled(arguments, (*FIELDS, *OLDER), lambda field: value_of(OLDER.get(field, field), values))
    if isinstance(arguments, list):
        return [filled_arguments(one, values) for one in arguments]
    if isinstance(arguments, dict):
        return {key: filled_arguments(one, values) for key, one in arguments.items()}
    return arguments


def _filled(text: str, known: tuple[str, ...], value: Callable[[str], str]) -> str:
    return "".join(
        literal if field is None else literal + value(field) for literal, field in pieces(text, known)
    )


def pairs(query: str) -> list[tuple[str, str, str]]:
    """The settings of a query as they are written: name, "=" and value."""
    return [pair.partition("=") for pair in query.split("&") if pair]


def settings_of(query: str, known: tuple[str, ...]) -> dict[str, str]:
    """The settings of `NAME=VALUE&NAME=VALUE`, percent-decoded. Raises ValueError; its text has no values."""
    from urllib.parse import unquote

    found: dict[str, str] = {}
    for name, equals, value in pairs(query):
        if name not in known:
            shown = f"{name}: " if equals and name.isidentifier() else ""
            raise ValueError(f"{shown}unknown setting; known are {', '.join(known)}")
        if not equals:
            raise ValueError(f"{name}: write {name}=VALUE")
        if name in found:
            raise ValueError(f"{name}: given twice")
        try:
            found[name] = unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise ValueError(f"{name}: not UTF-8 when percent-decoded") from None
    return found


def truth(text: str, name: str) -> bool:
    """A setting that is true or false. Raises ValueError."""
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{name}: write true or false")
    return text.lower() == "true"


def has_password(text: str) -> bool:
    """Whether there may be a password in a name: a colon between `://` and `@`, encoded or not."""
    parts = text.split("@")
    for number in range(1, len(parts)):
        _, found, userinfo = "@".join(parts[:number]).rpartition("://")
        is_colon = ":" in userinfo or "%3a" in userinfo.lower()
        if found and is_colon and not userinfo.startswith("/"):
            return True
    return False


def shown(text: str) -> str:
    """A name for messages, in one line and without what may be a secret: passwords, settings, arguments.

    Users in URLs are shown only for sftp; elsewhere they may be secrets.
    """
    name = text.partition(" ")[0].partition("?")[0]
    if has_password(text):
        scheme, _, rest = text.partition("://")
        name = f"{scheme}://***@{rest.rpartition('@')[2].partition('?')[0].partition(' ')[0]}"
    elif "@" in name and not name.startswith("sftp://"):
        head, *parts = name.split("://")
        name = "://".join((head, *map(_without_user, parts)))
    return one_line(name)


def _without_user(part: str) -> str:
    host, slash, path = part.partition("/")
    return f"***@{host.rpartition('@')[2]}{slash}{path}" if "@" in host else part
