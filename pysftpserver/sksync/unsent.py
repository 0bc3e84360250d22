"""The bytes that the kernel still holds because the peer has not acknowledged them. There may be MiB of them,
and the kernel accepts more only in large steps, so a slow peer looks like a silent one.

What may not enter: waiting. Facts: tcp(7), SIOCOUTQ.
"""

from __future__ import annotations

import fcntl
import struct
import termios


def unsent(descriptor: int) -> int:
    """Bytes that a connection's peer has not acknowledged; 0 if the kernel does not tell."""
    try:
        (held,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
    except OSError:
        return 0
    return int(held)
