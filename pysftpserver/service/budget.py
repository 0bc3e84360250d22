"""Counts what users have of something that is finite: each up to a limit, and all up to a ceiling.

Threads may share it. What may not enter: what is counted, sockets.
"""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary

from pysftpserver.pysftpexceptions import SFTPLimitReached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Budget:
    """What all users have. what: its name in messages ("open files and directories"). setting: the name of
    the limit. each: the limit of one user. is_full: whether that many in all are as many as there may be.
    refused: called with the setting's name, or with "descriptors", when more is refused.
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
        self._shares: WeakValueDictionary[str, Share] = WeakValueDictionary()

    def share(self, user: str) -> Share:
        """What one user has, in all sessions."""
        share = self._shares.get(user)
        if share is None:
            share = self._shares[user] = Share(self)
        return share


class Share:
    """What one user has."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.count = 0

    def check(self) -> None:
        """Raises SFTPLimitReached when the user may have no more. It may be exceeded by one a thread."""
        budget = self._budget
        if self.count >= budget.each:
            budget.refused(budget.setting)
            raise SFTPLimitReached(f"{budget.each} {budget.what} of one user ({budget.setting})")
        if budget.is_full(budget.count):
            budget.refused("descriptors")
            raise SFTPLimitReached(f"{budget.count} {budget.what} of all users; try again later")

    def add(self, change: int) -> None:
        """The user has that many more, or fewer if it is negative."""
        with self._budget.lock:
            self.count += change
            self._budget.count += change
