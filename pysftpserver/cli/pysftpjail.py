"""pysftpjail: SFTP on standard input and output, jailed in a directory."""

from __future__ import annotations

from pysftpserver.cli import common, session
from pysftpserver.cli.options import Command, Option
from pysftpserver.failures import BadInput, reason_of
from pysftpserver.virtualchroot import SFTPServerVirtualChroot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PROG = "pysftpjail"

COMMAND = Command(
    PROG,
    description="Serves one directory over SFTP on standard input and output. Clients cannot leave it.",
    epilog='Started by sshd, for example from this line in authorized_keys: restrict,command="pysftpjail '
    '/srv/jail" ssh-ed25519 AAAA...',
    arguments=[("chroot", "The directory to serve. Clients see it as /.")],
    options=(
        *session.LOG_OPTIONS,
        session.CLIENT_NAME,
        Option(
            "-d",
            "--start-directory",
            metavar="DIR",
            default="/",
            help="Start sessions in this directory of the jail. The default is its root.",
        ),
        *session.ACCESS_OPTIONS,
        *session.LIMIT_OPTIONS,
        *session.SECURITY_OPTIONS,
        session.ALLOW_SETID,
        session.ALLOW_HOME,
        session.LIST_REQUESTS,
    ),
)


def open_jail(
    chroot: str, start_directory: str, kind: type[SFTPServerVirtualChroot]
) -> SFTPServerVirtualChroot:
    """Return the jail in the directory chroot, with its home at start_directory. Raises BadInput."""
    try:
        jail = kind(chroot)
        jail.stat(b"/.")  # fails where the account may open the directory and not enter it
    except OSError as error:
        message = f"chroot {chroot}: {reason_of(error)}; name an existing directory that this user may enter"
        raise BadInput(message, "the chroot directory cannot be used") from None
    session.set_home(jail, start_directory, "jail")
    return jail


def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments and serve the session."""
    options = COMMAND.parse(arguments)
    session.check_jail(options["chroot"], options)
    log = session.open_log(PROG, options)
    kind = session.kind_of(SFTPServerVirtualChroot, options)
    jail = open_jail(options["chroot"], options["start_directory"], kind)
    return session.serve(PROG, jail, log, options)


main = common.main_of(PROG, serve)
