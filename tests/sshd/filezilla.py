"""FileZilla without its windows: `fzsftp`, which does SSH and SFTP for it, is told what FileZilla tells it.

Facts, from the sources of FileZilla 3.63 (src/putty/fzprintf.h and psftp.c, src/engine/sftp/): commands are
lines on standard input; events on standard output are a character that is the kind, and one, two or three
lines (none for QUOTAS). A line that begins with "-" answers an event. Contents of files go through shared
memory, whose descriptor `fzsftp` has inherited.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from tests.support.processes import program
from tests.support.waiting import PATIENCE

VERSION = b"fzSftp started, protocol_version=11"
REPLY, DONE, ERROR, VERBOSE, INFO, STATUS, RECEIVED, SENT, ENTRY = range(9)
HOST_KEY, HOST_KEY_CHANGED, BETTER_ALGORITHM, PASSWORD, TRANSFER = range(9, 14)
QUOTAS = {16: b"-0-\n", 17: b"-1-\n"}  # how much may be received and sent: as much as there is
OPEN, NEXT, FINAL = range(27, 30)
LINES = {ENTRY: 3, HOST_KEY: 2, HOST_KEY_CHANGED: 2, BETTER_ALGORITHM: 2}
BUFFER = 256 << 10  # bytes of shared memory


class Failed(Exception):
    """A command failed; the text is what FileZilla shows."""


class FileZilla:
    """One `fzsftp`. home: where it keeps host keys, which it accepts. A context manager that ends it."""

    def __init__(self, home: Path) -> None:
        self._descriptor = os.memfd_create("filezilla")
        os.truncate(self._descriptor, BUFFER)
        self._memory = mmap.mmap(self._descriptor, BUFFER)
        self._process = subprocess.Popen(
            [program("fzsftp"), "-v"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[self._descriptor],
            env={"HOME": str(home), "LC_ALL": "C.UTF-8"},
        )
        self._deadline = threading.Timer(2 * PATIENCE, self._process.kill)
        self._deadline.start()
        self.shown: list[str] = []  # errors and what is in FileZilla's log
        self.asked: list[str] = []  # prompts
        self.entries: list[tuple[str, int, str]] = []  # of listings: longname, time, name
        self._answers: dict[str, str] = {}
        self._local: BinaryIO | None = None
        started, (text,) = self._event()
        assert (started, text) == (REPLY, VERSION), text

    def __enter__(self) -> FileZilla:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._deadline.cancel()
        self._process.kill()
        self._process.wait(PATIENCE)
        self._process.stdin.close()
        self._process.stdout.close()
        self._memory.close()
        os.close(self._descriptor)

    def open(self, user: str, port: int, answers: Mapping[str, str] = {}, *keys: Path) -> None:
        """Connect and log in. answers: by prompt; one that lacks an answer, or is asked again, ends it."""
        self._answers = dict(answers)
        for key in keys:
            self.do(f'keyfile "{key}"')
        self.do(f'open "{user}@127.0.0.1" {port}')

    def get(self, name: str, local: Path, *, again: bool = False) -> None:
        """Download a file. again: only what the local one lacks."""
        with open(local, "ab" if again else "wb") as self._local:
            self.do(f'{"re" if again else ""}get "{name}" "{local}"')

    def put(self, local: Path, name: str, *, again: bool = False) -> None:
        """Upload a file, and then set its time. again: only what is missing."""
        with open(local, "rb") as self._local:
            self.do(f'{"re" if again else ""}put "{local}" "{name}"')
        self.do(f'chmtime {int(local.stat().st_mtime)} "{name}"')

    def ls(self) -> list[str]:
        """The names in the directory, with . and .."""
        self.entries = []
        self.do("ls")
        return [name for _, _, name in self.entries]

    def do(self, line: str) -> str:
        """Have a command done; return the reply, which many do not have. Raises Failed."""
        self._say(line.encode() + b"\n")
        seen = len(self.shown)
        while True:
            kind, lines = self._event()
            text = lines[0].decode() if lines else ""
            if kind == REPLY:
                return text
            if kind == DONE and text == "1":
                return ""
            if kind == DONE:
                raise Failed("\n".join(self.shown[seen:]))
            self._heard(kind, [line.decode() for line in lines])

    def _heard(self, kind: int, lines: list[str]) -> None:
        if kind in (ERROR, STATUS):
            self.shown.append(lines[0])
        elif kind == ENTRY:
            longname, time, name = lines
            self.entries.append((longname, int(time), name))
        elif kind == HOST_KEY:
            self._say(b"n\n")  # this time
        elif kind == PASSWORD:
            self.asked.append(lines[0])
            answer = self._answers.pop(lines[0], None)
            if answer is None:
                raise Failed("\n".join([*self.shown, lines[0]]))
            self._say(answer.encode() + b"\n")
        elif kind in QUOTAS:
            self._say(QUOTAS[kind])
        elif kind == OPEN:
            self._open(int(lines[0]))
        elif kind == NEXT:
            self._next(int(lines[0]))
        elif kind == FINAL:
            self._keep(int(lines[0]))
            self._say(b"-1\n")

    def _open(self, offset: int) -> None:
        assert self._local is not None
        size = self._local.tell()  # of a file that is continued
        if self._local.readable():
            self._local.seek(offset)
        self._say(b"-%d %d %d\n" % (self._descriptor, BUFFER, size))

    def _next(self, filled: int) -> None:
        """fzsftp has taken all of the buffer, or filled so many bytes of it."""
        assert self._local is not None
        if self._local.readable():
            data = self._local.read(BUFFER)
            self._memory[: len(data)] = data
            self._say(b"-0 %d\n" % len(data) if data else b"-\n")
        else:
            self._keep(filled)
            self._say(b"-0 %d\n" % BUFFER)

    def _keep(self, filled: int) -> None:
        assert self._local is not None
        self._local.write(self._memory[:filled])

    def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def _event(self) -> tuple[int, list[bytes]]:
        assert self._process.stdout is not None
        first = self._process.stdout.read(1)
        if not first:
            raise Failed("\n".join([*self.shown, "fzsftp has ended"]))
        kind = first[0] - ord("0")
        count = 0 if kind in QUOTAS else LINES.get(kind, 1)
        return kind, [self._process.stdout.readline().rstrip(b"\r\n") for _ in range(count)]
