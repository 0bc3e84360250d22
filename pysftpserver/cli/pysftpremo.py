"""The command pysftpremo: which of its verbs is meant."""

from __future__ import annotations

import sys

from pysftpserver.cli import common
from pysftpserver.cli.options import Command
from pysftpserver.failures import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROG = "pysftpremo"
VERBS = {
    "serve": "serve files and commands over HTTP, encrypted from end to end",
    "connect": "open a session and type commands",
    "exec": "run one command there: pysftpremo exec HOST -- df -h",
    "get": "fetch files: pysftpremo get HOST REMOTE ... LOCAL",
    "put": "store files: pysftpremo put HOST LOCAL ... REMOTE",
    "keygen": "make a pair of keys",
    "adduser": "let somebody in",
    "users": "list who is let in",
    "deluser": "let somebody in no longer",
}
COMMAND = Command(
    prog=PROG,
    description="Administer a host over plain HTTP, encrypted from end to end: files and commands.",
    epilog="Verbs: " + "; ".join(f"{verb}: {text}" for verb, text in VERBS.items()) + ". "
    f"`{PROG} VERB --help` tells the rest.",
    options=(),
    arguments=(("VERB", "What to do."),),
    rest=("ARGUMENT", "What the verb takes."),
)


def command_of(verb: str) -> Callable[[Sequence[str]], int]:
    """What runs a verb. Raises BadInput."""
    if verb == "serve":
        from pysftpserver.cli.pysftpremo_serve import serve

        return serve
    if verb in ("keygen", "adduser", "users", "deluser"):
        from pysftpserver.cli import pysftpremo_keys

        return {
            "keygen": pysftpremo_keys.keygen,
            "adduser": pysftpremo_keys.adduser,
            "users": pysftpremo_keys.users,
            "deluser": pysftpremo_keys.deluser,
        }[verb]
    if verb == "connect":
        from pysftpserver.cli.pysftpremo_shell import connect

        return connect
    if verb in ("exec", "get", "put"):
        from pysftpserver.cli import pysftpremo_once

        return {"exec": pysftpremo_once.execute, "get": pysftpremo_once.get, "put": pysftpremo_once.put}[verb]
    raise BadInput(f"{verb}: no such verb; there are {', '.join(VERBS)} (try {PROG} --help)")


def dispatch(words: Sequence[str]) -> int:
    """Run the verb that the first word names. Raises BadInput."""
    if words and words[0].startswith("-"):
        COMMAND.parse(words)  # help and version, or what is wrong
    if not words or words[0].startswith("-"):
        raise BadInput(f"the first word is what to do: {', '.join(VERBS)} (try {PROG} --help)")
    if list(words[1:]) == ["--version"]:
        COMMAND.parse(["--version"])  # which needs nothing installed
    try:
        return command_of(words[0])(words[1:])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("cryptography", "cheroot", "rich"):
            raise
        raise BadInput(f"{error.name} is missing: pip install 'pysftpserver[remo]'") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. arguments: without the command's name."""
    return common.run(PROG, dispatch, arguments)


def as_program(verb: str) -> int:
    """Run a verb under a name of its own, as older installations know it."""
    return common.run(PROG, lambda words: dispatch([verb, *words]), sys.argv[1:])
