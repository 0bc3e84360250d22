"""Which files go where: every combination of two times and six types, and what holds for any two listings."""

from __future__ import annotations

import unittest

from pysftpserver.sksync.plan import plan, sends_from_server, sends_to_server
from pysftpserver.sksync.wire import SyncType, parse_time
from tests.support.examples import given, st

TIME = 1_345_316_070_000  # milliseconds
#: The client's file against the server's: milliseconds of each, None for one that is missing.
PAIRS: dict[str, tuple[int | None, int | None]] = {
    "only the client's": (TIME, None),
    "only the server's": (None, TIME),
    "equal": (TIME, TIME),
    "client newer": (TIME + 1000, TIME),
    "server newer": (TIME, TIME + 1000),
    "client newer by years": (TIME * 2, TIME),
    "client newer by less than a second": (TIME + 999, TIME),
    "server newer by less than a second": (TIME, TIME + 1),
    "client's time is zero": (0, TIME),
}
TO, FROM, STAYS = "to server", "from server", "stays"
#: What each type does with each of them, in their order.
EXPECTED = {
    0: (TO, FROM, STAYS, TO, FROM, TO, STAYS, STAYS, FROM),
    1: (TO, STAYS, STAYS, TO, STAYS, TO, STAYS, STAYS, STAYS),
    2: (STAYS, FROM, STAYS, STAYS, FROM, STAYS, STAYS, STAYS, FROM),
    3: (TO, FROM, STAYS, STAYS, STAYS, STAYS, STAYS, STAYS, STAYS),
    4: (TO, STAYS, STAYS, STAYS, STAYS, STAYS, STAYS, STAYS, STAYS),
    5: (STAYS, FROM, STAYS, STAYS, STAYS, STAYS, STAYS, STAYS, STAYS),
}
NAMES = st.sampled_from(["a", "b", "c/d", "\u00e9", "\u03b1/\u03b2", "\u65e5\u672c"])
LISTINGS = st.dictionaries(NAMES, st.integers(0, 6))
TYPES = st.sampled_from(SyncType)


def seconds(milliseconds: int) -> int:
    """As it comes from the wire."""
    return parse_time(b"%d" % milliseconds)


class EveryCombination(unittest.TestCase):
    def test_each_pair_of_times_under_each_type_goes_where_the_protocol_says(self) -> None:
        for number, row in EXPECTED.items():
            for (what, (client, server)), expected in zip(PAIRS.items(), row, strict=True):
                with self.subTest(type=number, what=what):
                    ours = {} if client is None else {"f": seconds(client)}
                    theirs = {} if server is None else {"f": seconds(server)}
                    found = plan(ours, theirs, SyncType(number))
                    self.assertEqual(found.to_server, ["f"] if expected == TO else [])
                    self.assertEqual(found.from_server, ["f"] if expected == FROM else [])

    def test_the_types_are_those_of_the_wire(self) -> None:
        directions = [(kind.to_server, kind.from_server, kind.by_time) for kind in sorted(SyncType)]
        both, to, from_ = (True, True), (True, False), (False, True)
        expected = [(*way, timed) for timed in (True, False) for way in (both, to, from_)]
        self.assertEqual(directions, expected)


class AnyListings(unittest.TestCase):
    @given(LISTINGS, LISTINGS, TYPES)
    def test_no_file_goes_both_ways_and_each_is_there_to_be_sent(
        self, client: dict[str, int], server: dict[str, int], kind: SyncType
    ) -> None:
        found = plan(client, server, kind)
        self.assertFalse(set(found.to_server) & set(found.from_server))
        self.assertLessEqual(set(found.to_server), set(client))
        self.assertLessEqual(set(found.from_server), set(server))
        self.assertEqual(len(set(found.to_server)), len(found.to_server))

    @given(LISTINGS, LISTINGS, TYPES)
    def test_after_it_was_done_there_is_nothing_to_do_and_nothing_was_deleted(
        self, client: dict[str, int], server: dict[str, int], kind: SyncType
    ) -> None:
        found = plan(client, server, kind)
        client_after = client | {name: server[name] for name in found.from_server}
        server_after = server | {name: client[name] for name in found.to_server}
        again = plan(client_after, server_after, kind)
        self.assertEqual((again.to_server, again.from_server), ([], []))
        self.assertLessEqual(set(client), set(client_after))
        self.assertLessEqual(set(server), set(server_after))
        if kind.to_server and kind.from_server:
            self.assertEqual(set(client_after), set(server_after))
            if kind.by_time:
                self.assertEqual(client_after, server_after)

    @given(LISTINGS, LISTINGS, TYPES)
    def test_no_file_is_replaced_by_an_older_one(
        self, client: dict[str, int], server: dict[str, int], kind: SyncType
    ) -> None:
        found = plan(client, server, kind)
        self.assertTrue(all(client[name] > server.get(name, -1) for name in found.to_server))
        self.assertTrue(all(server[name] > client.get(name, -1) for name in found.from_server))

    @given(LISTINGS, LISTINGS, st.booleans())
    def test_both_ways_is_the_one_way_and_the_other(
        self, client: dict[str, int], server: dict[str, int], by_time: bool
    ) -> None:
        both, to, from_ = (SyncType(number + (0 if by_time else 3)) for number in range(3))
        found = plan(client, server, both)
        self.assertEqual(found.to_server, plan(client, server, to).to_server)
        self.assertEqual(found.from_server, plan(client, server, from_).from_server)

    @given(LISTINGS, LISTINGS, TYPES)
    def test_the_plan_is_what_each_file_alone_gives(
        self, client: dict[str, int], server: dict[str, int], kind: SyncType
    ) -> None:
        found = plan(client, server, kind)
        going = {name for name in client if sends_to_server(client[name], server.get(name), kind)}
        coming = {name for name in server if sends_from_server(client.get(name), server[name], kind)}
        self.assertEqual((set(found.to_server), set(found.from_server)), (going, coming))
