"""What is probed: a host, through OpenSSH's ssh with the user's configuration, or a command.

What may not enter: sessions, questions to the user. Facts: ssh(1) on -G and -s, ssh_config(5) on BatchMode.
"""

from __future__ import annotations

import os
import shlex
import subprocess

from pysftpserver.failures import BadInput, Unavailable, one_line, reason_of
from pysftpserver.probe.lines import PipeLine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysftpserver.probe.lines import Patience

FORM = "[user@]host[:port]"
SCHEMES = ("ssh://", "sftp://")
# No prompts on the terminal: a probe opens many sessions, each of which would ask. The rest is as in sftp(1).
_SETTINGS = (
    "BatchMode=yes",
    "RequestTTY=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "ClearAllForwardings=yes",
)
SETTINGS = tuple(word for setting in _SETTINGS for word in ("-o", setting))
ASKING = 15.0  # seconds for `ssh -G`, which may run the commands of `Match exec`
LOOPBACK = ("localhost", "::1")


class Target:
    """A server that can be connected to.

    name: for people. command: the program to start, whose standard input and output speak SFTP. is_far:
    whether it may be another machine.
    """

    def __init__(self, name: str, command: Sequence[str], is_far: bool) -> None:
        self.name = name
        self.command = list(command)
        self.is_far = is_far

    def connect(self, patience: Patience) -> PipeLine:
        """A line to a new session. Raises Unavailable if the command cannot be started."""
        try:
            return PipeLine(self.command, patience)
        except OSError as error:
            raise Unavailable(f"{self.command[0]} cannot be started: {reason_of(error)}") from None


def of_command(words: Sequence[str]) -> Target:
    """A command whose standard input and output speak SFTP."""
    return Target(one_line(shlex.join(words)), words, is_far=False)


def of_host(text: str, program: str = "ssh") -> Target:
    """A host in FORM, or as a URL without a path. Raises BadInput."""
    scheme = next((scheme for scheme in SCHEMES if text.startswith(scheme)), "")
    rest = text.removeprefix(scheme)
    rest = rest.removesuffix("/") if scheme else rest
    login, at, place = rest.rpartition("@")
    host, port = _split(text, place)
    if at:
        _check_word(text, login)
    _check_word(text, host)
    options = [*SETTINGS, *(["-p", port] if port else []), *(["-l", login] if at else [])]
    is_far = not _is_loopback([program, *options, "-G", "--", host])
    return Target(one_line(rest), [program, "-T", *options, "-s", "--", host, "sftp"], is_far)


def _split(text: str, place: str) -> tuple[str, str]:
    """Host and port; an IPv6 address with a port is in brackets."""
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        if not bracket or rest and not rest.startswith(":"):
            raise _bad(text)
        port = rest[1:]
    elif place.count(":") > 1:
        return place, ""
    else:
        host, colon, port = place.partition(":")
        if colon and not port:
            raise _bad(text)
    if port and not (port.isascii() and port.isdecimal() and len(port) < 6 and 1 <= int(port) <= 65535):
        raise BadInput(f"{one_line(text)}: invalid port; use 1 to 65535")
    return host, port


def _check_word(text: str, word: str) -> None:
    """Refuse a word that ssh would take for an option, or that a shell in ProxyCommand would interpret."""
    allowed = all(letter.isalnum() or letter in "._-:%+@\\" for letter in word)
    if not word or not allowed or word.startswith("-"):
        raise _bad(text)


def _bad(text: str) -> BadInput:
    return BadInput(f"{one_line(text)!r} is not a server; write {FORM}, or -- and a command")


def _is_loopback(command: Sequence[str]) -> bool:
    """Whether ssh, with the user's configuration, would connect to this machine, and not through another."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ASKING, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return False  # treated as far: the user has to be asked
    lines = [line.partition(b" ") for line in done.stdout.splitlines()]
    settings = {key.lower(): value for key, _, value in lines}
    if any(settings.get(key, b"none") != b"none" for key in (b"proxycommand", b"proxyjump")):
        return False
    host = os.fsdecode(settings.get(b"hostname", b"")).lower()
    return host in LOOPBACK or host.startswith("127.") and host.replace(".", "").isdecimal()
