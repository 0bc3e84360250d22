"""Starts the process that delivers a site's events, for a session that is about to enter its sandbox.

What may not enter: events, receivers.
"""

from __future__ import annotations

import contextlib
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.site.ledger import Ledger

OF_CLIENTS = ("SSH_", "LC_", "LANG")  # variables that sshd sets, or Debian's takes from clients


def start_deliverer(ledger: Ledger, site_file: str, module: str) -> None:
    """Start a process that delivers the site's events until nothing is left to do, unless one is running.

    It is started before a sandbox is entered, and is not a child of the session. module: of the command to
    run. The session has to be open: a deliverer that is stopping looks for sessions once more after it has
    given up its place.
    """
    if ledger.has_deliverer():
        return
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = (
        f"import os, sys; os.fork() and os._exit(0); sys.path.insert(0, {root!r}); "
        f"from {module} import deliver_for_sessions; deliver_for_sessions({os.path.abspath(site_file)!r})"
    )
    nowhere = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in range(3)]
    # It goes on for others' sessions, so it must not get variables from this session's client.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OF_CLIENTS)}
    environment["LC_ALL"] = "C.UTF-8"
    # -P: the directory where a session starts may be one that clients can write to.
    command = [sys.executable, "-P", "-c", code]
    with contextlib.suppress(OSError):  # then events wait for the next session, or for the service
        process = os.posix_spawn(sys.executable, command, environment, file_actions=nowhere, setsid=True)
        os.waitpid(process, 0)
