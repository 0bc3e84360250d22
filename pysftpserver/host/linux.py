"""System calls that the standard library lacks: openat2(2), renameat2(2), the type in fstatfs(2), syncfs(2),
a part of prctl(2), a part of sync_file_range(2).

Thin wrappers; what they are used for may not enter. Each raises OSError, as the calls in os do.
Facts: openat2(2), rename(2), prctl(2), sync(2), sync_file_range(2).
"""

from __future__ import annotations

import errno
import os
import sys

from pysftpserver.failures import one_line, os_error
from pysftpserver.host import libc

OPENAT2 = 437  # the same number on every architecture
HOW = 24  # bytes of struct open_how
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10
RENAME_NOREPLACE = 1
AT_FDCWD = -100  # the working directory, in place of a descriptor
SYNC_FILE_RANGE_WRITE = 2

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
PR_SET_NO_NEW_PRIVS = 38
LONGEST_NAME = 15  # bytes of a process's name

PROC_SUPER_MAGIC = 0x9FA0  # statfs(2)'s type of procfs
# The types of ext4, XFS, Btrfs, F2FS and tmpfs, whose syncfs(2) is as good as an fsync(2) of each file. For
# FUSE, syncfs(2) does not reach the program behind it; for stacked file systems, it depends on the kernel.
SYNCED_AS_A_WHOLE = {0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x01021994}
SYNCFS_REPORTS_ERRORS = (5, 8)  # from this version of the kernel on

# openat2 fails with EAGAIN if a rename anywhere on the host happened while it resolved a path with `..`.
# Trying again helps, but not for a long path during endless renames.
_ATTEMPTS = 32

_syscall = libc.function("syscall")
# No argtypes: checking five arguments by them takes a third of the whole call, which every OPEN and STAT
# makes. Small integers and bytes are passed correctly without, and nothing else is passed.
_syscall.restype = libc.c_long
_renameat2 = libc.function("renameat2")
_sync_file_range = libc.function("sync_file_range")
if _sync_file_range is not None:
    _sync_file_range.argtypes = (libc.c_int, libc.c_longlong, libc.c_longlong, libc.c_int)

_syncfs = libc.function("syncfs")
_prctl = libc.function("prctl")
_fstatfs = libc.function("fstatfs")
_Statfs = libc.c_long * 64  # struct statfs, with room to spare; its first field is the type

_hows: dict[tuple[int, int, int], bytes] = {}


def openat2(directory: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """Open path, relative to a directory's descriptor, within the limits of the RESOLVE_* flags.

    Raises OSError; BlockingIOError if renames elsewhere interrupted every attempt.
    """
    if b"\0" in path:
        raise ValueError("embedded null byte")
    how = _hows.get((flags, mode, resolve))
    if how is None:
        how = b"".join(field.to_bytes(8, sys.byteorder) for field in (flags, mode, resolve))
        if len(_hows) < 1000:  # clients choose the modes
            _hows[flags, mode, resolve] = how
    descriptor: int = _syscall(OPENAT2, directory, path, how, HOW)
    attempts = 1
    while descriptor < 0:
        error = libc.get_errno()
        if error not in (errno.EAGAIN, errno.EINTR) or attempts == _ATTEMPTS:
            raise OSError(error, os.strerror(error))
        attempts += 1
        descriptor = _syscall(OPENAT2, directory, path, how, HOW)
    return descriptor


def has_openat2() -> bool:
    """Whether this kernel has openat2, and no filter of system calls (a container's) blocks it."""
    try:
        os.close(openat2(AT_FDCWD, b"/", os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_NO_MAGICLINKS))
    except OSError:
        return False
    return True


def is_on_procfs(descriptor: int) -> bool:
    """Whether an open file is on procfs."""
    statfs = _Statfs()  # one for each call: there may be sessions in other threads
    return bool(_fstatfs(descriptor, statfs) == 0 and statfs[0] == PROC_SUPER_MAGIC)


def rename_noreplace(old_dir: int | None, old: bytes, new_dir: int | None, new: bytes) -> None:
    """Rename atomically unless the target exists. Raises OSError(EINVAL or ENOSYS) if that is unsupported."""
    if _renameat2 is None:
        raise os_error(errno.ENOSYS)
    directories = [AT_FDCWD if number is None else number for number in (old_dir, new_dir)]
    libc.check(_renameat2(directories[0], old, directories[1], new, RENAME_NOREPLACE))


def start_writing(descriptor: int) -> None:
    """Have the kernel begin to write a file to disk, without waiting. If it cannot, do nothing."""
    if _sync_file_range is not None:
        _sync_file_range(descriptor, 0, 0, SYNC_FILE_RANGE_WRITE)


def sync_file_system(descriptor: int) -> bool:
    """Return True when everything written to the file system of an open file is safe from a crash.

    False: this kernel or this file system does not promise that. Raises OSError if a write to any file failed
    since this one was opened.
    """
    statfs = _Statfs()
    if not _syncfs_reports_errors() or _fstatfs(descriptor, statfs) or statfs[0] not in SYNCED_AS_A_WHOLE:
        return False
    libc.check(_syncfs(descriptor))
    return True


def _syncfs_reports_errors() -> bool:
    release = os.uname().release.split("-")[0].split(".")
    return tuple(int(part) for part in release[:2] if part.isdigit()) >= SYNCFS_REPORTS_ERRORS


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument, a number. Raises OSError."""
    zero = libc.c_ulong(0)
    libc.check(_prctl(option, libc.c_ulong(value), zero, zero, zero))


def end_with_parent(parent: int, number: int) -> None:
    """Get the signal with this number when the parent (a process id) ends; at once if it has ended."""
    prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def name_process(name: str) -> None:
    """Give this process a name for ps(1) and top(1). Call it in the first thread."""
    _prctl(PR_SET_NAME, one_line(name).encode("ascii", "replace")[:LONGEST_NAME])


def forbid_new_privileges() -> None:
    """Prevent this process and its children from ever getting more privileges. (It always works.)"""
    zero = libc.c_ulong(0)
    _prctl(PR_SET_NO_NEW_PRIVS, libc.c_ulong(1), zero, zero, zero)
