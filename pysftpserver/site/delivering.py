"""Delivers the events of a site: the one process per state directory that speaks to receivers.

Each receiver has a thread, so that none waits for another. Intents of killed sessions are settled by looking
at the storage: an event that has happened is delivered, one that has not is forgotten, and one that may have
happened is delivered with "certain": false. What may not enter: receivers' protocols, SQL, concrete storages.
"""

from __future__ import annotations

import os
import select
import threading
import time

from pysftpserver.failures import BadInput, Unavailable, one_line, reason_of
from pysftpserver.pysftpexceptions import SFTPException, SFTPForbidden, SFTPNotFound
from pysftpserver.site.ledger import Busy
from pysftpserver.site.receivers import Refused, raw
from pysftpserver.site.spool import RECEIVERS, Spool
from pysftpserver.site.told import digest, timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.site.ledger import Ledger
    from pysftpserver.site.receivers import Receiver
    from pysftpserver.site.spool import Delivery

    Open = Callable[[dict[str, Any]], SFTPAbstractServerStorage]

LOOK_AGAIN = 1.0  # seconds between two looks for ended sessions
PUT_OFF = 30.0  # seconds until an unreachable storage is tried again


class Deliverer:
    """Delivers until it is told to stop.

    receivers: all of the site's. open_storage: opens the storage as the session with that who() saw it; may
    raise BadInput, SFTPException, OSError. tell: called with each line for operators.
    """

    def __init__(
        self,
        ledger: Ledger,
        receivers: Iterable[Receiver],
        open_storage: Open,
        tell: Callable[[str], object],
    ) -> None:
        self._ledger = ledger
        self._spool = Spool(ledger)
        self._receivers = list(receivers)
        self._open, self._tell = open_storage, tell
        self._news = [threading.Event() for _ in self._receivers]
        self._stops = False
        self.was_stopped = False  # by stop(), not because nothing was left to do
        self._put_off: dict[int, float] = {}  # unsettled intents, with the time of the next try

    def run(self, until_idle: bool = False) -> None:
        """Deliver, as the only deliverer. until_idle: return when no session runs and nothing waits."""
        self._spool.bury_others(receiver.name for receiver in self._receivers)
        threads = [
            threading.Thread(target=self._serve, args=pair, daemon=True)
            for pair in zip(self._receivers, self._news, strict=True)
        ]
        for thread in threads:
            thread.start()
        poll = select.poll()
        poll.register(self._ledger.fileno(), select.POLLIN)
        try:
            while not self._stops:
                try:
                    self._settle()
                except Busy as error:
                    self._tell(str(error))
                for news in self._news:
                    news.set()
                if until_idle and not self.has_work():
                    break
                if poll.poll(LOOK_AGAIN * 1000):
                    os.read(self._ledger.fileno(), 4096)
        finally:
            self.was_stopped = self._stops
            self._stops = True
            for news in self._news:
                news.set()
            for thread in threads:
                thread.join()

    def stop(self) -> None:
        """Make run() return when current deliveries have ended. May be called by a signal handler."""
        self._stops = True
        self._ledger.wake()

    def has_work(self) -> bool:
        """Whether a session runs, or an event waits."""
        rows = self._ledger.ask("SELECT id FROM session")
        runs = any(self._ledger.is_running(number) for (number,) in rows)
        return runs or self._spool.next_due() is not None or bool(self._spool.intents())

    # --- deliveries -------------------------------------------------------------------------------

    def _serve(self, receiver: Receiver, news: threading.Event) -> None:
        while not self._stops:
            news.clear()
            try:
                due = self._spool.due(receiver.name)
                for delivery in due:
                    if not self._stops:
                        self._deliver(receiver, delivery)
            except Exception as error:  # such as a full disk
                self._tell(f"{receiver.shown}: {one_line(str(error)) or type(error).__name__}")
                due = []
                news.wait(LOOK_AGAIN)
            if not due:
                moment = self._spool.next_due()
                news.wait(LOOK_AGAIN if moment is None else min(max(moment - time.time(), 0.05), LOOK_AGAIN))

    def _deliver(self, receiver: Receiver, delivery: Delivery) -> None:
        try:
            receiver.take(delivery.event)
        except Exception as error:  # not only Refused: no event may hold back all others for ever
            reason = str(error) if isinstance(error, Refused) else f"internal error: {error!r}"
            if not delivery.tries:
                self._tell(f"{receiver.shown}: event {delivery.seq}: {one_line(reason)}; tried again later")
            self._spool.failed(delivery, reason)
        else:
            if delivery.tries:
                self._tell(f"{receiver.shown}: event {delivery.seq}: delivered at try {delivery.tries + 1}")
            self._spool.delivered(delivery)
            self._ledger.wake()  # for events that wait for the end, and sessions' next events

    # --- what killed sessions have left -----------------------------------------------------------

    def _settle(self) -> None:
        """Settle the intents of sessions that have ended."""
        for seq, session, event in self._spool.intents():
            if self._put_off.get(seq, 0) > time.monotonic():
                continue
            if event["event"] == "logout":
                self._spool.come_last(seq, {**event, "time": timestamp()})
                continue
            try:
                if RECEIVERS in event:
                    self._settle_note(seq, session, event)
                    continue
                has_happened = self._has_happened(session, event)
                if has_happened is None and not self._spool.has_later(seq):
                    has_happened = False
            except (Unavailable, SFTPException, OSError) as error:
                if seq not in self._put_off:
                    words = error.message if isinstance(error, BadInput) else reason_of(error)
                    self._tell(f"event {seq}: cannot look whether it has happened: {one_line(words)}")
                self._put_off[seq] = time.monotonic() + PUT_OFF
                continue
            except BadInput:  # the door has opened the storage, and no site file names it
                has_happened = None
            self._put_off.pop(seq, None)
            if has_happened is False:
                self._spool.forget(seq)
            else:
                self._spool.finish(seq, None if has_happened else {**event, "certain": False})
        self._ledger.forget_sessions()

    def _settle_note(self, seq: int, session: int, event: dict[str, Any]) -> None:
        """Report a file that a session was writing to when it was killed, if it exists."""
        found: dict[str, Any] | None = {}
        try:
            storage = self._open(self._ledger.who(session))
        except Unavailable:
            raise
        except BadInput:
            pass  # the door has opened the storage, and no site file names it
        else:
            try:
                found = _as_found(storage, raw(event, "path"))
            finally:
                storage.release()
        self._put_off.pop(seq, None)
        if found is None and not self._spool.has_later(seq):
            self._spool.forget(seq)
        else:
            self._spool.come_true(seq, {**event, **(found or {}), "time": timestamp(), "certain": False})

    def _has_happened(self, session: int, event: dict[str, Any]) -> bool | None:
        """Whether an intent was carried out; None: there is no sign of it, but others may have undone it."""
        storage = self._open(self._ledger.who(session))
        try:
            return _is_seen(storage, event)
        finally:
            storage.release()


def _is_seen(storage: SFTPAbstractServerStorage, event: dict[str, Any]) -> bool | None:
    """True: the storage is as the event would leave it. None: it is not, or not any more."""
    kind, path = event["event"], raw(event, "path")
    if kind in ("delete", "rmdir"):
        return True if not _is_there(storage, path) else None
    if kind == "rename":
        return True if _is_there(storage, raw(event, "target")) and not _is_there(storage, path) else None
    if not _is_there(storage, path):
        return None
    if kind == "upload":
        if storage.stat(path).size != event.get("size"):
            return None
        if event.get("sha256") and digest(storage, path) != event["sha256"]:
            return None
    return True


def _as_found(storage: SFTPAbstractServerStorage, path: bytes) -> dict[str, Any] | None:
    """Size and digest of a file, as far as they can be read; None: there is no file."""
    if not _is_there(storage, path):
        return None
    try:
        return {"size": storage.stat(path).size, "sha256": digest(storage, path)}
    except (SFTPForbidden, PermissionError):
        return {}


def _is_there(storage: SFTPAbstractServerStorage, path: bytes) -> bool:
    try:
        storage.lstat(path)
    except (SFTPNotFound, FileNotFoundError, NotADirectoryError):
        return False
    return True
