"""pysftpmongo: SFTP on standard input and output, for the files in a MongoDB database (GridFS).

The driver and the storage are imported when they are needed, so that --help and -Q work without the extra.
What may not enter: documents, collections, the driver.
"""

from __future__ import annotations

import os
import sys
import time

from pysftpserver.cli import common, session
from pysftpserver.cli.options import BadValue, Command, Option
from pysftpserver.failures import BadInput, Unavailable, one_line, reason_of
from pysftpserver.host.wholefiles import first_line
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.storages.mongo.address import PATIENCE, SCHEMES, Address, storage_class

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.mongostorage import SFTPServerMongoStorage
    from pysftpserver.storages.embedded import EmbeddedMongo

PROG = "pysftpmongo"
VARIABLE = "PYSFTPMONGO_URI"
EMBEDDED_DATABASE = "sftp"
PAUSE = 0.1  # seconds between two updates of the progress line


def database_name(text: str) -> str:
    """Return the text. Raises BadValue if it is empty; the storage checks the rest of the name."""
    if not text:
        raise BadValue("the database name is empty")
    return text


# fmt: off
COMMAND = Command(
    PROG,
    description="Serves the files in a MongoDB database (GridFS) over SFTP on standard input and output.",
    epilog="It is started by sshd. Put a password into the file of --uri-file or into the environment "
    f"variable {VARIABLE}: other users of this host can see the command line, if only for a moment.",
    examples=(
        (
            "In authorized_keys:",
            'restrict,command="pysftpmongo --uri-file /etc/sftp-uri" ssh-ed25519 AAAA...',
        ),
        ("List missing indexes:", f"{PROG} --uri-file /etc/sftp-uri --check-only"),
        ("Remove what interrupted uploads have left:", f"{PROG} --uri-file /etc/sftp-uri --gc"),
    ),
    statuses=(*session.STATUSES, (1, "With --check-only, an index is missing.")),
    rest=(
        "address",
        "REMOTE PORT DB_NAME, or one URI that begins with mongodb:// or mongodb+srv://. The default is the "
        f"URI in the environment variable {VARIABLE}, unless --uri-file or --embedded is given.",
    ),
    options=(
        Option(
            "--uri-file", metavar="FILE",
            help="Read the URI from the first line of this file. The default is to take it from the "
            "arguments.",
        ),
        Option(
            "--embedded", metavar="DIR",
            help="For trials and tests: start a database server with its data in this directory, and stop it "
            "at the end of the session, which has no sandbox. The default is to use a running server.",
        ),
        Option(
            "--database", metavar="NAME", convert=database_name,
            help="Use this database. The default is the one that the URI names, or "
            f"{EMBEDDED_DATABASE} with --embedded.",
        ),
        Option(
            "--bucket", metavar="NAME", default="fs",
            help="Use this GridFS bucket of the database. The default is fs.",
        ),
        Option(
            "--prefix", metavar="DIR", default="",
            help="Serve this directory of the bucket; clients see it as /. The default is to serve the whole "
            "bucket.",
        ),
        Option(
            "--keep-revisions",
            help="Keep the old revision when a file is replaced. The default is to remove it.",
        ),
        *session.LOG_OPTIONS,
        Option(
            "-d", "--start-directory", metavar="DIR", default="/",
            help="Start sessions in this directory. The default is the root.",
        ),
        *session.ACCESS_OPTIONS,
        *session.LIMIT_OPTIONS,
        *session.SECURITY_OPTIONS,
        session.ALLOW_SETID,
        Option(
            "--check-only",
            help="Print missing indexes and files that clients cannot reach, one per line, and exit.",
        ),
        Option("--gc", help="Remove what interrupted uploads have left in the storage, and exit."),
        Option("--dry-run", help="With --gc, only print what would be removed. The default is to remove it."),
        session.OLDER_THAN,
        session.LIST_REQUESTS,
    ),
)
# fmt: on


def _bad(message: str) -> BadInput:
    """The error for arguments, which may name hosts and files that a client must not see."""
    return BadInput(message, "bad arguments")


# --- which database -------------------------------------------------------------------------------------


def address_of(options: dict[str, Any]) -> Address | None:
    """Return the address that was given, or None for an embedded server. Raises BadInput."""
    in_environment = os.environ.pop(VARIABLE, "")  # child processes do not need it
    words, file = options["address"], options["uri_file"]
    sources = bool(words) + (file is not None) + (options["embedded"] is not None)
    if sources > 1:
        raise _bad("an address, --uri-file and --embedded: give only one of them")
    if options["embedded"] is not None:
        return None
    if words and not (len(words) == 1 and words[0].startswith(SCHEMES)):
        return typed_address(words, options["database"])
    if not sources and not in_environment:
        raise _bad(f"no database: give REMOTE PORT DB_NAME, a URI, --uri-file, --embedded, or set {VARIABLE}")
    uri = words[0] if words else in_environment if file is None else first_line(file, "URI file")
    if not uri.startswith(SCHEMES):
        where = VARIABLE if file is None else f"URI file {file}"
        raise _bad(f"{where}: not a MongoDB URI; it has to begin with {' or '.join(SCHEMES)}")
    return Address(uri, None, options["database"])


def typed_address(words: Sequence[str], database: str | None) -> Address:
    """Return the address in the words REMOTE PORT DB_NAME. Raises BadInput."""
    if len(words) != 3 or "://" in words[0]:
        raise _bad(f"give REMOTE PORT DB_NAME, or one URI that begins with {' or '.join(SCHEMES)}")
    remote, port, db_name = words
    if "@" in remote:  # there may be a password before it, so the message does not repeat it
        raise _bad("REMOTE has to be a host name alone; give the user and the password in a URI")
    if not (port.isdecimal() and port.isascii() and len(port) < 6 and 1 <= int(port) <= 65535):
        raise BadInput(f"invalid port {port!r}: use 1 to 65535", "bad arguments")
    if database is not None:
        raise _bad("--database requires a URI or --embedded; with REMOTE PORT DB_NAME, omit it")
    return Address(remote, int(port), db_name)


# --- connecting -----------------------------------------------------------------------------------------


def start_embedded(directory: str) -> EmbeddedMongo:
    """Start a database server for this session. Raises BadInput, or Unavailable if it does not start."""
    from pysftpserver.storages.embedded import EmbeddedFailed, EmbeddedMissing, EmbeddedMongo

    try:
        return EmbeddedMongo(directory)
    except EmbeddedMissing as error:
        raise BadInput(str(error), "the embedded server is not installed") from None
    except EmbeddedFailed as error:
        raise Unavailable(str(error), "the embedded server does not start") from None
    except OSError as error:
        message = f"--embedded {directory}: {reason_of(error)}; name a directory that this user may write"
        raise BadInput(message, "the embedded server does not start") from None


def run_on(address: Address, log: SFTPLog, options: dict[str, Any]) -> int:
    """Connect to the storage at an address, and serve or maintain it as the options say.

    Returns the exit status. Raises BadInput, or Unavailable if the database cannot be used.
    """
    kind = storage_class()
    from pysftpserver.storages.mongo.connection import MongoUnavailable

    settings = {name: options[name] for name in ("bucket", "prefix", "keep_revisions")}
    try:
        storage = address.storage(kind, **settings)
    except ValueError as error:
        raise _bad(str(error)) from None
    try:
        storage.connect(PATIENCE)
        return purpose(options)(storage, log, options)
    except MongoUnavailable as error:
        raise Unavailable(f"{address}: {error}", "the database cannot be reached") from None
    except SFTPException as error:
        raise Unavailable(f"{address}: {error}", "the database cannot be used") from None
    finally:
        storage.close_client()


# --- serving and maintaining ----------------------------------------------------------------------------


def serve_session(storage: SFTPServerMongoStorage, log: SFTPLog, options: dict[str, Any]) -> int:
    """Serve one session; return the exit status. Raises BadInput, or SFTPException before the session."""
    if not options["read_only"]:
        try:
            storage.prepare()
        except SFTPException as error:
            log.error(f"missing indexes cannot be created ({error}); --check-only lists them")
    session.set_home(storage, options["start_directory"], "database")
    return session.serve(PROG, storage, log, options)


def check(storage: SFTPServerMongoStorage, log: SFTPLog, options: dict[str, Any]) -> int:
    """Print missing indexes and files that clients cannot reach, one per line.

    Returns 1 if an index is missing, else 0. Raises SFTPException.
    """
    missing = storage.check()
    for sentence in missing + storage.remarks():
        print(one_line(sentence), flush=True)
    return 1 if missing else 0


def collect_garbage(storage: SFTPServerMongoStorage, log: SFTPLog, options: dict[str, Any]) -> int:
    """Remove orphaned chunks, or count them, and print the result. Raises SFTPException."""
    from pysftpserver.storages.mongo.gc import collect

    age = session.OLD if options["older_than"] is None else options["older_than"]
    on_terminal = os.isatty(2)
    told = progress() if on_terminal else None
    try:
        found = collect(storage.bucket, age * 3600, options["dry_run"], told)
    finally:
        if on_terminal:
            os.write(2, b"\r\x1b[K")
    line = found.sentence(options["dry_run"], age)
    print(line, flush=True)
    log.info(line)
    return 0


def progress() -> Callable[[int], None]:
    """Return a function that shows a number of files in one line on standard error, and updates it."""
    from pysftpserver.storages.mongo.gc import counted

    said = 0.0

    def say(looked_at: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= PAUSE:
            said = now
            os.write(2, f"\r{counted(looked_at, 'file')} checked".encode())

    return say


def purpose(options: dict[str, Any]) -> Callable[[SFTPServerMongoStorage, SFTPLog, dict[str, Any]], int]:
    """Return the function that does what the options ask for."""
    if options["check_only"]:
        return check
    return collect_garbage if options["gc"] else serve_session


def check_purpose(options: dict[str, Any]) -> None:
    """Raises BadInput for options that exclude each other."""
    message = ""
    if options["check_only"] and options["gc"]:
        message = "--check-only and --gc: give only one of them"
    elif not options["gc"] and (options["dry_run"] or options["older_than"] is not None):
        message = "--dry-run and --older-than require --gc"
    elif options["gc"] and options["read_only"] and not options["dry_run"]:
        message = "--gc removes chunks, and --read-only forbids that; add --dry-run, or omit one of them"
    if message:
        raise _bad(message)


def run(options: dict[str, Any]) -> int:
    """Run the command with these options; return the exit status. Raises BadInput."""
    check_purpose(options)
    address = address_of(options)
    log = session.open_log(PROG, options)
    if address is not None:
        return run_on(address, log, options)
    from pysftpserver.storages.embedded import LOOPBACK

    storage_class()  # a missing driver is reported before a server is started
    server = start_embedded(options["embedded"])
    try:
        # The sandbox forbids signals to other processes, so it would keep us from stopping the server.
        options = {**options, "no_sandbox": True}
        database = EMBEDDED_DATABASE if options["database"] is None else options["database"]
        return run_on(Address(LOOPBACK, server.port, database), log, options)
    finally:
        server.stop()


def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments, hide the passwords in them, and run the command. Raises BadInput."""
    if not any("://" in word for word in arguments):
        return run(COMMAND.parse(arguments))
    from pysftpserver.cli import title

    if not title.hide_passwords():
        raise _bad(f"other users of this host can see this command line; use --uri-file or {VARIABLE}")
    try:
        return run(COMMAND.parse(arguments))
    except BadInput as error:
        error.message = title.without_passwords(error.message)
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. arguments: without the command's name.

    None means those of this process, which then exits here if the driver was loaded.
    """
    status = common.run(PROG, serve, arguments)
    if arguments is None and "pymongo" in sys.modules:
        os._exit(status)  # an ordinary exit waits for the driver's idle threads, and the client waits too
    return status
