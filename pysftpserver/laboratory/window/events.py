"""The events that the window and the thread that talks to the server exchange.

Each event names the attempt that it belongs to, so that late events of an earlier connection are not taken
for news of the present one. What may not enter: code.
"""

from __future__ import annotations

from typing import NamedTuple


class Target(NamedTuple):
    """A server, and how to log in there. key: as for client.connect()."""

    host: str
    port: int
    name: str
    password: str
    key: str | None


class Connected(NamedTuple):
    """The server has accepted."""

    attempt: int
    is_encrypted: bool


class Failed(NamedTuple):
    """The attempt has failed. is_unwelcome: whether the server has refused it."""

    attempt: int
    text: str
    is_unwelcome: bool


class Disconnected(NamedTuple):
    """The connection is over. reason: None if this side ended it."""

    attempt: int
    reason: str | None


class Named(NamedTuple):
    """The name of the server."""

    attempt: int
    name: str


class Offered(NamedTuple):
    """The services of the server, and the one in use."""

    attempt: int
    titles: tuple[str, ...]
    used: str


class Chosen(NamedTuple):
    """Another service is in use. error: why it is not, or None."""

    attempt: int
    title: str
    error: str | None = None


class Sent(NamedTuple):
    """A text was sent. error: why it was not, or None."""

    attempt: int
    text: str
    error: str | None = None


class Received(NamedTuple):
    """A text has arrived."""

    attempt: int
    text: str


class Remark(NamedTuple):
    """A remark for the log."""

    attempt: int
    text: str


Event = Connected | Failed | Disconnected | Named | Offered | Chosen | Sent | Received | Remark
