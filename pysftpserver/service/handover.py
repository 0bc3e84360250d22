"""Hands a door over to a process of its new version: sockets stay open, sessions stay with the old process.

The old process starts its command again with the listening sockets. Once the new process is ready, it becomes
systemd's main process, and the old one ends with its last session. What may not enter: what a door serves.
Facts: sd_notify(3) on MAINPID, pidfd_open(2), signal(7).
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time

from pysftpserver.failures import Unavailable, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIGNAL = signal.SIGUSR2  # asks a door for a handover
PATIENCE = 120.0  # seconds for the new version to become ready
LOOK = 0.1  # seconds between two checks whether this process ends meanwhile
ENDS = "this process ends"
LONGEST = 32  # bytes of the new version's message once it is ready
VARIABLE = "PYSFTPSERVER_HANDED_OVER"
#: Starts a command as an orphaned process, so that only the service manager waits for it.
LAUNCH = (
    "import os, signal, sys; os.fork() and os._exit(0); signal.pthread_sigmask(signal.SIG_SETMASK, ()); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Sockets:
    """Listening sockets, by a name made from the settings: of a predecessor, and for a successor."""

    def __init__(self) -> None:
        self._own: dict[str, list[socket.socket]] = {}
        self._theirs: dict[str, list[socket.socket]] = {}
        self._ready = -1
        self.predecessor: Predecessor | None = None
        try:
            told = json.loads(os.environ.pop(VARIABLE, "null"))
            if told is not None:
                self._ready = int(told["ready"])
                self._theirs = {
                    name: [_passed(one) for one in found] for name, found in told["sockets"].items()
                }
                self.predecessor = Predecessor(int(told["process"]))
        except (KeyError, TypeError, ValueError, AttributeError, OSError):
            raise Unavailable(
                f"{VARIABLE}: the sockets were not handed over; start the service anew"
            ) from None

    def take(self, name: str) -> list[socket.socket]:
        """The predecessor's sockets with this name; empty without one, or if its settings were different."""
        return self._theirs.pop(name, [])

    def keep(self, name: str, sockets: Sequence[socket.socket]) -> None:
        """Keep sockets for a successor."""
        self._own[name] = list(sockets)

    def ready(self) -> None:
        """Tell the predecessor that it may leave: all sockets have been taken, and clients are served.

        Raises Unavailable if it is no longer waiting.
        """
        self._close_rest()
        if self._ready >= 0:
            try:
                os.write(self._ready, b"%d\n" % os.getpid())
            except BrokenPipeError:
                raise Unavailable("the process that hands over waits no more") from None
            finally:
                os.close(self._ready)
                self._ready = -1

    @property
    def is_awaited(self) -> bool:
        """Whether a predecessor waits for ready()."""
        return self._ready >= 0

    def forget(self) -> None:
        """Leave it to another process to tell the predecessor."""
        self._close_rest()
        if self._ready >= 0:
            os.close(self._ready)
            self._ready = -1

    def _close_rest(self) -> None:
        for one in [one for found in self._theirs.values() for one in found]:
            one.close()
        self._theirs.clear()

    def offered(self) -> dict[str, list[int]]:
        """The descriptors for a successor."""
        return {name: [one.fileno() for one in found] for name, found in self._own.items()}


def _passed(descriptor: int) -> socket.socket:
    one = socket.socket(fileno=descriptor)
    one.setblocking(False)
    os.set_inheritable(descriptor, False)
    return one


def close_handed_over() -> None:
    """Close the descriptors that a predecessor has handed over, in a process that must not hold them."""
    told = json.loads(os.environ.pop(VARIABLE, "null"))
    for descriptor in [] if told is None else [told["ready"], *sum(told["sockets"].values(), [])]:
        os.close(descriptor)


class Predecessor:
    """The process that has handed over, while it serves its last sessions. It may have ended."""

    def __init__(self, process: int) -> None:
        try:
            self._descriptor = os.pidfd_open(process)
        except OSError:
            self._descriptor = -1

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, or does so within seconds."""
        if self._descriptor < 0:
            return True
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def stop(self) -> None:
        """End it as this process is ended: its transfers get some time."""
        if not self.has_ended():
            signal.pidfd_send_signal(self._descriptor, signal.SIGTERM)


class Successor:
    """A starting process of the new version. notify: its service manager's variables.

    Raises Unavailable if it cannot be started.
    """

    def __init__(self, sockets: Sockets, variables: Mapping[str, str]) -> None:
        import subprocess  # here, because few servers do this

        if os.getpid() == 1:
            raise Unavailable(
                "this is the first process of a container, which ends with it; start another one"
            )
        self._late_at = time.monotonic() + PATIENCE
        self._is_abandoned = False
        try:
            command = [sys.executable, "-I", "-S", "-c", LAUNCH, *own_command()]
            self._awaited, theirs = os.pipe()
        except OSError as error:
            raise Unavailable(f"the new version cannot be started: {reason_of(error)}") from None
        offered = sockets.offered()
        told = {"process": os.getpid(), "ready": theirs, "sockets": offered}
        environment = {**os.environ, **variables, VARIABLE: json.dumps(told)}
        passed = (theirs, *(one for found in offered.values() for one in found))
        try:
            subprocess.run(command, env=environment, pass_fds=passed, stdin=subprocess.DEVNULL, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            os.close(self._awaited)
            reason = reason_of(error) if isinstance(error, OSError) else str(error)
            raise Unavailable(f"the new version cannot be started: {reason}") from None
        finally:
            os.close(theirs)

    def has_told(self) -> bool:
        """Whether process() can tell now, without waiting."""
        is_late = time.monotonic() > self._late_at
        return is_late or bool(select.select([self._awaited], [], [], 0)[0])

    def process(self) -> int:
        """Its process number, once it serves. Raises Unavailable if it has ended, is late or abandoned."""
        poll = select.poll()
        poll.register(self._awaited, select.POLLIN)
        try:
            while not poll.poll(LOOK * 1000):
                if self._is_abandoned:
                    raise Unavailable(ENDS)
                if time.monotonic() > self._late_at:
                    raise Unavailable(f"the new version was not ready within {PATIENCE:g} seconds")
            said = os.read(self._awaited, LONGEST)
        finally:
            os.close(self._awaited)
        if not said:
            raise Unavailable("the new version has ended; its own lines say why")
        if self._is_abandoned:
            os.kill(int(said), signal.SIGTERM)
            raise Unavailable(ENDS)
        return int(said)

    def abandon(self) -> None:
        """Give it up, because this process ends: process() raises then, and the new process ends as well."""
        self._is_abandoned = True


def own_command() -> list[str]:
    """The words that run this command again: its script, whose first line names the interpreter, which may be
    another one now; or, without a script, the words with which this process was started."""
    script = os.path.abspath(sys.argv[0])
    if os.path.isfile(script) and os.access(script, os.X_OK):
        return [script, *sys.argv[1:]]
    return [sys.executable, *sys.orig_argv[1:]]
