"""pysftplab: a message server with services of your own, and its clients."""

from __future__ import annotations

from pysftpserver.cli import common, pysftplab_connect, pysftplab_serve, pysftplab_window
from pysftpserver.cli.options import Commands, Subcommand

PROG = "pysftplab"
COMMANDS = Commands(
    PROG,
    description="Runs a message server whose services you write yourself, and its clients.",
    subcommands=(
        Subcommand("serve", "Run the server.", pysftplab_serve.serve, lambda: pysftplab_serve.COMMAND),
        Subcommand(
            "connect",
            "Run the client for terminals and pipes.",
            pysftplab_connect.serve,
            lambda: pysftplab_connect.COMMAND,
        ),
        Subcommand(
            "window",
            "Run the client with a window.",
            pysftplab_window.serve,
            lambda: pysftplab_window.COMMAND,
        ),
    ),
    examples=(
        ("Serve, and ask for the password:", f"{PROG} serve"),
        ("Talk to a server:", f"{PROG} connect --name alice lab.example"),
    ),
)


main = common.main_of(PROG, COMMANDS.run)
