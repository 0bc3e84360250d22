"""What the system holds of what was sent, because the peer has not taken it yet: MiB, for which it asks for
more in large steps, so that a slow peer looks like a silent one. Facts: tcp(7), SIOCOUTQ.

What may not enter: who waits for what.
"""

from __future__ import annotations

import fcntl
import struct
import termios


def unsent(descriptor: int) -> int:
    """Bytes that a connection's peer has not acknowledged; 0 where that is not to be known."""
    try:
        (held,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
    except OSError:
        return 0
    return int(held)
