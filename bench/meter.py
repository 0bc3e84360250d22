"""Measures what servers use, as the kernel counts it: processor time, memory, descriptors.

Processor time is the figure that a busy machine disturbs least. What may not enter: doors, storages, clients.
Facts: proc(5). A process that was waited for is in the children's time of its parent.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import descendants

TICKS = os.sysconf("SC_CLK_TCK")  # in a second
QUIET = 0.06  # seconds without any processor time after which servers count as finished
PATIENCE = 10.0  # seconds


@dataclass(frozen=True)
class Used:
    """Seconds of processor time: of all processes of a server, of the busiest one, and of ended child
    processes of this process.
    """

    total: float
    busiest: float
    children: float


@dataclass(frozen=True)
class Held:
    """What processes hold: memory in bytes, each with its share of shared memory (PSS), and descriptors."""

    memory: int
    descriptors: int
    processes: int


class Meter:
    """Measures processes and all that they have started."""

    def __init__(self, *roots: int) -> None:
        self._roots = roots

    def used(self, work: Callable[[], object]) -> Used:
        """What the servers use for some work, until they have finished."""
        before, total = self._settled()
        ended = _ended()
        work()
        ended = _ended() - ended
        after, total_after = self._settled()
        own = (ticks - before.get(pid, 0) for pid, ticks in after.items())
        return Used((total_after - total) / TICKS, max(own, default=0) / TICKS, ended)

    def spent(self) -> float:
        """Seconds of processor time of all processes since they began, once they rest."""
        return self._settled()[1] / TICKS

    def _settled(self) -> tuple[dict[int, int], int]:
        """Each process's own ticks, and the sum of all, ended processes included, once they rest."""
        deadline = time.monotonic() + PATIENCE
        read = self._read()
        while True:
            time.sleep(QUIET)
            again = self._read()
            if again == read or time.monotonic() > deadline:
                return again
            read = again

    def _read(self) -> tuple[dict[int, int], int]:
        own: dict[int, int] = {}
        total = 0
        for pid in self._pids():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                times = list(map(int, fields[11:15]))  # user, system, and both of ended children
                own[pid] = sum(times[:2])
                total += sum(times)
        return own, total

    def held(self) -> Held:
        """What the processes hold now."""
        memory = files = processes = 0
        for pid in self._pids():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                files += len(os.listdir(f"/proc/{pid}/fd"))
                processes += 1
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        memory += int(line.split()[1]) * 1024
        return Held(memory, files, processes)

    def _pids(self) -> list[int]:
        return [pid for root in self._roots for pid in (root, *(pid for pid, _, _ in descendants(root)))]


def _ended() -> float:
    times = os.times()
    return times.children_user + times.children_system
