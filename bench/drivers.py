"""Drives a server and measures the time: with OpenSSH's sftp, with raw packets, and without a server.

Every driver returns seconds. The raw ones send packets that were made before the clock starts and check only
the number and size of the replies, so that the client's time is small.
"""

from __future__ import annotations

import os
import select
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pysftpserver.engine import wire
from pysftpserver.testing import sftpcmd, sftpint, sftpint64, sftpstring

CHECKOUT = Path(__file__).resolve().parents[1]
INIT = sftpint(5) + bytes((wire.SSH2_FXP_INIT,)) + sftpint(wire.SFTP_VERSION)
CHUNK = 1 << 18  # bytes
Command = Callable[[str], list[str]]


def command(name: str) -> list[str]:
    """Return the command line of one of our commands, installed with this interpreter or in the checkout."""
    installed = Path(sys.executable).parent / name
    return [sys.executable, str(installed if installed.exists() else CHECKOUT / "bin" / name)]


def unsynced_command(name: str) -> list[str]:
    """Return the same for a command that does not wait for the disk."""
    python, script = command(name)
    return [python, str(CHECKOUT / "bench" / "unsynced.py"), script]


def sftp(server: Sequence[str], commands: str, options: Sequence[str] = ()) -> float:
    """Return the seconds that `sftp -D server` takes for a batch of commands.

    Raises RuntimeError with its output if it fails.
    """
    argv = ["sftp", "-q", *options, "-b", "-", "-D", shlex.join(server)]
    return timed(argv, commands)


def sftp_over_ssh(config: Path, host: str, commands: str, options: Sequence[str] = ()) -> float:
    """Return the seconds that sftp takes through a real sshd, including the login."""
    return timed(["sftp", "-q", "-F", str(config), *options, "-b", "-", host], commands)


def timed(argv: list[str], commands: str = "") -> float:
    """Return the seconds from the start of a program to its end. commands: its standard input.

    Raises RuntimeError with its output if it fails.
    """
    began = time.perf_counter()
    done = subprocess.run(argv, input=commands.encode(), capture_output=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{shlex.join(argv)} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return seconds


class RawSession:
    """A server on one end of a socket pair, and packets on the other."""

    def __init__(self, server: Sequence[str]) -> None:
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(server, stdin=theirs, stdout=theirs)
        self.socket.sendall(INIT)
        self.version = self.packet()

    def __enter__(self) -> RawSession:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()
        self.process.wait()

    def packet(self) -> bytes:
        """Return the next reply, without its length field."""
        length = int.from_bytes(self._exactly(4), "big")
        return self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise RuntimeError("the server closed the connection")
            data += part
        return data

    def exchange(self, requests: bytes, expected: int) -> float:
        """Send requests; return the seconds until `expected` bytes of replies have arrived."""
        self.socket.setblocking(False)
        poll = select.poll()
        view = memoryview(requests)
        room = bytearray(CHUNK)
        began = time.perf_counter()
        while expected > 0:
            poll.register(self.socket, select.POLLIN | (select.POLLOUT if view else 0))
            for _, events in poll.poll():
                if events & select.POLLIN:
                    received = self.socket.recv_into(room)
                    if not received:
                        raise RuntimeError("the server closed the connection")
                    expected -= received
                if events & select.POLLOUT:
                    view = view[self.socket.send(view[:CHUNK]) :]
        seconds = time.perf_counter() - began
        self.socket.setblocking(True)
        if expected:
            raise RuntimeError("the replies have another size than expected")
        return seconds


def pipelined_stats(server: Sequence[str], paths: Sequence[bytes], count: int, kind: int) -> float:
    """Return the seconds for `count` STAT or LSTAT requests on existing paths, sent without waiting."""
    requests = b"".join(sftpcmd(kind, sftpstring(paths[number % len(paths)])) for number in range(count))
    attrs = 4 + 1 + 4 + 32  # an ATTRS packet with every field
    with RawSession(server) as session:
        return session.exchange(requests, count * attrs)


def small_reads(server: Sequence[str], paths: Sequence[bytes], count: int) -> float:
    """Return the seconds for `count` times OPEN, READ of 1 KiB and CLOSE, each sent after the last reply."""
    with RawSession(server) as session:
        send = session.socket.sendall
        began = time.perf_counter()
        for number in range(count):
            path = sftpstring(paths[number % len(paths)])
            send(sftpcmd(wire.SSH2_FXP_OPEN, path, sftpint(wire.SSH2_FXF_READ), sftpint(0)))
            handle = sftpstring(session.packet()[9:])
            send(sftpcmd(wire.SSH2_FXP_READ, handle, sftpint64(0), sftpint(1024)))
            if len(session.packet()) != 9 + 1024:
                raise RuntimeError("a read came back with another size")
            send(sftpcmd(wire.SSH2_FXP_CLOSE, handle))
            session.packet()
        return time.perf_counter() - began


def session_start(server: Sequence[str]) -> float:
    """Return the seconds from starting the server to its VERSION reply."""
    began = time.perf_counter()
    with RawSession(server):
        return time.perf_counter() - began


def bare_python(python: str) -> float:
    """Return the seconds from start to end of a Python that does nothing."""
    began = time.perf_counter()
    subprocess.run([python, "-c", "pass"], check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - began


def limit_of_get(source: Path) -> float:
    """Return the seconds to move a file through a socket pair by sendfile, without a protocol."""
    ours, theirs = socket.socketpair()
    size = source.stat().st_size
    with ours, theirs, source.open("rb") as file:
        reader = threading.Thread(target=_drain, args=(theirs, size))
        began = time.perf_counter()
        reader.start()
        sent = 0
        while sent < size:
            sent += os.sendfile(ours.fileno(), file.fileno(), sent, size - sent)
        reader.join()
        return time.perf_counter() - began


def _drain(end: socket.socket, size: int) -> None:
    room = bytearray(CHUNK)
    while size:
        size -= end.recv_into(room)


def limit_of_put(source: Path, target: Path, times: int) -> float:
    """Return the seconds to move a file `times` times through a socket pair by read and write."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = threading.Thread(target=_pour, args=(theirs, source, times))
        began = time.perf_counter()
        writer.start()
        room = memoryview(bytearray(CHUNK))
        for _ in range(times):
            size = source.stat().st_size
            with target.open("wb", buffering=0) as file:
                while size:
                    count = ours.recv_into(room[: min(size, CHUNK)])
                    file.write(room[:count])
                    size -= count
        writer.join()
        return time.perf_counter() - began


def _pour(end: socket.socket, source: Path, times: int) -> None:
    room = memoryview(bytearray(CHUNK))
    for _ in range(times):
        with source.open("rb", buffering=0) as file:
            while count := file.readinto(room):
                end.sendall(room[:count])


def peak_memory(server: Sequence[str], commands: str, report: Path, options: Sequence[str] = ()) -> int:
    """Return the peak of resident memory (bytes) of a server while sftp drives it.

    The server's parent is a small program that waits for it and reports its usage.
    """
    script = "import os,sys\npid=os.spawnvp(os.P_NOWAIT,sys.argv[2],sys.argv[2:])\n"
    script += 'usage=os.wait4(pid,0)[2]\nopen(sys.argv[1],"w").write(str(usage.ru_maxrss))\n'
    sftp([sys.executable, "-c", script, str(report), *server], commands, options)
    # sftp does not wait for its server to end, so the report may come later.
    deadline = time.monotonic() + 10
    while not (report.exists() and (text := report.read_text())):
        if time.monotonic() > deadline:
            raise RuntimeError("no report on the server's memory")
        time.sleep(0.01)
    report.unlink()
    return int(text) * 1024
