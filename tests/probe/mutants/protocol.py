"""Mutants for the rules of the protocol itself: sessions, order, malformed packets, extensions."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any, ClassVar
from unittest import mock

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.engine import checksums, handlers, wire
from pysftpserver.engine.requests import EXTENDED_REQUESTS, REQUESTS
from pysftpserver.engine.session import Session
from pysftpserver.pysftpexceptions import (
    MalformedPacket,
    SFTPEndOfFile,
    SFTPException,
    SFTPFailure,
    SFTPUnsupported,
)
from pysftpserver.server import SFTPServer
from tests.probe.mutation import Mutant, handler, instead
from tests.support.memory import SFTPServerMemoryStorage

STATUS = wire.SSH2_FXP_STATUS
OK, FAILURE, NOT_FOUND = (b"\0\0\0" + bytes((code,)) for code in (0, 4, 2))
UNSUPPORTED_CODE = wire.SSH2_FX_OP_UNSUPPORTED


def row(name: int | bytes, field: str, value: object) -> Any:
    """A field of a row of the table of requests is another one."""
    owner = EXTENDED_REQUESTS[name] if isinstance(name, bytes) else REQUESTS[name]
    return lambda: mock.patch.object(owner, field, value)


def decoder(name: int | bytes, fault: Any) -> Any:
    """A request is decoded otherwise. fault: called with the decoder, and the buffer and its offsets."""
    owner = EXTENDED_REQUESTS[name] if isinstance(name, bytes) else REQUESTS[name]
    return instead(owner, "decode", fault)


def status(change: Any) -> Any:
    """STATUS is otherwise. change: code, message and language tag to what is sent in their place."""

    def changed(make: Any, session: Session, rid: int, code: int, message: bytes | None) -> bytes:
        body = make(session, rid, code, message)[9:]
        text, pos = wire.string_at(body, 4, len(body))
        return wire.encode_packet(STATUS, rid, change(body[:4], text, body[pos + 4 :]))

    return instead(Session, "_status", changed)


def string(value: bytes) -> bytes:
    return wire.encode_string(value)


def packets(stream: bytes) -> list[bytes]:
    """The whole packets in a stream."""
    found = []
    while len(stream) >= 4 and len(stream) >= 4 + int.from_bytes(stream[:4], "big"):
        end = 4 + int.from_bytes(stream[:4], "big")
        found.append(stream[:end])
        stream = stream[end:]
    return found


class Careful(SFTPServer):
    """Every request is served by its handler: no faster way for READ and WRITE, which has no faults."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.transfers = frozenset()


# --- sessions that begin otherwise ----------------------------------------------------------------------


class AlwaysBegun(SFTPServer):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.initialized = True


def newer(serve: Any, server: SFTPServer, buffer: memoryview, pos: int, stop: int) -> None:
    """INIT is answered with the version after the client's."""
    asked = wire.u32_at(buffer, pos, stop)
    server.initialized = True
    version = asked if asked <= 3 else min(asked + 1, 0xFFFFFFFF) if asked < 7 else 2
    server.output.append(wire.encode_version(server._announced(), version))


def fussy(serve: Any, server: SFTPServer, buffer: memoryview, pos: int, stop: int) -> None:
    """INIT with extensions ends the session."""
    if stop - pos > 4:
        server.end("extensions in INIT")
    else:
        serve(server, buffer, pos, stop)


def once(serve: Any, server: SFTPServer, buffer: memoryview, pos: int, stop: int) -> None:
    """A second INIT is not answered."""
    if not server.initialized:
        serve(server, buffer, pos, stop)


def init(fault: Any) -> Any:
    return instead(SFTPServer, "_serve_init", fault)


class ShortIds(Careful):
    """Request ids have 31 bits."""

    def _serve(self, buffer: memoryview, pos: int, stop: int) -> None:
        packet = bytearray(buffer[pos:stop])
        if packet[0] != wire.SSH2_FXP_INIT and len(packet) > 4:
            packet[1] &= 0x7F
        super()._serve(memoryview(packet), 0, len(packet))


class RemembersIds(SFTPServer):
    """A request with the id of the one before it is taken for that one, and not answered."""

    last = b""

    def _serve(self, buffer: memoryview, pos: int, stop: int) -> None:
        name = bytes(buffer[pos + 1 : pos + 5])
        if buffer[pos] != wire.SSH2_FXP_INIT and name == self.last:
            return
        self.last = name
        super()._serve(buffer, pos, stop)


def twice(serve: Any, session: Session, rid: int, *arguments: Any) -> None:
    try:
        serve(session, rid, *arguments)
    except Exception:
        session.send_status(rid, wire.SSH2_FX_FAILURE)
        raise


def two_names(serve: Any, session: Session, rid: int, path: bytes) -> None:
    name = wire.encode_bare_name(session.storage.realpath(session.path(path or b".")))
    session.send(wire.SSH2_FXP_NAME, rid, wire.encode_names([name, name]))


def attributes_for_status(serve: Any, session: Session, rid: int, path: bytes, attrs: SFTPAttributes) -> None:
    session.storage.setstat(session.path(path), attrs)
    session.send_attrs(rid, attrs)


def failing(error: BaseException) -> Any:
    """A handler that fails in place of what it would have failed with, or did."""

    def fault(serve: Any, session: Session, rid: int, *arguments: Any) -> Any:
        raise error

    return fault


def as_failure(serve: Any, session: Session, rid: int, *arguments: Any) -> Any:
    try:
        return serve(session, rid, *arguments)
    except Exception:
        raise SFTPFailure from None


def as_code_18(serve: Any, session: Session, rid: int, *arguments: Any) -> None:
    try:
        serve(session, rid, *arguments)
    except (SFTPFailure, OSError):
        session.send_status(rid, 18, b"directory not empty")


BEGINNING = (
    Mutant(
        "VERSION is always 3",
        "version-of-older-clients",
        instead(wire, "encode_version", lambda encode, announced, version=3: encode(announced)),
    ),
    Mutant("VERSION is above the client's", "version-of-newer-clients", init(newer)),
    Mutant("INIT with extensions ends the session", "unknown-extensions-in-init", init(fussy)),
    Mutant("a second INIT is not answered", "init-twice", init(once)),
    Mutant(
        "VERSION has an extension without a name",
        "version-is-whole",
        instead(
            wire,
            "encode_version",
            lambda encode, announced, version=3: encode([*announced, (b"", b"1")], version),
        ),
    ),
    Mutant("requests are served before INIT", "requests-before-init", server=AlwaysBegun),
    Mutant(
        "SETSTAT is answered with ATTRS",
        "kinds-of-path-replies",
        handler(wire.SSH2_FXP_SETSTAT, attributes_for_status),
    ),
    Mutant("REALPATH has two names", "realpath-one-name", handler(wire.SSH2_FXP_REALPATH, two_names)),
    Mutant(
        "REMOVE of what is missing is FAILURE",
        "remove-of-missing",
        handler(wire.SSH2_FXP_REMOVE, as_failure),
    ),
    Mutant(
        "the message of STATUS is Latin-1",
        "status-message-is-utf-8",
        status(lambda code, message, tag: code + string(b"Datei f\xfcr") + string(tag)),
    ),
    Mutant(
        "the language tag is a locale",
        "status-language-tag",
        status(lambda code, message, tag: code + string(message) + string(b"en_US.UTF-8")),
    ),
    Mutant(
        "STATUS has no words",
        "status-has-words",
        status(lambda code, message, tag: code + string(b"") + string(tag)),
    ),
    Mutant(
        "STATUS of a failure has no message and no tag, as in version 2",
        "status-is-whole",
        status(lambda code, message, tag: code if code == FAILURE else code + string(message) + string(tag)),
    ),
    Mutant(
        "RMDIR answers a code of version 6",
        "status-codes-of-version-3",
        handler(wire.SSH2_FXP_RMDIR, as_code_18),
    ),
    Mutant("request ids have 31 bits", "request-ids-come-back", server=ShortIds),
    Mutant("a request id cannot be used again", "request-ids-can-be-used-again", server=RemembersIds),
    Mutant(
        "a REMOVE that fails is answered twice",
        "one-reply-to-each-request",
        handler(wire.SSH2_FXP_REMOVE, twice),
    ),
)


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
        self.input_queue = b"".join(packets(self.input_queue)[:500]) or self.input_queue
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
    Mutant("READs overtake WRITEs", "read-after-write-in-flight", server=ReadsFirst),
    Mutant("WRITEs come behind READs", "read-before-write-in-flight", server=WritesLast),
    Mutant("WRITEs in flight are done backwards", "overlapping-writes-in-flight", server=WritesBackwards),
    Mutant("look-ups come last", "one-path-in-flight", server=LooksLast),
    Mutant("half a packet is lost", "requests-byte-by-byte", server=LosesTheRest),
    Mutant("only one request of a segment is served", "reads-in-flight", server=OneAPiece),
    Mutant("more than 500 requests are lost", "a-thousand-requests-in-flight", server=FewAtOnce),
    Mutant("replies over 4 MiB are lost", "replies-wait-for-the-client", server=ShortQueue),
    Mutant("packets have at most 33,000 bytes", "packets-of-34000-bytes", server=SmallPackets),
    Mutant("READDIR begins again after EOF", "readdirs-in-flight", handler(wire.SSH2_FXP_READDIR, rewinds)),
    Mutant("CLOSE closes nothing", "read-behind-close-in-flight", handler(wire.SSH2_FXP_CLOSE, not_closed)),
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
        "strings end where the packet does", "cut-off-names-are-not-used", instead(wire, "string_at", clipped)
    ),
    Mutant(
        "WRITE writes what there is",
        "write-with-too-few-bytes",
        decoder(wire.SSH2_FXP_WRITE, clipped_write),
        server=Careful,
    ),
    Mutant("a path ends at a NUL byte", "paths-with-a-nul-byte", decoder(wire.SSH2_FXP_STAT, up_to_nul)),
    Mutant(
        "missing extended attributes are not missed",
        "extended-attributes-that-are-missing",
        instead(wire, "attributes_at", no_extended),
    ),
    Mutant(
        "a malformed request is not answered",
        "look-ups-cut-off",
        instead(Session, "answer_error", silent_when_malformed),
    ),
    Mutant("unknown types are not answered", "unknown-types", server=SilentTypes),
    Mutant("replies are taken as requests", "replies-as-requests", server=TakesReplies),
    Mutant(
        "an unknown extended request is FAILURE",
        "unknown-extended-requests",
        instead(Session, "answer_error", unsupported_is_failure),
    ),
    Mutant(
        "there is an extension without a name", "extended-request-without-a-name", server=NamelessExtension
    ),
    Mutant(
        "an empty packet is answered with OK",
        "packet-of-length-0",
        instead(SFTPServer, "_break_off", lambda end, server, reason: server.send_status(0)),
    ),
    Mutant("the server waits for 4 GiB", "packets-of-gigabytes", server=Patient),
    Mutant("all sessions end together", "other-sessions-go-on", server=Doomed),
)


# --- extensions -----------------------------------------------------------------------------------------


def limits(*changes: int) -> Any:
    """limits@openssh.com announces other numbers. changes: to add to each."""

    def fault(encode: Any, *numbers: int) -> bytes:
        result: bytes = encode(*(number + change for number, change in zip(numbers, changes, strict=True)))
        return result

    return instead(wire, "encode_limits", fault)


def refuses_long_reads(serve: Any, session: Session, rid: int, name: bytes, offset: int, length: int) -> Any:
    if length > session.limits.data:
        raise SFTPFailure("too long")
    return serve(session, rid, name, offset, length)


def always_ok(serve: Any, session: Session, rid: int, *arguments: Any) -> None:
    try:
        serve(session, rid, *arguments)
    except SFTPException:
        session.send_status(rid)


def plain_realpath(serve: Any, session: Session, rid: int, path: bytes) -> None:
    handlers.serve_realpath(session, rid, path)


def own_home(serve: Any, session: Session, rid: int, user: bytes) -> None:
    session.send_name(rid, session.storage.userhome(b""))


def no_one(serve: Any, session: Session, rid: int, user: bytes) -> None:
    if not user:
        raise SFTPFailure("No such user")
    serve(session, rid, user)


def anybody(serve: Any, session: Session, rid: int, path: bytes) -> None:
    serve(session, rid, b"~" if path.startswith(b"~") and path[1:2] not in (b"", b"/") else path)


class FewHandles(SFTPServer):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.handles.limit = 20


EXTENSIONS = (
    Mutant(
        "statvfs@openssh.com is announced with version 1",
        "versions-of-extensions",
        row(b"statvfs@openssh.com", "version", b"1"),
    ),
    Mutant(
        "fsync@openssh.com is announced and not there",
        "announced-extensions-are-there",
        handler(b"fsync@openssh.com", failing(SFTPUnsupported())),
    ),
    Mutant(
        "limits@openssh.com is there and not announced",
        "other-extensions-are-unsupported",
        row(b"limits@openssh.com", "version", b""),
    ),
    Mutant(
        "limits@openssh.com has three numbers",
        "limits-are-four-numbers",
        instead(wire, "encode_limits", lambda encode, *numbers: encode(*numbers)[:24]),
    ),
    Mutant("limits@openssh.com says 1,000 bytes", "least-limits", limits(0, -260_120, 0, 0)),
    Mutant("limits@openssh.com promises longer READs", "read-of-the-announced-length", limits(0, 1, 0, 0)),
    Mutant(
        "limits@openssh.com promises longer WRITEs",
        "write-of-the-announced-length",
        limits(0, 0, 10_000, 0),
    ),
    Mutant(
        "limits@openssh.com promises longer packets",
        "packet-of-the-announced-length",
        limits(100, 0, 0, 0),
    ),
    Mutant(
        "limits@openssh.com promises more handles",
        "as-many-handles-as-announced",
        server=FewHandles,
    ),
    Mutant(
        "a READ over the limit is refused",
        "read-over-the-announced-length",
        handler(wire.SSH2_FXP_READ, refuses_long_reads),
        server=Careful,
    ),
    Mutant("fsync@openssh.com never fails", "fsync-of-no-handle", handler(b"fsync@openssh.com", always_ok)),
    Mutant(
        "expand-path@openssh.com knows no tilde",
        "expand-path-of-a-tilde",
        handler(b"expand-path@openssh.com", plain_realpath),
    ),
    Mutant(
        "expand-path@openssh.com knows all users",
        "expand-path-of-an-unknown-user",
        handler(b"expand-path@openssh.com", anybody),
    ),
    Mutant(
        "home-directory does not know the user",
        "home-directory-of-the-user",
        handler(b"home-directory", no_one),
    ),
    Mutant(
        "home-directory is the same for all",
        "home-directory-of-an-unknown-user",
        handler(b"home-directory", own_home),
    ),
)


# --- copies and digests ---------------------------------------------------------------------------------


def copies(fault: Any) -> Any:
    """copy-data is done otherwise. fault: called with copy_data() and its arguments."""
    return instead(handlers, "copy_data", fault)


def changed_copy(**changes: Any) -> Any:
    """copy-data with other numbers. changes: functions of offset, length or target_offset."""

    def fault(
        copy: Any, session: Session, source: Any, offset: int, length: int, target: Any, target_offset: int
    ) -> Any:
        numbers = {"offset": offset, "length": length, "target_offset": target_offset}
        for name, change in changes.items():
            numbers[name] = change(numbers[name])
        return copy(session, source, numbers["offset"], numbers["length"], target, numbers["target_offset"])

    return copies(fault)


def nothing_of_0(copy: Any, session: Session, source: Any, offset: int, length: int, *target: Any) -> Any:
    return length and copy(session, source, offset, length, *target)


def quietly(copy: Any, *arguments: Any) -> Any:
    try:
        return copy(*arguments)
    except SFTPFailure:
        return 0


def strict_copy(copy: Any, session: Session, source: Any, offset: int, length: int, *target: Any) -> Any:
    size = session.storage.fstat(source.object).size or 0
    if length and offset + length > size:
        raise SFTPFailure("the file is shorter")
    return copy(session, source, offset, length, *target)


def overwriting_copy(
    copy: Any, session: Session, source: Any, offset: int, length: int, target: Any, target_offset: int
) -> Any:
    """The end of a file opened to append is not looked for."""
    opened = session.storage.open(session.path(target.path), os.O_WRONLY, 0)
    plain = type(target)(b"another name", os.O_WRONLY, opened)
    try:
        return copy(session, source, offset, length, plain, target_offset)
    finally:
        session.storage.close(opened)


COPIES = (
    Mutant(
        "copy-data of length 0 copies nothing",
        "copy-of-a-whole-file",
        copies(
            lambda copy, session, source, offset, length, *more: (
                length and copy(session, source, offset, length, *more)
            )
        ),
    ),
    Mutant(
        "copy-data copies a byte too many",
        "copy-of-a-part",
        changed_copy(length=lambda length: length and length + 1),
    ),
    Mutant(
        "copy-data ignores the target's offset",
        "copy-behind-the-end",
        changed_copy(target_offset=lambda offset: 0),
    ),
    Mutant(
        "copy-data ignores the source's offset",
        "copy-from-an-offset-to-the-end",
        changed_copy(offset=lambda offset: 0),
    ),
    Mutant("copy-data of a file onto itself is OK", "copy-of-a-handle-into-itself", copies(quietly)),
    Mutant("copy-data over the end fails", "copy-over-the-end", copies(strict_copy)),
    Mutant("copy-data does not append", "copy-into-a-file-opened-to-append", copies(overwriting_copy)),
    Mutant(
        "copy-data with closed handles is OK", "copy-with-closed-handles", handler(b"copy-data", always_ok)
    ),
)


def digests(fault: Any) -> Any:
    """Digests are computed otherwise. fault: called with the function, the session, the file, offset, length,
    block size, algorithm and prefix."""
    return instead(checksums, "reply", fault)


def to_the_end(
    reply: Any, session: Session, file: Any, offset: int, length: int, block: int, *more: Any
) -> bytes:
    """As mod_sftp: without blocks the length is not looked at."""
    result: bytes = reply(session, file, offset, length if block else 0, block, *more)
    return result


def long_last_block(
    reply: Any, session: Session, file: Any, offset: int, length: int, block: int, *more: Any
) -> bytes:
    """As mod_sftp: the last block goes on behind the end of the part."""
    if block and length % block:
        length += block - length % block
    result: bytes = reply(session, file, offset, length, block, *more)
    return result


def blocks_of_the_file(
    reply: Any, session: Session, file: Any, offset: int, length: int, block: int, *more: Any
) -> bytes:
    """Blocks begin at multiples of their size."""
    if block:
        length += offset % block if length else 0
        offset -= offset % block
    result: bytes = reply(session, file, offset, length, block, *more)
    return result


def not_empty(reply: Any, session: Session, file: Any, *more: Any) -> bytes:
    if not session.storage.fstat(file.object).size:
        raise SFTPFailure("an empty file")
    result: bytes = reply(session, file, *more)
    return result


def own_order(choose: Any, algorithms: bytes, block: int) -> str:
    """The first one of the server's list that the client has named."""
    chosen: str = choose(algorithms, block)
    words = algorithms.decode("latin-1").split(",")
    return next((name for name in checksums.ALGORITHMS if name in words), chosen)


def default_algorithm(choose: Any, algorithms: bytes, block: int) -> str:
    chosen: str = choose(algorithms + b",md5", block)
    return chosen


def any_block(choose: Any, algorithms: bytes, block: int) -> str:
    chosen: str = choose(algorithms, 0)
    return chosen


def without_prefix(serve: Any, session: Session, rid: int, *arguments: Any) -> None:
    handlers.serve_check_file_handle(session, rid, *arguments)


class SwappedCRC(checksums.CRC32):
    def digest(self) -> bytes:
        return super().digest()[::-1]


def swapped_crc() -> AbstractContextManager[object]:
    return mock.patch.dict(checksums.ALGORITHMS, {"crc32": SwappedCRC})


CHECKS = (
    Mutant("check-file ignores the length", "checksum-of-a-part", digests(to_the_end)),
    Mutant("the last block is always full", "checksums-of-blocks-of-a-part", digests(long_last_block)),
    Mutant(
        "blocks begin at multiples of their size",
        "checksums-of-blocks-of-a-part",
        digests(blocks_of_the_file),
    ),
    Mutant("an empty file has no digest", "checksum-of-an-empty-file", digests(not_empty)),
    Mutant("the server's order decides", "first-known-algorithm", instead(checksums, "chosen", own_order)),
    Mutant(
        "an unknown algorithm is MD5", "unknown-algorithms", instead(checksums, "chosen", default_algorithm)
    ),
    Mutant("blocks may have any size", "blocks-that-are-too-small", instead(checksums, "chosen", any_block)),
    Mutant(
        "check-file has no name in its reply",
        "checksum-as-paramiko-asks",
        handler(b"check-file", without_prefix),
    ),
    Mutant("CRC-32 is in the wrong order", "every-announced-algorithm", swapped_crc),
)


# --- the end --------------------------------------------------------------------------------------------


class SharedHandles(SFTPServer):
    """All sessions of a storage have the same handles, which none closes at its end."""

    def __init__(self, storage: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(storage, *arguments, **options)
        self.handles = vars(storage).setdefault("_handles", self.handles)

    def close(self) -> None:
        self.output.clear()


class FinishesRequests(SFTPServer):
    """What is missing of a request when its session ends is zeros."""

    def close(self) -> None:
        if len(self.input_queue) > 4:
            missing = 4 + int.from_bytes(self.input_queue[:4], "big") - len(self.input_queue)
            self.input_queue += b"X" * missing
            self.process()
        super().close()


class ForgetsUploads(SFTPServerMemoryStorage):
    """A file that was not closed is empty."""

    def abandon(self, handle: Any) -> None:
        try:
            self.fsetstat(handle, SFTPAttributes(size=0))
        except Exception:  # it was open to be read
            pass
        super().abandon(handle)


ENDING = (
    Mutant("all sessions have the same handles", "handles-of-other-sessions", server=SharedHandles),
    Mutant("the end completes a request", "write-cut-off-by-the-end", server=FinishesRequests),
    Mutant(
        "what was not closed is lost",
        "acknowledged-writes-outlive-their-session",
        storage=ForgetsUploads,
    ),
)

MUTANTS = (*BEGINNING, *ORDER, *MALFORMED, *EXTENSIONS, *COPIES, *CHECKS, *ENDING)
