"""A request as cheroot reads it, with a length that is unambiguous, and its answer.

What may not enter: which request gets a thread, what the application does. Facts: RFC 9112.
"""

from __future__ import annotations

import contextlib
import re

from cheroot import server as cheroot

from pysftpserver.http import CLAIM, IS_GONE, SEND, SEND_FILE
from pysftpserver.http.arriving import HeaderReader, body_length
from pysftpserver.http.streams import ChunkedBody, KnownBody

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The form that arriving.py expects too: a login there must be a login here.
FIRST_LINE = re.compile(rb"[!-~]+ [!-~\x80-\xff]+ HTTP/[0-9]\.[0-9]\r\n")


class _FirstLine:
    """Reads a request, and keeps the last line as it was, because cheroot strips blanks and controls."""

    def __init__(self, rfile: Any) -> None:
        self._rfile = rfile
        self.line = b""

    def readline(self) -> bytes:
        self.line = self._rfile.readline()
        return self.line


class Request(cheroot.HTTPRequest):  # type: ignore[misc, unused-ignore]
    """A request whose length is unambiguous."""

    header_reader = HeaderReader()

    def read_request_line(self) -> bool:
        rfile = self.rfile
        self.rfile = first = _FirstLine(rfile)
        try:
            if not super().read_request_line():  # type: ignore[no-untyped-call, unused-ignore]
                return False
        except ValueError:  # from taking the URI apart
            first.line = b""
        finally:
            self.rfile = rfile
        if FIRST_LINE.fullmatch(first.line) is None:
            self.simple_response("400 Bad Request", "Malformed Request-Line")
            return False
        return True

    def read_request_headers(self) -> bool:
        if not super().read_request_headers():  # type: ignore[no-untyped-call, unused-ignore]
            return False
        try:
            # HTTP/1.0 has no transfer codings: intermediaries may assume another length (RFC 9112, 6.1).
            is_clear = body_length(self.inheaders) is not None or self.chunked_read
        except ValueError:
            is_clear = False
        if not is_clear:
            self.simple_response("400 Bad Request", "The length of the body is not clear.")
            return False
        return True

    def respond(self) -> None:
        if self.chunked_read:
            self.rfile = ChunkedBody(self.conn.rfile)
        else:
            length = int(self.inheaders.get(b"Content-Length", 0))
            self.rfile = KnownBody(self.conn.stream, length)
        gateway = self.server.gateway(self)
        gateway.env[IS_GONE] = self.conn.is_gone
        gateway.env[CLAIM] = self.conn.claim
        gateway.env["wsgi.url_scheme"] = "https" if self.conn.stream.is_secure else "http"
        gateway.env[SEND] = gateway.write
        if not self.conn.stream.is_secure:
            gateway.env[SEND_FILE] = self.send_file
        gateway.respond()
        if self.ready:
            self.ensure_headers_sent()
        if self.chunked_write:
            self.conn.wfile.write(b"0\r\n\r\n")

    def send_headers(self) -> None:
        self.rfile.finish()
        if not self.rfile.is_finished:
            self.close_connection = True
            self.conn.is_unread = True
        super().send_headers()

    def write(self, chunk: bytes) -> None:
        if self.method != b"HEAD":  # whose answers never have bodies, whatever their headers say
            super().write(chunk)

    def send_file(self, descriptor: int, offset: int, size: int) -> int:
        """Send part of a file; return how many bytes, fewer only at its end."""
        self.ensure_headers_sent()
        return size if self.method == b"HEAD" else int(self.conn.stream.send_file(descriptor, offset, size))

    def simple_response(self, status: str, msg: str = "") -> None:
        """Answer a request that is refused; the connection ends."""
        self.close_connection = True
        self.conn.is_unread = True
        said = (
            f"{self.server.protocol} {status}\r\nContent-Length: {len(msg)}\r\n"
            f"Content-Type: text/plain\r\nConnection: close\r\n\r\n{msg}"
        )
        with contextlib.suppress(OSError):  # the peer has gone
            self.conn.wfile.write(said.encode("latin-1"))
