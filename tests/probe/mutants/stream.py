"""Mutants for the rules of order, of pieces, and of malformed packets."""

from __future__ import annotations

from typing import Any, ClassVar

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.engine import wire
from pysftpserver.engine.requests import EXTENDED_REQUESTS, REQUESTS
from pysftpserver.engine.session import Session
from pysftpserver.pysftpexceptions import (
    MalformedPacket,
    SFTPEndOfFile,
    SFTPFailure,
)
from pysftpserver.server import SFTPServer
from tests.probe.mutation import Careful, Mutant, handler, instead


def decoder(name: int | bytes, fault: Any) -> Any:
    """A request is decoded otherwise. fault: called with the decoder, and the buffer and its offsets."""
    owner = EXTENDED_REQUESTS[name] if isinstance(name, bytes) else REQUESTS[name]
    return instead(owner, "decode", fault)


def packets(stream: bytes) -> list[bytes]:
    """The whole packets in a stream."""
    found = []
    while len(stream) >= 4 and len(stream) >= 4 + int.from_bytes(stream[:4], "big"):
        end = 4 + int.from_bytes(stream[:4], "big")
        found.append(stream[:end])
        stream = stream[end:]
    return found


# --- order ----------------------------------------------------------------------------------------------


class Sorts(SFTPServer):
    """What arrives in one piece is served in another order."""

    def key(self, packet: bytes) -> int:
        raise NotImplementedError

    def process(self) -> None:
        whole = packets(self.input_queue)
        rest = self.input_queue[sum(map(len, whole)) :]
        if all(len(packet) > 9 for packet in whole):
            self.input_queue = b"".join(sorted(whole, key=self.key)) + rest
        super().process()


class ReadsFirst(Sorts):
    def key(self, packet: bytes) -> int:
        return packet[4] != wire.SSH2_FXP_READ


class WritesLast(Sorts):
    def key(self, packet: bytes) -> int:
        return packet[4] == wire.SSH2_FXP_WRITE


class LooksLast(Sorts):
    def key(self, packet: bytes) -> int:
        return packet[4] in (wire.SSH2_FXP_LSTAT, wire.SSH2_FXP_STAT)


class WritesBackwards(Sorts):
    def key(self, packet: bytes) -> int:
        if packet[4] != wire.SSH2_FXP_WRITE:
            return 0
        return -int.from_bytes(packet[5:9], "big")


class LosesTheRest(SFTPServer):
    """What is left of a piece behind its last whole packet is lost."""

    def process(self) -> None:
        super().process()
        self.input_queue = b""


class OneAPiece(SFTPServer):
    """Only the first packet of a piece is served."""

    def process(self) -> None:
        whole = packets(self.input_queue)
        if whole:
            self.input_queue = whole[0]
        super().process()


class FewAtOnce(SFTPServer):
    """Requests behind the 500th of a piece are lost."""

    def process(self) -> None:
        whole = packets(self.input_queue)
        if len(whole) > 500:
            self.input_queue = b"".join(whole[:500])
        super().process()


class ShortQueue(SFTPServer):
    """Replies over 4 MiB are lost."""

    @property
    def output_queue(self) -> bytes:
        return bytes(self.output)[: 4 << 20]

    @output_queue.setter
    def output_queue(self, data: bytes) -> None:
        self.output.clear()


class SmallPackets(SFTPServer):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.limits.packet = 33_000


def rewinds(serve: Any, session: Session, rid: int, name: bytes) -> None:
    """READDIR begins again after the end."""
    try:
        serve(session, rid, name)
    except SFTPEndOfFile:
        directory = session.handles.directory(name)
        directory.entries = iter(session.storage.opendir(session.path(directory.path)))
        raise


def not_closed(serve: Any, session: Session, rid: int, name: bytes) -> None:
    session.handles.file(name)
    session.send_status(rid)


ORDER = (
    Mutant(
        "READs overtake WRITEs",
        "read-after-write-in-flight",
        server=ReadsFirst,
        also=(
            "copy-in-flight read-before-write-in-flight read-behind-close-in-flight "
            "truncation-in-flight two-handles-in-flight"
        ),
    ),
    Mutant(
        "WRITEs come behind READs",
        "read-before-write-in-flight",
        server=WritesLast,
        also=None,
    ),
    Mutant(
        "WRITEs in flight are done backwards",
        "overlapping-writes-in-flight",
        server=WritesBackwards,
        also=(
            "appends-in-flight fstat-after-write-in-flight read-after-write-in-flight "
            "read-before-write-in-flight truncation-in-flight two-handles-in-flight"
        ),
    ),
    Mutant(
        "look-ups come last",
        "one-path-in-flight",
        server=LooksLast,
        also="rename-in-flight",
    ),
    Mutant(
        "half a packet is lost",
        "requests-byte-by-byte",
        server=LosesTheRest,
        also="init-in-any-pieces large-write-in-pieces requests-cut-anywhere",
    ),
    Mutant(
        "only one request of a segment is served",
        "reads-in-flight",
        server=OneAPiece,
        also=None,
    ),
    Mutant(
        "more than 500 requests are lost",
        "a-thousand-requests-in-flight",
        server=FewAtOnce,
        also="as-many-handles-as-announced",
    ),
    Mutant("replies over 4 MiB are lost", "replies-wait-for-the-client", server=ShortQueue),
    Mutant(
        "packets have at most 33,000 bytes",
        "packets-of-34000-bytes",
        server=SmallPackets,
        also="least-limits setstat-many-extended write-64k write-of-the-announced-length",
    ),
    Mutant(
        "READDIR begins again after EOF",
        "readdirs-in-flight",
        handler(wire.SSH2_FXP_READDIR, rewinds),
        also="listing-ends-for-good",
    ),
    Mutant(
        "CLOSE closes nothing",
        "read-behind-close-in-flight",
        handler(wire.SSH2_FXP_CLOSE, not_closed),
        also=None,
    ),
)


# --- malformed packets ----------------------------------------------------------------------------------


def clipped(read: Any, buffer: Any, pos: int, end: int) -> tuple[bytes, int]:
    """A string is as long as the packet has bytes."""
    start = min(pos + 4, end)
    size = int.from_bytes(bytes(buffer[pos:start]).ljust(4, b"\0"), "big")
    stop = min(start + size, end)
    return bytes(buffer[start:stop]), stop


def clipped_write(decode: Any, buffer: Any, pos: int, end: int) -> tuple[bytes, int, bytes]:
    handle, pos = wire.string_at(buffer, pos, end)
    size = wire.u32_at(buffer, pos + 8, end)
    return handle, wire.u64_at(buffer, pos, end), bytes(buffer[pos + 12 : min(end, pos + 12 + size)])


def up_to_nul(decode: Any, buffer: Any, pos: int, end: int) -> tuple[bytes]:
    path, _ = wire.string_at(buffer, pos, end)
    return (path.split(b"\0")[0],)


def no_extended(read: Any, buffer: Any, pos: int, end: int) -> SFTPAttributes:
    """A count of extended pairs is not looked at."""
    try:
        attrs: SFTPAttributes = read(buffer, pos, end)
    except MalformedPacket:
        if wire.u32_at(buffer, pos, end) != wire.SSH2_FILEXFER_ATTR_EXTENDED:
            raise
        return SFTPAttributes()
    return attrs


def silent_when_malformed(answer: Any, session: Session, rid: int, name: str, error: BaseException) -> None:
    if not isinstance(error, MalformedPacket):
        answer(session, rid, name, error)


class OtherTypes(SFTPServer):
    """Types that are no requests are served otherwise."""

    def other(self, kind: int, rid: int) -> bool:
        raise NotImplementedError

    def _serve(self, buffer: memoryview, pos: int, stop: int) -> None:
        kind = buffer[pos]
        if kind in REQUESTS or kind in (wire.SSH2_FXP_INIT, wire.SSH2_FXP_EXTENDED) or stop - pos < 5:
            super()._serve(buffer, pos, stop)
        elif not self.other(kind, int.from_bytes(buffer[pos + 1 : pos + 5], "big")):
            super()._serve(buffer, pos, stop)


class SilentTypes(OtherTypes):
    def other(self, kind: int, rid: int) -> bool:
        return kind > wire.SSH2_FXP_EXTENDED_REPLY  # as OpenSSH, for all


class TakesReplies(OtherTypes):
    def other(self, kind: int, rid: int) -> bool:
        if not 101 <= kind <= 105:
            return False
        self.send_status(rid)
        return True


class NamelessExtension(SFTPServer):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._extensions = {**self._extensions, b"": EXTENDED_REQUESTS[b"limits@openssh.com"]}

    def _announced(self) -> Any:
        return ((name, version) for name, version in super()._announced() if name)


def unsupported_is_failure(answer: Any, session: Session, rid: int, name: str, error: BaseException) -> None:
    answer(session, rid, name, SFTPFailure() if name == "a request" else error)


class Doomed(SFTPServer):
    """When one session ends for what it was sent, all do."""

    all: ClassVar[list[SFTPServer]] = []

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        Doomed.all = [*Doomed.all[-20:], self]

    def end(self, reason: str) -> None:
        for session in Doomed.all:
            if session.storage is self.storage:
                super(Doomed, session).end(reason)


class Patient(SFTPServer):
    """Waits for packets of any length."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.limits.packet = 1 << 33


MALFORMED = (
    Mutant(
        "strings end where the packet does",
        "cut-off-names-are-not-used",
        instead(wire, "string_at", clipped),
        also=(
            "changes-cut-off extended-attributes-that-are-missing extended-requests-cut-off "
            "look-ups-cut-off random-bodies strings-longer-than-their-packet"
        ),
    ),
    Mutant(
        "WRITE writes what there is",
        "write-with-too-few-bytes",
        decoder(wire.SSH2_FXP_WRITE, clipped_write),
        server=Careful,
        also="handle-requests-cut-off",
    ),
    Mutant(
        "a path ends at a NUL byte",
        "paths-with-a-nul-byte",
        decoder(wire.SSH2_FXP_STAT, up_to_nul),
        also="nul-is-refused",
    ),
    Mutant(
        "missing extended attributes are not missed",
        "extended-attributes-that-are-missing",
        instead(wire, "attributes_at", no_extended),
    ),
    Mutant(
        "a malformed request is not answered",
        "look-ups-cut-off",
        instead(Session, "answer_error", silent_when_malformed),
        also=None,
    ),
    Mutant("unknown types are not answered", "unknown-types", server=SilentTypes),
    Mutant("replies are taken as requests", "replies-as-requests", server=TakesReplies),
    Mutant(
        "an unknown extended request is FAILURE",
        "unknown-extended-requests",
        instead(Session, "answer_error", unsupported_is_failure),
        also=(
            "extended-request-without-a-name other-extensions-are-unsupported packet-of-the-announced-length"
        ),
    ),
    Mutant(
        "there is an extension without a name", "extended-request-without-a-name", server=NamelessExtension
    ),
    Mutant(
        "an empty packet is answered with OK",
        "packet-of-length-0",
        instead(SFTPServer, "_break_off", lambda end, server, reason: server.send_status(0)),
        also="packets-of-gigabytes packets-without-a-request-id requests-before-init",
    ),
    Mutant(
        "the server waits for 4 GiB",
        "packets-of-gigabytes",
        server=Patient,
        also="other-sessions-go-on",
    ),
    Mutant(
        "all sessions end together",
        "other-sessions-go-on",
        server=Doomed,
        also=(
            "init-cut-off packet-of-length-0 packet-over-the-limit packets-of-gigabytes "
            "packets-without-a-request-id requests-before-init"
        ),
    ),
)


MUTANTS = (*ORDER, *MALFORMED)
