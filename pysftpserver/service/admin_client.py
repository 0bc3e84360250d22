"""Asks a running server on this host: a question and its answer, each a line of JSON on a local socket.

For commands and threads: it blocks. What may not enter: asyncio, the server itself, what answers mean.
Facts: unix(7).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time

from pysftpserver.failures import Unavailable
from pysftpserver.host.accounts import own_reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

LONGEST_QUESTION = 4096  # bytes, with the line's end
LONGEST_ANSWER = 64 << 20
PATIENCE = 5.0  # seconds


class AdminError(Unavailable):
    """A socket cannot be used, or the server refuses. The text is one line."""


class NoServer(AdminError):
    """No server listens there."""


def path_of(path: str, process: int, processes: int) -> str:
    """The socket of one process. processes: how many there are."""
    return path if processes == 1 else f"{path}.{process}"


def found(path: str) -> list[str]:
    """The sockets of all processes of the server that was given this path. Raises AdminError."""
    directory, name = os.path.split(os.path.abspath(path))
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise AdminError(f"admin_socket {path}: {own_reason(error)}") from None
    pattern = re.compile(re.escape(name) + r"(?:\.([0-9]{1,3}))?")
    matches = filter(None, map(pattern.fullmatch, names))
    numbered = sorted((int(match[1] or -1), match[0]) for match in matches)
    return [os.path.join(directory, found_name) for _, found_name in numbered]


def ask_all(
    path: str, question: dict[str, Any], warn: Callable[[str], None], most: int | None = None
) -> list[dict[str, Any]]:
    """The answers of all processes that answer, or of the first ones. warn: called for those that do not.

    Raises AdminError if none answers.
    """
    answers: list[dict[str, Any]] = []
    failures = []
    for one in found(path):
        if len(answers) == most:
            break
        try:
            answers.append(ask(one, question))
        except NoServer:
            pass  # left behind by an earlier server
        except AdminError as error:
            failures.append(error.message)
    if not answers:
        raise AdminError((failures or [f"admin_socket {path}: no server listens there"])[0])
    for failure in failures:
        warn(failure)
    return answers


def oldest_first(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sessions in the answers of all processes."""
    sessions = [session for answer in answers for session in answer["sessions"]]
    return sorted(sessions, key=lambda session: (session["since"], session["number"]))


def ask(
    path: str, question: dict[str, Any], patience: float = PATIENCE, setting: str = "admin_socket"
) -> dict[str, Any]:
    """The answer of one process. patience: seconds in all. setting: the socket's name in messages.

    Raises AdminError.
    """
    import socket  # here: pysftpctl starts without it

    deadline = time.monotonic() + patience
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(patience)
            connection.connect(path)
            with contextlib.suppress(BrokenPipeError):  # a refusal may arrive before the question is sent
                connection.sendall(json.dumps(question).encode() + b"\n")
            line = _line(connection, deadline)
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise ValueError
    except (ConnectionRefusedError, FileNotFoundError):
        raise NoServer(f"{setting} {path}: no server listens there") from None
    except TimeoutError:
        raise AdminError(f"{setting} {path}: no answer in {patience:g} seconds") from None
    except OSError as error:
        raise AdminError(f"{setting} {path}: {own_reason(error)}") from None
    except EOFError:
        raise AdminError(f"{setting} {path}: the server has closed the connection; try again") from None
    except ValueError:
        raise AdminError(f"{setting} {path}: the answer is not from a server of ours") from None
    if "error" in answer:
        raise AdminError(f"{setting} {path}: {answer['error']}")
    return answer


def _line(connection: socket.socket, deadline: float) -> bytes:
    """Receive a line. Raises OSError, EOFError if nothing arrives, and ValueError if it has no end."""
    parts: list[bytes] = []
    length = 0
    while not parts or not parts[-1].endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        part = connection.recv(1 << 16)
        length += len(part)
        if not part and not parts:
            raise EOFError
        if not part or length > LONGEST_ANSWER:
            raise ValueError("no line")
        parts.append(part)
    return b"".join(parts)
