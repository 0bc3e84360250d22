"""The layers of a site that keep data in its state directory: quotas and events.

What may not enter: what these layers do.
"""

from __future__ import annotations

import contextlib

from pysftpserver.failures import BadInput, Unavailable
from pysftpserver.site import receivers, starting
from pysftpserver.site.accounts import Quota
from pysftpserver.site.events import EventsLayer
from pysftpserver.site.ledger import Busy, Ledger
from pysftpserver.site.patterns import Patterns
from pysftpserver.site.quota import QuotaLayer
from pysftpserver.site.rules import NameRules
from pysftpserver.site.told import Wish
from pysftpserver.site.who import is_meant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.site.file import Entry, Site
    from pysftpserver.site.shared import AnyLedger
    from pysftpserver.site.who import Who

ALL = ("/**",)
DELIVERS = "pysftpserver.cli.pysftp_deliver"  # the command that delivers sessions' events


class State:
    """The ledger of a site for one session, and the layers that write to it. Raises BadInput.

    storage: the one below all layers. who: the Who of the session.
    """

    def __init__(self, site: Site, who: Who, storage: SFTPAbstractServerStorage) -> None:
        if site.state is None:
            raise BadInput(f"{site.file}: state: missing; quotas and events need a directory")
        self._site, self._who = site, who
        self._place = _place(site, who, storage)
        self._ledger = Ledger(site.state)
        values = {"user": who.user, "folder": who.folder, "address": who.address, "session": who.session}
        with self._opening():
            self._ledger.open_session(values)

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        """A context for steps without which a session cannot begin. Raises Unavailable if they fail."""
        try:
            yield
        except BaseException as error:
            self._ledger.close()
            if isinstance(error, Busy):
                raise Unavailable(f"{self._site.file}: state {self._site.state}: {error}") from None
            raise

    def counting(self, below: SFTPAbstractServerStorage) -> SFTPAbstractServerStorage:
        """A storage with the quotas of the session's user."""
        quotas = quotas_of(self._site, self._who)
        if not quotas:
            return below
        with self._opening():
            return QuotaLayer(below, self._books(), quotas, self._place)

    def _books(self) -> AnyLedger:
        """The ledger in which quotas are counted. Raises BadInput."""
        site = self._site
        if site.ledger is None:
            return self._ledger
        from pysftpserver.site.shared import SharedLedger, connection_of

        return SharedLedger(self._ledger, *connection_of(site))

    def recount(self, below: SFTPAbstractServerStorage) -> list[tuple[str, int, int]]:
        """Recount the quotas of the session's user; return the name, bytes and files of each."""
        quotas = quotas_of(self._site, self._who)
        with self._opening():
            layer = QuotaLayer(below, self._books(), quotas, self._place)
            return [(quota.account, *layer.recount(quota)) for quota in quotas]

    def telling(self, below: SFTPAbstractServerStorage) -> SFTPAbstractServerStorage:
        """A storage that records the events that receivers want. Starts a deliverer if there is none."""
        wishes = [
            Wish(frozenset(entry.on), name, _matches(entry, self._who), entry.timeout if entry.wait else None)
            for entry in self._site.events
            if is_meant(self._who, entry.users, entry.groups)
            for name in receivers.names_of(entry)
        ]
        if not wishes:
            return below
        starting.start_deliverer(self._ledger, self._site.file, DELIVERS)
        is_part = NameRules(self._site.names).is_temporary
        return EventsLayer(below, self._ledger, wishes, self._who, self._place, is_part)

    def refusals(self, storage: SFTPAbstractServerStorage) -> Callable[[bytes, BaseException], None] | None:
        """Reports refusals by rules in front of a storage from telling(); None: no receiver wants them."""
        if isinstance(storage, EventsLayer) and storage.tells("rejected"):
            return storage.note_refusal
        return None


def quotas_of(site: Site, who: Who) -> list[Quota]:
    """The quotas of a user. Sessions of doors that know no users share one nameless user."""
    found = []
    for entry in site.quotas:
        if is_meant(who, entry.users, entry.groups):
            name = who.user or ""
            if entry.per == "group":
                groups = [group for group in who.groups if not entry.groups or group in entry.groups]
                if not groups:
                    continue
                name = groups[0]
            elif entry.per == "site":
                name = ""
            account = f"{entry.per}:{name}:{','.join(entry.path)}"
            found.append(Quota(account, entry.bytes, entry.files, _matches(entry, who)))
    return found


def _matches(entry: Entry, who: Who) -> Callable[[bytes], bool] | None:
    if entry.path == ALL:
        return None
    try:
        return Patterns(entry.path, who).matches
    except ValueError as error:
        raise BadInput(f"{entry.at('path')}: {error}") from None


def _place(site: Site, who: Who, storage: SFTPAbstractServerStorage) -> str:
    """A text that is the same for all sessions that see the same tree."""
    names = [site.storage or str(storage.stat(b"/.").identity or getattr(storage, "label", None))]
    names += [
        f"{mount.path}={mount.storage}" for mount in site.mounts if is_meant(who, mount.users, mount.groups)
    ]
    text = " ".join(names)
    for field, value in who.values.items():
        text = text.replace(f"{{{field}}}", value)
    return text
