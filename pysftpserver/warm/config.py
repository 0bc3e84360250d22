"""The settings of pysftp-warm. What may not enter: I/O, how a setting takes effect."""

from __future__ import annotations

import os

from pysftpserver.service.settings import COUNT, FILE, LogSettings, Setting, optional, seconds
from pysftpserver.warm.client import NAME, OWN, SHARED


class ServerSettings(LogSettings):
    """The settings of pysftp-warm."""

    audit = None  # an option of each session's command
    audit_chain = None  # type: ignore[assignment] # as well
    allow_root = None  # type: ignore[assignment] # root's resident becomes the account of each client
    socket = Setting(
        optional(FILE),
        None,
        "Listen on this socket, in a directory that belongs to this account and that no other may write. "
        "For another than the default, set PYSFTP_WARM in the environment of the commands.",
        unset="/run/pysftp-warm/socket for root, /run/user/UID/pysftp-warm/socket for other accounts",
    )
    max_connections = Setting(
        COUNT, 1000, "Maximum number of sessions; further commands serve by themselves.", reloads=True
    )
    max_per_user = Setting(
        COUNT,
        100,
        "Maximum number of sessions of one account; further commands serve by themselves.",
        reloads=True,
    )
    login_grace = Setting(
        seconds(), 5.0, "Close a connection that has not handed its session over after this many seconds."
    )

    def place(self) -> str:
        """The path of the socket."""
        uid = os.geteuid()
        return self.socket or f"{OWN % uid if uid else SHARED}/{NAME}"
