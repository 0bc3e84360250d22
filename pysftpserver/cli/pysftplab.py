"""pysftplab: a message server with services of your own, and its clients."""

from __future__ import annotations

from pysftpserver.cli import common, pysftplab_connect, pysftplab_serve, pysftplab_window
from pysftpserver.cli.options import Commands, Subcommand

PROG = "pysftplab"
COMMANDS = Commands(
    PROG,
    description="A message server whose services you write yourself, and its clients.",
    subcommands=(
        Subcommand("serve", "Run the server.", pysftplab_serve.serve),
        Subcommand("connect", "Run the client for terminals and pipes.", pysftplab_connect.serve),
        Subcommand("window", "Run the client with a window.", pysftplab_window.serve),
    ),
)


main = common.main_of(PROG, COMMANDS.run)
