"""Confines this process and those that it starts: they see all files, and can write to few of them.

A server may do anything with a strange request: one moved its user's home into the probe's directory, and the
probe removes everything there. What may not enter: servers. Facts: mount(2) on MS_REMOUNT with MS_BIND,
user_namespaces(7), mount_namespaces(7) on locked flags, proc_pid_mountinfo(5).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _NOATIME, _NODIRATIME = 1, 2, 4, 8, 1024, 2048
_REMOUNT, _BIND, _REC, _PRIVATE, _RELATIME = 32, 4096, 16384, 1 << 18, 1 << 21
_FLAGS = {
    "nosuid": _NOSUID,
    "nodev": _NODEV,
    "noexec": _NOEXEC,
    "noatime": _NOATIME,
    "nodiratime": _NODIRATIME,
    "relatime": _RELATIME,
}
#: Kernel file systems, which are not for files and have to stay as they are.
_KERNELS = ("/proc", "/sys", "/dev")
_libc = ctypes.CDLL(None, use_errno=True)


def confine(*writable: Path) -> None:
    """Leave only these directories, which must exist, and an empty /run writable.

    Raises OSError if the kernel does not allow it.
    """
    uid, gid = os.getuid(), os.getgid()
    _call("unshare", _NEWNS | (_NEWUSER if uid else 0))
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _mount("none", "/", "", _REC | _PRIVATE)
    for path in writable:
        _mount(str(path), str(path), "", _BIND)
    kept = {str(path) for path in writable}
    for place, options in _mounts():
        if place not in kept and not any(place == top or place.startswith(top + "/") for top in _KERNELS):
            flags = sum(_FLAGS.get(option, 0) for option in options.split(","))
            _mount("none", place, "", _REMOUNT | _BIND | _RDONLY | flags)
    _mount("tmpfs", "/run", "tmpfs", _NOSUID | _NODEV)


def _mounts() -> list[tuple[str, str]]:
    """(place, options) of all mounts, in the order of mounting; each place once."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        found[fields[4].encode().decode("unicode_escape")] = fields[5]
    return list(found.items())


def _mount(source: str, place: str, kind: str, flags: int) -> None:
    _call("mount", source.encode(), place.encode(), kind.encode() or None, flags, None)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
