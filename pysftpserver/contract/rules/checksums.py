"""Rules for check-file: digests of a file by handle and by name, and as paramiko asks for them."""

from __future__ import annotations

import hashlib
import zlib

from pysftpserver.contract import packets
from pysftpserver.contract.client import NEW, NOT_FOUND, Broken
from pysftpserver.contract.packets import sftpint, sftpint64, sftpstring
from pysftpserver.contract.rules.order import FILES
from pysftpserver.contract.table import CLIENT, MUST, SHOULD, rule
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.client import Client
    from pysftpserver.contract.subject import Subject

CHECK = "check-file"
EXTENSIONS_DRAFT = "draft-ietf-secsh-filexfer-extensions-00, 3"
PARAMIKO = "paramiko, SFTPFile.check()"
BY_HANDLE, BY_NAME = b"check-file-handle", b"check-file-name"
#: Algorithms that the draft names and this side can compute.
KNOWN = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "crc32")


def digest_of(algorithm: str, data: bytes) -> bytes:
    """The digest that a server should find."""
    if algorithm == "crc32":
        return zlib.crc32(data).to_bytes(4, "big")
    return hashlib.new(algorithm, data, usedforsecurity=False).digest()


def blocks_of(algorithm: str, data: bytes, block: int) -> bytes:
    """The digests of all blocks, concatenated; for a block size of 0, one digest of everything."""
    if not block:
        return digest_of(algorithm, data)
    parts = (data[start : start + block] for start in range(0, len(data), block))
    return b"".join(digest_of(algorithm, part) for part in parts)


def announced(client: Client) -> list[str]:
    """The algorithms that VERSION announces, of those that this side knows."""
    words = client.extensions.get(CHECK.encode(), b"").decode("latin-1").split(",")
    return [word for word in words if word in KNOWN]


def check_file(
    client: Client,
    name: bytes,
    of: bytes,
    algorithms: bytes,
    offset: int = 0,
    length: int = 0,
    block: int = 0,
) -> tuple[str, bytes]:
    """Algorithm and digests. name: of the request. of: a handle or a path. Raises Refused."""
    fields = sftpstring(of), sftpstring(algorithms), sftpint64(offset), sftpint64(length), sftpint(block)
    body = client.expect(name.decode(), client.extended(name, *fields), packets.get_sftpextended)
    pos = 0
    if name == CHECK.encode():
        prefix, pos = wire.string_at(body, 0, len(body))
        if prefix != name:
            raise Broken(f"the reply begins with {prefix!r} instead of {name!r}")
    algorithm, pos = wire.string_at(body, pos, len(body))
    return algorithm.decode("latin-1"), body[pos:]


def _tried(subject: Subject) -> str:
    """The algorithm that most rules try: any that the server supports."""
    words = announced(subject.client)
    if not words:
        raise Broken("check-file announces no algorithm of the draft")
    return words[0]


def _agrees(
    subject: Subject, content: bytes, offset: int, length: int, block: int, name: bytes = BY_HANDLE
) -> None:
    """Check the digests of a part of a file."""
    algorithm = _tried(subject)
    path = subject.file(b"f", content)
    handle = subject.client.open(path)
    of = path if name == BY_NAME else handle
    found = check_file(subject.client, name, of, algorithm.encode(), offset, length, block)
    subject.client.close_handle(handle)
    part = content[offset : offset + length] if length else content[offset:]
    expected = algorithm, blocks_of(algorithm, part, block)
    what = f"check-file of {length or 'all'} bytes at {offset} in blocks of {block}"
    subject.equal((found[0], found[1].hex()), (expected[0], expected[1].hex()), what)


@rule(
    MUST,
    EXTENSIONS_DRAFT,
    "check-file-handle of a whole file returns the digest of all its bytes.",
    *FILES,
    CHECK,
    of_server=True,
)
def checksum_by_handle(subject: Subject) -> None:
    _agrees(subject, subject.random.randbytes(100_003), 0, 0, 0)


@rule(
    MUST,
    EXTENSIONS_DRAFT,
    "check-file-name of a whole file returns the digest of all its bytes.",
    *FILES,
    CHECK,
    of_server=True,
)
def checksum_by_name(subject: Subject) -> None:
    _agrees(subject, subject.random.randbytes(100_003), 0, 0, 0, BY_NAME)


@rule(
    CLIENT,
    PARAMIKO,
    "check-file by a handle is answered with its own name, the algorithm and the digests.",
    *FILES,
    CHECK,
    of_server=True,
)
def checksum_as_paramiko_asks(subject: Subject) -> None:
    content = subject.random.randbytes(3_000)
    _agrees(subject, content, 0, 0, 0, CHECK.encode())
    _agrees(subject, content, 100, 1_000, 512, CHECK.encode())


@rule(
    MUST,
    EXTENSIONS_DRAFT,
    "Every algorithm that VERSION announces for check-file gives its own digest.",
    *FILES,
    CHECK,
    of_server=True,
)
def every_announced_algorithm(subject: Subject) -> None:
    content = subject.random.randbytes(1_000)
    path = subject.file(b"f", content)
    for algorithm in announced(subject.client):
        found = check_file(subject.client, BY_NAME, path, algorithm.encode())
        subject.equal(found, (algorithm, digest_of(algorithm, content)), f"the digest of {algorithm}")


@rule(
    MUST,
    EXTENSIONS_DRAFT,
    "The digest of a part covers exactly the bytes from its offset to its end.",
    *FILES,
    CHECK,
    of_server=True,
)
def checksum_of_a_part(subject: Subject) -> None:
    content = subject.random.randbytes(2_000)
    for offset, length in ((0, 1), (1, 999), (999, 1_001), (1_999, 1), (500, 0)):
        _agrees(subject, content, offset, length, 0)


@rule(
    MUST,
    EXTENSIONS_DRAFT,
    "With a block size there is a digest for each block, and the last one may be shorter.",
    *FILES,
    CHECK,
    of_server=True,
)
def checksums_of_blocks(subject: Subject) -> None:
    content = subject.random.randbytes(2_000)
    for block in (256, 500, 1_000, 1_999, 2_000, 2_001, 1 << 20):
        _agrees(subject, content, 0, 0, block)


@rule(
    MUST,
    EXTENSIONS_DRAFT,
    "Blocks begin at the offset asked for, and the last one ends where the part does.",
    *FILES,
    CHECK,
    of_server=True,
)
def checksums_of_blocks_of_a_part(subject: Subject) -> None:
    content = subject.random.randbytes(3_000)
    for offset, length, block in ((1, 1_000, 256), (100, 600, 300), (257, 513, 256), (2_000, 0, 300)):
        _agrees(subject, content, offset, length, block)


@rule(
    SHOULD,
    EXTENSIONS_DRAFT,
    "A part that extends past the end of the file ends with the file.",
    *FILES,
    CHECK,
    of_server=True,
)
def checksum_over_the_end(subject: Subject) -> None:
    content = subject.random.randbytes(1_000)
    for offset, length, block in ((0, 5_000, 0), (900, 101, 0), (0, 1 << 40, 300), (500, 1_000, 256)):
        _agrees(subject, content, offset, length, block)


@rule(
    SHOULD,
    EXTENSIONS_DRAFT,
    "An empty file has the digest of no bytes.",
    *FILES,
    CHECK,
    of_server=True,
)
def checksum_of_an_empty_file(subject: Subject) -> None:
    for name in (BY_HANDLE, BY_NAME):
        _agrees(subject, b"", 0, 0, 0, name)


@rule(
    MUST,
    EXTENSIONS_DRAFT,
    "The first algorithm of the client's list that the server supports is used.",
    *FILES,
    CHECK,
    of_server=True,
)
def first_known_algorithm(subject: Subject) -> None:
    content = b"content"
    path = subject.file(b"f", content)
    _tried(subject)  # the server has an algorithm
    words = announced(subject.client)
    for order in (words, words[::-1], ["unknown", *words[-1:]], ["", *words]):
        wanted = next(word for word in order if word in words)
        found = check_file(subject.client, BY_NAME, path, ",".join(order).encode())
        subject.equal(found, (wanted, digest_of(wanted, content)), f"what {order} gives")


@rule(
    MUST,
    EXTENSIONS_DRAFT,
    "check-file fails if the server supports none of the algorithms asked for.",
    *FILES,
    CHECK,
    of_server=True,
)
def unknown_algorithms(subject: Subject) -> None:
    path = subject.file(b"f", b"content")
    for algorithms in (b"", b"unknown", b"unknown,other", b"\xff"):
        subject.refuses(None, check_file, subject.client, BY_NAME, path, algorithms)


@rule(
    MUST,
    EXTENSIONS_DRAFT,
    "check-file fails for a block size from 1 to 255.",
    *FILES,
    CHECK,
    of_server=True,
)
def blocks_that_are_too_small(subject: Subject) -> None:
    path = subject.file(b"f", b"content")
    algorithm = _tried(subject).encode()
    for block in (1, 128, 255):
        subject.refuses(None, check_file, subject.client, BY_NAME, path, algorithm, 0, 0, block)


@rule(
    MUST,
    EXTENSIONS_DRAFT,
    "check-file-name of a directory fails, and that of a missing file with NO_SUCH_FILE.",
    *FILES,
    CHECK,
    "mkdir",
    of_server=True,
)
def checksum_of_no_file(subject: Subject) -> None:
    algorithm = _tried(subject).encode()
    subject.client.mkdir(subject.path(b"d"))
    subject.refuses(None, check_file, subject.client, BY_NAME, subject.path(b"d"), algorithm)
    subject.refuses(NOT_FOUND, check_file, subject.client, BY_NAME, subject.path(b"missing"), algorithm)


@rule(
    MUST,
    EXTENSIONS_DRAFT,
    "check-file fails for a handle that is closed, of a directory, or not open for reading.",
    *FILES,
    CHECK,
    "opendir",
    of_server=True,
)
def checksum_by_other_handles(subject: Subject) -> None:
    client = subject.client
    algorithm = _tried(subject).encode()
    closed = client.open(subject.file(b"f", b"content"))
    client.close_handle(closed)
    directory, writer = client.opendir(subject.path()), client.open(subject.path(b"g"), NEW)
    for handle in (closed, b"", b"no handle", directory, writer):
        for name in (BY_HANDLE, CHECK.encode()):
            subject.refuses(None, check_file, client, name, handle, algorithm)
    client.close_handle(directory)
    client.close_handle(writer)


@rule(
    MUST,
    EXTENSIONS_DRAFT,
    "check-file-name of a symbolic link returns the digest of the file it points to.",
    *FILES,
    CHECK,
    "symlink",
    of_server=True,
)
def checksum_through_a_link(subject: Subject) -> None:
    algorithm = _tried(subject)
    subject.client.symlink(subject.file(b"f", b"content"), subject.path(b"link"))
    found = check_file(subject.client, BY_NAME, subject.path(b"link"), algorithm.encode())
    subject.equal(found, (algorithm, digest_of(algorithm, b"content")), "the digest")


@rule(
    SHOULD,
    EXTENSIONS_DRAFT,
    "A digest by handle covers the WRITEs sent before it.",
    *FILES,
    CHECK,
    of_server=True,
)
def checksum_after_writes(subject: Subject) -> None:
    client = subject.client
    algorithm = _tried(subject)
    path = subject.file(b"f", b"old content")
    reader = client.open(path)
    for content in (b"new content", b"NEW content"):
        subject.client.put(path, content)
        found = check_file(client, BY_HANDLE, reader, algorithm.encode())
        subject.equal(found, (algorithm, digest_of(algorithm, content)), "the digest")
    client.close_handle(reader)


@rule(
    SHOULD,
    EXTENSIONS_DRAFT,
    "Requests for more digests than fit into a packet, or at impossible offsets, are refused or cut short.",
    *FILES,
    CHECK,
    of_server=True,
)
def checksums_without_an_end(subject: Subject) -> None:
    client = subject.client
    algorithm = _tried(subject)
    path = subject.file(b"f", b"content")
    for offset, length, block in (((1 << 64) - 1, 0, 0), (0, (1 << 64) - 1, 256), (1 << 62, 1 << 62, 0)):
        fields = sftpstring(algorithm.encode()), sftpint64(offset), sftpint64(length), sftpint(block)
        reply = client.extended(BY_NAME, sftpstring(path), *fields)
        kinds = (wire.SSH2_FXP_STATUS, wire.SSH2_FXP_EXTENDED_REPLY)
        subject.check(reply[4] in kinds, f"it was answered with type {reply[4]}")
    client.realpath(b".")
