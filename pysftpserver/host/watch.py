"""What a wait for another host heeds besides that host: that the session of this thread is over.

A door that serves one session in its thread says so here, because a storage is asked from far below it, also
while it is being opened, and a layer between them would have nothing to add. What may not enter: sessions,
storages, why a session is over.
"""

from __future__ import annotations

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
