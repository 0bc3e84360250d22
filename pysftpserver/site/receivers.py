"""Receivers of events: a program, an HTTP server, a Unix socket.

Each takes one event at a time and reports whether it has it; the rest is up to the deliverer. No shell is
used, and no redirect followed. What may not enter: the ledger, storages. Facts: RFC 9112 on HTTP, RFC 2104 on
HMAC; docs/site.md for what receivers get.
"""

from __future__ import annotations

import contextlib
import json
import os
import time

from pysftpserver.failures import BadInput, one_line, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from socket import socket as Socket
    from threading import Event
    from typing import Any

    from pysftpserver.site.file import Entry

PATIENCE = 30.0  # seconds for a receiver to take one event
REST = 1.0  # seconds for the rest of an answer after its status
FIELDS = ("event", "path", "target", "size", "bytes", "sha256", "user", "group", "address", "session", "time")
LONGEST_ANSWER = 4096  # bytes


def receivers_of(entry: Entry) -> list[Receiver]:
    """The receivers in a table of a site file."""
    found: list[Receiver] = []
    if entry.run is not None:
        found.append(Program(entry.run, entry.timeout))
    if entry.post is not None:
        key = None if entry.secret is None else lambda: key_of(entry)
        found.append(Web(entry.post, key, entry.timeout))
    if entry.socket is not None:
        found.append(LocalSocket(entry.socket, entry.timeout))
    return found


def key_of(entry: Entry) -> bytes:
    """The key for signatures, read from its file each time. Raises BadInput."""
    from pysftpserver.host.wholefiles import first_line

    key = first_line(entry.secret, entry.at("secret") + ":")
    if not key:
        raise BadInput(f"{entry.at('secret')}: {entry.secret}: its first line is empty")
    return key.encode()


def names_of(entry: Entry) -> list[str]:
    """The receivers' names, without reading files that only the deliverer may read."""
    named = (
        ("run", entry.run and json.dumps(list(entry.run))),
        ("post", entry.post),
        ("socket", entry.socket),
    )
    return [f"{kind} {value}" for kind, value in named if value]


def shown(name: str) -> str:
    """The name of a receiver for logs and lists: without a URL's query, which may contain a secret."""
    place, mark, _ = name.partition("?")
    return f"{place}?..." if mark and name.startswith("post ") else name


class Refused(Exception):
    """A receiver has not accepted an event. The text is for the log and for lists of dead letters."""


class Receiver:
    """A receiver. name: the same in every process. shown: the name for logs. patience: seconds."""

    def __init__(self, name: str, patience: float = PATIENCE) -> None:
        self.name, self.patience = name, patience
        self.shown = shown(name)

    def take(self, event: Mapping[str, Any]) -> None:
        """Deliver an event. Raises Refused."""
        raise NotImplementedError


class Program(Receiver):
    """Runs a program for each event; it has the event if it ends with status 0.

    words: the program and its arguments; {path} and the other FIELDS are filled in, each within one argument.
    The program also gets them in its environment, as PYSFTP_PATH and so on, and the whole event as JSON on
    standard input. It runs in /.
    """

    def __init__(self, words: Sequence[str], patience: float = PATIENCE) -> None:
        super().__init__(f"run {json.dumps(list(words))}", patience)
        self._words = list(words)

    def take(self, event: Mapping[str, Any]) -> None:
        import signal
        import subprocess

        values = {field: raw(event, field) for field in FIELDS}
        environment = dict(os.environb)
        environment |= {b"PYSFTP_%b" % field.upper().encode(): value for field, value in values.items()}
        environment[b"PYSFTP_ID"] = b"%d" % event["id"]
        try:
            process = subprocess.Popen(
                [filled(word, values) for word in self._words],
                env=environment,
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise Refused(reason_of(error)) from None
        try:
            process.communicate(body(event), self.patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # it leads its own group, and is not reaped yet
            process.wait()
            raise Refused(f"it did not end within {self.patience:g} seconds") from None
        if process.returncode:
            how = (
                f"signal {-process.returncode}" if process.returncode < 0 else f"status {process.returncode}"
            )
            raise Refused(f"it ended with {how}")


class Web(Receiver):
    """Posts each event as JSON; the server has it if it answers with a 2xx status.

    url: http: or https:. key: returns what signs the body, in the header X-Pysftp-Signature: sha256=HEX; it
    may raise BadInput. None: no signature.
    """

    def __init__(self, url: str, key: Callable[[], bytes] | None = None, patience: float = PATIENCE) -> None:
        from urllib.parse import urlsplit

        super().__init__(f"post {url}", patience)
        parts = urlsplit(url)
        self._is_secure, self._host, self._port = parts.scheme == "https", parts.hostname or "", parts.port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._key = key

    def take(self, event: Mapping[str, Any]) -> None:
        import http.client
        import threading

        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self.patience)
        content = body(event)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "pysftpserver",
            "X-Pysftp-Event": str(event["event"]),
            "X-Pysftp-Id": str(event["id"]),
        }
        if self._key is not None:
            try:
                key = self._key()
            except BadInput as error:
                raise Refused(error.message) from None
            headers["X-Pysftp-Signature"] = f"sha256={signature(key, content)}"
        is_late = threading.Event()
        watches = []

        def watch(seconds: float) -> None:
            """Limit an answer that arrives byte by byte, which no timeout of a socket would end."""
            watches.append(threading.Timer(seconds, _cut_off, (sock, is_late)))
            watches[-1].daemon = True
            watches[-1].start()

        reason = None
        try:
            connection.connect()
            sock = connection.sock  # which the answer may take over
            watch(self.patience)
            connection.request("POST", self._target, content, headers)
            answer = connection.getresponse()
            has_answered = not is_late.is_set()  # the status is enough
            watch(REST)
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer.read(LONGEST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            has_answered = False
            reason = reason_of(error) if isinstance(error, OSError) else type(error).__name__
        finally:
            for each in watches:
                each.cancel()
            connection.close()
        if not has_answered:
            late = f"it did not answer within {self.patience:g} seconds"
            raise Refused(late if is_late.is_set() or reason is None else reason)
        if not 200 <= answer.status < 300:
            raise Refused(f"it answered {answer.status}")


def _cut_off(sock: Socket, is_late: Event) -> None:
    import socket

    is_late.set()
    with contextlib.suppress(OSError):  # it is not connected any more
        sock.shutdown(socket.SHUT_RDWR)


class LocalSocket(Receiver):
    """Sends each event as a line of JSON to a Unix socket, which answers {"ok": true} when it has it."""

    def __init__(self, path: str, patience: float = PATIENCE) -> None:
        super().__init__(f"socket {path}", patience)
        self._path = path

    def take(self, event: Mapping[str, Any]) -> None:
        import socket

        deadline = time.monotonic() + self.patience
        answer = b""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self.patience)
                connection.connect(self._path)
                connection.sendall(body(event) + b"\n")
                while b"\n" not in answer and len(answer) < LONGEST_ANSWER:
                    connection.settimeout(max(0.001, deadline - time.monotonic()))
                    piece = connection.recv(LONGEST_ANSWER)
                    if not piece:
                        break
                    answer += piece
        except OSError as error:
            raise Refused(reason_of(error)) from None
        line, end, _ = answer.partition(b"\n")
        try:
            said = json.loads(line)
            is_taken = bool(end) and type(said) is dict and said.get("ok") is True and len(said) == 1
        except (ValueError, RecursionError):
            is_taken = False
        if not is_taken:
            raise Refused(f"it answered {one_line(line[:80].decode(errors='replace'))!r}")


def body(event: Mapping[str, Any]) -> bytes:
    """An event as JSON."""
    return json.dumps(event, separators=(",", ":")).encode()


def signature(key: bytes, content: bytes) -> str:
    """The HMAC-SHA256 of a body, in hexadecimal."""
    import hmac

    return hmac.digest(key, content, "sha256").hex()


def raw(event: Mapping[str, Any], field: str) -> bytes:
    """A field of an event as bytes; b"" if it is missing.

    Paths that are not UTF-8 have their bytes in another field (engine/audit.py, client_text()).
    """
    if f"{field}_hex" in event:
        return bytes.fromhex(event[f"{field}_hex"])
    value = event.get(field)
    return b"" if value is None else str(value).encode(errors="surrogateescape")


def filled(word: str, values: Mapping[str, bytes]) -> bytes:
    """An argument with its fields filled in, once: fields in the values are not filled in."""
    found = b""
    rest = word
    while rest:
        before, brace, behind = rest.partition("{")
        name, end, after = behind.partition("}")
        if brace and end and name in values:
            found += before.encode(errors="surrogateescape") + values[name]
            rest = after
        else:
            found += (before + brace).encode(errors="surrogateescape")
            rest = behind
    return found
