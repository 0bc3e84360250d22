"""Servers with one fault each, as clients meet them: our own, with requests and replies changed on the way.

    python -m tests.probe.faulty DIRECTORY FAULT

serves a directory with a fault on standard input and output, for real clients.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract import packets
from pysftpserver.contract.client import (
    APPEND,
    CREAT,
    DENIED,
    EXCL,
    FAILED,
    TRUNC,
    UNSUPPORTED,
    Closed,
    Silent,
)
from pysftpserver.contract.in_process import ServerLine
from pysftpserver.engine import wire

RENAME_EXTENSION = b"posix-rename@openssh.com"
WRITTEN = wire.SSH2_FXF_WRITE
SMALL = 1 << 14  # bytes
SETS = (wire.SSH2_FXP_SETSTAT, wire.SSH2_FXP_FSETSTAT)
ATTRS = (wire.SSH2_FXP_STAT, wire.SSH2_FXP_LSTAT, wire.SSH2_FXP_FSTAT)


class Request:
    """A request packet: its kind, its id, its first string (the path, the handle, the extension's name), and
    what follows that."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.kind = packet[4]
        self.begins = self.kind == wire.SSH2_FXP_INIT
        self.id = 0 if self.begins else int.from_bytes(packet[5:9], "big")
        self.first, self.rest = b"", b""
        if not self.begins:
            self.first, position = wire.string_at(packet, 9, len(packet))
            self.rest = packet[position:]

    def changed(self, kind: int, *fields: bytes) -> bytes:
        return packets.sftpcmd(kind, *fields, request_id=self.id)

    @property
    def flags(self) -> int:
        """Of an OPEN; of anything else 0."""
        return int.from_bytes(self.rest[:4], "big") if self.kind == wire.SSH2_FXP_OPEN else 0

    @property
    def attributes(self) -> SFTPAttributes:
        """What the request sets."""
        if self.kind == wire.SSH2_FXP_OPEN:
            return wire.attributes_at(self.rest, 4, len(self.rest))
        if self.kind in SETS:
            return wire.attributes_at(self.rest, 0, len(self.rest))
        return SFTPAttributes()

    @property
    def length(self) -> int:
        """What a READ asks for, or a WRITE brings."""
        if self.kind not in (wire.SSH2_FXP_READ, wire.SSH2_FXP_WRITE):
            return 0
        return int.from_bytes(self.rest[8:12], "big")


@dataclass
class Fault:
    """refuses: the status of a refusal, or 0. asks: what is asked of the server in place of a request.
    answers: what is answered in place of its reply."""

    refuses: Callable[[Request], int] = lambda request: 0
    asks: Callable[[Request], bytes] = lambda request: request.packet
    answers: Callable[[Request, bytes], bytes] = lambda request, reply: reply


def without(request: Request, *fields: str) -> bytes:
    """A request that does not set these."""
    kept = request.attributes
    if request.kind != wire.SSH2_FXP_OPEN and request.kind not in SETS:
        return request.packet
    for field in fields:
        setattr(kept, field, None)
    flags = [request.rest[:4]] if request.kind == wire.SSH2_FXP_OPEN else []
    return request.changed(request.kind, packets.sftpstring(request.first), *flags, packets.sftpattrs(kept))


def flagless(flag: int) -> Fault:
    """OPEN does as if a flag were not there."""

    def asks(request: Request) -> bytes:
        if not request.flags & flag:
            return request.packet
        flags = packets.sftpint(request.flags & ~flag)
        return request.changed(request.kind, packets.sftpstring(request.first), flags, request.rest[4:])

    return Fault(asks=asks)


def renames(request: Request) -> bytes:
    """posix-rename@openssh.com does what RENAME does."""
    if request.first != RENAME_EXTENSION:
        return request.packet
    return request.changed(wire.SSH2_FXP_RENAME, request.rest)


def replaces(request: Request) -> bytes:
    """RENAME does what posix-rename@openssh.com does."""
    if request.kind != wire.SSH2_FXP_RENAME:
        return request.packet
    return request.changed(
        wire.SSH2_FXP_EXTENDED,
        packets.sftpstring(RENAME_EXTENSION),
        packets.sftpstring(request.first),
        request.rest,
    )


def lacks(*names: bytes) -> Fault:
    """The server has not heard of extensions."""

    def answers(request: Request, reply: bytes) -> bytes:
        if not request.begins:
            return reply
        kept = [
            packets.sftpstring(name) + packets.sftpstring(data)
            for name, data in packets.get_sftpextensions(reply).items()
            if name not in names
        ]
        return packets.sftpstring(bytes((wire.SSH2_FXP_VERSION,)) + packets.sftpint(3) + b"".join(kept))

    return Fault(refuses=lambda request: UNSUPPORTED if request.first in names else 0, answers=answers)


def entries(change: Callable[[bytes, SFTPAttributes], tuple[bytes, SFTPAttributes]]) -> Fault:
    """Listings have other longnames and attributes."""

    def answers(request: Request, reply: bytes) -> bytes:
        if request.kind != wire.SSH2_FXP_READDIR or reply[4] != wire.SSH2_FXP_NAME:
            return reply
        found = packets.get_sftpentries(reply)
        body = [packets.sftpint(len(found))]
        for name, longname, attributes in found:
            longname, attributes = change(longname, attributes)
            body += [packets.sftpstring(name), packets.sftpstring(longname), packets.sftpattrs(attributes)]
        return request.changed(wire.SSH2_FXP_NAME, *body)

    return Fault(answers=answers)


def timeless(longname: bytes, attributes: SFTPAttributes) -> tuple[bytes, SFTPAttributes]:
    attributes.atime = attributes.mtime = None
    return longname, attributes


def sizes(size: int | None) -> Fault:
    """STAT, LSTAT and FSTAT of files say another size, or none."""

    def answers(request: Request, reply: bytes) -> bytes:
        if request.kind not in ATTRS or reply[4] != wire.SSH2_FXP_ATTRS:
            return reply
        attributes = packets.get_sftpstat(reply)
        attributes.size = size
        return request.changed(wire.SSH2_FXP_ATTRS, packets.sftpattrs(attributes))

    return Fault(answers=answers)


def short(request: Request) -> bytes:
    """READ brings half of what was asked for."""
    if request.kind != wire.SSH2_FXP_READ:
        return request.packet
    length = packets.sftpint((request.length + 1) // 2)
    return request.changed(request.kind, packets.sftpstring(request.first), request.rest[:8], length)


def small(request: Request, reply: bytes) -> bytes:
    """limits@openssh.com says that READs may be short only."""
    if request.first != b"limits@openssh.com":
        return reply
    return reply[:17] + packets.sftpint64(SMALL) + reply[25:]


def fails(*kinds: int, status: int = FAILED) -> Fault:
    return Fault(refuses=lambda request: status if request.kind in kinds else 0)


class Closing(Fault):
    """CLOSE of a file that was written fails."""

    def __init__(self) -> None:
        super().__init__()
        self._written: set[bytes] = set()
        self.refuses = self._refuses

    def _refuses(self, request: Request) -> int:
        if request.kind == wire.SSH2_FXP_WRITE:
            self._written.add(request.first)
        return FAILED if request.kind == wire.SSH2_FXP_CLOSE and request.first in self._written else 0


def ends(request: Request) -> bytes:
    """A session that asks for another version than 3 ends."""
    if request.begins and request.packet[-1] != 3:
        raise Closed("the server ended the session")
    return request.packet


#: Faults by name: each makes a new one for each session.
FAULTS: dict[str, Callable[[], Fault]] = {
    "times are not kept": lambda: Fault(asks=lambda request: without(request, "atime", "mtime")),
    "permissions are not kept": lambda: Fault(asks=lambda request: without(request, "permissions")),
    "permissions are refused": lambda: Fault(
        refuses=lambda request: (
            DENIED if request.kind in SETS and request.attributes.permissions is not None else 0
        )
    ),
    "SETSTAT and FSETSTAT are refused": lambda: fails(*SETS, status=UNSUPPORTED),
    "FSETSTAT is refused": lambda: fails(wire.SSH2_FXP_FSETSTAT, status=UNSUPPORTED),
    "no posix-rename": lambda: lacks(RENAME_EXTENSION),
    "posix-rename refuses over existing": lambda: Fault(asks=renames),
    "RENAME replaces": lambda: Fault(asks=replaces),
    "renaming is refused": lambda: Fault(
        refuses=lambda request: (
            DENIED if request.kind == wire.SSH2_FXP_RENAME or request.first == RENAME_EXTENSION else 0
        )
    ),
    "short reads": lambda: Fault(asks=short),
    "long READs are refused, as limits say": lambda: Fault(
        refuses=lambda request: (
            FAILED if request.kind == wire.SSH2_FXP_READ and request.length > SMALL else 0
        ),
        answers=small,
    ),
    "limits promise too much": lambda: Fault(
        refuses=lambda request: (
            FAILED if request.kind == wire.SSH2_FXP_WRITE and request.length > 1 << 15 else 0
        )
    ),
    "no limits": lambda: lacks(b"limits@openssh.com"),
    "CLOSE fails": Closing,
    "listings without times": lambda: entries(timeless),
    "longname is garbage": lambda: entries(lambda longname, attributes: (b"?", attributes)),
    "no statvfs": lambda: lacks(b"statvfs@openssh.com"),
    "no fsync": lambda: lacks(b"fsync@openssh.com"),
    "APPEND is ignored": lambda: flagless(APPEND),
    "EXCL is refused": lambda: Fault(refuses=lambda request: FAILED if request.flags & EXCL else 0),
    "TRUNC is ignored": lambda: flagless(TRUNC),
    "TRUNC without CREAT is refused": lambda: Fault(
        refuses=lambda request: FAILED if request.flags & TRUNC and not request.flags & CREAT else 0
    ),
    "sizes are 0": lambda: sizes(0),
    "sizes are missing": lambda: sizes(None),
    "INIT with another version ends": lambda: Fault(asks=ends),
}


class FaultyLine(ServerLine):
    """A line to a session of such a server."""

    def __init__(self, storage: SFTPAbstractServerStorage, fault: Fault, **options: Any) -> None:
        super().__init__(storage, **options)
        self._fault = fault
        self._received = b""

    def send(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= 4:
            end = 4 + int.from_bytes(self._received[:4], "big")
            if len(self._received) < end:
                return
            packet, self._received = self._received[:end], self._received[end:]
            self._serve(Request(packet))

    def _serve(self, request: Request) -> None:
        status = self._fault.refuses(request)
        if status:
            body = packets.sftpint(status), packets.sftpstring(b"the fault"), packets.sftpstring(b"")
            self._replies += request.changed(wire.SSH2_FXP_STATUS, *body)
            return
        before, self._replies = self._replies, b""
        super().send(self._fault.asks(request))
        self._replies = before + self._fault.answers(request, self._replies)


def main() -> None:
    from pysftpserver.virtualchroot import SFTPServerVirtualChroot

    directory, name = sys.argv[1:]
    line = FaultyLine(SFTPServerVirtualChroot(directory), FAULTS[name]())
    while head := sys.stdin.buffer.read(4):
        try:
            line.send(head + sys.stdin.buffer.read(int.from_bytes(head, "big")))
            sys.stdout.buffer.write(line.receive(0))
        except Silent:
            continue
        except Closed:
            break
        sys.stdout.buffer.flush()
    line.close()


if __name__ == "__main__":
    main()
