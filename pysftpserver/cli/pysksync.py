"""pysksync: the SK Sync server and client.

This module has the words of the command line, and opens the storages that they name. What may not enter: the
protocol.
"""

from __future__ import annotations

import functools
import os

from pysftpserver.cli import common, options, pysksync_cert, pysksync_users
from pysftpserver.cli.options import Command, Commands, Option, Subcommand
from pysftpserver.failures import BadInput, one_line
from pysftpserver.service.hangups import hangups_held
from pysftpserver.service.keeping import keep_code
from pysftpserver.sksync.config import DEFAULT_FILE, ServerSettings, StorageSettings
from pysftpserver.storages import by_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.sksync.shares import Folder
    from pysftpserver.storages.sharing import Storages

PROG = "pysksync"
CONFIG = Option(
    "--config",
    metavar="FILE",
    help=f"Read settings from this JSON file; it may also be given as CONFIG. The default is {DEFAULT_FILE}, "
    "if it exists.",
)

SERVE = Command(
    PROG,
    description="Serves SK Sync clients, which bring directories of theirs and of this host up to date.",
    epilog='"pysksync [CONFIG] client NAME" syncs once, as the client of that name in the configuration. '
    '"pysksync users" edits the users that may log in, and "pysksync make-cert" makes a certificate. Run '
    f"{PROG} help COMMAND for the options of each.",
    rest=("CONFIG", "The same as --config."),
    options=(CONFIG, *options.options_of(ServerSettings)),
    examples=(
        ("Serve as sksync.json in the current directory says:", PROG),
        ("Share a directory:", f"{PROG} --server-root /srv/shared --port 8323"),
        ("Sync once, as a client:", f"{PROG} laptop.json client photos"),
    ),
)
CLIENT = Command(
    f"{PROG} client",
    description="Bring a directory here and one on a server up to date with each other.",
    epilog="It is called as pysksync [CONFIG] client NAME.",
    examples=(("Show what would be synced:", f"{PROG} laptop.json client photos --dry-run"),),
    statuses=((1, "A file has failed, or the sync has ended early."),),
    rest=("NAME", "The client's name in the configuration."),
    options=(
        CONFIG,
        Option(
            "-n",
            "--dry-run",
            help="Print what would be sent and received, and change nothing. The default is to sync.",
        ),
        Option(
            "-q",
            "--quiet",
            help="Print only the summary and the files that failed. The default is a progress display on a "
            "terminal, and otherwise a line for each file.",
        ),
    ),
)


def serve_or_sync(words: Sequence[str]) -> int:
    """Serve, unless the words have the form [CONFIG] client NAME. Raises BadInput."""
    return sync(words) if "client" in words else serve(words)


@hangups_held()
def serve(words: Sequence[str]) -> int:
    """Serve until a signal arrives; return the exit status. Raises BadInput, Unavailable."""
    keep_code()
    values = SERVE.parse(words)
    if len(values["CONFIG"]) > 1:
        raise BadInput(f"{' '.join(values['CONFIG'])}: give [CONFIG], or [CONFIG] client NAME")
    file = config_file(values, values["CONFIG"])
    from pysftpserver.sksync import server

    server.serve(PROG, loader(file, values), file or DEFAULT_FILE, OpenStorage())
    return 0


def sync(words: Sequence[str]) -> int:
    """Sync once; return the exit status. Raises BadInput, Unavailable."""
    values = CLIENT.parse(words)
    named, name = meaning(values["NAME"])
    file = config_file(values, named)
    settings = loader(file, {})()
    wanted = settings.client(name)
    for key in settings.unknown:
        tell(f'{file}: unknown key "{key}", ignored')
    from pysftpserver.sksync import client, report

    request = client.request_of(wanted)
    if request.tls is not None and not request.tls.is_checked:
        tell("the server's certificate is not checked: ssl_server_certfile is not set")
    is_dry = values["dry_run"]
    storage, path = client.storage_of(wanted, OpenStorage(), is_dry)
    with report.observer(values["quiet"] or is_dry, common.tell) as observer:
        try:
            summary, failure = client.sync(storage, request, path, observer, is_dry), None
        except client.SyncError as error:
            summary, failure = error.summary, str(error)
    is_printed = report.put_out(report.summary_lines(summary, is_dry), tell)
    if failure is not None:
        tell(failure)
    return 0 if is_printed and failure is None and not summary.failed else 1


def meaning(words: list[str]) -> tuple[list[str], str]:
    """(CONFIG if it is given, NAME) from the words for a client. Raises BadInput."""
    if words == ["client"]:
        return [], "client"
    if len(words) == 2:
        # One of them is left out: CONFIG, or the NAME of the client in a lone section "client".
        return ([], words[1]) if words[0] == "client" else (words[:1], words[1])
    if len(words) == 3 and words[1] == "client":
        return words[:1], words[2]
    raise BadInput(f"{' '.join(words)}: give [CONFIG], or [CONFIG] client NAME")


def config_file(values: dict[str, Any], named: Sequence[str]) -> str | None:
    """The configuration file that was named, else the one with the usual name, else None. Raises BadInput."""
    given = [*named, *([values["config"]] if values["config"] is not None else [])]
    if len(given) > 1:
        raise BadInput(f"{' and '.join(given)}: name one configuration")
    if not given and os.path.lexists(DEFAULT_FILE):
        return DEFAULT_FILE
    return given[0] if given else None


def loader(file: str | None, values: dict[str, Any]) -> Callable[[], ServerSettings]:
    """A function that reads the configuration, now and later. values: of the command line."""
    return lambda: options.load(ServerSettings, file, values)


class OpenStorage:
    """Opens a directory of this host as a jail, a storage by its name, or a database, which stays open.

    Raises BadInput, Unavailable.
    """

    site: str | None = None
    _database: SFTPAbstractServerStorage | None = None

    @functools.cached_property
    def _named(self) -> Storages:
        from pysftpserver.storages.sharing import Storages  # here, because few clients need it

        return Storages()

    def __call__(
        self,
        what: Folder | str | StorageSettings,
        key: str,
        is_dry: bool = False,
        user: str | None = None,
    ) -> SFTPAbstractServerStorage:
        values = {} if user is None else {"user": user}
        storage = self._bare(what, key, is_dry, values)
        return storage if self.site is None else self._named.under_site(self.site, "site", storage, values)

    def _bare(
        self, what: Folder | str | StorageSettings, key: str, is_dry: bool, values: dict[str, str]
    ) -> SFTPAbstractServerStorage:
        if isinstance(what, str):
            return self._named(what, key, values, is_touched=not is_dry)
        if not isinstance(what, StorageSettings):
            return by_name.jail(what.path, key)
        from pysftpserver.storages.mongo.opening import bucket  # the same

        address = what.uri, what.uri_file, what.database
        try:
            if self._database is None:
                self._database = bucket(*address, what.bucket, what.prefix, is_touched=not is_dry)
        except BadInput as error:
            raise type(error)(f"storage: {error.message}") from None
        return self._database

    def is_of_user(self, name: str, key: str) -> bool:
        """Whether {user} is in a name. If so, import what the storage needs; it cannot be opened yet."""
        is_of_user = self._named.has_fields(name, key, "user")
        if is_of_user:
            self._named.load(name, key, "user")
        return is_of_user

    def directories(self, name: str, key: str, user: str) -> list[str]:
        try:
            return self._named.directories(name, key, {"user": user})
        except BadInput:
            return []  # a user whose name cannot be part of a path gets no session


def tell(text: str) -> None:
    """A line of this command to standard error."""
    common.tell(f"{PROG}: {one_line(text)}")


COMMANDS = Commands(
    PROG,
    SERVE.description,
    (
        Subcommand(
            "client", "Sync once, as a client.", lambda words: sync(["client", *words]), lambda: CLIENT
        ),
        Subcommand(
            "users",
            "List, add, change and remove the users that may log in.",
            pysksync_users.USERS.run,
            lambda: pysksync_users.USERS,
        ),
        Subcommand("useredit", "The older spelling of users.", pysksync_users.edit, pysksync_users.useredit),
        Subcommand(
            "make-cert",
            "Make a self-signed certificate and its key.",
            pysksync_cert.serve,
            lambda: pysksync_cert.COMMAND,
        ),
    ),
    fallback=serve_or_sync,
    own=SERVE,
)


main = common.main_of(PROG, COMMANDS.run)
