"""The admin socket for pysftpctl: a local socket on which each line of JSON is answered by another.

{"ask": "sessions"}, {"ask": "end", "number": N} or {"ask": "end", "user": NAME}, {"ask": "figures"},
{"ask": "bans"}, {"ask": "ban", "address": A, "seconds": N}, {"ask": "lift", "address": A},
{"ask": "health"}, {"ask": "about"}, {"ask": "notes"}; anything else is answered by {"error": TEXT}. Only root
and the server's account may ask. The sockets are opened before the first fork, and stay open while a process
is replaced. What may not enter: commands, HTTP, SSH. Facts: unix(7) on SO_PEERCRED.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from contextlib import suppress

from pysftpserver.host.accounts import own_reason
from pysftpserver.service.accepting import Acceptor
from pysftpserver.service.admin_client import LONGEST_QUESTION, AdminError, path_of
from pysftpserver.service.localsockets import Taken, listen, turn
from pysftpserver.service.networks import address_of
from pysftpserver.service.settings import LONGEST_SPAN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.sshd.banning import Banning
    from pysftpserver.sshd.sessions import Sessions

BACKLOG = 16
PATIENCE = 10.0  # seconds for a question to arrive, and for an answer to be taken
HEARING = 1.0  # seconds to receive a question that is refused
MOST_ASKING = 16  # clients at once
RESERVED_DESCRIPTORS = 4  # for questions when no others are left
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
LONGEST_USER = 1024  # characters
ANSWERS = {"end": "ended", "ban": "banned", "lift": "lifted"}  # the key of an answer that is not the question


# --- before there is a second process ---------------------------------------------------------------------


def listening(path: str, processes: int) -> list[socket.socket]:
    """A listening socket for each process, in order. Raises AdminError if another server has one of them."""
    sockets: list[socket.socket] = []
    try:
        with turn(path):
            for process in range(processes):
                sockets.append(listen(path_of(path, process, processes), socket.SOCK_STREAM, BACKLOG))
    except BaseException as error:
        remove(sockets, path, processes)
        if isinstance(error, Taken):
            raise AdminError(f"admin_socket {path}: {error}") from None
        if isinstance(error, OSError):
            raise AdminError(
                f"admin_socket {path}: {own_reason(error)}; name a path in a directory of this account"
            ) from None
        raise
    return sockets


def remove(sockets: Sequence[socket.socket], path: str, processes: int) -> None:
    """Close what listening() has opened, and remove the files."""
    for process, one in enumerate(sockets):
        one.close()
        with suppress(OSError):
            os.unlink(path_of(path, process, processes))


# --- in each process --------------------------------------------------------------------------------------


class Admin:
    """Answers questions in one process. sessions, banning: its own."""

    def __init__(self, sessions: Sessions, banning: Banning, process: int, log: SFTPLog) -> None:
        self._sessions = sessions
        self._banning = banning
        self._process = process
        self._log = log
        self._asking: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._waiting: dict[asyncio.StreamWriter, None] = {}  # clients that are being waited for, in turn
        self._listener: Acceptor | None = None
        self._questions: dict[str, tuple[Callable[..., Awaitable[Any]], tuple[str, ...]]] = {
            "sessions": (sessions.all, ()),
            "end": (self._end, ("number", "user")),
            "figures": (sessions.figures, ()),
            "health": (sessions.health, ()),
            "about": (sessions.about, ()),
            "notes": (sessions.notes, ()),
            "bans": (self._bans, ()),
            "ban": (self._ban, ("address", "seconds")),
            "lift": (self._lift, ("address",)),
        }

    async def start(self, listening: socket.socket) -> None:
        """Answer on a listening socket."""

        def asked() -> asyncio.StreamReaderProtocol:
            reader = asyncio.StreamReader(limit=LONGEST_QUESTION)
            return asyncio.StreamReaderProtocol(reader, self._serve)

        self._listener = Acceptor(
            listening, asked, self._log, "admin socket", RESERVED_DESCRIPTORS, serves_in_need=True
        )

    async def close(self) -> None:
        """Stop answering."""
        if self._listener is not None:
            self._listener.close()
        for writer in self._asking:
            writer.transport.abort()
        # asyncio would print a traceback for each task that is cancelled when the loop ends.
        await asyncio.gather(*filter(None, self._asking.values()), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refusal = self._refusal(writer)
        self._asking[writer] = asyncio.current_task()
        self._waiting[writer] = None
        try:
            if refusal is not None:
                await _hear(reader)
                await _say(writer, {"error": refusal})
            else:
                await self._talk(reader, writer)
            writer.close()
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            self._forget(writer)

    def _forget(self, writer: asyncio.StreamWriter) -> None:
        self._asking.pop(writer, None)
        self._waiting.pop(writer, None)

    def _refusal(self, writer: asyncio.StreamWriter) -> str | None:
        """Why a client may not ask, or None."""
        raw = writer.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size
        )
        uid = CREDENTIALS.unpack(raw)[1]
        if uid not in (0, os.geteuid()):
            self._log.error(f"admin socket: user {uid} was refused")
            return "only root and the server's account may ask"
        if len(self._asking) < MOST_ASKING:
            return None
        if not self._waiting:
            return "too many clients; try again"
        longest = next(
            iter(self._waiting)
        )  # a client that sends nothing, or reads no answer, must not block others
        self._forget(longest)
        longest.transport.abort()
        return None

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one question after another. Raises OSError, TimeoutError."""
        while True:
            try:
                line = await asyncio.wait_for(reader.readuntil(b"\n"), PATIENCE)
            except asyncio.LimitOverrunError:
                await _say(writer, {"error": f"the question is longer than {LONGEST_QUESTION} bytes"})
                return
            except TimeoutError:
                await _say(writer, {"error": f"no question in {PATIENCE:g} seconds"})
                return
            except asyncio.IncompleteReadError as error:
                if error.partial.strip():
                    await self._answer(writer, error.partial)
                return
            await self._answer(writer, line)

    async def _answer(self, writer: asyncio.StreamWriter, line: bytes) -> None:
        """Answer a line. Raises OSError, TimeoutError."""
        self._waiting.pop(writer, None)
        answer = await self.answer(line)
        self._waiting[writer] = None
        await _say(writer, answer)

    async def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to a line."""
        try:
            question = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "the question is not valid JSON"}
        if not isinstance(question, dict):
            return {"error": "the question is not a JSON object"}
        asked = question.pop("ask", None)
        if not isinstance(asked, str) or asked not in self._questions:
            return {"error": f"ask has to be one of {', '.join(self._questions)}"}
        method, fields = self._questions[asked]
        unknown = sorted(question.keys() - set(fields))
        if unknown:
            return {"error": f"{asked} does not go with {ascii(unknown[0])[:80]}"}
        try:
            answer = await method(**question)
            return {"process": self._process, "pid": os.getpid(), ANSWERS.get(asked, asked): answer}
        except BadQuestion as error:
            return {"error": str(error)}
        except Exception as error:
            self._log.fault(error)
            return {"error": f"internal error ({type(error).__name__}); the log says more"}

    async def _end(self, number: Any = None, user: Any = None) -> list[int]:
        if (number is None) == (user is None):
            raise BadQuestion("end goes with a number or a user")
        if number is not None and type(number) is not int:
            raise BadQuestion("number has to be a whole number")
        if user is not None and (not isinstance(user, str) or len(user) > LONGEST_USER):
            raise BadQuestion(f"user has to be a text of up to {LONGEST_USER} characters")
        return await self._sessions.end(number, user)

    async def _bans(self) -> list[dict[str, Any]]:
        # In a thread: with a full table, this takes about 20 milliseconds in each process.
        return await asyncio.to_thread(self._banning.listed)

    async def _ban(self, address: Any = None, seconds: Any = None) -> str:
        if type(seconds) is not int or not 0 < seconds <= LONGEST_SPAN:
            raise BadQuestion(f"seconds has to be a whole number from 1 to {LONGEST_SPAN}")
        try:
            return self._banning.ban(_address(address), seconds)
        except ValueError as error:
            raise BadQuestion(str(error)) from None

    async def _lift(self, address: Any = None) -> bool:
        return self._banning.lift(_address(address))


def _address(text: Any) -> str:
    """The address in a question, which may also be a network as the list of bans shows it."""
    address = address_of(text.removesuffix("/64")) if isinstance(text, str) else None
    if address is None:
        raise BadQuestion("address has to be an address of IPv4 or IPv6")
    return str(address)


class BadQuestion(Exception):
    """A question that cannot be answered; the text says why."""


async def _hear(reader: asyncio.StreamReader) -> None:
    """Receive a question that is refused: closing the socket before that would lose the refusal."""
    with suppress(TimeoutError, asyncio.LimitOverrunError, asyncio.IncompleteReadError):
        await asyncio.wait_for(reader.readuntil(b"\n"), HEARING)


async def _say(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    """Send an answer. Raises OSError, and TimeoutError if the client does not read it."""
    writer.write(json.dumps(answer).encode() + b"\n")
    await asyncio.wait_for(writer.drain(), PATIENCE)
