"""Rules for the end of a session: what remains afterwards, and what does not."""

from __future__ import annotations

from pysftpserver.contract.client import CREAT, NEW, NOT_FOUND, NOTHING, READ, WRITE, Closed
from pysftpserver.contract.packets import sftpattrs, sftpcmd, sftpint, sftpint64, sftpstring
from pysftpserver.contract.rules.order import FILES, outcomes, read_of
from pysftpserver.contract.table import CLIENT, DRAFT, MUST, SHOULD, rule
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.client import Client
    from pysftpserver.contract.subject import Subject


@rule(
    MUST,
    f"{DRAFT}, 6.4",
    "A file that was written and closed in one session is there in the next.",
    *FILES,
    of_server=True,
)
def content_outlives_its_session(subject: Subject) -> None:
    first = subject.another()
    content = subject.random.randbytes(100_000)
    first.put(subject.path(b"f"), content)
    first.close()
    subject.check(subject.another().content(subject.path(b"f")) == content, "the content is something else")


@rule(
    CLIENT,
    "OpenSSH sftp (reput), WinSCP, FileZilla, lftp (resume an upload after a lost connection)",
    "Data of acknowledged WRITEs is kept if the session ends without CLOSE.",
    *FILES,
    of_server=True,
)
def acknowledged_writes_outlive_their_session(subject: Subject) -> None:
    first = subject.another()
    content = subject.random.randbytes(50_000)
    handle = first.open(subject.path(b"f"), WRITE | CREAT)
    for offset in range(0, len(content), 10_000):
        first.write(handle, offset, content[offset : offset + 10_000])
    first.close()
    found = subject.another().content(subject.path(b"f"))
    subject.check(found == content, f"the file has {len(found)} bytes, and 50000 were acknowledged")


@rule(
    SHOULD,
    f"{DRAFT}, 3",
    "A request whose last bytes were cut off by the end of the session is not carried out.",
    *FILES,
    *"opendir lstat".split(),
    of_server=True,
)
def requests_cut_off_by_the_end(subject: Subject) -> None:
    path = subject.file(b"f", b"content")
    made = sftpstring(subject.path(b"made"))
    requests = (
        sftpcmd(wire.SSH2_FXP_REMOVE, sftpstring(path), request_id=1),
        sftpcmd(wire.SSH2_FXP_MKDIR, made, sftpattrs(NOTHING), request_id=1),
        sftpcmd(wire.SSH2_FXP_OPEN, sftpstring(path), sftpint(NEW), sftpattrs(NOTHING), request_id=1),
        sftpcmd(wire.SSH2_FXP_RENAME, sftpstring(path), made, request_id=1),
    )
    for request in requests:
        client = subject.another()
        client.send_packet(request[:-1])
        client.close()
    client = subject.another()
    client.realpath(b".")
    subject.equal(subject.names(subject.path()), [b"f"], "what is in the directory")
    subject.equal(subject.content(path), b"content", "the content of the file")


@rule(
    SHOULD,
    f"{DRAFT}, 3",
    "A WRITE whose last bytes were cut off by the end of the session writes nothing.",
    *FILES,
    of_server=True,
)
def write_cut_off_by_the_end(subject: Subject) -> None:
    path = subject.file(b"f", b"content")
    client = subject.another()
    handle = client.open(path, READ | WRITE)
    body = sftpstring(handle) + sftpint64(0) + sftpstring(b"CONTENT" * 100)
    client.send_packet(sftpcmd(wire.SSH2_FXP_WRITE, body, request_id=1 << 24)[:-1])
    client.close()
    subject.check(b"CONTENT" not in subject.another().content(path), "a part of it is in the file")


def _refuses(subject: Subject, client: Client, handle: bytes) -> None:
    """Check that a session refuses all requests with a handle, or ends at one."""
    try:
        subject.refuses(None, client.read, handle, 0, 7)
        subject.refuses(None, client.fstat, handle)
        subject.refuses(None, client.close_handle, handle)
    except Closed:
        pass


@rule(
    SHOULD,
    f"{DRAFT}, 6",
    "A handle of an ended session is refused in another session.",
    *FILES,
    "fstat",
    of_server=True,
)
def handles_of_ended_sessions(subject: Subject) -> None:
    first = subject.another()
    handles = [first.open(subject.file(b"f", b"content")) for _ in range(3)]
    first.close()
    for handle in handles:
        _refuses(subject, subject.another(), handle)


@rule(
    SHOULD,
    f"{DRAFT}, 6",
    "A handle of one session is refused in another one at the same time.",
    *FILES,
    "fstat",
    of_server=True,
)
def handles_of_other_sessions(subject: Subject) -> None:
    second = subject.another()
    path = subject.file(b"f", b"content")
    handle = subject.client.open(path)
    _refuses(subject, second, handle)
    subject.equal(subject.client.read(handle, 0, 7), b"content", "what the handle's own session reads")
    subject.client.close_handle(handle)


@rule(
    SHOULD,
    f"{DRAFT}, 6.3",
    "Files that an ended session left open can be read, written, renamed and removed in another one.",
    *FILES,
    *"rename rm lstat".split(),
    of_server=True,
)
def files_left_open(subject: Subject) -> None:
    path = subject.file(b"f", b"content")
    first = subject.another()
    first.open(path)
    first.open(subject.path(b"g"), NEW)
    first.close()
    second = subject.another()
    subject.equal(second.content(path), b"content", "the content")
    for name in (path, subject.path(b"g")):
        second.put(name, b"new")
        second.rename(name, subject.path(b"h"))
        second.remove(subject.path(b"h"))
    subject.check(not subject.exists(path), "the file is still there")


@rule(
    SHOULD,
    f"{DRAFT}, 6.7",
    "A directory whose listing an ended session left open can be listed and removed in another one.",
    *"opendir mkdir rmdir rm open write close lstat".split(),
    of_server=True,
)
def listings_left_open(subject: Subject) -> None:
    subject.client.mkdir(subject.path(b"d"))
    subject.fill(subject.path(b"d"), [b"a", b"b"])
    first = subject.another()
    first.readdir(first.opendir(subject.path(b"d")))
    first.close()
    second = subject.another()
    names = {name for name, _, _ in second.listing(subject.path(b"d"))}
    subject.equal(sorted(names - {b".", b".."}), [b"a", b"b"], "the names")
    for name in (b"d/a", b"d/b"):
        second.remove(subject.path(name))
    second.rmdir(subject.path(b"d"))
    subject.refuses(NOT_FOUND, second.lstat, subject.path(b"d"))


@rule(
    SHOULD,
    f"{DRAFT}, 6.1",
    "The end of one session does not affect the other sessions and their open files.",
    *FILES,
    of_server=True,
)
def sessions_end_alone(subject: Subject) -> None:
    path = subject.file(b"f", b"content")
    handle = subject.client.open(path)
    for offset in range(3):
        other = subject.another()
        other.open(path)
        other.send_packet(sftpcmd(wire.SSH2_FXP_LSTAT, sftpstring(path), request_id=1))
        other.close()
        subject.equal(subject.client.read(handle, offset, 7), b"content"[offset:], "what is read")
    subject.client.close_handle(handle)


@rule(
    SHOULD,
    f"{DRAFT}, 4",
    "After a session that ends before or within INIT, the server accepts the next one.",
    of_server=True,
)
def sessions_that_never_begin(subject: Subject) -> None:
    for stream in (b"", b"\0", sftpcmd(wire.SSH2_FXP_INIT, sftpint(3))[:-1]):
        client = subject.bare()
        if stream:
            client.send_packet(stream)
        client.close()
    subject.another().realpath(b".")


@rule(
    SHOULD,
    f"{DRAFT}, 3",
    "A session that ends with replies unread does not block the server: others are served.",
    *FILES,
    of_server=True,
)
def end_with_replies_unread(subject: Subject) -> None:
    path = subject.file(b"f", subject.random.randbytes(32_768))
    client = subject.another()
    handle = client.open(path)
    client.send_together(*[read_of(handle, 0, 32_768)] * 128)
    client.close()
    replies = outcomes(subject.client, (wire.SSH2_FXP_REALPATH, sftpstring(b".")))
    subject.equal(replies[0][4], wire.SSH2_FXP_NAME, "the type of the reply")
    subject.equal(len(subject.another().content(path)), 32_768, "the size of the file")


@rule(
    SHOULD,
    f"{DRAFT}, 6.1",
    "A change in one session is visible in the others as soon as it is answered.",
    *FILES,
    *"stat mkdir lstat rename opendir".split(),
    of_server=True,
)
def sessions_see_each_other(subject: Subject) -> None:
    first, second = subject.client, subject.another()
    path = subject.path(b"f")
    first.put(path, b"content")
    subject.equal(second.content(path), b"content", "what the other session reads")
    second.put(path, b"longer content")
    subject.equal(first.stat(path).size, 14, "the size that the first one sees")
    first.rename(path, subject.path(b"g"))
    second.mkdir(path)
    names = {name for name, _, _ in first.listing(subject.path())}
    subject.equal(sorted(names - {b".", b".."}), [b"f", b"g"], "the names")
