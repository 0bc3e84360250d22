"""Names of files that are being received, beside their targets, and which of them nobody writes to any more.

A name says which process made it: the boot of this system and the space of process numbers, and the
number. So what a process left that was killed is known at once; of another host's, only its age tells.
What may not enter: storages, what is done about it.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time

PREFIX = b".pysksync-"  # names that begin like this are nobody's files
OLD = 24 * 3600  # seconds without a write, for a file of another host's

_NAME = re.compile(rb"\.pysksync-([0-9a-f]{12})-([0-9]{1,10})-[0-9a-f]{16}")


def _place() -> str:
    """Which system and which space of process numbers this is, as 12 characters."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as boot:
            what = f"{boot.read()} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        what = secrets.token_hex(16)  # then no other process's are known
    return hashlib.sha256(what.encode()).hexdigest()[:12]


_HERE = _place()


def new_name() -> bytes:
    """A name that nobody else has."""
    return b"%b%b-%d-%b" % (PREFIX, _HERE.encode(), os.getpid(), secrets.token_hex(8).encode())


def is_dead(name: bytes, mtime: int) -> bool:
    """Whether nobody writes to that file any more. mtime: of its last write, seconds since the epoch."""
    found = _NAME.fullmatch(name)
    if found and found[1] == _HERE.encode() and not _is_running(int(found[2])):
        return True
    # Just before it gets its name, a file has the time of the original. So nothing of this process is dead by
    # its age, and of another's only what is also looked at a second time, when such a moment would be over.
    is_own = found and found[1] == _HERE.encode() and int(found[2]) == os.getpid()
    return not is_own and time.time() - mtime > OLD


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
