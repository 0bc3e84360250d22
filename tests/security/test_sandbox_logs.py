"""Logs work in the sandbox: syslog, also after a restart of its daemon, log files and audit logs by path."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

from tests.faults.disks import ways_in
from tests.support.cases import InAPlace
from tests.support.doors import Wire
from tests.support.packets import NO_ATTRS, OK, string
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

# In a mount namespace of its own, with a /dev that has a syslog socket of ours.
ENTER = """
for name in null zero random urandom; do touch "$0/$name" && mount --bind "/dev/$name" "$0/$name"; done
mount --bind "$0" /dev && exec "$@"
"""


class Logs(InAPlace):
    made_in = "/tmp"  # below /dev it would be hidden by the other /dev

    def setUp(self) -> None:
        super().setUp()
        for name in ("jail", "dev"):
            (self.place / name).mkdir()

    def serve(self, *words: object, before: tuple[object, ...] = ()) -> Wire:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [*before, sys.executable, ROOT / "bin" / "pysftpjail", *words, self.place / "jail"],
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

        self.status = 0
        watchdog = threading.Timer(2 * PATIENCE, process.kill)  # what hangs, hangs in reading from it
        watchdog.start()

        def end() -> None:
            ours.close()
            _, errors = process.communicate()
            watchdog.cancel()
            self.assertEqual((process.returncode, errors), (self.status, b""))

        self.addCleanup(end)
        wire = Wire(ours.fileno(), ours.fileno())
        wire.hello()
        return wire

    def daemon(self) -> socket.socket:
        """A syslog daemon's socket."""
        path = self.place / "dev" / "log"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listener.close)
        listener.bind(str(path))
        listener.settimeout(PATIENCE)
        return listener

    def heard(self, daemon: socket.socket, words: str) -> None:
        while words not in daemon.recv(4096).decode():
            pass

    def test_syslog_is_written_and_found_again_when_its_daemon_was_restarted(self):
        before = ("unshare", *ways_in()[0], "sh", "-ec", ENTER, self.place / "dev")
        daemon = self.daemon()
        wire = self.serve(before=before)
        self.heard(daemon, "sandbox: ")
        self.assertEqual(wire.ask("mkdir", string(b"one"), NO_ATTRS).content, OK)
        self.heard(daemon, 'mkdir name "one"')
        daemon.close()
        daemon = self.daemon()
        self.assertEqual(wire.ask("mkdir", string(b"two"), NO_ATTRS).content, OK)
        self.heard(daemon, 'mkdir name "two"')

    def test_syslog_that_is_first_written_to_inside_the_sandbox_works_too(self):
        before = ("unshare", *ways_in()[0], "sh", "-ec", ENTER, self.place / "dev")
        daemon = self.daemon()
        wire = self.serve("--log-level", "ERROR", before=before)
        wire.send(b"\0\0\0\0\0")  # no SFTP
        self.heard(daemon, "session ends: a packet of 0 bytes")
        self.status = 11

    def test_a_log_file_and_an_audit_log_outside_the_jail_are_written_to_the_end(self):
        log, audit = self.place / "log", self.place / "audit"
        wire = self.serve("--logfile", log, "--audit", audit)
        self.assertEqual(wire.ask("mkdir", string(b"one"), NO_ATTRS).content, OK)
        self.assertEqual(wire.ask("rmdir", string(b"one")).content, OK)
        self.assertIn("sandbox: Landlock", log.read_text())
        self.assertIn('mkdir name "one"', log.read_text())
        self.assertIn('"request":"rmdir","path":"one"', audit.read_text())
