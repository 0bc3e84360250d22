"""Removes what a probe has made, and nothing else: every path is below the probe's own directory.

Links are never followed: only what is known to be a directory is listed, even on a server whose LSTAT follows
links. What may not enter: beginning sessions, time limits (those are the line's).
"""

from __future__ import annotations

import stat

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract import packets
from pysftpserver.contract.client import EOF, MOST_NAMES, NOT_FOUND, Broken, Refused, refusal_of
from pysftpserver.engine import wire
from pysftpserver.failures import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.client import Client

AT_ONCE = 64  # requests in flight
DEEPEST = 200  # nested directories; no rule makes half as many
MOST_LEFT = 1000  # paths left behind that are named
LONGEST_LEFT = 2000  # characters of one of these paths
ALL = 0o700  # what the owner needs to empty a directory


def remove_tree(client: Client, top: bytes) -> list[str]:
    """Remove a directory and its contents; return what could not be removed, each with its reason.

    Raises Closed, Silent and Broken when the session is no longer usable.
    """
    left: list[str] = []
    _remove(client, top, left, 0)
    more = len(left) - MOST_LEFT
    left = [what if len(what) <= LONGEST_LEFT else f"{what[:LONGEST_LEFT]}..." for what in left[:MOST_LEFT]]
    if more > 0:
        left.append(f"{show(top)}: {more} more")
    if not left and refusal_of(client.lstat, top) is None:
        left.append(f"{show(top)}: RMDIR was answered with OK, and it is still there")
    return left


def _remove(client: Client, directory: bytes, left: list[str], depth: int) -> None:
    """Remove a directory, which must not be a link."""
    refusal = refusal_of(client.rmdir, directory)
    if refusal is None or refusal.status == NOT_FOUND:
        return
    if depth > DEEPEST or not _is_directory(client, directory):
        left.append(f"{show(directory)}: {refusal}")
        return
    if (mode := _mode(client, directory)) is None or mode & ALL != ALL:
        # A server that cannot do this, or need not, may refuse it.
        refusal_of(client.setstat, directory, SFTPAttributes(permissions=ALL))
    try:
        names = _names(client, directory)
    except Refused as refused:
        left.append(f"{show(directory)}: {refused}")
        return
    before = len(left)
    for path, why in _not_removed(client, [directory.rstrip(b"/") + b"/" + name for name in names]):
        if _is_directory(client, path):
            _remove(client, path, left, depth + 1)
        else:
            left.append(f"{show(path)}: {why}")
    refusal = refusal_of(client.rmdir, directory)
    if refusal is not None and refusal.status != NOT_FOUND and len(left) == before:
        left.append(f"{show(directory)}: {refusal}")


def _names(client: Client, directory: bytes) -> list[bytes]:
    """The names in a directory, without any that could lead elsewhere.

    A listing that repeats itself is taken to be at its end.
    """
    handle = client.opendir(directory)
    names: dict[bytes, None] = {}
    try:
        while True:
            before = len(names)
            names |= dict.fromkeys(name for name, _, _ in client.readdir(handle))
            if len(names) == before:
                break
            if len(names) > MOST_NAMES:
                raise Broken(f"READDIR does not come to an end: {len(names)} names")
    except Refused as refusal:
        if refusal.status != EOF:
            raise
    finally:
        refusal_of(client.close_handle, handle)
    return [name for name in names if _is_plain(name)]


def _is_plain(name: bytes) -> bool:
    """Whether it is a single name. Servers on Windows take a backslash for a slash, so `..` could lead up."""
    return name != b"" and not {b".", b".."} & set(name.split(b"\\")) and not {*b"/\0"} & {*name}


def _not_removed(client: Client, paths: list[bytes]) -> list[tuple[bytes, Refused]]:
    """Send REMOVE for each path; return the paths that were refused, with the refusals."""
    refused = []
    for start in range(0, len(paths), AT_ONCE):
        some = paths[start : start + AT_ONCE]
        requests = [(path, client.send(wire.SSH2_FXP_REMOVE, packets.sftpstring(path))) for path in some]
        for path, request in requests:
            try:
                client.expect("REMOVE", client.reply(request), packets.get_sftpstatus)
            except Refused as refusal:
                if refusal.status != NOT_FOUND:
                    refused.append((path, refusal))
    return refused


def _mode(client: Client, path: bytes) -> int | None:
    try:
        return client.lstat(path).permissions
    except Refused:
        return None


def _is_directory(client: Client, path: bytes) -> bool:
    """Whether it is a directory, and not a link to one. False if the server does not say."""
    mode = _mode(client, path)
    has_type = mode is not None and stat.S_IFMT(mode) != 0
    if has_type and not stat.S_ISDIR(mode or 0):
        return False
    if has_type and not client.lstat_follows:
        return True
    # Only a link can be read with READLINK, and only a directory can be listed.
    return refusal_of(client.readlink, path) is not None and _can_be_listed(client, path)


def _can_be_listed(client: Client, path: bytes) -> bool:
    try:
        client.close_handle(client.opendir(path))
    except Refused:
        return False
    return True
