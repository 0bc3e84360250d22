"""Mutants for the rules of sessions: how they begin, what STATUS says, and how they end."""

from __future__ import annotations

from typing import Any

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.engine import wire
from pysftpserver.engine.session import Session
from pysftpserver.pysftpexceptions import (
    SFTPFailure,
)
from pysftpserver.server import SFTPServer
from tests.probe.mutation import Careful, Mutant, handler, instead
from tests.support.memory import SFTPServerMemoryStorage

STATUS = wire.SSH2_FXP_STATUS
OK, FAILURE, NOT_FOUND = (b"\0\0\0" + bytes((code,)) for code in (0, 4, 2))
UNSUPPORTED_CODE = wire.SSH2_FX_OP_UNSUPPORTED


def status(change: Any) -> Any:
    """STATUS is otherwise. change: code, message and language tag to what is sent in their place."""

    def changed(make: Any, session: Session, rid: int, code: int, message: bytes | None) -> bytes:
        body = make(session, rid, code, message)[9:]
        text, pos = wire.string_at(body, 4, len(body))
        return wire.encode_packet(STATUS, rid, change(body[:4], text, body[pos + 4 :]))

    return instead(Session, "_status", changed)


def string(value: bytes) -> bytes:
    return wire.encode_string(value)


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
    Mutant(
        "VERSION is above the client's",
        "version-of-newer-clients",
        init(newer),
        also="init-cut-off",
    ),
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
        also=None,
    ),
    Mutant(
        "REALPATH has two names",
        "realpath-one-name",
        handler(wire.SSH2_FXP_REALPATH, two_names),
        also=None,
    ),
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
        also=None,
    ),
    Mutant(
        "RMDIR answers a code of version 6",
        "status-codes-of-version-3",
        handler(wire.SSH2_FXP_RMDIR, as_code_18),
        also=(
            "dots-are-no-names rmdir-of-file rmdir-of-full-directory "
            "rmdir-of-full-directory-status rmdir-of-link rmdir-of-missing"
        ),
    ),
    Mutant("request ids have 31 bits", "request-ids-come-back", server=ShortIds),
    Mutant(
        "a request id cannot be used again",
        "request-ids-can-be-used-again",
        server=RemembersIds,
        also=None,
    ),
    Mutant(
        "a REMOVE that fails is answered twice",
        "one-reply-to-each-request",
        handler(wire.SSH2_FXP_REMOVE, twice),
        also=None,
    ),
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
    Mutant(
        "all sessions have the same handles",
        "handles-of-other-sessions",
        server=SharedHandles,
        also="handles-of-ended-sessions",
    ),
    Mutant(
        "the end completes a request",
        "write-cut-off-by-the-end",
        server=FinishesRequests,
        also="requests-cut-off-by-the-end",
    ),
    Mutant(
        "what was not closed is lost",
        "acknowledged-writes-outlive-their-session",
        storage=ForgetsUploads,
    ),
)

MUTANTS = (*BEGINNING, *ENDING)
