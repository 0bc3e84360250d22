"""pysftplab: a message server whose services one writes oneself, and its clients.

Which of them; each is a module of its own, imported when it is wanted. What may not enter: what they do.
"""

from __future__ import annotations

import os

from pysftpserver.cli import common
from pysftpserver.cli.options import Command
from pysftpserver.failures import BadInput
from pysftpserver.host.wholefiles import first_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROG = "pysftplab"
EXTRA = "pip install 'pysftpserver[laboratory]'"
PASSWORD_VARIABLE = "PYSFTPLAB_PASSWORD"


def _serve(arguments: Sequence[str]) -> int:
    from pysftpserver.cli import pysftplab_serve

    return pysftplab_serve.serve(arguments)


def _connect(arguments: Sequence[str]) -> int:
    from pysftpserver.cli import pysftplab_connect

    return pysftplab_connect.serve(arguments)


def _window(arguments: Sequence[str]) -> int:
    from pysftpserver.cli import pysftplab_window

    return pysftplab_window.serve(arguments)


#: What can be done: the word, what does it, and what the help says.
WORDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "serve": (_serve, "serves clients"),
    "connect": (_connect, "is a client for the terminal and for pipes"),
    "window": (_window, "is a client with a window"),
}

COMMAND = Command(
    PROG,
    description="A message server whose services you write yourself, and its clients: "
    + "; ".join(f"{PROG} {word} {text}" for word, (_, text) in WORDS.items())
    + ".",
    epilog="Each word has a --help of its own.",
    rest=("words", " or ".join(WORDS) + ", and what belongs to it."),
    options=(),
)


def serve(arguments: Sequence[str]) -> int:
    """Do what the first word says; return the exit status. Raises BadInput."""
    if arguments and arguments[0] in WORDS:
        return WORDS[arguments[0]][0](arguments[1:])
    words = COMMAND.parse(arguments)["words"]
    said = f"{words[0]}: no such word" if words else "nothing to do"
    raise BadInput(f"{said}; write {PROG} {' or '.join(WORDS)} (try {PROG} --help)")


# --- what several of them need ----------------------------------------------------------------------------


def need_extra() -> None:
    """Raises BadInput where the protocol cannot be spoken."""
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError:
        raise BadInput(f"cryptography is missing: {EXTRA}") from None


def password_in(path: str) -> str:
    """The first line of a file. Raises BadInput."""
    line = first_line(path, "password file", keep_spaces=True)
    return checked(line, f"password file {path}")


def checked(password: str, where: str) -> str:
    """The password, if it may be one. Raises BadInput."""
    if not password:
        raise BadInput(f"{where}: an empty password; there has to be one")
    if "\0" in password:
        raise BadInput(f"{where}: a password with a zero in it")
    if any("\ud800" <= letter <= "\udfff" for letter in password):
        raise BadInput(f"{where}: no UTF-8, so nobody could say that password")
    return password


def asked_password(prompt: str) -> str:
    """What somebody types. Raises BadInput where nobody can."""
    if not os.isatty(0):
        raise BadInput(f"no password: set {PASSWORD_VARIABLE}, or name a file with --password-file")
    import getpass

    try:
        return checked(getpass.getpass(prompt), "password")
    except EOFError:
        raise BadInput("no password") from None


def is_readable_by_others(path: str) -> bool:
    """Whether people other than its owner may read a file."""
    try:
        return bool(os.stat(path).st_mode & 0o077)
    except OSError:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. arguments: without the command's name."""
    return common.run(PROG, serve, arguments)
