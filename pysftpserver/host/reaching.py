"""Why this process cannot reach a file: the directory on the way that stops it.

What may not enter: other accounts, what the file is for. Facts: path_resolution(7).
"""

from __future__ import annotations

import os
import stat

from pysftpserver.failures import reason_of

MOST_LINKS = 40


def blocked(path: str) -> str | None:
    """Why this process cannot read and run the file that a path leads to, or None."""
    todo, at, links = os.path.abspath(path).split("/")[1:], "/", 0
    while todo:
        name = todo.pop(0)
        here = os.path.join(at, name)
        try:
            found = os.lstat(here)
        except OSError as error:
            if isinstance(error, PermissionError):
                return f"{path}: {at} may not be entered by this account (mode {mode_of(at)})"
            return f"{path}: {here}: {reason_of(error)}"
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > MOST_LINKS:
                return f"{path}: too many links"
            target = os.readlink(here)
            todo = [part for part in target.split("/") if part] + todo
            at = "/" if target.startswith("/") else at
        else:
            at = here
    if not os.access(at, os.R_OK | os.X_OK):
        return f"{path}: {at} may not be read and run by this account (mode {mode_of(at)})"
    return None


def mode_of(path: str) -> str:
    """The permissions of the file at a path, in octal."""
    try:
        return f"{stat.S_IMODE(os.stat(path).st_mode):04o}"
    except OSError:
        return "unknown"
