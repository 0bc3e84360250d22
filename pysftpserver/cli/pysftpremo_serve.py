"""pysftpremo serve: the server as a command."""

from __future__ import annotations

from pysftpserver.cli.options import Command, Option, load, options_of
from pysftpserver.remo.config import ServerSettings
from pysftpserver.service.hangups import hangups_held
from pysftpserver.service.keeping import keep_code
from pysftpserver.service.settings import markdown_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIG = Option(
    "-c",
    "--config",
    metavar="FILE",
    help="Read settings from this TOML file. There is none by default.",
    hidden_flags=("--conf",),
)
COMMAND = Command(
    prog="pysftpremo serve",
    description="Serve files and commands over plain HTTP to the users in a database; every request and "
    "every reply is encrypted and signed.",
    epilog="The file of --config may have any setting, by its option's name; the command line overrides it. "
    "SIGHUP reads it again and reopens the logs; SIGTERM ends the server when running transfers are done.",
    options=(CONFIG, *options_of(ServerSettings)),
    examples=(
        ("Serve this host, as the account that starts it:", "pysftpremo serve -k server_key.pem -p 8080"),
        ("Serve each user a directory:", "pysftpremo serve --storage 'jail:/srv/{user}'"),
    ),
)


def settings_table() -> str:
    """The table of the settings for the page, and the option that names their file."""
    config = CONFIG.help.removesuffix(" There is none by default.")  # the default has a separate column
    return f"{markdown_table(ServerSettings)}| `--config` `-c` | none | {config} |\n"


@hangups_held()
def serve(words: Sequence[str]) -> int:
    """Serve until a signal arrives. Raises BadInput, Unavailable."""
    keep_code()
    options = COMMAND.parse(words)

    def read() -> ServerSettings:
        return load(ServerSettings, options["config"], options)

    values = read()
    from pysftpserver.remo.server import serve as serve_until_told
    from pysftpserver.storages.sharing import Storages

    serve_until_told(values, Storages(), read)
    return 0
