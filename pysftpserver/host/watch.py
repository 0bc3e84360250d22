"""Lets a wait for another host end early when the session of this thread is over.

A door that serves one session in its thread registers here: storages are called far below it, also while they
are being opened, and the layers between have nothing to add. What may not enter: sessions, storages, why a
session is over.
"""

from __future__ import annotations

import select
import time
from _thread import _local

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class Watch(Protocol):
        @property
        def descriptors(self) -> Mapping[int, int]:
            """Descriptors that become ready when the session may be over, with the events for poll(2)."""

        def is_over(self) -> bool:
            """Whether the session is known to be over."""

        def look(self) -> bool:
            """The same, after a descriptor became ready; if the session goes on, it is no longer ready."""


class _OfThread(_local):
    watch: Watch | None = None


#: Separate for each thread. watch: None if the thread serves no session.
here = _OfThread()
LOOKS = 0.25  # seconds between two looks while a library waits


class Helping:
    """A Watch for another thread that works for this session: over once this thread has seen that it is."""

    descriptors: Mapping[int, int] = {}

    def __init__(self, watch: Watch) -> None:
        self.is_over = self.look = watch.is_over


def is_over() -> bool:
    """Whether the session of this thread is over. Does not wait."""
    watch = here.watch
    if watch is None or watch.is_over():
        return watch is not None
    ready = select.poll()
    for descriptor, events in watch.descriptors.items():
        ready.register(descriptor, events)
    return bool(ready.poll(0)) and watch.look()


def rest(seconds: float) -> None:
    """Sleep for this time, or until the session of this thread is over."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not is_over():
        time.sleep(min(left, LOOKS))
