"""Rules for several requests in flight: all are answered, as if each had waited for the one before; and for
how the stream of bytes may be divided."""

from __future__ import annotations

from pysftpserver.contract import packets
from pysftpserver.contract.client import (
    APPEND,
    EOF,
    NEW,
    NOT_FOUND,
    NOTHING,
    OK,
    READ,
    WRITE,
    Refused,
    refusal_of,
)
from pysftpserver.contract.packets import sftpattrs, sftpint, sftpint64, sftpstring
from pysftpserver.contract.table import DRAFT, MUST, SHOULD, rule
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.client import Client
    from pysftpserver.contract.subject import Subject

Request = tuple[int, bytes]  # type and fields

FILES = ("open", "read", "write", "close")
READ_SIZE = 32_768  # bytes that servers have to accept
SEVERAL = 64  # requests in flight, as OpenSSH's client has them
MANY = 1_000
ORDER = f"{DRAFT}, 6.1"


def read_of(handle: bytes, offset: int, length: int) -> Request:
    """READ for send_together()."""
    return wire.SSH2_FXP_READ, sftpstring(handle) + sftpint64(offset) + sftpint(length)


def write_of(handle: bytes, offset: int, data: bytes) -> Request:
    """WRITE."""
    return wire.SSH2_FXP_WRITE, sftpstring(handle) + sftpint64(offset) + sftpstring(data)


def close_of(handle: bytes) -> Request:
    """CLOSE."""
    return wire.SSH2_FXP_CLOSE, sftpstring(handle)


def _path(kind: int, *paths: bytes) -> Request:
    return kind, b"".join(map(sftpstring, paths))


def outcomes(client: Client, *requests: Request, step: int = 0) -> list[bytes]:
    """Send requests together; return the replies in the order of the requests."""
    return [client.reply(number) for number in client.send_together(*requests, step=step)]


def data_in(client: Client, reply: bytes) -> bytes:
    """The bytes of a DATA reply. Raises Refused for a STATUS."""
    return client.expect("READ", reply, packets.get_sftpdata)


def all_ok(client: Client, replies: list[bytes], what: str) -> None:
    """Check that all replies are STATUS OK."""
    for reply in replies:
        client.expect(what, reply, packets.get_sftpstatus)


def _statuses(client: Client, replies: list[bytes]) -> list[int]:
    """The status of each reply; OK for a reply of another kind."""
    return [client.status_in(r)[0] if r[4] == wire.SSH2_FXP_STATUS else OK for r in replies]


# --- all of them are answered ---------------------------------------------------------------------------


@rule(
    MUST,
    f"{DRAFT}, 3",
    "Of 64 READs in flight each is answered, with the bytes at its own offset.",
    *FILES,
    of_server=True,
)
def reads_in_flight(subject: Subject) -> None:
    content = subject.random.randbytes(SEVERAL * 512)
    handle = subject.client.open(subject.file(b"f", content))
    offsets = list(range(0, len(content), 512))
    subject.random.shuffle(offsets)
    replies = outcomes(subject.client, *(read_of(handle, offset, 512) for offset in offsets))
    for offset, reply in zip(offsets, replies, strict=True):
        subject.equal(
            data_in(subject.client, reply), content[offset : offset + 512], f"what is read at {offset}"
        )
    subject.client.close_handle(handle)


@rule(
    MUST,
    f"{DRAFT}, 3",
    "A thousand requests in flight are all answered: the protocol sets no limit on their number.",
    of_server=True,
)
def a_thousand_requests_in_flight(subject: Subject) -> None:
    missing = sftpstring(subject.path(b"missing"))
    client = subject.another()
    request = [(wire.SSH2_FXP_REALPATH, sftpstring(b".")), (wire.SSH2_FXP_LSTAT, missing)]
    replies = outcomes(client, *(request * (MANY // 2)))
    expected = [wire.SSH2_FXP_NAME, wire.SSH2_FXP_STATUS] * (MANY // 2)
    subject.equal([reply[4] for reply in replies], expected, "the kinds of replies")


@rule(
    MUST,
    f"{DRAFT}, 3",
    "8 MiB of replies reach a client that sends all its requests before it reads.",
    *FILES,
    of_server=True,
)
def replies_wait_for_the_client(subject: Subject) -> None:
    content = subject.random.randbytes(READ_SIZE)
    client = subject.another()
    handle = client.open(subject.file(b"f", content))
    for reply in outcomes(client, *[read_of(handle, 0, READ_SIZE)] * 256):
        subject.check(data_in(client, reply) == content, "a READ of a whole file gave something else")


@rule(
    MUST,
    f"{DRAFT}, 6.1",
    "A request that fails does not disturb the requests in flight before and after it.",
    *FILES,
    of_server=True,
)
def failures_in_flight(subject: Subject) -> None:
    client = subject.client
    handle = client.open(subject.file(b"f", b"0123456789"))
    missing = (wire.SSH2_FXP_LSTAT, sftpstring(subject.path(b"missing")))
    odd = (wire.SSH2_FXP_REMOVE, sftpstring(subject.path(b"missing")))
    replies = outcomes(
        client, read_of(handle, 0, 1), missing, read_of(handle, 1, 1), odd, read_of(handle, 2, 1)
    )
    subject.equal([data_in(client, reply) for reply in replies[::2]], [b"0", b"1", b"2"], "what is read")
    subject.equal([reply[4] for reply in replies[1::2]], [wire.SSH2_FXP_STATUS] * 2, "the other replies")
    client.close_handle(handle)


@rule(
    MUST,
    f"{DRAFT}, 6.4",
    "Of READs in flight across the end of a file, those before it return data, and those past it EOF.",
    *FILES,
)
def reads_in_flight_over_the_end(subject: Subject) -> None:
    client = subject.client
    content = subject.random.randbytes(2_500)
    handle = client.open(subject.file(b"f", content))
    replies = outcomes(client, *(read_of(handle, offset, 1_000) for offset in range(0, 6_000, 1_000)))
    subject.equal(b"".join(data_in(client, reply) for reply in replies[:3]), content, "what is read")
    for reply in replies[3:]:
        refusal = refusal_of(data_in, client, reply)
        subject.check(
            refusal is not None and refusal.status == EOF, "a READ past the end was not answered with EOF"
        )
    client.close_handle(handle)


# --- as if one at a time --------------------------------------------------------------------------------


@rule(MUST, ORDER, "READ returns what a WRITE in flight before it has written.", *FILES)
def read_after_write_in_flight(subject: Subject) -> None:
    client = subject.client
    handle = client.open(subject.file(b"f", b"old"), READ | WRITE)
    requests = []
    for number in range(10):
        requests += [write_of(handle, 0, b"%3d" % number), read_of(handle, 0, 3)]
    replies = outcomes(client, *requests)
    all_ok(client, replies[::2], "WRITE")
    found = [data_in(client, reply) for reply in replies[1::2]]
    subject.equal(found, [b"%3d" % number for number in range(10)], "what is read")
    client.close_handle(handle)


@rule(MUST, ORDER, "READ returns nothing of a WRITE that is sent after it.", *FILES, of_server=True)
def read_before_write_in_flight(subject: Subject) -> None:
    client = subject.client
    handle = client.open(subject.file(b"f", b"0"), READ | WRITE)
    requests = []
    for number in range(1, 10):
        requests += [read_of(handle, 0, 1), write_of(handle, 0, b"%d" % number)]
    found = [data_in(client, reply) for reply in outcomes(client, *requests)[::2]]
    subject.equal(found, [b"%d" % number for number in range(9)], "what is read")
    client.close_handle(handle)


@rule(
    MUST,
    ORDER,
    "Of overlapping WRITEs in flight, the last one sent wins.",
    *FILES,
    of_server=True,
)
def overlapping_writes_in_flight(subject: Subject) -> None:
    client = subject.client
    expected = bytearray(4_096)
    handle = client.open(subject.file(b"f", bytes(expected)), READ | WRITE)
    requests = []
    for _ in range(SEVERAL):
        start = subject.random.randrange(3_000)
        data = subject.random.randbytes(1_000)
        expected[start : start + 1_000] = data
        requests.append(write_of(handle, start, data))
    all_ok(client, outcomes(client, *requests), "WRITE")
    client.close_handle(handle)
    subject.equal(subject.content(subject.path(b"f")), bytes(expected), "the content")


@rule(
    MUST,
    ORDER,
    "FSTAT shows the size after a WRITE in flight before it.",
    *FILES,
    "fstat",
    of_server=True,
)
def fstat_after_write_in_flight(subject: Subject) -> None:
    client = subject.client
    handle = client.open(subject.path(b"f"), NEW)
    requests = []
    for number in range(10):
        requests += [write_of(handle, number * 100, b"x" * 100), (wire.SSH2_FXP_FSTAT, sftpstring(handle))]
    replies = outcomes(client, *requests)
    sizes = [client.expect("FSTAT", reply, packets.get_sftpstat).size for reply in replies[1::2]]
    subject.equal(sizes, [number * 100 for number in range(1, 11)], "the sizes")
    client.close_handle(handle)


@rule(
    MUST,
    ORDER,
    "STAT shows the size of a file whose WRITE and CLOSE are in flight before it.",
    *FILES,
    "stat",
    of_server=True,
)
def stat_after_close_in_flight(subject: Subject) -> None:
    client = subject.client
    path = subject.path(b"f")
    handle = client.open(path, NEW)
    stat = _path(wire.SSH2_FXP_STAT, path)
    replies = outcomes(client, write_of(handle, 0, b"x" * 1_000), close_of(handle), stat)
    subject.equal(client.expect("STAT", replies[2], packets.get_sftpstat).size, 1_000, "the size")


@rule(
    MUST,
    ORDER,
    "READ returns what a WRITE in flight before it has written through another handle of the file.",
    *FILES,
    of_server=True,
)
def two_handles_in_flight(subject: Subject) -> None:
    client = subject.client
    path = subject.file(b"f", b"old")
    writer, reader = client.open(path, WRITE), client.open(path)
    requests = []
    for number in range(10):
        requests += [write_of(writer, 0, b"%3d" % number), read_of(reader, 0, 3)]
    found = [data_in(client, reply) for reply in outcomes(client, *requests)[1::2]]
    subject.equal(found, [b"%3d" % number for number in range(10)], "what is read")
    client.close_handle(writer)
    client.close_handle(reader)


@rule(
    MUST,
    ORDER,
    "WRITEs in flight to a file that is open for appending are appended in the order sent.",
    *FILES,
    of_server=True,
)
def appends_in_flight(subject: Subject) -> None:
    client = subject.client
    path = subject.file(b"f", b"begin ")
    handle = client.open(path, WRITE | APPEND)
    parts = [b"%d " % number for number in range(SEVERAL)]
    all_ok(client, outcomes(client, *(write_of(handle, 0, part) for part in parts)), "WRITE")
    client.close_handle(handle)
    subject.equal(subject.content(path), b"begin " + b"".join(parts), "the content")


@rule(
    MUST,
    ORDER,
    "A truncation and a WRITE in flight are done in the order sent.",
    *FILES,
    "fsetstat",
    of_server=True,
)
def truncation_in_flight(subject: Subject) -> None:
    client = subject.client
    path = subject.file(b"f", b"x" * 100)
    handle = client.open(path, READ | WRITE)
    cut = wire.encode_u32(wire.SSH2_FILEXFER_ATTR_SIZE) + wire.encode_u64(2)
    replies = outcomes(
        client,
        write_of(handle, 10, b"gone"),
        (wire.SSH2_FXP_FSETSTAT, sftpstring(handle) + cut),
        write_of(handle, 3, b"new"),
        read_of(handle, 0, 100),
    )
    subject.equal(data_in(client, replies[3]), b"xx\0new", "what is read")
    client.close_handle(handle)


@rule(
    MUST,
    ORDER,
    "Requests in flight that make, look up and remove one directory are done in the order sent.",
    *"mkdir lstat rmdir".split(),
    of_server=True,
)
def one_path_in_flight(subject: Subject) -> None:
    path = subject.path(b"d")
    look = _path(wire.SSH2_FXP_LSTAT, path)
    make = (wire.SSH2_FXP_MKDIR, sftpstring(path) + sftpattrs(NOTHING))
    remove = _path(wire.SSH2_FXP_RMDIR, path)
    requests = [look, make, look, remove, look] * 5
    found = _statuses(subject.client, outcomes(subject.client, *requests))
    subject.equal(found, [NOT_FOUND, OK, OK, OK, NOT_FOUND] * 5, "the statuses")


@rule(
    MUST,
    ORDER,
    "A RENAME is done before the requests about its two paths that were sent after it.",
    *FILES,
    *"lstat rename".split(),
    of_server=True,
)
def rename_in_flight(subject: Subject) -> None:
    old, new = subject.file(b"old"), subject.path(b"new")
    there, back = (_path(wire.SSH2_FXP_RENAME, *paths) for paths in ((old, new), (new, old)))
    look = [_path(wire.SSH2_FXP_LSTAT, path) for path in (old, new)]
    found = _statuses(subject.client, outcomes(subject.client, there, *look, back, *look))
    subject.equal(found, [OK, NOT_FOUND, OK, OK, OK, NOT_FOUND], "the statuses")


@rule(
    MUST,
    f"{DRAFT}, 6.3",
    "A handle is invalid for a request that is sent right after its CLOSE.",
    *FILES,
    of_server=True,
)
def read_behind_close_in_flight(subject: Subject) -> None:
    client = subject.client
    handle = client.open(subject.file(b"f", b"content"))
    replies = outcomes(client, read_of(handle, 0, 7), close_of(handle), read_of(handle, 0, 7))
    subject.equal(data_in(client, replies[0]), b"content", "what is read before the CLOSE")
    subject.check(refusal_of(data_in, client, replies[2]) is not None, "READ with a closed handle gave bytes")


@rule(
    MUST,
    ORDER,
    "READDIRs in flight on one handle return each name once, and then EOF.",
    *"opendir mkdir open write close".split(),
    of_server=True,
)
def readdirs_in_flight(subject: Subject) -> None:
    client = subject.client
    names = [b"file-%03d" % number for number in range(120)]
    subject.client.mkdir(subject.path(b"d"))
    subject.fill(subject.path(b"d"), names)
    handle = client.opendir(subject.path(b"d"))
    found: list[bytes] = []
    ended = False
    while not ended:
        for reply in outcomes(client, *[(wire.SSH2_FXP_READDIR, sftpstring(handle))] * 8):
            try:
                entries = client.expect("READDIR", reply, packets.get_sftpentries)
            except Refused as refusal:
                if refusal.status != EOF:
                    raise
                ended = True
                continue
            subject.check(not ended, "READDIR gave names after it had answered EOF")
            subject.check(bool(entries), "READDIR was answered with a NAME without names")
            found += [name for name, _, _ in entries if name not in (b".", b"..")]
    client.close_handle(handle)
    subject.equal(sorted(found), names, "the names")


# --- several files --------------------------------------------------------------------------------------


@rule(
    MUST,
    ORDER,
    "WRITEs in flight to several files in turn each go to their own file.",
    *FILES,
    of_server=True,
)
def writes_in_flight_to_several_files(subject: Subject) -> None:
    client = subject.client
    handles = [client.open(subject.path(b"f%d" % number), NEW) for number in range(4)]
    requests = [
        write_of(handle, 100 * turn, bytes((number, turn)) * 50)
        for turn in range(16)
        for number, handle in enumerate(handles)
    ]
    all_ok(client, outcomes(client, *requests, *map(close_of, handles)), "WRITE or CLOSE")
    for number in range(4):
        expected = b"".join(bytes((number, turn)) * 50 for turn in range(16))
        found = subject.content(subject.path(b"f%d" % number))
        subject.check(found == expected, f"file {number} holds something else")


# --- the stream of bytes --------------------------------------------------------------------------------


@rule(
    MUST,
    f"{DRAFT}, 3",
    "Requests that arrive byte by byte are served as if they had come whole.",
    *FILES,
    of_server=True,
)
def requests_byte_by_byte(subject: Subject) -> None:
    client = subject.client
    path = subject.path(b"f")
    handle = client.open(path, NEW)
    replies = outcomes(client, write_of(handle, 0, b"content"), close_of(handle), step=1)
    all_ok(client, replies, "WRITE or CLOSE")
    handle = client.open(path)
    ask = (wire.SSH2_FXP_REALPATH, sftpstring(b"."))
    replies = outcomes(client, read_of(handle, 3, 4), ask, close_of(handle), step=1)
    subject.equal(data_in(client, replies[0]), b"tent", "what is read")
    subject.equal(replies[1][4], wire.SSH2_FXP_NAME, "the type of the reply to REALPATH")


@rule(
    MUST,
    f"{DRAFT}, 3",
    "Requests that arrive in pieces, cut anywhere, are served as if they had come whole.",
    *FILES,
    of_server=True,
)
def requests_cut_anywhere(subject: Subject) -> None:
    client = subject.client
    content = subject.random.randbytes(600)
    path = subject.path(b"f")
    for step in (2, 7, 31, 33):
        handle = client.open(path, NEW)
        requests = [write_of(handle, 100 * number, content[100 * number :][:100]) for number in range(6)]
        all_ok(client, outcomes(client, *requests, close_of(handle), step=step), "WRITE or CLOSE")
        handle = client.open(path)
        requests = [read_of(handle, 100 * number, 100) for number in range(6)]
        replies = outcomes(client, *requests, close_of(handle), step=step)
        found = b"".join(data_in(client, reply) for reply in replies[:6])
        subject.equal(found, content, f"what is read, with pieces of {step} bytes")


@rule(
    MUST,
    f"{DRAFT}, 3",
    "INIT that arrives byte by byte, or in one piece with the requests after it, starts the session.",
    of_server=True,
)
def init_in_any_pieces(subject: Subject) -> None:
    client = subject.bare()
    init = packets.sftpcmd(wire.SSH2_FXP_INIT, sftpint(3))
    for byte in init[:-1]:
        client.line.send(bytes((byte,)))
    reply = client.raw(init[-1:])
    subject.equal(reply[4], wire.SSH2_FXP_VERSION, "the type of the reply")
    client.realpath(b".")
    client = subject.bare()
    ask = packets.sftpcmd(wire.SSH2_FXP_REALPATH, sftpstring(b"."), request_id=1)
    replies = [client.raw(init + ask + ask), client.packet(), client.packet()]
    expected = [wire.SSH2_FXP_VERSION, wire.SSH2_FXP_NAME, wire.SSH2_FXP_NAME]
    subject.equal([reply[4] for reply in replies], expected, "the types of the replies")


@rule(
    SHOULD,
    f"{DRAFT}, 3 (servers SHOULD support packets of 34000 bytes)",
    "A WRITE of 32,768 bytes that arrives in small pieces is stored whole.",
    *FILES,
    of_server=True,
)
def large_write_in_pieces(subject: Subject) -> None:
    client = subject.client
    content = subject.random.randbytes(READ_SIZE)
    path = subject.path(b"f")
    handle = client.open(path, NEW)
    replies = outcomes(client, write_of(handle, 0, content), close_of(handle), step=997)
    all_ok(client, replies, "WRITE or CLOSE")
    subject.check(subject.content(path) == content, "the content is something else")


@rule(
    SHOULD,
    f"{DRAFT}, 3 (servers SHOULD support packets of 34000 bytes)",
    "Packets of 34,000 bytes are accepted.",
    *FILES,
    of_server=True,
)
def packets_of_34000_bytes(subject: Subject) -> None:
    client = subject.client
    path = subject.path(b"f")
    handle = client.open(path, NEW)
    fixed = 4 + 1 + 4 + 4 + len(handle) + 8 + 4  # bytes of a WRITE's packet without its data
    content = subject.random.randbytes(34_000 - fixed)
    client.write(handle, 0, content)
    client.close_handle(handle)
    subject.check(subject.content(path) == content, "the content is something else")
