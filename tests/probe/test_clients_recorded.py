"""The real clients again: what they send is what the scripts of probe/clients/ send, and what they make of servers
with faults is what the scripts say.
"""

from __future__ import annotations

import sys
import unittest
from pathlib import Path
from typing import ClassVar

from pysftpserver.contract.in_process import ServerLine
from pysftpserver.probe.clients import SCRIPTS, run
from pysftpserver.probe.clients.playing import OBSERVED, Script
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.integration.harness import ServedCase, empty
from tests.probe.real import REAL, check, prepare
from tests.probe.traces import Packet, Trace, recorded
from tests.support.hard import IS_HARD
from tests.support.processes import require

SIZE = 3_000_000  # bytes: as many requests as a client lets wait
SILENCE = "0.2"  # seconds without a request, after which the recorder takes a client to wait for answers
SCRIPT = {(script.client, script.task): script for script in SCRIPTS}


def setUpModule() -> None:
    if not IS_HARD:
        raise unittest.SkipTest("the real clients: make test-hard")
    require("sftp", "scp", "lftp", "sshfs", "restic", "fzsftp", "puttygen")


class RecordedLine(ServerLine):
    """A line to a session in this process, of which everything is kept."""

    def __init__(self, directory: Path, packets: list[Packet]) -> None:
        super().__init__(SFTPServerVirtualChroot(str(directory)))
        self._packets = packets

    def send(self, data: bytes) -> None:
        self._packets.append((">", data))
        super().send(data)

    def receive(self, seconds: float) -> bytes:
        replies = super().receive(seconds)
        position = 0
        while position < len(replies):
            end = position + 4 + int.from_bytes(replies[position : position + 4], "big")
            self._packets.append(("<", replies[position:end]))
            position = end
        return replies


class TestWhatClientsSend(ServedCase):
    records: ClassVar[Path]

    @classmethod
    def server_command(cls) -> list[str]:
        cls.records = cls.place / "records"
        cls.records.mkdir(exist_ok=True)
        recorder = str(Path(__file__).with_name("recorder.py"))
        return [sys.executable, recorder, str(cls.records), SILENCE, *cls.jail_command()]

    def real(self, client: str, task: str) -> list[str]:
        prepare(self, SIZE)
        empty(self.records)
        REAL[client, task](self)
        check(self, client, task)
        lines = []
        for session in sorted(self.records.iterdir()):
            lines += Trace(recorded(session), b"task").lines
        return lines

    def played(self, script: Script) -> list[str]:
        empty(self.jail)
        sessions: list[list[Packet]] = []

        def connect() -> RecordedLine:
            sessions.append([])
            return RecordedLine(self.jail, sessions[-1])

        task = run(script, connect, b"/task", size=SIZE)
        self.assertTrue(task.works, task.verdict)
        return Trace(sessions[1], b"task").lines

    def test_scripts_send_what_clients_send(self) -> None:
        for script in SCRIPTS:
            if script.basis != OBSERVED:
                continue
            with self.subTest(client=script.client, task=script.task):
                real = self.real(script.client, script.task)
                played = self.played(script)
                self.assertEqual(normal(script, real), normal(script, played))


def normal(script: Script, lines: list[str]) -> list[str]:
    return lines
