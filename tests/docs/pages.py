"""What the pages have people type: the fenced blocks of the pages, and the commands in them.

A block without a language, or with `sh` or `console`, may have commands. A command is a line that begins with
the name of a program, with `$ ` before it or not, and whatever starts a program from a configuration:
`command=` in authorized_keys, ForceCommand, Subsystem, AuthorizedKeysCommand, ExecStart, a line of cron. A
line of such a block that is neither has to be listed (ledger.py), so that no command goes unseen because its
program is new here. The samples and units in examples/ are blocks of configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from pysftpserver.cli.registry import PROGRAMS
from tests.support.paths import ROOT

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
SHELL = ("", "sh", "console", "bash", "shell")
TOOLS = (
    "apt apt-get cat cd chgrp chmod chown cp curl echo editor fail2ban-client groupadd install "
    "journalctl kill ln make man mkdir mv pip pipx podman pysftpserver-extras python3 rm runuser scp "
    "sftp ssh ssh-keygen sshd sshfs systemctl tail touch useradd usermod"
)
NAMES = "|".join([re.escape(program.name) for program in PROGRAMS] + TOOLS.split())
PROGRAM = re.compile(
    rf"(?:[A-Z_]+=\S+ +)*(?:sudo +(?:-u +\S+ +)?)?(?:\S*/)?(?:{NAMES})(?![\w-])(?!:)(?=\s|$)(?! = )"
)
EMBEDDED = (
    re.compile(r'\bcommand="((?:[^"\\]|\\.)*)"'),
    re.compile(r"^\s*ForceCommand (.*)$"),
    re.compile(r"^\s*Subsystem sftp (/.*)$"),
    re.compile(r"^\s*AuthorizedKeysCommand (.*)$"),
    re.compile(r"^(?:[\d*]+ ){5}\w+ (.*)$"),
    re.compile(r"^ExecStart=(.*)$"),
)
COMMENT = re.compile(r"\s+#.*$|^#.*$")


class Block(NamedTuple):
    """A fenced block. page: its path below the checkout. line: where it begins."""

    page: str
    line: int
    language: str
    text: str


def paths() -> list[str]:
    """The pages, by their paths below the checkout."""
    found = [
        ROOT / "README.md",
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("examples/*/README.md"),
    ]
    found += [path for kind in ("sample", "service") for path in ROOT.glob(f"examples/*.{kind}")]
    return sorted({str(path.relative_to(ROOT)) for path in found} - {"CHANGELOG.md"})


@cache
def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, without what indents them."""
    text = (ROOT / page).read_text()
    if not page.endswith(".md"):
        return [Block(page, 1, "text", text)]
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found[2],
            re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE),
        )
        for found in FENCE.finditer(text)
    ]


def lines(block: Block) -> Iterator[str]:
    """The lines of a block; what goes on in the next line, by a backslash, a pipe or <<, is one."""
    rest = iter(block.text.splitlines())
    for line in rest:
        while line.endswith(("\\", "|")):
            line = f"{line}\n{next(rest)}"
        if here := re.search(r"<< ?'?(\w+)'?$", line):
            for more in rest:
                line = f"{line}\n{more}"
                if more == here[1]:
                    break
        yield line


def commands(block: Block) -> list[str]:
    """The commands in a block, as they are typed, without comments."""
    found = []
    is_console = re.search(r"^\$ ", block.text, re.MULTILINE) is not None
    for line in lines(block):
        started = [each[1] for each in (pattern.search(line) for pattern in EMBEDDED) if each]
        if started:
            found += started
        elif block.language in SHELL and is_console:
            found += [line[2:]] if line.startswith("$ ") else []
        elif block.language in SHELL and PROGRAM.match(line):
            found.append(COMMENT.sub("", line) if "\n" not in line else line)
    return found


def others(block: Block) -> list[str]:
    """The lines of a block that may have commands which are none."""
    if block.language not in SHELL or re.search(r"^\$ ", block.text, re.MULTILINE):
        return []
    return [
        line
        for line in lines(block)
        if line.strip()
        and not line.startswith("#")
        and not PROGRAM.match(line)
        and not any(pattern.search(line) for pattern in EMBEDDED)
    ]


def all_commands() -> dict[str, list[str]]:
    """The commands of each page, each once."""
    found = {page: [each for block in blocks(page) for each in commands(block)] for page in paths()}
    return {page: list(dict.fromkeys(each)) for page, each in found.items()}
