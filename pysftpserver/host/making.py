"""Makes and removes accounts and groups with the host's own tools, and acts as an account for a while.

What may not enter: what accounts are for. Facts: useradd(8), groupadd(8), userdel(8), credentials(7).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat

from pysftpserver.failures import Unavailable, one_line
from pysftpserver.host.reaching import MOST_LINKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pysftpserver.host.privileges import Account

SHELL = "/bin/sh"
MARK = "pysftp-users"  # the comment of accounts that are made here
NO_PASSWORD = "*"  # matches no password; "!" would make sshd without PAM refuse keys as well
TOOLS = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def make_group(name: str) -> None:
    """Make a group. Raises Unavailable."""
    _run("groupadd", "--system", name)


def make_account(name: str, home: str, group: str | None, makes_home: bool) -> None:
    """Make an account without a password, and with a shell with which sshd can run a command.

    Raises Unavailable.
    """
    home_words = ["--create-home"] if makes_home else ["--no-create-home"]
    group_words = ["--groups", group] if group else []
    words = ["--system", "--user-group", *group_words, *home_words, "--home-dir", home]
    _run("useradd", *words, "--shell", SHELL, "--password", NO_PASSWORD, "--comment", MARK, name)


def remove_account(name: str) -> None:
    """Remove an account and leave its files. Raises Unavailable."""
    _run("userdel", name)


def remove_group(name: str) -> None:
    """Remove a group. Raises Unavailable."""
    _run("groupdel", name)


def was_made_here(name: str) -> bool:
    """Whether make_account() has made an account."""
    import pwd

    return pwd.getpwnam(name).pw_gecos.partition(",")[0] == MARK


def is_led_by(account: Account, path: str) -> bool:
    """Whether an account could make a path lead elsewhere: it can write to a parent, or owns a link."""
    todo, at, links = os.path.abspath(path).split("/")[1:-1], "/", 0
    while True:
        try:
            found = os.lstat(at)
        except OSError:
            return False  # whoever creates it will own it
        mode = found.st_mode
        is_open = mode & stat.S_IWOTH or (mode & stat.S_IWGRP and found.st_gid in account.groups)
        is_link = stat.S_ISLNK(mode)
        if found.st_uid == account.uid or (is_open and not mode & stat.S_ISVTX and not is_link):
            return True
        if is_link:
            links += 1
            if links > MOST_LINKS:
                return True
            target = os.readlink(at)
            todo = [part for part in target.split("/") if part] + todo
            at = "/" if target.startswith("/") else os.path.dirname(at)
        if not todo:
            return False
        name = todo.pop(0)
        at = os.path.dirname(at) if name == ".." else os.path.join(at, name)


@contextlib.contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Access files as an account until the end of the block. Only root changes; None: no change.

    An account can redirect any path that it can write to: root must not follow.
    """
    if account is None or os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    mask = os.umask(0o077)
    try:
        os.setgroups(account.groups)
        os.setegid(account.gid)
        os.seteuid(account.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
        os.umask(mask)


def _run(tool: str, *words: str) -> None:
    import subprocess

    path = shutil.which(tool, path=TOOLS)
    if path is None:
        raise Unavailable(f"{tool} is not installed; make or remove the account yourself")
    done = subprocess.run([path, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        said: Sequence[str] = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        raise Unavailable(f"{tool} {words[-1]}: {one_line(said[-1].removeprefix(f'{tool}: '))}")
