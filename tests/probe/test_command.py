"""bin/pysftp-probe: what it takes and returns, over pipes and over ssh, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

from pysftpserver.cli import pysftp_probe
from pysftpserver.failures import BadInput
from pysftpserver.probe.results import FAILED, PASSED, Report
from pysftpserver.probe.running import Plan, Probe
from pysftpserver.probe.target import Target, of_command, of_host
from tests.cli.commands import REFERENCE, CommandCase
from tests.faults.disks import Disk
from tests.integration.harness import ServedCase
from tests.integration.sshd import TARGET
from tests.probe.test_hostile import HOSTILE, READLINK, RULES
from tests.support.cases import InAPlace
from tests.support.forked import Process, environment, run
from tests.support.hard import IS_HARD
from tests.support.paths import IN_MEMORY
from tests.support.processes import command, is_alive, program
from tests.support.waiting import NEVER, PATIENCE, until

ASK = "far may be another machine, and the probe writes to it; add --yes if it may"
#: Rules without sessions of their own: a tenth of the time of all.
CHEAP = ("links", "statvfs")


class ProbeCase(CommandCase):
    """The command, in a directory of its own."""

    prog = "pysftp-probe"
    made_in = IN_MEMORY

    def report(self, *words: Any, status: int | None = 0) -> Report:
        """The report of a run that says nothing on standard error, and leaves the jail empty."""
        argv = command(self.prog, "--json", "-", *words)
        done = run(argv, timeout=NEVER if IS_HARD else PATIENCE, env=environment())
        self.assertEqual(done.stderr, b"")
        if status is not None:
            self.assertEqual(done.returncode, status, done.stdout[-2000:])
        self.assertEqual(os.listdir(self.jail), [])
        return Report.from_json(json.loads(done.stdout))

    def assert_all_hold(self, report: Report) -> None:
        """Every must and should holds."""
        bad = {o.rule: o.why for o in report.outcomes if o.verdict not in (PASSED, "unsupported")}
        self.assertEqual(
            {name: why for name, why in bad.items() if name not in self.client_rules(report)}, {}
        )

    def client_rules(self, report: Report) -> set[str]:
        return {outcome.rule for outcome in report.outcomes if outcome.level == "client"}


class Running(ProbeCase):
    def test_the_jail_conforms_and_is_empty_afterwards(self) -> None:
        only = [word for group in CHEAP for word in ("--only", group)]
        report = self.report(*only, "--", *command("pysftpjail", self.jail))
        self.assert_all_hold(report)
        self.assertGreater(report.count(PASSED), 20)
        self.assertEqual((report.stopped, report.left, report.lacks), ("", [], ["check-file"]))

    @unittest.skipUnless(IS_HARD, "all rules take half a minute for each server")
    def test_every_must_and_should_holds_for_our_servers(self) -> None:
        for name, words in {
            "jail": command("pysftpjail", self.jail),
            "jail with checksums": command("pysftpjail", "--checksums", self.jail),
            "plain": command("pysftpserver", "-l", "QUIET", "-d", self.jail),
        }.items():
            with self.subTest(name):
                self.assert_all_hold(self.report("--", *words))

    @unittest.skipUnless(IS_HARD, "it takes minutes")
    def test_speed_and_clients_are_in_the_report(self) -> None:
        report = self.report(
            "--only", "links", "--speed", "--clients", "--", *command("pysftpjail", self.jail)
        )
        self.assertGreater(len(report.figures), 20)
        self.assertEqual([task.task for task in report.tasks if not task.works], [])

    def test_a_report_for_each_kind_of_reader_is_written_to_a_file(self) -> None:
        files = {kind: self.place / kind for kind in ("json", "junit", "html")}
        options = [word for kind, path in files.items() for word in (f"--{kind}", path)]
        done = self.run_it("--only", "link-text", *options, "--", REFERENCE, "-d", self.jail)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        for path in files.values():
            self.assertIn("link-text", path.read_text())

    def test_a_server_that_stops_is_status_1_with_its_reason(self) -> None:
        done = self.run_it("--", "sh", "-c", "echo no such account >&2; exit 7")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"with exit status 7 (it said: no such account)", done.stderr)

    def test_a_command_that_is_not_there_is_said_to_be(self) -> None:
        done = self.run_it("--", self.place / "nothing")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"cannot be started: no such file or directory", done.stderr)


class Ended(ProbeCase):
    """By a signal, while the server hangs."""

    def test_a_signal_ends_it_with_everything_removed(self) -> None:
        self.end_by(signal.SIGTERM)

    @unittest.skipUnless(IS_HARD, "the same with other signals")
    def test_every_signal_does(self) -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            with self.subTest(number.name):
                self.end_by(number)

    def end_by(self, number: signal.Signals) -> None:
        pids = self.place / "jail.pids"
        pids.mkdir(exist_ok=True)
        before = set(os.listdir(pids))
        words = [sys.executable, "-I", "-S", HOSTILE, self.jail, "hang", READLINK]
        argv = [*command(self.prog, "--timeout", str(PATIENCE), "--"), *map(str, words)]
        process = Process(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process:
            until(lambda: any(name.startswith("hangs") for name in set(os.listdir(pids)) - before))
            self.assertNotEqual(os.listdir(self.jail), [])
            process.send_signal(number)
            _, errors = process.communicate(timeout=PATIENCE)
        self.assertEqual(
            (process.returncode, errors), (128 + number, b"pysftp-probe: stopped: interrupted\n")
        )
        self.assertEqual(os.listdir(self.jail), [])
        until(lambda: not any(p.isdecimal() and is_alive(int(p)) for p in os.listdir(pids)))


class FullDisks(InAPlace):
    """Real ones, behind OpenSSH's server."""

    made_in = IN_MEMORY

    def probe(self, *before: str) -> None:
        """Probe a server in whose directory there is no room."""
        target = of_command([*before, REFERENCE, "-d", os.fspath(self.place)])
        report = Probe(target, Plan(RULES)).run()
        self.assertEqual([(o.verdict, o.rule) for o in report.outcomes], [(FAILED, "a-file-is-kept")])
        self.assertIn("the server no longer stores files: WRITE was refused", report.stopped)
        self.assertEqual((report.left, os.listdir(self.place)), ([], []))

    def test_a_full_disk_is_noticed_and_left_as_it_was(self) -> None:
        disk = Disk(self.place, "size=64k")
        self.addCleanup(disk.close)
        disk.run("sh", "-c", f"cat /dev/zero > {self.place}/all 2>/dev/null || true")
        self.probe(*disk.inside)
        self.assertEqual(os.listdir(disk.seen(self.place)), ["all"])

    def test_files_that_may_not_grow_are_noticed(self) -> None:
        self.probe("prlimit", "--fsize=100")


class OverSSH(ServedCase):
    """Through OpenSSH's ssh, with the user's configuration, to an sshd of loopback."""

    def test_a_host_of_the_configuration_is_probed(self) -> None:
        self.over_ssh("--only", "link-text")

    @unittest.skipUnless(IS_HARD, "a login for each session takes minutes")
    def test_every_rule_can_be_tried(self) -> None:
        self.over_ssh()

    def over_ssh(self, *options: str) -> None:
        # ssh takes the user's files from the account's home, wherever $HOME leads.
        ssh = self.place / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {program("ssh")} -F {self.sshd.ssh_config} "$@"\n')
        ssh.chmod(0o755)
        path = f"{self.place}{os.pathsep}{os.environ['PATH']}"
        argv = command("pysftp-probe", *options, "--json", "-", TARGET)
        done = subprocess.run(
            argv,
            env=environment(PATH=path),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10 * PATIENCE,
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        report = Report.from_json(json.loads(done.stdout))
        self.assertEqual((report.count(FAILED), report.left), (0, []))
        self.assertEqual(os.listdir(self.jail), [])


class Targets(unittest.TestCase):
    def of(self, text: str, *settings: str) -> Target:
        """The target, where ssh's configuration has these settings."""
        settings = settings or ("hostname example.org",)
        path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "ssh"
        path.write_text("#!/bin/sh\ncat <<'END'\n{}\nEND\n".format("\n".join(settings)))
        path.chmod(0o755)
        return of_host(text, os.fspath(path))

    def test_users_ports_and_addresses_are_taken_as_ssh_does(self) -> None:
        for text, words in {
            "host": ["--", "host", "sftp"],
            "a@b@host:2222": ["-p", "2222", "-l", "a@b", "-s", "--", "host", "sftp"],
            "ssh://me@host:22/": ["-p", "22", "-l", "me", "-s", "--", "host", "sftp"],
            "sftp://[::1]:22": ["-p", "22", "-s", "--", "::1", "sftp"],
            "fe80::1%eth0": ["-s", "--", "fe80::1%eth0", "sftp"],
        }.items():
            with self.subTest(text):
                self.assertEqual(self.of(text).command[-len(words) :], words)

    def test_what_is_no_host_is_refused(self) -> None:
        for text in (
            "",
            "@host",
            "-oProxyCommand=x",
            "host:",
            "host:0",
            "host:99999",
            "a;b",
            "ssh://h/x",
            "[::1",
        ):
            with self.subTest(text), self.assertRaises(BadInput):
                self.of(text)

    def test_only_this_machine_is_near_and_only_without_another_between(self) -> None:
        for is_far, settings in (
            (False, ["hostname 127.0.0.1"]),
            (False, ["hostname localhost", "proxycommand none"]),
            (False, ["hostname ::1"]),
            (True, ["hostname 127.evil.example"]),
            (True, ["hostname localhost.example.org"]),
            (True, ["hostname 127.0.0.1", "proxyjump gate"]),
            (True, ["hostname 127.0.0.1", "proxycommand nc %h %p"]),
            (True, ["nothing"]),
        ):
            with self.subTest(settings):
                self.assertEqual(self.of("host", *settings).is_far, is_far)

    def test_a_command_is_near(self) -> None:
        self.assertFalse(of_command(["server"]).is_far)


class Usage(unittest.TestCase):
    def test_a_bad_command_line_is_refused_with_what_to_do(self) -> None:
        for words, said in (
            ([], "the server is missing"),
            (["--"], "the server is missing"),
            (["a", "b"], "more than one server"),
            (["a", "--", "b"], "more than one server"),
            (["--only", "nothing", "--", "x"], "see --list"),
            (["--timeout", "0", "--", "x"], "number of seconds"),
            (["--level", "may", "--", "x"], "must, should, client"),
            (["--only", "longnames", "--level", "must", "--", "x"], "none of the rules"),
            (["--json", "-", "--html", "-", "--", "x"], "only one report"),
            (["--json", "/nowhere/x", "--", "x"], "cannot be written"),
            (["--compare", "x"], "two files"),
        ):
            with self.subTest(words), self.assertRaises(BadInput) as caught:
                pysftp_probe.answer(words)
            self.assertIn(said, caught.exception.message)
            self.assertEqual(caught.exception.status, 2)

    def test_nothing_is_asked_in_a_pipe_and_only_a_yes_is_taken_for_one(self) -> None:
        code = (
            "from pysftpserver.cli.pysftp_probe import *\n"
            "from pysftpserver.probe.target import Target\n"
            "for _ in range(3):\n"
            "    try: ask(Target('far', [], True)); print('yes')\n"
            "    except BadInput as error: print(error.message)\n"
        )
        for is_terminal, said in ((True, ["nothing was done"] * 2 + ["yes"]), (False, [ASK] * 3)):
            ours, theirs = pty.openpty() if is_terminal else os.pipe()[::-1]
            with self.subTest(is_terminal), open(ours, "wb", 0) as answers, open(theirs, "rb", 0) as terminal:
                answers.write(b"n\n\nyes\n")
                done = subprocess.run(
                    [sys.executable, "-c", code],
                    env=environment(),
                    stdin=terminal,
                    stdout=subprocess.PIPE,
                    stderr=terminal if is_terminal else subprocess.PIPE,
                    text=True,
                )
                self.assertEqual(done.stdout.splitlines(), said)

    def test_levels_and_patterns_choose_rules(self) -> None:
        from pysftpserver.probe.choosing import chosen, listed

        self.assertEqual([rule.name for rule in chosen(("link-te*",), "client")], ["link-text"])
        self.assertEqual({rule.level for rule in chosen((), "must")}, {"must"})
        self.assertEqual({rule.group for rule in chosen(("links",), "client")}, {"links"})
        text = "\n".join(listed(chosen(("link-text",), "client")))
        self.assertRegex(text, r"link-text +must +links, draft.*\n    READLINK returns")
