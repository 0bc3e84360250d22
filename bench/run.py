"""`make bench`: compares each door with a reference that does the same work, in turn in the same run.

That is pysftpjail, with the jail on, with OpenSSH's sftp-server, short sessions also with pysftp-warm, the
storage on GridFS with pymongo's GridFSBucket, pysksync with cp, pysftpd with sshd, also over a distance,
pysftpremo with Fernet, pysftplab with a bare echo server, pysftpsite on a bucket with obstore and rclone,
pysftpproxy with no proxy, pysftpweb with nginx, and what is synced with the same without syncing.

    python -m bench.run [--pairs N] [--only WORDS] [--json FILE] [--disk DIR]

Every row is measured A B A B ..., after a warm-up pair that does not count, so that other load on the machine
affects both. The tables have medians, their ratio (the reference's time / ours: above 1 ours is faster), the
spread of each and, if available, the time of the same bytes without a protocol. Rows with a large
spread are marked.
"""

from __future__ import annotations

import argparse
import compileall
import functools
import importlib
import importlib.metadata
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import (
    distance,
    drivers,
    laboratory,
    mounts,
    objects,
    proxy,
    pysftpd,
    remo,
    site,
    sksync,
    stored,
    warm,
    webdav,
)
from bench.gridfs import GROUP, MIB, Sizes, contests
from bench.rows import Material, Row, rows, ssh_rows
from pysftpserver.storages.embedded import EmbeddedFailed
from tests.integration.sshd import Sshd, Way

REFERENCE = "/usr/lib/openssh/sftp-server"
UNSTEADY = 0.25  # spread, as a share of the median, above which a row is unusable

START = "session start (beside a bare python3 -c pass)"
STARTS = 20  # pairs
SERVERS = ("sftp-server", "pysftpjail")
DOORS = (
    sksync,
    pysftpd,
    distance,
    remo,
    laboratory,
    warm,
    objects,
    proxy,
    webdav,
    mounts,
    site,
    stored,  # the last one: it is measured on a disk
)


@dataclass
class Result:
    """A measured row: medians in seconds, spreads as a share of the median.

    target: the minimum ratio aimed for; most: the maximum. contenders: the names of the two.
    """

    name: str
    reference: float
    ours: float
    ratio: float
    target: float | None
    most: float | None
    spread_reference: float
    spread_ours: float
    limit: float | None
    note: str
    contenders: tuple[str, str]


@dataclass
class Memory:
    """Bytes of memory, their description, and the limit that they should stay below."""

    name: str
    size: int
    most: int | None = None


def spread(times: Sequence[float]) -> float:
    """Return the distance between the quartiles as a share of the median; 0 for a single time."""
    if len(times) == 1:
        return 0.0
    lower, _, upper = statistics.quantiles(times, n=4, method="inclusive")
    return (upper - lower) / statistics.median(times)


def compare(
    name: str,
    reference: Callable[[], float],
    ours: Callable[[], float],
    pairs: int,
    target: float | None = None,
    limit: Callable[[], float] | None = None,
    most: float | None = None,
    contenders: tuple[str, str] = SERVERS,
) -> Result:
    """Measure two contenders in turn."""
    taken: tuple[list[float], list[float]] = ([], [])
    limits = []
    for number in range(pairs + 1):
        times = (reference(), ours())
        if limit is not None and number < 4:
            limits.append(limit())
        if number:  # the first pair warms the caches
            for kept, seconds in zip(taken, times, strict=True):
                kept.append(seconds)
    medians = [statistics.median(times) for times in taken]
    spreads = [spread(times) for times in taken]
    return Result(
        name=name,
        reference=medians[0],
        ours=medians[1],
        ratio=medians[0] / medians[1],
        target=target,
        most=most,
        spread_reference=spreads[0],
        spread_ours=spreads[1],
        limit=min(limits) if limits else None,
        note="unsteady" if max(spreads) > UNSTEADY else "",
        contenders=contenders,
    )


def tables(results: Sequence[Result]) -> str:
    """Return the results in Markdown, with one table per run of rows with the same contenders."""
    groups = itertools.groupby(results, key=lambda r: r.contenders)
    return "\n\n".join("\n".join(_table(contenders, list(rows))) for contenders, rows in groups)


def _table(contenders: tuple[str, str], results: Sequence[Result]) -> list[str]:
    heads = ["work", *contenders, "ratio", "target", "spread"]
    has_limits = any(r.limit is not None for r in results)
    if has_limits:
        heads.append("no protocol")
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |"]
    for r in results:
        spreads = f"{r.spread_reference:.0%} / {r.spread_ours:.0%}" + (f" {r.note}" if r.note else "")
        times = durations(r.reference, r.ours)
        cells = [r.name, *times, f"{r.ratio:.2f}", target(r), spreads]
        if has_limits:
            cells.append(f"{r.limit:.3f} s" if r.limit is not None else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def durations(*seconds: float) -> list[str]:
    """Format times in seconds, or all in microseconds if one is very short."""
    if min(seconds) < 0.005:
        return [f"{each * 1e6:,.0f} µs" for each in seconds]
    return [f"{each:.3f} s" for each in seconds]


def target(result: Result) -> str:
    """Return the target for the ratio, and whether it was missed; empty for none."""
    if result.most is not None:
        return f"at most {result.most:.2f}" + (" missed" if result.ratio > result.most else "")
    if result.target is not None:
        return f"{result.target:.2f}" + (" missed" if result.ratio < result.target else "")
    return ""


def memory_line(memory: Memory) -> str:
    """Return the same for an amount of memory."""
    line = f"{memory.name}: {memory.size / MIB:.1f} MiB"
    if memory.most is None:
        return line
    return f"{line}, target below {memory.most / MIB:.0f}" + (" missed" if memory.size >= memory.most else "")


def versions() -> str:
    """Return processors, kernel, Python and OpenSSH of this machine."""
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.strip()
    return f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, {ssh}"


def database_versions() -> str:
    """Return the versions of the driver and the database."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("pymongo", "SecantusDB"))


def file_system(directory: str) -> str:
    """Return the type of the file system of a directory."""
    argv = ["findmnt", "-n", "-o", "FSTYPE", "-T", directory]
    return subprocess.run(argv, capture_output=True, text=True).stdout.strip()


def shared_memory() -> str | None:
    """Return a tmpfs for the data, or None."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def say(text: str) -> None:
    """Print progress on standard error."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def measure_servers(top: Path, pairs: int, only: str) -> tuple[list[Result], list[Memory]]:
    """Measure the rows compared with sftp-server whose name contains `only`, and memory after bulk rows."""
    others = (sksync, pysftpd, distance, remo, laboratory, warm, objects, proxy, mounts, site, stored, webdav)
    groups = (GROUP, *(door.GROUP for door in others))
    if any(group in only for group in groups):
        return [], []  # no name here contains that word, so do not spend time on creating files
    material = Material(top)
    # The default log level of sftp-server.
    ours = [*drivers.command("pysftpjail"), "--log-level", "ERROR", str(material.jail)]
    theirs = [REFERENCE]
    results: list[Result] = []
    memory: list[Memory] = []

    def jailed(server: Sequence[str]) -> bool:
        return server is ours

    def run(row: Row) -> None:
        say(row.name)
        contenders = (lambda: row.measure(theirs)), (lambda: row.measure(ours))
        results.append(compare(row.name, *contenders, pairs, row.target, row.limit))
        if row.commands:
            commands = row.commands.format(root="")
            size = drivers.peak_memory(ours, commands, top / "memory", row.options)
            memory.append(Memory(f"Resident memory at the end of {row.name}", size))

    for row in rows(material, jailed):
        if only in row.name:
            run(row)
    if only in START:
        say(START)
        contenders = (lambda: drivers.bare_python(sys.executable)), (lambda: drivers.session_start(ours))
        results.append(compare(START, *contenders, STARTS, 0.50))
    (top / "sshd").mkdir(mode=0o700)
    sshd = Sshd(top / "sshd", Way.AUTHORIZED_KEYS, theirs)
    sshd.start()
    try:
        for row in ssh_rows(material, sshd, jailed):
            if only in row.name:
                run(row)
    finally:
        sshd.stop()
    return results, memory


def measure_gridfs(
    top: Path, pairs: int, only: str, sizes: Sizes | None = None
) -> tuple[list[Result], list[Memory]]:
    """Measure the rows on GridFS.

    Raises ModuleNotFoundError or EmbeddedFailed when the driver or the database is not installed.
    """
    sizes = sizes or Sizes()
    results: list[Result] = []
    memory: list[Memory] = []
    for contest in contests(sizes):
        if only in contest.name:
            say(contest.name)
            from bench.gridfs_sides import started

            # Its data grows with every write, so each row starts a new database.
            with tempfile.TemporaryDirectory(dir=top) as place, started(Path(place), sizes) as sides:
                results.append(
                    compare(
                        contest.name,
                        functools.partial(contest.reference, sides),
                        functools.partial(contest.ours, sides),
                        pairs,
                        contest.target,
                        most=contest.most,
                        contenders=contest.contenders,
                    )
                )
                if contest.resident is not None:
                    name = f"{contest.memory} in {contest.name}"
                    memory.append(Memory(name, contest.resident(sides), contest.most_resident))
    return results, memory


def measured(contest: Any, sides: object, pairs: int) -> Result:
    """Measure a row of one of the doors."""
    say(contest.name)
    return compare(
        contest.name,
        functools.partial(contest.reference, sides),
        functools.partial(contest.ours, sides),
        pairs,
        contest.target,
        contenders=contest.contenders,
    )


def measure_door(
    door: Any, top: Path, pairs: int, only: str, sizes: Any = None
) -> tuple[list[Result], list[Memory]]:
    """Measure the rows of a group, and the memory that belongs to them.

    door: its module, with GROUP, Sizes and contests(), and optionally with_target() for targets that depend
    on the reference's time, compared() for rows made of others, weighed() and weigh() for what is measured
    once, and IS_LONG if its rows are measured only when the group's name is given. started() is in it or in
    its module of sides, which needs what the door needs and is imported only then.
    """
    sizes = sizes or door.Sizes()
    chosen = [contest for contest in door.contests(sizes) if only in contest.name]
    weighed = door.weighed(sizes) if hasattr(door, "weighed") else ""
    weighs = bool(weighed) and only in weighed
    if not (chosen or weighs) or (getattr(door, "IS_LONG", False) and door.GROUP not in only):
        return [], []
    results: list[Result] = []
    memory: list[Memory] = []
    home = door if hasattr(door, "started") else importlib.import_module(f"{door.__name__}_sides")
    with home.started(top, sizes) as sides:
        if weighs:
            say(weighed)
            memory += [Memory(*known) for known in door.weigh(sides, sizes)]
        for contest in chosen:
            result = measured(contest, sides, pairs)
            results.append(door.with_target(contest, result) if hasattr(door, "with_target") else result)
            if getattr(contest, "resident", None) is not None:
                name = f"Peak of the server's resident memory in {contest.name}"
                memory.append(Memory(name, contest.resident(sides), door.MOST_RESIDENT))
    return results + (door.compared(results) if hasattr(door, "compared") else []), memory


def missing(error: Exception) -> str:
    """Return what is missing and how to install it."""
    return f"{error}; run pip install '.[mongo,embedded]'" if isinstance(error, ImportError) else str(error)


def main() -> int:
    """Run the benchmark; print the table and write it as JSON."""
    parser = argparse.ArgumentParser(
        description="Measures pysftpjail beside sftp-server, the storage on GridFS beside its driver, "
        "pysksync beside cp, pysftpd beside sshd, also over a distance, pysftpremo beside Fernet, pysftplab "
        "beside a bare echo server, pysftpsite on a bucket beside obstore and rclone, pysftpproxy beside no "
        "proxy, pysftpweb beside nginx, a jail below a mount beside the same alone, an audited jail beside a "
        "bare one, and what is synced beside the same without syncing."
    )
    parser.add_argument(
        "--pairs", type=int, default=5, help="Number of measured pairs per row. The default is 5."
    )
    parser.add_argument(
        "--only", default="", help="Run only rows whose name contains this. The default is all."
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=drivers.CHECKOUT / "bench.json",
        help="Also write the results to this file. The default is bench.json in the checkout.",
    )
    parser.add_argument(
        "--disk",
        default=stored.DISK,
        help=f"Measure what syncing costs in this directory. The default is {stored.DISK}.",
    )
    options = parser.parse_args()
    # Compiled modules, as in an installation; otherwise a server would compile them at every start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(drivers.CHECKOUT / "pysftpserver", quiet=1)
    place = shared_memory()
    machine = versions()
    results: list[Result] = []
    memory: list[Memory] = []
    left_out = ""
    doors = [functools.partial(measure_door, door) for door in DOORS]
    measures: list[Callable[[Path, int, str], tuple[list[Result], list[Memory]]]]
    measures = [measure_servers, measure_gridfs, *doors]
    for measure in measures:
        where = options.disk if measure is doors[-1] else place
        with tempfile.TemporaryDirectory(dir=where, prefix="pysftpserver-bench-") as top:
            try:
                found = measure(Path(top), options.pairs, options.only)
            except (ModuleNotFoundError, EmbeddedFailed) as error:
                left_out = f"The rows on {GROUP} are left out: {missing(error)}"
                continue
        results += found[0]
        memory += found[1]
    say("")
    if left_out or not results:
        print(left_out or f"No row has {options.only!r} in its name", file=sys.stderr)
    if not results:
        return 1
    if any(result.name.startswith(GROUP) for result in results):
        machine += f", {database_versions()}"
    if any(result.name.startswith(stored.GROUP) for result in results):
        machine += f", {options.disk} on {file_system(options.disk)}"
    where = "a tmpfs" if place else "the page cache"
    print(f"{machine}; data in {where}; {options.pairs} pairs after a warm-up, medians\n")
    print(tables(results))
    print()
    for known in memory:
        print(memory_line(known))
    report = {
        "machine": machine,
        "rows": [asdict(result) for result in results],
        "memory": [asdict(known) for known in memory],
    }
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
