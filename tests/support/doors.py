"""A server as a process, on sockets, pipes and files, that tests observe from outside.

Nothing here waits for a fixed time: tests wait for a condition, with a deadline. The only fixed time is the
window in which an idle server must not use the processor.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.support import packets as sftp
from tests.support.cases import InAPlace
from tests.support.forked import Argument, Process
from tests.support.packets import Reader, Reply, parse, request, string, u32, u64
from tests.support.waiting import PATIENCE, until

WINDOW = 0.3  # seconds for which an idle server is watched
TICKS = 3  # that an idle server may use in that window, of the kernel's 100 per second
RESIDENT = 20 << 10  # KiB
FILE = string(u32(1))  # the first handle of a session
SERVE = """
import signal, sys
from pysftpserver.server import SFTPServer
from pysftpserver.storage import SFTPServerStorage
signal.signal(signal.SIGUSR1, lambda *_: None)
sys.exit(SFTPServer(SFTPServerStorage(sys.argv[1]), logfile=sys.argv[2]).run())
"""


class Door:
    """A server process, observed from outside. log: the file that it logs to. how: as for Process."""

    def __init__(self, argv: Sequence[Argument], log: Path, stdin: Any, stdout: Any, **how: Any) -> None:
        self.log_path = log
        self.process = Process(argv, stdin=stdin, stdout=stdout, **{"stderr": subprocess.PIPE, **how})
        self.pid = self.process.pid

    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def end(self) -> int:
        """Wait until it ends by itself; return its exit status. Its standard error must be empty."""
        try:
            _, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise AssertionError(f"the server does not end; its log:\n{self.log()}") from None
        if errors:
            raise AssertionError(f"on standard error:\n{errors.decode()}")
        return self.process.returncode

    def kill(self) -> None:
        """Kill it, unless it has ended. May be called again."""
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)

    def ticks(self) -> int:
        """Processor time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def wait_until_it_waits(self) -> None:
        """Wait until it sleeps and has not used the processor for a moment. (May return too early, never too
        late.)
        """

        def quiet() -> bool:
            before = self.ticks()
            if self.state() != "S":
                return False
            time.sleep(0.03)
            return self.state() == "S" and self.ticks() == before

        until(quiet, "the server waits")

    def memory(self, field: str = "VmHWM") -> int:
        """Its memory in KiB. field: of /proc/PID/status."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        raise AssertionError(f"no {field}")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Wire:
    """A client's end of a session on two descriptors or a socket."""

    def __init__(self, reading: Any, writing: Any) -> None:
        self._reading = reading
        self._writing = writing

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._writing, view) :]

    def take(self, size: int) -> bytes:
        """Receive exactly size bytes, or fewer at the end."""
        data = bytearray()
        while len(data) < size:
            try:
                piece = os.read(self._reading, size - len(data))
            except ConnectionResetError:  # the server ended with unread input
                break
            if not piece:
                break
            data += piece
        return bytes(data)

    def packet(self) -> bytes:
        return self.take(int.from_bytes(self.take(4), "big"))

    def reply(self) -> tuple[int, Reply]:
        body = self.packet()
        reader = Reader(body[1:])
        return reader.u32(), parse(body[0], reader)

    def ask(self, name: str, *parts: bytes) -> Reply:
        self.send(request(name, 1, *parts))
        return self.reply()[1]

    def hello(self) -> None:
        self.send(sftp.HELLO)
        if self.packet()[0] != 2:
            raise AssertionError("no VERSION")


class DoorCase(InAPlace):
    """Tests whose servers end with them. patience: seconds that each may take. forks: as for Process."""

    patience = 3 * PATIENCE
    forks = True

    def setUp(self) -> None:
        super().setUp()
        self.doors: list[Door] = []
        self.unless_over(self.kill_all, self.patience)

    def kill_all(self) -> None:
        for door in self.doors:
            door.process.kill()

    def start_door(self, argv: Sequence[Argument], log: Path, stdin: Any, stdout: Any, **how: Any) -> Door:
        """Start a server; arguments are Door's."""
        door = Door(argv, log, stdin, stdout, forks=self.forks, **how)
        self.doors.append(door)
        self.addCleanup(door.kill)
        return door


class Doors(DoorCase):
    """Tests with servers of the directory self.root."""

    def setUp(self) -> None:
        super().setUp()
        self.root = self.place / "root"
        self.root.mkdir()

    def argv(self, log: Path, code: str) -> list[str]:
        """The server's command line. code: its source."""
        return [sys.executable, "-c", code, str(self.root), str(log)]

    def door(self, stdin: Any, stdout: Any, code: str = SERVE) -> Door:
        log = self.place / "log"
        log.unlink(missing_ok=True)
        return self.start_door(self.argv(log, code), log, stdin, stdout)

    def on_socket(self, code: str = SERVE) -> tuple[Door, Wire, socket.socket]:
        """A server on one socket for both directions, as under sshd."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        with theirs:
            door = self.door(theirs, theirs, code)
        wire = Wire(ours.fileno(), ours.fileno())
        wire.hello()
        return door, wire, ours

    def on_pipes(self) -> tuple[Door, Wire, Callable[[], None], Callable[[], None]]:
        """A server on two pipes; functions that close our end of its input and of its output."""
        their_in, our_out = os.pipe()
        our_in, their_out = os.pipe()
        door = self.door(their_in, their_out)
        os.close(their_in)
        os.close(their_out)
        open_ones = {our_out, our_in}

        def closer(descriptor: int) -> Callable[[], None]:
            def close() -> None:
                if descriptor in open_ones:
                    open_ones.remove(descriptor)
                    os.close(descriptor)

            self.addCleanup(close)
            return close

        wire = Wire(our_in, our_out)
        wire.hello()
        return door, wire, closer(our_out), closer(our_in)

    def big_file(self, size: int = 4 << 20) -> bytes:
        content = random.Random(size).randbytes(size)
        (self.root / "f").write_bytes(content)
        return content

    def open(self, wire: Wire, name: bytes = b"f", flags: int = sftp.READ) -> None:
        """OPEN. If it is the session's first, its handle is FILE."""
        reply = wire.ask("open", string(name), u32(flags), sftp.NO_ATTRS)
        self.assertEqual(reply.kind, "handle")

    def block_output(self, wire: Wire, door: Door, count: int = 16) -> None:
        """Request more than the output buffers can hold, and wait until the server blocks."""
        self.open(wire)
        wire.send(b"".join(request("read", n, FILE, u64(n * 1000), u32(sftp.MAX_DATA)) for n in range(count)))
        door.wait_until_it_waits()

    def assert_idle(self, door: Door) -> None:
        door.wait_until_it_waits()
        before = door.ticks()
        time.sleep(WINDOW)
        self.assertLessEqual(door.ticks() - before, TICKS)
