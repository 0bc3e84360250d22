"""The declarations of all commands, from the tables of pysftpserver/cli/."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence

from pysftpserver.cli import parser
from pysftpserver.cli.options import Command, Commands, Option
from pysftpserver.cli.registry import PROGRAMS, Program

#: Older names of other commands' subcommands.
OLDER = {"add_user": "pysftpremo", "build_key_pair": "pysftpremo"}
#: Commands that users run; the others are for administrators.
OF_USERS = {"pysksync", "pysftpremo", "pysftplab", "pysftp-probe", *OLDER}
HELP = Option("-h", "--help", help=parser.HELP)
VERSION = Option("--version", help=parser.VERSION)


def programs() -> list[Program]:
    """The commands that have their own page."""
    return [program for program in PROGRAMS if program.name not in OLDER]


def main_of(name: str) -> Callable[..., int]:
    """The function that runs a command. It takes the words after the command's name."""
    (program,) = (program for program in PROGRAMS if program.name == name)
    main = vars(importlib.import_module(f"pysftpserver.cli.{program.module}"))["main"]
    assert callable(main)
    return main


def section_of(name: str) -> int:
    """The section of a command's manual page."""
    return 1 if name in OF_USERS else 8


def declaration(program: Program) -> Command | Commands:
    """What a command takes."""
    module = vars(importlib.import_module(f"pysftpserver.cli.{program.module}"))
    found = module["COMMANDS"] if isinstance(module.get("COMMANDS"), Commands) else module["COMMAND"]
    assert isinstance(found, Command | Commands)
    return found


def walk(
    declared: Command | Commands, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Command | Commands]]:
    """Yield a command and all its subcommands, each with the words after the command's name."""
    yield words, declared
    if isinstance(declared, Commands):
        for subcommand in declared.subcommands:
            yield from walk(subcommand.declared(), (*words, subcommand.word))


def options_of(declared: Command | Commands) -> list[Option]:
    """The options that a command accepts, including --help and --version."""
    if isinstance(declared, Command):
        own: Sequence[Option] = declared.options
    else:
        own = (*declared.shared, *(declared.own.options if declared.own is not None else ()))
    return [HELP, *own, VERSION]


def arguments_of(declared: Command | Commands) -> list[tuple[str, str, bool]]:
    """Name, help and whether there may be several, for each argument that is not a subcommand."""
    command = declared.own if isinstance(declared, Commands) else declared
    if command is None:
        return []
    found = [(name, text, False) for name, text in command.arguments]
    return found + ([(*command.rest, True)] if command.rest is not None else [])


def help_of(option: Option) -> str:
    """An option's text, without argparse's doubled percent signs."""
    return option.help.replace("%%", "%")


def choices_of(option: Option) -> Sequence[str]:
    """The words that an option accepts as its value; empty if it accepts any."""
    return option.choices() if callable(option.choices) else option.choices


def summary(declared: Command | Commands) -> str:
    """What a command does, as a phrase: its description's first sentence."""
    first = declared.description.partition(". ")[0].removesuffix(".").replace("%%", "%")
    return first[:1].lower() + first[1:]
