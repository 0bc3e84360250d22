"""Runs a web server: listens, serves until a signal comes, and lets requests finish at the end.

What may not enter: what requests do.
"""

from __future__ import annotations

import queue
import signal
import threading

from pysftpserver.failures import Unavailable, reason_of
from pysftpserver.service.serving import block_until_told, end_within

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.http.server import Server
    from pysftpserver.http.settings import HTTPSettings


class Running:
    """The requests whose replies are not complete. closed: set once no more requests are accepted."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self._lock = threading.Lock()
        self._count = 0
        self._drained: queue.SimpleQueue[None] = queue.SimpleQueue()

    def begin(self) -> bool:
        """Count a request that begins; False: it must not, because the server is stopping."""
        with self._lock:
            is_closed = self.closed.is_set()  # once closed, no request begins that would have to be ended
            self._count += not is_closed
        return not is_closed

    def end(self) -> None:
        """Note that the reply to a request has ended."""
        with self._lock:
            self._count -= 1
            if self.closed.is_set() and not self._count:
                self._drained.put(None)

    def close(self) -> None:
        """Take no more requests."""
        with self._lock:
            self.closed.set()

    def drain(self, seconds: float) -> bool:
        """Take no more requests, and wait for running ones, for at most that many seconds.

        Returns whether none is left.
        """
        with self._lock:
            self.closed.set()
            if not self._count:
                return True
        try:
            self._drained.get(timeout=seconds)
        except queue.Empty:
            return False
        return True

    def hurry(self) -> None:
        """Let drain() return now. May be called from a signal handler."""
        self._drained.put(None)


def listen(server: Server, values: HTTPSettings) -> str:
    """Listen; return the URL. Raises Unavailable."""
    try:
        server.prepare()
    except OSError as error:
        place = f"{values.listen_address} port {values.port}"
        raise Unavailable(f"cannot listen on {place}: {reason_of(error)}") from None
    host, port = server.bind_addr[:2]
    scheme = "http" if server.tls is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"


def serve(
    server: Server,
    running: Running,
    log: logging.Logger,
    words: SFTPLog,
    url: str,
    reload: Callable[[], None],
    drain_seconds: Callable[[], float],
) -> None:
    """Serve until SIGTERM or SIGINT, and drain; a second signal ends that.

    words: the log, for code that takes an SFTPLog. url: from listen(). reload: called at SIGHUP; it may raise
    BadInput. The caller ends the server and whatever requests may have left running.
    """

    def run() -> None:
        try:
            server.serve()
        finally:  # also if it has failed
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: running.hurry())  # a second one, while it drains
    threading.Thread(target=run, name="web server", daemon=True).start()
    block_until_told(reload, words, lambda: log.info("listening on %s", url))
    seconds = drain_seconds()
    end_within(seconds, words)
    if not running.drain(seconds):
        log.info("requests that are still running are stopped after %g seconds (drain_seconds)", seconds)
