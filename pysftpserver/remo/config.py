"""What a server can be told: ONE table, which options, the TOML file, WSGI environs and the page come from.

What may not enter: what a setting does, files other than the configuration's text.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

MOST_CONFIGURATION = 1 << 20  # bytes
PREFIX = "remo_serv."  # of settings in an environ


class ConfigError(Exception):
    """A setting that does not do; the text names it and says what would."""


@dataclass(frozen=True)
class Setting:
    """One. name: the key in TOML. kind: makes a value of a text, or raises ConfigError. flags: of the option,
    the long one last; environ: its name in a WSGI environ, if it is not the prefix and the name.
    """

    name: str
    flags: tuple[str, ...]
    metavar: str | None
    kind: Callable[[Any], Any]
    default: Any
    help: str
    environ: str = ""

    @property
    def attribute(self) -> str:
        """What it is called among the values."""
        return self.name.replace("-", "_")

    @property
    def key(self) -> str:
        """What it is called in a WSGI environ."""
        return self.environ or PREFIX + self.name


def text(value: Any) -> str:
    """Any text but none."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ConfigError("write a text")
    return value


def switch(value: Any) -> bool:
    """Yes or no."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False}
    words |= {"0": False, "": False}
    if str(value).lower() not in words:
        raise ConfigError("write true or false")
    return words[str(value).lower()]


def number(least: int, most: int) -> Callable[[Any], int]:
    """A whole number between two."""

    def convert(value: Any) -> int:
        try:
            found = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
        except ValueError:
            found = None
        if found is None or not least <= found <= most:
            raise ConfigError(f"write a whole number from {least} to {most}")
        return found

    return convert


def seconds(value: Any) -> float:
    """A time."""
    try:
        found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else 0.0
    except ValueError:
        found = 0.0
    if not 0 < found <= 31_536_000:
        raise ConfigError("write a number of seconds above 0")
    return found


SIZE = number(1, 1 << 62)
SETTINGS = (
    Setting("port", ("-p", "--port"), "PORT", number(0, 65535), 8080, "The port to listen on; 0: any."),
    Setting(
        "host", ("-i", "--interface"), "INTERFACE", text, "127.0.0.1", "The address or name of the interface "
        "to listen on; 0.0.0.0 is all of them.",
    ),
    Setting(
        "user-service", ("-u", "--user-service"), "SERVICE", text, "SQLiteUserService:users_db.sqlite",
        "Who may log in: SQLiteUserService:PATH names a database that adduser has made.", "USER_SERVICE",
    ),
    Setting(
        "key-file", ("-k", "--key-file"), "FILE", text, "remo_serv_key.pem",
        "The server's private key, a file that keygen has made without a passphrase.", "KEYFILE",
    ),
    Setting("log", ("-l", "--log"), "FILE", text, None, "A configuration file for Python's logging."),
    Setting("timeout", ("-s", "--session"), "SECONDS", seconds, 600, "When a session without requests ends."),
    Setting("debug", ("-d", "--debug"), None, switch, False, "Log more."),
    Setting("audit", ("--audit",), "FILE", text, None, "A file for the audit log, instead of the log."),
    Setting("root", ("--root",), "DIRECTORY", text, None, "A jail for files: the directory becomes /."),
    Setting(
        "storage", ("--storage",), "STORAGE", text, None, "Where files are, if not in this host's tree: "
        "plain[:DIRECTORY], jail:DIRECTORY, gridfs:FILE[,bucket=NAME][,prefix=PATH] or MODULE:CLASS [JSON].",
    ),
    Setting(
        "commands", ("--commands",), "WHEN", switch, None, "Whether users may run commands: yes or no. The "
        "default is yes for this host's file system, and no with root or storage, which they could leave.",
    ),
    Setting("require-numbered", ("--require-numbered",), None, switch, False, "Refuse plain mode."),
    Setting("command-seconds", ("--command-seconds",), "SECONDS", seconds, 3600, "When a command ends."),
    Setting(
        "command-output", ("--command-output",), "BYTES", SIZE, 1 << 30, "After how much output it ends."
    ),
    Setting("command-input", ("--command-input",), "BYTES", SIZE, 1 << 30, "How much input it may get."),
    Setting(
        "most-token", ("--most-token",), "BYTES", number(1024, 1 << 30), 16 << 20,
        "The longest token that is read; a client that sends no stream puts a whole file into one.",
    ),
    Setting("most-put", ("--most-put",), "BYTES", SIZE, None, "The longest file that is stored."),
    Setting("most-sessions", ("--most-sessions",), "COUNT", number(1, 1_000_000), 1000, "How many sessions."),
    Setting(
        "most-per-user", ("--most-per-user",), "COUNT", number(1, 1_000_000), 64,
        "How many sessions of one user; one more ends the one that was used least recently.",
    ),
    Setting(
        "proxied", ("--proxied",), None, switch, False, "Behind a proxy: clients are told apart by the last "
        "word of X-Forwarded-For.",
    ),
    Setting(
        "threads", ("--threads",), "COUNT", number(2, 1000), 40, "How many requests are served at once; a "
        "quarter of them is kept for addresses that sessions come from.",
    ),
    Setting(
        "most-per-address", ("--most-per-address",), "COUNT", number(1, 1000), 20,
        "How many of them may come from one address.",
    ),
    Setting(
        "idle", ("--idle",), "SECONDS", seconds, 10, "How long a peer may neither send nor read.",
    ),
    Setting(
        "slowest", ("--slowest",), "BYTES", number(0, 1 << 40), 1024,
        "Bytes a second that a peer has to send or read at least, once it was waited for for 30 seconds.",
    ),
)  # fmt: skip


class Values:
    """A value for every setting, as attributes."""

    port: int
    host: str
    user_service: str
    key_file: str
    log: str | None
    timeout: float
    debug: bool
    audit: str | None
    root: str | None
    storage: str | None
    commands: bool | None
    require_numbered: bool
    command_seconds: float
    command_output: int
    command_input: int
    most_token: int
    most_put: int | None
    most_sessions: int
    most_per_user: int
    proxied: bool
    threads: int
    most_per_address: int
    idle: float
    slowest: int

    def __init__(self, given: Mapping[str, Any]) -> None:
        for setting in SETTINGS:
            setattr(self, setting.attribute, given.get(setting.name, setting.default))


def from_toml(source: str, path: str) -> dict[str, Any]:
    """What a configuration file gives, by the names of settings. Raises ConfigError."""
    try:
        found = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration {path}: {error}") from None
    known = {setting.name: setting for setting in SETTINGS}
    values = {}
    for name, value in found.items():
        if name not in known:
            raise ConfigError(f"configuration {path}: {name}: no such key; there are {', '.join(known)}")
        values[name] = converted(known[name], value, f"configuration {path}: {name}")
    return values


def from_environ(environ: Mapping[str, Any]) -> dict[str, Any]:
    """What a WSGI environ gives. Raises ConfigError."""
    return {
        setting.name: converted(setting, environ[setting.key], setting.key)
        for setting in SETTINGS
        if setting.key in environ
    }


def converted(setting: Setting, value: Any, name: str) -> Any:
    """A setting's value. name: what to call it in complaints. Raises ConfigError."""
    try:
        return setting.kind(value)
    except ConfigError as error:
        raise ConfigError(f"{name}: {value!r}: {error}") from None
