"""The sections: what each runs, and how it reads the output.

A section is a function of a Run, which says where its log goes and whether it has to be quick. It returns a
Result, or raises Failed if there is none. What may not enter: the page, progress.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.evidence.results import ROOT, Result

LIMIT = 900.0  # seconds for one command
AT_ONCE = max(1, os.cpu_count() or 1)
#: Our servers that have to keep every must, and OpenSSH's for comparison.
PROBED = ("jail", "plain", "pysftpd", "proxy", "openssh")
PROBED_QUICKLY = ("jail", "openssh")
REFERENCES = {"openssh"}
SECURITY = """
    security service.test_chain service.test_bans service.test_proxyprotocol integration.test_containment
    integration.test_containment_without_openat2 objects.test_hostile_stores proxy.test_hostile_servers
    sshd.test_floods sshd.test_isolation sshd.test_descriptors sshd.test_refusals site.test_evading
    site.test_gates_attacked site.test_swapping web.test_attacked web.test_confined
    web.test_shares_attacked remo.test_hostile remo.test_on_the_path sksync.test_hostile_clients
    sksync.test_hostile_servers laboratory.test_hostile_clients probe.test_hostile
"""
FAULTS = """
    faults mongo.test_never_half site.test_kills site.test_left_open uploads objects.test_failures
    mongo.test_failures sshd.test_redis_away sshd.test_stalled_disks remo.test_slow sksync.test_slow_peers
"""
CLIENTS = """
    integration.test_asyncssh integration.test_lftp integration.test_openssh_scp
    integration.test_openssh_sftp integration.test_openssh_transfers integration.test_paramiko
    integration.test_psftp integration.test_sshfs integration.test_pysftpsite integration.test_proxy
    integration.test_gridfs mongo.test_interoperability objects.test_clients sshd.test_clients
    sshd.test_filezilla sshd.test_ways_clients sshd.test_winscp site.test_clients web.test_dav_clients
"""
QUICK = {
    "security": "security.test_paths security.test_magic",
    "faults": "faults.test_killed_server faults.test_size_limit",
    "clients": "integration.test_openssh_scp",
}
#: Rows of `make bench`, by a part of their names.
BENCHED = (
    "session start",
    "get 2 GiB, 255 KiB",
    "put 2 GiB, 255 KiB",
    "ls -l, 10,000 entries",
    "get -r, 10,000",
    "sshd, aes128-gcm: get",
    "pysftpd: get 512 MiB",
    "pysftpd: put 512 MiB",
    "pysftpd: 40 logins",
    "objects: get 256 MiB, sftp -D beside",
    "proxy: get 512 MiB",
    "sksync: 1,502 files, from server, TLS",
)
BENCHED_QUICKLY = ("session start",)


class Failed(Exception):
    """A section could not do its work. The text is one line."""


@dataclass(frozen=True)
class Run:
    """How a section runs. log: the file for all output of its commands."""

    log: Path
    quick: bool

    def command(self, *argv: str | Path, env: dict[str, str] | None = None) -> tuple[int, str]:
        """Run a command in the checkout; return its status and what it printed."""
        with self.log.open("ab") as log:
            begins = log.tell()
            try:
                status = subprocess.run(
                    list(map(str, argv)),
                    cwd=ROOT,
                    env={**os.environ, **(env or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=LIMIT,
                ).returncode
            except subprocess.TimeoutExpired:
                raise Failed(f"{argv[1]} took more than {LIMIT:.0f} seconds") from None
        with self.log.open("rb") as log:
            log.seek(begins)
            return status, log.read().decode(errors="replace")


# --- conformance --------------------------------------------------------------------------------------------


def conformance(run: Run) -> Result:
    """Our servers, and OpenSSH's, against the rules of the protocol."""
    words = PROBED_QUICKLY if run.quick else PROBED
    status, said = run.command(sys.executable, "-m", "tools.evidence.probing", *words)
    found = dict(re.findall(r"^(\w+): (\d+ passed, \d+ failed, \d+ error.*)$", said, re.MULTILINE))
    rows = [["server", "rules that hold", "rules that do not", "not decided", "seconds"]]
    failures = []
    for word in words:
        counts = re.match(r"(\d+) passed, (\d+) failed, (\d+) error in (\d+) s(.*)", found.get(word, ""))
        if counts is None:
            failures.append(f"{word} could not be probed")
            continue
        rows.append([word, *counts.groups()[:4]])
        if word not in REFERENCES and (counts[2] != "0" or counts[3] != "0" or counts[5]):
            failures.append(f"{word}: {found[word]}")
    if status and not failures:
        failures.append(f"the probe ended with status {status}")
    full = re.search(
        r"^How (\d+ SFTP servers do against \d+ rules).*\n?.*on (\d{4}-\d\d-\d\d)", _page(), re.MULTILINE
    )
    ran = f"pysftp-probe on {len(words)} servers; [conformance.md](conformance.md) has "
    ran += f"how {full[1]}, found on {full[2]}." if full else "all of them."
    return Result("conformance", "make conformance", ran, rows, failures)


def _page() -> str:
    path = ROOT / "docs" / "conformance.md"
    return path.read_text() if path.exists() else ""


# --- tests --------------------------------------------------------------------------------------------------


def modules(words: str) -> list[str]:
    """The modules of tests that words name: a module, or a directory of them. Raises Failed for others."""
    found = []
    for word in words.split():
        path = ROOT / "tests" / word.replace(".", "/")
        if path.is_dir():
            found += [f"tests.{word}.{one.stem}" for one in sorted(path.glob("test_*.py"))]
        elif path.with_suffix(".py").exists():
            found.append(f"tests.{word}")
        else:
            raise Failed(f"there is no tests.{word}")
    return found


def tests(name: str, words: str) -> Callable[[Run], Result]:
    """A section that runs modules of tests, each in its own process."""

    def section(run: Run) -> Result:
        chosen = modules(QUICK[name] if run.quick else words)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            every = list(threads.map(lambda module: _tested(run, module), chosen))
        rows = [["tests", "passed", "failed", "skipped"]]
        rows += [[module, *map(str, counts)] for module, (counts, _) in zip(chosen, every, strict=True)]
        failures = [name for _, failed in every for name in failed]
        total = [sum(counts[place] for counts, _ in every) for place in range(3)]
        ran = f"{sum(total)} tests: {total[0]} passed, {total[1]} failed, {total[2]} skipped."
        return Result(name, "make test-hard", ran, rows, failures)

    return section


def _tested(run: Run, module: str) -> tuple[list[int], list[str]]:
    """Counts of passed, failed and skipped tests of a module, and the failed ones' names."""
    own = Run(run.log.with_name(f"{run.log.stem}-{module}.log"), run.quick)
    own.log.unlink(missing_ok=True)
    try:
        status, said = own.command(sys.executable, "tools/run_tests.py", "--", module)
    except Failed as failed:
        return [0, 1, 0], [str(failed)]
    last = re.search(r"(\d+) passed, (\d+) failed, (\d+) skipped\s*\Z", said)
    if last is None:
        return [0, 1, 0], [f"{module} ended with status {status} before its tests had"]
    names = re.findall(r"^FAILED: (.*)$", said, re.MULTILINE)
    if status and not names:
        ran = int(last[1]) + int(last[2])
        names = [f"{module} ended with status {status}" if ran else f"{module} ran no test"]
    return list(map(int, last.groups())), names


# --- fuzzing ------------------------------------------------------------------------------------------------


def fuzz(run: Run) -> Result:
    """Every fuzz target, for a short time."""
    seconds = "1" if run.quick else "5"
    status, said = run.command("tools/fuzz.sh", seconds)
    rows = [["target", "executions", "a second", "coverage", "findings"]]
    failures = []
    for name, what, count in re.findall(r"^([\w-]+): (.*), (\d+) findings$", said, re.MULTILINE):
        figures = re.match(r"(\d+) executions, (\d+) a second, coverage (\d+)", what)
        rows.append([name, *(figures.groups() if figures else ("-", "-", "-")), count])
        if figures is None or count != "0":
            failures.append(f"{name}: {what}, {count} findings")
    if len(rows) == 1 or (status and not failures):
        failures.append(f"the fuzzers ended with status {status}: {_last(said)}")
    total = sum(int(row[1]) for row in rows[1:] if row[1].isdigit())
    ran = f"{len(rows) - 1} targets for {seconds} seconds each, {total:,} executions."
    return Result("fuzz", f"make fuzz SECONDS={seconds}", ran, rows, failures)


# --- benchmarks ---------------------------------------------------------------------------------------------


def benchmarks(run: Run) -> Result:
    """Some rows of the benchmark, two pairs each."""
    rows = [["work", "reference", "ours", "ratio", "target", "note"]]
    failures = []
    pairs = 1 if run.quick else 2
    chosen = BENCHED_QUICKLY if run.quick else BENCHED
    json_file = run.log.with_suffix(".bench.json")
    for only in chosen:
        json_file.unlink(missing_ok=True)
        argv: Sequence[str] = ("-m", "bench.run", "--pairs", str(pairs), "--only", only)
        status, said = run.command(sys.executable, *argv, "--json", str(json_file))
        if status or not json_file.exists():
            failures.append(f"{only}: ended with status {status}: {_last(said)}")
            continue
        rows += [_benched(row) for row in json.loads(json_file.read_text())["rows"]]
    ran = f"{len(rows) - 1} comparisons, medians of {pairs} after a warm-up."
    return Result("benchmarks", "make bench", ran, rows, failures)


def _benched(row: dict[str, Any]) -> list[str]:
    target = row["target"]
    missed = target is not None and row["ratio"] < target
    note = " ".join(filter(None, ["target missed" if missed else "", row["note"]]))
    name = f"{row['name']} ({row['contenders'][0]})"
    aim = "" if target is None else f"{target:.2f}"
    return [name, f"{row['reference']:.3f} s", f"{row['ours']:.3f} s", f"{row['ratio']:.2f}", aim, note]


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


SECTIONS: dict[str, Callable[[Run], Result]] = {
    "conformance": conformance,
    "security": tests("security", SECURITY),
    "faults": tests("faults", FAULTS),
    "fuzz": fuzz,
    "clients": tests("clients", CLIENTS),
    "benchmarks": benchmarks,
}
