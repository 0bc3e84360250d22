"""The options of the server: ONE table, from which the command line, the TOML file and the defaults come.

What may not enter: I/O, the protocol, how an option is obeyed.
"""

from __future__ import annotations

import tomllib

from pysftpserver.engine.log import LEVELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


MOST_NAME = 64  # characters, as of clients' names


class OptionError(Exception):
    """An option's value does not do. The text is one line that names it."""


class Setting:
    """One option. name: in the file, and with -- on the command line. convert: raises ValueError with what
    the value has to be. kind: its type in the file; list: it may be given several times on the command line.
    """

    def __init__(
        self, name: str, default: Any, convert: Callable[[str], Any], help: str, kind: type | None = None
    ) -> None:
        self.name = name
        self.default = default
        self.convert = convert
        self.help = help
        self.kind = kind or (str if default is None else type(default))


def text(value: str) -> str:
    return value


def filled(value: str) -> str:
    if not value.strip():
        raise ValueError("not empty")
    return value


def title(value: str) -> str:
    if not value.strip() or len(value) > MOST_NAME or not value.isprintable():
        raise ValueError(f"up to {MOST_NAME} characters that can be printed")
    return value


def flag(value: str) -> bool:
    return value == "True"


def whole(least: int, most: int) -> Callable[[str], int]:
    def convert(value: str) -> int:
        if value.isascii() and value.isdecimal() and len(value) < 12 and least <= int(value) <= most:
            return int(value)
        raise ValueError(f"a whole number from {least} to {most}")

    return convert


def seconds(value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = -1.0
    if not 0.001 <= found <= 1e7:
        raise ValueError("a number of seconds above zero")
    return found


def level(value: str) -> str:
    if value.upper() not in LEVELS:
        raise ValueError(f"one of {', '.join(LEVELS)}")
    return value.upper()


PORT = whole(0, 65535)
COUNT = whole(1, 1_000_000)
SIZE = whole(1, 1 << 30)

SETTINGS = (
    Setting(
        "host",
        "127.0.0.1",
        text,
        "Listen on this address; 0.0.0.0 is all of IPv4, :: all of IPv6, an empty one both.",
    ),
    Setting("port", 12800, PORT, "Listen on this port; 0 is any free one, which the log names."),
    Setting("name", "Laboratory", title, "What the server is called."),
    Setting("password", None, filled, "The server's password; in the file only."),
    Setting("password_file", None, filled, "Take the password from the first line of this file."),
    Setting("service", (), filled, "Offer this service: one that is supplied, or module:Class.", list),
    Setting("allow_plaintext", False, flag, "Let clients in that do not encrypt."),
    Setting("allow_remote_stop", False, flag, "Let clients stop the server."),
    Setting("step_timeout", 5.0, seconds, "Seconds for each step of the beginning."),
    Setting("idle_timeout", None, seconds, "End a connection that is silent for so many seconds.", float),
    Setting("stall_timeout", 30.0, seconds, "End a connection that takes nothing for so many seconds."),
    Setting(
        "drain_seconds",
        2.0,
        seconds,
        "Seconds that the server may take to end; half of them are for services.",
    ),
    Setting("max_connections", 1000, COUNT, "Connections at once."),
    Setting("max_per_address", 100, COUNT, "Connections from one address at once."),
    Setting("max_message", 65536, SIZE, "Bytes that a client's message may have."),
    Setting("max_unsent", 1048576, SIZE, "Bytes that may wait for a client to take them."),
    Setting("key_age", 3600.0, seconds, "Use an RSA key for so many seconds."),
    Setting("key_uses", 1000, COUNT, "And for so many connections."),
    Setting("chat_history", 50, whole(0, 10_000), "Chat: messages of a room that are remembered."),
    Setting("chat_rooms", 100, COUNT, "Chat: rooms at once."),
    Setting("http_allow", (), filled, "HTTP: fetch URLs that begin like this one.", list),
    Setting("http_timeout", 10.0, seconds, "HTTP: seconds for a fetch, redirects included."),
    Setting("http_max_bytes", 262144, SIZE, "HTTP: bytes that a body may have."),
    Setting("files", None, filled, "Files: the storage that is served."),
    Setting("files_max_bytes", 1073741824, whole(1, 1 << 50), "Files: bytes that an upload may have."),
    Setting("files_read_only", False, flag, "Files: refuse uploads."),
    Setting("logfile", None, filled, "Append the log to this file, and not to standard error."),
    Setting("log_level", "INFO", level, "Log up to this level."),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}
IN_FILE_ONLY = ("password",)  # everybody on the host can read a command line
MOST_FILE = 1 << 20  # bytes


class Options:
    """The values, as attributes by name."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        for setting in SETTINGS:
            setattr(self, setting.name, values.get(setting.name, setting.default))

    def __getattr__(self, name: str) -> Any:  # for type checkers: every setting is there
        raise AttributeError(name)


def parse_file(text_of_file: str, where: str) -> dict[str, Any]:
    """The values in a TOML file. where: what the file is called. Raises OptionError."""
    try:
        found = tomllib.loads(text_of_file)
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"{where}: {error}") from None
    values: dict[str, Any] = {}
    for name, value in found.items():
        if name not in BY_NAME:
            raise OptionError(f"{where}: unknown option {name}")
        try:
            values[name] = from_file(BY_NAME[name], value)
        except OptionError as error:
            raise OptionError(f"{where}: {error}") from None
    return values


def from_file(setting: Setting, value: Any) -> Any:
    """A value as TOML has it. Raises OptionError."""
    if setting.kind is list:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise OptionError(f"{setting.name}: has to be a list of texts")
        return tuple(converted(setting, each) for each in value)
    wanted = (int, float) if setting.kind is float else (setting.kind,)
    if not isinstance(value, wanted) or isinstance(value, bool) is not (setting.kind is bool):
        kinds = {int: "a number", float: "a number", bool: "true or false"}
        raise OptionError(f"{setting.name}: has to be {kinds.get(setting.kind, 'a text')}")
    return converted(setting, str(value))


def converted(setting: Setting, value: str) -> Any:
    """A value that was written. Raises OptionError."""
    try:
        return setting.convert(value)
    except ValueError as error:
        shown = "" if setting.name == "password" else f", not {value!r}"
        raise OptionError(f"{setting.name}: has to be {error}{shown}") from None


def options_of(in_file: Mapping[str, Any], typed: Mapping[str, Any]) -> Options:
    """The values of all options: typed, else in the file, else the default. Raises OptionError."""
    values = dict(in_file)
    for name, given in typed.items():
        setting = BY_NAME[name]
        if isinstance(given, bool):
            values[name] = given
        elif setting.kind is list:
            values[name] = tuple(converted(setting, each) for each in given)
        else:
            values[name] = converted(setting, given)
    return Options(values)


def options(**values: Any) -> Options:
    """Options for a server in a program of one's own. Raises TypeError for one that there is not."""
    for name in values:
        if name not in BY_NAME:
            raise TypeError(f"no option {name}")
    return Options(values)
