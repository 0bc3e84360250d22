"""Logging in with a name, a password and, where the user has one, a one-time code.

Every refusal has the same words, and one password is compared for each attempt, whoever it is for. What may
not enter: SSH, storages.
"""

from __future__ import annotations

import logging
import time

from pysftpserver.people import codes, methods, passwords
from pysftpserver.people.methods import PASSWORD, TOTP
from pysftpserver.service import throttle
from pysftpserver.service.throttle import network_of
from pysftpserver.web.wire import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.people.users import User
    from pysftpserver.web.config import WebSettings
    from pysftpserver.web.people import People

log = logging.getLogger("pysftpserver.web")
REFUSED = "The name, the password or the code is wrong."


class Reception:
    """Lets users in. people: the directory of users."""

    def __init__(self, values: WebSettings, people: People) -> None:
        self._values = values
        self._people = people
        self._throttle = throttle.Throttle()

    def log_in(self, name: str, password: str, code: str, address: str) -> User:
        """The user whose name, password and code these are. Raises Refusal."""
        network = network_of(address)
        wait = self._throttle.wait(network, time.monotonic())
        if wait > 0:
            raise Refusal(
                429, "Too many failed logins; try again later.", [("Retry-After", f"{int(wait) + 1}")]
            )
        user = self._people.find(name)
        reason = self._fault(user, password, code, address)
        if reason or user is None:
            self._throttle.failed(network, time.monotonic())
            log.info("%s: login of %r refused: %s", address, name[:64], reason)
            raise Refusal(403, REFUSED)
        log.info("%s: %s has logged in", address, user.name)
        return user

    def _fault(self, user: User | None, password: str, code: str, address: str) -> str:
        hash = user.password if user is not None else None
        try:
            text = passwords.prepared(password)
        except ValueError:
            hash, text = None, ""
        is_right = passwords.verify(hash or passwords.DUMMY, text) and hash is not None
        if user is None:
            return "unknown user"
        if not user.is_welcome(address):
            return "inactive user, or not from this network"
        passed = (PASSWORD, TOTP) if user.totp else (PASSWORD,)
        if passed not in methods.of_user(user, self._values):
            return "the user has to log in otherwise"
        if not is_right:
            return "wrong password"
        if user.totp and codes.step_of(user.totp, code, time.time()) is None:
            return "wrong code"
        return ""
