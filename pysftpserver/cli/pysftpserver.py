"""pysftpserver: the drop-in for sftp-server(8), with that program's flags and log lines."""

from __future__ import annotations

import argparse
import os
import pwd

from pysftpserver.cli import common
from pysftpserver.log import SFTPLog
from pysftpserver.server import SFTPServer
from pysftpserver.storage import SFTPServerStorage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PROG = "pysftpserver"


class Query(argparse.Action):
    """-Q requests"""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option: str | None = None,
    ) -> None:
        if values != "requests":
            parser.error(f"-Q {values}: the only thing to ask for is requests")
        common.ListRequests(["-Q"], "query", nargs=0)(parser)


def build_parser() -> argparse.ArgumentParser:
    """The command's options: sftp-server(8)'s letters, and long names for people."""
    parser = common.OneLineParser(
        prog=PROG,
        description="A drop-in for OpenSSH's sftp-server: all files that the user may reach, over SFTP on "
        "standard input and output.",
        epilog="It is started by sshd, for example by Subsystem sftp /usr/local/bin/pysftpserver in "
        "sshd_config.",
    )
    parser.add_argument(
        "-d",
        "--start-directory",
        metavar="DIR",
        help="Start sessions in this directory; %%d in it is the user's home directory, %%u the user's "
        "name, %%%% a percent sign. The default is the directory that the command was started in.",
    )
    parser.add_argument(
        "-e",
        dest="to_stderr",
        action="store_true",
        help="Log to standard error. The default is to log to syslog.",
    )
    parser.add_argument(
        "-f",
        "--log-facility",
        metavar="FACILITY",
        type=common.log_facility,
        default="AUTH",
        help="Log to this syslog facility: DAEMON, USER, AUTH or LOCAL0 to LOCAL7. The default is AUTH.",
    )
    parser.add_argument(
        "-l",
        "--log-level",
        metavar="LEVEL",
        type=common.log_level,
        default="ERROR",
        help="Log up to this level: QUIET, FATAL, ERROR, INFO, VERBOSE, DEBUG, DEBUG1, DEBUG2 or DEBUG3. "
        "The default is ERROR.",
    )
    common.add_access_options(parser)
    parser.add_argument(
        "-Q",
        dest="query",
        metavar="requests",
        action=Query,
        help="Print the names of all requests, for -p and -P, and exit.",
    )
    common.add_version_option(parser)
    return parser


def expand(template: str, user: pwd.struct_passwd) -> str:
    """%d, %u and %% in a start directory. Raises CommandError for any other."""
    values = {"%": "%", "d": user.pw_dir, "u": user.pw_name}
    expanded = []
    letters = iter(template)
    for letter in letters:
        if letter == "%":
            token = next(letters, "")
            if token not in values:
                message = f"start directory {template}: unknown %{token}; there are %d, %u and %%"
                raise common.CommandError(message, "the start directory cannot be used")
            letter = values[token]
        expanded.append(letter)
    return "".join(expanded)


def home(start_directory: str | None, log: SFTPLog) -> str:
    """Where sessions start. A directory that is not there is logged and, as in OpenSSH, passed over."""
    here = os.getcwd()
    if start_directory is None:
        return here
    wanted = os.path.join(here, expand(start_directory, pwd.getpwuid(os.getuid())))
    try:
        os.close(os.open(wanted, os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        log.error(f'chdir to "{wanted}" failed: {error.strerror}')
        return here
    return os.path.realpath(wanted)


def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments and serve the session."""
    options = build_parser().parse_args(arguments)
    if options.to_stderr:
        log = common.stderr_log(options.log_level)
    else:
        log = common.syslog(options.log_level, PROG, options.log_facility)
    storage = SFTPServerStorage(home(options.start_directory, log))
    common.set_umask(options.umask)
    common.check_client(PROG)
    return SFTPServer(
        storage,
        log=log,
        read_only=options.read_only,
        allow=options.allow_requests,
        deny=options.deny_requests,
    ).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. arguments: without the command's name."""
    return common.run(PROG, serve, arguments)
