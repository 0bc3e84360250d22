"""A part of systemd, played by the tests: a socket unit, and a service of Type=notify with NotifyAccess=main.

There is no systemd in charge of the machines that tests run on. What is real here: the socket, which has
descriptor 3 and LISTEN_FDS, the datagrams of sd_notify(3) with their senders' credentials, and the signals.
Facts: sd_listen_fds(3), sd_notify(3), unix(7) on SO_PASSCRED.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from pathlib import Path

from tests.support.cases import InAPlace
from tests.support.forked import environment
from tests.support.processes import Program
from tests.support.waiting import PATIENCE

HOST = "127.0.0.1"
CREDENTIALS = struct.Struct("3i")
PASS = 'exec 3<&"$0"; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'


class Systemd:
    """A service and its socket. main: the process number of the main process, as systemd knows it."""

    def __init__(self, case: InAPlace, argv: list[str], log: Path, has_socket: bool = True) -> None:
        name = case.place / "notify"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        case.addCleanup(self._notify.close)
        self._notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._notify.bind(str(name))
        self._notify.settimeout(PATIENCE)
        variables = environment(NOTIFY_SOCKET=str(name), WATCHDOG_USEC="2000000")
        how = {"env": variables, "forks": False, "cwd": case.place}
        self.heard: list[str] = []
        self.ended: list[int] = []
        if has_socket:
            self.socket = socket.create_server((HOST, 0))
            case.addCleanup(self.socket.close)
            self.port = int(self.socket.getsockname()[1])
            passed = self.socket.fileno()
            argv = ["/bin/bash", "-c", PASS, str(passed), *argv]
            self.first = Program(argv, log, pass_fds=(passed, 3) if passed != 3 else (3,), **how)
        else:
            self.first = Program(argv, log, **how)
        self.log = log
        self.main = self.first.pid
        case.addCleanup(self.stop)

    def hear(self, word: str) -> None:
        """Wait for a message of the main process; those of other processes are not heeded."""
        while True:
            data, control, _, _ = self._notify.recvmsg(1000, socket.CMSG_SPACE(CREDENTIALS.size))
            sender = CREDENTIALS.unpack(control[0][2])[0]
            if sender != self.main:
                continue
            for line in data.decode().splitlines():
                self.heard.append(line)
                if line.startswith("MAINPID="):
                    self.ended.append(self.main)
                    self.main = int(line.partition("=")[2])
                if line.startswith(word):
                    return

    def signal(self, number: int) -> None:
        """systemctl kill --kill-whom=main."""
        os.kill(self.main, number)

    def stop(self) -> None:
        """systemctl stop, of KillMode=mixed: the main process has to end what is left."""
        main = os.pidfd_open(self.main)
        self.first.poll()
        if self.main != self.first.pid or self.first.poll() is None:
            signal.pidfd_send_signal(main, signal.SIGTERM)
        poll = select.poll()
        poll.register(main, select.POLLIN)
        has_ended = poll.poll(PATIENCE * 1000)
        os.close(main)
        self.first.close()
        assert has_ended, f"it does not end:\n{self.log.read_text()}"
