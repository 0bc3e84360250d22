"""Measures what logins, sessions, requests, files and bytes cost a server, at each door and on each storage.

    python -m bench.costs [--only WORDS] [--json FILE] [--little]

Costs are processor time of all processes of the server, user and system, as the kernel counts it; clients and
the services behind a storage do not count. Memory is PSS, of sessions that have only begun. Round trips are
counted at the services: commands of redis-server, commands to MongoDB, requests to the object store.
The results go to bench/recorded/costs.json, from which `make docs-tables` writes the tables of docs/scale.md.
With --only, the other rows of that file stay as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import costs_doors as doors
from bench import costs_storages as storages
from bench.costs_clients import BLOCK, SMALL, Session
from bench.costs_doors import Door
from bench.meter import Meter, Used
from tests.sshd.redis_server import put_user

RECORDED = Path(__file__).parent / "recorded" / "costs.json"
Started = Callable[[Path], AbstractContextManager[Door]]
DOORS: dict[str, Started] = {
    "sshd, internal-sftp": doors.internal_sftp,
    "sshd, pysftpjail": doors.stdio,
    "sshd, pysftpjail with pysftp-warm": doors.warm,
    "pysftpd": doors.pysftpd,
    "pysftpd, sessions at rest": doors.at_rest,
    "pysftpd, isolation = thread": doors.in_threads,
    "pysftpweb (WebDAV)": doors.web,
    "pysftpremo": doors.remo,
}
STORAGES: dict[str, Started] = {
    "jail": storages.jail,
    "jail, rules and quota": storages.site,
    "jail, rules and quota in Redis": storages.site_in_redis,
    "GridFS": storages.gridfs,
    "object store": storages.objects,
    "another SFTP server": storages.proxy,
}
BEHIND: dict[str, Started] = {
    "jail": storages.pysftpd_jail,
    "GridFS": storages.pysftpd_gridfs,
    "object store": storages.pysftpd_objects,
}
GROUPS = {"doors": DOORS, "storages": STORAGES, "pysftpd and Redis": BEHIND}


@dataclass(frozen=True)
class Sizes:
    """How often each piece of work is done, and how many blocks of 32 KiB a transfer has."""

    logins: int = 30
    sessions: int = 20
    looks: int = 5000
    files: int = 500
    blocks: int = 2048
    idle: int = 20
    rest: float = 4.0  # seconds until sessions are at rest
    synced: int = 300
    users: int = 20_000

    @property
    def mebibytes(self) -> float:
        """The size of a transfer in MiB."""
        return self.blocks * len(BLOCK) / (1 << 20)


LITTLE = Sizes(logins=2, sessions=2, looks=20, files=3, blocks=8, idle=2, rest=0.0, synced=3, users=20)


class Measuring:
    """Measures one door with one storage. found: the results to record."""

    def __init__(self, door: Door, sizes: Sizes) -> None:
        self._door, self._sizes = door, sizes
        self._seconds: dict[str, float] = {}
        self._busiest: dict[str, float] = {}
        self._trips: dict[str, dict[str, dict[str, float]]] = {one.name: {} for one in door.trips}
        self.found: dict[str, Any] = {
            "seconds": self._seconds,
            "busiest": self._busiest,
            "trips": self._trips,
        }

    def everything(self) -> None:
        """Measure it."""
        door, sizes = self._door, self._sizes
        with contextlib.closing(door.session()) as first:  # warm-up: work that is only done once
            first.put("warm", SMALL)
        log_in = door.login
        if log_in is not None:
            self._note("login", sizes.logins, lambda: _repeat(sizes.logins, log_in))
        self._note("session", sizes.sessions, lambda: _repeat(sizes.sessions, self._session), "login")
        with contextlib.closing(door.session()) as session:
            self._transfers(session)
        self.found["idle"] = self._idle()

    def _session(self) -> None:
        self._door.session().close()

    def _transfers(self, session: Session) -> None:
        sizes = self._sizes
        session.put("small", SMALL)
        self._note("request", sizes.looks, lambda: _repeat(sizes.looks, lambda: session.look("small")))
        numbers = range(sizes.files)
        self._note("put", sizes.files, lambda: [session.put(f"file{number}", SMALL) for number in numbers])
        self._note("get", sizes.files, lambda: [session.get(f"file{number}") for number in numbers])
        self._note("up", sizes.mebibytes, lambda: session.up("big", sizes.blocks))
        self._note("down", sizes.mebibytes, lambda: session.down("big", sizes.blocks))

    def _note(self, kind: str, count: float, work: Callable[[], object], less: str = "") -> None:
        """Measure work that does something `count` times. less: a kind of work that each of them includes."""
        before = [counter.read() for counter in self._door.trips]
        used = Meter(*self._door.pids()).used(work)
        for counter, then in zip(self._door.trips, before, strict=True):
            each = {name: calls / count for name, calls in sorted((counter.read() - then).items())}
            self._trips[counter.name][kind] = {name: made for name, made in each.items() if made >= 0.01}
        # Sessions without a server were child processes of this one, and have ended.
        total = used.total if self._door.is_server else max(used.total, used.children)
        self._seconds[kind] = max(0.0, total / count - self._seconds.get(less, 0.0))
        self._busiest[kind] = max(0.0, used.busiest / count - self._busiest.get(less, 0.0))

    def _idle(self) -> dict[str, float]:
        """Memory, descriptors and processes of a session that does nothing."""
        before = Meter(*self._door.pids()).held()
        with contextlib.ExitStack() as stack:
            for _ in range(self._sizes.idle):
                stack.enter_context(contextlib.closing(self._door.session()))
            # Only time distinguishes a session at rest from one that has begun.
            time.sleep(self._sizes.rest)
            after = Meter(*self._door.pids()).held()
        count = self._sizes.idle
        return {
            "memory": (after.memory - before.memory) / count,
            "descriptors": (after.descriptors - before.descriptors) / count,
            "processes": (after.processes - before.processes) / count,
            "server": before.memory,
        }


def measured(door: Door, sizes: Sizes) -> dict[str, Any]:
    """What a door and a storage cost: seconds of processor time of each kind of work, memory, round trips."""
    measuring = Measuring(door, sizes)
    measuring.everything()
    return measuring.found


def _repeat(count: int, work: Callable[[], object]) -> None:
    for _ in range(count):
        work()


def syncing(top: Path, sizes: Sizes) -> dict[str, Any]:
    """The same for SK Sync, where a login and a session are a sync that finds nothing to do."""
    with contextlib.ExitStack() as stack:
        server = doors.Syncing(top, stack)
        meter = Meter(server.pid)
        server.sync("to")
        seconds: dict[str, float] = {}
        busiest: dict[str, float] = {}

        def note(kind: str, count: float, used: Used) -> None:
            """Note the cost beyond that of a sync that transfers nothing."""
            seconds[kind] = max(0.0, used.total - seconds.get("login", 0.0)) / count
            busiest[kind] = max(0.0, used.busiest - busiest.get("login", 0.0)) / count

        note("login", sizes.sessions, meter.used(lambda: _repeat(sizes.sessions, lambda: server.sync("to"))))
        for number in range(sizes.synced):
            (server.here / f"file{number}").write_bytes(SMALL)
        note("put", sizes.synced, meter.used(lambda: server.sync("to")))
        _empty(server.here)
        note("get", sizes.synced, meter.used(lambda: server.sync("from")))
        _empty(server.here)
        _empty(server.there)
        (server.here / "big").write_bytes(BLOCK * sizes.blocks)
        note("up", sizes.mebibytes, meter.used(lambda: server.sync("to")))
        _empty(server.here)
        note("down", sizes.mebibytes, meter.used(lambda: server.sync("from")))
        return {"seconds": seconds, "busiest": busiest, "trips": {}, "idle": {"server": meter.held().memory}}


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


def knowing(top: Path, sizes: Sizes) -> dict[str, Any]:
    """What each user in Redis costs a server that serves none of them, but knows them all."""
    few, many = (known(top, count) for count in (0, sizes.users))
    each = {name: (many[name] - few[name]) / sizes.users for name in many}
    return {"users": sizes.users, **each}


def known(top: Path, count: int) -> dict[str, float]:
    """What a server that knows `count` users costs."""
    place = top / str(count)
    place.mkdir()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(storages.redis_server())
        client = stack.enter_context(contextlib.closing(server.client()))
        standalone = doors.Standalone(place)
        with client.pipeline(transaction=False) as pipe:
            for number in range(count):
                put_user(pipe, number, f"user{number}", standalone.public, folder=f"user{number}")
            pipe.execute()
        commands = storages.RedisCommands(client)
        before, spent = commands.read(), commands.seconds()
        meter = Meter(standalone.start(stack, "bans", **storages.redis_options(server)))
        processor = meter.spent()  # once it has read them
        return {
            "processor": processor,
            "memory": meter.held().memory,
            "commands": sum((commands.read() - before).values()),
            "redis": commands.seconds() - spent,
        }


def machine() -> dict[str, str]:
    """The machine on which the costs were measured."""
    model = "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.strip()
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True).stdout
    return {
        "processor": f"{os.cpu_count()} of {model}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "openssh": ssh.split(",")[0],
        "redis": next((word[2:] for word in redis.split() if word.startswith("v=")), "unknown"),
        "asyncssh": importlib.metadata.version("asyncssh"),
    }


def everything(sizes: Sizes, only: str, say: Callable[[str], None]) -> Iterator[tuple[str, str, Any]]:
    """Yield (group, name, results) of all rows whose group and name contain `only`."""
    for group, rows in GROUPS.items():
        for name, start in rows.items():
            if only in f"{group}: {name}":
                say(f"{group}: {name}")
                with top_directory() as top, start(top) as door:
                    yield group, name, measured(door, sizes)
    for group, name, work in (("doors", "pysksync", syncing), ("users", "in Redis", knowing)):
        if only in f"{group}: {name}":
            say(f"{group}: {name}")
            with top_directory() as top:
                yield group, name, work(top, sizes)


@contextlib.contextmanager
def top_directory() -> Iterator[Path]:
    """A directory for the files of a row, in memory if possible."""
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="pysftpserver-costs-", dir=shared) as name:
        yield Path(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench.costs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="only the rows whose names have these words"
    )
    parser.add_argument("--json", type=Path, default=RECORDED, metavar="FILE", help="where the results go")
    parser.add_argument("--little", action="store_true", help="do little of everything, to see that it works")
    given = parser.parse_args(arguments)
    kept: dict[str, Any] = json.loads(given.json.read_text()) if given.only and given.json.exists() else {}
    sizes = LITTLE if given.little else Sizes()
    count = 0
    for group, name, found in everything(sizes, given.only, functools.partial(print, file=sys.stderr)):
        kept.setdefault(group, {})[name] = rounded(found)
        count += 1
    if not count:
        parser.error(f"no row has {given.only!r} in its name")
    kept.update(
        date=time.strftime("%Y-%m-%d", time.gmtime()), machine=machine(), sizes=dataclasses.asdict(sizes)
    )
    given.json.parent.mkdir(exist_ok=True)
    given.json.write_text(json.dumps(kept, indent=1) + "\n")
    return 0


def rounded(found: Any) -> Any:
    """Round floats to four significant digits."""
    if isinstance(found, dict):
        return {name: rounded(value) for name, value in found.items()}
    if isinstance(found, list):
        return [rounded(value) for value in found]
    return float(f"{found:.4g}") if isinstance(found, float) else found


if __name__ == "__main__":
    raise SystemExit(main())
