"""Behind a proxy: whose requests they are, what is believed, and where the door is mounted."""

from __future__ import annotations

import unittest
from typing import Any

from pysftpserver.failures import BadInput
from pysftpserver.web.config import WebSettings
from pysftpserver.web.proxies import Front
from pysftpserver.web.wire import Refusal, Request, set_cookie
from tests.web.serving import PASSWORDS, WebCase

PROXY = ("127.0.0.1", "192.0.2.0/24")


def environ(peer: str, forwarded: str = "", proto: str = "", path: str = "/") -> dict[str, Any]:
    """What a front makes of a request."""
    return {
        "REMOTE_ADDR": peer,
        "REMOTE_PORT": "7",
        "wsgi.url_scheme": "http",
        "HTTP_X_FORWARDED_FOR": forwarded,
        "HTTP_X_FORWARDED_PROTO": proto,
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
    }


class TestFront(unittest.TestCase):
    def test_the_client_is_the_last_address_that_is_not_a_trusted_proxys(self) -> None:
        front = Front(WebSettings(proxies=PROXY))
        for told, client in (
            ("", "192.0.2.1"),
            ("198.51.100.7", "198.51.100.7"),
            ("10.0.0.1, 198.51.100.7", "198.51.100.7"),  # the client has claimed to be 10.0.0.1
            ("10.0.0.1, 198.51.100.7, 192.0.2.9", "198.51.100.7"),
            ("198.51.100.7:4711", "198.51.100.7"),
            ("[2001:db8::1]:4711, 192.0.2.9", "2001:db8::1"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("198.51.100.7, unknown", "192.0.2.1"),
            ("198.51.100.7, <script>, 192.0.2.9", "192.0.2.9"),
            (", ".join(["192.0.2.9"] * 100_000), "192.0.2.9"),
        ):
            found = environ("192.0.2.1", told)
            front.apply(found)
            self.assertEqual(found["REMOTE_ADDR"], client, told[:80])

    def test_others_than_the_proxies_are_not_believed_and_have_to_use_https(self) -> None:
        front = Front(WebSettings(proxies=("192.0.2.0/24",)))
        found = environ("127.0.0.1", "198.51.100.7", "https")
        front.apply(found)
        self.assertEqual((found["REMOTE_ADDR"], found["wsgi.url_scheme"]), ("127.0.0.1", "http"))
        with self.assertRaises(Refusal) as caught:
            front.apply(environ("198.51.100.7", "127.0.0.1", "https"))
        self.assertEqual(caught.exception.status, 403)
        front.apply({**environ("198.51.100.7"), "wsgi.url_scheme": "https"})

    def test_the_scheme_is_what_the_nearest_proxy_says(self) -> None:
        front = Front(WebSettings(proxies=PROXY))
        for told, scheme in (
            ("https", "https"),
            ("http, HTTPS", "https"),
            ("https, http", "http"),
            ("ftp", "http"),
        ):
            found = environ("192.0.2.1", "198.51.100.7", told)
            front.apply(found)
            self.assertEqual(found["wsgi.url_scheme"], scheme, told)

    def test_the_path_of_url_is_where_the_door_is_whether_or_not_the_proxy_takes_it_away(self) -> None:
        front = Front(WebSettings(proxies=PROXY, url="https://example.org/our/files"))
        for path, rest in (
            ("/our/files/login", "/login"),
            ("/our/files", "/"),
            ("/our/filesystem", "/our/filesystem"),
            ("/login", "/login"),
        ):
            found = environ("192.0.2.1", path=path)
            front.apply(found)
            self.assertEqual((found["SCRIPT_NAME"], found["PATH_INFO"]), ("/our/files", rest))

    def test_the_path_of_url_may_have_escapes(self) -> None:
        front = Front(WebSettings(proxies=PROXY, url="https://example.org/our%20files"))
        found = environ("192.0.2.1", path="/our files/login")
        front.apply(found)
        self.assertEqual((found["SCRIPT_NAME"], found["PATH_INFO"]), ("/our files", "/login"))
        request = Request({**found, "REQUEST_METHOD": "GET"})
        self.assertIn("; Path=/our%20files;", set_cookie(request, "name", "value", request.place)[1])


class TestSettings(unittest.TestCase):
    def test_passwords_in_the_clear_and_a_key_alone_are_refused_at_the_start(self) -> None:
        for wrong in (
            {"listen_address": "0.0.0.0"},
            {"listen_address": "::"},
            {"listen_address": "192.0.2.1"},
            {"private_key": "key.pem"},
        ):
            with self.assertRaisesRegex(BadInput, "certificate"):
                WebSettings(**wrong).check()
        for right in (
            {},
            {"listen_address": "::1"},
            {"listen_address": "localhost"},
            {"listen_address": "0.0.0.0", "certificate": "cert.pem"},
            {"listen_address": "0.0.0.0", "proxies": ("192.0.2.0/24",)},
        ):
            WebSettings(**right).check()

    def test_what_means_nothing_here_is_no_setting(self) -> None:
        self.assertFalse({"proxied", "login_grace"} & WebSettings.table().keys())
        for text in ('auth_methods = "publickey"', 'auth_methods = "publickey password"'):
            with self.assertRaisesRegex(BadInput, "a browser has no keys"):
                WebSettings.parse(text, "web.toml")

    def test_urls_have_a_host_and_no_query(self) -> None:
        for text in (
            "files.example.org",
            "ftp://example.org",
            "https://",
            "https://u@example.org",
            "http://a?b",
        ):
            with self.assertRaisesRegex(BadInput, "a URL such as"):
                WebSettings.parse(f'url = "{text}"', "web.toml")
        self.assertEqual(
            WebSettings.parse('url = "https://a.example/b/"', "web.toml"), {"url": "https://a.example/b"}
        )


class TestBehindAProxy(WebCase):
    settings = {"proxies": PROXY, "url": "https://files.example.org/our"}

    def test_a_session_has_the_cookie_of_its_place_and_its_forms_are_ours(self) -> None:
        with self.served.browser() as browser:
            told = {"X_Forwarded_For": "198.51.100.7", "X_Forwarded_Proto": "https"}
            fields = {"name": "alice", "password": PASSWORDS["alice"], "to": "/files/"}
            origin = {"Origin": "https://files.example.org", "Host": "10.0.0.1:8088"}
            answer = browser.post("/our/login", fields, **told, **origin)
            self.assertEqual((answer.status, answer.location), (303, "/our/files/"))
            self.assertEqual(list(browser.cookies), ["__Secure-pysftpweb"])
            self.assertIn("; Path=/our;", answer.headers["Set-Cookie"])
            self.assertIn("Strict-Transport-Security", answer.headers)
            origin["Origin"] = "https://evil.example"
            self.assertEqual(browser.post("/our/login", fields, **told, **origin).status, 403)
        self.log.wait("198.51.100.7: alice has logged in")
