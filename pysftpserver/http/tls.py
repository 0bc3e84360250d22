"""HTTPS: a socket that is read and written through TLS, whose handshake needs no thread.

What may not enter: cheroot, which clients are let in. Facts: RFC 8446, RFC 5246, and ssl's documentation on
sockets that do not block.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl

from pysftpserver.http.streams import RECEIVE, Stream
from pysftpserver.service.tls import load_certificate

KEYS = "certificate", "private_key"  # the settings
NOT_TLS = "HTTP_REQUEST"  # OpenSSL's word for a peer that speaks plain HTTP
USE_HTTPS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"Use https:// for this server.\n"
)
OTHERS_READ = 0o077


def context_of(certificate: str, key: str | None) -> ssl.SSLContext:
    """A server's context from PEM files of a certificate chain and its key; TLS 1.2 or later. Raises
    BadInput.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, KEYS, certificate, key)
    return context


def is_open_to_others(path: str) -> bool:
    """Whether accounts other than its owner may use a key file. Raises OSError."""
    return bool(os.stat(path).st_mode & OTHERS_READ)


class SecureStream(Stream):
    """A stream through TLS. The handshake comes first: see handshake()."""

    is_secure = True

    def __init__(self, sock: socket.socket, slowest: int, context: ssl.SSLContext) -> None:
        super().__init__(sock, slowest)
        self.is_ready = False
        self._context = context
        self._tls: ssl.SSLSocket | None = None

    def handshake(self) -> bool:
        """Go on with the handshake, without waiting; return whether it is complete. Raises OSError."""
        if self._tls is None:
            timeout = self.socket.gettimeout()
            self.socket = self._tls = self._context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
            self._timeout = timeout
            self._tls.settimeout(0)
        try:
            self._tls.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except ssl.SSLError as error:
            if error.reason == NOT_TLS:
                self._answer_plain()
            raise
        self._tls.settimeout(self._timeout)
        self.is_ready = True
        return True

    def _answer_plain(self) -> None:
        """Answer a peer that speaks plain HTTP, as far as possible without waiting. Raises OSError."""
        # Unread data would make the kernel drop the answer.
        socket.socket.recv(self.socket, RECEIVE, socket.MSG_DONTWAIT)
        socket.socket.send(self.socket, USE_HTTPS, socket.MSG_DONTWAIT)

    def has_data(self) -> bool:
        return super().has_data() or self.is_ready and self._pending()

    def _pending(self) -> bool:
        """Whether there are decrypted bytes, which poll(2) cannot see."""
        assert self._tls is not None
        try:
            return self._tls.pending() > 0
        except ValueError:  # the end has begun
            return False

    def _receive(self, most: int) -> bytes:
        try:
            return self.socket.recv(most)
        except ssl.SSLError as error:
            raise _broken(error) from None

    def _receive_into(self, view: memoryview) -> int:
        try:
            return self.socket.recv_into(view)
        except ssl.SSLError as error:
            raise _broken(error) from None

    def _receive_now(self) -> bytes:
        self.socket.settimeout(0)
        try:
            return self.socket.recv(RECEIVE)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLError as error:
            raise _broken(error) from None
        finally:
            self.socket.settimeout(self._timeout)

    def _send(self, data: memoryview) -> int:
        try:
            return self.socket.send(data)
        except ssl.SSLError as error:
            raise _broken(error) from None

    def send_now(self, data: bytes) -> None:
        if not self.is_ready:
            raise ConnectionAbortedError(errno.ECONNABORTED, "no handshake")
        self.socket.settimeout(0)
        try:
            self._send(memoryview(data))
        finally:
            self.socket.settimeout(self._timeout)

    def end(self) -> None:
        if self._tls is not None and self.is_ready:
            self.is_ready = False
            self._tls.settimeout(0)
            try:
                self._tls.unwrap()  # sends close_notify, and then waits for the peer's
            except (OSError, ValueError):
                pass
        super().end()


def _broken(error: ssl.SSLError) -> OSError:
    """The peer's fault as an exception that cheroot knows from plain connections."""
    return ConnectionResetError(errno.ECONNRESET, error.reason or "TLS")
