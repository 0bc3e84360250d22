"""Logging in and out with a browser, and with programs that send a password with each request."""

from __future__ import annotations

from tests.web.serving import PASSWORDS, WebCase


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
