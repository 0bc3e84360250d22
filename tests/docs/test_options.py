"""Every option that a page gives to a command, in a block or in the running text, is one that it takes."""

from __future__ import annotations

import re
import unittest
from collections.abc import Iterator
from functools import cache

from pysftpserver.cli.registry import PROGRAMS
from tests.docs import pages
from tests.support.paths import ROOT
from tools.manual.commands import OLDER, declaration, options_of, programs, walk

SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
OURS = re.compile(rf"(?:^|[\s\"'(]|bin/)({'|'.join(program.name for program in PROGRAMS)})(?=\s|$)")
LONG = re.compile(r"--[a-z][\w-]*")


@cache
def taken(name: str) -> dict[tuple[str, ...], set[str]]:
    """The options of a command, and of each of its subcommands."""
    (program,) = (program for program in programs() if program.name == OLDER.get(name, name))
    return {
        words: {flag for option in options_of(declared) for flag in option.flags}
        for words, declared in walk(declaration(program))
    }


def unknown(text: str) -> Iterator[str]:
    """The options in a command that its program does not take."""
    _, *parts = OURS.split(text)  # names and what follows each, in turn
    for name, rest in zip(parts[::2], parts[1::2], strict=True):
        typed = re.split(r"\s--\s|[|;&)]", f"{rest} ")[0]
        words = typed.replace("=", " ").split()
        known = set().union(*(flags for path, flags in taken(name).items() if set(path) <= set(words)))
        yield from (f"{name} {word}" for word in words if LONG.fullmatch(word) and word not in known)


class Options(unittest.TestCase):
    def test_every_option_in_the_pages_exists(self) -> None:
        seen = 0
        for page in pages.paths():
            texts = [command for block in pages.blocks(page) for command in pages.commands(block)]
            if page.endswith(".md"):
                prose = pages.FENCE.sub("", (ROOT / page).read_text())
                texts += [re.sub(r"\s+", " ", span) for span in SPAN.findall(prose)]
            for text in texts:
                seen += bool(OURS.search(text))
                with self.subTest(page, command=text):
                    self.assertEqual(list(unknown(text)), [])
        self.assertGreater(seen, 300)

    def test_an_option_of_another_command_or_subcommand_is_found(self) -> None:
        self.assertEqual(list(unknown("pysftpjail --no-such /srv")), ["pysftpjail --no-such"])
        self.assertEqual(list(unknown("sudo /opt/bin/pysftpctl remove alice --key x")), ["pysftpctl --key"])
        self.assertEqual(list(unknown("pysftpctl --users x add alice --key x")), [])
        self.assertEqual(list(unknown("pysftpremo exec host -- df --all")), [])
