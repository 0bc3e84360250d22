"""Rules for whole files: every session sees what was stored, under its name."""

from __future__ import annotations

from pysftpserver.contract.client import APPEND, CREAT, EXCL, NEW, READ, WRITE
from pysftpserver.contract.table import CLIENT, DRAFT, MUST, SHOULD, rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.subject import Subject

TRANSFER = f"{DRAFT}, 6.4"
TEXTS = (
    bytes(range(256)),
    b"unix\nmac\rdos\r\n\r\n\n",
    b"\0" * 10,
    b"\x1a after the end of a text",
    b"\xff\xfe\0a",
    b" ",
)


@rule(
    MUST,
    f"{DRAFT}, 6.3",
    "Content is kept byte for byte: no line endings or character sets are converted.",
    *"open read write close lstat".split(),
)
def content_is_kept(subject: Subject) -> None:
    for number, text in enumerate(TEXTS):
        path = subject.path(b"f-%d.txt" % number)
        subject.client.put(path, text)
        subject.equal(subject.client.lstat(path).size, len(text), "the size")
        subject.equal(subject.content(path), text, "the content")


@rule(
    MUST,
    TRANSFER,
    "A file of 300 KiB that is written in pieces is stored exactly.",
    *"open read write close lstat".split(),
)
def content_of_many_pieces(subject: Subject) -> None:
    content = subject.random.randbytes(300_001)
    subject.client.put(subject.path(b"f"), content)
    subject.equal(subject.client.lstat(subject.path(b"f")).size, len(content), "the size")
    subject.check(subject.content(subject.path(b"f")) == content, "the content is not what was written")


@rule(
    MUST,
    TRANSFER,
    "A file that is written in pieces of any size is stored exactly.",
    *"open read write close".split(),
    of_server=True,
)
def content_of_odd_pieces(subject: Subject) -> None:
    content = subject.random.randbytes(40_000)
    for step in (999, 4096, 32_767, 32_768):
        path = subject.path(b"f-%d" % step)
        subject.client.put(path, content, step)
        subject.check(subject.content(path) == content, f"the content written in steps of {step} differs")
        subject.check(
            subject.client.content(path, step + 1) == content, f"READ in steps of {step + 1} differs"
        )


@rule(
    MUST,
    f"{DRAFT}, 6.3",
    "A file that is replaced by a shorter one keeps nothing of the longer one.",
    *"open read write close lstat".split(),
)
def content_replaced(subject: Subject) -> None:
    path = subject.path(b"f")
    for content in (b"a long content" * 100, b"short", b"", b"longer again"):
        subject.client.put(path, content)
        subject.equal(subject.client.lstat(path).size, len(content), "the size")
        subject.equal(subject.content(path), content, "the content")


@rule(
    MUST,
    f"{DRAFT}, 6.3, 6.4",
    "Each of many files in one directory keeps its own content.",
    *"open read write close mkdir opendir".split(),
)
def content_of_many_files(subject: Subject) -> None:
    subject.client.mkdir(subject.path(b"many"))
    numbers = range(30)
    for number in numbers:
        subject.client.put(subject.path(b"many/%d" % number), b"file %d" % number)
    subject.equal(len(subject.names(subject.path(b"many"))), len(numbers), "the number of names")
    for number in numbers:
        path = subject.path(b"many/%d" % number)
        subject.equal(subject.content(path), b"file %d" % number, "the content of a file")


@rule(
    MUST,
    f"{DRAFT}, 6.1",
    "Files that are written in turn through handles open at the same time keep their own content.",
    *"open read write close".split(),
)
def content_of_files_in_turn(subject: Subject) -> None:
    client = subject.client
    paths = [subject.path(b"f-%d" % number) for number in range(4)]
    handles = [client.open(path, NEW) for path in paths]
    for turn in range(4):
        for number, handle in enumerate(handles):
            client.write(handle, 3 * turn, b"%d%d," % (number, turn))
    for number, handle in enumerate(handles):
        client.close_handle(handle)
        expected = b"".join(b"%d%d," % (number, turn) for turn in range(4))
        subject.equal(subject.content(paths[number]), expected, "the content of a file")


@rule(
    CLIENT,
    "WinSCP, FileZilla, lftp, Cyberduck (resume of an upload)",
    "An upload can be resumed: OPEN without TRUNC, and WRITE from the file's size.",
    *"open read write close stat".split(),
)
def upload_resumed(subject: Subject) -> None:
    client, path = subject.client, subject.file(b"f", b"first half, ")
    size = client.stat(path).size or 0
    handle = client.open(path, WRITE | CREAT)
    client.write(handle, size, b"second half")
    client.close_handle(handle)
    subject.equal(subject.content(path), b"first half, second half", "the content")


@rule(
    CLIENT,
    "OpenSSH sftp (reput), asyncssh and paramiko (open with mode ab), sshfs (O_APPEND)",
    "An upload can be resumed with APPEND: WRITE continues at the end of the file.",
    *"open read write close".split(),
    of_server=True,
)
def upload_appended(subject: Subject) -> None:
    client, path = subject.client, subject.file(b"f", b"first half, ")
    handle = client.open(path, WRITE | APPEND)
    client.write(handle, 12, b"second ")
    client.write(handle, 19, b"half")
    client.close_handle(handle)
    subject.equal(subject.content(path), b"first half, second half", "the content")


@rule(
    CLIENT,
    "WinSCP, FileZilla, OpenSSH sftp, curl (resume of a download)",
    "A download can be resumed: the size from STAT, and READ from an offset.",
    *"open read close stat".split(),
    of_server=True,
)
def download_resumed(subject: Subject) -> None:
    content = subject.random.randbytes(100_000)
    path = subject.file(b"f", content)
    size = subject.client.stat(path).size or 0
    handle, found = subject.client.open(path, READ), bytearray(content[:33_333])
    while len(found) < size:
        found += subject.client.read(handle, len(found), 1 << 15)
    subject.check(found == content, "the content is another")
    subject.ends(handle, size)


@rule(
    SHOULD,
    f"{DRAFT}, 6.3 (EXCL)",
    "Of two sessions that create the same file with CREAT and EXCL, one is refused.",
    *"open close write".split(),
    of_server=True,
)
def exclusive_once(subject: Subject) -> None:
    path, other = subject.path(b"lock"), subject.another()
    handle = subject.client.open(path, WRITE | CREAT | EXCL)
    subject.refuses(None, other.open, path, WRITE | CREAT | EXCL)
    subject.client.close_handle(handle)
    subject.refuses(None, other.open, path, WRITE | CREAT | EXCL)
