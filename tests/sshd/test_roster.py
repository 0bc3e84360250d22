"""Many users in memory: what changes is the same however it comes, and the event loop goes on meanwhile."""

from __future__ import annotations

import random
import time
import unittest

from pysftpserver.people.records import Record, build, unusable
from pysftpserver.people.roster import Roster
from tests.support.lines import Lines

MOST_PAUSE = 0.1  # seconds that one step may hold up the sessions


def taken(roster: Roster, records: list[Record]) -> list[str]:
    """What replacing() returns in the end."""
    steps = roster.replacing(records)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            names: list[str] = end.value
            for _ in roster.telling():
                pass
            return names


class RosterOfUsers(unittest.TestCase):
    def test_one_by_one_and_all_at_once_lead_to_the_same_users_and_names(self) -> None:
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        singly, at_once = Roster(Lines().log), Roster(Lines().log)
        records: dict[str, Record] = {}
        for _ in range(2000):
            id, name = str(chance.randrange(12)), chance.choice("abcd")
            if chance.random() < 0.2:
                records.pop(id, None)
            elif chance.random() < 0.2:
                records[id] = unusable(id, name, "a reason")
            else:
                records[id] = build(id, name, chance.choice("xy"), True, [])
            shuffled = chance.sample(list(records.values()), len(records))
            self.assertEqual(singly.put(id, records.get(id)), taken(at_once, shuffled))
            self.assertEqual(singly.users(), at_once.users())
            for user in singly.users():
                self.assertEqual(
                    int(user.id), min(int(id) for id in records if records[id].name == user.name)
                )

    def test_no_step_among_very_many_users_takes_long_and_none_shows_half_of_them(self) -> None:
        # The processor's time is that of everything in this process, and of what else the machine does.
        self.assertTrue(any(self.longest_step() < MOST_PAUSE for _ in range(3)))

    def longest_step(self) -> float:
        """Seconds of processor time that a step takes while 20,000 users are replaced, at most."""
        roster = Roster(Lines().log)
        taken(roster, [build(str(number), f"u{number}", "f", True, []) for number in range(20_000)])
        new = [build(str(number), f"u{number}", "g", True, []) for number in range(20_000)]
        steps = roster.replacing(new)
        longest = 0.0
        while True:
            start = time.thread_time()
            try:
                next(steps)
            except StopIteration as end:
                self.assertEqual(len(end.value), 20_000)
                break
            longest = max(longest, time.thread_time() - start)
            self.assertEqual((roster.find("u0").folder, roster.find("u19999").folder), ("f", "f"))
        self.assertEqual((roster.find("u0").folder, roster.find("u19999").folder), ("g", "g"))
        return longest
