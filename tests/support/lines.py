"""A log that a test reads while it is written."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from pysftpserver.engine.log import DEBUG1, SFTPLog
from tests.support.waiting import PATIENCE


class Lines(logging.Handler):
    """Keeps the lines of a log: as a sink of SFTPLog, or as a handler of the logging module.

    lines: what was logged. log: an SFTPLog that writes here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.log = SFTPLog(self, DEBUG1)
        self._changed = threading.Condition()

    def __call__(self, level: int, text: str) -> None:
        with self._changed:
            self.lines.append(text)
            self._changed.notify_all()

    def emit(self, record: logging.LogRecord) -> None:
        self(record.levelno, self.format(record))

    def having(self, *words: str) -> list[str]:
        """The lines so far that contain all of these words."""
        return [line for line in list(self.lines) if all(word in line for word in words)]

    def count(self, *words: str) -> int:
        """The number of these lines."""
        return len(self.having(*words))

    def wait(self, words: str, count: int = 1) -> str:
        """Wait until `count` lines contain these words, and return the first of them."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.count(words) >= count, PATIENCE):
                raise AssertionError(f"no {words!r} in the log:\n{self}")
        return self.having(words)[0]

    def __str__(self) -> str:
        return "\n".join(self.lines)


@contextlib.contextmanager
def logged(name: str) -> Iterator[Lines]:
    """The lines that a logger gets during the block; no other handler gets them."""
    lines, logger = Lines(), logging.getLogger(name)
    level, propagates = logger.level, logger.propagate
    logger.addHandler(lines)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.propagate = propagates
        logger.setLevel(level)
        logger.removeHandler(lines)
