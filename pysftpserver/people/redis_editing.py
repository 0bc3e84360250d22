"""The editor of users in Redis: optimistic transactions whose last command notifies the servers.

A new id is higher than all existing ones, and than the id of a script that counts the set's members; the ids
are watched until it is written. A script that counted before and writes afterwards can still take the same
id.
What may not enter: asyncio, what the fields mean (redis_records.py).
Facts: docs/sshd.md, "In Redis", Redis's documentation of transactions (WATCH).
"""

from __future__ import annotations

from contextlib import contextmanager

from pysftpserver.failures import needed

with needed("sshd", "redis"):
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

from pysftpserver.formats import REDIS_USER
from pysftpserver.people import redis_records as records
from pysftpserver.people.editing import Change, UsersEditor, usable, with_keys
from pysftpserver.people.roster import id_order, shown
from pysftpserver.people.users import DirectoryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from pysftpserver.people.records import Record
    from pysftpserver.people.redis_records import RedisAddress
    from pysftpserver.people.users import User

PATIENCE = 5.0  # seconds for an answer
MOST_TRIES = 100  # of a transaction, while others write the same keys


def connect(address: RedisAddress) -> redis.Redis:
    """A blocking client that does not retry."""
    return redis.Redis(**address.options(PATIENCE), retry=Retry(NoBackoff(), 0))


@contextmanager
def told(address: RedisAddress) -> Iterator[None]:
    """Turn failures of Redis into DirectoryError, with one line without secrets."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        words, is_refusal = records.words_of_failure(error)
        kind = records.Refused if is_refusal else DirectoryError
        raise kind(f"users in Redis at {address}: {words}") from None


class Reader:
    """Reads users, and caches nothing."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def ids(self) -> list[str]:
        """All ids, lowest first."""
        raw: Any = self._client.smembers(records.USERS)
        return sorted(records.parse_ids(raw)[0], key=id_order)

    def record(self, id: str) -> Record:
        """One user's record, read atomically, with a new folder if there was none."""
        values, members = self._ask([id])[0]
        if records.wants_folder(values):
            self._client.hsetnx(records.hash_key(id), "folder", records.new_folder())
            values, members = self._ask([id])[0]
        return records.parse_record(id, values, members)

    def all(self) -> list[Record]:
        """All records in the order of names. A user without a folder is unusable here."""
        found: list[Record] = []
        for some in records.chunks(self.ids()):
            answers = zip(some, self._ask(some), strict=True)
            found += [records.parse_record(id, values, members) for id, (values, members) in answers]
        return sorted(found, key=lambda record: (record.name, id_order(record.id)))

    def id_of(self, name: str) -> str | None:
        """The lowest id with that name."""
        for some in records.chunks(self.ids()):
            with self._client.pipeline(transaction=False) as pipe:
                for id in some:
                    pipe.hget(records.hash_key(id), "name")
                answers = pipe.execute(raise_on_error=False)
            for id, answer in zip(some, answers, strict=True):
                if answer == name.encode("utf-8", "surrogateescape"):
                    return id
                if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
                    raise answer
        return None

    def _ask(self, ids: Sequence[str]) -> list[tuple[Any, Any]]:
        with self._client.pipeline(transaction=True) as pipe:
            for id in ids:
                pipe.hmget(records.hash_key(id), records.FIELDS)
                pipe.smembers(records.set_key(id))
            answers = pipe.execute(raise_on_error=False)
        return records.pairs(answers)


class RedisEditor(UsersEditor):
    """Users in a Redis database. Raises DirectoryError at once when it cannot be reached."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._client = connect(address)
        self._reader = Reader(self._client)

    def close(self) -> None:
        self._client.close()

    def records(self) -> list[Record]:
        with told(self._address):
            return self._reader.all()

    def _new_folder(self, name: str) -> str:
        return records.new_folder()

    def _add(self, name: str, keys: list[str], fields: dict[str, str]) -> User:
        fields = {"name": name, "active": "True", **fields}

        def write(pipe: Any) -> str:
            pipe.watch(records.USERS)
            if self._reader.id_of(name) is not None:
                raise DirectoryError(f"there is already a user named {shown(name)}")
            id = self._free_id(pipe)
            pipe.multi()
            pipe.sadd(records.USERS, id)
            pipe.hset(records.hash_key(id), mapping=fields)
            if keys:
                pipe.sadd(records.set_key(id), *keys)
            return id

        return self._user(self._transaction(write))

    def _change(self, name: str, change: Change) -> User:
        active = None if change.is_active is None else str(change.is_active)
        fields = {
            "folder": change.folder,
            "storage": change.storage,
            "run_as": change.run_as,
            "site": change.site,
            "principals": change.principals,
            "networks": change.networks,
            "active": active,
            "password": change.password,
            "totp": change.totp,
            "methods": None if change.methods is None else " ".join(change.methods),
        }
        gone = [field for field, value in fields.items() if value == ""]
        new = {field: value for field, value in fields.items() if value}

        def write(pipe: Any) -> str:
            id = self._watched(pipe, name)
            members = {raw.decode("utf-8", "surrogateescape") for raw in pipe.smembers(records.set_key(id))}
            wanted = set(with_keys(sorted(members), change.add_keys, change.remove_keys))
            pipe.multi()
            if new:
                pipe.hset(records.hash_key(id), mapping=new)
            if gone:
                pipe.hdel(records.hash_key(id), *gone)
            for command, keys in ((pipe.srem, members - wanted), (pipe.sadd, wanted - members)):
                if keys:
                    command(records.set_key(id), *(key.encode("utf-8", "surrogateescape") for key in keys))
            return id

        return self._user(self._transaction(write))

    def remove(self, name: str) -> None:
        def write(pipe: Any) -> str:
            id = self._watched(pipe, name)
            pipe.multi()
            pipe.srem(records.USERS, id)
            pipe.delete(records.hash_key(id), records.set_key(id))
            return id

        self._transaction(write)

    def _transaction(self, write: Callable[[Any], str]) -> str:
        """Write in a transaction, retried while others write too, and notify the servers; returns the id."""
        with told(self._address):
            for _ in range(MOST_TRIES):
                with self._client.pipeline(transaction=True) as pipe:
                    id = write(pipe)
                    pipe.publish(self._address.channel, id)
                    try:
                        pipe.execute()
                    except redis.WatchError:
                        continue
                    return id
        raise DirectoryError("others keep changing the users; try again")

    def _watched(self, pipe: Any, name: str) -> str:
        """The id of a user, whose data the transaction watches from now on."""
        pipe.watch(records.USERS)
        id = self._reader.id_of(name)
        if id is None:
            raise DirectoryError(f"no user named {shown(name)}")
        pipe.watch(records.hash_key(id), records.set_key(id))
        if pipe.hget(records.hash_key(id), "name") != name.encode():
            raise DirectoryError(f"user {shown(name)} was renamed just now; try again")
        problem = REDIS_USER.problem(pipe.hget(records.hash_key(id), "version"))
        if problem is not None:
            raise DirectoryError(f"user {shown(name)}: {problem}")
        return id

    def _free_id(self, pipe: Any) -> str:
        """An id that neither a user nor left-over data has."""
        ids = self._reader.ids()
        numbers = [int(id) for id in ids if id.isascii() and id.isdecimal()]
        id = max([*numbers, pipe.scard(records.USERS)]) + 1
        while True:
            keys = records.hash_key(str(id)), records.set_key(str(id))
            pipe.watch(*keys)
            if not pipe.exists(*keys):
                return str(id)
            id += 1

    def _user(self, id: str) -> User:
        """The user as now in Redis. Raises DirectoryError."""
        with told(self._address):
            return usable(self._reader.record(id), id)
