"""A plugin that tries to get out of its sandbox, served by the real door: ``python -m tests.security.guest``.

Arguments: the jail, a log file, and what run() is told of the sandbox ("on" or "off"). A client names what
is to be tried as the path of a READLINK, and the reply says how it went. Each attempt takes its arguments
from the path: ``/read /some/file``. What may not enter: anything that harms a host without a sandbox; every
path that is written comes from the test, and lies in its temporary directory.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGCHLD

from pysftpserver.engine.log import SFTPLog, file_sink
from pysftpserver.host import accounts
from pysftpserver.server import SFTPServer
from pysftpserver.virtualchroot import SFTPServerVirtualChroot

IO_URING_SETUP = 425
PR_GET_NO_NEW_PRIVS = 39
PROGRAM = Path("/bin/true").read_bytes()
ATTEMPTS: dict[str, Callable[..., object]] = {}


def attempt(function: Callable[..., object]) -> Callable[..., object]:
    """Add a function to what can be tried."""
    ATTEMPTS[function.__name__] = function
    return function


@attempt
def read(path: str) -> object:
    with open(path, "rb") as file:
        return len(file.read(10))


@attempt
def write(path: str) -> object:
    with open(path, "ab") as file:
        return file.write(b"x")


@attempt
def create(path: str) -> object:
    return os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


@attempt
def listing(path: str) -> object:
    return os.listdir(path)


@attempt
def truncate(path: str) -> object:
    return os.truncate(path, 1)


@attempt
def remove(path: str) -> object:
    return os.unlink(path)


@attempt
def mkdir(path: str) -> object:
    return os.mkdir(path)


@attempt
def rmdir(path: str) -> object:
    return os.rmdir(path)


@attempt
def rename(old: str, new: str) -> object:
    return os.rename(old, new)


@attempt
def link(old: str, new: str) -> object:
    return os.link(old, new)


@attempt
def symlink(path: str) -> object:
    return os.symlink("x", path)


@attempt
def mkfifo(path: str) -> object:
    return os.mkfifo(path)


@attempt
def copy(old: str, new: str) -> object:
    return shutil.copyfile(old, new)


@attempt
def execute(path: str) -> object:
    return subprocess.run([path], check=True, capture_output=True).returncode


@attempt
def run_shell(_: str) -> object:
    return subprocess.run("true", shell=True, check=True).returncode


@attempt
def execute_from_memory(path: str) -> object:
    """Start a program that is in no directory."""
    descriptor = os.memfd_create("program")
    os.write(descriptor, PROGRAM)
    try:
        pid = os.fork()
    except PermissionError:  # then without a child
        os.execve(descriptor, ["true"], {})
    if not pid:
        try:
            os.execve(descriptor, ["true"], {})
        finally:
            os._exit(99)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(descriptor)
    if status == 99:
        raise PermissionError(13, "refused")
    return status


@attempt
def limits_of(pid: str) -> object:
    """prlimit(2), which can also set a limit that ends the process."""
    return len(resource.prlimit(int(pid), resource.RLIMIT_CPU))


@attempt
def own_limits(_: str) -> object:
    return len(resource.getrlimit(resource.RLIMIT_NOFILE))


@attempt
def pair_of_others(_: str) -> object:
    one, other = socket.socketpair(socket.AF_INET)
    return one, other


@attempt
def no_new_privileges(_: str) -> object:
    return ctypes.CDLL(None).prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)


@attempt
def tcp_connect(port: str) -> object:
    with socket.create_connection(("127.0.0.1", int(port)), timeout=5):
        return "connected"


@attempt
def tcp_listen(_: str) -> object:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        return "listening"


@attempt
def tcp6(_: str) -> object:
    with socket.socket(socket.AF_INET6):
        return "a socket"


@attempt
def udp_send(port: str) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"out", ("127.0.0.1", int(port)))


@attempt
def netlink(_: str) -> object:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW):
        return "a socket"


@attempt
def io_uring(_: str) -> object:
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(
        IO_URING_SETUP, 1, ctypes.create_string_buffer(120)
    )
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return os.close(descriptor)


@attempt
def local_socket(_: str) -> object:
    one, other = socket.socketpair()
    with one, other:
        return one.send(b"x")


@attempt
def connect_local(path: str) -> object:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect(path)


@attempt
def connect_abstract(name: str) -> object:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect("\0" + name)


@attempt
def signal(pid: str) -> object:
    return os.kill(int(pid), 0)


@attempt
def read_memory(pid: str) -> object:
    return os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))


@attempt
def thread(path: str) -> object:
    """What a thread that was started afterwards may read."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(read, path).result()


@attempt
def child(way: str) -> object:
    """Start a process by a system call. Ask for vfork only where it is refused: its child needs our stack."""
    numbers = {"x86_64": {"clone": 56, "fork": 57, "vfork": 58}, "aarch64": {"clone": 220}}
    number = {"clone3": 435, **numbers[os.uname().machine]}.get(way)
    if number is None:
        raise PermissionError("there is no such call here")
    words = (ctypes.c_uint64 * 8)(0, 0, 0, 0, SIGCHLD)  # struct clone_args
    arguments = {"clone": (SIGCHLD, 0, 0, 0, 0), "clone3": (words, ctypes.sizeof(words))}
    call = ctypes.CDLL(None, use_errno=True).syscall
    pid = call(number, *arguments.get(way, ()))
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if not pid:
        os._exit(0)
    return os.waitpid(pid, 0)[1]


@attempt
def look(path: str) -> object:
    return os.stat(path).st_size


@attempt
def chmod(path: str) -> object:
    return os.chmod(path, 0o640)


@attempt
def names(_: str) -> object:
    return accounts.username(0), accounts.groupname(0), accounts.username(1)


@attempt
def hour(_: str) -> object:
    return time.strftime("%H %Z", time.localtime(0))


class Guest(SFTPServerVirtualChroot):
    """The jail, with a way to run the attempts above."""

    def readlink(self, path: bytes) -> bytes:
        name, *arguments = os.fsdecode(path).lstrip("/").split(" ")
        if name not in ATTEMPTS:
            return super().readlink(path)
        try:
            return f"done: {ATTEMPTS[name](*(arguments or ['']))}".encode()
        except Exception as error:
            return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}".encode()


def main() -> int:
    """Serve standard input and output."""
    jail, log, sandbox = sys.argv[1:4]
    server = SFTPServer(
        Guest(jail), log=SFTPLog(file_sink(Path(log)), 4), read_only="read-only" in sys.argv[4:]
    )
    return server.run(sandbox=sandbox == "on")


if __name__ == "__main__":
    sys.exit(main())
