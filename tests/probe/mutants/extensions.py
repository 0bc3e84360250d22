"""Mutants for the rules of extensions, copies and checksums."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from pysftpserver.engine import checksums, handlers, wire
from pysftpserver.engine.requests import EXTENDED_REQUESTS, REQUESTS
from pysftpserver.engine.session import Session
from pysftpserver.pysftpexceptions import (
    SFTPException,
    SFTPFailure,
    SFTPUnsupported,
)
from pysftpserver.server import SFTPServer
from tests.probe.mutation import Careful, Mutant, handler, instead


def row(name: int | bytes, field: str, value: object) -> Any:
    """A field of a row of the table of requests is another one."""
    owner = EXTENDED_REQUESTS[name] if isinstance(name, bytes) else REQUESTS[name]
    return lambda: mock.patch.object(owner, field, value)


def failing(error: BaseException) -> Any:
    """A handler that fails in place of what it would have failed with, or did."""

    def fault(serve: Any, session: Session, rid: int, *arguments: Any) -> Any:
        raise error

    return fault


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
        also="fsync-of-a-file",
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
        also=None,
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
        also="open-many",
    ),
    Mutant(
        "a READ over the limit is refused",
        "read-over-the-announced-length",
        handler(wire.SSH2_FXP_READ, refuses_long_reads),
        server=Careful,
        also="read-too-long",
    ),
    Mutant("fsync@openssh.com never fails", "fsync-of-no-handle", handler(b"fsync@openssh.com", always_ok)),
    Mutant(
        "expand-path@openssh.com knows no tilde",
        "expand-path-of-a-tilde",
        handler(b"expand-path@openssh.com", plain_realpath),
        also="expand-path-of-an-unknown-user home-directory-of-the-user",
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
        also=(
            "copy-from-an-offset-to-the-end copy-into-a-file-opened-to-append "
            "copy-of-a-handle-into-itself copy-with-the-wrong-access"
        ),
    ),
    Mutant(
        "copy-data copies a byte too many",
        "copy-of-a-part",
        changed_copy(length=lambda length: length and length + 1),
        also="copy-behind-the-end copy-into-a-file-opened-to-append",
    ),
    Mutant(
        "copy-data ignores the target's offset",
        "copy-behind-the-end",
        changed_copy(target_offset=lambda offset: 0),
        also="copy-from-an-offset-to-the-end copy-of-a-part copy-to-offsets-that-no-file-has",
    ),
    Mutant(
        "copy-data ignores the source's offset",
        "copy-from-an-offset-to-the-end",
        changed_copy(offset=lambda offset: 0),
        also=("copy-into-a-file-opened-to-append copy-of-a-part copy-of-nothing copy-over-the-end"),
    ),
    Mutant(
        "copy-data of a file onto itself is OK",
        "copy-of-a-handle-into-itself",
        copies(quietly),
        also="copy-within-a-file",
    ),
    Mutant("copy-data over the end fails", "copy-over-the-end", copies(strict_copy)),
    Mutant(
        "copy-data does not append",
        "copy-into-a-file-opened-to-append",
        copies(overwriting_copy),
        also="copy-of-a-handle-into-itself",
    ),
    Mutant(
        "copy-data with closed handles is OK",
        "copy-with-closed-handles",
        handler(b"copy-data", always_ok),
        also=(
            "copy-of-a-handle-into-itself copy-to-offsets-that-no-file-has "
            "copy-with-a-directory copy-within-a-file"
        ),
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
    Mutant(
        "the last block is always full",
        "checksums-of-blocks-of-a-part",
        digests(long_last_block),
        also="checksum-as-paramiko-asks",
    ),
    Mutant(
        "blocks begin at multiples of their size",
        "checksums-of-blocks-of-a-part",
        digests(blocks_of_the_file),
        also="checksum-as-paramiko-asks checksum-over-the-end",
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
    Mutant(
        "CRC-32 is in the wrong order",
        "every-announced-algorithm",
        swapped_crc,
        also="first-known-algorithm",
    ),
)


MUTANTS = (*EXTENSIONS, *COPIES, *CHECKS)
