"""Rules for OPEN: what its flags do if the file exists and if it does not, and what it refuses."""

from __future__ import annotations

import itertools
from stat import S_IMODE

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract import packets
from pysftpserver.contract.client import (
    APPEND,
    CREAT,
    EOF,
    EXCL,
    FAILED,
    NEW,
    NOT_FOUND,
    READ,
    TRUNC,
    WRITE,
    Refused,
    refusal_of,
)
from pysftpserver.contract.subject import ANY_FAILURE
from pysftpserver.contract.table import CLIENT, DRAFT, MUST, OPENSSH_SERVER, POSIX, SHOULD, rule
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.client import Client
    from pysftpserver.contract.subject import Subject

OPEN = f"{DRAFT}, 6.3"
OLD = b"old content"
BOTH = READ | WRITE
ACCESSES = (READ, WRITE, BOTH)
WRITING = (WRITE, BOTH, WRITE | CREAT, NEW, WRITE | TRUNC | CREAT | APPEND)
AT_ONCE = 40  # files
NO_MODE = SFTPAttributes()
FLAG_NAMES = {READ: "READ", WRITE: "WRITE", APPEND: "APPEND", CREAT: "CREAT", TRUNC: "TRUNC", EXCL: "EXCL"}


def named(pflags: int) -> str:
    """Flags for a sentence."""
    return "|".join(name for bit, name in FLAG_NAMES.items() if pflags & bit)


def opened_and_closed(subject: Subject, path: bytes, pflags: int) -> None:
    """OPEN, and CLOSE."""
    subject.client.close_handle(subject.client.open(path, pflags))


def possible() -> list[int]:
    """All combinations that the draft gives a meaning: TRUNC with writing, EXCL with creating."""
    found = []
    for access, extras in itertools.product(ACCESSES, range(16)):
        pflags = access | extras << 2
        if pflags & TRUNC and not (pflags & CREAT and access != READ) or pflags & EXCL and not pflags & CREAT:
            continue
        found.append(pflags)
    return found


@rule(
    MUST,
    OPEN,
    "Every meaningful combination of OPEN's flags does what it says, with and without an existing file.",
    *"open read write close rm lstat".split(),
)
def open_flags(subject: Subject) -> None:
    path = subject.path(b"f")
    there = False
    for pflags, wanted in itertools.product(possible(), (False, True)):
        case = f"OPEN with {named(pflags)} of a file that {'exists' if wanted else 'does not exist'}"
        if wanted:
            subject.put(path, OLD)
        elif there:
            subject.client.remove(path)
        there = _check_flags(subject, path, pflags, wanted, case)


def _check_flags(subject: Subject, path: bytes, pflags: int, there: bool, case: str) -> bool:
    """Open, write and close; return whether the file exists now."""
    if there and pflags & EXCL or not there and not pflags & CREAT:
        refusal = refusal_of(subject.client.open, path, pflags)
        subject.check(refusal is not None, f"{case} was not refused")
        if there:
            subject.equal(subject.content(path), OLD, f"the content after {case}")
        else:
            subject.check(not subject.exists(path), f"{case} was refused, and has made the file")
        return there
    handle = subject.client.open(path, pflags)
    expected = b"" if not there or pflags & TRUNC else OLD
    if pflags & WRITE:
        subject.client.write(handle, 0, b"NEW")
        expected = expected + b"NEW" if pflags & APPEND else b"NEW" + expected[3:]
    subject.client.close_handle(handle)
    subject.equal(subject.content(path), expected, f"the content after {case}, WRITE and CLOSE")
    return True


# --- with the file and without it: one flag at a time --------------------------------------------------


@rule(
    MUST,
    f"{DRAFT}, 7",
    "OPEN for reading of a file that does not exist fails with NO_SUCH_FILE.",
    "open",
)
def open_read_missing(subject: Subject) -> None:
    subject.refuses(NOT_FOUND, subject.client.open, subject.path(b"missing"), READ)


@rule(
    MUST,
    f"{DRAFT}, 7",
    "OPEN for writing without CREAT of a missing file fails with NO_SUCH_FILE and creates none.",
    "open",
    "lstat",
    of_server=True,
)
def open_write_missing(subject: Subject) -> None:
    path = subject.path(b"missing")
    for pflags in (WRITE, BOTH, WRITE | APPEND):
        subject.refuses(NOT_FOUND, subject.client.open, path, pflags)
        subject.check(not subject.exists(path), f"OPEN with {named(pflags)} has made the file")


@rule(
    MUST,
    OPEN,
    "OPEN with CREAT of a missing file creates an empty one, which stays after CLOSE.",
    *"open close lstat".split(),
    of_server=True,
)
def open_create(subject: Subject) -> None:
    for pflags in (WRITE | CREAT, BOTH | CREAT, NEW, WRITE | CREAT | APPEND):
        path = subject.path(b"new-%d" % pflags)
        opened_and_closed(subject, path, pflags)
        subject.equal(subject.client.lstat(path).size, 0, f"the size of a file made with {named(pflags)}")


@rule(
    MUST,
    OPEN,
    "OPEN with CREAT and without TRUNC keeps the content of an existing file.",
    *"open read close".split(),
    of_server=True,
)
def open_create_keeps(subject: Subject) -> None:
    path = subject.file(b"f", OLD)
    for pflags in (WRITE | CREAT, BOTH | CREAT, WRITE | CREAT | APPEND):
        opened_and_closed(subject, path, pflags)
        subject.equal(subject.content(path), OLD, f"the content after OPEN with {named(pflags)}")


@rule(
    MUST,
    OPEN,
    "OPEN for writing without TRUNC keeps the content of a file.",
    *"open read close write".split(),
    of_server=True,
)
def open_write_keeps(subject: Subject) -> None:
    path = subject.file(b"f", OLD)
    for pflags in (WRITE, BOTH, WRITE | APPEND):
        opened_and_closed(subject, path, pflags)
        subject.equal(subject.content(path), OLD, f"the content after OPEN with {named(pflags)}")


@rule(
    MUST,
    OPEN,
    "OPEN with CREAT and TRUNC empties an existing file.",
    *"open close lstat write".split(),
    of_server=True,
)
def open_truncate(subject: Subject) -> None:
    path = subject.path(b"f")
    for pflags in (NEW, NEW | READ, NEW | APPEND):
        subject.put(path, OLD)
        opened_and_closed(subject, path, pflags)
        subject.equal(subject.client.lstat(path).size, 0, f"the size after OPEN with {named(pflags)}")


@rule(
    CLIENT,
    "sshfs (O_TRUNC), Cyberduck (replaces an existing file)",
    "OPEN with TRUNC and without CREAT empties an existing file.",
    *"open close lstat write".split(),
)
def open_truncate_without_create(subject: Subject) -> None:
    path = subject.path(b"f")
    for pflags in (WRITE | TRUNC, BOTH | TRUNC):
        subject.put(path, OLD)
        opened_and_closed(subject, path, pflags)
        subject.equal(subject.client.lstat(path).size, 0, f"the size after OPEN with {named(pflags)}")


@rule(
    SHOULD,
    f"{DRAFT}, 7; sshfs",
    "OPEN with TRUNC and without CREAT of a file that does not exist fails with NO_SUCH_FILE.",
    *"open lstat write".split(),
    of_server=True,
)
def open_truncate_missing(subject: Subject) -> None:
    subject.refuses(NOT_FOUND, subject.client.open, subject.path(b"missing"), WRITE | TRUNC)
    subject.check(not subject.exists(subject.path(b"missing")), "OPEN with WRITE|TRUNC has made the file")


@rule(
    MUST,
    OPEN,
    "OPEN with CREAT and EXCL creates a missing file.",
    *"open close lstat write read".split(),
    of_server=True,
)
def open_exclusive(subject: Subject) -> None:
    for pflags in (WRITE | CREAT | EXCL, BOTH | CREAT | EXCL, NEW | EXCL):
        path = subject.path(b"new-%d" % pflags)
        handle = subject.client.open(path, pflags)
        subject.client.write(handle, 0, b"content")
        subject.client.close_handle(handle)
        subject.equal(subject.content(path), b"content", f"the content of a file made with {named(pflags)}")


@rule(
    MUST,
    OPEN,
    "OPEN with CREAT and EXCL of an existing file fails and does not change it.",
    *"open close read write".split(),
    of_server=True,
)
def open_exclusive_existing(subject: Subject) -> None:
    path = subject.file(b"f", OLD)
    for pflags in (WRITE | CREAT | EXCL, BOTH | CREAT | EXCL, NEW | EXCL):
        refusal = refusal_of(subject.client.open, path, pflags)
        subject.check(refusal is not None, f"OPEN with {named(pflags)} of a file that exists was not refused")
        subject.equal(subject.content(path), OLD, f"the content after OPEN with {named(pflags)}")


@rule(
    SHOULD,
    OPENSSH_SERVER,
    "OPEN with CREAT and EXCL of an existing file fails with FAILURE, as version 3 has no other status.",
    "open",
    "write",
)
def open_exclusive_status(subject: Subject) -> None:
    subject.refuses(FAILED, subject.client.open, subject.file(b"f"), WRITE | CREAT | EXCL)


@rule(
    MUST,
    OPEN,
    "OPEN with APPEND, CREAT and TRUNC empties the file first, and then appends.",
    *"open close read write".split(),
    of_server=True,
)
def open_append_truncate(subject: Subject) -> None:
    path = subject.file(b"f", OLD)
    handle = subject.client.open(path, NEW | APPEND)
    for chunk in (b"one ", b"two"):
        subject.client.write(handle, 0, chunk)
    subject.client.close_handle(handle)
    subject.equal(subject.content(path), b"one two", "the content")


@rule(
    CLIENT,
    "sshfs (LSTAT sent right after OPEN with CREAT)",
    "LSTAT and STAT find a file that OPEN has created before it is closed.",
    *"open close lstat stat".split(),
    of_server=True,
)
def open_makes_at_once(subject: Subject) -> None:
    path = subject.path(b"new")
    handle = subject.client.open(path, WRITE | CREAT | EXCL)
    for ask in (subject.client.lstat, subject.client.stat):
        subject.equal(ask(path).size, 0, "the size of the new file")
    subject.client.close_handle(handle)


# --- flags that are odd -------------------------------------------------------------------------------


@rule(
    MUST,
    f"{DRAFT}, 7 (exactly one response to each request)",
    "OPEN with neither READ nor WRITE is answered with a HANDLE or a STATUS, and the session goes on.",
    *"open close".split(),
    of_server=True,
)
def open_without_access(subject: Subject) -> None:
    path = subject.file(b"f", OLD)
    _try_open(subject, path, 0)
    _try_open(subject, subject.path(b"missing"), 0)
    subject.client.realpath(b".")


@rule(
    MUST,
    f"{DRAFT}, 7 (exactly one response to each request)",
    "OPEN with undefined flags ignores or refuses them, and the session goes on.",
    *"open close read".split(),
    of_server=True,
)
def open_unknown_flags(subject: Subject) -> None:
    path = subject.file(b"f", OLD)
    for unknown in (0x40, 0x80, 0x100, 1 << 31, 0xFFFFFFC0):
        handle = _try_open(subject, path, READ | unknown, close=False)
        if handle is not None:
            data = subject.client.read(handle, 0, 100)
            subject.equal(data, OLD, f"what READ answers after OPEN with flags {READ | unknown:#x}")
            subject.client.close_handle(handle)
    subject.equal(subject.content(path), OLD, "the content")


def _try_open(subject: Subject, path: bytes, pflags: int, close: bool = True) -> bytes | None:
    """The handle, if there is one."""
    try:
        handle = subject.client.open(path, pflags)
    except Refused:
        return None
    if close:
        subject.client.close_handle(handle)
    return handle


@rule(
    MUST,
    OPEN,
    "WRITE is refused on a handle that was opened for reading only.",
    *"open close read write".split(),
)
def open_read_only(subject: Subject) -> None:
    path = subject.file(b"f", OLD)
    handle = subject.client.open(path, READ)
    subject.refuses(None, subject.client.write, handle, 0, b"x")
    refusal_of(subject.client.close_handle, handle)
    subject.equal(subject.content(path), OLD, "the content after a WRITE that was refused")


@rule(
    SHOULD,
    OPEN,
    "READ is refused on a handle that was opened for writing only.",
    *"open close read write".split(),
)
def open_write_only(subject: Subject) -> None:
    handle = subject.client.open(subject.file(b"f", OLD), WRITE)
    refusal = subject.refuses(None, subject.client.read, handle, 0, 10)
    subject.check(refusal.status != EOF, "READ was answered with EOF, as if the file were empty")
    subject.client.close_handle(handle)


# --- what cannot be opened ----------------------------------------------------------------------------


@rule(
    SHOULD,
    f"{POSIX}, open (EISDIR)",
    "OPEN for writing of a directory fails.",
    *"open mkdir write".split(),
)
def open_directory_write(subject: Subject) -> None:
    subject.client.mkdir(subject.path(b"d"))
    for pflags in WRITING:
        refusal = refusal_of(subject.client.open, subject.path(b"d"), pflags)
        subject.check(refusal is not None, f"OPEN with {named(pflags)} of a directory was not refused")


@rule(
    SHOULD,
    OPENSSH_SERVER,
    "OPEN for writing of a directory fails with FAILURE.",
    *"open mkdir write".split(),
)
def open_directory_status(subject: Subject) -> None:
    subject.client.mkdir(subject.path(b"d"))
    for pflags in WRITING:
        subject.refuses(FAILED, subject.client.open, subject.path(b"d"), pflags)


@rule(
    SHOULD,
    f"{DRAFT}, 6.3, 6.4",
    "A directory cannot be read as a file: OPEN or READ fails, and not with EOF.",
    *"open read close mkdir".split(),
)
def open_directory_read(subject: Subject) -> None:
    subject.client.mkdir(subject.path(b"d"))
    refusal = subject.refuses(None, _read_as_a_file, subject.client, subject.path(b"d"))
    subject.check(refusal.status != EOF, "READ was answered with EOF, as if the directory were an empty file")


def _read_as_a_file(client: Client, path: bytes) -> None:
    handle = client.open(path, READ)
    try:
        client.read(handle, 0, 100)
    finally:
        client.close_handle(handle)


@rule(
    MUST,
    f"{DRAFT}, 7",
    "OPEN of a path whose directory does not exist fails with NO_SUCH_FILE.",
    "open",
    "write",
)
def open_missing_directory(subject: Subject) -> None:
    for pflags in (READ, WRITE | CREAT, NEW, WRITE | CREAT | EXCL):
        subject.refuses(NOT_FOUND, subject.client.open, subject.path(b"missing/f"), pflags)


@rule(
    SHOULD,
    OPENSSH_SERVER,
    "OPEN of a path that has a file where a directory should be fails with NO_SUCH_FILE.",
    "open",
    "write",
)
def open_below_a_file(subject: Subject) -> None:
    path = subject.file(b"f", OLD) + b"/below"
    for pflags in (READ, WRITE | CREAT, NEW):
        subject.refuses(NOT_FOUND, subject.client.open, path, pflags)


# --- attributes ---------------------------------------------------------------------------------------


@rule(
    MUST,
    OPEN,
    "A new file gets the permissions in OPEN's attributes, less those that the server masks.",
    *"open close write lstat permissions".split(),
)
def open_permissions(subject: Subject) -> None:
    for mode in (0o600, 0o640, 0o666, 0o755):
        path = subject.path(b"mode-%o" % mode)
        subject.client.close_handle(subject.client.open(path, NEW, SFTPAttributes(permissions=mode)))
        found = S_IMODE(subject.client.lstat(path).permissions or 0)
        subject.check(not found & ~mode, f"permissions {mode:o} became {found:o}")
        subject.equal(oct(found & 0o700), oct(mode & 0o700), "what the owner may do")


@rule(
    SHOULD,
    f"{DRAFT}, 5 (default values, which it does not name)",
    "A new file whose OPEN has no attributes can be read and written by its owner.",
    *"open close read write lstat".split(),
    of_server=True,
)
def open_default_permissions(subject: Subject) -> None:
    path = subject.path(b"f")
    subject.client.close_handle(subject.client.open(path, NEW, NO_MODE))
    permissions = subject.client.lstat(path).permissions
    if permissions is not None:
        subject.equal(oct(permissions & 0o600), oct(0o600), "what the owner may do")
    subject.put(path, b"content")
    subject.equal(subject.content(path), b"content", "the content")


@rule(
    SHOULD,
    f"{DRAFT}, 6.3 (initial attributes)",
    "OPEN does not change the permissions of an existing file, whatever its attributes say.",
    *"open close write lstat permissions setstat".split(),
)
def open_keeps_permissions(subject: Subject) -> None:
    path = subject.path(b"f")
    subject.client.close_handle(subject.client.open(path, NEW, SFTPAttributes(permissions=0o640)))
    before = subject.client.lstat(path).permissions
    subject.client.close_handle(subject.client.open(path, NEW, SFTPAttributes(permissions=0o755)))
    subject.equal(subject.client.lstat(path).permissions, before, "the permissions")


@rule(
    SHOULD,
    f"{DRAFT}, 6.3",
    "OPEN with any attributes that the draft defines creates an empty file.",
    *"open close lstat".split(),
    of_server=True,
)
def open_all_attributes(subject: Subject) -> None:
    path = subject.file(b"mine")
    own = subject.client.lstat(path)
    now = own.mtime or 1_000_000_000
    attributes = SFTPAttributes(0, own.uid, own.gid, 0o100644, now, now)
    for name, attrs in ((b"some", SFTPAttributes(size=0, permissions=0o644)), (b"all", attributes)):
        subject.client.close_handle(subject.client.open(subject.path(name), NEW, attrs))
        subject.equal(subject.client.lstat(subject.path(name)).size, 0, "the size of the new file")


@rule(
    SHOULD,
    f"{DRAFT}, 5",
    "Unknown extended attributes in OPEN are ignored, and the file is opened.",
    *"open close read write".split(),
    of_server=True,
)
def open_extended_attributes(subject: Subject) -> None:
    pair = packets.sftpstring(b"unknown@example.com") + packets.sftpstring(b"\0value\xff")
    attributes = packets.sftpint(wire.SSH2_FILEXFER_ATTR_EXTENDED) + packets.sftpint(2) + pair * 2
    fields = packets.sftpstring(subject.path(b"f")), packets.sftpint(NEW), attributes
    reply = subject.client.ask(wire.SSH2_FXP_OPEN, *fields)
    handle = subject.client.expect("OPEN", reply, packets.get_sftphandle)
    subject.client.write(handle, 0, b"content")
    subject.client.close_handle(handle)
    subject.equal(subject.content(subject.path(b"f")), b"content", "the content")


# --- many ---------------------------------------------------------------------------------------------


@rule(
    SHOULD,
    "OpenSSH sftp, FileZilla, WinSCP (several transfers at once)",
    f"{AT_ONCE} files can be open at once, and each handle reads its own.",
    *"open close read".split(),
    of_server=True,
)
def open_many(subject: Subject) -> None:
    handles = []
    for number in range(AT_ONCE):
        handles.append(subject.client.open(subject.file(b"f-%d" % number, b"file %d" % number), READ))
    for number, handle in enumerate(handles):
        subject.equal(subject.client.read(handle, 0, 100), b"file %d" % number, "the content of a file")
    for handle in reversed(handles):
        subject.client.close_handle(handle)


@rule(
    SHOULD,
    "asyncssh, paramiko, rclone (several handles of one file)",
    "A file can be opened again while it is open, for reading and for writing.",
    *"open close read write".split(),
)
def open_twice(subject: Subject) -> None:
    path = subject.file(b"f", OLD)
    handles = [subject.client.open(path, pflags) for pflags in (READ, WRITE, READ, BOTH)]
    for handle in (handles[0], handles[2], handles[3]):
        subject.equal(subject.client.read(handle, 0, 100), OLD, "the content")
    for handle in handles:
        subject.client.close_handle(handle)


@rule(
    SHOULD,
    OPEN,
    "A refused OPEN does not use up a handle: after a thousand refusals files can still be opened.",
    *"open close".split(),
    of_server=True,
)
def open_refused_often(subject: Subject) -> None:
    missing = subject.path(b"missing")
    for _ in range(10):
        waiting = [subject.client.send(wire.SSH2_FXP_OPEN, *_reading(missing)) for _ in range(100)]
        for request_id in waiting:
            status, _ = subject.client.status_in(subject.client.reply(request_id))
            subject.equal(status, NOT_FOUND, "the status of OPEN of a file that does not exist")
    subject.client.close_handle(subject.client.open(subject.file(b"f"), READ))


def _reading(path: bytes) -> tuple[bytes, ...]:
    return packets.sftpstring(path), packets.sftpint(READ), packets.sftpint(0)


@rule(
    SHOULD,
    f"{DRAFT}, 7",
    "A refused OPEN has the status of a failure: never OK, EOF or one about the connection.",
    *"open mkdir".split(),
    of_server=True,
)
def open_refusal_status(subject: Subject) -> None:
    subject.client.mkdir(subject.path(b"d"))
    for path, pflags in (
        (subject.path(b"missing"), READ),
        (subject.path(b"missing/f"), NEW),
        (subject.path(b"d"), NEW),
        (subject.file(b"f"), WRITE | CREAT | EXCL),
    ):
        subject.refuses(ANY_FAILURE, subject.client.open, path, pflags)
