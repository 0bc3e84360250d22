"""The sandbox: what a process gives up, for good, before it serves its first request.

Storages keep their promises by how they are written; here the kernel keeps them again, whatever a mistake
in Python code would do. Landlock confines opening, making, removing, renaming and linking of files to the
directories that a storage names, and allows no program to be started from them; seccomp allows no socket
but local ones, which syslog needs. Neither needs root, and neither can be undone. Landlock does not know
of looking at attributes, and of changing them by path (stat, chmod, chown, utime): docs/security.md.

Whatever this kernel lacks is left out, and the line that confine() returns says so. What may not enter:
storages, sessions, logs; nothing here is imported unless a sandbox is asked for.
Facts: landlock(7), linux/landlock.h, seccomp(2), linux/filter.h, linux/audit.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# The same numbers on every architecture.
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
IO_URING_SETUP = 425

ASK_FOR_ABI = 1  # a flag of landlock_create_ruleset
PATH_BENEATH = 1  # a kind of rule

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
FILES = (1 << 13) - 1  # all rights of ABI 1
RIGHTS_OF_ABI = ((1, FILES), (2, REFER), (3, TRUNCATE), (5, IOCTL_DEV))
READING = READ_FILE | READ_DIR
NOT_NEEDED = EXECUTE | IOCTL_DEV
LEAST_ABI = 2  # with the first, nothing could be renamed from one directory to another
BIND_TCP, CONNECT_TCP = 1 << 0, 1 << 1
NETWORK_ABI = 4
ABSTRACT_UNIX_SOCKET, SIGNAL = 1 << 0, 1 << 1
SCOPE_ABI = 6

PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER = 1
SPEC_ALLOW = 1 << 2  # no mitigations for code that runs other people's programs: it costs, and here is none
AF_UNIX = 1
# What of an architecture the filter must know: AUDIT_ARCH_*, the numbers of socket(2) and seccomp(2).
ARCHITECTURES = {
    "x86_64": (0xC000003E, 41, 317),
    "aarch64": (0xC00000B7, 198, 277),
}
X32 = 0x40000000  # numbers of x86_64's other set of system calls begin here
# Instructions of the filter, and what it may return.
LOAD, IS_EQUAL, IS_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little-endian

_libc = ctypes.CDLL(None, use_errno=True)


def confine(directories: Iterable[int] | None, read_only: bool = False, network: bool = False) -> str:
    """Confine this process to what is beneath directories; return in words what is in force now.

    directories: descriptors, None for no confinement of files. read_only: nothing may be changed there
    either. network: whether sockets are needed. Files that are open stay so. It holds for the calling
    thread, what it starts, and for ever.
    """
    done, missing = [], []
    zero = ctypes.c_ulong(0)
    # Without it, the kernel lets only root give something up. (It always works; what needs it would say.)
    _libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero)
    try:
        done += _landlock(landlock_abi(), directories, read_only, network)
    except OSError as error:
        missing.append(f"Landlock: {_reason(error)}")
    if not network:
        try:
            _allow_local_sockets_only()
            done.append("no network sockets")
        except OSError as error:
            missing.append(f"seccomp: {_reason(error)}")
    return f"sandbox: {'; '.join(done) or 'none'}{''.join(f' (without {text})' for text in missing)}"


def _reason(error: OSError) -> str:
    return error.strerror or "refused"


# --- Landlock -----------------------------------------------------------------------------------------


def landlock_abi() -> int:
    """The version of Landlock that this kernel has; 0: none, or not for us."""
    abi: int = _libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ASK_FOR_ABI)
    return max(0, abi)


def _landlock(abi: int, directories: Iterable[int] | None, read_only: bool, network: bool) -> list[str]:
    """Restrict this process as far as that version can; what is in force then, in words."""
    if abi < LEAST_ABI:
        raise OSError(
            errno.ENOSYS, f"this kernel has version {abi}" if abi else "this kernel does not have it"
        )
    handled = sum(rights for since, rights in RIGHTS_OF_ABI if since <= abi) if directories is not None else 0
    tcp = BIND_TCP | CONNECT_TCP if abi >= NETWORK_ABI and not network else 0
    scope = ABSTRACT_UNIX_SOCKET | SIGNAL if abi >= SCOPE_ABI else 0
    words = []
    if handled:
        words.append("files beneath the storage only" + (", and only to be read" if read_only else ""))
    if tcp:
        words.append("no TCP")
    if scope:
        words.append("no signals to others")
    if not words:
        return []
    fields = (handled, tcp, scope)[: 1 + (abi >= NETWORK_ABI) + (abi >= SCOPE_ABI)]
    attributes = b"".join(field.to_bytes(8, sys.byteorder) for field in fields)
    ruleset = _call(LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        allowed = handled & (READING if read_only else ~NOT_NEEDED)
        for directory in directories or ():
            rule = allowed.to_bytes(8, sys.byteorder) + directory.to_bytes(4, sys.byteorder)
            _call(LANDLOCK_ADD_RULE, ruleset, PATH_BENEATH, rule, 0)
        _call(LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return [f"Landlock {abi}: {', '.join(words)}"]


# --- seccomp ------------------------------------------------------------------------------------------


def _allow_local_sockets_only() -> None:
    """Refuse socket(2) for every family but AF_UNIX, and the one way past a filter, io_uring.

    Landlock's own network rights know of TCP only.
    """
    known = ARCHITECTURES.get(os.uname().machine)
    if known is None or sys.maxsize < 1 << 32:
        raise OSError(errno.ENOSYS, "the numbers of this architecture's system calls are not known here")
    architecture, socket, seccomp = known
    # Each: code, how many instructions to pass over if true, and if false, operand.
    program = (
        (LOAD, 0, 0, ARCHITECTURE),
        (IS_EQUAL, 0, 7, architecture),  # 32-bit calls have other numbers: none of them
        (LOAD, 0, 0, NUMBER),
        (IS_AT_LEAST, 5, 0, X32),
        (IS_EQUAL, 4, 0, IO_URING_SETUP),
        (IS_EQUAL, 0, 2, socket),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (IS_EQUAL, 0, 1, AF_UNIX),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE | errno.EACCES),
    )
    code = b"".join(
        op.to_bytes(2, sys.byteorder) + bytes((yes, no)) + operand.to_bytes(4, sys.byteorder)
        for op, yes, no, operand in program
    )
    buffer = ctypes.create_string_buffer(code)

    class Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    fprog = Program(len(program), ctypes.addressof(buffer))
    _call(seccomp, SECCOMP_SET_MODE_FILTER, SPEC_ALLOW, ctypes.byref(fprog))


# --- system calls -------------------------------------------------------------------------------------


def _call(number: int, *arguments: object) -> int:
    """syscall(2). Raises OSError."""
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
