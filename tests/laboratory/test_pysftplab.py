"""The command: where passwords come from, services, signals, pipes, terminals."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from unittest import mock

from pysftpserver.failures import BadInput
from pysftpserver.laboratory import client, passwords
from pysftpserver.laboratory.config import PASSWORD_VARIABLE, ServerSettings
from pysftpserver.service.verifying import verify
from tests.laboratory.serving import HOST
from tests.sksync.terminals import Terminal
from tests.support.cases import InAPlace
from tests.support.forked import Process, run
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until

COMMAND = ROOT / "bin/pysftplab"
CODE = "import sys; from pysftpserver.cli.pysftplab import main; sys.exit(main())"
MODULE = '''
from pysftpserver.laboratory.service import Service

class MyService(Service):
    """Shouts."""

    def on_message(self, client, text):
        self.send(client, text.upper())

class NotOne: pass

class Wanting(MyService):
    def __init__(self, wanted): pass
'''


class Commands(InAPlace):
    def setUp(self) -> None:
        super().setUp()
        (self.place / "my_module.py").write_text(MODULE)
        state = mock.patch.dict(os.environ, {"XDG_STATE_HOME": str(self.place / "state")})
        state.start()
        self.addCleanup(state.stop)

    def run_command(
        self, *words: str, text: str = "", password: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        if words[:1] == ("serve",):
            words = ("serve", "--allow-root", *words[1:])
        argv = [sys.executable, COMMAND, *words]
        return run(argv, text, cwd=self.place, env=self.environment(password), text=True)

    def environment(self, password: str | None) -> dict[str, str]:
        found = {name: value for name, value in os.environ.items() if name != PASSWORD_VARIABLE}
        if password is not None:
            found[PASSWORD_VARIABLE] = password
        return {**found, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}

    def serve(
        self, *words: str, password: str | None = "pw", log: Path | None = None
    ) -> tuple[subprocess.Popen[bytes], int]:
        """A server, and its port; log: where it logs, else standard error, which is in self.log."""
        self.log = log or self.place / "log"
        with (self.place / "log").open("wb") as stderr:
            process = Process(
                [sys.executable, COMMAND, "serve", "--allow-root", "--port", "0", *words],
                cwd=self.place,
                env=self.environment(password),
                stdin=subprocess.DEVNULL,
                stderr=stderr,
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        said = self.wait_for(self.log, r"listening on \S+ port \d+\n", process)
        return process, int(re.findall(r"port (\d+)\n", said)[0])

    def wait_for(self, path: Path, words: str, process: subprocess.Popen[bytes] | None = None) -> str:
        """The text of a file, once it has some words. process: without which they never come."""
        text = ""

        def has_come() -> bool:
            nonlocal text
            text = path.read_text() if path.exists() else ""
            if process is not None and process.poll() is not None:
                raise AssertionError(text)
            return re.search(words, text) is not None

        until(has_come, lambda: text)
        return text


class Serving(Commands):
    def test_it_serves_ones_own_service_first_and_ends_in_order_at_a_signal(self) -> None:
        process, port = self.serve("--service", "my_module:MyService", "--service", "echo", "--name", "Here")
        with client.connect(HOST, port, password="pw", name="ann") as connection:
            connection.send("hello")
            self.assertEqual(connection.receive(PATIENCE), "HELLO")
            self.assertEqual(connection.server_name(), "Here")
            self.assertEqual([one.title for one in connection.services()], ["MyService", "Echo"])
            process.send_signal(signal.SIGTERM)
            with self.assertRaises(client.Stopped):
                connection.receive(PATIENCE)
        self.assertEqual(process.wait(PATIENCE), 0)
        log = self.log.read_text()
        self.assertIn("accepted as 'ann', encrypted", log)
        self.assertRegex(log, r"pysftplab\[\d+\] ending\n")
        self.assertNotIn("pw", log)

    def test_started_so_that_it_outlives_its_terminal_it_does(self) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        try:
            process, port = self.serve()
        finally:
            signal.signal(signal.SIGHUP, before)
        process.send_signal(signal.SIGHUP)
        with client.connect(HOST, port, password="pw", name="ann") as connection:
            connection.send("x")
            self.assertEqual(connection.receive(PATIENCE), 'I received "x" from you.')
        process.terminate()
        self.assertEqual(process.wait(PATIENCE), 0)

    def test_sighup_reads_settings_and_the_password_again_and_goes_on_in_new_files_of_both_logs(self) -> None:
        (self.place / "config.toml").write_text(
            'name = "Old"\npassword = "old"\nlogfile = "server.log"\naudit = "audit"\n'
        )
        os.chmod(self.place / "config.toml", 0o600)
        self.log = self.place / "server.log"
        process, port = self.serve("--config", "config.toml", password=None, log=self.log)
        with client.connect(HOST, port, password="old", name="ann") as connection:
            self.assertEqual(connection.server_name(), "Old")
            (self.place / "config.toml").write_text(
                'name = "New"\npassword = "new"\nlogfile = "server.log"\naudit = "audit"\nkey_uses = 5\n'
            )
            (self.place / "audit").rename(self.place / "audit.1")
            self.log.rename(self.place / "server.log.1")
            process.send_signal(signal.SIGHUP)
            self.wait_for(self.log, " reloaded\n")
            self.assertIn("key_uses: a change takes effect when", self.log.read_text())
            self.assertEqual(connection.server_name(), "New")  # and it is still logged in
        self.wait_for(self.place / "audit", '"end"')
        with self.assertRaises(client.Refused):
            client.connect(HOST, port, password="old", name="ann")
        with client.connect(HOST, port, password="new", name="ann") as connection:
            self.assertEqual(connection.server_name(), "New")
        (self.place / "config.toml").write_text("nonsense")
        process.send_signal(signal.SIGHUP)
        self.wait_for(self.log, "not reloaded: config.toml: ")
        with client.connect(HOST, port, password="new", name="ann") as connection:
            self.assertEqual(connection.server_name(), "New")

    def test_a_directory_that_is_replaced_is_the_new_one_for_the_next_client(self) -> None:
        share = self.place / "share"
        share.mkdir()
        process, port = self.serve("--service", "files", "--files", f"jail:{share}")

        def put() -> str:
            with client.connect(HOST, port, password="pw", name="ann") as connection:
                for text in ("put new", "data eA==", "end"):
                    connection.send(text)
                return [connection.receive(PATIENCE) for _ in range(2)][-1]

        self.assertRegex(put(), r"\Astored 1 ")
        share.rename(self.place / "old")
        self.assertRegex(put(), r"\Aerror: ")
        share.mkdir()
        self.assertRegex(put(), r"\Astored 1 ")
        self.assertEqual((share / "new").read_bytes(), b"x")

    def test_the_audit_log_has_logins_services_and_transfers(self) -> None:
        share = self.place / "share"
        share.mkdir()
        words = ("--service", "echo", "--service", "files", "--files", f"jail:{share}")
        words += ("--audit", "audit", "--audit-chain")
        process, port = self.serve(*words)
        with self.assertRaises(client.Refused):
            client.connect(HOST, port, password="guess", name="eve")
        with client.connect(HOST, port, password="pw", name="ann") as connection:
            connection.choose("files")
            for text in ("put a.txt", f"data {base64.b64encode(b'hello').decode()}", "end", "get a.txt"):
                connection.send(text)
            for text in ("get none", "put none/x", "put b.txt"):
                connection.send(text)
            connection.server_name()
            source = connection.address
        records = [json.loads(line) for line in self.wait_for(self.place / "audit", '"end".*\n').splitlines()]
        self.assertEqual(
            [(one["request"], one["path"], one["result"], one["bytes"]) for one in records],
            [
                ("login", None, "PERMISSION_DENIED", 0),
                ("login", None, "OK", 0),
                ("service", None, "OK", 0),
                ("put", "/a.txt", "OK", 5),
                ("get", "/a.txt", "OK", 5),
                ("get", "/none", "NO_SUCH_FILE", 0),
                ("put", "/none/x", "NO_SUCH_FILE", 0),
                ("put", "/b.txt", "FAILURE", 0),
                ("end", None, "OK", 10),
            ],
        )
        digest = hashlib.sha256(b"hello").hexdigest()
        self.assertEqual([one.get("sha256") for one in records[3:6]], [digest, digest, None])
        self.assertEqual(verify([str(self.place / "audit")], {}).problems, [])
        self.assertEqual(records[0]["user"], "")
        for record in records[1:]:
            self.assertEqual((record["user"], record["peer"], record["port"]), ("ann", *source))
            self.assertEqual(record["session"], records[1]["session"])
        self.assertEqual(records[2]["service"], "Files")
        self.assertNotIn("guess", (self.place / "audit").read_text())

    def test_a_service_that_cannot_be_imported_is_told_with_its_line(self) -> None:
        for number, (text, wanted) in enumerate(
            (
                ("def f(:", r"SyntaxError: invalid syntax \(own0\.py, line 1\)"),
                ("\nimport sys; sys.exit(3)", r"SystemExit: 3 \(own1\.py, line 2\)"),
                ("1 / 0", r"ZeroDivisionError: division by zero \(own2\.py, line 1\)"),
                ("import not_there", "No module named 'not_there'; install it into the environment .*"),
            )
        ):
            with self.subTest(text):
                (self.place / f"own{number}.py").write_text(text)
                done = self.run_command("serve", "--port", "0", "--service", f"own{number}:X", password="pw")
                self.assertEqual(done.returncode, 2)
                self.assertRegex(done.stderr, rf"\Apysftplab: service: own{number}:X: {wanted}\n\Z")

    def test_a_password_that_the_protocol_cannot_send_is_refused(self) -> None:
        with self.assertRaisesRegex(BadInput, "not UTF-8"):
            passwords.checked(os.fsdecode(b"\xff"), "x")

    def test_options_come_from_a_toml_file_and_the_command_line_wins(self) -> None:
        secret = self.place / "secret"
        secret.write_text("from a file\nsecond line\n")
        config = self.place / "config.toml"
        config.write_text(
            'name = "In the file"\nport = 1\nservice = ["time"]\nallow_remote_stop = true\n'
            'password_file = "secret"\nstep_timeout = 3\n'
        )
        process, port = self.serve("--config", "config.toml", password=None)
        self.assertIn(
            "secret: other users can read the password in it; run chmod 600 secret", self.log.read_text()
        )
        with client.connect(HOST, port, password="from a file", name="ann") as connection:
            self.assertEqual(connection.server_name(), "In the file")
            self.assertEqual(connection.service(), "Time")
            connection.stop_server()
        self.assertEqual(process.wait(PATIENCE), 0)

    def test_the_command_lines_password_comes_before_the_environment_and_the_configuration(
        self,
    ) -> None:
        file = self.place / "file"
        file.write_text("in a file")
        configured = ServerSettings(password="configured")
        with mock.patch.dict(os.environ, {PASSWORD_VARIABLE: "environment"}):
            environment = passwords.taken_from_environment()
            self.assertNotIn(PASSWORD_VARIABLE, os.environ)  # services need not see it
        for settings, typed, found, wanted in (
            (configured, str(file), environment, "in a file"),
            (configured, None, environment, "environment"),
            (configured, None, None, "configured"),
            (ServerSettings(password_file=str(file)), None, None, "in a file"),
            (ServerSettings(), None, None, None),
        ):
            self.assertEqual(passwords.of_server(settings, typed, found), wanted)

    def test_without_a_password_or_with_an_empty_one_it_does_not_start(self) -> None:
        (self.place / "empty").write_text("\n")
        (self.place / "config.toml").write_text('password = ""\n')
        for words, password in (
            ([], None),
            ([], ""),
            (["--password-file", "empty"], "pw"),
            (["--password-file", "missing"], "pw"),
            (["--config", "config.toml"], None),
        ):
            done = self.run_command("serve", "--port", "0", *words, password=password)
            with self.subTest(words=words, password=password):
                self.assertEqual(done.returncode, 2)
                self.assertRegex(done.stderr, r"\Apysftplab: [^\n]*password[^\n]*\n\Z")

    def test_the_password_is_asked_for_on_a_terminal(self) -> None:
        with mock.patch.dict(os.environ):
            os.environ.pop(PASSWORD_VARIABLE, None)
            terminal = Terminal(
                CODE, "serve", "--allow-root", "--port", "0", "--allow-remote-stop", cwd=self.place
            )
        terminal.answer("Password of the server: ", "typed")
        terminal.read("listening on 127.0.0.1 port ")
        terminal.read("\r\n")
        port = int(re.findall(r"port (\d+)", terminal.text)[0])
        with client.connect(HOST, port, password="typed", name="ann") as connection:
            connection.stop_server()
        self.assertEqual(terminal.end(), 0)
        self.assertNotIn("typed", terminal.text)

    def test_what_cannot_be_meant_is_one_line_and_status_2(self) -> None:
        (self.place / "bad.toml").write_text("port = [\n")
        for words in (
            ["serve", "--port", "x"],
            ["serve", "--nonsense"],
            ["serve", "--config", "none.toml"],
            ["serve", "--config", "bad.toml"],
            ["serve", "--service", "nonsense"],
            ["serve", "--service", "my_module:None_"],
            ["serve", "--service", "my_module:NotOne"],
            ["serve", "--service", "my_module:Wanting"],
            ["serve", "--service", "echo", "--service", "echo"],
            ["serve", "--service", "files"],
            ["serve", "--files", "jail:/nowhere/at/all"],
            ["serve", "--http-allow", "nonsense"],
            ["nonsense"],
            [],
            ["connect"],
            ["connect", HOST, "99999"],
            ["connect", HOST, "1", "2"],
            ["connect", HOST, "--timeout", "x"],
        ):
            with self.subTest(words):
                done = self.run_command(*words, password="pw")
                self.assertEqual(done.returncode, 2)
                self.assertRegex(done.stderr, r"\Apysftplab: [^\n]+\n\Z")

    def test_values_of_the_wrong_kind_in_the_file_are_named(self) -> None:
        for text in ("port = 70000", "service = 'echo'", "name = ''", "step_timeout = 0", "nonsense = 1"):
            with self.subTest(text), self.assertRaises(BadInput) as caught:
                ServerSettings.parse(text, "file.toml")
            self.assertRegex(caught.exception.message, rf"\Afile.toml: .*{text.split(' ')[0]}")
        with self.assertRaises(BadInput) as caught:
            ServerSettings.parse("password = 12345", "file.toml")
        self.assertNotIn("12345", caught.exception.message)

    def test_the_older_name_of_the_address_is_still_read(self) -> None:
        for text, wanted in (("host = '::1'", ("::1",)), ("host = ''", None)):
            self.assertEqual(ServerSettings.parse(text, "file.toml"), {"listen_address": wanted})
        _, port = self.serve("--host", "127.0.0.2")
        with client.connect("127.0.0.2", port, password="pw", name="ann") as connection:
            self.assertEqual(connection.server_name(), "Laboratory")

    def test_a_missing_extra_is_one_line_with_the_command_for_pip(self) -> None:
        for words in (["serve", "--allow-root"], ["connect", HOST]):
            code = f"import sys; sys.modules['cryptography'] = None\n{CODE}"
            done = run([sys.executable, "-c", code, *words], env=self.environment("pw"), text=True)
            self.assertEqual(done.returncode, 2)
            self.assertEqual(
                done.stderr,
                "pysftplab: cryptography is missing; run pip install '.[laboratory]' in a checkout of "
                "pysftpserver, or install its wheel\n",
            )

    def test_an_address_that_cannot_be_had_is_status_1(self) -> None:
        _, port = self.serve()
        for words in (["--port", str(port)], ["--host", "192.0.2.1"]):
            done = self.run_command("serve", *words, password="pw")
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, r"\Apysftplab: cannot listen on [^\n]+\n\Z")


class Connecting(Commands):
    def test_in_a_pipe_lines_go_out_and_answers_come_back(self) -> None:
        process, port = self.serve()
        text = "hello\n\nzwölf\nSTOP SERVER\n::colon\n"
        done = self.run_command("connect", HOST, str(port), "-n", "ann", text=text, password="pw")
        self.assertEqual(
            done.stdout,
            "".join(
                f'I received "{one}" from you.\n' for one in ("hello", "", "zwölf", "STOP SERVER", ":colon")
            ),
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        text = ":services\n:server\n:name bob\n:key\n:use chat\nhi\n:quit\nnever sent\n"
        done = self.run_command("connect", HOST, str(port), text=text, password="pw")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("[lobby] bob: hi", self.run_chat(port))
        for words in ("Echo (in use)", "the server is Laboratory", "your name is now bob", "using Chat"):
            self.assertIn(words, done.stderr)

    def run_chat(self, port: int) -> str:
        done = self.run_command("connect", HOST, str(port), "-s", "chat", text="/history\n", password="pw")
        return done.stdout

    def test_what_goes_wrong_has_its_status(self) -> None:
        process, port = self.serve()
        for words, text, password, wanted in (
            (["1"], "", "pw", "connection refused"),
            ([str(port)], "", "wrong", "wrong password"),
            ([str(port), "--plaintext"], "", "pw", "requires encryption"),
            ([str(port), "-s", "none"], "", "pw", "no service has that name"),
            ([str(port)], ":use none\n", "pw", "no service has that name"),
            ([str(port)], ":nonsense\n", "pw", "unknown command"),
        ):
            with self.subTest(words=words, text=text):
                done = self.run_command("connect", HOST, *words, text=text, password=password)
                self.assertEqual(done.returncode, 1)
                self.assertIn(wanted, done.stderr)
        self.assertEqual(self.run_command("connect", HOST, str(port)).returncode, 2)

    def test_on_a_terminal_there_is_a_prompt_with_history_and_colours(self) -> None:
        process, port = self.serve("--allow-remote-stop")
        (self.place / "pw").write_text("pw\n")
        words = ("connect", HOST, str(port), "--password-file", "pw", "--name", "ann")
        with mock.patch.dict(os.environ, {"TERM": "xterm"}):
            os.environ.pop("NO_COLOR", None)
            terminal = Terminal(CODE, *words, cwd=self.place)
        terminal.answer("ann> ", "hello")
        terminal.read('I received "hello" from you.')
        self.assertIn("\x1b[32m", terminal.text)  # green
        terminal.keys("ann> ", b"\x1b[A there\n")  # the line before, and more
        terminal.read('I received "hello there" from you.')
        terminal.keys("ann> ", b"drive \x16\x1b]0;title\x16\x07\n")
        terminal.read("\\x1b]0;title\\x07")
        terminal.answer("ann> ", ":name bob")
        terminal.read("bob> ")
        process.send_signal(signal.SIGINT)
        terminal.read("the server is going down")
        self.assertEqual(terminal.end(), 1)
        self.assertEqual(process.wait(PATIENCE), 0)

    def test_what_was_typed_comes_back_in_the_next_session_and_is_the_owners_alone(self) -> None:
        _, port = self.serve()
        kept = self.place / "state" / "pysftplab" / "history"
        words = ("connect", HOST, str(port), "--name", "ann")
        for number, keys in enumerate((b"first line\n", b"\x1b[A again\n")):
            with mock.patch.dict(os.environ, {"TERM": "xterm", "NO_COLOR": "1"}):
                os.environ.pop(PASSWORD_VARIABLE, None)
                terminal = Terminal(CODE, *words, cwd=self.place)
            terminal.answer("Password of the server: ", "pw")
            terminal.keys("ann> ", keys)
            terminal.read(f'I received "first line{("", " again")[number]}" from you.')
            terminal.keys("ann> ", b"\x04")
            self.assertEqual(terminal.end(), 0)
        self.assertEqual(kept.read_text(), "first line\nfirst line again\n")
        self.assertEqual(stat.S_IMODE(kept.stat().st_mode), 0o600)

    def test_the_end_of_the_input_ends_it_well(self) -> None:
        _, port = self.serve()
        with mock.patch.dict(os.environ, {PASSWORD_VARIABLE: "pw", "NO_COLOR": "1"}):
            terminal = Terminal(CODE, "connect", HOST, str(port), "--name", "ann", cwd=self.place)
        terminal.answer("ann> ", ":help")
        terminal.read(":quit: end")
        terminal.keys("ann> ", b"\x04")
        self.assertEqual(terminal.end(), 0)
        self.assertNotIn("\x1b[32m", terminal.text)
