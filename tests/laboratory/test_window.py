"""The window client on a screen of its own: a person at its keyboard, and servers that behave or do not.

The keys are pressed by xdotool and go the way of all keys, through the X server; what is to be seen is read
from the widgets. Each window is a process: the real command.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

from pysftpserver.failures import BadInput
from pysftpserver.laboratory.service import Client, Service
from pysftpserver.laboratory.services.echo import Echo
from pysftpserver.laboratory.window.fields import given_fields
from pysftpserver.laboratory.window.log import COLOURS, MOST_LINES
from tests.laboratory.serving import HOST, PASSWORD, Served, ServerCase
from tests.laboratory.windows import Display, WindowProcess
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until

COMMAND = [sys.executable, str(ROOT / "bin" / "pysftplab")]


class Shout(Service):
    """Another one, to be chosen."""

    def __init__(self) -> None:
        self.has_heard_goodbye = threading.Event()

    def on_message(self, client: Client, text: str) -> None:
        client.send(text.upper())
        if text == "goodbye":
            self.has_heard_goodbye.set()


class Flood(Service):
    """Says more than anybody can read."""

    def on_message(self, client: Client, text: str) -> None:
        for number in range(int(text)):
            client.send(f"{number} " + "x" * 200)
        client.send("\x1b[31m\a\u202e10:00:00 ! not an error\n10:00:00 ! nor this")


def setUpModule() -> None:
    WindowCase.display = Display()
    unittest.addModuleCleanup(WindowCase.display.close)


class WindowCase(ServerCase):
    display: Display

    def setUp(self) -> None:
        self.home = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.state = self.home / "pysftplab" / "window.json"

    def window(self, *arguments: str, password: str | None = None) -> WindowProcess:
        window = WindowProcess(self.display.name, self.home, *arguments, password=password)
        self.addCleanup(window.close)
        return window

    def connected(self, served: Served) -> WindowProcess:
        window = self.window(HOST, str(served.port), "--name", "Ada", password=PASSWORD)
        window.keys("Return")
        window.wait_for_line("information", "in use")
        return window


class Talking(WindowCase):
    def test_a_person_connects_talks_chooses_a_service_and_closes_the_window(self) -> None:
        shout = Shout()
        served = self.serve(Echo(), shout)
        window = self.window(HOST, str(served.port), "--name", "Ada")
        seen = window.wait(lambda seen: seen["focus"] == "password")
        self.assertEqual(seen["masked"], ["password"])
        with self.subTest("a wrong password is said, and can be typed again"):
            window.type("wrong", "Return")
            window.wait_for_line("error", "! the server refuses the connection: wrong password")
            seen = window.wait(lambda seen: seen["focus"] == "password")
            self.assertEqual(seen["disabled"], [])
            self.assertFalse(self.state.exists())
        window.type(PASSWORD, "Return")
        seen = window.wait_for_line("information", "in use: Echo")
        self.assertEqual(seen["status"], f"● Connected to Laboratory ({HOST} port {served.port}), encrypted")
        self.assertEqual(seen["disabled"], ["host", "port", "name", "password"])
        window.wait(lambda seen: seen["focus"] == "message")
        with self.subTest("what is sent and received has colours of its own"):
            window.type("good morning", "Return")
            seen = window.wait_for_line("received", '← I received "good morning" from you.')
            self.assertEqual([tag for tag, _ in seen["lines"][-2:]], ["sent", "received"])
            self.assertRegex(seen["lines"][-2][1], r"^\d\d:\d\d:\d\d → good morning$")
            for kind, (colour, _) in COLOURS.items():
                self.assertEqual(seen["colours"][kind.value], colour)
        with self.subTest("the arrows bring back what was typed"):
            window.type("half", "Up", "Home")
            window.type("A ", "Return")
            window.wait_for_line("sent", "→ A good morning")
            window.keys("Up", "Up", "Up")
            window.wait(lambda seen: seen["message"] == "good morning")
            window.keys("Down", "Down")
            window.wait(lambda seen: seen["message"] == "")
        with self.subTest("a service is chosen"):
            window.keys("alt+v")
            window.wait(lambda seen: seen["focus"] == "services")
            window.keys("Down")
            window.wait(lambda seen: seen["focus"] == "list of services")
            window.keys("Down", "Return")
            seen = window.wait_for_line("information", "service in use: Shout")
            self.assertEqual((seen["services"], seen["service"]), (["Echo", "Shout"], "Shout"))
            window.wait(lambda seen: seen["focus"] == "message")
            window.type("what", "Return")
            window.wait_for_line("received", "← WHAT")
        with self.subTest("the log can be copied"):
            window.keys("alt+l", "ctrl+a", "ctrl+c")
            window.wait(lambda seen: "← WHAT" in seen["clipboard"])
        with self.subTest("the last words are said before the window closes"):
            window.keys("alt+m")
            window.type("goodbye", "Return", "ctrl+q")
            self.assertEqual(window.end(), 0)
            self.assertTrue(shout.has_heard_goodbye.wait(PATIENCE))


class Waiting(WindowCase):
    def test_a_silent_server_freezes_nothing_and_can_be_given_up_at_any_moment(self) -> None:
        with socket.create_server((HOST, 0)) as listener:
            port = listener.getsockname()[1]
            window = self.window(HOST, str(port), "--name", "Ada", password="x")
            for way in (["Escape"], ["alt+c"], ["space"]):
                with self.subTest(way):
                    window.keys("alt+c")
                    with listener.accept()[0] as connection:
                        connection.settimeout(PATIENCE)
                        seen = window.wait(lambda seen: seen["end"] == "Cancel")
                        self.assertIn("● Connecting", seen["status"])
                        until(lambda: window.ask("ticks")["ticks"] > 1, "the window has no time")
                        window.keys(*way)
                        self.assertEqual(connection.recv(1), b"")
                    seen = window.wait(lambda seen: seen["status"] == "● Not connected")
                    self.assertTrue(seen["can_connect"])
                    self.assertIn("· cancelled", seen["lines"][-1][1])
            with self.subTest("the window can be closed at any moment, too"):
                window.keys("alt+c")
                with listener.accept()[0]:
                    window.keys("ctrl+q")
                    self.assertEqual(window.end(), 0)

    def test_a_server_that_wants_encryption_and_one_that_goes_down_are_said(self) -> None:
        with subprocess.Popen(
            [*COMMAND, "serve", "--allow-root", "--port", "0"],
            env=os.environ | {"PYSFTPLAB_PASSWORD": PASSWORD},
            stderr=subprocess.PIPE,
            text=True,
        ) as server:
            self.addCleanup(server.kill)
            assert server.stderr is not None
            line = next(line for line in server.stderr if "listening on" in line)
            window = self.window(HOST, line.split("port ")[1].split()[0], password=PASSWORD)
            with self.subTest("no encryption is warned of, and refused"):
                window.keys("alt+e")
                seen = window.wait(lambda seen: seen["warning"])
                self.assertIn("the password too", seen["warning"])
                window.keys("alt+c")
                window.wait_for_line("error", "! the server refuses the connection: ")
                window.keys("alt+e")
            window.keys("alt+c")
            window.wait_for_line("information", "in use")
            server.send_signal(signal.SIGTERM)
            seen = window.wait_for_line("error", "! the server is going down")
        self.assertEqual(
            (seen["status"], seen["can_send"], seen["can_connect"]), ("● Not connected", False, True)
        )
        with self.subTest("there is nobody any more"):
            window.keys("alt+c")
            window.wait_for_line("error", "connection refused")


class Reading(WindowCase):
    def test_a_flood_freezes_nothing_is_bounded_and_is_shown_without_control_characters(self) -> None:
        served = self.serve(Flood(), max_unsent=64 << 20)
        window = self.connected(served)
        window.type("3000", "Return")
        window.ask("ticks")
        seen = window.wait_for_line("received", "nor this")
        self.assertLess(window.ask("ticks")["longest"], 5.0)
        self.assertEqual(seen["count"], MOST_LINES)
        first, second = (line for tag, line in seen["lines"][-2:])
        self.assertRegex(first, r"← \\x1b\[31m\\x07\\u202e10:00:00 ! not an error$")
        self.assertRegex(second, r"^ {11}10:00:00 ! nor this$")
        self.assertEqual([tag for tag, _ in seen["lines"][-2:]], ["received"] * 2)
        self.assertTrue(seen["is_at_end"])
        with self.subTest("who reads further up is left there"):
            window.ask("top")
            window.type("0", "Return")
            window.wait(lambda seen: "→ 0" in str(seen["lines"][:-2]))
            self.assertFalse(window.look()["is_at_end"])
        with self.subTest("a mistake of our own is said"):
            window.ask("raise")
            window.wait_for_line("error", "internal error (ZeroDivisionError)")
        with self.subTest("a signal closes it in order"):
            window.process.send_signal(signal.SIGTERM)
            self.assertEqual(window.end(), 0)


class Typing(WindowCase):
    def test_what_is_wrong_is_said_while_it_is_typed(self) -> None:
        window = self.window()
        seen = window.wait(lambda seen: seen["focus"] == "host")
        self.assertEqual((seen["fields"]["port"], seen["marked"]), ("12800", []))
        window.type("10.0.0.256")
        seen = window.wait(lambda seen: seen["marked"])
        self.assertEqual(seen["marked"], ["host"])
        self.assertIn("four numbers from 0 to 255", seen["hint"])
        window.keys("BackSpace", "Tab", "ctrl+slash")
        window.type("0")
        self.assertEqual(window.wait(lambda seen: "65535" in seen["hint"])["marked"], ["port"])
        window.keys("BackSpace", "9", "alt+n", "ctrl+slash", "BackSpace")
        self.assertEqual(window.wait(lambda seen: "name" in seen["hint"])["marked"], ["name"])
        window.type("Ada", "alt+w")
        seen = window.wait(lambda seen: seen["focus"] == "password")
        self.assertFalse(seen["can_connect"])
        window.type("x")
        seen = window.wait(lambda seen: seen["can_connect"])
        self.assertEqual((seen["hint"], seen["marked"]), ("", []))
        self.assertEqual(seen["fields"], {"host": "10.0.0.25", "port": "9", "name": "Ada", "password": "x"})

    def test_the_last_server_is_there_at_the_next_start_and_the_password_is_not(self) -> None:
        served = self.serve()
        window = self.connected(served)
        window.keys("alt+d")
        seen = window.wait(lambda seen: seen["status"] == "● Not connected")
        self.assertIn("· disconnected", seen["lines"][-1][1])
        window.ask("close")
        self.assertEqual(window.end(), 0)
        self.assertEqual(self.state.stat().st_mode & 0o777, 0o600)
        self.assertNotIn(PASSWORD, self.state.read_text())
        seen = self.window().wait(lambda seen: seen["focus"] == "password")
        fields = {"host": HOST, "port": str(served.port), "name": "Ada", "password": ""}
        self.assertEqual(seen["fields"], fields)


class WithoutADisplay(unittest.TestCase):
    def run_command(self, *words: str, display: str | None = None) -> tuple[int, str]:
        environ = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
        if display is not None:
            environ["DISPLAY"] = display
        done = subprocess.run(words, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(done.stdout, "")
        return done.returncode, done.stderr

    def test_one_line_says_what_is_missing(self) -> None:
        said = "no window: there is no display; run it on a desktop, or set DISPLAY (ssh -X does)"
        self.assertEqual(self.run_command(*COMMAND, "window"), (1, f"pysftplab: {said}\n"))
        status, said = self.run_command(*COMMAND, "window", display=":32000")
        self.assertEqual((status, said.count("\n")), (1, 1))
        self.assertIn("the display :32000 (DISPLAY) does not answer", said)
        code = "import sys; sys.modules['tkinter'] = None; from pysftpserver.cli.pysftplab import main; "
        status, said = self.run_command(sys.executable, "-c", code + "raise SystemExit(main(['window']))")
        self.assertEqual((status, said.count("\n")), (1, 1))
        self.assertIn("tkinter is missing; on Debian, run apt-get install python3-tk", said)

    def test_a_server_that_cannot_be_one_is_bad_input(self) -> None:
        for server, said in (
            (["1.2.3.400"], "host '1.2.3.400': not an IPv4 address"),
            (["localhost", "70000"], "port '70000': the port is a whole number"),
            (["localhost", "1", "2"], "give HOST [PORT]"),
        ):
            with self.subTest(server), self.assertRaises(BadInput) as caught:
                given_fields(server, None)
            self.assertIn(said, caught.exception.message)
            self.assertEqual(caught.exception.status, 2)
