"""What systemd is told of a service."""

from __future__ import annotations

import math
import os
import select
import socket
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from pysftpserver.service.notifying import Life
from tests.support.waiting import PATIENCE


class Systemd:
    """A socket in systemd's place."""

    def __init__(self, case: unittest.TestCase, name: str | None = None) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        case.addCleanup(self.socket.close)
        if name is None:
            directory = case.enterContext(tempfile.TemporaryDirectory(prefix="pysftpserver-notify-"))
            name = str(Path(directory) / "notify")
        self.socket.bind(name.replace("@", "\0"))
        self.socket.settimeout(PATIENCE)
        self.environment = {"NOTIFY_SOCKET": name}

    def heard(self) -> str:
        """The next message."""
        return self.socket.recv(1000).decode()

    def has_heard(self) -> bool:
        """Whether there is one more."""
        return bool(select.select([self.socket], [], [], 0)[0])


class ALife(unittest.TestCase):
    def test_a_service_is_ready_and_alive_if_all_its_processes_are(self) -> None:
        systemd = Systemd(self)
        systemd.environment |= {"WATCHDOG_USEC": "8000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
        life = Life(2, systemd.environment)
        self.assertEqual(systemd.environment, {"HOME": "/"})
        with mock.patch("time.monotonic", return_value=100.0) as clock:
            life.beat(0)
            life.pass_on()
            self.assertFalse(systemd.has_heard())
            life.beat(1)
            life.pass_on()
            self.assertEqual((systemd.heard(), life.pause), ("READY=1", 2.0))
            life.pass_on()
            self.assertEqual(systemd.heard(), "WATCHDOG=1")
            clock.return_value = 107.0
            life.beat(0)
            life.pass_on()
            self.assertEqual(systemd.heard(), "WATCHDOG=1")
            clock.return_value = 108.0
            life.pass_on()  # the other process hangs
            self.assertFalse(systemd.has_heard())
            life.beat(1, math.inf)
            life.pass_on()
            self.assertEqual(systemd.heard(), "WATCHDOG=1")
        life.stopping()
        self.assertEqual(systemd.heard(), "STOPPING=1")

    def test_without_a_watchdog_it_is_told_once_and_without_systemd_nothing(self) -> None:
        systemd = Systemd(self, f"@pysftpserver-test-{os.getpid()}")
        systemd.environment |= {"WATCHDOG_USEC": "8000000", "WATCHDOG_PID": "1"}
        life = Life(1, systemd.environment)
        self.assertIsNotNone(life.pause)
        for _ in range(3):
            life.beat(0)
            life.pass_on()
        self.assertEqual((systemd.heard(), life.pause, systemd.has_heard()), ("READY=1", None, False))
        for environment in ({}, {"WATCHDOG_USEC": "1"}):
            self.assertIsNone(Life(1, environment).pause)
        gone = Life(1, {"NOTIFY_SOCKET": "/nowhere/at/all"})
        gone.beat(0)
        gone.pass_on()
        gone.stopping()
