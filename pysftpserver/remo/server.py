"""A server: the application that settings describe, its log, and serving until a signal arrives.

What may not enter: what requests do, concrete storages (open_storage opens one by its name).
"""

from __future__ import annotations

import logging
import logging.config
import os
import threading

from pysftpserver.engine.log import DEBUG1, LEVELS
from pysftpserver.failures import BadInput, one_line, reason_of
from pysftpserver.remo import crypto
from pysftpserver.remo.application import Application
from pysftpserver.remo.audit import LOG
from pysftpserver.remo.config import ServerSettings, from_environ
from pysftpserver.remo.users import UserError, Users, service
from pysftpserver.service import pythonlogs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Protocol

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

    class OpenByName(Protocol):
        """Opens storages by name. key: the setting that contains it. Raises BadInput, Unavailable."""

        def __call__(self, text: str, key: str, values: Mapping[str, str]) -> SFTPAbstractServerStorage:
            """Open the storage with a name. values: the values of the fields in it."""

        def try_out(self, text: str, key: str, *known: str) -> None:
            """Check that a name can be used. known: the fields that will have a value."""

        def check_site(self, path: str, key: str) -> None:
            """Check that a site file can be applied to a storage."""

        def under_site(
            self, path: str, key: str, storage: SFTPAbstractServerStorage, values: Mapping[str, str]
        ) -> SFTPAbstractServerStorage:
            """The storage with a site file applied."""


log = logging.getLogger("pysftpserver.remo")
READABLE_BY_OTHERS = 0o077


def make(values: ServerSettings, open_by_name: OpenByName) -> Application:
    """The application that settings describe. Raises BadInput, Unavailable."""
    if values.root is not None and values.storage is not None:
        raise BadInput("root and storage: give one of them")
    key = _server_key(values.key_file)
    try:
        users = Users(service(values.user_service))
        users.migrate()
    except UserError as error:
        raise BadInput(f"user-service: {error}") from None
    name = values.storage or "plain:."
    setting = "storage"
    if values.root is not None:
        name, setting = f"jail:{values.root}", "root"
    open_by_name.try_out(name, setting, "user")  # report mistakes at the start
    is_whole_host = values.root is values.storage is values.site is None
    may_run = is_whole_host if values.commands is None else values.commands
    log.info("commands are %s", "allowed for users with that permission" if may_run else "not allowed")
    if may_run and not is_whole_host:
        log.info("users with commands can leave the storage: commands run on this host")

    if values.site is not None:
        open_by_name.check_site(values.site, "site")

    def open_storage(user: str, address: str) -> SFTPAbstractServerStorage:
        who = {"user": user, "address": address}
        storage = open_by_name(name, setting, who)
        return storage if values.site is None else open_by_name.under_site(values.site, "site", storage, who)

    return Application(values, key, users, open_storage, may_run)


def _server_key(path: str) -> crypto.PrivateKey:
    try:
        with open(path, "rb") as file:
            is_open = os.fstat(file.fileno()).st_mode & READABLE_BY_OTHERS
            pem = file.read(crypto.MOST_PEM)
        key = crypto.load_private(pem)
    except OSError as error:
        hint = "make one with `pysftpremo keygen --no-passphrase remo_serv`"
        raise BadInput(f"key-file: {path}: {reason_of(error)}; {hint}") from None
    except crypto.KeyProblem as error:
        raise BadInput(f"key-file: {path}: {error}; keygen makes one without a passphrase") from None
    if is_open:
        log.error("key-file: %s can be read by others; run chmod 600 on it", path)
    return key


def serve(values: ServerSettings, open_by_name: OpenByName, load: Callable[[], ServerSettings]) -> None:
    """Serve until SIGTERM or SIGINT. load: reads the settings again, at SIGHUP.

    Raises BadInput, Unavailable.
    """
    values.refuse_root()
    set_up_log(values)
    application = make(values, open_by_name)
    from pysftpserver.http import running
    from pysftpserver.http.server import Server

    server = Server(values, application, "pysftpremo", log)
    url = running.listen(server, values)

    def reload() -> None:
        for name in values.take_over(load()):
            log.error("%s has changed: restart the server for that", name)
        set_up_log(values)
        application.reopen()

    running.serve(server, application.running, log, LOG, url, reload, lambda: values.drain_seconds)
    application.close()
    server.stop()
    log.info("stopped")


# --- logs -------------------------------------------------------------------------------------------------


def set_up_log(values: ServerSettings) -> None:
    """Send the log where the settings say; call it again after they have changed. Raises BadInput."""
    if values.logging_config is not None:
        try:
            logging.config.fileConfig(values.logging_config, disable_existing_loggers=False)
        except Exception as error:  # whatever that file's classes raise
            why = one_line(str(error)) or type(error).__name__
            hint = "name a configuration file for Python's logging"
            raise BadInput(f"logging-config: {values.logging_config}: {why}; {hint}") from None
    else:
        pythonlogs.set_up(log, "pysftpremo", values)
    if values.debug or LEVELS[values.log_level] >= DEBUG1:
        log.setLevel(logging.DEBUG)
        for one in pythonlogs.handlers_of(log):
            one.log.level = max(one.log.level, DEBUG1)


# --- other WSGI servers -----------------------------------------------------------------------------------


class FromEnviron:
    """A WSGI application whose settings are in the environ: KEYFILE, USER_SERVICE and `remo_serv.NAME`.

    One application is made for each combination of them, at its first request. names: returns an OpenByName.
    """

    def __init__(self, names: Callable[[], OpenByName]) -> None:
        self._names = names
        self._lock = threading.Lock()
        self.made: dict[tuple[tuple[str, Any], ...], Application] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            application = self._of(from_environ(environ))
        except BadInput as error:
            log.error("%s", error)
            text = b"the server is not set up; its log says more"
            headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
            start_response("500 Internal Server Error", headers)
            return [text]
        return application(environ, start_response)

    def _of(self, given: dict[str, Any]) -> Application:
        names = tuple(sorted(given.items()))
        with self._lock:
            if names not in self.made:
                values = ServerSettings(**given)
                set_up_log(values)
                self.made[names] = make(values, self._names())
            return self.made[names]
