"""Logins: what is learned from a refusal, how often one may try, and what recorded ones are worth."""

from __future__ import annotations

import json
import time
import unittest
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.asymmetric import ed448, rsa

from pysftpserver.remo import application, crypto, login, wire
from pysftpserver.service import throttle
from tests.remo.hosting import USER, Answer, Here, HereCase, Login, Peer
from tests.support.hard import IS_HARD
from tests.support.waiting import until

RSA_USER = "rita"
FAST = mock.patch.object(login, "REFUSED_AFTER", 0.0)
WAITING = mock.patch.object(throttle, "FIRST", throttle.MOST)  # no busy machine takes so long for a login


class Refusals(HereCase):
    here: Here

    def setUp(self) -> None:
        super().setUp()
        self.here = self.serve()
        self.rsa_key = rsa.generate_private_key(65537, 2048)
        pem = crypto.public_pem(self.rsa_key.public_key()).decode()
        self.here.users.add(RSA_USER, pem, None)
        self.addresses = (f"198.51.100.{number}" for number in range(250))  # one failure each

    def tried(self, user: str, key: crypto.PrivateKey) -> Answer:
        address = next(self.addresses)
        return self.here.called("POST", "/auth", Login(user, key).body, address=address)

    def kinds(self) -> dict[str, tuple[str, crypto.PrivateKey]]:
        other, other_rsa = crypto.new_key(), rsa.generate_private_key(65537, 2048)
        return {
            "nobody": ("nobody", other),
            "nobody, with RSA": ("nobody", other_rsa),
            "a wrong key": (USER, other),
            "an RSA key for an Ed448 user": (USER, other_rsa),
            "a wrong RSA key": (RSA_USER, other_rsa),
            "an Ed448 key for an RSA user": (RSA_USER, other),
            "another user's key": (RSA_USER, self.here.user_key),
            "no name": ("", other),
            "a name with a NUL": (USER + "\0", self.here.user_key),
            "a name in capitals": (USER.upper(), self.here.user_key),
            "a long name": ("x" * 8000, other),
        }

    def test_ed448_and_rsa_users_are_let_in(self) -> None:
        for user, key in ((USER, self.here.user_key), (RSA_USER, self.rsa_key)):
            peer = self.here.log_in(user, key)
            said = self.here.called("GET", peer.path("lst", b"."), cookie=peer.cookie)
            self.assertEqual(said.status, 200)
            self.assertIn(b"users.sqlite", peer.opened(said))

    def test_all_refusals_are_the_same_to_the_letter(self) -> None:
        seen = set()
        with FAST:
            for user, key in self.kinds().values():
                answer = self.tried(user, key)
                headers = tuple(name for name, _ in answer.headers)
                seen.add((answer.status, answer.body, headers, len(answer.cookie)))
        self.assertEqual(len(seen), 1, seen)
        self.assertEqual(seen.pop()[0], 403)

    def test_every_refusal_costs_the_same_verifications(self) -> None:
        kinds = [ed448.Ed448PublicKey, rsa.RSAPublicKey]
        seen: list[Any] = []

        def counted(key: crypto.PublicKey, signature: bytes, data: bytes) -> bool:
            seen.append(
                next(kind for kind in (ed448.Ed448PublicKey, rsa.RSAPublicKey) if isinstance(key, kind))
            )
            return crypto.is_signed(key, signature, data)

        with FAST, mock.patch.object(login, "is_signed", counted):
            for what, (user, key) in self.kinds().items():
                with self.subTest(what):
                    seen.clear()
                    self.assertEqual(self.tried(user, key).status, 403)
                    self.assertEqual(seen, kinds)

    @unittest.skipUnless(IS_HARD, "measures time")
    def test_the_work_of_a_refusal_takes_the_same_time_for_all(self) -> None:
        """Even without the time that a refusal takes at least: the processor's, at its best of many."""
        kinds = [self.kinds()[what] for what in ("nobody", "a wrong key", "a wrong RSA key")]
        logins = [Login(user, key).body for user, key in kinds]
        times: list[list[float]] = [[] for _ in kinds]
        with FAST, mock.patch.object(throttle, "FREE", 1000):
            for _ in range(30):
                for body, mine in zip(logins, times, strict=True):
                    began = time.thread_time()
                    self.here.called("POST", "/auth", body)
                    mine.append(time.thread_time() - began)
        best = [min(mine) for mine in times]
        self.assertLess(max(best), 1.6 * min(best), best)
        self.assertLess(max(best), 0.02)  # seconds, of the 0.1 that there are

    def test_no_refusal_comes_sooner_than_the_others(self) -> None:
        kinds = self.kinds()
        for what in ("nobody", "a wrong key", "a wrong RSA key"):
            began = time.monotonic()
            self.tried(*kinds[what])
            self.assertGreaterEqual(time.monotonic() - began, login.REFUSED_AFTER)

    def test_a_login_for_another_user_or_with_another_key_is_not_signed(self) -> None:
        good = Login(USER, self.here.user_key)
        other = crypto.OneTimeKey().public
        said = json.loads(good.body)
        with FAST:
            for name, value in (("user", RSA_USER), ("user", USER + "x"), ("key", wire.b64(other))):
                answer = self.here.called("POST", "/auth", json.dumps({**said, name: value}).encode())
                self.assertEqual(answer.status, 403)

    def test_a_recorded_login_opens_nothing_and_leaves_its_session_alone(self) -> None:
        recorded = Login(USER, self.here.user_key)
        said = self.here.called("POST", "/auth", recorded.body)
        peer = Peer(said.cookie, recorded.key(said.body))
        count = len(self.here.application.sessions)
        with FAST:
            again = self.here.called("POST", "/auth", recorded.body, address="203.0.113.9")
        self.assertEqual((again.status, again.body), (403, b"login refused"))
        self.assertEqual(len(self.here.application.sessions), count)
        self.assertEqual(self.here.called("GET", peer.path("lst", b"."), cookie=peer.cookie).status, 200)


class Throttling(HereCase):
    def setUp(self) -> None:
        super().setUp()
        self.enterContext(FAST)

    def fail(self, here: Here, address: str, **environ: Any) -> Answer:  # type: ignore[override]
        return here.called("POST", "/auth", Login(USER, here.key).body, address=address, **environ)

    def test_after_some_failures_an_address_has_to_wait_longer_each_time_and_others_have_not(self) -> None:
        here = self.serve()
        clock = mock.Mock(wraps=time)
        now = time.monotonic()
        clock.monotonic.side_effect = lambda: now
        clock.sleep.side_effect = None
        with mock.patch.object(login, "time", clock):
            found = [self.fail(here, "192.0.2.1").status for _ in range(5)]
            self.assertEqual(found, [403, 403, 403, 429, 429])
            good = Login(USER, here.user_key).body
            answer = here.called("POST", "/auth", good, address="192.0.2.1")
            self.assertEqual((answer.status, answer.header("Retry-After")), (429, "1"))
            self.assertEqual(here.called("POST", "/auth", good, address="192.0.2.2").status, 200)
            now += 0.6
            self.assertEqual(self.fail(here, "192.0.2.1").status, 403)
            now += 0.6
            self.assertEqual(self.fail(here, "192.0.2.1").status, 429)
            for _ in range(12):
                now += throttle.MOST
                self.assertEqual(self.fail(here, "192.0.2.1").status, 403)
            answer = self.fail(here, "192.0.2.1")
            self.assertEqual((answer.status, answer.header("Retry-After")), (429, f"{throttle.MOST + 1:.0f}"))
            now += throttle.MOST
            self.assertEqual(
                here.called("POST", "/auth", Login(USER, here.user_key).body, address="192.0.2.1").status, 200
            )

    @WAITING
    def test_addresses_of_one_ipv6_network_are_one(self) -> None:
        here = self.serve()
        found = [self.fail(here, f"2001:db8::{number}").status for number in range(4)]
        self.assertEqual(found, [403, 403, 403, 429])
        self.assertEqual(self.fail(here, "2001:db8:0:1::1").status, 403)

    @WAITING
    def test_behind_a_proxy_clients_are_told_apart_by_what_it_has_added(self) -> None:
        here = self.serve(proxied=True)
        found = [
            self.fail(here, "192.0.2.1", HTTP_X_FORWARDED_FOR=f"198.51.100.{number}, 203.0.113.1").status
            for number in range(4)
        ]
        self.assertEqual(found, [403, 403, 403, 429])
        self.assertEqual(self.fail(here, "192.0.2.1", HTTP_X_FORWARDED_FOR="203.0.113.2").status, 403)

    @WAITING
    def test_what_is_no_address_is_the_proxy_s(self) -> None:
        here = self.serve(proxied=True)
        found = [
            self.fail(here, "192.0.2.1", HTTP_X_FORWARDED_FOR=f"{number}" * 5000).status
            for number in range(4)
        ]
        self.assertEqual(found, [403, 403, 403, 429])

    @WAITING
    def test_without_a_proxy_what_a_client_says_of_its_address_is_not_believed(self) -> None:
        here = self.serve()
        found = [
            self.fail(here, "192.0.2.1", HTTP_X_FORWARDED_FOR=f"198.51.100.{number}").status
            for number in range(4)
        ]
        self.assertEqual(found, [403, 403, 403, 429])

    def test_the_memory_for_failures_has_an_end(self) -> None:
        failures = throttle.Throttle()
        for number in range(throttle.ADDRESSES + 100):
            failures.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
        self.assertEqual(len(failures._failures), throttle.ADDRESSES)


class Lives(HereCase):
    """How long sessions are there."""

    def confirmed(self, here: Here, **given: Any) -> Peer:
        peer = here.log_in(**given)
        self.assertEqual(here.called("GET", peer.path("lst", b"."), cookie=peer.cookie).status, 200)
        return peer

    def status(self, here: Here, peer: Peer) -> int:
        """Of a request; 0 when the session ended while it was answered."""
        try:
            return here.called("GET", peer.path("lst", b"."), cookie=peer.cookie).status
        except application.ReplyBroken:
            return 0

    def test_a_login_is_for_a_new_session_whatever_cookie_came_with_it(self) -> None:
        here = self.serve()
        first = self.confirmed(here)
        fixed = "A" * 32
        said = here.called("POST", "/auth", Login(USER, here.user_key).body, fixed)
        self.assertNotEqual(said.cookie, fixed)
        again = here.called("POST", "/auth", Login(USER, here.user_key).body, first.cookie)
        self.assertNotIn(again.cookie, (fixed, first.cookie, said.cookie))
        self.assertEqual(self.status(here, first), 403)

    def test_a_refused_login_leaves_the_session_alone(self) -> None:
        here = self.serve()
        peer = self.confirmed(here)
        with FAST:
            self.assertEqual(
                here.called("POST", "/auth", Login(USER, here.key).body, peer.cookie).status, 403
            )
        self.assertEqual(self.status(here, peer), 200)

    def test_an_empty_login_logs_out(self) -> None:
        here = self.serve()
        peer = self.confirmed(here)
        said = here.called("POST", "/auth", b"", peer.cookie)
        self.assertEqual((said.status, said.body), (200, b""))
        self.assertNotEqual(said.cookie, peer.cookie)
        self.assertEqual(self.status(here, peer), 403)

    def test_users_who_are_removed_or_changed_lose_their_sessions_and_others_do_not(self) -> None:
        here = self.serve()
        keys = {name: crypto.new_key() for name in ("gone", "other-key", "less", "same")}
        pems = {name: crypto.public_pem(key.public_key()).decode() for name, key in keys.items()}
        for name, pem in pems.items():
            here.users.add(name, pem, "all")
        with mock.patch.multiple(application, SWEEP=0.02, USERS=0.02):
            peers = {name: self.confirmed(here, user=name, key=key) for name, key in keys.items()}
            for name in ("gone", "other-key", "less"):
                here.users.remove(name)
            here.users.add("other-key", crypto.public_pem(crypto.new_key().public_key()).decode(), "all")
            here.users.add("less", pems["less"], "read")
            for name in ("gone", "other-key", "less"):
                until(lambda name=name: self.status(here, peers[name]) == 403, f"{name} is still there")  # type: ignore[misc]
            self.assertEqual(self.status(here, peers["same"]), 200)

    def test_users_whose_database_is_away_for_a_moment_stay(self) -> None:
        here = self.serve()
        with mock.patch.multiple(application, SWEEP=0.02, USERS=0.02):
            peer = self.confirmed(here)
            path = here.place / "users.sqlite"
            with self.assertLogs("pysftpserver.remo", "ERROR") as log:
                path.rename(here.place / "away")
                until(lambda: log.output, "nobody has looked")
                path.write_bytes(b"no database at all")
                until(lambda: "not a database" in log.output[-1], "nobody has looked again")
            (here.place / "away").rename(path)
            self.assertEqual(self.status(here, peer), 200)

    def test_sessions_that_are_not_used_end(self) -> None:
        here = self.serve()
        later = mock.Mock(monotonic=lambda: time.monotonic() + 2 * here.values.session_timeout)
        with mock.patch.object(application, "SWEEP", 0.02):
            peer = self.confirmed(here)
            with mock.patch.object(application, "time", later):
                until(lambda: not len(here.application.sessions), "it does not end")
        self.assertEqual(self.status(here, peer), 403)
