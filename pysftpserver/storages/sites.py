"""Opens site files: the storage at the top, what is mounted in it, and the layers in front of all of it.

What may not enter: what a site file may say, what a layer does, concrete storages.
"""

from __future__ import annotations

from pysftpserver.failures import BadInput, one_line
from pysftpserver.storages.by_name import Name, Opening, in_site, may_use_network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.site.file import Entry
    from pysftpserver.site.opening import Site, Who


def room() -> Any:
    """The room that knows site files; it is loaded only if a name leads to one."""
    from pysftpserver.site import opening

    return opening


def opened(path: str, opening: Opening) -> SFTPAbstractServerStorage:
    """The storage that a site file describes. Raises BadInput, Unavailable."""
    site = room().read(path)
    who = room().who_of(site, opening.values)
    place, name = top_of(site, who)
    opening = _dressed(site, opening)
    return _with_layers(opening.opens(name, place, opening.with_values(who.values)), site, who, opening)


def put_over(
    path: str, key: str, storage: SFTPAbstractServerStorage, opening: Opening
) -> SFTPAbstractServerStorage:
    """A storage with the mounts and layers of a site file. key: the option or key that names the file.

    Raises BadInput, Unavailable.
    """
    site = read_to_put_over(path, key)
    return _with_layers(storage, site, room().who_of(site, opening.values), _dressed(site, opening))


def _dressed(site: Site, opening: Opening) -> Opening:
    """The opening for all storages of a site, including the mounted ones."""
    inner = opening.with_values(opening.values)
    inner.dress, inner.is_bare = room().dressed(site, opening.dress), opening.is_bare
    return inner


def read_to_put_over(path: str, key: str) -> Site:
    """A site file without a storage at its top. Raises BadInput for another."""
    try:
        site: Site = room().read(path)
    except BadInput as error:
        raise type(error)(f"{key}: {error.message}") from None
    if site.storage is not None:
        place = site.top.at("storage")
        raise BadInput(f"{key}: {place}: there is another storage already; leave this key out")
    return site


def top_of(site: Site, who: Who) -> tuple[str, Name]:
    """The place in a site file of the storage at its top, and the storage's name. Raises BadInput."""
    if site.storage is None:
        raise BadInput(f"{site.file}: storage: missing; name the storage at the top of the tree")
    place = site.top.at("storage")
    return place, in_site(site.storage, place, who.values)


def mounted(path: str, opening: Opening, for_all: bool = False) -> list[tuple[str, Name]]:
    """The place and the name of each storage that a site file mounts. for_all: for other users as well.

    Raises BadInput.
    """
    site = room().read(path)
    who = room().who_of(site, opening.values)
    found = []
    for _, mount, values in room().mounts_of(site, who, for_all):
        found.append((mount.at("storage"), in_site(mount.storage, mount.at("storage"), values)))
        found[-1][1].is_read_only = mount.read_only
    return found


def _with_layers(
    storage: SFTPAbstractServerStorage, site: Site, who: Who, opening: Opening
) -> SFTPAbstractServerStorage:
    mounts: dict[bytes, Any] = {}
    for point, mount, values in room().mounts_of(site, who):
        where = point.encode("utf-8", "surrogateescape")  # in any locale that a client asks for
        if where in mounts:
            raise BadInput(f"{mount.at('path')}: {one_line(point)} is mounted twice for this user")
        mounts[where] = _mount(mount, opening.with_values(values, waits=False))
    if mounts:
        from pysftpserver.mountedstorage import SFTPServerMountedStorage

        try:
            storage = SFTPServerMountedStorage(storage, mounts, across=site.across)
        except ValueError as error:
            raise BadInput(f"{site.file}: {error}") from None
    return storage if opening.is_bare else room().layered(storage, site, who)


def _mount(mount: Entry, opening: Opening) -> Any:
    """A mount, whose storage is opened when it is needed. Raises BadInput for an invalid name."""
    from pysftpserver.mountedstorage import Mount

    place = mount.at("storage")
    name = in_site(mount.storage, place, opening.values)

    def open_it() -> SFTPAbstractServerStorage:
        try:
            return opening.opens(name, place, opening)
        except BadInput as error:
            if opening.tell is not None:
                opening.tell(error.message)
            raise

    uses_network = may_use_network(name, place)
    try:
        reads = name.files(opening.values) if name.kind.cannot is not None else None
    except ValueError as error:
        raise BadInput(f"{place}: {error}") from None
    return Mount(open_it, mount.read_only, uses_network=uses_network, reads=reads)
