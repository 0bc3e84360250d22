"""Gives up root's rights for good: all of them, to become an account of the host, or all but a few.

What may not enter: which process may be which account, sessions.
Facts: capabilities(7), credentials(7), setresuid(2), prctl(2), getpwnam(3), getgrouplist(3).
"""

from __future__ import annotations

import contextlib
import os
import struct

from pysftpserver.failures import one_line
from pysftpserver.host import libc
from pysftpserver.host.linux import forbid_new_privileges, prctl

KILL, SETGID, SETUID = 5, 6, 7  # capabilities
TO_BECOME_OTHERS = frozenset((KILL, SETGID, SETUID))  # and to end processes that have become others
UMASK = 0o022  # of an account's sessions
STARTERS_VARIABLES = ("HOME", "USER", "LOGNAME", "USERNAME", "MAIL", "SHELL", "XDG_RUNTIME_DIR")
PR_SET_DUMPABLE, PR_CAPBSET_DROP = 4, 24
HIGHEST = 63  # the highest capability that the kernel's masks have room for
VERSION_3 = 0x20080522  # of capset(2)'s arguments

_capset = libc.function("capset")


class Account:
    """An account of the host, with all groups that it is in."""

    __slots__ = ("gid", "groups", "name", "uid")

    def __init__(self, name: str, uid: int, gid: int, groups: tuple[int, ...]) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.groups = groups


def account(name: str) -> Account:
    """The host's account with that name. Raises ValueError if there is none, or it is root's."""
    import pwd

    try:
        found = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise ValueError(f"there is no account {one_line(name)} on this host") from None
    if found.pw_uid == 0:
        raise ValueError(f"account {one_line(name)} has uid 0: nothing is served as root")
    groups = os.getgrouplist(found.pw_name, found.pw_gid)
    return Account(found.pw_name, found.pw_uid, found.pw_gid, tuple(groups))


def group_number(name: str) -> int | None:
    """The number of the group with that name; None: there is none."""
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


def has(capabilities: frozenset[int]) -> bool:
    """Whether this process has all of these."""
    with open("/proc/self/status") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    return all(effective >> number & 1 for number in capabilities)


def keep_only(capabilities: frozenset[int]) -> None:
    """Give up all other capabilities, also those that programs could give back. Raises OSError."""
    _bound(capabilities)
    mask = sum(1 << number for number in capabilities)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("=Ii", VERSION_3, 0)
    libc.check(_capset(header, struct.pack("=6I", low, low, 0, high, high, 0)))  # effective, permitted
    forbid_new_privileges()


def become(wanted: Account) -> None:
    """Become an account, without any capability and without root's environment.

    Other processes of the account cannot look into this one's memory. Raises OSError.
    """
    _bound(frozenset())
    os.setgroups(wanted.groups)
    os.setresgid(wanted.gid, wanted.gid, wanted.gid)
    os.setresuid(wanted.uid, wanted.uid, wanted.uid)  # this drops root's capabilities as well
    keep_only(frozenset())
    prctl(PR_SET_DUMPABLE, 0)
    os.umask(UMASK)
    for name in STARTERS_VARIABLES:
        os.environ.pop(name, None)
    ids = (*os.getresuid(), *os.getresgid())
    if ids != (wanted.uid,) * 3 + (wanted.gid,) * 3 or set(os.getgroups()) != set(wanted.groups):
        raise OSError(f"this process has not become {wanted.name}")
    for again in (os.setuid, os.setgid):
        with contextlib.suppress(OSError):
            again(0)
            os._exit(1)  # root's rights could be regained: nothing may be served


def _bound(capabilities: frozenset[int]) -> None:
    """Limit the capabilities of programs that this process runs; if not allowed, only no_new_privs does."""
    for number in range(HIGHEST + 1):
        if number not in capabilities:
            with contextlib.suppress(OSError):  # the kernel does not know it, or this process may not
                prctl(PR_CAPBSET_DROP, number)
