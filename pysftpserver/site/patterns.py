"""Patterns of paths and names.

`*` is any number of characters of a name, `?` one, `[a-z]` one of a set and `[!a-z]` one of the others; `**`,
as a whole name, is any number of names, including none. So `/in/*` matches everything directly in /in, and
`/in/**` matches /in and everything below it. `{user}`, `{folder}` and `{group}` are filled in literally: a
value is never a pattern. Names are compared one by one, and a `*` is tried at few places in each, so no path
takes long. What may not enter: rules, storages. Facts: glob(7), fnmatch(3).
"""

from __future__ import annotations

import fnmatch
import re

from pysftpserver.failures import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pysftpserver.site.who import Who

    Names = list[str] | tuple[str, ...]
    Test = Callable[[str], object]

FIELDS = ("user", "folder", "group")
_FIELD = re.compile(r"\{([^{}]*)\}")
_SPECIAL = re.compile(r"[*?\[]")
_SET = re.compile(r"\[!?+\]?+[^\]]*+\]|\[")


def check_path(text: str) -> None:
    """Raises ValueError for a text that is not a pattern of paths."""
    if not text.startswith("/") or any(name in (".", "..") for name in text.split("/")):
        raise ValueError(f"{text}: write an absolute path, such as /in/**")
    for name in names_of(text):
        check_name(name)
        if "**" in name and name != "**":
            raise ValueError(f"{text}: ** has to be a whole name, as in /in/**/x")


def check_name(text: str) -> None:
    """Raises ValueError for a text that is not a pattern of names."""
    if "/" in text or not text or "\0" in text:
        raise ValueError(f"{text}: write a pattern of names, such as *.exe")
    if "[" in _SET.findall(text):
        raise ValueError(f"{text}: a [ without its ]; write [[] for a bracket")
    for field in _FIELD.findall(text):
        if field not in FIELDS:
            raise ValueError(f"{text}: only {{user}}, {{folder}} and {{group}} may be in braces")


def check_temporary(text: str) -> None:
    """Raises ValueError unless a text is a pattern of temporary names, with one `*` for the final name."""
    if text.count("*") != 1 or len(text) < 2 or set(text) & set("/?[{"):
        raise ValueError(f"{text}: write a pattern of names with one *, such as *.filepart")


def names_of(path: str) -> list[str]:
    """The names in a path."""
    return [name for name in path.split("/") if name]


def text_of(path: bytes) -> str:
    """A path as patterns see it: bytes that are not UTF-8 become surrogate characters.

    os.fsdecode() would depend on the locale, which clients of sshd can choose.
    """
    return path.decode("utf-8", "surrogateescape")


def filled(text: str, who: Who) -> list[str]:
    """The patterns for one user: one for each of the groups if {group} is in it, otherwise one.

    Raises ValueError if a field has no value; without a group there is no pattern.
    """
    fields = set(_FIELD.findall(text))
    if not fields:
        return [text]
    found = []
    for group in who.groups if "group" in fields else ("",):
        values = {**who.values, "group": group}
        found.append(_FIELD.sub(lambda field, values=values: _literal(field[1], values), text))  # type: ignore[misc]
    return found


def _literal(field: str, values: dict[str, str]) -> str:
    return _SPECIAL.sub(r"[\g<0>]", value_of(field, values))


def value_of(field: str, values: Mapping[str, str]) -> str:
    """The value of a field, which is a single name. Raises ValueError."""
    value = values.get(field)
    if value is None:
        raise ValueError(f"{{{field}}}: no {field} is known here")
    if "/" in value or value in ("", ".", ".."):
        raise ValueError(f"{{{field}}}: {one_line(value)!r} is not a single name")
    return value


def place_of(text: str, who: Who) -> str:
    """A path with its fields filled in. {group} stays as it is for a user without a group.

    Raises ValueError if another field has no value.
    """
    known = who.values
    return _FIELD.sub(
        lambda field: field[0] if field[1] == "group" not in known else value_of(field[1], known), text
    )


def of_all(text: str) -> str:
    """The pattern of everything at and below a path, whatever the values of its fields."""
    return _FIELD.sub("*", _SPECIAL.sub(r"[\g<0>]", text)) + "/**"


class Pattern:
    """A pattern of paths, without fields."""

    def __init__(self, text: str) -> None:
        names = names_of(text)
        self._tests = [None if name == "**" else _test(name) for name in names]
        #: Whether it matches everything below a path that it matches.
        self.is_deep = names[-1:] == ["**"]
        self._everywhere = self._closed({0}) if self._tests[:1] == [None] else frozenset()

    def states(self, names: Iterable[str]) -> frozenset[int]:
        """The positions in the pattern that these names may reach; they alone decide on everything below."""
        states = self._closed({0})
        for name in names:
            after = set()
            for state in states:
                if state < len(self._tests):
                    test = self._tests[state]
                    if test is None:
                        after.add(state)
                    elif test(name):
                        after.add(state + 1)
            states = self._closed(after)
            if not states:
                break
        return states

    def _closed(self, states: set[int]) -> frozenset[int]:
        for state in sorted(states):
            while state < len(self._tests) and self._tests[state] is None:
                state += 1
                states.add(state)
        return frozenset(states)

    def matches(self, names: Iterable[str]) -> bool:
        """Whether it matches the path with these names."""
        return len(self._tests) in self.states(names)

    def reaches_below(self, names: Iterable[str]) -> bool:
        """Whether it matches anything below that path."""
        states = self.states(names)
        return any(state < len(self._tests) for state in states)

    def is_evaded(self, names: Iterable[str]) -> bool:
        """Whether it matches a path, or anything below it, that a link there could take out of its reach."""
        return not self.states(names) <= self._everywhere


def _test(pattern: str) -> Test:
    if not _SPECIAL.search(pattern):
        return pattern.__eq__
    return re.compile(fnmatch.translate(pattern)).match


class Patterns:
    """Patterns of paths for one user. Raises ValueError if a field has no value."""

    def __init__(self, texts: Iterable[str], who: Who) -> None:
        self.patterns = [Pattern(one) for text in texts for one in filled(text, who)]

    def matches(self, path: bytes) -> bool:
        """Whether one of them matches a canonical path."""
        return self.match(names_of(text_of(path)))

    def match(self, names: Names) -> bool:
        """The same for the names of a path."""
        return any(pattern.matches(names) for pattern in self.patterns)
