"""Opens storages by their names for a door with many sessions, which share the connections of a storage.

What may not enter: doors, the syntax of names, concrete storages.
"""

from __future__ import annotations

import threading

from pysftpserver.failures import BadInput
from pysftpserver.storages import by_name, reach
from pysftpserver.storages.by_name import NOBODY, SCHEMES, Name, Opening

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage


class Storages:
    """Opens storages. Methods may be called from several threads, and raise BadInput, Unavailable.

    dress, tell: as in by_name.Opening. In all methods, text is a name, key is the setting that has it, and
    values are those of its fields, such as {"user": "alice"}.
    """

    #: What a name may begin with.
    schemes = frozenset(SCHEMES)

    def __init__(
        self,
        dress: Callable[[type], type] = lambda kind: kind,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        self._dress, self._tell = dress, tell
        self._shared: dict[object, Any] = {}
        self._lock = threading.Lock()

    def dressed(self, dress: Callable[[type], type]) -> Storages:
        """The same with other classes for storages of real files, over the same connections."""
        other = Storages(dress, self._tell)
        other._shared, other._lock = self._shared, self._lock
        return other

    def __call__(
        self, text: str, key: str, values: Mapping[str, str] = NOBODY, is_touched: bool = True
    ) -> SFTPAbstractServerStorage:
        """The storage with a name, for one session. is_touched: whether to create what a database lacks."""
        opening = Opening(values, self._dress, is_touched, self._tell, opens=self._opened)
        return self._opened(by_name.parse(text, key, tuple(values)), key, opening)

    def _opened(self, name: Name, key: str, opening: Opening) -> SFTPAbstractServerStorage:
        if name.kind.split is None:
            return by_name.opened(name, key, opening)
        try:
            identity, prefix = name.kind.split(name, opening.values)
            shared = self._shared.get(identity)
            if shared is None:
                opened: Any = by_name.opened(name, key, opening)
                with self._lock:
                    shared = self._shared.setdefault(identity, opened)
                if shared is not opened:  # another thread was faster
                    opened.close_client()
            return shared.at_prefix(prefix)  # type: ignore[no-any-return]
        except ValueError as error:
            raise BadInput(f"{key}: {error}") from None

    def under_site(
        self, path: str, key: str, storage: SFTPAbstractServerStorage, values: Mapping[str, str] = NOBODY
    ) -> SFTPAbstractServerStorage:
        """A storage with the mounts and layers of a site file."""
        from pysftpserver.storages import sites

        opening = Opening(values, self._dress, tell=self._tell, opens=self._opened)
        return sites.put_over(path, key, storage, opening)

    def check_site(self, path: str, key: str) -> None:
        """Raise for a site file that cannot be put over a storage, and import what it needs."""
        reach.prepare_site(path, key, Opening({"user": "user", "folder": "folder"}))

    def site_counts(self, path: str, key: str) -> bool:
        """Whether a site file that is put over a storage has quotas."""
        from pysftpserver.storages import sites

        return bool(sites.read_to_put_over(path, key).quotas)

    def site_suits_threads(self, path: str, values: Mapping[str, str]) -> bool:
        """As suits_threads(), for the mounts of a site file."""
        return reach.suit_threads(reach.mounted(path, Opening(values)))

    def site_directories(self, path: str, values: Mapping[str, str]) -> list[str]:
        """The directories of this host that are jails in the mounts of a site file."""
        return reach.directories_of(reach.mounted(path, Opening(values)), Opening(values))

    def check(self, text: str, key: str, *known: str) -> None:
        """Raise for an invalid name, or one whose class is missing; open nothing.

        known: the fields that will have a value.
        """
        name = by_name.parse(text, key, known)
        if name.scheme == by_name.CLASS:
            reach.prepare(name, key, Opening())

    def try_out(self, text: str, key: str, *known: str) -> None:
        """Raise for a name that cannot be used; the storage is opened if it needs no values for known."""
        name = by_name.parse(text, key, known)
        if name.fields:
            self.load(text, key, *known)
        else:
            self(text, key).release()

    def load(self, text: str, key: str, *known: str) -> None:
        """Import what the storage needs, as far as that is known without values for known."""
        name = by_name.parse(text, key, known)
        if name.scheme != by_name.SITE or not name.fields:
            reach.prepare(name, key, Opening(dict.fromkeys(known, "user")))

    def has_fields(self, text: str, key: str, *known: str) -> bool:
        """Whether it can be opened only with values for known."""
        name = by_name.parse(text, key, known)
        opening = Opening(dict.fromkeys(known, "user"))
        return bool(name.fields) or any(part.fields for _, part in reach.parts(name, key, opening))

    def scheme(self, text: str, key: str) -> str:
        """The scheme of a name, one of schemes."""
        return by_name.parse(text, key).scheme

    def suits_threads(self, text: str, key: str, values: Mapping[str, str] = NOBODY) -> bool:
        """Whether sessions should be threads of one process: they share connections, or talk to other hosts
        and cannot be confined.
        """
        return reach.suits_threads(by_name.parse(text, key, tuple(values)), key, Opening(values))

    def directories(self, text: str, key: str, values: Mapping[str, str] = NOBODY) -> list[str]:
        """The directories of this host that are jails in it."""
        return reach.directories(by_name.parse(text, key, tuple(values)), key, Opening(values))

    def is_directory(self, text: str, key: str) -> bool:
        """Whether the storage is just a directory of this host, without any state."""
        return self.scheme(text, key) == "jail"
