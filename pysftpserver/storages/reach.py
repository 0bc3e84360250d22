"""Tells what a storage's name leads to, without opening it: jails, files, other hosts, libraries.

What may not enter: opening storages, concrete storages.
"""

from __future__ import annotations

from pysftpserver.failures import BadInput, missing, one_line
from pysftpserver.storages.by_name import CLASS, SITE, Name, Opening, may_use_network

TYPE_CHECKING = False
if TYPE_CHECKING:
    Parts = list[tuple[str, Name]]


def parts(name: Name, key: str, opening: Opening, for_all: bool = False) -> Parts:
    """Every storage that a name leads to: itself, or those of its site file, each with its place there.

    for_all: those of other users as well. Raises BadInput.
    """
    if name.scheme != SITE:
        return [(key, name)]
    from pysftpserver.storages import sites

    path = _filled(name, key, opening)
    site = sites.room().read(path)
    top = sites.top_of(site, sites.room().who_of(site, opening.values))
    return [top, *sites.mounted(path, opening, for_all)]


def mounted(path: str, opening: Opening) -> Parts:
    """Every storage that a site file mounts, each with its place there. Raises BadInput."""
    from pysftpserver.storages import sites

    return sites.mounted(path, opening)


def _filled(name: Name, key: str, opening: Opening) -> str:
    try:
        return name.path(opening.values if name.values is None else name.values)
    except ValueError as error:
        raise BadInput(f"{key}: {error}") from None


def directories(name: Name, key: str, opening: Opening) -> list[str]:
    """The directories of this host that clients may change and cannot leave. Raises BadInput."""
    return directories_of(parts(name, key, opening), opening)


def directories_of(names: Parts, opening: Opening) -> list[str]:
    """The same for the result of parts() or mounted()."""
    return [_filled(part, place, opening) for place, part in names if part.scheme == "jail"]


def files(name: Name, key: str, opening: Opening) -> list[str]:
    """The files of this host that a name leads to, which clients must not change. Raises BadInput."""
    names = parts(name, key, opening)
    if name.scheme != SITE:
        return _files_of(names, opening)
    return [*_of_site(_filled(name, key, opening)), *_files_of(names, opening)]


def files_of_site(path: str, opening: Opening) -> list[str]:
    """The same for a site file that is put over a storage."""
    return [*_of_site(path), *_files_of(mounted(path, opening), opening)]


def _of_site(path: str) -> list[str]:
    from pysftpserver.storages import sites

    site = sites.room().read(path)
    found = [path, site.state, site.ledger_secret]
    for entry in site.events:
        found += [entry.secret, entry.socket, entry.run[0] if entry.run is not None else None]
    for entry in site.gates:
        found += [entry.ask, entry.clamd]
    return [one for one in found if one is not None and one.startswith("/") or one == path]


def _files_of(names: Parts, opening: Opening) -> list[str]:
    found = []
    for place, part in names:
        try:
            found += part.files(opening.values if part.values is None else part.values)
        except ValueError as error:
            raise BadInput(f"{place}: {error}") from None
    return found


def suits_threads(name: Name, key: str, opening: Opening) -> bool:
    """Whether sessions on it should be threads of one process, and share connections. Raises BadInput.

    That is so if a process could not be confined, or if it is just an object store.
    """
    names = parts(name, key, opening)
    return name.kind.split is not None or suit_threads(names)


def suit_threads(names: Parts) -> bool:
    """Whether a process cannot be confined to the result of parts() or mounted(), because of other hosts."""
    return any(may_use_network(part, place) and not part.kind.is_frank for place, part in names)


def prepare(name: Name, key: str, opening: Opening) -> None:
    """Import what storages with this name need, because a confined process cannot. Raises BadInput."""
    names = parts(name, key, opening, for_all=True)
    _import([(key, name), *names], len(names) > 1)
    if name.scheme == SITE:
        from pysftpserver.storages import sites

        sites.room().load(sites.room().read(_filled(name, key, opening)))


def prepare_site(path: str, key: str, opening: Opening) -> None:
    """The same for a site file that is put over a storage; its state directory has to exist."""
    from pysftpserver.storages import sites

    site = sites.read_to_put_over(path, key)
    names = sites.mounted(path, opening, for_all=True)
    _import(names, bool(names))
    sites.room().load(site)
    try:
        sites.room().check(site)
    except BadInput as error:
        raise BadInput(f"{key}: {error.message}") from None


def _import(names: Parts, are_several: bool) -> None:
    import pkgutil

    from pysftpserver.storages.classes import named

    for place, part in names:
        if part.scheme == CLASS:
            named(part.place, place)
    modules = {part.kind.module: part.kind.extra for _, part in names}
    if are_several:
        modules["pysftpserver.mountedstorage"] = ""
    for module, extra in modules.items():
        try:
            if module:
                pkgutil.resolve_name(module)
        except ModuleNotFoundError as error:
            raise missing(one_line(error.name or "a library"), extra) from None
