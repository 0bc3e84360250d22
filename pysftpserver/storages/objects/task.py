"""A call in a separate thread, whose result is fetched later.

A thread lives as long as its call, so a session that ends leaves none behind. What may not enter: requests.
"""

from __future__ import annotations

import threading

from pysftpserver.host import watch
from pysftpserver.host.watch import Helping, here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any


class Task:
    """Calls function(*arguments) in a thread, from construction on."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._result: Any = None
        self._error: BaseException | None = None
        self._watch = Helping(here.watch) if here.watch is not None else None
        self._thread = threading.Thread(target=self._run, args=(function, *arguments), daemon=True)
        self._thread.start()

    def _run(self, function: Callable[..., Any], *arguments: Any) -> None:
        here.watch = self._watch
        try:
            self._result = function(*arguments)
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        """Wait for the call; return its result, or raise what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._result

    def wait(self) -> None:
        """Wait until the call has ended, also with an error; it ends when the session of this thread does."""
        while here.watch is not None and self._thread.is_alive() and not watch.is_over():
            self._thread.join(watch.LOOKS)
        self._thread.join()


def ahead(function: Callable[[Any], Any], items: Iterable[Any], most: int) -> Iterator[tuple[Any, Any]]:
    """Yield (item, function(item)) in the order of items, with up to most calls at the same time.

    If a call fails, its exception is raised once all calls that have begun have ended.
    """
    running: list[tuple[Any, Task]] = []
    try:
        for item in items:
            running.append((item, Task(function, item)))
            if len(running) >= most:
                first, task = running.pop(0)
                yield first, task.result()
        while running:
            first, task = running.pop(0)
            yield first, task.result()
    finally:
        for _, task in running:
            task.wait()
