"""The options of the server: ONE table, from which the command line, the INI file and the defaults come.

What may not enter: I/O, SSH, how an option is obeyed. Facts: docs/sshd.md; the first nine are those of
solt_sftp, with its defaults.
"""

from __future__ import annotations

import configparser

from pysftpserver.engine.log import LEVELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

SECTION = "options"
UNSET = ("", "none", "false")  # what stands for "not set" in the file
YES = ("true", "yes", "1", "on")
NO = ("", "false", "no", "0", "off", "none")
LOG_LEVELS = {
    "debug": "DEBUG",
    "info": "INFO",
    "warning": "ERROR",
    "warn": "ERROR",
    "error": "ERROR",
    "critical": "FATAL",
} | {name.lower(): name for name in LEVELS}


class OptionError(Exception):
    """An option's value does not do, or two do not go together. The text is one line that names it."""


class Setting:
    """One option. name: in the file, and with -- on the command line. convert: raises ValueError with what
    the value has to be. is_flag: it takes no value on the command line."""

    def __init__(self, name: str, default: Any, convert: Callable[[str], Any], help: str) -> None:
        self.name = name
        self.default = default
        self.convert = convert
        self.help = help
        self.is_flag = convert is yes_or_no


def text(value: str) -> str | None:
    return None if value.lower() in UNSET else value


def yes_or_no(value: str) -> bool:
    if value.lower() in YES:
        return True
    if value.lower() in NO:
        return False
    raise ValueError("True or False")


def whole(least: int, most: int) -> Callable[[str], int]:
    def convert(value: str) -> int:
        if value.isascii() and value.isdecimal() and len(value) < 12 and least <= int(value) <= most:
            return int(value)
        raise ValueError(f"a whole number from {least} to {most}")

    return convert


def maybe(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """The same, or not set."""
    return lambda value: None if value.lower() in UNSET else convert(value)


def level(value: str) -> str:
    if value.lower() not in LOG_LEVELS:
        raise ValueError(f"one of {', '.join(LOG_LEVELS)}")
    return LOG_LEVELS[value.lower()]


def one_of(*choices: str) -> Callable[[str], str]:
    def convert(value: str) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return value

    return convert


def names(value: str) -> tuple[str, ...] | None:
    found = tuple(name.strip() for name in value.split(",") if name.strip())
    return None if value.lower() in UNSET else found


PORT = whole(0, 65535)
COUNT = whole(1, 1_000_000)
SECONDS = whole(1, 1_000_000)

SETTINGS = (
    Setting("sftp_port", 2200, PORT, "Listen on this port; 0 is any free one, which the log names."),
    Setting("sftp_path", "/opt/solt_sftp/files", str, "Keep the users' folders in this directory."),
    Setting("log_level", "INFO", level, "Log up to this level."),
    Setting("logfile", None, text, "Append the log to this file, and not to standard error."),
    Setting("redis_host", "localhost", str, "The Redis server that has the users."),
    Setting("redis_port", 6379, whole(1, 65535), "Its port."),
    Setting("redis_dbindex", 1, whole(0, 1_000_000), "The number of its database."),
    Setting("redis_pass", None, text, "Its password."),
    Setting("redis_channel", "sftp_users", str, "The channel on which changes of users are told."),
    Setting("users", None, text, "Take the users from this TOML file, and not from Redis."),
    Setting("host_key", None, text, "Use the private host key in this file, instead of --host-key-dir."),
    Setting(
        "host_key_dir", None, text, "Keep the host keys in this directory; they are made at the first start."
    ),
    Setting("listen_address", None, names, "Listen on these addresses, separated by commas."),
    Setting("workers", 1, whole(1, 256), "Serve with so many processes, which share the port."),
    Setting("max_connections", 1000, COUNT, "Connections at once, in all."),
    Setting("max_per_user", None, maybe(COUNT), "Connections of one user at once."),
    Setting("max_per_address", None, maybe(COUNT), "Connections from one address at once."),
    Setting("auth_tries", 6, whole(1, 1000), "Keys that a client may try on one connection."),
    Setting("login_grace", 60, SECONDS, "Seconds for a login."),
    Setting(
        "idle_timeout", None, maybe(SECONDS), "End a connection on which nothing moved for so many seconds."
    ),
    Setting(
        "drain_seconds", 30, whole(0, 1_000_000), "After SIGTERM, give running transfers so many seconds."
    ),
    Setting("read_only", False, yes_or_no, "Refuse every request that changes anything."),
    Setting("mongo_uri", None, text, "The database of users whose storage is gridfs: a MongoDB URI."),
    Setting("mongo_uri_file", None, text, "The same, from the first line of this file."),
    Setting("mongo_database", None, text, "Its name, where the URI has none."),
    Setting("mongo_bucket", "fs", str, "Its GridFS bucket."),
    Setting(
        "storage_classes", None, names, "Classes, module:Class, that users may have as storages, with commas."
    ),
    Setting("pid_file", None, text, "Write the process number to this file."),
    Setting("log_size", None, maybe(whole(1, 1_000_000)), "Begin a new log file after so many MiB."),
    Setting("log_keep", 5, whole(1, 1000), "Keep so many old log files."),
    Setting("log_format", "plain", one_of("plain", "json"), "Lines of text, or one JSON object a line."),
    Setting("audit", None, text, "Append the audit log to this file: a JSON object for each operation."),
    Setting("ciphers", None, names, "Encryption algorithms, separated by commas, the best first."),
    Setting("macs", None, names, "Integrity algorithms, the same."),
    Setting("kex", None, names, "Key exchange algorithms, the same."),
    Setting("admin_socket", None, text, "Listen for pysftpctl on this local socket."),
    Setting("metrics", None, maybe(PORT), "Serve figures for Prometheus on this port of 127.0.0.1."),
    Setting("allow_root", False, yes_or_no, "Run as root; the default is to refuse to."),
)
SECRETS = ("redis_pass", "mongo_uri")
#: What takes effect when it is reloaded.
WHILE_RUNNING = (
    "log_level max_connections max_per_user max_per_address auth_tries idle_timeout drain_seconds read_only"
).split()
BY_NAME = {setting.name: setting for setting in SETTINGS}


class Options:
    """The values, as attributes by name. given: names of those that are no defaults."""

    def __init__(self, values: Mapping[str, Any], given: frozenset[str]) -> None:
        self.given = given
        for name, value in values.items():
            setattr(self, name, value)

    def take_over(self, new: Options) -> None:
        """Take the values that can change while the server runs."""
        for name in WHILE_RUNNING:
            setattr(self, name, getattr(new, name))

    def __getattr__(self, name: str) -> Any:  # for type checkers: every setting is there
        raise AttributeError(name)


def parse_file(text_of_file: str, where: str) -> dict[str, str]:
    """The texts in an INI file's section. where: what the file is called. Raises OptionError."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text_of_file, where)
    except configparser.ParsingError as error:  # its own words show the line, which may have a password
        raise OptionError(f"{where}: line {_line_of(error)}: no [section] and no name = value") from None
    except configparser.Error as error:
        raise OptionError(" ".join(str(error).split())) from None
    if not parser.has_section(SECTION):
        raise OptionError(f"{where}: no section [{SECTION}]")
    found = dict(parser.items(SECTION))
    for name in found:
        if name not in BY_NAME:
            raise OptionError(f"{where}: unknown option {name}")
    return found


def _line_of(error: configparser.ParsingError) -> int:
    if isinstance(error, configparser.MissingSectionHeaderError):
        return error.lineno
    return error.errors[0][0]


def options_of(in_file: Mapping[str, str], typed: Mapping[str, str | bool]) -> Options:
    """The values of all options: typed, else in the file, else the default. Raises OptionError."""
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        given = typed.get(setting.name, in_file.get(setting.name))
        if given is None:
            values[setting.name] = setting.default
            continue
        try:
            values[setting.name] = given if isinstance(given, bool) else setting.convert(given)
        except ValueError as error:
            shown = "" if setting.name in SECRETS else f", not {given!r}"
            raise OptionError(f"{setting.name}: has to be {error}{shown}") from None
    return Options(values, frozenset({*in_file, *typed}))
