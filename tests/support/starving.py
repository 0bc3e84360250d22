"""A process to which the kernel grants nothing more: no descriptor, and no further byte in a file."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)  # EMFILE; EFBIG, as if the disk were full


@contextlib.contextmanager
def starved() -> Iterator[None]:
    """During the block, opening or extending a file fails in all threads of this process."""
    before = [resource.getrlimit(limit) for limit in LIMITS]
    try:
        for limit, (_, hard) in zip(LIMITS, before, strict=True):
            resource.setrlimit(limit, (0, hard))
        yield
    finally:
        for limit, values in zip(LIMITS, before, strict=True):
            resource.setrlimit(limit, values)
