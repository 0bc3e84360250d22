"""A server that runs on: its settings and its directory change, and it ends in good order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from pysftpserver.remo.client import Client, RemoError, RequestFailed
from tests.remo.running import USER, Furnished, Server, admit, called, environment, furnish
from tests.support.paths import ROOT
from tests.support.processes import is_alive
from tests.support.waiting import PATIENCE, until


class SignalCase(Furnished):
    """A server of each test's own, in a directory of its own. self.server."""

    def begin(self, *words: str) -> Server:
        place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="own-", dir=self.place)))
        furnish(place)
        (place / "share").mkdir()
        self.server = Server(place, *words)
        self.addCleanup(self.server.kill)
        return self.server

    def reload(self, words: str = "reloaded\n") -> None:
        """Send SIGHUP, and wait for what the log says of it."""
        before = len(self.server.log())
        self.server.process.send_signal(signal.SIGHUP)
        until(lambda: words in self.server.log()[before:], f"no {words!r} in the log")


class Reloads(SignalCase):
    def test_settings_and_both_logs_are_read_and_opened_again(self) -> None:
        place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="conf-", dir=self.place)))
        conf = place / "remo.toml"
        conf.write_text("max_put = 5\nport = 0\n")
        server = self.begin("--config", str(conf), "--root", "share")
        with server.connect() as remote:
            with self.assertRaisesRegex(RequestFailed, "^/f: files are limited to 5 bytes$"):
                remote.put(b"123456", "/f")
            conf.write_text("max_put = 6\nport = 0\nthreads = 7\n")
            server.audit_path.rename(server.audit_path.with_suffix(".1"))
            self.reload()
            self.assertIn("threads has changed: restart the server for that", server.log())
            remote.put(b"123456", "/f")
        until(lambda: [record["request"] for record in map(json.loads, server.audit_path.open())], "no audit")
        self.assertEqual(len(server.audit("put")), 1)

    def test_a_mistake_in_the_file_is_logged_and_the_server_goes_on(self) -> None:
        place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="conf-", dir=self.place)))
        conf = place / "remo.toml"
        conf.write_text("port = 0\n")
        server = self.begin("--config", str(conf))
        conf.write_text("prot = 0\n")
        self.reload("not reloaded: ")
        with server.connect() as remote:
            self.assertEqual(remote.run("echo on").output, b"on\n")

    def test_a_log_file_that_was_renamed_is_left_and_lines_are_json_if_wanted(self) -> None:
        place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="log-", dir=self.place)))
        log = place / "log"
        words = ["--port=0", f"--logfile={log}", "--log-format=json", "--user-service=SQLiteUserService:db"]
        furnish(place)
        (place / "users_db.sqlite").rename(place / "db")
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "bin/pysftpremo"), "serve", "--allow-root", *words],
            cwd=place,
            env=environment(),
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        until(lambda: log.exists() and "listening on" in log.read_text(), "it does not listen")
        log.rename(place / "log.1")
        process.send_signal(signal.SIGHUP)
        until(lambda: log.exists() and "reloaded" in log.read_text(), "the new file stays empty")
        for line in (place / "log.1").read_text().splitlines():
            self.assertLessEqual({"time", "program", "process", "level", "message"}, json.loads(line).keys())


class Replaced(SignalCase):
    def test_a_directory_that_is_replaced_is_served_from_the_next_session_on(self) -> None:
        server = self.begin("--root", "share")
        share = server.place / "share"
        with server.connect() as old:
            old.put(b"before", "/file")
            share.rename(server.place / "moved")
            share.mkdir()
            with server.connect() as new:
                new.put(b"after", "/file")
        self.assertEqual((share / "file").read_bytes(), b"after")
        self.assertEqual((server.place / "moved/file").read_bytes(), b"before")

    def test_one_that_is_away_is_said_to_be_so_and_served_when_it_is_back(self) -> None:
        server = self.begin("--root", "share")
        (server.place / "share").rename(server.place / "away")
        with server.connect() as remote:
            with self.assertRaisesRegex(RequestFailed, "/file: the storage cannot be opened"):
                remote.put(b"x", "/file")
            self.assertIn("root: share: no such file or directory", server.log())
            (server.place / "away").rename(server.place / "share")
            remote.put(b"x", "/file")


class Drains(SignalCase):
    def stop(self, other: Client) -> None:
        """Send SIGTERM, and wait until new requests, such as the other client's, are refused."""
        self.server.process.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                other.run("true")
            except RemoError:
                return True
            return False

        until(refused, "new requests are served")

    def test_a_command_that_runs_is_completed_and_new_requests_are_refused(self) -> None:
        server = self.begin("--drain-seconds", "60")
        line = f"sh -c 'echo begun; until [ -e {server.place}/go ]; do sleep 0.02; done; echo done'"
        with server.connect() as remote, server.connect() as other:
            pieces = remote._talk.ask("GET", "/cmd/", line.encode(), is_eager=True)
            self.assertEqual(next(pieces), b"begun\n")
            self.stop(other)
            (server.place / "go").touch()
            self.assertEqual(b"".join(pieces), b"done\n")
        self.assertEqual(server.process.wait(PATIENCE), 0)

    def test_a_second_signal_ends_the_wait_and_the_command(self) -> None:
        server = self.begin("--drain-seconds", "600")
        with server.connect() as remote, server.connect() as other:
            pieces = remote._talk.ask("GET", "/cmd/", b"sh -c 'echo $$; exec sleep 600'", is_eager=True)
            number = int(next(pieces))
            self.stop(other)
            self.assertTrue(is_alive(number))
            self.assertEqual(server.stop(), 0)
            pieces.close()
        self.assertFalse(is_alive(number))


class Users(SignalCase):
    def test_a_user_who_is_changed_has_other_permissions_from_the_next_session_on(self) -> None:
        server = self.begin()
        admit(server.place, "bob")
        done = called(["users", "change", "-p", "read", "bob"], server.place)
        self.assertEqual((done.returncode, done.stdout), (0, b"bob: changed\n"))
        with server.connect("bob") as remote, self.assertRaisesRegex(RequestFailed, "not permitted"):
            remote.run("true")
        with server.connect(USER) as remote:
            self.assertEqual(remote.run("true").status, 0)
