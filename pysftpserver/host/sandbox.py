"""The sandbox: what a process gives up, for good, before it serves its first request.

The Python code of a storage keeps clients inside its directories; here the kernel does so again, in case of a
bug. Landlock confines opening, making, removing, renaming and linking of files to the directories that a
storage names. seccomp refuses sockets except local ones, which syslog needs, programs, new processes, which
could outlive the session, and calls that end other processes. Neither needs root, and neither can be undone.
docs/security.md says what they do not cover.

What this kernel lacks is left out and reported. What may not enter: storages, sessions, logs; this module is
imported only if a sandbox is wanted.
Facts: landlock(7), linux/landlock.h, seccomp(2), linux/filter.h, linux/audit.h, clone(2).
"""

from __future__ import annotations

import errno
import os
import sys
from stat import S_ISDIR

from pysftpserver.failures import reason_of
from pysftpserver.host import libc
from pysftpserver.host.linux import forbid_new_privileges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# The same numbers on every architecture.
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
IO_URING_SETUP, CLONE3 = 425, 435

ASK_FOR_ABI = 1  # a flag of landlock_create_ruleset
PATH_BENEATH = 1  # a kind of rule

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
FILES = (1 << 13) - 1  # all rights of ABI 1
RIGHTS_OF_ABI = ((1, FILES), (2, REFER), (3, TRUNCATE), (5, IOCTL_DEV))
READING = READ_FILE | READ_DIR
NOT_NEEDED = EXECUTE | IOCTL_DEV
LEAST_ABI = 2  # ABI 1 allows no renames from one directory to another
BIND_TCP, CONNECT_TCP = 1 << 0, 1 << 1
NETWORK_ABI = 4
ABSTRACT_UNIX_SOCKET, SIGNAL = 1 << 0, 1 << 1
SCOPE_ABI = 6

SECCOMP_SET_MODE_FILTER = 1
ALL_THREADS = 1 << 0  # of this process take the filter
SPEC_ALLOW = 1 << 2  # without costly mitigations for processes that run untrusted code, which this does not
AF_UNIX = 1
CLONE_THREAD = 0x10000


class Architecture:
    """What the filter must know of an architecture: AUDIT_ARCH_*, and numbers of system calls."""

    __slots__ = ("audit", "clone", "limits", "processes", "seccomp", "sockets")

    def __init__(
        self,
        audit: int,
        seccomp: int,
        sockets: tuple[int, ...],
        processes: tuple[int, ...],
        clone: int,
        limits: int,
    ) -> None:
        self.audit = audit
        self.seccomp = seccomp
        self.sockets = sockets  # socket and socketpair, whose first argument is the family
        self.processes = processes  # execve and execveat, fork and vfork where there are such calls
        self.clone = clone  # whose first argument tells threads from processes
        self.limits = limits  # prlimit64, whose first argument is a process, 0 for this one


ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, 317, (41, 53), (59, 322, 57, 58), 56, 302),
    "aarch64": Architecture(0xC00000B7, 277, (198, 199), (221, 281), 220, 261),
}
X32 = 0x40000000  # numbers of x86_64's other set of system calls begin here
# Instructions of the filter, and its possible results.
LOAD, IS_EQUAL, IS_AT_LEAST, HAS_BITS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little-endian
INSTRUCTION = 8  # bytes

_syscall = libc.function("syscall")
_syscall.restype = libc.c_long

# By purpose. Not functools.cache: importing that would take a fifth of a session's start.
_filters: dict[tuple[bool, bool], bytearray] = {}


class Level:
    """What is in force. lacks: what is missing because of this kernel or this process."""

    def __init__(self) -> None:
        self.holds: list[str] = []
        self.lacks: list[str] = []

    def __str__(self) -> str:
        return f"sandbox: {'; '.join(self.holds) or 'none'}" + "".join(f" (without {x})" for x in self.lacks)


def confine(
    directories: Iterable[int] | None,
    read_only: bool = False,
    network: bool = False,
    reading: Iterable[str] = (),
) -> Level:
    """Confine this process to the files below directories; return what is in force now.

    directories: descriptors, None for no confinement of files and programs. read_only: nothing may be changed
    there either. network: whether sockets are needed. reading: further paths that may be read; those that do
    not exist are left out. Open files stay open. It applies for good to the calling thread and all threads
    and processes that it starts; threads that already run are not confined by Landlock, which the result
    reports.
    Raises ValueError for a descriptor that is not a directory's.
    """
    level = Level()
    has_threads = len(os.listdir("/proc/self/task")) > 1
    if has_threads and directories is not None:
        level.lacks.append("other threads: they run already")
    forbid_new_privileges()  # otherwise the kernel lets only root confine itself
    if directories is not None and "threading" in sys.modules:
        load_libgcc()
    try:
        level.holds += _landlock(landlock_abi(), directories, read_only, network, reading)
    except OSError as error:
        level.lacks.append(f"Landlock: {reason_of(error)}")
    try:
        level.holds += _filter(directories is not None, network, has_threads)
    except OSError as error:
        level.lacks.append(f"seccomp: {reason_of(error)}")
    return level


def rehearse() -> None:
    """Do what confine() does, except what changes something: in children of this process, it then takes less
    time.
    """
    load_libgcc()
    try:
        os.close(_ruleset(landlock_abi(), (FILES, 0, 0)))
    except OSError:
        pass  # confine() reports it
    known = ARCHITECTURES.get(os.uname().machine)
    if known is not None:
        _filter_of(known, True, False)


def load_libgcc() -> None:
    """Load libgcc: the C library loads it when a thread ends, and aborts if it cannot."""
    try:
        libc.load("libgcc_s.so.1")
    except OSError:
        pass  # a C library without it


# --- Landlock -----------------------------------------------------------------------------------------


def landlock_abi() -> int:
    """The version of Landlock that this kernel has. Raises OSError if it has none, or forbids its use."""
    return _call(LANDLOCK_CREATE_RULESET, None, libc.c_size_t(0), ASK_FOR_ABI)


def _landlock(
    abi: int, directories: Iterable[int] | None, read_only: bool, network: bool, reading: Iterable[str] = ()
) -> list[str]:
    """Restrict this process as far as that version can; return texts that say what is in force."""
    if abi < LEAST_ABI:
        raise OSError(f"this kernel has version {abi}")
    handled = sum(rights for since, rights in RIGHTS_OF_ABI if since <= abi) if directories is not None else 0
    tcp = BIND_TCP | CONNECT_TCP if abi >= NETWORK_ABI and not network else 0
    scope = ABSTRACT_UNIX_SOCKET | SIGNAL if abi >= SCOPE_ABI else 0
    words = []
    if handled:
        words.append("files beneath the storage only" + (", and only to be read" if read_only else ""))
    if handled and not handled & TRUNCATE:
        words.append("but others can be truncated")
    if tcp:
        words.append("no TCP")
    if scope:
        words.append("no signals to others")
    if not words:
        return []
    ruleset = _ruleset(abi, (handled, tcp, scope))
    try:
        allowed = handled & (READING if read_only else ~NOT_NEEDED)
        for directory in directories or ():
            _allow(ruleset, allowed, directory)
        for path in reading if handled else ():
            _allow_reading(ruleset, path)
        _call(LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return [f"Landlock {abi}: {', '.join(words)}"]


def _ruleset(abi: int, fields: tuple[int, int, int]) -> int:
    """A new ruleset. fields: of struct landlock_ruleset_attr."""
    known = fields[: 1 + (abi >= NETWORK_ABI) + (abi >= SCOPE_ABI)]
    attributes = b"".join(field.to_bytes(8, sys.byteorder) for field in known)
    return _call(LANDLOCK_CREATE_RULESET, attributes, libc.c_size_t(len(attributes)), 0)


def _allow_reading(ruleset: int, path: str) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):
        return  # it does not exist
    try:
        _allow(ruleset, READING if S_ISDIR(os.fstat(descriptor).st_mode) else READ_FILE, descriptor)
    finally:
        os.close(descriptor)


def _allow(ruleset: int, rights: int, directory: int) -> None:
    rule = rights.to_bytes(8, sys.byteorder) + directory.to_bytes(4, sys.byteorder, signed=True)
    try:
        _call(LANDLOCK_ADD_RULE, ruleset, PATH_BENEATH, rule, 0)
    except OSError as error:  # a mistake of the storage's, and nothing to go on without
        raise ValueError(f"territory(): not a directory's descriptor: {reason_of(error)}") from error


# --- seccomp ------------------------------------------------------------------------------------------


def _filter(no_programs: bool, network: bool, has_threads: bool) -> list[str]:
    """Refuse what Landlock does not cover; return texts that say what is in force.

    Landlock's network rights cover only TCP, and it ignores programs in memory and prlimit(2), which can end
    another process. io_uring would bypass any filter.
    """
    known = ARCHITECTURES.get(os.uname().machine)
    if known is None or sys.maxsize < 1 << 32:
        raise OSError("the numbers of this architecture's system calls are not known")
    code = _filter_of(known, no_programs, network)
    buffer = (libc.c_char * len(code)).from_buffer(code)
    fields = len(code) // INSTRUCTION, libc.addressof(buffer)  # struct sock_fprog
    program = b"".join(field.to_bytes(8, sys.byteorder) for field in fields)
    flags = SPEC_ALLOW | (ALL_THREADS if has_threads else 0)
    if _call(known.seccomp, SECCOMP_SET_MODE_FILTER, flags, program):
        raise OSError("another thread has a filter of its own")
    return (["no programs or other processes"] if no_programs else []) + (
        ["the network is left open"] if network else ["no network sockets"]
    )


def _filter_of(known: Architecture, no_programs: bool, network: bool) -> bytearray:
    """The filter for a process. It must not be changed."""
    code = _filters.get((no_programs, network))
    if code is None:
        refused = {IO_URING_SETUP: errno.EACCES}
        only_with = {known.limits: (IS_EQUAL, 0)}  # calls that are allowed with such a first argument
        if no_programs:
            refused |= dict.fromkeys(known.processes, errno.EACCES)
            refused[CLONE3] = errno.ENOSYS  # its flags are in memory; libraries then use clone(2) for threads
            only_with[known.clone] = HAS_BITS, CLONE_THREAD
        if not network:
            only_with |= dict.fromkeys(known.sockets, (IS_EQUAL, AF_UNIX))
        code = _filters[no_programs, network] = bytearray(_program(known.audit, refused, only_with))
    return code


def _program(audit: int, refused: dict[int, int], only_with: dict[int, tuple[int, int]]) -> bytes:
    """The filter's code. A call takes the first check that is about it: three instructions, or one.

    refused: calls, and the error of each. only_with: calls, and the test that their first argument must pass.
    """
    # Each instruction: code, how many to skip if it is true, and if it is false, operand.
    refuse = (RETURN, 0, 0, REFUSE | errno.EACCES)
    program = [
        (LOAD, 0, 0, ARCHITECTURE),
        (IS_EQUAL, 1, 0, audit),
        refuse,  # all 32-bit calls, which have other numbers
        (LOAD, 0, 0, NUMBER),
        (IS_AT_LEAST, 0, 1, X32),
        refuse,
    ]
    for number, error in sorted(refused.items()):
        program += [(IS_EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE | error)]
    for number, (test, argument) in sorted(only_with.items()):
        program += [
            (IS_EQUAL, 0, 4, number),
            (LOAD, 0, 0, FIRST_ARGUMENT),
            (test, 0, 1, argument),
            (RETURN, 0, 0, ALLOW),
            refuse,
        ]
    program.append((RETURN, 0, 0, ALLOW))
    return b"".join(
        code.to_bytes(2, sys.byteorder) + bytes((yes, no)) + operand.to_bytes(4, sys.byteorder)
        for code, yes, no, operand in program
    )


# --- system calls -------------------------------------------------------------------------------------


def _call(number: int, *arguments: object) -> int:
    """syscall(2). Raises OSError."""
    return libc.check(_syscall(number, *arguments))
