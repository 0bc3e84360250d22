"""The distributions and the package, built as make does and once for all tests of a process."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pysftpserver import __version__
from tests.packaging.chroots import HOME, Chroot
from tests.support.paths import ROOT

WHEEL = f"pysftpserver-{__version__}-py3-none-any.whl"
SDIST = f"pysftpserver-{__version__}.tar.gz"


@functools.cache
def place() -> Path:
    """A directory for everything that is built; it goes with this process."""
    top = Path(tempfile.mkdtemp(prefix="pysftpserver-built-"))
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    return top


@functools.cache
def builder() -> Path:
    """A Python that has the modules build and twine."""
    top = place() / "builder"
    call(sys.executable, "-m", "venv", top)
    constraints = ROOT / "tools" / "constraints.txt"
    call(top / "bin" / "python", "-m", "pip", "-q", "install", "-c", constraints, "build", "twine")
    return top / "bin" / "python"


def make_dist(tree: Path, into: Path) -> None:
    """make dist, in that tree."""
    call(tree / "tools" / "dist.sh", into, DIST_PYTHON=os.fspath(builder()))


@functools.cache
def distributions() -> Path:
    """The directory with the wheel and the source distribution of this checkout."""
    into = place() / "dist"
    make_dist(ROOT, into)
    return into


@functools.cache
def package() -> Path:
    """The Debian package, which lintian has found clean."""
    into = distributions()
    said = call(ROOT / "tools" / "deb.sh", into, DEBEMAIL="builder@packages.invalid")
    return Path(said.splitlines()[-1])


def newer(system: Chroot, version: str, added: dict[str, str]) -> str:
    """The package with another version and more text in its files; its path in the chroot."""
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name) / "tree"
        call("dpkg-deb", "--raw-extract", package(), tree)
        control = tree / "DEBIAN" / "control"
        control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text()))
        for path, text in added.items():
            with (tree / path.lstrip("/")).open("a") as file:
                file.write(text)
        (tree / "DEBIAN" / "md5sums").unlink()
        to = f"{HOME}/{version}.deb"
        call("dpkg-deb", "--build", "--root-owner-group", "-Znone", tree, system.path(to))
    return to


def call(*words: str | Path, **variables: str) -> str:
    """Run a program; what it says is in the error when it fails."""
    done = subprocess.run(
        words,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    if done.returncode:
        raise AssertionError(f"{words} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout
