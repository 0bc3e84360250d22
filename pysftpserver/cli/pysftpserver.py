"""pysftpserver: the drop-in for sftp-server(8), with that program's flags and log lines."""

from __future__ import annotations

import os
import pwd

from pysftpserver.cli import common, session
from pysftpserver.cli.options import BadValue, Command, Option
from pysftpserver.engine.log import ERROR, FACILITIES, SFTPLog, stderr_sink, syslog
from pysftpserver.failures import BadInput
from pysftpserver.storage import SFTPServerStorage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PROG = "pysftpserver"


def query(feature: str) -> str:
    """The output of -Q. Raises BadValue for anything except requests."""
    if feature != "requests":
        raise BadValue(f"{feature!r}: unknown query; use -Q requests")
    return "\n".join(session.request_names())


# fmt: off
COMMAND = Command(
    PROG,
    description="Serves all files that the user can reach over SFTP on standard input and output. It is a "
    "drop-in replacement for OpenSSH's sftp-server.",
    epilog="It is started by sshd.",
    examples=(
        ("In sshd_config, in place of sftp-server:", "Subsystem sftp /opt/pysftpserver/bin/pysftpserver"),
        ("Try it without sshd:", f'sftp -D "{PROG} -R -e"'),
    ),
    statuses=session.STATUSES,
    rest=("operand", "Ignored, as by sftp-server: scp -D gives a host and a subsystem."),
    options=(
        Option(
            "-d", "--start-directory", metavar="DIR",
            help="Start sessions in this directory. %%d stands for the user's home directory, %%u for the "
            "user's name and %%%% for a percent sign. The default is the current directory.",
        ),
        Option("-e", name="to_stderr", help="Log to standard error. The default is to log to syslog."),
        Option(
            "-f", "--log-facility", metavar="FACILITY", convert=session.log_facility, default="AUTH",
            choices=FACILITIES,
            help="Log to this syslog facility: DAEMON, USER, AUTH or LOCAL0 to LOCAL7. The default is AUTH.",
        ),
        Option(
            "-l", "--log-level", metavar="LEVEL", convert=session.log_level, default=ERROR,
            choices=session.LEVEL_NAMES,
            help="Log up to this level: QUIET, FATAL, ERROR, INFO, VERBOSE, DEBUG, DEBUG1, DEBUG2 or "
            "DEBUG3. The default is ERROR.",
        ),
        *session.ACCESS_OPTIONS,
        *session.LIMIT_OPTIONS,
        *session.SECURITY_OPTIONS,
        Option(
            "-Q", name="query", metavar="requests", instead=query, choices=("requests",),
            help="Print the names of all requests, for use with -p and -P, and exit.",
        ),
    ),
)
# fmt: on


def expand(template: str) -> str:
    """Expand %d, %u and %% in a start directory. Raises BadInput for any other %, or without a user name."""
    values = {"%": "%"}
    if "%d" in template or "%u" in template:
        values.update(_user())
    expanded = []
    letters = iter(template)
    for letter in letters:
        if letter == "%":
            token = next(letters, "")
            if token not in values:
                message = f"start directory {template}: unknown %{token}; use %d, %u or %%"
                raise BadInput(message, "the start directory cannot be used")
            letter = values[token]
        expanded.append(letter)
    return "".join(expanded)


def _user() -> dict[str, str]:
    try:
        user = pwd.getpwuid(os.getuid())
    except KeyError:
        message = f"no user found for uid {os.getuid()}: name a start directory without %d and %u"
        raise BadInput(message) from None
    return {"d": user.pw_dir, "u": user.pw_name}


def home(start_directory: str | None, log: SFTPLog) -> str:
    """Return the directory where sessions start.

    One that cannot be entered is logged and ignored, as OpenSSH does. Raises BadInput for an unknown %.
    """
    try:
        here = os.getcwd()
    except OSError:  # the current directory was removed
        here = "/"
    if start_directory is None:
        return here
    wanted = os.path.join(here, expand(start_directory))
    try:
        os.close(os.open(wanted, os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        log.error(f'chdir to "{wanted}" failed: {error.strerror}')
        return here
    return os.path.realpath(wanted)


def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments and serve the session."""
    options = COMMAND.parse(arguments)
    if options["to_stderr"]:
        log = SFTPLog(stderr_sink(), options["log_level"])
    else:
        log = syslog(options["log_level"], PROG, options["log_facility"])
    start = home(options["start_directory"], log)
    storage = session.kind_of(SFTPServerStorage, options)(start)
    return session.serve(PROG, storage, log, {**options, "allow_setid": True})  # as sftp-server does


main = common.main_of(PROG, serve)
