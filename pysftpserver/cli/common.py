"""What the commands share: options, their values, and how a command fails.

Bad input ends a command with one line on standard error and exit status 2. Under sshd, standard error
goes to the client; a line that would tell it a path of this host goes there without the path, and to
syslog in full.
"""

from __future__ import annotations

import argparse
import os
import sys

from pysftpserver import __version__
from pysftpserver.log import FACILITIES, LEVELS, SFTPLog, file_sink, stderr_sink, syslog_sink
from pysftpserver.requests import EXTENDED_REQUESTS, REQUESTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

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


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (try {self.prog} --help)", "bad arguments")


def request_names() -> list[str]:
    """The names of all requests, in the order of sftp-server(8)."""
    return [request.name for request in (*REQUESTS.values(), *EXTENDED_REQUESTS.values())]


def request_list(text: str) -> list[str]:
    """A comma-separated list of request names. Raises ArgumentTypeError for an unknown one."""
    names = text.split(",")
    for name in names:
        if name not in request_names():
            raise argparse.ArgumentTypeError(f"unknown request {name!r}; -Q lists them")
    return names


def octal_umask(text: str) -> int:
    """A umask in octal, 0 to 777. Raises ArgumentTypeError for anything else."""
    if not text or set(text) - set("01234567") or int(text, 8) > 0o777:
        raise argparse.ArgumentTypeError(f"invalid umask {text!r}: give an octal number up to 777")
    return int(text, 8)


def log_level(text: str) -> int:
    """The number of a log level. Raises ArgumentTypeError for an unknown name."""
    try:
        return LEVELS[text.upper()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"invalid log level {text!r}: one of {', '.join(LEVELS)}") from None


def log_facility(text: str) -> str:
    """A syslog facility. Raises ArgumentTypeError for an unknown name."""
    if text.upper() not in FACILITIES:
        raise argparse.ArgumentTypeError(f"invalid log facility {text!r}: one of {', '.join(FACILITIES)}")
    return text.upper()


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """The options that say what a session may do."""
    parser.add_argument(
        "-R",
        "--read-only",
        action="store_true",
        help="Refuse every request that would change anything. The default is to allow them.",
    )
    parser.add_argument(
        "-p",
        "--allow-requests",
        metavar="LIST",
        type=request_list,
        help="Allow only these requests, a comma-separated list of names. The default is to allow all.",
    )
    parser.add_argument(
        "-P",
        "--deny-requests",
        metavar="LIST",
        type=request_list,
        default=[],
        help="Refuse these requests, a comma-separated list of names, even if they are allowed by -p. "
        "The default is to refuse none.",
    )
    parser.add_argument(
        "-u",
        "--umask",
        type=octal_umask,
        help="Set the umask, an octal number, for new files and directories. The default is the umask "
        "that the command was started with.",
    )


def add_version_option(parser: argparse.ArgumentParser) -> None:
    """--version"""
    text = f"%(prog)s {__version__}"
    parser.add_argument("--version", action="version", version=text, help="Print the version and exit.")


class ListRequests(argparse.Action):
    """Prints the names of all requests, a line each, and ends the command."""

    def __call__(self, parser: argparse.ArgumentParser, *ignored: object) -> None:
        print("\n".join(request_names()))
        parser.exit()


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


def set_umask(umask: int | None) -> None:
    """A command is a process of its own: its umask is the session's, and costs nothing per file."""
    if umask is not None:
        os.umask(umask)


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
        print(
            f"{prog}: this speaks SFTP on standard input and output; it is for sshd to start", file=sys.stderr
        )


def run(prog: str, command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None) -> int:
    """Run a command; turn what goes wrong into a line and an exit status."""
    try:
        return command(sys.argv[1:] if arguments is None else arguments)
    except CommandError as error:
        _complain(prog, error)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        syslog(LEVELS["ERROR"], prog).fault(error)
        print(f"{prog}: internal error ({type(error).__name__}); syslog says more", file=sys.stderr)
        return INTERNAL_ERROR


def _complain(prog: str, error: CommandError) -> None:
    text = error.message
    if "SSH_CONNECTION" in os.environ:
        syslog(LEVELS["ERROR"], prog).error(_one_line(text))
        text = error.public
    print(f"{prog}: {_one_line(text)}", file=sys.stderr)


def _one_line(text: str) -> str:
    """Whatever is not printable, line ends among it, as an escape."""
    parts = (letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return "".join(parts)
