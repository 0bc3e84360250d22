"""Rows for remote administration: `pysftpremo` beside what Fernet alone takes, and beside commands run here.

Here are names, sizes and targets. What is timed is in remo_sides.py, which is imported when a row is wanted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.remo_sides import Sides
    from bench.run import Result

GROUP = "remo"  # the word that all names of rows have here, and no others
MIB = 1 << 20
FERNET = ("Fernet, one thread", "pysftpremo")
COMMANDS = ("subprocess", "pysftpremo")
SHARE = 0.7  # of Fernet's speed
COMMANDS_PER_SECOND = 200
MOST_GROWTH = 32 * MIB  # resident, in a transfer


@dataclass(frozen=True)
class Sizes:
    """How much there is: bytes of a transfer, and commands."""

    transfer: int = 512 * MIB
    commands: int = 400


@dataclass(frozen=True)
class Contest:
    """One line of the table. count: of commands, for a target of so many a second."""

    name: str
    reference: Callable[[Sides], float]
    ours: Callable[[Sides], float]
    contenders: tuple[str, str]
    target: float | None = None
    count: int = 0


def contests(sizes: Sizes) -> Iterator[Contest]:
    """All rows."""
    for verb in ("get", "put"):
        yield Contest(
            f"{GROUP}: {verb} {sizes.transfer // MIB} MiB in tokens of 64 KiB",
            lambda sides: sides.fernet(),
            lambda sides, verb=verb: sides.transfer(verb),  # type: ignore[misc]
            FERNET,
            SHARE,
        )
    yield Contest(
        f"{GROUP}: {sizes.commands} short commands, server and client on one processor",
        lambda sides: sides.commands_here(),
        lambda sides: sides.commands_there(),
        COMMANDS,
        count=sizes.commands,
    )


def with_target(contest: Contest, result: Result) -> Result:
    """The result; of commands, the target is the ratio that so many a second would give."""
    if not contest.count:
        return result
    return dataclasses.replace(result, target=result.reference * COMMANDS_PER_SECOND / contest.count)
