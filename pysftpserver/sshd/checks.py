"""Compares passwords and one-time codes with those of users; a right one takes as long as a wrong one.

What may not enter: the order in which a client shows them, words for the client.
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
    from pysftpserver.people.users import User
    from pysftpserver.sshd.login import Client
    from pysftpserver.sshd.server import Server

MOST_WRONG_CODES = 10  # of a user within some minutes, until none is accepted for a while


async def is_password(server: Server, client: Client, hash: str | None, password: str) -> bool:
    """Whether a password has that hash. hash: None for a user without one, which takes as long."""
    try:
        text = passwords.prepared(password)
    except ValueError:
        hash, text = None, ""
    work = partial(passwords.verify, hash or passwords.DUMMY, text)
    try:
        return await server.passwords.run(client.network, work) and hash is not None
    except Exception as error:  # no memory, or no library
        client.tell(f"a password cannot be checked: {reason_of(error)}")
        return False


async def code_fault(server: Server, user: User, code: str) -> str:
    """What is wrong with a one-time code of a user; "": nothing, and it cannot be used again."""
    if not user.totp:
        return "no code is set up"
    now, step = time.monotonic(), codes.step_of(user.totp, code, time.time())
    if is_looked_up(user):  # one person may have several names there, and has one secret
        user = replace(user, id=ID + hashlib.blake2b(user.totp.encode(), digest_size=16).hexdigest())
    if server.penalties.wrong_codes(user.id, now) >= MOST_WRONG_CODES:
        return "too many wrong codes of the user"
    if step is None:
        server.penalties.failed_code(user.id, now)
        return "wrong code"
    if not server.codes.use(user.id, step):
        return "a code that was used before"
    if not await server.directory.use_code(user, step):
        return "a code that was used before on another server, or cannot be checked there"
    return ""
