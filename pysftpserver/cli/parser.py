"""Builds argparse parsers from the declarations in options.py: help, abbreviations, clusters and errors."""

from __future__ import annotations

import argparse
import textwrap

from pysftpserver import __version__
from pysftpserver.cli.options import BadValue, Commands
from pysftpserver.failures import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from pysftpserver.cli.options import Command, Option

MOST_IN_USAGE = 6  # options; a longer usage is not helpful
HELP, VERSION = "Print this help and exit.", "Print the version and exit."
MISSING = "the following arguments are required: "
WIDTH = 76  # of text that argparse does not fill, for 80 columns


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser that raises BadInput instead of printing its usage and exiting.

    rest: the metavar of a list of arguments that may be empty.
    """

    rest = ""

    def error(self, message: str) -> NoReturn:
        if message.startswith(MISSING):
            # With intermixed arguments, argparse takes the list that may be empty for a required one.
            message = message.removesuffix(f", {self.rest}")
        raise BadInput(f"{message} (try {self.prog} --help)", "bad arguments")


class Help(argparse.HelpFormatter):
    """Fills paragraphs, and keeps those whose lines are indented as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(
            part if "\n  " in part else super(Help, self)._fill_text(part, width, indent)
            for part in text.split("\n\n")
        )


class Instead(argparse.Action):
    """Prints the result of an option's `instead`, and ends the command with status 0."""

    def __init__(self, option: Option, **settings: Any) -> None:
        super().__init__(**settings)
        self._option = option

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        text = ""
        try:
            if self._option.instead is not None:
                text = self._option.instead(values or "")
        except BadValue as error:
            parser.error(f"argument {option_string}: {error}")
        print(text)
        parser.exit()


def parse(command: Command, words: Sequence[str]) -> dict[str, Any]:
    """Return the values of all options and arguments, by name.

    Raises BadInput for bad input, SystemExit after --help and other options that end the command.
    """
    parser = build_parser(command)
    if command.rest is None:
        return vars(parser.parse_args(words))
    # parse_args() would end the list at an option between two words. But parse_intermixed_args() parses words
    # after "--" as options (Python 3.11), so they are marked with a NUL, which no argument can contain.
    end = words.index("--") if "--" in words else len(words)
    parsed = parser.parse_intermixed_args([*words[:end], *("\0" + word for word in words[end + 1 :])])
    values = vars(parsed)
    for name, _ in command.arguments:
        values[name] = values[name].removeprefix("\0")
    values[command.rest[0]] = [word.removeprefix("\0") for word in values[command.rest[0]]]
    return values


def build_parser(command: Command) -> argparse.ArgumentParser:
    """Return the argparse parser for a command."""
    parser = OneLineParser(
        prog=command.prog,
        usage=_usage(command) if len(command.options) > MOST_IN_USAGE else None,
        description=command.description,
        epilog=epilog(command),
        formatter_class=Help,
        add_help=False,
    )
    for name, text in command.arguments:
        parser.add_argument(name, metavar=name.upper(), help=text)
    if command.rest is not None:
        name, text = command.rest
        parser.add_argument(name, metavar=name.upper(), nargs="*", help=text)
        parser.rest = name.upper()
    _add_help(parser)
    for option in command.options:
        _add(parser, option)
    _add_version(parser)
    return parser


def parse_commands(commands: Commands, words: Sequence[str]) -> None:
    """Answer --help and --version of a command with subcommands. Raises SystemExit, or BadInput."""
    parser = OneLineParser(
        prog=commands.prog,
        usage=f"{commands.prog} {'[OPTION ...] ' if commands.shared else ''}COMMAND ...",
        description=commands.description,
        epilog=epilog(commands),
        formatter_class=Help,
        add_help=False,
    )
    _add_help(parser)
    group = parser.add_argument_group("commands")
    for subcommand in commands.subcommands:
        # Listed as arguments for the help only; Commands.run() chooses the subcommand.
        group.add_argument(subcommand.word, help=subcommand.summary, nargs="?")
    for option in commands.shared:
        _add(parser, option)
    _add_version(parser)
    parser.parse_args(words[:1])


def _usage(command: Command) -> str:
    words = [command.prog, "[OPTION ...]", *(name.upper() for name, _ in command.arguments)]
    if command.rest is not None:
        words.append(f"[{command.rest[0].upper()} ...]")
    return " ".join(words)


def epilog(command: Command | Commands) -> str:
    """The text below the options: the epilog, the examples, and the command's own exit statuses."""
    parts = [command.epilog] if command.epilog else []
    if not parts and isinstance(command, Commands):
        parts = [f"Run {command.prog} help COMMAND for the options of a command."]
    if command.examples:
        lines = (f"  {what}\n    {line}" for what, line in command.examples)
        parts.append("\n".join(("examples:", *lines)))
    if command.statuses:
        lines = (
            textwrap.fill(f"{status:<5}{when}", WIDTH, initial_indent="  ", subsequent_indent=" " * 7)
            for status, when in sorted(command.statuses)
        )
        parts.append("\n".join(("exit status:", *lines)))
    return "\n\n".join(parts)


def _add_help(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-h", "--help", action="help", help=HELP)


def _add_version(parser: argparse.ArgumentParser) -> None:
    version = f"%(prog)s {__version__}"
    parser.add_argument("--version", action="version", version=version, help=VERSION)


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    _add_flags(parser, option, option.flags, {"help": option.help})
    if option.hidden_flags:
        _add_flags(parser, option, option.hidden_flags, {"help": argparse.SUPPRESS})


def _add_flags(
    parser: argparse.ArgumentParser, option: Option, flags: Sequence[str], names: dict[str, Any]
) -> None:
    names["dest"] = option.name
    if option.instead is not None:
        nargs = 0 if option.metavar is None else None
        parser.add_argument(
            *flags, action=Instead, option=option, nargs=nargs, metavar=option.metavar, **names
        )
    elif option.metavar is None:
        parser.add_argument(*flags, action="store_true", **names)
    else:
        parser.add_argument(
            *flags,
            action="append" if option.is_repeated else "store",
            metavar=option.metavar,
            type=_converter(option.convert),
            default=option.default,
            **names,
        )


def _converter(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return the converter with BadValue turned into argparse's exception."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except BadValue as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return converted
