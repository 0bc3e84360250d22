"""A small load on a real server, and the same load simulated, to see how reliable the simulation is.

    python -m bench.simulation.load [--json FILE] [--little]

One pysftpd with one worker, its users in a real redis-server, and one to eight clients, each of which
repeatedly logs in with OpenSSH's ssh, stores and fetches small files and leaves. Clients use the same
processors, so their processor time is measured and simulated as well. The results go to
bench/recorded/load.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.costs import machine, rounded, top_directory
from bench.costs_clients import SMALL
from bench.costs_doors import Door
from bench.costs_storages import pysftpd_jail
from bench.meter import Meter
from bench.simulation.assumptions import Site
from bench.simulation.costs import RECORDED, Costs, costs_of
from bench.simulation.events import Clock, Process
from bench.simulation.runs import quantile
from bench.simulation.servers import ROUNDS, System

FILES = 5  # files that each session stores and fetches
CLIENTS = (1, 2, 4, 8)
SECONDS = 10.0  # for each number of clients
TOLERANCE = 0.25  # how far the simulation of several clients may be off, as a share of the measurement
BEGINS = 0.75  # share of a client's work that is the start of ssh and its login


def one_session(door: Door, number: int) -> float:
    """Run one session of one client; return the seconds until it had begun."""
    began = time.perf_counter()
    session = door.session()
    login = time.perf_counter() - began
    for file in range(FILES):
        session.put(f"client{number}-{file}", SMALL)
        session.get(f"client{number}-{file}")
    session.close()
    return login


def measured(door: Door, clients: int, seconds: float) -> dict[str, float]:
    """What a number of simultaneous clients get done, and what they and the server use for it."""
    until = time.perf_counter() + seconds
    lock = threading.Lock()
    whole, logins = array("d"), array("d")
    failures: list[BaseException] = []

    def client(number: int) -> None:
        try:
            while time.perf_counter() < until:
                began = time.perf_counter()
                login = one_session(door, number)
                with lock:
                    whole.append(time.perf_counter() - began)
                    logins.append(login)
        except Exception as error:
            failures.append(error)

    def all_clients() -> None:
        threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    before, began = os.times(), time.perf_counter()
    taken: list[float] = []

    def work() -> None:
        all_clients()
        taken.append(time.perf_counter() - began)

    # The meter waits until the server rests, which only `before` includes.
    used = Meter(*door.pids()).used(work)
    if failures:
        raise failures[0]
    after = os.times()
    spent = sum(after[:4]) - sum(before[:4])
    return {
        "clients": clients,
        "sessions": len(whole),
        "rate": len(whole) / sum(whole) * clients,
        "session": sum(whole) / len(whole),
        "session_slow": quantile(whole, 0.95),
        "login": sum(logins) / len(logins),
        "client_processor": spent / len(whole),
        "server_processor": used.total / len(whole),
        "busiest_processor": used.busiest / len(whole),
    }


def simulated(
    costs: Costs, clients: int, client: float, wait: float, processors: int, seconds: float
) -> dict[str, float]:
    """The same load in the model. client: processor seconds that one client needs for a session. wait:
    seconds of a session without need for a processor.
    """
    clock = Clock()
    site = Site(processors=processors, workers=1, store="jail")
    system = System(clock, site, costs)
    here = system.machines[0]
    (worker,) = here.workers
    whole, logins = array("d"), array("d")

    def one() -> Process:
        while clock.now < seconds:
            began = clock.now
            part = client * BEGINS / (ROUNDS + 1)
            for _ in range(ROUNDS):
                yield wait / ROUNDS
                yield here.processors.job(part)
                yield from worker.serve_stranger(costs.login * (1 / ROUNDS))
            yield here.processors.job(part)
            yield from worker.serve(costs.session)
            logins.append(clock.now - began)
            for _ in range(FILES):
                for cost in (costs.put, costs.get):
                    yield here.processors.job(client * (1 - BEGINS) / FILES / 2)
                    yield from worker.serve(cost)
            whole.append(clock.now - began)

    for _ in range(clients):
        clock.start(one(), 0.0)
    clock.run()
    return {
        "rate": len(whole) / sum(whole) * clients,
        "session": sum(whole) / len(whole),
        "session_slow": quantile(whole, 0.95),
        "login": sum(logins) / len(logins),
    }


def compared(found: dict[str, Any]) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Each recorded measurement, with its simulation.

    The time for which a session waits without a processor is taken from the measurement with one client; the
    others are predicted.
    """
    costs = costs_of(found["costs"])
    alone = found["loads"][0]
    wait = max(0.0, alone["session"] - alone["client_processor"] - alone["server_processor"])
    pairs = []
    for row in found["loads"]:
        given = int(row["clients"]), row["client_processor"], wait, found["processors"], found["seconds"]
        pairs.append((row, simulated(costs, *given)))
    return pairs


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    from bench import costs as bench_costs

    parser = argparse.ArgumentParser(prog="bench.simulation.load")
    parser.add_argument("--json", type=Path, default=RECORDED / "load.json", metavar="FILE")
    parser.add_argument("--little", action="store_true", help="do little, to see that it works")
    given = parser.parse_args(arguments)
    sizes = bench_costs.LITTLE if given.little else bench_costs.Sizes()
    clients, seconds = ((1, 2), 1.0) if given.little else (CLIENTS, SECONDS)
    with contextlib.ExitStack() as stack:
        top = stack.enter_context(top_directory())
        door = stack.enter_context(pysftpd_jail(top))
        # A machine's speed changes within minutes: the costs are measured in the same run.
        found: dict[str, Any] = {"costs": bench_costs.measured(door, sizes), "loads": []}
        for count in clients:
            print(f"{count} clients", file=sys.stderr)
            found["loads"].append(measured(door, count, seconds))
    found.update(
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        machine=machine(),
        processors=len(os.sched_getaffinity(0)),
        seconds=seconds,
    )
    given.json.write_text(json.dumps(rounded(found), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
