"""The metrics endpoint on 127.0.0.1: the figures of all processes for Prometheus, and whether they serve.

One process serves them, and asks the others on their admin sockets. prometheus_client writes the text and
answers requests, each in a thread, because asking takes time. What may not enter: SSH, what is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from pysftpserver.failures import needed, one_line
from pysftpserver.service.admin_client import AdminError, ask
from pysftpserver.service.transfers import total
from pysftpserver.sshd import metrics

with needed("sshd", "prometheus_client"):
    from prometheus_client import CollectorRegistry, make_wsgi_app
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector as PrometheusCollector

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, TypeVar

    from prometheus_client import Metric

    from pysftpserver.engine.log import SFTPLog

    T = TypeVar("T")
    Figures = Mapping[str, Any]
    Health = Mapping[str, list[str]]

HOST = "127.0.0.1"
PATH = "/metrics"
HEALTH = "/health"
PATIENCE = 5.0  # seconds to receive a request and send its reply
ASKING = 2.0  # seconds for the other processes to answer: Prometheus itself waits for ten
MOST_CLIENTS = 16  # at once


class Collector(PrometheusCollector):
    """Adds up the figures of all processes.

    own: returns those of this process; called in any thread. others: the admin sockets of the rest. The
    counts of a process that was replaced or does not answer stay in the sums, so that counters only grow.
    """

    def __init__(self, own: Callable[[], Figures], others: Sequence[str]) -> None:
        self._own = own
        self._others = others
        self._last: dict[str, tuple[int, Figures]] = {}  # of each other: its pid, its counters
        self._replaced: Figures = {}
        self._lock = threading.Lock()

    def figures(self) -> dict[str, Any]:
        """The sums as of now."""
        with self._lock, ThreadPoolExecutor(MOST_CLIENTS) as threads:
            parts = [self._own(), *threads.map(self._of, self._others)]
            return total([*parts, self._replaced])

    def _of(self, path: str) -> Figures:
        """The figures of another process."""
        try:
            answer = ask(path, {"ask": "figures"}, ASKING)
        except AdminError:
            return self._last[path][1] if path in self._last else {}
        pid, before = self._last.get(path, (answer["pid"], {}))
        if pid != answer["pid"]:
            self._replaced = total([self._replaced, before])
        counters = {name: answer["figures"].get(name, {}) for name, *_ in metrics.COUNTERS}  # these only grow
        self._last[path] = answer["pid"], counters
        return answer["figures"]  # type: ignore[no-any-return]

    def collect(self) -> Iterator[Metric]:
        """The sums for Prometheus."""
        figures = self.figures()
        for key, name, help in metrics.GAUGES:
            yield GaugeMetricFamily(name, help, figures.get(key, 0))
        for kind, table in (
            (GaugeMetricFamily, metrics.LABELLED),
            (CounterMetricFamily, metrics.COUNTERS),
        ):
            for key, name, label, help in table:
                family = kind(name, help, labels=[label])
                for text, value in sorted(figures.get(key, {}).items()):
                    family.add_metric([text], value)
                yield family


class MetricsEndpoint:
    """The HTTP server. figures, health: of this process; others: the admin sockets of the rest."""

    def __init__(
        self,
        figures: Callable[[], Awaitable[Figures]],
        health: Callable[[], Awaitable[Health]],
        others: Sequence[str],
        log: SFTPLog,
    ) -> None:
        self._figures = figures
        self._health = health
        self._others = others
        self._log = log
        self._server: _Server | None = None

    async def start(self, listening: socket.socket) -> None:
        """Serve on a socket that listens."""
        self._loop = asyncio.get_running_loop()
        registry = CollectorRegistry()
        registry.register(Collector(self._figures_from_a_thread, self._others))
        self._app = make_wsgi_app(registry)
        self._server = _Server(listening, self._answer)
        self._loop.add_reader(listening, self._server.handle_request)

    async def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._loop.remove_reader(self._server.socket)
            self._server.cut_all()

    def _figures_from_a_thread(self) -> Figures:
        return self._from_a_thread(self._figures)

    def _from_a_thread(self, ask: Callable[[], Awaitable[T]]) -> T:
        async def answer() -> T:
            return await ask()

        return asyncio.run_coroutine_threadsafe(answer(), self._loop).result(ASKING)

    def _health_of_all(self) -> tuple[bool, list[str]]:
        """Whether all processes serve, and what is wrong."""
        own = self._from_a_thread(self._health)
        faults, notes = list(own["faults"]), list(own["notes"])
        for path in self._others:
            try:
                told = ask(path, {"ask": "health"}, ASKING)["health"]
                faults += told["faults"]
                notes += told["notes"]
            except AdminError as error:
                faults.append(error.message)
        return not faults, list(dict.fromkeys(faults + notes))

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            if environ.get("PATH_INFO") == PATH:
                return self._app(environ, start_response)  # type: ignore[no-any-return]
            if environ.get("PATH_INFO") == HEALTH:
                is_well, wrong = self._health_of_all()
                status, words = ("200 OK" if is_well else "503 Service Unavailable"), wrong or ["ok"]
            else:
                status, words = "404 Not Found", ["404 Not Found"]
        except Exception as error:
            self._log.fault(error)
            status, words = "500 Internal Server Error", ["500 Internal Server Error"]
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return ["".join(f"{one_line(line)}\n" for line in words).encode()]


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


class _Server(ThreadingMixIn, WSGIServer):
    """Serves each client in a thread, and cuts off slow ones. The event loop accepts connections for it."""

    timeout = 0  # handle_request() is called when a client waits
    daemon_threads = True

    def __init__(self, listening: socket.socket, app: Any) -> None:
        super().__init__((HOST, 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.server_name, self.server_port = listening.getsockname()
        self.setup_environ()
        self.set_app(app)
        self._clients: deque[socket.socket] = deque()

    def process_request(self, request: Any, client_address: Any) -> None:
        request.setblocking(True)
        self._clients.append(request)
        if len(self._clients) > MOST_CLIENTS:
            _cut(self._clients.popleft())
        asyncio.get_running_loop().call_later(PATIENCE, partial(self._cut_slow, request))
        super().process_request(request, client_address)

    def _cut_slow(self, request: socket.socket) -> None:
        with contextlib.suppress(ValueError):
            self._clients.remove(request)
            _cut(request)

    def cut_all(self) -> None:
        """End all connections."""
        while self._clients:
            _cut(self._clients.popleft())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: a client that has gone or was cut off is not a fault."""


def _cut(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
