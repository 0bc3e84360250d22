"""Opens a storage with a site: puts the layers that the site file asks for in front of it.

What may not enter: how storages are opened by their names, what a layer does.
"""

from __future__ import annotations

from pysftpserver.site import file
from pysftpserver.site.file import Site
from pysftpserver.site.who import Who, groups_of, is_meant, of_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.site.file import Entry

__all__ = ["Site", "Who", "dressed", "layered", "load", "mounts_of", "read", "who_of"]

read = file.read


def who_of(site: Site, values: Mapping[str, str]) -> Who:
    """The Who of a session. values: user, folder, address and session, as far as the door knows them."""
    return of_values(values, groups_of(values.get("user"), site.groups))


def mounts_of(site: Site, who: Who, for_all: bool = False) -> list[tuple[str, Entry, dict[str, str]]]:
    """A user's mounts: the path of each, its entry in the file, and the fields in its name.

    for_all: also those of other users, with this user's fields.
    """
    found = []
    for mount in site.mounts:
        if for_all:
            found.append((mount.path, mount, {**who.values, "group": "group"}))
        elif is_meant(who, mount.users, mount.groups):
            for group in who.groups if "{group}" in mount.path else who.groups[:1] or (None,):
                fields = who.values if group is None else {**who.values, "group": group}
                path = mount.path if group is None else mount.path.replace("{group}", group)
                found.append((path, mount, fields))
    return found


def load(site: Site) -> None:
    """Import what the layers of a site need, because a confined process cannot."""
    if site.quotas or site.events:
        import pysftpserver.site.state
    if site.quotas:
        import pysftpserver.uploads.atomic
    if site.ledger is not None:
        import pysftpserver.site.shared
    import pysftpserver.site.guard
    import pysftpserver.site.largest

    if site.gates:
        import pysftpserver.site.staging  # noqa: F401


def check(site: Site) -> None:
    """Raises BadInput if no session could begin, because the state directory is missing."""
    if site.state is not None and (site.quotas or site.events):
        from pysftpserver.site import ledger

        ledger.check(site.state)


def dressed(site: Site, dress: Callable[[type], type]) -> Callable[[type], type]:
    """A function that returns the class to use for a storage of real files: with quotas, uploads appear
    whole, so that a refused one leaves the old file. dress: the door's own such function.
    """
    if not site.quotas:
        return dress

    def whole(kind: type) -> type:
        from pysftpserver.uploads.atomic import AtomicUploads

        made = dress(kind)
        return (
            made if issubclass(made, AtomicUploads) else dress(type(kind.__name__, (AtomicUploads, kind), {}))
        )

    return whole


def layered(storage: SFTPAbstractServerStorage, site: Site, who: Who) -> SFTPAbstractServerStorage:
    """A storage behind the layers that a site file asks for; without any such table, the storage itself.

    Layers are added from the one next to the storage to the one that clients talk to: quotas, the largest
    size, gates, events, rules. The last is always there if any is, because it hands canonical paths down.
    Raises BadInput, Unavailable.
    """
    if any((site.rules, site.hidden, site.names, site.gates, site.quotas, site.events)):
        state = tell = None
        if site.quotas or site.events:
            from pysftpserver.site.state import State

            state = State(site, who, storage)
            storage = state.counting(storage)
        if site.names is not None and site.names.largest is not None:
            from pysftpserver.site.largest import LargestLayer

            storage = LargestLayer(storage, site.names.largest)
        from pysftpserver.site.guard import RulesLayer
        from pysftpserver.site.rules import NameRules, Rules

        names = NameRules(site.names)
        if site.gates:
            from pysftpserver.site.gates import Gates
            from pysftpserver.site.staging import GatesLayer

            gates = Gates(site, who)
            storage = GatesLayer(storage, gates, names) if gates.gates else storage
        if state is not None:
            storage = state.telling(storage)
            tell = state.refusals(storage)
        storage = RulesLayer(storage, Rules(site, who), names, tell)
    return storage
