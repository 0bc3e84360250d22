"""pysksync: the SK Sync server and client, with storages of this project on this side.

Which storage, and which words on the command line; the rest is in pysftpserver/sksync/, which is imported
when it is clear what is wanted. What may not enter: the protocol.
"""

from __future__ import annotations

import os

from pysftpserver.cli import common, session
from pysftpserver.cli.options import Command, Option
from pysftpserver.engine.log import INFO, file_log, stderr_log
from pysftpserver.failures import BadInput, Unavailable, one_line
from pysftpserver.storages import by_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.sksync.client import Request, Summary
    from pysftpserver.sksync.config import ClientSettings, Config
    from pysftpserver.sksync.session import Shares

PROG = "pysksync"
DEFAULT_FILE = "sksync.json"
EXTRA = "pip install 'pysftpserver[sksync]'"

COMMAND = Command(
    PROG,
    description="An SK Sync server and client: it brings two directories up to date with each other.",
    epilog="pysksync useredit [CONFIG] edits the server's users, and pysksync make-cert makes a certificate; "
    f"each has a --help of its own. CONFIG is {DEFAULT_FILE} where none is given.",
    rest=(
        "words",
        "[CONFIG] to serve, or [CONFIG] client NAME to sync as the client of that name in CONFIG.",
    ),
    options=(
        Option(
            "-n",
            "--dry-run",
            help="With client, print what would be sent and received, and touch nothing on either side. The "
            "default is to sync.",
        ),
        Option(
            "-q",
            "--quiet",
            help="With client, print the summary and what failed only. The default is a progress display on "
            "a terminal, and a line for each file elsewhere.",
        ),
        Option(
            "-l",
            "--logfile",
            metavar="LOGFILE",
            help="Append the server's log to this file. The default is to log to standard error.",
        ),
        Option(
            "--log-level",
            metavar="LEVEL",
            convert=session.log_level,
            default=INFO,
            help="Log up to this level: QUIET, FATAL, ERROR, INFO, VERBOSE or DEBUG. The default is INFO, a "
            "line for each session; VERBOSE has a line for each file.",
        ),
    ),
)


# --- which words ------------------------------------------------------------------------------------------


def serve(arguments: Sequence[str]) -> int:
    """Do what the words say; return the exit status. Raises BadInput."""
    if arguments[:1] == ["useredit"]:
        from pysftpserver.cli import pysksync_users

        return pysksync_users.serve(arguments[1:])
    if arguments[:1] == ["make-cert"]:
        from pysftpserver.cli import pysksync_cert

        return pysksync_cert.serve(arguments[1:])
    options = COMMAND.parse(arguments)
    file, name = meaning(options["words"])
    if name is None:
        for flag in ("dry_run", "quiet"):
            if options[flag]:
                raise BadInput(f"--{flag.replace('_', '-')} goes with client NAME only")
        return run_server(read_config(file), options, file)
    return run_client(read_config(file), name, options)


def meaning(words: list[str]) -> tuple[str | None, str | None]:
    """(CONFIG or None, NAME or None for the server). Raises BadInput."""
    if words == ["client"]:
        return None, "client"
    if len(words) < 2:
        return (words[0] if words else None), None
    if len(words) == 2 and "client" in words:
        # One of them is left out: CONFIG, or the NAME of the client in a lone section "client".
        return (None, words[1]) if words[0] == "client" else (words[0], words[1])
    if len(words) == 3 and words[1] == "client":
        return words[0], words[2]
    raise BadInput(f"{' '.join(words)}: give [CONFIG], or [CONFIG] client NAME")


def read_config(file: str | None) -> Config:
    """The configuration; without a file, where there is none of the usual name, the defaults.

    Raises BadInput.
    """
    from pysftpserver.sksync.config import MOST_BYTES, ConfigError, checked, read

    if file is None and not os.path.lexists(DEFAULT_FILE):
        return checked({})
    path = DEFAULT_FILE if file is None else file
    try:
        with open(path, "rb") as config:
            text = config.read(MOST_BYTES + 1).decode("utf-8-sig")
    except OSError as error:
        reason = (error.strerror or "failure").lower()
        raise BadInput(f"configuration {path}: {reason}; name a file that can be read") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"configuration {path}: no UTF-8 at byte {error.start}") from None
    if len(text) > MOST_BYTES:
        raise BadInput(f"configuration {path}: more than {MOST_BYTES} bytes")
    try:
        return read(text, path)
    except ConfigError as error:
        raise BadInput(str(error)) from None


# --- storages ---------------------------------------------------------------------------------------------


def shares_of(config: Config, log: SFTPLog) -> Shares:
    """What a server shares. Raises BadInput."""
    from pysftpserver.sksync.shares import ListedDirectories, Share, WholeStorage, directory

    if config.storage is None and config.server_root is None and config.whitelist:
        listed = [(path, Share(by_name.jail(path, "server_dir_whitelist"))) for path in config.whitelist]
        log.info(f"sharing {', '.join(config.whitelist)}")
        return ListedDirectories(listed, config.is_silent)
    if config.storage is not None:
        storage, what = by_name.bucket(config.storage), "a database"
    else:
        root = os.getcwd() if config.server_root is None else config.server_root
        storage, what = by_name.jail(root, "server_root"), root
    if config.server_root is None and config.storage is None:
        what = f"the current directory, {what}: no server_root is configured"
    if config.whitelist:
        listed = [(path, Share(storage, directory(path))) for path in config.whitelist]
        log.info(f"sharing {', '.join(config.whitelist)} in {what}")
        return ListedDirectories(listed, config.is_silent)
    log.info(f"sharing {what}")
    return WholeStorage(storage)


# --- the server -------------------------------------------------------------------------------------------


def run_server(config: Config, options: dict[str, Any], file: str | None = None) -> int:
    """Serve until a signal comes; return the exit status. file: the configuration's. Raises BadInput."""
    from pysftpserver.sksync.config import ConfigError

    if options["logfile"] is not None:
        log = file_log(options["logfile"], options["log_level"], PROG)
    else:
        log = stderr_log(options["log_level"])
    try:
        config.check_server()
    except ConfigError as error:
        raise BadInput(str(error)) from None
    context = server_tls(config)
    shares = shares_of(config, log)
    remark(config, log)
    for path in exposed(config, file or DEFAULT_FILE):
        log.error(f"{path}: clients can read and replace it, for it is in what is shared")
    import asyncio

    return asyncio.run(serve_until_told(config, shares, log, context))


def server_tls(config: Config) -> ssl.SSLContext | None:
    """What TLS a server needs. Raises BadInput."""
    if not config.use_ssl or config.certfile is None:
        return None
    from pysftpserver.sksync.tls import TLSError, server_context

    try:
        return server_context(config.certfile, config.keyfile, config.client_certfile, config.minimum_version)
    except TLSError as error:
        raise BadInput(str(error)) from None


def remark(config: Config, log: SFTPLog) -> None:
    """Say what an administrator may not have meant. Raises BadInput where logins need what is not
    there.
    """
    for key in config.unknown:
        log.error(f"{key}: unknown, and passed over")
    if config.require_auth or config.users:
        need_srptools()
    if config.require_auth and not config.users:
        log.error("nobody can log in: add users (pysksync useredit), or set require_auth to false")
    if not config.require_auth and not (config.use_ssl and config.client_certfile):
        log.error("no login is required: everybody who reaches this port can read and write what is shared")


def exposed(config: Config, file: str) -> list[str]:
    """Files of the server's own that are in a directory that it shares."""
    if config.storage is not None:
        return []
    root = os.getcwd() if config.server_root is None else config.server_root
    shared = [root]
    if config.whitelist:
        inside = config.server_root is not None
        shared = [f"{root}/{path}" if inside else path for path in config.whitelist]
    tops = [os.path.join(os.path.realpath(path), "") for path in shared]
    own = [path for path in (file, config.keyfile) if path is not None and os.path.exists(path)]
    return [path for path in own if os.path.realpath(path).startswith(tuple(tops))]


def need_srptools() -> None:
    """Raises BadInput where logins are not possible."""
    try:
        import srptools  # noqa: F401
    except ModuleNotFoundError:
        raise BadInput(f"srptools is missing: {EXTRA}") from None


async def serve_until_told(
    config: Config, shares: Shares, log: SFTPLog, context: ssl.SSLContext | None
) -> int:
    """Serve until SIGTERM or SIGINT. Raises Unavailable where the address cannot be had."""
    import asyncio
    import signal

    from pysftpserver.sksync.server import Server

    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    server = Server(config, shares, log, context)
    try:
        addresses = await server.start()
    except UnicodeError:
        raise Unavailable(f"host {config.host}: the name of no host") from None
    except OSError as error:
        # asyncio's own words name the address again.
        known = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        reason = (known or "failure").lower()
        raise Unavailable(f"host {config.host}, port {config.port}: {reason}") from None
    encrypted = " with TLS" if context is not None else ""
    for host, port in addresses:
        log.info(f"listening on {host} port {port}{encrypted}")
    await told.wait()
    log.info("ending")
    await server.stop()
    return 0


# --- the client -------------------------------------------------------------------------------------------


def run_client(config: Config, name: str, options: dict[str, Any]) -> int:
    """Sync once; return the exit status. Raises BadInput, Unavailable."""
    from pysftpserver.cli import pysksync_display as display
    from pysftpserver.sksync import client
    from pysftpserver.sksync.config import ConfigError

    try:
        settings = config.client(name)
    except ConfigError as error:
        raise BadInput(str(error)) from None
    for key in config.unknown:
        common.tell(f"{PROG}: {key}: unknown, and passed over")
    request = request_of(settings)
    storage, path = client_storage(settings, options["dry_run"])
    with display.observer(options["quiet"] or options["dry_run"]) as observer:
        try:
            summary = client.sync(storage, request, path, observer, options["dry_run"])
            failure = None
        except client.SyncError as error:
            summary, failure = error.summary, str(error)
    return tell(summary, failure, options["dry_run"])


def tell(summary: Summary, failure: str | None, is_dry: bool) -> int:
    """Print what was done; return the exit status."""
    from pysftpserver.cli import pysksync_display as display

    is_printed = put_out(display.report(summary, is_dry))
    if failure is not None:
        common.tell(f"{PROG}: {one_line(failure)}")
    return 0 if is_printed and failure is None and not summary.failed else 1


def put_out(lines: Iterable[str]) -> bool:
    """Lines to standard output, in UTF-8 as all lines of ours, whatever the locale; whether that worked."""
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    try:
        while text:
            text = text[os.write(1, text) :]
    except OSError as error:
        common.tell(f"{PROG}: standard output: {(error.strerror or 'failure').lower()}")
        return False
    return True


def request_of(settings: ClientSettings) -> Request:
    """Which sync is wanted. Raises BadInput."""
    from pysftpserver.sksync.client import Request
    from pysftpserver.sksync.tls import ClientTLS, TLSError

    login = None
    if settings.username is not None and settings.password is not None:
        need_srptools()
        login = (settings.username, settings.password)
    tls = None
    if settings.use_ssl:
        try:
            tls = ClientTLS(settings.trusted, settings.certfile, settings.keyfile, settings.minimum_version)
        except TLSError as error:
            raise BadInput(str(error)) from None
        if not tls.is_checked:
            common.tell(f"{PROG}: the server's certificate is not checked: ssl_server_certfile is not set")
    return Request(
        host=settings.host,
        server_path=settings.server_path,
        port=settings.port,
        sync_type=settings.sync_type,
        is_recursive=settings.recursive,
        dialect=settings.dialect,
        login=login,
        tls=tls,
        excluded=settings.excluded,
        ignores_time_errors=settings.ignore_time_errors,
        timeout=settings.timeout,
        client_path=settings.client_path,
        max_names=settings.max_names,
    )


def client_storage(settings: ClientSettings, is_dry: bool) -> tuple[SFTPAbstractServerStorage, str]:
    """The client's side: a storage, and the directory in it. Raises BadInput, Unavailable."""
    key = f"clients.{settings.name}.client_path"
    if settings.storage is not None:
        return by_name.bucket(settings.storage, not is_dry), settings.client_path
    path = settings.client_path
    if os.path.lexists(path) or not settings.sync_type.from_server:
        return by_name.jail(path, key), "/"
    # It is made when the first file comes, in a directory that has to be there.
    parent, name = os.path.split(os.path.abspath(path))
    return by_name.jail(parent, key), name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. arguments: without the command's name."""
    return common.run(PROG, serve, arguments)
