"""The sessions of a probe: begun when one is needed, replaced when one is lost, all ended with the probe.

What may not enter: rules, files.
"""

from __future__ import annotations

import contextlib
import time

from pysftpserver.contract.client import Broken, Client, Exchange, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pysftpserver.probe.lines import Patience, PipeLine

IN_A_ROW = 3  # failed attempts to begin a session after which the server is given up
TRIPS = 5  # requests with which the round trip is measured


class GaveUp(Exception):
    """The server cannot be probed any further; the text says why."""


class Interrupted(BaseException):
    """A signal asked for the end. number: its number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Sessions:
    """The sessions of one probe. connect: opens a line. patience: of all lines. left: processes that could
    not be ended."""

    def __init__(self, connect: Callable[[Patience], PipeLine], patience: Patience) -> None:
        self.patience = patience
        self.left: list[str] = []
        self._connect = connect
        self._lines: list[PipeLine] = []
        self._client: Client | None = None
        self._target_first = True
        self._lstat_follows = False
        self._is_changing = False
        self._signal = 0

    def interrupt(self, number: int) -> None:
        """Handle a signal. Raises Interrupted, but not while a process is being started or ended."""
        self._signal = number
        if not self._is_changing:
            raise Interrupted(number)

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Defer signals until the block has ended."""
        self._signal = 0
        self._is_changing = True
        try:
            yield
        finally:
            self._is_changing = False
        if self._signal:
            raise Interrupted(self._signal)

    def line(self) -> PipeLine:
        """Open one more line. Raises Unavailable if that is not possible."""
        self._sort_out()
        with self._undisturbed():
            line = self._connect(self.patience)
            self._lines.append(line)
        return line

    def _sort_out(self) -> None:
        """Forget closed lines."""
        self.left += [line.left for line in self._lines if line.left]
        self._lines = [line for line in self._lines if not line.is_closed]

    def client(self) -> Client:
        """The main session, begun if there is none. Raises GaveUp."""
        if self._client is None:
            self._client = self._begin()
        return self._client

    def _begin(self) -> Client:
        for _ in range(IN_A_ROW):
            client = Client(self.line(), self.patience.seconds)
            client.target_first = self._target_first
            client.lstat_follows = self._lstat_follows
            try:
                client.hello()
                return client
            except Broken as broken:
                client.close()
                why = broken
                if self.patience.is_over():
                    break
        raise GaveUp(f"no session can begin: {why}")

    @property
    def exchanges(self) -> Sequence[Exchange]:
        """The last exchanges of the session."""
        return () if self._client is None else self._client.exchanges

    def replace(self) -> None:
        """Give up the session, which is no longer usable: client() will begin a new one."""
        if self._client is not None:
            self._target_first = self._client.target_first
            self._lstat_follows = self._client.lstat_follows
            self._client.close()
            self._client = None

    def close(self) -> None:
        """End all sessions. May be called again."""
        self._client = None
        with self._undisturbed():
            for line in self._lines:
                line.close()
        self._sort_out()


def round_trip(client: Client) -> float:
    """Seconds taken by the fastest of a few small requests."""
    times = []
    for _ in range(TRIPS):
        start = time.perf_counter()
        try:
            client.realpath(b".")
        except Refused:
            pass  # a refusal is an answer as well
        times.append(time.perf_counter() - start)
    return min(times)
