"""docs/evidence.md: the last results of the sections, and the versions that they ran with.

What may not enter: running anything but programs that print their version.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pysftpserver import __version__
from tools.evidence.results import ROOT, Result

LIBRARIES = "asyncssh cryptography pymongo redis fsspec argon2-cffi paramiko hypothesis nose2".split()
TITLES = {
    "conformance": ("Conformance", "Servers against the rules of the protocol, by `pysftp-probe`."),
    "security": (
        "Security",
        "Attackers: paths, links, hostile clients, servers and stores, floods.",
    ),
    "faults": (
        "Faults",
        "Power cuts, full disks, killed servers and clients, services that fail or are away.",
    ),
    "fuzz": ("Fuzzing", "Every parser that a client can reach, under libFuzzer, from the corpus on."),
    "clients": (
        "Interoperability",
        "Programs of other people: OpenSSH, PuTTY, lftp, sshfs, FileZilla and more.",
    ),
    "benchmarks": (
        "Benchmarks",
        "A few rows of `make bench`, each beside a reference that does the same work.",
    ),
}
HEAD = """# Evidence

What proves the claims of this project, in one run. `make evidence` generates this page, and
`make evidence ARGS=fuzz` runs one section again and leaves the others as they were found last. Each section
is a short form, and names the command for the full one. A figure here is of one machine at one time:
[performance.md](performance.md) and [bench/README.md](../bench/README.md) say what to make of times.
Where the load was higher than the number of processors when a section began, its times are of no use.
"""


def text(results: Sequence[Result]) -> str:
    """The whole page."""
    parts = [
        HEAD,
        "## Summary\n",
        _summary(results),
        "## Versions\n",
        _table([["what", "version"], *versions()]),
    ]
    return "\n".join([*parts, *map(_section, results)])


def versions() -> list[list[str]]:
    """The versions that the sections ran with."""
    rows = [
        ["pysftpserver", __version__],
        ["system", _os_release()],
        ["kernel", f"{platform.system()} {platform.release()}, {platform.machine()}"],
        ["processors", f"{os.cpu_count()} of {_processor()}"],
        ["memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.1f} GiB"],
        ["Python", f"{platform.python_implementation()} {platform.python_version()}"],
        ["OpenSSH", _said("ssh", "-V").split(",")[0]],
        ["OpenSSL of Python", ssl.OPENSSL_VERSION],
        ["Redis", _word(_said("redis-server", "--version"), "v=")],
    ]
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            rows.append([name, importlib.metadata.version(name)])
    return rows


def commit() -> str:
    """The commit of the checkout, and whether it has changes."""
    found = _said("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
    changed = _said("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    # The page itself and recorded results change in every run.
    others = [line for line in changed.splitlines() if not line.endswith(("docs/evidence.md", ".json"))]
    return f"{found} with changes" if others else found


def _summary(results: Sequence[Result]) -> str:
    rows = [["section", "result", "what ran", "seconds", "load", "date", "commit"]]
    for result in results:
        verdict = "passed" if result.is_good else f"**{len(result.failures)} failed**"
        link = f"[{TITLES[result.name][0]}](#{TITLES[result.name][0].lower()})"
        when = [f"{result.seconds:.0f}", result.load or "unknown", result.date, result.commit]
        rows.append([link, verdict, result.ran, *when])
    return _table(rows)


def _section(result: Result) -> str:
    title, words = TITLES[result.name]
    lines = [
        f"## {title}\n",
        f"{words} This section: `make evidence ARGS={result.name}`. In full: `{result.command}`.\n",
    ]
    verdict = "passed" if result.is_good else "**failed**"
    lines.append(f"On {result.date}, in {result.seconds:.0f} seconds: {verdict}. {result.ran}\n")
    if result.failures:
        lines.append("\n".join(f"- {_cell(failure)}" for failure in result.failures) + "\n")
    if len(result.rows) > 1:
        lines.append(_table(result.rows))
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *others = rows
    return "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in (head, ["---"] * len(head), *others))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _said(*argv: str) -> str:
    """A program's output, on either stream; empty if the program is missing."""
    with contextlib.suppress(OSError):
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        return (done.stdout or done.stderr).strip()
    return "missing"


def _word(text: str, begins: str) -> str:
    return next((word[len(begins) :] for word in text.split() if word.startswith(begins)), "missing")


def _os_release() -> str:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    return "unknown"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "unknown"
