"""One-time codes that were used: no code can be used twice, even if the server is restarted in between.

What may not enter: HTTP, how a code is made.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time

from pysftpserver.people.codes import DRIFT, SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.web.state import State

log = logging.getLogger("pysftpserver.web")
KEPT_FOR = (2 * DRIFT + 2) * SECONDS  # until a code is too old for any clock


class UsedCodes:
    """The codes in the database of a server. Threads may share it. realm: to which the users belong."""

    def __init__(self, state: State, realm: str = "") -> None:
        self._state = state
        self._realm = realm

    def use(self, user: str, step: int) -> bool:
        """Whether the code of a user for that step is used for the first time."""
        code = hashlib.blake2b(
            f"{step} {user}".encode(), digest_size=16, person=self._realm.encode()
        ).digest()
        now = int(time.time())
        try:
            with self._state.change() as connection:
                connection.execute("DELETE FROM used_codes WHERE used < ?", (now - KEPT_FOR,))
                connection.execute("INSERT INTO used_codes VALUES (?, ?)", (code, now))
        except sqlite3.IntegrityError:
            return False
        except sqlite3.Error as error:  # a code that could be used again is refused
            log.error("a one-time code cannot be checked: %s", error)
            return False
        return True
