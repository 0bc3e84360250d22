"""Bans in Redis, so that servers which share users share bans as well.

A ban is a key that Redis removes when it ends, and a message on a channel of its own. One task listens, loads
all bans whenever it connects, and writes those that have begun here; meanwhile, and while Redis is
unreachable, bans hold where they are known. Points are published on that channel and not stored.
What may not enter: SSH, how bans are counted.
Facts: Redis's documentation of pub/sub, SET with PX, and SCAN.
"""

from __future__ import annotations

import asyncio
import json
import random

from pysftpserver.failures import needed
from pysftpserver.people import redis_records as records
from pysftpserver.service.bans import MOST_BANS, key_of
from pysftpserver.service.settings import LONGEST_SPAN

with needed("sshd", "redis"):
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.people.redis_records import RedisAddress

BAN = "solt.sftp.ban."  # and the network: a key with the ban's number and cause
CHANNEL = ".bans"  # after the name of the channel of users
PATIENCE = 5.0  # seconds for an answer
SHORTEST_PAUSE = 0.1  # seconds before the second try; doubled for each further one
LONGEST_PAUSE = 5.0
SILENCE = 15.0  # seconds without a message after which the connection is tested
MOST_UNSENT = 1000  # bans not yet written; the oldest are dropped
AT_ONCE = 1000  # keys in one step of SCAN
POINTS = b"points"  # a message begins with this or with a network
GATHERING = 1.0  # seconds in which points are added up before they are published
MOST_POINTS = 200  # networks in one message; points of further ones are not published
LARGEST = 1e6  # points that are accepted
CANCEL_AGAIN = 0.1  # seconds

#: News of a network: seconds of its ban (0: it was lifted), cause, and how many bans it has had.
Told = tuple[float, str, int]


class RedisBans:
    """Tells other servers of bans, and learns of theirs.

    learn: called with a network, and the seconds, cause and number of its bans that a server has published,
    which may be this one. name: of this server, for points: these are published as they are given, and
    learn_points is called with a network and the points from another server.
    """

    def __init__(
        self,
        address: RedisAddress,
        log: SFTPLog,
        learn: Callable[[str, float, str, int], None],
        longest_pause: float = LONGEST_PAUSE,
        name: str = "",
        learn_points: Callable[[str, float], None] | None = None,
    ) -> None:
        self._address = address
        self._log = log
        self._learn = learn
        self._longest_pause = longest_pause
        self._unsent: dict[str, tuple[float, Told]] = {}  # with the time by the event loop's clock
        self._name = name
        self._learn_points = learn_points
        self._points: dict[str, float] | None = None  # by network, not yet published; None: not connected
        self._has_unsent = asyncio.Event()
        self._trouble = ""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(), name="bans in Redis")

    def tell(self, network: str, told: Told) -> None:
        """Tell the other servers of a ban, now or when Redis is back."""
        self._unsent.pop(network, None)
        self._unsent[network] = self._loop.time(), told
        if len(self._unsent) > MOST_UNSENT:
            del self._unsent[next(iter(self._unsent))]
        self._has_unsent.set()

    def tell_points(self, network: str, points: float) -> None:
        """Tell the other servers of points, unless there are too many or Redis is unreachable."""
        if self._points is None or len(self._points) >= MOST_POINTS and network not in self._points:
            return
        if not self._points:
            self._loop.call_later(GATHERING, self._has_unsent.set)
        self._points[network] = self._points.get(network, 0.0) + points

    async def close(self) -> None:
        """Stop listening."""
        await _end(self._task)

    async def _run(self) -> None:
        """Listen until cancelled, on one connection after another."""
        pause = SHORTEST_PAUSE
        while True:
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                words, _ = records.words_of_failure(error)
            except Exception as error:  # a fault in this program must not end the rest
                self._log.fault(error)
                words = type(error).__name__
            if not self._trouble:
                pause = SHORTEST_PAUSE
            if words != self._trouble:
                self._log.error(f"bans in Redis at {self._address}: {words}; this server's own hold")
                self._trouble = words
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, self._longest_pause)

    async def _listen(self) -> None:
        """Connect, load, and follow the channel until that fails."""
        client = Redis(**self._address.options(PATIENCE), retry=Retry(NoBackoff(), 0))
        try:
            async with client.pubsub() as subscription:
                await subscription.subscribe(self._address.channel + CHANNEL)
                if await subscription.get_message(timeout=PATIENCE) is None:
                    raise TimeoutError
                await self._load(client)
                if self._trouble:
                    self._log.info(f"bans in Redis at {self._address}: connected again, and all loaded")
                    self._trouble = ""
                self._points = {}
                sending = asyncio.create_task(self._send_all(client))
                try:
                    await self._follow(subscription, sending)
                finally:
                    self._points = None
                    await _end(sending)
        finally:
            await client.aclose()

    async def _load(self, client: Redis) -> None:
        """Learn of all bans."""
        cursor = 0
        while True:
            found: Any = await client.scan(cursor, match=f"{BAN}*", count=AT_ONCE)
            cursor, keys = found
            if keys:
                async with client.pipeline(transaction=False) as pipe:
                    for key in keys:
                        pipe.get(key)
                        pipe.pttl(key)
                    answers = await pipe.execute(raise_on_error=False)
                for key, content, left in zip(keys, answers[::2], answers[1::2], strict=True):
                    if isinstance(left, int) and left > 0 and isinstance(content, bytes):
                        self._learned(key[len(BAN) :], content, left / 1000)
            if not cursor:
                return

    async def _follow(self, subscription: Any, sending: asyncio.Task[None]) -> None:
        """Learn from the channel's messages. A silent connection has to answer a ping."""
        is_asked = False
        while not sending.done():
            message = await subscription.get_message(timeout=SILENCE)
            if message is None:
                if is_asked:
                    raise TimeoutError
                await subscription.ping()
            elif message["type"] == "message":
                network, _, content = message["data"].partition(b" ")
                if network != POINTS:
                    self._learned(network, content)
                elif self._learn_points is not None:
                    self._learned_points(content, self._learn_points)
            is_asked = message is None
        await sending  # raises the exception that ended it

    async def _send_all(self, client: Redis) -> None:
        """Write the bans that begin here."""
        while True:
            await self._has_unsent.wait()
            self._has_unsent.clear()
            while self._unsent:
                network, (at, told) = next(iter(self._unsent.items()))
                await self._send(client, network, told, self._loop.time() - at)
                if self._unsent.get(network) == (at, told):
                    del self._unsent[network]
            if self._points:
                content = json.dumps([self._name, self._points])
                self._points = {}
                await client.publish(self._address.channel + CHANNEL, f"{POINTS.decode()} {content}")

    async def _send(self, client: Redis, network: str, told: Told, passed: float) -> None:
        seconds, cause, bans = told
        left = int(1000 * (seconds - passed))
        key = BAN + network
        async with client.pipeline(transaction=True) as pipe:
            if left > 0:
                pipe.set(key, json.dumps([cause, bans]), px=left)
            else:
                pipe.delete(key)
            if left > 0 or not seconds:
                content = json.dumps([cause, bans, round(max(0, left) / 1000, 3)])
                pipe.publish(self._address.channel + CHANNEL, f"{network} {content}")
            await pipe.execute()

    def _learned(self, network: bytes, content: bytes, seconds: float | None = None) -> None:
        """Learn of a ban from Redis or the channel, if it is one. seconds: None: they are in content."""
        try:
            cause, bans, *rest = json.loads(content)
            left = rest[0] if seconds is None else seconds
            name = network.decode("ascii")
            is_right = isinstance(cause, str) and type(bans) is int and 0 < bans <= MOST_BANS
            is_right = is_right and 0 <= left <= LONGEST_SPAN and key_of(name.removesuffix("/64")) is not None
        except (ValueError, TypeError, LookupError, RecursionError):
            is_right = False
        if is_right:
            self._learn(name.removesuffix("/64"), left, cause, bans)
        else:
            self._log.error("bans in Redis: ignored what is not a ban")

    def _learned_points(self, content: bytes, learn: Callable[[str, float], None]) -> None:
        """Learn of points from another server, if the content is valid."""
        try:
            name, found = json.loads(content)
            points = {network.removesuffix("/64"): float(number) for network, number in found.items()}
            is_right = all(key_of(one) and -LARGEST < number < LARGEST for one, number in points.items())
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
            is_right = False
        if not is_right or len(points) > MOST_POINTS:
            self._log.error("bans in Redis: ignored what is not points")
        elif name != self._name:
            for network, number in points.items():
                learn(network, number)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end."""
    # redis-py mistakes a cancellation for its own if an answer arrives at the same moment.
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN)
