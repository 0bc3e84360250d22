"""A client and a server as there have been for years: blocking, a line at a time, one file after the other.

Written from the protocol's page alone; nothing of pysftpserver is in here, so that both sides of a test
cannot be wrong in the same way.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import threading
from pathlib import Path
from typing import IO, Any

from tests.support.waiting import PATIENCE

HOST = "127.0.0.1"
TITLES = ("sksync 1", "pysksync 1", "pysksync 2")


class Ended(Exception):
    """The other side has ended where it should not."""


def encoding_of(title: str) -> str:
    return "cp1252" if title == "sksync 1" else "utf-8"


def listing(root: Path, is_recursive: bool, encoding: str) -> dict[str, int]:
    """Whole seconds by name."""
    found = {}
    for path in sorted(root.rglob("*") if is_recursive else root.glob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not path.is_symlink():
            try:
                name.encode(encoding)
            except UnicodeEncodeError:
                continue
            found[name] = path.stat().st_mtime_ns // 10**9
    return found


class End:
    """What both sides do."""

    def __init__(self, connection: socket.socket, title: str = "pysksync 2") -> None:
        self.connection = connection
        self.stream: IO[bytes] = connection.makefile("rb")
        self.title = title

    def say(self, text: str) -> None:
        self.connection.sendall(text.encode(encoding_of(self.title)) + b"\n")

    def hear(self) -> str:
        line = self.stream.readline()
        if not line.endswith(b"\n"):
            raise Ended(f"ended with {line!r}")
        return line[:-1].decode(encoding_of(self.title))

    def send_content(self, content: bytes) -> None:
        self.say(str(len(content)))
        self.connection.sendall(content)
        if self.title == "pysksync 2":
            self.say(hashlib.md5(content).hexdigest())

    def hear_content(self) -> bytes:
        length = int(self.hear())
        content = self.stream.read(length)
        if len(content) != length:
            raise Ended("ended in a file")
        if self.title == "pysksync 2" and self.hear() != hashlib.md5(content).hexdigest():
            raise ValueError("a wrong digest")
        return content

    def close(self) -> None:
        self.stream.close()
        self.connection.close()


def write(root: Path, name: str, content: bytes, milliseconds: int) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(milliseconds * 1_000_000,) * 2)


def client(
    port: int,
    root: Path,
    title: str = "pysksync 2",
    kind: int = 0,
    is_recursive: bool = True,
    path: str = "there",
    odd: int = 0,
    is_stray: bool = False,
    context: ssl.SSLContext | None = None,
) -> tuple[list[str], list[str]]:
    """Sync root with a server's path; names that were sent and received.

    odd: milliseconds on top of the whole seconds of each file. is_stray: say one more empty line after an
    empty listing.
    """
    sent, received = [], []
    connection = socket.create_connection((HOST, port), PATIENCE)
    if context is not None:
        connection = context.wrap_socket(connection, server_hostname=HOST)
    end = End(connection, title)
    try:
        end.say(title)
        if end.hear() != "Protocol Established":
            raise Ended("no protocol")
        for text in (str(kind), "0" if is_recursive else "1", path, str(root)):
            end.say(text)
        if title == "pysksync 2" and end.hear() != "md5":
            raise Ended("no digests")
        files = listing(root, is_recursive, encoding_of(title))
        for name, mtime in files.items():
            end.say(f"{mtime * 1000 + odd} {name}")
        end.say("")
        if not files and is_stray:
            end.say("")
        while name := end.hear():
            end.send_content((root / name).read_bytes())
            sent.append(name)
        while name := end.hear():
            mtime = int(end.hear())
            write(root, name, end.hear_content(), mtime)
            received.append(name)
        if end.stream.read():
            raise Ended("more than the end")
    finally:
        end.close()
    return sent, received


class Server:
    """A server, one client after the other. sessions: what each client wanted and what was done for it.

    odd: milliseconds on top of the whole seconds of each file. pause: seconds before it asks for a file.
    """

    def __init__(
        self, root: Path, context: ssl.SSLContext | None = None, odd: int = 0, pause: float = 0
    ) -> None:
        self.sessions: list[dict[str, Any]] = []
        self._root = root
        self._context = context
        self._odd = odd
        self._pause = pause
        self._is_over = threading.Event()
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="old-style server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._is_over.set()
        socket.create_connection((HOST, self.port), PATIENCE).close()
        self._thread.join(PATIENCE)
        self._listener.close()

    def _run(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._is_over.is_set():
                connection.close()
                return
            connection.settimeout(PATIENCE)
            end = None
            session: dict[str, Any] = {"asked": [], "received": [], "sent": [], "why": None}
            self.sessions.append(session)
            try:
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                end = End(connection)
                self._session(end, session)
            except (ValueError, OSError, Ended) as error:  # as they do: the connection is closed
                session["why"] = error
            finally:
                connection.close() if end is None else end.close()

    def _session(self, end: End, session: dict[str, Any]) -> None:
        title = end.hear()
        if title not in TITLES:
            raise Ended("no protocol")
        end.title = session["title"] = title
        end.connection.sendall(b"P")
        end.connection.sendall(b"rotocol Established\n")
        kind = session["kind"] = int(end.hear())
        is_recursive = end.hear() == "0"
        root = self._root / end.hear().strip("/")
        end.hear()
        if title == "pysksync 2":
            end.say("md5")
        theirs = session["listing"] = {}
        while line := end.hear():
            mtime, _, name = line.partition(" ")
            theirs[name] = int(mtime)
        ours = listing(root, is_recursive, encoding_of(title))
        is_timed = kind in (0, 1, 2)
        if kind in (0, 1, 3, 4):
            for name, mtime in theirs.items():
                if name not in ours or (is_timed and mtime // 1000 > ours[name]):
                    self._is_over.wait(self._pause) if self._pause else None
                    session["asked"].append(name)
                    end.say(name)
                    write(root, name, end.hear_content(), mtime)
                    session["received"].append(name)
        end.say("")
        if kind in (0, 2, 3, 5):
            for name, mtime in ours.items():
                if name not in theirs or (is_timed and mtime > theirs[name] // 1000):
                    end.say(name)
                    end.say(str(mtime * 1000 + self._odd))
                    end.send_content((root / name).read_bytes())
                    session["sent"].append(name)
        end.say("")
