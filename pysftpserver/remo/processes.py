"""Commands: run to their end, or interactively on a pair of sockets or a terminal.

Each command leads a session of its own (setsid), which is killed as a whole; a daemon that leaves it
survives. What may not enter: tokens, HTTP, the protocol's sessions. Facts: killpg(2), setsid(2),
ioctl_tty(2), pty(7), proc(5); exit statuses are a shell's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import pty
import select
import shlex
import signal
import socket
import subprocess
import termios
import threading
import time
from typing import NamedTuple

from pysftpserver.failures import reason_of, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

PIECE = 65536  # bytes of output at once
AT_ONCE = 8192  # bytes of an interactive reply
SOON = 0.1  # seconds to wait for output of an interactive command
SETTLE = 0.005  # seconds without output after which a terminal's output counts as complete
LOOK = 1.0  # seconds between checks that the client is still connected
GRACE = 1.0  # seconds between SIGTERM and SIGKILL
MOST_PENDING = 1 << 20  # bytes of input that a command has not read yet
END_OF_FILE = b"\x04"  # Ctrl-D, which a terminal turns into the end of the input
TIMED_OUT = 124  # the exit status of timeout(1)
SIGNALLED = 128
TERMINAL = "xterm-256color"


class CommandProblem(Exception):
    """The command cannot be started, or accepts no more input; the text tells its user why."""


class Limits(NamedTuple):
    """Limits of a command. seconds: maximum run time. output: maximum output, in bytes."""

    seconds: float
    output: int


def split(line: bytes) -> list[bytes]:
    """The words of a command line, split as in a shell. Raises CommandProblem."""
    try:
        words = shlex.split(line.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise CommandProblem(f"the command line cannot be split: {str(error).lower()}") from None
    if not words:
        raise CommandProblem("the command line is empty")
    if any("\0" in word for word in words):
        raise CommandProblem("the command line has a NUL byte in it")
    return [word.encode("utf-8", "surrogateescape") for word in words]


class Running:
    """A process and its session, whose output is read from a descriptor.

    Only _reap() waits for the process: until then its number is not reused, and signals reach the right
    processes. after_stop: called after a stop from another thread.
    """

    def __init__(self, process: subprocess.Popen[bytes], output: int) -> None:
        self._process = process
        self._output = output
        self._lock = threading.Lock()
        self._is_stopped = False
        self.note = ""  # why it was stopped; empty if it was not
        self.after_stop: Callable[[], None] = lambda: None

    def stop(self, why: str = "stopped, because the session ended") -> None:
        """End it, from any thread; its output can then be read to its end."""
        with self._lock:
            if self._is_stopped:
                return
            self._is_stopped = True
            self.note = self.note or why
            self._signal(signal.SIGTERM)
        # Not a daemon thread: the server waits for it, so that no command outlives the server.
        threading.Thread(target=self._finish_stopping, daemon=False).start()

    def _finish_stopping(self) -> None:
        self._kill()
        self.after_stop()

    def kill(self) -> None:
        """Stop it and wait until it has ended."""
        with self._lock:
            self._is_stopped = True
            self._signal(signal.SIGTERM)
        self._kill()

    def _kill(self) -> None:
        self._has_exited(GRACE)
        with self._lock:
            self._signal(signal.SIGKILL)
        self._reap()

    def _signal(self, number: int) -> None:
        """Called with the lock held. A shell's jobs are process groups of the same session."""
        if self._process.returncode is None:
            for group in {self._process.pid, *_groups(self._process.pid)}:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, number)

    def _reap(self) -> int:
        """Wait for the process; after a stop, kill the rest of its session."""
        self._has_exited(None)
        with self._lock:
            if self._is_stopped:
                self._signal(signal.SIGKILL)
            return self._process.wait()

    def _has_exited(self, seconds: float | None) -> bool:
        """Wait until the process has ended, without reaping it."""
        if self._process.returncode is not None:
            return True
        try:
            descriptor = os.pidfd_open(self._process.pid)
        except ProcessLookupError:
            return True
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(None if seconds is None else max(0.0, seconds) * 1000))
        finally:
            os.close(descriptor)

    def output(self, limits: Limits, is_gone: Callable[[], bool], spent: float = 0.0) -> Iterator[bytes]:
        """The rest of its output, as it arrives; if it was stopped, a last line says so.

        is_gone: whether the client has disconnected. spent: seconds of the limit already used.
        """
        late = f"stopped after {limits.seconds:g} seconds"
        # Also stops the command while a slow client takes its time over a piece.
        timer = threading.Timer(limits.seconds - spent + LOOK, self.stop, (late,))
        timer.daemon = True
        timer.start()
        try:
            yield from self._said(limits, is_gone, spent, late)
        finally:
            timer.cancel()

    def _said(self, limits: Limits, is_gone: Callable[[], bool], spent: float, late: str) -> Iterator[bytes]:
        deadline = time.monotonic() + limits.seconds - spent
        left = limits.output
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        is_silent = False  # it has closed its output, and may still be running
        while (wait := min(LOOK, deadline - time.monotonic())) > 0:
            if is_silent and self._has_exited(wait):
                if not self._is_stopped:
                    return
                break
            if not is_silent and poll.poll(wait * 1000):
                piece = self._piece()
                if piece:
                    yield piece[:left]
                    if len(piece) > left:
                        self.note = f"stopped after {limits.output} bytes of output"
                        break
                    left -= len(piece)
                is_silent = piece == b""
            elif self._is_stopped:
                break  # only processes that left the session still have the output open
            elif is_gone():
                self.note = "stopped, because the client has gone"
                self.kill()
                return
        else:
            self.note = late
        self.kill()
        yield f"\n[{self.note}]\n".encode()

    def _piece(self) -> bytes | None:
        """Some output; empty at its end; None: there was none."""
        try:
            return os.read(self._output, PIECE)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: no process has the terminal open any more
                raise
            return b""

    def outcome(self) -> str:
        """Wait until it ends; return its status as in a shell, and why it was stopped, if it was."""
        status = self._reap()
        if self.note:
            return f"{TIMED_OUT} {self.note}"
        return str(status if status >= 0 else SIGNALLED - status)


def _groups(session: int) -> set[int]:
    """The process groups of a session, according to /proc."""
    found = set()
    names: list[str] = []
    with contextlib.suppress(OSError):  # no /proc, or no descriptors left
        names = os.listdir("/proc")
    for name in names:
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                _, _, group, its_session, *_ = stat.read().rpartition(b")")[2].split()
                if int(its_session) == session:
                    found.add(int(group))
    return found


def _start(words: list[bytes], **settings: object) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(words, start_new_session=True, **settings)  # type: ignore[call-overload, no-any-return]
    except FileNotFoundError:
        raise CommandProblem(f"{show(words[0])}: no such command") from None
    except OSError as error:
        raise CommandProblem(f"the command cannot be started: {reason_of(error)}") from None
    except ValueError:
        raise CommandProblem("the command cannot be started: bad words") from None


class Command(Running):
    """A command that is run to its end. given: its input. Raises CommandProblem."""

    def __init__(self, words: list[bytes], given: IO[bytes] | None) -> None:
        process = _start(
            words,
            stdin=subprocess.DEVNULL if given is None else given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        self._pipe = process.stdout
        super().__init__(process, process.stdout.fileno())

    def close(self) -> None:
        """Kill it, if it still runs, and close its output."""
        if self._process.returncode is None:
            self.kill()
        self._pipe.close()


class Interactive(Running):
    """An interactive command. Raises CommandProblem.

    size: columns and rows of its terminal; None for a pair of sockets.
    """

    def __init__(self, words: list[bytes], size: tuple[int, int] | None = None) -> None:
        self._is_terminal = size is not None
        self._pending = bytearray()
        self._is_input_over = False
        self.is_at_end = False
        process, self._descriptor = _on_sockets(words) if size is None else _on_terminal(words, size)
        os.set_blocking(self._descriptor, False)
        super().__init__(process, self._descriptor)

    def exchange(self, given: bytes) -> bytes:
        """Send input; return the output of the next moment. Raises CommandProblem if it reads nothing."""
        if len(self._pending) + len(given) > MOST_PENDING:
            raise CommandProblem("the command does not read its input")
        if self._is_input_over and given:
            raise CommandProblem("the input of the command is closed")
        self._pending += given
        deadline = time.monotonic() + SOON
        said = b""
        while len(said) < AT_ONCE and not self.is_at_end:
            wait = deadline - time.monotonic()
            if said and self._is_terminal:
                wait = min(wait, SETTLE)
            if wait <= 0 or not self._wait(wait):
                break
            said += self._read(AT_ONCE - len(said))
        return said

    def finish(self, given: bytes, limits: Limits, is_gone: Callable[[], bool]) -> Iterator[bytes]:
        """Send the last input; return the rest of the output. Raises CommandProblem as exchange() does."""
        return self._rest(self.exchange(given), limits, is_gone)

    def _rest(self, said: bytes, limits: Limits, is_gone: Callable[[], bool]) -> Iterator[bytes]:
        began = time.monotonic()
        while self._pending and not self.is_at_end and not is_gone():
            if time.monotonic() - began > limits.seconds:
                break
            if said:
                yield said
            said = self.exchange(b"")
        self._is_input_over = True
        self._end_input()
        if said:
            yield said
        if not self.is_at_end:
            yield from self.output(limits, is_gone, time.monotonic() - began)
        self.is_at_end = True

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the terminal."""
        if self._is_terminal:
            _set_size(self._descriptor, columns, rows)

    def conclude(self) -> str:
        """Kill it, unless it has ended; return how it ended, as outcome() does."""
        if not (self.is_at_end and self._has_exited(GRACE)):
            self.kill()
        outcome = self.outcome()
        self.close()
        return outcome

    def close(self) -> None:
        """Kill it, if it still runs, and close its descriptor."""
        if self._process.returncode is None:
            self.kill()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _wait(self, seconds: float) -> bool:
        """Wait for output and send pending input meanwhile; return whether anything has happened."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN | (select.POLLOUT if self._pending else 0))
        events = dict(poll.poll(seconds * 1000)).get(self._descriptor, 0)
        if events & select.POLLOUT:
            self._write()
        return bool(events)

    def _write(self) -> None:
        try:
            count = os.write(self._descriptor, memoryview(self._pending)[:PIECE])
            del self._pending[:count]
        except BlockingIOError:
            pass
        except OSError:  # it has closed its input
            self._pending.clear()

    def _read(self, most: int) -> bytes:
        try:
            piece = os.read(self._descriptor, most)
        except BlockingIOError:
            return b""
        except OSError:
            piece = b""
        if not piece:
            self.is_at_end = True
        return piece

    def _end_input(self) -> None:
        with contextlib.suppress(OSError):  # it has ended
            if self._is_terminal:
                os.write(self._descriptor, END_OF_FILE)
            else:
                with socket.socket(fileno=os.dup(self._descriptor)) as ours:
                    ours.shutdown(socket.SHUT_WR)


def _on_sockets(words: list[bytes]) -> tuple[subprocess.Popen[bytes], int]:
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = _start(words, stdin=theirs, stdout=theirs, stderr=theirs)
    except BaseException:
        ours.close()
        raise
    return process, ours.detach()


def _on_terminal(words: list[bytes], size: tuple[int, int]) -> tuple[subprocess.Popen[bytes], int]:
    ours, theirs = pty.openpty()
    try:
        _set_size(ours, *size)
        process = _start(
            words,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": TERMINAL},
            # One system call, in the child, on the descriptor that is its standard input by then.
            preexec_fn=functools.partial(fcntl.ioctl, 0, termios.TIOCSCTTY, 0),
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return process, ours


def _set_size(descriptor: int, columns: int, rows: int) -> None:
    termios.tcsetwinsize(descriptor, (rows, columns))
