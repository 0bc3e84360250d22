"""pysftpremo connect: a prompt, with history and completion.

What may not enter: the protocol.
"""

from __future__ import annotations

import cmd
import glob
import os
import posixpath
import re
import shlex
import sys
from stat import S_ISDIR

from pysftpserver.cli import common, pysftpremo_terminal
from pysftpserver.cli.options import Command
from pysftpserver.cli.pysftpremo_client import (
    HOST,
    OPTIONS,
    Progress,
    fetch,
    is_directory,
    local_names,
    log_in,
    remote_names,
    state_directory,
    store,
)
from pysftpserver.failures import BadInput, one_line
from pysftpserver.remo import client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HISTORY = 1000  # lines
_WORD = re.compile(r"(?:\\.|[^\s\\])+")
CONNECT = Command(
    prog="pysftpremo connect",
    description="Open a session with a server and type commands: get, put, ls, exec, iexec, idata, iend, "
    "set_encoding, quit; help explains each. In a pipe, lines are read from there, and the first failure is "
    "the exit status.",
    epilog="",
    options=OPTIONS,
    arguments=(HOST,),
    rest=("PORT", "The server's port. The default is 8080, or the URL's."),
)


def connect(words: Sequence[str]) -> int:
    """Read and run lines until there are no more. Raises BadInput, Unavailable."""
    options = CONNECT.parse(words)
    ports = options["PORT"]
    if (
        len(ports) > 1
        or ports
        and not (ports[0].isascii() and ports[0].isdigit() and 0 < int(ports[0]) < 65536)
    ):
        raise BadInput(f"{ports[-1]}: a port is one number from 1 to 65535")
    with log_in(options, int(ports[0]) if ports else None) as remote:
        shell = Shell(remote, options["HOST"])
        if not shell.is_terminal:
            shell.cmdloop()
            return shell.status
        mode = "numbered mode" if remote.is_numbered else "plain mode, which is weaker"
        print(f"{one_line(remote.info())}, {mode}; help lists the commands.")
        with History():
            shell.cmdloop()
    return 0


class Shell(cmd.Cmd):
    """The prompt. status: of the first line that failed, where nobody is there to see it."""

    doc_header = "Commands (help COMMAND tells more):"

    def __init__(self, remote: client.Client, host: str) -> None:
        super().__init__()
        self.is_terminal = sys.stdin.isatty()
        self.use_rawinput = self.is_terminal
        self.prompt = f"{one_line(host)}> " if self.is_terminal else ""
        self.status = 0
        self._remote = remote
        self._command: client.Interactive | None = None

    # --- verbs --------------------------------------------------------------------------------------------

    def do_get(self, line: str) -> None:
        """get REMOTE [LOCAL]: fetch a file, or the files that a pattern with * ? [ ] means. LOCAL is a
        name or a directory; without it they come into the current directory."""
        names = _words(line, 1, 2)
        target = names[1] if len(names) > 1 else "."
        found = remote_names(self._remote, names[0])
        if len(found) > 1 and not os.path.isdir(target):
            raise BadInput(f"{target}: several files need a directory that is there")
        for name in found:
            fetch(self._remote, name, target, Progress())

    def do_put(self, line: str) -> None:
        """put REMOTE [LOCAL ...]: store files. REMOTE is a name or a directory; without LOCAL the file is the
        one of the same name in the current directory. LOCAL may have * ? [ ]."""
        target, *patterns = _words(line, 1, None)
        wanted = patterns or [posixpath.basename(target)]
        names = [name for pattern in wanted for name in local_names(pattern)]
        if patterns and (len(names) > 1 or is_directory(self._remote, target)):
            if not is_directory(self._remote, target):
                raise BadInput(f"{target}: several files need a directory that is there")
            for name in names:
                store(self._remote, name, posixpath.join(target, os.path.basename(name)), Progress())
        else:
            store(self._remote, names[0], target, Progress())

    def do_ls(self, line: str) -> None:
        """ls [DIRECTORY]: list a directory there."""
        names = _words(line, 0, 1) or ["."]
        try:
            entries = self._remote.list(names[0])
        except client.NoSuchPath:  # an older server: it has ls(1)
            self.do_exec(shlex.join(["ls", "-la", "--", names[0]]))
            return
        for entry in entries:
            print(one_line(entry.long))

    def do_exec(self, line: str) -> None:
        """exec COMMAND: run a command there to its end. Its words are split as a shell does; for pipes and
        the like, exec sh -c '...'."""
        _words(line, 1, None)
        sys.stdout.flush()
        result = self._remote.run(line, None, _Output())
        if result.status:
            self._failed(f"exit status {result.status}{': ' + result.note if result.note else ''}")

    def do_iexec(self, line: str) -> None:
        """iexec COMMAND: run a command as if it ran in this terminal. Ctrl-] comes back to the prompt and
        leaves it running; idata and iend go on with it then."""
        _words(line, 1, None)
        is_terminal = self.is_terminal and sys.stdout.isatty()
        try:
            size = pysftpremo_terminal.size() if is_terminal else None
            self._command, said = self._remote.start(line, size=size)
        except client.NoSuchPath:  # an older server: it has no terminals
            is_terminal = False
            self._command, said = self._remote.start(line)
        if not self.is_terminal:  # the lines that follow are for us, and not for the command
            pysftpremo_terminal.show(said)
        elif pysftpremo_terminal.talk(self._command, said, is_terminal):
            self._ended()
        else:
            print()

    def do_idata(self, line: str) -> None:
        """idata [TEXT]: a line of text for the command that iexec has started, and what it says."""
        command = self._running()
        pysftpremo_terminal.show(command.send(f"{line}\n".encode(self._remote.encoding)))
        if command.is_over:
            self._ended()

    def do_iend(self, line: str) -> None:
        """iend: end the input of the command that iexec has started, and show all that it still says."""
        try:
            for piece in self._running().finish():
                pysftpremo_terminal.show(piece)
        except client.RequestFailed as error:
            if error.status != 400:
                raise
            # What the protocol says of a command that has come to its end before.
        self._ended()

    def do_set_encoding(self, line: str) -> None:
        """set_encoding NAME: the encoding of names and commands there."""
        (name,) = _words(line, 1, 1)
        try:
            "".encode(name)
        except LookupError:
            raise BadInput(f"{name}: no such encoding; utf-8 and latin-1 are two") from None
        self._remote.encoding = name

    def do_quit(self, line: str) -> bool:
        """quit: end the session."""
        return True

    def do_EOF(self, line: str) -> bool:
        """The end of the input is the end of the session, too."""
        if self.is_terminal:
            print()
        return True

    # --- how it works -------------------------------------------------------------------------------------

    def onecmd(self, line: str) -> bool:
        """Run a line; what fails is told, and the prompt comes back."""
        try:
            return bool(super().onecmd(line))
        except (client.RequestFailed, BadInput) as error:
            self._failed(str(error))
        except client.RemoError as error:
            self._command = None
            self._failed(str(error))
        except (OSError, UnicodeError) as error:
            self._failed((getattr(error, "strerror", None) or str(error)).lower())
        except KeyboardInterrupt:
            print()
        return False

    def default(self, line: str) -> None:
        raise BadInput(f"{line.split()[0]}: no such command; help lists them")

    def emptyline(self) -> bool:
        return False

    def get_names(self) -> list[str]:
        return [name for name in super().get_names() if name != "do_EOF"]

    def complete_get(self, text: str, line: str, begin: int, end: int) -> list[str]:
        """Names there, and then names here."""
        word = _last_word(line[:end])
        is_first = len(_WORD.findall(line[:end])) + (not word) <= 2
        return (self._remote_names if is_first else _local_names)(word, text)

    def complete_put(self, text: str, line: str, begin: int, end: int) -> list[str]:
        """The same."""
        return self.complete_get(text, line, begin, end)

    def complete_ls(self, text: str, line: str, begin: int, end: int) -> list[str]:
        """Names there."""
        return self._remote_names(_last_word(line[:end]), text)

    def _remote_names(self, word: str, text: str) -> list[str]:
        if self._command is not None and not self._command.is_over:
            return []  # looking would end it
        directory, slash, last = word.rpartition("/")
        try:
            entries = self._remote.list(directory + slash or ".")
        except client.RemoError:
            return []
        return [_completed(entry, text, last) for entry in entries if entry.name.startswith(last)]

    def _running(self) -> client.Interactive:
        if self._command is None:
            raise BadInput("no command is running; iexec starts one")
        return self._command

    def _ended(self) -> None:
        if self._command is not None:
            status, note = self._command.outcome()
            self._command = None
            if status:
                self._failed(f"exit status {status}{': ' + note if note else ''}")

    def _failed(self, text: str) -> None:
        self.status = self.status or 1
        sys.stdout.flush()
        common.tell(one_line(text))


class _Output:
    def write(self, data: bytes) -> None:
        pysftpremo_terminal.show(data)


def _completed(entry: client.Entry, text: str, last: str) -> str:
    slash = "/" if entry.mode is not None and S_ISDIR(entry.mode) else ""
    return text + _escaped(entry.name[len(last) :]) + slash


def _local_names(word: str, text: str) -> list[str]:
    found = glob.glob(glob.escape(word) + "*")
    return [
        text + _escaped(name[len(word) :]) + ("/" if os.path.isdir(name) else "") for name in sorted(found)
    ]


def _last_word(line: str) -> str:
    """What is being typed, without the backslashes that keep it together."""
    raw = _WORD.findall(line) if line[-1:].strip() or line.endswith("\\ ") else []
    return re.sub(r"\\(.)", r"\1", raw[-1]) if raw else ""


def _escaped(text: str) -> str:
    return re.sub(r"""([\s"'\\*?\[\]])""", r"\\\1", text)


def _words(line: str, least: int, most: int | None) -> list[str]:
    try:
        found = shlex.split(line)
    except ValueError as error:
        raise BadInput(f"the line cannot be split: {str(error).lower()}") from None
    if len(found) < least or most is not None and len(found) > most:
        raise BadInput("too few or too many words; help COMMAND tells which")
    return found


class History:
    """What was typed, kept for the next session, where there is readline."""

    def __init__(self) -> None:
        self._path = os.path.join(state_directory(), "history")

    def __enter__(self) -> None:
        try:
            import readline

            readline.set_history_length(HISTORY)
            readline.read_history_file(self._path)
        except (ImportError, OSError):
            pass

    def __exit__(self, *_: object) -> None:
        try:
            import readline

            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            mask = os.umask(0o077)  # commands may have secrets in them
            try:
                readline.write_history_file(self._path)
            finally:
                os.umask(mask)
        except (ImportError, OSError):
            pass
