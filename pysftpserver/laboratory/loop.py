"""An event loop in its own thread, for blocking programs and for work that must not delay other work.

What may not enter: the protocol, what is done in the loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import socket
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from pysftpserver.laboratory.errors import Ended

Result = TypeVar("Result")


class LoopThread:
    """Runs an event loop until it is stopped. name: the thread's."""

    def __init__(self, name: str) -> None:
        self.loop = _Loop()
        self._lock = threading.Lock()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.close()

    def submit(self, work: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        """Start a coroutine in the loop; cancelling the returned future cancels it. Raises Ended."""
        with self._lock:
            if self._is_stopped:
                work.close()
                raise Ended("closed")
            return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the loop and wait; an exception here, as by Ctrl-C, cancels it. Raises Ended."""
        waiting = self.submit(work)
        try:
            return waiting.result()
        except concurrent.futures.CancelledError:
            raise Ended("closed") from None
        except BaseException:
            waiting.cancel()
            raise

    def stop(self, timeout: float | None = None) -> None:
        """Cancel what is running, and wait for the end. timeout: seconds; None: no limit."""
        with self._lock:
            if not self._is_stopped:
                self._is_stopped = True
                self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose host name lookups can be cancelled.

    asyncio's own lookups run in threads that a program waits for when it ends, and a name server that does
    not answer can take minutes.
    """

    async def getaddrinfo(self, *arguments: Any, **named: Any) -> Any:
        """As socket.getaddrinfo()."""
        found: asyncio.Future[Any] = self.create_future()

        def look_up() -> None:
            try:
                answer, error = socket.getaddrinfo(*arguments, **named), None
            except (OSError, UnicodeError) as reason:
                answer, error = [], reason
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.call_soon_threadsafe(_settle, found, answer, error)

        threading.Thread(target=look_up, name="laboratory-look-up", daemon=True).start()
        return await found


def _settle(waiting: asyncio.Future[Any], answer: Any, error: Exception | None) -> None:
    if waiting.done():
        return  # cancelled
    if error is None:
        waiting.set_result(answer)
    else:
        waiting.set_exception(error)
