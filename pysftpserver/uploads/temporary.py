"""Names of the temporary files in which uploads are received, and which of these files are abandoned.

There are two forms, because there are two ways to know that a file is abandoned:

- `.pysftp-SYSTEM-PROCESS-START-RANDOM`, in any storage. SYSTEM is this boot and its PID namespace, START is
  when the process began: process numbers are reused, and a container's only process always has the number 1.
  The file is abandoned when that process has ended; a file of another system, when it is old.
- `.pysftpserver-upload-DIGEST`, in directories of the host. DIGEST is made of the final name of the file, so
  that two sessions of a user cannot receive the same file at once; it is random if another user has taken
  that name. The process that writes holds a lock on the file; leftovers.py tests the lock.

What may not enter: storages. Facts: proc(5), kill(2).
"""

from __future__ import annotations

import os
import time
from binascii import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.attributes import SFTPAttributes

PREFIX = b".pysftp-"
LOCKED_PREFIX = b".pysftpserver-upload-"
OLD = 24 * 3600  # seconds without a write, for a file of another system
MOST_MADE = 4096  # remembered names: memory

# Not regular expressions: importing re would double the start of a session with atomic uploads.
_HEXADECIMAL = b"0123456789abcdef"
_LASTING = b"000000000000"  # the system of uploads that outlive their process
_systems: list[bytes] = []  # this one, once it is known
_beginnings: dict[int, bytes] = {}  # of this process's names, by its number: it may fork
_made: dict[bytes, None] = {}  # the last names that new_name() has returned


def temporary_path(path: bytes) -> bytes:
    """A new path in the directory of path."""
    parent, slash, _ = path.rpartition(b"/")
    return parent + slash + new_name()


def new_name() -> bytes:
    """A new name of the first form, which tells which process writes to the file."""
    process = os.getpid()
    if process not in _beginnings:
        _beginnings[process] = b"%b%b-%d-%d-" % (PREFIX, _system(), process, _start(process))
    name = _beginnings[process] + _random()
    if len(_made) >= MOST_MADE:
        _made.clear()
    _made[name] = None
    return name


def lasting_name(mark: bytes) -> bytes:
    """The name of an upload that another process may continue: it is abandoned when it is old.

    mark: unique bytes that no client can guess.
    """
    name = b"%b%b-0-0-%b" % (PREFIX, _LASTING, mark.hex().encode()[:16].ljust(16, b"0"))
    _made[name] = None
    return name


def is_own(name: bytes) -> bool:
    """Whether this process has made the name, so that no client knows it. May be False for older names:
    only the last ones are remembered."""
    return name in _made


def locked_name(name: bytes) -> bytes:
    """The name of the temporary file for a file with that name. It is locked while it is written to."""
    return LOCKED_PREFIX + b"%08x%08x" % (crc32(name), crc32(name[::-1], 1))


def another_locked_name() -> bytes:
    """A new name of the same form, for use if a file that cannot be removed has that one."""
    return LOCKED_PREFIX + _random()


def is_temporary(name: bytes) -> bool:
    """Whether the whole name has either form of a temporary file. Doors do not serve such files."""
    return _parts(name) is not None or is_locked_name(name)


def is_locked_name(name: bytes) -> bool:
    """Whether the name has the form of locked_name()."""
    return name.startswith(LOCKED_PREFIX) and _is_hexadecimal(name.removeprefix(LOCKED_PREFIX), 16)


def _parts(name: bytes) -> tuple[bytes, int, int] | None:
    """The system in a name, and the number and the start of the process; None for a name of another form."""
    parts = name.removeprefix(PREFIX).split(b"-") if name.startswith(PREFIX) else ()
    if len(parts) != 4:
        return None
    system, process, began, chance = parts
    if not (_is_hexadecimal(system, 12) and _is_hexadecimal(chance, 16)):
        return None
    if not (process.isdigit() and len(process) <= 10 and began.isdigit() and len(began) <= 20):
        return None
    return system, int(process), int(began)


def _is_hexadecimal(text: bytes, size: int) -> bool:
    return len(text) == size and not text.strip(_HEXADECIMAL)


def is_abandoned(name: bytes, attrs: SFTPAttributes) -> bool:
    """Whether the name and the times of a file show that it is abandoned.

    Always False for a name of the locked form, and for one that is not a temporary file's.
    """
    found = _parts(name)
    if found is None:
        return False
    system, process, began = found
    if system == _system():
        return not _is_running(process, began)
    # A file of this machine before its last boot, or of another one that shares the directory. If it already
    # has the modification time of its original, its access time tells when it was last used.
    return time.time() - max(attrs.mtime or 0, attrs.atime or 0) > OLD


def _random() -> bytes:
    return os.urandom(8).hex().encode()


def _system() -> bytes:
    """This boot and this PID namespace, as 12 characters."""
    if not _systems:
        import hashlib  # here, because a session with atomic uploads starts without it

        try:
            with open("/proc/sys/kernel/random/boot_id") as boot:
                what = f"{boot.read()} {os.stat('/proc/self/ns/pid').st_ino}"
        except OSError:
            what = _random().decode()  # then files of other processes are not recognized
        _systems.append(hashlib.sha256(what.encode()).hexdigest()[:12].encode())
    return _systems[0]


def _start(process: int) -> int:
    """When a process began, in ticks since the boot (proc(5)); 0 if that is not known."""
    try:
        with open(f"/proc/{process}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def _is_running(process: int, start: int) -> bool:
    """Whether a process is running; also for another user's, whose start may be hidden (proc(5), hidepid)."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return _start(process) in (start, 0) or start == 0
