"""The user and client of a session, as the rules of a site see them.

What may not enter: sessions, storages. Facts: RFC 4291, section 2.5.5.2, for addresses of IPv4 in IPv6.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Who:
    """The user and client of a session.

    user: the name; None if the door knows none. groups: the site file's groups that the user is in, in the
    order of the file. address: the client's IP address; None if there is none, as on a terminal. session: the
    name of the session in logs and records. values: of the fields in braces.
    """

    def __init__(
        self,
        user: str | None = None,
        groups: tuple[str, ...] = (),
        address: str | None = None,
        session: str = "",
        folder: str | None = None,
    ) -> None:
        self.user, self.groups, self.session = user, groups, session
        self.folder = folder
        if address is not None:
            address = address.partition("%")[0].removeprefix("::ffff:")
        self.address = address

    @property
    def values(self) -> dict[str, str]:
        """The known fields with their values. For group, that is the user's first group."""
        found = {"user": self.user, "folder": self.folder, "group": self.groups[0] if self.groups else None}
        return {name: value for name, value in found.items() if value is not None}

    def __repr__(self) -> str:
        return f"Who({self.user!r}, groups={self.groups!r}, address={self.address!r})"


def of_values(values: Mapping[str, str], groups: tuple[str, ...] = ()) -> Who:
    """The Who for which storages are opened. values: user, folder, address and session, if known."""
    return Who(
        values.get("user"), groups, values.get("address"), values.get("session", ""), values.get("folder")
    )


def groups_of(user: str | None, groups: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The groups that a user is in. groups: the users of each, or patterns for them."""
    return tuple(name for name, users in groups.items() if user is not None and _matches(user, users))


def is_meant(who: Who, users: tuple[str, ...], groups: tuple[str, ...]) -> bool:
    """Whether a table of a site file with these users and groups applies to a user. One with neither does."""
    if not users and not groups:
        return True
    return who.user is not None and _matches(who.user, users) or any(name in groups for name in who.groups)


def _matches(user: str, patterns: tuple[str, ...]) -> bool:
    from fnmatch import fnmatchcase

    return any(fnmatchcase(user, pattern) for pattern in patterns)
