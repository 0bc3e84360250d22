"""The table of targets: functions of bytes that raise AssertionError when an invariant is broken.

TARGETS has one row for each parser that a client can reach. If a door adds a parser, add a row here:
fuzz/run.py, the corpus test and `make fuzz` use the table. A row says how to make the target, how to mutate
its inputs, and which directories of fuzz/corpus have seeds for it.

Targets for other parsers have a module each (fuzz/README.md). An input of the packet processor's targets is
one byte of ways (see `Ways`) and the data that a client sends. What may not enter: atheris. This module
imports the package under test, so import it under instrumentation.
"""

from __future__ import annotations

import json
import shlex
import zlib
from collections.abc import Callable
from typing import NamedTuple

from fuzz import mutator
from fuzz.certificates import certificate_target, list_target
from fuzz.gates import GatesTarget
from fuzz.laboratory import MessagesTarget, ServerTarget
from fuzz.oracle import MAX_PACKET, Expected, check_replies, expected
from fuzz.proxy import announce
from fuzz.remo import ParserTarget as RemoParserTarget
from fuzz.remo import RemoTarget
from fuzz.site import SiteTarget
from fuzz.sksync import ParserTarget, SyncTarget
from fuzz.storages import InJail, InMemory, small_files
from pysftpserver.engine.audit import AuditLog
from pysftpserver.engine.limits import Limits
from pysftpserver.engine.log import DEBUG3, MOST_LINE, SFTPLog
from pysftpserver.engine.segments import LONGEST_READ, LateRead
from pysftpserver.hook import SFTPEvent, SFTPHook, SFTPHooks
from pysftpserver.pysftpexceptions import SFTPForbidden
from pysftpserver.server import SFTPServer
from pysftpserver.service.sums import WORDS, Refused, Sum, understood
from tests.differential.packets import Reply
from tests.support.packets import HELLO

LITTLE = Limits(handles=3, path=40, entries=2, extended=1)
MOST_PIECES = 16  # pieces of a stream
TRIES = 3  # to compare two sessions: the clock may tick between them


class Ways:
    """The bits of an input's first byte, which select how to run the session."""

    TWICE = 1  # once in one piece with a log, once in pieces without: the replies must be equal
    PIECES = 2  # as a door does: fed in pieces, replies taken a few bytes at a time
    TIGHT = 4  # with a queue limit that one reply exceeds
    LOGGED = 8  # with a log of everything, which disables the fast path
    HOOKED = 16
    READ_ONLY = 32
    WALKS = 64  # a jail without openat2
    LITTLE = 128  # with small limits


class Hook(SFTPHook):
    """Vetoes in every possible way, and counts its calls."""

    def __init__(self) -> None:
        self.before_seen = self.after_seen = self.started_seen = self.ended_seen = 0

    def started(self) -> None:
        self.started_seen += 1

    def ended(self) -> None:
        self.ended_seen += 1

    def before(self, event: SFTPEvent) -> None:
        self.before_seen += 1
        super().before(event)

    def after(self, event: SFTPEvent) -> None:
        self.after_seen += 1
        super().after(event)

    def before_remove(self, event: SFTPEvent) -> None:
        raise SFTPForbidden("not this one")

    def before_rmdir(self, event: SFTPEvent) -> None:
        raise SystemExit(1)

    def after_mkdir(self, event: SFTPEvent) -> None:
        raise ValueError("after")

    def check(self) -> None:
        assert self.before_seen == self.after_seen, "before() and after() are no pairs"
        assert self.started_seen == self.ended_seen == 1, "started() and ended() are no pair"


def check_line(level: int, text: str) -> None:
    """Check a log line: clients must not be able to forge lines or control a terminal."""
    assert len(text) <= MOST_LINE and text.isascii() and text.isprintable(), f"logged {text!r}"


def check_record(line: bytes) -> None:
    """Check an audit record: one object per line, without control characters."""
    assert line.endswith(b"\n") and line[:-1].decode("ascii").isprintable(), f"recorded {line!r}"
    assert {"time", "session", "request", "path", "result"} <= json.loads(line).keys(), f"recorded {line!r}"


class SessionTarget:
    """Sessions of the packet processor on a storage. place: supplies the storage."""

    server_class = SFTPServer

    def __init__(self, place: InMemory | InJail) -> None:
        self.place = place
        self.room = memoryview(bytearray(LONGEST_READ))

    def __call__(self, data: bytes) -> None:
        ways, stream = (data[0], data[1:]) if data else (0, b"")
        wanted = expected(stream)
        with small_files():
            if not ways & Ways.TWICE:
                self.session(ways, stream, wanted)
                return
            ways &= ~(Ways.PIECES | Ways.LOGGED)
            for _ in range(TRIES):
                one = self.session(ways | Ways.LOGGED, stream, wanted)
                other = self.session(ways | Ways.PIECES, stream, wanted)
                if one == other:
                    return
            differing = next(pair for pair in zip(one, other, strict=True) if pair[0] != pair[1])
            raise AssertionError(f"in one piece {differing[0]!r}, in pieces {differing[1]!r}")

    def session(self, ways: int, stream: bytes, wanted: Expected) -> list[Reply]:
        """Run a session and check it; return the replies."""
        storage = self.place.fresh(bool(ways & Ways.WALKS))
        before = self.place.snapshot() if ways & Ways.READ_ONLY else None
        hook = Hook() if ways & Ways.HOOKED else None
        server = self.server_class(
            storage,
            SFTPHooks(hook, AuditLog(check_record, "user", None, None, SFTPLog())) if hook else None,
            log=SFTPLog(check_line if ways & Ways.LOGGED else None, DEBUG3),
            read_only=bool(ways & Ways.READ_ONLY),
            limits=LITTLE if ways & Ways.LITTLE else None,
        )
        if ways & Ways.TIGHT:
            server.queue_limit = 1
        try:
            output = (
                self.in_pieces(server, stream) if ways & Ways.PIECES else self.in_one_piece(server, stream)
            )
            self.check_end(server, wanted)
        except AssertionError:
            raise
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__} came out of the session") from error
        finally:
            server.close()
            if ways & Ways.TWICE or wanted.may_change_files():
                self.place.changed()
        server.close()  # a second time, as doors may
        assert not server.handles.opened, "handles were left open"
        if hook is not None:
            hook.check()
        replies = check_replies(output, wanted.requests)
        assert before is None or before == self.place.snapshot(), "a read-only session changed something"
        self.place.check(output)
        return replies

    def in_one_piece(self, server: SFTPServer, stream: bytes) -> bytes:
        """Feed everything to process() at once."""
        server.input_queue = stream
        server.process()
        server.position = len(stream) - len(server.input_queue)
        server.output.settle()
        size = server.output.size
        output = server.output_queue
        assert size == len(output), f"the queue's size is {size}, its bytes are {len(output)}"
        server.output_queue = b""
        return output

    def in_pieces(self, server: SFTPServer, stream: bytes) -> bytes:
        """Use consume() and the queue like the stdio door, with pieces that the input chooses."""
        chance = zlib.crc32(stream)
        step = max(1 + chance % 97, len(stream) // MOST_PIECES)
        most = 1 + chance // 97 % 2000  # bytes sent at once
        buffer = memoryview(bytearray(stream))
        output = bytearray()
        start = end = 0
        while True:
            start = self.consume(server, buffer, start, end)
            paused = server.output.size > server.queue_limit
            self.send(server, output, most)
            if paused:
                continue  # there may be more complete packets
            if end == len(stream):
                break
            end = min(end + step, len(stream))
        server.position = start
        return bytes(output)

    def consume(self, server: SFTPServer, buffer: memoryview, start: int, end: int) -> int:
        """Call consume() and check its invariants."""
        stop = server.consume(buffer, start, end)
        assert start <= stop <= end, f"consume({start}, {end}) returned {stop}"
        most = server.queue_limit + MAX_PACKET + 4
        assert server.output.size <= most, f"{server.output.size} bytes are queued"
        return stop

    def send(self, server: SFTPServer, output: bytearray, most: int) -> None:
        """Send all replies in the queue, in portions."""
        queue = server.output
        while queue.segments:
            if len(queue.segments) == 1 or type(queue.segments[0]) is LateRead:
                portion = bytes(queue.first(self.room)[:most])
            else:
                portion = b"".join(queue.batch(4))[:most]
            output += portion
            queue.sent(len(portion))
            most = max(most, len(queue.segments[0]) // 8 if queue.segments and not queue.late else most)
        assert queue.size == 0 and queue.late == 0, f"an empty queue counts {queue.size} bytes"

    def check_end(self, server: SFTPServer, wanted: Expected) -> None:
        """Check the invariants at the end of a session."""
        assert (server.ended is not None) == wanted.ends, f"ended: {server.ended}"
        assert server.position == wanted.position, f"consumed {server.position}, not {wanted.position} bytes"
        if wanted.ends:
            after = server.consume(memoryview(HELLO), 0, len(HELLO))
            assert after == len(HELLO) and not server.output.segments, "served after the end"


def understand(data: bytes) -> None:
    """A target: a command line for checksums, compared with the standard library's parser of such lines."""
    line = data[1:]
    try:
        command = understood(line)
    except Refused:
        assert any(word in line.translate(None, b"'\"\\") for word in WORDS)
        return
    if not isinstance(command, Sum):
        return
    words = [command.word] if command.path is None else [command.word, command.path]
    assert not set(b"".join(words)) & {0} and words[-1:] != [b""]
    if b'"' not in line:
        assert [word.encode("latin-1") for word in shlex.split(line.decode("latin-1"))] == words
    output = command.output(b"")
    assert output.status == (command.path is not None) and output.errors.count(b"\n") == output.status


Run = Callable[[bytes], None]


class Target(NamedTuple):
    """A row: a factory; the mutator and the crossover, None for libFuzzer's own; directories with seeds."""

    make: Callable[[], Run]
    mutate: Callable[..., bytes] | None
    cross: Callable[..., bytes] | None
    corpora: tuple[str, ...]


TARGETS = {
    "memory": Target(lambda: SessionTarget(InMemory()), mutator.mutate, mutator.cross, ("common", "memory")),
    "jail": Target(lambda: SessionTarget(InJail()), mutator.mutate, mutator.cross, ("common", "jail")),
    "sksync-parsers": Target(ParserTarget, None, None, ("sksync-parsers",)),
    "sksync": Target(SyncTarget, None, None, ("sksync",)),
    "laboratory-messages": Target(MessagesTarget, None, None, ("laboratory-messages",)),
    "laboratory": Target(ServerTarget, None, None, ("laboratory",)),
    "remo-parsers": Target(RemoParserTarget, None, None, ("remo-parsers",)),
    "remo": Target(RemoTarget, None, None, ("remo",)),
    "site": Target(SiteTarget, None, None, ("site",)),
    "gates": Target(GatesTarget, None, None, ("gates",)),
    "commands": Target(lambda: understand, None, None, ("commands",)),
    "proxy": Target(lambda: announce, None, None, ("proxy",)),
    "certificates": Target(lambda: certificate_target, None, None, ("certificates",)),
    "revoked-keys": Target(lambda: list_target, None, None, ("revoked-keys",)),
}
