"""A server on its standard input: ``python -m tests.security.served WAY DIRECTORY LOG [MOUNT ...]``.

WAY: openat2 or walk, a jail that resolves paths so; naive, the jail that is none, for which LOG is not
below DIRECTORY's chroot. MOUNT: KIND=SOURCE=TARGET, mounted in a mount namespace of this process's own
before the jail is opened, so that it is gone with the process: KIND is proc, tmpfs or bind.
Status 3: this machine does not let it mount. Facts: unshare(2), mount(2), user_namespaces(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

from pysftpserver.server import SFTPServer
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.security.swapper import end_with_the_parent, take_processor

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
CANNOT_MOUNT = 3

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    name = kind.encode() if kind else None
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), name, ctypes.c_ulong(flags), None))


def protect(temporary: str) -> None:
    """Let this process of root's write in one directory only, should the jail not hold one day.

    In a mount namespace of its own everything else is read-only. (Through /proc/1/root it would not be;
    the tests that try that way ask for nothing there that could change anything.)
    """
    _check(_libc.unshare(CLONE_NEWNS))
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    with open("/proc/self/mountinfo", "rb") as file:
        points = [os.fsdecode(line.split()[4]) for line in file]
    _mount(temporary, temporary, None, MS_BIND)
    for point in points:
        with contextlib.suppress(OSError):  # of what is mounted over
            _mount("none", point, None, MS_REMOUNT | MS_BIND | MS_RDONLY)


def mount_all(mounts: list[str]) -> None:
    """Mount what is asked for, where nobody else sees it. Raises OSError where that is not allowed."""
    uid, gid = os.getuid(), os.getgid()
    if _libc.unshare(CLONE_NEWNS):  # not root: then as the root of a user namespace
        _check(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    for line in mounts:
        kind, source, target = line.split("=")
        if kind == "proc":
            try:
                _mount("proc", target, "proc", 0)
            except PermissionError:  # in a user namespace: the machine's own, once more
                _mount("/proc", target, None, MS_BIND | MS_REC)
        elif kind == "tmpfs":
            _mount("tmpfs", target, "tmpfs", 0)
        else:
            _mount(source, target, None, MS_BIND)


def naive(directory: str) -> SFTPServer:
    """A session of the naive jail, shut into the temporary directory that the jail's own parent is."""
    import grp
    import pwd

    from pysftpserver import stdio  # noqa: F401 -- nothing can be imported from within
    from pysftpserver.engine import checksums  # noqa: F401
    from pysftpserver.host import linux  # noqa: F401
    from tests.security.naive import NaiveJail

    above, name = os.path.split(os.path.realpath(directory))
    pwd.getpwuid(os.getuid())
    grp.getgrgid(os.getgid())
    if os.getuid():
        return SFTPServer(NaiveJail(directory))  # with the rights of a user, on links to the canaries only
    os.chroot(os.path.dirname(above))
    os.chdir("/")
    return SFTPServer(NaiveJail(f"/{os.path.basename(above)}/{name}"))


def main(way: str, directory: str, log: str, *mounts: str) -> int:
    end_with_the_parent()
    take_processor(swapper=False)
    temporary = os.path.dirname(os.path.dirname(directory))
    if os.getuid() == 0:
        with contextlib.suppress(PermissionError):  # in a container that has no such rights to lose
            protect(temporary)
    if mounts:
        try:
            mount_all(list(mounts))
        except OSError as error:
            print(error, file=sys.stderr)
            return CANNOT_MOUNT
    os.umask(0o022)
    if way == "naive":
        return naive(directory).run()
    # A umask of its own makes the jail set modes of new directories by a second look at their path.
    jail = SFTPServerVirtualChroot(directory, umask=0o002, use_openat2=way == "openat2")
    return SFTPServer(jail, logfile=log).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
