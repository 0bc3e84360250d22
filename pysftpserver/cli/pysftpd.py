"""pysftpd: a standalone SSH server for SFTP, with users in Redis or in a file.

What it is called, what it takes, and which storages it can serve; the server is in pysftpserver/sshd/.
"""

from __future__ import annotations

from pysftpserver.cli import common
from pysftpserver.cli.options import Command, Option, load, options_of
from pysftpserver.failures import needed
from pysftpserver.service.hangups import hangups_held
from pysftpserver.sshd.config import ServerSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysftpserver.mongostorage import SFTPServerMongoStorage

PROG = "pysftpd"
CONFIG = Option(
    "--config",
    metavar="FILE",
    help="Read settings from this file: TOML, or INI with a section [options]. There is none by default.",
)
COMMAND = Command(
    PROG,
    description="A standalone SSH server for SFTP, with users in Redis or in a file.",
    epilog="The file of --config may hold every setting under the name of its option; what is typed wins.",
    options=(CONFIG, *options_of(ServerSettings)),
)


@hangups_held()
def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments and serve; return the exit status. Raises BadInput."""
    from pysftpserver.cli import title

    values = COMMAND.parse(arguments)
    title.hide_passwords()
    settings = load(ServerSettings, values["config"], values)
    settings.refuse_root()
    with needed("sshd", "asyncssh", "cryptography"):
        import asyncssh  # noqa: F401
    from pysftpserver.cli.session import kind_of
    from pysftpserver.sshd import processes
    from pysftpserver.sshd.user_storages import Openers
    from pysftpserver.storages.by_name import maker
    from pysftpserver.virtualchroot import SFTPServerVirtualChroot

    wanted = {"read_only": False, "durable": settings.durable, "atomic_uploads": settings.atomic_uploads}
    openers = Openers(kind_of(SFTPServerVirtualChroot, wanted), gridfs, maker)
    return processes.run(settings, lambda: load(ServerSettings, values["config"], values), openers)


def gridfs(uri: str, database: str | None, bucket: str) -> SFTPServerMongoStorage:
    """The storage of a GridFS bucket. Raises BadInput, ValueError."""
    from pysftpserver.mongostorage import SFTPServerMongoStorage

    return SFTPServerMongoStorage.from_uri(uri, database, bucket=bucket)


main = common.main_of(PROG, serve)
