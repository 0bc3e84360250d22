"""ONE table of paths, and what each of them does for a session.

What may not enter: HTTP, cookies, how tokens are made, concrete storages.
"""

from __future__ import annotations

import functools
import tempfile
import time
from dataclasses import dataclass, field

from pysftpserver.remo import audit, wire
from pysftpserver.remo.files import FileProblem, Listing, Source, Target
from pysftpserver.remo.processes import Command, CommandProblem, Interactive, Limits, split
from pysftpserver.remo.users import Permissions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import IO

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.remo.bodies import Exchange
    from pysftpserver.remo.config import Values
    from pysftpserver.remo.sessions import Session, Sessions

MOST_INPUT = 1 << 20  # bytes for an interactive command at once
MOST_CELLS = 10_000  # columns or rows of a terminal


class Refusal(Exception):
    """A request that is not served. text: one line, without anything of the host's or the user's."""

    def __init__(self, status: int, text: str, headers: list[tuple[str, str]] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or []


class Transfer:
    """A file on its way, as far as its session is concerned."""

    def __init__(self) -> None:
        self.is_stopped = False

    def stop(self) -> None:
        self.is_stopped = True

    def go_on(self, piece: bytes) -> bytes:
        """The same piece. Raises FileProblem when it was stopped: nobody may take what was sent for whole."""
        if self.is_stopped:
            raise FileProblem("the session has ended")
        return piece


@dataclass
class Answer:
    """What is replied. is_eager: whether pieces go out at once. done: called in the end, with whether all of
    it was sent.
    """

    pieces: Iterable[bytes] = (b"",)
    is_eager: bool = False
    status: int = 200
    done: Callable[[bool], None] = field(default=lambda is_whole: None)


@dataclass(frozen=True)
class Route:
    """A row. methods: of HTTP. needs: the permission. unreadable: the status for an argument that is no
    token; None: it has no argument. ends_command: whether the interactive command that is running ends.
    """

    serve: Callable[[Routes, Exchange, bytes], Answer]
    methods: tuple[str, ...]
    needs: Permissions
    unreadable: int | None = None
    ends_command: bool = True


class Routes:
    """What the rows of the table do. may_run: whether commands are for anybody at all."""

    def __init__(
        self, values: Values, sessions: Sessions, storage: SFTPAbstractServerStorage, may_run: bool
    ) -> None:
        self._values = values
        self._sessions = sessions
        self._storage = storage
        self._may_run = may_run

    def answer(self, exchange: Exchange, method: str, path: str) -> Answer:
        """Serve a request. Raises Refusal, ProtocolError, TooMany."""
        session = exchange.session
        word, slash, token = path.removeprefix("/").partition("/")
        route = ROUTES.get(word)
        if route is None or not path.startswith("/") or bool(slash) != (route.unreadable is not None):
            raise Refusal(404, "there is no such path")
        if method not in route.methods:
            raise Refusal(405, "not with this method", [("Allow", ", ".join(route.methods))])
        argument = b""
        if route.unreadable is not None:
            try:
                argument = session.cipher.decrypt(token.encode("latin-1"))
            except wire.ProtocolError:
                raise Refusal(route.unreadable, "the path's token is not this session's") from None
            exchange.is_proved = True
        if exchange.is_proved:
            self._sessions.confirm(session, time.monotonic())
        if route.ends_command and session.command is not None:
            self._interrupt(session)
        if route.needs not in session.may or route.needs & Permissions.COMMANDS and not self._may_run:
            audit.record(word, "not permitted", session.address, session, argument=argument)
            raise Refusal(403, "not permitted")
        try:
            return route.serve(self, exchange, argument)
        except FileProblem as error:
            audit.record(word, str(error), session.address, session, path=argument)
            raise Refusal(400, str(error)) from None
        except CommandProblem as error:
            session.outcome = f"127 {error}"
            audit.record(word, str(error), session.address, session, command=argument)
            raise Refusal(400, str(error)) from None

    # --- files --------------------------------------------------------------------------------------------

    def get(self, exchange: Exchange, name: bytes) -> Answer:
        """The content of a file."""
        self._taken(exchange, MOST_INPUT)
        session = exchange.session
        source = Source(self._storage, name)
        transfer, began = Transfer(), time.monotonic()
        session.begin(transfer)

        def done(is_whole: bool) -> None:
            session.done(transfer)
            source.close()
            seconds = round(time.monotonic() - began, 6)
            result = "OK" if is_whole else "broken off"
            audit.record(
                "get", result, session.address, session, path=name, bytes=source.moved, duration=seconds
            )

        pieces = source.pieces(wire.data_size(source.size))
        return Answer(map(transfer.go_on, pieces), done=done)

    def put(self, exchange: Exchange, name: bytes) -> Answer:
        """Store the body."""
        session = exchange.session
        transfer, began = Transfer(), time.monotonic()
        target = Target(self._storage, name)
        is_whole = False
        try:
            if not session.begin(transfer):
                raise Refusal(403, "the session has ended")
            for piece in exchange.data:
                if self._values.most_put is not None and target.moved + len(piece) > self._values.most_put:
                    raise Refusal(413, f"a file of more than {self._values.most_put} bytes is not stored")
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
            seconds = round(time.monotonic() - began, 6)
            result = "OK" if is_whole else "broken off"
            audit.record(
                "put", result, session.address, session, path=name, bytes=target.moved, duration=seconds
            )
        return Answer()

    def lst(self, exchange: Exchange, name: bytes) -> Answer:
        """A directory: a line of JSON for each name in it, with mode, size, time and how `ls -l` shows it."""
        self._taken(exchange, MOST_INPUT)
        session = exchange.session
        listing = Listing(self._storage, name)
        session.begin(listing)

        def done(is_whole: bool) -> None:
            session.done(listing)
            listing.close()
            result = "OK" if is_whole else "broken off"
            audit.record("lst", result, session.address, session, path=name, names=listing.count)

        return Answer(listing.pieces(wire.TOKEN_DATA), done=done)

    # --- commands -----------------------------------------------------------------------------------------

    def cmd(self, exchange: Exchange, line: bytes) -> Answer:
        """Run a command to its end. Nothing runs before all of its input is there, and was right."""
        session = exchange.session
        words = split(line)
        began = time.monotonic()
        with _kept_input() as given:
            count = 0
            for piece in exchange.data:
                count += len(piece)
                if count > self._values.command_input:
                    raise Refusal(413, f"a command gets no more than {self._values.command_input} bytes")
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
            seconds = round(time.monotonic() - began, 6)
            audit.record(
                "cmd", session.outcome, session.address, session, command=line, input=count, duration=seconds
            )

        return Answer(command.output(self._limits(), exchange.is_gone), is_eager=True, done=done)

    def icm(self, exchange: Exchange, line: bytes, size: tuple[int, int] | None = None) -> Answer:
        """Start a command that is talked to."""
        session = exchange.session
        given = self._taken(exchange, MOST_INPUT)
        with session.turn:
            self._end_command(session)  # of another request, which has come at the same time
            command = Interactive(split(line), size)
            command.after_stop = functools.partial(self._conclude, session, command)
            if not session.begin(command):
                command.close()
                raise Refusal(403, "the session has ended")
            session.command = command
            event = "icm" if size is None else "pty"
            audit.record(event, "OK", session.address, session, command=line)
            return self._exchange(session, command, given)

    def pty(self, exchange: Exchange, argument: bytes) -> Answer:
        """The same on a terminal. The argument begins with its columns and rows, `80x24 `."""
        size, _, line = argument.partition(b" ")
        return self.icm(exchange, line, _parse_size(size))

    def win(self, exchange: Exchange, argument: bytes) -> Answer:
        """The terminal has another size."""
        self._taken(exchange, MOST_INPUT)
        size = _parse_size(argument)
        with exchange.session.turn:
            self._running(exchange.session).resize(*size)
        return Answer()

    def idt(self, exchange: Exchange, _: bytes) -> Answer:
        """Input for the interactive command, and what it says."""
        given = self._taken(exchange, MOST_INPUT)
        with exchange.session.turn:
            return self._exchange(exchange.session, self._running(exchange.session), given)

    def edt(self, exchange: Exchange, _: bytes) -> Answer:
        """The last input, and all that the command still says."""
        given = self._taken(exchange, MOST_INPUT)
        session = exchange.session
        session.turn.acquire()
        waiting = Transfer()  # as long as somebody waits for it, a command may be silent
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
        """How the latest command ended: a shell's status, and words if it was stopped."""
        self._taken(exchange, MOST_INPUT)
        return Answer((exchange.session.outcome.encode(),))

    def info(self, exchange: Exchange, _: bytes) -> Answer:
        """Name and version, for a session."""
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
        """End the interactive command, and another request's waiting for it."""
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
        """With the turn held."""
        command = session.command
        if isinstance(command, Interactive):
            session.command = None
            session.done(command)
            session.outcome = command.conclude()
            audit.record("end", session.outcome, session.address, session)

    def _conclude(self, session: Session, command: Interactive) -> None:
        """What was stopped because its session has ended lets go of what it has open."""
        with session.turn:
            if session.command is command:
                self._end_command(session)

    def _taken(self, exchange: Exchange, most: int) -> bytes:
        """All of a body. Raises Refusal."""
        found = bytearray()
        for piece in exchange.data:
            found += piece
            if len(found) > most:
                raise Refusal(413, f"more than {most} bytes at once")
        return bytes(found)

    def _limits(self) -> Limits:
        return Limits(self._values.command_seconds, self._values.command_output)


def _kept_input() -> IO[bytes]:
    """Where a command's input waits. Raises Refusal."""
    try:
        return tempfile.TemporaryFile(prefix="pysftpremo-", buffering=0)
    except OSError as error:
        raise _no_room(error) from None


def _keep(file: IO[bytes], piece: bytes) -> None:
    """Put a piece there, at once, so that no room is found out here. Raises Refusal."""
    rest = memoryview(piece)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _no_room(error) from None


def _no_room(error: OSError) -> Refusal:
    why = (error.strerror or "failure").lower()
    return Refusal(503, f"the input of the command cannot be kept: {why}")


def _parse_size(text: bytes) -> tuple[int, int]:
    columns, _, rows = text.partition(b"x")
    if not (columns.isdigit() and rows.isdigit() and len(text) < 16):
        raise Refusal(400, "no size of a terminal")
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
