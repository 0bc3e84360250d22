"""Mutates SFTP streams and keeps most of the framing, so that the code behind the framing is reached.

An input is a byte of ways and a stream of packets. A mutation splits the stream, adds, drops, moves, replaces
or changes packets, and frames them again; occasionally it changes the raw bytes. What may not enter: atheris
(its mutator of raw bytes is an argument), the package under test.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.differential.packets import EXTENDED, INIT, REQUEST_TYPES, string, u32, u64

Raw = Callable[[bytes, int], bytes]

LONGEST_CUT = 512  # packets that are split; the rest stays in one piece
HELLO = bytes([INIT]) + u32(3)

# Fields of bodies: p path, t text of a link, h handle, n uint32, q uint64, f open flags,
# a attributes, d data, i packed ids.
SHAPES = {
    "open": "pfa",
    "close": "h",
    "read": "hqn",
    "write": "hqd",
    "lstat": "p",
    "fstat": "h",
    "setstat": "pa",
    "fsetstat": "ha",
    "opendir": "p",
    "readdir": "h",
    "remove": "p",
    "mkdir": "pa",
    "rmdir": "p",
    "realpath": "p",
    "stat": "p",
    "rename": "pp",
    "readlink": "p",
    "symlink": "tp",
}
EXTENDED_SHAPES = {
    b"posix-rename@openssh.com": "pp",
    b"statvfs@openssh.com": "p",
    b"fstatvfs@openssh.com": "h",
    b"hardlink@openssh.com": "pp",
    b"fsync@openssh.com": "h",
    b"lsetstat@openssh.com": "pa",
    b"limits@openssh.com": "",
    b"expand-path@openssh.com": "p",
    b"copy-data": "hqqhq",
    b"home-directory": "p",
    b"check-file-name": "pmqqn",
    b"check-file-handle": "hmqqn",
    b"check-file": "hmqqn",
    b"users-groups-by-id@openssh.com": "ii",
    b"no-such@extension": "p",
}
KINDS: list[tuple[int, bytes, str]] = [(REQUEST_TYPES[name], b"", shape) for name, shape in SHAPES.items()]
KINDS += [(EXTENDED, string(name), shape) for name, shape in EXTENDED_SHAPES.items()]
# Requests that need an open handle are generated more often.
OFTEN = [row for row in KINDS if row[2][:1] == "h"] + [KINDS[0], KINDS[0], KINDS[8]]

NAMES = [b"f", b"big", b"d", b"g", b"e", b"l", b"up", b"loop", b"out", b"abs", b"new", b"other"]
ODD_NAMES = [b"..", b".", b"", b"~", b"~root", b"\xff\xfe", b"a\nb", b"a\0b", b"n" * 255, b"n" * 256]
WHOLE_PATHS = [
    b"/d/g",
    b"d/g",
    b"/",
    b".",
    b"/d",
    b"d/e",
    b"d/up",
    b"/out",
    b"../..",
    b"d/up/g",
    b"d/",
    b"f/",
]
WHOLE_PATHS += [b"/proc/self/root", b"../canary/secret", b"l/..", b"x/" * 2100]
SMALL = [0, 1, 2, 3, 4, 5, 9, 10, 11, 100, 255, 256, 4095, 4096]
LARGE = [32767, 32768, 39_999, 40_000, 65535, 65536, 261_119, 261_120, 262_144, 262_145, 524_287, 524_288]
LARGE += [(1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 40) - 1, 1 << 40, (1 << 62), (1 << 63) - 1]
LARGE += [1 << 63, (1 << 64) - 1]


def mutate(data: bytes, most: int, random: Random, raw: Raw) -> bytes:
    """Return a mutated input of up to `most` bytes. raw: a function that mutates bytes up to a length."""
    if not data or random.random() < 0.06:
        return raw(data, most)
    ways = data[0]
    if random.random() < 0.15:
        ways ^= 1 << random.randrange(8)
    if random.random() < 0.5:
        ways &= 0xFE  # not TWICE, which takes twice the time
    packets, tail = cut(data[1:])
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5))):
        random.choice(CHANGES)(packets, random, raw)
    if not packets or (packets[0][:1] != HELLO[:1] and random.random() < 0.9):
        packets.insert(0, HELLO)
    if tail and random.random() < 0.5:
        tail = b""
    result = bytes([ways]) + joined(packets) + tail
    if random.random() < 0.02:
        at = random.randrange(len(result))
        result = result[:at] + raw(result[at : at + 8], 8) + result[at + 8 :]
    return result[:most]


def cross(one: bytes, other: bytes, most: int, random: Random) -> bytes:
    """Return an input that begins as one and continues as the other."""
    packets, _ = cut(one[1:])
    more, tail = cut(other[1:])
    packets = packets[: random.randint(1, len(packets) + 1)]
    start = random.randrange(len(more) + 1)
    return ((one[:1] or b"\0") + joined(packets + more[start:]) + tail)[:most]


def cut(stream: bytes) -> tuple[list[bytes], bytes]:
    """Return the bodies of the packets at the beginning of a stream, and the bytes after them."""
    packets: list[bytes] = []
    at = 0
    while len(packets) < LONGEST_CUT and len(stream) - at > 4:
        stop = at + 4 + int.from_bytes(stream[at : at + 4], "big")
        if stop > len(stream):
            break
        packets.append(stream[at + 4 : stop])
        at = stop
    return packets, stream[at:]


def joined(packets: list[bytes]) -> bytes:
    """Return the bodies as framed packets."""
    return b"".join(map(string, packets))


# --- changes of a list of packets, in place -------------------------------------------------------------


def _insert(packets: list[bytes], random: Random, raw: Raw) -> None:
    packets.insert(random.randint(min(1, len(packets)), len(packets)), _made(random))


def _append(packets: list[bytes], random: Random, raw: Raw) -> None:
    packets.append(_made(random))


def _append_pair(packets: list[bytes], random: Random, raw: Raw) -> None:
    """Append an open and a request on its handle, which is the next number."""
    kind, name, shape = random.choice(OFTEN)
    opens = KINDS[8] if REQUEST_TYPES["readdir"] == kind else random.choice((KINDS[0], KINDS[0], KINDS[8]))
    opened = sum(packet[:1] in (b"\x03", b"\x0b") for packet in packets) + 1
    packets += [_packet(*opens, random), _packet(kind, name, shape, random, opened)]


def _drop(packets: list[bytes], random: Random, raw: Raw) -> None:
    if packets:
        del packets[random.randrange(len(packets))]


def _drop_many(packets: list[bytes], random: Random, raw: Raw) -> None:
    start = random.randrange(len(packets) + 1)
    del packets[start : start + random.randrange(8)]


def _repeat(packets: list[bytes], random: Random, raw: Raw) -> None:
    if packets:
        packet = random.choice(packets)
        packets.insert(random.randrange(len(packets) + 1), packet)


def _swap(packets: list[bytes], random: Random, raw: Raw) -> None:
    if packets:
        one, other = random.randrange(len(packets)), random.randrange(len(packets))
        packets[one], packets[other] = packets[other], packets[one]


def _remake(packets: list[bytes], random: Random, raw: Raw) -> None:
    """Replace a request by another of the same kind."""
    if packets:
        at = random.randrange(len(packets))
        rows = [row for row in KINDS if bytes([row[0]]) == packets[at][:1]]
        if rows:
            packets[at] = _packet(*random.choice(rows), random)


def _change(packets: list[bytes], random: Random, raw: Raw) -> None:
    """Mutate the bytes of one packet."""
    if packets:
        at = random.randrange(len(packets))
        packets[at] = raw(packets[at], len(packets[at]) + 16)


def _shorten(packets: list[bytes], random: Random, raw: Raw) -> None:
    if packets:
        at = random.randrange(len(packets))
        packets[at] = packets[at][: random.randrange(len(packets[at]) + 1)]


def _change_number(packets: list[bytes], random: Random, raw: Raw) -> None:
    """Overwrite four bytes anywhere with a number."""
    if packets:
        at = random.randrange(len(packets))
        place = random.randrange(len(packets[at]) + 1)
        packets[at] = packets[at][:place] + u32(_number(random, 32)) + packets[at][place + 4 :]


CHANGES = (
    *(_insert, _insert, _append, _append, _append_pair, _append_pair, _append_pair),
    *(_drop, _drop_many, _repeat, _swap, _remake, _remake, _change, _change, _change, _shorten),
    _change_number,
)


# --- requests made from their shapes ----------------------------------------------------------------------


def _made(random: Random) -> bytes:
    return _packet(*random.choice(OFTEN if random.random() < 0.5 else KINDS), random)


def _packet(kind: int, name: bytes, shape: str, random: Random, handle: int = 0) -> bytes:
    parts = [bytes([kind]), u32(random.randrange(100)), name]
    for field in shape:
        if field == "h" and handle:
            parts.append(string(u32(handle)))
            handle = random.randint(1, handle)
        else:
            parts.append(_FIELDS[field](random))
    if random.random() < 0.02:
        parts.append(b"more than asked for")
    return b"".join(parts)


def _number(random: Random, bits: int) -> int:
    chance = random.random()
    if chance < 0.55:
        return random.choice(SMALL)
    return (random.choice(LARGE) if chance < 0.9 else random.getrandbits(bits)) & (1 << bits) - 1


def _path(random: Random) -> bytes:
    chance = random.random()
    if chance < 0.5:
        return random.choice(NAMES)
    if chance < 0.75:
        return random.choice(WHOLE_PATHS)
    names = [
        random.choice(NAMES if random.random() < 0.7 else ODD_NAMES) for _ in range(random.randint(1, 4))
    ]
    return (b"/" if random.random() < 0.4 else b"") + b"/".join(names)


def _handle(random: Random) -> bytes:
    chance = random.random()
    if chance < 0.93:
        return string(u32(random.choice((1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8))))
    return string(random.choice((b"", b"\0", u32(0), u64(1), b"\xff" * 4, b"x" * 256)))


def _flags(random: Random) -> bytes:
    flags = (
        random.choice((1, 2, 3, 0x0A, 0x0B, 0x1A, 0x1B, 0x2A, 0x0E, 0x06)) if random.random() < 0.8 else None
    )
    return u32(random.randrange(64) if flags is None else flags)


def _attributes(random: Random) -> bytes:
    flags = random.choice((0, 0, 1, 4, 8, 2, 15)) if random.random() < 0.9 else random.randrange(16)
    extended = random.random() < 0.04
    parts = [u32(flags | extended << 31)]
    if flags & 1:
        parts.append(u64(_number(random, 64)))
    if flags & 2:
        parts.append(u32(_number(random, 32)) + u32(_number(random, 32)))
    if flags & 4:
        parts.append(u32(random.choice((0o644, 0o755, 0, 0o7777, 0o100644, 0xFFFFFFFF))))
    if flags & 8:
        parts.append(u32(_number(random, 32)) + u32(_number(random, 32)))
    if extended:
        pairs = random.randrange(3)
        parts.append(u32(pairs if random.random() < 0.8 else _number(random, 32)))
        parts.append((string(b"name@example.com") + string(b"")) * pairs)
    return b"".join(parts)


def _data(random: Random) -> bytes:
    return string(b"data " * random.choice((0, 1, 1, 1, 7, 100)))


def _ids(random: Random) -> bytes:
    return string(
        b"".join(u32(random.choice((0, 1, 1000, 65534, 0xFFFFFFFF))) for _ in range(random.randrange(4)))
    )


_FIELDS: dict[str, Callable[[Random], bytes]] = {
    "p": lambda random: string(_path(random)),
    "t": lambda random: string(_path(random)),
    "h": _handle,
    "n": lambda random: u32(_number(random, 32)),
    "q": lambda random: u64(_number(random, 64)),
    "f": _flags,
    "a": _attributes,
    "d": _data,
    "i": _ids,
    "m": lambda random: string(random.choice((b"md5", b"crc32", b"sha256,md5", b"none,sha1", b"", b","))),
}
