"""Settings of a command, declared once as a class: options, file keys, defaults, types, help and tables.

    class ServerSettings(Settings):
        max_connections = Setting(whole(1, 1_000_000), 1000, "Maximum number of connections.")

`ServerSettings.load("server.toml", {"max_connections": 5}).max_connections` is an int, for mypy as well. The
name of an attribute is the key in the file and, with dashes, the option. Files are TOML; an INI file with a
section [options], as pysftpd's were, is still read. What may not enter: what a setting does, argparse.
"""

from __future__ import annotations

import os

from pysftpserver.engine.log import LEVELS
from pysftpserver.failures import BadInput, one_line, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Generic, Self, TypeVar, overload

    T = TypeVar("T")

    class _Typed(Generic[T]):
        pass

else:  # a command that starts for each login does not import typing
    T = None

    def overload(method):
        return method

    class _Typed:
        def __class_getitem__(cls, _):
            return cls


SECTION = "options"  # of an INI file
LONGEST_FILE = 1 << 20  # bytes
UNSET = ("", "none", "false")  # words for "not set", for a setting that need not be set
YES = ("true", "yes", "on", "1")
NO = ("false", "no", "off", "0", "none", "")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # of times
LONGEST_SPAN = 365 * 86400
_TYPES = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}


# --- kinds of values --------------------------------------------------------------------------------------


class Kind(_Typed[T]):
    """The kind of a setting's value.

    parse: makes the value from a text, or raises ValueError with what the value has to be ("a port from 0 to
    65535"). native: the types that TOML may have in place of a text. metavar: its name in help texts.
    is_optional: whether a word for "not set" gives None; inner: the kind of a value that is set. is_list: the
    value is a tuple, and the option may be repeated; separator: between the items in one text, "" for one
    item in each text. choices: possible words; () for any text.
    """

    def __init__(
        self,
        parse: Callable[[str], T],
        metavar: str,
        native: tuple[type, ...] = (str,),
        *,
        is_optional: bool = False,
        inner: Kind[Any] | None = None,
        is_list: bool = False,
        separator: str = "",
        choices: tuple[str, ...] = (),
    ) -> None:
        self.parse = parse
        self.metavar = metavar
        self.native = native
        self.is_optional = is_optional
        self.inner = inner
        self.is_list = is_list
        self.separator = separator
        self.choices = choices

    @property
    def is_flag(self) -> bool:
        """Whether its option takes no value."""
        return self.native == (bool,) and not self.is_optional

    def from_toml(self, value: object) -> T:
        """The value from one in TOML. Raises ValueError with what it has to be."""
        if self.is_list and isinstance(value, list) and all(isinstance(item, str) for item in value):
            parse = self.parse if self.inner is None else self.inner.parse  # no item is "not set"
            found: list[Any] = []
            for item in value:
                parsed: Any = parse(item)
                found += parsed if self.separator else [parsed]
            return None if self.is_optional and not found else tuple(found)  # type: ignore[return-value]
        if self.is_list and not (self.separator and isinstance(value, str)):
            raise ValueError("a list of texts")
        # A bool is an int for isinstance().
        if not isinstance(value, self.native) or isinstance(value, bool) and bool not in self.native:
            raise ValueError(_TYPES.get(self.native[0], "a text"))
        return self.parse(str(value))

    def from_json(self, value: object) -> T:
        """The value from one in JSON; null means "not set". Raises ValueError as from_toml() does."""
        if self.inner is not None:
            return None if value is None else self.inner.from_json(value)  # type: ignore[return-value]
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, str) and any("\ud800" <= letter <= "\udfff" for letter in item):
                raise ValueError("text of whole characters")
        return self.from_toml(value)


def optional(kind: Kind[T]) -> Kind[T | None]:
    """The same kind, with the value None for a word for "not set"."""

    def parse(text: str) -> T | None:
        found = None if text.lower() in UNSET else kind.parse(text)
        return None if found == () else found

    return Kind(
        parse,
        kind.metavar,
        kind.native,
        is_optional=True,
        inner=kind,
        is_list=kind.is_list,
        separator=kind.separator,
        choices=kind.choices,
    )


def text(metavar: str = "TEXT") -> Kind[str]:
    """Any text that is not empty and has no NUL byte."""

    def parse(value: str) -> str:
        if not value.strip() or "\0" in value:
            raise ValueError("not empty")
        return value

    return Kind(parse, metavar)


def texts(
    metavar: str, separator: str = "", check: Callable[[str], object] = lambda item: None
) -> Kind[tuple[str, ...]]:
    """Texts. separator: between them in one text; "": the option is repeated instead.

    check: raises ValueError for an invalid item, with what items have to be.
    """
    one = text(metavar)

    def parse_one(value: str) -> str:
        found = one.parse(value)
        check(found)
        return found

    def parse(value: str) -> Any:
        if not separator:
            return parse_one(value)
        return tuple(parse_one(item.strip()) for item in value.split(separator) if item.strip())

    return Kind(parse, metavar, is_list=True, separator=separator)


def whole(least: int, most: int, metavar: str = "COUNT") -> Kind[int]:
    """A whole number from least to most."""

    def parse(value: str) -> int:
        # int() takes more than digits, and may take long for very many of them.
        if value.isascii() and value.isdecimal() and len(value) < 20 and least <= int(value) <= most:
            return int(value)
        raise ValueError(f"a whole number from {least} to {most}")

    return Kind(parse, metavar, (int,))


def seconds(least: float = 0.001, most: float = 31_536_000) -> Kind[float]:
    """A time in seconds, a fraction allowed."""

    def parse(value: str) -> float:
        try:
            found = float(value)
        except ValueError:
            found = -1.0
        if not least <= found <= most:
            raise ValueError(f"a number of seconds from {least:.15g} to {most:.15g}")
        return found

    return Kind(parse, "SECONDS", (float, int))


def networks() -> Kind[tuple[str, ...]]:
    """Networks, separated by commas, for service.networks.Networks."""

    def check(item: str) -> None:
        from pysftpserver.service.networks import network  # ipaddress would take time in every command

        network(item)

    return texts("NETWORKS", ",", check)


def span(value: str) -> float:
    """The seconds of a time such as 90s, 5m, 4h or 1d. Raises ValueError."""
    number, unit = (value, "s") if value[-1:].isdecimal() else (value[:-1], value[-1:])
    if number.isascii() and number.isdecimal() and len(number) < 9 and unit in UNITS:
        if 0 < (found := int(number) * UNITS[unit]) <= LONGEST_SPAN:
            return float(found)
    raise ValueError("a time such as 90s, 5m, 4h or 1d, of a year at most")


def one_of(*choices: str, metavar: str = "WORD") -> Kind[str]:
    """One of some words, in upper or lower case; the value is spelled as in choices."""
    spelled = {choice.lower(): choice for choice in choices}

    def parse(value: str) -> str:
        if value.lower() not in spelled:
            raise ValueError(f"one of {', '.join(choices)}")
        return spelled[value.lower()]

    return Kind(parse, metavar, choices=choices)


def _yes_or_no(value: str) -> bool:
    if value.lower() not in (*YES, *NO):
        raise ValueError("yes or no")
    return value.lower() in YES


def _level(value: str) -> str:
    level = {"WARNING": "ERROR", "WARN": "ERROR", "CRITICAL": "FATAL"}.get(value.upper(), value.upper())
    if level not in LEVELS:
        raise ValueError(f"one of {', '.join(LEVELS)}")
    return level


FLAG = Kind(_yes_or_no, "YES_OR_NO", (bool,), choices=("yes", "no"))
#: Yes or no, if the default depends on other settings; its option takes a value, and "none" means no.
IF_GIVEN: Kind[bool | None] = Kind(
    _yes_or_no, "YES_OR_NO", (bool, str), is_optional=True, inner=FLAG, choices=FLAG.choices
)
LEVEL = Kind(_level, "LEVEL", choices=tuple(LEVELS))  # a name in engine.log.LEVELS
PORT = whole(0, 65535, "PORT")
COUNT = whole(1, 1_000_000)
BYTES = whole(1, 1 << 62, "BYTES")
FILE = text("FILE")
DIRECTORY = text("DIR")


# --- settings ---------------------------------------------------------------------------------------------


class Setting(_Typed[T]):
    """One setting: an attribute of a Settings class.

    help: one complete sentence. flags: further spellings of its option, such as "-p". aliases: older names of
    the key and the option, which stay valid and are not shown; one such as "-l" is only the option's. unset:
    what an unset value means ("standard error"), after "The default is" in the help and alone in a table.
    is_secret: errors do not repeat the value. in_file_only: there is no option, because all users of the host
    can read a command line. reloads: a change of the file takes effect while the server runs.
    """

    name: str  # given by the class

    def __init__(
        self,
        kind: Kind[T],
        default: T,
        help: str,
        *flags: str,
        aliases: tuple[str, ...] = (),
        unset: str = "",
        metavar: str = "",
        is_secret: bool = False,
        in_file_only: bool = False,
        reloads: bool = False,
    ) -> None:
        self.kind = kind
        self.default = default
        self.help = help
        self.flags = flags
        self.aliases = aliases
        self.unset = unset
        self.metavar = metavar or kind.metavar
        self.is_secret = is_secret
        self.in_file_only = in_file_only
        self.reloads = reloads

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, settings: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, settings: Settings, owner: type) -> T: ...  # noqa: F811
    def __get__(self, settings: Settings | None, owner: type) -> Setting[T] | T:  # noqa: F811
        if settings is None:
            return self
        return settings._values.get(self.name, self.default)  # type: ignore[no-any-return]

    def reloading(self) -> Setting[T]:
        """The same setting, for a door in which a new value takes effect while it runs."""
        words = {"aliases": self.aliases, "unset": self.unset, "metavar": self.metavar}
        flags = {"is_secret": self.is_secret, "in_file_only": self.in_file_only, "reloads": True}
        return Setting(self.kind, self.default, self.help, *self.flags, **words, **flags)  # type: ignore[arg-type]

    @property
    def option(self) -> str:
        """Its option's name."""
        return "--" + self.name.replace("_", "-")

    @property
    def hidden_flags(self) -> tuple[str, ...]:
        """Older spellings of its option: with underscores, and from its older names."""
        spelled = []
        for name in (self.name, *self.aliases):
            if name.startswith("-"):
                spelled.append(name)
            else:
                spelled += [f"--{name.replace('_', '-')}", f"--{name.replace('-', '_')}"]
        return tuple(flag for flag in dict.fromkeys(spelled) if flag not in (self.option, *self.flags))

    @property
    def default_text(self) -> str:
        """The default as a sentence."""
        if self.unset:
            return f"The default is {self.unset}."
        if self.kind.is_flag:
            return "The default is yes." if self.default else "The default is no."
        if self.default in (None, ()):
            return "There is none by default."
        shown = self.default
        if isinstance(shown, tuple):
            shown = ",".join(shown)  # type: ignore[assignment]
        return f"The default is {shown:.15g}." if isinstance(shown, float) else f"The default is {shown}."

    def complaint(self, where: str, has_to_be: object, value: object) -> BadInput:
        """The error for an invalid value."""
        # An object or a list may contain secrets of other settings.
        is_hidden = self.is_secret or isinstance(value, dict | list)
        shown = "" if is_hidden else f", not {one_line(str(value))!r}"
        return BadInput(f"{where}: has to be {has_to_be}{shown}")


class Settings:
    """The values of all settings of a class, as attributes.

    Arguments: values by name. Raises TypeError for a name that is not a setting.
    """

    def __init__(self, **values: Any) -> None:
        unknown = values.keys() - self.table().keys()
        if unknown:
            raise TypeError(f"no such setting: {', '.join(sorted(unknown))}")
        self._values = values

    @classmethod
    def table(cls) -> dict[str, Setting[Any]]:
        """All settings of the class by name, those of its base classes first.

        A setting that does not apply to a door is None in the door's class.
        """
        members = {name: it for base in reversed(cls.__mro__) for name, it in vars(base).items()}
        return {name: it for name, it in members.items() if isinstance(it, Setting)}

    @classmethod
    def load(cls, path: str | None, typed: Mapping[str, Any]) -> Self:
        """The values of the command line, else those of a file, else the defaults.

        path: None for no file. typed: values of options by name, already converted. Raises BadInput.
        """
        in_file = {} if path is None else cls.parse(read_file(path), path)
        return cls(**(in_file | dict(typed)))

    @classmethod
    def parse(cls, source: str, where: str) -> dict[str, Any]:
        """The values in the text of a file, by name. where: the file's name. Raises BadInput."""
        if not where.endswith(".toml") and f"[{SECTION}]" in source:
            values, unknown = cls.convert(_ini(source, where), where, lambda kind, found: kind.parse(found))
        else:
            values, unknown = cls.convert(
                _toml(source, where), where, lambda kind, item: kind.from_toml(item)
            )
        if unknown:
            known = ", ".join(cls.table())
            raise BadInput(f"{where}: unknown key {one_line(unknown[0])!r}; the keys are {known}")
        return values

    @classmethod
    def convert(
        cls, found: Mapping[str, Any], where: str, make: Callable[[Kind[Any], Any], object]
    ) -> tuple[dict[str, Any], list[str]]:
        """The values of the keys that were found, by the settings' names, and the keys that are unknown.

        where: the file or place of the keys, for errors. make: converts a value by its kind. Raises BadInput.
        """
        names = {}
        for name, setting in cls.table().items():
            keys = (name, *(alias for alias in setting.aliases if not alias.startswith("-")))
            names.update(dict.fromkeys(keys, setting))
        values: dict[str, Any] = {}
        unknown = []
        for key, value in found.items():
            name = key if key in names else key.replace("-", "_")
            if name not in names:
                unknown.append(key)
                continue
            setting = names[name]
            if setting.name in values:
                raise BadInput(f"{where}: {key} is given twice; keep one of them")
            try:
                values[setting.name] = make(setting.kind, value)
            except ValueError as error:
                raise setting.complaint(f"{where}: {key}", error, value) from None
            except BadInput as error:  # of settings in settings
                raise BadInput(f"{where}: {error.message}") from None
        return values, unknown

    @property
    def given(self) -> frozenset[str]:
        """The names of the settings that have been given a value."""
        return frozenset(self._values)

    def kept(self, new: Self) -> list[str]:
        """The names of the settings that differ and cannot change while the server runs, for the log."""
        return [
            name
            for name, setting in self.table().items()
            if not setting.reloads and getattr(self, name) != getattr(new, name)
        ]

    def take_over(self, new: Self) -> list[str]:
        """Take the values of the settings that may change while the server runs; return kept()."""
        for name, setting in self.table().items():
            if setting.reloads and getattr(self, name) != getattr(new, name):
                self._values[name] = getattr(new, name)
        return self.kept(new)


# fmt: off
class LogSettings(Settings):
    """The settings of every long-running door for its logs."""

    INSTEAD_OF_ROOT = "start it as another account, for example with: runuser -u ACCOUNT -- COMMAND"

    logfile = Setting(optional(FILE), None, "Append the log to this file.", unset="standard error")
    log_level = Setting(
        LEVEL, "INFO", "Log up to this level: QUIET, FATAL, ERROR, INFO, VERBOSE or DEBUG.", reloads=True
    )
    log_format = Setting(
        one_of("plain", "json", metavar="FORMAT"), "plain",
        "Write the log as text (plain) or as one JSON object per line (json).",
    )
    log_size = Setting(
        optional(whole(1, 1_000_000, "MIB")), 100, "Rotate the log file at this size (MiB); none means never."
    )
    log_keep = Setting(whole(1, 1000), 5, "Number of rotated log files to keep.")
    log_rate = Setting(
        optional(whole(1, 1_000_000, "LINES")), 500,
        "Maximum number of log lines per second for one user or address, averaged over 20 seconds; a summary "
        "line counts the lines left out. none means no limit.", reloads=True,
    )
    audit = Setting(
        optional(FILE), None, "Append the audit log to this file, one JSON object per operation.",
        unset="no audit log",
    )
    audit_chain = Setting(
        FLAG, False, "Give each audit record a number, the hash of the record before, and its own, so that "
        "pysftp-audit finds what was changed or removed; the head of the chain is in FILE.chain.",
    )
    allow_root = Setting(FLAG, False, "Allow running as root.")
# fmt: on

    def refuse_root(self) -> None:
        """Raises BadInput if this process is root's and must not be."""
        if os.geteuid() == 0 and not self.allow_root:
            raise BadInput(
                f"running as root is refused; to try it, add --allow-root; to keep it, {self.INSTEAD_OF_ROOT}"
            )


# fmt: off
class ServiceSettings(LogSettings):
    """The settings of every long-running door, with the same names; doors add defaults and aliases."""

    listen_address = Setting(
        optional(texts("ADDRESS", ",")), ("127.0.0.1",),
        "Listen on these addresses, separated by commas; none is all of IPv4 and IPv6.",
    )
    port = Setting(PORT, 0, "Listen on this port; 0 is any free one, which the log names.")
    max_connections = Setting(
        COUNT, 1000, "Maximum number of connections, unauthenticated ones included.", reloads=True
    )
    max_per_address = Setting(
        optional(COUNT), None, "Maximum number of connections from one address; a /64 of IPv6 is one.",
        unset="no limit", reloads=True,
    )
    login_grace = Setting(
        seconds(), 60.0, "Close a connection that has not logged in after this many seconds."
    )
    idle_timeout = Setting(
        optional(seconds()), None, "Close a connection on which nothing moved for this many seconds.",
        unset="no limit", reloads=True,
    )
    drain_seconds = Setting(
        seconds(0.0), 30.0, "Seconds that running transfers get to finish after SIGTERM.", reloads=True
    )
# fmt: on


# fmt: off
class StrangerSettings(Settings):
    """The settings of doors to the open Internet for connections that have not logged in."""

    login_share = Setting(
        whole(1, 100, "PERCENT"), 50,
        "Maximum share of one processor for all connections together that have not logged in (percent), and "
        "again as much for checking passwords.",
        reloads=True,
    )
    allow_networks = Setting(
        optional(networks()), None,
        "Serve clients in these networks only, separated by commas.", unset="all networks", reloads=True,
    )
    deny_networks = Setting(
        optional(networks()), None,
        "Do not serve clients in these networks, separated by commas; it overrides allow_networks.",
        reloads=True,
    )
    trusted_networks = Setting(
        optional(networks()), None,
        "Networks that are never banned, separated by commas, such as your own and your monitoring's.",
        reloads=True,
    )
    bans = Setting(
        FLAG, False,
        "Ban addresses that fail to log in or scan, for increasing times; their connections are refused.",
        reloads=True,
    )
    ban_points = Setting(
        whole(1, 1_000_000, "POINTS"), 30, "With bans, ban an address that has this many points.",
        reloads=True,
    )
    ban_fade = Setting(
        seconds(1.0), 600.0, "Seconds in which half of an address's points fade.", reloads=True
    )
    ban_times = Setting(
        texts("TIMES", ",", span), ("1m", "5m", "30m", "4h", "1d"),
        "Durations of the first ban of an address, the second and so on, such as 90s, 5m, 4h or 1d, "
        "separated by commas; the last one is that of all further bans.", reloads=True,
    )
# fmt: on


def read_file(path: str, longest: int = LONGEST_FILE) -> str:
    """The text of a configuration. longest: its maximum size in bytes. Raises BadInput."""
    try:
        with open(path, "rb") as file:
            content = file.read(longest + 1)
        if len(content) > longest:
            raise BadInput(f"{path}: longer than {longest} bytes; it is not a configuration")
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {reason_of(error)}; name a configuration file that can be read") from None


def _toml(source: str, where: str) -> dict[str, Any]:
    import tomllib

    try:
        found = tomllib.loads(source)
        if any(isinstance(value, int) and value.bit_length() > 63 for value in found.values()):
            raise ValueError  # as tomllib does for thousands of decimal digits
        return found
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{where}: {one_line(str(error))}") from None
    except ValueError:
        raise BadInput(f"{where}: a number has too many digits") from None
    except RecursionError:
        raise BadInput(f"{where}: lists or tables are nested too deeply") from None


def _ini(source: str, where: str) -> dict[str, str]:
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(source, where)
        return dict(parser.items(SECTION))
    except configparser.DuplicateOptionError as error:
        raise BadInput(f"{where}: line {error.lineno}: {error.option} is given twice; keep one") from None
    except configparser.Error as error:
        # Its own text repeats the line, which may have a password in it.
        number = getattr(error, "lineno", None) or next((at for at, _ in getattr(error, "errors", ())), None)
        line = f"line {number}: " if number else ""
        raise BadInput(f"{where}: {line}not an INI file with name = value in [{SECTION}]") from None


def markdown_table(settings: type[Settings]) -> str:
    """The table of a class's settings for a page: key, option, default and what it does."""
    rows = ["| setting | default | what it does |", "| --- | --- | --- |"]
    for name, setting in settings.table().items():
        default = setting.default_text.removeprefix("The default is ").removesuffix(".")
        if default == "There is none by default":
            default = "none"
        short = "".join(f" `{flag}`" for flag in setting.flags)
        note = " In the file only." if setting.in_file_only else ""
        note += " Takes effect on SIGHUP." if setting.reloads else ""
        rows.append(f"| `{name}`{short} | {default} | {setting.help}{note} |".replace("||", "|"))
    return "\n".join(rows) + "\n"
