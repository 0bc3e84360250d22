"""What a wait for another host heeds besides that host: that the session of this thread is over.

A door that serves one session in its thread says so here, because a storage is asked from far below it, also
while it is being opened, and a layer between them would have nothing to add. What may not enter: sessions,
storages, why a session is over.
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
            """What becomes ready when the session may be over, with the events of poll(2)."""

        def is_over(self) -> bool:
            """Whether the session is over, as far as it is known."""

        def look(self) -> bool:
            """The same; one of the descriptors is ready, and is not afterwards if the session goes on."""


class _OfThread(_local):
    watch: Watch | None = None


#: Of each thread its own. watch: None where no session is served.
here = _OfThread()
LOOKS = 0.25  # seconds between two looks, where a library waits


class Helping:
    """A Watch for another thread that works for this session: it is over when this thread has seen that."""

    descriptors: Mapping[int, int] = {}

    def __init__(self, watch: Watch) -> None:
        self.is_over = self.look = watch.is_over


def is_over() -> bool:
    """Look whether the session of this thread is over. It does not wait."""
    watch = here.watch
    if watch is None or watch.is_over():
        return watch is not None
    ready = select.poll()
    for descriptor, events in watch.descriptors.items():
        ready.register(descriptor, events)
    return bool(ready.poll(0)) and watch.look()


def rest(seconds: float) -> None:
    """Sleep, until the session of this thread is over."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not is_over():
        time.sleep(min(left, LOOKS))
