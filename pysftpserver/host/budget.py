"""Limits the processor time of one request.

A path of a few kilobytes can lead through millions of names. Callers count the names; take() raises an error
once this thread has worked for too long on them. What may not enter: paths, storages.
Facts: path_resolution(7), clock_gettime(2) on CLOCK_THREAD_CPUTIME_ID.
"""

from __future__ import annotations

import errno
import time

from pysftpserver.failures import os_error

FREE = 32  # names for which the clock is not read: more than ordinary paths have
SECONDS = 0.024  # of processor time; a request may look up four paths (a rename, without openat2)


class Budget:
    """Limits this thread's processor time, from the first name on. seconds: the limit."""

    __slots__ = ("_count", "_end", "_seconds")

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._count = 0
        self._end = 0.0

    def take(self, names: int = 1) -> None:
        """Count this many names. Raises OSError(ELOOP) when the time is used up."""
        self._count += names
        if self._count > FREE:
            now = time.thread_time()
            if not self._end:
                self._end = now + self._seconds
            elif now > self._end:
                raise os_error(errno.ELOOP)
