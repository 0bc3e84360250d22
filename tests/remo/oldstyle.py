"""A client and servers as there have been for years, in plain mode and in numbered mode.

Written from the protocol's page alone, with http.client, http.server and cryptography; nothing of
pysftpserver is in here, so that both sides of a test cannot be wrong in the same way.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import http.server
import json
import secrets
import select
import shlex
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed448, padding, rsa, x448
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from tests.support.waiting import PATIENCE

HOST = "127.0.0.1"
HASH = 48  # bytes of a path's
MOST_AGE = 10  # seconds

to_b64 = base64.urlsafe_b64encode


def derive(shared: bytes) -> Fernet:
    """The session's cipher, of the secret that X448 gives."""
    return Fernet(to_b64(ConcatKDFHash(hashes.SHA256(), 32, b"remo_serv").derive(shared)))


def sealed(number: int, token: int, is_last: bool, bound: bytes, data: bytes) -> bytes:
    """The plain text of a token in numbered mode. bound: of the first."""
    magic = (b"." if token else b"B") + (b"E" if is_last else b".")
    return magic + struct.pack(">hh", number, token) + (b"" if token else bound) + data


def unsealed(plain: list[bytes], number: int, bound: int) -> tuple[bytes, bytes]:
    """(what the first token is bound to, the data) of a numbered body; bound: how long the former is."""
    said = b""
    for count, part in enumerate(plain):
        magic = (b"." if count else b"B") + (b"E" if count == len(plain) - 1 else b".")
        if part[:2] != magic or struct.unpack(">hh", part[2:6]) != (number, count):
            raise ValueError(f"token {count} begins with {part[:6]!r}")
        said += part[6:]
    if not plain:
        raise ValueError("no token")
    return said[:bound], said[bound:]


class Answer(NamedTuple):
    """headers: in small letters. tokens: None where the answer is not encrypted, and text is what it says."""

    status: int
    headers: dict[str, str]
    tokens: list[bytes] | None
    text: bytes

    @property
    def cookie(self) -> str:
        return self.headers.get("set-cookie", "").partition("SESSION_ID=")[2].partition(";")[0]


class Client:
    """One session. ahead: seconds that its clock is ahead."""

    def __init__(self, port: int, is_numbered: bool = False, ahead: int = 0) -> None:
        self.port = port
        self.is_numbered = is_numbered
        self.ahead = ahead
        self.number = 0
        self.cookie = ""
        self.fernet: Fernet
        self._connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)

    def close(self) -> None:
        self._connection.close()

    # --- HTTP ---------------------------------------------------------------------------------------------

    def send(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, **headers: str
    ) -> Answer:
        """Bytes go with their length, anything else in chunks."""
        if self.cookie:
            headers = {"Cookie": f"SESSION_ID={self.cookie}", **headers}
        is_chunked = body is not None and not isinstance(body, bytes)
        if is_chunked:
            headers["Transfer-Encoding"] = "chunked"
        self._connection.request(method, path, body, headers, encode_chunked=is_chunked)
        reply = self._connection.getresponse()
        text = reply.read()
        found = {name.lower(): value for name, value in reply.getheaders()}
        tokens = text.split(b"\r\n")[:-1] if "content-length" not in found else None
        if tokens is not None and not (text.endswith(b"\r\n") or text == b""):
            raise ValueError("a chunk that does not end a line")
        return Answer(reply.status, found, tokens, text)

    def log_in(self, user: str, key: Any, server_key: ed448.Ed448PublicKey) -> Answer:
        body, one_time = login(user, key)
        answer = self.send("POST", "/auth", body)
        if answer.status == 200:
            self.take(answer, one_time, server_key)
        return answer

    def take(self, answer: Answer, one_time: x448.X448PrivateKey, server_key: ed448.Ed448PublicKey) -> None:
        """What the server says to a login."""
        theirs, signature = map(base64.urlsafe_b64decode, answer.text.split(b"\r\n"))
        server_key.verify(signature, theirs)
        self.fernet = derive(one_time.exchange(x448.X448PublicKey.from_public_bytes(theirs)))
        self.cookie = answer.cookie
        self.number = 0

    # --- tokens -------------------------------------------------------------------------------------------

    def encrypt(self, plain: bytes) -> bytes:
        return self.fernet.encrypt_at_time(plain, int(time.time()) + self.ahead)

    def path(self, word: str, argument: bytes | str | None = None) -> str:
        if argument is None:
            return f"/{word}"
        raw = argument.encode() if isinstance(argument, str) else argument
        return f"/{word}/{self.encrypt(raw).decode()}"

    def seal(self, path: str, parts: Iterable[bytes], number: int | None = None) -> list[bytes]:
        """The tokens of a numbered request; number: if not the next one, which is not used up then."""
        if number is None:
            self.number = number = (self.number + 1 + 32768) % 65536 - 32768
        said = list(parts) or [b""]
        bound = hashlib.sha384(path.encode()).digest()
        return [
            self.encrypt(sealed(number, count, count == len(said) - 1, bound, part))
            for count, part in enumerate(said)
        ]

    def ask(self, method: str, word: str, argument: bytes | str | None = None, *parts: bytes) -> bytes:
        """What the server answers to a request; of several parts in chunks. Raises Refused."""
        path = self.path(word, argument)
        tokens = self.seal(path, parts) if self.is_numbered else [self.encrypt(part) for part in parts]
        return self.opened(self.request(method, path, tokens))

    def request(self, method: str, path: str, tokens: list[bytes]) -> Answer:
        """Send these tokens: one with its length, several in chunks."""
        if len(tokens) > 1:
            return self.send(method, path, (token + b"\r\n" for token in tokens))
        return self.send(method, path, tokens[0] if tokens else None)

    def opened(self, answer: Answer, number: int | None = None) -> bytes:
        """What an answer says. Raises Refused, ValueError."""
        if answer.tokens is None:
            raise Refused(answer.status, answer.text, False)
        said = [self.fernet.decrypt(token, ttl=None) for token in answer.tokens]
        if not self.is_numbered:
            data = b"".join(said)
        else:
            status, data = unsealed(said, self.number if number is None else number, 3)
            if int(status) != answer.status:
                raise ValueError(f"status {answer.status} and {status!r}")
        if answer.status != 200:
            raise Refused(answer.status, data, True)
        return data


class Refused(Exception):
    """The server says no. is_signed: in tokens."""

    def __init__(self, status: int, text: bytes, is_signed: bool) -> None:
        super().__init__(f"{status} {text!r}")
        self.status = status
        self.is_signed = is_signed


def login(user: str, key: Any) -> tuple[bytes, x448.X448PrivateKey]:
    """(the body of a login, its one-time key)."""
    one_time = x448.X448PrivateKey.generate()
    public = one_time.public_key().public_bytes_raw()
    data = user.encode() + public
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    signature = key.sign(data, padding.PKCS1v15(), hashes.SHA512()) if is_rsa else key.sign(data)
    said = {"user": user, "key": to_b64(public).decode(), "sign": to_b64(signature).decode()}
    return json.dumps(said).encode(), one_time


# --- servers --------------------------------------------------------------------------------------------


class QuietServer(http.server.ThreadingHTTPServer):
    """A server in a thread, from now on, that says nothing of connections that break."""

    daemon_threads = True

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        super().__init__((HOST, 0), handler)
        self.port = int(self.server_address[1])
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(*_)


class Session:
    def __init__(self, fernet: Fernet) -> None:
        self.fernet = fernet
        self.is_numbered = False
        self.number = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.ours: socket.socket | None = None

    def end_command(self) -> None:
        if self.process is not None and self.ours is not None:
            self.process.kill()
            self.process.wait()
            self.ours.close()
            self.process = self.ours = None


class Server:
    """A server for one user. mode: "plain", which knows no numbers; "numbered", whose errors are plain;
    "signed", whose errors are encrypted. ahead: seconds that its clock is ahead. files: what there is, by
    name, in place of a disk; commands are real. words: the verb of each request, in order.
    """

    def __init__(
        self, mode: str, user: str, user_key: Any, key: ed448.Ed448PrivateKey, ahead: int = 0
    ) -> None:
        self.mode = mode
        self.user = user
        self.user_key = user_key
        self.key = key
        self.ahead = ahead
        self.files: dict[bytes, bytes] = {b"/dev/null": b""}
        self.sessions: dict[str, Session] = {}
        self.words: list[str] = []
        self.logins: list[bytes] = []
        owner = self

        class Handler(_Handler):
            server_of = owner

        self._http = QuietServer(Handler)
        self.port = self._http.port

    def stop(self) -> None:
        self._http.stop()
        for session in self.sessions.values():
            session.end_command()


class _Error(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = PATIENCE
    server_of: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        owner = self.server_of
        word, _, token = self.path[1:].partition("/")
        owner.words.append(word)
        body = self._body()
        self.ident = self.headers.get("Cookie", "").partition("SESSION_ID=")[2] or secrets.token_hex(16)
        if word == "auth":
            return self._plain(*self._log_in(body))
        session = owner.sessions.get(self.ident)
        if session is None:
            return self._plain(200, b"old") if word == "info" else self._plain(403)
        number = None
        try:
            number, data = self._opened(session, body)
            said = self._served(session, word, token, data)
        except _Error as error:
            if number is None or owner.mode != "signed":
                return self._plain(error.status)
            return self._tokens(session, number, error.status, [b""])
        except (InvalidToken, ValueError):
            if session.is_numbered:
                del owner.sessions[self.ident]
            return self._plain(400)
        if word == "info" and number is None:
            return self._plain(200, b"old")
        self._tokens(session, number, 200, said)

    do_POST = do_GET

    def _body(self) -> list[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0))).split()
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found.split()

    def _log_in(self, body: list[bytes]) -> tuple[int, bytes]:
        owner = self.server_of
        if not body:
            owner.sessions.pop(self.ident, None)
            return 200, b""
        said = json.loads(b" ".join(body))
        theirs, signature = (base64.urlsafe_b64decode(said[name]) for name in ("key", "sign"))
        owner.logins.append(theirs)
        data = said["user"].encode() + theirs
        try:
            if said["user"] != owner.user:
                return 403, b""
            if isinstance(owner.user_key, rsa.RSAPublicKey):
                owner.user_key.verify(signature, data, padding.PKCS1v15(), hashes.SHA512())
            else:
                owner.user_key.verify(signature, data)
        except InvalidSignature:
            return 403, b""
        one_time = x448.X448PrivateKey.generate()
        public = one_time.public_key().public_bytes_raw()
        self.ident = secrets.token_hex(16)
        fernet = derive(one_time.exchange(x448.X448PublicKey.from_public_bytes(theirs)))
        owner.sessions[self.ident] = Session(fernet)
        return 200, to_b64(public) + b"\r\n" + to_b64(owner.key.sign(public))

    def _opened(self, session: Session, body: list[bytes]) -> tuple[int | None, bytes]:
        """(number of the request, what its body says)."""
        plain = [session.fernet.decrypt(token) for token in body]
        bound = hashlib.sha384(self.path.encode()).digest()
        is_numbered = bool(plain) and plain[0][:1] == b"B" and plain[0][6 : 6 + HASH] == bound
        if self.server_of.mode == "plain" or not (is_numbered or session.is_numbered):
            return None, b"".join(plain)
        session.number += 1
        session.is_numbered = True
        for token in body:
            if session.fernet.extract_timestamp(token) < time.time() - MOST_AGE:
                raise ValueError("an old token")
        found, data = unsealed(plain, session.number, HASH)
        if found != bound:
            raise ValueError("another path")
        return session.number, data

    def _served(self, session: Session, word: str, token: str, data: bytes) -> list[bytes]:
        files = self.server_of.files
        if word not in ("info", "get", "put", "cmd", "icm", "idt", "edt"):
            raise _Error(404)
        if word not in ("idt", "edt"):
            session.end_command()
        argument = b""
        if word in ("get", "put", "cmd", "icm"):
            try:
                argument = session.fernet.decrypt(token.encode())
            except InvalidToken:
                raise _Error(403 if word in ("cmd", "icm") else 400) from None
        elif session.process is None and word != "info":
            raise _Error(400)
        if word == "get":
            if argument not in files:
                raise _Error(400)
            content = files[argument]
            return [content[start : start + 1000] for start in range(0, len(content), 1000)]
        if word == "put":
            files[argument] = data
            return [b""]
        if word == "cmd":
            return [_run(shlex.split(argument.decode()), data)]
        if word == "icm":
            session.ours, theirs = socket.socketpair()
            with theirs:
                session.process = subprocess.Popen(
                    shlex.split(argument.decode()), stdin=theirs, stdout=theirs, stderr=theirs
                )
        return [] if word == "info" else [_talked(session, data, word == "edt")]

    def _plain(self, status: int, text: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Set-Cookie", f"SESSION_ID={self.ident}")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _tokens(self, session: Session, number: int | None, status: int, said: list[bytes]) -> None:
        self.send_response(status)
        self.send_header("Set-Cookie", f"SESSION_ID={self.ident}")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if number is not None:
            said = said or [b""]
        for count, part in enumerate(said):
            if number is not None:
                part = sealed(number, count, count == len(said) - 1, b"%03d" % status, part)
            token = session.fernet.encrypt_at_time(part, int(time.time()) + self.server_of.ahead)
            self.wfile.write(b"%x\r\n%s\r\n\r\n" % (len(token) + 2, token))
        self.wfile.write(b"0\r\n\r\n")


def _run(words: list[str], given: bytes) -> bytes:
    try:
        done = subprocess.run(
            words, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE
        )
    except OSError:
        raise _Error(400) from None
    return done.stdout


def _talked(session: Session, given: bytes, is_last: bool) -> bytes:
    assert session.ours is not None and session.process is not None
    session.ours.sendall(given)
    said = b""
    if is_last:
        session.ours.shutdown(socket.SHUT_WR)
        while piece := session.ours.recv(65536):
            said += piece
        session.end_command()
        return said
    deadline = time.monotonic() + 0.1
    while len(said) < 8192 and select.select([session.ours], [], [], max(0, deadline - time.monotonic()))[0]:
        piece = session.ours.recv(8192 - len(said))
        if not piece:
            session.end_command()
            break
        said += piece
    return said
