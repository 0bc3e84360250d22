"""Declares a command's options and subcommands, and parses plain command lines without argparse.

A session is a process, and importing argparse would be a large part of its start-up. So a command line in
which every option is known, spelled out and well-formed is parsed here; for all others, and for help and
errors, parser.py loads argparse. Both use the same declaration.
"""

from __future__ import annotations

from pysftpserver.failures import BadInput, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any, TypeVar

    from pysftpserver.service.settings import Kind, Settings

    S = TypeVar("S", bound=Settings)


NOT_SET: Any = object()  # the value of an option that was given a word for "not set", such as none


class BadValue(ValueError):
    """An option has an invalid value. The text says what is valid."""


class Option:
    """One option.

    flags: its spellings, the long one last ("-u", "--umask"). help: complete sentences that end with the
    default. metavar: the value's name in the help; None for a switch, whose value is True. convert: turns
    the text into the value, or raises BadValue. name: the key of the value; by default the long spelling.
    is_repeated: the option may be given several times; its value is a list, or None. instead: for an option
    that ends the command: a function from its text to the text to print. hidden_flags: older spellings, which
    still work and are left out of the help. choices: possible values, for completion; separator: the text
    between several of them.
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
        choices: Callable[[], Sequence[str]] | Sequence[str] = (),
        separator: str = "",
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
        self.choices = choices
        self.separator = separator


class Command:
    """The declaration of a command.

    prog: its name. description, epilog: the texts above and below the options in its help. arguments: (name,
    help) of each positional argument; all are required. rest: (name, help) of any number of further
    arguments, whose value is a list; None if there may be none. examples: (what it does, the line) of each.
    statuses: (exit status, when) of those that are not the same in all commands (common.py).
    """

    def __init__(
        self,
        prog: str,
        description: str,
        epilog: str,
        options: Sequence[Option],
        arguments: Sequence[tuple[str, str]] = (),
        rest: tuple[str, str] | None = None,
        examples: Sequence[tuple[str, str]] = (),
        statuses: Sequence[tuple[int, str]] = (),
    ) -> None:
        self.prog = prog
        self.description = description
        self.epilog = epilog
        self.options = options
        self.arguments = arguments
        self.rest = rest
        self.examples = examples
        self.statuses = statuses

    def parse(self, words: Sequence[str]) -> dict[str, Any]:
        """Return the values of all options and arguments, by name.

        Raises BadInput for bad input, SystemExit after --help and other options that end the command.
        """
        values = self._parse_plain(words)
        if values is None:
            from pysftpserver.cli.parser import parse

            values = parse(self, words)
        return values

    def _parse_plain(self, words: Sequence[str]) -> dict[str, Any] | None:
        """Return the same for a plain command line, None for any other."""
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
    """One subcommand. run: runs it with the words that follow its own, and imports what takes long.

    declared: returns its declaration, for manual pages and completion; it may import what takes long.
    """

    def __init__(
        self,
        word: str,
        summary: str,
        run: Callable[[Sequence[str]], int],
        declared: Callable[[], Command | Commands],
    ) -> None:
        self.word = word
        self.summary = summary
        self.run = run
        self.declared = declared


class Commands:
    """A command with subcommands, each with its own options and --help.

    fallback: runs command lines that do not begin with a subcommand; None makes them errors. own: its
    declaration. shared: options of every subcommand, which may also precede its word. examples, statuses: as
    in Command.
    """

    def __init__(
        self,
        prog: str,
        description: str,
        subcommands: Sequence[Subcommand],
        epilog: str = "",
        fallback: Callable[[Sequence[str]], int] | None = None,
        shared: Sequence[Option] = (),
        own: Command | None = None,
        examples: Sequence[tuple[str, str]] = (),
        statuses: Sequence[tuple[int, str]] = (),
    ) -> None:
        self.prog = prog
        self.description = description
        self.epilog = epilog
        self.subcommands = subcommands
        self.fallback = fallback
        self.shared = shared
        self.own = own
        self.examples = examples
        self.statuses = statuses

    def run(self, words: Sequence[str]) -> int:
        """Run the subcommand that the first word names; return its exit status. Raises BadInput.

        `help WORD` is `WORD --help`.
        """
        before = self._shared_before(words)
        words = [*words[before : before + 1], *words[:before], *words[before + 1 :]]
        first = words[0] if words else ""
        if first == "help":
            return self.run([*words[1:], "--help"])
        for subcommand in self.subcommands:
            if first == subcommand.word:
                return subcommand.run(words[1:])
        if self.fallback is not None:
            return self.fallback(words)
        if first.startswith("-"):
            from pysftpserver.cli.parser import parse_commands

            parse_commands(self, words)
            first = ""
        known = ", ".join(subcommand.word for subcommand in self.subcommands)
        problem = f"unknown command {first!r}" if first else "the command is missing"
        raise BadInput(f"{problem}; use one of {known} (try {self.prog} --help)")

    def _shared_before(self, words: Sequence[str]) -> int:
        """The number of words that shared options take before the subcommand's."""
        known = {flag: option for option in self.shared for flag in (*option.flags, *option.hidden_flags)}
        at = 0
        while at < len(words) and (option := known.get(words[at].partition("=")[0])) is not None:
            at += 1 if option.metavar is None or "=" in words[at] else 2
        return min(at, len(words))


TOML_CONFIG = Option(
    "--config", metavar="FILE", help="Read settings from this TOML file. There is none by default."
)


def options_of(settings: type[Settings], names: Collection[str] | None = None) -> list[Option]:
    """Return the options for a settings class. names: only these settings; None for all.

    The value of an option that is not given is None, and NOT_SET if its text is a word for "not set".
    """
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
                convert=converter(setting.kind, setting.is_secret),
                name=name,
                is_repeated=setting.kind.is_list and not setting.kind.separator,
                hidden_flags=setting.hidden_flags,
                choices=setting.kind.choices,
            )
        )
    return found


def converter(kind: Kind[Any], is_secret: bool = False) -> Callable[[str], Any]:
    """A function that converts an option's text to a kind of setting. is_secret: errors do not repeat it."""

    def convert(text: str) -> Any:
        try:
            value = kind.parse(text)
        except ValueError as error:
            shown = "" if is_secret else f", not {one_line(text)!r}"
            raise BadValue(f"has to be {error}{shown}") from None
        return NOT_SET if value is None else value

    return convert


def load(settings: type[S], path: str | None, values: Mapping[str, Any]) -> S:
    """Return the settings from a configuration file and from options, which take precedence.

    path: the file, or None. values: as returned by Command.parse(). Raises BadInput.
    """
    typed = {}
    for name, setting in settings.table().items():
        value = values.get(name)
        if value is None or setting.kind.is_flag and value is False:
            continue  # not given
        value = None if value is NOT_SET else value
        typed[name] = tuple(value) if isinstance(value, list) else value
    return settings.load(path, typed)


def markdown_table(command: Command) -> str:
    """Return a table of a command's arguments and options, for its page in docs/."""
    rows = ["| option | what it does |", "| --- | --- |"]
    arguments = [*command.arguments, *([command.rest] if command.rest is not None else [])]
    rows += [f"| `{name.upper()}` | {text} |" for name, text in arguments]
    for option in command.options:
        value = f" {option.metavar}" if option.metavar is not None else ""
        flags = ", ".join(f"`{flag}{value}`" for flag in option.flags)
        rows.append(f"| {flags} | {option.help} |")
    return "\n".join(rows).replace("%%", "%") + "\n"
