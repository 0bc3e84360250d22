"""Rows for the message server: `pysftplab` compared with a bare asyncio echo server and with Fernet itself.

This module has names, sizes and targets. laboratory_sides.py does the work, and is imported when a row is
selected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.laboratory_sides import Sides

GROUP = "laboratory"  # in the names of all rows here, and of no others
CONTENDERS = ("asyncio echo", "pysftplab")
WITH_FERNET = ("Fernet alone", "pysftplab")
LEAST = 0.25  # of the speed of a bare echo server


@dataclass(frozen=True)
class Sizes:
    """Numbers of simultaneous clients, of messages per client, of bytes per message, and of connections."""

    clients: int = 500
    messages: int = 200
    length: int = 100
    connections: int = 500


@dataclass(frozen=True)
class Contest:
    """One line of the table."""

    name: str
    reference: Callable[[Sides], float]
    ours: Callable[[Sides], float]
    target: float | None
    contenders: tuple[str, str] = CONTENDERS


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield all rows."""
    work = f"{GROUP}: {sizes.clients} clients, {sizes.messages} messages of {sizes.length} bytes each"
    yield Contest(
        f"{work}, one at a time",
        lambda sides: sides.echoed("bare", 1),
        lambda sides: sides.echoed("plain", 1),
        LEAST,
    )
    yield Contest(
        f"{work}, all sent at once",
        lambda sides: sides.echoed("bare", sizes.messages),
        lambda sides: sides.echoed("plain", sizes.messages),
        LEAST,
    )
    yield Contest(
        f"{work}, encrypted, one at a time",
        lambda sides: sides.echoed("bare", 1),
        lambda sides: sides.echoed("encrypted", 1),
        None,
    )
    yield Contest(
        f"{work}, encrypted, all sent at once",
        lambda sides: sides.fernet(),
        lambda sides: sides.echoed("encrypted", sizes.messages),
        None,
        WITH_FERNET,
    )
    yield Contest(
        f"{GROUP}: {sizes.connections} connections, 20 at once, to ACCEPTED (asyncio echo: three answers)",
        lambda sides: sides.connected("bare"),
        lambda sides: sides.connected("encrypted"),
        None,
    )
