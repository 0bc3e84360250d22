"""Reads files again when a signal asks for that, in a thread: a disk that hangs holds up nothing else.

What may not enter: which files, what is done with what they say.
"""

from __future__ import annotations

from _thread import allocate_lock  # threading would do work in each new process

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable


class Rereading:
    """Reads in one thread at a time, which ends when nothing more is asked for.

    work: called in the thread; it reads, and hands over what it has read. It must not raise.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._lock = allocate_lock()
        self._is_asked = False
        self._thread: threading.Thread | None = None

    def ask(self) -> None:
        """Read from now on; where something is being read already, once more after that. Never blocks."""
        import threading

        with self._lock:
            self._is_asked = True
            if self._thread is None:
                # Not a thread of a pool: the process would wait for it at its end.
                self._thread = threading.Thread(target=self._run, name="rereading", daemon=True)
                self._thread.start()

    def is_over(self, seconds: float) -> bool:
        """Wait until everything that was asked for is read, for at most this many seconds; whether it is."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return thread is None or not thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._is_asked:
                    self._thread = None
                    return
                self._is_asked = False
            self._work()
