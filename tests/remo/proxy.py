"""Somebody on the path between a client and a server, who reads all and changes what he wants.

He knows no keys: a token is bytes to him. Requests and answers are taken whole before they are passed on, so
that a test can do with their tokens what it likes.
"""

from __future__ import annotations

import http.client
import http.server
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.remo.oldstyle import QuietServer
from tests.support.waiting import PATIENCE

HOST = "127.0.0.1"
FRAMING = {"content-length", "transfer-encoding", "connection", "host", "server", "date"}


@dataclass
class Request:
    """tokens: the lines of the body. is_chunked: how it goes on. cut: end the connection after the tokens,
    and say nothing of the body's end.
    """

    method: str
    path: str
    headers: dict[str, str]
    tokens: list[bytes] = field(default_factory=list)
    is_chunked: bool = False
    cut: bool = False

    @property
    def word(self) -> str:
        """The verb."""
        return self.path[1:].partition("/")[0]

    def but(self, **changes: Any) -> Request:
        """The same with something changed; a word takes the place of the verb."""
        if word := changes.pop("word", None):
            changes["path"] = "/" + word + self.path[1 + len(self.word) :]
        return replace(self, **changes)


@dataclass
class Answer:
    """tokens: None where there is a Content-Length, and text is the body. cut: as for a request."""

    status: int
    headers: dict[str, str]
    tokens: list[bytes] | None
    text: bytes = b""
    cut: bool = False

    def but(self, **changes: Any) -> Answer:
        return replace(self, **changes)


class Proxy:
    """Set on_request and on_answer. on_request: gives what is to be sent in place of a request, or an answer
    that is given without the server, or None, and the connection ends. on_answer: gives the answer that the
    client gets, or None. requests, answers: all that was seen, as it came.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.pass_on()
        owner = self

        class Handler(_Handler):
            proxy = owner

        self._http = QuietServer(Handler)
        self.port, self.stop = self._http.port, self._http.stop

    def pass_on(self) -> None:
        """From now on, change nothing."""
        self.on_request: Callable[[Request], Request | Answer | None] = lambda request: request
        self.on_answer: Callable[[Request, Answer], Answer | None] = lambda request, answer: answer

    def send(self, request: Request) -> Answer:
        """Send a request to the server, on a connection of its own. Raises OSError, HTTPException."""
        connection = http.client.HTTPConnection(HOST, self._upstream, timeout=PATIENCE)
        try:
            connection.putrequest(request.method, request.path, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value)
            body = b"\r\n".join(request.tokens)
            if request.is_chunked:
                connection.putheader("Transfer-Encoding", "chunked")
                connection.endheaders()
                for token in request.tokens:
                    connection.send(b"%x\r\n%s\r\n\r\n" % (len(token) + 2, token))
                if not request.cut:
                    connection.send(b"0\r\n\r\n")
            else:
                if request.tokens:
                    connection.putheader("Content-Length", str(len(body) + (100 if request.cut else 0)))
                connection.endheaders(body)
            if request.cut and connection.sock is not None:
                connection.sock.shutdown(socket.SHUT_WR)
            reply = connection.getresponse()
            is_tokens = reply.getheader("Content-Length") is None
            text = reply.read()
            headers = {name: value for name, value in reply.getheaders() if name.lower() not in FRAMING}
            return Answer(reply.status, headers, text.split() if is_tokens else None, text)
        finally:
            connection.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = PATIENCE
    proxy: Proxy

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in FRAMING}
        tokens, is_chunked = self._body()
        request = Request(self.command, self.path, headers, tokens, is_chunked)
        self.proxy.requests.append(request.but())
        wanted = self.proxy.on_request(request)
        if wanted is None:
            return self._hang_up()
        if isinstance(wanted, Request):
            try:
                wanted = self.proxy.send(wanted)
            except (OSError, http.client.HTTPException):
                return self._hang_up()
            self.proxy.answers.append(wanted.but())
            changed = self.proxy.on_answer(request, wanted)
            if changed is None:
                return self._hang_up()
            wanted = changed
        self._give(wanted)

    do_POST = do_GET

    def _hang_up(self) -> None:
        self.close_connection = True

    def _body(self) -> tuple[list[bytes], bool]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0))).split(), False
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found.split(), True

    def _give(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.tokens is None:
            self.send_header("Content-Length", str(len(answer.text) + (100 if answer.cut else 0)))
            self.end_headers()
            self.wfile.write(answer.text)
        else:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for token in answer.tokens:
                self.wfile.write(b"%x\r\n%s\r\n\r\n" % (len(token) + 2, token))
            if not answer.cut:
                self.wfile.write(b"0\r\n\r\n")
        self.close_connection = answer.cut
