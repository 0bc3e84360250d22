"""Names of files that are being received, beside their targets, and which of them nobody writes to any more.

A name says which process made it: the boot of this system and the space of process numbers, the number, and
when that process began, for numbers are given anew: a container's only process has the number 1 each time.
So what a process left that was killed is known at once; of another host's, only its age tells.
What may not enter: storages, what is done about it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
import time

PREFIX = b".pysftp-"  # names that begin like this are nobody's files
OLD = 24 * 3600  # seconds without a write, for a file of another host's

_NAME = re.compile(rb"\.pysftp-([0-9a-f]{12})-([0-9]{1,10})-([0-9]{1,20})-[0-9a-f]{16}")


def _place() -> str:
    """Which system and which space of process numbers this is, as 12 characters."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as boot:
            what = f"{boot.read()} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        what = secrets.token_hex(16)  # then no other process's are known
    return hashlib.sha256(what.encode()).hexdigest()[:12]


_HERE = _place()


def _start(process: int) -> int:
    """When a process of this host began, in ticks since the boot (proc(5)); 0 where nobody tells."""
    try:
        with open(f"/proc/{process}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


_own_start = functools.cache(_start)


def new_name() -> bytes:
    """A name that nobody else has."""
    process = os.getpid()
    chance = secrets.token_hex(8).encode()
    return b"%b%b-%d-%d-%b" % (PREFIX, _HERE.encode(), process, _own_start(process), chance)


def is_dead(name: bytes, mtime: int) -> bool:
    """Whether nobody writes to that file any more. mtime: of its last write, seconds since the epoch."""
    found = _NAME.fullmatch(name)
    if found and found[1] == _HERE.encode() and not _is_running(int(found[2]), int(found[3])):
        return True
    # Just before it gets its name, a file has the time of the original. So nothing of this process is dead by
    # its age, and of another's only what is also looked at a second time, when such a moment would be over.
    is_own = found and found[1] == _HERE.encode() and int(found[2]) == os.getpid()
    return not is_own and time.time() - mtime > OLD


def _is_running(process: int, start: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return _start(process) in (start, 0) or start == 0
