"""Asking a server that runs on this host: a question and its answer, each a line of JSON on a local socket.

It is for commands and threads, and waits. What may not enter: asyncio, the server itself, what is asked.
Facts: unix(7).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST_QUESTION = 4096  # bytes, with the line's end
LONGEST_ANSWER = 64 << 20
PATIENCE = 5.0  # seconds


class AdminError(Exception):
    """A socket cannot be used, or the server refuses. The text is one line."""


class NobodyThere(AdminError):
    """No server listens there."""


def path_of(path: str, process: int, processes: int) -> str:
    """The socket of one of so many processes."""
    return path if processes == 1 else f"{path}.{process}"


def found(path: str) -> list[str]:
    """The sockets that are there of the server whose option names this path, whatever its processes."""
    directory, name = os.path.split(os.path.abspath(path))
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise AdminError(f"admin_socket {path}: {(error.strerror or 'failure').lower()}") from None
    pattern = re.compile(re.escape(name) + r"(?:\.([0-9]{1,3}))?")
    matches = filter(None, map(pattern.fullmatch, names))
    numbered = sorted((int(match[1] or -1), match[0]) for match in matches)
    return [os.path.join(directory, found_name) for _, found_name in numbered]


def ask(path: str, question: dict[str, Any], patience: float = PATIENCE) -> dict[str, Any]:
    """The answer of one process. patience: seconds, for all of it. Raises AdminError."""
    deadline = time.monotonic() + patience
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(patience)
            connection.connect(path)
            with contextlib.suppress(BrokenPipeError):  # who may not ask is told so before
                connection.sendall(json.dumps(question).encode() + b"\n")
            line = _line(connection, deadline)
        answer = json.loads(line)
    except (ConnectionRefusedError, FileNotFoundError):
        raise NobodyThere(f"admin_socket {path}: no server listens there") from None
    except TimeoutError:
        raise AdminError(f"admin_socket {path}: no answer in {patience:g} seconds") from None
    except OSError as error:
        raise AdminError(f"admin_socket {path}: {(error.strerror or str(error)).lower()}") from None
    except ValueError:
        raise AdminError(f"admin_socket {path}: what answers is no pysftpd") from None
    if not isinstance(answer, dict):
        raise AdminError(f"admin_socket {path}: what answers is no pysftpd")
    if "error" in answer:
        raise AdminError(f"admin_socket {path}: {answer['error']}")
    return answer


def _line(connection: socket.socket, deadline: float) -> bytes:
    """What comes, up to the end of a line. Raises OSError, ValueError."""
    parts: list[bytes] = []
    length = 0
    while not parts or not parts[-1].endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        part = connection.recv(1 << 16)
        length += len(part)
        if not part or length > LONGEST_ANSWER:
            raise ValueError("no line")
        parts.append(part)
    return b"".join(parts)
