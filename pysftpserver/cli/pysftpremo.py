"""The command pysftpremo: its subcommands, and their older names."""

from __future__ import annotations

import sys

from pysftpserver.cli import common
from pysftpserver.cli.options import Command, Commands, Subcommand
from pysftpserver.failures import needed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

PROG = "pysftpremo"
LIBRARIES = ("cryptography", "cheroot")  # of the extra; rich is optional
OLDER = {"adduser": ("users", "add"), "deluser": ("users", "remove")}


def _subcommand(word: str, summary: str) -> Subcommand:
    """A subcommand whose module is imported when it runs."""

    def module() -> ModuleType:
        found: ModuleType
        if word == "serve":
            from pysftpserver.cli import pysftpremo_serve as found
        elif word in ("keygen", "users"):
            from pysftpserver.cli import pysftpremo_keys as found
        else:
            from pysftpserver.cli import pysftpremo_client as found
        return found

    def run(words: Sequence[str]) -> int:
        act: Callable[[Sequence[str]], int] = getattr(module(), "execute" if word == "exec" else word)
        return act(words)

    def declared() -> Command | Commands:
        name = {"serve": "COMMAND", "users": "COMMANDS"}.get(word, word.upper())
        found: Command | Commands = getattr(module(), name)
        return found

    return Subcommand(word, summary, run, declared)


COMMANDS = Commands(
    prog=PROG,
    description="Administers a host over plain HTTP, encrypted end to end: files and commands.",
    subcommands=(
        _subcommand("serve", "Serve files and commands over HTTP."),
        _subcommand("connect", "Open a session with a prompt."),
        _subcommand("exec", "Run one command."),
        _subcommand("get", "Download files."),
        _subcommand("put", "Upload files."),
        _subcommand("keygen", "Generate a key pair."),
        _subcommand("users", "List, add, change and remove users."),
    ),
    examples=(
        ("Run one command:", f"{PROG} exec HOST -- df -h"),
        ("Download a file:", f"{PROG} get HOST /var/log/syslog ."),
    ),
)
VERSION = Command(prog=PROG, description="", epilog="", options=())


def dispatch(words: Sequence[str]) -> int:
    """Run the subcommand that the first word names. Raises BadInput."""
    if list(words[1:]) == ["--version"]:
        VERSION.parse(["--version"])  # which needs nothing installed
    if words and words[0] in OLDER:
        words = [*OLDER[words[0]], *words[1:]]
    with needed("remo", *LIBRARIES):
        return COMMANDS.run(words)


main = common.main_of(PROG, dispatch)


def as_program(word: str) -> int:
    """Run a subcommand as a separate program, as in older installations."""
    return common.run(PROG, lambda words: dispatch([word, *words]), sys.argv[1:])
