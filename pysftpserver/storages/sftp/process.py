"""OpenSSH's `ssh` as the transport: a child process, two pipes, and its error output when it fails.

It reads ssh_config, keys, agents and known hosts as the user's own `ssh` does, and this package needs no SSH
in Python. A password reaches it through SSH_ASKPASS: a script in memory prints another file in memory, so
that the password is not in any file on disk, environment or command line. What may not enter: packets, paths.
Facts: ssh(1) on SSH_ASKPASS_REQUIRE, memfd_create(2), execve(2) on ETXTBSY, prctl(2).
"""

from __future__ import annotations

import fcntl
import os
import signal
import time

from pysftpserver.failures import one_line
from pysftpserver.host.linux import end_with_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PIPE = 1 << 20  # bytes; the kernel allows this to every user
MOST_WORDS = 4096  # bytes of ssh's last output
LAST_LINES = 2
ENDING = 1.0  # seconds for ssh to end by itself
PAUSE = 0.01  # seconds between two checks whether it has
HIDDEN = ("SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "SSH_ORIGINAL_COMMAND", "DISPLAY")
# Answers only questions for a password or a passphrase, and not whether to trust a host.
ANSWER = '#!/bin/sh\ncase "$1" in *[Pp]assword*|*[Pp]assphrase*) exec cat {};; esac\nexit 1\n'


class SSH:
    """A running ssh. reading, writing: descriptors of its output and input, which do not block.

    Raises OSError if it cannot be started.
    """

    def __init__(self, command: Sequence[str], password: str | None) -> None:
        self._words = bytearray()
        self._is_waited_for = False
        opened: list[int] = []
        try:
            theirs_in, self.writing = _pipe(opened)
            self.reading, theirs_out = _pipe(opened)
            self.errors, theirs_err = _pipe(opened)
            ours = [self.reading, self.writing, self.errors]
            environment = {name: value for name, value in os.environ.items() if name not in HIDDEN}
            if password is not None:
                script = _script(password, opened)
                environment |= {"SSH_ASKPASS": script, "SSH_ASKPASS_REQUIRE": "force"}
            self.pid = _start(command, environment, (theirs_in, theirs_out, theirs_err))
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise
        # The files that the askpass script reads have to stay until the login is over.
        self._secrets = opened[6:]
        for descriptor in opened[:6]:
            if descriptor not in ours:
                os.close(descriptor)
        for descriptor in ours:
            os.set_blocking(descriptor, False)

    def forget_password(self) -> None:
        """The login is over: nothing needs the password any more."""
        for descriptor in self._secrets:
            os.close(descriptor)
        self._secrets = []

    def listen(self) -> None:
        """Read its standard error, and keep the end of it: a full pipe would block ssh."""
        try:
            while part := os.read(self.errors, MOST_WORDS):
                self._words = (self._words + part)[-MOST_WORDS:]
        except OSError:
            pass  # nothing, for now

    def words(self) -> str:
        """Its last output in one line; "" for none."""
        self.listen()
        lines = [line.strip() for line in self._words.decode("utf-8", "replace").splitlines()]
        return one_line("; ".join([line.rstrip(".") for line in lines if line][-LAST_LINES:]))

    def close_pipes(self) -> None:
        """Close the pipes, because ssh has to end or because another process has them as well."""
        for descriptor in {self.reading, self.writing, self.errors} - {-1}:
            os.close(descriptor)
        self.reading = self.writing = self.errors = -1

    def end(self) -> None:
        """Close the pipes, which ends it; kill it if that is not enough. May be called again."""
        self.forget_password()
        self.close_pipes()
        if self._is_waited_for:
            return
        self._is_waited_for = True
        deadline = time.monotonic() + ENDING
        try:
            while not os.waitpid(self.pid, os.WNOHANG)[0]:
                if time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGKILL)
                    os.waitpid(self.pid, 0)
                    return
                time.sleep(PAUSE)
        except OSError:
            pass  # a sandbox forbids signals; the kernel ends ssh when this process has ended


def _pipe(opened: list[int]) -> tuple[int, int]:
    ends = os.pipe2(os.O_CLOEXEC)
    opened += ends
    try:
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE)
    except OSError:
        pass  # this user has many pipes: smaller ones are slower, and work
    return ends


def _script(password: str, opened: list[int]) -> str:
    """The path of a program that prints the password to ssh."""
    secret = _in_memory("password", password.encode("utf-8", "surrogateescape") + b"\n", opened)
    return _in_memory("askpass", ANSWER.format(secret).encode(), opened)


def _in_memory(name: str, content: bytes, opened: list[int]) -> str:
    """The path of a new file in memory with that content."""
    writing = os.memfd_create(name)
    try:
        os.write(writing, content)
        # A file that is open for writing cannot be run.
        reading = os.open(f"/proc/self/fd/{writing}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writing)
    opened.append(reading)
    return f"/proc/{os.getpid()}/fd/{reading}"


def _start(command: Sequence[str], environment: dict[str, str], standard: tuple[int, int, int]) -> int:
    """Start a program in a new session, with these descriptors as its standard ones; return its pid.

    Raises OSError.
    """
    has_one_thread = len(os.listdir("/proc/self/task")) == 1
    parent = os.getpid()
    told, telling = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if not pid:
        try:
            os.setsid()  # Ctrl-C on a terminal is for the client, and ssh must not ask for passwords there
            if has_one_thread:  # the signal comes when the thread ends that started it
                end_with_parent(parent, signal.SIGTERM)
            # They may be 0 to 2 themselves: move them out of the way first, then into their places.
            for number, descriptor in enumerate(
                [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in standard]
            ):
                os.dup2(descriptor, number)
            for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execvpe(command[0], list(command), environment)
        except OSError as error:
            os.write(telling, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(telling)
    try:
        failed = os.read(told, 16)
    finally:
        os.close(told)
    if failed:
        os.waitpid(pid, 0)
        raise OSError(int(failed), os.strerror(int(failed)))
    return pid
