"""Rules for the protocol itself: INIT and VERSION, kinds of replies, STATUS, and request ids."""

from __future__ import annotations

import re

from pysftpserver.contract import packets
from pysftpserver.contract.client import (
    CREAT,
    NEW,
    NOTHING,
    OK,
    READ,
    STATUS_NAMES,
    WRITE,
    Closed,
    refusal_of,
    status_name,
)
from pysftpserver.contract.packets import sftpattrs, sftpcmd, sftpint, sftpint64, sftpstring
from pysftpserver.contract.table import CLIENT, DRAFT, MUST, SHOULD, rule
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pysftpserver.contract.client import Client
    from pysftpserver.contract.subject import Subject

VERSION_3 = 3
LARGEST = 0xFFFFFFFF
NO_ATTRIBUTES = sftpattrs(NOTHING)
CHANGES = "open write close mkdir".split()
LANGUAGE = re.compile(rb"(?:[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)?")  # RFC 1766; usually empty
#: Types that a reply may have, besides VERSION.
REPLIES = {
    wire.SSH2_FXP_STATUS: "STATUS",
    wire.SSH2_FXP_HANDLE: "HANDLE",
    wire.SSH2_FXP_DATA: "DATA",
    wire.SSH2_FXP_NAME: "NAME",
    wire.SSH2_FXP_ATTRS: "ATTRS",
    wire.SSH2_FXP_EXTENDED_REPLY: "EXTENDED_REPLY",
}


def kind_of(reply: bytes) -> str:
    """The type of a reply for a sentence, with the code of a STATUS."""
    if reply[4] == wire.SSH2_FXP_STATUS and len(reply) >= 13:
        return f"STATUS {status_name(int.from_bytes(reply[9:13], 'big'))}"
    return REPLIES.get(reply[4], f"type {reply[4]}")


def _version(client: Client, version: int) -> int | None:
    """The version that the server answers to INIT; None if it ends the session."""
    try:
        client.hello(version)
    except Closed:
        return None
    return client.version


# --- INIT and VERSION -----------------------------------------------------------------------------------


@rule(MUST, f"{DRAFT}, 4", "INIT with version 3 is answered with VERSION 3.", of_server=True)
def version_3(subject: Subject) -> None:
    subject.equal(_version(subject.bare(), VERSION_3), VERSION_3, "the version that INIT 3 is answered with")


@rule(
    MUST,
    f"{DRAFT}, 4",
    "INIT with a version above 3 is answered with a version from 3 up to the client's.",
    of_server=True,
)
def version_of_newer_clients(subject: Subject) -> None:
    for asked in (4, 6, LARGEST):
        found = _version(subject.bare(), asked)
        if found is None or not VERSION_3 <= found <= asked:
            subject.broken(f"INIT {asked} was answered with version {found}")


@rule(
    SHOULD,
    f"{DRAFT}, 4",
    "INIT with a version below 3 is answered with that version or a failure, or ends the session.",
    of_server=True,
)
def version_of_older_clients(subject: Subject) -> None:
    for asked in (0, 1, 2):
        try:
            reply = subject.bare().raw(sftpcmd(wire.SSH2_FXP_INIT, sftpint(asked)))
        except Closed:
            continue
        if reply[4] == wire.SSH2_FXP_VERSION:
            found = wire.u32_at(reply, 5, len(reply))
            subject.check(found == asked, f"INIT {asked} was answered with version {found}, which is higher")


@rule(
    MUST,
    f"{DRAFT}, 4",
    "Unknown extensions in INIT are ignored, also those without data.",
    of_server=True,
)
def unknown_extensions_in_init(subject: Subject) -> None:
    for more in (
        sftpstring(b"unknown@example.com") + sftpstring(b""),
        sftpstring(b"no-domain")
        + sftpstring(b"1")
        + sftpstring(b"other@example.com")
        + sftpstring(b"\xff\0"),
        sftpstring(b"") + sftpstring(b""),
        sftpstring(b"long@example.com") + sftpstring(b"x" * 1000),
    ):
        client = subject.bare()
        client.hello(VERSION_3, more)
        subject.equal(client.version, VERSION_3, "the version")
        client.realpath(b".")


@rule(
    MUST,
    f"{DRAFT}, 4",
    "VERSION has a name and a data string, which may be empty, for each extension, and nothing more.",
    of_server=True,
)
def version_is_whole(subject: Subject) -> None:
    client = subject.bare()
    client.hello()  # decodes strictly
    subject.check(b"" not in client.extensions, "VERSION announces an extension without a name")


@rule(
    SHOULD,
    f"{DRAFT}, 4",
    "A second INIT is answered with VERSION or a STATUS, or ends the session.",
    of_server=True,
)
def init_twice(subject: Subject) -> None:
    client = subject.another()
    try:
        reply = client.raw(sftpcmd(wire.SSH2_FXP_INIT, sftpint(VERSION_3)))
        if reply[4] not in (wire.SSH2_FXP_VERSION, wire.SSH2_FXP_STATUS):
            subject.broken(f"INIT was answered with {kind_of(reply)}")
        client.realpath(b".")
    except Closed:
        pass


@rule(
    SHOULD,
    f"{DRAFT}, 4",
    "A request before INIT is refused or ends the session.",
    "mkdir",
    "lstat",
    of_server=True,
)
def requests_before_init(subject: Subject) -> None:
    path = sftpstring(subject.path(b"d"))
    for kind, fields in (
        (wire.SSH2_FXP_REALPATH, sftpstring(b".")),
        (wire.SSH2_FXP_MKDIR, path + NO_ATTRIBUTES),
        (wire.SSH2_FXP_EXTENDED, sftpstring(b"limits@openssh.com")),
    ):
        client = subject.bare()
        try:
            reply = client.raw(sftpcmd(kind, fields, request_id=1))
        except Closed:
            continue
        if reply[4] != wire.SSH2_FXP_STATUS or client.status_in(reply)[0] == OK:
            subject.broken(f"a request of type {kind} before INIT was answered with {kind_of(reply)}")
    subject.check(not subject.exists(subject.path(b"d")), "MKDIR before INIT has made a directory")


# --- kinds of replies -----------------------------------------------------------------------------------


def _answers(subject: Subject, expected: int, kind: int, *fields: bytes) -> bytes:
    """Check that a request succeeds with this type of reply; return the reply."""
    reply = subject.client.ask(kind, *fields)
    if reply[4] != expected or expected == wire.SSH2_FXP_STATUS and subject.client.status_in(reply)[0] != OK:
        subject.broken(f"type {kind} was answered with {kind_of(reply)} instead of {REPLIES[expected]}")
    return reply


@rule(
    MUST,
    f"{DRAFT}, 7",
    "OPEN is answered with HANDLE, READ with DATA, FSTAT with ATTRS, and WRITE and CLOSE with STATUS OK.",
    *"open read write close fstat".split(),
    of_server=True,
)
def kinds_of_file_replies(subject: Subject) -> None:
    path = subject.file(b"f", b"content")
    reply = _answers(
        subject,
        wire.SSH2_FXP_HANDLE,
        wire.SSH2_FXP_OPEN,
        sftpstring(path),
        sftpint(READ | WRITE),
        NO_ATTRIBUTES,
    )
    handle = sftpstring(packets.get_sftphandle(reply))
    _answers(subject, wire.SSH2_FXP_DATA, wire.SSH2_FXP_READ, handle, sftpint64(0), sftpint(7))
    _answers(subject, wire.SSH2_FXP_STATUS, wire.SSH2_FXP_WRITE, handle, sftpint64(0), sftpstring(b"C"))
    _answers(subject, wire.SSH2_FXP_ATTRS, wire.SSH2_FXP_FSTAT, handle)
    _answers(subject, wire.SSH2_FXP_STATUS, wire.SSH2_FXP_CLOSE, handle)


@rule(
    MUST,
    f"{DRAFT}, 7",
    "MKDIR and RMDIR are answered with STATUS OK, OPENDIR with HANDLE, and READDIR with NAME.",
    *"mkdir rmdir opendir open write close".split(),
    of_server=True,
)
def kinds_of_directory_replies(subject: Subject) -> None:
    path = sftpstring(subject.path(b"d"))
    _answers(subject, wire.SSH2_FXP_STATUS, wire.SSH2_FXP_MKDIR, path, NO_ATTRIBUTES)
    subject.file(b"d/f")
    reply = _answers(subject, wire.SSH2_FXP_HANDLE, wire.SSH2_FXP_OPENDIR, path)
    handle = sftpstring(packets.get_sftphandle(reply))
    _answers(subject, wire.SSH2_FXP_NAME, wire.SSH2_FXP_READDIR, handle)
    _answers(subject, wire.SSH2_FXP_STATUS, wire.SSH2_FXP_CLOSE, handle)
    subject.client.remove(subject.path(b"d/f"))
    _answers(subject, wire.SSH2_FXP_STATUS, wire.SSH2_FXP_RMDIR, path)


@rule(
    MUST,
    f"{DRAFT}, 7",
    "STAT and LSTAT are answered with ATTRS, SETSTAT, RENAME and REMOVE with STATUS OK.",
    *"open write close stat lstat setstat rename rm permissions".split(),
    of_server=True,
)
def kinds_of_path_replies(subject: Subject) -> None:
    old, new = sftpstring(subject.file(b"old")), sftpstring(subject.path(b"new"))
    _answers(subject, wire.SSH2_FXP_ATTRS, wire.SSH2_FXP_STAT, old)
    _answers(subject, wire.SSH2_FXP_ATTRS, wire.SSH2_FXP_LSTAT, old)
    mode = wire.encode_u32(wire.SSH2_FILEXFER_ATTR_PERMISSIONS) + wire.encode_u32(0o640)
    _answers(subject, wire.SSH2_FXP_STATUS, wire.SSH2_FXP_SETSTAT, old, mode)
    _answers(subject, wire.SSH2_FXP_STATUS, wire.SSH2_FXP_RENAME, old, new)
    _answers(subject, wire.SSH2_FXP_STATUS, wire.SSH2_FXP_REMOVE, new)


@rule(
    MUST,
    f"{DRAFT}, 6.10",
    "SYMLINK is answered with STATUS OK, and READLINK with a NAME of exactly one name.",
    "symlink",
    "readlink",
    of_server=True,
)
def kinds_of_link_replies(subject: Subject) -> None:
    path = subject.path(b"link")
    subject.client.symlink(subject.path(b"target"), path)
    reply = _answers(subject, wire.SSH2_FXP_NAME, wire.SSH2_FXP_READLINK, sftpstring(path))
    subject.equal(len(packets.get_sftpentries(reply)), 1, "the number of names")


# --- STATUS ---------------------------------------------------------------------------------------------


def _requests(subject: Subject) -> Iterator[tuple[int, bytes]]:
    """Type and fields of requests answered with STATUS: the first succeeds, and most others fail."""
    missing, directory = sftpstring(subject.path(b"missing")), sftpstring(subject.path(b"d"))
    yield wire.SSH2_FXP_MKDIR, directory + NO_ATTRIBUTES
    subject.file(b"d/f")
    file = sftpstring(subject.file(b"g"))
    mode = wire.encode_u32(wire.SSH2_FILEXFER_ATTR_PERMISSIONS) + wire.encode_u32(0o640)
    to_read, to_write = (sftpint(flags) + NO_ATTRIBUTES for flags in (READ, WRITE | CREAT))
    handle = sftpstring(b"no handle")
    yield wire.SSH2_FXP_STAT, missing
    yield wire.SSH2_FXP_LSTAT, missing
    yield wire.SSH2_FXP_OPEN, missing + to_read
    yield wire.SSH2_FXP_OPENDIR, missing
    yield wire.SSH2_FXP_REMOVE, missing
    yield wire.SSH2_FXP_RMDIR, missing
    yield wire.SSH2_FXP_RENAME, missing + sftpstring(subject.path(b"other"))
    yield wire.SSH2_FXP_SETSTAT, missing + mode
    yield wire.SSH2_FXP_MKDIR, directory + NO_ATTRIBUTES  # exists
    yield wire.SSH2_FXP_RMDIR, directory  # not empty
    yield wire.SSH2_FXP_RMDIR, file
    yield wire.SSH2_FXP_OPENDIR, file
    yield wire.SSH2_FXP_REMOVE, directory
    yield wire.SSH2_FXP_OPEN, directory + to_write
    yield wire.SSH2_FXP_OPEN, sftpstring(subject.path(b"g/below")) + to_read
    yield wire.SSH2_FXP_RENAME, file + directory
    yield wire.SSH2_FXP_READLINK, file
    yield wire.SSH2_FXP_READ, handle + sftpint64(0) + sftpint(1)
    yield wire.SSH2_FXP_READDIR, handle
    yield wire.SSH2_FXP_CLOSE, handle
    for name in (b"\xff\xfe missing", b"%s%n missing", b"x" * 5000):
        yield wire.SSH2_FXP_STAT, sftpstring(subject.path(name))
    yield wire.SSH2_FXP_EXTENDED, sftpstring(b"unknown\xff@example.com")


def _statuses(subject: Subject) -> Iterator[tuple[int, bytes, bytes]]:
    """Status, message and language tag of each STATUS among the replies.

    If a session ends at one of them, which other rules report, the next ones are sent in another.
    """
    client = subject.another()
    for kind, fields in _requests(subject):
        try:
            reply = client.ask(kind, fields)
        except Closed:
            client = subject.another()
            continue
        if reply[4] == wire.SSH2_FXP_STATUS:
            status, message = client.status_in(reply)  # decodes strictly
            yield status, message, reply[17 + len(message) + 4 :]


@rule(
    MUST,
    f"{DRAFT}, 7",
    "Every STATUS, OK too, has a code, a message and a language tag, and nothing more.",
    *CHANGES,
    of_server=True,
)
def status_is_whole(subject: Subject) -> None:
    seen = {status for status, _, _ in _statuses(subject)}
    subject.check(len(seen) > 1, "no request has failed")


@rule(MUST, f"{DRAFT}, 7", "The message of a STATUS is UTF-8.", *CHANGES, of_server=True)
def status_message_is_utf_8(subject: Subject) -> None:
    for _, message, _ in _statuses(subject):
        try:
            message.decode()
        except UnicodeDecodeError:
            subject.broken(f"a STATUS has a message that is not UTF-8: {message!r}")


@rule(
    MUST,
    f"{DRAFT}, 7",
    "The language tag of a STATUS is a tag of RFC 1766, or empty.",
    *CHANGES,
    of_server=True,
)
def status_language_tag(subject: Subject) -> None:
    for _, _, tag in _statuses(subject):
        subject.check(LANGUAGE.fullmatch(tag) is not None, f"a STATUS has the language tag {tag!r}")


@rule(
    MUST,
    f"{DRAFT}, 7",
    "A STATUS has one of the codes of version 3, and not NO_CONNECTION or CONNECTION_LOST.",
    *CHANGES,
    of_server=True,
)
def status_codes_of_version_3(subject: Subject) -> None:
    allowed = set(STATUS_NAMES) - {wire.SSH2_FX_NO_CONNECTION, wire.SSH2_FX_CONNECTION_LOST}
    for status, message, _ in _statuses(subject):
        subject.check(
            status in allowed, f"a STATUS has the code {status_name(status)}, and the message {message!r}"
        )


@rule(
    CLIENT,
    "FileZilla, WinSCP, paramiko and rclone show it",
    "The STATUS of a failure has a message that is not empty.",
    *CHANGES,
    of_server=True,
)
def status_has_words(subject: Subject) -> None:
    for status, message, _ in _statuses(subject):
        if status != OK and not message.strip():
            subject.broken(f"a STATUS {status_name(status)} has an empty message")


# --- request ids ----------------------------------------------------------------------------------------


def _id_of(reply: bytes) -> int:
    return int.from_bytes(reply[5:9], "big")


@rule(
    MUST,
    f"{DRAFT}, 6",
    "A reply carries the id of its request, including 0 and 2^32-1.",
    of_server=True,
)
def request_ids_come_back(subject: Subject) -> None:
    ids = (0, LARGEST, 1 << 31, (1 << 31) - 1, 1, 0x01020304, subject.random.getrandbits(32))
    missing = sftpstring(subject.path(b"missing"))
    for number in ids:
        for kind, field in ((wire.SSH2_FXP_REALPATH, sftpstring(b".")), (wire.SSH2_FXP_LSTAT, missing)):
            reply = subject.client.raw(sftpcmd(kind, field, request_id=number))
            subject.equal(_id_of(reply), number, "the request id of a reply")


@rule(MUST, f"{DRAFT}, 6", "A request id can be used again as soon as its reply has come.", of_server=True)
def request_ids_can_be_used_again(subject: Subject) -> None:
    for path, expected in ((b".", wire.SSH2_FXP_NAME), (subject.path(), wire.SSH2_FXP_NAME)) * 3:
        reply = subject.client.raw(sftpcmd(wire.SSH2_FXP_REALPATH, sftpstring(path), request_id=7))
        subject.equal((_id_of(reply), reply[4]), (7, expected), "id and type of the reply")
    reply = subject.client.raw(
        sftpcmd(wire.SSH2_FXP_LSTAT, sftpstring(subject.path(b"missing")), request_id=7)
    )
    subject.equal((_id_of(reply), reply[4]), (7, wire.SSH2_FXP_STATUS), "id and type of the reply")


@rule(
    SHOULD,
    f"{DRAFT}, 6",
    "Two requests in flight with the same id are both answered with it.",
    of_server=True,
)
def request_id_twice_in_flight(subject: Subject) -> None:
    client = subject.another()
    paths = (b".", subject.path(b"missing"))
    kinds = (wire.SSH2_FXP_REALPATH, wire.SSH2_FXP_LSTAT)
    replies = [
        client.raw(
            b"".join(
                sftpcmd(kind, sftpstring(path), request_id=9) for kind, path in zip(kinds, paths, strict=True)
            )
        ),
        client.packet(),
    ]
    subject.equal([_id_of(reply) for reply in replies], [9, 9], "the request ids")
    subject.equal(
        {reply[4] for reply in replies}, {wire.SSH2_FXP_NAME, wire.SSH2_FXP_STATUS}, "the kinds of replies"
    )


@rule(
    MUST,
    f"{DRAFT}, 7",
    "Each request is answered exactly once, also when it fails.",
    "open",
    "write",
    "close",
    of_server=True,
)
def one_reply_to_each_request(subject: Subject) -> None:
    client = subject.client
    handle = client.open(subject.path(b"f"), NEW)
    missing = sftpstring(subject.path(b"missing"))
    asked = client.send_together(
        (wire.SSH2_FXP_WRITE, sftpstring(handle) + sftpint64(0) + sftpstring(b"x")),
        (wire.SSH2_FXP_LSTAT, missing),
        (wire.SSH2_FXP_CLOSE, sftpstring(handle)),
        (wire.SSH2_FXP_REMOVE, missing),
        (wire.SSH2_FXP_EXTENDED, sftpstring(b"unknown@example.com")),
        (wire.SSH2_FXP_REALPATH, sftpstring(b".")),
    )
    for number in asked:
        client.reply(number)
    subject.check(refusal_of(client.realpath, b".") is None, "REALPATH of . failed")  # no reply is left over
