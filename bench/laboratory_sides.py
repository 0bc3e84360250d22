"""Both sides of the rows on the message server: clients that send, and check the answers.

Connections are opened, and messages encrypted, before the clock starts. After it stops, the answers are
checked: none is lost, and all are in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import drivers
from bench.laboratory import Sizes
from pysftpserver.laboratory import wire
from pysftpserver.laboratory.handshake import ClientHandshake

HOST = "127.0.0.1"
PASSWORD = "bench"
KEY = "the key of the benchmark"
MOST = 1 << 20  # bytes of a message
AT_ONCE = 20  # connections being opened at once
ROUNDS = 3  # answers that a client first waits for: key, password, name
BARE = """
import asyncio
class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)
async def main():
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=512)
    print("listening on 127.0.0.1 port", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def started(top: Path, sizes: Sizes) -> Iterator[Sides]:
    """Yield the sides, with both servers running."""
    sides = Sides(top, sizes)
    try:
        yield sides
    finally:
        sides.stop()


class Sides:
    """A bare echo server, ours, and clients for both."""

    def __init__(self, top: Path, sizes: Sizes) -> None:
        self._sizes = sizes
        self._processes: list[subprocess.Popen[bytes]] = []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 4 * max(sizes.clients, AT_ONCE) + 256
        if soft != resource.RLIM_INFINITY and soft < wanted:
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))  # inherited by the servers
        ours = [*drivers.command("pysftplab"), "serve", "--allow-root", "--port", "0", "--service", "echo"]
        ours += ["--allow-plaintext", "--step-timeout", "60"]
        ours += ["--max-connections", "100000", "--max-per-address", "100000"]
        self._bare = self._start([sys.executable, "-c", BARE], None)
        self._ours = self._start([*ours, "--logfile", str(top / "log")], top / "log")
        self._texts = [f"{number:06d}".ljust(sizes.length, "x") for number in range(sizes.messages)]
        self._answers = [f'I received "{text}" from you.' for text in self._texts]

    def _start(self, argv: Sequence[str], log: Path | None) -> int:
        """Start a server; return its port."""
        environment = {**os.environ, "PYSFTPLAB_PASSWORD": PASSWORD}
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment)
        self._processes.append(process)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            if log is None:
                assert process.stdout is not None
                said = process.stdout.readline().decode()
            else:
                said = log.read_text() if log.exists() else ""
            if found := re.search(r"listening on \S+ port (\d+)", said):
                return int(found[1])
            time.sleep(0.01)
        raise RuntimeError("the server did not start")

    def stop(self) -> None:
        """End the servers."""
        for process in self._processes:
            process.terminate()
            process.communicate()

    # --- what is timed ------------------------------------------------------------------------------------

    def echoed(self, which: str, ahead: int) -> float:
        """Return the seconds until all clients have all answers. ahead: unanswered messages per client."""
        return asyncio.run(self._echoed(which, ahead))

    async def _echoed(self, which: str, ahead: int) -> float:
        loop = asyncio.get_running_loop()
        clients: list[Client] = []
        turns = asyncio.Semaphore(AT_ONCE)

        async def connect() -> None:
            async with turns:
                client = Client(which, self._messages(which), ahead)
                await loop.create_connection(lambda: client, HOST, self._port(which))
                await client.accepted
                clients.append(client)

        await asyncio.gather(*(connect() for _ in range(self._sizes.clients)))
        began = time.perf_counter()
        for client in clients:
            client.begin()
        await asyncio.gather(*(client.done for client in clients))
        seconds = time.perf_counter() - began
        wanted = self._texts if which == "bare" else self._answers
        for client in clients:
            if client.texts() != wanted:
                raise RuntimeError("an answer was lost, or is not in its order")
            client.transport.close()
        return seconds

    def _port(self, which: str) -> int:
        return self._bare if which == "bare" else self._ours

    def _messages(self, which: str) -> list[bytes]:
        codec = wire.codec(KEY if which == "encrypted" else "", MOST)
        return [codec.encode((text,)) for text in self._texts]

    def fernet(self) -> float:
        """Return the seconds that Fernet alone takes for the same messages and answers."""
        messages = self._messages("encrypted")
        answers = [f"{answer}\0".encode() for answer in self._answers]
        cipher = wire.fernet(KEY)
        began = time.perf_counter()
        for _ in range(self._sizes.clients):
            for message, answer in zip(messages, answers, strict=True):
                cipher.decrypt(message[:-1])
                cipher.encrypt(answer)
        return time.perf_counter() - began

    def connected(self, which: str) -> float:
        """Return the seconds until this many connections have been accepted and closed."""
        return asyncio.run(self._connected(which))

    async def _connected(self, which: str) -> float:
        loop = asyncio.get_running_loop()
        turns = asyncio.Semaphore(AT_ONCE)

        async def connect() -> None:
            async with turns:
                client = Client(which, [b"."] * ROUNDS, 1)
                await loop.create_connection(lambda: client, HOST, self._port(which))
                await client.accepted
                if which == "bare":
                    client.begin()
                    await client.done
                client.transport.close()

        began = time.perf_counter()
        await asyncio.gather(*(connect() for _ in range(self._sizes.connections)))
        return time.perf_counter() - began


class Client(asyncio.Protocol):
    """One client, which counts the bytes that arrive and checks them afterwards."""

    transport: asyncio.Transport

    def __init__(self, which: str, messages: list[bytes], ahead: int) -> None:
        loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self._key = KEY if which == "encrypted" else ""
        self._end = b"\n" if self._key else (b"." if messages[0] == b"." else b"\0")
        self._handshake = None if which == "bare" else ClientHandshake(PASSWORD, "client", self._key, MOST)
        self._messages = messages
        self._ahead = ahead
        self._sent = self._come = 0
        self._received: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._handshake is None:
            self.accepted.set_result(None)

    def begin(self) -> None:
        """Send the first messages."""
        self.transport.write(b"".join(self._messages[: self._ahead]))
        self._sent = self._ahead

    def data_received(self, data: bytes) -> None:
        if self._handshake is not None:
            if answer := self._handshake.feed(data):
                self.transport.write(answer)
            if self._handshake.is_done:
                self._handshake = None
                self.accepted.set_result(None)
            return
        self._received.append(data)
        self._come += data.count(self._end)
        if self._come == len(self._messages):
            self.done.set_result(None)
        elif self._come == self._sent:
            self.transport.write(self._messages[self._sent])
            self._sent += 1

    def connection_lost(self, exc: Exception | None) -> None:
        for waiting in (self.accepted, self.done):
            if not waiting.done():
                waiting.set_exception(RuntimeError("the server has ended a connection"))
                waiting.exception()

    def texts(self) -> list[str]:
        """Return the texts that have arrived."""
        return wire.codec(self._key, MOST).feed(b"".join(self._received))
