"""The command itself: what it serves and syncs, what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pysftpserver.service.verifying import verify
from tests.cli.commands import CommandCase
from tests.sksync import oldstyle
from tests.sksync.serving import HOST, NOW, put, tree
from tests.support.forked import Process, environment
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until

COMMAND = str(ROOT / "bin" / "pysksync")
LISTENS = re.compile(r"listening on \S+ port (\d+)")


class Server:
    """A process that serves. errors: the file of its standard error."""

    def __init__(self, errors: Path, cwd: Path, *arguments: str) -> None:
        self._errors = errors
        argv = [sys.executable, COMMAND, "--allow-root", *arguments]
        files = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        with errors.open("wb") as file:
            self.process = Process(argv, stderr=file, cwd=cwd, env=environment(), **files)

    def log(self) -> str:
        return self._errors.read_text()

    def wait(self, words: str) -> str:
        """The log, when those words are in it."""
        until(lambda: words in self.log() or self.process.poll() is not None, f"{words!r} in the log")
        if words not in self.log():
            raise AssertionError(f"no {words!r} in the log:\n{self.log()}")
        return self.log()

    @property
    def port(self) -> int:
        """Where it listens, as its log says."""
        return port_in(self.wait("listening on"))

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def port_in(log: str) -> int:
    """The port that a log names."""
    found = LISTENS.search(log)
    assert found is not None, log
    return int(found[1])


class SkSyncCase(CommandCase):
    """place/here is the client's directory; place/jail/there the server's."""

    prog = "pysksync"

    def setUp(self) -> None:
        super().setUp()
        self.here = self.place / "here"
        self.there = self.jail / "there"
        self.here.mkdir()
        self.there.mkdir()

    def run_it(self, *words: Any, **how: Any) -> subprocess.CompletedProcess[bytes]:
        """As the base class has it; a server may be root here."""
        is_server = not {"client", "users", "make-cert"}.intersection(map(str, words))
        return super().run_it(*(("--allow-root",) if is_server else ()), *words, **how)

    def configure(self, name: str = "sksync.json", where: Path | None = None, **keys: Any) -> str:
        (where or self.place).joinpath(name).write_text(json.dumps(keys))
        return name

    def serve(self, cwd: Path | None = None, **keys: Any) -> Server:
        """A server that listens, with a configuration in the working directory."""
        where = cwd or self.place
        self.configure("sksync.json", where, **{"host": HOST, "port": 0, "require_auth": False} | keys)
        server = Server(self.place / "errors", where)
        self.addCleanup(server.kill)
        server.wait("listening on")
        return server

    def client(self, port: int, **keys: Any) -> str:
        """A configuration with the client `me`, of this port."""
        me = {"server_path": "there", "client_path": "here", "recursive": True} | keys
        return self.configure("client.json", host=HOST, port=port, clients={"me": me})


class Serving(SkSyncCase):
    def test_it_serves_the_current_directory_and_says_so_where_nothing_is_configured(self) -> None:
        put(self.there, "f", b"content")
        server = self.serve(self.jail)
        log = server.wait("listening on")
        self.assertIn(f"sharing the current directory, {self.jail}: no server_root is configured", log)
        self.assertIn(f"listening on {HOST} port {server.port}\n", log)
        self.assertIn("no login is required", log)
        self.assertEqual(oldstyle.client(server.port, self.here), ([], ["f"]))
        self.assertIn("sent 1 files, 7 bytes", server.wait("sent 1"))
        self.assertEqual(server.end(), 0)

    def test_without_a_configuration_it_takes_the_defaults_and_nobody_can_log_in(self) -> None:
        with socket.socket() as other:
            try:
                other.bind(("0.0.0.0", 23456))
            except OSError:
                self.skipTest("port 23456 is in use")
            other.listen()
            done = self.run_it(cwd=self.jail)
        text = done.stderr.decode()
        self.assertEqual(done.returncode, 1)
        self.assertIn("sharing the current directory", text)
        self.assertIn("no user can log in", text)
        said = (
            "pysksync: cannot listen on 0.0.0.0 port 23456: address already in use; ss -ltnp says who has it"
        )
        self.assertIn(said, text.splitlines()[-1])

    def test_a_root_and_a_white_list_are_what_the_configuration_says(self) -> None:
        put(self.there, "f", b"content")
        put(self.jail, "other/g", b"other")
        server = self.serve(server_root=str(self.jail), server_dir_whitelist=["/there"])
        self.assertEqual(oldstyle.client(server.port, self.here), ([], ["f"]))
        with self.assertRaises(oldstyle.Ended):
            oldstyle.client(server.port, self.here, path="other")
        server.wait("'other' is not in server_dir_whitelist")

    def test_a_white_list_alone_names_directories_of_this_host(self) -> None:
        put(self.there, "f", b"content")
        server = self.serve(server_dir_whitelist=[str(self.there)])
        self.assertEqual(oldstyle.client(server.port, self.here, path=str(self.there)), ([], ["f"]))
        with self.assertRaises(oldstyle.Ended):
            oldstyle.client(server.port, self.here, path=str(self.jail))

    def test_a_configuration_or_key_in_what_is_shared_is_told(self) -> None:
        words = "clients can read and replace it"
        server = self.serve(server_root=str(self.jail), server_dir_whitelist=["/there"])
        self.assertNotIn(words, server.wait("listening on"))
        server = self.serve(server_root="/")
        self.assertIn(words, server.wait("listening on"))

    def test_a_signal_ends_it_well_and_leaves_no_half_of_a_file(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            server = self.serve(server_root=str(self.jail), drain_seconds=0.1)
            with socket.create_connection((HOST, server.port), PATIENCE) as client:
                client.sendall(b"pysksync 1\n1\n0\nthere\nhere\n%d000 f\n\n9999\nxyz" % NOW)
                until(lambda: list(self.there.iterdir()), "a half of a file")
                self.assertEqual(server.end(number), 0)
            self.assertEqual(list(self.there.iterdir()), [])
            self.assertIn("waiting up to 0.1 seconds for running syncs", server.log())
            self.assertTrue(server.log().endswith("stopped\n"), server.log())

    def test_what_a_killed_server_left_is_removed_by_the_next_sync_that_receives_something(self) -> None:
        server = self.serve(server_root=str(self.jail))
        with socket.create_connection((HOST, server.port), PATIENCE) as client:
            client.sendall(b"pysksync 1\n1\n0\nthere\nhere\n%d000 f\n\n9999\nxyz" % NOW)
            until(lambda: list(self.there.iterdir()), "a half of a file")
            server.kill()
        self.assertEqual(len(list(self.there.iterdir())), 1)
        server = self.serve(server_root=str(self.jail))
        put(self.here, "new", b"new")
        oldstyle.client(server.port, self.here)
        self.assertEqual([path.name for path in self.there.iterdir()], ["new"])

    def test_the_log_may_go_to_a_file_with_a_line_for_each_file(self) -> None:
        put(self.here, "f\ng", b"")
        put(self.here, "f\u00e9", b"content")
        keys = {"host": HOST, "port": 0, "require_auth": False, "server_root": str(self.jail)}
        config = self.configure("other.json", **keys)
        server = Server(self.place / "errors", self.place, config, "-l", "log", "--log-level", "VERBOSE")
        self.addCleanup(server.kill)
        log = self.place / "log"
        until(lambda: log.exists() and "listening" in log.read_text(), "it listens")
        (self.here / "f\ng").unlink()
        oldstyle.client(port_in(log.read_text()), self.here)
        until(lambda: "received 1 files, 7 bytes" in log.read_text(), "its line")
        self.assertIn("received 'f\\xe9', 7 bytes", log.read_text())
        self.assertEqual((server.end(), server.log()), (0, ""))


class Running(SkSyncCase):
    """What an administrator may do while it runs."""

    def test_a_directory_that_was_replaced_is_served_and_not_the_deleted_one(self) -> None:
        put(self.here, "f", b"content")
        for shared in ({"server_root": "jail"}, {"server_dir_whitelist": [str(self.there)]}):
            path = "there" if "server_root" in shared else str(self.there)
            server = self.serve(**shared)
            self.assertEqual(oldstyle.client(server.port, self.here, path=path), (["f"], []))
            self.jail.rename(self.place / f"old-{path.count('/')}")
            self.there.mkdir(parents=True)
            self.assertEqual(oldstyle.client(server.port, self.here, path=path), (["f"], []))
            self.assertEqual(tree(self.there), tree(self.here))
            (self.there / "f").unlink()

    def test_a_directory_that_is_gone_ends_the_session_and_not_the_server(self) -> None:
        put(self.there, "f", b"content")
        server = self.serve(server_root=str(self.jail))
        self.jail.rename(self.place / "old")
        with self.assertRaises(oldstyle.Ended):
            oldstyle.client(server.port, self.here)
        server.wait("server_root: ")
        (self.place / "old").rename(self.jail)
        self.assertEqual(oldstyle.client(server.port, self.here), ([], ["f"]))

    def test_sessions_that_have_ended_leave_no_descriptor_open(self) -> None:
        server = self.serve(server_root=str(self.jail))

        def count() -> int:
            return len(os.listdir(f"/proc/{server.process.pid}/fd"))

        counts = []
        for _ in range(8):
            oldstyle.client(server.port, self.here)
            with socket.create_connection((HOST, server.port), PATIENCE) as client:
                client.sendall(b"pysksync 1\n1\n0\nthere\nhere\n%d000 f\n\n9999\nxyz" % NOW)
                until(lambda: list(self.there.iterdir()), "a half of a file")
            until(lambda: not list(self.there.iterdir()), "its end")
            counts.append(count())
        until(lambda: count() <= counts[0] + 3, lambda: f"{counts}, {count()}")  # sockets are closed last

    def test_failed_logins_delay_the_next_from_that_address_with_the_same_reply(self) -> None:
        put(self.there, "f", b"content")
        self.run_it("users", "add", "me", "--password-file", "-", stdin=b"right")
        users = json.loads((self.place / "sksync.json").read_text())["users"]
        server = self.serve(require_auth=True, users=users, server_root=str(self.jail))
        right = self.client(server.port, username="me", password="right")
        wrong = self.configure("wrong.json", **json.loads((self.place / right).read_text()))
        text = (self.place / wrong).read_text().replace("right", "wrong")
        (self.place / wrong).write_text(text)
        said = set()
        refused = "login refused: too many failed logins from its address"
        while refused not in server.log():  # each failure doubles the delay
            done = self.run_it(wrong, "client", "me")
            self.assertEqual(done.returncode, 1)
            said.add(done.stderr)
        done = self.run_it(right, "client", "me")
        deadline = time.monotonic() + PATIENCE
        while done.returncode and time.monotonic() < deadline:  # a quick client is refused many times
            said.add(done.stderr)
            done = self.run_it(right, "client", "me")
        self.assertEqual((done.returncode, set(tree(self.here))), (0, {"f"}), done.stderr)
        self.assertEqual(len(said), 1, said)
        self.assertGreaterEqual(server.log().count("login refused: user 'me'"), 3)

    def test_sighup_reads_users_settings_and_certificates_again_and_opens_both_logs_again(self) -> None:
        put(self.there, "f", b"content")
        log = self.place / "log"
        for number in (1, 2):
            pair = ("--cert", f"cert{number}.pem", "--key", f"key{number}.pem", "--name", HOST)
            self.assertEqual(self.run_it("make-cert", *pair).returncode, 0)
        keys = {
            "host": HOST,
            "port": 0,
            "server_root": "jail",
            "use_ssl": True,
            "logfile": str(log),
            "audit": "audit",
        }
        tls = {"ssl_server_certfile": "cert1.pem", "ssl_server_keyfile": "key1.pem"}
        server = Server(self.place / "errors", self.place, self.configure(**keys, **tls))
        self.addCleanup(server.kill)
        until(lambda: log.exists() and "listening" in log.read_text(), "it listens")
        login = {"username": "me", "password": "pw", "use_ssl": True, "ssl_server_certfile": "cert2.pem"}
        client = self.client(port_in(log.read_text()), **login)
        self.assertEqual(self.run_it(client, "client", "me").returncode, 1)
        tls = {"ssl_server_certfile": "cert2.pem", "ssl_server_keyfile": "key2.pem"}
        self.configure(**keys, **tls, max_clients="many")
        log.rename(self.place / "log.1")
        (self.place / "audit").rename(self.place / "audit.1")
        server.process.send_signal(signal.SIGHUP)
        refused = "not reloaded: sksync.json: max_clients: "
        until(lambda: log.exists() and refused in log.read_text(), "a line")
        self.configure(**keys | {"port": 1}, **tls, max_clients=7)
        self.run_it("users", "add", "me", "--password-file", "-", stdin=b"pw")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "reloaded\n" in log.read_text(), "a line")
        self.assertIn("port: a change takes effect after a restart only", log.read_text())
        done = self.run_it(client, "client", "me")
        self.assertEqual((done.returncode, set(tree(self.here))), (0, {"f"}), done.stderr)
        self.assertEqual((server.end(), server.log()), (0, ""))
        self.assertRegex((self.place / "audit").read_text(), '"user":"me"')

    def test_sigterm_lets_a_running_sync_finish_and_takes_no_new_one(self) -> None:
        server = self.serve(server_root=str(self.jail))
        with socket.create_connection((HOST, server.port), PATIENCE) as client:
            client.sendall(b"pysksync 1\n1\n0\nthere\nhere\n%d000 f\n\n6\nabc" % NOW)
            until(lambda: list(self.there.iterdir()), "a half of a file")
            server.process.send_signal(signal.SIGTERM)
            server.wait("waiting up to 30 seconds")
            with self.assertRaises(ConnectionRefusedError):
                socket.create_connection((HOST, server.port), PATIENCE)
            client.sendall(b"def")
            with client.makefile("rb") as stream:
                self.assertEqual(stream.read(), b"Protocol Established\nf\n\n\n")
        server.process.wait(PATIENCE)
        self.assertEqual((server.process.returncode, tree(self.there)), (0, {"f": (b"abcdef", NOW)}))

    def test_options_win_over_the_file_and_both_have_the_same_names(self) -> None:
        put(self.here, "f", b"content")
        config = self.configure("other.json", host="192.0.2.1", port=1, timeout=7, server_root="/nowhere")
        words = ("--config", config, "--listen-address", HOST, "--port", "0", "--require-auth", "no")
        audit = self.place / "audit"
        words += (
            "--server_root",
            str(self.jail),
            "--log-format",
            "json",
            "--audit",
            str(audit),
            "--audit-chain",
        )
        server = Server(self.place / "errors", self.place, *words, "--max-clients", "5")
        self.addCleanup(server.kill)
        self.assertEqual(oldstyle.client(server.port, self.here), (["f"], []))
        self.assertEqual(server.end(), 0)
        self.assertIn("sharing", json.loads(server.log().splitlines()[0])["message"])
        records = [json.loads(line) for line in audit.read_text().splitlines()]
        shown = [(record["request"], record["path"], record["bytes"]) for record in records]
        self.assertEqual(shown, [("put", "/there/f", 7), ("end", None, 7)])
        self.assertEqual(verify([str(audit)], {}).problems, [])

    def test_a_connection_that_does_not_log_in_is_ended(self) -> None:
        server = self.serve(server_root=str(self.jail), login_grace=0.1)
        with socket.create_connection((HOST, server.port), PATIENCE) as client:
            self.assertEqual(client.recv(1), b"")
        server.wait("no login and directory within 0.1 seconds (login_grace)")


class Syncing(SkSyncCase):
    def test_a_client_prints_a_line_for_each_file_and_a_summary(self) -> None:
        put(self.there, "d/f", b"content")
        put(self.here, "\u03b1", b"new")
        server = self.serve(server_root=str(self.jail))
        config = self.client(server.port, sync_type="bidirectional_use_time")
        done = self.run_it(config, "client", "me")
        self.assertEqual((done.returncode, tree(self.here)), (0, tree(self.there)), done.stderr)
        self.assertEqual(done.stderr.decode(), "sent \u03b1, 3 bytes\nreceived d/f, 7 bytes\n")
        summary = r"\Asent 1, received 1, unchanged 0, skipped 0, failed 0; 10 bytes in \d+\.\d\d seconds\n\Z"
        self.assertRegex(done.stdout.decode(), summary)
        again = self.run_it(config, "client", "me")
        self.assertEqual((again.returncode, again.stderr), (0, b""))
        self.assertRegex(again.stdout.decode(), r"\Asent 0, received 0, unchanged 2, .* 0 bytes in ")

    def test_quiet_prints_the_summary_only(self) -> None:
        put(self.there, "f", b"content")
        server = self.serve(server_root=str(self.jail))
        done = self.run_it("-q", self.client(server.port), "client", "me")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertRegex(done.stdout, rb"\A[^\n]*received 1[^\n]*\n\Z")

    def test_a_dry_run_prints_what_the_real_one_then_does_and_touches_nothing(self) -> None:
        put(self.there, "t", b"there")
        put(self.here, "h", b"here!!")
        for kind in ("ours", "old"):
            with self.subTest(kind):
                (self.there / "h").unlink(missing_ok=True)
                (self.here / "t").unlink(missing_ok=True)
                if kind == "ours":
                    port = self.serve(server_root=str(self.jail)).port
                else:
                    old = oldstyle.Server(self.jail)
                    self.addCleanup(old.stop)
                    port = old.port
                config = self.client(port, sync_type="bidirectional_no_time")
                done = self.run_it("--dry-run", config, "client", "me")
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                plan, summary = done.stdout.decode().split("would be ", 1)
                self.assertEqual(plan, "would send h, 6 bytes\nwould receive t, 5 bytes\n")
                self.assertRegex(summary, r"\Asent 1, would be received 1, unchanged 0, .*; 11 bytes in ")
                self.assertEqual((set(tree(self.here)), set(tree(self.there))), ({"h"}, {"t"}))
                real = self.run_it(config, "client", "me").stderr.decode()
                self.assertEqual(real, "sent h, 6 bytes\nreceived t, 5 bytes\n")

    def test_a_lone_section_is_the_client_of_that_name(self) -> None:
        put(self.there, "f", b"content")
        server = self.serve(server_root=str(self.jail))
        section = {"server_path": "there", "client_path": "here", "host": HOST, "port": server.port}
        self.configure("lone.json", client=section)
        (self.place / "sksync.json").unlink()
        for words in (("lone.json", "client", "client"), ("lone.json", "client")):
            done = self.run_it(*words)
            self.assertEqual((done.returncode, set(tree(self.here))), (0, {"f"}), done.stderr)
            (self.here / "f").unlink()
        (self.place / "lone.json").rename(self.place / "sksync.json")
        for words in (("client", "client"), ("client",)):
            done = self.run_it(*words)
            self.assertEqual((done.returncode, set(tree(self.here))), (0, {"f"}), done.stderr)

    def test_trailing_commas_are_taken_and_unknown_keys_are_told(self) -> None:
        put(self.there, "f", b"content")
        port = self.serve(server_root=str(self.jail)).port
        me = f'{{"server_path": "there", "client_path": "here", "port": {port},}}'
        text = f'{{"hots": 1, "clients": {{"me": {me},}},}}'
        (self.place / "commas.json").write_text(text)
        done = self.run_it("commas.json", "client", "me")
        self.assertEqual((done.returncode, set(tree(self.here))), (0, {"f"}), done.stderr)
        self.assertIn(b'pysksync: commas.json: unknown key "hots", ignored', done.stderr)

    def test_a_directory_of_the_client_s_is_made_where_files_come(self) -> None:
        put(self.there, "f", b"content")
        port = self.serve(server_root=str(self.jail)).port
        config = self.client(port, client_path="new")
        self.assertEqual(self.run_it("-n", config, "client", "me").returncode, 0)
        self.assertFalse((self.place / "new").exists())
        self.assertEqual(self.run_it(config, "client", "me").returncode, 0)
        self.assertEqual(tree(self.place / "new"), tree(self.there))

    def test_a_file_that_fails_makes_the_exit_status_1_and_the_others_come(self) -> None:
        (self.here / "a").mkdir()
        for name in ("a", "b"):
            put(self.there, name, b"content")
        port = self.serve(server_root=str(self.jail)).port
        for options in ((), ("-q",)):
            (self.here / "b").unlink(missing_ok=True)
            done = self.run_it(*options, self.client(port), "client", "me")
            self.assertEqual((done.returncode, set(tree(self.here))), (1, {"b"}))
            self.assertIn(b"failed: a: ", done.stderr)
            self.assertIn(b"failed 1;", done.stdout)

    def test_names_that_the_protocol_cannot_say_are_skipped_and_told(self) -> None:
        put(self.here, "\u03b1")
        put(self.here, "f")
        port = self.serve(server_root=str(self.jail)).port
        done = self.run_it(
            self.client(port, sync_type="to_server_use_time", sksync1_compat=True), "client", "me"
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("skipped: \u03b1: ", done.stdout.decode())
        self.assertIn("sent 1, received 0, unchanged 0, skipped 1, failed 0;", done.stdout.decode())

    def test_a_plan_is_printed_whatever_the_locale_and_a_pipe_that_nobody_reads_is_one_line(self) -> None:
        put(self.there, "\u03b1\u65e5", b"content")
        config = self.client(self.serve(server_root=str(self.jail)).port)
        done = self.run_it("-n", config, "client", "me", variables={"PYTHONIOENCODING": "ascii"})
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertTrue(done.stdout.startswith("would receive \u03b1\u65e5, 7 bytes\n".encode()))
        code = "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1); "
        code += "os.execv(sys.argv[1], sys.argv[1:])"
        done = self.run_argv(["-c", code, sys.executable, COMMAND, "-n", config, "client", "me"])
        self.assert_refused(done, "standard output: broken pipe", status=1)

    def test_a_terminal_gets_a_progress_display_and_nothing_of_it_stays(self) -> None:
        for encoding in ("utf-8", "ascii"):
            with self.subTest(encoding):
                self.one_on_a_terminal(encoding)

    def one_on_a_terminal(self, encoding: str) -> None:
        for path in self.here.iterdir():
            path.unlink()
        put(self.there, "\u03b1\u65e5", b"content")
        for number in range(50):
            put(self.there, f"file-{number}", b"x" * 10_000)
        port = self.serve(server_root=str(self.jail)).port
        ours, theirs = pty.openpty()
        seen = bytearray()

        def read() -> None:
            try:
                while piece := os.read(ours, 4096):
                    seen.extend(piece)
            except OSError:  # the other end was closed
                pass

        reader = threading.Thread(target=read)
        reader.start()
        try:
            done = subprocess.run(
                [sys.executable, COMMAND, self.client(port), "client", "me"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=theirs,
                cwd=self.place,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
                | {"PYTHONIOENCODING": encoding},
                timeout=PATIENCE,
            )
        finally:
            os.close(theirs)
            reader.join(PATIENCE)
            os.close(ours)
        self.assertEqual((done.returncode, len(tree(self.here))), (0, 51), bytes(seen))
        self.assertIn(b"\x1b[", seen)
        self.assertNotIn(b"received file-1, ", seen)
        self.assertRegex(done.stdout, rb"\Asent 0, received 51, [^\n]*\n\Z")


class Refusals(SkSyncCase):
    def test_words_that_mean_nothing_are_refused_in_one_line(self) -> None:
        for words in (("a", "b"), ("a", "b", "c"), ("a", "client", "b", "c"), ("a", "serve")):
            with self.subTest(words):
                self.assert_refused(self.run_it(*words), "client NAME")
        self.assert_refused(self.run_it("--nonsense"), "nonsense")
        for flag in ("--dry-run", "--quiet"):
            self.assert_refused(self.run_it(flag), flag)
        self.assert_refused(self.run_it("a.json", "--config", "b.json"), "name one configuration")

    def test_a_configuration_that_cannot_be_used_is_refused_with_its_place(self) -> None:
        put(self.place, "comma.json", b'{"port": 1,\n "host": }')
        put(self.place, "latin.json", b'{"host": "\xe9"}')
        put(self.place, "list.json", b"[]")
        put(self.place, "empty.json", b"")
        put(self.place, "port.json", b'{"port": "x"}')
        cases = {
            "gone.json": ("gone.json: no such file",),
            "here": ("here: is a directory",),
            "comma.json": ("comma.json, line 2, column ",),
            "latin.json": ("latin.json: not UTF-8 at byte 10",),
            "list.json": ("list.json: not an object",),
            "empty.json": ("empty.json, line 1, column 1",),
            "port.json": ("port.json: port: has to be a number, not 'x'",),
        }
        for file, words in cases.items():
            for more in ((), ("client", "me")):
                with self.subTest(file, more=more):
                    self.assert_refused(self.run_it(file, *more), *words)

    def test_clients_that_are_not_there_or_not_whole_are_refused(self) -> None:
        config = self.configure("c.json", clients={"a": {"server_path": "x"}, "b": {}})
        self.assert_refused(self.run_it(config, "client", "me"), "no client named 'me'", "a, b")
        self.assert_refused(self.run_it(config, "client", "a"), "clients.a: client_path: missing")
        config = self.client(1, client_path="gone", sync_type="to_server_use_time")
        self.assert_refused(self.run_it(config, "client", "me"), "client_path: gone: no such file")
        config = self.client(1, client_path="gone/deeper")
        self.assert_refused(self.run_it(config, "client", "me"), "clients.me: client_path: ", "no such file")

    def test_what_a_server_lacks_is_refused_by_its_key(self) -> None:
        gone = str(self.place / "gone")
        cases: tuple[tuple[dict[str, Any], str, int], ...] = (
            ({"server_root": gone}, "server_root: ", 2),
            ({"server_dir_whitelist": [gone]}, "server_dir_whitelist: ", 2),
            ({"use_ssl": True}, "ssl_server_certfile: missing", 2),
            ({"use_ssl": True, "ssl_server_certfile": gone}, "ssl_server_certfile: ", 2),
            ({"storage": {"type": "gridfs", "uri": "mongodb://["}}, "storage", 2),
        )
        for keys, words, status in cases:
            with self.subTest(words):
                done = self.run_it(self.configure("s.json", **keys))
                self.assert_refused(done, words, status=status)

    def test_a_server_that_is_not_there_is_exit_status_1_with_one_line(self) -> None:
        with socket.socket() as closed:
            closed.bind((HOST, 0))
            done = self.run_it(self.client(closed.getsockname()[1]), "client", "me")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(
            done.stderr, rb"\Apysksync: cannot connect to 127\.0\.0\.1 port \d+: connection refused\n\Z"
        )
        self.assertRegex(done.stdout, rb"\Asent 0, received 0, [^\n]*\n\Z")

    def test_a_port_that_is_taken_is_exit_status_1(self) -> None:
        with socket.create_server((HOST, 0)) as other:
            port = other.getsockname()[1]
            config = self.configure("s.json", host=HOST, port=port, require_auth=False, server_root="jail")
            done = self.run_it(config)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"port %d: address already in use; " % port, done.stderr.splitlines()[-1])

    def test_a_login_that_fails_is_exit_status_1_and_the_password_is_not_told(self) -> None:
        users = {"me": {"authsrp": ["cf78a7a5", "7443843a24acb936"]}}
        server = self.serve(require_auth=True, users=users, server_root=str(self.jail))
        config = self.client(server.port, username="me", password="hush hush")
        done = self.run_it(config, "client", "me")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"refused the login", done.stderr)
        self.assertIn("login refused", server.wait("login refused"))
        self.assertNotIn("hush", done.stderr.decode() + done.stdout.decode() + server.log())
