"""Lines of authorized_keys that force a command, written and read; other lines stay as they are.

A line is a customer's if it forces pysftpjail with --name, even if written by hand. A line that is switched
off is a comment. What may not enter: files, accounts.
Facts: sshd(8) on authorized_keys; OpenSSH's misc.c, opt_dequote().
"""

from __future__ import annotations

import os
import shlex

from pysftpserver.people.keys import BadKey, parse_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROGRAM = "pysftpjail"
OFF = "# switched off: "  # before a line that is not in force


class Line:
    """A line. customer: its name, or None. words: of the command. blob: the key, or None."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.is_on = not text.startswith(OFF)
        own = text.removeprefix(OFF).strip()
        self.options: dict[str, str] = {}
        self.blob: bytes | None = None
        if own and not own.startswith("#"):
            self.options, rest = _options_of(own)
            try:
                self.blob = parse_line(rest)[0]
            except BadKey:
                pass
        try:
            self.words = shlex.split(self.options.get("command", ""))
        except ValueError:
            self.words = []
        self.customer = name_in(self.words)

    @property
    def directory(self) -> str:
        return self.words[-1]

    @property
    def is_read_only(self) -> bool:
        return any(word in ("-R", "--read-only") for word in self.words)


def options(words: str, networks: str = "") -> str:
    """The options before a key that forces a command. words: for a shell. networks: as in a user's record.

    Raises ValueError for words that cannot be written in quotes.
    """
    # In the quotes of authorized_keys, \" is the only escape: a command that has a line end or ends with a
    # backslash cannot be written.
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in words) or words.endswith("\\"):
        raise ValueError("the command cannot be written in authorized_keys")
    quoted = words.replace('"', '\\"')
    return f'restrict,command="{quoted}"' + (f',from="{patterns(networks)}"' if networks else "")


def patterns(networks: str) -> str:
    """A user's networks as sshd takes them: at least one pattern has to match, and no blanks."""
    from pysftpserver.service.networks import networks_of

    found = networks_of(networks)
    allowed = [str(one) for one in found.allowed] or ["0.0.0.0/0", "::/0"]
    return ",".join([*(f"!{one}" for one in found.denied), *allowed])


def lines_of(text: str) -> list[Line]:
    """The lines of a file."""
    return [Line(line) for line in text.split("\n")] if text else []


def with_lines(text: str, wanted: Mapping[str, Iterable[str]]) -> str:
    """A file's text with new lines for some customers, in place of their old ones or at the end."""
    done: set[str] = set()
    kept: list[str] = []
    for line in lines_of(text):
        name = line.customer
        if name is None or name not in wanted:
            kept.append(line.text)
        elif name not in done:
            done.add(name)
            kept += wanted[name]
    while kept and not kept[-1]:
        kept.pop()
    for name, new in wanted.items():
        if name not in done:
            kept += new
    return "".join(f"{line}\n" for line in kept)


def name_in(words: list[str]) -> str | None:
    """The customer that a command names; None: it is not a customer's."""
    if not any(os.path.basename(word) == PROGRAM for word in words):
        return None
    for number, word in enumerate(words[:-1]):
        if word == "--name" and number + 2 < len(words):
            return words[number + 1]
        if word.startswith("--name="):
            return word.removeprefix("--name=")
    return None


def _options_of(line: str) -> tuple[dict[str, str], str]:
    """The options before a key by name (the first of each name), and the rest of the line."""
    found: dict[str, str] = {}
    try:
        parse_line(line)
        return found, line  # without options
    except BadKey:
        pass
    start, is_quoted, place = 0, False, 0
    while place < len(line):
        letter = line[place]
        if letter == "\\" and line[place + 1 : place + 2] == '"':
            place += 2
            continue
        if letter == '"':
            is_quoted = not is_quoted
        elif letter in ", \t" and not is_quoted:
            name, _, value = line[start:place].partition("=")
            if value[:1] == '"' == value[-1:] and len(value) > 1:
                value = value[1:-1].replace('\\"', '"')
            found.setdefault(name.lower(), value)
            start = place + 1
            if letter != ",":
                break
        place += 1
    return found, line[start:]
