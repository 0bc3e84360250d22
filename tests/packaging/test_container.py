"""The container image, as far as no engine is needed: its steps, account, server and health check."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import signal
import tomllib
import unittest

from pysftpserver import __version__
from pysftpserver.sshd.config import ServerSettings
from tests.packaging.chroots import Chroot, debian, needs_chroot
from tests.packaging.containers import Image, build, stages
from tests.packaging.serving import Keyed
from tests.support.paths import ROOT
from tests.support.ports import LOOPBACK, free_port
from tests.support.processes import Program, descendants
from tests.support.waiting import PATIENCE

CONTAINERFILE = ROOT / "Containerfile"
SETTINGS = "packaging/container/pysftpd.toml"


def settings() -> dict[str, object]:
    return tomllib.loads((ROOT / SETTINGS).read_text())


class Containerfile(unittest.TestCase):
    """What can be read off the file."""

    def setUp(self) -> None:
        self.stages = stages(CONTAINERFILE.read_text())
        self.steps = dict(self.stages[-1].steps)

    def test_its_last_stage_runs_as_a_number_that_is_not_root(self) -> None:
        uid, _, gid = self.steps["USER"].partition(":")
        self.assertGreater(int(uid), 0)
        self.assertGreater(int(gid), 0)

    def test_its_last_stage_has_no_pip_no_compiler_and_no_sources(self) -> None:
        last = " ".join(rest for _, rest in self.stages[-1].steps)
        for name in ("pip ", "gcc", "build-essential", "python3-venv", "curl"):
            self.assertNotIn(name, last)

    def test_its_settings_are_settings_and_agree_with_its_volumes_and_its_port(self) -> None:
        said = settings()
        self.assertLessEqual(set(said), set(ServerSettings.table()))
        self.assertEqual(self.steps["EXPOSE"], str(said["port"]))
        for key in ("users", "sftp_path", "host_key_dir"):
            self.assertTrue(
                any(str(said[key]).startswith(volume) for volume in json.loads(self.steps["VOLUME"]))
            )

    def test_what_it_copies_is_there_and_is_given_to_the_builder(self) -> None:
        given = [
            line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")
        ]
        for word, rest in (step for stage in self.stages for step in stage.steps):
            if word == "COPY" and "--from" not in rest:
                for source in rest.split()[:-1]:
                    self.assertTrue((ROOT / source).exists(), source)
                    self.assertTrue(any(fnmatch.fnmatch(source, f"{name}*") for name in given), source)


@needs_chroot
class Container(Keyed):
    """Each stage is built in a Debian of its own, in the place of the image it names."""

    image: Image

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        first, last = stages(CONTAINERFILE.read_text())
        systems = cls.enterClassContext(contextlib.ExitStack())
        earlier = systems.enter_context(debian())
        earlier.lend_pip()
        build(first, earlier, ROOT, {}, **Chroot.pip_variables())
        cls.image = build(last, systems.enter_context(debian()), ROOT, {first.name: earlier})

    def words(self, *words: str) -> tuple[str, ...]:
        return ("sh", "-c", f'cd {self.image.directory} && exec "$@"', "sh", *words)

    def how(self) -> dict[str, str]:
        return {"user": self.image.user, "HOME": self.image.directory, **self.image.variables}

    def run_in(self, *words: str, status: int = 0) -> str:
        """What `podman run` does: its account and directory, no capabilities. Returns what is said."""
        return self.image.system.run(*self.words(*words), status=status, **self.how())

    def test_users_are_added_and_served_and_the_health_check_sees_it(self) -> None:
        config = self.image.command[-1]
        self.assertEqual(self.run_in("pysftpd", "--version"), f"pysftpd {__version__}\n")
        self.run_in(*self.image.health, status=1)
        key = self.key.with_suffix(".pub").read_text()
        self.run_in("pysftpctl", "--config", config, "add", "alice", "--key", key.strip())
        port = free_port()
        command = self.words(*self.image.command, "--port", str(port), "--listen-address", LOOPBACK)
        writable = " ".join((*self.image.volumes, "/run/pysftpd"))
        words = self.image.system.words(*command, writable=writable, **self.how())
        server = Program(words, self.place / "server.log")
        self.addCleanup(server.close)
        server.said("ready")
        (self.place / "up").write_text("uploaded\n")
        said = self.sftp(port, "alice", f"put {self.place}/up report.txt\nls -l\n")
        self.assertIn("report.txt", said)
        self.run_in(*self.image.health)
        kept = self.image.system.path("/srv/pysftpd/alice/report.txt")
        self.assertEqual((kept.read_text(), kept.stat().st_uid), ("uploaded\n", 2200))
        # The first process of a container, as an engine stops it: signals without a handler do nothing there.
        first = next(pid for pid, _, _ in descendants(server.pid))
        os.kill(first, signal.SIGTERM)
        self.assertEqual(server.wait(PATIENCE), 0, server.output())

    def test_nothing_of_the_build_is_left_in_the_image(self) -> None:
        system = self.image.system
        self.assertFalse(system.path("/src").exists())
        for words in (("-m", "pip"), ("-c", "import setuptools")):
            self.run_in("python3", *words, status=1)
        for program in ("cc", "gcc", "curl"):
            self.assertEqual(self.run_in("sh", "-c", f"command -v {program} || echo none"), "none\n")
