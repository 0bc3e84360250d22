"""What a server is told: options, the configuration file, environs; every setting in each of them."""

from __future__ import annotations

import contextlib
import io
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.cli import pysftpremo_serve
from pysftpserver.failures import BadInput
from pysftpserver.remo import config
from pysftpserver.remo.config import SETTINGS, Values, from_environ, from_toml
from tests.remo.running import Furnished, Server, called, environment, quiet
from tests.support.ports import LOOPBACK
from tests.support.waiting import PATIENCE, until

#: For each setting: a TOML value, the same as a word, what is made of both, a TOML value that does not do.
EXAMPLES: dict[str, tuple[str, str, Any, str]] = {
    "port": ("0", "0", 0, "65536"),
    "host": ('"::1"', "::1", "::1", "5"),
    "user-service": ('"SQLiteUserService:x"', "SQLiteUserService:x", "SQLiteUserService:x", '""'),
    "key-file": ('"key"', "key", "key", "false"),
    "log": ('"log.ini"', "log.ini", "log.ini", "[]"),
    "timeout": ("2.5", "2.5", 2.5, "0"),
    "debug": ("true", "", True, '"perhaps"'),
    "audit": ('"a.log"', "a.log", "a.log", "1"),
    "root": ('"jail"', "jail", "jail", '"a\\u0000b"'),
    "storage": ('"jail:x"', "jail:x", "jail:x", "{}"),
    "commands": ("false", "no", False, "7"),
    "require-numbered": ("true", "", True, "2"),
    "command-seconds": ("1", "1", 1.0, "nan"),
    "command-output": ("1", "1", 1, "0"),
    "command-input": ("5", "5", 5, "-1"),
    "most-token": ("1024", "1024", 1024, "1023"),
    "most-put": ("9", "9", 9, "1.5"),
    "most-sessions": ("1", "1", 1, "true"),
    "most-per-user": ("2", "2", 2, '"x"'),
    "proxied": ("true", "", True, "[true]"),
    "threads": ("2", "2", 2, "1"),
    "most-per-address": ("1", "1", 1, "1001"),
    "idle": ("0.5", "0.5", 0.5, "inf"),
    "slowest": ("0", "0", 0, "-1"),
}


class Values_(unittest.TestCase):
    def serve(self, *words: str) -> Values:
        """What the command makes of options."""

        class Made(Exception):
            pass

        with (
            mock.patch.object(pysftpremo_serve, "set_up_logging"),
            mock.patch.object(pysftpremo_serve, "make", side_effect=Made) as make,
            self.assertRaises(Made),
        ):
            pysftpremo_serve.serve(words)
        values = make.call_args[0][0]
        assert isinstance(values, Values)
        return values

    @contextlib.contextmanager
    def file(self, text: str) -> Iterator[str]:
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(text)
            file.flush()
            yield file.name

    def test_every_setting_has_an_example_here(self) -> None:
        self.assertEqual(set(EXAMPLES), {setting.name for setting in SETTINGS})

    def test_the_defaults_are_those_that_users_know(self) -> None:
        values = self.serve()
        known = (values.port, values.host, values.timeout, values.user_service, values.key_file, values.log)
        service = "SQLiteUserService:users_db.sqlite"
        self.assertEqual(known, (8080, LOOPBACK, 600, service, "remo_serv_key.pem", None))
        self.assertEqual((values.debug, values.commands, values.require_numbered), (False, None, False))

    def test_every_option_sets_its_value_and_no_other(self) -> None:
        before = vars(self.serve())
        for setting in SETTINGS:
            _, word, expected, _ = EXAMPLES[setting.name]
            for flag in setting.flags:
                with self.subTest(flag):
                    values = vars(self.serve(flag, *([word] if setting.metavar else [])))
                    self.assertEqual(values, {**before, setting.attribute: expected})

    def test_every_key_of_a_file_sets_its_value_and_options_go_before_it(self) -> None:
        before = vars(self.serve())
        for setting in SETTINGS:
            value, word, expected, _ = EXAMPLES[setting.name]
            with self.subTest(setting.name), self.file(f"{setting.name} = {value}\n") as path:
                self.assertEqual(vars(self.serve("-c", path)), {**before, setting.attribute: expected})
        with self.file("port = 1\ncommands = true\nslowest = 7\nhost = 'a'\n") as path:
            values = self.serve("--conf", path, "-p", "0", "--commands", "no", "--slowest", "0", "-i", "b")
        self.assertEqual((values.port, values.commands, values.slowest, values.host), (0, False, 0, "b"))

    def test_every_bad_value_of_a_file_is_told_with_key_and_file(self) -> None:
        for setting in SETTINGS:
            bad = EXAMPLES[setting.name][3]
            with self.subTest(setting.name), self.assertRaises(config.ConfigError) as caught:
                from_toml(f"{setting.name} = {bad}", "remo.toml")
            self.assertRegex(str(caught.exception), f"^configuration remo.toml: {setting.name}: .*write ")

    def test_every_key_of_an_environ_sets_its_value(self) -> None:
        for setting in SETTINGS:
            _, word, expected, bad = EXAMPLES[setting.name]
            with self.subTest(setting.key):
                self.assertEqual(from_environ({setting.key: word or "yes"}), {setting.name: expected})
                if not bad.startswith(("[", "{")) and setting.kind is not config.text:
                    with self.assertRaisesRegex(config.ConfigError, f"^{setting.key}: "):
                        from_environ({setting.key: bad})
        names = {setting.name: setting.key for setting in SETTINGS}
        self.assertEqual((names["key-file"], names["user-service"]), ("KEYFILE", "USER_SERVICE"))
        for name in ("log", "timeout", "debug"):
            self.assertEqual(names[name], f"remo_serv.{name}")
        self.assertEqual(
            from_environ({"remo_serv.debug": True, "remo_serv.timeout": 5}), {"timeout": 5.0, "debug": True}
        )

    def test_what_is_no_configuration_is_told_in_one_line(self) -> None:
        for text, words in (
            ("port", "configuration remo.toml: "),
            ("prot = 1", "prot: no such key; there are port"),
        ):
            with self.subTest(text), self.assertRaisesRegex(config.ConfigError, words):
                from_toml(text, "remo.toml")

    def test_a_file_that_cannot_be_read_is_told(self) -> None:
        with self.assertRaisesRegex(BadInput, "configuration /missing.toml: no such file"):
            pysftpremo_serve.serve(["-c", "/missing.toml"])
        with tempfile.NamedTemporaryFile("wb") as file:
            for content, words in (
                (b"\xff", "no UTF-8 at byte 0"),
                (b"#" * ((1 << 20) + 1), "more than 1048576 bytes"),
            ):
                file.seek(0)
                file.write(content)
                file.flush()
                with self.assertRaisesRegex(BadInput, words):
                    pysftpremo_serve.serve(["-c", file.name])

    def test_help_and_bad_options_are_clear(self) -> None:
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), self.assertRaises(SystemExit) as caught:
            pysftpremo_serve.serve(["--help"])
        self.assertEqual(caught.exception.code, 0)
        for setting in SETTINGS:
            for flag in setting.flags:
                self.assertIn(flag, shown.getvalue())
        bad: Sequence[Sequence[str]] = (
            ["--port", "x"],
            ["--port"],
            ["--prot", "1"],
            ["word"],
            ["--commands", "perhaps"],
        )
        for words in bad:
            with self.subTest(words), self.assertRaises(BadInput):
                pysftpremo_serve.serve(words)


class TheCommand(Furnished):
    def setUp(self) -> None:
        super().setUp()
        quiet(self)

    def assert_refused(self, status: int, line: str, *words: str) -> None:
        done = called(["serve", *words], self.place)
        self.assertEqual(done.returncode, status, done.stderr)
        said = done.stderr.decode().splitlines()
        self.assertRegex(said[-1], f"^pysftpremo: {line}")
        self.assertNotIn("Traceback", done.stderr.decode())

    def test_what_is_not_set_up_is_told_with_what_to_do(self) -> None:
        self.assert_refused(2, "key-file: missing.pem: no such file.*keygen remo_serv", "-k", "missing.pem")
        self.assert_refused(2, "key-file: alice.pem: .*no private key", "-k", "alice.pem")
        self.assert_refused(2, "user-service: 'x' is no user service", "-u", "x")
        self.assert_refused(2, "user-service: users alice.pem: ", "-u", "SQLiteUserService:alice.pem")
        self.assert_refused(2, "root and storage: ", "--root", ".", "--storage", "plain")
        self.assert_refused(2, "root: missing: no such file", "--root", "missing")
        self.assert_refused(2, "storage: no:thing: ", "--storage", "no:thing")
        self.assert_refused(2, "log: missing.ini: ", "-l", "missing.ini")
        self.assert_refused(2, "audit: /missing/a: no such file", "--audit", "/missing/a")

    def test_a_port_that_is_taken_and_a_host_that_is_not_here_are_told(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as taken:
            port = str(taken.getsockname()[1])
            self.assert_refused(1, f"{LOOPBACK}:{port}: it cannot be listened on", "-p", port)
        self.assert_refused(1, "192.0.2.1:0: it cannot be listened on", "-p", "0", "-i", "192.0.2.1")

    def test_a_configuration_of_logging_is_followed(self) -> None:
        (self.place / "log.ini").write_text(
            "[loggers]\nkeys=root\n[handlers]\nkeys=file\n[formatters]\nkeys=\n[logger_root]\nlevel=INFO\n"
            "handlers=file\n[handler_file]\nclass=FileHandler\nargs=('of.log',)\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "pysftpserver.remo", "-p", "0", "--log", "log.ini", "--root", "."],
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
        self.assertIn("key-file: others can read it: chmod 600 it", server.log())
        rows = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        listening = {row.split()[1] for row in rows.splitlines() if row.split()[3] == "0A"}
        mine = {address for address in listening if address.endswith(f":{server.port:04X}")}
        self.assertEqual(mine, {f"0100007F:{server.port:04X}"})
