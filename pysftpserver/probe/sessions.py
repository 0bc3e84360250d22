"""The sessions of a probe: begun when one is needed, replaced when one is lost, all ended with the probe.

What may not enter: rules, files.
"""

from __future__ import annotations

import time

from pysftpserver.contract.client import Broken, Client, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.probe.lines import Patience, PipeLine

IN_A_ROW = 3  # sessions that cannot begin, after which the server is given up
TRIPS = 5  # requests that the round trip is measured with


class GaveUp(Exception):
    """The server cannot be probed any further; the text says why."""


class Sessions:
    """connect: opens a line. patience: of all lines. left: processes that could not be ended."""

    def __init__(self, connect: Callable[[Patience], PipeLine], patience: Patience) -> None:
        self.patience = patience
        self.left: list[str] = []
        self._connect = connect
        self._lines: list[PipeLine] = []
        self._client: Client | None = None
        self._target_first = True

    def line(self) -> PipeLine:
        """One more line. Raises Unavailable if there can be none."""
        self._sort_out()
        line = self._connect(self.patience)
        self._lines.append(line)
        return line

    def _sort_out(self) -> None:
        """Forget the lines that are closed."""
        self.left += [line.left for line in self._lines if line.left]
        self._lines = [line for line in self._lines if not line.is_closed]

    def client(self) -> Client:
        """The session in which one thing is done after the other, begun if there is none. Raises GaveUp."""
        if self._client is None:
            self._client = self._begin()
        return self._client

    def _begin(self) -> Client:
        for _ in range(IN_A_ROW):
            client = Client(self.line(), self.patience.seconds)
            client.target_first = self._target_first
            try:
                client.hello()
                return client
            except Broken as broken:
                client.close()
                why = broken
                if self.patience.is_over():
                    break
        raise GaveUp(f"no session can begin: {why}")

    def replace(self) -> None:
        """The session is of no use any more: client() will begin a new one."""
        if self._client is not None:
            self._target_first = self._client.target_first
            self._client.close()
            self._client = None

    def close(self) -> None:
        """End all sessions. May be called again."""
        self._client = None
        for line in self._lines:
            line.close()
        self._sort_out()


def round_trip(client: Client) -> float:
    """Seconds that the fastest of a few small requests took."""
    times = []
    for _ in range(TRIPS):
        start = time.perf_counter()
        try:
            client.realpath(b".")
        except Refused:
            pass  # an answer all the same
        times.append(time.perf_counter() - start)
    return min(times)
