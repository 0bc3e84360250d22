"""Which rules are tried, and the table of them for people."""

from __future__ import annotations

from fnmatch import fnmatchcase

from pysftpserver.contract.rules import RULES
from pysftpserver.contract.table import LEVELS, Rule
from pysftpserver.failures import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Rule", "chosen", "listed"]


def chosen(patterns: Sequence[str], lowest: str) -> list[Rule]:
    """The rules of a level and of stricter levels. patterns: for their names or groups; none for all.

    Raises BadInput if a pattern matches none, or if none is left.
    """
    for pattern in patterns:
        if not any(_matches(rule, pattern) for rule in RULES.values()):
            raise BadInput(f"--only {pattern}: no rule and no group has such a name; see --list")
    allowed = LEVELS[: LEVELS.index(lowest) + 1]
    rules = [
        rule
        for rule in RULES.values()
        if rule.level in allowed and (not patterns or any(_matches(rule, pattern) for pattern in patterns))
    ]
    if not rules:
        raise BadInput(f"--level {lowest}: none of the rules that --only names is of this level; see --list")
    return rules


def _matches(rule: Rule, pattern: str) -> bool:
    return fnmatchcase(rule.name, pattern) or fnmatchcase(rule.group, pattern)


def listed(rules: Sequence[Rule]) -> list[str]:
    """Lines of a table: name, level, group and source of each rule, with its sentence below."""
    width = max((len(rule.name) for rule in rules), default=0)
    return [
        line
        for rule in rules
        for line in (
            f"{rule.name:{width}}  {rule.level:6}  {rule.group}, {rule.source}",
            f"    {rule.sentence}",
        )
    ]
