"""The target for site files: reading one, and the decisions of its rules against a slow and simple reading.

An input is one unused byte, and the text of a site file. It decides on paths from the file's own patterns and
on a few others. What may not enter: atheris, storages.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
import time

from pysftpserver.failures import BadInput
from pysftpserver.site import explain, file
from pysftpserver.site.actions import ACTIONS
from pysftpserver.site.patterns import filled
from pysftpserver.site.rules import NameRules, Rules
from pysftpserver.site.who import Who, groups_of, is_meant

ADDRESS = ipaddress.ip_address("10.1.2.3")
NOW = 1_796_040_000.0
PATHS = (b"/", b"/in", b"/in/x", b"/in/d/x.exe", b"/a/.git/b", b"/\xff", b"/home/al/x", b"/of/g/x")


class SiteTarget:
    """Reads a site file, and decides on paths."""

    def __call__(self, data: bytes) -> None:
        try:
            site = file.parse(data[1:].decode(errors="replace"), "s.toml")
        except BadInput as error:
            lines = getattr(error, "lines", (error.message,))
            assert lines, "no mistake is named"
            for line in lines:
                assert line.startswith("s.toml: "), f"{line!r} does not name the file"
                assert line.isprintable(), f"{line!r} is not one line"
            return
        who = Who("al", groups_of("al", site.groups), str(ADDRESS), "", "fo")
        try:
            rules = Rules(site, who, lambda: NOW)
        except BadInput:
            return
        NameRules(site.names).refusal("x.EXE.filepart")
        texts = [text for rule in site.rules for text in rule.path] + list(site.hidden)
        own = [text.replace("**", "x/y").replace("*", "z").encode(errors="replace") for text in texts[:9]]
        for path in (*PATHS, *(explain.canonical(path) for path in own)):
            allowed = _allowed(site, who, path)
            for _ in range(2):  # the second time from the cache
                decision = rules.decide(path)
                found = None if decision.is_hidden else decision.allowed
                assert found == allowed, f"{path!r}: {found}, where a second reading says {allowed}"
            below = rules.decide(path.rstrip(b"/") + b"/below")
            assert below.is_hidden or not decision.is_hidden, (
                f"{path!r} is hidden, and what is below it is not"
            )
            if path != b"/" and not decision.is_hidden:
                assert rules.that_keeps(path, path) is None or rules.rules, "no rule keeps anything"
        explain.explained(site, who, "put /in/x", NOW)


def _allowed(site: file.Site, who: Who, path: bytes) -> frozenset[str] | None:
    """The allowed actions; None if the path is hidden. Follows the documentation word by word, without
    tricks.
    """
    names = [name for name in path.decode("utf-8", "surrogateescape").split("/") if name]
    hiding = [(site.hidden, True, frozenset[str]())]
    for gate in site.gates:
        if gate.quarantine:
            hiding.append(((_anybodys(gate.quarantine),), True, frozenset()))
    moment = time.localtime(NOW)
    for rule in site.rules:
        is_from = not rule.networks or any(ADDRESS in network for network in rule.networks)
        is_now = not rule.hours or any(hours.holds(moment) for hours in rule.hours)
        if is_meant(who, rule.users, rule.groups) and is_from and is_now:
            allowed = frozenset(ACTIONS) - rule.deny if rule.deny is not None else rule.allow or frozenset()
            hiding.append((rule.path, rule.hidden, allowed))
    result: frozenset[str] | None = frozenset(ACTIONS)
    for count in range(1, len(names) + 1) if names else (0,):
        for patterns, is_hidden, allowed in hiding:
            if any(_matches(one, names[:count]) for text in patterns for one in filled(text, who)):
                if is_hidden:
                    return None
                result = allowed
                break
        else:
            result = frozenset(ACTIONS)
    return result


def _anybodys(place: str) -> str:
    """The pattern of a quarantine for any user."""
    literal = "".join(f"[{letter}]" if letter in "*?[" else letter for letter in place)
    return re.sub(r"\{[^{}]*\}", "*", literal) + "/**"


def _matches(pattern: str, names: list[str]) -> bool:
    todo = [name for name in pattern.split("/") if name]
    reached = {0}
    for part in todo:
        if part == "**":
            reached = {count for at in reached for count in range(at, len(names) + 1)}
        else:
            reached = {at + 1 for at in reached if at < len(names) and fnmatch.fnmatchcase(names[at], part)}
    return len(names) in reached
