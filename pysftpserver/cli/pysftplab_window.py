"""pysftplab window: the client with a window."""

from __future__ import annotations

import os

from pysftpserver.cli.options import Command, Option
from pysftpserver.cli.pysftplab_connect import account
from pysftpserver.failures import needed
from pysftpserver.laboratory.config import DEFAULT_PORT, PASSWORD_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND = Command(
    "pysftplab window",
    description="Run a client of a message server in a window. It connects when you tell it to.",
    epilog="The last server that accepted is remembered, with your name, in pysftplab/window.json under "
    f"$XDG_STATE_HOME or ~/.local/state; passwords and keys are not. {PASSWORD_VARIABLE} in the environment "
    "fills in the password.",
    examples=(("Open the window with a server filled in:", "pysftplab window lab.example"),),
    rest=(
        "server",
        f"HOST [PORT] to fill in. The default is the last server; of others the port is {DEFAULT_PORT}.",
    ),
    options=(
        Option(
            "-n",
            "--name",
            metavar="NAME",
            help="Your name. The default is the last one, or that of your account.",
        ),
    ),
)


def serve(arguments: Sequence[str]) -> int:
    """Show the window until it is closed; return the exit status. Raises BadInput, Unavailable."""
    values = COMMAND.parse(arguments)
    with needed("laboratory", "cryptography"):
        from pysftpserver.laboratory.window import display, fields
    given = fields.given_fields(values["server"], values["name"])
    if PASSWORD_VARIABLE in os.environ:
        given[fields.PASSWORD] = os.environ[PASSWORD_VARIABLE]
    display.show(given, account())
    return 0
