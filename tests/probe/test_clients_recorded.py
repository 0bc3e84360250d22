"""The real clients again: what they send is what the scripts of probe/clients/ send, and what they make of
servers with faults is what the scripts say.
"""

from __future__ import annotations

import re
import subprocess
import sys
import unittest
from pathlib import Path
from typing import ClassVar

from asyncssh import SFTPError
from paramiko import SSHException

from pysftpserver.contract.in_process import ServerLine
from pysftpserver.probe.clients import SCRIPTS, run
from pysftpserver.probe.clients.playing import OBSERVED, Script
from pysftpserver.probe.results import Task
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.integration.harness import ServedCase, empty
from tests.probe.faulty import FAULTS, FaultyLine
from tests.probe.real import REAL, check, prepare
from tests.probe.traces import Packet, Trace, recorded
from tests.sshd.filezilla import Failed
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.processes import require

SIZE = 3_000_000  # bytes: as many requests as a client lets wait
SILENCE = "0.1"  # seconds without a request, after which the recorder takes a client to wait for answers
SOME = 300_000  # bytes: enough for faults
#: How real clients fail.
FAILURES = (AssertionError, OSError, EOFError, subprocess.SubprocessError, Failed, SSHException, SFTPError)
#: Faults that tell clients apart.
TELLING = (
    *("permissions are refused", "SETSTAT and FSETSTAT are refused", "no posix-rename", "short reads"),
    *("CLOSE fails", "APPEND is ignored", "EXCL is refused"),
)
NOT_SEEN = {("lftp", "short reads")}  # it begins again and again, for ever


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

    def compare(self, script: Script) -> None:
        real = self.real(script.client, script.task)
        played = self.played(script)
        self.assertEqual(normal(script, real), normal(script, played))
        if script.client in ("restic", "sshfs"):
            return  # that depends on the kernel, and on how much is done at once
        deepest = depths(played)
        for transfer, depth in depths(real).items():
            # SSH's window of 2 MiB, and a pause of the client, may keep it from sending as much; FileZilla's
            # uploads have no other limit.
            if transfer.startswith("READ") or script.client != "FileZilla":
                self.assertLessEqual(depth, deepest[transfer], transfer)


class TestWhatClientsMeet(ServedCase):
    """Real clients and scripts against servers with faults: both get what they want, or neither does."""

    def compare(self, script: Script) -> None:
        for fault in TELLING:
            if (script.client, fault) in NOT_SEEN:
                continue
            with self.subTest(fault, task=script.task):
                task = self.played(script, fault)
                if task.verdict == "works":
                    continue  # many real clients at work take long
                argv = [sys.executable, "-m", "tests.probe.faulty", str(self.jail), fault]
                self.serve(["/usr/bin/env", f"PYTHONPATH={ROOT}", *argv])
                prepare(self, SOME)
                self.assertEqual(self.works(script), task.works, task.verdict)

    def played(self, script: Script, fault: str) -> Task:
        empty(self.jail)
        storage = SFTPServerVirtualChroot(str(self.jail))
        return run(script, lambda: FaultyLine(storage, FAULTS[fault]()), b"/task", size=SOME)

    def works(self, script: Script) -> bool:
        try:
            REAL[script.client, script.task](self)
            check(self, script.client, script.task)
        except FAILURES:
            return False
        return True


def _tests_of(script: Script) -> None:
    name = f"test_{script.client}_{script.task}".replace(" ", "_")
    for case in (TestWhatClientsSend, TestWhatClientsMeet):

        def test(self: TestWhatClientsSend | TestWhatClientsMeet) -> None:
            self.compare(script)

        test.__name__ = name
        setattr(case, name, test)


for _script in SCRIPTS:
    if _script.basis == OBSERVED:
        _tests_of(_script)


def normal(script: Script, lines: list[str]) -> list[str]:
    """The lines to compare: without what depends on the kernel, on chance, on who else is at work, and
    without the beginnings of further sessions and the commands for a shell."""
    found: list[str] = []
    for line in lines:
        line = re.sub(r", \d+ at a time$", "", line)
        begins = line.startswith("INIT ") or (line == "REALPATH ." and script.client == "lftp")
        if line.startswith("shell ") or (begins and line in found):
            continue
        if script.client == "sshfs" and line.startswith(("LSTAT ", "FSTAT ", "statvfs@openssh.com")):
            continue
        if line.startswith("READDIR") and found[-1:] == [line]:
            continue
        found.append(line)
    if script.client in ("sshfs", "lftp") and found[-1].startswith("CLOSE"):
        del found[-1]  # the end of the session may come first
    return found if script.client != "restic" else kinds(found)


def kinds(lines: list[str]) -> list[str]:
    """Of restic, which does several things at once: each kind of line once, without lengths, and without
    what it asks to find out what there is already."""
    found = {re.sub(r" from \d+( to \d+)? by \d+$", "", line) for line in lines}
    return sorted(line for line in found if not line.startswith(("STAT", "LSTAT", "OPENDIR", "READDIR")))


def depths(lines: list[str]) -> dict[str, int]:
    """By what is read or written: how many requests wait for answers at a time."""
    found = (re.fullmatch(r"((?:READ|WRITE) \S+) .*, (\d+) at a time", line) for line in lines)
    return {match[1]: int(match[2]) for match in found if match is not None}
