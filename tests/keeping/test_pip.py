"""pip replaces the package under a session, and a link leads to another version: the session goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

from pysftpserver import __version__
from tests.keeping.test_sessions_across_upgrades import Session, without_times
from tests.support.doors import DoorCase
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.processes import program
from tests.support.waiting import PATIENCE

NEXT = "99.0.0"
#: A module that every session of the old version has, and the new one under another name.
RENAMED = "pysftpserver/engine/handlers.py", "pysftpserver/engine/served.py"


@unittest.skipUnless(IS_HARD, "pip takes half a minute for each version")
class UnderPip(DoorCase):
    forks = False
    patience = 20 * PATIENCE

    def setUp(self) -> None:
        super().setUp()
        files = subprocess.run([program("git"), "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
        self.old, self.new = self.place / "old", self.place / "new"
        for name in filter(None, files.stdout.decode().split("\0")):
            if (
                not name.startswith(("tests/", "fuzz/", "bench/", "docs/conformance/"))
                and (ROOT / name).exists()
            ):
                (self.old / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.old / name)
        shutil.copytree(self.old, self.new)
        about = self.new / "pysftpserver/__init__.py"
        about.write_text(about.read_text().replace(__version__, NEXT))
        for path in (self.new / "pysftpserver").rglob("*.py"):
            path.write_text(
                path.read_text()
                .replace("engine.handlers", "engine.served")
                .replace("engine import handlers", "engine import served as handlers")
            )
        (self.new / RENAMED[0]).rename(self.new / RENAMED[1])
        self.jail = self.place / "jail"

    def environment(self, name: str) -> Path:
        """An empty environment."""
        found = self.place / name
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", found], check=True, capture_output=True
        )
        return found

    def install(self, environment: Path, checkout: Path) -> None:
        words = [
            "-m",
            "pip",
            "-q",
            "--disable-pip-version-check",
            "--no-input",
            "--python",
            environment / "bin/python",
        ]
        words += ["install", "--no-deps", "--upgrade", checkout]
        how = {"cwd": self.place, "capture_output": True, "text": True, "timeout": 8 * PATIENCE}
        done = subprocess.run([sys.executable, *words], **how)
        self.assertEqual(done.returncode, 0, done.stderr)

    def session(self, command: Path) -> Session:
        shutil.rmtree(self.jail, ignore_errors=True)
        (self.jail / "d").mkdir(parents=True)
        (self.jail / "f").write_bytes(bytes(200_000))
        os.symlink("f", self.jail / "l")
        log = self.place / "log"
        return Session(self, [str(command), "--logfile", str(log), "--no-sandbox", str(self.jail)], log)

    def version(self, command: Path) -> str:
        return subprocess.run([command, "--version"], check=True, capture_output=True, text=True).stdout

    def goes_on(self, command: Path, upgrade: object) -> None:
        before = self.session(command)
        expected = without_times(before.answers())
        before.sock.close()
        session = self.session(command)
        upgrade()
        self.assertEqual(without_times(session.answers()), expected)
        session.sock.close()
        self.assertEqual(session.door.process.wait(PATIENCE), 0)
        self.assertIn(NEXT, self.version(command))
        after = self.session(command)
        self.assertEqual(without_times(after.answers()), expected)

    def test_a_session_goes_on_while_pip_replaces_the_package(self) -> None:
        environment = self.environment("environment")
        self.install(environment, self.old)
        (packages,) = environment.glob("lib/python*/site-packages/pysftpserver")

        def upgrade() -> None:
            self.install(environment, self.new)
            self.assertFalse((packages / "engine/handlers.py").exists())

        self.goes_on(environment / "bin/pysftpjail", upgrade)

    def test_a_session_goes_on_while_a_link_is_led_to_a_new_environment(self) -> None:
        link = self.place / "pysftpserver"
        for name, checkout in (("one", self.old), ("two", self.new)):
            self.install(self.environment(name), checkout)
        link.symlink_to("one")

        def upgrade() -> None:
            os.symlink("two", self.place / "pysftpserver.new")
            os.rename(self.place / "pysftpserver.new", link)

        self.goes_on(link / "bin/pysftpjail", upgrade)
