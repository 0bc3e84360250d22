"""Discrete events: a clock, stations with queues, and processes that wait for both.

A process is a generator. It yields a number of seconds, or an object from a station: a job, which waits for
one of its servers and occupies it for some time, or a claim, which occupies one until it is given back.
What may not enter: what is simulated.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Generator
from typing import TypeAlias

Step: TypeAlias = "float | Job | Claim"
Process: TypeAlias = Generator[Step, None, None]


class Clock:
    """Simulated time, and the events to come."""

    def __init__(self) -> None:
        self.now = 0.0  # seconds
        self.events = 0
        self._next: list[tuple[float, int, Process, Station | None]] = []
        self._count = 0

    def start(self, process: Process, at: float) -> None:
        """Start a process at a time."""
        self.schedule(at, process, None)

    def schedule(self, at: float, process: Process, frees: Station | None) -> None:
        """Resume a process at a time. frees: the station that it leaves then."""
        self._count += 1
        heapq.heappush(self._next, (at, self._count, process, frees))

    def run(self, until: float = float("inf")) -> None:
        """Run all events until a time, or until none is left."""
        upcoming = self._next
        while upcoming and upcoming[0][0] <= until:
            self.now, _, process, frees = heapq.heappop(upcoming)
            self.events += 1
            if frees is not None:
                frees.leave()
            self.proceed(process)

    def proceed(self, process: Process) -> None:
        """Resume a process now."""
        step = next(process, None)
        if step is None:
            return
        if isinstance(step, float):
            self.schedule(self.now + step, process, None)
        else:
            step.station.enter(process, step.seconds)


class Job:
    """Some seconds at one of a station's servers."""

    __slots__ = "station", "seconds"

    def __init__(self, station: Station, seconds: float) -> None:
        self.station = station
        self.seconds: float | None = seconds


class Claim(Job):
    """One of a station's servers, until the process calls leave()."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.seconds = None


class Station:
    """Servers with one queue, first come, first served.

    busy: seconds for which servers were occupied. present: number of processes here, integrated over time.
    """

    def __init__(self, clock: Clock, servers: int = 1, name: str = "") -> None:
        self.name, self.servers = name, servers
        self._clock = clock
        self._queue: deque[tuple[Process, float | None, float]] = deque()
        self._serving = 0
        self._since = 0.0
        self.busy = self.present = self.waited = 0.0
        self.longest = 0.0  # longest wait in seconds
        self.arrived = self.left = self.most = 0  # most: here at the same time

    def busy_until_now(self) -> float:
        """Average seconds for which its servers were occupied so far."""
        self._count()
        return self.busy / self.servers

    def job(self, seconds: float) -> Job:
        return Job(self, seconds)

    def claim(self) -> Claim:
        return Claim(self)

    def enter(self, process: Process, seconds: float | None) -> None:
        """Let a process enter. seconds: its service time; None: until it leaves by itself."""
        self._count()
        self.arrived += 1
        self.most = max(self.most, self._serving + len(self._queue) + 1)
        if self._serving < self.servers:
            self._serve(process, seconds)
        else:
            self._queue.append((process, seconds, self._clock.now))

    def leave(self) -> None:
        """Free one server."""
        self._count()
        self.left += 1
        self._serving -= 1
        if self._queue:
            process, seconds, since = self._queue.popleft()
            wait = self._clock.now - since
            self.waited += wait
            self.longest = max(self.longest, wait)
            self._serve(process, seconds)

    def _serve(self, process: Process, seconds: float | None) -> None:
        self._serving += 1
        if seconds is None:
            self._clock.schedule(self._clock.now, process, None)
        else:
            self._clock.schedule(self._clock.now + seconds, process, self)

    def _count(self) -> None:
        passed = self._clock.now - self._since
        self.busy += passed * self._serving
        self.present += passed * (self._serving + len(self._queue))
        self._since = self._clock.now
