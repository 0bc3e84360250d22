"""Where the password comes from: a file, the environment, the configuration, a terminal.

No option takes it, because everybody on the host can read a command line. What may not enter: sockets, how
passwords are compared.
"""

from __future__ import annotations

import os

from pysftpserver.failures import BadInput
from pysftpserver.host.wholefiles import first_line
from pysftpserver.laboratory.config import PASSWORD_VARIABLE, ServerSettings

PROMPT = "Password of the server: "
FILE = "password file"


def checked(password: str, where: str) -> str:
    """The password, if clients can send it. where: its source. Raises BadInput."""
    if not password:
        raise BadInput(f"{where}: the password is empty; give one")
    if "\0" in password:
        raise BadInput(f"{where}: the password contains a NUL byte, which the protocol cannot send")
    if any("\ud800" <= letter <= "\udfff" for letter in password):
        raise BadInput(f"{where}: the password is not UTF-8, which the protocol cannot send")
    return password


def in_file(path: str) -> str:
    """The first line of a file. Raises BadInput."""
    return checked(first_line(path, FILE, keep_spaces=True), f"{FILE} {path}")


def taken_from_environment() -> str | None:
    """The value of PYSFTPLAB_PASSWORD, which is removed: services and programs they start need not see it.

    None if it is not set. Raises BadInput.
    """
    password = os.environ.pop(PASSWORD_VARIABLE, None)
    return None if password is None else checked(password, PASSWORD_VARIABLE)


def asked() -> str:
    """A password typed on the terminal. Raises BadInput if there is no terminal."""
    if not os.isatty(0):
        raise BadInput(f"no password; set {PASSWORD_VARIABLE}, or name a file with --password-file")
    import getpass

    try:
        return checked(getpass.getpass(PROMPT), "password")
    except EOFError:
        raise BadInput("no password was typed") from None


def of_server(settings: ServerSettings, typed_file: str | None, environment: str | None) -> str | None:
    """The server's password: from the file named on the command line, the environment, or the configuration.

    None if none of them has one. Raises BadInput.
    """
    if typed_file is not None:
        return in_file(typed_file)
    if environment is not None:
        return environment
    if settings.password is not None:
        return checked(settings.password, "password")
    return None if settings.password_file is None else in_file(settings.password_file)


def of_client(file: str | None) -> str:
    """The password that a client sends. file: as for --password-file. Raises BadInput."""
    if file is not None:
        return in_file(file)
    return taken_from_environment() or asked()


def is_readable_by_others(path: str) -> bool:
    """Whether users other than its owner may read a file."""
    try:
        return bool(os.stat(path).st_mode & 0o077)
    except OSError:
        return False
