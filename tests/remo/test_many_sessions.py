"""More sessions than anybody needs: what they take, and what is left when they are over."""

from __future__ import annotations

import time
import tracemalloc

from pysftpserver.remo import crypto
from pysftpserver.remo.session import Session, Sessions, TooMany
from pysftpserver.remo.users import Permissions, User
from tests.remo.hosting import HereCase, HostCase, Login, Peer, request
from tests.remo.test_sessions import limited

MANY = 1_400
MOST_EACH = 6 << 10  # bytes of a session
LOGINS = 240  # over the wire, which is what takes time


class Tables(HereCase):
    def test_thousands_of_sessions_take_a_few_kib_each_and_nothing_when_they_are_over(self) -> None:
        table = limited(MANY, MANY)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        made = [self.added(table, f"user-{number % 500}") for number in range(200)]
        before = tracemalloc.get_traced_memory()[0]
        for number in range(MANY):
            table.confirm(self.added(table, f"user-{number % 500}"), 0.0)
        each = (tracemalloc.get_traced_memory()[0] - before) / MANY
        self.assertLess(each, MOST_EACH)
        self.assertEqual(len(table.all()), MANY)
        with self.assertRaises(TooMany):
            table.confirm(self.added(table, "one more"), 0.0)
        table.close()
        del made
        self.assertEqual(len(table), 0)
        self.assertLess(tracemalloc.get_traced_memory()[0], before + (1 << 20))

    def test_logins_without_end_leave_what_fits_and_no_more(self) -> None:
        table = limited(1000, 64)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for number in range(MANY // 2):
            table.confirm(self.added(table, f"user-{number % 10}"), float(number))
        self.assertEqual(len(table), 640)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(MANY // 2):
            table.confirm(self.added(table, f"user-{number % 10}"), float(number))
        self.assertEqual(len(table), 640)
        self.assertLess(tracemalloc.get_traced_memory()[0] - before, 1 << 20)

    def setUp(self) -> None:
        super().setUp()
        self.key = crypto.OneTimeKey().session_key(crypto.OneTimeKey().public)

    def added(self, table: Sessions, name: str) -> Session:
        # Keys as derivations make them: an object of its own for each.
        cipher = crypto.SessionCipher(bytes(bytearray(self.key)))
        user = User(name, "", None)
        session = Session(user, Permissions.ALL, cipher, "192.0.2.1", time.monotonic())
        table.add(session)
        return session


class OverTheWire(HostCase):
    options = ("--most-per-user", "30")

    def test_logins_without_end_take_no_memory_and_the_latest_sessions_serve(self) -> None:
        raw = self.connect()
        peers: list[Peer] = []

        def enter(count: int) -> None:
            for _ in range(count):
                login = Login("alice", self.host.user_key)
                said = raw.ask(request("POST", "/auth", login.body))
                peer = Peer(said.cookie, login.key(said.body))
                # With a token, which shows that it knows its key.
                self.assertEqual(raw.ask(peer.plain("sts", None, b"")).status, 200)
                peers.append(peer)

        enter(LOGINS // 4)
        before = self.host.memory()
        enter(LOGINS - LOGINS // 4)
        self.assertLess(self.host.memory() - before, 2 << 10)
        self.assertEqual([raw.ask(peer.plain("sts", None, b"")).status for peer in peers[-30:]], [200] * 30)
        self.assertEqual({raw.ask(peer.plain("sts", None, b"")).status for peer in peers[:-30]}, {403})
