"""Rules for handles: what they look like, and that invalid ones are refused."""

from __future__ import annotations

from stat import S_ISDIR

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract import packets
from pysftpserver.contract.client import EOF, NEW, NOT_FOUND, READ, WRITE, Refused
from pysftpserver.contract.subject import ANY_FAILURE
from pysftpserver.contract.table import DRAFT, MUST, OPENSSH_SERVER, POSIX, SHOULD, rule
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.contract.client import Client
    from pysftpserver.contract.subject import Subject

OPEN = f"{DRAFT}, 6.3"
REPLIES = f"{DRAFT}, 7"
CHECKS = f"{DRAFT}, 6, 9 (the server MUST check the validity of each handle)"
MOST = 256  # bytes of a handle
OF_FILES = "open read close write fstat fsetstat".split()
LONG = bytes(range(256)) * 40
EMPTY = SFTPAttributes(permissions=0o600)


def requests_of(client: Client) -> list[tuple[str, Callable[[bytes], object]]]:
    """The requests that take the handle of a file, except CLOSE."""
    return [
        ("READ", lambda handle: client.read(handle, 0, 10)),
        ("WRITE", lambda handle: client.write(handle, 0, b"x")),
        ("FSTAT", client.fstat),
        ("FSETSTAT", lambda handle: client.fsetstat(handle, EMPTY)),
    ]


def refuse_all(
    subject: Subject, handle: bytes, what: str, *more: tuple[str, Callable[[bytes], object]]
) -> None:
    """Check that every request refuses a handle, with a status that no client takes for EOF or success."""
    for name, request in (*requests_of(subject.client), *more):
        try:
            request(handle)
        except Refused as refusal:
            subject.check(refusal.status != EOF, f"{name} with {what} was answered with EOF")
        else:
            subject.broken(f"{name} with {what} was not refused")


@rule(
    MUST,
    REPLIES,
    f"Handles are at most {MOST} bytes long.",
    *"open close opendir".split(),
    of_server=True,
)
def handle_length(subject: Subject) -> None:
    handles = [subject.client.open(subject.file(b"f-%d" % number)) for number in range(12)]
    handles.append(subject.client.opendir(subject.path()))
    for handle in handles:
        subject.check(len(handle) <= MOST, f"a handle of {len(handle)} bytes")


@rule(
    MUST,
    REPLIES,
    "Handles that are open at the same time are all different.",
    *"open close opendir".split(),
    of_server=True,
)
def handles_differ(subject: Subject) -> None:
    handles = [subject.client.open(subject.file(b"f-%d" % number)) for number in range(6)]
    handles += [subject.client.open(subject.path(b"f-0")) for _ in range(3)]
    handles += [subject.client.opendir(subject.path()) for _ in range(3)]
    subject.equal(len(set(handles)), len(handles), "the number of different handles")


@rule(
    MUST,
    OPEN,
    "Every request with a closed handle is refused, and not with EOF.",
    *OF_FILES,
)
def handle_closed(subject: Subject) -> None:
    path = subject.file(b"f", b"content")
    handle = subject.client.open(path, READ | WRITE)
    subject.client.close_handle(handle)
    refuse_all(subject, handle, "a closed handle")
    subject.equal(subject.content(path), b"content", "the content")


@rule(
    MUST,
    OPEN,
    "CLOSE of a closed handle is refused.",
    *"open close".split(),
)
def handle_closed_twice(subject: Subject) -> None:
    handle = subject.client.open(subject.file(b"f"))
    subject.client.close_handle(handle)
    subject.refuses(ANY_FAILURE, subject.client.close_handle, handle)


@rule(
    MUST,
    f"{DRAFT}, 6.3, 6.7",
    "READDIR of a closed handle is refused, and not with EOF.",
    *"opendir close".split(),
    of_server=True,
)
def handle_closed_directory(subject: Subject) -> None:
    subject.file(b"f")
    handle = subject.client.opendir(subject.path())
    subject.client.close_handle(handle)
    subject.refuses(ANY_FAILURE, subject.client.readdir, handle)
    subject.refuses(ANY_FAILURE, subject.client.close_handle, handle)


@rule(
    MUST,
    OPEN,
    "CLOSE may follow WRITEs without waiting for their replies: all of them are stored.",
    *"open read write close".split(),
)
def handle_closed_unwaited(subject: Subject) -> None:
    client, path = subject.client, subject.path(b"f")
    handle = packets.sftpstring(client.open(path, NEW))
    chunks = [b"%04d" % number for number in range(50)]
    asked = [
        client.send(wire.SSH2_FXP_WRITE, handle, packets.sftpint64(4 * number), packets.sftpstring(chunk))
        for number, chunk in enumerate(chunks)
    ]
    asked.append(client.send(wire.SSH2_FXP_CLOSE, handle))
    for request_id in asked:
        client.expect("WRITE or CLOSE", client.reply(request_id), packets.get_sftpstatus)
    subject.equal(subject.content(path), b"".join(chunks), "the content")


@rule(
    MUST,
    CHECKS,
    "Every request with a handle that the server never gave out is refused, and the session goes on.",
    *OF_FILES,
    "opendir",
    of_server=True,
)
def handle_made_up(subject: Subject) -> None:
    client = subject.client
    opened = client.open(subject.file(b"f", b"content"), READ | WRITE)
    for handle in (
        b"\xff" * 4,
        b"\0\0\xff\xff",
        b"made up",
        b"\0" * 16,
        b"/etc/passwd",
        b"%s%n",
        b"\xff" * MOST,
    ):
        if handle != opened:
            more = ("READDIR", client.readdir), ("CLOSE", client.close_handle)
            refuse_all(subject, handle, f"the handle {handle[:20]!r}", *more)
    subject.equal(client.read(opened, 0, 100), b"content", "the answer to READ with the right handle")


@rule(
    MUST,
    CHECKS,
    "Every request with an empty handle is refused, and the session goes on.",
    *OF_FILES,
    "opendir",
    of_server=True,
)
def handle_empty(subject: Subject) -> None:
    client = subject.client
    opened = client.open(subject.file(b"f", b"content"), READ | WRITE)
    refuse_all(subject, b"", "an empty handle", ("READDIR", client.readdir), ("CLOSE", client.close_handle))
    subject.equal(client.read(opened, 0, 100), b"content", "the answer to READ with the right handle")


@rule(
    SHOULD,
    REPLIES,
    "Every request with a handle of more than 256 bytes is refused, and the session goes on.",
    *OF_FILES,
    of_server=True,
)
def handle_too_long(subject: Subject) -> None:
    opened = subject.client.open(subject.file(b"f", b"content"), READ)
    for handle in (LONG[: MOST + 1], LONG, opened + LONG):
        more = (("CLOSE", subject.client.close_handle),)
        refuse_all(subject, handle, f"a handle of {len(handle)} bytes", *more)
    subject.equal(subject.client.read(opened, 0, 100), b"content", "the answer to READ with the right handle")


@rule(
    MUST,
    CHECKS,
    "A valid handle that was shortened or extended is refused.",
    *OF_FILES,
    of_server=True,
)
def handle_changed(subject: Subject) -> None:
    client = subject.client
    opened = [client.open(subject.file(b"f-%d" % number, b"content"), READ | WRITE) for number in range(3)]
    more = (("CLOSE", client.close_handle),)
    for handle in opened:
        for changed in (handle + b"\0", handle[:-1], b"\0" + handle, handle + handle):
            if changed not in opened:
                refuse_all(subject, changed, f"a handle that was changed to {changed[:20]!r}", *more)
    for handle in opened:
        subject.equal(client.read(handle, 0, 100), b"content", "the answer to READ with the right handle")


# --- the wrong kind -----------------------------------------------------------------------------------


@rule(
    MUST,
    f"{DRAFT}, 6.4, 6.7",
    "READ of a directory's handle is refused, and not with EOF.",
    *"opendir read close".split(),
)
def directory_handle_read(subject: Subject) -> None:
    subject.file(b"f")
    handle = subject.client.opendir(subject.path())
    subject.refuses(ANY_FAILURE, subject.client.read, handle, 0, 100)
    subject.client.close_handle(handle)


@rule(
    MUST,
    f"{DRAFT}, 6.4, 6.7",
    "WRITE to a directory's handle is refused.",
    *"opendir write close".split(),
)
def directory_handle_write(subject: Subject) -> None:
    handle = subject.client.opendir(subject.path())
    subject.refuses(ANY_FAILURE, subject.client.write, handle, 0, b"x")
    subject.client.close_handle(handle)


@rule(
    MUST,
    f"{DRAFT}, 6.7",
    "READDIR of a file's handle is refused, and not with EOF.",
    *"open opendir close".split(),
)
def file_handle_readdir(subject: Subject) -> None:
    handle = subject.client.open(subject.file(b"f", b"content"))
    subject.refuses(ANY_FAILURE, subject.client.readdir, handle)
    subject.client.close_handle(handle)


@rule(
    SHOULD,
    f"{DRAFT}, 6.8",
    "FSTAT of a directory's handle returns the attributes of a directory, or is refused.",
    *"opendir close fstat".split(),
    of_server=True,
)
def directory_handle_fstat(subject: Subject) -> None:
    handle = subject.client.opendir(subject.path())
    try:
        attrs = subject.client.fstat(handle)
    except Refused as refusal:
        subject.check(refusal.status != EOF, "FSTAT was answered with EOF")
    else:
        subject.check(
            attrs.permissions is None or S_ISDIR(attrs.permissions),
            "FSTAT does not say that it is a directory",
        )
    subject.client.close_handle(handle)


@rule(
    MUST,
    OPEN,
    "A handle stays usable after a request with it was refused.",
    *"open opendir close read".split(),
    of_server=True,
)
def handle_after_refusal(subject: Subject) -> None:
    client = subject.client
    path = subject.file(b"f", b"content")
    file, directory = client.open(path), client.opendir(subject.path())
    subject.refuses(None, client.readdir, file)
    subject.refuses(None, client.read, directory, 0, 10)
    subject.equal(client.read(file, 0, 100), b"content", "the answer to READ")
    subject.check(b"f" in [name for name, _, _ in client.readdir(directory)], "READDIR lists no files")
    for handle in (file, directory):
        client.close_handle(handle)


# --- several of one file ------------------------------------------------------------------------------


@rule(
    MUST,
    OPEN,
    "CLOSE of one handle does not close the other handles of the same file.",
    *"open read close".split(),
)
def handles_independent(subject: Subject) -> None:
    client = subject.client
    for name in (b"a", b"b"):
        subject.file(name, name * 100)
    handles = [(name, client.open(subject.path(name))) for name in (b"a", b"b", b"a")]
    client.close_handle(handles.pop(0)[1])
    for offset in (90, 0, 50):
        for name, handle in handles:
            subject.equal(client.read(handle, offset, 10), name * 10, "the answer to READ")
    for _, handle in handles:
        client.close_handle(handle)


@rule(
    SHOULD,
    OPENSSH_SERVER,
    "Files can be opened and closed any number of times in one session.",
    *"open read close".split(),
    of_server=True,
)
def handles_again_and_again(subject: Subject) -> None:
    path = subject.file(b"f", b"content")
    for _ in range(300):
        handle = subject.client.open(path)
        subject.equal(subject.client.read(handle, 0, 7), b"content", "the answer to READ")
        subject.client.close_handle(handle)


@rule(
    SHOULD,
    f"{POSIX}, unlink",
    "A removed file stays readable and writable through an open handle, apart from a new file of its name.",
    *"open read write close rm".split(),
)
def handle_of_a_removed_file(subject: Subject) -> None:
    client, path = subject.client, subject.file(b"f", b"old file")
    handle = client.open(path, READ | WRITE)
    client.remove(path)
    subject.refuses(NOT_FOUND, client.open, path, READ)
    subject.put(path, b"new file")
    client.write(handle, 0, b"OLD")
    subject.equal(client.read(handle, 0, 100), b"OLD file", "what READ of the open handle answers")
    subject.equal(subject.content(path), b"new file", "the content of the new file")


@rule(
    SHOULD,
    f"{POSIX}, rename",
    "A handle stays with its file when the file is renamed.",
    *"open read write close rename".split(),
)
def handle_of_a_renamed_file(subject: Subject) -> None:
    client = subject.client
    handle = client.open(subject.file(b"old", b"content"), READ | WRITE)
    client.rename(subject.path(b"old"), subject.path(b"new"))
    client.write(handle, 0, b"C")
    subject.equal(client.read(handle, 0, 100), b"Content", "what READ of the open handle answers")
    client.close_handle(handle)
    subject.equal(subject.content(subject.path(b"new")), b"Content", "the content under the new name")


@rule(
    SHOULD,
    f"{POSIX}, rename",
    "A handle of a file that posix-rename@openssh.com has replaced still reads the old file.",
    *"open read write close posix-rename@openssh.com".split(),
    of_server=True,
)
def handle_of_a_replaced_file(subject: Subject) -> None:
    client, path = subject.client, subject.file(b"f", b"old content")
    handle = client.open(path)
    client.posix_rename(subject.file(b"new", b"new"), path)
    subject.equal(client.read(handle, 0, 100), b"old content", "what READ of the open handle answers")
    subject.equal(subject.content(path), b"new", "the content under the name")
    client.close_handle(handle)
