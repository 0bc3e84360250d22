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

    Run = Callable[[Sequence[str]], int]

PROG = "pysftpremo"
LIBRARIES = ("cryptography", "cheroot")  # of the extra; rich is optional
OLDER = {"adduser": ("users", "add"), "deluser": ("users", "remove")}


def _loader(word: str) -> Callable[[], Run]:
    def load() -> Run:
        module: ModuleType
        if word == "serve":
            from pysftpserver.cli import pysftpremo_serve as module
        elif word in ("keygen", "users"):
            from pysftpserver.cli import pysftpremo_keys as module
        else:
            from pysftpserver.cli import pysftpremo_client as module
        run: Run = getattr(module, "execute" if word == "exec" else word)
        return run

    return load


COMMANDS = Commands(
    prog=PROG,
    description="Administer a host over plain HTTP, encrypted end to end: files and commands.",
    subcommands=(
        Subcommand("serve", "Serve files and commands over HTTP.", _loader("serve")),
        Subcommand("connect", "Open a session with a prompt.", _loader("connect")),
        Subcommand("exec", f"Run one command: {PROG} exec HOST -- df -h.", _loader("exec")),
        Subcommand("get", f"Download files: {PROG} get HOST REMOTE ... LOCAL.", _loader("get")),
        Subcommand("put", f"Upload files: {PROG} put HOST LOCAL ... REMOTE.", _loader("put")),
        Subcommand("keygen", "Generate a key pair.", _loader("keygen")),
        Subcommand("users", "List, add, change and remove users.", _loader("users")),
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. arguments: without the command's name."""
    return common.run(PROG, dispatch, arguments)


def as_program(word: str) -> int:
    """Run a subcommand under a name of its own, as older installations know it."""
    return common.run(PROG, lambda words: dispatch([word, *words]), sys.argv[1:])
