"""pysftpd: an SSH server of its own for SFTP, with users in Redis or in a file.

Options, files and processes; the server itself is in pysftpserver/sshd/, which is imported when it is clear
that there will be one. What may not enter: SSH, how users are kept.
"""

from __future__ import annotations

import os

from pysftpserver.cli import common
from pysftpserver.cli.options import Command, Option
from pysftpserver.failures import BadInput
from pysftpserver.sshd.config import SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pysftpserver.sshd.config import Options

PROG = "pysftpd"
DEFAULT_USERS = "users.toml"
EXTRA = "pip install 'pysftpserver[sshd]'"
REDIS = "redis_"  # how the options begin that say where Redis is
MOST_CONFIG = 1 << 20  # bytes


def _option(setting: Any) -> Option:
    flags = dict.fromkeys((f"--{setting.name}", f"--{setting.name.replace('_', '-')}"))
    default = setting.default
    if setting.is_flag:
        return Option(*flags, help=f"{setting.help} The default is not to.", name=setting.name)
    said = "none" if default is None else default
    return Option(*flags, metavar="VALUE", help=f"{setting.help} The default is {said}.", name=setting.name)


COMMAND = Command(
    PROG,
    description="A standalone SSH server for SFTP alone, with users in Redis or in a file.",
    epilog="Each option but --config may stand in the section [options] of CONFIG as well, by the same name; "
    f"the command line wins. Users are in Redis if an option says where it is, and in {DEFAULT_USERS} in the "
    "current directory if none does and --users does not name another file.",
    options=(
        Option(
            "--config",
            metavar="FILE",
            help="Read options from this INI file. The default is to read none.",
        ),
        *map(_option, SETTINGS),
    ),
)


def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments and serve; return the exit status. Raises BadInput."""
    from pysftpserver.cli import title

    values = COMMAND.parse(arguments)
    title.hide_passwords()
    options = read_options(values)
    if os.geteuid() == 0 and not options.allow_root:
        raise BadInput("this is root: start it as a user of its own, or say --allow-root")
    try:
        import asyncssh  # noqa: F401
    except ModuleNotFoundError:
        raise BadInput(f"asyncssh is missing: {EXTRA}") from None
    from pysftpserver.cli import pysftpd_processes

    return pysftpd_processes.run(options, lambda: read_options(values))


def read_options(values: dict[str, Any]) -> Options:
    """The values of all options. Raises BadInput."""
    from pysftpserver.sshd.config import OptionError, options_of, parse_file

    typed = {
        setting.name: values[setting.name]
        for setting in SETTINGS
        if values[setting.name] not in (None, False)
    }
    try:
        in_file = {} if values["config"] is None else parse_file(text_of(values["config"]), values["config"])
        return options_of(in_file, typed)
    except OptionError as error:
        raise BadInput(str(error)) from None


def text_of(path: str) -> str:
    """The text of the configuration. Raises BadInput."""
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_CONFIG + 1).decode()
    except OSError as error:
        reason = (error.strerror or "failure").lower()
        raise BadInput(f"config {path}: {reason}; name a file that can be read") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"config {path}: no UTF-8 at byte {error.start}") from None
    if len(text) > MOST_CONFIG:
        raise BadInput(f"config {path}: more than {MOST_CONFIG} bytes")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. arguments: without the command's name."""
    return common.run(PROG, serve, arguments)
