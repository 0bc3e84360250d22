"""For servers that fork: shares memory and imports with the children, and notices when they end.

For a process with one thread that waits in poll(). What may not enter: what the children do.
Facts: fork(2), waitpid(2), signal(7).
"""

from __future__ import annotations

# The module signal wraps this one in enumerations, which each new process would have to copy.
import _signal as signal  # type: ignore[import-not-found]
import contextlib
import gc
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Children:
    """The children of this process.

    handlers: by signal, for those that this process handles or ignores. descriptor becomes readable when a
    signal has arrived, or a child has ended.
    """

    def __init__(self, handlers: Mapping[int, Callable[[int, object], object] | int]) -> None:
        self._numbers = (*handlers, signal.SIGCHLD)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self.descriptor, self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)
        gc.collect()
        gc.freeze()  # otherwise the first collection of each child would copy all shared memory

    def fork(self) -> int:
        """As os.fork(). A child closes and resets what belongs to this process. Raises OSError."""
        process = os.fork()
        if not process:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for one in (self.descriptor, self._wakeup):
                os.close(one)
        return process

    def ended(self) -> Iterator[tuple[int, int]]:
        """Process and status, as from wait(2), of ended children. Call it when descriptor is readable."""
        os.read(self.descriptor, 512)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                yield ended
