"""Serving for a long time: sockets to listen on, signals, reloads, draining, and enough descriptors.

What may not enter: protocols, storages. Facts: sd_listen_fds(3), socket(7) on SO_REUSEPORT, getrlimit(2).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import resource
import signal
import socket
import time
from functools import partial

from pysftpserver.failures import BadInput, Unavailable, reason_of
from pysftpserver.service.hangups import heed_held_hangup
from pysftpserver.service.rereading import Rereading

# asyncio and queue are imported late: both import threading, which would do work in each process that a
# server forks (pysftp-warm).
TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Hashable, Iterator, Sequence
    from typing import Any

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.service.handover import Sockets

BACKLOG = 512
FIRST_PASSED = 3  # the first descriptor that systemd hands over
OTHER_DESCRIPTORS = 256  # open in a server besides its connections
MANY_DESCRIPTORS = 1 << 20  # if there is no limit
FREE_PORT_TRIES = 10  # to find a port that is free at all addresses
OF_SYSTEMD = "systemd"  # the name of systemd's sockets for a successor
LAST = 15.0  # seconds for a process to end, after it has drained
EVERYWHERE = ("0.0.0.0", "::")  # all addresses of IPv4 and of IPv6


# --- before the first client ------------------------------------------------------------------------------


def raise_descriptor_limit(connections: int, each: int) -> None:
    """Raise the soft limit on open files for that many connections, as far as the hard limit allows.

    each: descriptors that one connection may need.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OTHER_DESCRIPTORS + each * connections
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def descriptors() -> int:
    """The number of descriptors that this process may have open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MANY_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def listening_sockets(
    addresses: Sequence[str] | None,
    port: int,
    groups: int = 1,
    tries: int = FREE_PORT_TRIES,
    handed: Sockets | None = None,
) -> list[list[socket.socket]]:
    """Sockets that listen, non-blocking: one group for each process that serves, which share the port.

    addresses: None for all of IPv4 and, if the host has it, of IPv6. port: 0 for any free one, the same for
    all addresses, found within `tries` tries. If systemd has passed sockets (LISTEN_FDS), every group has
    those. handed: has the sockets of a predecessor, and keeps these for a successor. Raises Unavailable.
    """
    if handed is not None:
        return _handed_on(addresses, port, groups, handed)
    passed = passed_sockets()
    if passed:
        return [passed] * groups
    found: list[list[socket.socket]] = [[] for _ in range(groups)]
    is_any = port == 0
    for address in EVERYWHERE if addresses is None else addresses:
        for group in found:
            try:
                if group is found[0] and groups > 1:
                    # With SO_REUSEPORT alone, another running server would share its clients with this one.
                    listen(address, port).close()
                one = listen(address, port, is_shared=groups > 1)
            except OSError as error:
                is_taken = error.errno == errno.EADDRINUSE
                if addresses is None and address == "::" and not is_taken:
                    break  # this host has no IPv6
                for opened in itertools.chain(*found):
                    opened.close()
                if is_taken and is_any and tries > 1:
                    # The port that was free at the first address is taken at this one.
                    return listening_sockets(addresses, 0, groups, tries - 1)
                how = "; ss -ltnp says who has it; choose another with --port" if is_taken else ""
                raise Unavailable(
                    f"cannot listen on {address} port {port}: {reason_of(error)}{how}"
                ) from None
            group.append(one)
            port = one.getsockname()[1]
    return found


def _handed_on(
    addresses: Sequence[str] | None, port: int, groups: int, handed: Sockets
) -> list[list[socket.socket]]:
    passed = passed_sockets() or handed.take(OF_SYSTEMD)
    if passed:
        handed.keep(OF_SYSTEMD, passed)
        return [passed] * groups
    names = [f"{addresses} {port} {number}/{groups}" for number in range(groups)]
    found = [handed.take(name) for name in names]
    if not all(found):
        found = listening_sockets(addresses, port, groups)
    for name, group in zip(names, found, strict=True):
        handed.keep(name, group)
    return found


def listen(address: str, port: int, is_shared: bool = False) -> socket.socket:
    """A socket that listens. is_shared: other sockets may listen on the same port. Raises OSError."""
    flags = socket.AI_PASSIVE | socket.AI_ADDRCONFIG * (address not in EVERYWHERE)
    try:
        family, kind, protocol, _, name = socket.getaddrinfo(
            address or None, port, type=socket.SOCK_STREAM, flags=flags
        )[0]
    except UnicodeError:
        raise OSError("not the name of a host") from None
    one = socket.socket(family, kind, protocol)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(name)
        one.listen(BACKLOG)
        one.setblocking(False)
    except BaseException:
        one.close()
        raise
    return one


def passed_sockets() -> list[socket.socket]:
    """The sockets that systemd has opened for this process. Raises Unavailable."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return []
    count = os.environ.pop("LISTEN_FDS", "0")
    try:
        sockets = [socket.socket(fileno=FIRST_PASSED + number) for number in range(int(count))]
    except (OSError, ValueError):
        raise Unavailable(f"LISTEN_FDS: {count} sockets were not passed to this process") from None
    for one in sockets:
        is_tcp = one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_STREAM
        if not is_tcp or not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise Unavailable(f"LISTEN_FDS: descriptor {one.fileno()} is not a TCP socket that listens")
        one.setblocking(False)
        os.set_inheritable(one.fileno(), False)
    return sockets


def log_addresses(sockets: Sequence[socket.socket], log: SFTPLog, note: str = "") -> None:
    """Log a line for each address that is listened on. note: a text to add."""
    for address in sorted({one.getsockname()[:2] for one in sockets}):
        log.info(f"listening on {address[0]} port {address[1]}{note}")


# --- until a signal comes ---------------------------------------------------------------------------------


def _obeyed() -> Iterator[signal.Signals]:
    """SIGTERM and SIGINT, which end a server, and SIGHUP, which reloads it, except ignored ones."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if (
            signal.getsignal(number) is not signal.SIG_IGN
        ):  # as nohup leaves it, and a shell for background jobs
            yield number


def end_within(seconds: float, log: SFTPLog, last: Callable[[], None] = lambda: None) -> None:
    """End this process if it is still running after this many seconds, whatever its threads do.

    last: called before that. Otherwise a thread that hangs in a storage would keep it running for ever.
    """
    import threading  # here, because servers that fork do without it

    def end() -> None:
        time.sleep(seconds + LAST)
        log.error("a storage hangs: ending without what it was asked for")
        last()
        os._exit(1)

    threading.Thread(target=end, name="the end", daemon=True).start()


def reload_quietly(reload: Callable[[], None], log: SFTPLog) -> None:
    """Reload, and log the result: a mistake in a file must not end a server."""
    try:
        reload()
    except BadInput as error:
        log.error(f"not reloaded: {error.message}")
    except Exception as error:
        log.error("not reloaded:")
        log.fault(error)
    else:
        log.info("reloaded")


def _fail(error: Exception) -> None:
    raise error


async def until_told(
    read: Callable[[], Callable[[], None]],
    log: SFTPLog,
    told: asyncio.Event | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Return on SIGTERM or SIGINT, or once `told` is set.

    read: called in a thread on SIGHUP; it reads files, which may take long, and returns a function that
    applies them, which is called on the event loop. Both may raise BadInput.
    ready: called once signals are handled.
    """
    import asyncio

    told = told or asyncio.Event()
    loop = asyncio.get_running_loop()

    def reread() -> None:
        try:
            take = read()
        except Exception as error:
            take = partial(_fail, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(reload_quietly, take, log)

    rereading = Rereading(reread)
    for number in _obeyed():
        if number == signal.SIGHUP:
            loop.add_signal_handler(number, rereading.ask)
        else:
            loop.add_signal_handler(number, told.set)
    ready()
    heed_held_hangup()
    await told.wait()


def block_until_told(
    reload: Callable[[], None], log: SFTPLog, ready: Callable[[], None] = lambda: None
) -> None:
    """The same for a server of threads: blocks the main thread, which the handlers run in.

    reload: called in another thread on SIGHUP; may raise BadInput. ready: called once signals are handled.
    """
    # Not sigwait(): blocked signals would stay blocked in every program that the server starts. Not a handler
    # that fills a queue: a signal that another thread takes, or that arrives just before this one sleeps,
    # would not wake it.
    rereading = Rereading(partial(reload_quietly, reload, log))
    numbers, theirs = socket.socketpair()
    with numbers, theirs:
        theirs.setblocking(False)
        earlier = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, lambda *_: None) for number in _obeyed()}
        try:
            ready()
            heed_held_hangup()
            while (number := numbers.recv(1)[0]) not in before or number == signal.SIGHUP:
                if number in before:
                    rereading.ask()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(earlier)


# --- draining ---------------------------------------------------------------------------------------------


class Members:
    """A set of running things of a server, such as connections; waits for their end without polling."""

    def __init__(self) -> None:
        import asyncio

        self._members: set[Hashable] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Any]:
        """The current members; they may be removed during the iteration."""
        return iter(tuple(self._members))

    def add(self, member: Hashable) -> None:
        """Add a member that begins."""
        self._members.add(member)
        self._empty.clear()

    def discard(self, member: Hashable) -> None:
        """Remove a member that has ended, if it is still there."""
        self._members.discard(member)
        if not self._members:
            self._empty.set()

    async def emptied(self, seconds: float | None) -> bool:
        """Wait until none is left, for at most this many seconds (None: no limit); return whether none is."""
        import asyncio

        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
