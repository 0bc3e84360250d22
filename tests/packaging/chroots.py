"""A Debian of its own to install into: debootstrap's smallest system, unpacked anew for each class of tests.

The system comes from the mirror that this host's apt uses, once; build/chroots keeps it. Commands run in
namespaces of their own, which end with them: nothing stays mounted, and no daemon that a package starts
outlives its command.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.hard import IS_HARD
from tests.support.paths import ROOT

SUITE = "bookworm"
CACHE = ROOT / "build" / "chroots"
FRESH = 7 * 24 * 3600  # seconds; an older system would be upgraded by every test
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOUNTED = 'mount -t proc proc /proc && exec "$@"'
# For a read-only root: each of $2, below the root $1, stays writable.
READ_ONLY = """
set -e
top=$1 writable=$2
shift 2
mount --bind "$top" "$top"
for path in $writable; do mount --bind "$top$path" "$top$path"; done
mount -o remount,ro,bind "$top"
exec "$@"
"""
# Files that tell pip and apt of this host where packages are, if they are there.
OF_PIP = tuple(map(os.path.expanduser, ("/etc/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf")))
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
HOME = "/root"  # of root in there
LENT = f"{HOME}/authorities.pem"  # not its own file, which its package writes
WITH_US = ("setpriv", "--pdeathsig", "KILL")  # what runs ends with the tests, also if they are killed
needs_chroot = unittest.skipUnless(
    IS_HARD and os.geteuid() == 0, "installs into a Debian of its own: hard, and root's"
)

Word = str | Path


class Chroot:
    """A Debian below root. Commands see nothing of this host but its network."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def words(self, *words: Word, user: str = "root", writable: str = "", **variables: str) -> list[str]:
        """What runs a command in it, for subprocess.

        user: a name or UID:GID of the chroot. writable: directories, with blanks between them: the rest is
        read-only then; without any, nothing is.
        """
        given = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", **variables}
        settings = [f"{name}={value}" for name, value in given.items()]
        root = os.fspath(self.root)
        alone = [*WITH_US, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--"]
        sealed = ["sh", "-c", READ_ONLY, "sh", root, writable] if writable else []
        inside = ["chroot", root, "/usr/bin/env", "-i", *settings, "sh", "-c", MOUNTED, "sh"]
        become = [] if user == "root" else self._become(user)
        return [*alone, *sealed, *inside, *become, *map(os.fspath, words)]

    @staticmethod
    def _become(user: str) -> list[str]:
        uid, _, gid = user.partition(":")
        whom = [f"--reuid={uid}", f"--regid={gid or uid}", "--clear-groups" if gid else "--init-groups"]
        return ["setpriv", *whom, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]

    def run(self, *words: Word, user: str = "root", status: int = 0, text: str = "", **variables: str) -> str:
        """Run a command in it, which has to end with that status; returns all that it has printed."""
        done = subprocess.run(
            self.words(*words, user=user, **variables),
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        if done.returncode != status:
            raise AssertionError(f"{words} ended with {done.returncode}, not {status}:\n{done.stdout}")
        return done.stdout

    def apt(self, *words: Word) -> str:
        return self.run("apt-get", "-qq", "-y", *words, DEBIAN_FRONTEND="noninteractive")

    def lend_pip(self) -> None:
        """Tell pip in there what this host's pip is told: the index and its authorities."""
        for name in OF_PIP:
            if os.path.exists(name):
                self.copy(name)
        if os.path.exists(AUTHORITIES):
            self.copy(AUTHORITIES, LENT)
        pip = [sys.executable, "-m", "pip", "config", "get"]
        for key in ("global.constraint", "global.cert"):
            asked = subprocess.run([*pip, key], capture_output=True, text=True, timeout=60)
            for name in asked.stdout.split():
                if os.path.isfile(name):
                    self.copy(name)

    @staticmethod
    def pip_variables() -> dict[str, str]:
        given = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        return {**given, "PIP_CERT": LENT} if os.path.exists(AUTHORITIES) else given

    def copy(self, source: Word, to: str = "") -> None:
        """Copy a file of this host to the same path there, or to another."""
        there = self.path(to or os.fspath(source))
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, there)

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def files(self, *apart: str) -> set[str]:
        """Everything that is there, but what package managers keep of their own work."""
        left_out = {"/proc", "/sys", "/dev", "/run", "/tmp", os.path.expanduser("~/.cache"), *apart}
        left_out |= {"/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/log", "/etc/ld.so.cache"}
        found = set()
        for directory, names, files in os.walk(self.root):
            below = f"/{os.path.relpath(directory, self.root)}".replace("/.", "/", 1).replace("//", "/")
            names[:] = [name for name in names if os.path.join(below, name) not in left_out]
            found |= {os.path.join(below, name) for name in (*names, *files)}
        return found - left_out


@contextlib.contextmanager
def debian(*packages: str) -> Iterator[Chroot]:
    """A Debian with these packages. It is removed at the end."""
    archive = _system(packages)
    with _directory() as top:
        _unpack(archive, top)
        system = Chroot(top)
        _no_daemons(system)
        system.apt("update")
        yield system


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    top = Path(tempfile.mkdtemp(prefix="pysftpserver-chroot-"))
    top.chmod(0o755)
    try:
        yield top
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", top], check=True)


def _system(packages: Sequence[str]) -> Path:
    """The archive of a system with these packages, made if there is none or it is old."""
    archive = CACHE / f"{'-'.join((SUITE, *packages))}.tar"
    if archive.exists() and time.time() - archive.stat().st_mtime < FRESH:
        return archive
    CACHE.mkdir(parents=True, exist_ok=True)
    with _directory() as top:
        if packages:
            _unpack(_system(()), top)
            system = Chroot(top)
            _no_daemons(system)
            system.apt("update")
            system.apt("install", "--no-install-recommends", *packages)
            system.apt("clean")
        else:
            _call("debootstrap", "--variant=minbase", SUITE, top, _mirror())
        # Under its name when it is complete: other tests may look for it.
        new = archive.with_suffix(f".{os.getpid()}")
        _call("tar", "-C", top, "--numeric-owner", "--one-file-system", "-cf", new, ".")
        new.rename(archive)
    return archive


def _unpack(archive: Path, top: Path) -> None:
    _call("tar", "-C", top, "--numeric-owner", "-xpf", archive)


def _no_daemons(system: Chroot) -> None:
    policy = system.path("/usr/sbin/policy-rc.d")
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def _mirror() -> str:
    """Where apt on this host takes packages of the suite from."""
    asked = _call(
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"
    )
    for line in asked.splitlines():
        uri, release, component = line.split()
        if (release, component) == (SUITE, "main"):
            return uri
    raise AssertionError(f"apt on this host has no main of {SUITE}")


def _call(*words: Word) -> str:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise AssertionError(f"{words} ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr}")
    return done.stdout
