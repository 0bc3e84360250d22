"""pysftpjail: SFTP on standard input and output, jailed in a directory."""

from __future__ import annotations

import os

from pysftpserver.cli import common, session
from pysftpserver.cli.options import Command, Option
from pysftpserver.failures import BadInput, one_line, reason_of
from pysftpserver.virtualchroot import SFTPServerVirtualChroot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.engine.log import SFTPLog

PROG = "pysftpjail"

COMMAND = Command(
    PROG,
    description="Serves one directory over SFTP on standard input and output. Clients cannot leave it.",
    epilog="It is started by sshd.",
    examples=(
        (
            "In authorized_keys, serve /srv/jail to whoever has this key:",
            'restrict,command="pysftpjail /srv/jail" ssh-ed25519 AAAA...',
        ),
        (
            "In sshd_config, serve each account of a group its own directory:",
            f"ForceCommand {PROG} /srv/sftp/%u",
        ),
        ("Try it without sshd:", f'sftp -D "{PROG} /srv/jail"'),
    ),
    statuses=(*session.STATUSES, (1, "With --check, something is wrong.")),
    arguments=[("chroot", "The directory to serve. Clients see it as /.")],
    options=(
        *session.LOG_OPTIONS,
        session.CLIENT_NAME,
        Option(
            "-d",
            "--start-directory",
            metavar="DIR",
            default="/",
            help="Start sessions in this directory. The default is the root.",
        ),
        session.SITE,
        *session.ACCESS_OPTIONS,
        *session.LIMIT_OPTIONS,
        *session.SECURITY_OPTIONS,
        session.ALLOW_SETID,
        session.ALLOW_HOME,
        Option(
            "--check",
            help="Try what sshd would do with this command line: the shell, the program, the directory, the "
            "keys file, sshd_config; print what is wrong and what to do, and exit. The default is to serve.",
        ),
        Option(
            "--account",
            metavar="ACCOUNT",
            help="With --check, try it for this account, as root. The default is the account that runs this.",
        ),
        session.LIST_REQUESTS,
    ),
)


def open_jail(
    chroot: str, start_directory: str, kind: type[SFTPServerVirtualChroot]
) -> SFTPServerVirtualChroot:
    """Return the jail in the directory chroot, with its home at start_directory. Raises BadInput."""
    try:
        jail = kind(chroot)
        jail.stat(b"/.")  # fails if the account may open the directory but not enter it
    except OSError as error:
        message = f"chroot {chroot}: {reason_of(error)}; name an existing directory that this user may enter"
        raise BadInput(message, "the chroot directory cannot be used") from None
    session.set_home(jail, start_directory, "jail")
    return jail


def under_site(options: dict[str, Any], log: SFTPLog) -> SFTPAbstractServerStorage:
    """The jail with the mounts and layers of the site file of --site. Raises BadInput, Unavailable.

    With quotas, uploads are atomic, so that a refused one leaves the old file.
    """
    from pysftpserver.stdio import user
    from pysftpserver.storages import by_name, reach, sites

    site = options["site"]
    opening = by_name.Opening(
        session.who(options["name"] or os.environ.get("USER") or user(), options),
        lambda kind: session.kind_of(kind, options),
        not options["read_only"],
        lambda text: log.error(one_line(text)),
    )
    try:
        if sites.read_to_put_over(site, "--site").quotas:
            options["atomic_uploads"] = True
        files = reach.files_of_site(site, opening)
        mounts = reach.mounted(site, opening)
        for path in (options["chroot"], *reach.directories_of(mounts, opening)):
            session.check_jail(path, options, files)
        return sites.put_over(site, "--site", jail_of(options), opening)
    except BadInput as error:
        if error.public == error.message:  # which names paths of the host
            raise type(error)(error.message, "the site file cannot be used") from None
        raise


def jail_of(options: dict[str, Any]) -> SFTPServerVirtualChroot:
    """The jail that the options describe. Raises BadInput."""
    kind = session.kind_of(SFTPServerVirtualChroot, options)
    return open_jail(options["chroot"], options["start_directory"], kind)


def check(arguments: Sequence[str], options: dict[str, Any]) -> int:
    """Try what sshd would do with these arguments; return 1 on any problem, else 0. Raises BadInput."""
    import sys

    from pysftpserver.cli.checks import show
    from pysftpserver.host import logins
    from pysftpserver.host.accounts import own_name

    words = [os.path.abspath(sys.argv[0])]
    rest = iter(arguments)
    for word in rest:
        if word == "--account":
            next(rest)
        elif word != "--check" and not word.startswith("--account="):
            words.append(word)
    account = options["account"] or own_name()
    return show(logins.findings(account, words, options["chroot"], options["read_only"], None, None))


def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments and serve the session."""
    options = COMMAND.parse(arguments)
    if options["check"]:
        return check(arguments, options)
    if options["account"] is not None:
        raise BadInput("--account goes with --check", "bad arguments")
    session.check_jail(options["chroot"], options)
    log = session.open_log(PROG, options)
    storage = jail_of(options) if options["site"] is None else under_site(options, log)
    return session.serve(PROG, storage, log, options)


main = common.main_of(PROG, serve)
