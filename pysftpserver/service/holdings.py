"""Counts a limited resource that users hold: each up to a limit, and all up to a ceiling.

Threads may share it. What may not enter: what is counted, sockets.
"""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary

from pysftpserver.pysftpexceptions import SFTPLimitReached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Holdings:
    """The holdings of all users. what: the name in messages ("open files and directories"). setting: the name
    of the limit. each: the limit of one user. is_full: whether a total has reached the ceiling. refused:
    called with the setting's name, or with "descriptors", when more is refused.
    """

    def __init__(
        self,
        what: str,
        setting: str,
        each: int,
        is_full: Callable[[int], bool] = lambda count: False,
        refused: Callable[[str], None] = lambda limit: None,
    ) -> None:
        self.what = what
        self.setting = setting
        self.each = each
        self.is_full = is_full
        self.refused = refused
        self.count = 0
        self.lock = threading.Lock()
        self._holdings: WeakValueDictionary[str, Holding] = WeakValueDictionary()

    def of(self, user: str) -> Holding:
        """The holding of one user, in all sessions."""
        holding = self._holdings.get(user)
        if holding is None:
            holding = self._holdings[user] = Holding(self)
        return holding


class Holding:
    """The amount that one user holds."""

    def __init__(self, all_users: Holdings) -> None:
        self._all = all_users
        self.count = 0

    def check(self) -> None:
        """Raises SFTPLimitReached if the user may have no more. Each thread may exceed the limit by one."""
        all_users = self._all
        if self.count >= all_users.each:
            all_users.refused(all_users.setting)
            raise SFTPLimitReached(f"{all_users.each} {all_users.what} of one user ({all_users.setting})")
        if all_users.is_full(all_users.count):
            all_users.refused("descriptors")
            raise SFTPLimitReached(f"{all_users.count} {all_users.what} of all users; try again later")

    def add(self, change: int) -> None:
        """The user has that many more, or fewer if it is negative."""
        with self._all.lock:
            self.count += change
            self._all.count += change
