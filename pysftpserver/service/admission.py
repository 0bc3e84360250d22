"""The policy for full doors: whether a new connection is admitted, and which stranger makes room for it.

A stranger is a connection that has not logged in. sshd refuses newcomers at random if there are many
strangers (MaxStartups in sshd_config(5)); here, the network with the most strangers loses its oldest one, so
a newcomer gets in at once while any network crowds the door. What may not enter: sockets, clocks, protocols.
"""

from __future__ import annotations

from collections import Counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Protocol, TypeVar

    class Guest(Protocol):
        """A connection. network: see throttle.network_of(). began: seconds of any monotonic clock."""

        network: str
        began: float

        @property
        def is_stranger(self) -> bool:
            """Whether it has not logged in."""

    Someone = TypeVar("Someone", bound=Guest)

QUICK_LOGIN = 2.0  # seconds; a login takes a fraction of one


def admit(
    guests: Collection[Someone], network: str, now: float, most: int, per_address: int | None
) -> tuple[Someone | None, str | None]:
    """Whether a newcomer is admitted: (the stranger to evict for it, or None; the reason to refuse it).

    guests: without the newcomer. most, per_address: max_connections and max_per_address; None for no limit.
    """
    evicted, refusal = None, None
    if per_address is not None:
        same = [guest for guest in guests if guest.network == network]
        if len(same) >= per_address:
            evicted = _slowest((guest for guest in same if guest.is_stranger), now)
            refusal = f"too many connections from its address: {len(same)} others (max_per_address)"
            return evicted, None if evicted is not None else refusal
    if len(guests) >= most:
        evicted = to_evict((guest for guest in guests if guest.is_stranger), network, now)
        refusal = f"too many connections: {len(guests)} others (max_connections)"
    return evicted, None if evicted is not None else refusal


def to_evict(strangers: Iterable[Someone], network: str, now: float) -> Someone | None:
    """The stranger that makes room for a newcomer from a network, or None.

    It is the oldest one of the network with the most strangers. If that has no more than the newcomer's
    network would have, strangers get QUICK_LOGIN: they may be about to log in.
    """
    strangers = list(strangers)
    if not strangers:
        return None
    counts = Counter(one.network for one in strangers)
    crowd = max(counts.values())
    of_crowds = [one for one in strangers if counts[one.network] == crowd]
    if crowd > counts[network] + 1:
        return min(of_crowds, key=_began)
    return _slowest(of_crowds, now)


def _slowest(strangers: Iterable[Someone], now: float) -> Someone | None:
    """The oldest one, unless it may still be about to log in."""
    oldest = min(strangers, key=_began, default=None)
    return oldest if oldest is not None and now - oldest.began > QUICK_LOGIN else None


def _began(guest: Guest) -> float:
    return guest.began
