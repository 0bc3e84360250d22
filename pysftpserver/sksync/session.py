"""A server's side of one sync, from the first line to the last.

Storages block, so their work is done in other threads: one received piece, or one block to be sent, at a
time. What may not enter: how connections are made, concrete storages. Facts: docs/sksync.md, "The protocol".
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import partial

from pysftpserver.engine.log import VERBOSE
from pysftpserver.failures import BadInput, reason_of
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.service.audit import DoorAudit
from pysftpserver.service.budget import Exhausted, Portion
from pysftpserver.service.patience import OutOfPatience
from pysftpserver.service.throttle import network_of
from pysftpserver.sksync import listing, plan, wire
from pysftpserver.sksync.connection import ConnectionEnded
from pysftpserver.sksync.logins import LoginFailed
from pysftpserver.sksync.parsing import Damaged, ListingParser, UploadParser
from pysftpserver.sksync.receiving import MOST_SECONDS, Receiver
from pysftpserver.sksync.sending import CannotSend, Sender
from pysftpserver.sksync.shares import NotShared
from pysftpserver.sksync.wire import Dialect, Malformed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Any, Protocol, TypeVar

    from pysftpserver.engine.audit import Sink
    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.service.budget import Budget
    from pysftpserver.sksync.config import ServerSettings
    from pysftpserver.sksync.connection import Connection
    from pysftpserver.sksync.listing import Listing
    from pysftpserver.sksync.logins import Logins
    from pysftpserver.sksync.shares import Find, Share

    Result = TypeVar("Result")

    class InThread(Protocol):
        """Calls a function in another thread and waits for its end, even if the waiting is cancelled."""

        def __call__(self, function: Callable[..., Result], *arguments: Any) -> Awaitable[Result]: ...


ASKED_AHEAD = 64 << 10  # bytes of names that were requested and whose contents have not arrived yet
EACH = 64  # bytes credited for a file in addition to its content: a peer may slowly send many empty files
MOST_TOLD = 20  # most log lines for each kind of failure in a session


class Incomplete(Exception):
    """Not everything that was planned could be done. The text is for the log."""


@dataclass(eq=False)
class Session:
    """One sync. run() raises nothing except when it is cancelled.

    shares: directories that clients may name. logins: who may log in. memory: for the listings of all
    clients. must_be_in: time of the event loop by which the client has to name a directory. sink: of the
    audit log, or None. user: who has logged in. is_syncing: whether the client has named a directory.
    """

    connection: Connection
    settings: ServerSettings
    shares: Find
    logins: Logins
    log: SFTPLog
    in_thread: InThread
    memory: Budget
    must_be_in: float
    sink: Sink | None = None
    user: str | None = None
    is_syncing: bool = False
    _failed: int = 0
    _what: str = ""

    def __post_init__(self) -> None:
        address = self.connection.address
        self._audit = None if self.sink is None else DoorAudit(self.sink, "", *address, self.log)
        self._who = self.connection.peer
        self._told: dict[str, int] = {}  # number of failures for each reason

    async def run(self) -> None:
        """Serve the client until the sync ends."""
        try:
            await self._sync()
        except LoginFailed as error:
            self.connection.send(wire.END)
            self._tell(f"login refused: {error}")
        except (Malformed, Damaged, NotShared, OutOfPatience, ConnectionEnded, CannotSend, Incomplete) as why:
            self._tell(f"ended: {why}")
        except Exhausted as error:
            self._tell(
                f"ended: {self._what}its listings need too much memory: {error} (max_listing_memory); "
                "it can try again when others have finished"
            )
        except (BadInput, OSError, SFTPException) as error:
            self._tell(f"ended: {self._what}{reason_of(error)}")
        except Exception as error:  # a bug in a storage, or ours
            self._tell("ended by a fault:")
            self.log.fault(error)
        finally:
            if self._audit is not None:
                self._audit.ended()

    def _tell(self, text: str) -> None:
        self.log.error(f"{self._who}: {text}")

    # --- the beginning ------------------------------------------------------------------------------------

    async def _sync(self) -> None:
        limit = asyncio.timeout_at(self.must_be_in)
        try:
            async with limit:
                share = await self._first_request()
        except TimeoutError:
            if not limit.expired():  # the storage raised it
                raise
            grace = self.settings.login_grace
            raise ConnectionEnded(f"no login and directory within {grace:g} seconds (login_grace)") from None
        self._top = share.top
        self.is_syncing = True
        self.connection.trust()
        holder = network_of(self.connection.address[0]) if self.user is None else f"user {self.user}"
        memory = Portion(self.memory, holder)
        try:
            await self._sync_with(share, memory)
        finally:
            memory.give_back()
            await self.in_thread(share.storage.release)

    async def _first_request(self) -> Share:
        """Handle everything up to the directory that the client names."""
        connection = self.connection
        self._dialect = dialect = await self._introduction()
        connection.send(wire.ESTABLISHED)
        self._type = wire.parse_type(await connection.line())
        self._is_recursive = wire.parse_recursive(await connection.line())
        path = dialect.decode(await connection.line())
        if "\0" in path:
            raise Malformed("a path with a NUL character in it")
        self._what = f"{self._type.name.lower()} of {path!a}: "
        return await self.in_thread(self.shares, path, self.user)

    async def _sync_with(self, share: Share, memory: Portion) -> None:
        connection, dialect = self.connection, self._dialect
        dialect.decode(await connection.line())  # the client's path, which only the client needs
        if dialect.has_digests:
            connection.send(wire.WITH_DIGESTS)
        theirs = await self._their_listing(memory)
        here = await self.in_thread(self._own_listing, share, memory)
        planned = await self.in_thread(self._plan, theirs.files, here)
        received = await self._receive(planned.to_server, theirs.files, share, here)
        connection.send(wire.END)
        sent = await self._send(planned.from_server, share, here)
        if self._failed:
            # The client has to know, and the protocol has no other way to tell it.
            raise Incomplete(f"{self._what}{self._failed} failed; {received}, {sent}")
        connection.send(wire.END)
        self.log.info(f"{self._who}: {self._what}{received}, {sent}")

    async def _introduction(self) -> Dialect:
        """The login, if there is one, and the name of the protocol."""
        line = await self.connection.line()
        if line.startswith(wire.SRP_START):
            try:
                await self._login(line)
            except LoginFailed:
                self._note("login", "PERMISSION_DENIED")
                raise
            line = await self.connection.line()
        elif self.settings.needs_login:
            wire.parse_dialect(line)
            raise LoginFailed("the client does not log in (require_auth)")
        dialect = wire.parse_dialect(line)
        if self.settings.sksync1_compat and dialect is not Dialect.SKSYNC_1:
            raise Malformed(f"{dialect.title}, where sksync1_compat wants sksync 1")
        return dialect

    async def _login(self, line: bytes) -> None:
        try:
            from pysftpserver.sksync import srp  # servers without users do not need srptools
        except ModuleNotFoundError:
            raise LoginFailed("srptools is not installed") from None
        logins, host = self.logins, self.connection.address[0]
        logins.check(host)
        known, answer = "the login is malformed", None
        try:
            user, public = wire.parse_srp_start(line)
            # An unknown name may be a password that was typed in the wrong place: it is not logged.
            known = f"user {user!a}" if user in logins.users else "an unknown user"
            login = srp.ServerLogin(logins.users, logins.decoy)
            salt, own_public = await self.in_thread(login.challenge, user, public)
            proof = b""
            if not login.must_abort:
                self.connection.send(wire.srp_challenge(salt, own_public))
                proof = wire.parse_hex(await self.connection.line())
            answer = login.answer(proof)
        except (srp.Refused, Malformed):
            raise LoginFailed(known) from None
        finally:
            if answer is None:  # also if the client has disconnected: floods aim at the calculation
                logins.failed(host)
        logins.check(host)  # again, so that many connections at once cannot get around it
        self.user = user
        self.connection.send(wire.srp_proof(answer))
        self._who = f"{self._who} {user!a}"
        if self._audit is not None:
            self._audit.set_user(user)
        self._note("login")

    async def _their_listing(self, memory: Portion) -> ListingParser:
        most_names, most_bytes = self.settings.max_names, self.settings.max_listing_bytes
        parser = ListingParser(self._dialect, self._is_recursive, most_names, most_bytes, memory.take)
        while not parser.is_done:
            await self._feed(parser, "in its listing")
        if parser.undecodable:
            self._tell(
                f"{parser.undecodable} names in its listing are not {self._dialect.encoding}: left out"
            )
        return parser

    async def _feed(self, parser: ListingParser | UploadParser, where: str) -> None:
        """Give a parser everything that has arrived. where: for the log, if the client has gone."""
        pieces = await self.connection.receive_all()
        if not pieces:
            raise ConnectionEnded(f"the client has gone {where}")
        for rest in reversed(await self.in_thread(feed, parser, pieces)):
            self.connection.put_back(rest)

    def _own_listing(self, share: Share, memory: Portion) -> Listing:
        here = listing.listing(
            share.storage,
            share.top,
            self._is_recursive,
            self._dialect,
            self.settings.filter_fnmatch_exclude,
            self._type.to_server,
            memory.take,
        )
        return here

    def _plan(self, theirs: dict[str, int], here: Listing) -> plan.Plan:
        """The plan, without files that cannot be sent or received."""
        for name in [name for name in theirs if here.is_excluded(name)]:
            del theirs[name]
        planned = plan.plan(theirs, here.files, self._type)
        refused = {name: why for name in planned.to_server if (why := here.refuses(name)) is not None}
        planned.to_server = [name for name in planned.to_server if name not in refused]
        for name, why in refused.items():
            self._fail(name, why)
        for directory, why in here.unlisted.items():
            self._fail(directory, why)
        if here.unencodable:
            shown = ", ".join(repr(path) for path in here.unencodable[:MOST_TOLD])
            self._tell(f"{len(here.unencodable)} names cannot be encoded in {self._dialect.title}: {shown}")
        return planned

    def _fail(self, name: str, why: str) -> None:
        self._failed += 1
        told = self._told[why] = self._told.get(why, 0) + 1
        if told <= MOST_TOLD:
            self._tell(f"{name!a}: {why}")

    # --- the files ----------------------------------------------------------------------------------------

    async def _receive(self, names: list[str], times: dict[str, int], share: Share, here: Listing) -> str:
        """Ask for files and receive them. Returns what was done, in words."""
        receiver = Receiver(
            share.storage,
            share.top,
            here,
            self._type,
            self.settings.ignore_time_errors,
            partial(self._on_moved, "received", "put"),
            self._fail,
            self._on_overtaken,
        )
        parser = UploadParser(self._dialect, receiver, ((name, times[name]) for name in names))
        requests = Requests(line for name in names if (line := self._dialect.encode(name)) is not None)
        try:
            came = 0
            while not parser.is_done:
                if ask := requests.after(came):
                    # Do not wait until it is sent: a client does not read while it sends, and both sides
                    # would wait for ever.
                    self.connection.send(ask)
                if receiver.has_waiting and await self.connection.is_quiet(MOST_SECONDS):
                    await self.in_thread(receiver.commit)
                before = parser.count
                await self._feed(parser, f"before {names[before]!r} was complete")
                came = parser.count - before
                self.connection.credit(came * EACH)
        finally:
            await self.in_thread(receiver.close)
        if receiver.leftovers:
            self.log.info(f"{self._who}: removed {receiver.leftovers} temporary files of interrupted syncs")
        if receiver.time_errors:
            self._tell(f"{receiver.time_errors} modification times could not be set")
        return f"received {receiver.count} files, {receiver.size} bytes"

    async def _send(self, names: list[str], share: Share, here: Listing) -> str:
        """Send files; while one block is sent, the next is read. Returns what was done, in words."""
        sender = Sender(share.storage, share.top, self._dialect, partial(self._on_moved, "sent", "get"))
        files = ((name, here.files[name]) for name in names)
        blocks = sender.downloads(files, self._on_unreadable)
        reading = asyncio.ensure_future(self.in_thread(next, blocks, None))
        try:
            while (block := await reading) is not None:
                reading = asyncio.ensure_future(self.in_thread(next, blocks, None))
                self.connection.send(block)
                await self.connection.sent()
        finally:
            if not reading.done():
                await asyncio.wait([reading])
            reading.cancelled() or reading.exception()
            await self.in_thread(blocks.close)
        return f"sent {sender.count} files, {sender.size} bytes"

    def _on_moved(self, word: str, request: str, name: str, size: int) -> None:
        self.log.write(VERBOSE, f"{self._who}: {word} {name!a}, {size} bytes")
        self._note(request, path=self._top + name.encode(), size=size)

    def _on_overtaken(self, name: str, why: str) -> None:
        # Not a failure: often another client has sent it. A sync that began now would not ask for it.
        self.log.info(f"{self._who}: {name!a}: {why}; it was kept")

    def _note(self, request: str, result: str = "OK", path: bytes | None = None, size: int = 0) -> None:
        """Record something in the audit log, if there is one."""
        if self._audit is not None:
            self._audit.note(request, result, path=path, size=size)

    def _on_unreadable(self, name: str, why: str, is_missing: bool) -> None:
        if is_missing:
            self.log.info(f"{self._who}: {name!a} was removed before it could be sent")
        else:
            self._fail(name, why)


def feed(parser: ListingParser | UploadParser, pieces: list[bytes]) -> list[bytes]:
    """Feed pieces to a parser in order; return the unused ones."""
    for number, piece in enumerate(pieces):
        used = parser.feed(piece, 0, len(piece))
        if parser.is_done:
            return [piece[used:], *pieces[number + 1 :]]
    return []


class Requests:
    """Lines that ask for files, sent ahead of their contents, up to ASKED_AHEAD bytes.

    lines: one for each file. A client that has sent a file already has the next name, so that neither side
    waits for the other between two small files.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._lengths: deque[int] = deque()  # of sent lines whose contents have not arrived
        self._ahead = 0  # their sum in bytes

    def after(self, came: int) -> bytes:
        """The lines to send now. came: number of contents that have arrived since the last call."""
        for _ in range(came):
            self._ahead -= self._lengths.popleft()
        if self._ahead > ASKED_AHEAD // 2:
            return b""
        lines = []
        while self._ahead < ASKED_AHEAD and (line := next(self._lines, None)) is not None:
            lines.append(line)
            self._lengths.append(len(line))
            self._ahead += len(line)
        return b"".join(lines)
