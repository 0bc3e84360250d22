"""Screens connections before a door serves or counts them: PROXY headers, networks and bans.

What may not enter: protocols of doors, clocks other than the event loop's.
"""

from __future__ import annotations

import socket
import struct

from pysftpserver.failures import one_line
from pysftpserver.service.bans import Bans
from pysftpserver.service.networks import Networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pysftpserver.service.proxyprotocol import Header, Headers

RESET = struct.pack("ii", 1, 0)  # for SO_LINGER: no state is kept for a connection that is refused


class Front:
    """Screens connections on an event loop.

    bans: None for a door without them. now: the clock of the bans. refused: called with the address of a
    refused connection, the setting that refuses it, and the text to log, which may be empty.
    """

    def __init__(
        self,
        refused: Callable[[str, str, str], None],
        now: Callable[[], float],
        bans: Bans | None = None,
    ) -> None:
        self._refused = refused
        self._now = now
        self._bans = bans
        self._headers: Headers | None = None
        self.limit((), (), ())

    def limit(self, proxies: Sequence[str], allowed: Sequence[str], denied: Sequence[str]) -> None:
        """Set networks: of proxies, those that are allowed (none: all), and those that are denied."""
        self._proxies = Networks(proxies)
        self._allowed = Networks(allowed)
        self._denied = Networks(denied)

    def screen(self, one: socket.socket, address: str, serve: Callable[[socket.socket], None]) -> None:
        """Call serve() with a connection from an address, now or once its header has arrived, or close it.

        one: must not block. Its peer is the client that the header names.
        """
        if not self._proxies or address not in self._proxies:
            self._judge(one, address, serve)
            return
        if self._headers is None:
            from pysftpserver.service.proxyprotocol import Headers

            self._headers = Headers()

        def done(header: Header) -> None:
            from pysftpserver.service.proxyprotocol import Announced

            if header.client is not None:
                self._judge(Announced.take(one, header.client), header.client[0], serve)
            elif header.is_own:
                serve(one)
            else:
                self._judge(one, address, serve)

        self._headers.take(one, done, lambda reason: self._refuse(one, address, "proxy_from", reason))

    def close(self) -> None:
        """Refuse the connections whose headers have not arrived."""
        if self._headers is not None:
            self._headers.close()

    def _judge(self, one: socket.socket, address: str, serve: Callable[[socket.socket], None]) -> None:
        if self._bans is not None and self._bans.is_banned(address, self._now()):
            self._refuse(one, address, "bans")
        elif self._denied and address in self._denied:
            self._refuse(one, address, "deny_networks", "its address is in deny_networks")
        elif self._allowed and address not in self._allowed:
            self._refuse(one, address, "allow_networks", "its address is not in allow_networks")
        else:
            serve(one)

    def _refuse(self, one: socket.socket, address: str, why: str, words: str = "") -> None:
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        except OSError:
            pass  # it has gone
        one.close()
        self._refused(address, why, one_line(words))
