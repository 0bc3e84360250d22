"""A TCP proxy on 127.0.0.1 that delays data, for measuring over a distance.

    python -m bench.delay PORT SECONDS

It prints the port that it listens on. Each chunk is forwarded SECONDS after it arrived, however many others
are on their way: bandwidth is not limited, except by MOST bytes in flight in each direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections import deque

CHUNK = 1 << 20
MOST = 256 << 20  # bytes in flight: 20 Gbit/s over 100 ms


async def passed(source: socket.socket, target: socket.socket, delay: float) -> None:
    """Pass bytes from one socket to another until the first one ends."""
    loop = asyncio.get_running_loop()
    chunks: deque[tuple[float, bytes]] = deque()
    on_way = 0
    changed = asyncio.Event()

    async def read() -> None:
        nonlocal on_way
        data = b"x"
        while data:
            while on_way > MOST:
                changed.clear()
                await changed.wait()
            try:
                data = await loop.sock_recv(source, CHUNK)
            except OSError:
                data = b""
            chunks.append((loop.time() + delay, data))
            on_way += len(data)
            changed.set()

    reading = asyncio.create_task(read())
    try:
        while True:
            while not chunks:
                changed.clear()
                await changed.wait()
            due, data = chunks.popleft()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            if not data:
                break
            await loop.sock_sendall(target, data)
            on_way -= len(data)
            changed.set()
    except OSError:
        pass
    finally:
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
        if not reading.done():
            with contextlib.suppress(OSError):
                source.shutdown(socket.SHUT_RD)
        await reading


async def served(client: socket.socket, port: int, delay: float) -> None:
    """Pass bytes both ways between a client and a port."""
    loop = asyncio.get_running_loop()
    with client, socket.socket() as server:
        for one in (client, server):
            one.setblocking(False)
            if one.family == socket.AF_INET:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(server, ("127.0.0.1", port))
        await asyncio.gather(passed(client, server, delay), passed(server, client, delay))


async def main(port: int, delay: float) -> None:
    """Accept connections until the process is ended."""
    loop = asyncio.get_running_loop()
    running = set()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        print(listening.getsockname()[1], flush=True)
        while True:
            client, _ = await loop.sock_accept(listening)
            task = asyncio.create_task(served(client, port, delay))
            running.add(task)
            task.add_done_callback(running.discard)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
