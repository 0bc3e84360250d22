"""The settings of a server: options, the configuration file, environs; what the command says of mistakes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.cli import pysftpremo_serve
from pysftpserver.failures import BadInput
from pysftpserver.remo import server as remo_server
from pysftpserver.remo.config import ServerSettings, from_environ
from tests.remo.running import Furnished, Server, called, environment, quiet
from tests.support.ports import LOOPBACK
from tests.support.waiting import PATIENCE, until

#: What users of earlier versions and of the seed's configurations write, and what it means.
OLDER = {
    "host": ("listen_address", "::1", "::1"),
    "interface": ("listen_address", "::1", "::1"),
    "log": ("logging_config", "log.ini", "log.ini"),
    "timeout": ("session_timeout", "2.5", 2.5),
    "session": ("session_timeout", "2.5", 2.5),
    "most-token": ("max_token", "1024", 1024),
    "most-put": ("max_put", "9", 9),
    "most-sessions": ("max_sessions", "1", 1),
    "most-per-user": ("max_per_user", "2", 2),
    "most-per-address": ("max_per_address", "3", 3),
    "idle": ("idle_timeout", "0.5", 0.5),
}
SHORT = {
    "-p": ("port", "0", 0),
    "-i": ("listen_address", "x", "x"),
    "-u": ("user_service", "x", "x"),
    "-k": ("key_file", "x", "x"),
    "-l": ("logging_config", "x", "x"),
    "-s": ("session_timeout", "1", 1.0),
}


def served(*words: str) -> ServerSettings:
    """The settings that the command makes of its words."""
    with mock.patch.object(remo_server, "serve") as serve:
        pysftpremo_serve.serve(words)
    values = serve.call_args[0][0]
    assert isinstance(values, ServerSettings)
    return values


class Settings(unittest.TestCase):
    def setUp(self) -> None:
        super().setUp()
        place = self.enterContext(tempfile.TemporaryDirectory(prefix="pysftpserver-remo-"))
        self.path = str(Path(place) / "remo.toml")

    def in_file(self, text: str, *words: str) -> ServerSettings:
        Path(self.path).write_text(text)
        return served("-c", self.path, *words)

    def assert_given(self, values: ServerSettings, name: str, value: Any) -> None:
        self.assertEqual((values.given, getattr(values, name)), ({name}, value))

    def test_the_defaults_are_those_that_users_know(self) -> None:
        values = served()
        known = (values.port, values.listen_address, values.session_timeout, values.logging_config)
        self.assertEqual(known, (8080, LOOPBACK, 600, None))
        service = "SQLiteUserService:users_db.sqlite"
        self.assertEqual((values.user_service, values.key_file), (service, "remo_serv_key.pem"))
        self.assertEqual((values.debug, values.commands, values.require_numbered), (False, None, False))

    def test_older_names_are_taken_as_options_as_keys_and_in_an_environ(self) -> None:
        for old, (name, word, value) in OLDER.items():
            with self.subTest(old):
                self.assert_given(served(f"--{old}", word), name, value)
                native = word if isinstance(value, int | float) else repr(word)
                self.assert_given(self.in_file(f"{old} = {native}"), name, value)
                self.assertEqual(from_environ({f"remo_serv.{old}": word}), {name: value})
        for flag, (name, word, value) in SHORT.items():
            with self.subTest(flag):
                self.assert_given(served(flag, word), name, value)
        self.assert_given(served("-d"), "debug", True)

    def test_an_option_wins_over_the_file_and_no_is_a_value(self) -> None:
        text = "port = 1\ncommands = true\nslowest = 7\nhost = 'a'\n"
        values = self.in_file(text, "-p", "0", "--commands", "no", "--slowest", "0", "-i", "b")
        found = (values.port, values.commands, values.slowest, values.listen_address)
        self.assertEqual(found, (0, False, 0, "b"))
        self.assertIs(self.in_file("commands = false").commands, False)

    def test_an_environ_has_names_of_its_own_for_two_settings_and_values_of_any_type(self) -> None:
        given = {"KEYFILE": "k", "USER_SERVICE": "u", "remo_serv.debug": True, "remo_serv.timeout": 5}
        wanted = {"key_file": "k", "user_service": "u", "debug": True, "session_timeout": 5.0}
        self.assertEqual(from_environ(given | {"PATH": "/bin"}), wanted)

    def test_mistakes_name_the_file_and_the_key(self) -> None:
        for text, words in (
            ("prot = 1", "unknown key 'prot'"),
            ("port = 65536", "port: has to be a whole number from 0 to 65535"),
            ("timeout = 0", "timeout: has to be a number of seconds"),
            ("commands = 7", "commands: has to be true or false"),
            ("most-token = 1023", "most-token: has to be a whole number from 1024"),
        ):
            with self.subTest(text), self.assertRaises(BadInput) as caught:
                self.in_file(text)
            self.assertIn(f"{self.path}: {words}", str(caught.exception))
        for words in (["--port", "x"], ["--prot", "1"], ["word"], ["--commands", "perhaps"]):
            with self.subTest(words), self.assertRaises(BadInput):
                served(*words)


class TheCommand(Furnished):
    def setUp(self) -> None:
        super().setUp()
        quiet(self)

    def assert_refused(self, status: int, line: str, *words: str) -> None:
        done = called(["serve", "--allow-root", *words], self.place)
        self.assertEqual(done.returncode, status, done.stderr)
        said = done.stderr.decode().splitlines()
        self.assertRegex(said[-1], f"^pysftpremo: {line}")
        self.assertNotIn("Traceback", done.stderr.decode())

    def test_what_is_not_set_up_is_told_with_what_to_do(self) -> None:
        self.assert_refused(2, "key-file: missing.pem: no such file.*keygen ", "-k", "missing.pem")
        self.assert_refused(2, "key-file: alice.pem: .*not a private key", "-k", "alice.pem")
        self.assert_refused(2, "user-service: 'x' is not a user service", "-u", "x")
        self.assert_refused(2, "user-service: user database alice.pem: ", "-u", "SQLiteUserService:alice.pem")
        self.assert_refused(2, "root and storage: ", "--root", ".", "--storage", "plain")
        self.assert_refused(2, "root: missing: no such file", "--root", "missing")
        self.assert_refused(2, "storage: no:thing: ", "--storage", "no:thing")
        self.assert_refused(2, "logging-config: missing.ini: ", "-l", "missing.ini")
        self.assert_refused(2, "audit log /missing/a: no such file", "--audit", "/missing/a")

    def test_a_port_that_is_taken_and_a_host_that_is_not_here_are_told(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as taken:
            port = str(taken.getsockname()[1])
            reason = "address already in use"
            self.assert_refused(1, f"cannot listen on {LOOPBACK} port {port}: {reason}", "-p", port)
        elsewhere = "cannot listen on 192.0.2.1 port 0: cannot assign requested address"
        self.assert_refused(1, elsewhere, "-p", "0", "-i", "192.0.2.1")

    def test_a_configuration_of_logging_is_followed(self) -> None:
        (self.place / "log.ini").write_text(
            "[loggers]\nkeys=root\n[handlers]\nkeys=file\n[formatters]\nkeys=\n[logger_root]\nlevel=INFO\n"
            "handlers=file\n[handler_file]\nclass=FileHandler\nargs=('of.log',)\n"
        )
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pysftpserver.remo",
                "--allow-root",
                "-p",
                "0",
                "--log",
                "log.ini",
                "--root",
                ".",
            ],
            cwd=self.place,
            env=environment(),
            stderr=subprocess.PIPE,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        log = self.place / "of.log"
        until(lambda: log.exists() and "listening on" in log.read_text(), "it does not listen")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.communicate(timeout=PATIENCE)[1], b"")
        self.assertEqual(process.returncode, 0)
        self.assertTrue(log.read_text().endswith("stopped\n"))

    def test_it_listens_on_loopback_alone_and_warns_of_a_key_that_others_can_read(self) -> None:
        key = self.place / "remo_serv_key.pem"
        key.chmod(0o644)
        self.addCleanup(key.chmod, 0o600)
        server = Server(self.place)
        self.addCleanup(server.kill)
        self.assertIn("can be read by others; run chmod 600 on it", server.log())
        rows = [row.split() for path in Path("/proc/net").glob("tcp*") for row in path.open()]
        listening = {row[1] for row in rows if row[3] == "0A"}
        mine = {address for address in listening if address.endswith(f":{server.port:04X}")}
        self.assertEqual(mine, {f"0100007F:{server.port:04X}"})
