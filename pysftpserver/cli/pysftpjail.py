"""pysftpjail: SFTP on standard input and output, jailed in a directory."""

from __future__ import annotations

import argparse
import errno
import os
from stat import S_ISDIR

from pysftpserver.cli import common
from pysftpserver.server import SFTPServer
from pysftpserver.virtualchroot import SFTPServerVirtualChroot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PROG = "pysftpjail"


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = common.OneLineParser(
        prog=PROG,
        description="An OpenSSH SFTP server wrapper that jails the user in a chroot directory.",
        epilog='It is started by sshd, for example by command="pysftpjail /srv/jail",restrict before a '
        "key in authorized_keys.",
    )
    parser.add_argument("chroot", help="The directory that becomes the root of all the client can see.")
    parser.add_argument(
        "-l",
        "--logfile",
        help="Append the log to this file. The default is to log to syslog, facility AUTH.",
    )
    parser.add_argument(
        "--log-level",
        metavar="LEVEL",
        type=common.log_level,
        default="INFO",
        help="Log up to this level: QUIET, FATAL, ERROR, INFO, VERBOSE or DEBUG. The default is INFO.",
    )
    parser.add_argument(
        "-d",
        "--start-directory",
        metavar="DIR",
        default="/",
        help="Start sessions in this directory of the jail. The default is its root.",
    )
    common.add_access_options(parser)
    parser.add_argument(
        "-Q",
        "--list-requests",
        action=common.ListRequests,
        nargs=0,
        help="Print the names of all requests, for -p and -P, and exit.",
    )
    common.add_version_option(parser)
    return parser


def open_jail(chroot: str, start_directory: str) -> SFTPServerVirtualChroot:
    """The jail. Raises CommandError when it or its start directory is not there."""
    try:
        jail = SFTPServerVirtualChroot(chroot)
        jail.stat(b"/.")  # to hold a descriptor of a directory is not yet to be allowed into it
    except OSError as error:
        reason = {errno.ENOENT: "no such directory", errno.ENOTDIR: "not a directory"}
        text = reason.get(error.errno or 0, error.strerror)
        message = f"chroot {chroot}: {text}; name an existing directory that this user may enter"
        raise common.CommandError(message, "the chroot directory cannot be used") from None
    try:
        jail.home = jail.realpath(b"/" + os.fsencode(start_directory))
        is_directory = S_ISDIR(jail.stat(jail.home + b"/.").permissions or 0)
    except (OSError, ValueError):
        is_directory = False
    if not is_directory:
        message = f"start directory {start_directory}: no such directory in the jail"
        raise common.CommandError(message, "the start directory cannot be used")
    return jail


def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments and serve the session."""
    options = build_parser().parse_args(arguments)
    if options.logfile is not None:
        log = common.file_log(options.logfile, options.log_level, PROG)
    else:
        log = common.syslog(options.log_level, PROG)
    jail = open_jail(options.chroot, options.start_directory)
    common.set_umask(options.umask)
    common.check_client(PROG)
    return SFTPServer(
        jail,
        log=log,
        read_only=options.read_only,
        allow=options.allow_requests,
        deny=options.deny_requests,
    ).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. arguments: without the command's name."""
    return common.run(PROG, serve, arguments)
