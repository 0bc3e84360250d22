"""Runs the model: a day or a morning of many users, and the results."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from bench.simulation.assumptions import EIGHT, SEED, People, Site
from bench.simulation.costs import Costs, Ledger
from bench.simulation.events import Clock
from bench.simulation.servers import System

#: What a site has to achieve: this share of all logins at 08:00 within this many seconds.
SHARE, WITHIN = 0.95, 5.0
BUSY = 0.8  # share of time from which a station counts as the bottleneck


@dataclass(frozen=True)
class Outcome:
    """Seconds; how busy each kind of station was, as a share of the time in which all logins of 08:00 arrive.

    most: simultaneous sessions on a machine. limit: the bottleneck, or "" if there is none.
    """

    users: int
    sessions: int
    events: int
    login_median: float
    login_slow: float  # SHARE of all logins are not slower
    login_worst: float
    file_median: float
    file_slow: float
    most: int
    busy: dict[str, float]
    limit: str

    @property
    def is_good(self) -> bool:
        return self.login_slow <= WITHIN and self.file_slow <= WITHIN


def simulated(
    users: int,
    site: Site,
    costs: Costs,
    ledger: Ledger | None = None,
    people: People | None = None,
    hours: tuple[float, float] = (EIGHT, EIGHT + 600),
    seed: int = SEED,
) -> Outcome:
    """Simulate users. hours: seconds of the day; sessions that begin outside are left out."""
    people = people or People()
    chance = random.Random(seed)
    clock = Clock()
    system = System(clock, site, costs, ledger)
    begun = [at for at in people.arrivals(users, chance, hours[1]) if hours[0] <= at < hours[1]]
    for at in begun:
        clock.start(system.session(people, chance), at)
    clock.run(EIGHT)
    before = seconds_busy(system)
    clock.run(EIGHT + people.burst)
    busy = {name: (after - before[name]) / people.burst for name, after in seconds_busy(system).items()}
    clock.run()
    times = system.times
    limit = max(busy, key=lambda name: busy[name])
    return Outcome(
        users=users,
        sessions=len(begun),
        events=clock.events,
        login_median=quantile(times.login, 0.5),
        login_slow=quantile(times.login, SHARE),
        login_worst=max(times.login, default=0.0),
        file_median=quantile(times.file, 0.5),
        file_slow=quantile(times.file, SHARE),
        most=max(machine.sessions.most for machine in system.machines),
        busy=busy,
        limit=limit if busy[limit] >= BUSY else "",
    )


def seconds_busy(system: System) -> dict[str, float]:
    """For each kind of station, the seconds of the busiest one so far."""
    found = {
        name: max(station.busy_until_now() for station in stations)
        for name, stations in system.stations().items()
    }
    return {**found, "login_share": system.login_share()}


def quantile(values: Sequence[float], share: float) -> float:
    """The value that a share of all does not exceed; 0 if there are none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
