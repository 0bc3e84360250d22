"""A command's options and subcommands, declared once, and parsed without argparse while they are plain.

A session is a process, and importing argparse takes longer than most of what else it does before it
answers. So ordinary command lines (every option known, spelled out and well-formed) are parsed here; at
anything else, help and errors among it, argparse is loaded and decides. Both read the same declaration.
"""

from __future__ import annotations

from pysftpserver.failures import BadInput, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any, TypeVar

    from pysftpserver.service.settings import Setting, Settings

    S = TypeVar("S", bound=Settings)


class BadValue(ValueError):
    """An option's value that does not do; the text says what would."""


class Option:
    """One option.

    flags: its spellings, the long one last ("-u", "--umask"); the long one names the value it gives.
    help: complete sentences, with the default. metavar: what the help calls its value; None: it takes
    none, and gives True. is_repeated: it may be given several times, and gives a list, or None. convert:
    makes a value of the text, or raises BadValue. name: the value's, when there is no long spelling.
    instead: for an option that ends the command, what to do (run by argparse). hidden_flags: older
    spellings, which work and are not in the help.
    """

    def __init__(
        self,
        *flags: str,
        help: str,
        metavar: str | None = None,
        convert: Callable[[str], Any] = str,
        default: Any = None,
        name: str = "",
        is_repeated: bool = False,
        instead: Callable[[str], str] | None = None,
        hidden_flags: Sequence[str] = (),
    ) -> None:
        self.flags = flags
        self.help = help
        self.metavar = metavar
        self.convert = convert
        self.default = default if metavar is not None else False
        self.name = name or flags[-1].lstrip("-").replace("-", "_")
        self.is_repeated = is_repeated
        self.instead = instead
        self.hidden_flags = hidden_flags


class Command:
    """What a command is called, what it takes, and what it says of itself.

    arguments: (name, help) of the positional ones, all of them required. rest: the same of any number of
    further ones, whose value is a list; None: there may be none.
    """

    def __init__(
        self,
        prog: str,
        description: str,
        epilog: str,
        options: Sequence[Option],
        arguments: Sequence[tuple[str, str]] = (),
        rest: tuple[str, str] | None = None,
    ) -> None:
        self.prog = prog
        self.description = description
        self.epilog = epilog
        self.options = options
        self.arguments = arguments
        self.rest = rest

    def parse(self, words: Sequence[str]) -> dict[str, Any]:
        """The values of all options and arguments, by name.

        Raises BadInput for bad input, SystemExit when help or the like was asked for.
        """
        values = self._parse_plain(words)
        if values is None:
            from pysftpserver.cli.parser import parse

            values = parse(self, words)
        return values

    def _parse_plain(self, words: Sequence[str]) -> dict[str, Any] | None:
        """The same, or None for whatever is not plain."""
        known = {
            flag: option
            for option in self.options
            for flag in (*option.flags, *option.hidden_flags)
            if not option.instead
        }
        values = {option.name: option.default for option in self.options if not option.instead}
        given: list[str] = []
        rest = iter(words)
        for word in rest:
            if not word.startswith("-") or word == "--":
                given.extend(rest if word == "--" else [word])
                continue
            flag, equals, text = word.partition("=") if word.startswith("--") else (word, "", "")
            option = known.get(flag)
            if option is None or bool(equals) and option.metavar is None:
                return None
            if option.metavar is None:
                values[option.name] = True
                continue
            text = text if equals else next(rest, "--")
            if text.startswith("-") and text != "-":
                return None
            try:
                value = option.convert(text)
            except BadValue:
                return None
            if option.is_repeated:
                earlier: list[Any] = values[option.name] or []  # type: ignore[assignment]
                value = [*earlier, value]
            values[option.name] = value
        count = len(self.arguments)
        if len(given) < count or len(given) > count and self.rest is None:
            return None
        values.update((name, word) for (name, _), word in zip(self.arguments, given, strict=False))
        if self.rest is not None:
            values[self.rest[0]] = given[count:]
        return values


class Subcommand:
    """One word of a command that has several. load: imports what runs it, and returns that."""

    def __init__(
        self,
        word: str,
        summary: str,
        load: Callable[[], Callable[[Sequence[str]], int]],
        aliases: Sequence[str] = (),
    ) -> None:
        self.word = word
        self.summary = summary
        self.load = load
        self.aliases = aliases


class Commands:
    """A command whose first word says what to do; each word has options and a --help of its own.

    fallback: runs what begins with none of the words; None: that is an error. shared: options of every
    subcommand, which may stand before its word as well.
    """

    def __init__(
        self,
        prog: str,
        description: str,
        subcommands: Sequence[Subcommand],
        epilog: str = "",
        fallback: Callable[[Sequence[str]], int] | None = None,
        shared: Sequence[Option] = (),
    ) -> None:
        self.prog = prog
        self.description = description
        self.epilog = epilog
        self.subcommands = subcommands
        self.fallback = fallback
        self.shared = shared

    def run(self, words: Sequence[str]) -> int:
        """Run the subcommand that the first word names; return its exit status. Raises BadInput."""
        before = self._shared_before(words)
        words = [*words[before : before + 1], *words[:before], *words[before + 1 :]]
        first = words[0] if words else ""
        for subcommand in self.subcommands:
            if first in (subcommand.word, *subcommand.aliases):
                return subcommand.load()(words[1:])
        if self.fallback is not None:
            return self.fallback(words)
        if first.startswith("-"):
            from pysftpserver.cli.parser import parse_commands

            parse_commands(self, words)
            first = ""
        known = ", ".join(subcommand.word for subcommand in self.subcommands)
        problem = f"{first!r} is not a command" if first else "the command is missing"
        raise BadInput(f"{problem}; it is one of {known} (try {self.prog} --help)")

    def _shared_before(self, words: Sequence[str]) -> int:
        """How many words shared options take before the subcommand's."""
        known = {flag: option for option in self.shared for flag in (*option.flags, *option.hidden_flags)}
        at = 0
        while at < len(words) and (option := known.get(words[at].partition("=")[0])) is not None:
            at += 1 if option.metavar is None or "=" in words[at] else 2
        return min(at, len(words))


def options_of(settings: type[Settings], names: Collection[str] | None = None) -> list[Option]:
    """The options of a class of settings; their values are None where not given. names: only these."""
    found = []
    for name, setting in settings.table().items():
        if setting.in_file_only or names is not None and name not in names:
            continue
        found.append(
            Option(
                *setting.flags,
                setting.option,
                help=f"{setting.help} {setting.default_text}",
                metavar=None if setting.kind.is_flag else setting.metavar,
                convert=_converter(setting),
                name=name,
                is_repeated=setting.kind.is_list and not setting.kind.separator,
                hidden_flags=setting.hidden_flags,
            )
        )
    return found


def _converter(setting: Setting[Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return setting.kind.parse(text)
        except ValueError as error:
            shown = "" if setting.is_secret else f", not {one_line(text)!r}"
            raise BadValue(f"has to be {error}{shown}") from None

    return convert


def load(settings: type[S], path: str | None, values: Mapping[str, Any]) -> S:
    """The settings of a command line and of the file that it names. values: as Command.parse() gives them.

    Raises BadInput.
    """
    typed = {}
    for name, setting in settings.table().items():
        value = values.get(name)
        if value is None or setting.kind.is_flag and value is False:
            continue  # not given
        typed[name] = tuple(value) if isinstance(value, list) else value
    return settings.load(path, typed)


def markdown_table(command: Command) -> str:
    """The table of a command's arguments and options for its page."""
    rows = ["| option | what it does |", "| --- | --- |"]
    arguments = [*command.arguments, *([command.rest] if command.rest is not None else [])]
    rows += [f"| `{name}` | {text} |" for name, text in arguments]
    for option in command.options:
        value = f" {option.metavar}" if option.metavar is not None else ""
        flags = ", ".join(f"`{flag}{value}`" for flag in option.flags)
        rows.append(f"| {flags} | {option.help} |")
    return "\n".join(rows).replace("%%", "%") + "\n"
