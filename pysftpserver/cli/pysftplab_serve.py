"""pysftplab serve: the message server, with services that options name.

Options, files, signals, and which storage is behind a service; the server itself is in
pysftpserver/laboratory/. What may not enter: the protocol, what services do.
"""

from __future__ import annotations

import os
import sys

from pysftpserver.cli.options import Command, Option
from pysftpserver.cli.pysftplab import (
    PASSWORD_VARIABLE,
    PROG,
    asked_password,
    checked,
    is_readable_by_others,
    need_extra,
    password_in,
)
from pysftpserver.engine.log import LEVELS, file_log, stderr_log
from pysftpserver.failures import BadInput, Unavailable, one_line
from pysftpserver.laboratory.config import IN_FILE_ONLY, MOST_FILE, SETTINGS, Options
from pysftpserver.storages import by_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.laboratory.config import Setting
    from pysftpserver.laboratory.service import Service

OTHER_DESCRIPTORS = 256
DESCRIPTORS_EACH = 2  # of a connection: its socket, and a file that Files has open for it
TYPED = tuple(setting for setting in SETTINGS if setting.name not in IN_FILE_ONLY)


def _option(setting: Setting) -> Option:
    said = f"--{setting.name.replace('_', '-')}"
    if setting.kind is bool:
        return Option(said, help=f"{setting.help} The default is not to.")
    default = "none" if setting.default in (None, ()) else setting.default
    if setting.kind is list:
        text = f"{setting.help} It may be given several times. The default is {default}."
        return Option(said, metavar="VALUE", help=text, is_repeated=True)
    return Option(said, metavar="VALUE", help=f"{setting.help} The default is {default}.")


COMMAND = Command(
    f"{PROG} serve",
    description="A message server: clients that know its password talk to the services that it offers.",
    epilog="Each option but --config may stand in CONFIG as well, by its name with _ in place of -; the "
    f"command line wins. The password comes from --password-file, else from {PASSWORD_VARIABLE} in the "
    "environment, else from password or password_file in CONFIG, else it is asked for.",
    options=(
        Option("--config", metavar="FILE", help="Read options from this TOML file. The default is none."),
        *map(_option, TYPED),
    ),
)


def serve(arguments: Sequence[str]) -> int:
    """Serve until a signal comes; return the exit status. Raises BadInput."""
    values = COMMAND.parse(arguments)
    options, is_in_config = read_options(values)
    need_extra()
    level = LEVELS[options.log_level]
    log = log_of(options, level)
    password = password_of(options, values["password_file"])
    services = services_of(options)
    secret_files = [options.password_file, values["config"] if is_in_config else None]
    for path in secret_files:
        if path is not None and is_readable_by_others(path):
            log.error(f"{path}: others can read the password in it: chmod 600")
    if options.allow_plaintext:
        log.error(
            "allow_plaintext: who does not encrypt lets everybody on the way read the password, and all"
        )
    raise_limit(options.max_connections)
    import asyncio

    return asyncio.run(serve_until_told(options, services, log, password))


def log_of(options: Options, level: int) -> SFTPLog:
    """The log. Raises BadInput when its file cannot be written."""
    if options.logfile is None:
        return stderr_log(level)
    return file_log(options.logfile, level, PROG)


def raise_limit(connections: int) -> None:
    """Allow as many descriptors as they may need, or as the system lets us have."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OTHER_DESCRIPTORS + DESCRIPTORS_EACH * connections
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def read_options(values: dict[str, Any]) -> tuple[Options, bool]:
    """(the values of all options, whether the file has a password). Raises BadInput."""
    from pysftpserver.laboratory.config import OptionError, options_of, parse_file

    names = (setting.name for setting in TYPED)
    typed = {name: values[name] for name in names if values[name] not in (None, False)}
    path = values["config"]
    try:
        in_file = {} if path is None else parse_file(text_of(path), path)
        return options_of(in_file, typed), "password" in in_file
    except OptionError as error:
        raise BadInput(str(error)) from None


def text_of(path: str) -> str:
    """The text of the configuration. Raises BadInput."""
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_FILE + 1).decode()
    except OSError as error:
        reason = (error.strerror or "failure").lower()
        raise BadInput(f"config {path}: {reason}; name a file that can be read") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"config {path}: no UTF-8 at byte {error.start}") from None
    if len(text) > MOST_FILE:
        raise BadInput(f"config {path}: more than {MOST_FILE} bytes")
    return text


def password_of(options: Options, typed_file: str | None) -> str:
    """The server's password. Raises BadInput."""
    if typed_file is not None:
        return password_in(typed_file)
    if PASSWORD_VARIABLE in os.environ:
        # What this process starts, and services, have no business with it.
        return checked(os.environ.pop(PASSWORD_VARIABLE), PASSWORD_VARIABLE)
    if options.password is not None:
        return checked(options.password, "password")
    if options.password_file is not None:
        return password_in(options.password_file)
    return asked_password("Password of the server: ")


# --- services ---------------------------------------------------------------------------------------------


def _echo(options: Options) -> Service:
    from pysftpserver.laboratory.services.echo import Echo

    return Echo()


def _chat(options: Options) -> Service:
    from pysftpserver.laboratory.services.chat import Chat

    return Chat(options.chat_history, options.chat_rooms)


def _time(options: Options) -> Service:
    from pysftpserver.laboratory.services.clock import Time

    return Time()


def _http(options: Options) -> Service:
    from pysftpserver.laboratory.services.http import HTTP

    try:
        return HTTP(options.http_allow, options.http_timeout, options.http_max_bytes)
    except ValueError as error:
        raise BadInput(f"http_allow: {error}") from None


def _files(options: Options) -> Service:
    from pysftpserver.laboratory.services.files import Files

    if options.files is None:
        raise BadInput(f"files: name a storage: {by_name.FORMS}")
    storage = by_name.open_storage(options.files, "files")
    return Files(storage, options.files_max_bytes, options.files_read_only)


#: Those that are supplied, and whether they are offered where no option names services.
SUPPLIED: dict[str, tuple[Callable[[Options], Service], Callable[[Options], bool]]] = {
    "echo": (_echo, lambda options: True),
    "chat": (_chat, lambda options: True),
    "time": (_time, lambda options: True),
    "http": (_http, lambda options: bool(options.http_allow)),
    "files": (_files, lambda options: options.files is not None),
}


def services_of(options: Options) -> list[Service]:
    """What clients can choose from; the first is what they begin with. Raises BadInput."""
    if not options.service:
        return [make(options) for make, is_offered in SUPPLIED.values() if is_offered(options)]
    found = [service_of(name, options) for name in options.service]
    from pysftpserver.laboratory.server import Services

    try:
        Services(found)
    except ValueError:
        raise BadInput("service: two services of one name") from None
    return found


def service_of(name: str, options: Options) -> Service:
    """One service. Raises BadInput."""
    if name.lower() in SUPPLIED:
        return SUPPLIED[name.lower()][0](options)
    if ":" not in name:
        known = ", ".join(SUPPLIED)
        raise BadInput(f"service: {name}: none that is supplied; write {known} or module:Class")
    from pysftpserver.laboratory.service import Service

    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where people try out their own
    kind = by_name.named(name, "service")
    if not isinstance(kind, type) or not issubclass(kind, Service):
        raise BadInput(f"service: {name}: no subclass of pysftpserver.laboratory.service.Service")
    try:
        return kind()
    except (Exception, SystemExit) as error:
        words = one_line(f"{type(error).__name__}: {error}")
        raise BadInput(f"service: {name}: {words}") from None


# --- serving ----------------------------------------------------------------------------------------------


async def serve_until_told(options: Options, services: list[Service], log: SFTPLog, password: str) -> int:
    """Serve until a signal comes, or a client that may stops it. Raises Unavailable."""
    import asyncio
    import signal

    from pysftpserver.laboratory.server import Server

    server = Server(options, services, log, password)
    try:
        addresses = await server.start()
    except UnicodeError:
        raise Unavailable(f"host {options.host}: the name of no host") from None
    except OSError as error:
        known = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        reason = (known or "failure").lower()
        raise Unavailable(f"host {options.host}, port {options.port}: {reason}") from None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it, and shells in the background
            loop.add_signal_handler(number, server.stop_wanted)
    for host, port in addresses:
        log.info(f"listening on {host} port {port}")
    await server.wait_for_stop()
    log.info("ending")
    await server.stop()
    return 0
