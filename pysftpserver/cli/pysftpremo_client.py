"""pysftpremo connect, exec, get and put: the client as commands."""

from __future__ import annotations

import shlex
import sys

from pysftpserver.cli import common
from pysftpserver.cli.options import Command, Option, load, options_of
from pysftpserver.failures import BadInput, Unavailable, one_line, reason_of
from pysftpserver.remo.config import ClientSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pysftpserver.remo.client import Client
    from pysftpserver.remo.transfer import Transfers

OWN_FAILURE = 255  # as with ssh(1), so that it is not mistaken for the command's status
BROKEN_PIPE = 141
NO_SUCH_COMMAND = 127
STOPPED = 124  # sent by the server
OPTIONS = options_of(ClientSettings)
HOST = ("HOST", "The server: a name, an address, or an http:// or https:// URL.")
CONNECT = Command(
    prog="pysftpremo connect",
    description="Open a session with a prompt. Its commands are get, put, ls, exec, iexec, idata, iend, "
    "set_encoding and quit; help explains each. In a pipe, commands are read from standard input.",
    epilog="",
    examples=(("Log in as alice:", "pysftpremo connect -u alice -k alice_key.pem HOST"),),
    statuses=((1, "In a pipe, a command has failed."),),
    options=OPTIONS,
    arguments=(HOST,),
    rest=("PORT", "The same as --port."),
)
EXEC = Command(
    prog="pysftpremo exec",
    description="Run a command on the server. Its output comes to standard output, and its exit status is "
    "that of this command.",
    epilog="The words after -- are the command; no shell sees them.",
    examples=(
        ("Run a program:", "pysftpremo exec HOST -- df -h"),
        ("Run a line of shell:", "pysftpremo exec HOST -- sh -c 'df -h | tail -1'"),
    ),
    statuses=(
        (STOPPED, "The server has stopped the command at a limit."),
        (NO_SUCH_COMMAND, "The server knows no such command."),
        (OWN_FAILURE, "This command has failed itself: the server cannot be reached, or refuses."),
    ),
    options=(
        *OPTIONS,
        Option(
            "-i",
            "--input",
            help="Read all of standard input and send it before the command starts. The default is no input.",
        ),
        Option(
            "-t",
            "--pty",
            help="Run the command on a terminal of its own; Ctrl-] leaves it. The default is pipes.",
        ),
    ),
    arguments=(HOST,),
    rest=("COMMAND", "The command and its words, after --."),
)
GET = Command(
    prog="pysftpremo get",
    description="Download files. A file appears when it is complete.",
    epilog="The last word is a local directory or, for a single file, a local name; - is standard output. * "
    "? and [ ] in the last part of a remote name match as in a shell; quote them.",
    examples=(("Download the logs:", "pysftpremo get HOST '/var/log/*.log' ."),),
    options=OPTIONS,
    arguments=(HOST,),
    rest=("NAME", "Remote names, and then a local one."),
)
PUT = Command(
    prog="pysftpremo put",
    description="Upload files. A file appears when it is complete.",
    epilog="The last word is a remote directory or, for a single file, a remote name. The local name - is "
    "standard input.",
    examples=(("Upload two files:", "pysftpremo put HOST a.csv b.csv /srv/in"),),
    options=OPTIONS,
    arguments=(HOST,),
    rest=("NAME", "Local names, and then a remote one."),
)


def _log_in(options: dict[str, Any]) -> Client:
    from pysftpserver.remo import connecting

    return connecting.log_in(options["HOST"], load(ClientSettings, None, options))


def connect(words: Sequence[str]) -> int:
    """Open a session with a prompt. Raises BadInput, Unavailable."""
    options = CONNECT.parse(words)
    ports = options["PORT"]
    if len(ports) > 1:
        raise BadInput(f"unexpected argument {ports[1]!r} (try {CONNECT.prog} --help)")
    try:
        options["port"] = ClientSettings.port.kind.parse(ports[0]) if ports else options["port"]
    except ValueError as error:
        raise BadInput(f"PORT has to be {error}, not {ports[0]!r}") from None
    from pysftpserver.remo import connecting
    from pysftpserver.remo.shell import Shell
    from pysftpserver.service.terminal import prompt_history

    with _log_in(options) as remote:
        shell = Shell(remote, options["HOST"])
        if not shell.is_terminal:
            shell.cmdloop()
            return shell.status
        mode = "numbered mode" if remote.is_numbered else "plain mode, which is weaker"
        print(f"{one_line(remote.info())}, {mode}; help lists the commands.")
        with prompt_history(connecting.state_file("history"), lambda error: None):
            shell.cmdloop()
    return 0


def execute(words: Sequence[str]) -> int:
    """Run a command on the server; return its exit status. Raises BadInput."""
    place = list(words).index("--") if "--" in words else len(words)
    options = EXEC.parse(words[:place])
    line = shlex.join([*options["COMMAND"], *words[place + 1 :]])
    if not line:
        raise BadInput("the command is missing; write it after --")
    from pysftpserver.remo import client, terminal
    from pysftpserver.remo.transfer import unencodable

    try:
        with _log_in(options) as remote:
            if options["pty"]:
                return terminal.run(remote, line, OWN_FAILURE)
            given = sys.stdin.buffer if options["input"] else None
            result = remote.run(line, given, terminal.Output())
    except client.RequestFailed as error:
        common.tell(f"{EXEC.prog}: {one_line(str(error))}")
        return NO_SUCH_COMMAND if "no such command" in str(error) else OWN_FAILURE
    except (client.RemoError, Unavailable) as error:
        common.tell(f"{EXEC.prog}: {one_line(str(error))}")
        return OWN_FAILURE
    except UnicodeError as error:
        raise unencodable(error, options["encoding"] or "utf-8") from None
    except BrokenPipeError:
        return BROKEN_PIPE
    if result.status is None:
        common.tell(f"{EXEC.prog}: this server does not report exit statuses")
        return 0
    return result.status


def get(words: Sequence[str]) -> int:
    """Download files. Raises BadInput, Unavailable."""
    return _transfer(GET, words, lambda transfers: transfers.get)


def put(words: Sequence[str]) -> int:
    """Upload files. Raises BadInput, Unavailable."""
    return _transfer(PUT, words, lambda transfers: transfers.put)


def _transfer(
    command: Command, words: Sequence[str], work: Callable[[Transfers], Callable[[Sequence[str], str], None]]
) -> int:
    options = command.parse(words)
    names = options["NAME"]
    if len(names) < 2:
        raise BadInput(f"a source and a target are needed (try {command.prog} --help)")
    from pysftpserver.remo import client
    from pysftpserver.remo.transfer import Transfers, unencodable
    from pysftpserver.service.terminal import progress

    try:
        with _log_in(options) as remote, progress() as shown:
            work(Transfers(remote, shown))(names[:-1], names[-1])
    except client.RemoError as error:
        raise Unavailable(str(error)) from None
    except UnicodeError as error:
        raise unencodable(error, options["encoding"] or "utf-8") from None
    except OSError as error:
        name = f"{error.filename}: " if isinstance(error.filename, str) else ""
        raise BadInput(f"{name}{reason_of(error)}") from None
    return 0
