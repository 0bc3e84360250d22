"""What the processes of one server know together: who is there, and where logins have failed."""

from __future__ import annotations

import os
import unittest
from collections.abc import Callable

from pysftpserver.service import shared
from pysftpserver.service.bans import Bans
from pysftpserver.service.shared import FAILURES, Gate, Penalties, Shared
from pysftpserver.service.throttle import FIRST, FREE, MOST, WINDOW, network_of

HERE, THERE = "192.0.2.1", "192.0.2.2"


def in_another_process(work: Callable[[], object]) -> None:
    """Do it in a forked process, and fail when that fails."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(process, 0)[1] == 0


class TestTheGate(unittest.TestCase):
    def gate(self, most: int = 4, address: int | None = None, user: int | None = None) -> Gate:
        return Gate(Shared(1, most), 0, most, address, user)

    def test_as_many_as_may_come_in_and_one_who_leaves_makes_room(self) -> None:
        gate = self.gate(3)
        places = [gate.enter(HERE)[0] for _ in range(3)]
        self.assertEqual(len(set(places)), 3)
        place, refusal = gate.enter(THERE)
        self.assertEqual(place, -1)
        self.assertIn("max_connections", refusal or "")
        gate.leave(places[1])
        self.assertEqual(gate.enter(THERE), (places[1], None))

    def test_one_address_may_have_so_many(self) -> None:
        gate = self.gate(address=2)
        first, _ = gate.enter(HERE)
        gate.enter(HERE)
        self.assertIn("max_per_address", gate.enter(HERE)[1] or "")
        self.assertIsNone(gate.enter(THERE)[1])
        gate.leave(first)
        self.assertIsNone(gate.enter(HERE)[1])

    def test_one_user_may_have_so_many(self) -> None:
        gate = self.gate(user=1)
        places = [gate.enter(HERE)[0] for _ in range(3)]
        self.assertIsNone(gate.log_in(places[0], "alice"))
        self.assertIn("max_per_user", gate.log_in(places[1], "alice") or "")
        self.assertIsNone(gate.log_in(places[1], "bob"))
        gate.leave(places[0])
        self.assertIsNone(gate.log_in(places[2], "alice"))

    def test_a_user_and_an_address_of_the_same_name_are_two(self) -> None:
        gate = self.gate(user=1, address=1)
        place, _ = gate.enter(HERE)
        self.assertIsNone(gate.log_in(place, HERE))

    def test_new_limits_hold_for_who_comes_next(self) -> None:
        gate = self.gate(4)
        gate.enter(HERE)
        gate.limit(1, None, None)
        self.assertIsNotNone(gate.enter(HERE)[1])
        gate.limit(4, None, None)
        self.assertIsNone(gate.enter(HERE)[1])

    def test_more_than_there_is_memory_for_are_refused_whatever_the_limit(self) -> None:
        gate = self.gate(2)
        gate.limit(100, None, None)
        self.assertEqual([gate.enter(HERE)[1] is None for _ in range(3)], [True, True, False])

    def test_all_processes_count_together(self) -> None:
        memory = Shared(2, 4)

        def other() -> None:
            gate = Gate(memory, 1, 4, 3, 1)
            place, _ = gate.enter(HERE)
            gate.enter(HERE)
            gate.log_in(place, "alice")

        in_another_process(other)
        gate = Gate(memory, 0, 4, 3, 1)
        place, refusal = gate.enter(HERE)
        self.assertIsNone(refusal)
        self.assertIn("max_per_address", gate.enter(HERE)[1] or "")
        self.assertIn("max_per_user", gate.log_in(place, "alice") or "")
        self.assertIsNone(gate.enter(THERE)[1])
        self.assertIn("max_connections", gate.enter(THERE)[1] or "")

    def test_what_a_killed_process_leaves_is_wiped_and_nothing_else(self) -> None:
        memory = Shared(2, 4)
        in_another_process(lambda: Gate(memory, 1, 4, 2, None).enter(HERE))
        gate = Gate(memory, 0, 4, 2, None)
        gate.enter(HERE)
        self.assertIsNotNone(gate.enter(HERE)[1])
        bans = Bans(memory.bans, 1, memory.secret)
        bans.ban(HERE, 60, "admin", 1000.0)
        memory.wipe(1)
        self.assertTrue(Bans(memory.bans, 0, memory.secret).is_banned(HERE, 1001.0))  # those hold
        self.assertIsNone(gate.enter(HERE)[1])
        self.assertIsNotNone(gate.enter(HERE)[1])


class TestPenalties(unittest.TestCase):
    def setUp(self) -> None:
        self.memory = Shared(2, 4)
        self.penalties = Penalties(self.memory, 0)

    def fail(self, times: int, now: float = 1000.0, address: str = HERE) -> None:  # type: ignore[override]
        for _ in range(times):
            self.penalties.failed(address, now)

    def test_the_first_failures_cost_nothing(self) -> None:
        self.fail(FREE - 1)
        self.assertEqual(self.penalties.delay(HERE, 1000.0), 0)

    def test_each_further_failure_doubles_the_wait_up_to_the_most(self) -> None:
        self.fail(FREE)
        waits = []
        for _ in range(10):
            waits.append(self.penalties.delay(HERE, 1000.0))
            self.fail(1)
        self.assertEqual(waits, [min(MOST, FIRST * 2**n) for n in range(10)])

    def test_hundreds_of_failures_are_no_more_than_the_most(self) -> None:
        self.fail(FAILURES - 1)
        self.assertEqual(self.penalties.delay(HERE, 1000.0), MOST)

    def test_others_do_not_wait(self) -> None:
        self.fail(20)
        self.assertEqual(self.penalties.delay(THERE, 1000.0), 0)

    def test_failures_are_forgotten_after_a_while(self) -> None:
        self.fail(20)
        self.assertEqual(self.penalties.delay(HERE, 1000.0 + WINDOW), MOST)
        self.assertEqual(self.penalties.delay(HERE, 1001.0 + WINDOW), 0)

    def test_a_machine_that_has_just_started_has_penalties_too(self) -> None:
        self.fail(FREE, now=0.5)
        self.assertEqual(self.penalties.delay(HERE, 1.0), FIRST)

    def test_failures_in_all_processes_count_together(self) -> None:
        def other() -> None:
            penalties = Penalties(self.memory, 1)
            for _ in range(FREE):
                penalties.failed(HERE, 1000.0)

        in_another_process(other)
        self.assertEqual(self.penalties.delay(HERE, 1000.0), FIRST)
        self.fail(1)
        self.assertEqual(self.penalties.delay(HERE, 1000.0), 2 * FIRST)

    def test_the_oldest_failures_make_room_for_new_ones(self) -> None:
        self.fail(FREE)
        self.fail(FAILURES - 1, address=THERE)
        self.assertEqual(self.penalties.delay(HERE, 1000.0), 0)
        self.assertEqual(self.penalties.delay(THERE, 1000.0), MOST)

    def test_failures_and_connections_do_not_mix(self) -> None:
        gate = Gate(self.memory, 0, 4, 1, None)
        self.fail(FAILURES + 5)
        place, refusal = gate.enter(HERE)
        self.assertIsNone(refusal)
        gate.leave(place)
        self.assertEqual(self.penalties.delay(HERE, 1000.0), MOST)


class TestWhatAnAddressCountsAs(unittest.TestCase):
    def test_one_of_ipv6_is_its_network(self) -> None:
        self.assertEqual(network_of("2001:db8:1:2:3::4"), network_of("2001:db8:1:2:ffff::1"))
        self.assertNotEqual(network_of("2001:db8:1:2::4"), network_of("2001:db8:1:3::4"))
        self.assertEqual(network_of("fe80::1%eth0"), network_of("fe80::2"))

    def test_one_of_ipv4_is_itself_in_either_form(self) -> None:
        self.assertEqual(network_of("::ffff:192.0.2.1"), HERE)
        self.assertNotEqual(network_of(HERE), network_of(THERE))

    def test_what_is_none_is_itself(self) -> None:
        self.assertEqual(network_of("?"), "?")

    def test_nobody_can_tell_what_stands_for_a_name(self) -> None:
        one, other = Shared(1, 1), Shared(1, 1)
        self.assertNotEqual(one.digest("user", "alice"), other.digest("user", "alice"))
        self.assertEqual(len(one.digest("user", "alice")), shared.DIGEST)
