"""Removes what a probe has made, and nothing else: every path is below a directory of the probe's own.

Nothing is followed: what is not known to be a directory is never listed. What may not enter: sessions being
begun, time limits (those are the line's).
"""

from __future__ import annotations

import stat

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract import packets
from pysftpserver.contract.client import NOT_FOUND, Refused, refusal_of
from pysftpserver.engine import wire
from pysftpserver.failures import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.client import Client

AT_ONCE = 64  # requests in flight
DEEPEST = 200  # directories below the first; no rule makes half as many
ALL = 0o700  # what the owner needs to empty a directory


def remove_tree(client: Client, top: bytes) -> list[str]:
    """Remove a directory with all that is in it; return what could not be removed, each with its reason.

    Raises Closed, Silent and Broken when the session is of no use any more.
    """
    left: list[str] = []
    _remove(client, top, left, 0)
    if not left and refusal_of(client.lstat, top) is None:
        left.append(f"{show(top)}: RMDIR was answered with OK, and it is still there")
    return left


def _remove(client: Client, directory: bytes, left: list[str], depth: int) -> None:
    """Remove a directory, which must not be a link."""
    refusal = refusal_of(client.rmdir, directory)
    if refusal is None or refusal.status == NOT_FOUND:
        return
    if not _is_directory(client, directory):
        left.append(f"{show(directory)}: {refusal}")
        return
    if depth > DEEPEST:
        left.append(f"{show(directory)}: too deep")
        return
    if (mode := _mode(client, directory)) is None or mode & ALL != ALL:
        # A server that cannot do this, or need not, may refuse.
        refusal_of(client.setstat, directory, SFTPAttributes(permissions=ALL))
    try:
        names = [name for name, _, _ in client.listing(directory) if _is_plain(name)]
    except Refused as refused:
        left.append(f"{show(directory)}: {refused}")
        return
    paths = [directory.rstrip(b"/") + b"/" + name for name in names]
    for path in _not_removed(client, paths):
        if _is_directory(client, path):
            _remove(client, path, left, depth + 1)
    refusal = refusal_of(client.rmdir, directory)
    if refusal is not None and refusal.status != NOT_FOUND:
        left.append(f"{show(directory)}: {refusal}")


def _is_plain(name: bytes) -> bool:
    """Whether a name from a listing is one entry of that directory, and leads nowhere else."""
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name


def _not_removed(client: Client, paths: list[bytes]) -> list[bytes]:
    """Send REMOVE for each path; return those for which it was refused."""
    refused = []
    for start in range(0, len(paths), AT_ONCE):
        some = paths[start : start + AT_ONCE]
        requests = [(path, client.send(wire.SSH2_FXP_REMOVE, packets.sftpstring(path))) for path in some]
        for path, request in requests:
            if client.status_in(client.reply(request))[0] != 0:
                refused.append(path)
    return refused


def _mode(client: Client, path: bytes) -> int | None:
    try:
        return client.lstat(path).permissions
    except Refused:
        return None


def _is_directory(client: Client, path: bytes) -> bool:
    """Whether it is a directory and no link to one. A server that does not say so: no."""
    mode = _mode(client, path)
    if mode is not None and stat.S_IFMT(mode):
        return stat.S_ISDIR(mode)
    # No type in its attributes: a link can be read, and only a directory can be listed.
    return refusal_of(client.readlink, path) is not None and _can_be_listed(client, path)


def _can_be_listed(client: Client, path: bytes) -> bool:
    try:
        client.close_handle(client.opendir(path))
    except Refused:
        return False
    return True
