"""Steps on a host, planned before any is done, and undone if a later one fails: accounts, directories.

What may not enter: the purpose of steps.
"""

from __future__ import annotations

import os
import pwd
import stat
from functools import partial

from pysftpserver.failures import BadInput, Unavailable, one_line, reason_of
from pysftpserver.host import making, privileges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pysftpserver.host.privileges import Account

FOLDER_MODE = 0o700


class Step:
    """Something to do. words: describe it to people. undo: reverts it; None: it cannot be reverted."""

    def __init__(self, words: str, do: Callable[[], None], undo: Callable[[], None] | None = None) -> None:
        self.words = words
        self.do = do
        self.undo = undo


def nothing() -> None:
    """Do nothing, for a step that is done as part of a later one."""


def carry_out(steps: Sequence[Step]) -> None:
    """Do all steps; if one fails or is interrupted, undo what was done. Raises BadInput."""
    done: list[Step] = []
    for step in steps:
        try:
            step.do()
        except BaseException as error:
            left = []
            for one in reversed(done):
                if one.undo is None:
                    left.append(one.words)
                    continue
                try:
                    one.undo()
                except (OSError, BadInput):
                    left.append(one.words)
            if not isinstance(error, (OSError, BadInput)):
                raise
            told = (
                f"; this is done and cannot be undone: {', '.join(left)}" if left else "; nothing was changed"
            )
            reason = error.message if isinstance(error, BadInput) else reason_of(error)
            raise Unavailable(f"{step.words}: {reason}{told}") from None
        done.append(step)


def home_of(account: str) -> str:
    """Raises BadInput."""
    try:
        return pwd.getpwnam(account).pw_dir
    except KeyError:
        raise BadInput(
            f"there is no account {one_line(account)} on this host; make it with --create-account, or name "
            "another with --account"
        ) from None


def has_account(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except (KeyError, ValueError):
        return False
    return True


def own_account(name: str) -> Account:
    """Raises BadInput."""
    try:
        return privileges.account(name)
    except ValueError as error:
        raise BadInput(f"{error}; name another account") from None


def new_account(name: str, home: str, group: str | None, makes_home: bool) -> Step:
    return Step(
        f"make the account {name}",
        lambda: making.make_account(name, home, group, makes_home),
        lambda: making.remove_account(name),
    )


def is_half_made(folder: str, found: os.stat_result) -> bool:
    """Whether this was ended after it had made a folder and before it gave it away."""
    return found.st_uid == 0 and stat.S_IMODE(found.st_mode) == FOLDER_MODE and not os.listdir(folder)


def new_directory(
    path: str, mode: int, owner: str | None, actor: str | None, is_half_made: bool = False
) -> Step:
    """Make a directory. owner: root gives it to this account. actor: the account that makes it instead, if
    the owner could lead root elsewhere. is_half_made: it exists already, and is root's.
    """

    def make() -> None:
        own = own_account(owner) if owner is not None else None
        is_owners = own is not None and (owner == actor or making.is_led_by(own, path))
        with making.acting_as(own if is_owners and not is_half_made else None):
            if not is_half_made:
                os.mkdir(path, mode)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                found = os.fstat(descriptor)
                if found.st_uid != os.geteuid() or os.listdir(descriptor):
                    raise BadInput("something else has been put there; try again")
                os.fchmod(descriptor, mode)
                if own is not None and os.geteuid() == 0:
                    os.fchown(descriptor, own.uid, own.gid)
            finally:
                os.close(descriptor)

    undo = nothing if is_half_made else partial(os.rmdir, path)
    return Step(f"{'give away' if is_half_made else 'make'} the directory {path}", make, undo)
