"""The activity of a pysftpd: read from its admin socket every two seconds, and kept for an hour.

The memory is bounded: SAMPLES samples, and one list of sessions. A pysftpd that is restarted or does not
answer leaves a gap. What may not enter: HTTP, presentation. Facts: docs/sshd.md on the admin socket.
"""

from __future__ import annotations

import array
import math
import threading
import time
from dataclasses import dataclass, field

from pysftpserver.failures import Unavailable
from pysftpserver.service.admin_client import ask_all, oldest_first
from pysftpserver.service.transfers import Rates, total

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pysftpserver.service.transfers import Row

PAUSE = 2.0  # seconds between two looks
SHARE = 20  # a pause is at least this many times as long as the look before it
HOUR = 3600.0
SAMPLES = int(HOUR / PAUSE)
WATCHED = 15.0  # seconds for which sessions are still watched after someone asked for them
NOW = 5.0  # seconds for which a page waits for a look
STALE = 60.0  # seconds after which counts since the last look are no longer used
SELDOM = 10.0  # seconds between two looks at bans and health
#: The values kept of each look: current ones, and counts since the one before. received, sent:
#: bytes. accepted, refused: logins. busy: seconds spent on requests. seconds: since the look before.
CURRENT = ("sessions", "connections")
COUNTED = ("received", "sent", "accepted", "refused", "requests", "busy", "errors")
KINDS = (*CURRENT, *COUNTED, "seconds")
NOTHING = math.nan


class Ring:
    """The last samples: numbers by KINDS, each with its time (of time.time())."""

    def __init__(self, size: int = SAMPLES) -> None:
        self._size = size
        self._next = 0
        self._times = array.array("d", [0.0]) * size
        self._columns = {kind: array.array("d", [NOTHING]) * size for kind in KINDS}

    def add(self, at: float, sample: dict[str, float]) -> None:
        """Add a sample; values that it lacks are unknown. The oldest one is dropped."""
        self._times[self._next] = at
        for kind, column in self._columns.items():
            column[self._next] = sample.get(kind, NOTHING)
        self._next = (self._next + 1) % self._size

    def points(self, kind: str, now: float, count: int, over: str | None = None) -> list[float | None]:
        """The last hour in count equal parts, oldest first; None: nothing is known about a part.

        over: the kind by which the sum of each part is divided; None: sums. For current values, means.
        """
        sums, divisors, times = [0.0] * count, [0.0] * count, [0] * count
        width = HOUR / count
        now = math.ceil(now / width) * width  # so that parts do not shift as time goes on
        others = self._columns[kind if over is None else over]
        for at, value, divisor in zip(self._times, self._columns[kind], others, strict=True):
            place = count - 1 - int((now - at) / width)
            if at > 0.0 and 0 <= place < count and not math.isnan(value):
                sums[place] += value
                divisors[place] += divisor
                times[place] += 1
        if kind in CURRENT:
            divisors = [float(number) for number in times]
        elif over is None:
            divisors = [float(number > 0) for number in times]
        return [total / divisor if divisor else None for total, divisor in zip(sums, divisors, strict=True)]

    def last(self) -> dict[str, float | None]:
        """The last sample."""
        values = {kind: column[self._next - 1] for kind, column in self._columns.items()}
        return {kind: None if math.isnan(value) else value for kind, value in values.items()}


@dataclass
class State:
    """The state at the last look.

    trouble: why it is out of date; "": it is not. at, began: of time.time() and time.monotonic(). number:
    grows with each look. has_sessions: whether sessions were asked for, as while a page shows them. rows: of
    the live view. about: what the first process says about itself, or nothing. notes: on connections that
    were refused, or ended by a limit, newest first.
    """

    number: int = 0
    at: float = 0.0
    began: float = 0.0
    has_sessions: bool = False
    trouble: str = "pysftpd was not asked yet"
    figures: dict[str, Any] = field(default_factory=dict)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    bans: list[dict[str, Any]] = field(default_factory=list)
    health: dict[str, list[str]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    notes: list[dict[str, Any]] = field(default_factory=list)


class Watch:
    """Looks at a pysftpd, in its own thread. path: of the admin socket."""

    def __init__(self, path: str, pause: float = PAUSE) -> None:
        self.path = path
        self.ring = Ring()
        self.state = State()
        self._pause = pause
        self._rates = Rates(pause / 2)
        self._counted: dict[int, tuple[int, dict[str, float]]] = {}  # by process: its pid and what it counted
        self._looked = 0.0  # time of the last look at counters, by time.monotonic()
        self._asked = -WATCHED
        self._seldom = -SELDOM
        self._changed = threading.Condition()
        self._wanted = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking; threads that wait for a new state go on."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_over(self) -> bool:
        """Whether close() was called."""
        return self._is_over

    def now(self, seconds: float = NOW) -> State:
        """The state with its sessions, from a look that begins now.

        seconds: how long to wait for it; after that, the last state.
        """
        asked = time.monotonic()
        self._asked = asked
        self.look_soon()
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self.state.began >= asked, seconds)
        return self.state

    def look_soon(self) -> None:
        """Look at once: something has changed, or a page has to be up to date."""
        self._seldom = -SELDOM
        self._wanted.set()

    def after(self, number: int, seconds: float) -> State:
        """The first state with a larger number; the last one if there is none within seconds."""
        self._asked = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._is_news(number), seconds)
        return self.state

    def _is_news(self, number: int) -> bool:
        return self.state.number > number and (self.state.has_sessions or bool(self.state.trouble))

    def _run(self) -> None:
        while not self._is_over:
            began = time.monotonic()
            self._wanted.clear()
            self.look()
            took = time.monotonic() - began
            self._wanted.wait(max(self._pause - took, SHARE * took - self._pause, 0.05))

    def look(self) -> None:
        """Look once."""
        before = self.state
        now = time.monotonic()
        new = State(before.number + 1, time.time(), now, trouble="", about=before.about)
        new.bans, new.health = before.bans, before.health
        notes: list[str] = []
        sample: dict[str, float] = {}
        try:
            answers = ask_all(self.path, {"ask": "figures"}, notes.append)
            new.figures = total(answer["figures"] for answer in answers)
            sample = self._sample(answers, new.figures, now)
            if now - self._asked < WATCHED:
                told = ask_all(self.path, {"ask": "sessions"}, notes.append)
                new.sessions = oldest_first(told)
                new.rows = self._rates.rows(new.sessions, now)
                new.has_sessions = True
                if before.about:  # otherwise it is an older one, which has none
                    new.notes = self._notes(notes)
            if now - self._seldom >= SELDOM:
                self._seldom = now
                self._look_at_the_rest(new, notes)
        except Unavailable as error:
            new.trouble = error.message
            new.about = {}
            self._seldom = -SELDOM
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            new.trouble = f"the answer of pysftpd is not understood ({type(error).__name__})"
        if notes and not new.trouble:
            new.health = {"faults": [*new.health.get("faults", ()), *dict.fromkeys(notes)], "notes": []}
        self.ring.add(new.at, sample)
        with self._changed:
            self.state = new
            self._changed.notify_all()

    def _notes(self, warnings: list[str]) -> list[dict[str, Any]]:
        """The notes on connections, newest first."""
        answers = ask_all(self.path, {"ask": "notes"}, warnings.append)
        every = [note for answer in answers for note in answer["notes"]]
        return sorted(every, key=lambda note: note["time"], reverse=True)

    def _look_at_the_rest(self, new: State, notes: list[str]) -> None:
        """Look at bans, health, and what an older pysftpd does not tell."""
        new.bans = ask_all(self.path, {"ask": "bans"}, notes.append)[0][
            "bans"
        ]  # each process knows all of them
        health = [answer["health"] for answer in ask_all(self.path, {"ask": "health"}, notes.append)]
        new.health = {
            kind: list(dict.fromkeys(text for one in health for text in one[kind]))
            for kind in ("faults", "notes")
        }
        try:
            new.about = ask_all(self.path, {"ask": "about"}, notes.append, most=1)[0]["about"]
        except Unavailable:
            new.about = {}

    def _sample(
        self, answers: Sequence[dict[str, Any]], figures: dict[str, Any], now: float
    ) -> dict[str, float]:
        """The sample of this look: current values, and counts since the last one."""
        since: dict[str, float] = dict.fromkeys(COUNTED, 0.0)
        is_new = not self._counted
        counted = {}
        for answer in answers:
            process, pid, own = answer["process"], answer["pid"], _counters(answer["figures"])
            before = self._counted.get(process, (pid, own if is_new else {}))
            for name, value in own.items():
                # One that was replaced begins at 0 again.
                since[name] += max(0.0, value - (before[1].get(name, 0.0) if before[0] == pid else 0.0))
            counted[process] = pid, own
        passed, self._looked, self._counted = now - self._looked, now, counted
        sample = {kind: float(figures[kind]) for kind in CURRENT}
        if is_new or passed > STALE:
            return sample
        return {**sample, **since, "seconds": passed}


def _counters(figures: dict[str, Any]) -> dict[str, float]:
    """The counters of a process since it began."""
    found = {name: float(figures["moved"][name]) for name in ("received", "sent")}
    found |= {name: float(figures["logins"][name]) for name in ("accepted", "refused")}
    found |= {name: float(sum(figures[name].values())) for name in ("requests", "errors")}
    return {**found, "busy": float(sum(figures["seconds"].values()))}
