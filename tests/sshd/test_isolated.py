"""A session that changes its process: nothing of what goes through it is lost, doubled or mixed up."""

from __future__ import annotations

import asyncio
import json
import math
import random
import shutil
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.cli import pysftpd
from pysftpserver.engine.log import ERROR, SFTPLog
from pysftpserver.people.users import User
from pysftpserver.sshd.forker import Forker
from pysftpserver.sshd.forkserver import ForkServer
from pysftpserver.sshd.isolated import IsolatedSession
from pysftpserver.sshd.metrics import OF_REQUESTS
from pysftpserver.sshd.resting import RestingSession
from pysftpserver.sshd.tickets import Ticket
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.sshd.inprocess import asynchronous
from tests.support.hard import IS_HARD
from tests.support.packets import HELLO, NO_ATTRS, request, string, u32
from tests.support.waiting import PATIENCE, eventually

READ = 1
REQUESTS = 4000 if IS_HARD else 150
ENDS = 200 if IS_HARD else 20
SEED = 5
TICKET = Ticket(User("1", "alice", "alice", True, frozenset()), "::1", 22, 1, 3)
NONSENSE = "the session's process says what makes no sense, and is ended"


class Told(unittest.TestCase):
    """What a session's process says, if somebody has taken it over."""

    @asynchronous
    async def test_what_makes_no_sense_ends_the_session_and_nothing_of_it_reaches_others(self) -> None:
        figures: dict[str, Any] = dict.fromkeys(OF_REQUESTS, {})
        report = {"files": [], "more_files": 0, "handles": 0, "figures": figures}
        file = {"id": "1", "path": "/f", "read": 0, "written": 0, "size": None}
        for message in (
            "[" * 100_000,
            {"report": 5},
            {"report": {**report, "handles": "many"}},
            {"report": {**report, "handles": math.inf}},
            {"report": {**report, "files": 5}},
            {"report": {**report, "files": [5]}},
            {"report": {**report, "files": [{**file, "size": "large"}]}},
            {"report": {**report, "figures": {**figures, "killed": {"signal": 5}}}},
            {"ended": 0, "figures": {**figures, "requests": {'x"} 5': 1}}, "has_left": False},
            {"ended": 0, "figures": {**figures, "seconds": {"open": math.nan}}, "has_left": False},
            {"ended": 0, "figures": {**figures, "errors": {"open": -1}}, "has_left": False},
            {"limited": "login_share"},
            {"log": [ERROR, 5]},
            {"log": [-1, "x"]},
            {"log": ["x", "x"]},
        ):
            with self.subTest(message):
                lines: list[tuple[int, str]] = []
                forker, channel = mock.Mock(), mock.Mock()
                ended = mock.Mock()
                session = IsolatedSession(
                    *(channel, forker, TICKET, SFTPLog(lambda *line: lines.append(line), 3)),  # noqa: B023
                    *((), self.fail, ended),
                )
                _, _, (data, talk), _ = forker.begin.call_args[0]
                with data, talk:
                    talk.send((message if isinstance(message, str) else json.dumps(message)).encode())
                    await eventually(lambda: channel.finish.called, "it is over")  # noqa: B023
                self.assertEqual([text for _, text in lines], [NONSENSE])
                session.cut()
                session.ended(9)
                ended.assert_called_once_with({}, None, False)
                self.assertEqual((await session.report())["files"], [])


class Resting(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="pysftpserver-resting-"))
        self.addCleanup(shutil.rmtree, self.place)
        (self.place / "f").touch()
        self.forks = ForkServer(lambda user: SFTPServerVirtualChroot(self.place), 1, pysftpd.prepare, None, 9)
        self.addCleanup(self.forks.close)
        self.forker: Forker | None = None
        self.begun = 0
        self.replies = bytearray()
        self.moved = asyncio.Event()

    async def session(self) -> RestingSession:
        """A session whose client takes everything."""
        log = SFTPLog()
        self.forker = forker = self.forker or Forker(self.forks.sockets[0], lambda: None)
        self.over = asyncio.Event()
        self.channel = channel = mock.Mock()
        channel.takes_no_more.return_value = False
        channel.write.side_effect = self.write
        channel.gone.side_effect = self.over.set

        def start(channel: Any, before: IsolatedSession | None) -> IsolatedSession:
            self.begun += 1
            ticket = replace(TICKET, root=None if before is None else before.root)
            return IsolatedSession(
                *(channel, forker, ticket, log, (), self.fail, lambda *ended: None, before)
            )

        session = RestingSession(channel, start, log)
        channel.finish.side_effect = lambda status: session.close()
        self.assertTrue(await session.has_begun)
        return session

    def write(self, data: bytes) -> None:
        self.replies += data
        self.moved.set()

    async def packets(self, count: int) -> list[bytes]:
        """The next replies, without their lengths."""
        found: list[bytes] = []
        while len(found) < count:
            end = 4 + int.from_bytes(self.replies[:4], "big")
            if len(self.replies) < max(end, 5):
                self.moved.clear()
                await asyncio.wait_for(self.moved.wait(), PATIENCE)
                continue
            found.append(bytes(self.replies[4:end]))
            del self.replies[:end]
        return found

    @asynchronous
    async def test_requests_in_pieces_at_any_moment_are_answered_once_and_in_order(self) -> None:
        chance = random.Random(SEED)
        session = await self.session()
        session.feed(HELLO)
        await self.packets(1)
        number = answered = 0
        while number < REQUESTS:
            numbers = range(number, number + chance.choice((1, 2, 9)))
            number = numbers.stop
            sent = b"".join(request("realpath", one, string(b"%d" % one)) for one in numbers)
            while sent:
                session.rest()
                for _ in range(chance.choice((0, 0, 1, 2, 3, 4, 8))):
                    await asyncio.sleep(chance.choice((0, 0, 0.001, 0.003)))
                size = chance.choice((1, 20, 50, len(sent), len(sent)))
                session.feed(sent[:size])
                sent = sent[size:]
            if chance.random() < 0.9:  # or the next ones come before these are answered
                session.rest()
                waiting = number - answered
                for one in await self.packets(waiting):
                    self.assertEqual(one[1:5], u32(answered))
                    answered += 1
        self.assertGreater(self.begun, REQUESTS // 20)
        session.close()

    @asynchronous
    async def test_the_end_of_the_client_at_any_moment_comes_after_all_replies(self) -> None:
        chance = random.Random(SEED)
        for number in range(ENDS):
            session = await self.session()
            session.feed(HELLO)
            await self.packets(1)
            session.rest()
            await asyncio.sleep(chance.choice((0, 0, 0.001, 0.004, 0.02)))
            is_asked = chance.random() < 0.5
            if is_asked:
                session.feed(request("stat", number, string(b"/")))
            if chance.random() < 0.5:
                session.drain()
            session.feed_eof()
            await asyncio.wait_for(self.over.wait(), PATIENCE)
            self.over.clear()
            self.channel.finish.assert_called_with(0)
            self.assertEqual(len(await self.packets(is_asked)), is_asked)
            self.assertEqual(bytes(self.replies), b"")

    @asynchronous
    async def test_a_handle_of_one_process_is_none_in_the_next(self) -> None:
        """A client that mixes up its handles is told so, and does not write to another file."""
        session = await self.session()
        session.feed(HELLO)
        await self.packets(1)
        seen = set()
        for _ in range(2):
            session.feed(request("open", 1, string(b"f"), u32(READ), NO_ATTRS))
            (opened,) = await self.packets(1)
            handle = opened[5:]
            self.assertNotIn(handle, seen)
            seen.add(handle)
            session.feed(request("close", 2, handle))
            await self.packets(1)
            session.rest()
            await eventually(lambda: session._session is None, "the process has ended")
        session.close()
