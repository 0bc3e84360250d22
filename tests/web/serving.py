"""The browser door in threads of this process, with users and jails of a test's own, and a small browser.

Everything that is started here is ended by the class or the test that started it.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.cookies
import logging
import re
import shutil
import ssl
import tempfile
import threading
import unittest
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from argon2 import low_level

from pysftpserver.cli.pysftpd import user_storages
from pysftpserver.http.server import Server
from pysftpserver.people import passwords
from pysftpserver.web.config import WebSettings
from pysftpserver.web.server import Door, context_of
from tests.support.lines import Lines, logged
from tests.support.waiting import PATIENCE

HOST = "127.0.0.1"
PASSWORDS = {
    "alice": "sun over eleven hills",
    "bob": "rain under seven roofs",
    "carol": "fog along nine rivers",
    "dave": "hail upon five barns",
    "erin": "snow behind three mills",
}
USERS = ("alice", "bob")  # whom a server has to begin with
LOGGER = "pysftpserver.web"


def quick(password: str) -> str:
    """A hash that takes a millisecond."""
    return low_level.hash_secret(password.encode(), bytes(16), 1, 64, 1, 32, low_level.Type.ID).decode()


def user_lines(name: str, **fields: str) -> str:
    """A user with the password in PASSWORDS, for a file of users. fields: further ones, as TOML has them."""
    every = {"password": f'"{quick(PASSWORDS[name])}"', **fields}
    return "".join([f"[users.{name}]\n", *(f"{key} = {value}\n" for key, value in every.items())])


@dataclass
class Answer:
    """What a server has answered. body: all of it."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    @property
    def location(self) -> str:
        """Where a redirection leads to; "" where there is none."""
        return str(self.headers.get("Location", ""))

    @property
    def csrf(self) -> str:
        """The token in the first form of a page."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.text)
        return found[1] if found else ""


class Browser:
    """Asks over one connection, and keeps cookies. It follows no redirection.

    cookies: by name. address: of this host, from which it connects. context: for HTTPS.
    """

    def __init__(self, port: int, address: str = HOST, context: ssl.SSLContext | None = None) -> None:
        source = (address, 0)
        self.cookies: dict[str, str] = {}
        self.connection: http.client.HTTPConnection
        if context is None:
            self.connection = http.client.HTTPConnection(HOST, port, PATIENCE, source)
        else:
            self.connection = http.client.HTTPSConnection(
                HOST, port, timeout=PATIENCE, source_address=source, context=context
            )

    def ask(
        self, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request, and read all of its answer. target: as it stands in the request's first line."""
        sent = dict(headers or {})
        if self.cookies:
            sent.setdefault("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        self.connection.request(method, target, body, sent)
        found = self.connection.getresponse()
        answer = Answer(found.status, found.headers, found.read())
        for line in found.headers.get_all("Set-Cookie", []):
            for name, cookie in http.cookies.SimpleCookie(line).items():
                if cookie["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = cookie.value
        return answer

    def get(self, target: str, **headers: str) -> Answer:
        """GET. headers: with _ where their names have -."""
        return self.ask("GET", target, None, {name.replace("_", "-"): it for name, it in headers.items()})

    def post(self, target: str, fields: Mapping[str, str], **headers: str) -> Answer:
        """Send a form."""
        sent = {name.replace("_", "-"): it for name, it in headers.items()}
        sent["Content-Type"] = "application/x-www-form-urlencoded"
        return self.ask("POST", target, urllib.parse.urlencode(fields), sent)

    def log_in(self, name: str = "alice", password: str | None = None, code: str = "") -> Answer:
        """Log in with the form. password: the right one, unless another is given."""
        given = PASSWORDS.get(name, "") if password is None else password
        return self.post("/login", {"name": name, "password": given, "code": code})

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def basic(name: str = "alice", password: str | None = None) -> str:
    """The value of Authorization that a program sends for a user."""
    given = PASSWORDS[name] if password is None else password
    return "Basic " + base64.b64encode(f"{name}:{given}".encode()).decode()


class Served:
    """The door in threads, on a free port of the loopback address. place: where it keeps everything.

    files: the directory with one jail for each user. settings: by their names.
    """

    def __init__(
        self, place: Path, rule_of: Callable[[str, dict[str, Any]], str] = lambda *_: "", **settings: Any
    ) -> None:
        self.place = place
        self.files = place / "files"
        self.users = place / "users.toml"
        if not self.users.exists():
            self.write_users(*(user_lines(name) for name in USERS))
        for name in USERS:
            (self.files / name).mkdir(parents=True, exist_ok=True)
        own = {
            "port": 0,
            "listen_address": HOST,
            "users": str(self.users),
            "sftp_path": str(self.files),
            "state": str(place / "state.sqlite"),
            "idle_timeout": PATIENCE,
            "threads": 8,
            "max_per_address": 200,
        }
        self.values = WebSettings(**{**own, **settings})
        self.door = Door(self.values, user_storages(self.values, self.values.durable, False), rule_of)
        self.door.start()
        self.server = Server(
            self.values,
            self.door.application,
            "pysftpweb",
            logging.getLogger(LOGGER),
            context_of(self.values),
        )
        self.server.expiration_interval = 0.05  # seconds until it sees that it is to stop
        self.server.prepare()
        self.port = int(self.server.bind_addr[1])
        self._thread = threading.Thread(target=self.server.serve, name="served", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is, with a slash at the end."""
        return f"http{'s' if self.values.certificate else ''}://{HOST}:{self.port}/"

    def write_users(self, *records: str) -> None:
        """Replace the file of users. records: as user_lines() makes them."""
        new = self.users.with_suffix(".new")
        new.touch(0o600)
        new.write_text("[users]\n" + "".join(records))
        new.replace(self.users)

    def jail(self, name: str = "alice") -> Path:
        """The directory of a user."""
        return self.files / name

    @contextlib.contextmanager
    def browser(self, **how: Any) -> Iterator[Browser]:
        """A browser that has not logged in."""
        browser = Browser(self.port, **how)
        try:
            yield browser
        finally:
            browser.close()

    @contextlib.contextmanager
    def logged_in(self, name: str = "alice", **how: Any) -> Iterator[Browser]:
        """A browser of a user who has logged in."""
        with self.browser(**how) as browser:
            answer = browser.log_in(name)
            assert answer.status == 303, (answer.status, answer.text)
            yield browser

    def stop(self) -> None:
        """End all sessions, and serve no longer."""
        self.server.stop()
        self.door.close()
        self._thread.join(PATIENCE)


class WebCase(unittest.TestCase):
    """A directory of the class's own, and the door with `settings` on it. log: its lines."""

    settings: dict[str, Any] = {}
    place: Path
    served: Served
    log: Lines

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.place = Path(tempfile.mkdtemp(prefix="pysftpserver-web-"))
        cls.addClassCleanup(shutil.rmtree, cls.place)
        cls.log = cls.enterClassContext(logged(LOGGER))
        cls.enterClassContext(mock.patch.object(passwords, "DUMMY", quick("nobody's")))
        cls.served = cls.make(cls.place)
        cls.addClassCleanup(cls.served.stop)

    @classmethod
    def make(cls, place: Path) -> Served:
        """Start the server of the class."""
        return Served(place, **cls.settings)
