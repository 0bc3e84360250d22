"""Rows for pysftpproxy: OpenSSH's sftp with the proxy in between and without it, on one sshd, in turn.

This module has names, sizes and targets. proxy_sides.py does the work; it is imported when a row is selected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.proxy_sides import Sides

GROUP = "proxy"  # in the names of all rows here, and of no others
MIB = 1 << 20
LEAST = 0.67  # through the proxy, a transfer may take 1.5 times as long


@dataclass(frozen=True)
class Sizes:
    """transfer: bytes of a file. files: number of small files of 1 KiB. names: in a listing."""

    transfer: int = 512 * MIB
    files: int = 1000
    names: int = 10_000


@dataclass(frozen=True)
class Contest:
    """One line of the table. kind: what Sides measures. target: the minimum ratio, or None."""

    name: str
    reference: Callable[[Sides], float]
    ours: Callable[[Sides], float]
    target: float | None
    contenders: tuple[str, str] = ("direct", "pysftpproxy")


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield all rows."""
    size = f"{sizes.transfer // MIB} MiB"
    for kind, words, target in (
        ("get", f"get {size}", LEAST),
        ("put", f"put {size}", LEAST),
        ("get_small", f"get -r, {sizes.files:,} files of 1 KiB", None),
        ("put_small", f"put -r, {sizes.files:,} files of 1 KiB", None),
        ("listing", f"ls -l, {sizes.names:,} entries", None),
        ("start", "a session that does nothing", None),
    ):
        yield Contest(
            f"{GROUP}: {words}",
            lambda sides, kind=kind: sides.measure(kind, ""),  # type: ignore[misc]
            lambda sides, kind=kind: sides.measure(kind, "-D"),  # type: ignore[misc]
            target,
        )
    yield Contest(
        f"{GROUP}: get {size}, the proxy behind another sshd",
        lambda sides: sides.measure("get", ""),
        lambda sides: sides.measure("get", "sshd"),
        None,
    )
