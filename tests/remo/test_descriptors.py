"""A server without a descriptor left: strangers are sent away, and it goes on when there are some again."""

from __future__ import annotations

import resource

from tests.remo.hosting import HostCase, request
from tests.support.waiting import until


class Descriptors(HostCase):
    def limit(self, most: int) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.host.process.pid, resource.RLIMIT_NOFILE, (most, hard))

    def test_without_any_left_clients_are_sent_away_and_users_go_on(self) -> None:
        mine = self.connect()
        peer = self.host.log_in(mine)
        self.limit(len(self.host.descriptors()))
        self.addCleanup(self.limit, 1024)
        for _ in range(100):
            with self.host.raw("127.0.5.1") as raw:
                raw.say(request("GET", "/info"))
                self.assertIsNone(raw.answer())
        self.host.process.said("listener: too many open files: connections are closed at once")
        self.assertLess(len(self.host.log()) - self.looked, 1000)
        self.assertEqual(mine.ask(peer.plain("sts", None, b"")).status, 200)
        self.limit(1024)
        until(self.serves, "clients are served again")
        self.looked = len(self.host.log())

    def serves(self) -> bool:
        with self.host.raw() as raw:
            raw.say(request("GET", "/info"))
            return raw.answer() is not None
