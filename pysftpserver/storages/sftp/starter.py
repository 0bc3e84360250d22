"""Starts `ssh` for a process that can no longer start programs: a helper from before its sandbox.

The sandboxed process can have it start one command, which was given before, any number of times. What may not
enter: packets, paths, what the command is.
Facts: unix(7) on SCM_RIGHTS.
"""

from __future__ import annotations

import os
import signal
import socket

from pysftpserver.storages.sftp.process import SSH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

START, FORGET, END = b"s", b"f", b"e"
PATIENCE = 10.0  # seconds for a program to be started, which takes milliseconds


class Starter:
    """A process that starts a command, and ends with this process. Raises OSError."""

    def __init__(self, command: Sequence[str], password: str | None) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._socket.settimeout(PATIENCE)
            self._pid = os.fork()
            if not self._pid:
                try:
                    _serve(theirs, command, password)
                finally:
                    os._exit(1)

    def start(self) -> SSH:
        """Start the command, and end the one that was started before. Raises OSError."""
        self.tell(START)
        told, descriptors, _, _ = socket.recv_fds(self._socket, 16, 3)
        if len(descriptors) != 3:
            number = int(told) if told.isdigit() else 0
            raise OSError(number, os.strerror(number)) if number else BrokenPipeError
        return _Started(self, descriptors)

    def tell(self, word: bytes) -> None:
        """Send a word to the process. Raises OSError if it is gone."""
        self._socket.sendall(word)

    def close(self) -> None:
        """End the process and what it has started. May be called again."""
        if self._socket.fileno() >= 0:
            self._socket.close()
            os.waitpid(self._pid, 0)


class _Started(SSH):
    """An ssh that the other process has started and will end."""

    def __init__(self, starter: Starter, descriptors: Sequence[int]) -> None:
        self._words = bytearray()
        self._starter = starter
        self.reading, self.writing, self.errors = descriptors
        for descriptor in descriptors:
            os.set_blocking(descriptor, False)

    def forget_password(self) -> None:
        self._tell(FORGET)

    def end(self) -> None:
        self.close_pipes()
        self._tell(END)

    def _tell(self, word: bytes) -> None:
        try:
            self._starter.tell(word)
        except OSError:
            pass  # it is gone, and ssh with it


def _serve(talk: socket.socket, command: Sequence[str], password: str | None) -> None:
    """Serve requests until the other side is gone."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for name in os.listdir("/proc/self/fd"):  # such as those of the client, who has to notice the end
        if int(name) != talk.fileno():
            try:
                os.close(int(name))
            except OSError:
                pass  # that of the listing
    ssh: SSH | None = None
    while True:
        word = talk.recv(1)
        if word == FORGET and ssh is not None:
            ssh.forget_password()
            continue
        if ssh is not None:
            ssh.end()
            ssh = None
        if not word:
            os._exit(0)
        if word == START:
            try:
                ssh = SSH(command, password)
            except OSError as error:
                talk.sendall(str(error.errno or 0).encode())
                continue
            socket.send_fds(talk, [START], [ssh.reading, ssh.writing, ssh.errors])
            ssh.close_pipes()
