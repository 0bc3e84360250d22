"""Gates with OpenSSH's sftp and real servers in their sandboxes, clamd, and servers that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import threading
import unittest
from pathlib import Path
from typing import Any

from pysftpserver.uploads import temporary
from tests.site.gatekeepers import EVIL, clamd, listening
from tests.site.test_clients import EXAMPLES, OverPipes
from tests.sshd.running import Login, Place
from tests.support.hard import IS_HARD
from tests.support.processes import command
from tests.support.waiting import until

GATE = """
[[gate]]
path = "/in/**"
ask = "{}"
"""


class WithSftp(OverPipes):
    test_the_drop_box_of_the_examples = None
    test_a_jail_under_a_site_file = None

    def visible(self) -> set[str]:
        return {path.name for path in (self.box / "in").iterdir()} - {"old"}

    def test_the_partner_exchange_of_the_examples(self) -> None:
        (self.box / "out").mkdir()
        (self.box / "out" / "for-acme.csv").write_text("for acme")
        (self.place / "evil").write_bytes(EVIL)
        (self.place / "binary").write_bytes(b"\0")
        text = (
            (EXAMPLES / "partner-exchange.toml").read_text().replace("/srv/partners", f"{self.place}/files")
        )
        site = self.place / "site.toml"
        with clamd(self.place) as path:
            site.write_text(text.replace("/run/clamav/clamd.ctl", path))
            said = self.sftp(
                command("pysftpsite", "-l", self.log, str(site), "--user", "acme"),
                "put new in/a.csv", "put -p new in/p.csv", "put evil in/a.csv", "put evil in/e.csv",
                "put binary in/b.csv", "put new in/n.exe", "put new in/.n.csv",
                "put new in/w.csv.filepart", "rename in/w.csv.filepart in/w.csv",  # as WinSCP does
                "put evil in/v.csv.filepart", "rename in/v.csv.filepart in/v.csv",
                "put -a evil in/p.csv", "cp in/a.csv in/c.csv", "ln in/a.csv in/l.csv",
                "get out/for-acme.csv got", "get in/a.csv got2", "ls -1 /", "ls -1 quarantine",
            )  # fmt: skip
        self.assertEqual(self.visible(), {"a.csv", "p.csv", "w.csv"}, said)
        for name in self.visible():
            self.assertEqual((self.box / "in" / name).read_text(), "new")
        kept = sorted(path.name.split("-", 2)[2] for path in (self.box / "quarantine").iterdir())
        self.assertEqual(kept, ["a.csv", "e.csv", "v.csv.filepart"])
        self.assertEqual((self.place / "got").read_text(), "for acme")
        self.assertFalse((self.place / "got2").exists())
        self.assertIn("/in\n/out\n", said)
        self.assertNotIn("\n/quarantine\n", said)
        log = Path(self.log).read_text()
        self.assertIn("sandbox: Landlock", log)
        self.assertIn("Not accepted: the scanner found ", log)

    def test_a_server_that_is_killed_while_it_asks_leaves_nothing_that_was_not_let_in(self) -> None:
        """At the n-th question, and for the long test at moments that nothing chooses."""
        site = self.place / "site.toml"
        asked: list[str] = []
        kill_at = [0]

        def handle(talk: Any) -> None:
            question = json.loads(talk.rfile.readline())
            content = talk.rfile.read(question["size"])
            asked.append(question["path"])
            if len(asked) == kill_at[0]:
                pid, _, _ = struct.unpack(
                    "3i", talk.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                )
                os.kill(pid, signal.SIGKILL)
            talk.wfile.write(
                b'{"verdict": "%b"}\n' % (b"accept" if content in (b"new", b"old") else b"reject")
            )

        (self.place / "bad").write_bytes(b"badly")
        lines = (
            "put new in/x",
            "put bad in/x",
            "put bad in/y",
            "put bad z",
            "rename z in/z",
            "put -a bad in/x",
        )
        with listening(str(self.place / "gate.sock"), handle) as path:
            site.write_text(f'storage = "jail:{self.place}/files/acme"\n' + GATE.format(path))
            server = command("pysftpsite", "-l", self.log, str(site), "--user", "acme")
            for number in (1, 2, 4, 5) if IS_HARD else (2, 4):
                asked.clear()
                kill_at[0] = number
                self.run_batch(server, lines)
                until(lambda number=number: len(asked) >= number)  # type: ignore[misc]
                left = self.visible()
                self.assertTrue(any(temporary.is_temporary(os.fsencode(name)) for name in left), left)
                self.assert_let_in()
            kill_at[0] = 0
            for count in range(100 if IS_HARD else 2):
                timer = threading.Timer(0.05 + count * 0.01, self.kill_servers, (str(site),))
                timer.start()
                self.run_batch(server, lines)
                timer.join()
                self.assert_let_in()
            for name in self.visible() - {"x"}:  # those whose processes the system has not forgotten stay
                until(lambda name=name: not Path("/proc", name.split("-")[2]).exists())  # type: ignore[misc]
            self.run_batch(server, lines)
        self.assertEqual(self.visible(), {"x"})  # what killed ones have left is removed

    def run_batch(self, server: list[str], lines: tuple[str, ...]) -> None:
        try:
            self.sftp(server, *lines)
        except AssertionError:
            pass  # the server was killed

    def kill_servers(self, site: str) -> None:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if site.encode() in words and b"sftp" not in os.path.basename(words[0]):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(entry.name), signal.SIGKILL)

    def assert_let_in(self) -> None:
        for name in self.visible():
            if not temporary.is_temporary(os.fsencode(name)):
                self.assertEqual((name, (self.box / "in" / name).read_text()), ("x", "new"))


class Served(Place):
    def test_pysftpd_asks_the_gates_of_a_site_file(self) -> None:
        site = self.place / "site.toml"
        (self.place / "evil").write_bytes(EVIL)
        (self.place / "new").write_text("new")
        with clamd(self.place) as path:
            site.write_text(f'[[gate]]\nclamd = "{path}"\nquarantine = "/quarantine"\n')
            server = self.server("--site", str(site))
            run = self.sftp(self.alice, "-put evil x", "put new y", "-put evil y", "ls -1")
        files = server.files / "a"
        self.assertFalse((files / "x").exists(), run)
        self.assertEqual((files / "y").read_text(), "new")
        self.assertEqual(run.stdout.split()[-1:], ["y"])
        self.assertEqual(len(list((files / "quarantine").iterdir())), 2)

    @unittest.skipUnless(IS_HARD, "PYSFTP_TEST_HARD is not set")
    def test_a_crowd_of_one_user_at_a_slow_gate_does_not_keep_another_waiting(self) -> None:
        """Sixteen sessions ask a gate that takes two connections and answers none; they leave at the end."""
        site = self.place / "site.toml"
        (self.place / "new").write_text("new")
        with contextlib.ExitStack() as opened:
            slow = opened.enter_context(socket.socket(socket.AF_UNIX))
            slow.bind(str(self.place / "slow.sock"))
            slow.listen(1)

            def quick(talk: Any) -> None:
                talk.rfile.readline()
                talk.wfile.write(b'{"verdict": "accept"}\n')

            path = opened.enter_context(listening(str(self.place / "quick.sock"), quick))
            site.write_text(
                f'[[gate]]\nusers = "alice"\nask = "{self.place}/slow.sock"\nor = "accept"\n'
                f'timeout = 600\n[[gate]]\nusers = "bob"\nask = "{path}"\n'
            )
            server = self.server("--site", str(site))
            bob = Login(self.place / "bob", "bob")
            server.write_users(
                {
                    "alice": {"folder": "a", "keys": [self.alice.public]},
                    "bob": {"folder": "b", "keys": [bob.public]},
                }
            )
            bob.meet(server)
            until(lambda: self.sftp(bob, "pwd").returncode == 0, "bob is known")
            crowd = [self.start_sftp(self.alice, f"put new x{number}") for number in range(16)]
            until(lambda: len(list((server.files / "a").glob(".pysftp-*"))) == len(crowd))
            for number in range(3):
                run = self.sftp(bob, f"put new y{number}", "ls -1")
                self.assertIn(f"y{number}", run.stdout, run)
            self.assertEqual(list((server.files / "a").glob("x*")), [])
            for client in crowd:
                os.killpg(client.pid, signal.SIGKILL)  # and its ssh
            until(lambda: not server.sessions())
            self.assertEqual(list((server.files / "a").glob("x*")), [])


if __name__ == "__main__":
    unittest.main()
