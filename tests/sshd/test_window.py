"""How much clients may send ahead: windows that grow and shrink, and what all of them may be; and workers."""

from __future__ import annotations

import os
import unittest
from typing import Any

from pysftpserver.sshd.config import ServerSettings
from pysftpserver.sshd.window import FIRST, LEAST, Window, Windows

CPUS = len(os.sched_getaffinity(0))
MIB = 1 << 20
PACKET = 256 << 10
BUFFER = 512 * MIB  # of which half may be promised, half of that to one user
ALL = BUFFER // 2


class Channel:
    """What a window knows of asyncssh's channel."""

    is_closed = False
    told = 0

    def __init__(self, window: int) -> None:
        self._recv_window = window

    def is_closing(self) -> bool:
        return self.is_closed

    def send_packet(self, kind: int, *fields: bytes) -> None:
        self.told += 1


class Client:
    """A client that sends whatever it may, and its window."""

    def __init__(self, windows: Windows, holder: str = "alice") -> None:
        self.window = Window(windows, holder)
        self.channel = Channel(self.window.size)
        self.window.guard(self.channel)  # type: ignore[arg-type]

    @property
    def may_send(self) -> int:
        return self.channel._recv_window

    def send(self, size: int) -> None:
        assert size <= self.may_send, "the window is exceeded"
        self.channel._recv_window -= size
        self.window.received(size)

    def round_trip(self, session: Any = lambda window: window.took(window.kept)) -> int:
        """Send all that is allowed by now, in packets; the session takes each. Return how much that was."""
        total = rest = self.may_send
        while rest:
            size = min(rest, PACKET)
            self.send(size)
            session(self.window)
            rest -= size
        return total


class Settings(unittest.TestCase):
    def test_auto_is_a_worker_for_each_processor(self) -> None:
        kind = ServerSettings.table()["workers"].kind
        self.assertEqual([kind.from_toml(value) for value in ("auto", "AUTO", 3)], [CPUS, CPUS, 3])
        for wrong in ("0", "257", "many"):
            with self.assertRaisesRegex(ValueError, "a whole number from 1 to 256, or auto"):
                kind.parse(wrong)


class Growing(unittest.TestCase):
    def setUp(self) -> None:
        self.windows = Windows(32 * MIB, BUFFER)

    def test_a_window_doubles_with_each_round_trip_that_the_client_fills(self) -> None:
        client = Client(self.windows)
        sizes = [client.round_trip() for _ in range(7)]
        self.assertEqual(sizes[0], FIRST)
        for before, after in zip(sizes, sizes[1:], strict=False):
            self.assertGreaterEqual(after, min(2 * before, 32 * MIB) * 15 // 16)
        self.assertLessEqual(client.may_send, 32 * MIB)

    def test_it_does_not_grow_where_the_client_does_not_fill_it(self) -> None:
        client = Client(self.windows)
        for _ in range(1000):
            client.send(30_000)
            client.window.took(30_000)
        self.assertEqual(client.window.size, FIRST)
        self.assertGreater(client.may_send, FIRST * 15 // 16 - 30_000)

    def test_it_does_not_grow_where_the_session_is_slow_and_shrinks_to_what_it_was(self) -> None:
        client = Client(self.windows)
        for _ in range(20):
            client.round_trip(lambda window: None)
            self.assertEqual((client.window.size, client.may_send), (FIRST, 0))
            client.window.took(client.window.kept // 2)
        client.window.took(client.window.kept)
        for _ in range(6):
            client.round_trip()
        self.assertEqual(client.window.size, 32 * MIB)
        client.round_trip(lambda window: None)
        for _ in range(4000):
            client.window.took(40_000)
            if client.may_send:
                client.send(client.may_send)
            self.assertLessEqual(client.window.kept, 32 * MIB)
        self.assertEqual(client.window.size, FIRST)
        self.assertLessEqual(client.window.kept, FIRST + 1)

    def test_a_session_that_takes_nothing_is_never_sent_more_than_the_window(self) -> None:
        client = Client(self.windows)
        for _ in range(10):
            client.round_trip()
        client.round_trip(lambda window: None)
        self.assertEqual(client.may_send, 0)
        self.assertLessEqual(client.window.kept, 32 * MIB)

    def test_a_channel_that_is_closing_is_told_nothing(self) -> None:
        client = Client(self.windows)
        client.channel.is_closed = True
        client.round_trip()
        self.assertEqual(client.channel.told, 0)


class Sharing(unittest.TestCase):
    def setUp(self) -> None:
        self.windows = Windows(32 * MIB, BUFFER)

    def grown(self, holder: str, count: int) -> list[Client]:
        """Clients whose windows are as large as they become."""
        clients = [Client(self.windows, holder) for _ in range(count)]
        for _ in range(8):
            for client in clients:
                client.round_trip()
        return clients

    def promised(self, clients: list[Client]) -> int:
        return sum(client.window.size for client in clients if client.window.size > FIRST)

    def test_a_thousand_idle_sessions_take_nothing_from_others(self) -> None:
        for _ in range(1000):
            Client(self.windows, "crowd")
        (client,) = self.grown("alice", 1)
        self.assertEqual(client.window.size, 32 * MIB)

    def test_a_hundred_greedy_sessions_of_one_user_leave_others_their_windows(self) -> None:
        greedy = self.grown("mallory", 100)
        self.assertLessEqual(self.promised(greedy), ALL // 2)
        for client in greedy:  # their storage hangs, and they send all they may
            client.round_trip(lambda window: None)
        self.assertLess(sum(client.window.kept for client in greedy), BUFFER * 3 // 8)
        others = self.grown("alice", 2)
        self.assertEqual([client.window.size for client in others], [32 * MIB] * 2)

    def test_greedy_users_give_back_what_others_need_while_their_sessions_go_on(self) -> None:
        first, second, third = (self.grown(name, 10) for name in ("a", "b", "c"))
        for _ in range(20):
            for client in (*first, *second, *third):
                client.round_trip()
        shares = [self.promised(clients) for clients in (first, second, third)]
        self.assertLessEqual(sum(shares), ALL)
        self.assertGreater(min(shares), ALL // 6)

    def test_a_window_that_is_not_used_is_not_counted_until_it_is(self) -> None:
        (client,) = self.grown("alice", 1)
        room = self.windows.room("alice")
        for _ in range(2):
            client.window.rest()
        self.assertEqual(self.windows.room("alice"), room + 32 * MIB)
        client.round_trip()
        self.assertEqual((self.windows.room("alice"), client.window.size), (room, 32 * MIB))

    def test_it_shrinks_where_others_have_taken_what_there_was(self) -> None:
        (client,) = self.grown("alice", 1)
        for _ in range(2):
            client.window.rest()
        for name in "bcdefghi":
            self.grown(name, 10)
        client.round_trip()
        self.assertLess(client.window.size, 16 * MIB)

    def test_what_is_closed_is_given_back(self) -> None:
        clients = self.grown("alice", 3)
        for client in clients * 2:
            client.window.close()
        fresh = Windows(32 * MIB, BUFFER)
        self.assertEqual(vars(self.windows), vars(fresh))

    def test_many_channels_of_one_user_begin_with_less(self) -> None:
        sizes = [Client(self.windows).window.size for _ in range(1000)]
        self.assertEqual((sizes[0], sizes[-1]), (FIRST, LEAST))
        self.assertLess(sum(sizes[:100]), BUFFER * 3 // 8)
        self.assertEqual(Client(self.windows, "bob").window.size, FIRST)
