"""pysftplab window: the client with a window.

Which server its fields begin with, and what is missing where there can be no window. What may not enter: what
the window does.
"""

from __future__ import annotations

import os

from pysftpserver.cli.options import Command, Option
from pysftpserver.cli.pysftplab import PASSWORD_VARIABLE, PROG, need_extra
from pysftpserver.cli.pysftplab_connect import DEFAULT_PORT, account
from pysftpserver.failures import BadInput, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND = Command(
    f"{PROG} window",
    description="A client of a message server, in a window. Nothing is connected before you say so there.",
    epilog="The last server that accepted is remembered, with the name, in pysftplab/window.json under "
    f"$XDG_STATE_HOME or ~/.local/state; passwords and keys are not. {PASSWORD_VARIABLE} in the environment "
    "fills in the password.",
    rest=(
        "server",
        f"HOST [PORT] to fill in. The default is the last server; of another one the port is {DEFAULT_PORT}.",
    ),
    options=(
        Option(
            "-n",
            "--name",
            metavar="NAME",
            help="What this client is called. The default is the name it had last, or the account's.",
        ),
    ),
)


def serve(arguments: Sequence[str]) -> int:
    """Show the window until it is closed; return the exit status. Raises BadInput, Unavailable."""
    values = COMMAND.parse(arguments)
    need_extra()
    need_tkinter()
    import tkinter

    from pysftpserver.laboratory.window import start

    given = given_fields(values["server"], values["name"])
    if PASSWORD_VARIABLE in os.environ:
        given["password"] = os.environ[PASSWORD_VARIABLE]
    try:
        started = start.start(given, account(), os.environ)
    except tkinter.TclError as error:
        raise Unavailable(f"no window: {why_not(str(error))}") from None
    start.run(started)
    return 0


def given_fields(server: list[str], name: str | None) -> dict[str, str]:
    """What the command line says of the fields. Raises BadInput."""
    from pysftpserver.laboratory.window.fields import FIELDS, fault

    if len(server) > 2:
        raise BadInput(f"{' '.join(server)}: give HOST [PORT]")
    given = dict(zip(FIELDS, server, strict=False))
    if name is not None:
        given["name"] = name
    for field, text in given.items():
        if (reason := fault(field, text)) is not None:
            raise BadInput(f"{field} {text!r}: {reason[0].lower()}{reason[1:].rstrip('.')}")
    return given


def need_tkinter() -> None:
    """Raises Unavailable where Python has no windows."""
    try:
        import tkinter  # noqa: F401
    except ImportError:
        raise Unavailable(
            "tkinter is missing: on Debian, apt-get install python3-tk; it is a part of Python elsewhere"
        ) from None


def why_not(error: str) -> str:
    """Tk's reason, and what to do."""
    display = os.environ.get("DISPLAY")
    if not display:
        return "there is no display; run it on a desktop, or set DISPLAY (ssh -X does)"
    return f"the display {display} (DISPLAY) does not answer, or does not let us in ({error})"
