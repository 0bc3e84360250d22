"""pysftpd: a standalone SSH server for SFTP, with users in Redis or in a file.

Its name, its options, and the storages that it can serve; the server is in pysftpserver/sshd/.
"""

from __future__ import annotations

import contextlib
import signal
import sys

from pysftpserver.cli import common
from pysftpserver.cli.options import Command, Option, load, markdown_table, options_of
from pysftpserver.failures import needed
from pysftpserver.service.hangups import hangups_held
from pysftpserver.service.keeping import keep_code
from pysftpserver.sshd.config import ServerSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.mongostorage import SFTPServerMongoStorage
    from pysftpserver.people.settings import PeopleSettings
    from pysftpserver.people.user_storages import UserStorages
    from pysftpserver.sshd.forkserver import ForkServer
    from pysftpserver.sshd.run_as import RunAs

PROG = "pysftpd"
CONFIG = Option(
    "--config",
    metavar="FILE",
    help="Read settings from this file: TOML, or INI with a section [options]. There is none by default.",
)
CHECK = Option(
    "--check-config",
    help="Print everything that is wrong with the settings and the files that they name, and exit. The "
    "default is to serve.",
)
COMMAND = Command(
    PROG,
    description="Serves SFTP as a standalone SSH server, for users in Redis or in a file.",
    epilog="The file of --config may have any setting, by its option's name; the command line overrides it. "
    "SIGHUP reads it again; SIGTERM ends the server when running transfers are done.",
    options=(CONFIG, CHECK, *options_of(ServerSettings)),
    examples=(
        ("Serve the users of a file:", f"{PROG} --users users.toml --sftp-path /srv/sftp"),
        ("Look for mistakes first:", f"{PROG} --config /etc/pysftpserver/pysftpd.toml --check-config"),
    ),
)


#: Runs pysftpweb, wherever this package is.
WEB = (sys.executable, "-c", "import sys; from pysftpserver.cli.pysftpweb import main; sys.exit(main())")


@hangups_held(signal.SIGUSR2)  # an upgrade may ask for a handover
def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments and serve; return the exit status. Raises BadInput."""
    keep_code()
    from pysftpserver.cli import title

    values = COMMAND.parse(arguments)
    title.hide_passwords()
    settings = load(ServerSettings, values["config"], values)
    if values["check_config"]:
        return check(settings, values["config"])
    from pysftpserver.sshd import run_as

    own = run_as.own_account(settings, values["config"])
    policy = run_as.policy(settings, own)
    if own is not None and policy is None:  # no right of root is needed
        run_as.become_own(own)

    storages = storages_of(settings)
    with fork_server(settings, storages, policy) as server:  # before asyncssh, to be small
        if own is not None and policy is not None:
            run_as.become_own(own)
        storages.load()
        with needed("sshd", "asyncssh", "cryptography"):
            import asyncssh  # noqa: F401
        from pysftpserver.sshd import processes

        return processes.run(
            settings, lambda: load(ServerSettings, values["config"], values), storages, server, WEB
        )


def own_options() -> str:
    """The table of the options that are not settings, for the page."""
    return markdown_table(Command(PROG, "", "", (CONFIG, CHECK)))


def check(settings: ServerSettings, path: str | None) -> int:
    """Print what is wrong; return the exit status. path: of the configuration."""
    with needed("sshd", "asyncssh", "cryptography"):
        import asyncssh  # noqa: F401
    from pysftpserver.sshd import checking

    return checking.check(settings, path, lambda: storages_of(settings))


def storages_of(settings: ServerSettings) -> UserStorages:
    """An object that opens the storages of users. Raises BadInput."""
    serves_accounts = bool(settings.run_as or settings.run_as_accounts)
    return user_storages(settings, settings.durable, settings.atomic_uploads, serves_accounts)


def user_storages(
    settings: PeopleSettings, is_durable: bool, atomic_uploads: bool, serves_accounts: bool = False
) -> UserStorages:
    """An object that opens the storages of users. atomic_uploads: for folders. Raises BadInput."""
    from pysftpserver.cli.session import kind_of
    from pysftpserver.people.user_storages import Openers, UserStorages
    from pysftpserver.storages.sharing import Storages
    from pysftpserver.virtualchroot import SFTPServerVirtualChroot as Jail

    wanted = {"read_only": False, "durable": is_durable, "atomic_uploads": atomic_uploads}

    def dress(kind: type) -> type:
        return kind_of(kind, wanted)

    def whole(kind: type) -> type:
        return kind_of(kind, {**wanted, "atomic_uploads": True})

    names = Storages(dress)
    of_quotas = Openers(whole(Jail), gridfs, names.dressed(whole))
    return UserStorages(settings, Openers(dress(Jail), gridfs, names, of_quotas), serves_accounts)


@contextlib.contextmanager
def fork_server(
    settings: ServerSettings, storages: UserStorages, policy: RunAs | None
) -> Iterator[ForkServer | None]:
    """The fork server for the processes of sessions, until the end of the block; None if they have none."""
    if settings.isolation == "thread":
        yield None
        return
    from pysftpserver.sshd.forkserver import ForkServer

    limits = settings.max_sessions, settings.checksums or 1
    server = ForkServer(storages.of, settings.workers, prepare, policy, *limits)
    try:
        yield server
    finally:
        server.close()


def prepare() -> Callable[[], SFTPAbstractServerStorage]:
    """Import what a session needs, because a confined process cannot; return a function that opens a storage
    for a rehearsal.
    """
    import grp  # noqa: F401
    import pwd  # noqa: F401

    import pysftpserver.site.opening
    import pysftpserver.stdio
    import pysftpserver.storage  # noqa: F401
    from pysftpserver.engine import checksums
    from pysftpserver.virtualchroot import SFTPServerVirtualChroot

    checksums.load()
    return lambda: SFTPServerVirtualChroot("/")


def gridfs(uri: str, database: str | None, bucket: str) -> SFTPServerMongoStorage:
    """The storage of a GridFS bucket. Raises BadInput, ValueError."""
    from pysftpserver.mongostorage import SFTPServerMongoStorage

    return SFTPServerMongoStorage.from_uri(uri, database, bucket=bucket)


main = common.main_of(PROG, serve)
