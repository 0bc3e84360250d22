"""pysftpsite: SFTP on standard input and output, for any storage that has a name.

What may not enter: concrete storages, the syntax of names.
"""

from __future__ import annotations

import os
import time

from pysftpserver.cli import common, session
from pysftpserver.cli.options import BadValue, Command, Option
from pysftpserver.failures import BadInput, Unavailable, one_line, reason_of
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.storages import by_name, reach, syntax

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.storages.checking import Outcome

PROG = "pysftpsite"
WHAT = "NAME"


def moment(text: str) -> float:
    """Convert a time of this host to seconds since the epoch. Raises BadValue."""
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M"))
    except (ValueError, OverflowError):
        raise BadValue(f"invalid time {text!r}: write it as 2026-11-30 12:00") from None


def user_name(text: str) -> str:
    """Convert the name of a user; an empty one is for sessions without a user. Raises BadValue."""
    return text and session.client_name(text)


# fmt: off
COMMAND = Command(
    PROG,
    description="Serves any storage over SFTP on standard input and output.",
    epilog=f"It is started by sshd. NAME is one of: {by_name.FORMS}. Credentials never stand in a name; "
    "docs/storages.md says where they come from.",
    examples=(
        (
            "In authorized_keys:",
            'restrict,command="pysftpsite s3://acme/{user} --user alice" ssh-rsa AAAA...',
        ),
        ("Look for mistakes in a site file, and try its storages:", f"{PROG} partners.toml --check"),
        ("Ask which rule decides:", f"{PROG} partners.toml --user alice --explain 'put /in/x.csv'"),
    ),
    statuses=(
        *session.STATUSES,
        (1, "With --check or --gc, something does not work; with --replay, a decision has changed."),
    ),
    arguments=[(WHAT, "The name of the storage. Clients see its top as /.")],
    options=(
        Option(
            "--user", metavar="USER", convert=user_name,
            help="What {user} in names stands for; with --recount, '' is sessions without a user. The "
            "default is $USER, or the account's name.",
        ),
        Option(
            "--check",
            help="Connect to the storage, try what sessions do in a directory that is removed again, print "
            "what works, how long it takes and what the storage cannot do, and exit.",
        ),
        Option(
            "--explain", metavar="COMMAND",
            help="Print which rules of the site file decide about a command of sftp by --user, such as "
            '"put /in/x.csv", and exit. Links are not followed. The default is to serve a session.',
        ),
        Option(
            "--replay", metavar="FILE",
            help="Print the operations in this audit log that the site file would now decide otherwise, and "
            "exit with 1 if there are any. The default is to serve a session.",
        ),
        Option(
            "--from", metavar="ADDRESS",
            help="With --explain, the address of the client. There is none by default.",
        ),
        Option(
            "--at", metavar="TIME", convert=moment,
            help='With --explain, the time, such as "2026-11-30 12:00". The default is now.',
        ),
        Option(
            "--recount",
            help="Count again what the quotas of the user count (other sessions wait), print it, and exit.",
        ),
        Option(
            "--over", metavar="STORAGE",
            help="With --recount, the storage that the site file is put over, if it names none. There is "
            "none by default.",
        ),
        Option("--gc", help="Remove what interrupted uploads have left in the storage, and exit."),
        Option("--dry-run", help="With --gc, only print what would be removed. The default is to remove it."),
        session.OLDER_THAN,
        *session.LOG_OPTIONS,
        session.CLIENT_NAME,
        Option(
            "-d", "--start-directory", metavar="DIR", default="/",
            help="Start sessions in this directory. The default is the root.",
        ),
        *session.ACCESS_OPTIONS,
        *session.LIMIT_OPTIONS,
        *session.SECURITY_OPTIONS,
        session.ALLOW_SETID,
        session.ALLOW_HOME,
        session.LIST_REQUESTS,
    ),
)
# fmt: on


def check_options(options: dict[str, Any]) -> None:
    """Raises BadInput for options that exclude each other."""
    message = ""
    given = [f"--{name}" for name in ("check", "explain", "replay", "recount", "gc") if options[name]]
    if len(given) > 1:
        message = f"{' and '.join(given)}: give only one of them"
    elif not options["explain"] and (options["from"] is not None or options["at"] is not None):
        message = "--from and --at require --explain"
    elif options["user"] == "" and not options["recount"]:
        message = "--user '' requires --recount"
    elif options["over"] is not None and not options["recount"]:
        message = "--over requires --recount"
    elif not options["gc"] and (options["dry_run"] or options["older_than"] is not None):
        message = "--dry-run and --older-than require --gc"
    elif options["gc"] and options["read_only"] and not options["dry_run"]:
        message = "--gc removes uploads, and --read-only forbids that; add --dry-run, or omit one of them"
    if message:
        raise BadInput(message)


def user_of(options: dict[str, Any]) -> str:
    """The value of {user}."""
    from pysftpserver.stdio import user

    return options["user"] if options["user"] is not None else os.environ.get("USER") or user()


class Meant:
    """The storage that the options name. All methods raise BadInput."""

    def __init__(self, options: dict[str, Any], log: SFTPLog) -> None:
        self.opening = by_name.Opening(
            session.who(user_of(options), options),
            lambda kind: session.kind_of(kind, options),
            not options["read_only"] and not options["check"] and not options["gc"],
            lambda text: log.error(one_line(text)),
        )
        self.name = by_name.parse(options[WHAT], WHAT, ("user",))

    def check_places(self, options: dict[str, Any]) -> None:
        """Refuse jails that contain start-up files, audit records, or files that name the storage."""
        jails = reach.directories(self.name, WHAT, self.opening)
        if jails:
            files = reach.files(self.name, WHAT, self.opening)
            for path in jails:
                session.check_jail(path, options, files)

    def open(self) -> SFTPAbstractServerStorage:
        """The storage. Raises Unavailable as well."""
        return by_name.opened(self.name, WHAT, self.opening)

    def parts(
        self, names: reach.Parts | None = None
    ) -> Iterator[tuple[str, by_name.Name, SFTPAbstractServerStorage | BadInput, float]]:
        """Yield every storage in it: its place, its name, itself or why it cannot be opened, and seconds.

        The reason does not begin with the place. names: use these storages in place of all in it.
        """
        for place, name in reach.parts(self.name, WHAT, self.opening) if names is None else names:
            began = time.perf_counter()
            opened: SFTPAbstractServerStorage | BadInput
            try:
                opened = by_name.opened(name, place, self.opening)
            except BadInput as error:
                opened = type(error)(error.message.removeprefix(f"{place}: "))
            yield place, name, opened, time.perf_counter() - began
            if not isinstance(opened, BadInput):
                close(opened)


def close(storage: SFTPAbstractServerStorage) -> None:
    """Close the connections of a storage that has any."""
    storage.release()
    close_client = getattr(storage, "close_client", None)
    if close_client is not None:
        close_client()


# --- what the command does ----------------------------------------------------------------------------------


def serve_session(meant: Meant, log: SFTPLog, options: dict[str, Any]) -> int:
    """Serve one session; return the exit status. Raises BadInput, Unavailable."""
    meant.check_places(options)
    storage = meant.open()
    try:
        session.set_home(storage, options["start_directory"], "storage")
        return session.serve(PROG, storage, log, options)
    except SFTPException as error:
        raise Unavailable(f"{WHAT}: {error}", "the storage cannot be used") from None
    finally:
        close(storage)


def check(meant: Meant, log: SFTPLog, options: dict[str, Any]) -> int:
    """Try the operations, and print a table. Returns 1 if one fails, else 0. Raises BadInput."""
    from pysftpserver.storages import checking

    names, missing = None, []
    try:
        if meant.name.scheme == by_name.SITE:
            site = site_of(meant)
            missing = missing_for(site)
            if site.storage is None:  # it is put over another one
                names = reach.mounted(site.file, meant.opening)
        if names is None:
            meant.check_places(options)
    except BadInput as error:
        lines = getattr(error, "lines", None)  # all that is wrong with a site file
        if lines is None:
            raise
        print(*map(one_line, lines), sep="\n")
        return error.status
    allowed = options["allow_requests"]
    refused = {*options["deny_requests"], *(set(session.request_names()) - set(allowed) if allowed else ())}
    for line in missing:
        print(one_line(line), flush=True)
    has_failed = bool(missing)
    for place, name, storage, seconds in meant.parts(names):
        print(f"{one_line(syntax.shown(options[WHAT]) if place == WHAT else place)}:")
        print(f"  {'operation':<24}{'result':<8}{'ms':>10}", flush=True)
        if isinstance(storage, BadInput):
            outcomes = iter([checking.Outcome("connect", checking.FAILED, storage.message, seconds)])
        else:
            show(checking.Outcome("connect", checking.WORKS, "", seconds))
            outcomes = checking.check(storage, options["read_only"] or name.is_read_only, refused)
        for outcome in outcomes:
            show(outcome)
            has_failed = has_failed or outcome.result == checking.FAILED
    return int(has_failed)


def site_of(meant: Meant) -> Any:
    """The site file that the options name. Raises BadInput."""
    from pysftpserver.site import opening

    if meant.name.scheme != by_name.SITE:
        raise BadInput(f"{WHAT}: only site files have rules and quotas; name one, which ends in .toml")
    return opening.read(syntax.filled(meant.name.place, meant.opening.values))


def missing_for(site: Any) -> list[str]:
    """A line for each thing that a site file needs on this host and this account cannot find."""
    import shutil

    from pysftpserver.site.receivers import key_of

    found = []
    if site.state is not None and not (
        os.path.isdir(site.state) and os.access(site.state, os.W_OK | os.X_OK)
    ):
        found.append(f"{site.top.at('state')}: {site.state}: not a directory that this account can write")
    if site.ledger is not None:
        from pysftpserver.site.resp import Lost
        from pysftpserver.site.shared import connection_of

        try:
            connection_of(site)[0].call("PING")
        except BadInput as error:
            found.append(error.message)
        except Lost as error:
            found.append(f"{site.top.at('ledger')}: {error}")
    for entry in site.events:
        if entry.run is not None and "{" not in entry.run[0] and shutil.which(entry.run[0]) is None:
            found.append(f"{entry.at('run')}: {entry.run[0]}: not a program that this account can run")
        try:
            if entry.secret is not None:
                key_of(entry)
        except BadInput as error:
            found.append(error.message)
    return found


def explain(meant: Meant, log: SFTPLog, options: dict[str, Any]) -> int:
    """Print which rules decide about a command. Raises BadInput."""
    from pysftpserver.site import explain as explaining
    from pysftpserver.site import opening

    values = {**meant.opening.values, **({"address": options["from"]} if options["from"] else {})}
    site = site_of(meant)
    lines = explaining.explained(site, opening.who_of(site, values), options["explain"], options["at"])
    print(*lines, sep="\n")
    return 0


def replay(meant: Meant, log: SFTPLog, options: dict[str, Any]) -> int:
    """Print the operations of an audit log that would be decided differently; return 1 if there are any.
    Raises BadInput."""
    from pysftpserver.site import explain as explaining

    status, undecided = 0, explaining.Undecided()
    try:
        with open(options["replay"], encoding="utf-8", errors="replace") as records:
            for line in explaining.replayed(site_of(meant), records, undecided):
                print(line, flush=True)
                status = 1
    except OSError as error:
        raise BadInput(f"--replay {options['replay']}: {reason_of(error)}") from None
    except BadInput as error:
        raise type(error)(f"--replay {options['replay']}: {error.message}") from None
    if undecided.number:
        common.tell(
            f"{PROG}: not listed, because the log does not say whether a file was there: "
            f"{undecided.number}; the first: {undecided.example}"
        )
    return status


def recount(meant: Meant, log: SFTPLog, options: dict[str, Any]) -> int:
    """Recount the usage under the user's quotas, and print it. Raises BadInput, Unavailable."""
    from pysftpserver.site import opening
    from pysftpserver.site.state import State

    site = site_of(meant)
    if not site.quotas:
        raise BadInput(f"{WHAT}: the site file has no [quota]")
    storage = below_site(meant, site, options["over"])
    try:
        state = State(site, opening.who_of(site, meant.opening.values), storage)
        for account, size, files in state.recount(storage):
            print(f"{one_line(account)}: {size} bytes, {files} files", flush=True)
    except SFTPException as error:
        raise Unavailable(f"{WHAT}: {error}") from None
    finally:
        close(storage)
    return 0


def below_site(meant: Meant, site: Any, over: str | None) -> SFTPAbstractServerStorage:
    """The storage of a site without the site's layers. over: the storage's name, if the file has none.

    Raises BadInput, Unavailable.
    """
    from pysftpserver.storages import sites

    meant.opening.is_bare = True
    if site.storage is not None:
        if over is not None:
            raise BadInput(f"--over: {site.top.at('storage')}: the site file names its storage; omit --over")
        return meant.open()
    if over is None:
        raise BadInput(f"{WHAT}: the site file has no storage at its top; name one with --over")
    top = by_name.open_storage(over, "--over", meant.opening)
    return sites.put_over(site.file, WHAT, top, meant.opening)


def show(outcome: Outcome) -> None:
    """Print a line of the table."""
    line = f"  {outcome.operation:<24}{outcome.result:<8}{outcome.seconds * 1000:>10.1f}"
    print(f"{line}  {one_line(outcome.words)}".rstrip(), flush=True)


def collect_garbage(meant: Meant, log: SFTPLog, options: dict[str, Any]) -> int:
    """Remove leftovers of interrupted uploads, or count them, and print the result.

    Returns 1 if a storage cannot be reached, else 0. Raises BadInput if no storage keeps parts of uploads.
    """
    seconds = (session.OLD if options["older_than"] is None else options["older_than"]) * 3600
    status, has_any = 0, False
    for place, name, storage, _ in meant.parts():
        gc = None if name.is_read_only else getattr(storage, "gc", None)
        try:
            if isinstance(storage, BadInput):
                raise storage
            lines = gc(seconds, options["dry_run"]) if gc is not None else []
        except (BadInput, SFTPException, OSError) as error:
            common.tell(f"{PROG}: {one_line(place)}: {one_line(str(error))}")
            status, has_any = 1, True
            continue
        has_any = has_any or gc is not None
        for line in lines:
            print(one_line(line), flush=True)
            log.info(one_line(line))
    if not has_any:
        raise BadInput(f"{WHAT}: --gc is for storages that keep parts of uploads: gridfs, s3, gs, az")
    return status


def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments and do what they ask for. Raises BadInput."""
    options = COMMAND.parse(arguments)
    check_options(options)
    if options["name"] is None and options["user"]:
        options["name"] = options["user"]
    log = session.open_log(PROG, options)
    acts = {"check": check, "explain": explain, "replay": replay, "recount": recount, "gc": collect_garbage}
    run = next((act for name, act in acts.items() if options[name]), serve_session)
    try:
        return run(Meant(options, log), log, options)
    except BadInput as error:
        if error.public == error.message:  # which names hosts and paths
            raise type(error)(error.message, "the storage cannot be used") from None
        raise


main = common.main_of(PROG, serve)
