"""The simulation of many servers: it agrees with what was measured, and does as the servers do."""

from __future__ import annotations

import contextlib
import io
import json
import random
import unittest
from pathlib import Path

from bench import costs as bench_costs
from bench.simulation import __main__ as simulate
from bench.simulation import costs, load, runs
from bench.simulation.assumptions import EIGHT, People, Site
from bench.simulation.costs import Cost, Costs, Ledger
from bench.simulation.events import Clock
from bench.simulation.servers import System
from pysftpserver.service.turns import AT_ONCE
from tests.support.cases import InAPlace
from tests.support.hard import IS_HARD

NOTHING = Cost(0.0)
LOGINS = Costs(Cost(0.01), NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
LIGHT = Costs(Cost(0.01, 0.002), Cost(0.003, 0.007), NOTHING, Cost(0.001), Cost(0.001), NOTHING, NOTHING)


class Recorded(unittest.TestCase):
    def test_the_simulation_of_a_small_load_is_what_was_measured(self) -> None:
        for measured, simulated in load.compared(costs.recorded("load")):
            for what in ("rate", "session"):
                with self.subTest(clients=measured["clients"], what=what):
                    off = abs(simulated[what] / measured[what] - 1)
                    self.assertLessEqual(off, load.TOLERANCE)

    def test_the_same_seed_gives_what_was_recorded(self) -> None:
        first = costs.recorded("simulated")["one"]["one worker, object store"][0]
        again = simulate.run(first["users"], simulate.ONE["one worker, object store"])
        self.assertEqual(bench_costs.rounded(again.login_slow), first["login_slow"], "run make simulate")

    def test_the_rows_that_were_recorded_are_those_of_the_command(self) -> None:
        found = costs.recorded("simulated")
        self.assertEqual([row["words"] for row in found["many"]], [words for words, _, _ in simulate.ADDED])
        self.assertEqual(set(found["one"]), set(simulate.ONE))
        for rows in found["one"].values():
            self.assertEqual([row["users"] for row in rows], list(simulate.TRIED[: len(rows)]))

    def test_every_row_has_its_costs(self) -> None:
        found = costs.recorded("costs")
        for group, rows in bench_costs.GROUPS.items():
            self.assertLessEqual(set(rows), set(found[group]), "run make costs")
        for row in found["pysftpd and Redis"].values():
            each = costs.costs_of(row)
            self.assertGreater(each.login.worker, 0)
            self.assertGreater(each.session.worker + each.session.others, 0)


class Model(unittest.TestCase):
    def outcome(
        self, users: int, site: Site, ledger: Ledger | None = None, each: Costs = LIGHT
    ) -> runs.Outcome:
        return runs.simulated(users, site, each, ledger, People(burst=10.0), (EIGHT, EIGHT + 10))

    def test_every_user_comes_once_in_the_burst_and_the_others_times_during_the_day(self) -> None:
        people = People(active=0.5, logins=4)
        times = list(people.arrivals(1_000, random.Random(1)))
        self.assertEqual(len(times), people.sessions(1_000))
        self.assertGreaterEqual(sum(EIGHT <= at <= EIGHT + people.burst for at in times), 500)
        self.assertTrue(all(people.begins <= at <= people.ends for at in times))

    def test_an_empty_house_takes_as_long_as_its_parts(self) -> None:
        people = People(pause=0.001)
        found = runs.simulated(2, Site(store="jail"), LIGHT, None, people, (EIGHT, EIGHT + people.burst))
        self.assertAlmostEqual(found.login_median, 0.012 + 0.010 + 5 * people.distance, places=6)

    def test_strangers_get_no_more_than_their_share(self) -> None:
        # A hundred logins a second of 10 ms each: all of a processor, of which they may have half.
        site = Site(workers=1, store="jail")
        found = self.outcome(1_667, site, each=LOGINS)
        waits = found.sessions * LOGINS.login.worker / 0.5 - 10 - AT_ONCE / 0.5
        # Who comes a little earlier than the last may wait longer: a login has three rounds.
        self.assertAlmostEqual(found.login_worst, waits, delta=0.2 * waits)
        whole = self.outcome(1_667, site.but(login_share=1.0), each=LOGINS)
        self.assertLess(whole.login_worst, found.login_worst / 5)

    def test_two_machines_hold_up_less_than_one(self) -> None:
        one, two = (self.outcome(1_500, Site(machines=count, store="jail")) for count in (1, 2))
        self.assertLess(two.login_slow, one.login_slow)
        self.assertLess(two.busy["processors"], one.busy["processors"])
        self.assertEqual(one.sessions, two.sessions)

    def test_one_ledger_holds_up_all_machines_and_several_do_not(self) -> None:
        slow = Ledger(processor=0.0, scripts=20, commands=16)
        site = Site(machines=8, store="jail", quota=True)
        one = self.outcome(1_000, site, slow)
        many = self.outcome(1_000, site.but(ledgers=16), slow)
        self.assertEqual(one.limit, "ledgers")
        self.assertGreater(one.file_slow, 2 * many.file_slow)

    def test_a_worker_asks_no_more_at_once_than_it_has_threads(self) -> None:
        asks = Costs(NOTHING, NOTHING, NOTHING, Cost(0.0, 0.0, 3.0), Cost(0.0, 0.0, 3.0), NOTHING, NOTHING)
        clock = Clock()
        system = System(clock, Site(workers=1), asks)
        chance = random.Random(1)
        for _ in range(500):
            clock.start(system.session(People(link=1e9, size=0.001), chance), 0.0)
        clock.run()
        self.assertGreater(system.store.most, 32)
        self.assertLessEqual(system.store.most, 64)


@unittest.skipUnless(IS_HARD, "takes minutes: make test-hard")
class Commands(InAPlace):
    def test_every_cost_can_be_measured_here(self) -> None:
        file = Path(self.place, "costs.json")
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(bench_costs.main(["--little", "--json", str(file)]), 0)
        found = json.loads(file.read_text())
        trips = found["pysftpd and Redis"]["object store"]["trips"]
        self.assertEqual(trips["S3"]["get"], {"GET": 1.0})
        self.assertEqual(trips["Redis"]["login"], {}, "a login reads memory only")
        self.assertGreaterEqual(found["doors"]["sshd, pysftpjail"]["idle"]["processes"], 1)

    def test_a_small_load_can_be_measured_here(self) -> None:
        file = Path(self.place, "load.json")
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(load.main(["--little", "--json", str(file)]), 0)
        self.assertEqual(len(load.compared(json.loads(file.read_text()))), 2)

    def test_the_command_writes_what_it_found(self) -> None:
        file = Path(self.place, "simulated.json")
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(simulate.main(["--little", "--json", str(file)]), 0)
        found = json.loads(file.read_text())
        self.assertEqual(set(found["one"]), set(simulate.ONE))
        self.assertEqual(len(found["many"]), len(simulate.ADDED))
