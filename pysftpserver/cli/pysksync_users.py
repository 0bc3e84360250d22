"""pysksync useredit: the users in sksync.json, by options or by a menu on a terminal.

Argument parsing and prompts only. What changes the file is imported when it is needed, so that help works
without the extra. What may not enter: the file's format. A password is never said again.
"""

from __future__ import annotations

import os
import sys

from pysftpserver.cli.options import Command, Option
from pysftpserver.failures import BadInput, one_line
from pysftpserver.host.wholefiles import first_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

DEFAULT_FILE = "sksync.json"
EXTRA = "pip install 'pysftpserver[sksync]'"
ACTIONS = ("list", "add", "change", "remove")

COMMAND = Command(
    "pysksync useredit",
    description="List, add, change and remove the users that may log in to an SK Sync server.",
    epilog="Without an option it asks what to do, on a terminal. The configuration holds no passwords, but "
    "salts and verifiers, made from names and passwords; everything else in it stays as it is. A server "
    "reads it when it starts.",
    rest=("config", f"The configuration. The default is {DEFAULT_FILE}; --add makes it if there is none."),
    options=(
        Option("--list", help="Print the names of all users, one a line."),
        Option("--add", metavar="NAME", help="Add this user."),
        Option("--change", metavar="NAME", help="Give this user another password."),
        Option("--remove", metavar="NAME", help="Remove this user."),
        Option(
            "--password-file",
            metavar="FILE",
            help="With --add and --change, take the password from the first line of this file; - is standard "
            "input. The default is to ask for it twice, on a terminal.",
        ),
    ),
)


def serve(words: Sequence[str]) -> int:
    """Do what the words ask for; return the exit status. Raises BadInput."""
    options = COMMAND.parse(words)
    path = config_path(options)
    actions = [action for action in ACTIONS if options[action] not in (None, False)]
    if len(actions) > 1:
        raise BadInput(f"--{actions[0]} and --{actions[1]}: give one of them", "bad arguments")
    if options["password_file"] is not None and actions not in (["add"], ["change"]):
        raise BadInput("--password-file goes with --add and --change", "bad arguments")
    try:
        from pysftpserver.sksync.config import ConfigError
        from pysftpserver.sksync.users import check_known, check_new
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "srptools":
            raise
        raise BadInput(f"srptools is missing: {EXTRA}") from None
    try:
        if not actions:
            return menu(path)
        if actions == ["list"]:
            say_names(path)
        elif actions == ["remove"]:
            remove(path, options["remove"])
        else:
            check, act = (check_new, add) if actions == ["add"] else (check_known, change)
            name = options[actions[0]]
            check(path, name)
            act(path, name, password_for(name, options["password_file"]))
    except ConfigError as error:
        raise BadInput(str(error), "the users cannot be changed") from None
    return 0


def config_path(options: dict[str, Any]) -> str:
    """The one configuration that was named, or the default. Raises BadInput."""
    if len(options["config"]) > 1:
        raise BadInput("more than one configuration: name one file", "bad arguments")
    return options["config"][0] if options["config"] else DEFAULT_FILE


# --- what can be done -----------------------------------------------------------------------------------


def say_names(path: str) -> None:
    """Print all users."""
    from pysftpserver.sksync import users

    for name in users.names(path):
        say(name)


def add(path: str, name: str, password: str) -> None:
    """Add a user, and say so."""
    from pysftpserver.sksync import users

    users.add(path, name, password)
    say(f"{name}: added to {path}")


def change(path: str, name: str, password: str) -> None:
    """Give a user another password, and say so."""
    from pysftpserver.sksync import users

    users.change(path, name, password)
    say(f"{name}: has another password in {path}")


def remove(path: str, name: str) -> None:
    """Remove a user, and say so."""
    from pysftpserver.sksync import users

    users.remove(path, name)
    say(f"{name}: removed from {path}")


def say(text: str) -> None:
    """A line to standard output, whatever is in it."""
    print(one_line(text), flush=True)


# --- passwords ------------------------------------------------------------------------------------------


def password_for(name: str, file: str | None) -> str:
    """The password in the first line of a file, or the one that is typed. Raises BadInput."""
    if file is not None:
        if file == "-":
            return first_line(0, "standard input", keep_spaces=True)
        return first_line(file, "password file", keep_spaces=True)
    if not os.isatty(0):
        message = "there is no terminal to ask for the password on: use --password-file"
        raise BadInput(message, "bad arguments")
    return asked_twice(name)


def asked_twice(name: str) -> str:
    """A password that was typed twice, unseen. Raises BadInput."""
    import getpass
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # it would be seen
            password = getpass.getpass(f"Password for {one_line(name)}: ")
            again = getpass.getpass("The same again: ")
    except (EOFError, getpass.GetPassWarning, UnicodeError):
        message = "the password could not be asked for on this terminal: use --password-file"
        raise BadInput(message, "bad arguments") from None
    if password != again:
        raise BadInput("the two passwords differ; nothing was changed")
    return password


# --- the menu -------------------------------------------------------------------------------------------


def menu(path: str) -> int:
    """Ask what to do until that is nothing more; each change is made at once. Raises BadInput."""
    if not (os.isatty(0) and os.isatty(1)):
        message = "there is no terminal to ask on: use --list, --add, --change or --remove (try --help)"
        raise BadInput(message, "bad arguments")
    from pysftpserver.sksync.config import ConfigError

    letters: dict[str, Callable[[str], None]] = {
        "l": say_names,
        "a": ask_and_add,
        "c": ask_and_change,
        "r": ask_and_remove,
    }
    while True:
        answer = ask("l list, a add, c change password, r remove, q quit: ")
        if answer is None or answer in ("q", "quit"):
            return 0
        if answer not in letters:
            say(f"{answer!r} is none of l, a, c, r, q" if answer else "type one of l, a, c, r, q")
            continue
        try:
            letters[answer](path)
        except (ConfigError, BadInput) as error:
            say(str(error))


def ask_and_add(path: str) -> None:
    """Ask for a user, and add it."""
    from pysftpserver.sksync import users

    name = ask("Name: ")
    if name:
        users.check_new(path, name)
        add(path, name, asked_twice(name))


def ask_and_change(path: str) -> None:
    """Ask for a user and another password."""
    from pysftpserver.sksync import users

    name = ask("Name: ")
    if name:
        users.check_known(path, name)
        change(path, name, asked_twice(name))


def ask_and_remove(path: str) -> None:
    """Ask for a user, and remove it."""
    name = ask("Name: ")
    if name:
        remove(path, name)


def ask(prompt: str) -> str | None:
    """A line that was typed, without spaces around it; None at the end of input."""
    sys.stdout.write(prompt)
    sys.stdout.flush()
    line = sys.stdin.readline()
    return line.strip() if line else None
