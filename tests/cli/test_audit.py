"""--audit and --audit-best-effort of both commands, as processes: where records go, or the session ends."""

from __future__ import annotations

import getpass
import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pysftpserver.service.verifying import verify
from tests.cli.commands import CommandCase
from tests.support.auditing import records_of
from tests.support.doors import Wire
from tests.support.forked import Process
from tests.support.packets import CREAT, HELLO, NO_ATTRS, WRITE, replies, request, string, u32, u64
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until

BROKEN = 11
# A server whose files cannot become longer: for it, the disk is full.
CONFINED = """
import resource, sys
from pysftpserver.cli import {0}
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.exit({0}.main(sys.argv[2:]))
"""


def mkdirs(*names: str) -> bytes:
    return b"".join(request("mkdir", n, string(name.encode()), NO_ATTRS) for n, name in enumerate(names))


class TheAuditLogOf:
    """The tests for both commands: a subclass says how the command is run."""

    #: The arguments, behind the options it is called with, of a command whose clients start in self.jail.
    arguments: Callable[..., list[Any]]
    log_path: Path | None = None

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        self.audit = self.place / "audit"

    def records(self) -> list[dict[str, Any]]:
        return records_of(self.audit.read_bytes())

    def ran(self, *options: Any, requests: bytes = b"", **how: Any) -> subprocess.CompletedProcess[bytes]:
        return self.run_it(*self.arguments(*options), stdin=HELLO + requests, **how)

    def start(self, *options: Any, **how: Any) -> tuple[subprocess.Popen[bytes], Wire]:
        """A session that goes on; it inherits what is left of its standard error."""
        argv = [sys.executable, str(ROOT / "bin" / self.prog), *map(os.fspath, self.arguments(*options))]
        process = Process(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=self.place, **how)

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        wire = Wire(process.stdout.fileno(), process.stdin.fileno())
        wire.hello()
        return process, wire

    def test_goes_to_a_file_in_the_sandbox_with_who_it_was(self) -> None:
        opened = request("open", 7, string(b"f"), u32(WRITE | CREAT), NO_ATTRS)
        written = request("write", 8, string(u32(1)), u64(0), string(b"content"))
        done = self.ran(
            "--audit",
            self.audit,
            "--umask",
            "0277",
            requests=mkdirs("d\n\x1b") + opened + written,
            under_sshd=True,
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        records = self.records()
        self.assertEqual([r["request"] for r in records], ["init", "mkdir", "open", "abandoned", "end"])
        self.assertEqual([r["path"] for r in records], [None, "d\n\x1b", "f", "f", None])
        self.assertEqual([records[-2]["written"], records[-1]["bytes"]], [7, 7])
        who = {(r["peer"], r["port"], r["user"]) for r in records}
        self.assertEqual(who, {("192.0.2.7", 50000, getpass.getuser())})
        self.assertEqual(len({r["session"] for r in records}), 1)
        self.assertEqual(self.audit.stat().st_mode & 0o7777, 0o600, "whatever the clients' umask")

    def test_of_somebody_who_did_not_come_by_ssh_has_no_peer(self) -> None:
        self.assertEqual(self.ran("--audit", self.audit).returncode, 0)
        self.assertEqual({(r["peer"], r["port"]) for r in self.records()}, {(None, None)})

    def test_goes_to_standard_error_whatever_that_is(self) -> None:
        done = self.ran("--audit", "-", requests=mkdirs("d"))
        self.assertEqual(done.returncode, 0)
        self.assertEqual([r["request"] for r in records_of(done.stderr)], ["init", "mkdir", "end"])
        self.assertFalse((self.place / "-").exists())
        ours, theirs = socket.socketpair()
        with ours, theirs, self.audit.open("ab") as file:
            for stderr in (theirs, file):
                process, wire = self.start("--audit", "-", stderr=stderr)
                wire.ask("mkdir", string(b"e"), NO_ATTRS)
                process.communicate(timeout=PATIENCE)
                self.assertEqual(process.returncode, 0)
            theirs.close()
            received = ours.makefile("rb").read()
        for data in (received, self.audit.read_bytes()):
            self.assertEqual([r["request"] for r in records_of(data)], ["init", "mkdir", "end"])

    def test_that_goes_to_a_closed_standard_error_ends_the_session(self) -> None:
        code = "import os, sys; os.close(2); os.execv(sys.argv[1], sys.argv[1:])"
        script = [sys.executable, str(ROOT / "bin" / self.prog)]
        argv = ["-c", code, *script, *map(os.fspath, self.arguments("--audit", "-"))]
        done = self.run_argv(argv, stdin=HELLO + mkdirs("d"))
        self.assertEqual((done.returncode, done.stdout), (BROKEN, b""))
        self.assertEqual(os.listdir(self.jail), [])

    def test_that_cannot_be_opened_is_one_line_and_nothing_is_served(self) -> None:
        read_only = self.place / "read only"
        read_only.mkdir(0o555)
        for path in (self.place, self.place / "missing" / "audit", read_only / "audit", ""):
            with self.subTest(path):
                done = self.ran("--audit", path, requests=mkdirs("d"), obedient=True)
                self.assert_refused(done, "audit log", str(path))
                done = self.ran("--audit", path, requests=mkdirs("d"), obedient=True, under_sshd=True)
                text = self.assert_refused(done, "the audit log cannot be written (syslog says more)")
                self.assertNotIn(str(self.place), text)
        self.assertEqual((os.listdir(self.jail), os.listdir(read_only)), ([], []))

    def test_wants_a_file_to_make_an_effort_for(self) -> None:
        self.assert_refused(self.ran("--audit-best-effort"), "--audit-best-effort requires --audit FILE")

    def test_has_a_chain_and_digests_in_the_sandbox_if_they_are_asked_for(self) -> None:
        opened = request("open", 1, string(b"f"), u32(WRITE | CREAT), NO_ATTRS)
        pieces = [(7, b"content"), (0, b"content")]  # not in order: it is read again
        written = b"".join(request("write", 2, string(u32(1)), u64(o), string(d)) for o, d in pieces)
        closed = request("close", 3, string(u32(1)))
        for _ in range(2):
            how = ("--audit", self.audit, "--audit-digests", "--audit-chain")
            self.assertEqual(self.ran(*how, requests=opened + written + closed).returncode, 0)
        found = verify([os.fspath(self.audit)], {})
        self.assertEqual((found.problems, found.notes, found.records), ([], [], 8))
        digests = {r["sha256"] for r in self.records() if r["request"] == "close"}
        self.assertEqual(digests, {hashlib.sha256(b"content" * 2).hexdigest()})
        self.assert_refused(self.ran("--audit-chain"), "--audit-chain requires --audit FILE")
        self.assert_refused(self.ran("--audit", "-", "--audit-chain"), "--audit-chain requires --audit FILE")
        self.assert_refused(
            self.ran("--audit", self.audit, "--audit-level", "some"), "use files, operations or all"
        )

    def test_that_cannot_be_written_ends_the_session_before_anything_is_served(self) -> None:
        done = self.ran("--audit", "/dev/full", requests=mkdirs("d"))
        self.assertEqual((done.returncode, done.stdout), (BROKEN, b""))
        self.assertEqual(os.listdir(self.jail), [])
        text = self.logged(done)
        self.assertIn('audit: no space left on device; not recorded: {"time":', text)
        self.assertIn("session ends: the audit log cannot be written", text)

    def test_with_best_effort_lets_the_session_go_on(self) -> None:
        done = self.ran("--audit", "/dev/full", "--audit-best-effort", requests=mkdirs("d", "e"))
        self.assertEqual(done.returncode, 0)
        self.assertEqual(sorted(os.listdir(self.jail)), ["d", "e"])
        text = self.logged(done)
        self.assertEqual(text.count("not recorded"), 1)
        self.assertIn("audit: 4 records were lost", text)

    def test_on_a_disk_that_becomes_full_ends_every_session_at_its_first_lost_record(self) -> None:
        self.assertEqual(self.ran("--audit", self.audit).returncode, 0)
        known = self.audit.read_bytes()
        self.audit.write_bytes(known * 500)
        size = self.audit.stat().st_size
        code = CONFINED.format(self.prog)
        room = str(size + 500)  # for the init, one more and a part
        names = [letter * 20 for letter in "abcdef"]
        text = ""
        for _ in range(2):
            arguments = map(os.fspath, self.arguments("--audit", self.audit))
            done = self.run_argv(["-c", code, room, *arguments], stdin=HELLO + mkdirs(*names))
            self.assertEqual(done.returncode, BROKEN, done.stderr)
            text += self.logged(done)
        recorded = [r["path"] for r in self.records()[1000:] if r["request"] == "mkdir"]
        made = sorted(os.listdir(self.jail))
        self.assertEqual(made[: len(recorded)], recorded)
        self.assertEqual(len(made), len(recorded) + 1, "one was done and is in the log instead")
        self.assertIn(f'"path":"{made[-1]}"', text)
        self.assertEqual(self.ran("--audit", self.audit).returncode, 0)
        self.assertEqual(self.records()[-1]["request"], "end")

    def test_has_the_end_of_a_session_that_a_signal_ends(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            process, wire = self.start("--audit", self.audit, stderr=subprocess.DEVNULL)
            wire.ask("mkdir", string(b"d"), NO_ATTRS)
            process.send_signal(number)
            self.assertEqual(process.wait(PATIENCE), 0)
            self.assertEqual([r["request"] for r in self.records()], ["init", "mkdir", "end"])
            self.audit.unlink()

    def test_whose_reader_goes_away_ends_the_session(self) -> None:
        os.mkfifo(self.audit)
        reading = os.open(self.audit, os.O_RDONLY | os.O_NONBLOCK)
        process, wire = self.start("--audit", self.audit, stderr=subprocess.DEVNULL)
        self.assertEqual(wire.ask("mkdir", string(b"d"), NO_ATTRS).content, 0)
        data = until(lambda: os.read(reading, 1 << 16), "two records")
        self.assertEqual([r["request"] for r in records_of(data)], ["init", "mkdir"])
        os.close(reading)
        wire.send(mkdirs("e", "f"))
        self.assertEqual(process.wait(PATIENCE), BROKEN)
        self.assertEqual([answer.content for _, answer in replies(wire.take(1 << 16))], [0])
        self.assertEqual(sorted(os.listdir(self.jail)), ["d", "e"])

    def test_has_no_close_of_an_upload_that_was_thrown_away(self) -> None:
        opened = request("open", 1, string(b"f"), u32(WRITE | CREAT), NO_ATTRS)
        written = request("write", 2, string(u32(1)), u64(0), string(b"content"))
        options = ("--audit", self.audit, "--audit-level", "all", "--atomic-uploads")
        done = self.ran(*options, requests=opened + written)
        self.assertEqual(done.returncode, 0)
        found = [r["request"] for r in self.records()]
        self.assertEqual(found, ["init", "open", "write", "abandoned", "end"])
        self.assertEqual(os.listdir(self.jail), [])

    def logged(self, done: subprocess.CompletedProcess[bytes]) -> str:
        """What the session logged."""
        return self.log_path.read_text() if self.log_path else done.stderr.decode()


class PysftpjailsAuditLog(TheAuditLogOf, CommandCase):
    prog = "pysftpjail"

    def arguments(self, *options: Any) -> list[Any]:
        self.log_path = self.place / "log"
        return ["--logfile", self.log_path, *options, self.jail]


class PysftpserversAuditLog(TheAuditLogOf, CommandCase):
    prog = "pysftpserver"

    def arguments(self, *options: Any) -> list[Any]:
        return ["-e", "-d", self.jail, *options]
