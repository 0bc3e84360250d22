"""pysftplab: a message server with services of your own, and its clients. Each is imported when it is run."""

from __future__ import annotations

from pysftpserver.cli import common
from pysftpserver.cli.options import Commands, Subcommand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROG = "pysftplab"


def _serve() -> Callable[[Sequence[str]], int]:
    from pysftpserver.cli.pysftplab_serve import serve

    return serve


def _connect() -> Callable[[Sequence[str]], int]:
    from pysftpserver.cli.pysftplab_connect import serve

    return serve


def _window() -> Callable[[Sequence[str]], int]:
    from pysftpserver.cli.pysftplab_window import serve

    return serve


COMMANDS = Commands(
    PROG,
    description="A message server whose services you write yourself, and its clients.",
    subcommands=(
        Subcommand("serve", "Run the server.", _serve),
        Subcommand("connect", "Run the client for terminals and pipes.", _connect),
        Subcommand("window", "Run the client with a window.", _window),
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. arguments: without the command's name."""
    return common.run(PROG, COMMANDS.run, arguments)
