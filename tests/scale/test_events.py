"""The events of the simulation: what queueing theory says of simple queues, and that nothing gets lost."""

from __future__ import annotations

import random
import unittest
from collections.abc import Callable

from bench.simulation.events import Clock, Process, Station
from tests.support.hard import IS_HARD

SEED = 7
COUNT = 200_000 if IS_HARD else 40_000
CLOSE = 0.02 if IS_HARD else 0.06  # share that a mean of so many may be off: five times what it is


def run(
    station: Station, clock: Clock, rate: float, duration: Callable[[], float], count: int = COUNT
) -> None:
    """Let so many jobs arrive at random, and all of them end."""
    chance = random.Random(SEED)

    def job() -> Process:
        yield station.job(duration())

    at = 0.0
    for _ in range(count):
        at += chance.expovariate(rate)
        clock.start(job(), at)
    clock.run()


class Queues(unittest.TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.chance = random.Random(SEED + 1)

    def assert_waits(self, station: Station, mean: float) -> None:
        """What a job has waited on average."""
        found = station.waited / station.left
        self.assertAlmostEqual(found / mean, 1, delta=CLOSE, msg=f"{found} in place of {mean}, seed {SEED}")

    def test_a_job_waits_as_long_as_theory_says_where_durations_are_random(self) -> None:
        station = Station(self.clock)
        run(station, self.clock, 0.6, lambda: self.chance.expovariate(1.0))
        self.assert_waits(station, 0.6 / (1 - 0.6))  # M/M/1

    def test_it_waits_half_as_long_where_all_take_the_same_time(self) -> None:
        station = Station(self.clock)
        run(station, self.clock, 0.7, lambda: 1.0)
        self.assert_waits(station, 0.7 / (2 * (1 - 0.7)))  # M/D/1, by Pollaczek and Khinchine

    def test_two_servers_share_a_queue(self) -> None:
        station = Station(self.clock, 2)
        run(station, self.clock, 1.4, lambda: self.chance.expovariate(1.0))
        load = 1.4
        waiting = load**2 / (2 - load) / (1 + load + load**2 / (2 - load))  # M/M/2: Erlang C
        self.assert_waits(station, waiting / (2 - load))

    def test_the_number_present_is_their_rate_times_their_time(self) -> None:
        station = Station(self.clock, 2)
        run(station, self.clock, 1.2, lambda: self.chance.uniform(0, 2), 5_000)
        each = (station.waited + station.busy) / station.left
        rate = station.left / self.clock.now
        self.assertAlmostEqual(station.present / self.clock.now, rate * each)  # Little's law

    def test_all_that_arrive_leave_and_servers_were_as_busy_as_the_jobs_are_long(self) -> None:
        station = Station(self.clock, 3)
        durations = [self.chance.expovariate(1.0) for _ in range(1_000)]
        given = iter(durations)
        run(station, self.clock, 2.5, lambda: next(given), len(durations))
        self.assertEqual((station.arrived, station.left), (len(durations), len(durations)))
        self.assertAlmostEqual(station.busy, sum(durations))

    def test_who_claims_a_server_has_it_until_they_leave(self) -> None:
        station = Station(self.clock)
        seen: list[tuple[str, float]] = []

        def one(name: str) -> Process:
            yield station.claim()
            seen.append((name, self.clock.now))
            yield 2.0
            station.leave()

        for name in "abc":
            self.clock.start(one(name), 1.0)
        self.clock.run()
        self.assertEqual(seen, [("a", 1.0), ("b", 3.0), ("c", 5.0)])
        self.assertEqual(station.longest, 4.0)
        self.assertEqual(station.most, 3)

    def test_time_stops_where_it_is_told_to_and_goes_on(self) -> None:
        station = Station(self.clock)
        run_at = (0.0, 10.0)
        ended: list[float] = []

        def job() -> Process:
            yield station.job(4.0)
            ended.append(self.clock.now)

        for at in run_at:
            self.clock.start(job(), at)
        self.clock.run(5.0)
        self.assertEqual((ended, station.busy_until_now()), ([4.0], 4.0))
        self.clock.run()
        self.assertEqual(ended, [4.0, 14.0])
