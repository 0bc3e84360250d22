"""The scripts of clients against our own server, and against servers with one fault: the verdict of the
clients that meet the fault says so, and of no others.
"""

from __future__ import annotations

import tempfile
import unittest
from collections.abc import Callable

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.contract.client import Silent
from pysftpserver.contract.in_process import ServerLine
from pysftpserver.engine.wire import SSH2_FXP_FSETSTAT
from pysftpserver.probe.clients import CLIENTS, DEAD, HANGS, MODULES, MOST_HANGING, run_all
from pysftpserver.probe.clients.playing import DOCUMENTED, OBSERVED
from pysftpserver.probe.results import Task
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.probe.faulty import FAULTS, Fault, FaultyLine, Request
from tests.support.hard import IS_HARD
from tests.support.memory import SFTPServerMemoryStorage
from tests.support.paths import IN_MEMORY

SIZE = 33_000  # bytes: two WRITEs of most clients
TASKS = {"upload", "download", "resume", "sync", "edit"}

#: By fault: verdicts of tasks, in part, and which clients have them at which tasks. All others just work.
MET: dict[str, dict[str, str]] = {
    "times are not kept": {
        "works, but -p does not keep times": "OpenSSH sftp: upload; OpenSSH scp: upload",
        "works, but files have the time of the upload, because times are not kept": (
            "WinSCP: upload resume edit; FileZilla: upload; lftp: upload sync; rclone: upload"
        ),
        "works, but takes its uploads for newer than": "WinSCP: sync",
        "works, but copies every file again each time, because times are not kept": "rclone: sync",
        "works, but `cp -p` does not keep times": "sshfs: upload",
        "works, but preserve=True does not keep times": "asyncssh: upload",
    },
    "permissions are not kept": {
        "works, but -p does not keep permissions": "OpenSSH sftp: upload; OpenSSH scp: upload",
        "works, but file permissions do not change": "FileZilla: upload",
        "works, but `cp -p` does not keep permissions": "sshfs: upload",
        "works, but the repository is not private": "restic: upload",
        "works, but preserve=True does not keep permissions": "asyncssh: upload",
    },
    "permissions are refused": {
        "works, but -p does not keep times and permissions, because FSETSTAT is answered with PERMISSION": (
            "OpenSSH sftp: upload; OpenSSH scp: upload"
        ),
        "works, but file permissions cannot be changed": "FileZilla: upload",
        "works, but files do not get their permissions": "lftp: sync",
        "fails, because SETSTAT is answered with PERMISSION_DENIED": "sshfs: upload; asyncssh: upload",
        "fails, because FSETSTAT is answered with PERMISSION_DENIED": "restic: upload download",
    },
    "SETSTAT and FSETSTAT are refused": {
        "works, but -p does not keep times and permissions": "OpenSSH sftp: upload",
        "works, but a longer file that is replaced keeps its end": "OpenSSH scp: upload",
        "uploads, but an error is shown after each upload": "WinSCP: upload resume sync",
        "saves, but an error is shown after each upload": "WinSCP: edit",
        "works, but files have the time of the upload, because": (
            "FileZilla: upload resume edit; lftp: upload resume sync"
        ),
        "fails, because SETSTAT is answered with OP_UNSUPPORTED": "rclone: upload sync; sshfs: upload",
        "fails, because FSETSTAT is answered with OP_UNSUPPORTED": "restic: upload download",
        "works, but preserve=True does not keep times and permissions": "asyncssh: upload",
    },
    "FSETSTAT is refused": {
        "works, but -p does not keep times and permissions": "OpenSSH sftp: upload",
        "works, but a longer file that is replaced keeps its end": "OpenSSH scp: upload",
        "works, but files have the time of the upload": "lftp: upload resume sync",
        "fails, because FSETSTAT is answered with OP_UNSUPPORTED": "restic: upload download",
    },
    "no posix-rename": {
        "works, but a file that it replaces is missing for a moment": "rclone: sync",
        "fails, because RENAME is answered with FAILURE": "sshfs: edit",
    },
    "posix-rename refuses over existing": {
        "fails, because posix-rename@openssh.com is answered with FAILURE": "rclone: sync; sshfs: edit",
    },
    "RENAME replaces": {},
    "renaming is refused": {
        "fails, because RENAME is answered with PERMISSION_DENIED": "WinSCP: upload resume sync",
        "fails, because posix-rename@openssh.com is answered with PERMISSION_DENIED": (
            "rclone: upload sync; sshfs: edit; restic: upload download"
        ),
    },
    "short reads": {
        "READ is answered with fewer bytes than asked for before the end": (
            "FileZilla: download edit; rclone: download; lftp: download"
        ),
        "takes 16384 of": "FileZilla: resume; lftp: resume; sshfs: download",
    },
    "long READs are refused, as limits say": {
        "fails, because READ is answered with FAILURE": (
            "WinSCP: download resume edit; FileZilla: download resume edit; Cyberduck: download resume edit; "
            "lftp: download resume; rclone: download; sshfs: download; restic: upload download; "
            "paramiko: download"
        ),
    },
    "limits promise too much": {
        "fails, because WRITE is answered with FAILURE": (
            "OpenSSH sftp: upload; OpenSSH scp: upload; asyncssh: upload"
        ),
    },
    "no limits": {},
    "CLOSE fails": {
        "fails, because CLOSE is answered with FAILURE": (
            "OpenSSH sftp: upload resume; OpenSSH scp: upload; WinSCP: upload resume sync edit; "
            "FileZilla: upload resume edit; Cyberduck: upload resume edit; lftp: upload resume sync; "
            "rclone: upload sync; restic: upload download; asyncssh: upload resume edit"
        ),
        "works, but does not say that the file may be lost": (
            "sshfs: upload resume edit; paramiko: upload resume edit"
        ),
    },
    "listings without times": {
        "works, but cannot compare by time": "WinSCP: sync",
        "works, but shows no times": (
            "FileZilla: upload download resume edit; Cyberduck: upload download resume edit"
        ),
        "works, but copies every file again each time, because listings have no times": "rclone: sync",
    },
    "longname is garbage": {
        "does not show files, because the longname in listings is not like": (
            "FileZilla: upload download resume edit"
        ),
    },
    "no statvfs": {"works, but df shows made-up free space": "sshfs: upload"},
    "no fsync": {},
    "APPEND is ignored": {"damages the file: it is too short": "asyncssh: resume"},
    "EXCL is refused": {
        "fails, because OPEN is answered with FAILURE": "sshfs: upload; restic: upload download"
    },
    "TRUNC is ignored": {
        "damages the file: it is too long": "WinSCP: edit; FileZilla: edit; Cyberduck: edit"
    },
    "TRUNC without CREAT is refused": {"fails, because OPEN is answered with FAILURE": "Cyberduck: edit"},
    "sizes are 0": {
        "damages the file: it is too long": "OpenSSH sftp: resume",
        "takes 0 of": ("lftp: download resume; rclone: download; sshfs: download; asyncssh: download"),
        "removes what it has uploaded, because STAT says 0 bytes": "rclone: upload sync",
        "finds the repository damaged": "restic: upload download",
        "fails with 'size mismatch in put'": "paramiko: upload",
    },
    "sizes are missing": {
        "does not say how": (
            "OpenSSH sftp: resume; WinSCP: resume; FileZilla: resume; lftp: resume; sshfs: download; "
            "paramiko: download resume"
        ),
        "takes 0 of": "asyncssh: download",
        "removes what it has uploaded, because STAT says None": "rclone: upload sync",
        "fails with 'size mismatch in put'": "paramiko: upload",
    },
    "INIT with another version ends": {
        "loses the connection": "WinSCP: upload download resume sync edit; lftp: upload download resume sync"
    },
}
#: Those that are tried daily.
DAILY = (
    *("times are not kept", "permissions are refused", "SETSTAT and FSETSTAT are refused", "no posix-rename"),
    *("RENAME replaces", "short reads", "long READs are refused, as limits say", "CLOSE fails"),
    *("listings without times", "longname is garbage", "no statvfs", "APPEND is ignored", "TRUNC is ignored"),
)


def played(
    storage: SFTPAbstractServerStorage,
    connect: Callable[[SFTPAbstractServerStorage], ServerLine] = ServerLine,
) -> dict[tuple[str, str], Task]:
    """What all clients meet, by client and task."""
    tasks = run_all(lambda: connect(storage), b"/", size=SIZE)
    return {(task.client, task.task): task for task in tasks}


class OnGoodServers(unittest.TestCase):
    def test_all_tasks_work_and_nothing_is_left(self) -> None:
        with tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
            for storage in (SFTPServerMemoryStorage(), SFTPServerVirtualChroot(directory)):
                with self.subTest(storage=type(storage).__name__):
                    for task in played(storage).values():
                        self.assertEqual((task.works, task.verdict), (True, "works"), task)
                        self.assertEqual((task.notes, task.steps), ([], []), task)
                    left = {name for name, _ in storage.opendir(b"/")} - {b".", b".."}
                    self.assertEqual(left, set())

    def test_each_client_is_there_with_what_it_does(self) -> None:
        self.assertEqual(len(CLIENTS), 11)
        for client, scripts in CLIENTS.items():
            tasks = [script.task for script in scripts]
            self.assertEqual(len(tasks), len(set(tasks)), client)
            self.assertLessEqual({"upload", "download"}, set(tasks), client)
            self.assertLessEqual(set(tasks), TASKS, client)
            self.assertEqual(len({script.basis for script in scripts}), 1, client)

    def test_each_module_says_where_it_is_from(self) -> None:
        basis = {script.play.__module__: script.basis for each in CLIENTS.values() for script in each}
        for module in MODULES:
            word = {OBSERVED: "Observed:", DOCUMENTED: "Documented:"}[basis[module.__name__]]
            self.assertIn(f"\n{word} ", module.__doc__ or "", module.__name__)

    def test_a_server_without_writing_is_left_alone(self) -> None:
        self.assertEqual(run_all(self.fail, b"/", {"write"}), [])


class OnServersWithAFault(unittest.TestCase):
    def test_the_clients_that_meet_it_say_so_and_no_others(self) -> None:
        self.assertEqual(set(MET), set(FAULTS))
        for fault in FAULTS if IS_HARD else DAILY:
            with self.subTest(fault):
                found = {task: each.verdict for task, each in self.tasks(FAULTS[fault]).items()}
                affected = {task for task, verdict in found.items() if verdict != "works"}
                expected = {
                    (client, task): words
                    for words, clients in MET[fault].items()
                    for each in clients.split("; ")
                    for client, tasks in [each.split(": ")]
                    for task in tasks.split()
                }
                self.assertEqual(affected, set(expected))
                for task, words in expected.items():
                    self.assertIn(words, found[task], task)

    def tasks(self, fault: Callable[[], Fault]) -> dict[tuple[str, str], Task]:
        storage = SFTPServerMemoryStorage()
        tasks = played(storage, lambda storage: FaultyLine(storage, fault()))
        left = {name for name, _ in storage.opendir(b"/")} - {b".", b".."}
        self.assertEqual(left, set())
        return tasks

    def test_a_verdict_has_the_last_packets_behind_it(self) -> None:
        task = self.tasks(FAULTS["renaming is refused"])["WinSCP", "upload"]
        asked = [step.words for step in task.steps if step.asked]
        self.assertIn("RENAME", asked[-1])
        self.assertIn("PERMISSION_DENIED", task.steps[-1].words)

    def test_a_server_that_takes_no_files_is_said_to(self) -> None:
        tasks = self.tasks(lambda: Fault(refuses=lambda request: 3 if request.kind == 3 else 0))
        for task in tasks.values():
            self.assertIn("could not be tried", task.verdict)
            self.assertIn("OPEN was refused: PERMISSION_DENIED", task.verdict)

    def test_a_server_that_falls_silent_is_not_waited_for(self) -> None:
        def silent() -> Fault:
            def refuses(request: object) -> int:
                raise Silent("the server did not answer")

            return Fault(refuses=refuses)

        tasks = list(self.tasks(silent).values())
        self.assertEqual({task.verdict for task in tasks}, {DEAD})
        self.assertEqual(len(tasks), MOST_HANGING)
        self.assertIn("not tried", tasks[-1].notes[-1])

    def test_a_server_that_hangs_at_something_costs_its_silence_a_few_times(self) -> None:
        def refuses(request: Request) -> int:
            if request.kind == SSH2_FXP_FSETSTAT:
                raise Silent("the server did not answer")
            return 0

        tasks = self.tasks(lambda: Fault(refuses=refuses)).values()
        hung = [f"{task.client}: {task.task}" for task in tasks if task.verdict == HANGS]
        self.assertEqual(hung, ["OpenSSH sftp: upload", "OpenSSH scp: upload", "lftp: upload"])
        self.assertEqual(list(tasks)[-1].task, "upload")
