"""Assumptions that cannot be measured: what people do in a day, and the services behind the servers.

All other input of the simulation is in bench/recorded/costs.json. After you change a figure here, run `make
simulate` to write the tables of docs/scale.md anew.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass

MIB = 1 << 20
HOUR = 3600.0
EIGHT = 8 * HOUR
SEED = 24


@dataclass(frozen=True)
class People:
    """What users do in a day. A session is a login, files one after the other, and the end."""

    active: float = 0.6  # share of all users who log in on a day
    logins: int = 4  # of each active user
    burst: float = 300.0  # seconds after 08:00 within which every user's first login is
    begins: float = 6 * HOUR  # the other logins are between these two, most of them in the middle
    ends: float = 20 * HOUR
    puts: int = 2  # files stored in a session
    gets: int = 2  # files fetched in a session
    size: float = 0.5  # MiB of a file
    pause: float = 0.5  # seconds between two files, on average
    distance: float = 0.03  # seconds of a round trip to the server
    link: float = 50 / 8 * 1e6 / MIB  # MiB per second of a user's own line: 50 Mbit/s

    def sessions(self, users: int) -> int:
        """Number of sessions in a day."""
        return round(users * self.active) * self.logins

    def arrivals(self, users: int, chance: random.Random, until: float = 24 * HOUR) -> Iterator[float]:
        """The times of all logins of a day, unsorted. until: later ones are left out."""
        middle = (self.begins + self.ends) / 2
        for _ in range(round(users * self.active)):
            yield EIGHT + chance.uniform(0, self.burst)
            for _ in range(self.logins - 1):
                at = chance.triangular(self.begins, self.ends, middle)
                if at < until:
                    yield at


@dataclass(frozen=True)
class Behind:
    """The services behind the servers.

    latency: seconds of one request to the bucket or the database. requests: that it serves per second.
    bandwidth: its MiB per second. near: seconds of a round trip to Redis, in the same room. commands: that
    one Redis executes per second, one at a time.
    """

    latency: float
    requests: float
    bandwidth: float
    near: float = 0.0005
    commands: float = 80_000.0


#: A cloud's object store: slow answers, but nearly any number of them. One GridFS database: fast, but only
#: one.
STORES = {
    "jail": Behind(latency=0.0002, requests=20_000, bandwidth=2000.0),
    "GridFS": Behind(latency=0.002, requests=8_000, bandwidth=600.0),
    "object store": Behind(latency=0.03, requests=5_500, bandwidth=12_000.0),
}


@dataclass(frozen=True)
class Site:
    """What an administrator sets up.

    machines: servers behind a TCP balancer. processors, workers: of each. network: MiB per second of each.
    login_share: of pysftpd. store: a name in STORES. quota: whether each stored file is counted in Redis;
    ledgers: number of site files, each of which has its own ledger.
    """

    machines: int = 1
    processors: int = 2
    workers: int = 2
    network: float = 1e9 / 8 / MIB  # 1 Gbit/s
    login_share: float = 0.5
    store: str = "object store"
    quota: bool = False
    ledgers: int = 1

    def but(self, **changes: object) -> Site:
        """The same with other values."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]
