"""Python programs as forks of a process that has already done their imports, which take up to a second.

Each command of bin/ has such a process in each process of tests, from when a test first starts it; programs
of tests share one. These have one thread, so that no fork inherits a lock that is never released. A fork has
the arguments, environment, directory, umask, limits and standard files that a new process would have. It does
not show that the interpreter starts, or how much memory a command needs: tests of that use ``forks=False``.
Facts: unix(7), cmsg(3), the source of subprocess.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

Argument = str | bytes | os.PathLike[str]
BEFORE = ["/usr/bin/env", f"PYTHONPATH={ROOT}"]  # as in processes.command()
#: What a command imports once it knows what to do; "" is for programs of tests.
LATER = {
    "": """pysftpserver.cli.parser pysftpserver.cli.pysftpjail pysftpserver.cli.pysftpserver
        pysftpserver.hook pysftpserver.host.linux pysftpserver.host.sandbox pysftpserver.stdio
        pysftpserver.storage pysftpserver.uploads.atomic pysftpserver.warm.client""",
    "pysftpd": """asyncssh asyncio encodings.idna pysftpserver.cli.session pysftpserver.cli.title
        pysftpserver.people.file_users pysftpserver.people.redis_users pysftpserver.people.user_storages
        pysftpserver.service.logthread pysftpserver.sshd.forkserver pysftpserver.sshd.metrics_http
        pysftpserver.sshd.processes pysftpserver.sshd.run_as pysftpserver.sshd.spares
        pysftpserver.storages.by_name pysftpserver.storages.reach pysftpserver.storages.sharing
        pysftpserver.uploads.atomic pysftpserver.virtualchroot""",
    "pysftpctl": """asyncssh.saslprep pysftpserver.people.file_editing pysftpserver.people.keys
        pysftpserver.people.redis_editing pysftpserver.people.user_storages""",
    "pysftpmongo": """pysftpserver.cli.parser pysftpserver.mongostorage pysftpserver.storages.embedded
        pysftpserver.storages.mongo.gc pysftpserver.stdio pysftpserver.host.sandbox""",
    "pysftpremo": """encodings.ascii encodings.idna getpass pysftpserver.cli.parser
        pysftpserver.cli.pysftpremo_client pysftpserver.cli.pysftpremo_keys pysftpserver.cli.pysftpremo_serve
        pysftpserver.remo.app pysftpserver.remo.client pysftpserver.remo.shell pysftpserver.remo.terminal
        pysftpserver.storages.by_name pysftpserver.storages.reach pysftpserver.storages.sharing""",
    "pysftplab": """encodings.idna pysftpserver.host.linux pysftpserver.laboratory.client
        pysftpserver.laboratory.passwords pysftpserver.laboratory.server
        pysftpserver.laboratory.services.chat pysftpserver.laboratory.services.clock
        pysftpserver.laboratory.services.echo pysftpserver.laboratory.services.files
        pysftpserver.laboratory.services.supplied pysftpserver.laboratory.terminal
        pysftpserver.service.terminal pysftpserver.storages.by_name pysftpserver.storages.reach
        pysftpserver.storages.sharing pysftpserver.uploads.files""",
    "pysksync": """encodings.idna encodings.utf_8_sig pysftpserver.cli.pysksync_cert
        pysftpserver.cli.pysksync_users pysftpserver.service.terminal pysftpserver.sksync.certificates
        pysftpserver.sksync.client pysftpserver.sksync.jsontext pysftpserver.sksync.report
        pysftpserver.sksync.server pysftpserver.sksync.srp pysftpserver.sksync.useredit
        pysftpserver.sksync.users pysftpserver.storages.by_name pysftpserver.virtualchroot""",
}
MOST = 1 << 18  # bytes of a request
NUMBER = struct.Struct("q")
END = struct.Struct("qdd")  # exit status, processor time: user and sys
_servers: dict[tuple[int, str], socket.socket] = {}  # by the process that started them, and the command
_starting = threading.Lock()
#: Processor time of the forks that have ended; getrusage(2) reports it only after their parent has ended.
spent = {"user": 0.0, "sys": 0.0}


def _server(command: str) -> socket.socket:
    """The socket to the forking process, which ends when the socket is closed."""
    with _starting:
        if (os.getpid(), command) not in _servers:
            ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST)
            modules = LATER.get(command, "").split()
            if command:
                modules.append(f"pysftpserver.cli.{command.replace('-', '_')}")
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.support.forked", *modules],
                    stdin=theirs.fileno(),
                    cwd=ROOT,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                )
            _servers[os.getpid(), command] = ours
            atexit.register(_end, ours, process)
        return _servers[os.getpid(), command]


def _end(ours: socket.socket, process: subprocess.Popen[bytes]) -> None:
    ours.shutdown(socket.SHUT_RDWR)
    ours.close()
    process.wait()


class Process(subprocess.Popen[Any]):
    """A running program, which ends with the tests, even if these are killed.

    Args:
        argv: its command line. It is a fork if that is this interpreter with a program.
        forks: whether it may be a fork.
        limits: its limits, by the names of setrlimit(2) without RLIMIT_.
        how: further arguments of subprocess.Popen.
    """

    def __init__(
        self,
        argv: Sequence[Argument],
        forks: bool = True,
        limits: Mapping[str, int] | None = None,
        **how: Any,
    ) -> None:
        self._forks, self._limits = forks, dict(limits or {})
        self._end: socket.socket | None = None
        super().__init__(list(map(os.fsdecode, argv)), **how)

    def _execute_child(self, args: list[str], *how: Any) -> None:
        pass_fds, cwd, env = how[3:6]
        stdin, _, _, stdout, _, stderr = handles = how[9:15]
        variables = dict(os.environ if env is None else env)
        program = _program(args, variables) if self._forks and not pass_fds else None
        if program is None:
            limits = [f"--{name.lower()}={most}" for name, most in self._limits.items()]
            before = ["setpriv", "--pdeathsig", "TERM", *(["prlimit", *limits] if limits else [])]
            super()._execute_child([*before, *args], *how)  # type: ignore[misc]
            return
        command, source, argv = program
        request = {
            "source": source,
            "argv": argv,
            "cwd": os.fspath(cwd or os.getcwd()),
            "env": variables,
            "umask": _umask(),
            "limits": self._limits,
            "is_leader": how[20],
        }
        self._end, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        weakref.finalize(self, self._end.close)
        files = [own if one == -1 else one for own, one in enumerate((stdin, stdout, stderr))]
        with theirs:
            socket.send_fds(_server(command), [json.dumps(request).encode()], [*files, theirs.fileno()])
        (self.pid,) = NUMBER.unpack(self._end.recv(NUMBER.size))
        self._child_created = True
        self._close_pipe_fds(*handles)  # type: ignore[attr-defined]

    def poll(self) -> int | None:
        if self._end is None:
            return super().poll()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        if self._end is None:
            return super().wait(timeout)
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        if not poll.poll(None if timeout is None else timeout * 1000):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        # MSG_PEEK leaves it there for other threads, which may wait as well.
        is_news = self.returncode is None
        self.returncode, user, system = END.unpack(self._end.recv(END.size, socket.MSG_PEEK))
        if is_news:
            spent["user"] += user
            spent["sys"] += system
        return self.returncode


def environment(**more: str) -> dict[str, str]:
    """Variables for a command of this checkout, without those of an SSH session around the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def run(
    argv: Sequence[Argument], input: bytes | str | None = None, timeout: float = PATIENCE, **how: Any
) -> subprocess.CompletedProcess[Any]:
    """Run a program with input to its end; return its output. timeout: seconds. how: as for Process."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with Process(argv, **{**pipes, **how}) as process:
        try:
            out, errors = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(argv, process.returncode, out, errors)


def _umask() -> int:
    """The umask of this process; umask(2) could read it only by changing it for all threads."""
    fields = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["Umask"], 8)


def _program(argv: list[str], variables: Mapping[str, str]) -> tuple[str, str, list[str]] | None:
    """(command of bin/ or "", source, sys.argv) of a program that can be a fork, else None."""
    words = argv[len(BEFORE) :] if argv[: len(BEFORE)] == BEFORE else argv
    known = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    # An interpreter reads these variables only when it starts.
    others = [name for name in variables if name[:6] == "PYTHON" and known.get(name) != variables[name]]
    if words[0] != sys.executable or others or (words[1][0] == "-" and words[1] not in ("-c", "-m")):
        return None
    if words[1] == "-c":
        # Only programs that use the MongoDB driver, which takes long to import, are forks of its process.
        return "pysftpmongo" if "mongo" in words[2] else "", words[2], ["-c", *words[3:]]
    if words[1] == "-m":
        return "", f"import runpy; runpy.run_module({words[2]!r}, run_name='__main__')", words[2:]
    script = Path(words[1])
    return script.name if script.parent == ROOT / "bin" else "", script.read_text(), words[1:]


def _serve() -> None:
    """Fork for each request, and report the process id and then the exit status."""
    control = socket.socket(fileno=0)
    running: dict[int, tuple[int, int]] = {}  # (process id, where its status goes), by pidfd
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready:
                poll.unregister(ready)
                pid, end = running.pop(ready)
                _, status, usage = os.wait4(pid, 0)
                _tell(end, END.pack(os.waitstatus_to_exitcode(status), usage.ru_utime, usage.ru_stime))
                os.close(ready)
                os.close(end)
                continue
            data, files, _, _ = socket.recv_fds(control, MOST, 4)
            if not data:
                os._exit(0)
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                os._exit(_run(json.loads(data), files, parent))
            pidfd = os.pidfd_open(pid)
            running[pidfd] = pid, files[3]
            poll.register(pidfd, select.POLLIN)
            for descriptor in files[:3]:
                os.close(descriptor)


def _tell(end: int, what: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # the test has gone on without it
        os.write(end, what)


def _run(request: dict[str, Any], files: list[int], parent: int) -> int:
    """Become the requested program; return its exit status."""
    from pysftpserver.host.linux import end_with_parent

    try:
        end_with_parent(parent, signal.SIGTERM)
        if request["is_leader"]:
            os.setsid()
        _tell(files[3], NUMBER.pack(os.getpid()))  # now its process group can be killed
        for number in range(3):
            os.dup2(files[number], number)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.chdir(request["cwd"])
        os.umask(request["umask"])
        for name, most in request["limits"].items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
        os.environ.clear()
        os.environ.update(request["env"])
        time.tzset()
        tempfile.tempdir = None
        sys.argv[:] = request["argv"]
        sys.stdin = open(0, closefd=False)
        sys.stdout = open(1, "w", closefd=False)
        sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)
        exec(compile(request["source"], sys.argv[0], "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter's end does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError:
            status = status or 120  # as the interpreter does
    return status & 0xFF


if __name__ == "__main__":
    for module in sys.argv[1:]:
        with contextlib.suppress(ImportError):  # a library is not installed
            importlib.import_module(module)
    if "asyncssh" in sys.modules:
        # Validating RSA host keys took a fifth of the time of pysftpd's tests.
        sys.modules["asyncssh"].set_default_skip_rsa_key_validation(True)
    gc.collect()
    gc.freeze()  # forks' garbage collection leaves imported objects alone, so their pages stay shared
    _serve()
