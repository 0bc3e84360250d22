"""The model: machines behind a balancer, the services behind them, and what a session does there.

A worker of pysftpd does the SSH of its clients one thing at a time, on any processor; sessions' processes and
threads use the others. Strangers get a share of a worker, as service/turns.py grants it. A request to a store
occupies one of a worker's threads. Redis executes one command at a time, and a quota's ledger admits one
session of all machines at a time. What may not enter: figures.
"""

from __future__ import annotations

import random
from array import array
from dataclasses import dataclass, field

from bench.simulation.assumptions import STORES, Behind, People, Site
from bench.simulation.costs import Cost, Costs, Ledger
from bench.simulation.events import Clock, Process, Station
from pysftpserver.service.threads import THREADS
from pysftpserver.service.turns import AT_ONCE

ROUNDS = 3  # of a login, in each of which the client waits for the server


class Worker:
    """One process of pysftpd that serves."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine = machine
        self._share = machine.site.login_share
        self.loop = Station(machine.clock, 1, f"{name}, event loop")
        self.door = Station(machine.clock, 1, f"{name}, login_share")
        self.threads = Station(machine.clock, THREADS, f"{name}, threads")
        self._taken = self._since = 0.0
        self.strangers = 0.0  # seconds of work for them

    def serve(self, cost: Cost) -> Process:
        """Work for a client that has logged in."""
        yield self.loop.claim()
        yield self._machine.processors.job(cost.worker)
        self.loop.leave()
        if cost.others:
            yield self._machine.processors.job(cost.others)

    def serve_stranger(self, cost: Cost) -> Process:
        """A round of a login: strangers have turns, and a share of the time."""
        clock = self._machine.clock
        yield self.door.claim()
        wait = (self._taken - AT_ONCE) / self._share - (clock.now - self._since)
        if wait > 0:
            yield wait
        yield from self.serve(cost)
        earned = (clock.now - self._since) * self._share
        self._taken = max(0.0, self._taken - earned) + cost.worker
        self._since = clock.now
        self.strangers += cost.worker
        self.door.leave()


class Machine:
    """Processors, workers and a network card. New connections go to each worker in turn."""

    def __init__(self, clock: Clock, site: Site, name: str) -> None:
        self.clock, self.site = clock, site
        self.processors = Station(clock, site.processors, f"{name}, processors")
        self.network = Station(clock, 1, f"{name}, network")
        self.workers = [Worker(self, f"{name}.{number}") for number in range(site.workers)]
        self.sessions = Station(clock, 1 << 30, f"{name}, sessions")


@dataclass
class Times:
    """Durations that users experienced, in seconds."""

    login: array[float] = field(default_factory=lambda: array("d"))  # until the session has begun
    file: array[float] = field(default_factory=lambda: array("d"))


class System:
    """All parts of one simulation."""

    def __init__(self, clock: Clock, site: Site, costs: Costs, ledger: Ledger | None = None) -> None:
        self.clock, self.site, self.costs = clock, site, costs
        self._ledger = ledger if site.quota else None
        self._behind: Behind = STORES[site.store]
        at_once = max(1, round(self._behind.requests * self._behind.latency))
        self.store = Station(clock, at_once, f"{site.store}, requests")
        self.store_network = Station(clock, 1, f"{site.store}, network")
        self.redis = Station(clock, 1, "Redis")
        self.ledgers = [Station(clock, 1, f"ledger {number}") for number in range(site.ledgers)]
        self.machines = [Machine(clock, site, f"machine {number}") for number in range(site.machines)]
        self._workers = [(machine, worker) for machine in self.machines for worker in machine.workers]
        self._next = 0
        self.times = Times()

    def stations(self) -> dict[str, list[Station]]:
        """All stations, by kind."""
        workers = [worker for machine in self.machines for worker in machine.workers]
        return {
            "processors": [machine.processors for machine in self.machines],
            "event loops": [worker.loop for worker in workers],
            "threads": [worker.threads for worker in workers],
            "network": [machine.network for machine in self.machines],
            "store": [self.store],
            "the store's network": [self.store_network],
            "Redis": [self.redis],
            "ledgers": self.ledgers,
        }

    def login_share(self) -> float:
        """The busiest worker's time for strangers, as a share of what it may spend on them."""
        return max(worker.strangers for _, worker in self._workers) / self.site.login_share

    def session(self, people: People, chance: random.Random) -> Process:
        """One user: log in, transfer files, leave."""
        clock, costs = self.clock, self.costs
        machine, worker = self._workers[self._next % len(self._workers)]
        self._next += 1
        began = clock.now
        yield machine.sessions.claim()
        yield people.distance  # TCP
        part = costs.login * (1 / ROUNDS)
        for _ in range(ROUNDS):
            yield from worker.serve_stranger(part)
            yield people.distance
        yield from worker.serve(costs.session)
        yield people.distance
        self.times.login.append(clock.now - began)
        kinds = ["put"] * people.puts + ["get"] * people.gets
        for kind in kinds:
            began = clock.now
            yield people.distance + people.size / people.link
            yield machine.network.job(people.size / self.site.network)
            yield self.store_network.job(people.size / self._behind.bandwidth)
            cost = costs.stored(people.size) if kind == "put" else costs.fetched(people.size)
            yield from worker.serve(cost)
            yield from self._ask(worker, cost.trips, chance)
            if kind == "put" and self._ledger is not None:
                yield from self._count(worker, self._ledger, chance)
            self.times.file.append(clock.now - began)
            yield chance.expovariate(1 / people.pause)
        machine.sessions.leave()

    def _ask(self, worker: Worker, trips: float, chance: random.Random) -> Process:
        """Requests to the store, each of which takes a random time around the usual latency."""
        count = int(trips) + (chance.random() < trips % 1)
        for _ in range(count):
            yield worker.threads.claim()
            yield self.store.job(chance.expovariate(1 / self._behind.latency))
            worker.threads.leave()

    def _count(self, worker: Worker, ledger: Ledger, chance: random.Random) -> Process:
        """Count a stored file in a ledger, which admits one session at a time."""
        turn = self.ledgers[chance.randrange(len(self.ledgers))]
        yield worker.threads.claim()
        yield turn.claim()
        yield from worker.serve(Cost(ledger.processor))
        for _ in range(round(ledger.scripts)):
            yield self._behind.near
            yield self.redis.job(ledger.commands / ledger.scripts / self._behind.commands)
        turn.leave()
        worker.threads.leave()
