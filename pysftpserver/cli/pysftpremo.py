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
    """A subcommand whose module, and what that needs of the extra, is imported when it runs."""

    def run(words: Sequence[str]) -> int:
        module: ModuleType
        if word == "serve":
            from pysftpserver.cli import pysftpremo_serve as module
        elif word in ("keygen", "users"):
            from pysftpserver.cli import pysftpremo_keys as module
        else:
            from pysftpserver.cli import pysftpremo_client as module
        act: Callable[[Sequence[str]], int] = getattr(module, "execute" if word == "exec" else word)
        return act(words)

    return Subcommand(word, summary, run)


COMMANDS = Commands(
    prog=PROG,
    description="Administer a host over plain HTTP, encrypted end to end: files and commands.",
    subcommands=(
        _subcommand("serve", "Serve files and commands over HTTP."),
        _subcommand("connect", "Open a session with a prompt."),
        _subcommand("exec", f"Run one command: {PROG} exec HOST -- df -h."),
        _subcommand("get", f"Download files: {PROG} get HOST REMOTE ... LOCAL."),
        _subcommand("put", f"Upload files: {PROG} put HOST LOCAL ... REMOTE."),
        _subcommand("keygen", "Generate a key pair."),
        _subcommand("users", "List, add, change and remove users."),
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
    """Run a subcommand under a name of its own, as older installations know it."""
    return common.run(PROG, lambda words: dispatch([word, *words]), sys.argv[1:])
