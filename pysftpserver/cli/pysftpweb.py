"""pysftpweb: files in a browser and over WebDAV, for the users of pysftpd.

Its name and options; the server is in pysftpserver/web/.
"""

from __future__ import annotations

import os

from pysftpserver.cli import common
from pysftpserver.cli.options import Command, load, markdown_table, options_of
from pysftpserver.cli.pysftpd import CONFIG, user_storages
from pysftpserver.failures import BadInput, needed
from pysftpserver.service.hangups import hangups_held
from pysftpserver.service.keeping import keep_code
from pysftpserver.web.config import WebSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pysftpserver.site.file import Site

PROG = "pysftpweb"
COMMAND = Command(
    PROG,
    description="Serves files to browsers and over WebDAV, for the users of pysftpd.",
    epilog="The file of --config may have any setting, by its option's name; the command line overrides it. "
    "SIGHUP reads it again; SIGTERM ends the server when running transfers are done.",
    options=(CONFIG, *options_of(WebSettings)),
    examples=(
        ("Serve the users of a file on this host:", f"{PROG} --users users.toml --sftp-path /srv/sftp"),
    ),
)


@hangups_held()
def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments and serve; return the exit status. Raises BadInput."""
    keep_code()
    values = COMMAND.parse(arguments)

    def read() -> WebSettings:
        return load(WebSettings, values["config"], values)

    settings = read()
    with needed("web", "cheroot", "argon2", "pyotp"):
        import cheroot  # noqa: F401
    from pysftpserver.web.server import serve as serve_until_told

    serve_until_told(settings, user_storages(settings, settings.durable, False), read, RuleOf())
    return 0


class RuleOf:
    """Names the rule of a site file that has refused a record of an audit log; "" if none does."""

    def __init__(self) -> None:
        self._sites: dict[str, tuple[int, Site]] = {}

    def __call__(self, path: str, record: dict[str, Any]) -> str:
        from pysftpserver.site import explain, file

        try:
            changed = os.stat(path).st_mtime_ns
            known = self._sites.get(path)
            if known is None or known[0] != changed:
                known = self._sites[path] = changed, file.read(path)
            return explain.refusing(known[1], record)
        except (OSError, BadInput):
            return ""


def own_options() -> str:
    """The table of the options that are not settings, for the page."""
    return markdown_table(Command(PROG, "", "", (CONFIG,)))


main = common.main_of(PROG, serve)
