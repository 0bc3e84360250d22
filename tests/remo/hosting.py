"""The server as a process of the real command, its users, and clients that say what a test wants.

Nothing here waits for luck: what is waited for has a deadline.
"""

from __future__ import annotations

import contextlib
import http.cookies
import io
import os
import re
import shutil
import socket
import tempfile
import threading
import unittest
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from pysftpserver.http.server import Server
from pysftpserver.remo import crypto, wire
from pysftpserver.remo.application import Application
from pysftpserver.remo.config import ServerSettings
from pysftpserver.remo.server import log
from pysftpserver.remo.users import Users
from pysftpserver.storage import SFTPServerStorage
from tests.remo import running
from tests.remo.running import USER
from tests.support.ports import LOOPBACK
from tests.support.waiting import PATIENCE

OTHER = "127.0.0.2"  # another address of the same host
THIRD = "127.0.0.3"  # one that no test fills


class Answer:
    """An answer, taken apart. body: without its chunks. is_whole: whether its end came."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes, is_whole: bool) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.is_whole = is_whole

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def cookie(self) -> str:
        """The session id that it sets."""
        return http.cookies.SimpleCookie(self.header("Set-Cookie") or "")[wire.COOKIE].value

    @property
    def closes(self) -> bool:
        """Whether it says that the connection ends."""
        return (self.header("Connection") or "").lower() == "close"


class Raw:
    """A connection on which a test says what it wants. source: the address that it comes from."""

    def __init__(self, port: int, source: str = LOOPBACK, buffer: int = 0) -> None:
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.bind((source, 0))
        self.socket.connect((LOOPBACK, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def say(self, *pieces: bytes) -> None:
        """Each in a call of its own; that nobody listens any more is no error."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self.socket.sendall(piece)

    def answer(self, has_body: bool = True) -> Answer | None:
        """The next answer; None when the connection ends instead."""
        with contextlib.suppress(ConnectionResetError):
            line = self._file.readline()
            while line.startswith(b"HTTP/1.1 100 "):
                self._file.readline()
                line = self._file.readline()
            if not line:
                return None
            found = re.fullmatch(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n", line)
            if found is None:
                raise AssertionError(f"no status line: {line!r}")
            headers = []
            while (line := self._file.readline()) not in (b"\r\n", b""):
                name, _, value = line.decode("latin-1").strip().partition(": ")
                headers.append((name, value))
            said = Answer(int(found[1]), headers, b"", True)
            if has_body:
                said.body, said.is_whole = self._body(said)
            return said
        return None

    def _body(self, said: Answer) -> tuple[bytes, bool]:
        length = said.header("Content-Length")
        if length is not None:
            body = self._file.read(int(length))
            return body, len(body) == int(length)
        parts = []
        while line := self._file.readline():
            size = int(line, 16)
            parts.append(self._file.read(size))
            self._file.readline()
            if not size:
                return b"".join(parts), True
        return b"".join(parts), False

    def ask(self, request: bytes) -> Answer:
        """Say something, and take the answer. Raises AssertionError when there is none."""
        self.say(request)
        said = self.answer()
        if said is None:
            raise AssertionError(f"no answer to {request[:100]!r}")
        return said

    def is_over(self, may_be_reset: bool = False) -> bool:
        """Whether the server has ended the connection, with nothing more to say. Waits for it."""
        try:
            return not self._file.read(1)
        except ConnectionResetError:
            return may_be_reset

    def reset(self) -> None:
        """Break the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


def request(
    method: str,
    path: str,
    body: bytes | None = None,
    cookie: str | None = None,
    *headers: str,
    version: str = "1.1",
) -> bytes:
    """A request with its length."""
    lines = [f"{method} {path} HTTP/{version}", "Host: x"]
    if cookie is not None:
        lines.append(f"Cookie: {wire.COOKIE}={cookie}")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, *headers, "", "")).encode("latin-1") + (body or b"")


def chunked(pieces: Iterable[bytes]) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


class Login:
    """What a user says to log in, and what it comes to."""

    def __init__(self, user: str, key: crypto.PrivateKey) -> None:
        self.one_time = crypto.OneTimeKey()
        signature = crypto.sign(key, wire.signed_by_user(user, self.one_time.public))
        self.body = wire.Login(user, self.one_time.public, signature).encode()

    def key(self, body: bytes) -> bytes:
        """The session's key, from the answer."""
        theirs, _ = wire.parse_login_reply(body)
        return self.one_time.session_key(theirs)


class Peer:
    """A session, which says what it is told to. numbered: how many requests there were in that mode."""

    def __init__(self, cookie: str, key: bytes) -> None:
        self.cookie = cookie
        self.key = key
        self.cipher = crypto.SessionCipher(key)
        self.numbered = 0

    def path(self, word: str, argument: bytes | None = None) -> str:
        return f"/{word}" if argument is None else f"/{word}/{self.cipher.encrypt(argument).decode()}"

    def tokens(self, *pieces: bytes) -> bytes:
        """A body in plain mode."""
        return b"".join(self.cipher.encrypt(piece) + wire.END for piece in pieces)

    def sealed(self, path: str, *pieces: bytes) -> list[bytes]:
        """The tokens of the next request in numbered mode, with their line ends."""
        self.numbered += 1
        every, bound = pieces or (b"",), wire.path_hash(path.encode())
        return [
            self.cipher.encrypt(wire.sealed(self.numbered, place, piece, place == len(every) - 1, bound))
            + wire.END
            for place, piece in enumerate(every)
        ]

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        return request(method, path, body, self.cookie)

    def plain(self, word: str, argument: bytes | None = None, *pieces: bytes) -> bytes:
        """A request in plain mode."""
        body = self.tokens(*pieces) if pieces else None
        return self.request("GET" if body is None else "POST", self.path(word, argument), body)

    def numbers(self, word: str, argument: bytes | None = None, *pieces: bytes) -> bytes:
        """A request in numbered mode."""
        path = self.path(word, argument)
        return self.request("POST", path, b"".join(self.sealed(path, *pieces)))

    def opened(self, said: Answer) -> bytes:
        """What a reply says, in the session's mode."""
        found = [token for token in said.body.split(wire.END) if token]
        if not self.numbered:
            return b"".join(map(self.cipher.decrypt, found))
        opener = wire.Opener(self.cipher, wire.status_bound(said.status), self.numbered)
        data = b"".join(map(opener.open, found))
        opener.finish()
        return data


class Host(running.Server):
    """A directory with keys, users and files, and the command that serves them. words: its options.

    limits: as for Process.
    """

    server_key, user_key = running.SERVER_KEY, running.USER_KEY

    def __init__(self, *words: str, **limits: int) -> None:
        place = Path(tempfile.mkdtemp(prefix="pysftpserver-remo-"))
        self.files = place / "files"
        self.files.mkdir()
        (self.files / "small").write_bytes(b"small content")
        running.furnish(place)
        self.users = Users(str(place / "users_db.sqlite"))
        served = () if "--storage" in words else ("--root", str(self.files), "--commands", "yes")
        super().__init__(place, *served, *words, limits=limits)

    def close(self) -> None:
        """End it, whatever it is doing."""
        self.kill()
        shutil.rmtree(self.place)

    def raw(self, source: str = LOOPBACK, buffer: int = 0) -> Raw:
        return Raw(self.port, source, buffer)

    def log_in(self, raw: Raw | None = None, user: str = USER, key: crypto.PrivateKey | None = None) -> Peer:
        """A session."""
        login = Login(user, key or self.user_key)
        with contextlib.nullcontext(raw) if raw is not None else self.raw() as connection:
            said = connection.ask(request("POST", "/auth", login.body))
        if said.status != 200:
            raise AssertionError(f"the login was answered {said.status}")
        return Peer(said.cookie, login.key(said.body))

    def memory(self, which: str = "VmRSS") -> int:
        """KiB that the process has resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{which}:\s+(\d+)", status, re.MULTILINE)[1])  # type: ignore[index]

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))


class HostCase(unittest.TestCase):
    """Tests of one server, which is started for all of them. options, limits: as for Host."""

    options: ClassVar[tuple[str, ...]] = ()
    limits: ClassVar[dict[str, int]] = {}
    host: ClassVar[Host]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.host = Host(*cls.options, **cls.limits)
        cls.addClassCleanup(cls.host.close)

    def setUp(self) -> None:
        super().setUp()
        self.looked = len(self.host.log())

    def connect(self, source: str = LOOPBACK, buffer: int = 0) -> Raw:
        raw = self.host.raw(source, buffer)
        self.addCleanup(raw.close)
        return raw

    def one(self, said: bytes) -> Answer:
        """The answer on a connection of its own."""
        with self.host.raw() as raw:
            return raw.ask(said)

    def assert_serves(self) -> None:
        """The server does its work, and has no fault in its log."""
        with self.host.raw(THIRD) as raw:
            said = raw.ask(request("GET", "/info"))
        self.assertEqual((said.status, said.body), (200, wire.NAME.encode()))
        for word in ("Traceback", "error: ", "fatal: "):
            self.assertNotIn(word, self.host.log()[self.looked :])

    def tearDown(self) -> None:
        super().tearDown()
        self.assert_serves()


class Here:
    """The server in a thread of the test, so that what it does can be patched. given: settings."""

    def __init__(self, place: Path, **given: Any) -> None:
        self.place = place
        self.key = crypto.new_key()
        self.user_key = crypto.new_key()
        self.users = Users(str(place / "users.sqlite"))
        self.users.add(USER, crypto.public_pem(self.user_key.public_key()).decode(), None)
        self.values = ServerSettings(port=0, **given)
        storage = SFTPServerStorage(bytes(place))
        self.application = Application(self.values, self.key, self.users, lambda *_: storage)
        self.server: Server | None = None
        self.port = 0

    def listen(self) -> None:
        """Be there for connections, too."""
        self.server = Server(self.values, self.application, "pysftpremo", log)
        self.server.prepare()
        self.port = self.server.bind_addr[1]
        self._thread = threading.Thread(target=self.server.serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.application.close()
        if self.server is not None:
            self.server.stop()
            self._thread.join(PATIENCE)

    def called(
        self, method: str, path: str, body: bytes = b"", cookie: str | None = None, **more: Any
    ) -> Answer:
        """What the application answers."""
        return called(self.application, method, path, body, cookie, **more)

    def log_in(self, user: str = USER, key: crypto.PrivateKey | None = None) -> Peer:
        """A session, without a server."""
        login = Login(user, key or self.user_key)
        said = self.called("POST", "/auth", login.body)
        if said.status != 200:
            raise AssertionError(f"the login was answered {said.status}")
        return Peer(said.cookie, login.key(said.body))


class HereCase(unittest.TestCase):
    def serve(self, **given: Any) -> Here:
        """A server of this test's own, which does not listen."""
        place = Path(tempfile.mkdtemp(prefix="pysftpserver-remo-"))
        self.addCleanup(shutil.rmtree, place)
        here = Here(place, **given)
        self.addCleanup(here.close)
        return here


def called(
    application: Any,
    method: str,
    path: str,
    body: bytes = b"",
    cookie: str | None = None,
    address: str = LOOPBACK,
    **environ: Any,
) -> Answer:
    """What a WSGI application answers, without a server."""
    told: list[Any] = []
    given = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "REMOTE_ADDR": address,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.multiprocess": False,
        "wsgi.url_scheme": "http",
        **environ,
    }
    if cookie is not None:
        given["HTTP_COOKIE"] = f"{wire.COOKIE}={cookie}"
    said = application(given, lambda status, headers, _=None: told.extend((status, headers)))
    try:
        whole = b"".join(said)
    finally:
        if hasattr(said, "close"):
            said.close()
    return Answer(int(told[0][:3]), told[1], whole, True)
