"""pysftpremo exec, get and put against a real server: bytes, exit statuses, files whole or not at all."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
from typing import Any

from pysftpserver.remo import crypto
from tests.remo import oldstyle
from tests.remo.running import (
    COMMAND,
    SERVER_KEY,
    USER,
    USER_KEY,
    TwoSides,
    called,
    environment,
    state_directory,
)
from tests.sksync.terminals import Terminal
from tests.support.ports import LOOPBACK
from tests.support.waiting import PATIENCE

PROGRAM = f"import os; os.environ['XDG_STATE_HOME'] = {state_directory()!r}\n"
PROGRAM += "import sys; from pysftpserver.cli.pysftpremo import main; sys.exit(main(sys.argv[1:]))"


class OnceCase(TwoSides):
    def setUp(self) -> None:
        super().setUp()
        self.keys = {path.name for path in self.here.iterdir()}

    def once(self, verb: str, *words: str, given: bytes = b"", **variables: str) -> Any:
        own = [verb, "-p", str(self.server.port), "-u", USER, LOOPBACK]
        return called([*own, *words], self.here, given, **variables)

    def fine(self, verb: str, *words: str, **options: Any) -> bytes:
        done = self.once(verb, *words, **options)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return bytes(done.stdout)

    def fails(self, status: int, words: str, verb: str, *arguments: str, **options: Any) -> None:
        done = self.once(verb, *arguments, **options)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertRegex(done.stderr.decode(), f"^pysftpremo.*: .*{words}.*\n$")

    def names(self) -> set[str]:
        return {path.name for path in self.here.iterdir()} - self.keys


class Exec(OnceCase):
    words = ("--command-seconds", f"{PATIENCE:g}", "--command-output", "1000000")

    def test_output_is_untouched(self) -> None:
        data = random.Random(3).randbytes(200_000)
        (self.there / "data").write_bytes(data)
        self.assertEqual(self.fine("exec", "--", "cat", str(self.there / "data")), data)
        self.assertEqual(self.fine("exec", "-i", "--", "cat", given=data), data)

    def test_words_arrive_word_for_word(self) -> None:
        words = ("a b", "", "'", '"', "$HOME", "*", "\\", "caf\u00e9", "-x", "--", "new\nline", "#")
        said = self.fine("exec", "--", "printf", "%s|", *words)
        self.assertEqual(said, "|".join((*words, "")).encode())
        said = self.fine("exec", "-e", "latin-1", "--", "printf", "%s", "caf\u00e9")
        self.assertEqual(said, b"caf\xe9")

    def test_the_exit_status_is_the_commands(self) -> None:
        for status in (0, 3, 255):
            self.assertEqual(self.once("exec", "--", "sh", "-c", f"exit {status}").returncode, status)
        self.assertEqual(
            self.once("exec", "--", "sh", "-c", "kill -TERM $$").returncode, 128 + signal.SIGTERM
        )

    def test_standard_input_is_handed_over_only_if_asked_for(self) -> None:
        self.assertEqual(self.fine("exec", "--", "wc", "-c", given=b"12345").strip(), b"0")
        self.assertEqual(self.fine("exec", "-i", "--", "wc", "-c", given=b"12345").strip(), b"5")

    def test_what_goes_wrong_has_a_status_of_its_own_and_one_line(self) -> None:
        self.fails(127, "no-such-command: no such command", "exec", "--", "no-such-command")
        self.fails(2, "the command is missing", "exec")
        self.fails(2, "no_key.pem: no such file", "exec", "-k", "no_key.pem", "--", "true")
        self.fails(2, "--server alice_key.pem: .*private", "exec", "-s", "alice_key.pem", "--", "true")
        shutil.copy(self.place / "alice.pem", self.here)
        self.fails(255, "another key.*impostor", "exec", "-s", "alice.pem", "--", "true")
        self.fails(255, "refuses user 'nobody'", "exec", "-u", "nobody", "-k", "alice_key.pem", "--", "true")
        self.fails(255, "127.0.0.1:1: connection refused", "exec", "-p", "1", "--", "true")
        self.fails(2, "latin-1", "exec", "-e", "latin-1", "--", "echo", "\u20ac")

    def test_limits_of_the_server_are_told_and_have_timeouts_status(self) -> None:
        done = self.once("exec", "--", "yes")
        self.assertEqual((done.returncode, done.stderr), (124, b""))
        self.assertTrue(done.stdout.endswith(b"\n[stopped after 1000000 bytes of output]\n"))

    def test_output_comes_while_the_command_runs(self) -> None:
        line = f"echo first; until [ -e {self.there}/go ]; do sleep 0.02; done"  # or the server ends it
        process = self.popen(
            "exec", "-p", str(self.server.port), "-u", USER, LOOPBACK, "--", "sh", "-c", line
        )
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), b"first\n")
        (self.there / "go").touch()
        self.assertEqual(process.wait(PATIENCE), 0)

    def test_a_reader_that_goes_away_ends_it(self) -> None:
        process = self.popen("exec", "-p", str(self.server.port), "-u", USER, LOOPBACK, "--", "yes")
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        self.assertIn(process.wait(PATIENCE), (141, 128 + signal.SIGPIPE))

    def popen(self, *words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, COMMAND, *words],
            cwd=self.here,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_an_encrypted_key_opens_with_the_passphrase_of_the_environment_or_the_terminal(self) -> None:
        key = crypto.load_private((self.here / "alice_key.pem").read_bytes())
        (self.here / "alice_key.pem").write_bytes(crypto.private_pem(key, b"secret-word"))
        self.assertEqual(self.fine("exec", "--", "echo", "x", PYSFTPREMO_PASSPHRASE="secret-word"), b"x\n")
        self.fails(2, "passphrase is wrong", "exec", "--", "true", PYSFTPREMO_PASSPHRASE="secret")
        self.fails(2, "the key is encrypted; set PYSFTPREMO_PASSPHRASE", "exec", "--", "true")
        words = ("exec", "-p", str(self.server.port), "-u", USER, LOOPBACK, "--", "echo", "in")
        terminal = Terminal(PROGRAM, *words, cwd=self.here)
        terminal.answer("Passphrase for alice_key.pem: ", "secret-word")
        self.assertEqual(terminal.end(), 0)
        self.assertNotIn("secret-word", terminal.text)
        self.assertTrue(terminal.text.endswith("in\r\n"), terminal.text)


class OnATerminal(OnceCase):
    def test_a_program_gets_a_terminal_and_its_status_is_passed_on(self) -> None:
        words = ("exec", "-p", str(self.server.port), "-u", USER, "--pty", LOOPBACK)
        terminal = Terminal(PROGRAM, *words, "--", "sh", "-c", "tty; read word; exit $word", cwd=self.here)
        terminal.answer("/dev/pts/", "7")
        self.assertEqual(terminal.end(), 7)

    def test_without_a_terminal_here_there_is_none_there(self) -> None:
        self.fails(2, "--pty needs a terminal on this side", "exec", "--pty", "--", "tty")


class Remembered(OnceCase):
    """A server that has spoken numbered mode; then somebody in its place who speaks plain mode."""

    def setUp(self) -> None:
        super().setUp()
        self.state = {"XDG_STATE_HOME": str(self.here / "state")}

    def impostor(self) -> int:
        found = oldstyle.Server("plain", USER, USER_KEY.public_key(), SERVER_KEY, 0)
        self.addCleanup(found.stop)
        return found.port

    def run_there(self, port: int) -> Any:
        words = ["exec", "-p", str(port), "-u", USER, LOOPBACK, "--", "echo", "x"]
        return called(words, self.here, b"", **self.state)

    def test_a_server_that_was_not_met_may_speak_plain_mode(self) -> None:
        done = self.run_there(self.impostor())
        self.assertEqual((done.returncode, done.stdout), (0, b"x\n"))

    def test_a_server_that_has_spoken_numbered_mode_may_not_go_back(self) -> None:
        self.assertEqual(self.fine("exec", "--", "echo", "x", **self.state), b"x\n")
        done = self.run_there(self.impostor())
        self.assertEqual((done.returncode, done.stdout), (255, b""))
        self.assertIn(b"numbered mode, which is required; it did before, according to ", done.stderr)


class GetAndPut(OnceCase):
    def test_a_file_comes_and_goes_under_its_name_or_another(self) -> None:
        data = random.Random(4).randbytes(300_000)
        (self.there / "one").write_bytes(data)
        self.fine("get", f"{self.there}/one", ".")
        self.fine("get", f"{self.there}/one", "other")
        self.assertEqual((self.here / "one").read_bytes(), data)
        self.assertEqual(self.names(), {"one", "other"})
        self.fine("put", "one", f"{self.there}/two")
        self.fine("put", "other", "one", str(self.there))
        self.assertEqual(
            {path.name: path.read_bytes() for path in self.there.iterdir()},
            dict.fromkeys(("one", "two", "other"), data),
        )

    def test_patterns_mean_on_either_side_what_they_mean_in_a_shell(self) -> None:
        for name in ("a1", "a2", "b1", ".a3", "a 4"):
            (self.there / name).write_text(name)
        self.fine("get", f"{self.there}/a[12]", f"{self.there}/b?", ".")
        self.assertEqual(self.names(), {"a1", "a2", "b1"})
        self.fine("get", f"{self.there}/*4", ".")
        self.assertEqual((self.here / "a 4").read_text(), "a 4")
        (self.there / "d").mkdir()
        self.fine("put", "a?", "b*", f"{self.there}/d")
        self.assertEqual(sorted(os.listdir(self.there / "d")), ["a1", "a2", "b1"])
        self.fails(2, "no remote file matches", "get", f"{self.there}/z*", ".")
        self.fails(2, "no local file matches", "put", "z*", str(self.there))
        self.fails(2, "not a directory; several files need one", "get", f"{self.there}/a*", "one")
        self.fails(2, "not a directory; several files need one", "put", "a1", "a2", f"{self.there}/one")

    def test_standard_output_and_input_are_files_too(self) -> None:
        data = random.Random(6).randbytes(100_000)
        self.fine("put", "-", f"{self.there}/f", given=data)
        self.assertEqual(self.fine("get", f"{self.there}/f", "-"), data)
        self.fails(2, "name a file for standard input", "put", "-", str(self.there), given=data)

    def test_a_file_that_cannot_be_had_leaves_the_old_one(self) -> None:
        (self.here / "old").write_text("old")
        self.fails(1, "/missing: no such file or directory", "get", f"{self.there}/missing", "old")
        self.fails(1, "is a directory", "get", str(self.there), "old")
        self.fails(1, "no such file", "put", "old", f"{self.there}/missing/f")
        self.fails(2, "missing: no such file", "put", "missing", str(self.there))
        self.fails(2, "no such file", "get", f"{self.place}/alice.pem", "missing/f")
        self.fails(2, "a source and a target are needed", "get", "x")
        self.assertEqual((self.names(), (self.here / "old").read_text()), ({"old"}, "old"))

    def test_an_encoding_that_has_no_such_letter_is_told(self) -> None:
        self.fails(2, "latin-1", "get", "-e", "latin-1", "\u20ac", ".")
        self.fails(2, "latin-1", "put", "-e", "latin-1", "alice_key.pem", "\u20ac")

    def test_a_replaced_file_keeps_its_mode_and_a_link_stays(self) -> None:
        (self.there / "f").write_text("new")
        (self.here / "real").write_text("old")
        (self.here / "real").chmod(0o640)
        (self.here / "link").symlink_to("real")
        self.fine("get", f"{self.there}/f", "link")
        self.assertTrue((self.here / "link").is_symlink())
        self.assertEqual((self.here / "real").read_text(), "new")
        self.assertEqual(stat.S_IMODE((self.here / "real").stat().st_mode), 0o640)
        self.fine("get", f"{self.there}/f", "made")
        self.assertEqual(stat.S_IMODE((self.here / "made").stat().st_mode) & 0o400, 0o400)

    def test_what_is_no_file_here_is_written_to_and_not_replaced(self) -> None:
        (self.there / "f").write_text("through the pipe")
        os.mkfifo(self.here / "fifo")
        reader = os.open(self.here / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        self.fine("get", f"{self.there}/f", "fifo")
        self.assertEqual(os.read(reader, 100), b"through the pipe")
        self.assertTrue(stat.S_ISFIFO((self.here / "fifo").stat().st_mode))

    def test_progress_is_shown_on_terminals_alone(self) -> None:
        (self.there / "f").write_bytes(bytes(300_000))
        words = ("get", "-p", str(self.server.port), "-u", USER, LOOPBACK, f"{self.there}/f", ".")
        terminal = Terminal(PROGRAM, *words, cwd=self.here)
        self.assertEqual(terminal.end(), 0)
        self.assertRegex(terminal.text, r"293\.0/293\.0 KiB.*/f\r")
        self.fine(*words[:1], *words[-2:])
