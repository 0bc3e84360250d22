"""Clients work on paths whose directories turn into links out and back, as fast as a process can do it."""

from __future__ import annotations

import sys
import time
from collections import Counter

from tests.security.attempts import KINDS, ON_DIRECTORIES, ON_FILES, Attempts
from tests.security.clients import Session, race
from tests.security.layout import PLACES
from tests.security.premises import Premises
from tests.support.hard import IS_HARD
from tests.support.waiting import PATIENCE

# With paths, for each way to resolve them; those with handles come on top.
OPERATIONS = 100_000 if IS_HARD else 12_000
SWAPS = 20_000 if IS_HARD else 2500  # while they are served
FLIPS = 40  # times that a place is seen to change between a request and the very next
BOTH_WAYS = 20  # times that each place is seen in each of its two states


class TestSwapping(Premises):
    def contain(self, way: str) -> None:
        swapper = self.swapper()
        sessions = [self.session(way), self.session(way)]
        batches = Attempts(PLACES, self.outside, self.rng).batches()
        before = swapper.counts()
        # Where one processor is shared, few changes come between two requests.
        deadline = time.monotonic() + 5 * PATIENCE
        while True:
            race(sessions, batches, self.rng)
            swaps = {path: number - before[path] for path, number in swapper.counts().items()}
            operations = sum(session.served(*KINDS) for session in sessions)
            flips = sum(sum(session.flips.values()) for session in sessions)
            try:
                self.assert_raced(sessions, operations, swaps, flips)
                break
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
        self.assertIsNone(swapper.process.poll(), f"the swapper has ended; seed {self.seed}")
        swapper.end()
        on_handles = sum(session.served(*ON_FILES, *ON_DIRECTORIES) for session in sessions)
        print(
            f"{way}: {operations} operations on paths, {on_handles} on handles, {sum(swaps.values())} swaps, "
            f"{flips} times seen to change between two requests",
            file=sys.stderr,
        )
        self.assert_contained()

    def assert_raced(
        self, sessions: list[Session], operations: int, swaps: dict[str, int], flips: int
    ) -> None:
        """It was a race: all was tried and all was swapped, and the clients have seen both."""
        note = f"seed {self.seed}"
        self.assertGreaterEqual(operations, OPERATIONS, note)
        self.assertGreaterEqual(sum(swaps.values()), SWAPS, note)
        self.assertGreaterEqual(flips, FLIPS, note)
        counts = sum((session.counts for session in sessions), start=Counter())
        for kind in (*KINDS, *ON_FILES, *ON_DIRECTORIES):
            self.assertGreater(counts[kind, True], 0, f"{kind} has never succeeded; {note}")
        for kind in KINDS:
            self.assertGreater(counts[kind, False], 0, f"{kind} has never failed; {note}")
        for place in PLACES:
            self.assertGreater(swaps[place.path], BOTH_WAYS, f"{place} stayed as it was; {note}")
            for there in (True, False):
                seen = sum(session.probes[place.path, there] for session in sessions)
                self.assertGreater(seen, BOTH_WAYS, f"{place}: answers that it is there, {there}; {note}")

    def test_openat2_lets_nothing_out_of_a_jail_whose_directories_turn_into_links(self) -> None:
        self.contain("openat2")

    def test_the_walk_lets_nothing_out_of_a_jail_whose_directories_turn_into_links(self) -> None:
        self.contain("walk")
