"""What an attacker sends to the browser door, and what others would pay for it."""

from __future__ import annotations

import select
import socket
import unittest

from pysftpserver.http.arriving import cookie_in
from pysftpserver.web import multipart
from tests.support.waiting import PATIENCE
from tests.web.serving import HOST, WebCase, quick


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

    def begin(self, target: str) -> socket.socket:
        """Send a request with the first byte of its body."""
        sock = socket.create_connection((HOST, self.served.port), PATIENCE)
        self.addCleanup(sock.close)
        sock.sendall(
            f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n\r\na".encode()
        )
        return sock

    def test_what_strangers_send_slowly_takes_no_threads(self) -> None:
        for target in ("/login/x", "/login/", "/link/x", "/operators/login/x", "/operators/link/x"):
            with self.subTest(target):
                begun = [self.begin(target) for _ in range(8)]
                for sock in begun:
                    self.assertRegex(sock.recv(12), rb"HTTP/1\.1 [34]")

    def test_passwords_of_shared_links_that_come_slowly_leave_others_threads(self) -> None:
        user = self.served.door.people.find("alice")
        assert user is not None
        _, token = self.served.door.shares.add(user, b"/", "read", 3600, quick("a word"), None)
        begun = [self.begin(f"/s/{token}/") for _ in range(6)]  # as many threads as strangers may have
        found, _, _ = select.select(begun, [], [], PATIENCE)
        self.assertRegex(found[0].recv(12), rb"HTTP/1\.1 503")
        with self.served.logged_in() as browser:
            self.assertEqual(browser.get("/files/").status, 200)
