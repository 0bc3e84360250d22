"""The local socket on which pysftpd and pysftpctl ask for links: a line of JSON is answered by another.

{"user": NAME, "address": ADDRESS} asks for a link of a user who has logged in over SSH, {"operator": NAME}
for one of an operator; both are answered by {"url": URL}, anything else by {"error": TEXT}. Only root and the
server's own account may ask. What may not enter: HTTP, what a link opens. Facts: unix(7) on SO_PEERCRED.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from pysftpserver.failures import BadInput, one_line
from pysftpserver.host.accounts import own_reason
from pysftpserver.service.localsockets import Taken, listen, turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    Ask = Callable[[dict[str, str]], str]

BACKLOG = 64
NOT_ACCEPTED = 1.0  # seconds until connections are accepted again, where that has failed
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
PATIENCE = 5.0  # seconds for a question and its answer
THREADS = 8
LONGEST_QUESTION = 4096  # bytes, with the line's end
LONGEST_NAME = 1024  # characters
QUESTIONS = ({"user", "address"}, {"operator"})


class NoLink(Exception):
    """No link can be given. The text is for the person who asked."""


class LinkSocket:
    """Answers questions until close(). ask: returns the URL for a question; may raise NoLink.

    Raises BadInput for a path where no socket can be created.
    """

    def __init__(self, path: str, ask: Ask, log: logging.Logger) -> None:
        self._path = os.path.abspath(path)
        self._ask = ask
        self._log = log
        self._threads = ThreadPoolExecutor(THREADS, "links")
        self._closing = threading.Event()
        try:
            with turn(self._path):
                self._socket = listen(self._path, socket.SOCK_STREAM, BACKLOG)
        except (OSError, Taken) as error:
            why = str(error) if isinstance(error, Taken) else own_reason(error)
            hint = "name a path in a directory of this account"
            raise BadInput(f"link_socket {path}: {why}; {hint}") from None
        self._socket.setblocking(True)
        self._thread = threading.Thread(target=self._serve, name="link socket", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering, and remove the socket."""
        self._closing.set()
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # which ends accept()
        self._thread.join()
        self._socket.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _serve(self) -> None:
        while True:
            try:
                one, _ = self._socket.accept()
            except OSError as error:
                if self._closing.is_set():
                    return
                self._log.error("link socket: %s", own_reason(error))
                self._closing.wait(NOT_ACCEPTED)  # no descriptor is left
                continue
            self._threads.submit(self._talk, one)

    def _talk(self, one: socket.socket) -> None:
        with one, contextlib.suppress(OSError):
            one.settimeout(PATIENCE)
            line = _line(one)
            raw = one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
            uid = CREDENTIALS.unpack(raw)[1]
            if uid in (0, os.geteuid()):
                answer = self._answer(line)
            else:
                self._log.error("link socket: user %d was refused", uid)
                answer = {"error": "only root and the server's account may ask"}
            one.sendall(json.dumps(answer).encode() + b"\n")

    def _answer(self, line: bytes) -> dict[str, str]:
        try:
            question = json.loads(line)
        except (ValueError, RecursionError):
            question = None
        if not isinstance(question, dict) or question.keys() not in QUESTIONS:
            return {"error": "ask with user and address, or with operator"}
        if any(not isinstance(text, str) or len(text) > LONGEST_NAME for text in question.values()):
            return {"error": f"the values have to be texts of up to {LONGEST_NAME} characters"}
        try:
            return {"url": self._ask(question)}
        except NoLink as error:
            return {"error": one_line(str(error))}
        except Exception as error:
            self._log.exception("a link was asked for")
            return {"error": f"internal error ({type(error).__name__}); the log says more"}


def _line(one: socket.socket) -> bytes:
    """Receive a line, or as much of it as arrives. Raises OSError."""
    data = b""
    until = time.monotonic() + PATIENCE
    while not data.endswith(b"\n") and len(data) <= LONGEST_QUESTION and time.monotonic() < until:
        piece = one.recv(LONGEST_QUESTION)
        if not piece:
            break
        data += piece
    return data
