"""Receivers for the tests: an HTTP server, a Unix socket, a program."""

from __future__ import annotations

import http.server
import json
import os
import socket
import sys
import threading
from typing import Any


class WebReceiver:
    """An HTTP server on the loopback that keeps what it gets. statuses: its next answers, then 200."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: list[dict[str, Any]] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((dict(self.headers.items()), content))
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                if status == 200:
                    receiver.got.append(json.loads(content))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/events"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class SocketReceiver:
    """A Unix socket that keeps what it gets. answers: its next ones, then that it has taken the event."""

    def __init__(self, path: str) -> None:
        self.answers: list[bytes] = []
        self.got: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as lines:
                line = lines.readline()
                answer = self.answers.pop(0) if self.answers else b'{"ok": true}\n'
                if b"true" in answer:
                    self.got.append(json.loads(line))
                lines.write(answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def deliverers(site: str | os.PathLike[str]) -> list[int]:
    """The processes that deliver the events of a site."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/cmdline", "rb") as file:
                words = file.read()
        except OSError:
            continue
        if b"deliver_for_sessions" in words and os.fsencode(site) in words:
            found.append(int(number))
    return found


def program(directory: str, text: str) -> str:
    """A program in Python. text: its lines."""
    path = os.path.join(directory, "program")
    with open(path, "w") as file:
        file.write(f"#!{sys.executable} -IS\nimport os, sys\n{text}\n")
    os.chmod(path, 0o755)
    return path
