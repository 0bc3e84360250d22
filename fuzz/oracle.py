"""Checks the replies of a session against the bytes that it was sent: an independent decoder.

Written from draft-ietf-secsh-filexfer-02 without code of the package under test; the tests' strict parser
decodes replies. What may not enter: storages, sessions, the content of particular files.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from tests.differential.packets import EXTENDED, INIT, REQUEST_TYPES, VERSION, BadReply, Reader, Reply, parse

MAX_PACKET = 262144  # bytes, without the length field
MAX_DATA = 261120  # bytes
STATFS_REPLY = 88  # bytes of figures that other processes change as well

_POSITIVE = {
    "open": "handle",
    "opendir": "handle",
    "read": "data",
    "readdir": "name",
    "realpath": "name",
    "readlink": "name",
    "stat": "attrs",
    "lstat": "attrs",
    "fstat": "attrs",
}
_POSITIVE_EXTENDED = {
    b"statvfs@openssh.com": "extended",
    b"fstatvfs@openssh.com": "extended",
    b"limits@openssh.com": "extended",
    b"users-groups-by-id@openssh.com": "extended",
    b"expand-path@openssh.com": "name",
    b"home-directory": "name",
    b"check-file-name": "extended",
    b"check-file-handle": "extended",
    b"check-file": "extended",
}
_ONLY_READ_EXTENDED = tuple(_POSITIVE_EXTENDED)
_NAMES = {number: name for name, number in REQUEST_TYPES.items()}
_POSITIVES = {number: _POSITIVE.get(name, "status") for number, name in _NAMES.items()}
_ONLY_READ = {REQUEST_TYPES[name] for name in _POSITIVE} - {REQUEST_TYPES["open"]} | {REQUEST_TYPES["close"]}


class Expected(NamedTuple):
    """The expected result of a stream of packets.

    requests: (request id, or None for INIT; the packet's body from its type on) of each request that is
    answered. ends: whether the session ends. position: where the incomplete rest begins.
    """

    requests: list[tuple[int | None, bytes]]
    ends: bool
    position: int

    def may_change_files(self) -> bool:
        """Return whether any of the requests can change files, by its type."""
        return any(number is not None and _may_change(body) for number, body in self.requests)


def expected(stream: bytes) -> Expected:
    """Decode a stream according to section 3 of the draft."""
    requests: list[tuple[int | None, bytes]] = []
    position, size = 0, len(stream)
    greeted = False
    while size - position > 4:
        length = int.from_bytes(stream[position : position + 4], "big")
        if not 0 < length <= MAX_PACKET:
            return Expected(requests, True, size)
        stop = position + 4 + length
        if stop > size:
            break
        body = stream[position + 4 : stop]
        position = stop
        if body[0] == INIT:
            if length < 5:
                return Expected(requests, True, size)
            greeted = True
            requests.append((None, body))
        elif not greeted or length < 5:
            return Expected(requests, True, size)
        else:
            requests.append((int.from_bytes(body[1:5], "big"), body))
    return Expected(requests, False, position)


def check_replies(output: bytes, requests: list[tuple[int | None, bytes]]) -> list[Reply]:
    """Check the replies of a session, one for each request, in order. Raises AssertionError for wrong ones.

    Returns them without what may differ between two equal sessions: the order of listings, and the figures of
    a file system.
    """
    replies = []
    position = 0
    for number, body in requests:
        assert position + 4 < len(output), f"no reply to {body[:40]!r}"
        length = int.from_bytes(output[position : position + 4], "big")
        assert length <= MAX_PACKET, f"a reply of {length} bytes to {body[:40]!r}"
        stop = position + 4 + length
        assert stop <= len(output), f"the reply to {body[:40]!r} is cut short"
        reply = output[position + 4 : stop]
        position = stop
        try:
            given = _version(reply, body[1:5]) if number is None else _reply(reply, number, body)
            replies.append(given)
        except (BadReply, IndexError, UnicodeDecodeError) as error:
            raise AssertionError(f"{body[:40]!r} was answered {reply[:200]!r}: {error}") from error
    assert position == len(output), f"more than was asked for: {output[position : position + 60]!r}"
    return replies


@lru_cache
def _version(reply: bytes, asked: bytes) -> Reply:
    """Check that the reply has the lower of the two versions. asked: the client's INIT."""
    reader = Reader(reply[1:])
    lower = min(3, int.from_bytes(asked, "big"))
    assert reply[0] == VERSION and reader.u32() == lower, f"INIT was answered {reply[:60]!r}"
    rest = reader.rest()
    while rest:
        reader = Reader(rest)
        reader.string(), reader.string()
        rest = reader.rest()
    return Reply("version", reply)


def _reply(reply: bytes, number: int, request: bytes) -> Reply:
    answered = int.from_bytes(reply[1:5], "big")
    assert answered == number, f"request {number} was answered as {answered}"
    parsed = (_parsed if len(reply) < 200 else _parsed.__wrapped__)(reply[0], reply[5:])
    positive = _positive(request)
    if parsed.kind == "status":
        assert parsed.content or positive == "status", f"{request[:40]!r} was answered with a bare OK"
        return parsed
    assert parsed.kind == positive, f"{request[:40]!r} was answered with {parsed.kind}"
    if parsed.kind == "data":
        asked = min(_read_length(request), MAX_DATA)
        assert len(parsed.content) <= asked, f"more data than {asked} bytes"  # type: ignore[arg-type]
    return parsed


@lru_cache(10_000)  # most replies are a few statuses
def _parsed(kind: int, body: bytes) -> Reply:
    reply = parse(kind, Reader(body))
    content = reply.content
    if reply.kind == "status":
        reply.message.decode()
        assert isinstance(content, int) and content <= 8, f"status {content}"
    elif reply.kind == "name":
        return Reply("name", sorted(content))  # type: ignore[call-overload]
    elif reply.kind == "extended" and len(body) == STATFS_REPLY:
        return Reply("extended", b"")
    return reply


def _positive(request: bytes) -> str:
    """Return the type of the reply to a request that succeeds."""
    if request[0] != EXTENDED:
        return _POSITIVES.get(request[0], "nothing but an error")
    return _POSITIVE_EXTENDED.get(_extended_name(request), "status")


def _may_change(request: bytes) -> bool:
    if request[0] == EXTENDED:
        return _extended_name(request) not in _ONLY_READ_EXTENDED
    return request[0] not in _ONLY_READ


def _extended_name(request: bytes) -> bytes:
    size = int.from_bytes(request[5:9], "big")
    return request[9 : 9 + size]


def _read_length(request: bytes) -> int:
    start = 9 + int.from_bytes(request[5:9], "big") + 8
    return int.from_bytes(request[start : start + 4], "big")
