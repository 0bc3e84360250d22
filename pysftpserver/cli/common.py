"""What the commands share: options, their values, and how a command fails.

Bad input ends a command with one line on standard error and exit status 2. Under sshd, standard error
goes to the client; a line that would tell it a path of this host goes there without the path, and to
syslog in full.
"""

from __future__ import annotations

import os
import sys

from pysftpserver.cli.options import BadValue, Option
from pysftpserver.limits import LIMITS, Limits
from pysftpserver.log import FACILITIES, LEVELS, SFTPLog, file_sink, stderr_sink, syslog_sink
from pysftpserver.requests import EXTENDED_REQUESTS, REQUESTS
from pysftpserver.server import SFTPServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.limits import Limit

OTHER_PROTOCOLS = ("scp", "rsync")  # first words of the commands that such clients ask sshd for
USAGE_ERROR = 2
INTERNAL_ERROR = 1


class CommandError(Exception):
    """Bad input. message: what is wrong and what to do, in one line. public: the same in words that may
    reach a client, when message names something of this host."""

    def __init__(self, message: str, public: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.public = message if public is None else f"{public} (syslog says more)"


def request_names() -> list[str]:
    """The names of all requests, in the order of sftp-server(8)."""
    return [request.name for request in (*REQUESTS.values(), *EXTENDED_REQUESTS.values())]


def request_list(text: str) -> list[str]:
    """A comma-separated list of request names. Raises BadValue for an unknown one."""
    names = text.split(",")
    for name in names:
        if name not in request_names():
            raise BadValue(f"unknown request {name!r}; -Q lists them")
    return names


def octal_umask(text: str) -> int:
    """A umask in octal, 0 to 777. Raises BadValue for anything else."""
    if not text or set(text) - set("01234567") or int(text, 8) > 0o777:
        raise BadValue(f"invalid umask {text!r}: give an octal number up to 777")
    return int(text, 8)


def log_level(text: str) -> int:
    """The number of a log level. Raises BadValue for an unknown name."""
    try:
        return LEVELS[text.upper()]
    except KeyError:
        raise BadValue(f"invalid log level {text!r}: one of {', '.join(LEVELS)}") from None


def log_facility(text: str) -> str:
    """A syslog facility. Raises BadValue for an unknown name."""
    if text.upper() not in FACILITIES:
        raise BadValue(f"invalid log facility {text!r}: one of {', '.join(FACILITIES)}")
    return text.upper()


def _number(limit: Limit) -> Callable[[str], int]:
    """A converter for the value of a limit. It raises BadValue for anything out of its range."""

    def convert(text: str) -> int:
        # int() takes more than digits, and may take long over very many of them.
        if text.isdecimal() and text.isascii() and len(text) < 12 and limit.least <= int(text) <= limit.most:
            return int(text)
        raise BadValue(f"invalid number {text!r}: {limit.least} to {limit.most} {limit.unit}")

    return convert


def _limit_option(limit: Limit) -> Option:
    default = "" if limit.default is None else f" The default is {limit.default}."
    return Option(
        limit.flag,
        metavar=limit.unit.upper(),
        convert=_number(limit),
        help=f"{limit.text}{default} {limit.least} to {limit.most} {limit.unit} can be asked for.",
    )


#: What a session may take.
LIMIT_OPTIONS = tuple(map(_limit_option, LIMITS))

#: What a session may do.
ACCESS_OPTIONS = (
    Option(
        "-R",
        "--read-only",
        help="Refuse every request that would change anything. The default is to allow them.",
    ),
    Option(
        "-p",
        "--allow-requests",
        metavar="LIST",
        convert=request_list,
        help="Allow only these requests, a comma-separated list of names. The default is to allow all.",
    ),
    Option(
        "-P",
        "--deny-requests",
        metavar="LIST",
        convert=request_list,
        default=(),
        help="Refuse these requests, a comma-separated list of names, even if they are allowed by -p. "
        "The default is to refuse none.",
    ),
    Option(
        "-u",
        "--umask",
        metavar="UMASK",
        convert=octal_umask,
        help="Set the umask, an octal number, for new files and directories. The default is the umask "
        "that the command was started with.",
    ),
)


def file_log(path: str, level: int, ident: str) -> SFTPLog:
    """A log appended to a file. Raises CommandError when that file cannot be written."""
    try:
        return SFTPLog(file_sink(path, ident), level)
    except OSError as error:
        message = f"log file {path}: {error.strerror}; name a file that can be written"
        raise CommandError(message, "the log file cannot be written") from None


def syslog(level: int, ident: str, facility: str = "AUTH") -> SFTPLog:
    """A log to syslog."""
    return SFTPLog(syslog_sink(ident, facility), level)


def stderr_log(level: int) -> SFTPLog:
    """A log to standard error."""
    return SFTPLog(stderr_sink(), level)


def serve(prog: str, storage: SFTPAbstractServerStorage, log: SFTPLog, options: dict[str, Any]) -> int:
    """Serve one session of a command with ACCESS_OPTIONS and LIMIT_OPTIONS; return the exit status."""
    check_client(prog)
    if options["umask"] is not None:
        os.umask(options["umask"])  # the process is the session's own, and this costs nothing per file
    limits = zip(LIMITS, LIMIT_OPTIONS, strict=True)
    server = SFTPServer(
        storage,
        log=log,
        read_only=options["read_only"],
        allow=options["allow_requests"],
        deny=options["deny_requests"],
        limits=Limits(**{limit.name: options[option.name] for limit, option in limits}),
    )
    return server.run()


def check_client(prog: str) -> None:
    """Turn away who does not speak SFTP and would wait for ever, as `scp -O` does; sshd names it.

    Only programs known not to speak it: the command of a Subsystem may have any name. Somebody who
    typed the command is told what it waits for.
    Raises CommandError.
    """
    words = os.environ.get("SSH_ORIGINAL_COMMAND", "").split()
    if words and os.path.basename(words[0]) in OTHER_PROTOCOLS:
        raise CommandError("this service allows sftp connections only")
    if os.isatty(0) and "SSH_CONNECTION" not in os.environ:
        _tell(f"{prog}: this speaks SFTP on standard input and output; it is for sshd to start")


def run(prog: str, command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None) -> int:
    """Run a command; turn what goes wrong into a line and an exit status."""
    _open_closed_descriptors()
    try:
        return command(sys.argv[1:] if arguments is None else arguments)
    except CommandError as error:
        _complain(prog, error)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        syslog(LEVELS["ERROR"], prog).fault(error)
        _tell(f"{prog}: internal error ({type(error).__name__}); syslog says more")
        return INTERNAL_ERROR


def _complain(prog: str, error: CommandError) -> None:
    text = error.message
    if "SSH_CONNECTION" in os.environ:
        syslog(LEVELS["ERROR"], prog).error(_one_line(text))
        text = error.public
    _tell(f"{prog}: {_one_line(text)}")


def _tell(line: str) -> None:
    """One line to standard error; print() would take standard output where that was closed."""
    try:
        os.write(2, line.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass


def _open_closed_descriptors() -> None:
    """Standard descriptors that were closed lead nowhere, before a file opened later takes their place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one


def _one_line(text: str) -> str:
    """Whatever is not printable, line ends among it, as an escape."""
    parts = (letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return "".join(parts)
