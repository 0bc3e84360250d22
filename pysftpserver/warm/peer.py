"""Finds out who has connected to a local socket and what confines that process; becomes its account for good.

The kernel identifies the peer (SO_PEERCRED, SO_PEERGROUPS), not the peer itself. A process that has given up
rights, such as a session in its sandbox, must not get them back from here. What may not enter: requests.
Facts: unix(7), pidfd_open(2), proc(5) on status, prlimit(2), credentials(7).
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import struct

from pysftpserver.host import privileges
from pysftpserver.host.linux import forbid_new_privileges

CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
SO_PEERGROUPS = 59
MOST_GROUPS = 256
LIMITS = sorted({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")})
NAMESPACES = ("mnt", "user", "pid", "net")
LONGEST_STATUS = 1 << 16  # bytes
ALL_THE_SAME = 4  # real, effective, saved, and for files


class Refused(Exception):
    """The peer is not served. The text says why, for the log."""


class Peer:
    """The process at the other end of a connected socket, as it was when it connected. Raises OSError."""

    def __init__(self, sock: socket.socket) -> None:
        self.pid, self.uid, self.gid = CREDENTIALS.unpack(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        )
        groups = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * MOST_GROUPS)
        self.groups = struct.unpack(f"{len(groups) // 4}I", groups)

    def watch(self) -> None:
        """Let is_alive() tell this process from a later one with the same number. Raises OSError."""
        self._descriptor = os.pidfd_open(self.pid)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def is_alive(self) -> bool:
        """Whether it is still running."""
        return not self._poll.poll(0)

    def forget(self) -> None:
        """Close what watch() has opened."""
        os.close(self._descriptor)

    def take_limits(self) -> None:
        """Take over its resource limits and its priority, as far as this process may. Raises OSError."""
        with contextlib.suppress(PermissionError):  # it is higher than this account may have by itself
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, self.pid))
        for kind in LIMITS:
            soft, hard = theirs = resource.prlimit(self.pid, kind)
            ours = resource.getrlimit(kind)
            if theirs == ours:
                continue
            if ours[1] != resource.RLIM_INFINITY:
                hard = ours[1] if hard == resource.RLIM_INFINITY else min(hard, ours[1])
                soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
            resource.setrlimit(kind, (soft, hard))


def become(peer: Peer) -> None:
    """Become the account of a peer, for good. Raises OSError, or Refused if this process may not.

    An account's own resident is that account already, and refuses peers with other groups.
    """
    forbid_new_privileges()
    if os.geteuid() == 0 and peer.uid:
        privileges.become(privileges.Account(str(peer.uid), peer.uid, peer.gid, peer.groups))
    elif os.geteuid() == 0:
        os.setgroups(peer.groups)
        os.setresgid(peer.gid, peer.gid, peer.gid)
    if os.getresuid() != (peer.uid,) * 3 or os.getresgid() != (peer.gid,) * 3:
        raise Refused("it has another account")
    if {*os.getgroups(), peer.gid} != {*peer.groups, peer.gid}:
        raise Refused("it has other groups than this process")


# --- what confines a process ------------------------------------------------------------------------------


class Bounds:
    """What confines a process. pid: its number, or "self". Raises OSError."""

    def __init__(self, pid: int | str) -> None:
        lines = _content(f"/proc/{pid}/status").decode("ascii", "replace").splitlines()
        self.status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        self.places = [_identity(f"/proc/{pid}/ns/{name}") for name in NAMESPACES]
        self.places.append(_identity(f"/proc/{pid}/root"))
        try:
            self.label = _content(f"/proc/{pid}/attr/current")
        except OSError:
            self.label = b""  # no security module gives processes labels

    def filters(self) -> int:
        """The number of its filters of system calls; before Linux 5.9, only whether it has any."""
        return int((self.status.get("Seccomp_filters") or self.status["Seccomp"])[0])

    def check(self, peer: Peer, ours: Bounds) -> None:
        """Raises Refused if this process (the peer's) is confined in a way that ours is not."""
        for name, number in (("Uid", peer.uid), ("Gid", peer.gid)):
            if self.status[name] != [str(number)] * ALL_THE_SAME:
                raise Refused("it has several user ids")
        if self.status["NoNewPrivs"] != ["0"] or self.filters() > ours.filters():
            raise Refused("it is in a sandbox")
        if self.places != ours.places:
            raise Refused("it has another root or other namespaces")
        if self.label != ours.label and not _is_free(self.label):
            raise Refused("a security module confines it")
        if peer.uid == 0 and self.status["CapEff"] != ours.status["CapEff"]:
            raise Refused("it has other capabilities than this server")


def _is_free(label: bytes) -> bool:
    """Whether no security module confines a process. label: of AppArmor, with a mode, or of SELinux."""
    label = label.rstrip(b"\0\n")
    mode, kind = label.rpartition(b" ")[2], label.split(b":")[2:3]
    return label == b"unconfined" or mode == b"(unconfined)" or kind == [b"unconfined_t"]


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _content(path: str) -> bytes:
    """The content of a file of procfs, which returns it in one piece. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, LONGEST_STATUS)
    finally:
        os.close(descriptor)
