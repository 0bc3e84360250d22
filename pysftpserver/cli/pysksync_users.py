"""pysksync users: the users that may log in to an SK Sync server.

This module has the words of the command line. What may not enter: the format of the file, prompts.
"""

from __future__ import annotations

from pysftpserver.cli.options import Command, Commands, Option, Subcommand
from pysftpserver.failures import BadInput, needed
from pysftpserver.sksync.config import DEFAULT_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PROG = "pysksync users"
ACTIONS = ("list", "add", "change", "remove")
CONFIG = Option(
    "--config",
    metavar="FILE",
    default=DEFAULT_FILE,
    help=f"The server's configuration. The default is {DEFAULT_FILE}.",
)
PASSWORD = Option(
    "--password-file",
    metavar="FILE",
    help="Read the password from the first line of this file; - is standard input. The default is to ask for "
    "it twice, on a terminal.",
)
MENU = "The default is to ask what to do."
NOTE = "A running server takes the change on SIGHUP."
NAME = [("name", "The user's name.")]

LIST = Command(f"{PROG} list", "Print the names of all users, one per line.", "", [CONFIG])
ADD = Command(f"{PROG} add", "Add a user. A missing configuration is made.", NOTE, [CONFIG, PASSWORD], NAME)
CHANGE = Command(f"{PROG} change", "Give a user another password.", NOTE, [CONFIG, PASSWORD], NAME)
REMOVE = Command(f"{PROG} remove", "Remove a user.", NOTE, [CONFIG], NAME)
EDIT = Command(f"{PROG} edit", "Ask what to do, on a terminal.", NOTE, [CONFIG])


def act(action: str, path: str, name: str | None = None, password_file: str | None = None) -> int:
    """Do what the words ask for; return the exit status. Raises BadInput, Unavailable."""
    with needed("sksync", "srptools"):
        from pysftpserver.sksync import useredit
    if name is not None:
        useredit.act(action, path, name, password_file)
    elif action == "list":
        useredit.say_names(path)
    else:
        useredit.menu(path)
    return 0


def _subcommand(action: str, summary: str, command: Command) -> Subcommand:
    def run(words: Sequence[str]) -> int:
        values = command.parse(words)
        return act(action, values["config"], values.get("name"), values.get("password_file"))

    return Subcommand(action, summary, run, lambda: command)


USERS = Commands(
    PROG,
    "List, add, change and remove the users that may log in to an SK Sync server. The configuration has "
    "no passwords, but salts and verifiers, made from names and passwords; everything else in it stays as it "
    "is.",
    (
        _subcommand("list", "List the users.", LIST),
        _subcommand("add", "Add a user.", ADD),
        _subcommand("change", "Give a user another password.", CHANGE),
        _subcommand("remove", "Remove a user.", REMOVE),
        _subcommand("edit", "Ask what to do, on a terminal.", EDIT),
    ),
    examples=(("Add a user, and ask for the password:", f"{PROG} add alice"),),
)


def useredit() -> Command:
    """The older spelling of users."""
    return Command(
        "pysksync useredit",
        description="The older spelling of pysksync users: list, add, change and remove users.",
        epilog="Without an option it asks what to do, on a terminal.",
        rest=("configs", f"The server's configuration. The default is {DEFAULT_FILE}."),
        options=(
            Option("--list", help=f"Print the names of all users, one per line. {MENU}"),
            Option("--add", metavar="NAME", help=f"Add this user. A missing configuration is made. {MENU}"),
            Option("--change", metavar="NAME", help=f"Give this user another password. {MENU}"),
            Option("--remove", metavar="NAME", help=f"Remove this user. {MENU}"),
            PASSWORD,
        ),
    )


def edit(words: Sequence[str]) -> int:
    """pysksync useredit; return the exit status. Raises BadInput, Unavailable."""
    values = useredit().parse(words)
    given: list[Any] = [action for action in ACTIONS if values[action] not in (None, False)]
    if len(values["configs"]) > 1:
        raise BadInput("more than one configuration: name one file")
    if len(given) > 1:
        raise BadInput(f"--{given[0]} and --{given[1]}: give one of them")
    if values["password_file"] is not None and given not in (["add"], ["change"]):
        raise BadInput("--password-file needs --add or --change")
    path = values["configs"][0] if values["configs"] else DEFAULT_FILE
    action = given[0] if given else "edit"
    name = None if action in ("list", "edit") else values[action]
    return act(action, path, name, values["password_file"])
