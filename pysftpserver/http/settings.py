"""The settings of the web server, which doors over HTTP share.

What may not enter: what a setting does.
"""

from __future__ import annotations

from pysftpserver.service.settings import BYTES, COUNT, FLAG, PORT, LogSettings, Setting, seconds, text, whole


# fmt: off
class HTTPSettings(LogSettings):
    """Where a web server listens, and its limits."""

    port = Setting(PORT, 8080, "Listen on this port; 0 is any free one, which the log names.")
    listen_address = Setting(
        text("ADDRESS"), "127.0.0.1",
        "Listen on this address or host name; 0.0.0.0 is every interface.",
    )
    max_sessions = Setting(
        COUNT, 1000, "Maximum number of sessions.", aliases=("most_sessions",), reloads=True,
    )
    max_connections = Setting(COUNT, 900, "Maximum number of connections, unauthenticated ones included.")
    threads = Setting(
        whole(2, 1000), 40, "Number of requests that are served at the same time; a quarter of them is "
        "reserved for addresses that have a session, and an eighth for others. One user gets at most a "
        "quarter (at least 4); more requests wait.",
    )
    max_per_address = Setting(
        whole(1, 1000), 20, "Maximum number of requests of one address that are served at the same time; "
        "it may have four times as many connections open.", aliases=("most_per_address",),
    )
    max_request_memory = Setting(
        BYTES, 32 << 20, "Maximum memory of all requests whose header or login is still arriving, in bytes; "
        "beyond it, those of more than 16 KiB are refused.",
    )
    proxied = Setting(
        FLAG, False, "Run behind a proxy: take the client's address from the end of X-Forwarded-For.",
    )
    idle_timeout = Setting(
        seconds(), 10.0, "Close a connection whose peer neither sends nor reads for this many seconds "
        "during a request.", aliases=("idle",),
    )
    slowest = Setting(
        whole(0, 1 << 40, "BYTES"), 1024, "Minimum speed of a peer, in bytes per second; it counts after 30 "
        "seconds of waiting for the peer.",
    )
# fmt: on

    def is_proxy(self, address: str) -> bool:
        """Whether an address is a proxy's, so that requests from it are those of all its clients."""
        return self.proxied
