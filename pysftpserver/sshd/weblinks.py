"""`ssh HOST web`: asks the server for browsers for a link that opens the session of a user there.

Loaded when the first user asks. What may not enter: SSH, what a link opens. Facts: unix(7) on SO_PEERCRED.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import time

from pysftpserver.engine.audit import new_session
from pysftpserver.failures import one_line, reason_of
from pysftpserver.pysftpexceptions import SFTPSessionEnd
from pysftpserver.service.audit import DoorAudit, sink_of
from pysftpserver.service.sums import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.sshd.connection import Connection
    from pysftpserver.sshd.server import Server

PATIENCE = 10.0  # seconds each for the answer and the record in the audit log
LONGEST_ANSWER = 8192  # bytes, including the line end
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
FAILED = 1  # exit status
AWAY = "no link: the server for browsers does not answer; tell its administrator"
UNRECORDED = "no link: it could not be recorded; tell the administrator of this server"


class NoLink(Exception):
    """No link could be had. words: for the user. The text is for the log."""

    def __init__(self, why: str, words: str = AWAY) -> None:
        super().__init__(why)
        self.words = words


async def output(server: Server, connection: Connection, path: str) -> Output:
    """What the command prints. path: of the socket. Both logs tell of it, without the link."""
    began, log = time.monotonic(), server.log_of(connection)
    url, refusal = "", None
    assert connection.user is not None
    try:
        async with asyncio.timeout(PATIENCE):
            try:
                url = await link(path, connection.user.name, connection.address)
            except NoLink as error:
                refusal = error
            if server.settings.audit is not None:
                result = "FAILURE" if refusal else "OK"
                await _recorded(server, connection, result, time.monotonic() - began)
    except TimeoutError:
        refusal = NoLink(f"no answer in {PATIENCE:g} seconds")
    except (OSError, SFTPSessionEnd) as error:
        refusal = NoLink(f"it could not be recorded: {reason_of(error)}", UNRECORDED)
    except Exception as error:  # a fault in this program
        log.fault(error)
        refusal = NoLink(f"internal error ({type(error).__name__})")
    if refusal is not None:
        log.error(f"no link for a browser: web_socket {path}: {refusal}")
        return Output(b"", f"{refusal.words}\n".encode(), FAILED)
    log.info("was given a link for a browser")
    return Output(f"{url}\n".encode())


async def link(path: str, user: str, address: str) -> str:
    """The URL for a user who is logged in from an address. Raises NoLink."""
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_ANSWER)
    except OSError as error:
        raise NoLink(reason_of(error)) from None
    try:
        raw = writer.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size
        )
        uid = CREDENTIALS.unpack(raw)[1]
        if uid not in (0, os.geteuid()):
            raise NoLink(f"user {uid} listens there, who is neither root nor this server's account")
        writer.write(json.dumps({"user": user, "address": address}).encode() + b"\n")
        answer = json.loads(await reader.readline())
        if isinstance(answer.get("error"), str):
            why = one_line(answer["error"])
            raise NoLink(why, f"no link: {why}")
        url = answer["url"]
        if not isinstance(url, str) or not url.isprintable():
            raise ValueError
    except OSError as error:
        raise NoLink(reason_of(error)) from None
    except (ValueError, LookupError, AttributeError):
        raise NoLink("the answer is not from pysftpweb") from None
    finally:
        writer.transport.abort()
    return url


def _recorded(server: Server, connection: Connection, result: str, seconds: float) -> asyncio.Future[None]:
    """Write the record. Raises OSError, SFTPSessionEnd."""
    settings, user = server.settings, connection.user
    assert settings.audit is not None and user is not None
    path, is_chained = settings.audit, settings.audit_chain
    who = user.name, connection.address, connection.port
    log = server.log_of(connection)

    def record() -> None:
        sink = sink_of(path, is_chained)
        records = DoorAudit(sink, *who, log, number=connection.number, session=new_session())
        records.note("web", result, seconds=seconds)

    return server.threads.run(user.name, record, "beginning")
