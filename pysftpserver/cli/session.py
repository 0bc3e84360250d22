"""What the commands that serve one session share: its options, and how it is put together."""

from __future__ import annotations

import os

from pysftpserver.cli.common import tell
from pysftpserver.cli.options import BadValue, Option
from pysftpserver.engine.limits import LIMITS, Limits
from pysftpserver.engine.log import FACILITIES, LEVELS, SFTPLog
from pysftpserver.engine.requests import EXTENDED_REQUESTS, REQUESTS
from pysftpserver.failures import BadInput, reason_of
from pysftpserver.server import SFTPServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.engine.limits import Limit
    from pysftpserver.hook import SFTPHook

OTHER_PROTOCOLS = ("scp", "rsync")  # first words of the commands that such clients ask sshd for
STANDARD_ERROR = "-"  # as the name of an audit log


def request_names() -> list[str]:
    """The names of all requests, in the order of sftp-server(8)."""
    return [request.name for request in (*REQUESTS.values(), *EXTENDED_REQUESTS.values())]


def request_list(text: str) -> list[str]:
    """A comma-separated list of request names. Raises BadValue for an unknown one."""
    names = text.split(",")
    for name in names:
        if name not in request_names():
            raise BadValue(f"unknown request {name!r}; -Q lists them")
    return names


def octal_umask(text: str) -> int:
    """A umask in octal, 0 to 777. Raises BadValue for anything else."""
    if not text or set(text) - set("01234567") or int(text, 8) > 0o777:
        raise BadValue(f"invalid umask {text!r}: give an octal number up to 777")
    return int(text, 8)


def log_level(text: str) -> int:
    """The number of a log level. Raises BadValue for an unknown name."""
    try:
        return LEVELS[text.upper()]
    except KeyError:
        raise BadValue(f"invalid log level {text!r}: one of {', '.join(LEVELS)}") from None


def log_facility(text: str) -> str:
    """A syslog facility. Raises BadValue for an unknown name."""
    if text.upper() not in FACILITIES:
        raise BadValue(f"invalid log facility {text!r}: one of {', '.join(FACILITIES)}")
    return text.upper()


def _number(limit: Limit) -> Callable[[str], int]:
    """A converter for the value of a limit. It raises BadValue for anything out of its range."""

    def convert(text: str) -> int:
        # int() takes more than digits, and may take long over very many of them.
        if text.isdecimal() and text.isascii() and len(text) < 12 and limit.least <= int(text) <= limit.most:
            return int(text)
        raise BadValue(f"invalid number {text!r}: {limit.least} to {limit.most} {limit.unit}")

    return convert


def _limit_option(limit: Limit) -> Option:
    default = "" if limit.default is None else f" The default is {limit.default}."
    return Option(
        limit.flag,
        metavar=limit.unit.upper(),
        convert=_number(limit),
        help=f"{limit.text}{default} {limit.least} to {limit.most} {limit.unit} can be asked for.",
    )


#: What a session may take.
LIMIT_OPTIONS = tuple(map(_limit_option, LIMITS))

#: What a session may do.
ACCESS_OPTIONS = (
    Option(
        "-R",
        "--read-only",
        help="Refuse every request that would change anything. The default is to allow them.",
    ),
    Option(
        "-p",
        "--allow-requests",
        metavar="LIST",
        convert=request_list,
        help="Allow only these requests, a comma-separated list of names. The default is to allow all.",
    ),
    Option(
        "-P",
        "--deny-requests",
        metavar="LIST",
        convert=request_list,
        default=(),
        help="Refuse these requests, a comma-separated list of names, even if they are allowed by -p. "
        "The default is to refuse none.",
    ),
    Option(
        "-u",
        "--umask",
        metavar="UMASK",
        convert=octal_umask,
        help="Set the umask, an octal number, for new files and directories. The default is the umask "
        "that the command was started with.",
    ),
)


#: What keeps a session, or watches it.
SECURITY_OPTIONS = (
    Option(
        "--no-sandbox",
        help="Serve without the sandbox. By default the kernel confines the process to what it needs before "
        "it serves (Landlock and seccomp), as far as this kernel can.",
    ),
    Option(
        "--atomic-uploads",
        help="Receive an upload in a temporary file, whose name begins with .pysftpserver-upload-, and "
        "rename it into place when the client closes it, so that half a file is never visible. The "
        "default is to write in place.",
    ),
    Option(
        "--audit",
        metavar="FILE",
        help="Append a record of every operation to this file, one JSON object per line; - is standard "
        "error. A session that cannot be recorded ends. There is no audit log by default.",
    ),
    Option(
        "--audit-best-effort",
        help="Let sessions go on when the audit log cannot be written. The default is to end them.",
    ),
)


def serve(prog: str, storage: SFTPAbstractServerStorage, log: SFTPLog, options: dict[str, Any]) -> int:
    """Serve one session of a command with the options above; return the exit status.

    Raises BadInput.
    """
    check_client(prog)
    hook = audit_log(options, log)  # before the umask, which is for what clients make
    if options["umask"] is not None:
        os.umask(options["umask"])  # the process is the session's own, and this costs nothing per file
    if options["atomic_uploads"]:
        remove_leftovers(storage, log)  # when it is certain that there will be a session
    limits = zip(LIMITS, LIMIT_OPTIONS, strict=True)
    server = SFTPServer(
        storage,
        hook,
        log=log,
        read_only=options["read_only"],
        allow=options["allow_requests"],
        deny=options["deny_requests"],
        limits=Limits(**{limit.name: options[option.name] for limit, option in limits}),
    )
    return server.run(sandbox=not options["no_sandbox"])


def remove_leftovers(storage: SFTPAbstractServerStorage, log: SFTPLog) -> None:
    """Remove what killed servers have left, unless the storage is for reading only."""
    from pysftpserver.uploads.atomic import AtomicUploads

    if not isinstance(storage, AtomicUploads):
        return
    removed, finished = storage.remove_leftovers()
    if removed:
        log.info(f"removed {removed} files that interrupted uploads had left")
    if not finished:
        log.info("there was no time to look everywhere for what interrupted uploads had left")


def audit_log(options: dict[str, Any], log: SFTPLog) -> SFTPHook | None:
    """The audit log that was asked for. Raises BadInput when it cannot be written, or was not."""
    path, best_effort = options["audit"], options["audit_best_effort"]
    if path is None:
        if best_effort:
            raise BadInput("--audit-best-effort goes with --audit FILE")
        return None
    from pysftpserver.engine import audit
    from pysftpserver.stdio import peer, user

    try:
        sink = audit.descriptor_sink(2) if path == STANDARD_ERROR else audit.file_sink(path)
    except OSError as error:
        message = f"audit log {path}: {reason_of(error)}; name a file that can be written"
        raise BadInput(message, "the audit log cannot be written") from None
    return audit.AuditLog(sink, user(), *peer(), log, best_effort)


def check_client(prog: str) -> None:
    """Turn away who does not speak SFTP and would wait for ever, as `scp -O` does; sshd names it.

    Only programs known not to speak it: the command of a Subsystem may have any name. Somebody who
    typed the command is told what it waits for.
    Raises BadInput.
    """
    words = os.environ.get("SSH_ORIGINAL_COMMAND", "").split()
    if words and os.path.basename(words[0]) in OTHER_PROTOCOLS:
        raise BadInput("this service allows sftp connections only")
    if os.isatty(0) and "SSH_CONNECTION" not in os.environ:
        tell(f"{prog}: this speaks SFTP on standard input and output; it is for sshd to start")
