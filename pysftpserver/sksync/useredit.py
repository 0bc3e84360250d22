"""Editing users at a prompt: passwords typed or read from a file, and the menu.

A password is never shown. What may not enter: options, the format of the file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from pysftpserver.failures import BadInput, one_line
from pysftpserver.host.wholefiles import first_line
from pysftpserver.sksync import users

DONE = {
    "add": "{name}: added to {path}",
    "change": "{name}: has another password in {path}",
    "remove": "{name}: removed from {path}",
}


def act(action: str, path: str, name: str, password_file: str | None = None) -> None:
    """Add, change or remove a user, and print what was done. Raises BadInput, Unavailable.

    password_file: a file with the password in its first line, - for standard input; None to ask for it.
    """
    if action == "remove":
        users.remove(path, name)
    elif action == "add":
        users.check_new(path, name)  # before asking for a password
        users.add(path, name, password_for(name, password_file))
    else:
        users.check_known(path, name)
        users.change(path, name, password_for(name, password_file))
    say(DONE[action].format(name=name, path=path))


def say_names(path: str) -> None:
    """Print the names of all users. Raises BadInput."""
    for name in users.names(path):
        say(name)


def say(text: str) -> None:
    """Print a line to standard output."""
    print(one_line(text), flush=True)


# --- passwords ----------------------------------------------------------------------------------------------


def password_for(name: str, file: str | None) -> str:
    """The password in the first line of a file, or typed by the user. Raises BadInput."""
    if file is not None:
        if file == "-":
            return first_line(0, "standard input", keep_spaces=True)
        return first_line(file, "password file", keep_spaces=True)
    if not os.isatty(0):
        raise BadInput("there is no terminal to ask for the password on: use --password-file")
    return asked_twice(name)


def asked_twice(name: str) -> str:
    """A password that was typed twice, without being shown. Raises BadInput."""
    import getpass
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # the password would be shown
            password = getpass.getpass(f"Password for {one_line(name)}: ")
            again = getpass.getpass("The same again: ")
    except (EOFError, getpass.GetPassWarning, UnicodeError):
        raise BadInput("this terminal cannot be asked for a password: use --password-file") from None
    if password != again:
        raise BadInput("the two passwords differ; nothing was changed")
    return password


# --- the menu -----------------------------------------------------------------------------------------------


def menu(path: str) -> None:
    """Ask what to do until the user quits; each change is made at once. Raises BadInput."""
    if not (os.isatty(0) and os.isatty(1)):
        raise BadInput("there is no terminal to ask on: use list, add, change or remove (try --help)")
    actions: dict[str, Callable[[], None]] = {
        "l": lambda: say_names(path),
        "a": lambda: _ask_and_act("add", path),
        "c": lambda: _ask_and_act("change", path),
        "r": lambda: _ask_and_act("remove", path),
    }
    while True:
        answer = _ask("l list, a add, c change password, r remove, q quit: ")
        if answer is None or answer in ("q", "quit"):
            return
        if answer not in actions:
            say(f"{answer!r} is not one of l, a, c, r, q" if answer else "type one of l, a, c, r, q")
            continue
        try:
            actions[answer]()
        except BadInput as error:
            say(error.message)


def _ask_and_act(action: str, path: str) -> None:
    name = _ask("Name: ")
    if name:
        act(action, path, name)


def _ask(prompt: str) -> str | None:
    """A line that was typed, without spaces around it; None at the end of input."""
    sys.stdout.write(prompt)
    sys.stdout.flush()
    line = sys.stdin.readline()
    return line.strip() if line else None
