"""Options and start-up shared by the commands that serve one session on standard input and output."""

from __future__ import annotations

import gc
import os
from stat import S_ISDIR

from pysftpserver.cli.common import tell
from pysftpserver.cli.options import BadValue, Option
from pysftpserver.engine.limits import LIMITS, Limits
from pysftpserver.engine.log import FACILITIES, INFO, LEVELS, SFTPLog, file_log, syslog
from pysftpserver.engine.requests import EXTENDED_REQUESTS, REQUESTS
from pysftpserver.failures import BadInput, reason_of
from pysftpserver.pysftpexceptions import SFTPNotFound
from pysftpserver.server import SFTPServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.engine.limits import Limit
    from pysftpserver.hook import SFTPHook
    from pysftpserver.service.sums import Command
    from pysftpserver.storage import SFTPServerStorage

    Storage = TypeVar("Storage", bound=SFTPServerStorage)

OTHER_PROTOCOLS = ("scp", "rsync")  # first words of commands that are not SFTP
LONGEST_NAME = 128  # characters
OLD = 24.0  # hours since an upload began, after which it is not one in progress
MOST_HOURS = 100_000
STANDARD_ERROR = "-"  # as the name of an audit log
LEVEL_NAMES = ("QUIET", "FATAL", "ERROR", "INFO", "VERBOSE", "DEBUG")  # LEVELS has others for DEBUG as well
AUDIT_LEVELS = ("files", "operations", "all")
#: Exit statuses of sessions.
STATUSES = (
    (0, "The session is over: the client has left, or a limit or a signal has ended it."),
    (
        11,  # stdio.EXIT_BROKEN
        "The session could not go on: the client sent something other than SFTP, or a record of the audit "
        "log cannot be written.",
    ),
)


def request_names() -> list[str]:
    """Return the names of all requests, in the order of sftp-server(8)."""
    return [request.name for request in (*REQUESTS.values(), *EXTENDED_REQUESTS.values())]


def request_list(text: str) -> list[str]:
    """Split a comma-separated list of request names. Raises BadValue for an unknown name."""
    names = text.split(",")
    for name in names:
        if name not in request_names():
            raise BadValue(f"unknown request {name!r}; -Q lists them")
    return names


def octal_umask(text: str) -> int:
    """Convert a umask from octal, 0 to 777. Raises BadValue for anything else."""
    if not text or set(text) - set("01234567") or int(text, 8) > 0o777:
        raise BadValue(f"invalid umask {text!r}: give an octal number up to 777")
    return int(text, 8)


def client_name(text: str) -> str:
    """Return the name of a client. Raises BadValue for a name that does not fit into a line of a log."""
    if not text or not text.isprintable() or len(text) > LONGEST_NAME:
        raise BadValue(f"invalid name {text!r}: use 1 to {LONGEST_NAME} printable characters")
    return text


def hours(text: str) -> float:
    """Convert a number of hours, 0 to MOST_HOURS: digits, and perhaps one point. Raises BadValue."""
    if (
        len(text) < 12
        and text.isascii()
        and text.replace(".", "", 1).isdecimal()
        and float(text) <= MOST_HOURS
    ):
        return float(text)
    raise BadValue(f"invalid number {text!r}: use 0 to {MOST_HOURS} hours")


def log_level(text: str) -> int:
    """Return the number of a log level. Raises BadValue for an unknown name."""
    if text.upper() not in LEVELS:
        raise BadValue(f"invalid log level {text!r}: use one of {', '.join(LEVELS)}")
    return LEVELS[text.upper()]


def audit_level(text: str) -> str:
    """Return the level of an audit log. Raises BadValue for an unknown one."""
    if text not in AUDIT_LEVELS:
        raise BadValue(f"invalid audit level {text!r}: use files, operations or all")
    return text


def log_facility(text: str) -> str:
    """Return the syslog facility in capitals. Raises BadValue for an unknown name."""
    if text.upper() not in FACILITIES:
        raise BadValue(f"invalid log facility {text!r}: use one of {', '.join(FACILITIES)}")
    return text.upper()


def _number(limit: Limit) -> Callable[[str], int]:
    """Return a converter for the value of a limit. It raises BadValue for a value out of range."""

    def convert(text: str) -> int:
        # int() accepts more than ASCII digits, and is slow on very long texts.
        if text.isdecimal() and text.isascii() and len(text) < 12 and limit.least <= int(text) <= limit.most:
            return int(text)
        raise BadValue(f"invalid number {text!r}: use {limit.least} to {limit.most} {limit.unit}")

    return convert


def _limit_option(limit: Limit) -> Option:
    default = "" if limit.default is None else f" The default is {limit.default}."
    return Option(
        limit.flag,
        metavar=limit.unit.upper(),
        convert=_number(limit),
        help=f"{limit.text}{default} The range is {limit.least} to {limit.most} {limit.unit}.",
    )


#: Resource limits of a session.
LIMIT_OPTIONS = tuple(map(_limit_option, LIMITS))

# fmt: off
#: Which requests a session may make.
ACCESS_OPTIONS = (
    Option(
        "-R", "--read-only", help="Refuse requests that would change anything. The default is to allow them."
    ),
    Option(
        "-p", "--allow-requests", metavar="LIST", convert=request_list, choices=request_names, separator=",",
        help="Allow only the requests in this comma-separated list. The default is to allow all.",
    ),
    Option(
        "-P", "--deny-requests", metavar="LIST", convert=request_list, default=(), choices=request_names,
        separator=",",
        help="Refuse the requests in this comma-separated list, even if -p allows them. The default is to "
        "refuse none.",
    ),
    Option(
        "-u", "--umask", metavar="UMASK", convert=octal_umask,
        help="Umask for new files and directories, in octal. The default is the umask that the command "
        "inherits.",
    ),
    Option(
        "--checksums",
        help="Answer requests for checksums of files: the extension check-file, and the commands md5sum, "
        "sha1sum, sha224sum, sha256sum, sha384sum, sha512sum and crc32 with one path. The default is to "
        "refuse them.",
    ),
)

#: The log of the commands that serve one directory or database.
LOG_OPTIONS = (
    Option(
        "-l", "--logfile", metavar="FILE",
        help="Append the log to this file. The default is to log to syslog, facility AUTH.",
    ),
    Option(
        "--log-level", metavar="LEVEL", convert=log_level, default=INFO, choices=LEVEL_NAMES,
        help="Log up to this level: QUIET, FATAL, ERROR, INFO, VERBOSE or DEBUG. The default is INFO.",
    ),
)

CLIENT_NAME = Option(
    "--name", metavar="NAME", convert=client_name,
    help="Name of the client in the log and in the audit log, for accounts with a key for each of several "
    "clients. The default is the account's name.",
)
SITE = Option(
    "--site", metavar="FILE",
    help="Put the directory under this site file, which has no storage of its own: its mounts and rules. "
    "There is none by default.",
)
ALLOW_SETID = Option(
    "--allow-setid",
    help="Keep the set-uid and set-gid bits of permissions that clients send. The default is to drop them.",
)
ALLOW_HOME = Option(
    "--allow-home-in-jail",
    help="Serve a directory that holds the account's home directory, its .ssh or its start-up files. "
    "The default is to refuse it, because clients could make the account run their programs.",
)
OLDER_THAN = Option(
    "--older-than",
    metavar="HOURS",
    convert=hours,
    help="With --gc, keep uploads that began less than this many hours ago, because they may still be in "
    f"progress. The default is {OLD:g}.",
)
LIST_REQUESTS = Option(
    "-Q", "--list-requests", instead=lambda _: "\n".join(request_names()),
    help="Print the names of all requests, for use with -p and -P, and exit.",
)

#: Options that confine a session and record it.
SECURITY_OPTIONS = (
    Option(
        "--no-sandbox",
        help="Run without the sandbox. By default, Landlock and seccomp confine the process to what the "
        "session needs, as far as the kernel supports them.",
    ),
    Option(
        "--atomic-uploads",
        help="Receive each upload in a temporary file, whose name begins with .pysftpserver-upload-, and "
        "rename it into place when the client closes it, so that incomplete files are never visible. The "
        "default is to write in place.",
    ),
    Option(
        "--durable",
        help="Reply to a request that changes something only when the change is on the disk: the content of "
        "a file when it is closed, attributes, and each new, changed or removed name. The default is to "
        "leave that to the system, as sftp-server does, except for files that --atomic-uploads replaces.",
    ),
    Option(
        "--audit", metavar="FILE",
        help="Append the audit log to this file, one JSON object per operation; - is standard error. The "
        "session ends if a record cannot be written. The default is no audit log.",
    ),
    Option(
        "--audit-best-effort",
        help="Continue a session when the audit log cannot be written. The default is to end it.",
    ),
    Option(
        "--audit-level", metavar="LEVEL", convert=audit_level, choices=AUDIT_LEVELS,
        help="Record operations, with the bytes that were moved at the close of each file; files, without "
        "look-ups, such as STAT, that are not refused; or all, which has a record of each READ and WRITE as "
        "well and makes transfers slower. The default is operations.",
    ),
    Option(
        "--audit-digests",
        help="Record the SHA-256 of every file that is stored or fetched, at its close. The default is not "
        "to.",
    ),
    Option(
        "--audit-chain",
        help="Give each audit record a number, the hash of the record before, and its own, so that "
        "pysftp-audit finds what was changed or removed; the head of the chain is in FILE.chain. The default "
        "is not to.",
    ),
)
# fmt: on


def open_log(prog: str, options: dict[str, Any]) -> SFTPLog:
    """Return the log that LOG_OPTIONS describe."""
    if options["logfile"] is not None:
        return file_log(options["logfile"], options["log_level"], prog)
    return syslog(options["log_level"], prog)


def kind_of(base: type[Storage], options: dict[str, Any]) -> type[Storage]:
    """Return the class of a storage of real files that the options describe."""
    mixins: list[type] = []
    if not options["read_only"]:
        if options["durable"]:
            from pysftpserver.uploads.durable import DurableStorage

            mixins.append(DurableStorage)
        if options["atomic_uploads"]:
            from pysftpserver.uploads.atomic import AtomicUploads

            mixins.append(AtomicUploads)
    return type(base.__name__, (*mixins, base), {}) if mixins else base


def check_jail(chroot: str, options: dict[str, Any], files: Sequence[str] = ()) -> None:
    """Refuse a jail that contains programs of this account, records of the session, or files that lead to it.

    files: of the last kind. Raises BadInput.
    """
    from pysftpserver.host import homes

    try:
        root = os.stat(chroot)
        held = None if options["allow_home_in_jail"] else homes.held_by(chroot)
    except (OSError, ValueError):
        return  # opening the jail will report what is wrong
    if held is not None:
        message = (
            f"chroot {chroot}: it holds {held}, so clients could make this account run programs; name a "
            "directory beside that, or add --allow-home-in-jail"
        )
        raise BadInput(message, "the chroot directory holds start-up files of the account")
    records = [("log file", options["logfile"]), ("audit log", options["audit"])]
    if options["audit_chain"] and options["audit"]:
        records.append(("audit log", f"{options['audit']}.chain"))
    for what, path in (*records, *(("file", file) for file in files)):
        if path not in (None, "", STANDARD_ERROR) and homes.is_in(path, root):
            message = f"{what} {path}: clients could change it; name a file outside of the jail {chroot}"
            raise BadInput(message, f"the {what} is in the jail")


def who(user: str, options: dict[str, Any]) -> dict[str, str]:
    """The values that tell a site file whom a session is for.

    user: the value of {user}. options: gets "session", the name of the session in events and in its audit
    records.
    """
    from pysftpserver.stdio import peer

    options["session"] = os.urandom(8).hex()
    found = {"user": user, "session": options["session"]}
    address = peer()[0]
    return found if address is None else {**found, "address": address}


def set_home(storage: SFTPAbstractServerStorage, start_directory: str, place: str) -> None:
    """Make sessions start in a directory of the storage. place: the storage's name in the message.

    Raises BadInput if it does not exist, SFTPException if the storage cannot tell.
    """
    try:
        storage.home = storage.realpath(b"/" + os.fsencode(start_directory))
        is_directory = S_ISDIR(storage.stat(storage.home + b"/.").permissions or 0)
    except (OSError, ValueError, SFTPNotFound):
        is_directory = False
    if not is_directory:
        message = f"start directory {start_directory}: no such directory in the {place}"
        raise BadInput(message, "the start directory cannot be used")


def serve(prog: str, storage: SFTPAbstractServerStorage, log: SFTPLog, options: dict[str, Any]) -> int:
    """Serve one session of the command prog on standard input and output; return the exit status.

    options: the values of all options above, by name. Raises BadInput if the session cannot begin.
    """
    check_client(prog)
    command = checksum_command(options)
    hook = audit_log(options, log)  # before the umask changes: that is for the files of clients
    if options["umask"] is not None:
        os.umask(options["umask"])  # one process is one session, and this costs nothing per file
    if options["atomic_uploads"] and command is None:
        remove_leftovers(storage, log)  # only when nothing can prevent the session any more
    limits = zip(LIMITS, LIMIT_OPTIONS, strict=True)
    server = SFTPServer(
        storage,
        hook,
        log=log,
        read_only=options["read_only"],
        allow=options["allow_requests"],
        deny=options["deny_requests"],
        limits=Limits(**{limit.name: options[option.name] for limit, option in limits}),
        allow_setid=options["allow_setid"],
        checksums=options["checksums"],
    )
    if not gc.isenabled():  # the command has switched it off for its start
        gc.freeze()
        gc.enable()
    if command is not None:
        return answer(server, command, not options["no_sandbox"], options.get("name"))
    return server.run(sandbox=not options["no_sandbox"], name=options.get("name"))


def checksum_command(options: dict[str, Any]) -> Command | None:
    """The client's command, if it is one that --checksums answers. Raises BadInput."""
    if not options["checksums"]:
        return None
    from pysftpserver.service import sums

    try:
        return sums.understood(os.environb.get(b"SSH_ORIGINAL_COMMAND", b""))
    except sums.Refused:
        raise BadInput("give a command for checksums one path only, quoted as for a shell") from None


def answer(server: SFTPServer, command: Command, sandbox: bool, name: str | None) -> int:
    """Print the output of a command for checksums; return its exit status."""
    from pysftpserver import stdio

    if command.requests:
        output = command.output(stdio.answer(server, command.requests, sandbox, name))
    else:
        output = command.output(os.read(server.fd_in, 1) if command.reads else b"")
    for descriptor, text in ((server.fd_out, output.out), (2, output.errors)):
        rest = memoryview(text)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    return output.status


def remove_leftovers(storage: SFTPAbstractServerStorage, log: SFTPLog) -> None:
    """Remove the temporary files of servers that were killed, if the storage makes such files."""
    from pysftpserver.uploads.atomic import AtomicUploads

    while hasattr(storage, "below"):  # of a layer of a site
        storage = storage.below
    if not isinstance(storage, AtomicUploads):
        return
    removed, finished = storage.remove_leftovers()
    if removed:
        log.info(f"removed {removed} temporary files of interrupted uploads")
    if not finished:
        log.info("the search for temporary files of interrupted uploads ran out of time")


def audit_log(options: dict[str, Any], log: SFTPLog) -> SFTPHook | None:
    """Return the hook for the --audit options, or None. Raises BadInput if the file cannot be written."""
    path, is_chained = options["audit"], options["audit_chain"]
    for flag in ("--audit-best-effort", "--audit-level", "--audit-digests", "--audit-chain"):
        is_missing = path is None or path == STANDARD_ERROR and flag == "--audit-chain"
        if options[flag[2:].replace("-", "_")] and is_missing:
            raise BadInput(f"{flag} requires --audit FILE")
    if path is None:
        return None
    from pysftpserver.engine import audit
    from pysftpserver.stdio import key, peer, user

    try:
        if is_chained:
            from pysftpserver.engine import chain

            sink = chain.chained_sink(path, path + chain.STATE)
        else:
            sink = audit.descriptor_sink(2) if path == STANDARD_ERROR else audit.file_sink(path)
    except OSError as error:
        message = f"audit log {path}: {reason_of(error)}; name a file that this user may write"
        raise BadInput(message, "the audit log cannot be written") from None
    who = options.get("name") or user(), *peer()
    hook = audit.AuditLog(
        sink,
        *who,
        log,
        options["audit_best_effort"],
        session=options.get("session"),
        level=options["audit_level"] or audit.OPERATIONS,
        digests=options["audit_digests"],
        key=key(),
    )
    log.info(f"audit session {hook.session}")
    return hook


def check_client(prog: str) -> None:
    """Refuse clients that do not speak SFTP, such as `scp -O`: they would wait for an answer for ever.

    sshd names the client's command in SSH_ORIGINAL_COMMAND. Only commands known to speak something else are
    refused, because a Subsystem may have any name. On a terminal, print what the command waits for.
    Raises BadInput for a client that is refused.
    """
    words = os.environ.get("SSH_ORIGINAL_COMMAND", "").split()
    if words and os.path.basename(words[0]) in OTHER_PROTOCOLS:
        raise BadInput("this service allows sftp connections only")
    if os.isatty(0) and "SSH_CONNECTION" not in os.environ:
        tell(f"{prog}: waiting for SFTP on standard input; this command is meant to be started by sshd")
