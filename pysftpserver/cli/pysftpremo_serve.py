"""pysftpremo serve: the application on a server of its own; also what other WSGI servers are given.

What may not enter: what requests do.
"""

from __future__ import annotations

import logging
import logging.config
import os
import signal
import threading

from pysftpserver.cli.options import BadValue, Command, Option
from pysftpserver.engine.log import open_for_appending
from pysftpserver.failures import BadInput, Unavailable, one_line
from pysftpserver.remo import audit, config, crypto
from pysftpserver.remo.application import Application
from pysftpserver.remo.users import UserError, Users, service
from pysftpserver.storages import by_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.remo.config import Setting, Values

PROG = "pysftpremo serve"
FORMAT = "%(asctime)s %(levelname)s %(message)s"
LOGGER = "pysftpserver.remo"
READABLE_BY_OTHERS = 0o077


def _option(setting: Setting) -> Option:
    def convert(text: str) -> Any:
        try:
            return setting.kind(text)
        except config.ConfigError as error:
            raise BadValue(str(error)) from None

    default = (
        "" if setting.default is None or setting.metavar is None else f" The default is {setting.default}."
    )
    return Option(
        *setting.flags,
        metavar=setting.metavar,
        convert=convert,
        help=setting.help + default,
        name=setting.attribute,
    )


COMMAND = Command(
    prog=PROG,
    description="Serve files and commands to those who are in the user database, over plain HTTP, with every "
    "request and answer encrypted and signed.",
    epilog="A configuration file has the same settings, as TOML: port, host (for --interface), user-service, "
    "key-file, log, timeout (for --session), and the others by the names of their options. Options win. "
    "The server stops at SIGTERM and SIGINT, and takes running commands along.",
    options=(
        Option(
            "-c", "--conf", metavar="FILE", help="A configuration file in TOML. There is none by default."
        ),
        *map(_option, config.SETTINGS),
    ),
)


def serve(words: Sequence[str]) -> int:
    """Serve until a signal comes. Raises BadInput, Unavailable."""
    options = COMMAND.parse(words)
    given: dict[str, Any] = _configuration(options["conf"]) if options["conf"] else {}
    for setting in config.SETTINGS:
        is_switch = setting.metavar is None
        # No and 0 are values too.
        if options[setting.attribute] is not (False if is_switch else None):
            given[setting.name] = options[setting.attribute]
    values = config.Values(given)
    set_up_logging(values)
    application = make(values)
    from pysftpserver.remo.http import Server

    server = Server(values, application)
    try:
        server.prepare()
    except OSError:
        place = f"{values.host}:{values.port}"
        hint = "name a free port and an address of this host"
        raise Unavailable(f"{place}: it cannot be listened on; {hint}") from None
    host, port = server.bind_addr[:2]
    logging.getLogger(LOGGER).info("listening on http://%s:%d/", host, port)
    _serve_until_a_signal(server, application)
    return 0


def _serve_until_a_signal(server: Any, application: Application) -> None:
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    thread = threading.Thread(target=server.serve, name="remo server", daemon=True)
    thread.start()
    while not stopped.wait(1.0) and thread.is_alive():
        pass
    application.close()
    server.stop()
    logging.getLogger(LOGGER).info("stopped")


def make(values: Values) -> Application:
    """The application that settings describe. Raises BadInput, Unavailable."""
    if values.root is not None and values.storage is not None:
        raise BadInput("root and storage: give one of them")
    key = _server_key(values.key_file)
    try:
        users = Users(service(values.user_service))
        users.migrate()
    except UserError as error:
        raise BadInput(f"user-service: {error}") from None
    storage, is_whole_host = _storage(values)
    may_run = is_whole_host if values.commands is None else values.commands
    log = logging.getLogger(LOGGER)
    log.info("commands are %s", "for users with that permission" if may_run else "for nobody")
    if may_run and not is_whole_host:
        log.warning("users with commands can leave the storage: commands run on this host")
    return Application(values, key, users, storage, may_run)


def _storage(values: Values) -> tuple[SFTPAbstractServerStorage, bool]:
    """Where files are, and whether that is all of this host."""
    if values.root is not None:
        return by_name.jail(values.root, "root"), False
    if values.storage is not None:
        return by_name.open_storage(values.storage, "storage"), False
    return by_name.plain(".", "storage"), True


def _server_key(path: str) -> crypto.PrivateKey:
    try:
        with open(path, "rb") as file:
            is_open = os.fstat(file.fileno()).st_mode & READABLE_BY_OTHERS
            pem = file.read(crypto.MOST_PEM)
        key = crypto.load_private(pem)
    except OSError as error:
        reason = (error.strerror or "failure").lower()
        raise BadInput(f"key-file: {path}: {reason}; make one with `pysftpremo keygen remo_serv`") from None
    except crypto.KeyProblem as error:
        raise BadInput(f"key-file: {path}: {error}; keygen makes one without a passphrase") from None
    if is_open:
        logging.getLogger(LOGGER).warning("key-file: others can read it: chmod 600 it")
    return key


def _configuration(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            raw = file.read(config.MOST_CONFIGURATION + 1)
        if len(raw) > config.MOST_CONFIGURATION:
            raise BadInput(f"configuration {path}: more than {config.MOST_CONFIGURATION} bytes")
        return config.from_toml(raw.decode(), path)
    except OSError as error:
        raise BadInput(f"configuration {path}: {(error.strerror or 'failure').lower()}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"configuration {path}: no UTF-8 at byte {error.start}") from None
    except config.ConfigError as error:
        raise BadInput(str(error)) from None


# --- logs
# -----------------------------------------------------------------------------------------------------


def set_up_logging(values: Values) -> None:
    """To standard error, or as a configuration for Python's logging says. Raises BadInput."""
    if values.log is not None:
        try:
            logging.config.fileConfig(values.log, disable_existing_loggers=False)
        except Exception as error:  # whatever that file's classes raise
            why = one_line(str(error)) or type(error).__name__
            raise BadInput(f"log: {values.log}: {why}; name a configuration of Python's logging") from None
    elif not logging.getLogger().handlers:
        logging.basicConfig(format=FORMAT, level=logging.INFO)
    if values.debug:
        logging.getLogger(LOGGER).setLevel(logging.DEBUG)
    elif values.log is None:
        logging.getLogger(LOGGER).setLevel(logging.INFO)
    _set_up_audit(values)


def _set_up_audit(values: Values) -> None:
    logger = logging.getLogger(audit.LOGGER)
    if values.audit is None or any(handler.name == values.audit for handler in logger.handlers):
        return  # a WSGI server asks for every combination of settings, and again for those that fail
    try:
        stream = open(open_for_appending(values.audit), "a", encoding="utf-8")
    except OSError as error:
        why = (error.strerror or "failure").lower()
        raise BadInput(f"audit: {values.audit}: {why}; name a file that can be written") from None
    handler = logging.StreamHandler(stream)
    handler.name = values.audit
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


# --- other WSGI servers
# ---------------------------------------------------------------------------------------

_applications: dict[tuple[Any, ...], Application] = {}
_lock = threading.Lock()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """What a WSGI server is given: KEYFILE, USER_SERVICE and remo_serv.* of its environ are the settings.

    One application is made for each combination of them, at the first request.
    """
    keys = [setting.key for setting in config.SETTINGS if setting.key in environ]
    names = tuple((key, environ[key]) for key in keys)
    with _lock:
        found = _applications.get(names)
        if found is None:
            try:
                values = config.Values(config.from_environ(environ))
                set_up_logging(values)
                found = _applications[names] = make(values)
            except (BadInput, config.ConfigError) as error:
                logging.getLogger(LOGGER).error("%s", error)
                text = b"the server is not set up: its log says more"
                headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
                start_response("500 Internal Server Error", headers)
                return [text]
    return found(environ, start_response)
