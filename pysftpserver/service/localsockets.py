"""Listens on a socket in the file system, and replaces that of a server that has ended.

What may not enter: the protocol there. Facts: unix(7), flock(2).
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Taken(Exception):
    """The socket's name is in use. The text says by what."""


@contextmanager
def turn(path: str) -> Iterator[None]:
    """Lock the directory of a path: servers that start at the same moment take turns. Raises OSError."""
    directory = os.path.dirname(os.path.abspath(path))
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # processes forked meanwhile have it open as well
        os.close(descriptor)


def listen(path: str, kind: int, backlog: int, mode: int = 0o600) -> socket.socket:
    """A non-blocking socket of a kind (SOCK_STREAM, ...) that listens there.

    mode: who may connect, as permissions of a file. Call it inside turn(). Raises OSError, Taken.
    """
    one = socket.socket(socket.AF_UNIX, kind)
    try:
        _remove_stale(path, kind)
        mask = os.umask(0o777 & ~mode)  # from the first moment on
        try:
            one.bind(path)
        finally:
            os.umask(mask)
        one.listen(backlog)
        one.setblocking(False)
    except BaseException:
        one.close()
        raise
    return one


def _remove_stale(path: str, kind: int) -> None:
    """Remove the socket of a server that has ended. Raises OSError, Taken."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Taken("exists and is not a socket")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # a server listens and is busy
    raise Taken("another server is listening there")
