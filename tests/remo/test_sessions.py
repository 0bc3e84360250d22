"""Sessions: their numbers, their time and their places, on a clock of the test's own."""

from __future__ import annotations

import base64
import threading
import unittest
from typing import Any

from cryptography.fernet import Fernet

from pysftpserver.remo import session as sessions
from pysftpserver.remo.config import ServerSettings
from pysftpserver.remo.crypto import SessionCipher
from pysftpserver.remo.session import PAUSE, Session, Sessions, TooMany, new_id
from pysftpserver.remo.users import Permissions, User
from pysftpserver.remo.wire import Tampered

CIPHER = SessionCipher(Fernet.generate_key())
MADE = 1_700_000_000


def limited(most: int, most_per_user: int) -> Sessions:
    """Sessions that time out after 600 seconds."""
    return Sessions(ServerSettings(session_timeout=600.0, max_sessions=most, max_per_user=most_per_user))


class Work:
    """Something that runs."""

    def __init__(self) -> None:
        self.stops = 0

    def stop(self) -> None:
        self.stops += 1


class Case(unittest.TestCase):
    def add(
        self, every: Sessions, user: str = "alice", now: float = 0.0, is_confirmed: bool = True
    ) -> Session:
        session = Session(User(user, "", None), Permissions.ALL, CIPHER, "", now)
        every.add(session)
        if is_confirmed:
            every.confirm(session, now)
        return session


class Numbers(Case):
    def setUp(self) -> None:
        self.session = self.add(limited(10, 10))

    def refused(self, number: int, made: int = MADE, now: float = 0.0) -> None:
        with self.assertRaises(Tampered):
            self.session.count(number, made, now)

    def test_requests_are_numbered_from_1_without_a_gap(self) -> None:
        for number in (0, 2, -1):
            self.refused(number)
        for number in (1, 2, 3):
            self.session.count(number, MADE, 0.0)
        for number in (1, 2, 3, 5, 0, -4):
            self.refused(number, MADE + 5, 5.0)
        self.session.count(4, MADE, 0.0)

    def test_the_number_after_32767_is_below_zero(self) -> None:
        for number in (*range(1, 32768), *range(-32768, 1), 1):
            self.session.count(number, MADE, 0.0)
        self.refused(1)

    def test_after_a_pause_of_twice_the_lifetime_any_number_may_come_if_it_is_newer(self) -> None:
        self.assertEqual(PAUSE, 20)
        self.session.count(1, MADE, 100.0)
        self.refused(7, MADE + 19, 119.9)
        for made in (MADE, MADE - 1):
            self.refused(7, made, 120.0)
        self.session.count(7, MADE + 20, 120.0)
        self.refused(7, MADE + 20, 120.0)
        self.refused(1, MADE, 200.0)
        self.session.count(8, MADE + 20, 120.0)

    def test_the_first_request_has_number_1_however_late_it_comes(self) -> None:
        self.refused(2, MADE, 500.0)
        self.session.count(1, MADE, 500.0)

    def test_of_requests_that_come_at_once_with_one_number_one_is_served(self) -> None:
        served: list[int] = []
        ready = threading.Barrier(8)

        def one() -> None:
            ready.wait()
            for number in range(1, 200):
                try:
                    self.session.count(number, MADE, 0.0)
                except Tampered:
                    continue
                served.append(number)

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(served.count(1), 1)
        self.assertEqual(len(served), len(set(served)))


class Lives(Case):
    def test_a_session_that_is_not_used_ends_and_takes_along_what_it_has_running(self) -> None:
        every = limited(10, 10)
        session, work = self.add(every), Work()
        session.command = work
        self.assertTrue(session.begin(work))
        self.assertEqual(every.sweep(600.0), [])
        self.assertIs(every.find(session.id, 600.0), session)
        self.assertEqual(every.sweep(600.1), [session])
        self.assertEqual(work.stops, 1)
        self.assertIsNone(every.find(session.id, 600.1))
        self.assertFalse(session.begin(Work()))

    def test_a_session_is_not_late_while_it_is_served(self) -> None:
        every = limited(10, 10)
        session, work = self.add(every), Work()
        session.begin(work)
        self.assertEqual(every.sweep(10_000.0), [])
        session.done(work)
        self.assertEqual(every.sweep(10_000.0), [session])

    def test_one_that_was_never_proved_ends_soon(self) -> None:
        every = limited(10, 10)
        session = self.add(every, is_confirmed=False)
        self.assertIs(every.find(session.id, 30.0), session)
        self.assertIsNone(every.find(session.id, 30.1))

    def test_a_session_that_has_ended_stays_ended(self) -> None:
        every = limited(10, 10)
        session = self.add(every, is_confirmed=False)
        every.end(session, "why")
        every.confirm(session, 0.0)
        self.assertIsNone(every.find(session.id, 0.0))
        self.assertEqual(len(every), 0)

    def test_closing_ends_all(self) -> None:
        every = limited(10, 10)
        work = [Work(), Work()]
        for each in work:
            self.add(every).begin(each)
        every.close()
        self.assertEqual([each.stops for each in work], [1, 1])
        self.assertEqual(len(every), 0)


class Places(Case):
    def test_one_more_of_a_user_ends_the_one_that_was_used_least_recently(self) -> None:
        every = limited(10, 2)
        first, second = self.add(every, now=0.0), self.add(every, now=1.0)
        other = self.add(every, "bob", now=0.0)
        every.confirm(first, 2.0)
        third = self.add(every, now=3.0)
        found = [every.find(each.id, 3.0) is not None for each in (first, second, third, other)]
        self.assertEqual(found, [True, False, True, True])

    def test_of_all_users_together_there_is_no_room_for_more_and_nobody_is_put_out(self) -> None:
        every = limited(2, 2)
        kept = [self.add(every), self.add(every, "bob")]
        with self.assertRaises(TooMany):
            self.add(every, "carol")
        self.assertEqual([every.find(each.id, 0.0) for each in kept], kept)

    def test_sessions_that_prove_nothing_put_out_one_another_only(self) -> None:
        every = limited(1000, 1000)
        kept = self.add(every)
        added = [self.add(every, is_confirmed=False) for _ in range(2000)]
        self.assertEqual(len(every), 1 + sessions.MOST_UNCONFIRMED)
        self.assertIs(every.find(kept.id, 0.0), kept)
        self.assertIs(every.find(added[-1].id, 0.0), added[-1])

    def test_one_time_keys_are_remembered_up_to_a_limit(self) -> None:
        every = limited(10, 10)
        keys = [number.to_bytes(56, "big") for number in range(sessions.MOST_REMEMBERED + 1)]
        self.assertTrue(all(map(every.is_new, keys[:-1])))
        self.assertFalse(any(map(every.is_new, keys[:-1])))
        self.assertTrue(every.is_new(keys[-1]))
        self.assertTrue(every.is_new(keys[0]))  # the oldest is forgotten

    def test_ids_are_192_bits_of_chance(self) -> None:
        found: set[Any] = {new_id() for _ in range(1000)}
        self.assertEqual(len(found), 1000)
        self.assertTrue(all(len(base64.urlsafe_b64decode(ident)) == 24 for ident in found))
