"""What a user may do to a path: the rules of a site file, and the limits for new names.

The first rule that applies to the user, path and time decides; if no rule applies, the action is allowed.
Paths are canonical: resolving.py ensures that. What may not enter: storages, requests.
"""

from __future__ import annotations

import fnmatch
import re
import time

from pysftpserver.failures import BadInput
from pysftpserver.site.actions import ACTIONS, TEMPORARY
from pysftpserver.site.patterns import Patterns, names_of, of_all, text_of
from pysftpserver.site.who import is_meant
from pysftpserver.uploads import temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from time import struct_time

    from pysftpserver.site.file import Entry, Site
    from pysftpserver.site.times import Hours
    from pysftpserver.site.who import Who

ALL = frozenset(ACTIONS)
NONE: frozenset[str] = frozenset()
MOST_CACHED, LONGEST_CACHED = 4096, 256  # decisions, and bytes of their paths, to bound memory
#: Actions that an additional name of a file must not allow if the first name does not.
OF_FILES = ("download", "overwrite", "append", "setstat")


class Rule:
    """A rule for one user. place: for messages. allowed: the actions. is_hidden: whether it hides paths."""

    def __init__(
        self,
        place: str,
        patterns: Patterns,
        allowed: frozenset[str],
        is_hidden: bool = False,
        hours: tuple[Hours, ...] = (),
    ) -> None:
        self.place, self.patterns = place, patterns
        self.allowed = NONE if is_hidden else ALL if allowed == ALL else allowed
        self.is_hidden, self.hours = is_hidden, hours

    def holds(self, moment: struct_time) -> bool:
        """Whether the rule applies at a moment."""
        return not self.hours or any(hours.holds(moment) for hours in self.hours)


class Decision:
    """What may be done to a path. rule: the one that decided; None: there is none. stand_in: for a hidden
    path, a non-existent path in its place and what may be done to that; set when first needed.
    """

    __slots__ = ("allowed", "is_hidden", "rule", "stand_in")

    def __init__(self, rule: Rule | None) -> None:
        self.stand_in: tuple[bytes, Decision] | None = None
        self.rule = rule
        self.allowed = ALL if rule is None else rule.allowed
        self.is_hidden = rule is not None and rule.is_hidden


class Rules:
    """The rules of a site that apply to one user. now: returns the time, in seconds since the epoch.

    Raises BadInput if a field in a path has no value.
    """

    def __init__(self, site: Site, who: Who, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._minute = -1.0
        self._cache: dict[bytes, Decision] = {}
        self.rules: list[Rule] = []
        try:
            if site.hidden:
                self.rules.append(Rule(site.top.at("hidden"), Patterns(site.hidden, who), NONE, True))
            for gate in site.gates:
                if gate.quarantine is not None:
                    patterns = Patterns([of_all(gate.quarantine)], who)
                    self.rules.append(Rule(gate.at("quarantine"), patterns, NONE, True))
            for entry in site.rules:
                if is_meant(who, entry.users, entry.groups) and _is_from(entry, who):
                    self.rules.append(_rule(entry, who))
        except ValueError as error:
            raise BadInput(f"{site.file}: {error}") from None
        #: Whether names of waiting uploads are hidden.
        self.hides_staging = bool(site.gates)
        self.has_hidden = self.hides_staging or any(rule.is_hidden for rule in self.rules)
        self._has_hours = any(rule.hours for rule in self.rules)
        self._holding = self.rules
        time.localtime()  # reads the time zone, which a confined process cannot

    def decide(self, path: bytes) -> Decision:
        """What may be done to a canonical path. Everything below a hidden path is hidden."""
        if self._has_hours:
            self._look_at_the_clock()
        found = self._cache.get(path)
        if found is None:
            found = self._decided(path)
            if len(self._cache) >= MOST_CACHED:
                self._cache.clear()
            if len(path) <= LONGEST_CACHED:
                self._cache[path] = found
        return found

    def _look_at_the_clock(self) -> None:
        now = self._now()
        if now // 60 != self._minute:
            self._minute = now // 60
            moment = time.localtime(now)
            self._holding = [rule for rule in self.rules if rule.holds(moment)]
            self._cache.clear()

    def _decided(self, path: bytes) -> Decision:
        names = names_of(text_of(path))
        if self.has_hidden:
            for count in range(1, len(names)):
                rule = self._first(names[:count])
                if rule is not None and rule.is_hidden:
                    return Decision(rule)
            if self.hides_staging and any(temporary.is_temporary(name) for name in path.split(b"/")):
                return Decision(STAGING)
        return Decision(self._first(names))

    def of_staged(self, path: bytes) -> Decision:
        """The same, as if the name were not that of a waiting upload."""
        return Decision(self._first(names_of(text_of(path))))

    def _first(self, names: list[str]) -> Rule | None:
        for rule in self._holding:
            if rule.patterns.match(names):
                return rule
        return None

    def that_keeps(self, old: bytes, new: bytes) -> Rule | None:
        """The rule for a path below a directory that prevents renaming the directory; None if there is none.

        That is one that refuses to rename something below either name, or that hides something below, or
        denies its download, and would no longer do so.
        """
        if self._has_hours:
            self._look_at_the_clock()
        olds, news = names_of(text_of(old)), names_of(text_of(new))
        decided: set[bool] = set()  # below which of the two an earlier rule decides everything
        for rule in self._holding:
            for pattern in rule.patterns.patterns:
                states = pattern.states(olds), pattern.states(news)
                for is_new, names in ((False, olds), (True, news)):
                    if is_new in decided or not pattern.reaches_below(names):
                        continue
                    is_same = states[0] == states[1]
                    if rule.is_hidden:
                        if not is_same:
                            return rule
                    elif "rename" not in rule.allowed:
                        return rule
                    elif not is_new and not is_same and "download" not in rule.allowed:
                        return rule
            for is_new, names in ((False, olds), (True, news)):
                if any(pattern.is_deep and pattern.matches(names) for pattern in rule.patterns.patterns):
                    decided.add(is_new)
            if len(decided) == 2:
                break
        return None


def _rule(entry: Entry, who: Who) -> Rule:
    allowed = ALL - entry.deny if entry.deny is not None else entry.allow or NONE
    return Rule(entry.place, Patterns(entry.path, who), allowed, entry.hidden, entry.hours)


def _is_from(entry: Entry, who: Who) -> bool:
    """Whether the client's address is in the networks of a rule. An unknown address is in none."""
    if not entry.networks:
        return True
    import ipaddress

    try:
        address = ipaddress.ip_address(who.address or "")
    except ValueError:
        return False
    return any(address in network for network in entry.networks)


class _Nothing(Patterns):
    def __init__(self) -> None:
        self.patterns = []


STAGING = Rule("an upload that waits", _Nothing(), NONE, True)


class NameRules:
    """The limits for new names, and the temporary names of clients."""

    def __init__(self, entry: Entry | None) -> None:
        self.place = "" if entry is None else entry.at("refuse")
        refused: tuple[str, ...] = () if entry is None else entry.refuse
        self.refuses_any = bool(refused)
        self._refused = [(text, re.compile(fnmatch.translate(text.lower()))) for text in refused]
        texts: tuple[str, ...] = TEMPORARY if entry is None else entry.temporary
        self._temporary = [text.partition("*")[::2] for text in texts]

    def refusal(self, name: str) -> str | None:
        """The pattern that refuses a new file of that name, or of its later name; or None."""
        for one in (name, *self._finals(name)):
            for text, pattern in self._refused:
                if pattern.match(one.lower()):
                    return text
        return None

    def is_temporary(self, name: str) -> bool:
        """Whether clients upload under such a name before they rename."""
        return bool(self._finals(name))

    def is_upload_of(self, name: str, final: str) -> bool:
        """Whether name is a temporary name for a file that will be named final.

        rclone puts a random part between the final name and the end.
        """
        return any(one == final or one.startswith(f"{final}.") for one in self._finals(name))

    def finals(self, name: str) -> tuple[str, ...]:
        """The names that a file may get after its upload; its own name if that is not temporary."""
        return tuple(self._finals(name)) or (name,)

    def _finals(self, name: str) -> list[str]:
        found = []
        for beginning, end in self._temporary:
            if len(name) > len(beginning) + len(end) and name.startswith(beginning) and name.endswith(end):
                found.append(name[len(beginning) : len(name) - len(end)])
        return found
