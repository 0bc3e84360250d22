"""Rows for short sessions: `pysftpjail` with `pysftp-warm` and alone, and OpenSSH's sftp-server, in turn.

This module has names, sizes and targets. warm_sides.py does the work, and is imported when a row is selected.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.run import Result
    from bench.warm_sides import Sides

GROUP = "warm"  # in the names of all rows here, and of no others
MOST_WITH, MOST_ALONE = 0.012, 0.022  # seconds to the first reply


@dataclass(frozen=True)
class Sizes:
    """Numbers of starts, of sessions through sshd, and of simultaneous ones."""

    starts: int = 20
    sessions: int = 200
    at_once: int = 4


@dataclass(frozen=True)
class Contest:
    """One line of the table. most: seconds that ours may take; None for no target, which comes from it."""

    name: str
    reference: Callable[[Sides], float]
    ours: Callable[[Sides], float]
    most: float | None
    contenders: tuple[str, str] = ("sftp-server", "pysftpjail")
    target: None = None


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield all rows."""
    for server, most in (("with", MOST_WITH), ("alone", MOST_ALONE)):
        for flags in ("-IS", ""):
            yield Contest(
                f"{GROUP}: first reply after exec, {server}{' (python3 -IS)' if flags else ''}",
                lambda sides: sides.first_reply(""),
                lambda sides, server=server, flags=flags: sides.first_reply(server, flags),  # type: ignore[misc]
                most if flags else None,
            )
    for server in ("with", "alone"):
        yield Contest(
            f"{GROUP}: {sizes.sessions} sessions through sshd, {sizes.at_once} at once, {server}",
            lambda sides: sides.sessions(""),
            lambda sides, server=server: sides.sessions(server),  # type: ignore[misc]
            None,
        )


def with_target(contest: Contest, result: Result) -> Result:
    """Return the result with the ratio to which its maximum time corresponds."""
    if contest.most is None:
        return result
    return dataclasses.replace(result, target=result.reference / contest.most)
