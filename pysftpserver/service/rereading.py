"""Reads files again on a signal, in a thread, so that a disk that hangs delays nothing else.

What may not enter: which files, what is done with their content.
"""

from __future__ import annotations

from _thread import allocate_lock  # threading would do work in each new process

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable


class Rereading:
    """Reads in one thread at a time, which ends when nothing more is asked for.

    work: called in the thread; it reads, and passes on what it has read. It must not raise.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._lock = allocate_lock()
        self._is_asked = False
        self._thread: threading.Thread | None = None

    def ask(self) -> None:
        """Start reading; if a reading is in progress, read once more after that. Never blocks."""
        import threading

        with self._lock:
            self._is_asked = True
            if self._thread is None:
                # Not a thread of a pool: the process would wait for it at its end.
                self._thread = threading.Thread(target=self._run, name="rereading", daemon=True)
                self._thread.start()

    def is_over(self, seconds: float) -> bool:
        """Wait at most this many seconds until everything is read; return whether it is."""
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
