"""Requests through a proxy: finds their client, whether it used HTTPS, and where the door is mounted.

Headers of proxies that are not trusted are ignored. What may not enter: sessions, parts. Facts: RFC 7239 on
what its older forms X-Forwarded-For and X-Forwarded-Proto mean.
"""

from __future__ import annotations

import urllib.parse

from pysftpserver.service.networks import address_of
from pysftpserver.web.wire import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.web.config import WebSettings

MOST_HOPS = 32  # entries of X-Forwarded-For that are read


class Front:
    """The first step of all requests."""

    def __init__(self, values: WebSettings) -> None:
        self._values = values

    def apply(self, environ: dict[str, Any]) -> None:
        """Write into the environ what a trusted proxy says. Raises Refusal for a password in the clear."""
        self._mount(environ)
        peer = environ.get("REMOTE_ADDR") or ""
        if self._values.is_proxy(peer):
            address = self._client(environ.get("HTTP_X_FORWARDED_FOR", ""), peer)
            if address != peer:
                environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = address, ""
            scheme = environ.get("HTTP_X_FORWARDED_PROTO", "").rpartition(",")[2].strip().lower()
            if scheme in ("http", "https"):
                environ["wsgi.url_scheme"] = scheme
        elif environ["wsgi.url_scheme"] != "https" and not self._values.is_plain_allowed(peer):
            raise Refusal(403, "This server is reached by HTTPS, through its proxy.")

    def _client(self, told: str, peer: str) -> str:
        """The last address that is not a trusted proxy's. told: the header. peer: who sent it."""
        client = peer
        for entry in reversed(told.split(",")[-MOST_HOPS:]):
            address = _address_in(entry.strip())
            if not address:
                break
            client = address
            if not self._values.is_proxy(address):
                break
        return client

    def _mount(self, environ: dict[str, Any]) -> None:
        """Set SCRIPT_NAME to the path of the setting url, which proxies forward or strip."""
        place = self._values.mounted_at
        if place:
            environ["SCRIPT_NAME"] = place
            path = environ.get("PATH_INFO", "")
            if path == place or path.startswith(place + "/"):
                environ["PATH_INFO"] = path[len(place) :] or "/"


def _address_in(entry: str) -> str:
    """The address in an entry, which may have a port; "" if there is none."""
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    found = address_of(entry)
    return "" if found is None else str(found)


def host_of(url: str) -> str:
    """The host and port of a URL, as a browser sends them in Host and Origin; "" if it is not a URL."""
    try:
        return urllib.parse.urlsplit(url).netloc
    except ValueError:
        return ""
