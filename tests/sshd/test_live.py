"""pysftpctl live: a moving table on a terminal, one look on a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import unittest

from pysftpserver.service.transfers import amount, duration
from tests.sshd.serving import Daemon, DaemonCase
from tests.support.processes import command
from tests.support.waiting import PATIENCE, until

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """pysftpctl live on a terminal of so many columns."""

    def __init__(self, daemon: Daemon, *words: str, columns: int = 130) -> None:
        self.raw = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 30, columns, 0, 0))
        environment = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command("pysftpctl", "--admin-socket", os.fspath(daemon.socket), "live", *words),
            stdin=slave,
            stdout=slave,
            stderr=subprocess.PIPE,
            env={**environment, "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(slave)

    def read(self) -> str:
        """All that was shown until now, without what drives the terminal."""
        while select.select([self._master], [], [], 0)[0]:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:  # nobody has the other end any more
                break
            if not data:
                break
            self.raw += data.decode(errors="replace")
        return ESCAPE.sub("", self.raw).replace("\r", "\n")

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C: (exit status, standard error)."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        until(lambda: (self.read(), self.process.poll())[1] is not None, "it ends")
        assert self.process.stderr is not None
        return self.process.returncode, self.process.stderr.read().decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        if self.process.stderr is not None:
            self.process.stderr.close()
        os.close(self._master)


class OnATerminal(DaemonCase):
    def live(self, daemon: Daemon, *words: str, columns: int = 130) -> Terminal:
        terminal = Terminal(daemon, *words, columns=columns)
        self.addCleanup(terminal.close)
        return terminal

    def test_a_transfer_moves_with_bar_share_and_rate_until_ctrl_c(self):
        for workers in (1, 2):
            with self.subTest(workers=workers):
                daemon = self.shared(workers=workers)
                daemon.get_slowly()
                until(lambda daemon=daemon: any(one["files"] for one in daemon.sessions()), "it began")
                terminal = self.live(daemon)
                shown = re.compile(
                    r"alice +127\.0\.0\.1 +get /large +[━╸╺ ]+ .* of 16\.0 MiB, (\d+)% +(\S+ \S+/s)"
                )
                until(
                    lambda t=terminal, s=shown: len({m[1] for m in s.finditer(t.read())}) > 1,
                    "the share grows and there is a rate",
                )
                self.assertIn("NUMBER", terminal.read())
                self.assertEqual(terminal.interrupt(), (0, ""))

    def test_who_has_no_file_open_is_shown_as_idle_and_who_goes_is_gone(self):
        daemon = self.shared()
        daemon.client(user="bob")
        until(daemon.sessions, "bob is there")
        terminal = self.live(daemon)
        until(lambda: re.search(r"bob +127\.0\.0\.1 +\(idle for", terminal.read()), "bob is shown")
        self.assertEqual(daemon.ctl("end", "bob").returncode, 0)
        until(lambda: "no sessions" in terminal.read(), "nobody is shown")
        self.assertEqual(terminal.interrupt(), (0, ""))

    def test_a_narrow_terminal_still_shows_file_and_share(self):
        daemon = self.shared()
        daemon.get_slowly()
        until(lambda: any(one["files"] for one in daemon.sessions()), "it began")
        terminal = self.live(daemon, columns=80)
        until(lambda: re.search(r"alice +127\.0\.0\.1 +get /large .* \d+%", terminal.read()), "it is shown")
        self.assertEqual(terminal.interrupt(), (0, ""))

    def test_a_file_s_name_cannot_drive_the_terminal(self):
        daemon = self.shared()
        evil = "[red]x\x1b]0;title\x07"
        (daemon.directory / "files" / "alice" / evil).write_bytes(bytes(1 << 20))
        daemon.client("-l", "200", say=f"get *title* {daemon.directory}/got")
        until(lambda: any(one["files"] for one in daemon.sessions()), "it began")
        terminal = self.live(daemon)
        until(lambda: r"[red]x\x1b]0;title\x07" in terminal.read(), "it is shown")
        self.assertNotIn("\x1b]0;", terminal.raw)
        terminal.interrupt()

    def test_a_server_that_ends_is_one_line_and_status_1(self):
        daemon = self.started()
        terminal = self.live(daemon)
        until(lambda: "no sessions" in terminal.read(), "it is shown")
        daemon.end()
        status, said = terminal.wait()
        self.assertEqual(status, 1)
        # It may have asked just then.
        why = "no server listens there|the server has closed the connection; try again"
        self.assertRegex(said, rf"\Apysftpctl: admin_socket {daemon.socket}: ({why})\n\Z")

    def test_json_is_a_line_each_second(self):
        daemon = self.shared()
        terminal = self.live(daemon, "--json")
        until(lambda: terminal.read().split().count("[]") > 1, "there are two lines")
        self.assertEqual(terminal.interrupt(), (0, ""))


class OnAPipe(DaemonCase):
    def test_there_is_one_look_with_a_rate(self):
        daemon = self.shared()
        daemon.put_slowly()
        until(lambda: any(one["files"] for one in daemon.sessions()), "it began")
        done = daemon.ctl("live")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"\A\d+  alice  127\.0\.0\.1  put /uploaded  \S+ \S+  \S+ \S+/s\n\Z")
        (session,) = json.loads(daemon.ctl("live", "--json").stdout)
        self.assertEqual(session["files"][0]["path"], "/uploaded")

    def test_nobody_is_nothing(self):
        done = self.shared().ctl("live")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))


class Words(unittest.TestCase):
    def test_bytes_have_a_unit_that_makes_them_short(self):
        for count, words in ((0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (5 << 40, "5.0 TiB")):
            with self.subTest(count):
                self.assertEqual(amount(count), words)
        self.assertEqual(amount(9000 << 40), "9000.0 TiB")

    def test_durations_have_two_units(self):
        for seconds, words in ((-1, "0s"), (59.9, "59s"), (61, "1m01s"), (3660, "1h01m"), (90000, "1d01h")):
            with self.subTest(seconds):
                self.assertEqual(duration(seconds), words)
