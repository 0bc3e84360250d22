"""Boots a chroot: its own systemd as process 1, in namespaces and control groups of its own.

It needs the hybrid hierarchy of control groups. Its network is a loopback of its own, so it takes no port
of this host.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import unittest
from collections.abc import Iterator
from pathlib import Path

from tests.packaging.chroots import WITH_US, Chroot
from tests.support.processes import Program, descendants
from tests.support.waiting import until

GROUPS = (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"))
# $1: the root. $2: a name for the control groups, which this shell moves itself into. $3: what goes on there.
JOIN = """
set -e
for groups in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    mkdir "$groups/$2"
    echo $$ > "$groups/$2/cgroup.procs"
done
exec unshare --mount --pid --cgroup --ipc --uts --net --fork --kill-child -- sh -ec "$3" sh "$1"
"""
BOOT = """
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
ip link set lo up
exec chroot "$1" /usr/bin/env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    /lib/systemd/systemd --log-target=console --unit=multi-user.target
"""


class Booted:
    """A system that runs. pid: its process 1, as this host numbers it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def run(self, *words: str | Path, status: int | None = 0) -> str:
        """Run a command as root in the system; None as status: any will do."""
        enter = [
            "nsenter",
            "--target",
            str(self.pid),
            "--mount",
            "--pid",
            "--cgroup",
            "--ipc",
            "--uts",
            "--net",
        ]
        done = subprocess.run(
            [*enter, "--root", "--wd=/", "--", *words],
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL": "C.UTF-8",
                "DEBIAN_FRONTEND": "noninteractive",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
        )
        if status is not None and done.returncode != status:
            raise AssertionError(f"{words} ended with {done.returncode}, not {status}:\n{done.stdout}")
        return done.stdout.strip()

    def near(self, *words: str) -> list[str]:
        """What runs a program of this host in the network of the system."""
        return ["nsenter", "--target", str(self.pid), "--net", "--", *words]


@contextlib.contextmanager
def booted(system: Chroot, log: Path) -> Iterator[Booted]:
    """The system, booted to multi-user.target while the block runs."""
    if not all(groups.is_dir() for groups in GROUPS):
        raise unittest.SkipTest("control groups are not in the hybrid hierarchy")
    group = f"pysftpserver-test-{os.getpid()}"
    init = Program([*WITH_US, "sh", "-c", JOIN, "sh", system.root, group, BOOT], log)
    try:
        first = until(lambda: _first(init.pid), init.output)
        running = Booted(first)
        until(
            lambda: "running" in running.run("systemctl", "is-system-running", "--wait", status=None),
            init.output,
        )
        yield running
    finally:
        init.close()  # and all that it started, by --kill-child
        for groups in GROUPS:
            until(lambda groups=groups: _removed(groups / group), "a control group stays")


def _first(ancestor: int) -> int | None:
    return next((pid for pid, name, _ in descendants(ancestor) if name == "systemd"), None)


def _removed(group: Path) -> bool:
    """Remove a control group with those in it; False while a process in it still ends."""
    for directory, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:
            return False
    return True
