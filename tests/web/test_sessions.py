"""Sessions: how many there are, what they hold, and storages that cannot be opened."""

from __future__ import annotations

import contextlib
import resource
import time
import unittest
from pathlib import Path
from unittest import mock

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.people.users import User
from pysftpserver.web import session as sessions
from pysftpserver.web.config import WebSettings
from pysftpserver.web.session import Session, Sessions, TooMany
from pysftpserver.web.wire import Reply, Request
from tests.support.hard import IS_HARD
from tests.support.waiting import until
from tests.web.serving import WebCase


class Counted(SFTPAbstractServerStorage):
    """A storage of which a test knows how many are open."""

    open = 0  # type: ignore[assignment]

    def __init__(self) -> None:
        Counted.open += 1

    def release(self) -> None:
        Counted.open -= 1


def resident() -> int:
    """The memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def user(name: str) -> User:
    return User(name, name, name, True, frozenset())


def session(name: str, address: str = "192.0.2.1") -> Session:
    return Session(user(name), address, Counted)


class TestLimits(unittest.TestCase):
    def test_another_login_of_a_user_ends_the_session_that_was_used_least_recently(self) -> None:
        every = Sessions(WebSettings(max_per_user=3))
        mine = [session("alice") for _ in range(3)]
        for one in mine:
            every.add(one)
        every.add(other := session("bob"))
        for number, one in enumerate(mine):
            one.used += number
        self.assertIs(every.find(mine[0].id), mine[0])
        mine[0].used += 10
        every.add(new := session("alice"))
        self.assertEqual([one.is_over for one in (*mine, other, new)], [False, True, False, False, False])

    def test_beyond_max_sessions_a_login_is_refused_and_sessions_that_timed_out_make_room(self) -> None:
        every = Sessions(WebSettings(max_sessions=3))
        for name in ("a", "b", "c"):
            every.add(session(name))
        with self.assertRaises(TooMany):
            every.add(session("d"))
        first = every.all()[0]
        first.used -= WebSettings().session_timeout + 1
        every.add(session("d"))
        self.assertEqual((len(every), first.is_over), (3, True))

    def test_few_storages_stay_open_whatever_the_number_of_sessions(self) -> None:
        self.addCleanup(setattr, Counted, "open", 0)
        every = Sessions(WebSettings())
        for number in range(100):
            every.add(one := session(f"user{number}"))
            with contextlib.ExitStack() as stack:
                for _ in range(6):
                    stack.enter_context(one.storage())
        self.assertEqual((Counted.open, len(every.shelf)), (sessions.KEPT, sessions.KEPT))
        with one.storage():
            self.assertEqual(Counted.open, sessions.KEPT)  # one of those
        every.end(one)
        until(lambda: Counted.open == sessions.KEPT - sessions.KEPT_EACH, "a session keeps its storages")
        with mock.patch.object(sessions, "KEPT_FOR", -1.0):
            every.sweep(lambda user: True)
        until(lambda: not Counted.open, "storages that nobody uses stay open")

    @unittest.skipUnless(IS_HARD, "with `make test-hard`")
    def test_10000_sessions_take_little_memory_and_no_time_to_find(self) -> None:
        every = Sessions(WebSettings(max_sessions=10_000))
        before = resident()
        for number in range(10_000):
            every.add(session(f"user{number % 1000}", f"192.0.{number % 250}.1"))
        self.assertEqual(len(every), 10_000)
        self.assertLess(resident() - before, 64 << 20)
        for number in range(1000):  # there is room for no more
            with contextlib.suppress(TooMany):
                every.add(session(f"user{number}"))
        self.assertLess(resident() - before, 64 << 20)
        for one in every.all():
            self.assertIs(every.find(one.id), one)
            every.end(one)
        self.assertEqual((len(every), every._of, len(every._networks)), (0, {}, 0))


class Reads:
    """A part that asks the storage for something."""

    needs_login = True
    is_for_programs = False

    def answer(self, request: Request, rest: bytes) -> Reply:
        assert request.session is not None
        with request.session.storage() as storage:
            return Reply(str(storage.stat(b"/").permissions).encode())


class TestStorages(WebCase):
    settings = {"max_sessions": 2}

    def setUp(self) -> None:
        super().setUp()
        for one in self.served.door.sessions.all():
            self.served.door.sessions.end(one)

    def test_one_that_cannot_be_opened_is_named_in_the_log_and_not_on_the_page(self) -> None:
        self.served.door.application.parts[b"reads"] = Reads()
        with self.served.logged_in() as browser:
            self.assertEqual(browser.get("/reads").status, 200)
            self.served.door.sessions.shelf.sweep(time.monotonic() + 2 * sessions.KEPT_FOR)
            away = Path(self.served.jail("alice")).rename(self.place / "away")
            answer = browser.get("/reads")
            self.assertEqual(answer.status, 503)
            self.assertIn("the files cannot be reached at the moment", answer.text)
            self.assertNotIn(str(self.place), answer.text)
            self.assertIn("alice", self.log.wait("the storage cannot be opened"))
            away.rename(self.served.jail("alice"))
            self.assertEqual(browser.get("/reads").status, 200)

    def test_a_person_is_told_that_there_are_too_many_sessions(self) -> None:
        with self.served.logged_in(), self.served.logged_in(), self.served.browser() as browser:
            answer = browser.log_in("bob")
            self.assertEqual((answer.status, browser.cookies), (503, {}))
            self.assertIn("There are too many sessions; try again later.", answer.text)
        self.log.wait("there are 2 sessions (max_sessions)")
