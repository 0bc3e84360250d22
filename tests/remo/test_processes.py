"""Commands through a real server: what they get, how they end, and that nothing of them is left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
import unittest
from collections.abc import Iterator
from pathlib import Path

from pysftpserver.remo import client
from pysftpserver.remo.transport import Place, Transport
from tests.remo.running import Furnished, Served, Server
from tests.remo.serving import said_by
from tests.support.ports import LOOPBACK
from tests.support.processes import is_alive
from tests.support.waiting import PATIENCE, until

#: What would only make the tests longer; EndOfServer has the command as it is. The clocks of commands and of
#: sessions go forward by hours when a test makes a file of that name.
QUICK = """
import os, sys, time, types
from pysftpserver.remo import application, processes
processes.LOOK, processes.GRACE, application.SWEEP = 0.1, 0.2, 0.1
for module in application, processes:
    file = f"late {module.__name__}"
    clock = lambda file=file: time.monotonic() + 10_000 * os.path.exists(file)
    module.time = types.SimpleNamespace(monotonic=clock)
from pysftpserver.cli.pysftpremo import main
sys.exit(main(sys.argv[1:]))
"""
LONG = "300"  # seconds that what is to be ended would run
STUBBORN = 'trap "" TERM HUP INT; '


def numbers_of(command: client.Interactive, said: bytes) -> list[int]:
    """Those of its processes, its first line, however slow it is to begin. said: its output so far."""
    parts = [said]
    until(lambda: b"\n" in b"".join(parts) or parts.append(command.send()), "it says nothing")
    return [int(word) for word in b"".join(parts).split()]


class CommandCase(Served):
    """After each test, the server has what it had before: no process, no descriptor."""

    before: list[str]
    program = ("-c", QUICK)

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        with cls.server.connect() as remote:
            remote.run("true")
        until(lambda: cls.server.connections() == 0, "the connection stays open")
        cls.before = cls.server.descriptors()

    def setUp(self) -> None:
        self.addCleanup(self.check_nothing_is_left)  # the last thing, after sessions were closed
        super().setUp()

    def check_nothing_is_left(self) -> None:
        until(lambda: not self.server.children(), f"processes are left: {self.server.children()}")

        def same() -> bool:
            return len(self.server.descriptors()) <= len(self.before)

        until(same, f"before: {self.before}, now: {self.server.descriptors()}")

    def started(self, line: str) -> tuple[Iterator[bytes], list[int]]:
        """A command that says the numbers of its processes in its first line, and the rest of its output."""
        pieces = self.remote._talk.ask("GET", "/cmd/", line.encode(), is_eager=True)
        return pieces, [int(word) for word in next(pieces).splitlines()[0].split()]

    def time_is_over(self, of: str) -> None:
        """From now on, for what a module of the server has begun."""
        late = self.place / f"late pysftpserver.remo.{of}"
        self.addCleanup(late.unlink)
        late.touch()

    def assert_gone(self, *numbers: int) -> None:
        for number in numbers:
            until(lambda number=number: not is_alive(number), f"process {number} still runs")

    def end_session(self) -> None:
        """From another connection, while this one waits."""
        other = Transport(Place(LOOPBACK, self.server.port), PATIENCE)
        self.assertEqual(other.request("POST", "/auth", b"", self.remote._talk._cookie).status, 200)
        other.close()


class Commands(CommandCase):
    def test_output_and_errors_come_merged_in_their_order(self) -> None:
        result = self.remote.run("sh -c 'echo one; echo two >&2; echo three; exit 3'")
        self.assertEqual((result.output, result.status, result.note), (b"one\ntwo\nthree\n", 3, ""))

    def test_input_and_output_are_bytes(self) -> None:
        data = random.Random(8).randbytes(300_000)
        self.assertEqual(self.remote.run("cat", data).output, data)

    def test_a_command_without_input_finds_its_end_at_once(self) -> None:
        self.assertEqual(self.remote.run("wc -c").output.strip(), b"0")

    def test_plain_mode_runs_commands_too(self) -> None:
        self.plainly()
        self.assertEqual(self.remote.run("tr a-z A-Z", b"words").output, b"WORDS")

    def test_a_command_line_is_split_as_a_shell_does_and_read_by_no_shell(self) -> None:
        line = r"""printf '%s|' 'a b' c\ d "e'f" '$HOME' $HOME '' "*" ';' '#' # '>' a"""
        said = self.remote.run(line).output
        self.assertEqual(said, b"a b|c d|e'f|$HOME|$HOME||*|;|#|#|>|a|")

    def test_words_of_another_encoding_arrive_as_they_are(self) -> None:
        self.remote.encoding = "latin-1"
        self.assertEqual(self.remote.run("printf %s 'caf\u00e9 \u00ff'").output, b"caf\xe9 \xff")

    def test_what_cannot_be_a_command_line_is_refused(self) -> None:
        for line, words in (("", "empty"), ("  ", "empty"), ("echo 'a", "split"), ("echo a\0b", "NUL")):
            for path in ("/cmd/", "/icm/"):
                with self.subTest(line, path=path), self.refused(400, words):
                    self.ask("GET", path, line.encode())

    def test_a_command_that_is_not_there_is_said_to_be_so(self) -> None:
        for path, argument in (("/cmd/", b""), ("/icm/", b""), ("/pty/", b"80x24 ")):
            with self.subTest(path), self.refused(400, "no such command"):
                self.ask("GET", path, argument + b"no-such-command-anywhere")
            status, note = self.remote.outcome()
            self.assertEqual((status, note.rpartition(": ")[2]), (127, "no such command"))
        with self.refused(400, "permission denied"):
            self.remote.run(str(self.place / "users_db.sqlite"))

    def test_a_signal_is_told_as_a_shell_tells_it(self) -> None:
        self.assertEqual(self.remote.run("sh -c 'kill -9 $$'").status, 128 + signal.SIGKILL)
        self.assertEqual(self.remote.outcome(), (128 + signal.SIGKILL, ""))

    def test_output_comes_while_the_command_runs(self) -> None:
        go = self.place / "go"

        class Sink:
            said = b""

            def write(self, data: bytes) -> None:
                self.said += data
                if self.said == b"first\n":
                    go.touch()

        sink = Sink()
        self.addCleanup(go.unlink, missing_ok=True)
        wait = f"for i in $(seq 3000); do [ -e {go} ] && echo second && exit; sleep 0.02; done; exit 1"
        self.assertEqual(self.remote.run(f"sh -c 'echo first; {wait}'", target=sink).status, 0)
        self.assertEqual(sink.said, b"first\nsecond\n")

    def test_a_daemon_lives_on_and_nobody_waits_for_it(self) -> None:
        began = time.monotonic()
        line = f"sh -c 'setsid sleep {LONG} </dev/null >/dev/null 2>&1 & echo $!'"
        result = self.remote.run(line)
        number = int(result.output)
        self.addCleanup(os.kill, number, signal.SIGKILL)
        self.assertEqual(result.status, 0)
        self.assertLess(time.monotonic() - began, PATIENCE)
        self.remote.close()
        self.assertTrue(is_alive(number))

    def test_a_silent_command_ends_when_its_client_goes_away(self) -> None:
        pieces, numbers = self.started(f"sh -c 'sleep {LONG} & echo $! $$; wait'")
        pieces.close()
        self.assert_gone(*numbers)
        until(lambda: "client has gone" in self.server.audit("cmd")[-1].get("message", ""))

    def test_a_talking_command_ends_when_its_client_goes_away(self) -> None:
        pieces, numbers = self.started("sh -c 'echo $$; exec yes'")
        next(pieces)
        pieces.close()
        self.assert_gone(*numbers)

    def test_a_command_without_output_ends_when_its_client_goes_away(self) -> None:
        pieces, numbers = self.started(f"sh -c 'echo $$; exec sleep {LONG} >/dev/null 2>&1'")
        pieces.close()
        self.assert_gone(*numbers)

    def test_a_session_that_ends_takes_its_command_along(self) -> None:
        pieces, numbers = self.started(f"sh -c '{STUBBORN} sleep {LONG} & echo $! $$; wait; wait'")
        self.end_session()
        self.assert_gone(*numbers)
        said = []
        with self.assertRaises(client.RemoError):
            said += [next(pieces)]
            said += pieces
        self.assertEqual(b"".join(said), b"\n[stopped, because the session ended]\n")

    def test_nobody_waits_for_one_who_left_the_session_and_holds_the_output(self) -> None:
        pieces, numbers = self.started(f"sh -c 'setsid sleep {LONG} & echo $!; wait'")
        self.addCleanup(os.kill, numbers[0], signal.SIGKILL)
        until(lambda: os.getsid(numbers[0]) == numbers[0], "it does not leave the session")
        self.end_session()
        said = []
        with self.assertRaises(client.RemoError):
            said += [next(pieces)]
            said += pieces
        self.assertEqual(b"".join(said), b"\n[stopped, because the session ended]\n")

    def test_commands_inherit_nothing_of_the_server(self) -> None:
        said = self.remote.run("sh -c 'ls /proc/$$/fd'").output.split()
        self.assertEqual(said, [b"0", b"1", b"2"])
        said = self.remote.run("grep -E Sig(Blk|Ign) /proc/self/status").output
        # Two of them are the C library's own, which it blocks while a thread begins.
        own = 1 << 32 - 1 | 1 << 33 - 1
        self.assertEqual({int(line.split()[1], 16) & ~own for line in said.splitlines()}, {0})


class Limits(CommandCase):
    words = ("--command-seconds", "60", "--command-output", "10000", "--command-input", "1000")

    def assert_ended(self, line: str) -> None:
        """A command is ended at its time, and so are the processes whose numbers it says."""
        pieces, numbers = self.started(line)
        self.time_is_over("processes")
        self.assertEqual(b"".join(pieces), b"\n[stopped after 60 seconds]\n")
        self.assertEqual(self.remote.outcome(), (124, "stopped after 60 seconds"))
        self.assert_gone(*numbers)

    def test_a_command_is_ended_at_its_time_with_its_group(self) -> None:
        self.assert_ended(f"sh -c '{STUBBORN} sleep {LONG} & echo $! $$; wait; wait'")
        line = self.server.audit("cmd")[-1]
        self.assertEqual((line["status"], line["message"]), (124, "stopped after 60 seconds"))

    def test_one_whose_leader_has_gone_is_ended_too(self) -> None:
        self.assert_ended(f"sh -c 'sleep {LONG} & echo $!'")

    def test_one_that_has_closed_its_output_is_ended_too(self) -> None:
        self.assert_ended(f"sh -c 'echo $$; exec sleep {LONG} >/dev/null 2>&1'")

    def test_a_job_in_a_group_of_its_own_is_ended_too(self) -> None:
        code = "import subprocess as s; p = s.Popen(('sleep', '300'), process_group=0)"
        self.assert_ended(f'{sys.executable} -c "{code}; print(p.pid, flush=True); p.wait()"')

    def test_output_beyond_the_limit_ends_the_command_and_is_cut(self) -> None:
        result = self.remote.run("yes")
        self.assertEqual(result.output, b"y\n" * 5000 + b"\n[stopped after 10000 bytes of output]\n")
        self.assertEqual((result.status, result.note), (124, "stopped after 10000 bytes of output"))

    def test_output_of_just_the_limit_is_fine(self) -> None:
        result = self.remote.run("head -c 10000 /dev/zero")
        self.assertEqual((result.output, result.status), (bytes(10000), 0))

    def test_input_beyond_the_limit_is_refused_and_nothing_runs(self) -> None:
        ran = self.place / "ran"
        with self.refused(413, "1000 bytes"):
            self.remote.run(f"touch {ran}", bytes(1001))
        self.assertFalse(ran.exists())
        self.assertEqual(self.remote.run("wc -c", bytes(1000)).output.strip(), b"1000")

    def test_the_end_of_an_interactive_command_has_the_same_limits(self) -> None:
        loop = "while :; do sleep 0.1; done"
        numbers = numbers_of(*self.remote.start(f"sh -c '{STUBBORN} echo $$; cat; echo over; {loop}'"))
        pieces = self.remote._talk.ask("GET", "/edt", is_eager=True)
        self.assertEqual(next(pieces), b"over\n")
        self.time_is_over("processes")
        self.assertEqual(b"".join(pieces), b"\n[stopped after 60 seconds]\n")
        self.assertEqual(self.remote.outcome(), (124, "stopped after 60 seconds"))
        self.assert_gone(*numbers)
        self.remote.start("sh -c 'cat; exec yes'")
        rest = self.ask("GET", "/edt")
        self.assertTrue(rest.endswith(b"\n[stopped after 10000 bytes of output]\n"))


class Interactive(CommandCase):
    def test_a_command_is_talked_to_and_brought_to_its_end(self) -> None:
        command, said = self.remote.start("sh -c 'cat; echo bye; exit 5'", b"hello\n")
        self.assertEqual(said_by(command.send, b"hello\n", said), b"hello\n")
        self.assertEqual(said_by(command.send, b"again\n", command.send(b"again\n")), b"again\n")
        self.assertEqual(command.send(), b"")
        self.assertEqual(b"".join(command.finish(b"last\n")), b"last\nbye\n")
        self.assertEqual(command.outcome(), (5, ""))

    def test_an_answer_has_what_comes_within_a_tenth_of_a_second(self) -> None:
        began = time.monotonic()
        command = "sh -c 'echo a; sleep 0.03; echo b; exec sleep 300'"
        until(lambda: self.login().start(command)[1] == b"a\nb\n", "a busy machine may be too slow for some")
        self.assertGreater(time.monotonic() - began, 0.09)
        self.assertLess(time.monotonic() - began, PATIENCE)

    def test_an_answer_has_8_kib_at_most_and_nothing_is_lost(self) -> None:
        command, said = self.remote.start("sh -c 'seq 10000; exec cat'")
        whole = b"".join(b"%d\n" % number for number in range(1, 10001))
        parts = [said]
        until(lambda: parts.append(command.send()) or sum(map(len, parts)) >= len(whole), "all has come")
        self.assertEqual(max(map(len, parts)), 8192)
        self.assertEqual(b"".join(parts), whole)

    def test_without_a_command_there_is_nothing_to_talk_to(self) -> None:
        for method, path in (("POST", "/idt"), ("GET", "/edt"), ("POST", "/edt"), ("GET", "/idt")):
            with self.subTest(path), self.refused(400, "no command is running"):
                self.ask(method, path)
        with self.refused(400, "no command is running"):
            self.ask("GET", "/win/", b"80x24")

    def test_any_other_request_ends_it(self) -> None:
        others = (
            ("GET", "/get/", b"alice.pem"),
            ("GET", "/cmd/", b"true"),
            ("POST", "/put/", b"stored"),
            ("GET", "/icm/", b"cat"),
            ("GET", "/pty/", b"80x24 cat"),
            ("GET", "/get/", b"missing"),
        )
        for method, path, argument in others:
            with self.subTest(path):
                (number,) = numbers_of(*self.remote.start("sh -c 'echo $$; exec cat'"))
                for harmless in ("/info", "/sts"):
                    self.ask("GET", harmless)
                self.assertTrue(is_alive(number))
                try:
                    self.ask(method, path, argument)
                except client.RequestFailed as error:
                    self.assertEqual(argument, b"missing", str(error))
                self.assertFalse(is_alive(number))

    def test_a_command_that_has_gone_says_how(self) -> None:
        command, said = self.remote.start("sh -c 'echo gone; exit 7'")
        self.assertEqual(said_by(command.send, b"gone\n", said), b"gone\n")
        until(lambda: command.send(b"x") == b"" and command.is_over, "it has not gone")
        self.assertEqual(command.outcome(), (7, ""))

    def test_much_input_is_kept_until_it_is_read(self) -> None:
        command, _ = self.remote.start("sh -c 'sleep 0.3; wc -c'", bytes(1 << 20))
        self.assertEqual(b"".join(command.finish(bytes(1000))).strip(), b"%d" % ((1 << 20) + 1000))

    def test_input_that_nobody_reads_is_refused_in_the_end_and_the_command_runs_on(self) -> None:
        (number,) = numbers_of(*self.remote.start("sh -c 'echo $$; exec sleep 300'"))
        with self.refused(400, "does not read its input"):
            for _ in range(20):
                self.ask("POST", "/idt", body=(bytes(1 << 19),))
        self.assertTrue(is_alive(number))
        self.assertEqual(self.ask("POST", "/idt"), b"")

    def test_more_than_a_mebibyte_at_once_is_refused(self) -> None:
        self.remote.start("cat")
        with self.refused(413):
            self.ask("POST", "/idt", body=(bytes((1 << 20) + 1),))

    def test_all_that_comes_at_the_end_comes(self) -> None:
        command, _ = self.remote.start("sh -c 'cat >/dev/null; head -c 3000000 /dev/zero'")
        self.assertEqual(b"".join(command.finish()), bytes(3_000_000))

    def test_a_client_that_goes_away_at_the_end_takes_the_command_along(self) -> None:
        numbers = numbers_of(*self.remote.start(f"sh -c 'echo $$; cat; echo more; exec sleep {LONG}'"))
        pieces = self.remote._talk.ask("GET", "/edt", is_eager=True)
        self.assertEqual(next(pieces), b"more\n")
        pieces.close()
        self.assert_gone(*numbers)

    def test_a_session_that_ends_takes_it_along_and_the_log_says_so(self) -> None:
        for size in (None, (80, 24)):
            with self.subTest(size=size):
                line = f"sh -c '{STUBBORN} sleep {LONG} & echo $! $$; wait; wait'"
                numbers = numbers_of(*self.remote.start(line, size=size))
                before = len(self.server.audit("exit"))
                self.remote.close()
                self.assert_gone(*numbers)
                self.check_nothing_is_left()
                until(lambda before=before: len(self.server.audit("exit")) > before, "no line of its end")


class Terminals(CommandCase):
    def start(self, line: str, size: tuple[int, int] = (80, 24)) -> client.Interactive:
        self.command, self.said = self.remote.start(line, size=size)
        return self.command

    def read(self, words: bytes, typed: bytes = b"") -> bytes:
        """All that was said up to some words, which come in the end."""
        self.said += self.command.send(typed)

        def found() -> bool:
            self.said += self.command.send()
            return words in self.said

        until(found, f"no {words!r} in {self.said!r}")
        before, _, self.said = self.said.partition(words)
        return before

    def test_the_command_is_on_a_terminal_of_the_size_that_was_asked_for(self) -> None:
        self.start(
            "sh -c 'tty; for i in 0 1 2; do test -t $i && echo $i; done; stty size; echo $TERM'", (91, 33)
        )
        self.read(b"/dev/pts/")
        self.read(b"0\r\n1\r\n2\r\n33 91\r\nxterm-256color\r\n")

    def test_another_size_is_told(self) -> None:
        self.start("sh -c 'trap \"stty size\" WINCH; echo ready; while :; do sleep 0.05; done'")
        self.read(b"ready")
        self.command.resize(132, 50)
        self.read(b"50 132\r\n")

    def test_sizes_that_are_none_are_refused(self) -> None:
        self.start("cat")
        for text in (b"", b"80", b"80x", b"x24", b"-1x5", b"80x24x3", b"8 0x24", b"9" * 20 + b"x1", b"a x b"):
            with self.subTest(text):
                with self.refused(400, "not a terminal size"):
                    self.ask("GET", "/win/", text)
        self.ask("GET", "/win/", b"99999999x0")
        self.read(b"again", b"again")
        with self.refused(400, "not a terminal size"):
            self.ask("GET", "/pty/", b"cat")

    def test_ctrl_c_reaches_the_command(self) -> None:
        self.start("sh -c 'trap \"echo caught; exit 5\" INT; echo ready; while :; do sleep 0.05; done'")
        self.read(b"ready")
        self.read(b"caught", b"\x03")
        until(lambda: self.command.send() == b"" and self.command.is_over)
        self.assertEqual(self.command.outcome(), (5, ""))

    def test_the_end_of_the_input_is_that_of_a_terminal(self) -> None:
        self.start("sh -c 'stty -echo; cat; echo over; exit 4'")
        rest = b"".join(self.command.finish(b"typed\n"))
        self.assertEqual(rest[-len(b"typed\r\nover\r\n") :], b"typed\r\nover\r\n")
        self.assertEqual(self.command.outcome(), (4, ""))

    def test_a_program_that_uses_the_whole_screen_works(self) -> None:
        program = self.place / "screen.py"
        program.write_text(
            "import curses\n"
            "def main(screen):\n"
            "    while True:\n"
            "        screen.erase()\n"
            "        screen.addstr(2, 3, 'size %dx%d' % screen.getmaxyx())\n"
            "        screen.refresh()\n"
            "        key = screen.getch()\n"
            "        if key == ord('q'):\n"
            "            return\n"
            "curses.wrapper(main)\n"
        )
        self.start(f"{sys.executable} {program}", (80, 24))
        self.read(b"size 24x80")
        self.command.resize(70, 20)
        self.read(b"20x7")  # curses sends what has changed
        self.command.send(b"q")
        until(lambda: self.command.is_over or not self.command.send(b"") and self.command.is_over)
        self.assertEqual(self.command.outcome(), (0, ""))

    @unittest.skipUnless(shutil.which("bash"), "no bash")
    def test_jobs_of_a_shell_go_with_the_session(self) -> None:
        self.start("bash --norc -i")
        self.read(b"job=", f"sleep {LONG} & echo job''=$!.\n".encode())
        number = int(self.read(b"."))
        self.assertTrue(is_alive(number))
        self.remote.close()
        self.assert_gone(number)


class EndOfSession(CommandCase):
    def test_a_session_that_times_out_takes_along_what_it_has_running(self) -> None:
        line = f"sh -c '{STUBBORN} sleep {LONG} & echo $! $$; wait; wait'"
        numbers = numbers_of(*self.remote.start(line))
        self.time_is_over("application")
        self.assert_gone(*numbers)
        self.remote._talk._transport.close()
        self.check_nothing_is_left()


class EndOfServer(Furnished):
    def server(self) -> Server:
        place = Path(tempfile.mkdtemp(prefix="own-", dir=self.place))
        shutil.copytree(self.place, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("own-*"))
        server = Server(place)
        self.addCleanup(server.kill)
        return server

    def test_a_server_that_stops_takes_along_all_that_runs(self) -> None:
        line = f"sh -c '{STUBBORN} sleep {LONG} & echo $! $$; wait; wait'"
        waiting, idle = self.server(), self.server()  # one is answering, and the other only has to end
        numbers: list[int] = []
        with waiting.connect() as one, idle.connect() as two, idle.connect() as three:
            pieces = one._talk.ask("GET", "/cmd/", line.encode(), is_eager=True)
            numbers += map(int, next(pieces).split())
            numbers += numbers_of(*two.start(line))
            numbers += numbers_of(*three.start(line, size=(80, 24)))
            self.assertEqual(len(numbers), 6)
            waiting.process.send_signal(signal.SIGTERM)
            self.assertEqual((idle.stop(), waiting.process.wait(PATIENCE)), (0, 0))
        for number in numbers:  # they were killed, and die when the kernel gets to it
            until(lambda number=number: not is_alive(number))  # type: ignore[misc]
