"""How a failure is put into words, the same in every room: what is wrong with which thing, and what to do.

BadInput and Unavailable carry one finished line from the place that notices the mistake to the command, which
prints it and turns it into an exit status. Nothing here imports another module of the package.
"""

from __future__ import annotations

import errno
import os

USAGE_STATUS = 2
UNAVAILABLE_STATUS = 1

DEBIAN = "/usr/lib/python3/dist-packages/"  # where the Debian package puts this one (packaging/debian)

_PLAIN = {byte: chr(byte) for byte in range(32, 127)} | {92: "\\\\"}


class BadInput(Exception):
    """Something that an operator wrote cannot be used.

    message: what is wrong and what to do, in one line. public: the same without names of this host, for
    standard error that a client sees; None: message names none.
    """

    status = USAGE_STATUS

    def __init__(self, message: str, public: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.public = message if public is None else f"{public} (syslog says more)"


class Unavailable(BadInput):
    """The input is valid, but something that it needs, such as another server, cannot be reached now."""

    status = UNAVAILABLE_STATUS


def os_error(number: int) -> OSError:
    """The OSError for an errno, with the system's text."""
    return OSError(number, os.strerror(number))


def reason_of(error: BaseException) -> str:
    """Why something failed, in the words of errno(3): "permission denied", "no such file or directory".

    An error without an errno (an encoding, a name that cannot be a path, getaddrinfo's) gives its own text.
    The result is one printable line; it begins with a small letter, so that it can follow a name.
    """
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        text = os.strerror(error.errno)
    elif isinstance(error, UnicodeError):
        text = f"not UTF-8 at byte {getattr(error, 'start', 0)}"
    else:
        text = getattr(error, "strerror", None) or str(error) or "failure"
    text = one_line(text)
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def one_line(text: str) -> str:
    """The text with every character that cannot be printed, line ends included, as an escape."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def show(text: bytes) -> str:
    """Bytes as one line of ASCII: printable bytes as they are, a backslash doubled, others as \\ooo."""
    if text.isascii() and b"\\" not in text and text.decode().isprintable():
        return text.decode()
    return "".join(_PLAIN.get(byte) or f"\\{byte:03o}" for byte in text)


class needed:
    """`with needed("sshd", "redis"): import redis` raises BadInput if that library is not installed.

    extra: the extra that installs the libraries. Any other missing module is our own error.
    """

    def __init__(self, extra: str, *modules: str) -> None:
        self._extra = extra
        self._modules = modules

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        module = str(getattr(error, "name", "")).partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and module in self._modules:
            raise missing(module, self._extra) from None


def missing(module: str, extra: str) -> BadInput:
    """The error for a library that is not installed. extra: the extra that installs it."""
    if os.path.realpath(__file__).startswith(DEBIAN):
        return BadInput(f'{module} is missing; run "sudo pysftpserver-extras {extra}"')
    # A path, not the project's name: on the package index that name belongs to another program.
    command = f"pip install '.[{extra}]'"
    return BadInput(f"{module} is missing; run {command} in a checkout of pysftpserver, or install its wheel")
