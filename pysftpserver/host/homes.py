"""Finds out whether a directory contains files from which an account runs programs, such as its home.

A client that can write to such a directory can run programs as the account: the next login reads a .bashrc.
What may not enter: jails, options. Facts: sshd(8) on files, bash(1) and zsh(1) on start-up files.
"""

from __future__ import annotations

import os
import pwd

#: Files and directories below a home directory from which sshd, a login shell or systemd runs programs.
START_UP = (
    *(f".ssh/{name}" for name in ("authorized_keys", "authorized_keys2", "rc", "environment", "config")),
    *(".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".profile", ".pam_environment", ".forward"),
    *(".zshenv", ".zshrc", ".zprofile", ".zlogin", ".zlogout", ".kshrc", ".cshrc", ".tcshrc", ".login"),
    *(f".config/{name}" for name in ("fish", "systemd", "autostart", "environment.d")),
    *("bin", ".local/bin", ".local/share/systemd"),
)


def held_by(directory: str) -> str | None:
    """The home directory of this process's account, or a start-up file there, if it is in a directory.

    It need not exist yet: a client could create it. Raises OSError if the directory does not exist.
    """
    root = os.stat(directory)
    directory = os.path.realpath(directory)
    for home in _homes():
        if is_in(home, root):
            return home
        if is_below(directory, home):
            for name in START_UP:
                if is_below(os.path.join(home, name), directory):
                    return os.path.join(home, name)
        for name in (".ssh", ".config", ".local", *START_UP):
            path = os.path.join(home, name)
            if os.path.islink(path) and is_in(path, root):
                return path
    return None


def _homes() -> list[str]:
    """The account's home directories, without links: that of login shells, and that of sshd."""
    homes = {os.environ.get("HOME", "")}
    try:
        homes.add(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        pass  # the account has no name
    return sorted(os.path.realpath(home) for home in homes if home.startswith("/"))


def is_below(path: str, directory: str) -> bool:
    """Whether a path is that of a directory or below it. Both are without links."""
    return directory != "/" and f"{path}/".startswith(f"{directory}/")


def is_in(path: str, root: os.stat_result) -> bool:
    """Whether a path leads to a directory, or below it. root: its os.stat().

    By device and inode, because a directory may be mounted at several places.
    """
    path = os.path.realpath(path)
    while True:
        try:
            if os.path.samestat(os.stat(path), root):
                return True
        except OSError:
            pass  # a path that does not exist is in a directory all the same
        above = os.path.dirname(path)
        if above == path:
            return False
        path = above
