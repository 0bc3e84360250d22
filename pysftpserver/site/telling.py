"""How a layer reports events: records them for the receivers that want them, and waits for receivers.

A change of the storage is recorded before it happens, so even a killed session leaves no unreported change;
the deliverer does the rest. An event that no receiver wants costs nothing. What may not enter: SQL,
receivers' protocols, which call is which event.
"""

from __future__ import annotations

import errno
import os
import time

from pysftpserver.engine.audit import client_text
from pysftpserver.host import watch
from pysftpserver.pysftpexceptions import SFTPFailure, SFTPForbidden, words_of
from pysftpserver.site.layer import Layer, _HandedOn
from pysftpserver.site.spool import Spool
from pysftpserver.site.told import Refusals, Wish, timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.site.ledger import Ledger
    from pysftpserver.site.who import Who

PAUSE = 0.01  # seconds between two checks whether a receiver has an event
NOT_CONFIRMED = "It is done, but a receiver that has to confirm it has not done so"


class _AtFirst(_HandedOn):
    """A method of the storage below; its first call begins the session."""

    def __get__(self, layer: TellingLayer | None, owner: type) -> Any:  # type: ignore[override]
        if layer is not None and not layer._has_begun:
            layer._begin()
        return super().__get__(layer, owner)


class TellingLayer(Layer):
    """Records the beginning and end of a session, refusals, and the events of subclasses.

    ledger: with a session. wishes: of all receivers; there may be none. place: the same for all sessions that
    see the same tree.
    """

    def __init__(
        self, below: SFTPAbstractServerStorage, ledger: Ledger, wishes: list[Wish], who: Who, place: str
    ) -> None:
        super().__init__(below)
        self._ledger, self._spool, self._wishes = ledger, Spool(ledger), wishes
        self._place = place.encode(errors="surrogateescape") + b" "
        group = who.groups[0] if who.groups else None
        self._who = {"user": who.user, "group": group, "address": who.address, "session": who.session or None}
        self._refusals = Refusals()
        self._has_begun = not wishes
        self._logout: int | None = None

    @property
    def waits_long(self) -> bool:
        waits = any(wish.wait is not None for wish in self._wishes)
        return waits or getattr(self.below, "waits_long", False)

    def tells(self, kind: str) -> bool:
        """Whether a receiver wants events of a kind."""
        return any(kind in wish.on for wish in self._wishes)

    def _meant(self, kind: str, *paths: bytes) -> list[Wish]:
        return [
            wish
            for wish in self._wishes
            if kind in wish.on
            and (wish.matches is None or not paths or any(wish.matches(path) for path in paths))
        ]

    def _event(self, kind: str, path: bytes | None, **more: Any) -> dict[str, Any]:
        event: dict[str, Any] = {"event": kind, "time": timestamp(), **self._who}
        if path is not None:
            event.update(client_text("path", path))
        for name, value in more.items():
            event.update(client_text(name, value) if isinstance(value, bytes) else {name: value})
        return event

    def _intend(self, wishes: list[Wish], event: dict[str, Any], *paths: bytes, note: int = 0) -> int:
        names = [wish.name for wish in wishes]
        return self._spool.intend(event, [self._place + path for path in paths], names, note)

    def _tell(self, kind: str, paths: tuple[bytes, ...], act: Callable[..., None], *arguments: Any) -> None:
        """Carry out a client's request, and report it."""
        wishes = self._meant(kind, *paths)
        if not wishes:
            act(*arguments)
            return
        more = {"target": paths[1]} if len(paths) > 1 else {}
        event = self._event(kind, paths[0], **more)
        self._carry_out(wishes, event, paths, act, *arguments)

    def _carry_out(
        self,
        wishes: list[Wish],
        event: dict[str, Any],
        paths: tuple[bytes, ...],
        act: Callable[..., None],
        *arguments: Any,
        finds: Callable[[], dict[str, Any] | None] = lambda: None,
        note: int = 0,
    ) -> None:
        """The same for an event. finds: returns details known only afterwards; None: there are none. note:
        the number of the note that it replaces, or 0.
        """
        seq = self._intend(wishes, event, *paths, note=note)
        try:
            act(*arguments)
        except BaseException as error:
            self._spool.forget(seq)
            self.note_refusal(paths[0], error)
            raise
        more = finds()
        self._spool.finish(seq, None if more is None else {**event, **more})
        self._wait(seq, wishes)

    def _wait(self, seq: int, wishes: list[Wish]) -> None:
        """Wait for receivers that have to confirm. Raises SFTPFailure if one does not."""
        for wish in wishes:
            if wish.wait is not None:
                deadline = time.monotonic() + wish.wait
                while True:
                    try:
                        if self._spool.is_delivered(seq, [wish.name]):
                            break
                    except KeyError:
                        raise SFTPFailure(NOT_CONFIRMED) from None
                    if time.monotonic() > deadline or watch.is_over():
                        raise SFTPFailure(NOT_CONFIRMED)
                    time.sleep(PAUSE)

    def note_refusal(self, path: bytes, error: BaseException) -> None:
        """Report a refusal, if the error is one."""
        is_rejection = getattr(error, "is_rejection", False)  # of a gate
        is_refusal = is_rejection or isinstance(error, (SFTPForbidden, PermissionError))
        if not is_refusal and getattr(error, "errno", None) != errno.EDQUOT:
            return
        wishes = self._meant("rejected", path)
        if not wishes:
            return
        number = getattr(error, "errno", None)
        reason = (os.strerror(number) if number is not None else words_of(error)) or "Permission denied"
        if not is_rejection and not self._refusals.is_due(path, reason):
            return
        if not self._has_begun:
            self._begin()
        more = {"left_out": self._refusals.left_out} if self._refusals.left_out else {}
        self._refusals.left_out = 0
        event = self._event("rejected", path, reason=reason, **more)
        self._spool.add(event, [self._place + path], [wish.name for wish in wishes])

    def _begin(self) -> None:
        self._has_begun = True
        wishes = self._meant("login")
        if wishes:
            self._spool.add(self._event("login", None), [], [wish.name for wish in wishes])
        wishes = self._meant("logout")
        if wishes:  # ready as soon as the session has ended, however it ends
            self._logout = self._intend(wishes, self._event("logout", None))

    def territory(self) -> Sequence[int] | None:
        return self._ledger.territory(self.below.territory())

    def release(self) -> None:
        if self._logout is not None:
            self._spool.come_last(self._logout, self._event("logout", None))
            self._logout = None
        self.below.release()
        self._ledger.close()

    realpath, stat, lstat, opendir, userhome = (_AtFirst() for _ in range(5))
