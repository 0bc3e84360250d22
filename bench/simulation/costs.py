"""Measured costs for the simulation, from bench/recorded/costs.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parents[1] / "recorded"
KINDS = ("login", "session", "request", "put", "get", "up", "down")
SMALL = 16 / 1024  # MiB of the files that "put" and "get" transfer


@dataclass(frozen=True)
class Cost:
    """Seconds of processor time: of the process that does a connection's SSH, one thing at a time, and of
    others. trips: requests to the service behind the storage.
    """

    worker: float
    others: float = 0.0
    trips: float = 0.0

    def __add__(self, more: Cost) -> Cost:
        return Cost(self.worker + more.worker, self.others + more.others, self.trips + more.trips)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.worker * times, self.others * times, self.trips * times)


@dataclass(frozen=True)
class Costs:
    """Costs of one door with one storage. login, session: of one. up, down: of one MiB."""

    login: Cost
    session: Cost
    request: Cost
    put: Cost
    get: Cost
    up: Cost
    down: Cost

    def stored(self, mebibytes: float) -> Cost:
        """A file that is stored."""
        return self.put + self.up * max(0.0, mebibytes - SMALL)

    def fetched(self, mebibytes: float) -> Cost:
        """A file that is fetched."""
        return self.get + self.down * max(0.0, mebibytes - SMALL)


@dataclass(frozen=True)
class Ledger:
    """What a quota in Redis adds to a stored file: processor time, scripts and commands in Redis."""

    processor: float
    scripts: float
    commands: float


def recorded(name: str) -> dict[str, Any]:
    """The last recorded results under a name."""
    found: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return found


def costs_of(row: dict[str, Any]) -> Costs:
    """The costs in a recorded row."""
    trips = [made for service, made in row["trips"].items() if service != "Redis"]

    def cost(kind: str) -> Cost:
        total = row["seconds"].get(kind, 0.0)
        worker = min(total, row["busiest"].get(kind, total))
        return Cost(worker, total - worker, sum(sum(made.get(kind, {}).values()) for made in trips))

    return Costs(*map(cost, KINDS))


def pysftpd(store: str) -> Costs:
    """The costs of pysftpd, with users in Redis and files in a store."""
    return costs_of(recorded("costs")["pysftpd and Redis"][store])


def ledger() -> Ledger:
    """The costs of a quota."""
    rows = recorded("costs")["storages"]
    with_it, without = rows["jail, rules and quota in Redis"], rows["jail"]
    made = with_it["trips"]["Redis"]["put"]
    more = with_it["seconds"]["put"] - without["seconds"]["put"]
    return Ledger(max(0.0, more), made.get("eval", 0.0), sum(made.values()))
