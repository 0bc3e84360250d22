"""pysftp-warm: the resident that serves sessions which sshd starts, without their start-up time."""

from __future__ import annotations

import os

from pysftpserver.cli import common, pysftpjail, pysftpserver
from pysftpserver.cli.options import TOML_CONFIG, Command, load, options_of
from pysftpserver.engine import wire
from pysftpserver.service.hangups import hangups_held
from pysftpserver.service.keeping import keep_code
from pysftpserver.warm.config import ServerSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PROG = "pysftp-warm"
COMMAND = Command(
    PROG,
    description="Serves the sessions of pysftpjail and pysftpserver that sshd starts, from processes with "
    "everything imported, so that each begins sooner. Serves its own account, or every account if root "
    "starts it.",
    epilog="The commands find it by its socket, and serve by themselves without it.",
    examples=(("Serve every account, started by root:", f"{PROG} --max-per-user 20"),),
    options=(TOML_CONFIG, *options_of(ServerSettings)),
)
PLACE = "/usr"  # for a rehearsal: it exists on every host
REHEARSED = b"".join(
    (
        wire.encode_packet(wire.SSH2_FXP_INIT, 3, b""),
        wire.encode_packet(wire.SSH2_FXP_REALPATH, 1, wire.encode_string(b".")),
        wire.encode_packet(wire.SSH2_FXP_STAT, 2, wire.encode_string(b"/")),
    )
)
#: What clients can have run.
COMMANDS = {module.PROG: module.main for module in (pysftpjail, pysftpserver)}


def prepare() -> None:
    """Import what a session may need: a sandboxed session cannot, and others would each do it again."""
    import grp  # noqa: F401
    import pwd  # noqa: F401
    import syslog  # noqa: F401

    import pysftpserver.cli.parser
    import pysftpserver.engine.audit
    import pysftpserver.service.sums
    import pysftpserver.stdio
    import pysftpserver.uploads.atomic
    import pysftpserver.uploads.durable  # noqa: F401
    from pysftpserver.engine import checksums
    from pysftpserver.host.sandbox import load_libgcc

    checksums.load()
    load_libgcc()


def rehearse() -> None:
    """Serve a short session of our own, read-only, without a log.

    The interpreter specializes code as it runs, and memory that is written to is copied for the process.
    """
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.devnull, "wb") as nowhere:
        ours.sendall(REHEARSED)
        ours.shutdown(socket.SHUT_WR)
        for number, descriptor in enumerate((theirs.fileno(), theirs.fileno(), nowhere.fileno())):
            os.dup2(descriptor, number)
        pysftpjail.main(("--log-level", "QUIET", "--no-sandbox", "--read-only", PLACE))


@hangups_held()
def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments and serve; return the exit status. Raises BadInput."""
    keep_code()
    values = COMMAND.parse(arguments)
    from pysftpserver.service.logs import ServiceLog
    from pysftpserver.warm.server import Server

    def settings() -> ServerSettings:
        return load(ServerSettings, values["config"], values)

    prepare()
    found = settings()
    os.environ.clear()  # sessions get their clients' environment
    return Server(found, COMMANDS, ServiceLog(PROG, found), settings, rehearse).run()


main = common.main_of(PROG, serve)
