"""The wheel and the source distribution: what is in them, and that they install as people do it."""

from __future__ import annotations

import email.message
import email.parser
import functools
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import unittest
import zipfile
from pathlib import Path

from pysftpserver import __version__
from pysftpserver.cli.registry import PROGRAMS
from tests.packaging.built import SDIST, WHEEL, call, distributions, make_dist, place
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT

DAILY = "daily, tests.test_install builds and installs a wheel"
TOP = SDIST.removesuffix(".tar.gz")
# What git tracks and nobody needs to build, test or read the project.
NOT_HANDED_OUT = re.compile(r"\.gitignore$|\.github/")
# What setuptools adds.
ADDED = {"PKG-INFO", "setup.cfg"}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def tracked() -> set[str]:
    return set(call("git", "-C", ROOT, "ls-files").splitlines())


def wheel() -> Path:
    return distributions() / WHEEL


@functools.cache
def unpacked() -> Path:
    """The source distribution's files."""
    into = place() / "unpacked"
    with tarfile.open(distributions() / SDIST) as archive:
        archive.extractall(into, filter="data")
    return into / TOP


@unittest.skipUnless(IS_HARD, DAILY)
class Contents(unittest.TestCase):
    def test_the_source_distribution_has_every_tracked_file_and_no_other(self) -> None:
        if not (ROOT / ".git").exists():
            self.skipTest("no checkout: there is nothing to compare with")
        with tarfile.open(distributions() / SDIST) as archive:
            members = archive.getmembers()
        names = {member.name.removeprefix(f"{TOP}/") for member in members if member.isfile()}
        names = {name for name in names if not name.startswith("pysftpserver.egg-info/")}
        self.assertEqual(names - ADDED, {name for name in tracked() if not NOT_HANDED_OUT.match(name)})
        self.assertEqual({member.uid for member in members} | {member.gid for member in members}, {0})
        self.assertEqual({member.mtime for member in members}, {members[0].mtime})

    def test_the_wheel_has_the_package_its_commands_and_their_manuals_and_nothing_else(self) -> None:
        with zipfile.ZipFile(wheel()) as archive:
            names = set(archive.namelist())
        data, info = f"{TOP}.data/", f"{TOP}.dist-info/"
        package = {name for name in names if name.startswith("pysftpserver/")}
        self.assertEqual(
            package,
            {name for name in tracked() if re.match(r"pysftpserver/.*(\.py|\.typed|/static/.*)$", name)},
        )
        scripts = {name.rpartition("/")[2] for name in names if name.startswith(f"{data}scripts/")}
        self.assertEqual(scripts, {program.name for program in PROGRAMS})
        shared = {name.removeprefix(f"{data}data/") for name in names if name.startswith(f"{data}data/")}
        self.assertTrue(
            all(re.match(r"share/(man|bash-completion|zsh|fish)/", name) for name in shared), shared
        )
        pages = {name.rpartition("/")[2].rpartition(".")[0] for name in shared if "/man/" in name}
        self.assertLessEqual({program.name for program in PROGRAMS}, pages)
        metadata = {name.removeprefix(info) for name in names if name.startswith(info)}
        self.assertEqual(metadata, {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE", "top_level.txt"})
        rest = {name for name in names if not name.startswith(("pysftpserver/", data, info))}
        self.assertEqual(rest, set())

    def test_the_metadata_say_what_the_project_says(self) -> None:
        with zipfile.ZipFile(wheel()) as archive:
            said: email.message.Message = email.parser.BytesParser().parsebytes(
                archive.read(f"{TOP}.dist-info/METADATA")
            )
            kind = archive.read(f"{TOP}.dist-info/WHEEL").decode()
        self.assertIn("Tag: py3-none-any\n", kind)
        self.assertEqual((said["Version"], said["License-Expression"]), (__version__, "MIT"))
        self.assertEqual(set(said.get_all("Provides-Extra", [])), set(EXTRAS))
        self.assertTrue(all("extra ==" in needed for needed in said.get_all("Requires-Dist", [])))

    def test_the_source_distribution_builds_the_same_source_distribution_and_wheel(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            # Of another account's umask, at another place and time.
            before = os.umask(0o077)
            try:
                make_dist(unpacked(), Path(name))
            finally:
                os.umask(before)
            for file in (WHEEL, SDIST):
                self.assertEqual(
                    (Path(name) / file).read_bytes(), (distributions() / file).read_bytes(), file
                )


@unittest.skipUnless(IS_HARD, DAILY)
class Installed(unittest.TestCase):
    def setUp(self) -> None:
        self.top = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def without_compiler(self) -> dict[str, str]:
        """An environment whose PATH has only an empty directory and Python's own."""
        directory = self.top / "bin"
        directory.mkdir()
        for name in ("cc", "gcc", "c++", "g++", "clang", "rustc", "cargo"):
            (directory / name).write_text('#!/bin/sh\necho "$0: there is no compiler" >&2\nexit 1\n')
            (directory / name).chmod(0o755)
        return {"PATH": f"{directory}:/usr/bin:/bin", "CC": os.fspath(directory / "cc")}

    def environment(self) -> Path:
        call(sys.executable, "-m", "venv", self.top / "environment")
        return self.top / "environment" / "bin"

    def test_both_install_without_a_compiler(self) -> None:
        variables = self.without_compiler()
        programs = self.environment()
        for file in (WHEEL, SDIST):
            with self.subTest(file):
                pip = [programs / "python", "-m", "pip", "-q", "install", "--force-reinstall"]
                call(*pip, distributions() / file, **variables)
                for program in PROGRAMS:
                    if not program.summary.startswith("an older name"):
                        said = call(programs / program.name, "--version")
                        self.assertEqual(said, f"{program.name} {__version__}\n")

    def test_what_the_extras_need_has_wheels(self) -> None:
        """With the newest versions that pyproject.toml allows."""
        pip = [self.environment() / "python", "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        said = call(*pip, "--only-binary", ":all:", f"{wheel()}[all]", PIP_CONSTRAINT=os.devnull)
        self.assertIn("Would install", said)
        for library in ("asyncssh", "cryptography", "pymongo", "SecantusDB", "srptools"):
            self.assertIn(library.lower(), said.lower())

    def test_pipx_gives_commands_that_work(self) -> None:
        programs = self.environment()
        call(programs / "python", "-m", "pip", "-q", "install", "pipx")
        homes = {
            "PIPX_HOME": os.fspath(self.top / "home"),
            "PIPX_BIN_DIR": os.fspath(self.top / "commands"),
            "PIPX_MAN_DIR": os.fspath(self.top / "man"),
            "PIPX_DEFAULT_PYTHON": sys.executable,
        }
        call(programs / "pipx", "install", wheel(), **homes)
        for program in PROGRAMS:
            self.assertIn(__version__, call(self.top / "commands" / program.name, "--version"))
        self.assertTrue((self.top / "man" / "man8" / "pysftpjail.8").exists())
        jail = self.top / "jail"
        jail.mkdir()
        (jail / "welcome.txt").write_text("hello\n")
        said = subprocess.run(
            ["sftp", "-D", f"{self.top}/commands/pysftpjail {jail}"],
            input="ls\n",
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertIn("welcome.txt", said.stdout, said.stderr)
        call(programs / "pipx", "install", "--force", f"{wheel()}[sshd]", **homes)
        self.assertIn("usage: pysftpctl", call(self.top / "commands" / "pysftpctl", "--help"))
        call(programs / "pipx", "uninstall", "pysftpserver", **homes)
        self.assertEqual(list((self.top / "commands").iterdir()), [])
