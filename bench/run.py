"""`make bench`: pysftpjail, with the jail on, beside OpenSSH's sftp-server, in turn in the same run.

    python -m bench.run [--pairs N] [--only WORDS] [--json FILE]

Every row is measured A B A B ..., after a warm-up pair that does not count, so that whatever else the
machine does falls on both. The table has medians, their ratio (sftp-server's time / ours: above 1 is
faster than C), the spread of each and, where there is one, the time of the same bytes without any
protocol. A row whose spread is larger than what it would tell is marked.
"""

from __future__ import annotations

import argparse
import compileall
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

from bench import drivers
from bench.rows import Material, Row, rows, ssh_rows
from tests.integration.sshd import Sshd, Way

CHECKOUT = Path(__file__).resolve().parents[1]
REFERENCE = "/usr/lib/openssh/sftp-server"
UNSTEADY = 0.25  # of the median: the distance between the quartiles that makes a row unusable

START = "session start (beside a bare python3 -c pass)"
STARTS = 20  # pairs


@dataclass
class Result:
    """A measured row: medians in seconds, spreads as a share of the median."""

    name: str
    reference: float
    ours: float
    ratio: float
    target: float | None
    spread_reference: float
    spread_ours: float
    limit: float | None
    note: str


def command(name: str) -> list[str]:
    """The command line of one of our commands, installed beside this interpreter or in the checkout."""
    installed = Path(sys.executable).parent / name
    return [sys.executable, str(installed if installed.exists() else CHECKOUT / "bin" / name)]


def spread(times: Sequence[float]) -> float:
    """The distance between the quartiles as a share of the median."""
    lower, _, upper = statistics.quantiles(times, n=4, method="inclusive")
    return (upper - lower) / statistics.median(times)


def compare(
    name: str,
    reference: Callable[[], float],
    ours: Callable[[], float],
    pairs: int,
    target: float | None = None,
    limit: Callable[[], float] | None = None,
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
        spread_reference=spreads[0],
        spread_ours=spreads[1],
        limit=min(limits) if limits else None,
        note="unsteady" if max(spreads) > UNSTEADY else "",
    )


def table(results: Sequence[Result]) -> str:
    """The results in Markdown."""
    lines = [
        "| work | sftp-server | pysftpjail | ratio | target | spread | no protocol |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        target = f"{r.target:.2f}" if r.target is not None else ""
        if r.target is not None:
            target += "" if r.ratio >= r.target else " missed"
        limit = f"{r.limit:.3f} s" if r.limit is not None else ""
        spreads = f"{r.spread_reference:.0%} / {r.spread_ours:.0%}" + (f" {r.note}" if r.note else "")
        cells = (r.name, f"{r.reference:.3f} s", f"{r.ours:.3f} s", f"{r.ratio:.2f}", target, spreads, limit)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def versions() -> str:
    """What was measured on: processors, kernel, Python and OpenSSH."""
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.strip()
    return f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, {ssh}"


def shared_memory() -> str | None:
    """A tmpfs for the data, where there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def say(text: str) -> None:
    """Progress, for people only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def measure_all(top: Path, pairs: int, only: str) -> tuple[list[Result], dict[str, int]]:
    """Every row whose name has `only` in it, and the memory (bytes) after the bulk rows."""
    material = Material(top)
    # The log level that sftp-server has when it is not told another.
    ours = [*command("pysftpjail"), "--log-level", "ERROR", str(material.jail)]
    theirs = [REFERENCE]
    results: list[Result] = []
    memory = {}

    def jailed(server: Sequence[str]) -> bool:
        return server is ours

    def run(row: Row) -> None:
        say(row.name)
        contenders = (lambda: row.measure(theirs)), (lambda: row.measure(ours))
        results.append(compare(row.name, *contenders, pairs, row.target, row.limit))
        if row.commands:
            commands = row.commands.format(root="")
            memory[row.name] = drivers.peak_memory(ours, commands, top / "memory", row.options)

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


def main() -> int:
    """Run the benchmark; print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description="Measures pysftpjail beside OpenSSH's sftp-server.")
    parser.add_argument("--pairs", type=int, default=5, help="Counted pairs of runs a row. The default is 5.")
    parser.add_argument("--only", default="", help="Run only rows with this in their name. Default: all.")
    parser.add_argument(
        "--json",
        type=Path,
        default=CHECKOUT / "bench.json",
        help="Write the results to this file too. The default is bench.json in the checkout.",
    )
    options = parser.parse_args()
    # As where it is installed: a server that compiled its modules at every start would be measured else.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(CHECKOUT / "pysftpserver", quiet=1)
    place = shared_memory()
    with tempfile.TemporaryDirectory(dir=place, prefix="pysftpserver-bench-") as top:
        results, memory = measure_all(Path(top), options.pairs, options.only)
    say("")
    where = "a tmpfs" if place else "the page cache"
    print(f"{versions()}; data in {where}; {options.pairs} pairs after a warm-up, medians\n")
    print(table(results))
    print()
    for name, size in memory.items():
        print(f"Resident memory at the end of {name}: {size / (1 << 20):.1f} MiB")
    report = {"machine": versions(), "rows": [asdict(r) for r in results], "memory": memory}
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
