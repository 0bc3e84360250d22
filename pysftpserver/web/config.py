"""The settings of pysftpweb.

What may not enter: what a setting does.
"""

from __future__ import annotations

import urllib.parse

from pysftpserver.failures import BadInput
from pysftpserver.http.settings import HTTPSettings
from pysftpserver.people import methods
from pysftpserver.people.methods import PASSWORD, PUBLICKEY
from pysftpserver.people.settings import PeopleSettings
from pysftpserver.service.networks import is_loopback, networks_of
from pysftpserver.service.settings import (
    COUNT,
    FILE,
    FLAG,
    PORT,
    Kind,
    Setting,
    StrangerSettings,
    networks,
    optional,
    seconds,
    texts,
    whole,
)


def _without_keys(text: str) -> None:
    if PUBLICKEY in methods.parse(text):
        raise ValueError("password or password,totp: a browser has no keys")


def _url(text: str) -> str:
    parts = urllib.parse.urlsplit(text)
    is_plain = parts.hostname and not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in ("http", "https") or not is_plain:
        raise ValueError("a URL such as https://files.example.org or https://example.org/files")
    return text.rstrip("/")


# fmt: off
class WebSettings(HTTPSettings, PeopleSettings, StrangerSettings):  # type: ignore[misc]  # one address only
    """The settings of pysftpweb."""

    login_grace = None  # type: ignore[assignment]  # no connection waits for a login
    proxied = None  # type: ignore[assignment]  # see proxies
    port = Setting(PORT, 8088, "Listen on this port; 0 is any free one, which the log names.", "-p")
    login_share = Setting(
        whole(1, 100, "PERCENT"), 50, "Maximum share of one processor for checking passwords (percent).",
        reloads=True,
    )
    certificate = Setting(
        optional(FILE), None, "Serve HTTPS with the certificate chain in this PEM file.", reloads=True
    )
    private_key = Setting(
        optional(FILE), None, "The private key of the certificate, in a PEM file.",
        unset="in the file of the certificate", reloads=True,
    )
    proxies = Setting(
        optional(networks()), None,
        "Networks of the proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, separated by "
        "commas; all other clients, except on this host, are then served over HTTPS only.", unset="none",
    )
    auth_methods = Setting(
        texts("METHODS", " ", _without_keys), (PASSWORD,),
        "What lets a user in: password, or password,totp for users who have a second factor only. The record "
        "of a user may ask for more; who needs a key logs in over SSH.",
    )
    url = Setting(
        optional(Kind(_url, "URL")), None,
        "Where people reach the server, for the links that it prints; behind a proxy, with its path there.",
        unset="the address and port that it listens on", reloads=True,
    )
    link_socket = Setting(
        optional(FILE), None,
        "Local socket on which pysftpd, by its web_socket, asks for the links of `ssh HOST web`.",
    )
    operators = Setting(
        optional(FILE), None,
        "Serve the operators' page at /operators: the state of the pysftpd whose admin_socket this is.",
    )
    operators_users = Setting(
        optional(FILE), None,
        "Let the operators in this TOML file log in to their page; each needs a password and a second "
        "factor.",
        unset="none; `pysftpctl web` prints a link",
    )
    state = Setting(
        FILE, "pysftpweb.sqlite", "Keep shared links and other state that survives restarts in this file.",
    )
    share_days = Setting(
        whole(0, 3650, "DAYS"), 90,
        "Maximum number of days that a shared link works; with 0, links cannot be made, and existing ones "
        "stop working.",
        reloads=True,
    )
    read_only = Setting(FLAG, False, "Refuse requests that would change anything.")
    durable = Setting(FLAG, False, "Reply to a request that changes names only when that is on the disk.")
    session_timeout = Setting(
        seconds(), 3600.0, "End a session after this many seconds without a request.", reloads=True
    )
    max_per_user = Setting(
        COUNT, 32, "Maximum number of sessions of one user; another login ends the least recently used one.",
        reloads=True,
    )
# fmt: on

    def is_proxy(self, address: str) -> bool:
        return self.proxies is not None and address in networks_of(",".join(self.proxies))

    def is_plain_allowed(self, address: str) -> bool:
        """Whether a client at an address may send its password without HTTPS."""
        return not self.proxies or is_loopback(address)

    @property
    def mounted_at(self) -> str:
        """The path in the setting url, unescaped as in WSGI; "" for the root of a host."""
        return urllib.parse.unquote(urllib.parse.urlsplit(self.url or "").path, "latin-1")

    def check(self) -> None:
        """Raises BadInput for settings that contradict each other."""
        if self.certificate is None:
            if self.private_key is not None:
                raise BadInput("private_key: give the certificate as well")
            if not self.proxies and not is_loopback(self.listen_address):
                raise BadInput(
                    f"listen_address {self.listen_address}: passwords would pass the network in the clear; "
                    "give a certificate, name the proxy that has one with proxies, or listen on 127.0.0.1"
                )
