"""pysftpremo keygen, adduser, users and deluser: keys, and who may log in.

What may not enter: sessions, HTTP.
"""

from __future__ import annotations

import getpass
import os
import sys

from pysftpserver.cli.options import Command, Option
from pysftpserver.failures import BadInput, one_line
from pysftpserver.host import wholefiles
from pysftpserver.remo import crypto
from pysftpserver.remo.users import WORDS, User, UserError, Users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

DATABASE = "users_db.sqlite"
PRIVATE = "_key.pem"
PUBLIC = ".pem"
PASSPHRASE = "PYSFTPREMO_PASSPHRASE"
BASE = Option(
    "-b",
    "--base",
    metavar="FILE",
    default=DATABASE,
    help=f"The database of users. The default is {DATABASE}.",
)
KEYGEN = Command(
    prog="pysftpremo keygen",
    description="Make an Ed448 pair of keys: PREFIX_key.pem, the private one, for its owner alone, and "
    "PREFIX.pem, the public one. Files that are there already are not replaced.",
    epilog="A server's key has no passphrase, a user's should have one: it is asked for on a terminal, and "
    f"taken from the environment variable {PASSPHRASE} elsewhere; without one the key is not encrypted.",
    options=(Option("-n", "--no-passphrase", help="Do not ask for a passphrase: the key is for a server."),),
    arguments=(("PREFIX", "What the files' names begin with."),),
    rest=("FOLDER", "Where to put them. The default is the current directory."),
)
ADDUSER = Command(
    prog="pysftpremo adduser",
    description="Let a user in, whose public key is in a file. The database is made if it is not there.",
    epilog="A running server knows at once.",
    options=(
        BASE,
        Option(
            "-p",
            "--permissions",
            metavar="WORDS",
            default="all",
            help=f"What he may do: {', '.join(WORDS)}, with commas between. The default is all.",
        ),
    ),
    arguments=(("USER", "His name."),),
    rest=("PEM", "The file with his public key. The default is USER.pem."),
)
USERS = Command(
    prog="pysftpremo users",
    description="List the users: name, permissions and the fingerprint of the key.",
    epilog="",
    options=(BASE,),
)
DELUSER = Command(
    prog="pysftpremo deluser",
    description="Let a user in no longer. His sessions end within seconds.",
    epilog="",
    options=(BASE,),
    arguments=(("USER", "His name."),),
)


def keygen(words: Sequence[str]) -> int:
    """Make a pair of keys. Raises BadInput."""
    options = KEYGEN.parse(words)
    folder = _one_of(options["FOLDER"], ".", KEYGEN)
    base = os.path.join(folder, options["PREFIX"])
    for path in (base + PRIVATE, base + PUBLIC):
        if os.path.lexists(path):
            raise BadInput(f"{path} is there already; remove it, or choose another prefix")
    passphrase = b"" if options["no_passphrase"] else _new_passphrase(base + PRIVATE)
    key = crypto.new_key()
    try:
        with wholefiles.open_temporary(base + PRIVATE, crypto.private_pem(key, passphrase)) as file:
            file.commit(replace=False)
        with wholefiles.open_temporary(base + PUBLIC, crypto.public_pem(key.public_key()), 0o644) as file:
            file.commit(replace=False)
    except OSError as error:
        raise BadInput(f"{base}*: {(error.strerror or 'failure').lower()}") from None
    print(f"{base + PRIVATE}: the private key{'' if passphrase else ', not encrypted'}")
    print(f"{base + PUBLIC}: the public key, {crypto.fingerprint(key.public_key())}")
    return 0


def _new_passphrase(path: str) -> bytes:
    if PASSPHRASE in os.environ:
        return os.fsencode(os.environ[PASSPHRASE])
    if not sys.stdin.isatty():
        return b""  # which is said
    first = getpass.getpass(f"Passphrase for {path} (empty for none): ")
    if getpass.getpass("The same again: ") != first:
        raise BadInput("the two passphrases differ; nothing was made")
    return first.encode("utf-8", "surrogateescape")


def adduser(words: Sequence[str]) -> int:
    """Add a user. Raises BadInput."""
    options = ADDUSER.parse(words)
    path = _one_of(options["PEM"], options["USER"] + PUBLIC, ADDUSER)
    try:
        with open(path, "rb") as file:
            pem = file.read(crypto.MOST_PEM + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "failure").lower() if isinstance(error, OSError) else "no text"
        raise BadInput(f"{path}: {why}; name a file with a public key") from None
    try:
        Users(options["base"]).add(options["USER"], pem, options["permissions"])
        fingerprint = crypto.fingerprint(crypto.load_public(pem))
    except UserError as error:
        raise BadInput(str(error)) from None
    print(f"{options['USER']}: added, {options['permissions']}, {fingerprint}")
    return 0


def users(words: Sequence[str]) -> int:
    """List the users. Raises BadInput."""
    try:
        every = Users(USERS.parse(words)["base"]).all()
    except UserError as error:
        raise BadInput(str(error)) from None
    for user in every:
        try:
            key = crypto.fingerprint(user.key())
        except crypto.KeyProblem as error:
            key = f"(the key cannot be used: {error})"
        print(f"{one_line(user.name)}\t{_permitted(user)}\t{key}")
    return 0


def _permitted(user: User) -> str:
    try:
        user.may()
    except UserError as error:
        return f"(nothing: {one_line(str(error))})"
    return "all" if user.permissions is None else user.permissions


def deluser(words: Sequence[str]) -> int:
    """Remove a user. Raises BadInput."""
    options = DELUSER.parse(words)
    try:
        Users(options["base"]).remove(options["USER"])
    except UserError as error:
        raise BadInput(str(error)) from None
    print(f"{options['USER']}: removed")
    return 0


def _one_of(given: list[str], default: str, command: Command) -> str:
    if len(given) > 1:
        raise BadInput(f"{given[1]}: one word too many (try {command.prog} --help)")
    return given[0] if given else default
