"""pysftp-keys: the lines of authorized_keys for one user, for sshd's AuthorizedKeysCommand.

Users are in the directories of the standalone server. What may not enter: SSH, the form of users in a file or
in Redis, and, with a file, whatever makes starting slow.
Facts: sshd_config(5) on AuthorizedKeysCommand, sshd(8) on authorized_keys; OpenSSH's misc.c, opt_dequote().
"""

from __future__ import annotations

import os
import sys

from pysftpserver.cli import common
from pysftpserver.cli.options import BadValue, Command, Option
from pysftpserver.engine.log import ERROR, syslog
from pysftpserver.failures import BadInput, Unavailable, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pysftpserver.sshd.records import Record
    from pysftpserver.sshd.users import User

PROG = "pysftp-keys"
JAIL = "pysftpjail"
NOT_SET = ("", "False", "None")  # in the configuration and after --: the option is not set
REDIS_OPTIONS = ("redis_host", "redis_port", "redis_dbindex", "redis_pass")
DEFAULTS = {
    "sftp_path": "/opt/solt_sftp/files",
    "redis_host": "localhost",
    "redis_port": "6379",
    "redis_dbindex": "1",
}


def jail_command(text: str) -> str:
    """A command to be forced. Raises BadValue for one that authorized_keys cannot hold."""
    if not text.strip() or not text.isprintable():
        raise BadValue(f"invalid command {text!r}: one line that can be printed")
    return text


def redis_option(name: str, metavar: str, help: str) -> Option:
    """An option in both spellings: with -, and with _ as in the configuration."""
    return Option(f"--{name}", f"--{name.replace('_', '-')}", metavar=metavar, help=help)


COMMAND = Command(
    PROG,
    description="Prints the keys of an active user as lines of authorized_keys that lead into a jail.",
    epilog="It is started by sshd: AuthorizedKeysCommand /opt/pysftpserver/bin/pysftp-keys --users FILE %u, "
    "by the account that AuthorizedKeysCommandUser names. The session then runs as the account that logs "
    "in, and no folder is made here, since this runs as another: make one below the directory of --sftp-path "
    "that the account may enter, or pysftpjail complains. A password belongs in FILE of --config: what is "
    "typed into a command can be seen by others on this host.",
    arguments=[("user", "The name of the user, which sshd_config has as %%u.")],
    options=(
        Option(
            "--config",
            metavar="FILE",
            help="Read what is not given here from [options] in this INI file, the server's own. The default "
            "is to read none.",
        ),
        Option(
            "--users",
            metavar="FILE",
            help="Look the user up in this TOML file. The default is to ask Redis.",
        ),
        redis_option("redis_host", "HOST", "Ask the Redis on this host. The default is localhost."),
        redis_option("redis_port", "PORT", "Ask the Redis on this port. The default is 6379."),
        redis_option("redis_dbindex", "NUMBER", "Ask this database of Redis. The default is 1."),
        redis_option("redis_pass", "PASSWORD", "The password of Redis. The default is to give none."),
        Option(
            "--sftp_path",
            "--sftp-path",
            metavar="DIR",
            help=f"The directory in which the users' folders are. The default is {DEFAULTS['sftp_path']}.",
        ),
        Option(
            "--command",
            metavar="COMMAND",
            convert=jail_command,
            help="Force this command, words for a shell to which the user's directory is added. The default "
            f"is the {JAIL} beside this command.",
        ),
    ),
)


def settings_of(options: dict[str, Any]) -> dict[str, str | None]:
    """What is given here, or else in the configuration, or else the default. Raises BadInput."""
    given = {name: options[name] for name in ("users", "sftp_path", *REDIS_OPTIONS)}
    given = {name: text for name, text in given.items() if text is not None}
    if "users" in given and any(name in given for name in REDIS_OPTIONS):
        raise BadInput("--users and Redis: give one of them")
    configured = read_config(options["config"]) if options["config"] is not None else {}
    if any(name in given for name in REDIS_OPTIONS):
        configured.pop("users", None)
    merged = {**configured, **given}
    found: dict[str, str | None] = {"users": None, "redis_pass": None, **DEFAULTS}
    found.update({name: text for name, text in merged.items() if text not in NOT_SET})
    return found


def read_config(path: str) -> dict[str, str]:
    """The [options] of an INI file. Raises BadInput."""
    import configparser

    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        with open(path, encoding="utf-8") as lines:
            parser.read_file(lines)
        return dict(parser.items("options"))
    except configparser.NoSectionError:
        raise BadInput(f"configuration {path}: there is no [options]") from None
    except configparser.Error as error:
        # Its text repeats the line, which may be the one with the password.
        number = getattr(error, "lineno", None) or next((at for at, _ in getattr(error, "errors", ())), None)
        where = f"line {number}: " if number else ""
        raise BadInput(f"configuration {path}: {where}no INI file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise BadInput(f"configuration {path}: {reason}") from None


def find(settings: dict[str, str | None], name: str) -> Record | None:
    """What the directory has of a user; None: nothing. Raises DirectoryError, BadInput."""
    if settings["users"] is not None:
        from pysftpserver.sshd import users_file

        loaded = users_file.load(os.path.abspath(settings["users"]))
        return next((record for record in loaded.records if record.name == name), None)
    from pysftpserver.sshd.redis_records import RedisAddress

    host = settings["redis_host"] or ""
    port, db = number(settings, "redis_port", 1, 65535), number(settings, "redis_dbindex", 0, 1 << 30)
    address = RedisAddress(host, port, db, settings["redis_pass"])
    from pysftpserver.sshd.redis_editing import Reader, connect, told

    with told(address), connect(address) as client:
        reader = Reader(client)
        id = reader.id_of(name)
        return reader.record(id) if id is not None else None


def number(settings: dict[str, str | None], name: str, least: int, most: int) -> int:
    """An option's number. Raises BadInput."""
    text = settings[name] or ""
    if text.isascii() and text.isdecimal() and len(text) < 12 and least <= int(text) <= most:
        return int(text)
    raise BadInput(f"{name}: invalid number {text!r}: {least} to {most}")


def lines_for(user: User, sftp_path: str, command: str) -> list[str]:
    """A line for each key of a user. Raises BadInput for what no line can say."""
    import shlex

    from pysftpserver.sshd.keys import key_line

    if user.storage is not None:
        raise Unavailable(f"user {user.name}: the files are in {user.storage}, which is no directory")
    directory = os.path.join(sftp_path, user.folder)
    words = f"{command} {shlex.quote(directory)}"
    # In the quotes of authorized_keys, \" is the only escape: what would end in a backslash has no spelling,
    # and a line end none either.
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in words) or words.endswith("\\"):
        raise BadInput(f"user {user.name}: the command cannot be written in authorized_keys")
    quoted = words.replace('"', '\\"')
    return [f'restrict,command="{quoted}" {key_line(blob)}' for blob in sorted(user.keys)]


def default_command() -> str:
    """The jail's command beside this one: sshd gives the forced command a short PATH."""
    import shlex

    beside = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), JAIL)
    return shlex.quote(beside) if os.access(beside, os.X_OK) else JAIL


def answer(arguments: Sequence[str]) -> int:
    """Print the lines of the user that the arguments name; return the exit status."""
    options = COMMAND.parse(arguments)
    from pysftpserver.sshd.users import DirectoryError

    try:
        settings = settings_of(options)
        record = find(settings, options["user"])
        if record is None:
            return 0
        for problem in record.problems:
            complain(f"user {record.name}: {problem}")
        if record.user is None or not record.user.is_active:
            return 0
        command = default_command() if options["command"] is None else options["command"]
        lines = lines_for(record.user, os.path.abspath(settings["sftp_path"] or ""), command)
    except DirectoryError as error:
        complain(str(error))
        raise Unavailable(str(error)) from None
    except BadInput as error:
        complain(error.message)
        raise
    # All at once: half of the lines would be believed.
    sys.stdout.buffer.write(b"".join(os.fsencode(line) + b"\n" for line in lines))
    sys.stdout.buffer.flush()
    return 0


def complain(text: str) -> None:
    """To syslog, unless a person sees standard error: sshd throws that away."""
    if not os.isatty(2) and "SSH_CONNECTION" not in os.environ:
        syslog(ERROR, PROG).error(one_line(text))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. arguments: without the command's name."""
    return common.run(PROG, answer, arguments)
