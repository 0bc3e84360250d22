"""Rules for copy-data: a copy from one open file to another, as READs and WRITEs would have made it."""

from __future__ import annotations

from pysftpserver.contract import packets
from pysftpserver.contract.client import APPEND, EOF, OK, READ, WRITE
from pysftpserver.contract.packets import sftpint64, sftpstring
from pysftpserver.contract.rules.order import FILES, all_ok, close_of, outcomes, read_of, write_of
from pysftpserver.contract.table import MUST, OPENSSH, SHOULD, rule
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.client import Client
    from pysftpserver.contract.subject import Subject

COPY = "copy-data"
SOURCE = f"{OPENSSH}, 4.10"
LARGE = 700_001  # bytes: more than a server keeps in memory at once, and not a multiple of a usual block size


def _fields(source: bytes, offset: int, length: int, target: bytes, target_offset: int) -> bytes:
    numbers = sftpint64(offset) + sftpint64(length)
    return sftpstring(source) + numbers + sftpstring(target) + sftpint64(target_offset)


def copy_of(source: bytes, offset: int, length: int, target: bytes, target_offset: int) -> tuple[int, bytes]:
    """copy-data for send_together()."""
    name = sftpstring(COPY.encode())
    return wire.SSH2_FXP_EXTENDED, name + _fields(source, offset, length, target, target_offset)


def copy_data(
    client: Client, source: bytes, offset: int, length: int, target: bytes, target_offset: int
) -> None:
    """copy-data between two handles. Raises Refused."""
    reply = client.extended(COPY.encode(), _fields(source, offset, length, target, target_offset))
    client.expect(COPY, reply, packets.get_sftpstatus)


class Pair:
    """A file to copy from and one to copy to, both open."""

    def __init__(self, subject: Subject, content: bytes, target: bytes = b"", flags: int = WRITE) -> None:
        self.subject = subject
        self.client = subject.client
        self.path = subject.file(b"target", target)
        self.source = self.client.open(subject.file(b"source", content))
        self.target = self.client.open(self.path, flags)

    def copy(self, offset: int, length: int, target_offset: int) -> None:
        """copy-data from one to the other."""
        copy_data(self.client, self.source, offset, length, self.target, target_offset)

    def content(self) -> bytes:
        """Close both; return the content of the target."""
        self.client.close_handle(self.source)
        self.client.close_handle(self.target)
        return self.subject.content(self.path)


@rule(
    MUST,
    SOURCE,
    "copy-data with a length of 0 copies up to the end of the file.",
    *FILES,
    COPY,
    of_server=True,
)
def copy_of_a_whole_file(subject: Subject) -> None:
    content = subject.random.randbytes(LARGE)
    pair = Pair(subject, content)
    pair.copy(0, 0, 0)
    subject.check(pair.content() == content, "the copy is something else")


@rule(
    MUST,
    SOURCE,
    "copy-data copies as many bytes as asked for between two offsets, and changes no others.",
    *FILES,
    COPY,
)
def copy_of_a_part(subject: Subject) -> None:
    content = subject.random.randbytes(5_000)
    pair = Pair(subject, content, b"x" * 5_000)
    pair.copy(1_001, 2_003, 999)
    pair.copy(7, 1, 4_999)
    expected = b"x" * 999 + content[1_001:3_004] + b"x" * (4_999 - 3_002) + content[7:8]
    subject.equal(pair.content(), expected, "the content")
    subject.check(subject.content(subject.path(b"source")) == content, "the file copied from has changed")


@rule(
    MUST,
    SOURCE,
    "copy-data with a length of 0 and an offset copies from the offset to the end.",
    *FILES,
    COPY,
    of_server=True,
)
def copy_from_an_offset_to_the_end(subject: Subject) -> None:
    pair = Pair(subject, b"0123456789", b"abc")
    pair.copy(4, 0, 1)
    subject.equal(pair.content(), b"a456789", "the content")


@rule(
    MUST,
    SOURCE,
    "copy-data to an offset past the target's end fills the gap with zeros, as WRITE does.",
    *FILES,
    COPY,
    of_server=True,
)
def copy_behind_the_end(subject: Subject) -> None:
    pair = Pair(subject, b"0123456789", b"abc")
    pair.copy(0, 4, 8)
    subject.equal(pair.content(), b"abc\0\0\0\0\x000123", "the content")


@rule(
    MUST,
    SOURCE,
    "copy-data of an empty file, or from the end of one, with a length of 0 copies nothing and ends.",
    *FILES,
    COPY,
    of_server=True,
)
def copy_of_nothing(subject: Subject) -> None:
    pair = Pair(subject, b"0123456789", b"abc")
    empty = subject.client.open(subject.file(b"empty"))
    for source, offset in ((empty, 0), (pair.source, 10), (pair.source, 1_000)):
        reply = subject.client.extended(COPY.encode(), _fields(source, offset, 0, pair.target, 1))
        status = subject.client.status_in(reply)[0]
        subject.check(status in (OK, EOF), f"it was answered with STATUS {status}")
    subject.client.close_handle(empty)
    subject.equal(pair.content(), b"abc", "the content")


@rule(
    SHOULD,
    SOURCE,
    "copy-data of more bytes than the file has copies what there is, and answers OK or EOF.",
    *FILES,
    COPY,
    of_server=True,
)
def copy_over_the_end(subject: Subject) -> None:
    pair = Pair(subject, b"0123456789")
    for length in (100, 1 << 40, (1 << 63) - 100):
        reply = subject.client.extended(COPY.encode(), _fields(pair.source, 2, length, pair.target, 0))
        status = subject.client.status_in(reply)[0]
        subject.check(status in (OK, EOF), f"it was answered with STATUS {status}")
    subject.equal(pair.content(), b"23456789", "the content")


@rule(
    MUST,
    SOURCE,
    "copy-data from a handle into the same handle fails.",
    *FILES,
    COPY,
    of_server=True,
)
def copy_of_a_handle_into_itself(subject: Subject) -> None:
    path = subject.file(b"f", b"0123456789")
    handle = subject.client.open(path, READ | WRITE)
    subject.refuses(None, copy_data, subject.client, handle, 0, 2, handle, 5)
    subject.refuses(None, copy_data, subject.client, handle, 0, 0, handle, 10)
    subject.client.close_handle(handle)
    subject.equal(subject.content(path), b"0123456789", "the content")


@rule(
    SHOULD,
    SOURCE,
    "copy-data between two handles of one file does what READs and WRITEs would do, or is refused.",
    *FILES,
    COPY,
    of_server=True,
)
def copy_within_a_file(subject: Subject) -> None:
    client = subject.client
    path = subject.file(b"f", b"0123456789")
    reader, writer = client.open(path), client.open(path, WRITE)
    reply = client.extended(COPY.encode(), _fields(reader, 0, 3, writer, 6))
    done = client.status_in(reply)[0] == OK
    client.close_handle(reader)
    client.close_handle(writer)
    subject.equal(subject.content(path), b"0123450129" if done else b"0123456789", "the content")


@rule(
    SHOULD,
    SOURCE,
    "copy-data between overlapping parts of one file is answered, and ends.",
    *FILES,
    COPY,
    of_server=True,
)
def copy_of_overlapping_parts(subject: Subject) -> None:
    client = subject.client
    path = subject.file(b"f", bytes(range(100)))
    reader, writer = client.open(path), client.open(path, WRITE)
    for offset, length, target in ((0, 50, 10), (10, 50, 0), (0, 100, 50)):
        client.status_in(client.extended(COPY.encode(), _fields(reader, offset, length, writer, target)))
    client.close_handle(reader)
    client.close_handle(writer)
    size = len(subject.content(path))
    subject.check(100 <= size <= 150, f"the file has {size} bytes")


@rule(
    MUST,
    SOURCE,
    "copy-data into a file that is open for appending goes to its end, as WRITE does.",
    *FILES,
    COPY,
    of_server=True,
)
def copy_into_a_file_opened_to_append(subject: Subject) -> None:
    pair = Pair(subject, b"0123456789", b"abc", WRITE | APPEND)
    pair.copy(2, 3, 0)
    pair.copy(0, 0, 1)
    subject.equal(pair.content(), b"abc2340123456789", "the content")


@rule(
    MUST,
    SOURCE,
    "copy-data with a closed or unknown handle on either side fails.",
    *FILES,
    COPY,
    of_server=True,
)
def copy_with_closed_handles(subject: Subject) -> None:
    pair = Pair(subject, b"0123456789", b"abc")
    closed = subject.client.open(subject.path(b"source"))
    subject.client.close_handle(closed)
    for bad in (closed, b"", b"no handle"):
        subject.refuses(None, copy_data, subject.client, bad, 0, 0, pair.target, 0)
        subject.refuses(None, copy_data, subject.client, pair.source, 0, 0, bad, 0)
    subject.equal(pair.content(), b"abc", "the content")


@rule(
    MUST,
    SOURCE,
    "copy-data fails from a handle not open for reading, and to one not open for writing.",
    *FILES,
    COPY,
    of_server=True,
)
def copy_with_the_wrong_access(subject: Subject) -> None:
    pair = Pair(subject, b"0123456789", b"abc")
    subject.refuses(None, copy_data, subject.client, pair.target, 0, 0, pair.source, 0)
    subject.equal(pair.content(), b"abc", "the content")
    subject.equal(subject.content(subject.path(b"source")), b"0123456789", "the other content")


@rule(
    MUST,
    SOURCE,
    "copy-data with a directory's handle on either side fails.",
    *FILES,
    COPY,
    "opendir",
    of_server=True,
)
def copy_with_a_directory(subject: Subject) -> None:
    pair = Pair(subject, b"0123456789", b"abc")
    directory = subject.client.opendir(subject.path())
    subject.refuses(None, copy_data, subject.client, directory, 0, 0, pair.target, 0)
    subject.refuses(None, copy_data, subject.client, pair.source, 0, 0, directory, 0)
    subject.client.close_handle(directory)
    subject.equal(pair.content(), b"abc", "the content")


@rule(
    SHOULD,
    SOURCE,
    "copy-data at offsets that no file can have, such as 2^64-1, fails and changes nothing.",
    *FILES,
    COPY,
    of_server=True,
)
def copy_to_offsets_that_no_file_has(subject: Subject) -> None:
    pair = Pair(subject, b"0123456789", b"abc")
    subject.refuses(None, copy_data, subject.client, pair.source, 0, 5, pair.target, (1 << 64) - 1)
    subject.equal(pair.content(), b"abc", "the content")


@rule(
    MUST,
    f"{SOURCE}; draft-ietf-secsh-filexfer-02, 6.1",
    "copy-data in flight sees the WRITEs sent before it, and is seen by the READs sent after it.",
    *FILES,
    COPY,
    of_server=True,
)
def copy_in_flight(subject: Subject) -> None:
    client = subject.client
    source = client.open(subject.file(b"source", b"old old"), READ | WRITE)
    target = client.open(subject.file(b"target", b"..."), READ | WRITE)
    replies = outcomes(
        client,
        write_of(source, 0, b"new"),
        copy_of(source, 0, 3, target, 0),
        read_of(target, 0, 3),
        write_of(source, 0, b"xxx"),
        close_of(source),
    )
    all_ok(client, replies[:2] + replies[3:], "WRITE, copy-data or CLOSE")
    subject.equal(client.expect("READ", replies[2], packets.get_sftpdata), b"new", "what is read")
    client.close_handle(target)
