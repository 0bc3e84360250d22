"""Logging in and out with a browser, and with programs that send a password with each request."""

from __future__ import annotations

import contextlib
import http.client
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock
from urllib.parse import urlencode

import pyotp

from pysftpserver.people import passwords
from pysftpserver.service.throttle import Throttle
from pysftpserver.web.config import WebSettings
from pysftpserver.web.guarding import Guard
from pysftpserver.web.state import State
from pysftpserver.web.used_codes import KEPT_FOR, UsedCodes
from pysftpserver.web.welcome import Welcome
from pysftpserver.web.wire import Reply, Request
from tests.support.waiting import PATIENCE, until
from tests.web.serving import HOST, PASSWORDS, Served, WebCase, basic, user_lines

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


class Who:
    """A part that says who asks."""

    needs_login = False
    is_for_programs = True

    def __init__(self, welcome: Welcome) -> None:
        self._welcome = welcome

    def answer(self, request: Request, rest: bytes) -> Reply:
        return Reply(self._welcome.of_program(request).name.encode())


class Endless:
    """A part whose reply does not end."""

    needs_login = True
    is_for_programs = False

    def answer(self, request: Request, rest: bytes) -> Reply:
        return Reply(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        while True:
            yield b"x" * 1000


class TestLogins(WebCase):
    def test_a_stranger_is_sent_to_the_login_and_then_where_that_led(self) -> None:
        with self.served.browser() as browser:
            self.assertEqual(browser.get("/").location, "/files/")
            page = browser.get("/login?to=/files/a%20b")
            self.assertEqual((page.status, page.headers["Cache-Control"]), (200, "no-store"))
            self.assertIn('value="/files/a b"', page.text)
            fields = {"name": "alice", "password": PASSWORDS["alice"], "to": "/files/a b"}
            answer = browser.post("/login", fields)
            self.assertEqual((answer.status, answer.location), (303, "/files/a%20b"))
            self.assertEqual(len(browser.cookies), 1)
        self.log.wait("alice has logged in")

    def test_no_other_host_is_a_place_to_go_on_to(self) -> None:
        with self.served.browser() as browser:
            for place in ("//evil.example/", "/\\evil.example/", "https://evil.example/", "evil"):
                fields = {"name": "alice", "password": PASSWORDS["alice"], "to": place}
                self.assertEqual(browser.post("/login", fields).location, "/", place)

    def test_what_a_stranger_sends_is_no_session_and_a_login_makes_a_new_one(self) -> None:
        with self.served.browser() as browser:
            browser.cookies["pysftpweb"] = "chosen-by-somebody-else"
            self.assertEqual(browser.log_in().status, 303)
            first = browser.cookies["pysftpweb"]
            self.assertNotEqual(first, "chosen-by-somebody-else")
            browser.log_in()
            second = browser.cookies["pysftpweb"]
            self.assertNotEqual(second, first)
            self.assertIsNone(self.served.door.sessions.find(first))
            self.assertIsNotNone(self.served.door.sessions.find(second))

    def test_cookies_of_other_programs_on_the_host_do_not_hide_the_session(self) -> None:
        with self.served.logged_in() as browser:
            ours = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
            for other in ('prefs={"a": "b"}', "two words=1", "theme", "path=/", "x=\xe4", "="):
                for cookies in (f"{other}; {ours}", f"{ours}; {other}"):
                    with self.subTest(cookies):
                        self.assertEqual(browser.get("/files/", Cookie=cookies).status, 200)

    def test_a_form_with_too_many_fields_is_refused(self) -> None:
        with self.served.logged_in() as browser:
            for page in ("/files/", "/shares/new"):
                answer = browser.post(page, {str(number): "" for number in range(10_001)})
                self.assertEqual((page, answer.status), (page, 413))

    def test_logging_out_needs_the_token_of_the_session_and_ends_it(self) -> None:
        with self.served.logged_in() as browser:
            ident = browser.cookies["pysftpweb"]
            session = self.served.door.sessions.find(ident)
            assert session is not None
            for wrong in ({}, {"csrf": ""}, {"csrf": "wrong"}):
                self.assertEqual(browser.post("/logout", wrong).status, 403)
            self.assertEqual(browser.get("/logout").status, 405)
            answer = browser.post("/logout", {"csrf": session.csrf})
            self.assertEqual((answer.status, answer.location), (303, "/login"))
            self.assertIn("Clear-Site-Data", answer.headers)
            self.assertEqual((browser.cookies, session.is_over), ({}, True))
            browser.cookies["pysftpweb"] = ident
            self.assertEqual(browser.get("/files/").location, "/login?to=%2Ffiles%2F")

    def test_a_form_of_another_site_logs_nobody_in(self) -> None:
        fields = {"name": "alice", "password": PASSWORDS["alice"]}
        with self.served.browser() as browser:
            for how in (
                {"Sec_Fetch_Site": "cross-site"},
                {"Sec_Fetch_Site": "same-site"},
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
            ):
                self.assertEqual(browser.post("/login", fields, **how).status, 403, how)
            ours = f"http://{HOST}:{self.served.port}"
            for how in ({"Sec_Fetch_Site": "same-origin"}, {"Origin": ours}):
                self.assertEqual(browser.post("/login", fields, **how).status, 303, how)


class TestRefusals(WebCase):
    """Whatever is wrong, a stranger learns the same."""

    settings = {"auth_methods": ("password",)}

    @classmethod
    def make(cls, place: Path) -> Served:
        served = Served(place, **cls.settings)
        served.write_users(
            user_lines("alice"),
            user_lines("bob", active="false"),
            user_lines("carol", networks='"192.0.2.0/24"'),
            user_lines("dave", methods='["publickey,password"]'),
            user_lines("erin", totp=f'"{SECRET}"'),
            "[users.frank]\nkeys = []\n",
        )
        until(lambda: served.door.people.find("frank"), "the users are not read")
        return served

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(mock.patch.object(Throttle, "wait", return_value=0.0))

    def test_all_have_the_same_words_and_compare_one_password(self) -> None:
        cases = (
            ("alice", "wrong", "", "wrong password"),
            ("alice", "x" * 300, "", "wrong password"),
            ("nobody", "wrong", "", "unknown user"),
            ("bob", PASSWORDS["bob"], "", "inactive user"),
            ("carol", PASSWORDS["carol"], "", "not from this address (networks)"),
            ("dave", PASSWORDS["dave"], "", "the user has to log in otherwise (methods)"),
            ("erin", PASSWORDS["erin"], "", "wrong code"),
            ("erin", PASSWORDS["erin"], "000000", "wrong code"),
            ("erin", "wrong", pyotp.TOTP(SECRET).now(), "wrong password"),
            ("frank", "", "", "no password is set"),
            ("\udcff\x1b[2J" + "x" * 500, "wrong", "", "unknown user"),
        )
        for name, password, code, words in cases:
            with (
                self.served.browser() as browser,
                mock.patch.object(passwords, "verify", wraps=passwords.verify) as verify,
            ):
                fields = urlencode(
                    {"name": name, "password": password, "code": code}, errors="surrogateescape"
                )
                answer = browser.ask(
                    "POST", "/login", fields, {"Content-Type": "application/x-www-form-urlencoded"}
                )
                self.assertEqual((answer.status, verify.call_count, browser.cookies), (403, 1, {}), name)
                self.assertIn("The name, the password or the code is wrong.", answer.text)
            line = self.log.having(f"login of {name[:64]!a} refused")[-1]
            self.assertTrue(line.endswith(words), line)
        self.assertEqual(self.log.count(PASSWORDS["bob"]), 0)

    def test_a_code_lets_in_once(self) -> None:
        code = pyotp.TOTP(SECRET).now()
        with self.served.browser() as browser:
            self.assertEqual(browser.log_in("erin", code=code[:3] + " " + code[3:]).status, 303)
            self.assertEqual(browser.log_in("erin", code=code).status, 403)
        self.log.wait("a code that was used before")

    def test_a_code_that_was_used_is_known_after_a_restart_and_forgotten_in_the_end(self) -> None:
        state = State(str(self.place / "codes.sqlite"))
        self.assertEqual([UsedCodes(state).use("id", step) for step in (1, 1, 2)], [True, False, True])
        state.close()
        again = State(str(self.place / "codes.sqlite"))
        self.addCleanup(again.close)
        self.assertFalse(UsedCodes(again).use("id", 1))
        self.assertTrue(UsedCodes(again).use("other", 1))
        with mock.patch("time.time", return_value=time.time() + 10 * KEPT_FOR):
            self.assertTrue(UsedCodes(again).use("id", 3))
        with again.look() as connection:
            self.assertEqual(connection.execute("SELECT count(*) FROM used_codes").fetchone(), (1,))
        with again.change() as connection:
            connection.execute("DROP TABLE used_codes")
        self.assertFalse(UsedCodes(again).use("id", 4))
        self.log.wait("a one-time code cannot be checked")

    def test_programs_are_asked_for_a_password_that_is_compared_once_in_a_while(self) -> None:
        self.served.door.application.parts[b"who"] = Who(self.served.door.welcome)
        with self.served.browser() as browser:
            for given in (None, basic("alice", "wrong"), "Basic !", "Basic YQ==", "Bearer x", basic("erin")):
                answer = browser.ask("GET", "/who", headers={"Authorization": given} if given else None)
                self.assertEqual(answer.status, 401, given)
                self.assertTrue(answer.headers["WWW-Authenticate"].startswith("Basic "))
            before = len(self.served.door.sessions)
            with mock.patch.object(passwords, "verify", wraps=passwords.verify) as verify:
                for _ in range(5):
                    answer = browser.get("/who", Authorization=basic())
                    self.assertEqual((answer.text, browser.cookies), ("alice", {}))
            self.assertEqual((verify.call_count, len(self.served.door.sessions)), (1, before + 1))
            self.assertEqual(self.served.door.welcome.user_of_program(basic()), "alice")
            self.assertIsNone(self.served.door.welcome.user_of_program(basic("alice", "wrong")))


class TestChanges(WebCase):
    def test_sessions_end_with_their_user_and_what_they_transfer_breaks_off(self) -> None:
        part = Endless()
        self.served.door.application.parts[b"endless"] = part
        with self.served.logged_in() as browser, self.served.logged_in("bob") as other:
            (ident,) = browser.cookies.values()
            browser.connection.request("GET", "/endless", headers={"Cookie": f"pysftpweb={ident}"})
            answer = browser.connection.getresponse()
            self.assertTrue(answer.read(1000))
            self.served.write_users(user_lines("alice", active="false"), user_lines("bob"))
            with self.assertRaises((http.client.IncompleteRead, OSError)):
                while answer.read(100_000):
                    pass
            self.assertEqual(other.get("/logout").status, 405)  # bob's goes on
        self.log.wait("the user was removed or changed")

    def test_a_session_times_out(self) -> None:
        with self.served.logged_in("bob") as browser:
            (ident,) = browser.cookies.values()
            session = self.served.door.sessions.find(ident)
            assert session is not None
            session.used -= self.served.values.session_timeout + 1
            until(lambda: session.is_over, "nobody has swept")
            self.assertEqual(browser.get("/logout").status, 303)


class TestLookups(WebCase):
    @classmethod
    def make(cls, place: Path) -> Served:
        program = place / "lookup"
        program.write_text(
            f"#!{sys.executable}\nimport json, sys\nasked = json.load(sys.stdin)\n"
            "known = asked['name'] == 'zoe' and asked['method'] == 'password'\n"
            f"right = asked['password'] == {PASSWORDS['carol']!r}\n"
            "print(json.dumps({'accepted': right} if known else None))\n"
        )
        program.chmod(0o700)
        return Served(place, lookup_command=str(program), lookup_seconds=PATIENCE)

    def test_users_that_are_not_stored_are_looked_up_until_they_are(self) -> None:
        with self.served.browser() as browser:
            self.assertEqual(browser.log_in("yves", "wrong").status, 403)
            self.assertEqual(browser.log_in("zoe", "wrong").status, 403)
            self.assertEqual(browser.log_in("zoe", PASSWORDS["carol"]).status, 303)
            self.assertEqual(browser.get("/logout").status, 405)
            self.served.write_users(user_lines("alice"), "[users.zoe]\nkeys = []\n")
            until(
                lambda: browser.get("/logout").status == 303,
                "the session goes on",
            )
            self.assertEqual(browser.log_in("zoe", PASSWORDS["carol"]).status, 403)


class TestGuessing(WebCase):
    settings = {"bans": True, "trusted_networks": ("127.0.0.9",)}

    def test_failures_delay_a_network_and_then_ban_it_and_others_go_on(self) -> None:
        guard = self.served.door.guard
        with self.served.browser(address="127.0.0.2") as browser:
            self.assertEqual(browser.log_in(password="wrong").status, 403)
            for _ in range(8):
                guard.failed("alice", "127.0.0.2")
            answer = browser.log_in()
            self.assertEqual(answer.status, 429)
            self.assertGreater(int(answer.headers["Retry-After"]), 10)
        while guard.is_let_in("127.0.0.2"):
            guard.failed("alice", "127.0.0.2")
        with self.served.browser(address="127.0.0.2") as browser:
            self.assertEqual(browser.get("/login").status, 403)
        self.log.wait("127.0.0.2: banned for")
        with self.served.logged_in(address="127.0.0.3") as browser:
            self.assertEqual(browser.get("/logout").status, 405)
        self.assertTrue(guard.lift("127.0.0.2"))
        with self.served.browser(address="127.0.0.2") as browser:
            self.assertEqual(browser.get("/login").status, 200)

    def test_guesses_from_many_networks_delay_strangers_but_not_who_was_here_before(self) -> None:
        guard = Guard(WebSettings())
        guard.succeeded("alice", "192.0.2.1")
        for number in range(40):
            guard.failed("alice", f"198.51.100.{number}")
        self.assertGreater(guard.wait("alice", "203.0.113.1"), 1.0)
        self.assertEqual(guard.wait("alice", "192.0.2.1"), 0.0)
        self.assertEqual(guard.wait("bob", "203.0.113.1"), 0.0)

    def test_few_logins_are_tried_at_once_and_fewer_of_one_network(self) -> None:
        guard = Guard(WebSettings(threads=12))
        with contextlib.ExitStack() as stack:
            turns = [stack.enter_context(guard.turn("192.0.2.1")) for _ in range(5)]
            self.assertEqual(turns, [True] * 4 + [False])
            turns = [stack.enter_context(guard.turn(f"198.51.100.{number}")) for number in range(3)]
            self.assertEqual(turns, [True, True, False])
        with guard.turn("192.0.2.1") as may:
            self.assertTrue(may)
        self.assertFalse(guard._trying)

    def test_networks_may_be_left_out(self) -> None:
        guard = Guard(WebSettings(allow_networks=("192.0.2.0/24",), deny_networks=("192.0.2.7",)))
        found = [guard.is_let_in(address) for address in ("192.0.2.1", "192.0.2.7", "198.51.100.1")]
        self.assertEqual(found, [True, False, False])
