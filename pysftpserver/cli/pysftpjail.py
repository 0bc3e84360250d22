"""pysftpjail: SFTP on standard input and output, jailed in a directory."""

from __future__ import annotations

import os

from pysftpserver.cli import common, session
from pysftpserver.cli.options import Command, Option
from pysftpserver.failures import BadInput, reason_of
from pysftpserver.host import homes
from pysftpserver.virtualchroot import SFTPServerVirtualChroot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

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
        Option(
            "--allow-home-in-jail",
            help="Serve a directory that holds the account's home directory, its .ssh or its start-up files. "
            "The default is to refuse it, because clients could make the account run their programs.",
        ),
        session.LIST_REQUESTS,
    ),
)


def check_place(options: dict[str, Any]) -> None:
    """Raises BadInput for a jail that holds what this account runs, or the records of the session."""
    chroot = options["chroot"]
    try:
        root = os.stat(chroot)
        held = None if options["allow_home_in_jail"] else homes.held_by(chroot)
    except (OSError, ValueError):
        return  # open_jail() says what is wrong
    if held is not None:
        message = (
            f"chroot {chroot}: it holds {held}, so clients could make this account run programs; name a "
            "directory beside that, or add --allow-home-in-jail"
        )
        raise BadInput(message, "the chroot directory holds start-up files of the account")
    for what, path in (("log file", options["logfile"]), ("audit log", options["audit"])):
        if path not in (None, "", session.STANDARD_ERROR) and homes.is_in(path, root):
            message = f"{what} {path}: clients could change it; name a file outside of the jail {chroot}"
            raise BadInput(message, f"the {what} is in the jail")


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
    check_place(options)
    log = session.open_log(PROG, options)
    kind = session.kind_of(SFTPServerVirtualChroot, options)
    jail = open_jail(options["chroot"], options["start_directory"], kind)
    return session.serve(PROG, jail, log, options)


main = common.main_of(PROG, serve)
