"""A program on a terminal of its own, typed at when it asks."""

from __future__ import annotations

import codecs
import os
import pty
import select
import sys
import termios
import time
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until


class Terminal:
    """Runs Python code with words; text: all that was on the screen."""

    def __init__(self, code: str, *words: str, cwd: Path) -> None:
        self.text = ""
        self._seen = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._pid, self._descriptor = pty.fork()
        if not self._pid:
            try:
                os.chdir(cwd)
                environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
                os.execve(sys.executable, [sys.executable, "-c", code, *words], environment)
            finally:
                os._exit(127)

    def read(self, words: str) -> None:
        """Wait for words."""
        self._read_until(words)

    def answer(self, prompt: str, line: str) -> None:
        """Wait for a prompt, and type a line."""
        self._read_until(prompt)
        os.write(self._descriptor, f"{line}\n".encode())

    def type(self, prompt: str, raw: bytes) -> None:
        """Wait for a prompt, and type what is no line."""
        self._read_until(prompt)
        os.write(self._descriptor, raw)

    def keys(self, prompt: str, raw: bytes) -> None:
        """The same at a prompt of readline's, once it reads each key itself: what the terminal would make of
        some of them is another thing.
        """
        self._read_until(prompt)
        until(lambda: not termios.tcgetattr(self._descriptor)[3] & termios.ICANON, "the terminal reads lines")
        os.write(self._descriptor, raw)

    def interrupt(self) -> None:
        """Press Ctrl-C once the program waits in a system call.

        Python notices a signal that comes just before such a call only when the call returns.
        """
        stat = Path(f"/proc/{self._pid}/stat")
        until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S", "it does not wait")
        os.write(self._descriptor, b"\x03")

    def end(self) -> int:
        """Wait for the end; return the exit status."""
        self._read_until(None)
        os.close(self._descriptor)
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)

    def _read_until(self, prompt: str | None) -> None:
        """Read up to a prompt, or to the end. Raises TimeoutError, EOFError with all of the text."""
        deadline = time.monotonic() + PATIENCE
        while prompt is None or prompt not in self.text[self._seen :]:
            if not select.select([self._descriptor], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"{prompt!r} was not asked: {self.text!r}")
            try:
                read = os.read(self._descriptor, 4096)
            except OSError:  # Linux says so when the other side is closed
                read = b""
            if not read:
                if prompt is None:
                    return
                raise EOFError(f"{prompt!r} was not asked: {self.text!r}")
            self.text += self._decoder.decode(read)
        self._seen = self.text.index(prompt, self._seen) + len(prompt)
