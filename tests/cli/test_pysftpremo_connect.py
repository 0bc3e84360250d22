"""pysftpremo connect, in a pipe and on a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.remo.running import COMMAND, USER, TwoSides, called, environment
from tests.sksync.terminals import Terminal
from tests.support.forked import Process
from tests.support.ports import LOOPBACK
from tests.support.processes import is_alive
from tests.support.waiting import PATIENCE, until

PROGRAM = """
import os, sys
os.environ["XDG_STATE_HOME"] = os.getcwd()
os.environ["TERM"] = "dumb"
from pysftpserver.cli.pysftpremo import main
sys.exit(main(sys.argv[1:]))
"""
PROMPT = f"{LOOPBACK}> "


class ShellCase(TwoSides):
    def pipe(self, *lines: str, options: tuple[str, ...] = ()) -> Any:
        given = "".join(f"{line}\n" for line in lines).encode()
        words = ["connect", "-u", USER, *options, LOOPBACK, str(self.server.port)]
        return called(words, self.here, given)

    def fine(self, *lines: str, **how: Any) -> bytes:
        done = self.pipe(*lines, **how)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return bytes(done.stdout)

    def fails(self, words: str, *lines: str) -> bytes:
        done = self.pipe(*lines)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), f"^[^\n]*{words}[^\n]*\n$")
        return bytes(done.stdout)

    def terminal(self) -> Terminal:
        return Terminal(PROGRAM, "connect", "-u", USER, LOOPBACK, str(self.server.port), cwd=self.here)

    def end(self, terminal: Terminal, status: int = 0) -> None:
        terminal.answer(PROMPT, "quit")
        self.assertEqual(terminal.end(), status)


class InAPipe(ShellCase):
    def test_lines_are_commands_and_nothing_else_is_shown(self) -> None:
        said = self.fine(
            "exec echo one", "", "exec sh -c 'echo two >&2; echo three'", "quit", "exec echo four"
        )
        self.assertEqual(said, b"one\ntwo\nthree\n")

    def test_the_first_failure_is_told_and_is_the_status_and_the_rest_is_done(self) -> None:
        self.assertEqual(self.fails("exit status 3", "exec sh -c 'exit 3'", "exec echo on"), b"on\n")
        for line, words in (
            ("exec no-such-command", "no-such-command: no such command"),
            ("get missing", "missing: no such file or directory"),
            ("get", "too few or too many words"),
            ("get 'a", "cannot be split"),
            ("frobnicate it", "unknown command frobnicate; help lists the commands"),
            ("idata x", "no command is running; iexec starts one"),
            ("iend", "no command is running"),
            ("set_encoding klingon", "unknown encoding klingon"),
            ("put missing", "missing: no such file|no such file"),
        ):
            with self.subTest(line):
                self.assertEqual(self.fails(words, line, "exec echo on"), b"on\n")

    def test_files_come_and_go_with_names_and_patterns(self) -> None:
        for name in ("a1", "a2", "b"):
            (self.there / name).write_text(name)
        (self.there / "with space").write_text("space")
        (self.here / "d").mkdir()
        self.fine(
            f"get {self.there}/a? d",
            f"get {self.there}/b",
            f"get '{self.there}/with space' here",
            f"put {self.there}/c b",
            f"put {self.there} d/*",
        )
        self.assertEqual(sorted(os.listdir(self.here / "d")), ["a1", "a2"])
        self.assertEqual((self.here / "here").read_text(), "space")
        self.assertEqual(sorted(os.listdir(self.there)), ["a1", "a2", "b", "c", "with space"])
        self.fails("several files need one", f"get {self.there}/a? missing")
        self.fails("several files need one", f"put {self.there}/c d/a1 d/a2")

    def test_a_put_without_a_local_name_takes_the_same_name(self) -> None:
        (self.here / "f").write_text("f")
        self.fine(f"put {self.there}/f")
        self.assertEqual((self.there / "f").read_text(), "f")

    def test_ls_shows_a_directory_a_line_a_name(self) -> None:
        (self.there / "f\n1").write_text("12345")
        (self.there / "g").mkdir()
        lines = self.fine(f"ls {self.there}").decode().splitlines()
        self.assertEqual([line[0] for line in lines], ["-", "d"])
        self.assertTrue(lines[0].endswith("f\\n1"), lines)
        self.assertIn(b"alice.pem", self.fine("ls"))
        self.fails("no such file", "ls missing")

    def test_an_interactive_command_is_talked_to_line_by_line(self) -> None:
        said = self.fine(
            "iexec sh -c 'cat; echo over'", "idata one", "idata two  words", "iend", "exec echo on"
        )
        self.assertEqual(said, b"one\ntwo  words\nover\non\n")

    def test_one_that_has_ended_by_itself_can_still_be_ended(self) -> None:
        self.assertEqual(self.fine("iexec echo hi", "iend", "exec echo on"), b"hi\non\n")
        self.assertEqual(
            self.fails("exit status 4", "iexec sh -c 'echo hi; exit 4'", "iend", "exec echo on"), b"hi\non\n"
        )

    def test_one_that_ends_later_is_told_of_by_the_second_line_for_it(self) -> None:
        number, goes_on = self.there / "number", self.there / "goes on"
        words = ["connect", "-u", USER, LOOPBACK, str(self.server.port)]
        files = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        line = f'echo $$ > {number}; until [ -e "{goes_on}" ]; do sleep 0.02; done; exit 4'
        with Process([sys.executable, COMMAND, *words], cwd=self.here, env=environment(), **files) as client:
            self.addCleanup(client.kill)
            client.stdin.write(f"iexec sh -c '{line}'\nhelp quit\n".encode())
            client.stdin.flush()
            self.assertIn(b"quit", client.stdout.readline())  # so iexec has been answered
            goes_on.touch()
            until(lambda: number.exists() and number.read_text().endswith("\n"), "it runs")
            until(lambda: not is_alive(int(number.read_text())), "it has ended")
            said, errors = client.communicate(b"idata x\nidata y\nexec echo on\n", PATIENCE)
        self.assertRegex(errors, rb"\A[^\n]*exit status 4[^\n]*\n\Z")
        self.assertEqual((client.returncode, said), (1, b"on\n"))

    def test_names_of_another_encoding(self) -> None:
        raw = os.fsencode(self.there) + b"/caf\xe9"
        Path(os.fsdecode(raw)).write_bytes(b"latin")
        self.fine("set_encoding latin-1", f"get {self.there}/caf\u00e9 got")
        self.assertEqual((self.here / "got").read_bytes(), b"latin")
        self.assertEqual(self.fine("exec printf caf\u00e9", options=("-e", "latin-1")), b"caf\xe9")
        self.fails("latin-1|codec", "set_encoding latin-1", "exec echo \u20ac")

    def test_a_bad_port_is_told(self) -> None:
        for port in ("x", "0", "65536", "-1"):
            done = called(["connect", "-u", USER, LOOPBACK, port], self.here)
            self.assertEqual(done.returncode, 2, done.stderr)


class OnATerminal(ShellCase):
    def test_there_is_a_prompt_help_and_a_greeting_that_names_the_mode(self) -> None:
        terminal = self.terminal()
        terminal.read("numbered mode")
        terminal.answer(PROMPT, "help")
        terminal.read("set_encoding")
        terminal.answer(PROMPT, "help get")
        terminal.read("download a file")
        terminal.answer(PROMPT, "exec sh -c 'exit 7'")
        terminal.read("exit status 7")
        self.end(terminal)

    def test_names_of_either_side_are_completed(self) -> None:
        (self.there / "a-long-name").write_text("x")
        (self.there / "directory").mkdir()
        (self.there / "one with space").write_text("spaced")
        terminal = self.terminal()
        terminal.type(PROMPT, f"get {self.there}/a-lo\t".encode())
        terminal.read("a-long-name")
        terminal.type("", b" got\n")
        terminal.type(PROMPT, f"ls {self.there}/dir\t".encode())
        terminal.read("directory/")
        terminal.type("", b"\n")
        terminal.type(PROMPT, f"get {self.there}/one\t".encode())
        terminal.read("one")
        terminal.type("", b" spaced\n")
        self.end(terminal)
        self.assertTrue((self.here / "got").exists(), terminal.text)
        self.assertEqual((self.here / "spaced").read_text(), "spaced", terminal.text)

    def test_what_was_typed_is_there_in_the_next_session_for_its_owner_alone(self) -> None:
        terminal = self.terminal()
        terminal.answer(PROMPT, "exec echo 'a-word'")
        terminal.read("a-word\r\n")
        self.end(terminal)
        history = self.here / "pysftpremo/history"
        self.assertEqual(history.stat().st_mode & 0o777, 0o600)
        terminal = self.terminal()
        terminal.type(PROMPT, b"\x1b[A\x1b[A\n")
        terminal.read("a-word\r\n")
        self.end(terminal)

    def test_iexec_behaves_like_a_terminal(self) -> None:
        terminal = self.terminal()
        terminal.answer(PROMPT, "iexec sh -c 'tty; echo size=$(stty size); read x; echo got=$x; read y'")
        terminal.read("/dev/pts/")
        terminal.read("size=")
        terminal.type("", b"typed\r")
        terminal.read("got=typed")
        terminal.type("", b"\x03")
        terminal.read("exit status 130")
        self.end(terminal)

    def test_ctrl_right_bracket_leaves_it_running_and_iend_ends_it(self) -> None:
        terminal = self.terminal()
        terminal.answer(PROMPT, "iexec sh -c 'stty -echo; echo pid=$$.; cat; echo over; exit 5'")
        terminal.read("\npid=")
        terminal.read(".")
        number = int(terminal.text.rpartition("pid=")[2].partition(".")[0])
        terminal.type("", b"\x1d")
        terminal.answer(PROMPT, "idata some words")
        terminal.read("some words\r\n")
        self.assertTrue(is_alive(number))
        terminal.answer(PROMPT, "iend")
        terminal.read("over")
        terminal.read("exit status 5")
        self.end(terminal)
        until(lambda: not is_alive(number))

    def test_ctrl_c_ends_what_runs_there_and_the_prompt_comes_back(self) -> None:
        terminal = self.terminal()
        terminal.answer(PROMPT, "exec sh -c 'echo pid=$$.; exec sleep 300'")
        terminal.read("\npid=")
        terminal.read(".")
        number = int(terminal.text.rpartition("pid=")[2].partition(".")[0])
        terminal.interrupt()
        terminal.answer(PROMPT, "exec echo again")
        terminal.read("again\r\n")
        until(lambda: not is_alive(number), "it runs on")
        terminal.type(PROMPT, b"\x04")
        self.assertEqual(terminal.end(), 0)
