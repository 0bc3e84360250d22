"""Rules for READ and WRITE: which bytes, where, and how many."""

from __future__ import annotations

from pysftpserver.contract import packets
from pysftpserver.contract.client import (
    APPEND,
    CREAT,
    EOF,
    NEW,
    READ,
    WRITE,
    Refused,
    refusal_of,
)
from pysftpserver.contract.table import CLIENT, DRAFT, MUST, OPENSSH_SERVER, POSIX, SHOULD, rule
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.subject import Subject

TRANSFER = f"{DRAFT}, 6.4"
ORDER = f"{DRAFT}, 6.1"
BOTH = READ | WRITE
SURE = 1 << 15  # bytes that a READ or WRITE may transfer on any server: the draft, section 3
LONG = 300_000  # bytes, more than most servers transfer at once
BEHIND = (
    1,
    4096,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 32) + 3,
    1 << 40,
)  # offsets beyond a short file's end
IMPOSSIBLE = ((1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # offsets at which no byte can be


# --- READ ---------------------------------------------------------------------------------------------


@rule(
    MUST,
    TRANSFER,
    "READ at any offset returns the bytes that are there.",
    *"open read close".split(),
)
def read_any_offset(subject: Subject) -> None:
    content = subject.random.randbytes(50_000)
    handle = subject.client.open(subject.file(b"f", content))
    for _ in range(40):
        offset, size = subject.random.randrange(len(content)), subject.random.randrange(1, 20_000)
        found = subject.client.read(handle, offset, size)
        subject.check(
            found == content[offset : offset + size],
            f"READ of {size} bytes at {offset} answered {len(found)} bytes that are not those there",
        )
    subject.client.close_handle(handle)


@rule(
    MUST,
    f"{DRAFT}, 3, 6.4",
    f"READ of up to {SURE} bytes returns all of them where the file has as many.",
    *"open read close".split(),
    of_server=True,
)
def read_full(subject: Subject) -> None:
    content = subject.random.randbytes(2 * SURE)
    handle = subject.client.open(subject.file(b"f", content))
    for size in (1, 2, 511, 512, 513, 4095, 4096, 10_000, SURE - 1, SURE):
        for offset in (0, 1, 511, len(content) - size):
            found = subject.client.read(handle, offset, size)
            subject.equal(len(found), size, f"the length of the answer to READ of {size} bytes at {offset}")
            subject.check(found == content[offset : offset + size], f"READ at {offset} answered other bytes")


@rule(
    CLIENT,
    "sshfs with max_read=65536 (takes a shorter answer for the end of the file)",
    "READ of 65,536 bytes returns all of them where the file has as many.",
    *"open read close".split(),
    of_server=True,
)
def read_64k(subject: Subject) -> None:
    content = subject.random.randbytes(70_000)
    handle = subject.client.open(subject.file(b"f", content))
    found = subject.client.read(handle, 1, 1 << 16)
    subject.equal(len(found), 1 << 16, "the length of the answer")
    subject.check(found == content[1 : 1 + (1 << 16)], "READ answered other bytes")


@rule(
    MUST,
    TRANSFER,
    "READ never returns more bytes than were asked for.",
    *"open read close".split(),
    of_server=True,
)
def read_no_more(subject: Subject) -> None:
    handle = subject.client.open(subject.file(b"f", bytes(5_000)))
    for size in (1, 3, 100, 4_096):
        for offset in (0, 1, 4_900, 4_999):
            found = subject.client.read(handle, offset, size)
            subject.check(len(found) <= size, f"READ of {size} bytes at {offset} answered {len(found)}")


@rule(
    SHOULD,
    OPENSSH_SERVER,
    "READ of more bytes than the server reads at once is shortened, not refused.",
    *"open read close".split(),
    of_server=True,
)
def read_too_long(subject: Subject) -> None:
    content = subject.random.randbytes(LONG)
    handle = subject.client.open(subject.file(b"f", content))
    for size in (LONG, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1):
        found = subject.client.read(handle, 0, size)
        subject.check(len(found) >= SURE, f"READ of {size} bytes answered only {len(found)}")
        subject.check(content.startswith(found), f"READ of {size} bytes answered other bytes")


@rule(
    MUST,
    TRANSFER,
    "READ across the end of a file returns the bytes up to the end.",
    *"open read close".split(),
)
def read_short_at_end(subject: Subject) -> None:
    handle = subject.client.open(subject.file(b"f", b"12345"))
    for offset, size, expected in ((0, 100, b"12345"), (3, 100, b"45"), (4, 2, b"5"), (0, SURE, b"12345")):
        found = subject.client.read(handle, offset, size)
        subject.equal(found, expected, f"the answer to READ of {size} bytes at {offset}")


@rule(
    MUST,
    f"{DRAFT}, 6.4, 7",
    "READ at the end of a file is answered with STATUS EOF.",
    *"open read close".split(),
)
def read_at_end(subject: Subject) -> None:
    handle = subject.client.open(subject.file(b"f", b"12345"))
    for size in (1, 100, SURE):
        subject.ends(handle, 5, size)


@rule(
    MUST,
    f"{DRAFT}, 6.4, 7",
    "READ past the end of a file is answered with STATUS EOF, also at offsets above 32 bits.",
    *"open read close".split(),
)
def read_behind_end(subject: Subject) -> None:
    handle = subject.client.open(subject.file(b"f", b"12345"))
    for behind in BEHIND:
        subject.ends(handle, 5 + behind, 10)
    subject.equal(subject.client.read(handle, 0, 10), b"12345", "the answer to READ at 0 afterwards")


@rule(
    MUST,
    f"{DRAFT}, 6.4, 7",
    "READ of an empty file is answered with STATUS EOF.",
    *"open read close".split(),
)
def read_empty(subject: Subject) -> None:
    handle = subject.client.open(subject.file(b"f"))
    for offset, size in ((0, 1), (0, SURE), (1, 1)):
        subject.ends(handle, offset, size)


@rule(
    MUST,
    TRANSFER,
    "READ at an offset that no file can have is answered with a STATUS, and the session goes on.",
    *"open read close".split(),
)
def read_impossible(subject: Subject) -> None:
    handle = subject.client.open(subject.file(b"f", b"12345"))
    for offset in (1 << 62, *IMPOSSIBLE):
        for size in (1, 100):
            subject.refuses(None, subject.client.read, handle, offset, size)
    subject.equal(subject.client.read(handle, 0, 10), b"12345", "the answer to READ at 0 afterwards")


@rule(
    SHOULD,
    OPENSSH_SERVER,
    "READ of no bytes is answered with an empty DATA, or with STATUS EOF.",
    *"open read close".split(),
    of_server=True,
)
def read_nothing(subject: Subject) -> None:
    handle = subject.client.open(subject.file(b"f", b"12345"))
    for offset in (0, 3, 5, 6, 1 << 33):
        try:
            subject.equal(subject.client.read(handle, offset, 0), b"", f"the answer to READ at {offset}")
        except Refused as refusal:
            subject.equal(refusal.status, EOF, f"the status of READ of no bytes at {offset}")


@rule(
    MUST,
    f"{DRAFT}, 7",
    "A handle stays usable after STATUS EOF: READ at an earlier offset returns data.",
    *"open read close".split(),
    of_server=True,
)
def read_after_end(subject: Subject) -> None:
    handle = subject.client.open(subject.file(b"f", b"12345"))
    for _ in range(3):
        subject.ends(handle, 5)
        subject.equal(subject.client.read(handle, 1, 3), b"234", "the answer to READ after an EOF")


@rule(
    MUST,
    TRANSFER,
    "READs in any order return the same bytes as READs from start to end.",
    *"open read close".split(),
    of_server=True,
)
def read_out_of_order(subject: Subject) -> None:
    content = subject.random.randbytes(20 * 1_000 + 7)
    handle = subject.client.open(subject.file(b"f", content))
    offsets = list(range(0, len(content), 1_000))
    subject.random.shuffle(offsets)
    found = {offset: subject.client.read(handle, offset, 1_000) for offset in offsets}
    subject.check(b"".join(found[offset] for offset in sorted(found)) == content, "the bytes are others")


@rule(
    SHOULD,
    f"{POSIX}, read",
    "READ at what was the end of a file returns what was added since.",
    *"open read close write".split(),
    of_server=True,
)
def read_grown(subject: Subject) -> None:
    path = subject.file(b"f", b"12345")
    reader, writer = subject.client.open(path, READ), subject.client.open(path, WRITE)
    subject.ends(reader, 5)
    subject.client.write(writer, 5, b"678")
    subject.equal(subject.client.read(reader, 5, 10), b"678", "the answer to READ at what was the end")


@rule(
    MUST,
    ORDER,
    "Each READ and WRITE uses its own offset: a READ does not move the next one.",
    *"open read close write".split(),
    of_server=True,
)
def read_has_no_position(subject: Subject) -> None:
    path = subject.file(b"f", b"0123456789")
    handle = subject.client.open(path, BOTH)
    subject.equal(subject.client.read(handle, 8, 2), b"89", "the answer to READ")
    subject.client.write(handle, 1, b"A")
    subject.equal(subject.client.read(handle, 0, 3), b"0A2", "the answer to READ after a WRITE")
    subject.client.write(handle, 3, b"B")
    subject.client.close_handle(handle)
    subject.equal(subject.content(path), b"0A2B456789", "the content")


# --- WRITE --------------------------------------------------------------------------------------------


@rule(
    MUST,
    TRANSFER,
    "WRITE puts its bytes at its offset and changes no others.",
    *"open read close write".split(),
)
def write_in_place(subject: Subject) -> None:
    path = subject.file(b"f", b"0123456789")
    handle = subject.client.open(path, WRITE)
    for offset, chunk in ((4, b"four"), (0, b"Z"), (9, b"nine")):
        subject.client.write(handle, offset, chunk)
    subject.client.close_handle(handle)
    subject.equal(subject.content(path), b"Z123four8nine", "the content")


@rule(
    MUST,
    f"{DRAFT}, 6.1, 6.4",
    "WRITEs and READs at any offset of one handle have the same results as on a local file.",
    *"open read write close fstat".split(),
)
def write_any_offset(subject: Subject) -> None:
    path = subject.file(b"f")
    handle = subject.client.open(path, BOTH)
    model = bytearray()
    for step in range(40):
        offset, chunk = subject.random.randrange(30_000), subject.random.randbytes(1 + step * 100)
        subject.client.write(handle, offset, chunk)
        model.extend(bytes(max(0, offset - len(model))))
        model[offset : offset + len(chunk)] = chunk
        at = subject.random.randrange(len(model))
        found = subject.client.read(handle, at, 1_000)
        subject.check(found == model[at : at + 1_000], f"READ at {at} answered other bytes in step {step}")
        subject.equal(subject.client.fstat(handle).size, len(model), f"FSTAT's size in step {step}")
    subject.client.close_handle(handle)
    subject.check(subject.content(path) == model, "the content is not what was written")


@rule(
    MUST,
    TRANSFER,
    "WRITE past the end of a file fills the gap with zeros.",
    *"open read close write lstat".split(),
)
def write_hole(subject: Subject) -> None:
    path = subject.file(b"f", b"head")
    handle = subject.client.open(path, WRITE)
    subject.client.write(handle, 300_000, b"tail")
    subject.client.write(handle, 100_000, b"middle")
    subject.client.close_handle(handle)
    subject.equal(subject.client.lstat(path).size, 300_004, "the size")
    expected = b"head" + bytes(99_996) + b"middle" + bytes(199_994) + b"tail"
    subject.check(subject.content(path) == expected, "what is between the bytes written is not zeros")


@rule(
    SHOULD,
    f"{DRAFT}, 3 (servers SHOULD support packets of 34000 bytes)",
    f"WRITE of up to {SURE} bytes is accepted, and all of them are stored.",
    *"open read close write".split(),
)
def write_full(subject: Subject) -> None:
    path, expected = subject.path(b"f"), bytearray()
    handle = subject.client.open(path, NEW)
    for size in (1, 511, 4097, SURE - 1, SURE):
        chunk = subject.random.randbytes(size)
        subject.client.write(handle, len(expected), chunk)
        expected += chunk
    subject.client.close_handle(handle)
    subject.check(subject.content(path) == expected, "the content is not what was written")


@rule(
    CLIENT,
    "sshfs with max_write=65536",
    "WRITE of 65,536 bytes is accepted, and all of them are stored.",
    *"open read close write".split(),
    of_server=True,
)
def write_64k(subject: Subject) -> None:
    content = subject.random.randbytes(3 << 16)
    subject.client.put(subject.path(b"f"), content, 1 << 16)
    subject.check(subject.content(subject.path(b"f")) == content, "the content is not what was written")


@rule(
    MUST,
    TRANSFER,
    "WRITEs may come in any order: the file is complete when all have come.",
    *"open read close write".split(),
)
def write_out_of_order(subject: Subject) -> None:
    content = subject.random.randbytes(6 * SURE + 1)
    handle = subject.client.open(subject.path(b"f"), NEW)
    offsets = list(range(0, len(content), SURE))
    subject.random.shuffle(offsets)
    for offset in offsets:
        subject.client.write(handle, offset, content[offset : offset + SURE])
    subject.client.close_handle(handle)
    subject.check(subject.content(subject.path(b"f")) == content, "the content is not what was written")


@rule(
    MUST,
    ORDER,
    "Of overlapping WRITEs the later one's bytes are kept, also when they are sent without waiting.",
    *"open read close write".split(),
)
def write_overlapping(subject: Subject) -> None:
    client, model = subject.client, bytearray(2_000)
    handle = client.open(subject.file(b"f", bytes(2_000)), BOTH)
    asked = []
    for _ in range(60):
        offset, chunk = subject.random.randrange(1_900), subject.random.randbytes(100)
        model[offset : offset + 100] = chunk
        fields = packets.sftpstring(handle), packets.sftpint64(offset), packets.sftpstring(chunk)
        asked.append(client.send(wire.SSH2_FXP_WRITE, *fields))
    for request_id in asked:
        client.expect("WRITE", client.reply(request_id), packets.get_sftpstatus)
    subject.check(client.read(handle, 0, 2_000) == model, "the bytes of an earlier WRITE were kept")
    client.close_handle(handle)
    subject.check(subject.content(subject.path(b"f")) == model, "the bytes of an earlier WRITE were kept")


@rule(
    MUST,
    ORDER,
    "READ returns what was written through the same handle before.",
    *"open read close write".split(),
    of_server=True,
)
def write_then_read(subject: Subject) -> None:
    handle = subject.client.open(subject.path(b"f"), BOTH | CREAT)
    for number in range(10):
        subject.client.write(handle, number, b"%d" % number)
        expected = b"0123456789"[: number + 1]
        subject.equal(subject.client.read(handle, 0, 100), expected, "the answer to READ")
    subject.client.close_handle(handle)


@rule(
    SHOULD,
    f"{POSIX}, write",
    "WRITE of no bytes is answered with OK and changes nothing, also past the end of the file.",
    *"open read close write".split(),
)
def write_nothing(subject: Subject) -> None:
    path = subject.file(b"f", b"abc")
    handle = subject.client.open(path, WRITE)
    for offset in (0, 1, 3, 100):
        subject.client.write(handle, offset, b"")
    subject.client.close_handle(handle)
    subject.equal(subject.content(path), b"abc", "the content")


@rule(
    MUST,
    TRANSFER,
    "WRITE at an offset that no file can have is refused, and the file is not changed.",
    *"open read close write".split(),
)
def write_impossible(subject: Subject) -> None:
    path = subject.file(b"f", b"content")
    handle = subject.client.open(path, BOTH)
    for offset in IMPOSSIBLE:
        subject.refuses(None, subject.client.write, handle, offset, b"x")
    subject.equal(subject.client.read(handle, 0, 100), b"content", "what READ answers afterwards")
    refusal_of(subject.client.close_handle, handle)  # some servers report only here that data were not stored
    subject.equal(subject.content(path), b"content", "the content")


@rule(
    MUST,
    f"{DRAFT}, 6.1, 7",
    "A refused WRITE does not undo the WRITEs that were answered with OK.",
    *"open read close write".split(),
    of_server=True,
)
def write_refused(subject: Subject) -> None:
    path = subject.file(b"f", b"content")
    handle = subject.client.open(path, WRITE)
    subject.client.write(handle, 0, b"C")
    subject.refuses(None, subject.client.write, handle, 1 << 63, b"x")
    subject.client.write(handle, 6, b"T")
    refusal_of(subject.client.close_handle, handle)
    subject.equal(subject.content(path), b"ContenT", "the content")


# --- APPEND -------------------------------------------------------------------------------------------


@rule(
    MUST,
    f"{DRAFT}, 6.3",
    "WRITE to a file opened with APPEND goes to its end, whatever its offset.",
    *"open read close write".split(),
)
def append_ignores_offset(subject: Subject) -> None:
    path = subject.file(b"f", b"0")
    handle = subject.client.open(path, WRITE | APPEND)
    for offset, chunk in ((0, b"1"), (77, b"2"), (1, b"3"), (1 << 33, b"4")):
        subject.client.write(handle, offset, chunk)
    subject.client.close_handle(handle)
    subject.equal(subject.content(path), b"01234", "the content")


@rule(
    MUST,
    f"{DRAFT}, 6.3",
    "WRITEs through two handles with APPEND follow each other: nothing is overwritten.",
    *"open read close write".split(),
)
def append_together(subject: Subject) -> None:
    path = subject.file(b"f", b"0")
    handles = [subject.client.open(path, WRITE | APPEND) for _ in range(2)]
    for number, chunk in enumerate((b"1", b"2", b"3", b"4")):
        subject.client.write(handles[number % 2], 0, chunk)
    for handle in handles:
        subject.client.close_handle(handle)
    subject.equal(subject.content(path), b"01234", "the content")


@rule(
    SHOULD,
    f"{POSIX}, open (O_APPEND)",
    "READ of a file opened with APPEND returns the bytes at its offset.",
    *"open read close write".split(),
)
def append_reads_anywhere(subject: Subject) -> None:
    handle = subject.client.open(subject.file(b"f", b"01234"), BOTH | APPEND)
    subject.equal(subject.client.read(handle, 1, 2), b"12", "the answer to READ")
    subject.client.write(handle, 0, b"56")
    subject.equal(subject.client.read(handle, 3, 100), b"3456", "the answer to READ after a WRITE")
    subject.client.close_handle(handle)


# --- several handles ----------------------------------------------------------------------------------


@rule(
    MUST,
    ORDER,
    "READ returns what was written through another handle of the file before.",
    *"open read close write".split(),
)
def handles_see_writes(subject: Subject) -> None:
    path = subject.file(b"f", b"old")
    writer, reader = subject.client.open(path, WRITE), subject.client.open(path, READ)
    subject.client.write(writer, 0, b"first")
    subject.equal(subject.client.read(reader, 0, 100), b"first", "the answer to READ")
    subject.client.write(writer, 5, b" second")
    subject.equal(subject.client.read(reader, 0, 100), b"first second", "the answer to READ")
    subject.equal(subject.client.read(reader, 6, 3), b"sec", "the answer to READ")
