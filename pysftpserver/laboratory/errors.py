"""What clients raise: a small family, each with one line of text. What may not enter: anything else."""

from __future__ import annotations


class LaboratoryError(Exception):
    """What went wrong, in one line."""


class Unreachable(LaboratoryError):
    """Nobody answers at that address."""


class Refused(LaboratoryError):
    """The server does not want this client (a wrong password, say), or will not do what was asked."""


class TimedOut(LaboratoryError):
    """Something took too long."""


class ProtocolError(LaboratoryError):
    """The other side does not speak this protocol, or does not know that word of it."""


class Ended(LaboratoryError):
    """The connection is over."""


class Stopped(Ended):
    """It is over, because the server is going down."""
