"""A server that misbehaves, for pysftp-probe: `python -I -S hostile.py JAIL MODE [TYPE]`.

It serves a jail as ours does until a request of a TYPE comes (INIT without one), and then does what its MODE
says. It leaves its process id as a file in JAIL.pids.
"""

from __future__ import annotations

import os
import signal
import struct
import sys

# Not pathlib and typing: they take longer than all the rest, and tests start this very often.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from pysftpserver.server import SFTPServer
from pysftpserver.virtualchroot import SFTPServerVirtualChroot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

INIT, STATUS, NAME, DATA = 1, 101, 104, 103
NO_SPACE = b"No space left on device"
OUTSIDE = (b"../victim", b"..", b".", b"", b"/victim", b"a\0b")


def packet(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 1, kind) + body


def string(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def status(request: bytes, code: int, text: bytes) -> bytes:
    return packet(STATUS, request[5:9] + struct.pack(">I", code) + string(text) + string(b""))


def say(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def hang(request: bytes, reply: bytes) -> NoReturn:
    leave_pid("hangs-")
    while True:
        signal.pause()


def stubborn(request: bytes, reply: bytes) -> NoReturn:
    """Neither the end of its input nor a polite signal ends it, nor the process that it has started."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if not os.fork():
        leave_pid()
    hang(request, reply)


def close(request: bytes, reply: bytes) -> NoReturn:
    os.write(2, b"out of memory\n")
    os._exit(3)


def killed(request: bytes, reply: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def garbage(request: bytes, reply: bytes) -> bytes:
    return b"Welcome to the server!\r\n" * 40


def longer(request: bytes, reply: bytes) -> bytes:
    """The length is larger than what comes."""
    leave_pid("hangs-")
    return struct.pack(">I", len(reply) + 1000) + reply[4:]


def shorter(request: bytes, reply: bytes) -> bytes:
    """The length is smaller than what comes."""
    return struct.pack(">I", len(reply) - 5) + reply[4:]


def huge(request: bytes, reply: bytes) -> bytes:
    return b"\xff\xff\xff\xff" + reply[4:]


def empty(request: bytes, reply: bytes) -> bytes:
    return b"\0\0\0\0" + reply


def other_id(request: bytes, reply: bytes) -> bytes:
    return reply[:5] + struct.pack(">I", 0x7FFFFFFF) + reply[9:]


def twice(request: bytes, reply: bytes) -> bytes:
    return reply + reply


def flood(request: bytes, reply: bytes) -> NoReturn:
    """Packets without end, and nothing is read any more."""
    leave_pid("hangs-")
    while True:
        say(reply * 1000)


def noise(request: bytes, reply: bytes) -> NoReturn:
    """Words without end on standard error."""
    leave_pid("drips-")
    while True:
        os.write(2, b"debug1: still nothing\n" * 1000)


def drip(request: bytes, reply: bytes) -> NoReturn:
    """One byte after the other of a packet that never ends."""
    leave_pid("drips-")
    say(struct.pack(">I", 1 << 23))
    while True:
        say(b"x" * 100)
        signal.sigtimedwait([signal.SIGUSR1], 0.05)


def listing(request: bytes, reply: bytes) -> bytes:
    """A listing that never ends."""
    entry = string(b"name") + string(b"-rw-r--r-- name") + struct.pack(">I", 0)
    return packet(NAME, request[5:9] + struct.pack(">I", 100) + entry * 100)


def outside(request: bytes, reply: bytes) -> bytes:
    """A listing with names that lead out of its directory."""
    if reply[4] != NAME:
        return reply
    (count,) = struct.unpack_from(">I", reply, 9)
    more = b"".join(string(name) + string(b"?") + struct.pack(">I", 0) for name in OUTSIDE)
    return packet(NAME, reply[5:9] + struct.pack(">I", count + len(OUTSIDE)) + reply[13:] + more)


def full(request: bytes, reply: bytes) -> bytes:
    return status(request, 4, NO_SPACE)


def denied(request: bytes, reply: bytes) -> bytes:
    return status(request, 3, b"Permission denied")


def unsupported(request: bytes, reply: bytes) -> bytes:
    return status(request, 8, b"Operation unsupported")


#: After so many WRITEs that were answered well, the disk is full.
def fills(request: bytes, reply: bytes) -> bytes:
    fills.count += 1  # type: ignore[attr-defined]
    return reply if fills.count < 4 else full(request, reply)  # type: ignore[attr-defined]


fills.count = 0  # type: ignore[attr-defined]


def leave_pid(word: str = "") -> None:
    with open(f"{sys.argv[1]}.pids/{word}{os.getpid()}", "x"):
        pass


def main() -> None:
    """Serve until the mode's request comes."""
    jail, mode, *rest = sys.argv[1:]
    kind = int(rest[0]) if rest else INIT
    leave_pid()
    spoil = globals()[mode]
    server = SFTPServer(SFTPServerVirtualChroot(jail))
    received = b""
    while True:
        while len(received) >= 4 and len(received) >= (end := 4 + struct.unpack(">I", received[:4])[0]):
            request, received = received[:end], received[end:]
            does = request[4] == kind
            if does and mode in ("full", "denied", "unsupported", "listing"):
                reply = b""  # the storage is not asked
            elif does and mode == "fills" and fills.count >= 3:  # type: ignore[attr-defined]
                reply = b""
            else:
                server.input_queue += request
                server.process()
                reply, server.output_queue = bytes(server.output_queue), b""
            say(spoil(request, reply) if does else reply)
        more = os.read(0, 65536)
        if not more:
            server.close()
            return
        received += more


if __name__ == "__main__":
    main()
