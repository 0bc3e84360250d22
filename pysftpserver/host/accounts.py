"""Names of the host's users and groups by their numbers.

Storages of real files show them in listings. A sandboxed process can no longer open the host's databases, so
keep() opens them beforehand. What may not enter: storages, anything except names and numbers.
Facts: getpwuid(3), nsswitch.conf(5), passwd(5), group(5).
"""

from __future__ import annotations

import os

from pysftpserver.failures import one_line, reason_of

USERS, GROUPS = "/etc/passwd", "/etc/group"


def username(uid: int) -> bytes | None:
    """The name of a user, or None."""
    import pwd

    try:
        return os.fsencode(pwd.getpwuid(uid).pw_name)
    except (KeyError, OverflowError):
        return _kept_name(USERS, uid)


def groupname(gid: int) -> bytes | None:
    """The name of a group, or None."""
    import grp

    try:
        return os.fsencode(grp.getgrgid(gid).gr_name)
    except (KeyError, OverflowError):
        return _kept_name(GROUPS, gid)


def own_reason(error: BaseException) -> str:
    """As reason_of(), with the name of this process's account if it lacks permission: it may not be the one
    that started the program.
    """
    if not isinstance(error, PermissionError):
        return reason_of(error)
    uid = os.geteuid()
    name = username(uid)
    account = f"uid {uid}" if name is None else f"user {one_line(os.fsdecode(name))}"
    return f"{reason_of(error)} for {account}{_closed_directory(error.filename)}"


def _closed_directory(path: object) -> str:
    """A text that names the directory above a file that this process may not enter; "": it may enter all."""
    if not isinstance(path, str):
        return ""
    above = "/"
    for name in os.path.abspath(path).split("/")[1:]:
        if not os.access(above, os.X_OK, effective_ids=True):
            return f", which may not enter {one_line(above)}"
        above = os.path.join(above, name)
    return ""


def own_group() -> str:
    """The name of this process's group, for commands that give it a file."""
    name = groupname(os.getegid())
    return str(os.getegid()) if name is None else os.fsdecode(name)


def own_name() -> str:
    """The name of the account that has started this process, or its uid."""
    name = username(os.getuid())
    return f"uid {os.getuid()}" if name is None else os.fsdecode(name)


def keep() -> None:
    """Open what username() and groupname() need, before a sandbox prevents it.

    The local files are kept open. Other databases (LDAP, for example) are queried once, so that their library
    is loaded and connected; if they do not answer inside a sandbox, listings show numbers.
    """
    for path, known, number in ((USERS, username, os.getuid()), (GROUPS, groupname, os.getgid())):
        if path not in _kept:
            known(number)
            try:
                _kept[path] = _Database(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                pass  # a host without this file


def _kept_name(path: str, number: int) -> bytes | None:
    database = _kept.get(path)
    return database.name(number) if database is not None else None


class _Database:
    """passwd(5) or group(5) behind a descriptor, read when it is first needed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._names: dict[int, bytes] | None = None

    def name(self, number: int) -> bytes | None:
        if self._names is None:
            self._names = _parse(self._descriptor)
        return self._names.get(number)


_kept: dict[str, _Database] = {}


def _parse(descriptor: int) -> dict[int, bytes]:
    """Names by number, from lines `name:password:number:...`; the first line with a number counts."""
    names: dict[int, bytes] = {}
    with open(os.dup(descriptor), "rb") as lines:
        lines.seek(0)
        for line in lines:
            fields = line.split(b":", 3)
            if len(fields) > 3 and fields[2].isdigit():
                names.setdefault(int(fields[2]), fields[0])
    return names
