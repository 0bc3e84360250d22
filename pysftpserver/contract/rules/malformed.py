"""Rules for what no client should send: the server refuses it or ends that session; it never hangs, executes
none of it, and goes on serving other sessions.

A server may end the session at any malformed packet, as OpenSSH's does: the next probe begins a new one.
"""

from __future__ import annotations

from pysftpserver.contract.client import (
    EOF,
    NEW,
    NOT_FOUND,
    NOTHING,
    OK,
    READ,
    UNSUPPORTED,
    WRITE,
    Broken,
    Closed,
    names_of,
    status_name,
)
from pysftpserver.contract.packets import sftpattrs, sftpcmd, sftpint, sftpint64, sftpstring
from pysftpserver.contract.rules.protocol import LARGEST, REPLIES, kind_of
from pysftpserver.contract.subject import ANY_FAILURE
from pysftpserver.contract.table import DRAFT, MUST, OPENSSH, OPENSSH_SERVER, SHOULD, rule
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pysftpserver.contract.client import Client
    from pysftpserver.contract.subject import Subject

    #: A request: its name, type, and fields of a session with an open file and an open directory.
    Shape = tuple[str, int, Callable[["Probes"], tuple[bytes, ...]]]

BAD_MESSAGE = f"{DRAFT}, 7 (BAD_MESSAGE)"
ID = 0x7F000000  # of malformed requests: higher than a Client ever counts
FILES = ("open", "write", "close")
NO_ATTRIBUTES = sftpattrs(NOTHING)
MODE = wire.encode_u32(wire.SSH2_FILEXFER_ATTR_PERMISSIONS) + wire.encode_u32(0o640)
REFUSED = (*ANY_FAILURE, UNSUPPORTED, EOF)


class Probes:
    """Sends malformed packets, each to a working session: one that has ended is replaced."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.file = subject.file(b"file", b"content")
        self.handle = self.listing = b""
        self._client: Client | None = None
        self.client.close_handle(self.handle)  # some servers truncate files that they open for writing
        self.content = subject.content(self.file)
        self.handle = self.client.open(self.file, READ | WRITE)

    @property
    def client(self) -> Client:
        """A session with an open file and an open directory."""
        if self._client is None:
            self._client = client = self.subject.another()
            self.handle = client.open(self.file, READ | WRITE)
            self.listing = client.opendir(self.subject.path())
        return self._client

    def reply(self, stream: bytes) -> bytes | None:
        """Send these bytes; return the next packet, or None if the session ends."""
        client = self.client
        try:
            return client.raw(stream)
        except Closed:
            self._client = None
            client.close()
            return None

    def refused(self, what: str, packet: bytes, statuses: Iterable[int] = REFUSED) -> None:
        """Check that a packet gets one of these statuses or ends the session; other sessions go on."""
        reply = self.reply(packet)
        if reply is None:
            return
        self.check_id(what, packet, reply)
        status = self.client.status_in(reply)[0] if reply[4] == wire.SSH2_FXP_STATUS else OK
        if status not in statuses:
            expected = names_of(tuple(statuses))
            raise Broken(f"{what} was answered with {kind_of(reply)}, where {expected} was expected")

    def answered(self, what: str, packet: bytes) -> None:
        """Check that a packet gets any answer, or ends the session."""
        reply = self.reply(packet)
        if reply is not None:
            self.check_id(what, packet, reply)

    def check_id(self, what: str, packet: bytes, reply: bytes) -> None:
        """Check that the reply has the packet's request id."""
        if reply[4] not in REPLIES or reply[5:9] != packet[5:9]:
            raise Broken(f"{what} was answered with type {reply[4]} and the id {reply[5:9].hex()}")

    def finish(self) -> None:
        """Check that the rule's first session serves requests, and the last probe's if it goes on."""
        self.subject.client.realpath(b".")
        if self._client is not None:
            try:
                self._client.realpath(b".")
            except Closed:
                pass  # it has ended after its reply

    def unchanged(self) -> None:
        """Check that the file still has its content."""
        self.subject.equal(self.subject.content(self.file), self.content, "the content of the file")


def _shapes(*names: str) -> list[Shape]:
    return [shape for shape in SHAPES if shape[0] in names or not names]


def _of_path(probes: Probes) -> tuple[bytes, ...]:
    return (sftpstring(probes.subject.path(b"missing-name")),)


def _two_paths(probes: Probes) -> tuple[bytes, ...]:
    return _of_path(probes) + (sftpstring(probes.subject.path(b"other-name")),)


def _of_handle(probes: Probes) -> tuple[bytes, ...]:
    probes.client  # noqa: B018 -- opens the handle
    return (sftpstring(probes.handle),)


SHAPES: tuple[Shape, ...] = (
    ("OPEN", wire.SSH2_FXP_OPEN, lambda p: (sftpstring(p.file), sftpint(READ), MODE)),
    ("CLOSE", wire.SSH2_FXP_CLOSE, _of_handle),
    ("READ", wire.SSH2_FXP_READ, lambda p: (*_of_handle(p), sftpint64(0), sftpint(7))),
    ("WRITE", wire.SSH2_FXP_WRITE, lambda p: (*_of_handle(p), sftpint64(0), sftpstring(b"CONTENT"))),
    ("LSTAT", wire.SSH2_FXP_LSTAT, lambda p: (sftpstring(p.file),)),
    ("FSTAT", wire.SSH2_FXP_FSTAT, _of_handle),
    ("SETSTAT", wire.SSH2_FXP_SETSTAT, lambda p: (sftpstring(p.file), MODE)),
    ("FSETSTAT", wire.SSH2_FXP_FSETSTAT, lambda p: (*_of_handle(p), MODE)),
    ("OPENDIR", wire.SSH2_FXP_OPENDIR, lambda p: (sftpstring(p.subject.path()),)),
    ("READDIR", wire.SSH2_FXP_READDIR, lambda p: (*_of_handle(p)[:0], sftpstring(p.listing))),
    ("REMOVE", wire.SSH2_FXP_REMOVE, _of_path),
    ("MKDIR", wire.SSH2_FXP_MKDIR, lambda p: (*_of_path(p), MODE)),
    ("RMDIR", wire.SSH2_FXP_RMDIR, _of_path),
    ("REALPATH", wire.SSH2_FXP_REALPATH, lambda p: (sftpstring(p.subject.path()),)),
    ("STAT", wire.SSH2_FXP_STAT, lambda p: (sftpstring(p.file),)),
    ("RENAME", wire.SSH2_FXP_RENAME, _two_paths),
    ("READLINK", wire.SSH2_FXP_READLINK, _of_path),
    ("SYMLINK", wire.SSH2_FXP_SYMLINK, _two_paths),
)
EXTENDED: tuple[tuple[bytes, Callable[[Probes], tuple[bytes, ...]]], ...] = (
    (b"posix-rename@openssh.com", _two_paths),
    (b"statvfs@openssh.com", lambda p: (sftpstring(p.file),)),
    (b"fstatvfs@openssh.com", _of_handle),
    (b"hardlink@openssh.com", _two_paths),
    (b"fsync@openssh.com", _of_handle),
    (b"lsetstat@openssh.com", lambda p: (sftpstring(p.file), MODE)),
    (b"expand-path@openssh.com", lambda p: (sftpstring(p.file),)),
    (b"copy-data", lambda p: (*_of_handle(p), sftpint64(0), sftpint64(0), *_of_handle(p), sftpint64(0))),
    (b"home-directory", lambda p: (sftpstring(b"root"),)),
    (b"users-groups-by-id@openssh.com", lambda p: (sftpstring(sftpint(0)), sftpstring(sftpint(0)))),
    (
        b"check-file-handle",
        lambda p: (*_of_handle(p), sftpstring(b"md5"), sftpint64(0), sftpint64(0), sftpint(0)),
    ),
)


def _cuts(fields: tuple[bytes, ...], changes: bool = False) -> Iterator[bytes]:
    """The body, truncated before each field and within it.

    changes: whether the request changes something; then it is not truncated before the first path or in the
    path's length, because a server may take a missing path for the user's home.
    """
    for number, field in enumerate(fields):
        before = b"".join(fields[:number])
        yield before + field[:-1]
        if number or not changes:
            yield before
            yield before + field[:3]


# --- bodies ---------------------------------------------------------------------------------------------


def _cut_off(subject: Subject, *names: str, changes: bool = False) -> None:
    probes = Probes(subject)
    before = subject.names(subject.path())
    for name, kind, fields in _shapes(*names):
        for body in _cuts(fields(probes), changes):
            what = f"{name} with {len(body)} bytes of its body"
            probes.refused(what, sftpcmd(kind, body, request_id=ID))
    probes.finish()
    subject.equal(subject.names(subject.path()), before, "what is in the directory")
    probes.unchanged()


@rule(
    SHOULD,
    BAD_MESSAGE,
    "A request with a handle that is truncated at any field is refused or ends the session.",
    *FILES,
    *"read opendir".split(),
    of_server=True,
)
def handle_requests_cut_off(subject: Subject) -> None:
    _cut_off(subject, "CLOSE", "READ", "WRITE", "FSTAT", "FSETSTAT", "READDIR")


@rule(
    SHOULD,
    BAD_MESSAGE,
    "A request that looks up a path and is truncated at any field is refused or ends the session.",
    *FILES,
    *"read opendir".split(),
    of_server=True,
)
def look_ups_cut_off(subject: Subject) -> None:
    _cut_off(subject, "OPEN", "LSTAT", "STAT", "OPENDIR", "REALPATH", "READLINK")


@rule(
    SHOULD,
    BAD_MESSAGE,
    "A request that changes paths and is truncated at any field is refused or ends the session.",
    *FILES,
    *"read opendir".split(),
    of_server=True,
)
def changes_cut_off(subject: Subject) -> None:
    _cut_off(subject, "SETSTAT", "REMOVE", "MKDIR", "RMDIR", "RENAME", "SYMLINK", changes=True)


@rule(
    SHOULD,
    BAD_MESSAGE,
    "An extended request that is truncated at any field is refused or ends the session.",
    *FILES,
    *"read opendir".split(),
    of_server=True,
)
def extended_requests_cut_off(subject: Subject) -> None:
    probes = Probes(subject)
    announced = probes.client.extensions
    for name, fields in EXTENDED:
        if name not in announced and name != b"check-file-handle":
            continue
        for body in _cuts(fields(probes), fields is _two_paths):
            what = f"{name.decode()} with {len(body)} bytes of its body"
            packet = sftpcmd(wire.SSH2_FXP_EXTENDED, sftpstring(name), body, request_id=ID)
            probes.refused(what, packet)
    for body in (b"", b"\0\0", sftpstring(b"limits@openssh.com")[:-1]):
        probes.refused("EXTENDED without its name", sftpcmd(wire.SSH2_FXP_EXTENDED, body, request_id=ID))
    probes.finish()


@rule(
    SHOULD,
    BAD_MESSAGE,
    "A truncated path is not used: nothing that has the shorter name is changed.",
    *FILES,
    *"read opendir mkdir".split(),
    of_server=True,
)
def cut_off_names_are_not_used(subject: Subject) -> None:
    probes = Probes(subject)
    victim = subject.file(b"victim", b"content")
    subject.client.mkdir(subject.path(b"empty"))
    longer = sftpstring(victim + b"X")[:-1]  # all of the victim's path
    size = wire.encode_u32(wire.SSH2_FILEXFER_ATTR_SIZE) + wire.encode_u64(0)
    for name, kind, body in (
        ("REMOVE", wire.SSH2_FXP_REMOVE, longer),
        ("RMDIR", wire.SSH2_FXP_RMDIR, sftpstring(subject.path(b"empty") + b"X")[:-1]),
        ("RENAME", wire.SSH2_FXP_RENAME, sftpstring(victim) + sftpstring(subject.path(b"new") + b"X")[:-1]),
        ("MKDIR", wire.SSH2_FXP_MKDIR, sftpstring(subject.path(b"made") + b"X")[:-1]),
        ("SETSTAT", wire.SSH2_FXP_SETSTAT, sftpstring(victim) + size[:-1]),
        ("OPEN", wire.SSH2_FXP_OPEN, sftpstring(victim) + sftpint(NEW) + MODE[:-1]),
    ):
        probes.refused(f"{name} that is cut off", sftpcmd(kind, body, request_id=ID))
    probes.finish()
    subject.equal(subject.names(subject.path()), [b"empty", b"file", b"victim"], "what is in the directory")
    subject.equal(subject.content(victim), b"content", "the content of the file")


@rule(
    SHOULD,
    BAD_MESSAGE,
    "A WRITE with fewer bytes than it says writes nothing, and is refused or ends the session.",
    *FILES,
    *"read opendir".split(),
    of_server=True,
)
def write_with_too_few_bytes(subject: Subject) -> None:
    probes = Probes(subject)
    for said in (8, 1_000, 1 << 20, 1 << 31, LARGEST):
        probes.client  # noqa: B018 -- opens the handle
        body = sftpstring(probes.handle) + sftpint64(0) + sftpint(said) + b"CONTENT"
        what = f"WRITE of 7 bytes that says {said}"
        probes.refused(what, sftpcmd(wire.SSH2_FXP_WRITE, body, request_id=ID))
    probes.finish()
    probes.unchanged()


@rule(
    SHOULD,
    BAD_MESSAGE,
    "A request with bytes after its last field is answered or ends the session.",
    *FILES,
    "opendir",
    of_server=True,
)
def trailing_bytes(subject: Subject) -> None:
    probes = Probes(subject)
    for name, kind, fields in _shapes("READ", "STAT", "REALPATH", "REMOVE", "SETSTAT", "FSTAT", "READLINK"):
        for more in (b"\0", b"more bytes", bytes(5_000)):
            what = f"{name} with {len(more)} bytes more"
            probes.answered(what, sftpcmd(kind, *fields(probes), more, request_id=ID))
    probes.finish()


@rule(
    SHOULD,
    BAD_MESSAGE,
    "A string with a length beyond its packet, such as 2^31 or 2^32-1, is refused or ends the session.",
    *FILES,
    "opendir",
    of_server=True,
)
def strings_longer_than_their_packet(subject: Subject) -> None:
    probes = Probes(subject)
    for name, kind, fields in _shapes("OPEN", "READ", "STAT", "RENAME", "CLOSE", "REALPATH"):
        first, *rest = fields(probes)
        for said in (len(first), 1 << 31, LARGEST):
            body = sftpint(said) + first[4:]
            if said < 1 << 31:  # otherwise the fields after it would fill it
                rest = []
            what = f"{name} with a string that says to have {said} bytes"
            probes.refused(what, sftpcmd(kind, body, *rest, request_id=ID))
    for said in (1 << 31, LARGEST):
        packet = sftpcmd(wire.SSH2_FXP_EXTENDED, sftpint(said), b"limits@openssh.com", request_id=ID)
        probes.refused("EXTENDED with a name that is too long", packet)
    probes.finish()


@rule(
    SHOULD,
    f"{DRAFT}, 5",
    "Attributes with a larger extended_count than pairs are refused or end the session.",
    *FILES,
    "opendir",
    of_server=True,
)
def extended_attributes_that_are_missing(subject: Subject) -> None:
    probes = Probes(subject)
    flags = wire.encode_u32(wire.SSH2_FILEXFER_ATTR_EXTENDED)
    for count in (1, 1_000_000, LARGEST):
        attributes = flags + sftpint(count)
        path = sftpstring(subject.path(b"made"))
        what = f"attributes that say to have {count} extended pairs, and have none,"
        probes.refused(f"MKDIR with {what}", sftpcmd(wire.SSH2_FXP_MKDIR, path, attributes, request_id=ID))
        packet = sftpcmd(wire.SSH2_FXP_SETSTAT, sftpstring(probes.file), attributes, request_id=ID)
        probes.refused(f"SETSTAT with {what}", packet)
    probes.finish()
    subject.check(not subject.exists(subject.path(b"made")), "MKDIR with such attributes made a directory")


@rule(
    SHOULD,
    f"{DRAFT}, 5",
    "Attributes with flags that version 3 does not have are answered, or end the session.",
    *FILES,
    "opendir",
    of_server=True,
)
def unknown_attribute_flags(subject: Subject) -> None:
    probes = Probes(subject)
    for flags in (0x10, 0x100, 0x40000000, 0x7FFFFFF0):
        for more in (b"", bytes(64)):
            body = sftpstring(probes.file) + sftpint(flags) + more
            what = f"SETSTAT with the flags {flags:#x}"
            probes.answered(what, sftpcmd(wire.SSH2_FXP_SETSTAT, body, request_id=ID))
    probes.finish()
    probes.unchanged()


@rule(
    SHOULD,
    f"{DRAFT}, 6.2",
    "A path with a NUL byte is refused or ends the session: it is not cut at that byte.",
    *FILES,
    *"read opendir".split(),
    of_server=True,
)
def paths_with_a_nul_byte(subject: Subject) -> None:
    probes = Probes(subject)
    path = sftpstring(probes.file + b"\0more")
    for name, kind, *more in (
        ("STAT", wire.SSH2_FXP_STAT),
        ("OPEN", wire.SSH2_FXP_OPEN, sftpint(NEW), NO_ATTRIBUTES),
        ("REMOVE", wire.SSH2_FXP_REMOVE),
        ("RENAME", wire.SSH2_FXP_RENAME, sftpstring(subject.path(b"new"))),
    ):
        probes.refused(f"{name} of a path with a NUL byte", sftpcmd(kind, path, *more, request_id=ID))
    probes.finish()
    probes.unchanged()


# --- packets --------------------------------------------------------------------------------------------


def _not_misread(subject: Subject, what: str, packet: bytes) -> None:
    """Check that after a packet too short for a request, the next one is served or the session has ended."""
    client = subject.another()
    ask = sftpcmd(wire.SSH2_FXP_REALPATH, sftpstring(b"."), request_id=ID)
    try:
        reply = client.raw(packet + ask + ask)
        while reply[4] == wire.SSH2_FXP_STATUS:  # for what has no id
            subject.check(client.status_in(reply)[0] != OK, f"{what} was answered with STATUS OK")
            reply = client.packet()
        if (reply[4], reply[5:9]) != (wire.SSH2_FXP_NAME, ID.to_bytes(4, "big")):
            subject.broken(f"after {what}, REALPATH was answered with {kind_of(reply)}")
    except Closed:
        pass
    subject.client.realpath(b".")


@rule(
    SHOULD,
    f"{DRAFT}, 3",
    "A packet of length 0 ends the session or is ignored; the requests after it are not misread.",
    of_server=True,
)
def packet_of_length_0(subject: Subject) -> None:
    _not_misread(subject, "a packet of length 0", sftpint(0))


@rule(
    SHOULD,
    f"{DRAFT}, 3",
    "A packet too short for a request id ends the session, or the packets after it are not misread.",
    of_server=True,
)
def packets_without_a_request_id(subject: Subject) -> None:
    for length in (1, 2, 4):
        for kind in (wire.SSH2_FXP_STAT, wire.SSH2_FXP_EXTENDED, 99):
            packet = sftpint(length) + bytes((kind,)) + bytes(length - 1)
            _not_misread(subject, f"a packet of length {length}", packet)


@rule(
    SHOULD,
    BAD_MESSAGE,
    "INIT with a missing or truncated version ends the session or is refused.",
    of_server=True,
)
def init_cut_off(subject: Subject) -> None:
    for body in (b"", b"\0\0\0"):
        client = subject.bare()
        try:
            reply = client.raw(sftpcmd(wire.SSH2_FXP_INIT, body))
        except Closed:
            continue
        subject.check(
            reply[4] == wire.SSH2_FXP_STATUS, f"INIT that is cut off was answered with type {reply[4]}"
        )
    subject.client.realpath(b".")


@rule(
    SHOULD,
    f"{DRAFT}, 3",
    "A packet length of 2^31 or 2^32-1 ends the session: the server does not wait for the bytes.",
    of_server=True,
)
def packets_of_gigabytes(subject: Subject) -> None:
    for length in (1 << 31, LARGEST):
        client = subject.another()
        try:
            reply = client.raw(sftpint(length) + bytes((wire.SSH2_FXP_WRITE,)) + bytes(1_000))
        except Closed:
            continue
        status = client.status_in(reply)[0] if reply[4] == wire.SSH2_FXP_STATUS else OK
        subject.check(status != OK, f"a packet of {length} bytes was answered with {kind_of(reply)}")
    subject.client.realpath(b".")


@rule(
    SHOULD,
    f"{OPENSSH}, 4.8",
    "A packet longer than limits@openssh.com announces is answered or ends its own session only.",
    "limits@openssh.com",
    of_server=True,
)
def packet_over_the_limit(subject: Subject) -> None:
    most = subject.client.limits()[0]
    if not 0 < most <= 1 << 24:  # unlimited, or more than a probe should send
        return
    client = subject.another()
    fixed = sftpcmd(wire.SSH2_FXP_EXTENDED, sftpstring(b"unknown@example.com"), request_id=ID)
    filler = bytes(most + 1 - len(fixed) + 4)
    try:
        reply = client.raw(sftpint(len(fixed) - 4 + len(filler)) + fixed[4:] + filler)
        subject.check(reply[4] == wire.SSH2_FXP_STATUS, f"it was answered with {kind_of(reply)}")
    except Closed:
        pass
    subject.client.realpath(b".")


# --- types ----------------------------------------------------------------------------------------------


@rule(
    SHOULD,
    f"{DRAFT}, 7 (OP_UNSUPPORTED)",
    "A request of an unknown type is answered with OP_UNSUPPORTED, or another failure, or ends the session.",
    *FILES,
    "opendir",
    of_server=True,
)
def unknown_types(subject: Subject) -> None:
    probes = Probes(subject)
    for kind in (0, 21, 22, 50, 100, 106, 199, 202, 255):
        for body in (b"", sftpstring(probes.file)):
            probes.refused(f"type {kind}", sftpcmd(kind, body, request_id=ID), (UNSUPPORTED, *ANY_FAILURE))
    probes.finish()


@rule(
    SHOULD,
    f"{DRAFT}, 7",
    "Packets of reply types that a client sends are refused or end the session.",
    *FILES,
    "opendir",
    of_server=True,
)
def replies_as_requests(subject: Subject) -> None:
    probes = Probes(subject)
    status = sftpint(0) + sftpstring(b"OK") + sftpstring(b"")
    for kind, body in (
        (wire.SSH2_FXP_VERSION, b""),
        (wire.SSH2_FXP_STATUS, status),
        (wire.SSH2_FXP_HANDLE, sftpstring(b"handle")),
        (wire.SSH2_FXP_DATA, sftpstring(b"data")),
        (wire.SSH2_FXP_NAME, sftpint(0)),
        (wire.SSH2_FXP_ATTRS, NO_ATTRIBUTES),
        (wire.SSH2_FXP_EXTENDED_REPLY, b""),
    ):
        probes.refused(f"type {kind}", sftpcmd(kind, body, request_id=ID))
    probes.finish()


@rule(
    MUST,
    f"{DRAFT}, 8",
    "An extended request with an unknown name is answered with OP_UNSUPPORTED.",
    of_server=True,
)
def unknown_extended_requests(subject: Subject) -> None:
    for name in (
        b"unknown@example.com",
        b"unknown",
        b"LIMITS@OPENSSH.COM",
        b"x" * 300,
    ):
        for more in (b"", sftpstring(subject.path()), b"\xff\xff\xff\xff\0"):
            reply = subject.client.extended(name, more)
            status = subject.client.status_in(reply)[0] if reply[4] == wire.SSH2_FXP_STATUS else OK
            if status != UNSUPPORTED:
                subject.broken(f"{name!r} was answered with {kind_of(reply)}")


@rule(
    MUST,
    f"{DRAFT}, 8",
    "An extended request with an empty name is answered with OP_UNSUPPORTED.",
    of_server=True,
)
def extended_request_without_a_name(subject: Subject) -> None:
    reply = subject.client.extended(b"")
    status = subject.client.status_in(reply)[0] if reply[4] == wire.SSH2_FXP_STATUS else OK
    subject.check(status == UNSUPPORTED, f"it was answered with {kind_of(reply)}")


@rule(
    SHOULD,
    BAD_MESSAGE,
    "Random bytes in the body of any request are answered or end the session, and change nothing.",
    *FILES,
    *"read opendir".split(),
    of_server=True,
)
def random_bodies(subject: Subject) -> None:
    probes = Probes(subject)
    for _, kind, _ in SHAPES:
        for _ in range(3):
            # A path in the directory, in case a server uses as much of it as there is.
            name = subject.random.randbytes(40).replace(b"/", b"")
            body = sftpint(subject.random.randrange(1 << 16, 1 << 32)) + subject.path(name)
            probes.refused(f"type {kind} with random bytes", sftpcmd(kind, body, request_id=ID))
    probes.finish()
    subject.equal(subject.names(subject.path()), [b"file"], "what is in the directory")
    probes.unchanged()


@rule(
    SHOULD,
    OPENSSH_SERVER,
    "A malformed packet that ends its session does not end other sessions.",
    *FILES,
    *"read opendir".split(),
    of_server=True,
)
def other_sessions_go_on(subject: Subject) -> None:
    path = subject.file(b"other", b"content")
    handle = subject.client.open(path)
    probes = Probes(subject)
    for stream in (sftpint(LARGEST) + bytes(1_000), sftpcmd(wire.SSH2_FXP_OPEN, b"\xff" * 9, request_id=ID)):
        probes.reply(stream)
        subject.equal(subject.client.read(handle, 0, 7), b"content", "what another session reads")
    subject.client.close_handle(handle)
    missing = subject.path(b"missing")
    status = subject.another().status_of(wire.SSH2_FXP_STAT, sftpstring(missing))
    subject.check(status == NOT_FOUND, f"a new session answers STAT with {status_name(status)}")
