"""Decides which system account each session runs as, by the configuration that root started with.

The process that serves SSH says who has logged in. The account is decided here, in the process that becomes
it: that process has read the configuration before, takes nothing from clients, and keeps its list when the
other one rereads its settings. What may not enter: SSH, storages.
"""

from __future__ import annotations

import os

from pysftpserver.failures import BadInput, one_line, reason_of
from pysftpserver.host import privileges
from pysftpserver.host.privileges import Account
from pysftpserver.people.records import folder_problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.people.users import User
    from pysftpserver.sshd.config import ServerSettings

GROUP = "@"  # in front of the name of a group, whose members sessions may run as


class RunAs:
    """The accounts that sessions may run as.

    own: the server's account, for users who have no other. names: accounts and @groups that are allowed.
    default: the account of users who have none of their own, which is allowed as well.
    """

    def __init__(self, own: Account, names: tuple[str, ...], default: str | None) -> None:
        self._own = own
        self._names = names
        self._default = default

    def account_of(self, user: User) -> Account:
        """The account that a session of a user runs as, looked up each time. Raises ValueError."""
        problem = folder_problem(user.folder)  # the other process is not trusted
        if problem:
            raise ValueError(problem)
        name = user.run_as or self._default
        if name is None:
            return self._own
        account = privileges.account(name)
        if name != self._default and not self._allows(account):
            raise ValueError(f"run_as {one_line(name)}: not in run_as_accounts")
        return account

    def _allows(self, account: Account) -> bool:
        groups = (name.removeprefix(GROUP) for name in self._names if name.startswith(GROUP))
        return account.name in self._names or any(
            privileges.group_number(group) in account.groups for group in groups
        )


def own_account(settings: ServerSettings, path: str | None) -> Account | None:
    """The account that the server is to become, if root has started it; None: it stays as it is.

    path: the settings file, which root must own, because root acts on it. Raises BadInput.
    """
    wants_others = settings.run_as is not None or bool(settings.run_as_accounts)
    if settings.account is None:
        if wants_others:
            raise BadInput("run_as needs account: start pysftpd as root, and name its own account there")
        settings.refuse_root()
        return None
    try:
        own = privileges.account(settings.account)
        if settings.run_as is not None:
            privileges.account(settings.run_as)
    except ValueError as error:
        raise BadInput(f"account, run_as: {error}; name an existing account") from None
    if own.uid == os.geteuid() and not wants_others:
        return None  # it is that already: its predecessor became it
    if not privileges.has(privileges.TO_BECOME_OTHERS):
        raise BadInput("account: only root can start pysftpd as another account; CAP_SETUID, CAP_SETGID and "
                       "CAP_KILL are needed")  # fmt: skip
    if wants_others and settings.isolation != "process":
        raise BadInput("run_as needs isolation = process: threads are all the server's own account")
    if path is not None:
        from pysftpserver.people.users_file import read_trusted  # here, because it imports a lot

        read_trusted(path, "configuration")
    return own


def become_own(account: Account) -> None:
    """Become the server's account. Raises OSError, and BadInput if that cannot read the code to run."""
    privileges.become(account)
    for path in (os.__file__, __file__):
        try:
            open(path, "rb").close()
        except OSError as error:
            raise BadInput(
                f"account {account.name}: {path}: {reason_of(error)}; install Python and pysftpserver "
                "where this account can read them"
            ) from None


def policy(settings: ServerSettings, own: Account | None) -> RunAs | None:
    """Which accounts sessions run as; None: all run as the server's, so root's rights are not needed."""
    if own is None or not (settings.run_as or settings.run_as_accounts):
        return None
    return RunAs(own, settings.run_as_accounts or (), settings.run_as)
