"""A server of the browser door: its parts, its log, and serving until a signal comes.

What may not enter: what parts answer, concrete storages.
"""

from __future__ import annotations

import contextlib
import logging
import threading

from pysftpserver.people.file_users import FileUsers
from pysftpserver.people.lookups import Lookup, source_of
from pysftpserver.people.users import Visit
from pysftpserver.pysftpexceptions import SFTPSessionEnd
from pysftpserver.service import pythonlogs
from pysftpserver.service.audit import AuditTrail
from pysftpserver.web.application import Application
from pysftpserver.web.dav import Dav
from pysftpserver.web.guarding import Guard
from pysftpserver.web.html import show_refusal
from pysftpserver.web.linked import LinkedLogins
from pysftpserver.web.logins import Reception
from pysftpserver.web.managing import Managing
from pysftpserver.web.operators import Operators
from pysftpserver.web.pages import Files
from pysftpserver.web.people import People
from pysftpserver.web.resuming import Uploads
from pysftpserver.web.session import Sessions
from pysftpserver.web.shares import Shares
from pysftpserver.web.sharing import Sharing
from pysftpserver.web.state import State
from pysftpserver.web.static import Static
from pysftpserver.web.used_codes import UsedCodes
from pysftpserver.web.visiting import Visitors
from pysftpserver.web.welcome import Login, Logout, Welcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.people.updating import UserDirectory
    from pysftpserver.people.user_storages import UserStorages
    from pysftpserver.people.users import User
    from pysftpserver.web.config import WebSettings

    RuleOf = Callable[[str, dict[str, Any]], str]

log = logging.getLogger("pysftpserver.web")
LOG = pythonlogs.sftp_log(log)
SWEEP = 1.0  # seconds between two sweeps of sessions that are over


class Door:
    """All parts of the door. storages: opens users' storages. rule_of: returns the rule of a site file that
    caused a refusal in the audit log.
    """

    def __init__(
        self, values: WebSettings, storages: UserStorages, rule_of: RuleOf = lambda path, record: ""
    ) -> None:
        self.values = values
        self.sessions = Sessions(values)
        source = source_of(values)
        lookup = None if source is None else Lookup(source, values)
        self.people = People(lambda: _directory(values), lookup)
        self.trail = AuditTrail(values.audit, values.audit_chain, LOG)
        self._storages = storages
        self.state = State(values.state)
        self.guard = Guard(values)
        codes = UsedCodes(self.state)
        self.reception = Reception(values, self.people, self.guard, self._refused, codes=codes)
        self.welcome = Welcome(self.reception, self.sessions, self._open, self.trail, self.people.is_current)
        self.files = Files(values, self.people.is_current)
        self.links = LinkedLogins(values, self.people, self.welcome)
        self.uploads = Uploads(self.files, self.state.secret("uploads"))
        self.shares = Shares(self.state)
        self.visitors = Visitors(values, self.shares, self.people, self._open, self.trail)
        self.operators = self._operators(rule_of)
        self.application = Application(
            values,
            self.sessions,
            {
                b"static": Static(),
                b"files": self.files,
                b"upload": self.uploads,
                b"shares": Sharing(values, self.shares, lambda user: self.people.find(user.name) is not None),
                b"s": self.visitors,
                b"login": Login(self.welcome, self.sessions),
                b"logout": Logout(self.welcome, self.sessions),
                b"dav": Dav(values, self.welcome, self.state),
                b"link": self.links.page,
                **({b"operators": self.operators} if self.operators is not None else {}),
            },
            self.guard,
        )
        self.application.user_of_program = self.welcome.user_of_program
        self.application.show = show_refusal
        if self.operators is not None:
            self.operators.is_stopping = self.application.running.closed.is_set
            self.links.of_operator = self.operators.link

    def _operators(self, rule_of: RuleOf) -> Operators | None:
        values = self.values
        if values.operators is None:
            return None
        path, people = values.operators_users, None
        if path is not None:
            people = People(lambda: FileUsers(path, LOG))

        def decide(record: dict[str, Any]) -> str:
            user = self.people.find(str(record.get("user")))
            site = values.site if user is None else user.site or values.site
            return "" if site is None else rule_of(site, record)

        managing = Managing(values, self._open)
        codes = UsedCodes(self.state, "operators")
        return Operators(values, values.operators, people, self.guard, managing, decide, self.trail, codes)

    def _open(self, user: User, address: str) -> SFTPAbstractServerStorage:
        visit = Visit(**{**vars(user), "address": address})
        return self._storages.of(visit)

    def _refused(self, name: str, address: str, port: int | None, why: str) -> None:
        """Record a refused login; it stays refused if that fails."""
        with contextlib.suppress(SFTPSessionEnd):
            self.trail.of(name, address, port).note("login", "PERMISSION_DENIED", message=why)

    def start(self) -> None:
        """Load the users. Raises DirectoryError."""
        self.people.start(lambda name: self.sessions.changed(name, self.people.is_current))
        threading.Thread(target=self._sweep, name="sweeper", daemon=True).start()
        if self.operators is not None:
            self.operators.start()

    def _sweep(self) -> None:
        while not self.application.running.closed.wait(SWEEP):
            try:
                self.sessions.sweep(self.people.is_current)
            except Exception:  # a fault here must not let sessions go on for ever
                log.exception("the look for sessions that are over has failed")

    def reload(self) -> None:
        """Apply settings that have changed, and reopen the audit log. Raises BadInput."""
        self.guard.apply()
        self.reception.apply()
        self.trail.reopen()

    def close(self) -> None:
        """End all sessions."""
        self.application.running.close()
        self.uploads.close()
        self.files.deletions.close()
        self.links.close()
        if self.operators is not None:
            self.operators.close()
        for session in self.sessions.all():
            self.sessions.end(session, "the server has stopped")
        self.reception.close()
        self.people.close()
        self.state.close()


def _directory(values: WebSettings) -> UserDirectory:
    if not values.is_in_redis:
        return FileUsers(values.users_file, LOG)
    from pysftpserver.people.redis_records import RedisAddress
    from pysftpserver.people.redis_users import RedisUsers

    return RedisUsers(RedisAddress.of(values), LOG)


def context_of(values: WebSettings) -> ssl.SSLContext | None:
    """The TLS context for HTTPS; None for plain HTTP. Raises BadInput."""
    if values.certificate is None:
        return None
    from pysftpserver.http import tls

    key = values.private_key or values.certificate
    context = tls.context_of(values.certificate, values.private_key)
    if tls.is_open_to_others(key):
        log.error("%s can be read by others, and has the private key; run chmod 600 on it", key)
    return context


def serve(
    values: WebSettings, storages: UserStorages, load: Callable[[], WebSettings], rule_of: RuleOf
) -> None:
    """Serve until SIGTERM or SIGINT. load: reads the settings again, at SIGHUP. rule_of: as for Door.

    Raises BadInput, Unavailable.
    """
    values.refuse_root()
    values.check()
    pythonlogs.set_up(log, "pysftpweb", values)
    context = context_of(values)
    door = Door(values, storages, rule_of)
    door.start()
    from pysftpserver.http import running
    from pysftpserver.http.server import Server

    server = Server(values, door.application, "pysftpweb", log, context)
    url = running.listen(server, values)
    door.links.start(url)

    def reload() -> None:
        new = load()
        new.check()
        context = context_of(new)
        if (context is None) != (server.tls is None):
            log.error("certificate: restart the server to change between HTTP and HTTPS")
        else:
            server.tls = context
        for name in values.take_over(new):
            log.error("%s has changed: restart the server for that", name)
        pythonlogs.set_up(log, "pysftpweb", values)
        door.reload()

    running.serve(server, door.application.running, log, LOG, url, reload, lambda: values.drain_seconds)
    door.close()
    server.stop()
    log.info("stopped")
