"""A connection to Redis: only requests and replies of its protocol.

What may not enter: the meaning of commands. Facts: redis.io/docs/reference/protocol-spec (RESP2), the URL
schemes of redis-cli.
"""

from __future__ import annotations

import socket

from pysftpserver.failures import reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    Reply = bytes | int | None | list["Reply"]

PATIENCE = 5.0  # seconds to connect, and for each reply
LONGEST = 64 << 20  # bytes of one part of a reply
DEFAULT_PORT = 6379


class Lost(Exception):
    """Redis cannot be reached, or has refused a command. The text is one line."""


class Address:
    """The address of Redis. url: redis://HOST[:PORT][/DB] or unix:PATH; ?prefix=NAME distinguishes sites.

    Raises ValueError.
    """

    def __init__(self, url: str) -> None:
        from urllib.parse import parse_qsl, urlsplit

        parts = urlsplit(url)
        settings = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.prefix = settings.pop("prefix", "pysftpsite")
        self.database = settings.pop("db", parts.path.strip("/") if parts.scheme == "redis" else "") or "0"
        self.path = parts.path if parts.scheme == "unix" else None
        self.host, self.port = parts.hostname or "", parts.port or DEFAULT_PORT
        is_right = (
            self.path.startswith("/") if self.path is not None else parts.scheme == "redis" and self.host
        )
        is_right = is_right and self.database.isascii() and self.database.isdecimal()
        is_right = is_right and not (settings or parts.username or parts.password or parts.fragment)
        if not is_right or not self.prefix or not self.prefix.isprintable() or set(self.prefix) & set("{}"):
            raise ValueError("write redis://HOST:PORT/DATABASE or unix:/PATH, without a password")


class Connection:
    """A connection, opened when it is needed, and again after it was lost.

    secret: a password, or a user's name, a space and the password; "": none.
    """

    def __init__(self, address: Address, secret: str = "") -> None:
        self._address, self._secret = address, secret
        self._socket: socket.socket | None = None
        self._replies: BinaryIO | None = None

    def call(self, *words: bytes | str | int) -> Reply:
        """The reply to a command. Raises Lost."""
        try:
            if self._socket is None:
                self._connect()
            return self._ask(words)
        except OSError as error:
            self.close()
            raise Lost(reason_of(error)) from None
        except (ValueError, RecursionError):
            self.close()
            raise Lost("not the protocol of Redis") from None
        except BaseException as error:
            if not isinstance(error, Lost):
                self.close()  # otherwise the next reply would be the one to this command
            raise

    def close(self) -> None:
        """Close it. The next call connects again."""
        if self._replies is not None:
            self._replies.close()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._replies = None

    def _connect(self) -> None:
        address = self._address
        if address.path is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(PATIENCE)
            self._socket.connect(address.path)
        else:
            self._socket = socket.create_connection((address.host, address.port), PATIENCE)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._replies = self._socket.makefile("rb")
        try:
            if self._secret:
                self._ask(("AUTH", *self._secret.split(" ", 1)))
            self._ask(("SELECT", address.database))
        except Lost:
            self.close()
            raise

    def _ask(self, words: tuple[bytes | str | int, ...]) -> Reply:
        assert self._socket is not None
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            content = word if isinstance(word, bytes) else str(word).encode(errors="surrogateescape")
            parts.append(b"$%d\r\n%b\r\n" % (len(content), content))
        self._socket.sendall(b"".join(parts))
        return self._reply()

    def _reply(self) -> Reply:
        assert self._replies is not None
        line = self._replies.readline(LONGEST)
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError(104, "connection closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Lost(f"Redis says {rest[:200].decode(errors='replace')!r}")
        if kind == b"+":
            return rest
        if kind not in b":$*":
            raise ValueError
        number = int(rest)
        if kind == b":":
            return number
        if number < 0:
            return None
        if number > LONGEST:
            raise ValueError
        if kind == b"*":
            return [self._reply() for _ in range(number)]
        content = self._replies.read(number + 2)
        if len(content) != number + 2:
            raise ConnectionResetError(104, "connection closed")
        return content[:-2]
