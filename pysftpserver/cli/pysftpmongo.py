"""pysftpmongo: SFTP on standard input and output, for the files in the GridFS of a MongoDB database.

The driver, the storage and what looks after it are imported when they are needed, so that help and lists
work without them. What may not enter: documents, collections, the driver.
"""

from __future__ import annotations

import os
import sys
import time
from stat import S_ISDIR

from pysftpserver.cli import common, session
from pysftpserver.cli.options import BadValue, Command, Option
from pysftpserver.engine.log import INFO, SFTPLog, file_log, syslog
from pysftpserver.failures import BadInput, Unavailable, one_line, reason_of
from pysftpserver.host.wholefiles import first_line
from pysftpserver.pysftpexceptions import SFTPException, SFTPNotFound
from pysftpserver.storages.mongo.address import PATIENCE, SCHEMES, Address, storage_class

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pysftpserver.mongostorage import SFTPServerMongoStorage
    from pysftpserver.storages.embedded import EmbeddedMongo

PROG = "pysftpmongo"
VARIABLE = "PYSFTPMONGO_URI"
EMBEDDED_DATABASE = "sftp"
OLD = 24.0  # hours
MOST_HOURS = 100_000
PAUSE = 0.1  # seconds from one line of progress to the next


def hours(text: str) -> float:
    """A number of hours. Raises BadValue for anything but digits, with a point among them or not."""
    if (
        len(text) < 12
        and text.isascii()
        and text.replace(".", "", 1).isdecimal()
        and float(text) <= MOST_HOURS
    ):
        return float(text)
    raise BadValue(f"invalid number {text!r}: hours, 0 to {MOST_HOURS}")


def database_name(text: str) -> str:
    """A name of a database. Raises BadValue for none; what else is no name is the storage's to say."""
    if not text:
        raise BadValue("no name of a database")
    return text


COMMAND = Command(
    PROG,
    description="An OpenSSH SFTP server for the files in the GridFS of a MongoDB database.",
    epilog='It is started by sshd, for example by command="pysftpmongo --uri-file /etc/sftp-uri",restrict '
    "before a key in authorized_keys. A password belongs in that file or into the environment variable "
    f"{VARIABLE}: what is typed into a command can be seen by others on this host, if only for a moment.",
    rest=(
        "address",
        "REMOTE PORT DB_NAME, or one URI that begins with mongodb:// or mongodb+srv://. Without any, and "
        f"without --uri-file and --embedded, the URI in the environment variable {VARIABLE} is used.",
    ),
    options=(
        Option(
            "--uri-file",
            metavar="FILE",
            help="Use the URI in the first line of this file. The default is what the arguments say.",
        ),
        Option(
            "--embedded",
            metavar="DIR",
            help="For trying out and tests: start a database server that keeps its data in this directory, "
            "and end it with the session, which has no sandbox. The default is a server that runs already.",
        ),
        Option(
            "--database",
            metavar="NAME",
            convert=database_name,
            help="Use this database. The default is the one that the URI names, and "
            f"{EMBEDDED_DATABASE} with --embedded.",
        ),
        Option(
            "--bucket",
            metavar="NAME",
            default="fs",
            help="Use this GridFS bucket of the database. The default is fs.",
        ),
        Option(
            "--prefix",
            metavar="DIR",
            default="",
            help="Serve this directory of the bucket as the root of all the client can see. The default is "
            "to serve the whole bucket.",
        ),
        Option(
            "--keep-revisions",
            help="Keep the old revisions of files that are written anew. The default is to remove them.",
        ),
        Option(
            "-l",
            "--logfile",
            metavar="LOGFILE",
            help="Append the log to this file. The default is to log to syslog, facility AUTH.",
        ),
        Option(
            "--log-level",
            metavar="LEVEL",
            convert=session.log_level,
            default=INFO,
            help="Log up to this level: QUIET, FATAL, ERROR, INFO, VERBOSE or DEBUG. The default is INFO.",
        ),
        Option(
            "-d",
            "--start-directory",
            metavar="DIR",
            default="/",
            help="Start sessions in this directory. The default is the root.",
        ),
        *session.ACCESS_OPTIONS,
        *session.LIMIT_OPTIONS,
        *session.SECURITY_OPTIONS,
        Option(
            "--check-only",
            help="Print what the database lacks and which files clients cannot reach, a line each, and exit.",
        ),
        Option(
            "--gc",
            help="Remove what interrupted uploads have left, chunks that belong to no file, and exit.",
        ),
        Option(
            "--dry-run",
            help="With --gc, say what would be removed. The default is to remove it.",
        ),
        Option(
            "--older-than",
            metavar="HOURS",
            convert=hours,
            help="With --gc, leave uploads alone that began less than so many hours ago, because they may "
            f"still go on. The default is {OLD:g}.",
        ),
        Option(
            "-Q",
            "--list-requests",
            instead=lambda _: "\n".join(session.request_names()),
            help="Print the names of all requests, for -p and -P, and exit.",
        ),
    ),
)


# --- which database -------------------------------------------------------------------------------------


def address_of(options: dict[str, Any]) -> Address | None:
    """The one address that was given; None: an embedded server's. Raises BadInput."""
    in_environment = os.environ.pop(VARIABLE, "")  # whatever this process starts has no use for it
    words, file = options["address"], options["uri_file"]
    sources = bool(words) + (file is not None) + (options["embedded"] is not None)
    if sources > 1:
        message = "an address, --uri-file and --embedded: give one of them"
        raise BadInput(message, "bad arguments")
    if options["embedded"] is not None:
        return None
    if words and not (len(words) == 1 and words[0].startswith(SCHEMES)):
        return typed_address(words, options["database"])
    if not sources and not in_environment:
        message = f"no database: give REMOTE PORT DB_NAME, a URI, --uri-file, --embedded, or set {VARIABLE}"
        raise BadInput(message, "bad arguments")
    uri = words[0] if words else in_environment if file is None else first_line(file, "URI file")
    if not uri.startswith(SCHEMES):
        where = VARIABLE if file is None else f"URI file {file}"
        message = f"{where} is no URI: it has to begin with {' or '.join(SCHEMES)}"
        raise BadInput(message, "bad arguments")
    return Address(uri, None, options["database"])


def typed_address(words: Sequence[str], database: str | None) -> Address:
    """The address in three words. Raises BadInput."""
    if len(words) != 3 or "://" in words[0]:
        message = f"give REMOTE PORT DB_NAME, or one URI that begins with {' or '.join(SCHEMES)}"
        raise BadInput(message, "bad arguments")
    remote, port, db_name = words
    if "@" in remote:  # and perhaps a password before it, which is not repeated
        message = "REMOTE is a host alone: a user and a password belong in a URI"
        raise BadInput(message, "bad arguments")
    if not (port.isdecimal() and port.isascii() and len(port) < 6 and 1 <= int(port) <= 65535):
        raise BadInput(f"invalid port {port!r}: 1 to 65535", "bad arguments")
    if database is not None:
        message = "--database goes with a URI or --embedded: here, DB_NAME is the database"
        raise BadInput(message, "bad arguments")
    return Address(remote, int(port), db_name)


# --- getting there --------------------------------------------------------------------------------------


def start_embedded(directory: str) -> EmbeddedMongo:
    """A database server of this session's own. Raises BadInput."""
    from pysftpserver.storages.embedded import EmbeddedFailed, EmbeddedMissing, EmbeddedMongo

    try:
        return EmbeddedMongo(directory)
    except EmbeddedMissing as error:
        raise BadInput(str(error), "the embedded server is not installed") from None
    except EmbeddedFailed as error:
        raise Unavailable(str(error), "the embedded server does not start") from None
    except OSError as error:
        message = f"directory {directory} of --embedded: {reason_of(error)}; name one that can be written"
        raise BadInput(message, "the embedded server does not start") from None


def run_on(address: Address, log: SFTPLog, options: dict[str, Any]) -> int:
    """Do what was asked for with the storage at an address; return the exit status. Raises BadInput."""
    kind = storage_class()
    from pysftpserver.storages.mongo.connection import MongoUnavailable

    settings = {name: options[name] for name in ("bucket", "prefix", "keep_revisions")}
    try:
        storage = address.storage(kind, **settings)
    except ValueError as error:
        raise BadInput(str(error), "bad arguments") from None
    try:
        storage.connect(PATIENCE)
        return purpose(options)(storage, log, options)
    except MongoUnavailable as error:
        raise Unavailable(f"{address}: {error}", "the database cannot be reached") from None
    except SFTPException as error:
        raise Unavailable(f"{address}: {error}", "the database cannot be used") from None
    finally:
        storage.close_client()


# --- what to do there -----------------------------------------------------------------------------------


def serve_session(storage: SFTPServerMongoStorage, log: SFTPLog, options: dict[str, Any]) -> int:
    """Serve one session; return the exit status. Raises BadInput, or SFTPException before it begins."""
    if not options["read_only"]:
        try:
            storage.prepare()
        except SFTPException as error:
            log.error(f"indexes are missing and cannot be made ({error}); --check-only names them")
    enter(storage, options["start_directory"])
    return session.serve(PROG, storage, log, options)


def enter(storage: SFTPServerMongoStorage, start_directory: str) -> None:
    """Let sessions start in a directory.

    Raises BadInput when there is none of that name, SFTPException when the database does not say.
    """
    try:
        storage.home = storage.realpath(b"/" + os.fsencode(start_directory))
        is_directory = S_ISDIR(storage.stat(storage.home).permissions or 0)
    except (OSError, SFTPNotFound):
        is_directory = False
    if not is_directory:
        message = f"start directory {start_directory}: no such directory in the database"
        raise BadInput(message, "the start directory cannot be used")


def check(storage: SFTPServerMongoStorage, log: SFTPLog, options: dict[str, Any]) -> int:
    """Print what is missing and what is out of reach, a line each; return 0 if nothing is missing, else 1.

    Raises SFTPException.
    """
    missing = storage.check()
    for sentence in missing + storage.remarks():
        print(one_line(sentence), flush=True)
    return 1 if missing else 0


def collect_garbage(storage: SFTPServerMongoStorage, log: SFTPLog, options: dict[str, Any]) -> int:
    """Remove, or count, the chunks of no file; print what was done. Raises SFTPException."""
    from pysftpserver.storages.mongo.gc import collect

    age = OLD if options["older_than"] is None else options["older_than"]
    on_terminal = os.isatty(2)
    told = progress() if on_terminal else None
    try:
        found = collect(storage.bucket, age * 3600, options["dry_run"], told)
    finally:
        if on_terminal:
            os.write(2, b"\r\x1b[K")
    done = "would remove" if options["dry_run"] else "removed"
    line = f"{done} {count(found.orphans, 'orphaned upload')}: {count(found.chunks, 'chunk')}, "
    line += count(found.bytes, "byte")
    if found.young:
        line += f"; {found.young} younger than {count(age, 'hour')} left alone"
    print(line, flush=True)
    log.info(line)
    return 0


def count(number: float, thing: str) -> str:
    """A number of things in words. thing: one of them."""
    return f"{number:.12g} {thing}{'' if number == 1 else 's'}"


def progress() -> Callable[[int], None]:
    """A function that says on standard error how far it is, in one line that it writes anew."""
    said = 0.0

    def say(looked_at: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= PAUSE:
            said = now
            os.write(2, f"\r{count(looked_at, 'file')} looked at".encode())

    return say


def purpose(options: dict[str, Any]) -> Callable[[SFTPServerMongoStorage, SFTPLog, dict[str, Any]], int]:
    """What the command is asked to do."""
    if options["check_only"]:
        return check
    return collect_garbage if options["gc"] else serve_session


def check_purpose(options: dict[str, Any]) -> None:
    """Raises BadInput for options that do not go together."""
    message = ""
    if options["check_only"] and options["gc"]:
        message = "--check-only changes nothing, and --gc does: give one of them"
    elif not options["gc"] and (options["dry_run"] or options["older_than"] is not None):
        message = "--dry-run and --older-than go with --gc"
    elif options["gc"] and options["read_only"] and not options["dry_run"]:
        message = "--gc removes, and --read-only forbids that: --dry-run goes with both"
    if message:
        raise BadInput(message, "bad arguments")


def run(options: dict[str, Any]) -> int:
    """Run the command with these options; return the exit status. Raises BadInput."""
    check_purpose(options)
    address = address_of(options)
    if options["logfile"] is not None:
        log = file_log(options["logfile"], options["log_level"], PROG)
    else:
        log = syslog(options["log_level"], PROG)
    if address is not None:
        return run_on(address, log, options)
    from pysftpserver.storages.embedded import LOOPBACK

    storage_class()  # whether there is a driver is known sooner than a server is started
    server = start_embedded(options["embedded"])
    try:
        # In a sandbox, a process can end no other one: the server would stay for ever.
        options = {**options, "no_sandbox": True}
        database = EMBEDDED_DATABASE if options["database"] is None else options["database"]
        return run_on(Address(LOOPBACK, server.port, database), log, options)
    finally:
        server.stop()


def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments, hide the passwords among them, and do what they ask for."""
    if not any("://" in word for word in arguments):
        return run(COMMAND.parse(arguments))
    from pysftpserver.cli import title

    if not title.hide_passwords():
        message = f"what was typed cannot be hidden from others on this host: use --uri-file or {VARIABLE}"
        raise BadInput(message, "bad arguments")
    try:
        return run(COMMAND.parse(arguments))
    except BadInput as error:
        error.message = title.without_passwords(error.message)
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. arguments: without the command's name.

    None: those of this process, which ends at once where that was not quite the end of it.
    """
    status = common.run(PROG, serve, arguments)
    if arguments is None and "pymongo" in sys.modules:
        os._exit(status)  # at an ordinary exit, the driver waits for its idle threads, and clients with it
    return status
