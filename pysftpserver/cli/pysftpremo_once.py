"""pysftpremo exec, get and put: one thing each, for scripts.

What may not enter: the protocol.
"""

from __future__ import annotations

import os
import posixpath
import shlex
import sys

from pysftpserver.cli import common, pysftpremo_terminal
from pysftpserver.cli.options import Command, Option
from pysftpserver.cli.pysftpremo_client import (
    HOST,
    OPTIONS,
    PORT,
    Progress,
    fetch,
    is_directory,
    local_names,
    log_in,
    remote_names,
    store,
    unsayable,
)
from pysftpserver.failures import BadInput, Unavailable, one_line
from pysftpserver.remo import client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

OWN_FAILURE = 255  # as ssh(1) has it, so that no command's status is mistaken for it
EXEC = Command(
    prog="pysftpremo exec",
    description="Run a command on the server. Its output and its errors come here as they are, and its exit "
    "status is this command's.",
    epilog="Write the command after --, and it is handed over word for word, to no shell: "
    "pysftpremo exec HOST -- sh -c 'df -h | tail -1'. What this command itself cannot do ends it with status "
    f"{OWN_FAILURE}; a command that the server stopped for its limits has status 124.",
    options=(
        PORT,
        *OPTIONS,
        Option("-i", "--input", help="Hand over standard input, up to its end, before the command starts."),
        Option(
            "-t",
            "--pty",
            help="Run it on a terminal of its own there, as in this one, for programs that want one. Ctrl-] "
            "leaves it.",
        ),
    ),
    arguments=(HOST,),
    rest=("COMMAND", "The command and its words, after --."),
)
GET = Command(
    prog="pysftpremo get",
    description="Fetch files from the server. Each is there whole or not at all.",
    epilog="The last word is a directory or, for a single file, a name here; - is standard output. In the "
    "last part of a remote name, * ? and [ ] mean what they do in a shell: put it in quotes.",
    options=(PORT, *OPTIONS),
    arguments=(HOST,),
    rest=("NAME", "Remote names, and the last: where to put them."),
)
PUT = Command(
    prog="pysftpremo put",
    description="Store files on the server. Each is there whole or not at all.",
    epilog="The last word is a remote directory or, for a single file, a remote name. A local name - is "
    "standard input.",
    options=(PORT, *OPTIONS),
    arguments=(HOST,),
    rest=("NAME", "Names here, and the last: where to put them there."),
)


def execute(words: Sequence[str]) -> int:
    """Run a command there; its status. Raises BadInput."""
    own, command = _cut(words)
    options = EXEC.parse(own)
    line = shlex.join([*options["COMMAND"], *command])
    if not line:
        raise BadInput("no command is given; write it after --")
    try:
        with log_in(options, options["port"]) as remote:
            if options["pty"]:
                return _on_a_terminal(remote, line)
            given = sys.stdin.buffer if options["input"] else None
            result = remote.run(line, given, _Output())
    except client.RequestFailed as error:
        common.tell(f"{EXEC.prog}: {one_line(str(error))}")
        return 127 if "no such command" in str(error) else OWN_FAILURE
    except (client.RemoError, Unavailable) as error:
        common.tell(f"{EXEC.prog}: {one_line(str(error))}")
        return OWN_FAILURE
    except UnicodeError as error:
        raise unsayable(error, options["encoding"]) from None
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # nobody reads any more, nor the last flush
        return 141
    if result.status is None:
        common.tell(f"{EXEC.prog}: this server does not tell how a command ended")
        return 0
    return result.status


class _Output:
    """Standard output, where each piece goes at once: a command may take its time for the next one."""

    def write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _on_a_terminal(remote: client.Client, line: str) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput("--pty needs a terminal here, too; leave it out in a script")
    command, said = remote.start(line, size=pysftpremo_terminal.size())
    if not pysftpremo_terminal.talk(command, said, is_terminal=True):
        return OWN_FAILURE  # left: the end of the session ends it
    status, _ = command.outcome()
    return 0 if status is None else status


def get(words: Sequence[str]) -> int:
    """Fetch files. Raises BadInput."""
    options = GET.parse(words)
    names, target = _sources(options["NAME"], GET)

    def fetch_all(remote: client.Client) -> None:
        found = [name for pattern in names for name in remote_names(remote, pattern)]
        if len(found) > 1 and target != "-" and not os.path.isdir(target):
            raise BadInput(f"{target}: several files need a directory that is there")
        for name in found:
            fetch(remote, name, target, Progress())

    return _with_files(GET, options, fetch_all)


def put(words: Sequence[str]) -> int:
    """Store files. Raises BadInput."""
    options = PUT.parse(words)
    patterns, target = _sources(options["NAME"], PUT)
    names = [name for pattern in patterns for name in local_names(pattern)]

    def store_all(remote: client.Client) -> None:
        if not is_directory(remote, target):
            if len(names) > 1:
                raise BadInput(f"{target}: several files need a directory that is there")
            store(remote, names[0], target, Progress())
            return
        for name in names:
            if name == "-":
                raise BadInput(f"{target}: standard input needs a name there, and this is a directory")
            store(remote, name, posixpath.join(target, os.path.basename(name)), Progress())

    return _with_files(PUT, options, store_all)


def _with_files(command: Command, options: dict[str, Any], work: Callable[[client.Client], None]) -> int:
    try:
        with log_in(options, options["port"]) as remote:
            work(remote)
    except client.RemoError as error:
        raise Unavailable(str(error)) from None
    except UnicodeError as error:
        raise unsayable(error, options["encoding"]) from None
    except OSError as error:
        name = f"{error.filename}: " if isinstance(error.filename, str) else ""
        raise BadInput(f"{name}{(error.strerror or 'failure').lower()}") from None
    return 0


def _sources(names: list[str], command: Command) -> tuple[list[str], str]:
    if len(names) < 2:
        raise BadInput(f"two names are needed at least (try {command.prog} --help)")
    return names[:-1], names[-1]


def _cut(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    if "--" not in words:
        return words, ()
    place = list(words).index("--")
    return words[:place], words[place + 1 :]
