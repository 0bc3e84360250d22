"""Clients of a served jail, which send hundreds of requests, count the replies, and search every byte.

A session's own bookkeeping is small on purpose: most of the time is to be the server's and the swapper's.
"""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.differential.packets import DATA, EXTENDED_REPLY, HANDLE, NAME, STATUS, Reader, Reply, parse
from tests.security.attempts import Attempt, Batch, on_handle
from tests.support.forked import Process
from tests.support.packets import EOF, HELLO, OK
from tests.support.waiting import PATIENCE


class Ended(AssertionError):
    """The server has ended or stopped answering. status: its exit status, if it has ended."""

    status: int | None = None


def start(module: str, *arguments: str | Path, **options: Any) -> Process:
    """Start a module of this package as a process."""
    return Process([sys.executable, "-m", f"tests.security.{module}", *map(str, arguments)], **options)


def end(process: Process) -> None:
    """End a process that start() started. May be called again."""
    process.kill()
    if process.stderr is None or not process.stderr.closed:
        process.communicate()


class Session:
    """A server process and this end of its socket.

    signs: what no reply may contain, by what it shows. leaks: what was found, with the request.
    counts: replies by kind of request and whether it succeeded. probes: the same by place.
    flips: how often a place was in one state for one request, and in the other for the very next.
    """

    def __init__(
        self, way: str, jail: Path, log: Path, signs: dict[str, bytes], mounts: tuple[str, ...] = ()
    ) -> None:
        self.way = way
        self.log = log
        self.signs = signs
        self.leaks: list[str] = []
        self.counts: Counter[tuple[str, bool]] = Counter()
        self.probes: Counter[tuple[str, bool]] = Counter()
        self.flips: Counter[str] = Counter()
        self._waiting: list[Attempt] = []
        self._handles: list[tuple[bytes, bool]] = []
        self._rest = bytearray()
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(PATIENCE)
        # Started in the directory outside: should a server tell where it works, it tells a sign.
        options = {"stdin": theirs, "stdout": theirs, "stderr": subprocess.PIPE, "cwd": jail.parent}
        with theirs:
            self.process = start("served", way, jail, log, *mounts, **options)
        try:
            self.socket.sendall(HELLO)
            self._take(1)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.socket.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        end(self.process)

    # --- one by one ---------------------------------------------------------------------------------

    def ask(self, kind: str, *parts: bytes) -> Reply:
        """Send one request; return its reply, which was searched for signs."""
        (reply,) = self.ask_all([Attempt(kind, parts)])
        return reply

    def ask_all(self, attempts: list[Attempt]) -> list[Reply]:
        """Send requests at once; return their replies, read strictly, and none of the handles in use."""
        self.send(attempts)
        found = []
        for body in self.receive():
            reader = Reader(bytes(body[1:]))
            reader.u32()
            found.append(parse(body[0], reader))
        return found

    # --- by the hundred -----------------------------------------------------------------------------

    def send(self, attempts: list[Attempt], batch: Batch | None = None) -> None:
        """Send a batch and more attempts, without waiting for a reply."""
        first, packed = (batch.attempts, [batch.packed]) if batch else ([], [])
        self._waiting = first + attempts
        packed += [attempt.packed(number) for number, attempt in enumerate(attempts, len(first))]
        try:
            self.socket.sendall(b"".join(packed))
        except OSError as error:
            raise self._ended(error) from None

    def receive(self) -> list[memoryview]:
        """Take a reply to each request that was sent: whole packets, counted and searched."""
        packets = self._take(len(self._waiting))
        self._handles = []
        before = Attempt("", ()), False
        for number, (attempt, body) in enumerate(zip(self._waiting, packets, strict=True)):
            if int.from_bytes(body[1:5], "big") != number:
                raise Ended(f"{self.way}: reply {number} is that of another request: {bytes(body[:80])!r}")
            good = body[0] != STATUS or body[8] in (OK, EOF)
            self.counts[attempt.kind, good] += 1
            if body[0] == HANDLE:
                self._handles.append((bytes(body[9:]), attempt.kind == "opendir"))
            if attempt.probe:
                self.probes[attempt.probe, good] += 1
                self.flips[attempt.probe] += before[0] is attempt and before[1] != good
            before = attempt, good
        return packets

    def go_on(self) -> list[Attempt]:
        """What to do with the handles of the last replies."""
        return [attempt for handle, directory in self._handles for attempt in on_handle(handle, directory)]

    def _take(self, count: int) -> list[memoryview]:
        """The next packets, without their lengths, searched for signs."""
        data, self._rest = self._rest, bytearray()
        ends: list[tuple[int, int]] = []
        at = 0
        while len(ends) < count:
            while len(data) - at >= 4 and len(ends) < count:
                stop = at + 4 + int.from_bytes(data[at : at + 4], "big")
                if stop > len(data):
                    break
                ends.append((at + 4, stop))
                at = stop
            if len(ends) < count:
                try:
                    piece = self.socket.recv(1 << 18)
                except OSError as error:
                    raise self._ended(error) from None
                if not piece:
                    raise self._ended("end of the stream")
                data += piece
        whole = bytes(data)
        for what, sign in self.signs.items():
            if sign in whole:
                self._explain(what, sign, whole, ends)
        view = memoryview(whole)
        return [view[begin:stop] for begin, stop in ends]

    def _explain(self, what: str, sign: bytes, data: bytes, ends: list[tuple[int, int]]) -> None:
        names = {DATA: "DATA", NAME: "NAME", EXTENDED_REPLY: "EXTENDED_REPLY", STATUS: "STATUS"}
        for number, (begin, stop) in enumerate(ends):
            if sign in data[begin:stop]:
                asked = self._waiting[number] if number < len(self._waiting) else None
                kind = names.get(data[begin], str(data[begin]))
                self.leaks.append(f"{self.way}: {what}, in the {kind} that answers {asked}")

    def _ended(self, why: object) -> Ended:
        said = b""
        with contextlib.suppress(subprocess.TimeoutExpired):
            said = self.process.communicate(timeout=1)[1] or b""
        log = self.log.read_text() if self.log.exists() else ""
        ended = Ended(f"{self.way}: {why}; it said {said.decode()!r}; its log:\n{log[-3000:]}")
        ended.status = self.process.returncode
        return ended

    # --- sums ---------------------------------------------------------------------------------------

    def served(self, *kinds: str) -> int:
        """How many requests of these kinds were answered."""
        return sum(number for (kind, _), number in self.counts.items() if kind in kinds)


def race(sessions: list[Session], batches: list[Batch], rng: random.Random) -> None:
    """Let sessions work at the same time, on a batch each; the handles they get they use the next time."""
    for session in sessions:
        session.send(session.go_on(), rng.choice(batches))
    for session in sessions:
        session.receive()
