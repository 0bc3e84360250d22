"""pysftpremo keygen and pysftpremo users: key pairs, and the users who may log in."""

from __future__ import annotations

import getpass
import os
import sys

from pysftpserver.cli.options import Command, Commands, Option, Subcommand
from pysftpserver.failures import BadInput
from pysftpserver.remo.config import PASSPHRASE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pysftpserver.remo.users import Users

DATABASE = "users_db.sqlite"
PERMISSIONS = "all, files, read, commands and none"
BASE = Option(
    "-b", "--base", metavar="FILE", default=DATABASE, help=f"The user database. The default is {DATABASE}."
)
USER = ("USER", "The user's name.")


def _permissions(end: str, default: str | None = None) -> Option:
    what = f"Permissions of the user, separated by commas: {PERMISSIONS}. {end}"
    return Option("-p", "--permissions", metavar="WORDS", default=default, help=what)


KEYGEN = Command(
    prog="pysftpremo keygen",
    description="Generate an Ed448 key pair: PREFIX_key.pem, the private key, readable by its owner only, "
    "and PREFIX.pem, the public key. Existing files are not replaced.",
    epilog="A user's key should have a passphrase; a server's has none. The passphrase is asked for on a "
    f"terminal, and taken from the environment variable {PASSPHRASE} elsewhere; without one the key is not "
    "encrypted.",
    examples=(
        ("Make the key of a server:", "pysftpremo keygen --no-passphrase remo_serv"),
        ("Make the key of a user:", "pysftpremo keygen alice ~/keys"),
    ),
    options=(
        Option(
            "-n",
            "--no-passphrase",
            help="Generate a key without a passphrase, for a server. The default is a key with one.",
        ),
    ),
    arguments=(("PREFIX", "The beginning of the files' names."),),
    rest=("FOLDER", "The directory for the files. The default is the current directory."),
)
ADD = Command(
    prog="pysftpremo users add",
    description="Add a user with the public key in a file. The database is made if it does not exist.",
    epilog="A running server accepts the user at once.",
    examples=(("Add a user for files only:", "pysftpremo users add -p files alice alice.pem"),),
    options=(BASE, _permissions("The default is all.", "all")),
    arguments=(USER,),
    rest=("PEM", "The file with the user's public key. The default is USER.pem."),
)
CHANGE = Command(
    prog="pysftpremo users change",
    description="Change a user's permissions or public key. The user's sessions end within seconds.",
    epilog="",
    options=(BASE, _permissions("The default is no change.")),
    arguments=(USER,),
    rest=("PEM", "File with the new public key. The default is no change."),
)
REMOVE = Command(
    prog="pysftpremo users remove",
    description="Remove a user. The user's sessions end within seconds.",
    epilog="",
    options=(BASE,),
    arguments=(USER,),
)
LIST = Command(
    prog="pysftpremo users list",
    description="List the users: name, permissions and the fingerprint of the key.",
    epilog="",
    options=(BASE,),
)


def keygen(words: Sequence[str]) -> int:
    """Generate a key pair. Raises BadInput."""
    options = KEYGEN.parse(words)
    folder = _at_most_one(options["FOLDER"], KEYGEN) or "."
    from pysftpserver.remo.keyfiles import KeyPair

    pair = KeyPair(os.path.join(folder, options["PREFIX"]))
    passphrase = b"" if options["no_passphrase"] else _new_passphrase(pair.private_path)
    fingerprint = pair.make(passphrase)
    print(f"{pair.private_path}: the private key{'' if passphrase else ', not encrypted'}")
    print(f"{pair.public_path}: the public key, {fingerprint}")
    return 0


def _new_passphrase(path: str) -> bytes:
    if PASSPHRASE in os.environ:
        return os.fsencode(os.environ[PASSPHRASE])
    if not sys.stdin.isatty():
        return b""  # the output mentions it
    first = getpass.getpass(f"Passphrase for {path} (empty for none): ")
    if getpass.getpass("The same again: ") != first:
        raise BadInput("the two passphrases differ; no key was made")
    return first.encode("utf-8", "surrogateescape")


def _users(options: dict[str, Any]) -> Users:
    from pysftpserver.remo.users import Users

    return Users(options["base"])


def _public(path: str) -> str:
    from pysftpserver.remo.keyfiles import public_text

    return public_text(path)


def _add(words: Sequence[str]) -> int:
    options = ADD.parse(words)
    name, permissions = options["USER"], options["permissions"]
    public = _public(_at_most_one(options["PEM"], ADD) or f"{name}.pem")
    print(f"{name}: added, {permissions}, {_users(options).add(name, public, permissions)}")
    return 0


def _change(words: Sequence[str]) -> int:
    options = CHANGE.parse(words)
    path = _at_most_one(options["PEM"], CHANGE)
    if path is None and options["permissions"] is None:
        raise BadInput(f"nothing to change; give --permissions or PEM (try {CHANGE.prog} --help)")
    public = None if path is None else _public(path)
    _users(options).change(options["USER"], public, options["permissions"])
    print(f"{options['USER']}: changed")
    return 0


def _remove(words: Sequence[str]) -> int:
    options = REMOVE.parse(words)
    _users(options).remove(options["USER"])
    print(f"{options['USER']}: removed")
    return 0


def _list(words: Sequence[str]) -> int:
    for user in _users(LIST.parse(words)).all():
        print(user.line())
    return 0


COMMANDS = Commands(
    prog="pysftpremo users",
    description="List, add, change and remove users.",
    subcommands=(
        Subcommand("list", "List the users.", _list, lambda: LIST),
        Subcommand("add", "Add a user.", _add, lambda: ADD),
        Subcommand("change", "Change a user's permissions or public key.", _change, lambda: CHANGE),
        Subcommand("remove", "Remove a user.", _remove, lambda: REMOVE),
    ),
)


def users(words: Sequence[str]) -> int:
    """Run a subcommand of `pysftpremo users`. Raises BadInput."""
    if not words or words[0].startswith(("-b", "--base")):  # the older way to ask for the list
        return _list(words)
    return COMMANDS.run(words)


def _at_most_one(given: list[str], command: Command) -> str | None:
    if len(given) > 1:
        raise BadInput(f"unexpected argument {given[1]!r} (try {command.prog} --help)")
    return given[0] if given else None
