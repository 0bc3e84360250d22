"""Measures the cost of one request inside the engine, in microseconds, without a door and without a client.

    python -m bench.packets

Requests of each kind are prepared and then served many times by an engine on a jail. Next to that is the cost
of their system calls alone, from Python. Only the difference is in this project's hands. Figures are the best
of several rounds, which is more reliable than a mean on a busy machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.run import shared_memory, versions
from pysftpserver.engine import wire
from pysftpserver.engine.segments import room
from pysftpserver.host.linux import RESOLVE_IN_ROOT, openat2
from pysftpserver.server import SFTPServer
from pysftpserver.testing import sftpcmd, sftpint, sftpint64, sftpstring
from pysftpserver.virtualchroot import SFTPServerVirtualChroot

FILES = 500
ROUNDS = 7
ASKED = 261_120  # bytes that OpenSSH's client requests, at any file size
BLOCK = 32 * 1024  # bytes


class Engine:
    """An engine on a jail with files of 1 KiB, and one of a megabyte."""

    def __init__(self, top: Path) -> None:
        self.paths = [b"/a/b/c/file-%03d" % number for number in range(FILES)]
        (top / "a" / "b" / "c").mkdir(parents=True)
        for path in self.paths:
            (top / os.fsdecode(path[1:])).write_bytes(bytes(1024))
        self.room = room()  # as at the door: its offset in a page affects how long a copy takes
        (top / "long").write_bytes(os.urandom(1 << 20))
        self.server = SFTPServer(SFTPServerVirtualChroot(top))
        self.serve([sftpint(5) + bytes((wire.SSH2_FXP_INIT,)) + sftpint(wire.SFTP_VERSION)])

    def serve(self, packets: list[bytes]) -> float:
        """Return the seconds per packet, served one by one, as from a client that waits for replies."""
        views = [memoryview(packet) for packet in packets]
        server = self.server
        began = time.perf_counter()
        for view in views:
            server.consume(view, 0, len(view))
            if server.output.late:
                server.output.first(self.room)
            server.output.clear()
        return (time.perf_counter() - began) / len(packets)

    def round(self) -> dict[str, float]:
        """Return the seconds per request, by its kind."""
        first = len(self.server.handles.opened)
        taken = {}
        read, write = wire.SSH2_FXF_READ, wire.SSH2_FXF_WRITE
        flags = sftpint(read) + sftpint(0)
        before = set(self.server.handles.opened)
        taken["OPEN"] = self.serve([sftpcmd(wire.SSH2_FXP_OPEN, sftpstring(p), flags) for p in self.paths])
        handles = [sftpstring(name) for name in self.server.handles.opened if name not in before]
        for name, offset in (("READ of 1 KiB", 0), ("READ at the end", 1024)):
            tail = sftpint64(offset) + sftpint(ASKED)
            taken[name] = self.serve([sftpcmd(wire.SSH2_FXP_READ, handle, tail) for handle in handles])
        taken["CLOSE"] = self.serve([sftpcmd(wire.SSH2_FXP_CLOSE, handle) for handle in handles])
        for name, kind in (("STAT", wire.SSH2_FXP_STAT), ("LSTAT", wire.SSH2_FXP_LSTAT)):
            taken[name] = self.serve([sftpcmd(kind, sftpstring(path)) for path in self.paths])
        self.serve([sftpcmd(wire.SSH2_FXP_OPEN, sftpstring(b"/long"), sftpint(read | write), sftpint(0))])
        long = sftpstring(list(self.server.handles.opened)[-1])
        span = sftpcmd(wire.SSH2_FXP_READ, long, sftpint64(0), sftpint(BLOCK))
        taken["READ of 32 KiB"] = self.serve([span] * FILES)
        chunk = sftpcmd(wire.SSH2_FXP_WRITE, long, sftpint64(0), sftpstring(bytes(BLOCK)))
        taken["WRITE of 32 KiB"] = self.serve([chunk] * FILES)
        self.serve([sftpcmd(wire.SSH2_FXP_CLOSE, long)])
        assert len(self.server.handles.opened) == first
        return taken


def alone(top: Path) -> dict[str, float]:
    """Return the seconds that the system calls of each kind of request take alone."""
    root = os.open(top, os.O_PATH)
    path = b"/a/b/c/file-000"
    short, long = (os.open(top / name, os.O_RDWR) for name in (os.fsdecode(path[1:]), "long"))
    chunk = bytes(BLOCK)
    room = bytearray(BLOCK)

    def opened(flags: int) -> int:
        return openat2(root, path, flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT)

    def looked_up() -> None:
        descriptor = opened(os.O_PATH)
        os.fstat(descriptor)
        os.close(descriptor)

    calls: dict[str, Callable[[], object]] = {
        "OPEN": lambda: opened(os.O_RDONLY),
        "READ of 1 KiB": lambda: os.pread(short, BLOCK, 0),
        "READ at the end": lambda: os.pread(short, BLOCK, 1024),
        "CLOSE": lambda: os.close(os.dup(short)),
        "STAT": looked_up,
        "LSTAT": looked_up,
        "READ of 32 KiB": lambda: os.preadv(long, [room], 0),
        "WRITE of 32 KiB": lambda: os.pwrite(long, chunk, 0),
    }
    taken = {}
    for name, call in calls.items():
        began = time.perf_counter()
        for _ in range(FILES):
            call()
        taken[name] = (time.perf_counter() - began) / FILES
        os.closerange(long + 1, long + 2 * FILES)  # opened by the row of OPEN
    for descriptor in (root, short, long):
        os.close(descriptor)
    return taken


def best(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the shortest time of each row."""
    return {name: min(taken[name] for taken in rounds) for name in rounds[0]}


def main() -> int:
    """Measure and print a table."""
    with tempfile.TemporaryDirectory(dir=shared_memory(), prefix="pysftpserver-bench-") as name:
        top = Path(name)
        engine = Engine(top)
        served = best([engine.round() for _ in range(ROUNDS)])
        calls = best([alone(top) for _ in range(ROUNDS)])
    print(f"{versions()}; microseconds, the best of {ROUNDS} rounds of {FILES}\n")
    print("| request | in the engine | its system calls alone |\n| --- | --- | --- |")
    for name, seconds in served.items():
        print(f"| {name} | {seconds * 1e6:.1f} | {calls[name] * 1e6:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
