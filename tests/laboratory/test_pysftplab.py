"""The command, in processes of its own: where passwords come from, services, signals, pipes, terminals."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from pysftpserver.cli import common, pysftplab, pysftplab_serve
from pysftpserver.failures import BadInput
from pysftpserver.laboratory import client, history
from pysftpserver.laboratory.config import OptionError, options_of, parse_file
from tests.laboratory.serving import HOST
from tests.sksync.terminals import Terminal
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

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


class Commands(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="pysftpserver-pysftplab-"))
        self.addCleanup(shutil.rmtree, self.place)
        (self.place / "my_module.py").write_text(MODULE)
        state = mock.patch.dict(os.environ, {"XDG_STATE_HOME": str(self.place / "state")})
        state.start()
        self.addCleanup(state.stop)

    def run_command(
        self, *words: str, text: str = "", password: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", CODE, *words],
            cwd=self.place,
            env=self.environment(password),
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def environment(self, password: str | None) -> dict[str, str]:
        found = {name: value for name, value in os.environ.items() if name != pysftplab.PASSWORD_VARIABLE}
        if password is not None:
            found[pysftplab.PASSWORD_VARIABLE] = password
        return {**found, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}

    def serve(self, *words: str, password: str | None = "pw") -> tuple[subprocess.Popen[bytes], int]:
        """A server, and its port; its log is in self.log."""
        self.log = self.place / "log"
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", CODE, "serve", "--port", "0", *words],
                cwd=self.place,
                env=self.environment(password),
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            if found := re.search(r"listening on \S+ port (\d+)\n", self.log.read_text()):
                return process, int(found[1])
            time.sleep(0.01)
        raise AssertionError(self.log.read_text())


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
        self.assertIn("\nending\n", log)
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

    def test_it_allows_itself_the_descriptors_that_its_connections_need(self) -> None:
        with mock.patch("resource.getrlimit", return_value=(1024, 4096)):
            for connections, wanted in ((100, None), (1000, 2256), (5000, 4096)):
                with mock.patch("resource.setrlimit") as made:
                    pysftplab_serve.raise_limit(connections)
                self.assertEqual(
                    [call.args[1] for call in made.call_args_list], [(wanted, 4096)] * bool(wanted)
                )

    def test_a_service_that_cannot_be_imported_is_told_with_its_line(self) -> None:
        for number, (text, wanted) in enumerate(
            (
                ("def f(:", r"SyntaxError: invalid syntax \(own0\.py, line 1\)"),
                ("\nimport sys; sys.exit(3)", r"SystemExit: 3 \(own1\.py, line 2\)"),
                ("1 / 0", r"ZeroDivisionError: division by zero \(own2\.py, line 1\)"),
                ("import not_there", "No module named 'not_there'"),
            )
        ):
            with self.subTest(text):
                (self.place / f"own{number}.py").write_text(text)
                done = self.run_command("serve", "--port", "0", "--service", f"own{number}:X", password="pw")
                self.assertEqual(done.returncode, 2)
                self.assertRegex(done.stderr, rf"\Apysftplab: service: own{number}:X: {wanted}\n\Z")

    def test_a_password_that_nobody_could_say_is_refused(self) -> None:
        with self.assertRaisesRegex(BadInput, "no UTF-8"):
            pysftplab.checked(os.fsdecode(b"\xff"), "x")

    def test_options_come_from_a_toml_file_and_the_command_line_wins(self) -> None:
        secret = self.place / "secret"
        secret.write_text("from a file\nsecond line\n")
        config = self.place / "config.toml"
        config.write_text(
            'name = "In the file"\nport = 1\nservice = ["time"]\nallow_remote_stop = true\n'
            'password_file = "secret"\nstep_timeout = 3\n'
        )
        process, port = self.serve("--config", "config.toml", password=None)
        self.assertIn("secret: others can read the password in it", self.log.read_text())
        with client.connect(HOST, port, password="from a file", name="ann") as connection:
            self.assertEqual(connection.server_name(), "In the file")
            self.assertEqual(connection.service(), "Time")
            connection.stop_server()
        self.assertEqual(process.wait(PATIENCE), 0)

    def test_the_password_is_what_was_named_nearest(self) -> None:
        file = self.place / "file"
        file.write_text("in a file")
        file.chmod(0o600)
        configured = options_of({"password": "configured"}, {})
        with mock.patch.dict(os.environ, {pysftplab.PASSWORD_VARIABLE: "environment"}):
            self.assertEqual(pysftplab_serve.password_of(configured, str(file)), "in a file")
            self.assertEqual(pysftplab_serve.password_of(configured, None), "environment")
            self.assertNotIn(pysftplab.PASSWORD_VARIABLE, os.environ)  # services need not see it
            self.assertEqual(pysftplab_serve.password_of(configured, None), "configured")
            in_file = options_of({"password_file": str(file)}, {})
            self.assertEqual(pysftplab_serve.password_of(in_file, None), "in a file")

    def test_without_a_password_or_with_an_empty_one_it_does_not_start(self) -> None:
        (self.place / "empty").write_text("\n")
        (self.place / "config.toml").write_text('password = ""\n')
        for words, password in (
            ([], None),
            ([], ""),
            (["--password-file", "empty"], "pw"),
            (["--password-file", "none"], "pw"),
            (["--config", "config.toml"], None),
        ):
            done = self.run_command("serve", "--port", "0", *words, password=password)
            with self.subTest(words=words, password=password):
                self.assertEqual(done.returncode, 2)
                self.assertRegex(done.stderr, r"\Apysftplab: [^\n]*password[^\n]*\n\Z")

    def test_the_password_is_asked_for_on_a_terminal(self) -> None:
        with mock.patch.dict(os.environ):
            os.environ.pop(pysftplab.PASSWORD_VARIABLE, None)
            terminal = Terminal(CODE, "serve", "--port", "0", "--allow-remote-stop", cwd=self.place)
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
            with self.subTest(words), mock.patch.object(common, "tell") as told:
                with mock.patch.dict(os.environ, {pysftplab.PASSWORD_VARIABLE: "pw"}):
                    before = os.getcwd()
                    os.chdir(self.place)
                    self.addCleanup(os.chdir, before)
                    try:
                        self.assertEqual(pysftplab.main(words), 2)
                    finally:
                        os.chdir(before)
                        while str(self.place) in sys.path:
                            sys.path.remove(str(self.place))
                        sys.modules.pop("my_module", None)
                (line,) = (call.args[0] for call in told.call_args_list)
                self.assertRegex(line, r"\Apysftplab: [^\n]+\Z")

    def test_values_of_the_wrong_kind_in_the_file_are_named(self) -> None:
        for text in (
            "port = '1'",
            "port = true",
            "port = 70000",
            "allow_plaintext = 1",
            "service = 'echo'",
            "service = [1]",
            "name = ''",
            "step_timeout = 'x'",
            "step_timeout = 0",
            "nonsense = 1",
            "log_level = 'x'",
        ):
            with self.subTest(text), self.assertRaises(OptionError) as caught:
                parse_file(text, "file.toml")
            self.assertIn(text.split(" ")[0], str(caught.exception))
            self.assertTrue(str(caught.exception).startswith("file.toml: "))
        found = parse_file("step_timeout = 1\nidle_timeout = 2.5\nservice = ['a', 'b']", "x")
        self.assertEqual(found, {"step_timeout": 1.0, "idle_timeout": 2.5, "service": ("a", "b")})

    def test_a_missing_extra_is_one_line_with_the_command_for_pip(self) -> None:
        for words in (["serve"], ["connect", HOST]):
            code = f"import sys; sys.modules['cryptography'] = None\n{CODE}"
            done = subprocess.run(
                [sys.executable, "-c", code, *words],
                env=self.environment("pw"),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            self.assertEqual(done.returncode, 2)
            self.assertEqual(
                done.stderr, "pysftplab: cryptography is missing: pip install 'pysftpserver[laboratory]'\n"
            )

    def test_an_address_that_cannot_be_had_is_status_1(self) -> None:
        _, port = self.serve()
        for words in (["--port", str(port)], ["--host", "192.0.2.1"]):
            done = self.run_command("serve", *words, password="pw")
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, r"\Apysftplab: host [^\n]+\n\Z")


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
        for words in ("Echo (in use)", "the server is Laboratory", "you are bob now", "using Chat"):
            self.assertIn(words, done.stderr)

    def run_chat(self, port: int) -> str:
        done = self.run_command("connect", HOST, str(port), "-s", "chat", text="/history\n", password="pw")
        return done.stdout

    def test_what_goes_wrong_has_its_status(self) -> None:
        process, port = self.serve()
        for words, text, password, wanted in (
            (["1"], "", "pw", "connection refused"),
            ([str(port)], "", "wrong", "wrong password"),
            ([str(port), "--plaintext"], "", "pw", "wants encryption"),
            ([str(port), "-s", "none"], "", "pw", "none of that name"),
            ([str(port)], ":use none\n", "pw", "none of that name"),
            ([str(port)], ":nonsense\n", "pw", "no such word"),
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
        terminal.type("ann> ", b"\x1b[A there\n")  # the line before, and more
        terminal.read('I received "hello there" from you.')
        terminal.answer("ann> ", "drive \x16\x1b]0;title\x16\x07")
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
        for number, keys in enumerate((b"first line\n", b"\x1b[A again\n", b"\x1b[A\x1b[A twice\n")):
            with mock.patch.dict(os.environ, {"TERM": "xterm", "NO_COLOR": "1"}):
                os.environ.pop(pysftplab.PASSWORD_VARIABLE, None)
                terminal = Terminal(CODE, *words, cwd=self.place)
            terminal.answer("Password of the server: ", "pw")
            terminal.type("ann> ", keys)
            terminal.read(f'I received "first line{("", " again", " twice")[number]}" from you.')
            terminal.type("ann> ", b"\x04")
            self.assertEqual(terminal.end(), 0)
        self.assertEqual(kept.read_text(), "first line\nfirst line again\nfirst line twice\n")
        self.assertEqual(stat.S_IMODE(kept.stat().st_mode), 0o600)

    def test_history_is_bounded_and_what_is_none_is_passed_over(self) -> None:
        file = str(self.place / "some" / "history")
        history.add(file, [f"{number}" for number in range(1500)])
        history.add(file, ["drive \x1b]0;x\x07", "", "last"])
        found = history.load(file)
        self.assertEqual((len(found), found[0], found[-1]), (1000, "501", "last"))
        history.add(file, ["x" * history.MOST_BYTES, "y"])
        self.assertEqual(history.load(file), ["y"])
        os.mkfifo(self.place / "fifo")
        for none in ("fifo", "some", "nowhere"):
            self.assertEqual(history.load(str(self.place / none)), [])

    def test_the_end_of_the_input_ends_it_well(self) -> None:
        _, port = self.serve()
        with mock.patch.dict(os.environ, {pysftplab.PASSWORD_VARIABLE: "pw", "NO_COLOR": "1"}):
            terminal = Terminal(CODE, "connect", HOST, str(port), "--name", "ann", cwd=self.place)
        terminal.answer("ann> ", ":help")
        terminal.read(":quit: end")
        terminal.type("ann> ", b"\x04")
        self.assertEqual(terminal.end(), 0)
        self.assertNotIn("\x1b[32m", terminal.text)
