"""Logins with a name, a password and, if the user has a second factor, a one-time code.

Every refusal has the same words, and each attempt compares one password, whether the name is known or not.
What may not enter: SSH, storages.
"""

from __future__ import annotations

import logging

from pysftpserver.people import methods
from pysftpserver.people.checks import code_fault, is_password
from pysftpserver.people.lookups import NoAnswer
from pysftpserver.people.methods import PASSWORD, TOTP
from pysftpserver.service.fair import FairThreads
from pysftpserver.service.shared import Codes, Penalties, Shared
from pysftpserver.service.throttle import network_of
from pysftpserver.web.wire import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.people.checks import Used
    from pysftpserver.people.updating import UserDirectory
    from pysftpserver.people.users import User
    from pysftpserver.web.config import WebSettings
    from pysftpserver.web.guarding import Guard
    from pysftpserver.web.people import People

log = logging.getLogger("pysftpserver.web")
REFUSED = "The name, the password or the code is wrong."
AT_ONCE = 2  # passwords compared at the same time: each takes 19 MiB
MOST_NAME = 64  # characters of a name in the log


class Reception:
    """Lets users in. refused: called with name, address, port and reason of each login that is refused.

    rules: the login rules, if not those of the settings. codes: used codes, if they have to survive a
    restart. codes, penalties, directory: used by people.checks.code_fault().
    """

    def __init__(
        self,
        values: WebSettings,
        people: People,
        guard: Guard,
        refused: Callable[[str, str, int | None, str], None] = lambda name, address, port, why: None,
        rules: methods.Rules | None = None,
        codes: Used | None = None,
    ) -> None:
        self._values = values
        self._rules = values if rules is None else rules
        self._people = people
        self._guard = guard
        self._refused = refused
        self._threads = FairThreads(AT_ONCE, values.login_share / 100, "passwords")
        shared = Shared(1, 1)
        self.codes, self.penalties = codes or Codes(shared, 0), Penalties(shared, 0)

    @property
    def directory(self) -> UserDirectory:
        """The users."""
        return self._people.directory

    def apply(self) -> None:
        """Apply settings that have changed."""
        self._threads.share = self._values.login_share / 100

    def log_in(self, name: str, password: str, code: str, address: str, port: int | None = None) -> User:
        """The user whose name, password and code these are. Raises Refusal."""
        wait = self._guard.wait(name, address)
        if wait > 0:
            self._tell(name, address, port, "too many failed logins")
            raise Refusal(
                429, "Too many failed logins; try again later.", [("Retry-After", f"{int(wait) + 1}")]
            )
        with self._guard.turn(address) as may_try:
            if not may_try:
                self._tell(name, address, port, "too many logins at once")
                raise Refusal(503, "Too many logins at once; try again.", [("Retry-After", "1")])
            user, fault = self._people.run(self._judge(name, password, code, address))
        if fault or user is None:
            self._guard.failed(name, address)
            self._tell(name, address, port, fault)
            raise Refusal(403, REFUSED)
        self._guard.succeeded(name, address)
        return user

    def close(self) -> None:
        """Start no more checks."""
        self._people.call(self._threads.shutdown)

    def _tell(self, name: str, address: str, port: int | None, why: str) -> None:
        log.info("%s: login of %a refused: %s", address, name[:MOST_NAME], why)
        self._refused(name[:MOST_NAME], address, port, why)

    async def _judge(self, name: str, password: str, code: str, address: str) -> tuple[User | None, str]:
        """The user, and what is wrong; "": nothing. Runs in the loop of the directory."""
        network = network_of(address)
        fault, is_accepted = "unknown user", False
        try:
            user, is_accepted = await self._people.look_up(network, name, PASSWORD, address, password)
        except NoAnswer as error:
            user, fault = None, f"lookup: {error}"
        hash = user.password if user is not None else None
        is_right = await is_password(
            self._threads, network, hash, password, lambda words: log.error("%s: %s", address, words)
        )
        if user is None:
            return None, fault
        fault = self._fault(user, is_right or is_accepted, is_accepted, address)
        if not fault and user.totp:
            fault = await code_fault(self, user, code)
        if not fault and not self._people.is_current(user):  # it took a while
            fault = "the user has changed meanwhile"
        return user, fault

    def _fault(self, user: User, is_right: bool, is_accepted: bool, address: str) -> str:
        """Why a user is refused before the code is checked; "": not refused."""
        if not user.is_active:
            return "inactive user"
        if not user.is_welcome(address):
            return "not from this address (networks)"
        passed = (PASSWORD, TOTP) if user.totp else (PASSWORD,)
        if passed not in methods.of_user(user, self._rules):
            return "the user has to log in otherwise (methods)"
        if not user.password and not is_accepted:
            return "no password is set"
        return "" if is_right else "wrong password"
