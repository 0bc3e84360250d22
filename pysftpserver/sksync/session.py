"""A server's side of one sync, from the first line to the last.

What may not enter: how connections are made, concrete storages. Storages block, so what they do is done in
other threads, a whole piece of what was received or a whole block to be sent at a time.
Facts: docs/sksync.md, "What is said".
"""

from __future__ import annotations

import asyncio
from collections import deque

from pysftpserver.engine.log import VERBOSE
from pysftpserver.failures import reason_of
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.service.patience import OutOfPatience
from pysftpserver.sksync import listing, plan, wire
from pysftpserver.sksync.connection import ConnectionEnded
from pysftpserver.sksync.parsing import Damaged, ListingParser, UploadParser
from pysftpserver.sksync.receiving import Receiver
from pysftpserver.sksync.sending import CannotSend, Sender
from pysftpserver.sksync.shares import NotShared
from pysftpserver.sksync.wire import Dialect, Malformed
from pysftpserver.uploads.leftovers import remove_leftovers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Any, Protocol, TypeVar

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.sksync.config import Config
    from pysftpserver.sksync.connection import Connection
    from pysftpserver.sksync.listing import Listing
    from pysftpserver.sksync.shares import Share

    Result = TypeVar("Result")

    class Shares(Protocol):
        """What is shared."""

        def find(self, path: str) -> Share:
            """The directory that a client names. Raises NotShared."""

    class InThread(Protocol):
        """Calls a function in another thread, and waits for it, even where the waiting is cancelled."""

        def __call__(self, function: Callable[..., Result], *arguments: Any) -> Awaitable[Result]: ...


ASKED_AHEAD = 64 << 10  # bytes of names that were asked for and whose contents did not come yet
EACH = 64  # bytes that a file counts as beside its content, for a peer that sends many empty ones slowly
MOST_TOLD = 20  # of each kind of thing that is logged for a session


class LoginFailed(Exception):
    """Whoever it is may not sync. The text is for the log."""


class Incomplete(Exception):
    """Not all that was planned could be done. The text is for the log."""


class Session:
    """One sync. run() raises nothing but what cancels it."""

    def __init__(
        self,
        connection: Connection,
        config: Config,
        shares: Shares,
        decoy: bytes,
        log: SFTPLog,
        in_thread: InThread,
    ) -> None:
        self._connection = connection
        self._config = config
        self._shares = shares
        self._decoy = decoy
        self._log = log
        self._in_thread = in_thread
        self._who = connection.peer
        self._failed = 0
        self._what = ""
        self._told: dict[str, int] = {}  # how often each reason was one for a failure

    async def run(self) -> None:
        """Serve the client to its end."""
        try:
            await self._sync()
        except LoginFailed as error:
            self._connection.send(wire.END)
            self._tell(f"login refused: {error}")
        except (Malformed, Damaged, NotShared, OutOfPatience, ConnectionEnded, CannotSend, Incomplete) as why:
            self._tell(f"ended: {why}")
        except (OSError, SFTPException) as error:
            self._tell(f"ended: {self._what}{reason_of(error)}")
        except Exception as error:  # a storage's fault, or ours
            self._tell("ended by a fault:")
            self._log.fault(error)

    def _tell(self, text: str) -> None:
        self._log.error(f"{self._who}: {text}")

    # --- the beginning ------------------------------------------------------------------------------------

    async def _sync(self) -> None:
        connection = self._connection
        self._dialect = dialect = await self._introduction()
        connection.send(wire.ESTABLISHED)
        self._type = wire.parse_type(await connection.line())
        self._is_recursive = wire.parse_recursive(await connection.line())
        path = dialect.decode(await connection.line())
        if "\0" in path:
            raise Malformed("a path with a zero in it")
        share = self._shares.find(path)
        self._what = f"{self._type.name.lower()} of {path!r}: "
        dialect.decode(await connection.line())  # the client's path, which is its own business
        if dialect.has_digests:
            connection.send(wire.WITH_DIGESTS)
        theirs = await self._their_listing()
        here = await self._in_thread(self._own_listing, share)
        planned = await self._in_thread(self._plan, theirs.files, here)
        received = await self._receive(planned.to_server, theirs.files, share, here)
        connection.send(wire.END)
        sent = await self._send(planned.from_server, share, here)
        if self._failed:
            # The client is to know; there is no other way to say it.
            raise Incomplete(f"{self._what}{self._failed} failed; {received}, {sent}")
        connection.send(wire.END)
        self._log.info(f"{self._who}: {self._what}{received}, {sent}")

    async def _introduction(self) -> Dialect:
        """The login, where there is one, and the name of the protocol."""
        line = await self._connection.line()
        if line.startswith(wire.SRP_START):
            await self._login(line)
            line = await self._connection.line()
        elif self._config.require_auth:
            wire.parse_dialect(line)
            raise LoginFailed("a client that does not log in (require_auth)")
        dialect = wire.parse_dialect(line)
        if self._config.sksync1_compat and dialect is not Dialect.SKSYNC_1:
            raise Malformed(f"{dialect.title}, where sksync1_compat wants sksync 1")
        return dialect

    async def _login(self, line: bytes) -> None:
        try:
            from pysftpserver.sksync import srp  # not every server has users, and then it needs no srptools
        except ModuleNotFoundError:
            raise LoginFailed("srptools is not installed") from None
        known = "no login of ours"
        try:
            user, public = wire.parse_srp_start(line)
            # Names of nobody's may be passwords that were typed in the wrong place: they are not logged.
            known = f"user {user!r}" if user in self._config.users else "an unknown user"
            login = srp.ServerLogin(self._config.users, self._decoy)
            salt, own_public = await self._in_thread(login.challenge, user, public)
            proof = b""
            if not login.must_abort:
                self._connection.send(wire.srp_challenge(salt, own_public))
                proof = wire.parse_hex(await self._connection.line())
            answer = login.answer(proof)
        except (srp.Refused, Malformed):
            raise LoginFailed(known) from None
        self._connection.send(wire.srp_proof(answer))
        self._who = f"{self._who} {user!r}"

    async def _their_listing(self) -> ListingParser:
        config = self._config
        parser = ListingParser(self._dialect, self._is_recursive, config.max_names, config.max_listing_bytes)
        while not parser.is_done:
            await self._feed(parser, "in its listing")
        if parser.undecodable:
            self._tell(f"{parser.undecodable} names in its listing are no {self._dialect.encoding}: left out")
        return parser

    async def _feed(self, parser: ListingParser | UploadParser, where: str) -> None:
        """Give a parser all that has come. where: for the log, if nothing comes any more."""
        pieces = await self._connection.receive_all()
        if not pieces:
            raise ConnectionEnded(f"it has gone {where}")
        for rest in reversed(await self._in_thread(feed, parser, pieces)):
            self._connection.put_back(rest)

    def _own_listing(self, share: Share) -> Listing:
        here = listing.listing(
            share.storage,
            share.top,
            self._is_recursive,
            self._dialect,
            self._config.excluded,
            may_be_missing=self._type.to_server,
        )
        remove_leftovers(share.storage, share.top, here.leftovers)
        return here

    def _plan(self, theirs: dict[str, int], here: Listing) -> plan.Plan:
        """What is to be done, without what cannot be."""
        for name in [name for name in theirs if here.is_excluded(name)]:
            del theirs[name]
        planned = plan.plan(theirs, here.files, self._type)
        refused = {name: why for name in planned.to_server if (why := here.refuses(name)) is not None}
        planned.to_server = [name for name in planned.to_server if name not in refused]
        for name, why in refused.items():
            self._fail(name, why)
        for directory, why in here.unlisted.items():
            self._fail(directory, why)
        if here.unsayable:
            shown = ", ".join(repr(path) for path in here.unsayable[:MOST_TOLD])
            self._tell(f"{len(here.unsayable)} names cannot be said in {self._dialect.title}: {shown}")
        return planned

    def _fail(self, name: str, why: str) -> None:
        self._failed += 1
        told = self._told[why] = self._told.get(why, 0) + 1
        if told <= MOST_TOLD:
            self._tell(f"{name!r}: {why}")

    # --- the files ----------------------------------------------------------------------------------------

    async def _receive(self, names: list[str], times: dict[str, int], share: Share, here: Listing) -> str:
        """Ask for files and receive them. What was done, in words."""
        ignores = self._config.ignore_time_errors
        receiver = Receiver(
            share.storage,
            share.top,
            here,
            self._type,
            ignores,
            self._on_received,
            self._fail,
            self._on_overtaken,
        )
        parser = UploadParser(self._dialect, receiver, ((name, times[name]) for name in names))
        requests = Requests(line for name in names if (line := self._dialect.encode(name)) is not None)
        try:
            came = 0
            while not parser.is_done:
                if ask := requests.after(came):
                    # Nobody waits until it is sent: a client that is sending does not read, and then both
                    # would wait for ever.
                    self._connection.send(ask)
                before = parser.count
                await self._feed(parser, f"before all of {names[before]!r} was there")
                came = parser.count - before
                self._connection.credit(came * EACH)
        finally:
            await self._in_thread(receiver.give_up)
        if receiver.time_errors:
            self._tell(f"{receiver.time_errors} modification times could not be set")
        return f"received {receiver.count} files, {receiver.bytes} bytes"

    async def _send(self, names: list[str], share: Share, here: Listing) -> str:
        """Send files; while one block is on its way, the next is read. What was done, in words."""
        sender = Sender(share.storage, share.top, self._dialect, self._on_sent)
        files = ((name, here.files[name]) for name in names)
        blocks = sender.downloads(files, self._on_unreadable)
        reading = asyncio.ensure_future(self._in_thread(next, blocks, None))
        try:
            while (block := await reading) is not None:
                reading = asyncio.ensure_future(self._in_thread(next, blocks, None))
                self._connection.send(block)
                await self._connection.sent()
        finally:
            if not reading.done():
                await asyncio.wait([reading])
            reading.cancelled() or reading.exception()
            await self._in_thread(blocks.close)
        return f"sent {sender.count} files, {sender.bytes} bytes"

    def _on_received(self, name: str, size: int) -> None:
        self._log.write(VERBOSE, f"{self._who}: received {name!r}, {size} bytes")

    def _on_overtaken(self, name: str, why: str) -> None:
        # No failure: another client's file, often; a sync that began now would not ask for this one.
        self._log.info(f"{self._who}: {name!r}: {why}, and stays")

    def _on_sent(self, name: str, size: int) -> None:
        self._log.write(VERBOSE, f"{self._who}: sent {name!r}, {size} bytes")

    def _on_unreadable(self, name: str, why: str, is_missing: bool) -> None:
        if is_missing:
            self._log.info(f"{self._who}: {name!r} went away before it was sent")
        else:
            self._fail(name, why)


def feed(parser: ListingParser | UploadParser, pieces: list[bytes]) -> list[bytes]:
    """Give pieces to a parser, one after the other; return what it left."""
    for number, piece in enumerate(pieces):
        used = parser.feed(piece, 0, len(piece))
        if parser.is_done:
            return [piece[used:], *pieces[number + 1 :]]
    return []


class Requests:
    """Lines that ask for files, sent ahead of the contents, but never too many.

    lines: one for each file. So a client finds the next name there when it has sent a file, and neither side
    waits for the other between two small ones.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._lengths: deque[int] = deque()  # of those that were sent, and whose contents did not come yet
        self._ahead = 0  # bytes of them

    def after(self, came: int) -> bytes:
        """What to send now. came: how many contents came since the last time."""
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
