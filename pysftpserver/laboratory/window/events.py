"""What the window and the thread that talks to the server tell each other.

Each event names the attempt it belongs to, so that what is still under way of an earlier connection is not
taken for news of the present one. What may not enter: code.
"""

from __future__ import annotations

from typing import NamedTuple


class Target(NamedTuple):
    """A server, and who wants to be connected. key: as the client library has it."""

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
    """Nothing came of it. is_unwelcome: the server itself said no."""

    attempt: int
    text: str
    is_unwelcome: bool


class Disconnected(NamedTuple):
    """It is over. reason: None where this side ended it."""

    attempt: int
    reason: str | None


class Named(NamedTuple):
    """What the server is called."""

    attempt: int
    name: str


class Offered(NamedTuple):
    """The services there are, and the one in use."""

    attempt: int
    titles: tuple[str, ...]
    used: str


class Chosen(NamedTuple):
    """Another service is in use. error: it is not, and why."""

    attempt: int
    title: str
    error: str | None = None


class Sent(NamedTuple):
    """A text has gone. error: it has not, and why."""

    attempt: int
    text: str
    error: str | None = None


class Received(NamedTuple):
    """A text has come."""

    attempt: int
    text: str


class Remark(NamedTuple):
    """Something that people may want to know."""

    attempt: int
    text: str


Event = Connected | Failed | Disconnected | Named | Offered | Chosen | Sent | Received | Remark
