"""Clients that send what no honest client does, as fast as the server takes it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import asyncssh
from asyncssh.packet import Boolean, String, UInt32

from tests.integration.sshd import HOST
from tests.sshd.inprocess import CHEAP
from tests.support.waiting import PATIENCE

IGNORE, USERAUTH, GLOBAL, CHANNEL_DATA, CHANNEL_REQUEST = 2, 50, 80, 94, 98
MIB = 1 << 20
UNSENT = 64 << 10  # bytes that a client keeps while the server takes nothing


def resident(pid: int) -> int:
    """The memory of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmRSS")


def spent(pid: int) -> float:
    """Seconds of processor time that the main thread of a process has had."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


class Stranger(asyncssh.SSHClientConnection):
    """A connection up to the first login request, which it does not send. is_ready: it could."""

    is_ready: asyncio.Event
    gone: asyncio.Event

    def try_next_auth(self, *, next_method: bool = False) -> None:
        ignore_answers(self)
        self.is_ready.set()

    def connection_lost(self, exc: Exception | None = None) -> None:
        self.gone.set()
        self.is_ready.set()
        super().connection_lost(exc)


async def stranger(port: int) -> Stranger:
    """Connect, and exchange keys."""
    loop = asyncio.get_running_loop()
    options = asyncssh.SSHClientConnectionOptions(
        username="alice",
        known_hosts=None,
        agent_path=None,
        config=None,
        client_keys=None,
        encryption_algs=[CHEAP],
    )

    def made() -> Stranger:
        one = Stranger(loop, options)
        one.is_ready, one.gone = asyncio.Event(), asyncio.Event()
        return one

    _, one = await loop.create_connection(made, HOST, port)
    await asyncio.wait_for(one.is_ready.wait(), PATIENCE)
    return one


def dear_key_exchange() -> bytes:
    """All that a client has to send for a key exchange, with a key that costs the client nothing."""
    names = (b"diffie-hellman-group16-sha512", b"ssh-ed25519", *2 * [b"aes128-gcm@openssh.com"])
    names += (*2 * [b"hmac-sha2-256"], *2 * [b"none"], b"", b"")
    wishes = b"\x14" + bytes(16) + b"".join(map(String, names)) + bytes(5)
    key = b"\x1e" + String(b"\x7f" * 500)
    return b"SSH-2.0-x\r\n" + in_the_clear(wishes) + in_the_clear(key)


def in_the_clear(payload: bytes) -> bytes:
    """A packet as it is before the first key exchange."""
    padding = bytes(16 - (len(payload) + 5) % 8)
    return UInt32(len(payload) + len(padding) + 1) + bytes([len(padding)]) + payload + padding


def ignore_answers(one: Any) -> None:
    """Let a connection receive and ignore everything from now on."""
    one.data_received = lambda data, datatype=None: None


def begin_exchange(one: Any) -> None:
    """Begin a key exchange that this side does not go on with."""
    one._send_kexinit()
    ignore_answers(one)


def login_request(method: bytes, *arguments: bytes) -> tuple[bytes, ...]:
    """The fields of a login request."""
    return (String(b"alice"), String(b"ssh-connection"), String(method), *arguments)


def password(size: int) -> tuple[bytes, ...]:
    """A login request with a password of that many bytes."""
    return login_request(b"password", Boolean(False), String(bytes(size)))


def has_ended(one: Any) -> bool:
    """Whether a connection is over; asyncio tells asyncssh a moment later."""
    return one._transport is None or one._transport.is_closing()


async def flood(one: Any, kind: int, *fields: bytes, most: int, at_once: int = 8) -> int:
    """Send the same packet until the connection ends, or that many bytes are sent; return their number.

    Keys that change meanwhile do not hold it up, as they would an honest client.
    """
    # What waits in the kernel was made for nothing when the connection ends.
    one._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT)
    sent = 0
    while sent < most and not has_ended(one):
        if one._transport.get_write_buffer_size() > UNSENT:
            await asyncio.sleep(0.003)
            continue
        for _ in range(at_once):
            if has_ended(one):
                break
            one._kex_complete = one._auth_complete = True
            one.send_packet(kind, *fields)
            sent += sum(map(len, fields)) + 32
        await asyncio.sleep(0)
    return sent
