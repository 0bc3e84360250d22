"""Compares passwords and one-time codes with those of users; a right one takes as long as a wrong one.

What may not enter: the order in which a client sends them, words for the client.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from functools import partial

from pysftpserver.failures import reason_of
from pysftpserver.people import codes, passwords
from pysftpserver.people.lookups import ID, is_looked_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from pysftpserver.people.updating import UserDirectory
    from pysftpserver.people.users import User
    from pysftpserver.service.fair import FairThreads
    from pysftpserver.service.shared import Penalties

    class Used(Protocol):
        """Codes that were used."""

        def use(self, user: str, step: int) -> bool:
            """Whether the code of a user for that step is used for the first time."""

    class Keeper(Protocol):
        """Knows which codes were used, and how many were wrong."""

        @property
        def codes(self) -> Used: ...

        @property
        def penalties(self) -> Penalties: ...

        @property
        def directory(self) -> UserDirectory: ...


MOST_WRONG_CODES = 10  # of a user within some minutes; then no code is accepted for a while


async def is_password(
    threads: FairThreads, network: str, hash: str | None, password: str, tell: Callable[[str], object]
) -> bool:
    """Whether a password has that hash. hash: None for a user without one, which takes as long.

    threads: do the work when it is the client's network's turn. tell: writes an error to the log.
    """
    try:
        text = passwords.prepared(password)
    except ValueError:
        hash, text = None, ""
    work = partial(passwords.verify, hash or passwords.DUMMY, text)
    try:
        return await threads.run(network, work) and hash is not None
    except Exception as error:  # no memory, or no library
        tell(f"a password cannot be checked: {reason_of(error)}")
        return False


async def code_fault(keeper: Keeper, user: User, code: str) -> str:
    """What is wrong with a user's one-time code; "": nothing, and the code is used up."""
    if not user.totp:
        return "no code is set up"
    now, step = time.monotonic(), codes.step_of(user.totp, code, time.time())
    if is_looked_up(user):  # one person may have several names there, with one secret
        user = replace(user, id=ID + hashlib.blake2b(user.totp.encode(), digest_size=16).hexdigest())
    if keeper.penalties.wrong_codes(user.id, now) >= MOST_WRONG_CODES:
        return "too many wrong codes of the user"
    if step is None:
        keeper.penalties.failed_code(user.id, now)
        return "wrong code"
    if not keeper.codes.use(user.id, step):
        return "a code that was used before"
    if not await keeper.directory.use_code(user, step):
        return "a code that was used before on another server, or cannot be checked there"
    return ""
