"""Tells systemd when a service is ready, that it still works, and when it stops.

A service of several processes is ready when all of them are, and works while all of them send heartbeats.
What may not enter: what a service does. Facts: sd_notify(3), systemd.service(5) on Type=notify and
WatchdogSec, sd_watchdog_enabled(3).
"""

from __future__ import annotations

import math
import mmap
import os
import socket
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping

BEAT = struct.Struct("d")
BEATS = 4  # heartbeats in the time after which systemd ends the service
READY_PAUSE = 0.1  # seconds between two checks whether all processes are ready


class Life:
    """The heartbeats of some processes; made before they are forked. One of them passes the heartbeats on.

    environment: systemd's variables are removed from it, because they are only for this process.
    """

    def __init__(self, processes: int, environment: MutableMapping[str, str] = os.environ) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        pid = environment.pop("WATCHDOG_PID", str(os.getpid()))
        usec = environment.pop("WATCHDOG_USEC", "")
        self._variables = {"NOTIFY_SOCKET": self._address, "WATCHDOG_USEC": usec}
        is_watched = bool(self._address) and usec.isascii() and usec.isdecimal() and pid == str(os.getpid())
        self._patience = int(usec) / 1e6 if is_watched else math.inf
        self._processes = processes
        self._beats = mmap.mmap(-1, BEAT.size * processes)
        self._is_ready = not self._address

    @property
    def pause(self) -> float | None:
        """Seconds from one call of beat() or pass_on() to the next; None: no more are needed."""
        if not self._is_ready:
            return min(READY_PAUSE, self._patience / BEATS)
        return None if math.isinf(self._patience) else self._patience / BEATS

    def beat(self, process: int, at: float | None = None) -> None:
        """Note a heartbeat of a process, the first one when it is ready. at: math.inf when it has ended."""
        BEAT.pack_into(self._beats, process * BEAT.size, time.monotonic() if at is None else at)

    def pass_on(self) -> None:
        """Tell systemd that the service is ready, or still works, if all processes are alive."""
        now = time.monotonic()
        beats = [BEAT.unpack_from(self._beats, one * BEAT.size)[0] for one in range(self._processes)]
        if all(beat and now - beat < self._patience for beat in beats):
            if not self._is_ready:
                self._is_ready = True
                self._tell("READY=1")
            elif self.pause is not None:
                self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """Tell systemd that the service is stopping."""
        self._tell("STOPPING=1")

    def for_successor(self) -> dict[str, str]:
        """The environment variables for a process that takes this one's place for systemd."""
        return {name: value for name, value in self._variables.items() if value}

    def hand_over(self, process: int) -> None:
        """Tell systemd which process is the main one now; this one sends nothing more."""
        self._tell(f"MAINPID={process}")
        self._address = ""
        self._is_ready, self._patience = True, math.inf

    def is_complete(self) -> bool:
        """Whether all processes have been ready."""
        return all(BEAT.unpack_from(self._beats, one * BEAT.size)[0] for one in range(self._processes))

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as one:
                name = self._address
                one.sendto(state.encode(), "\0" + name[1:] if name.startswith("@") else name)
        except OSError:
            pass  # nothing can be done here: systemd restarts a silent service
