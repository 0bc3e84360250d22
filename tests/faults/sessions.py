"""Server processes, with clients that record what was sent, what was answered and what is stored.

Upload is the account of one file, and judges its bytes. Session is a client that never waits in one
direction while the other is full, so that it can be stopped after any byte. FaultCase starts and ends
them, and has what is asked after every fault.
"""

from __future__ import annotations

import os
import random
import select
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tests.support import packets as sftp
from tests.support.doors import Door, DoorCase
from tests.support.forked import environment
from tests.support.hard import IS_HARD
from tests.support.packets import Reader, Reply, parse, request, string, u32, u64
from tests.support.processes import program
from tests.support.waiting import PATIENCE

NEW = sftp.WRITE | sftp.CREAT | sftp.TRUNC
KIB = 1 << 10
MIB = 1 << 20
SEED: int | None = None  # of a failure, to see it again
DEAF = 0.5  # seconds without a byte taken, after which a client that does not read gives up
A_WHILE = 6 * PATIENCE  # seconds after which a hanging test's servers are killed
# The plain storage and the jail, on the fast path and, with a hook, on the general way; two of these daily.
VARIANTS: tuple[tuple[str, ...], ...] = (("storage=jail",), ("storage=plain", "hook=yes"))
if IS_HARD:
    VARIANTS += (("storage=plain",), ("storage=jail", "hook=yes"))


def content_of(order: random.Random, size: int) -> bytes:
    """Random bytes without a zero: a wrong offset shows in it, and a hole is no content."""
    return order.randbytes(size).replace(b"\0", b"\1")


class Upload:
    """What was sent of a file that held nothing, and how each WRITE was answered.

    content: without zeros. acknowledged, refused: WRITEs by their offset and length.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.waiting: dict[int, tuple[int, int]] = {}
        self.sent: set[tuple[int, int]] = set()
        self.acknowledged: set[tuple[int, int]] = set()
        self.refused: dict[tuple[int, int], Reply] = {}
        self.answers: list[Reply] = []

    def pieces(self, length: int, until: int | None = None) -> list[tuple[int, int]]:
        """The content, or its beginning, in pieces of one length."""
        end = len(self.content) if until is None else until
        return [(at, min(length, end - at)) for at in range(0, end, length)]

    def write(self, session: Session, handle: bytes, piece: tuple[int, int]) -> bytes:
        """The WRITE request for a piece, which from now on counts as sent."""
        number = session.next_number()
        self.waiting[number] = piece
        self.sent.add(piece)
        at, length = piece
        return request("write", number, handle, u64(at), string(self.content[at : at + length]))

    def heard(self, number: int, reply: Reply) -> None:
        """Account for a reply; one that answers no WRITE of this file is nobody's business here."""
        piece = self.waiting.pop(number, None)
        if piece is None:
            return
        self.answers.append(reply)
        if (reply.kind, reply.content) == ("status", sftp.OK):
            self.acknowledged.add(piece)
            self.refused.pop(piece, None)
        else:
            self.refused[piece] = reply

    def missing(self, length: int) -> list[tuple[int, int]]:
        """The pieces of that length that were never acknowledged."""
        return [piece for piece in self.pieces(length) if piece not in self.acknowledged]

    def wrong(self, data: bytes) -> str:
        """What is wrong with the bytes of the file; nothing if it could be as it is by what was said.

        Acknowledged bytes are there. A WRITE without an acknowledgement left a beginning of itself, if
        anything. Whatever else there is must be a hole.
        """
        for at, length in sorted(self.acknowledged):
            if data[at : at + length] != self.content[at : at + length]:
                return f"{length} bytes at {at} were acknowledged and are not there"
        end = 0
        for at, length in sorted(self.sent):
            if data[end:at].strip(b"\0"):
                return f"bytes between {end} and {at} were never sent"
            end = max(end, at + length)
            beginning = data[at : at + length].rstrip(b"\0")
            if not self.content.startswith(beginning, at):
                return f"the {length} bytes at {at} are none that were sent there"
        if len(data) > end:
            return f"the file has {len(data)} bytes, and {end} were sent"
        return ""


class Session:
    """A client of a server process on a socket, which may be stopped after any byte."""

    def __init__(self, door: Door, ours: socket.socket) -> None:
        self.door = door
        self.socket = ours
        self.replies: list[tuple[int, Reply]] = []
        self._number = 0
        self._incoming = bytearray()
        self._is_greeted = False
        ours.setblocking(False)

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def push(self, data: bytes, until: Callable[[int, int], bool]) -> bool:
        """Send and receive until until(bytes sent, replies received in this call) or the server is gone.

        Returns whether it is still there. What arrives is in self.replies.
        """
        view = memoryview(data)
        sent, before = 0, len(self.replies)
        poll = select.poll()
        deadline = time.monotonic() + PATIENCE
        while not until(sent, len(self.replies) - before):
            poll.register(self.socket, select.POLLIN | (select.POLLOUT if sent < len(view) else 0))
            if time.monotonic() > deadline:
                raise AssertionError(f"no reply for {PATIENCE:g} seconds; {self.door.log()}")
            for _, events in poll.poll(1000):
                if events & select.POLLOUT and sent < len(view):
                    try:
                        sent += self.socket.send(view[sent : sent + 64 * KIB])
                    except BlockingIOError:
                        pass
                    except (BrokenPipeError, ConnectionResetError):
                        return False
                if events & ~select.POLLOUT and not self.receive():
                    return False
        return True

    def push_deaf(self, data: bytes) -> None:
        """Send, and read no reply, until all is sent or the server waits for us to read."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.socket.send(view[: 64 * KIB]) :]
            except BlockingIOError:
                # It stops reading for no other reason than replies that nobody takes.
                poll = select.poll()  # select() knows no descriptor above 1023
                poll.register(self.socket, select.POLLOUT)
                if not poll.poll(1000 * DEAF):
                    return

    def receive(self) -> bool:
        """Take what has arrived; return whether more may come."""
        try:
            piece = self.socket.recv(MIB)
        except BlockingIOError:
            return True
        except ConnectionResetError:  # it went with requests unread
            return False
        self._incoming += piece
        start = 0
        while len(self._incoming) - start >= 4:
            stop = start + 4 + int.from_bytes(self._incoming[start : start + 4], "big")
            if stop > len(self._incoming):
                break
            self._take(bytes(self._incoming[start + 4 : stop]))
            start = stop
        del self._incoming[:start]
        return bool(piece)

    def _take(self, body: bytes) -> None:
        if not self._is_greeted:
            self._is_greeted = True
            if body[0] != 2:
                raise AssertionError(f"no VERSION: {body!r}")
            return
        reader = Reader(body[1:])
        self.replies.append((reader.u32(), parse(body[0], reader)))

    def hello(self) -> None:
        if not self.push(sftp.HELLO, lambda sent, _: self._is_greeted):
            raise AssertionError(f"the server went before its VERSION; {self.door.log()}")

    def exchange(self, *requests: bytes) -> list[Reply]:
        """Send whole requests at once; their replies, one each and in order, which nothing may follow."""
        numbers = [int.from_bytes(packet[5:9], "big") for packet in requests]
        first = len(self.replies)
        there = self.push(b"".join(requests), lambda _, received: received >= len(requests))
        answered = self.replies[first:]
        if not there or [number for number, _ in answered] != numbers:
            raise AssertionError(f"{numbers} were answered with {answered}; {self.door.log()}")
        return [reply for _, reply in answered]

    def ask(self, name: str, *parts: bytes) -> Reply:
        return self.exchange(request(name, self.next_number(), *parts))[0]

    def status(self, name: str, *parts: bytes) -> tuple[object, str]:
        """The code and the words of the STATUS that answers a request."""
        reply = self.ask(name, *parts)
        if reply.kind != "status":
            raise AssertionError(f"{name} was answered with {reply}")
        return reply.content, reply.message.decode()

    def must(self, name: str, *parts: bytes) -> None:
        """A request that has to be answered with OK."""
        code, words = self.status(name, *parts)
        if code != sftp.OK:
            raise AssertionError(f"{name} was answered with {code}: {words}")

    def open(self, path: bytes, flags: int = sftp.READ, kind: str = "open") -> bytes:
        """OPEN or OPENDIR; the handle, as it is sent in requests."""
        parts = (u32(flags), sftp.NO_ATTRS) if kind == "open" else ()
        reply = self.ask(kind, string(path), *parts)
        if reply.kind != "handle":
            raise AssertionError(f"{kind} {path!r} was answered with {reply}")
        return string(reply.content)

    def write(self, upload: Upload, handle: bytes, pieces: Iterable[tuple[int, int]]) -> list[Reply]:
        """Pipelined WRITEs of pieces of an upload, all of them answered; the replies."""
        numbers = len(self.replies)
        answers = self.exchange(*[upload.write(self, handle, piece) for piece in pieces])
        for number, reply in self.replies[numbers:]:
            upload.heard(number, reply)
        return answers

    def content(self, path: bytes) -> bytes:
        """A whole file by READs."""
        handle = self.open(path)
        data = bytearray()
        while (reply := self.ask("read", handle, u64(len(data)), u32(sftp.MAX_DATA))).kind == "data":
            data += reply.content
        self.must("close", handle)
        return bytes(data)

    def names(self, path: bytes = b".") -> set[str]:
        """A listing, without the two that every directory has."""
        handle = self.open(path, kind="opendir")
        names: set[str] = set()
        while (reply := self.ask("readdir", handle)).kind == "name":
            names |= {os.fsdecode(entry.name) for entry in reply.content}
        self.must("close", handle)
        return names - {".", ".."}

    def figures(self, path: bytes = b".") -> dict[str, int]:
        """What statvfs says of the file system."""
        reply = self.ask("statvfs", string(path))
        names = "bsize frsize blocks bfree bavail files ffree favail fsid flag namemax".split()
        values = [int.from_bytes(reply.content[at : at + 8], "big") for at in range(0, 88, 8)]
        return dict(zip(names, values, strict=True))

    def drain(self) -> None:
        """Take what a server that is gone has said before."""
        self.push(b"", lambda *_: False)

    def leave(self) -> None:
        """Hang up; the server has to end well, and to have said so."""
        self.socket.close()
        status = self.door.end()
        if status or "session closed for" not in self.door.log():
            raise AssertionError(f"the server ended with {status}:\n{self.door.log()}")


class FaultCase(DoorCase):
    """An empty directory that is served, and a seed that every failure should name."""

    patience = A_WHILE

    def setUp(self) -> None:
        super().setUp()
        self.served, self.local = self.place / "served", self.place / "local"
        self.served.mkdir()
        self.local.mkdir()
        # Where this process sees what is served, and what a command needs in front to see it there too.
        self.seen = self.served
        self.inside: Sequence[str] = ()
        self.seed = random.randrange(2**32) if SEED is None else SEED
        self.order = random.Random(self.seed)
        self._logs = 0

    # --- servers and clients ----------------------------------------------------------------------

    def command(self, *options: str) -> tuple[list[str], Path]:
        """The argv of a server on self.served, and where it will log."""
        self._logs += 1
        log = self.place / f"log{self._logs}"
        words = [sys.executable, "-m", "tests.faults.serving", str(self.served), str(log), *options]
        return [*self.inside, *words], log

    def start(self, *options: str) -> Session:
        """A server process, and a client that has said hello to it."""
        argv, log = self.command(*options)
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        with theirs:
            door = self.start_door(argv, log, theirs, theirs, env=environment(LC_ALL="C.UTF-8"))
        session = Session(door, ours)
        session.hello()
        return session

    def sftp_argv(self, argv: Sequence[str], *options: str) -> list[str]:
        return [program("sftp"), *options, "-b", "-", "-D", shlex.join(argv)]

    def sftp(self, *commands: str, options: Sequence[str] = ()) -> tuple[int, str]:
        """A batch of OpenSSH's sftp on a server of its own: its exit status, and all that it printed."""
        argv, _ = self.command(*options)
        return self.run_sftp(argv, *commands)

    def run_sftp(self, argv: Sequence[str], *commands: str) -> tuple[int, str]:
        done = subprocess.run(
            self.sftp_argv(argv),
            input="".join(f"{line}\n" for line in commands).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.local,
            env=environment(LC_ALL="C.UTF-8"),
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout.decode()

    # --- what is asked after every fault ------------------------------------------------------------

    def tree(self) -> set[str]:
        """Everything there is under what is served."""
        return {str(path.relative_to(self.seen)) for path in self.seen.rglob("*")}

    def assert_upload(self, upload: Upload, name: str) -> bytes:
        """The file holds what its account says; return its bytes."""
        data = (self.seen / name).read_bytes()
        self.assertEqual(upload.wrong(data), "", f"{name}, seed {self.seed}")
        return data

    def assert_next_session_works(self, *options: str, files: Iterable[str] = ()) -> None:
        """There are those files and no others, and a new session can do what a session does."""
        files = set(files)
        self.assertEqual(self.tree(), files, f"stray or missing files, seed {self.seed}")
        session = self.start(*options)
        self.assertEqual(session.names(), {name for name in files if "/" not in name})
        upload = Upload(b"what the next session writes")
        handle = session.open(b"next", NEW)
        session.write(upload, handle, upload.pieces(7))
        session.must("fsync", handle)
        session.must("close", handle)
        self.assertEqual(session.content(b"next"), upload.content)
        self.assert_upload(upload, "next")
        session.must("remove", string(b"next"))
        session.leave()
        self.assertEqual(self.tree(), files)
        self.assertNotIn("error", session.door.log())
