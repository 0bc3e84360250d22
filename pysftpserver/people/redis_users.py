"""Users in Redis, held in memory and reloaded when the channel announces a change.

One task has one connection that listens and one that reads. It subscribes before it loads, so that no change
is missed, and starts over when either connection fails: loading finds what was missed. Meanwhile the server
keeps the last known users.
What may not enter: SSH, what the fields mean (redis_records.py).
Facts: docs/sshd.md, "In Redis", Redis's documentation of pub/sub and transactions.
"""

from __future__ import annotations

import asyncio
import random

from pysftpserver.failures import needed

with needed("sshd", "redis"):
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import NoPermissionError, ReadOnlyError, RedisError, WatchError

from pysftpserver.people import redis_records as records
from pysftpserver.people.redis_records import Refused
from pysftpserver.people.roster import shown
from pysftpserver.people.updating import UserDirectory, announce, in_steps, uncollected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.people.records import Record
    from pysftpserver.people.redis_records import RedisAddress
    from pysftpserver.people.users import User

PATIENCE = 5.0  # seconds for an answer
QUICK = 2.0  # seconds for an answer during a login
SHORTEST_PAUSE = 0.1  # seconds before the second try; doubled for each further one
LONGEST_PAUSE = 5.0
SILENCE = 15.0  # seconds without a message after which the connection is tested
MOST_TRIES = 20  # to store a folder while others write the same record


class RedisUsers(UserDirectory):
    """The users in a Redis database.

    An unreachable Redis is not an error: start() returns, trouble() says so, and there are no users until it
    can be reached. A Redis that refuses the password, the database or a command at the start is an error,
    because only other settings help. silence: seconds without a message until the connection is tested.
    """

    def __init__(
        self,
        address: RedisAddress,
        log: SFTPLog,
        *,
        patience: float = PATIENCE,
        longest_pause: float = LONGEST_PAUSE,
        silence: float = SILENCE,
    ) -> None:
        super().__init__(log)
        self._address = address
        self._longest_pause = longest_pause
        self._silence = silence
        self._patience = patience
        self._is_loaded = False
        self._bad_ids = 0
        self._tried = asyncio.Event()
        self._refusal: str | None = None

    async def start(self, on_change: Callable[[str], None]) -> None:
        """As the interface says. Raises Refused, a DirectoryError, when the settings are wrong."""
        self._on_change = on_change
        self._task = asyncio.create_task(self._run(), name="users in Redis")
        try:
            await self._tried.wait()
        except asyncio.CancelledError:
            await self.close()
            raise
        if self._refusal is not None:
            await self.close()
            raise Refused(self._refusal)

    def has(self, name: str) -> bool:
        """As the interface says."""
        return not self._is_loaded or super().has(name)

    async def use_code(self, user: User, step: int) -> bool:
        """As the interface says; False if Redis does not answer, because other servers could not be told."""
        client = Redis(**self._address.options(QUICK), retry=Retry(NoBackoff(), 0))
        try:
            is_new = await client.set(records.code_key(user.id, step), "1", nx=True, ex=records.CODE_SECONDS)
        except (RedisError, OSError, TimeoutError) as error:
            words, _ = records.words_of_failure(error)
            self._log.error(f"users in Redis at {self._address}: a one-time code cannot be checked: {words}")
            return False
        finally:
            await client.aclose()
        return bool(is_new)

    async def _run(self) -> None:
        """Listen until cancelled, on one connection after another."""
        pause = SHORTEST_PAUSE
        while True:
            self._is_connected = False
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                self._lost(error)
            except Exception as error:  # a fault in this program must not end the updates
                self._log.fault(error)
                self._lost(error)
            self._tried.set()
            if self._is_connected:
                pause = SHORTEST_PAUSE
            # Servers that lost the same Redis must not reconnect in step.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, self._longest_pause)

    async def _listen(self) -> None:
        """Connect, load, and follow the channel until that fails."""
        address = self._address
        # By itself, the library would reconnect and resubscribe, and lose the messages in between.
        client = Redis(**address.options(self._patience), retry=Retry(NoBackoff(), 0))
        try:
            async with client.pubsub() as subscription:
                await subscription.subscribe(address.channel)
                if await subscription.get_message(timeout=self._patience) is None:
                    raise TimeoutError
                with uncollected():
                    await self._load(client)
                self._back()
                await self._follow(client, subscription)
        finally:
            await client.aclose()

    async def _follow(self, client: Redis, subscription: Any) -> None:
        """Load each user that the channel names. A silent connection has to answer a ping."""
        is_asked = False
        while True:
            message = await subscription.get_message(timeout=self._silence)
            if message is None:
                if is_asked:
                    raise TimeoutError
                await subscription.ping()
                is_asked = True
                continue
            is_asked = False
            if message["type"] == "message":
                await self._changed(client, message["data"])

    async def _changed(self, client: Redis, data: object) -> None:
        id = records.parse_id(data)
        if id is None:
            self._log.error("users in Redis: ignored a message that is not a user's id")
            return
        if await client.sismember(records.USERS, id):
            (record,) = await self._records(client, [id])
        else:
            record = None
        await announce(self._roster.put(id, record), self._on_change, self._log)

    async def _load(self, client: Redis) -> None:
        """Load all users, and forget those that are gone."""
        ids, bad = records.parse_ids(await client.smembers(records.USERS))
        if bad and bad != self._bad_ids:
            self._log.error(f"users in Redis: ignored {bad} members of {records.USERS} that are not ids")
        self._bad_ids = bad
        found: list[Record] = []
        for some in records.chunks(ids):
            found += await self._records(client, some)
        names = await in_steps(self._roster.replacing(found))
        if self._is_loaded or self._trouble is not None:
            await announce(names, self._on_change, self._log)
        self._is_loaded = True
        await in_steps(self._roster.telling())

    async def _records(self, client: Redis, ids: Sequence[str]) -> list[Record]:
        """The records of some ids, with new folders for those who have none."""
        answers = await self._ask(client, ids)
        found = []
        for id, (values, members) in zip(ids, answers, strict=True):
            if records.wants_folder(values):
                values = await self._with_folder(client, id)
            found.append(records.parse_record(id, values, members))
        return found

    async def _ask(self, client: Redis, ids: Sequence[str]) -> list[tuple[Any, Any]]:
        """Fields and keys of some ids, read atomically for each user."""
        async with client.pipeline(transaction=True) as pipe:
            for id in ids:
                pipe.hmget(records.hash_key(id), records.FIELDS)
                pipe.smembers(records.set_key(id))
            answers = await pipe.execute(raise_on_error=False)
        return records.pairs(answers)

    async def _with_folder(self, client: Redis, id: str) -> Any:
        """Give a user a folder, unless another server just did; returns the fields."""
        key = records.hash_key(id)
        async with client.pipeline(transaction=True) as pipe:
            for _ in range(MOST_TRIES):
                try:
                    await pipe.watch(key)
                    if not await pipe.hexists(key, "name"):  # removed meanwhile
                        return [None] * len(records.FIELDS)
                    pipe.multi()  # type: ignore[no-untyped-call]
                    pipe.hsetnx(key, "folder", records.new_folder())
                    pipe.hmget(key, records.FIELDS)
                    is_new, values = await pipe.execute()
                except WatchError:
                    continue
                except (NoPermissionError, ReadOnlyError):
                    break  # Redis is read-only for us: only this user is affected
                if is_new:
                    self._log.info(f"user {shown(id)}: new folder {values[1].decode()}")
                return values
        return await client.hmget(key, records.FIELDS)

    def _lost(self, error: BaseException) -> None:
        words, is_refusal = records.words_of_failure(error)
        trouble = f"users in Redis at {self._address}: {words}"
        if is_refusal and not self._tried.is_set():
            self._refusal = trouble
            return
        kept = "the server keeps the last known users"
        self._say(f"{trouble}; {kept if self._is_loaded else 'logins are refused until it can be reached'}")

    def _back(self) -> None:
        self._is_connected = True
        if self._trouble is not None:
            self._log.info(f"users in Redis at {self._address}: connected again, and all users loaded anew")
            self._trouble = None
        self._tried.set()
