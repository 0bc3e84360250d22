"""The events of a site in its ledger, from the first intent to the last delivery.

An event is recorded before it happens (intend), and is ready once it has happened (finish); if a session dies
in between, the deliverer settles it. A ready event has a delivery for each receiver. Deliveries to a receiver
are in order for each path: one that waits holds back only those about the same path. What may not enter:
receivers, storages.
"""

from __future__ import annotations

import json
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from pysftpserver.site.ledger import Ledger

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 3600.0  # seconds between two tries; doubled each time
GIVE_UP = 24 * 3600.0  # seconds since the first try, after which a delivery is dead
RECEIVERS = "receivers"  # of a note: those that get the event if it has happened
AT_ONCE = 100  # deliveries looked up together

DUE = """
SELECT d.seq, d.tries, e.content, d.since FROM delivery d JOIN event e ON e.seq = d.seq
WHERE d.receiver = ?1 AND NOT d.is_dead AND d.due <= ?2 AND e.is_ready AND NOT EXISTS (
    SELECT 1 FROM event_path mine
    JOIN event_path other ON other.path = mine.path AND other.seq < mine.seq
    JOIN delivery before ON before.seq = other.seq AND before.receiver = ?1 AND NOT before.is_dead
    WHERE mine.seq = d.seq
) ORDER BY d.seq LIMIT ?3
"""


class Delivery:
    """An event due to a receiver. tries: number of failed ones. since: time of the first one, or 0."""

    __slots__ = ("event", "receiver", "seq", "since", "tries")

    def __init__(self, receiver: str, seq: int, tries: int, event: dict[str, Any], since: float) -> None:
        self.receiver, self.seq, self.tries, self.event, self.since = receiver, seq, tries, event, since


class Spool:
    """The events in a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # --- sessions ---------------------------------------------------------------------------------

    def intend(
        self, event: dict[str, Any], paths: Iterable[bytes], receivers: Sequence[str], note: int = 0
    ) -> int:
        """Record an event that is about to happen, safe from power loss; return its number.

        event: the content for receivers, without the number. paths: those for which order matters. note: the
        number of a note that this replaces, or 0.
        """
        return self._add(event, paths, receivers, is_ready=False, note=note)

    def add(
        self, event: dict[str, Any], paths: Iterable[bytes], receivers: Sequence[str], note: int = 0
    ) -> int:
        """Record an event that has happened; return its number."""
        number = self._add(event, paths, receivers, is_ready=True, note=note)
        self._ledger.wake()
        return number

    def note(self, event: dict[str, Any], path: bytes, receivers: Sequence[str], note: int = 0) -> int:
        """Record what a session is doing, in case it is killed; return the note's number.

        A note holds back no event, and is not safe from power loss.
        """
        content = {**event, RECEIVERS: list(receivers)}
        return self._add(content, [path], (), is_ready=False, note=note, durable=False)

    def _add(
        self,
        event: dict[str, Any],
        paths: Iterable[bytes],
        receivers: Sequence[str],
        is_ready: bool,
        note: int,
        durable: bool = True,
    ) -> int:
        content = json.dumps(event)
        with self._ledger.changing(durable=durable) as database:
            if note:
                _drop(database, note)
            cursor = database.execute(
                "INSERT INTO event (session, is_ready, content) VALUES (?, ?, ?)",
                (self._ledger.session, is_ready, content),
            )
            seq = cursor.lastrowid or 0
            database.executemany("INSERT INTO event_path VALUES (?, ?)", [(path, seq) for path in set(paths)])
            database.executemany(
                "INSERT INTO delivery VALUES (?, ?, 0, 0, 0, 0, '')",
                [(receiver, seq) for receiver in dict.fromkeys(receivers)],
            )
        return seq

    def finish(self, seq: int, event: dict[str, Any] | None = None) -> None:
        """Note that an event has happened. event: its content now; None: as recorded."""
        with self._ledger.changing() as database:
            database.execute("UPDATE event SET is_ready = 1 WHERE seq = ?", (seq,))
            if event is not None:
                database.execute("UPDATE event SET content = ? WHERE seq = ?", (json.dumps(event), seq))
        self._ledger.wake()

    def come_last(self, seq: int, event: dict[str, Any]) -> None:
        """Note that an event has happened after all events recorded since. event: its content now."""
        rows = self._ledger.ask("SELECT receiver FROM delivery WHERE seq = ?", seq)
        self.add(event, (), [receiver for (receiver,) in rows])
        self.forget(seq)

    def forget(self, seq: int) -> None:
        """Drop an event that has not happened."""
        with self._ledger.changing() as database:
            _drop(database, seq)
        self._ledger.wake()  # other events may have waited for it

    def is_delivered(self, seq: int, receivers: Iterable[str]) -> bool:
        """Whether these receivers have the event. Raises KeyError for one that will not get it."""
        rows = self._ledger.ask("SELECT receiver, is_dead, reason FROM delivery WHERE seq = ?", seq)
        waiting = {receiver: (is_dead, reason) for receiver, is_dead, reason in rows}
        for receiver in receivers:
            if receiver in waiting:
                if waiting[receiver][0]:
                    raise KeyError(waiting[receiver][1])
                return False
        return True

    # --- the deliverer ----------------------------------------------------------------------------

    def intents(self) -> list[tuple[int, int, dict[str, Any]]]:
        """The intents of ended sessions: (number, session, event) of each."""
        rows = self._ledger.ask("SELECT seq, session, content FROM event WHERE NOT is_ready ORDER BY seq")
        return [
            (seq, session, json.loads(content))
            for seq, session, content in rows
            if not self._ledger.is_running(session)
        ]

    def come_true(self, seq: int, event: dict[str, Any]) -> None:
        """Turn a note into an event that has happened. event: its content, including that of the note."""
        paths = [path for (path,) in self._ledger.ask("SELECT path FROM event_path WHERE seq = ?", seq)]
        self.add(event, paths, event.pop(RECEIVERS), note=seq)

    def has_later(self, seq: int) -> bool:
        """Whether later events are about the same paths: they may have undone this one."""
        return bool(
            self._ledger.ask(
                "SELECT 1 FROM event_path mine JOIN event_path other"
                " ON other.path = mine.path AND other.seq > mine.seq WHERE mine.seq = ? LIMIT 1",
                seq,
            )
        )

    def due(self, receiver: str) -> list[Delivery]:
        """The deliveries due to a receiver now, in order."""
        rows = self._ledger.ask(DUE, receiver, time.time(), AT_ONCE)
        return [
            Delivery(receiver, seq, tries, {"id": seq, **json.loads(content)}, since)
            for seq, tries, content, since in rows
        ]

    def next_due(self) -> float | None:
        """The time of the next delivery that is not dead; None: there is none."""
        ((moment,),) = self._ledger.ask("SELECT min(due) FROM delivery WHERE NOT is_dead")
        return moment  # type: ignore[no-any-return]

    def delivered(self, delivery: Delivery) -> None:
        """Note that a receiver has the event."""
        with self._ledger.changing() as database:
            database.execute(
                "DELETE FROM delivery WHERE receiver = ? AND seq = ?", (delivery.receiver, delivery.seq)
            )
            _drop_finished(database, delivery.seq)

    def failed(self, delivery: Delivery, reason: str) -> None:
        """Retry a failed delivery later, or declare it dead."""
        moment = time.time()
        since = delivery.since or moment
        pause = min(FIRST_PAUSE * 2.0 ** min(delivery.tries, 30), LONGEST_PAUSE)
        with self._ledger.changing() as database:
            database.execute(
                "UPDATE delivery SET tries = ?, since = ?, due = ?, is_dead = ?, reason = ?"
                " WHERE receiver = ? AND seq = ?",
                (delivery.tries + 1, since, moment + pause, moment - since >= GIVE_UP, reason)
                + (delivery.receiver, delivery.seq),
            )

    def bury_others(self, receivers: Iterable[str]) -> None:
        """Declare deliveries to all other receivers dead: they are no longer in the site file."""
        known = list(receivers)
        marks = ", ".join("?" * len(known))
        with self._ledger.changing() as database:
            database.execute(
                "UPDATE delivery SET is_dead = 1, reason = 'not in the site file'"
                f" WHERE NOT is_dead AND receiver NOT IN ({marks})",
                known,
            )

    # --- administrators ---------------------------------------------------------------------------

    def waiting(self) -> list[tuple[str, Delivery, bool, str]]:
        """All deliveries: receiver, delivery, whether it is dead, and why the last try failed."""
        rows = self._ledger.ask(
            "SELECT d.receiver, d.seq, d.tries, e.content, d.since, d.is_dead, d.reason"
            " FROM delivery d JOIN event e ON e.seq = d.seq ORDER BY d.seq, d.receiver"
        )
        return [
            (receiver, Delivery(receiver, seq, tries, json.loads(content), since), bool(is_dead), reason)
            for receiver, seq, tries, content, since, is_dead, reason in rows
        ]

    def retry(self, numbers: Iterable[int] = ()) -> int:
        """Retry deliveries, including dead ones. numbers: of the events; none: all. Returns how many."""
        chosen = list(numbers)
        marks = ", ".join("?" * len(chosen))
        with self._ledger.changing() as database:
            cursor = database.execute(
                "UPDATE delivery SET is_dead = 0, tries = 0, due = 0, since = 0"
                + (f" WHERE seq IN ({marks})" if chosen else ""),
                chosen,
            )
        self._ledger.wake()
        return cursor.rowcount


def _drop(database: Any, seq: int) -> None:
    for table in ("delivery", "event_path", "event"):
        database.execute(f"DELETE FROM {table} WHERE seq = ?", (seq,))


def _drop_finished(database: Any, seq: int) -> None:
    """Drop an event that every receiver has."""
    if database.execute("SELECT 1 FROM delivery WHERE seq = ? LIMIT 1", (seq,)).fetchone() is None:
        _drop(database, seq)
