"""pysftplab connect: the client for the terminal and for pipes."""

from __future__ import annotations

from pysftpserver.cli.options import Command, Option, converter
from pysftpserver.failures import BadInput, needed
from pysftpserver.laboratory.config import DEFAULT_PORT, PASSWORD_VARIABLE
from pysftpserver.service.settings import seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_TIMEOUT = 10.0  # seconds
COMMAND = Command(
    "pysftplab connect",
    description="Run a client of a message server. Each line is a message; lines that begin with : are "
    "commands of the client, and :help lists them.",
    epilog=f"The password comes from --password-file, else from {PASSWORD_VARIABLE} in the environment, else "
    "you are asked for it.",
    examples=(
        ("Talk to a server:", "pysftplab connect --name alice lab.example"),
        ("Send the lines of a file:", "pysftplab connect --password-file pass lab.example 12800"),
    ),
    statuses=((1, "The server has ended the connection, or has refused a message."),),
    arguments=(("host", "The server's address."),),
    rest=("port", f"Its port. The default is {DEFAULT_PORT}."),
    options=(
        Option("-n", "--name", metavar="NAME", help="Your name. The default is that of your account."),
        Option("-s", "--service", metavar="NAME", help="Use this service. The default is the server's."),
        Option(
            "--password-file",
            metavar="FILE",
            help="Read the password from the first line of this file. There is none by default.",
        ),
        Option(
            "--plaintext",
            help="Do not encrypt: everybody on the network path reads all of it. The default is to encrypt.",
        ),
        Option(
            "--timeout",
            metavar="SECONDS",
            convert=converter(seconds()),
            default=DEFAULT_TIMEOUT,
            help="Give up connecting, and each request, after this many seconds. "
            f"The default is {DEFAULT_TIMEOUT:g}.",
        ),
    ),
)


def serve(arguments: Sequence[str]) -> int:
    """Run the client until the input or the server ends; return the exit status. Raises BadInput."""
    values = COMMAND.parse(arguments)
    port = port_of(values["port"])
    with needed("laboratory", "cryptography"):
        from pysftpserver.laboratory import passwords, terminal
    return terminal.talk(
        values["host"],
        port,
        password=passwords.of_client(values["password_file"]),
        name=values["name"] or account(),
        key="" if values["plaintext"] else None,
        timeout=values["timeout"],
        service=values["service"],
    )


def port_of(words: list[str]) -> int:
    """The port on the command line. Raises BadInput."""
    if not words:
        return DEFAULT_PORT
    word = words[0]
    if len(words) > 1 or not word.isascii() or not word.isdecimal() or not 0 < int(word[:6]) < 65536:
        raise BadInput(f"{' '.join(words)}: not a port from 1 to 65535; give HOST [PORT]")
    return int(word)


def account() -> str:
    """The name of the user's account."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"
