"""SIGHUP while a door starts: the door heeds it once it serves, and is not ended by it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import tempfile
import unittest
from pathlib import Path

from pysftpserver.laboratory.config import PASSWORD_VARIABLE
from tests.remo.running import environment, furnish
from tests.sshd.material import put_host_keys
from tests.sshd.running import write_private
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.processes import Program
from tests.support.waiting import PATIENCE, until

#: The words of each long-running door, and a configuration. --config names a FIFO, where a door waits for us.
DOORS = {
    "pysftpd": (
        ("--allow-root", "--users", "users.toml", "--sftp-path", "."),
        "[options]\nport = 0\nlisten_address = 127.0.0.1\n",
    ),
    "pysftpd, two processes": (
        ("--allow-root", "--users", "users.toml", "--sftp-path", ".", "--workers", "2"),
        "[options]\nport = 0\nlisten_address = 127.0.0.1\n",
    ),
    "pysftpremo": (("serve", "--allow-root"), 'root = "."\nport = 0\n'),
    "pysftplab": (("serve", "--allow-root"), "port = 0\n"),
    "pysksync": (
        ("--allow-root",),
        '{"port": 0, "host": "127.0.0.1", "server_root": ".", "require_auth": false}',
    ),
}


def opened(fifo: Path) -> int | None:
    """The end of a FIFO that writes; None: nothing waits at the other one."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


class WhileStarting(unittest.TestCase):
    def test_a_hangup_while_a_door_reads_its_configuration_makes_it_reload_once_it_serves(self) -> None:
        for name, (words, configuration) in DOORS.items():
            place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="pysftpserver-hangup-")))
            with self.subTest(name):
                furnish(place)
                write_private(place / "users.toml", "[users]\n")
                os.mkfifo(place / "conf")
                script = ROOT / "bin" / name.partition(",")[0]
                door = Program(
                    [sys.executable, str(script), *words, "--config", "conf"],
                    place / "log",
                    cwd=place,
                    env=environment(**{PASSWORD_VARIABLE: "pw"}),
                )
                self.addCleanup(door.close)
                waits = until(lambda fifo=place / "conf": opened(fifo), "the configuration is not read")
                (place / "new").write_text(configuration)
                (place / "new").replace(place / "conf")
                door.send_signal(signal.SIGHUP)
                os.write(waits, configuration.encode())
                os.close(waits)
                door.said("listening on ")
                door.said("reloaded\n")
                self.assertEqual(door.stop(), 0)

    def test_a_server_that_is_asked_to_hand_over_while_it_starts_does_once_it_serves(self) -> None:
        for name in ("pysftpd", "pysftpd, two processes")[0 if IS_HARD else 1 :]:
            words, configuration = DOORS[name]
            place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="pysftpserver-hangup-")))
            with self.subTest(name):
                write_private(place / "users.toml", "[users]\n")
                os.mkfifo(place / "conf")
                script = place / "pysftpd"  # as pip installs it: with the interpreter of its environment
                script.write_text(f"#!{sys.executable}\n" + (ROOT / "bin" / "pysftpd").read_text())
                script.chmod(0o755)
                put_host_keys(place / "keys")
                door = Program(
                    [str(script), *words, "--host-key-dir", "keys", "--config", "conf"],
                    place / "log",
                    cwd=place,
                )
                self.addCleanup(door.close)
                waits = until(lambda fifo=place / "conf": opened(fifo), "the configuration is not read")
                (place / "new").write_text(configuration)
                (place / "new").replace(place / "conf")
                door.send_signal(signal.SIGUSR2)
                os.write(waits, configuration.encode())
                os.close(waits)
                process = int(door.said(r"process (\d+) serves new connections")[1])
                new = os.pidfd_open(process)
                self.addCleanup(os.close, new)
                self.assertEqual(door.wait(), 0)
                signal.pidfd_send_signal(new, signal.SIGTERM)
                self.assertTrue(select.select([new], [], [], PATIENCE)[0])

    @unittest.skipUnless(IS_HARD, "test_handover.py has the part that decides")
    def test_a_server_that_ends_while_its_new_version_starts_leaves_nothing(self) -> None:
        for name in ("pysftpd", "pysftpd, two processes"):
            words, configuration = DOORS[name]
            place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="pysftpserver-hangup-")))
            with self.subTest(name):
                write_private(place / "users.toml", "[users]\n")
                (place / "conf").write_text(configuration)
                put_host_keys(place / "keys")
                script = place / "pysftpd"
                head, body = f"#!{sys.executable}\n", (ROOT / "bin" / "pysftpd").read_text()
                script.write_text(head + body)
                script.chmod(0o755)
                door = Program(
                    [str(script), *words, "--host-key-dir", "keys", "--config", "conf"],
                    place / "log",
                    cwd=place,
                )
                self.addCleanup(door.close)
                door.said("ready\n", 2 if "two" in name else 1)
                os.mkfifo(place / "gate")
                script.write_text(f"{head}open({str(place / 'gate')!r}).read()\n{body}")
                door.send_signal(signal.SIGUSR2)
                gate = until(lambda place=place: opened(place / "gate"), "no new version starts")
                self.assertEqual(door.stop(), 0)
                os.close(gate)
                until(lambda door=door: "waits no more" in door.output(), door.output)
                until(lambda script=script: not running(script), "one is left")


def running(script: Path) -> list[str]:
    """The processes that a script runs in."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.fsencode(script) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(pid)
    return found


class AsRoot(unittest.TestCase):
    @unittest.skipIf(os.geteuid(), "these tests do not run as root")
    def test_a_door_refuses_to_run_as_root_before_it_makes_a_file(self) -> None:
        for name, (words, _) in DOORS.items():
            place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="pysftpserver-root-")))
            script = ROOT / "bin" / name.partition(",")[0]
            allowed = [*words, "--logfile", "log", "--audit", "audit"]
            with self.subTest(name):
                door = Program(
                    [sys.executable, str(script), *(word for word in allowed if word != "--allow-root")],
                    place.with_suffix(".said"),
                    cwd=place,
                    env=environment(**{PASSWORD_VARIABLE: "pw"}),
                )
                self.addCleanup(place.with_suffix(".said").unlink)
                self.addCleanup(door.close)
                self.assertEqual(door.wait(), 2)
                self.assertIn("--allow-root", door.output())
                self.assertEqual(list(place.iterdir()), [])
