"""Rows for remote administration: `pysftpremo` compared with Fernet alone and with commands run directly.

This module has names, sizes and targets. remo_sides.py does the work, and is imported when a row is selected.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.remo_sides import Sides
    from bench.run import Result

GROUP = "remo"  # in the names of all rows here, and of no others
MIB = 1 << 20
FERNET = ("Fernet, one thread", "pysftpremo")
COMMANDS = ("subprocess", "pysftpremo")
SHARE = 0.7  # of Fernet's speed
COMMANDS_PER_SECOND = 200
MOST_GROWTH = 32 * MIB  # bytes resident, in a transfer


@dataclass(frozen=True)
class Sizes:
    """Bytes of a transfer, and number of commands."""

    transfer: int = 512 * MIB
    commands: int = 400


@dataclass(frozen=True)
class Contest:
    """One line of the table. count: number of commands, for a target in commands per second."""

    name: str
    reference: Callable[[Sides], float]
    ours: Callable[[Sides], float]
    contenders: tuple[str, str]
    target: float | None = None
    count: int = 0


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield all rows."""
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
    """Return the result with its target; for commands, the ratio at the wanted commands per second."""
    if not contest.count:
        return result
    return dataclasses.replace(result, target=result.reference * COMMANDS_PER_SECOND / contest.count)


def weighed(sizes: Sizes) -> str:
    """Return the situation in which the server's memory is measured."""
    return f"{GROUP}: a get and a put of {sizes.transfer // MIB} MiB"


def weigh(sides: Sides, sizes: Sizes) -> Iterator[tuple[str, int, int | None]]:
    """Yield the name, the bytes and the target of each measurement."""
    yield f"Growth of the server in {weighed(sizes)}", sides.growth(), MOST_GROWTH
