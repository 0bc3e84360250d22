"""A real ``sshd`` on a free port of loopback, with keys and a configuration of its own.

It works for root and for an ordinary user, who then logs in as themselves, and is ended by its process id.
Facts: sshd_config(5), sshd(8) on authorized_keys.
"""

from __future__ import annotations

import enum
import os
import pwd
import shlex
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.processes import Program, descendants, is_alive, program
from tests.support.waiting import until

HOST = "127.0.0.1"
# The alias that the clients' ssh_config gives to the sshd of the test class.
TARGET = "server"


class Way(enum.Enum):
    """The three ways to put an SFTP server behind sshd."""

    AUTHORIZED_KEYS = 'command="..." before a key in authorized_keys'
    FORCE_COMMAND = "ForceCommand in sshd_config"
    SUBSYSTEM = "Subsystem in sshd_config"


class Sshd:
    """One sshd in the foreground, with a server under test behind it.

    Args:
        directory: where keys, configuration and log go; must exist.
        way: how the server is started.
        argv: the server's command line.
    """

    def __init__(self, directory: Path, way: Way, argv: Sequence[str]) -> None:
        self.directory = directory
        self.way = way
        self.user = pwd.getpwuid(os.getuid()).pw_name  # whatever $LOGNAME says
        self.client_key = directory / "client_key"
        self.host_key = directory / "host_key"
        self.ssh_config = directory / "ssh_config"
        self.known_hosts = directory / "known_hosts"
        self.port = 0
        self._log = directory / "sshd.log"
        self._authorized_keys = directory / "authorized_keys"
        self._process: Program | None = None
        for key in (self.client_key, self.host_key):
            subprocess.run(
                [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)],
                check=True,
                stdin=subprocess.DEVNULL,
            )
        self._write_authorized_keys(argv if way is Way.AUTHORIZED_KEYS else None)
        self._argv = list(argv)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def fingerprint(self) -> str:
        """Return the client's key as ssh-keygen shows it: SHA256:..."""
        argv = [program("ssh-keygen"), "-lf", str(self.client_key)]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[1]

    def log(self) -> str:
        """Return what sshd has logged so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def serve(self, argv: Sequence[str]) -> None:
        """Give the connections from now on another server: sshd reads authorized_keys each time."""
        assert self.way is Way.AUTHORIZED_KEYS
        self._write_authorized_keys(argv)

    def start(self) -> None:
        """Start sshd and return when it accepts connections."""
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        config = str(self.directory / "sshd_config")
        for _ in range(5):
            self.port = free_port()
            self._write_sshd_config()
            # It gives its time zone to the servers, whose listings have dates.
            zone = {**os.environ, "TZ": "UTC"}
            self._process = Program([program("sshd"), "-D", "-e", "-f", config], self._log, env=zone)
            # Another process may take the port between our look and sshd's bind: then sshd ends.
            if until(self._listens_or_ended, "sshd listens or ends") == "listens":
                break
        else:
            raise RuntimeError(f"sshd does not start:\n{self.log()}")
        self._write_client_files()

    def stop(self) -> None:
        """End the sshd that was started, and the sessions that it started."""
        if self._process is None:
            return
        sessions = [pid for pid, _, _ in descendants(self._process.pid)]
        self._process.stop()
        self._process = None
        # Not killed: each has a file in /tmp, with what it tells of the login, that it removes at its end.
        for pid in sessions:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        try:
            until(lambda: not any(map(is_alive, sessions)), "the sessions have ended")
        finally:
            for pid in filter(is_alive, sessions):
                os.kill(pid, signal.SIGKILL)

    def cut(self) -> None:
        """End all connections, as if their clients' network had gone; new ones are accepted."""
        for pid, name, _ in descendants(self.pid):
            if name.startswith("sshd"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def servers(self) -> list[int]:
        """Return the process ids of the servers that sshd has running."""
        return [
            pid
            for pid, name, has_children in descendants(self.pid)
            if not name.startswith("sshd") and not has_children
        ]

    def _listens_or_ended(self) -> str:
        assert self._process is not None
        has_ended = self._process.poll() is not None
        # By its own word: at its port, the sshd of another test may listen.
        if f"Server listening on {HOST} port {self.port}." in self._process.output():
            return "listens"
        return "ended" if has_ended else ""

    def _write_authorized_keys(self, argv: Sequence[str] | None) -> None:
        public = self.client_key.with_suffix(".pub").read_text().strip()
        if argv is None:
            line = public
        else:
            quoted = shlex.join(argv).replace('"', '\\"')
            line = f'restrict,command="{quoted}" {public}'
        self._authorized_keys.write_text(line + "\n")

    def _write_sshd_config(self) -> None:
        # A forced command answers for any subsystem, but sshd wants one defined. /bin/false shows
        # that the forced command did answer.
        subsystem = shlex.join(self._argv) if self.way is Way.SUBSYSTEM else "/bin/false"
        lines = [
            f"Port {self.port}",
            f"ListenAddress {HOST}",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {self._authorized_keys}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UseDNS no",
            "MaxStartups 100",
            "MaxSessions 100",
            "LogLevel VERBOSE",
            "ExposeAuthInfo yes",
            # Under sshd bash reads the user's ~/.bashrc, whatever that prints and however long it takes,
            # but not when it seems to be started by another shell.
            "SetEnv SHLVL=1",
            f"Subsystem sftp {subsystem}",
        ]
        if self.way is Way.FORCE_COMMAND:
            lines.append(f"ForceCommand {shlex.join(self._argv)}")
        (self.directory / "sshd_config").write_text("\n".join(lines) + "\n")

    def _write_client_files(self) -> None:
        key = self.host_key.with_suffix(".pub").read_text().strip()
        self.known_hosts.write_text(f"[{HOST}]:{self.port} {key}\n")
        write_ssh_config(
            self,
            # The fastest ones: hundreds of connections are made.
            "Ciphers aes128-gcm@openssh.com",
            "KexAlgorithms curve25519-sha256",
        )


def write_ssh_config(login: Any, *more: str) -> None:
    """Write what OpenSSH's clients need for a login: its port, user, client_key and known_hosts."""
    lines = [
        f"Host {TARGET}",
        f"HostName {HOST}",
        f"Port {login.port}",
        f"User {login.user}",
        f"IdentityFile {login.client_key}",
        "IdentitiesOnly yes",
        "IdentityAgent none",
        f"UserKnownHostsFile {login.known_hosts}",
        "GlobalKnownHostsFile /dev/null",
        "StrictHostKeyChecking yes",
        "BatchMode yes",
        "LogLevel ERROR",
        *more,
    ]
    login.ssh_config.write_text("\n".join(lines) + "\n")
