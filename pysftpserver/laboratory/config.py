"""The settings of the message server. What may not enter: I/O, the protocol, how a setting is obeyed."""

from __future__ import annotations

from pysftpserver.service.settings import (
    COUNT,
    FILE,
    FLAG,
    PORT,
    Kind,
    ServiceSettings,
    Setting,
    optional,
    seconds,
    text,
    texts,
    whole,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_PORT = 12800  # of a server, if no other is given
MOST_NAME = 64  # characters of a name, the server's or a client's
PASSWORD_VARIABLE = "PYSFTPLAB_PASSWORD"

SIZE = whole(1, 1 << 30, "BYTES")


def _title(value: str) -> str:
    if not value.strip() or len(value) > MOST_NAME or not value.isprintable():
        raise ValueError(f"up to {MOST_NAME} printable characters")
    return value


def _password(value: str) -> str | None:
    if not value:
        raise ValueError("not empty")
    return value


class ServerSettings(ServiceSettings):
    """The settings of the message server."""

    listen_address = Setting(
        optional(texts("ADDRESS", ",")),
        ("127.0.0.1",),
        "Listen on these addresses, separated by commas; none is all of IPv4 and IPv6.",
        aliases=("host",),
    )
    port = Setting(PORT, DEFAULT_PORT, "Listen on this port; 0 is any free one, which the log names.")
    name = Setting(Kind(_title, "NAME"), "Laboratory", "Name of the server.", reloads=True)
    password = Setting(
        Kind(_password, "TEXT"),
        None,
        "Password of the server.",
        is_secret=True,
        in_file_only=True,
        reloads=True,
    )
    password_file = Setting(
        optional(FILE),
        None,
        "Read the password from the first line of this file.",
        reloads=True,
    )
    service = Setting(
        texts("NAME"),
        (),
        "Offer this service, a supplied one or module:Class; may be given several times.",
        unset="all supplied services that need no setting, and those whose setting is given",
    )
    allow_plaintext = Setting(FLAG, False, "Accept clients that do not encrypt.", reloads=True)
    allow_remote_stop = Setting(FLAG, False, "Let clients stop the server.", reloads=True)
    step_timeout = Setting(
        seconds(),
        5.0,
        "Close a connection when one step of its login takes longer than this many seconds.",
        reloads=True,
    )
    login_grace = Setting(
        seconds(),
        15.0,
        "Close a connection that has not logged in after this many seconds.",
        reloads=True,
    )
    stall_timeout = Setting(
        seconds(),
        30.0,
        "Close a connection whose client reads nothing for this many seconds, or under 256 bytes a second.",
        reloads=True,
    )
    drain_seconds = Setting(
        seconds(0.0),
        2.0,
        "Maximum number of seconds between SIGTERM and the end; services get half of them.",
        reloads=True,
    )
    max_per_address = Setting(
        optional(COUNT),
        100,
        "Maximum number of connections from one address; a /64 of IPv6 is one.",
        reloads=True,
    )
    max_message = Setting(SIZE, 65536, "Maximum size of a message from a client (bytes).", reloads=True)
    max_unsent = Setting(
        SIZE, 1048576, "Maximum size of what waits to be sent to one client (bytes).", reloads=True
    )
    key_age = Setting(seconds(), 3600.0, "Replace the RSA key after this many seconds.")
    key_uses = Setting(COUNT, 1000, "Replace the RSA key after this many connections.")
    chat_history = Setting(whole(0, 10_000), 50, "Chat: number of messages that a room remembers.")
    chat_rooms = Setting(COUNT, 100, "Chat: maximum number of rooms.")
    http_allow = Setting(
        texts("URL"), (), "HTTP: allow URLs that begin like this one; may be given several times."
    )
    http_timeout = Setting(
        seconds(), 10.0, "HTTP: give up a fetch, with its redirects, after this many seconds."
    )
    http_max_bytes = Setting(SIZE, 262144, "HTTP: maximum size of a body (bytes).")
    files = Setting(
        optional(text("STORAGE")),
        None,
        "Files: serve the storage with this name, such as jail:/srv/files or s3://bucket/prefix.",
        unset="no Files service",
    )
    files_max_bytes = Setting(
        whole(1, 1 << 50, "BYTES"), 1 << 30, "Files: maximum size of an upload (bytes)."
    )
    files_read_only = Setting(FLAG, False, "Files: refuse uploads.")


def options(**values: Any) -> ServerSettings:
    """The settings of a server in your own program, by name; older names are accepted as well.

    Raises TypeError for a name that is not a setting.
    """
    if "host" in values:
        host = values.pop("host")
        values["listen_address"] = (host,) if host else None
    return ServerSettings(**values)
