"""Quota accounts in Redis: one ledger for sites on several hosts.

Each session has a copy of the accounts in memory, on which accounts.py works as on the ledger of a host. A
transaction takes a turn at Redis, brings the copy up to date, and passes its changes to one script, which
applies all of them or none. The numbers of this host's sessions, and which of them have ended, are in the
ledger of the host; those of other hosts are not known here, so what their killed sessions have left is
settled there. Events stay in the ledgers of the hosts. What may not enter: what is counted. Facts: redis.io
on EVAL (a script runs alone), SET with NX and PX.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from _thread import RLock

from pysftpserver.formats import SHARED_LEDGER
from pysftpserver.site import ledger
from pysftpserver.site.ledger import Away, Busy
from pysftpserver.site.resp import Address, Connection, Lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, TypeAlias

    from pysftpserver.site.file import Site
    from pysftpserver.site.ledger import Ledger

    AnyLedger: TypeAlias = "Ledger | SharedLedger"

TURN_TIME = 10_000  # milliseconds after which a transaction of a vanished host is dropped
HELD_TIME = 600_000  # the same for a session's lock on a file
KEPT = 1000  # transactions by which a copy may be behind without being reloaded
TURN = b"shared turn"
TABLES = {"account": ("name", "place"), "change": ("id",)}  # with the columns of their keys

#: KEYS: turn, version, log, accounts, changes. ARGV: host, token, milliseconds (0: no turn), version.
#: Returns whether it is our turn, the version, and the changes since ours, or all rows.
BEGIN = """
if ARGV[3] ~= '0' then
  local held = redis.call('GET', KEYS[1])
  if held and string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return {0} end
  redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
end
local version = tonumber(redis.call('GET', KEYS[2]) or '0')
local behind = version - tonumber(ARGV[4])
if behind == 0 then return {1, version, {}} end
if behind > 0 and tonumber(ARGV[4]) >= 0 and behind <= redis.call('LLEN', KEYS[3]) then
  return {1, version, redis.call('LRANGE', KEYS[3], -behind, -1)}
end
return {1, version, false, redis.call('HVALS', KEYS[4]), redis.call('HVALS', KEYS[5])}
"""
#: KEYS: the same. ARGV: host and token, version, the log's line, how many lines are kept, the first version,
#: then the number of the table in KEYS, key and row ("": none) of each change. A first version is a time, so
#: that no copy from before a loss counts as current. Returns the version, or 0 if nothing was applied.
COMMIT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
local version = redis.call('GET', KEYS[2])
if (version or '0') ~= ARGV[2] then return 0 end
for at = 6, #ARGV, 3 do
  local key = KEYS[tonumber(ARGV[at])]
  if ARGV[at + 2] == '' then redis.call('HDEL', key, ARGV[at + 1])
  else redis.call('HSET', key, ARGV[at + 1], ARGV[at + 2]) end
end
redis.call('RPUSH', KEYS[3], ARGV[3])
redis.call('LTRIM', KEYS[3], -tonumber(ARGV[4]), -1)
if version then return redis.call('INCR', KEYS[2]) end
redis.call('SET', KEYS[2], ARGV[5])
return tonumber(ARGV[5])
"""
TAKE = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
return 1
"""
GIVE_BACK = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1"


class SharedLedger:
    """The accounts of a site in Redis, for a session in the ledger of this host.

    local: that ledger. connection: to Redis. prefix: of the site's keys. Methods are those of Ledger, and
    raise Busy while Redis is unreachable.
    """

    def __init__(self, local: Ledger, connection: Connection, prefix: str) -> None:
        self._local, self._connection = local, connection
        self._host = local.host()
        self.session = self._host << 32 | local.session
        self._owner = b"%d:" % self._host
        self._prefix = b"{%b}:" % prefix.encode()
        self._keys = [self._prefix + name for name in (b"turn", b"version", b"log", b"accounts", b"changes")]
        self._version = -1  # of the copy
        self._mutex = RLock()
        self._copy = _empty_copy()

    def close(self) -> None:
        """Close it, and the ledger of this host."""
        with self._mutex:
            self._connection.close()
            self._copy.close()
            self._local.close()

    def territory(self, below: Sequence[int] | None) -> Sequence[int] | None:
        """The directories that a sandbox has to allow. below: those of the storage."""
        return self._local.territory(below)

    def is_running(self, session: int) -> bool:
        """Whether a session has not ended, as far as this host knows."""
        host, number = session >> 32, session & 0xFFFFFFFF
        return host != self._host or self._local.is_running(number)

    # --- transactions -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def changing(self, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction. durable: without effect; durability is up to Redis's configuration."""
        with self._mutex, self._local.holding([self._prefix + TURN]):
            token = os.urandom(8).hex().encode()
            self._wait_for(lambda: self._catch_up(token), ledger.PATIENCE)
            self._copy.execute("BEGIN")
            try:
                yield self._copy
                self._commit(token)
            except BaseException as error:
                self._copy.execute("ROLLBACK")
                with contextlib.suppress(Busy):
                    self._eval(GIVE_BACK, self._keys[:1], self._owner + token)
                if isinstance(error, sqlite3.Error):
                    raise Busy(f"The ledger of this site cannot be written: {error}") from None
                raise

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows that a query finds."""
        with self._mutex:
            if not self._copy.in_transaction:
                self._catch_up(None)
            return self._copy.execute(query, values).fetchall()

    def _catch_up(self, token: bytes | None) -> bool:
        """Bring the copy up to date. token: take the turn, and return whether it is ours; None: do not."""
        words = (token or b"", TURN_TIME if token else 0, self._version)
        is_ours, *found = self._eval(BEGIN, self._keys, self._owner, *words)
        if not is_ours:
            return False
        version, lines, *rows = found
        if lines is None:
            self._check_format()
            self._copy.close()
            self._copy = _empty_copy()
            lines = [
                json.dumps([[table, None, json.loads(row)] for row in of_table]).encode()
                for table, of_table in zip(TABLES, rows, strict=True)
            ]
        with self._copy:
            for line in lines:
                for table, key, row in json.loads(line):
                    _apply(self._copy, table, key, row)
            self._copy.execute("DELETE FROM dirty")
        self._version = version
        return True

    def _commit(self, token: bytes) -> None:
        changes = []
        words: list[bytes | str | int] = []
        for table, key in self._copy.execute("SELECT kind, key FROM dirty").fetchall():
            row = _row(self._copy, table, json.loads(key))
            changes.append([table, json.loads(key), row])
            place = 4 + list(TABLES).index(table)
            words += [place, key, "" if row is None else json.dumps(row)]
        if changes:
            fixed = self._version, json.dumps(changes), KEPT, time.time_ns() // 1000
            version = self._eval(COMMIT, self._keys, self._owner + token, *fixed, *words)
            if not version:
                raise Busy("The ledger of this site was too slow; try again")
            self._version = version
        else:
            self._eval(GIVE_BACK, self._keys[:1], self._owner + token)
        self._copy.execute("DELETE FROM dirty")
        self._copy.execute("COMMIT")

    # --- locks ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def holding(self, names: Iterable[bytes], shared: Iterable[bytes] = ()) -> Iterator[None]:
        """A context in which no other session of any host holds any of the names. shared: those that other
        sessions of this host may share."""
        names = sorted(set(names))
        with self._mutex, self._local.holding([self._prefix + name for name in names], shared):
            token = os.urandom(8).hex().encode()
            keys = [self._prefix + b"held:" + name for name in names]
            taken = []
            try:
                for key in keys:
                    taken.append(key)
                    self._wait_for(lambda key=key: self._take(key, token), ledger.TURN_PATIENCE)
                yield
            finally:
                for key in taken:
                    with contextlib.suppress(Busy):  # it expires by itself
                        self._eval(GIVE_BACK, [key], self._owner + token)

    def _take(self, key: bytes, token: bytes) -> bool:
        return bool(self._eval(TAKE, [key], self._owner, token, HELD_TIME))

    def _check_format(self) -> None:
        """Raises Busy for keys that a newer version has written."""
        try:
            problem = SHARED_LEDGER.problem(self._connection.call("GET", self._prefix + b"format"))
        except Lost as error:
            raise _away(error) from None
        if problem is not None:
            raise Busy(f"The ledger of this site has {problem}")

    def _wait_for(self, condition: Any, patience: float) -> None:
        """Wait until a condition is true. A lock of this host must be left from a killed session, because
        its sessions wait for each other in the ledger of the host.
        """
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() >= deadline:
                words = f"Another host has held the ledger of this site for {patience:g} seconds"
                raise Busy(f"{words}; try again later")
            time.sleep(ledger.LATER_PAUSE)

    def _eval(self, script: str, keys: Sequence[bytes], *words: bytes | str | int) -> Any:
        try:
            return self._connection.call("EVAL", script, len(keys), *keys, *words)
        except Lost as error:
            raise _away(error) from None


def _away(error: Lost) -> Away:
    return Away(f"The ledger of this site cannot be reached: {error}; connect again later")


def connection_of(site: Site) -> tuple[Connection, str]:
    """A connection to the Redis of a site, and the prefix of its keys. Raises BadInput."""
    address, secret = Address(site.ledger or ""), ""
    if site.ledger_secret is not None:
        from pysftpserver.host.wholefiles import first_line

        secret = first_line(site.ledger_secret, site.top.at("ledger_secret") + ":")
    return Connection(address, secret), address.prefix


def _empty_copy() -> sqlite3.Connection:
    """The tables of a ledger in memory, and a table of the rows that were changed."""
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    for statement in ledger.TABLES.split(";\n"):
        copy.execute(statement)
    copy.execute("CREATE TABLE dirty (kind TEXT, key TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID")
    for table, columns in TABLES.items():
        for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            key = f"json_array({', '.join(f'{row}.{column}' for column in columns)})"
            copy.execute(
                f"CREATE TRIGGER {table}_{event} AFTER {event} ON {table} BEGIN"
                f" INSERT OR IGNORE INTO dirty VALUES ('{table}', {key}); END"
            )
    return copy


def _where(table: str) -> str:
    return " AND ".join(f"{column} = ?" for column in TABLES[table])


def _row(copy: sqlite3.Connection, table: str, key: list[Any]) -> list[Any] | None:
    """A row, with bytes encoded for JSON; None: it is gone."""
    row = copy.execute(f"SELECT * FROM {table} WHERE {_where(table)}", key).fetchone()
    return None if row is None else [{"hex": one.hex()} if isinstance(one, bytes) else one for one in row]


def _apply(copy: sqlite3.Connection, table: str, key: list[Any] | None, row: list[Any] | None) -> None:
    """Apply another session's change of a row. key: None if the copy has no such row."""
    if table not in TABLES:
        raise Busy("The ledger of this site has an unexpected form")
    if key is not None:
        copy.execute(f"DELETE FROM {table} WHERE {_where(table)}", key)
    if row is not None:
        values = [bytes.fromhex(one["hex"]) if isinstance(one, dict) else one for one in row]
        copy.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)
