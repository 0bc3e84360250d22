"""Python programs as forks of one process that has imported our commands: they start in a tenth of the time.

What a program is given (arguments, environment, directory, umask, standard files) is the same as in a fresh
process. What Python reads when it starts (PYTHON* variables, the locale) is not: start such a test's program
with subprocess, and those that measure how a program starts.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

IMPORTED = (
    "pysftpserver.cli.pysftpjail",
    "pysftpserver.cli.pysftpserver",
    "pysftpserver.host.sandbox",
    "pysftpserver.stdio",
    "pysftpserver.storage",
    "pysftpserver.uploads.atomic",
)
MOST = 1 << 18  # bytes of a request
_servers: dict[int, tuple[socket.socket, subprocess.Popen[bytes]]] = {}  # by the process that started them


def _server() -> socket.socket:
    """The socket to this process's server, which ends when the socket is closed."""
    if os.getpid() not in _servers:
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forked"],
                stdin=theirs.fileno(),
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        _servers[os.getpid()] = ours, process
        atexit.register(_end, ours, process)
    return _servers[os.getpid()][0]


def _end(ours: socket.socket, process: subprocess.Popen[bytes]) -> None:
    ours.close()
    process.wait()


class Forked:
    """A running program, with what tests use of subprocess.Popen.

    Args:
        source: the program's text.
        argv: its sys.argv.
        stdin, stdout, stderr: descriptors, files, sockets or subprocess.DEVNULL.
            stderr may be subprocess.PIPE, for communicate().
        cwd: where it starts; None is this process's directory.
        env: its environment; None is this process's.
    """

    def __init__(
        self,
        source: str,
        argv: Sequence[str],
        stdin: Any = 0,
        stdout: Any = 1,
        stderr: Any = 2,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.returncode: int | None = None
        self._status, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile() if stderr == subprocess.PIPE else None
        umask = os.umask(0o077)
        os.umask(umask)
        request = {
            "source": source,
            "argv": list(argv),
            "cwd": os.fspath(cwd or os.getcwd()),
            "env": dict(os.environ if env is None else env),
            "umask": umask,
        }
        with theirs, open(os.devnull, "r+b") as nothing:
            files = [
                nothing if one == subprocess.DEVNULL else one
                for one in (stdin, stdout, self._errors or stderr)
            ]
            descriptors = [one if isinstance(one, int) else one.fileno() for one in (*files, theirs)]
            socket.send_fds(_server(), [json.dumps(request).encode()], descriptors)
        self.pid = int.from_bytes(self._status.recv(8), "big")

    def communicate(self, timeout: float | None = None) -> tuple[None, bytes | None]:
        """Wait for its end; what it wrote to standard error. Raises subprocess.TimeoutExpired."""
        self.wait(timeout)
        if self._errors is None:
            return None, None
        with self._errors:
            self._errors.seek(0)
            errors, self._errors = self._errors.read(), None
        return None, errors

    def poll(self) -> int | None:
        """Its exit status, negative for a signal, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit status. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = int.from_bytes(self._status.recv(8), "big", signed=True)
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.send_signal(signal.SIGKILL)


Program = Forked | subprocess.Popen[bytes]


def start(argv: Sequence[str | os.PathLike[str]], **how: Any) -> Program:
    """Start a command line: as a fork if it is this interpreter with a program, otherwise as it is."""
    words = [os.fspath(word) for word in argv]
    if words[:2] == ["/usr/bin/env", f"PYTHONPATH={ROOT}"]:  # processes.command()
        del words[:2]
    if words[0] != sys.executable:
        return subprocess.Popen(argv, **how)
    if words[1] == "-c":
        return Forked(words[2], ["-c", *words[3:]], **how)
    if words[1] == "-m":
        return Forked(f"import runpy; runpy.run_module({words[2]!r}, run_name='__main__')", words[2:], **how)
    return Forked(Path(words[1]).read_text(), words[1:], **how)


def _serve() -> tuple[str, dict[str, Any]]:
    """Fork for each request; the forks return, with a program and its globals, and this process does not."""
    control = socket.socket(fileno=os.dup(0))
    running: dict[int, tuple[int, socket.socket]] = {}  # by pidfd
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != control.fileno():
                poll.unregister(ready)
                pid, status = running.pop(ready)
                os.close(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(OSError), status:  # the test may have gone on without it
                    status.sendall(code.to_bytes(8, "big", signed=True))
                continue
            data, files, _, _ = socket.recv_fds(control, MOST, 4)
            if not data:
                os._exit(0)
            pid = os.fork()
            if pid == 0:
                return _become(json.loads(data), files)
            status = socket.socket(fileno=files.pop())
            for descriptor in files:
                os.close(descriptor)
            status.sendall(pid.to_bytes(8, "big"))
            pidfd = os.pidfd_open(pid)
            running[pidfd] = pid, status
            poll.register(pidfd, select.POLLIN)


def _become(request: dict[str, Any], files: list[int]) -> tuple[str, dict[str, Any]]:
    for number in range(3):
        os.dup2(files[number], number)
    os.closerange(3, 1 << 10)
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.argv[:] = request["argv"]
    return request["source"], {"__name__": "__main__"}


def _run(source: str, names: dict[str, Any]) -> int:
    try:
        exec(source, names)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    for module in IMPORTED:
        __import__(module)
    status = _run(*_serve())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # tidying up costs more than all that a short session does
