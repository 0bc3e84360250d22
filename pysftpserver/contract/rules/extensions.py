"""Rules for extensions: what VERSION announces, and those extensions that are not about files alone."""

from __future__ import annotations

from pysftpserver.contract import packets
from pysftpserver.contract.client import (
    CREAT,
    NEW,
    NOTHING,
    OK,
    READ,
    UNSUPPORTED,
    WRITE,
    Broken,
    Closed,
    refusal_of,
)
from pysftpserver.contract.packets import sftpattrs, sftpcmd, sftpint, sftpint64, sftpstring
from pysftpserver.contract.rules.order import FILES, close_of, outcomes
from pysftpserver.contract.rules.protocol import kind_of
from pysftpserver.contract.table import DRAFT, MUST, OPENSSH, SHOULD, rule
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pysftpserver.contract.client import Client
    from pysftpserver.contract.subject import Subject

LIMITS = "limits@openssh.com"
EXPAND = "expand-path@openssh.com"
HOME = "home-directory"
NAMES = "users-groups-by-id@openssh.com"
#: OpenSSH's extensions, each with the version with which it is announced.
VERSIONS = {
    b"posix-rename@openssh.com": b"1",
    b"statvfs@openssh.com": b"2",
    b"fstatvfs@openssh.com": b"2",
    b"hardlink@openssh.com": b"1",
    b"fsync@openssh.com": b"1",
    b"lsetstat@openssh.com": b"1",
    b"limits@openssh.com": b"1",
    b"expand-path@openssh.com": b"1",
    b"copy-data": b"1",
    b"home-directory": b"1",
    b"users-groups-by-id@openssh.com": b"1",
}
LEAST_PACKET, LEAST_DATA = 34_000, 32_768  # bytes
LARGEST = 1 << 24  # bytes; longer ones are not tried
SPARE_HANDLES = 16  # a server may itself use some of those that it announces
MOST_HANDLES = 1_024


# --- VERSION --------------------------------------------------------------------------------------------


@rule(
    MUST,
    f"{OPENSSH}, 4.2 to 4.12",
    "OpenSSH's extensions are announced with the versions that PROTOCOL gives them.",
    of_server=True,
)
def versions_of_extensions(subject: Subject) -> None:
    for name, version in subject.client.extensions.items():
        expected = VERSIONS.get(name, version)
        subject.equal(version, expected, f"the version of {name.decode('utf-8', 'replace')}")


def _arguments(subject: Subject) -> dict[bytes, list[bytes]]:
    """Valid fields for each extension."""
    file = subject.file(b"f", b"content")
    other = subject.file(b"g")
    client = subject.client
    handle, target = (sftpstring(client.open(path, READ | WRITE)) for path in (file, other))
    path = sftpstring(file)
    return {
        b"statvfs@openssh.com": [path],
        b"fstatvfs@openssh.com": [handle],
        b"fsync@openssh.com": [handle],
        b"lsetstat@openssh.com": [path, sftpattrs(NOTHING)],
        b"limits@openssh.com": [],
        b"expand-path@openssh.com": [path],
        b"copy-data": [handle, sftpint64(0), sftpint64(0), target, sftpint64(0)],
        b"home-directory": [sftpstring(b"")],
        b"users-groups-by-id@openssh.com": [sftpstring(sftpint(0)), sftpstring(sftpint(0))],
        b"hardlink@openssh.com": [path, sftpstring(subject.path(b"link"))],
        b"posix-rename@openssh.com": [sftpstring(other), sftpstring(subject.path(b"renamed"))],
    }


def _is_unsupported(client: Client, reply: bytes) -> bool:
    return reply[4] == wire.SSH2_FXP_STATUS and client.status_in(reply)[0] == UNSUPPORTED


@rule(
    SHOULD,
    f"{OPENSSH}, 4.2",
    "An extension that VERSION announces is not answered with OP_UNSUPPORTED.",
    *FILES,
    of_server=True,
)
def announced_extensions_are_there(subject: Subject) -> None:
    for name, fields in _arguments(subject).items():
        if name in subject.client.extensions:
            reply = subject.client.extended(name, *fields)
            if _is_unsupported(subject.client, reply):
                subject.broken(f"{name.decode()} is announced, and was answered with {kind_of(reply)}")


@rule(
    SHOULD,
    f"{OPENSSH}, 4.2",
    "An extension that VERSION does not announce is answered with OP_UNSUPPORTED.",
    *FILES,
    of_server=True,
)
def other_extensions_are_unsupported(subject: Subject) -> None:
    for name, fields in _arguments(subject).items():
        if name not in subject.client.extensions:
            reply = subject.client.extended(name, *fields)
            if not _is_unsupported(subject.client, reply):
                subject.broken(f"{name.decode()} is not announced, and was answered with {kind_of(reply)}")


# --- limits@openssh.com ---------------------------------------------------------------------------------


@rule(
    MUST,
    f"{OPENSSH}, 4.8",
    "limits@openssh.com is answered with four uint64.",
    LIMITS,
    of_server=True,
)
def limits_are_four_numbers(subject: Subject) -> None:
    subject.client.limits()  # decodes strictly


@rule(
    SHOULD,
    f"{OPENSSH}, 4.8",
    "limits@openssh.com announces no limit, or at least 34,000 bytes a packet and 32,768 a READ or WRITE.",
    LIMITS,
    of_server=True,
)
def least_limits(subject: Subject) -> None:
    packet, read, write, _ = subject.client.limits()
    for what, found, least in (
        ("packets", packet, LEAST_PACKET),
        ("READs", read, LEAST_DATA),
        ("WRITEs", write, LEAST_DATA),
    ):
        subject.check(found == 0 or found >= least, f"{what} of {found} bytes are announced")


def _limit(subject: Subject, number: int) -> int:
    """A limit in bytes, at least what any server accepts, and at most what is tried."""
    return min(subject.client.limits()[number] or LEAST_DATA, LARGEST)


@rule(
    MUST,
    f"{OPENSSH}, 4.8; {DRAFT}, 6.4",
    "READ of the max-read-length of limits@openssh.com returns as many bytes.",
    *FILES,
    LIMITS,
)
def read_of_the_announced_length(subject: Subject) -> None:
    length = _limit(subject, 1)
    content = subject.random.randbytes(length + 1)
    handle = subject.client.open(subject.file(b"f", content))
    found = subject.client.read(handle, 1, length)
    subject.equal(len(found), length, "the number of bytes")
    subject.check(found == content[1:], "READ gave something else than is in the file")
    subject.client.close_handle(handle)


@rule(
    MUST,
    f"{OPENSSH}, 4.8",
    "WRITE of the max-write-length of limits@openssh.com is accepted and stored whole.",
    *FILES,
    LIMITS,
)
def write_of_the_announced_length(subject: Subject) -> None:
    content = subject.random.randbytes(_limit(subject, 2))
    path = subject.path(b"f")
    handle = subject.client.open(path, NEW)
    subject.client.write(handle, 0, content)
    subject.client.close_handle(handle)
    subject.check(subject.content(path) == content, "the content is something else")


@rule(
    MUST,
    f"{OPENSSH}, 4.8",
    "A packet of the max-packet-length of limits@openssh.com is accepted.",
    LIMITS,
    of_server=True,
)
def packet_of_the_announced_length(subject: Subject) -> None:
    client = subject.another()
    length = min(client.limits()[0] or LEAST_PACKET, LARGEST)
    name = sftpstring(b"unknown@example.com")
    head = len(sftpcmd(wire.SSH2_FXP_EXTENDED, name))
    reply = client.ask(wire.SSH2_FXP_EXTENDED, name, bytes(length - head))
    subject.check(_is_unsupported(client, reply), f"a packet of {length} bytes got {kind_of(reply)}")
    client.realpath(b".")


@rule(
    SHOULD,
    f"{OPENSSH}, 4.8",
    "READ of more than the max-read-length of limits@openssh.com is shortened, not refused.",
    *FILES,
    LIMITS,
    of_server=True,
)
def read_over_the_announced_length(subject: Subject) -> None:
    length = _limit(subject, 1)
    content = subject.random.randbytes(length + 1_000)
    handle = subject.client.open(subject.file(b"f", content))
    for asked in (length + 1_000, 1 << 30, 0xFFFFFFFF):
        found = subject.client.read(handle, 0, asked)
        subject.check(0 < len(found) and content.startswith(found), f"a READ of {asked} bytes gave others")
    subject.client.close_handle(handle)


@rule(
    SHOULD,
    f"{OPENSSH}, 4.8",
    "As many files as limits@openssh.com announces can be open, less a few that the server may need.",
    *FILES,
    LIMITS,
    of_server=True,
)
def as_many_handles_as_announced(subject: Subject) -> None:
    client = subject.another()
    count = min(client.limits()[3], MOST_HANDLES) - SPARE_HANDLES
    path = subject.file(b"f", b"content")
    body = sftpstring(path) + sftpint(READ) + sftpattrs(NOTHING)
    handles: list[bytes] = []
    while len(handles) < count:
        batch = min(64, count - len(handles))
        for reply in outcomes(client, *[(wire.SSH2_FXP_OPEN, body)] * batch):
            handles.append(client.expect(f"OPEN number {len(handles) + 1}", reply, packets.get_sftphandle))
    subject.equal(len(set(handles)), len(handles), "the number of different handles")
    outcomes(client, *map(close_of, handles))


# --- fsync@openssh.com ----------------------------------------------------------------------------------


@rule(
    MUST,
    f"{OPENSSH}, 4.6",
    "fsync@openssh.com of a file that was written to is answered with OK, and the content is there.",
    *FILES,
    "fsync@openssh.com",
    of_server=True,
)
def fsync_of_a_file(subject: Subject) -> None:
    client = subject.client
    path = subject.path(b"f")
    handle = client.open(path, WRITE | CREAT)
    client.write(handle, 0, b"content")
    status = client.status_in(client.extended(b"fsync@openssh.com", sftpstring(handle)))[0]
    subject.equal(status, OK, "the status")
    subject.equal(subject.content(path), b"content", "the content")
    client.close_handle(handle)


@rule(
    MUST,
    f"{OPENSSH}, 4.6",
    "fsync@openssh.com with a closed or unknown handle fails.",
    *FILES,
    "fsync@openssh.com",
    of_server=True,
)
def fsync_of_no_handle(subject: Subject) -> None:
    client = subject.client
    handle = client.open(subject.path(b"f"), NEW)
    client.close_handle(handle)
    for name in (handle, b"", b"no handle"):
        status = client.status_in(client.extended(b"fsync@openssh.com", sftpstring(name)))[0]
        subject.check(status != OK, f"fsync@openssh.com with the handle {name!r} was answered with OK")


# --- names and places -----------------------------------------------------------------------------------


def expand_path(client: Client, path: bytes) -> bytes:
    reply = client.extended(EXPAND.encode(), sftpstring(path))
    return client.expect(f"{EXPAND} of {path!r}", reply, packets.get_sftpname)


@rule(
    MUST,
    f"{OPENSSH}, 4.9",
    "expand-path@openssh.com of a path without a tilde is answered as REALPATH is.",
    EXPAND,
    *"open write close".split(),
    of_server=True,
)
def expand_path_without_a_tilde(subject: Subject) -> None:
    client = subject.client
    subject.file(b"f")
    for path in (b".", subject.path(), subject.path(b"f"), subject.path(b"./f")):
        subject.equal(expand_path(client, path), client.realpath(path), f"what {path!r} is expanded to")


@rule(
    MUST,
    f"{OPENSSH}, 4.9",
    "expand-path@openssh.com expands `~` to an absolute path, and `~/name` to a name below it.",
    EXPAND,
    of_server=True,
)
def expand_path_of_a_tilde(subject: Subject) -> None:
    home = expand_path(subject.client, b"~")
    subject.check(home.startswith(b"/"), f"~ is expanded to {home!r}")
    missing = expand_path(subject.client, b"~/no-such-name")
    subject.equal(missing, home.rstrip(b"/") + b"/no-such-name", "what ~/no-such-name is expanded to")


@rule(
    SHOULD,
    f"{OPENSSH}, 4.9",
    "expand-path@openssh.com of `~user` fails for an unknown user.",
    EXPAND,
    of_server=True,
)
def expand_path_of_an_unknown_user(subject: Subject) -> None:
    for path in (b"~no-such-user", b"~no-such-user/file"):
        subject.refuses(None, expand_path, subject.client, path)


def home_directory(client: Client, user: bytes) -> bytes:
    reply = client.extended(HOME.encode(), sftpstring(user))
    return client.expect(f"{HOME} of {user!r}", reply, packets.get_sftpname)


@rule(
    MUST,
    f"{OPENSSH}, 4.11; draft-ietf-secsh-filexfer-extensions-00: an empty name implies the current user",
    "home-directory with an empty name returns the absolute path of the user's own home.",
    HOME,
    of_server=True,
)
def home_directory_of_the_user(subject: Subject) -> None:
    found = home_directory(subject.client, b"")
    subject.check(found.startswith(b"/"), f"the home directory is {found!r}")
    if EXPAND.encode() in subject.client.extensions:
        subject.equal(subject.client.realpath(found), expand_path(subject.client, b"~"), "the home directory")


@rule(
    SHOULD,
    f"{OPENSSH}, 4.11",
    "home-directory of an unknown user fails.",
    HOME,
    of_server=True,
)
def home_directory_of_an_unknown_user(subject: Subject) -> None:
    subject.refuses(None, home_directory, subject.client, b"no-such-user")


def _names(client: Client, uids: Iterable[int], gids: Iterable[int]) -> tuple[list[bytes], list[bytes]]:
    """The names of users and groups by numbers."""
    packed = [sftpstring(b"".join(map(sftpint, numbers))) for numbers in (uids, gids)]
    body = client.expect(NAMES, client.extended(NAMES.encode(), *packed), packets.get_sftpextended)
    users, pos = wire.string_at(body, 0, len(body))
    groups, pos = wire.string_at(body, pos, len(body))
    if pos != len(body):
        raise Broken(f"the reply of {NAMES} has {len(body) - pos} bytes too many")
    return _unpacked(users), _unpacked(groups)


def _unpacked(data: bytes) -> list[bytes]:
    names = []
    pos = 0
    while pos < len(data):
        name, pos = wire.string_at(data, pos, len(data))
        names.append(name)
    return names


UNKNOWN = 3_999_999_999  # no user's or group's number anywhere


@rule(
    MUST,
    f"{OPENSSH}, 4.12",
    "users-groups-by-id@openssh.com returns a name for each id, in order, and an empty one for unknown ids.",
    NAMES,
    of_server=True,
)
def names_by_id(subject: Subject) -> None:
    client = subject.client
    users, groups = _names(client, (UNKNOWN, 0, UNKNOWN), (0, UNKNOWN))
    subject.equal((len(users), len(groups)), (3, 2), "the numbers of names")
    subject.equal((users[0], users[2], groups[1]), (b"", b"", b""), "the names of unknown numbers")
    again, swapped = _names(client, (0,), (UNKNOWN, 0))
    subject.equal((again, swapped), ([users[1]], [b"", groups[0]]), "the names of 0 in another order")


@rule(
    MUST,
    f"{OPENSSH}, 4.12",
    "users-groups-by-id@openssh.com answers empty lists with empty lists.",
    NAMES,
    of_server=True,
)
def names_by_no_id(subject: Subject) -> None:
    subject.equal(_names(subject.client, (), ()), ([], []), "the names")
    users, groups = _names(subject.client, (0,), ())
    subject.equal((len(users), groups), (1, []), "the names")
    users, groups = _names(subject.client, (), (0,))
    subject.equal((users, len(groups)), ([], 1), "the names")


@rule(
    SHOULD,
    f"{OPENSSH}, 4.12",
    "users-groups-by-id@openssh.com with a truncated id is refused or ends the session.",
    NAMES,
    of_server=True,
)
def names_by_a_part_of_an_id(subject: Subject) -> None:
    client = subject.another()
    refusal = None
    try:
        reply = client.extended(NAMES.encode(), sftpstring(b"\0\0\0"), sftpstring(b""))
        refusal = refusal_of(client.expect, NAMES, reply, packets.get_sftpextended)
        subject.check(refusal is not None, f"it was answered with {kind_of(reply)}")
    except Closed:
        pass
    subject.client.realpath(b".")
