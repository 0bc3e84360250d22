"""The prompt of `pysftpremo connect`, with history and completion.

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

from pysftpserver.failures import BadInput, one_line, reason_of
from pysftpserver.remo import client, terminal
from pysftpserver.remo.transfer import Transfers
from pysftpserver.service.terminal import progress

_WORD = re.compile(r"(?:\\.|[^\s\\])+")


class Shell(cmd.Cmd):
    """The prompt. status: 1 once a line has failed. host: what the prompt calls the server."""

    doc_header = "Commands (help COMMAND explains one):"

    def __init__(self, remote: client.Client, host: str) -> None:
        super().__init__()
        self.is_terminal = sys.stdin.isatty()
        self.use_rawinput = self.is_terminal
        self.prompt = f"{one_line(host)}> " if self.is_terminal else ""
        self.status = 0
        self._remote = remote
        self._command: client.Interactive | None = None

    # --- commands -----------------------------------------------------------------------------------------

    def do_get(self, line: str) -> None:
        """get REMOTE [LOCAL]: download a file, or the files that a pattern with * ? [ ] matches. LOCAL is a
        name or a directory; the default is the current directory."""
        names = _words(line, 1, 2)
        with progress() as shown:
            Transfers(self._remote, shown).get(names[:1], names[1] if len(names) > 1 else ".")

    def do_put(self, line: str) -> None:
        """put REMOTE [LOCAL ...]: upload files. REMOTE is a name or a directory; without LOCAL, the file of
        the same name in the current directory is uploaded. LOCAL may have * ? [ ]."""
        target, *patterns = _words(line, 1, None)
        with progress() as shown:
            transfers = Transfers(self._remote, shown)
            if patterns:
                transfers.put(patterns, target)
            else:
                transfers.store(posixpath.basename(target), target)

    def do_ls(self, line: str) -> None:
        """ls [DIRECTORY]: list a directory of the server."""
        names = _words(line, 0, 1) or ["."]
        try:
            entries = self._remote.list(names[0])
        except client.NoSuchPath:  # an older server: run ls(1) there
            self.do_exec(shlex.join(["ls", "-la", "--", names[0]]))
            return
        for entry in entries:
            print(one_line(entry.long))

    def do_exec(self, line: str) -> None:
        """exec COMMAND: run a command to its end. Its words are split as in a shell; for pipes and the like,
        use exec sh -c '...'."""
        _words(line, 1, None)
        sys.stdout.flush()
        result = self._remote.run(line, None, terminal.Output())
        if result.status:
            self._failed(f"exit status {result.status}{': ' + result.note if result.note else ''}")

    def do_iexec(self, line: str) -> None:
        """iexec COMMAND: run a command as if it ran in this terminal. Ctrl-] returns to the prompt and leaves
        the command running, for idata and iend."""
        _words(line, 1, None)
        is_terminal = self.is_terminal and sys.stdout.isatty()
        try:
            size = terminal.size() if is_terminal else None
            self._command, said = self._remote.start(line, size=size)
        except client.NoSuchPath:  # an older server, without terminals
            is_terminal = False
            self._command, said = self._remote.start(line)
        if not self.is_terminal:  # the lines that follow are for this prompt, not for the command
            terminal.show(said)
        elif terminal.talk(self._command, said, is_terminal):
            self._ended()
        else:
            print()

    def do_idata(self, line: str) -> None:
        """idata [TEXT]: send a line to the command that iexec has started, and show its output."""
        command = self._running()
        terminal.show(command.send(f"{line}\n".encode(self._remote.encoding)))
        if command.is_over:
            self._ended()

    def do_iend(self, line: str) -> None:
        """iend: close the input of the command that iexec has started, and show the rest of its output."""
        try:
            for piece in self._running().finish():
                terminal.show(piece)
        except client.RequestFailed as error:
            if error.status != 400:
                raise
            # How the protocol answers when the command has already ended.
        self._ended()

    def do_set_encoding(self, line: str) -> None:
        """set_encoding NAME: set the encoding of names and commands on the server."""
        (name,) = _words(line, 1, 1)
        try:
            "".encode(name)
        except LookupError:
            raise BadInput(f"unknown encoding {name}; utf-8 and latin-1 are two that exist") from None
        self._remote.encoding = name

    def do_quit(self, line: str) -> bool:
        """quit: end the session."""
        return True

    def do_EOF(self, line: str) -> bool:
        """The end of the input ends the session."""
        if self.is_terminal:
            print()
        return True

    # --- how it works -------------------------------------------------------------------------------------

    def onecmd(self, line: str) -> bool:
        """Run a line; show a failure and return to the prompt."""
        try:
            return bool(super().onecmd(line))
        except (client.RequestFailed, BadInput) as error:
            self._failed(str(error))
        except client.RemoError as error:
            self._command = None
            self._failed(str(error))
        except (OSError, UnicodeError) as error:
            name = getattr(error, "filename", None)
            self._failed(f"{name}: {reason_of(error)}" if isinstance(name, str) else _reason(error))
        except KeyboardInterrupt:
            print()
        return False

    def default(self, line: str) -> None:
        raise BadInput(f"unknown command {line.split()[0]}; help lists the commands")

    def emptyline(self) -> bool:
        return False

    def get_names(self) -> list[str]:
        return [name for name in super().get_names() if name != "do_EOF"]

    def complete_get(self, text: str, line: str, begin: int, end: int) -> list[str]:
        """Complete a remote name, and then a local one."""
        word = _last_word(line[:end])
        is_first = len(_WORD.findall(line[:end])) + (not word) <= 2
        return (self._remote_names if is_first else _local_names)(word, text)

    def complete_put(self, text: str, line: str, begin: int, end: int) -> list[str]:
        """Complete a remote name, and then local ones."""
        return self.complete_get(text, line, begin, end)

    def complete_ls(self, text: str, line: str, begin: int, end: int) -> list[str]:
        """Complete a remote name."""
        return self._remote_names(_last_word(line[:end]), text)

    def _remote_names(self, word: str, text: str) -> list[str]:
        if self._command is not None and not self._command.is_over:
            return []  # a listing would end the command
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
        print(one_line(text), file=sys.stderr, flush=True)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, UnicodeError) else reason_of(error)


def _completed(entry: client.Entry, text: str, last: str) -> str:
    slash = "/" if entry.mode is not None and S_ISDIR(entry.mode) else ""
    return text + _escaped(entry.name[len(last) :]) + slash


def _local_names(word: str, text: str) -> list[str]:
    found = glob.glob(glob.escape(word) + "*")
    return [
        text + _escaped(name[len(word) :]) + ("/" if os.path.isdir(name) else "") for name in sorted(found)
    ]


def _last_word(line: str) -> str:
    """The word that is being typed, without its backslashes."""
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
        raise BadInput("too few or too many words; see help COMMAND")
    return found
