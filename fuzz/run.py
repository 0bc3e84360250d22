"""Fuzzes targets one after another: `make fuzz`, or by hand

    python fuzz/run.py TARGET... [--seconds N] [--runs N] [--corpus DIR] [--max-len N]

Each target runs under libFuzzer in a separate process. It starts with the seeds in fuzz/corpus and the inputs
that earlier runs discovered, which are in fuzz/findings (never committed), as is libFuzzer's log. The exit
status is 0 if nothing was found; a finding is printed as an entry of the corpus. What may not enter: what is
checked (targets.py).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from fuzz import corpus  # noqa: E402 -- needs the path above when run as a file
from fuzz.storages import scratch  # noqa: E402
from fuzz.targets import TARGETS  # noqa: E402

FINDINGS = ROOT / "fuzz" / "findings"
MOST_BYTES = 768  # bytes of an input: about twenty requests, and nearly all of the seeds
LONGEST = 10  # seconds for one input, which usually takes a millisecond
MOST_MEGABYTES = 512  # MiB of memory for the process, which starts with 50


def fuzz(name: str, options: argparse.Namespace) -> bool:
    """Run one target; print one line, and the finding if there is one. Return whether there is none."""
    place = FINDINGS / name
    kept = options.corpus or place / "corpus"
    seeds, artifacts = place / "seeds", place / "artifacts"
    shutil.rmtree(seeds, ignore_errors=True)
    for directory in (kept, seeds, artifacts):
        directory.mkdir(parents=True, exist_ok=True)
    for number, (_, data) in enumerate(corpus.entries(*TARGETS[name].corpora)):
        (seeds / str(number)).write_bytes(data)
    known = set(artifacts.iterdir())
    log = place / "log.txt"
    flags = {
        "max_total_time": options.seconds,
        "runs": options.runs,
        "max_len": options.max_len,
        "timeout": LONGEST,
        "rss_limit_mb": MOST_MEGABYTES,
        "handle_xfsz": 0,  # the targets limit the size of files
        "print_final_stats": 1,
        "artifact_prefix": f"{artifacts}/",
    }
    command = [sys.executable, "-m", "fuzz.under_atheris", name]
    command += [f"-{flag}={value}" for flag, value in flags.items()] + [str(kept), str(seeds)]
    # The target creates jails and canaries; we remove them, because libFuzzer exits without cleaning up.
    directory = tempfile.mkdtemp(prefix="pysftpserver-fuzz-", dir=scratch())
    try:
        with log.open("wb") as output:
            environment = {**os.environ, "TMPDIR": directory, "PYTHONPATH": str(ROOT)}
            status = subprocess.run(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            ).returncode
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    text = log.read_text(errors="replace")
    found = sorted(set(artifacts.iterdir()) - known)
    print(f"{name}: {figures(text)}, {len(found)} findings", flush=True)
    for path in found:
        print(corpus.to_text(path.read_bytes(), f"{name}: say here what was wrong ({path.name})"))
    if status:
        print(complaint(text), f"The whole log is {log.relative_to(ROOT)}.", sep="\n", flush=True)
    return not status and not found


def figures(log: str) -> str:
    """Return the figures of a run from libFuzzer's log."""
    runs = re.findall(r"^stat::number_of_executed_units: (\d+)", log, re.MULTILINE)
    pace = re.findall(r"^stat::average_exec_per_sec: +(\d+)", log, re.MULTILINE)
    covered = re.findall(r" cov: (\d+) ", log)
    if not runs or not pace:
        return "did not run to its end"
    return f"{runs[-1]} executions, {pace[-1]} a second, coverage {covered[-1] if covered else 0}"


def complaint(log: str) -> str:
    """Return the part of the log that describes the failure."""
    lines = [line for line in log.splitlines() if not re.match(r"#\d|INFO: |stat::|WARNING: ", line)]
    return "\n".join(lines[-40:])


def main() -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "targets", nargs="+", choices=[*TARGETS, "all"], metavar="TARGET", help=", ".join(TARGETS)
    )
    parser.add_argument("--seconds", type=int, default=0, help="for each target (0: without end)")
    parser.add_argument("--runs", type=int, default=-1, help="executions of each target (-1: without end)")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="where interesting inputs are kept")
    parser.add_argument("--max-len", type=int, default=MOST_BYTES, help="bytes of the longest input")
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: `make fuzz` does it, or pip with fuzz/requirements.txt")
        return 2
    names = list(TARGETS) if "all" in options.targets else options.targets
    clean = [fuzz(name, options) for name in names]  # run the other targets even after a finding
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
