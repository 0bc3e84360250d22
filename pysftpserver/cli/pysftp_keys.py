"""pysftp-keys: the lines of authorized_keys for one user, for sshd's AuthorizedKeysCommand.

The users and the settings are pysftpd's; pysftpserver/sshd/authorized_keys.py finds the user and writes the
lines. What may not enter, with users in a file: anything that makes the start slow. Facts: sshd_config(5).
"""

from __future__ import annotations

import os
import sys

from pysftpserver.cli import common
from pysftpserver.cli.options import BadValue, Command, Option, load, options_of
from pysftpserver.cli.pysftpd import CONFIG
from pysftpserver.engine.log import ERROR, syslog
from pysftpserver.failures import BadInput, Unavailable, one_line
from pysftpserver.sshd.config import KeysSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysftpserver.people.users import User

PROG = "pysftp-keys"
JAIL, SITE = "pysftpjail", "pysftpsite"
NAMES = ("users", "redis_host", "redis_port", "redis_dbindex", "redis_pass", "redis_channel", "sftp_path")


def jail_command(text: str) -> str:
    """A command to be forced. Raises BadValue for one that authorized_keys cannot hold."""
    if not text.strip() or not text.isprintable():
        raise BadValue(f"has to be one printable line, not {text!r}")
    return text


COMMAND = Command(
    PROG,
    description="Prints the keys of an active user as lines of authorized_keys that lead into a jail.",
    epilog="sshd starts it as the account that AuthorizedKeysCommandUser names. The session then runs as the "
    "account that logs in. This command creates no folder; create one in the directory of --sftp-path that "
    "the account may enter.",
    examples=(
        (
            "In sshd_config:",
            "AuthorizedKeysCommand /opt/pysftpserver/bin/pysftp-keys --config FILE %u",
        ),
        ("On a terminal:", f"{PROG} --users /etc/pysftpserver/users.toml alice"),
    ),
    statuses=((0, "The keys were printed, or the user has none that may log in."),),
    arguments=[("user", "The name of the user, which is %%u in sshd_config.")],
    options=(
        CONFIG,
        *options_of(KeysSettings, NAMES),
        Option(
            "--command",
            metavar="COMMAND",
            convert=jail_command,
            help="Force this command, words for a shell to which the user's directory is added. The default "
            f"is the {JAIL} in the directory of this command.",
        ),
        Option(
            "--site-command",
            metavar="COMMAND",
            convert=jail_command,
            help="Force this command for users whose files are in a storage with a name, words for a shell "
            f"to which --user and the name are added. The default is the {SITE} in the directory of this "
            "command, or to refuse them if --command is given.",
        ),
    ),
)


def beside(prog: str) -> str:
    """A command in the directory of this one: sshd gives the forced command a short PATH."""
    import shlex

    path = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), prog)
    return shlex.quote(path) if os.access(path, os.X_OK) else prog


def words_for(user: User, settings: KeysSettings, command: str | None, site_command: str | None) -> str:
    """The words of the command that serves a user. Raises BadInput, or Unavailable if there is none."""
    from pysftpserver.sshd import authorized_keys

    if user.storage or settings.storage or user.site or settings.site:
        from pysftpserver.people.user_storages import name_for_site
        from pysftpserver.storages.sharing import Storages

        try:
            name = name_for_site(settings, user, Storages())
            if command is not None and site_command is None:
                raise ValueError("--command is for folders, and the files are elsewhere; add --site-command")
        except ValueError as error:
            raise Unavailable(f"user {user.name}: {error}") from None
        if name is not None:
            return authorized_keys.in_storage(user, name, site_command or beside(SITE))
    return authorized_keys.in_folder(user, os.path.abspath(settings.sftp_path), command or beside(JAIL))


def answer(arguments: Sequence[str]) -> int:
    """Print the lines of the user that the arguments name; return the exit status. Raises BadInput."""
    values = COMMAND.parse(arguments)
    from pysftpserver.people.methods import needed
    from pysftpserver.sshd import authorized_keys

    try:
        settings = load(KeysSettings, values["config"], values)
        record = authorized_keys.find(settings, values["user"])
        if record is None:
            return 0
        for problem in record.problems:
            complain(f"user {record.name}: {problem}")
        if record.user is None or not record.user.is_active:
            return 0
        wanted = record.user.methods or settings.auth_methods
        if ("publickey",) not in needed(wanted, settings.offered, bool(record.user.totp)):
            complain(f"user {record.name}: no key is printed: a key alone is not enough for this user")
            return 0
        words = words_for(record.user, settings, values["command"], values["site_command"])
        lines = authorized_keys.lines_for(record.user, words)
    except BadInput as error:
        complain(error.message)
        raise
    # In one piece: sshd would accept an incomplete list of lines.
    sys.stdout.buffer.write(b"".join(os.fsencode(line) + b"\n" for line in lines))
    sys.stdout.buffer.flush()
    return 0


def complain(text: str) -> None:
    """Write to syslog, unless standard error is a terminal or an SSH session's: sshd discards it."""
    if not os.isatty(2) and "SSH_CONNECTION" not in os.environ:
        syslog(ERROR, PROG).error(one_line(text))


main = common.main_of(PROG, answer)
