"""The exceptions of clients, each with one line of text. What may not enter: anything else."""

from __future__ import annotations


class LaboratoryError(Exception):
    """The base class of all of them."""


class Unreachable(LaboratoryError):
    """No server answers at that address."""


class Refused(LaboratoryError):
    """The server refuses this client (after a wrong password, for example) or a request."""


class TimedOut(LaboratoryError):
    """Something took too long."""


class ProtocolError(LaboratoryError):
    """The server does not speak this protocol, or does not know the request."""


class Ended(LaboratoryError):
    """The connection is over."""


class Stopped(Ended):
    """The connection is over because the server is going down."""
