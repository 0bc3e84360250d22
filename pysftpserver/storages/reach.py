"""What a storage's name leads to, without opening it: jails, files, other hosts, libraries.

What may not enter: opening storages, concrete storages.
"""

from __future__ import annotations

from pysftpserver.failures import BadInput, missing, one_line
from pysftpserver.storages.by_name import CLASS, SITE, Name, Opening, in_site, may_use_network


def parts(name: Name, key: str, opening: Opening) -> list[tuple[str, Name]]:
    """Every storage that a name leads to: itself, or what its site file names, each with its place there.

    Raises BadInput.
    """
    if name.scheme != SITE:
        return [(key, name)]
    from pysftpserver.storages import sitefile

    path = _filled(name, key, opening)
    site = sitefile.read(path)
    place = f"{path}: storage"
    found = [(place, in_site(site.storage, place, opening))]
    for mount in site.mounts:
        found.append((mount.place, in_site(mount.storage, mount.place, opening)))
        found[-1][1].is_read_only = mount.read_only
    return found


def _filled(name: Name, key: str, opening: Opening) -> str:
    try:
        return name.path(opening.values)
    except ValueError as error:
        raise BadInput(f"{key}: {error}") from None


def directories(name: Name, key: str, opening: Opening) -> list[str]:
    """The directories of this host that clients cannot leave, and may change. Raises BadInput."""
    names = parts(name, key, opening)
    return [_filled(part, place, opening) for place, part in names if part.scheme == "jail"]


def files(name: Name, key: str, opening: Opening) -> list[str]:
    """The files of this host that a name leads to, and clients must not change. Raises BadInput."""
    found = []
    for place, part in [(key, name), *parts(name, key, opening)]:
        try:
            found += part.files(opening.values)
        except ValueError as error:
            raise BadInput(f"{place}: {error}") from None
    return found


def uses_network(name: Name, key: str, opening: Opening) -> bool:
    """Whether storages with this name talk to other hosts, or may. Raises BadInput."""
    return any(may_use_network(part, place) for place, part in parts(name, key, opening))


def prepare(name: Name, key: str, opening: Opening) -> None:
    """Import what storages with this name need, because a confined process cannot. Raises BadInput."""
    import pkgutil

    from pysftpserver.storages.classes import named

    names = parts(name, key, opening)
    for place, part in names:
        if part.scheme == CLASS:
            named(part.place, place)
    modules = {part.kind.module: part.kind.extra for _, part in [(key, name), *names]}
    if len(names) > 1:
        modules["pysftpserver.mountedstorage"] = ""
    for module, extra in modules.items():
        try:
            if module:
                pkgutil.resolve_name(module)
        except ModuleNotFoundError as error:
            raise missing(one_line(error.name or "a library"), extra) from None
