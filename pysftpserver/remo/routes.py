"""ONE table of paths, and what each of them does for a session.

What may not enter: HTTP, cookies, how tokens are made, concrete storages.
"""

from __future__ import annotations

import functools
import logging
import tempfile
import time
from dataclasses import dataclass, field

from pysftpserver.failures import BadInput, reason_of
from pysftpserver.http.files import FileProblem, Listing, Source, Target
from pysftpserver.remo import audit, wire
from pysftpserver.remo.processes import Command, CommandProblem, Interactive, Limits, split
from pysftpserver.remo.users import Permissions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import IO, Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.remo.bodies import Exchange
    from pysftpserver.remo.config import ServerSettings
    from pysftpserver.remo.session import Session, Sessions

    OpenStorage = Callable[[str, str], SFTPAbstractServerStorage]  # of a user name and an address

log = logging.getLogger("pysftpserver.remo")
MOST_INPUT = 1 << 20  # bytes of input for an interactive command at once
MOST_CELLS = 10_000  # columns or rows of a terminal


class Refusal(Exception):
    """A request that is refused. text: one line, which reveals nothing about the host or the user."""

    def __init__(self, status: int, text: str, headers: list[tuple[str, str]] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or []


class Transfer:
    """A transfer that ends with its session."""

    def __init__(self) -> None:
        self.is_stopped = False

    def stop(self) -> None:
        self.is_stopped = True

    def go_on(self, piece: bytes) -> bytes:
        """Return the piece. Raises FileProblem once the transfer was stopped: the reply breaks off."""
        if self.is_stopped:
            raise FileProblem("the session has ended")
        return piece


@dataclass
class Answer:
    """A reply. is_eager: whether pieces are sent at once. done: called when it ends; its argument is whether
    all of it was sent.
    """

    pieces: Iterable[bytes] = (b"",)
    is_eager: bool = False
    status: int = 200
    done: Callable[[bool], None] = field(default=lambda is_whole: None)


@dataclass(frozen=True)
class Route:
    """A row. methods: HTTP methods. needs: the permission. unreadable: the status for an argument that is not
    a token; None if it takes no argument. ends_command: whether it ends a running interactive command.
    """

    serve: Callable[[Routes, Exchange, bytes], Answer]
    methods: tuple[str, ...]
    needs: Permissions
    unreadable: int | None = None
    ends_command: bool = True


class Routes:
    """What the rows of the table do.

    open_storage: opens the storage of a user for one session. may_run: whether any user may run commands.
    """

    def __init__(
        self, values: ServerSettings, sessions: Sessions, open_storage: OpenStorage, may_run: bool
    ) -> None:
        self._values = values
        self._sessions = sessions
        self._open_storage = open_storage
        self._may_run = may_run

    def answer(self, exchange: Exchange, method: str, path: str) -> Answer:
        """Serve a request. Raises Refusal, ProtocolError, TooMany."""
        session = exchange.session
        word, slash, token = path.removeprefix("/").partition("/")
        route = ROUTES.get(word)
        if route is None or not path.startswith("/") or bool(slash) != (route.unreadable is not None):
            raise Refusal(404, "no such path")
        if method not in route.methods:
            raise Refusal(405, "method not allowed", [("Allow", ", ".join(route.methods))])
        argument = b""
        if route.unreadable is not None:
            try:
                argument = session.cipher.decrypt(token.encode("latin-1"))
            except wire.ProtocolError:
                raise Refusal(route.unreadable, "the token in the path is not from this session") from None
            exchange.is_proved = True
        if exchange.is_proved:
            self._sessions.confirm(session, time.monotonic())
        if route.ends_command and session.command is not None:
            self._interrupt(session)
        if route.needs not in session.may or route.needs & Permissions.COMMANDS and not self._may_run:
            audit.record(session, word, "PERMISSION_DENIED", argument=argument)
            raise Refusal(403, "not permitted")
        try:
            return route.serve(self, exchange, argument)
        except FileProblem as error:
            audit.record(session, word, error.result, path=argument, message=str(error))
            raise Refusal(400, str(error)) from None
        except CommandProblem as error:
            session.outcome = f"127 {error}"
            audit.record(session, word, "FAILURE", command=argument, message=str(error))
            raise Refusal(400, str(error)) from None

    # --- files --------------------------------------------------------------------------------------------

    def _storage(self, session: Session) -> SFTPAbstractServerStorage:
        """The session's storage. If its directory is replaced, the next session serves the new one."""
        try:
            return session.storage(lambda: self._open_storage(session.user.name, session.address))
        except BadInput as error:
            log.error("session %s: %s", session.label, error)
            raise FileProblem("the storage cannot be opened; the server's log says more") from None

    def get(self, exchange: Exchange, name: bytes) -> Answer:
        """The content of a file."""
        self._taken(exchange, MOST_INPUT)
        session = exchange.session
        source = Source(self._storage(session), name)
        transfer, began = Transfer(), time.monotonic()
        session.begin(transfer)

        def done(is_whole: bool) -> None:
            session.done(transfer)
            source.close()
            seconds = time.monotonic() - began
            audit.record(session, "get", _result(is_whole), path=name, size=source.moved, seconds=seconds)

        pieces = source.pieces(wire.data_size(source.size))
        return Answer(map(transfer.go_on, pieces), done=done)

    def put(self, exchange: Exchange, name: bytes) -> Answer:
        """Store the body."""
        session = exchange.session
        transfer, began = Transfer(), time.monotonic()
        target = Target(self._storage(session), name)
        if target.leftovers:
            log.info(
                "session %s: removed %d temporary files of interrupted uploads",
                session.label,
                target.leftovers,
            )
        is_whole = False
        try:
            if not session.begin(transfer):
                raise Refusal(403, "the session has ended")
            for piece in exchange.data:
                if self._values.max_put is not None and target.moved + len(piece) > self._values.max_put:
                    raise Refusal(413, f"files are limited to {self._values.max_put} bytes")
                target.write(piece)
                session.used = time.monotonic()
                if transfer.is_stopped or session.is_over:
                    raise Refusal(403, "the session has ended")
            target.finish()
            is_whole = True
        finally:
            session.done(transfer)
            if not is_whole:
                target.give_up()
            seconds = time.monotonic() - began
            audit.record(session, "put", _result(is_whole), path=name, size=target.moved, seconds=seconds)
        return Answer()

    def lst(self, exchange: Exchange, name: bytes) -> Answer:
        """List a directory: a line of JSON for each name, with mode, size, time and the line of `ls -l`."""
        self._taken(exchange, MOST_INPUT)
        session = exchange.session
        listing = Listing(self._storage(session), name)
        session.begin(listing)

        def done(is_whole: bool) -> None:
            session.done(listing)
            listing.close()
            audit.record(session, "lst", _result(is_whole), path=name, names=listing.count)

        return Answer(listing.pieces(wire.TOKEN_DATA), done=done)

    # --- commands -----------------------------------------------------------------------------------------

    def cmd(self, exchange: Exchange, line: bytes) -> Answer:
        """Run a command to its end. It starts once all of its input has arrived and been authenticated."""
        session = exchange.session
        words = split(line)
        began = time.monotonic()
        with _kept_input() as given:
            count = 0
            for piece in exchange.data:
                count += len(piece)
                if count > self._values.command_input:
                    raise Refusal(413, f"input is limited to {self._values.command_input} bytes")
                _keep(given, piece)
                session.used = time.monotonic()
            given.seek(0)
            command = Command(words, given if count else None)
        if not session.begin(command):
            command.close()
            raise Refusal(403, "the session has ended")

        def done(is_whole: bool) -> None:
            if not is_whole:
                command.kill()
            session.done(command)
            session.outcome = command.outcome()
            command.close()
            seconds = time.monotonic() - began
            _record_outcome(session, "cmd", command=line, input=count, seconds=seconds)

        return Answer(command.output(self._limits(), exchange.is_gone), is_eager=True, done=done)

    def icm(self, exchange: Exchange, line: bytes, size: tuple[int, int] | None = None) -> Answer:
        """Start an interactive command."""
        session = exchange.session
        given = self._taken(exchange, MOST_INPUT)
        with session.turn:
            self._end_command(session)  # started by another request at the same time
            command = Interactive(split(line), size)
            command.after_stop = functools.partial(self._conclude, session, command)
            if not session.begin(command):
                command.close()
                raise Refusal(403, "the session has ended")
            session.command = command
            event = "icm" if size is None else "pty"
            audit.record(session, event, command=line)
            return self._exchange(session, command, given)

    def pty(self, exchange: Exchange, argument: bytes) -> Answer:
        """Start an interactive command on a terminal. The argument begins with columns and rows, `80x24 `."""
        size, _, line = argument.partition(b" ")
        return self.icm(exchange, line, _parse_size(size))

    def win(self, exchange: Exchange, argument: bytes) -> Answer:
        """Change the size of the terminal."""
        self._taken(exchange, MOST_INPUT)
        size = _parse_size(argument)
        with exchange.session.turn:
            self._running(exchange.session).resize(*size)
        return Answer()

    def idt(self, exchange: Exchange, _: bytes) -> Answer:
        """Input for the interactive command, and its output so far."""
        given = self._taken(exchange, MOST_INPUT)
        with exchange.session.turn:
            return self._exchange(exchange.session, self._running(exchange.session), given)

    def edt(self, exchange: Exchange, _: bytes) -> Answer:
        """The last input of the interactive command, and the rest of its output."""
        given = self._taken(exchange, MOST_INPUT)
        session = exchange.session
        session.turn.acquire()
        waiting = Transfer()  # the session does not time out while a client waits
        try:
            command = self._running(session)
            session.begin(waiting)
            pieces = command.finish(given, self._limits(), exchange.is_gone)
        except BaseException:
            session.done(waiting)
            session.turn.release()
            raise

        def done(_: bool) -> None:
            try:
                session.done(waiting)
                self._end_command(session)
            finally:
                session.turn.release()

        return Answer(pieces, is_eager=True, done=done)

    def sts(self, exchange: Exchange, _: bytes) -> Answer:
        """How the latest command ended: its status as in a shell, and why it was stopped, if it was."""
        self._taken(exchange, MOST_INPUT)
        return Answer((exchange.session.outcome.encode(),))

    def info(self, exchange: Exchange, _: bytes) -> Answer:
        """The server's name and version, for a client with a session."""
        self._taken(exchange, MOST_INPUT)
        return Answer((wire.NAME.encode(),))

    # --- what they share ----------------------------------------------------------------------------------

    def _exchange(self, session: Session, command: Interactive, given: bytes) -> Answer:
        said = command.exchange(given)
        if command.is_at_end:
            self._end_command(session)
        return Answer((said,))

    def _running(self, session: Session) -> Interactive:
        if not isinstance(session.command, Interactive):
            raise Refusal(400, "no command is running")
        return session.command

    def _interrupt(self, session: Session) -> None:
        """End the interactive command, and another request that waits for it."""
        command = session.command
        if not session.turn.acquire(blocking=False):
            if isinstance(command, Interactive):
                command.stop("stopped by another request")
            session.turn.acquire()
        try:
            self._end_command(session)
        finally:
            session.turn.release()

    def _end_command(self, session: Session) -> None:
        """End the interactive command. The caller holds the turn."""
        command = session.command
        if isinstance(command, Interactive):
            session.command = None
            session.done(command)
            session.outcome = command.conclude()
            _record_outcome(session, "exit")

    def _conclude(self, session: Session, command: Interactive) -> None:
        """Release a command that was stopped because its session ended."""
        with session.turn:
            if session.command is command:
                self._end_command(session)

    def _taken(self, exchange: Exchange, most: int) -> bytes:
        """Read all of a body, at most `most` bytes. Raises Refusal."""
        found = bytearray()
        for piece in exchange.data:
            found += piece
            if len(found) > most:
                raise Refusal(413, f"more than {most} bytes at once")
        return bytes(found)

    def _limits(self) -> Limits:
        return Limits(self._values.command_seconds, self._values.command_output)


def _result(is_whole: bool) -> str:
    return "OK" if is_whole else "CONNECTION_LOST"


def _record_outcome(session: Session, request: str, **details: Any) -> None:
    """Record how a command ended, with its status as in a shell."""
    status, _, message = session.outcome.partition(" ")
    result = "FAILURE" if message else "OK"
    more = {"message": message} if message else {}
    audit.record(session, request, result, status=int(status), **details, **more)


def _kept_input() -> IO[bytes]:
    """A temporary file for a command's input. Raises Refusal."""
    try:
        return tempfile.TemporaryFile(prefix="pysftpremo-", buffering=0)
    except OSError as error:
        raise _no_room(error) from None


def _keep(file: IO[bytes], piece: bytes) -> None:
    """Write a piece, unbuffered, so that a full disk shows here. Raises Refusal."""
    rest = memoryview(piece)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _no_room(error) from None


def _no_room(error: OSError) -> Refusal:
    return Refusal(503, f"the input of the command cannot be stored: {reason_of(error)}")


def _parse_size(text: bytes) -> tuple[int, int]:
    columns, _, rows = text.partition(b"x")
    if not (columns.isdigit() and rows.isdigit() and len(text) < 16):
        raise Refusal(400, "not a terminal size such as 80x24")
    return min(int(columns), MOST_CELLS), min(int(rows), MOST_CELLS)


GET_OR_POST = ("GET", "POST")
ROUTES = {
    "info": Route(Routes.info, GET_OR_POST, Permissions.NONE, ends_command=False),
    "get": Route(Routes.get, GET_OR_POST, Permissions.READ, 400),
    "lst": Route(Routes.lst, GET_OR_POST, Permissions.READ, 400),
    "put": Route(Routes.put, ("POST",), Permissions.WRITE, 400),
    "cmd": Route(Routes.cmd, GET_OR_POST, Permissions.COMMANDS, 403),
    "icm": Route(Routes.icm, GET_OR_POST, Permissions.COMMANDS, 403),
    "pty": Route(Routes.pty, GET_OR_POST, Permissions.COMMANDS, 403),
    "win": Route(Routes.win, GET_OR_POST, Permissions.COMMANDS, 403, ends_command=False),
    "idt": Route(Routes.idt, GET_OR_POST, Permissions.COMMANDS, ends_command=False),
    "edt": Route(Routes.edt, GET_OR_POST, Permissions.COMMANDS, ends_command=False),
    "sts": Route(Routes.sts, GET_OR_POST, Permissions.NONE, ends_command=False),
}
