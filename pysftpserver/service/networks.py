"""Networks of addresses, allowed and denied.

What may not enter: sockets, settings, what an address is checked for. Facts: RFC 4632 (IPv4) and RFC 4291
(IPv6, section 2.5.5.2 on IPv4-mapped addresses).
"""

from __future__ import annotations

import functools
import ipaddress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

REMEMBERED = 1024  # parsed texts
DENIED = "!"  # before a network of a list of allowed ones
MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


@functools.lru_cache(REMEMBERED)
def address_of(text: str) -> Address | None:
    """The address in a text, without its zone, an IPv4-mapped one as IPv4; None for other texts."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def network(text: str) -> Network:
    """The network in a text, such as 192.0.2.0/24, or the one of a single address. Raises ValueError.

    A zone (%eth0) is refused: it could be any text, and networks are written into authorized_keys.
    """
    try:
        found = ipaddress.ip_network(text if "%" not in text else "", strict=False)
    except ValueError:
        raise ValueError("networks such as 192.0.2.0/24 or 2001:db8::/32") from None
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(MAPPED):
        mapped = found.network_address.ipv4_mapped
        return ipaddress.IPv4Network((int(mapped or 0), found.prefixlen - MAPPED.prefixlen))
    return found


class Networks:
    """Whether an address is in some networks: `address in networks`.

    texts: the networks; those that begin with "!" are denied, and override the others. If only denied ones
    are given, all others are allowed. Raises ValueError with what a text has to be.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        texts = tuple(texts)
        self.allowed = tuple(network(text) for text in texts if not text.startswith(DENIED))
        self.denied = tuple(network(text[1:].strip()) for text in texts if text.startswith(DENIED))

    def __contains__(self, text: str) -> bool:
        address = address_of(text)
        if address is None or any(address in one for one in self.denied):
            return False
        return any(address in one for one in self.allowed) or (bool(self.denied) and not self.allowed)

    def __bool__(self) -> bool:
        return bool(self.allowed or self.denied)


@functools.lru_cache(REMEMBERED)
def networks_of(text: str) -> Networks:
    """The networks in a text, separated by commas; the results are cached. Raises ValueError."""
    return Networks(filter(None, map(str.strip, text.split(","))))


def is_loopback(host: str) -> bool:
    """Whether an address, or each address of a name, is this host's own. Looking up a name may take long.

    True for a name that has no address: it leads nowhere.
    """
    import socket  # most servers start without it

    if (address := address_of(host)) is not None:
        return address.is_loopback
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return True
    addresses = [address_of(str(entry[4][0])) for entry in found]
    return all(one is not None and one.is_loopback for one in addresses)
