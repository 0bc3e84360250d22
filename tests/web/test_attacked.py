"""What an attacker sends to the browser door, and what others would pay for it."""

from __future__ import annotations

import json
import os
import select
import socket
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import pyotp

from pysftpserver.http.arriving import cookie_in
from pysftpserver.people.codes import new_secret
from pysftpserver.uploads.temporary import new_name
from pysftpserver.web import multipart
from tests.support.waiting import NEVER, PATIENCE, until
from tests.web.serving import HOST, PASSWORDS, Answer, Browser, Served, WebCase, basic, quick, user_lines


class TestWhatStrangersLetTheServerParse(unittest.TestCase):
    def test_cookies_are_taken_as_they_are_and_malformed_ones_hide_no_others(self) -> None:
        """To undo escapes, as http.cookies does, takes a second for each header of 8 KB."""
        self.assertEqual(cookie_in('a="' + '\\"' * 4000 + '"', "a"), '"' + '\\"' * 4000 + '"')
        self.assertEqual(cookie_in("b[=x; a=1;; =;c ; a = 2 ;", "a"), "2")
        self.assertIsNone(cookie_in("aa=1; b=a=2; A=3", "a"))
        self.assertIsNone(cookie_in("a=1; b=" + "x" * 8192, "a"))

    def test_blanks_in_the_header_of_a_part_cost_no_more_than_their_number(self) -> None:
        """Of so many, the time would be minutes if it grew with the square of their number."""
        for begin in (b"form-data", b"form-data;name=", b'form-data; name="x"'):
            with self.subTest(begin), self.assertRaises(multipart.Malformed):
                multipart._names_in([b"Content-Disposition: " + begin + b" " * 200_000 + b"x"])
        found = multipart._names_in([b'Content-Disposition: form-data ; name="a" ; filename=b ; '])
        self.assertEqual(found, (b"a", b"b"))


class TestRequestsThatComeSlowly(WebCase):
    """Strangers have threads for whole requests alone: 6 of these 8 would otherwise wait for them."""

    settings = {"threads": 8, "idle_timeout": PATIENCE, "operators": "/nonexistent/admin"}

    def begin(self, target: str, blank: str = "") -> socket.socket:
        """Send a request with the first byte of its body."""
        sock = socket.create_connection((HOST, self.served.port), PATIENCE)
        self.addCleanup(sock.close)
        sock.sendall(
            f"{blank}POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n\r\na".encode()
        )
        return sock

    def test_what_strangers_send_slowly_takes_no_threads(self) -> None:
        for target in (
            "/login/x",
            "/login/",
            "/link/x",
            "/operators/login/x",
            "/operators/link/x",
            "/log\tin",
            "/log\rin",
        ):
            with self.subTest(target):
                begun = [self.begin(target) for _ in range(8)]
                for sock in begun:
                    self.assertRegex(sock.recv(12), rb"HTTP/1\.1 [34]")

        with self.subTest("a blank before the method"):
            for sock in [self.begin("/login", " ") for _ in range(8)]:
                self.assertRegex(sock.recv(12), rb"HTTP/1\.1 400")

    def test_passwords_of_shared_links_that_come_slowly_leave_others_threads(self) -> None:
        user = self.served.door.people.find("alice")
        assert user is not None
        _, token = self.served.door.shares.add(user, b"/", "read", 3600, quick("a word"), None)
        begun = [self.begin(f"/s/{token}/") for _ in range(6)]  # as many threads as strangers may have
        found, _, _ = select.select(begun, [], [], PATIENCE)
        self.assertRegex(found[0].recv(12), rb"HTTP/1\.1 503")
        with self.served.logged_in() as browser:
            self.assertEqual(browser.get("/files/").status, 200)


class TestRightsThatAreOver(WebCase):
    def tearDown(self) -> None:
        self.change(user_lines("alice"))
        super().tearDown()

    def change(self, record: str) -> None:
        """Give alice another record."""
        people, before = self.served.door.people, self.served.door.people.find("alice")
        self.served.write_users(record, user_lines("bob"))
        until(lambda: people.find("alice") != before)

    def test_a_cookie_is_of_no_use_in_a_network_from_which_its_user_may_not_come(self) -> None:
        self.change(user_lines("alice", networks='"127.0.0.1"'))
        with self.served.logged_in() as browser, self.served.browser(address="127.0.0.9") as other:
            other.cookies = browser.cookies
            self.assertEqual(browser.get("/files/").status, 200)
            self.assertEqual(other.get("/files/").location, "/login?to=%2Ffiles%2F")
            self.assertEqual(other.get("/dav/").status, 401)

    def test_what_a_user_has_deleted_is_kept_once_the_user_is_deactivated(self) -> None:
        kept = self.served.jail() / "kept"
        kept.write_text("x")
        self.enterContext(mock.patch("pysftpserver.web.deletions.SECONDS", NEVER))
        deletions = self.served.door.files.deletions
        with self.served.logged_in() as browser:
            form = {"csrf": browser.get("/files/").csrf, "do": "delete", "name": "kept"}
            self.assertEqual(browser.post("/files/", form).status, 303)
        self.change(user_lines("alice", active="false"))
        with deletions._changed:
            for one in deletions._waiting.values():
                one.due = 0.0
            deletions._changed.notify_all()
        until(lambda: not (deletions._waiting or deletions._running))
        self.assertTrue(kept.exists())

    def test_an_upload_does_not_go_on_where_its_user_was_before(self) -> None:
        words = json.dumps({"path": "/a", "size": 4, "modified": 1, "existing": "keep"})
        (self.served.files / "elsewhere").mkdir()

        def ask(browser: Browser, method: str, target: str, body: str, offset: int = 0) -> Answer:
            headers = {"X-CSRF": browser.get("/files/").csrf, "Upload-Offset": str(offset)}
            return browser.ask(method, target, body, headers)

        with self.served.logged_in() as browser:
            ident = json.loads(ask(browser, "POST", "/upload/", words).text)["id"]
            self.assertEqual(ask(browser, "PATCH", f"/upload/{ident}", "ab").status, 200)
        self.change(user_lines("alice", folder='"elsewhere"'))
        with self.served.logged_in() as browser:
            self.assertEqual(ask(browser, "PATCH", f"/upload/{ident}", "cd", 2).status, 404)
            begun = json.loads(ask(browser, "POST", "/upload/", words).text)
            self.assertEqual(begun["offset"], 0)
            self.assertEqual(ask(browser, "PATCH", f"/upload/{begun['id']}", "wxyz").status, 200)
        self.assertFalse((self.served.jail() / "a").exists())
        self.assertEqual((self.served.files / "elsewhere" / "a").read_text(), "wxyz")


class TestWhatIsMalformed(WebCase):
    def test_an_origin_that_is_no_url_and_too_many_fields_are_refused_and_no_fault_of_the_server(
        self,
    ) -> None:
        with self.served.logged_in() as browser:
            csrf = browser.get("/files/").csrf
            for target in ("/files/", "/login", "/dav/"):
                answer = browser.ask(
                    "PROPFIND", target, None, {"Origin": "http://[", "Authorization": basic()}
                )
                self.assertEqual(answer.status, 403)
            form = {"csrf": csrf, **{f"f{number}": "" for number in range(10_001)}}
            self.assertEqual(browser.post("/files/", form).status, 413)
            for target, do in (("/files/", "zip"), ("/files/", "move"), ("/shares/new", "")):
                raw = f"csrf={csrf}&do={do}&name=%ff&path=%ff&to=%ff"  # which is no UTF-8 in a form
                kind = {"Content-Type": "application/x-www-form-urlencoded"}
                self.assertIn(browser.ask("POST", target, raw, kind).status, (303, 404))
        self.assertNotIn("has failed", str(self.log))

    def test_what_proxies_may_read_in_another_way_is_refused(self) -> None:
        chunked = "Transfer-Encoding: chunked\r\n\r\n"
        for rest in (
            "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n",
            "Content-Length: 0\v\r\n\r\n",
            "Host: y\r\nContent-Length: 0\r\n\r\n",
            chunked + "2;a\rb\r\nhi\r\n0\r\n\r\n",
            chunked + "2\r\nhi\r\n0\r\nA: b\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            with self.subTest(rest), socket.create_connection((HOST, self.served.port), PATIENCE) as sock:
                head = f"PUT /dav/smuggled HTTP/1.1\r\nHost: x\r\nAuthorization: {basic()}\r\n"
                sock.sendall(f"{head}{rest}".encode())
                answer = b""
                while piece := sock.recv(65536):
                    answer += piece
                self.assertRegex(answer, rb"HTTP/1\.1 (400|501)")
                self.assertEqual(answer.count(b"HTTP/1.1"), 1)
                self.assertFalse((self.served.jail() / "smuggled").exists())


class TestWebDAV(WebCase):
    def ask(self, method: str, target: str, body: str | None = None, **headers: str) -> Answer:
        with self.served.browser() as browser:
            return browser.ask(method, target, body, {"Authorization": basic(), **headers})

    def test_a_listing_repeats_no_more_names_than_a_client_has_a_use_for(self) -> None:
        """With 4,000 names, a directory of 5,000 files became half a gigabyte of a quarter of a megabyte."""
        for names in ([f"x{number}" for number in range(201)], ["x" * 20_000]):
            for form in ("<prop>{}</prop>", "<allprop/><include>{}</include>"):
                inside = form.format("".join(f"<{name}/>" for name in names))
                answer = self.ask(
                    "PROPFIND", "/dav/", f"<propfind xmlns='DAV:'>{inside}</propfind>", Depth="1"
                )
                self.assertEqual(answer.status, 400)

    def test_scripts_and_styles_are_of_no_type_that_our_pages_would_use(self) -> None:
        for name in ("a.js", "a.mjs", "a.css", "a.JS"):
            (self.served.jail() / name).write_text("alert(1)")
            answer = self.ask("GET", f"/dav/{name}")
            self.assertEqual(answer.headers["Content-Type"], "application/octet-stream")

    def test_a_destination_in_utf_8_that_is_not_quoted_means_what_a_path_does(self) -> None:
        (self.served.jail() / "source").write_text("x")
        answer = self.ask("COPY", "/dav/source", Destination="/dav/caf\xc3\xa9")
        self.assertEqual(answer.status, 201)
        self.assertTrue((self.served.jail() / "caf\xe9").exists())

    def test_a_path_has_few_shared_locks_because_listings_repeat_them_for_each_entry(self) -> None:
        body = (
            "<lockinfo xmlns='DAV:'><lockscope><shared/></lockscope><locktype><write/></locktype>"
            f"<owner>{'x' * 4000}</owner></lockinfo>"
        )
        (self.served.jail() / "d").mkdir()
        found = [self.ask("LOCK", "/dav/d/", body).status for _ in range(17)]
        self.assertEqual(found, [200] * 16 + [507])


class TestAgain(WebCase):
    def test_a_code_of_an_operator_lets_in_once_also_after_a_restart(self) -> None:
        place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="pysftpserver-web-")))
        secret = new_secret()
        accounts = place / "operators.toml"
        accounts.touch(0o600)
        accounts.write_text("[users]\n" + user_lines("alice", totp=f'"{secret}"'))
        form = {"name": "alice", "password": PASSWORDS["alice"], "code": pyotp.TOTP(secret).now()}
        found = []
        for _ in range(2):
            served = Served(place, operators="/nonexistent/admin", operators_users=str(accounts))
            try:
                with served.browser() as browser:
                    found.append(browser.post("/operators/login", form).status)
            finally:
                served.stop()
        self.assertEqual(found, [303, 403])

    def test_forms_name_no_file_that_is_being_uploaded(self) -> None:
        hidden = self.served.jail() / os.fsdecode(new_name())
        hidden.write_text("half")
        with self.served.logged_in() as browser:
            csrf = browser.get("/files/").csrf
            for do in ("zip", "rename", "delete", "move"):
                form = {"csrf": csrf, "do": do, "name": hidden.name, "new": "x", "to": "/"}
                self.assertEqual(browser.post("/files/", form).status, 400)
