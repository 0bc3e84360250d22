"""Server-sent events: a page gets live updates until its session is over or its reader has gone.

What may not enter: what is sent. Facts: HTML Living Standard, "Server-sent events".
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from pysftpserver.web.history import State, Watch

HEARTBEAT = 10.0  # seconds without news until a line says that the stream is alive
LOOK = 0.5  # seconds between two looks whether the session is over, or the reader has gone
AGAIN = 3000  # milliseconds until a browser reconnects after its stream has ended


class Stream:
    """The body of a reply: an event with the sections that have changed, for each look at pysftpd.

    is_over: whether the session is. sections: HTML by the name of a part of the page. on_close: called once,
    at the end.
    """

    def __init__(
        self,
        watch: Watch,
        is_over: Callable[[], bool],
        sections: Callable[[State], dict[str, str]],
        on_close: Callable[[], None],
    ) -> None:
        self._watch = watch
        self._is_over = is_over
        self._sections = sections
        self._on_close: Callable[[], None] | None = on_close
        self._events = self._all()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return next(self._events)

    def close(self) -> None:
        """Close it: the reader has gone, or everything was sent."""
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def _all(self) -> Iterator[bytes]:
        yield f"retry: {AGAIN}\n\n".encode()
        number, sent, quiet = -1, dict[str, str](), 0.0
        while not self._watch.is_over:
            if self._is_over():
                yield b"event: over\ndata: \n\n"
                return
            state = self._watch.after(number, LOOK)
            if state.number == number:
                quiet += LOOK
                if quiet >= HEARTBEAT:
                    quiet = 0.0
                    yield b": alive\n\n"
                continue
            number, quiet = state.number, 0.0
            sections = self._sections(state)
            changed = {name: text for name, text in sections.items() if sent.get(name) != text}
            sent = sections
            if changed:
                yield b"event: sections\ndata: " + json.dumps(changed).encode() + b"\n\n"
