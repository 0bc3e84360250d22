"""Requests and replies of the browser door, over WSGI.

What may not enter: sessions, storages, pages. Facts: RFC 9110, PEP 3333, RFC 6265, RFC 7617.
"""

from __future__ import annotations

import base64
import http
import urllib.parse

from pysftpserver.failures import show
from pysftpserver.http.arriving import cookie_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from pysftpserver.web.session import Session

    Headers = list[tuple[str, str]]

MOST_FORM = 1 << 20  # bytes of a form without files
MOST_FIELDS = 10_000  # of one
MOST_CREDENTIALS = 16384  # characters
MOST_SHOWN = 64  # bytes of a path in the log
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


class Refusal(Exception):
    """A request that is refused. words: for the person; they reveal nothing about the host."""

    def __init__(self, status: int, words: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(words)
        self.status, self.words, self.headers = status, words, list(headers)


class Request:
    """One request. session: if someone is logged in, or None. path: percent-decoded bytes below the door's
    root.

    place: where the door is mounted; b"" at the root of a host. address, port: the client's; the port is None
    if a proxy does not tell it.
    """

    def __init__(self, environ: dict[str, Any], session: Session | None = None) -> None:
        self.environ = environ
        self.session = session
        self.method: str = environ["REQUEST_METHOD"]
        self.path: bytes = environ.get("PATH_INFO", "").encode("latin-1")  # PEP 3333's bytes in a text
        self.place: bytes = environ.get("SCRIPT_NAME", "").encode("latin-1")
        self.is_secure = environ.get("wsgi.url_scheme") == "https"
        self.address: str = environ.get("REMOTE_ADDR") or ""
        self.port = int(port) if (port := str(environ.get("REMOTE_PORT") or "")).isdecimal() else None

    @property
    def shown(self) -> str:
        """The path for a log: only its first name, because the rest may contain a token."""
        return show(b"/" + self.path[1:].partition(b"/")[0][:MOST_SHOWN])

    def allow(self, *methods: str) -> None:
        """Refuse the request if its method is another one. Raises Refusal."""
        if self.method not in methods:
            raise Refusal(405, f"Use {' or '.join(methods)}.", [("Allow", ", ".join(methods))])

    def header(self, name: str) -> str:
        """The value of a header, "" if there is none. name: as in RFC 9110, such as If-Match."""
        found: str = self.environ.get("HTTP_" + name.upper().replace("-", "_"), "")
        return found

    def query(self) -> dict[str, str]:
        """The fields of the query; of several with one name, the last."""
        return dict(urllib.parse.parse_qsl(self.environ.get("QUERY_STRING", ""), keep_blank_values=True))

    def cookie(self, name: str) -> str | None:
        """The value of a cookie."""
        return cookie_in(self.environ.get("HTTP_COOKIE", ""), name)

    def body(self, most: int) -> bytes:
        """All of the body. most: its maximum size in bytes. Raises Refusal."""
        data = bytearray()
        while piece := self.environ["wsgi.input"].read(min(65536, most + 1 - len(data))):
            data += piece
            if len(data) > most:
                raise Refusal(413, "The request is too long.")
        return bytes(data)

    def form(self, most: int = MOST_FORM) -> dict[str, str]:
        """The fields of a form, sent urlencoded; of several with one name, the last. Raises Refusal."""
        return dict(self.fields(most))

    def fields(self, most: int = MOST_FORM) -> list[tuple[str, str]]:
        """The same, but with all fields of each name, in their order."""
        kind = self.environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise Refusal(415, "Send this form as application/x-www-form-urlencoded.")
        text = self.body(most).decode("ascii", "replace")
        if text.count("&") >= MOST_FIELDS:
            raise Refusal(413, "The form has too many fields.")
        return urllib.parse.parse_qsl(text, keep_blank_values=True, errors="surrogateescape")


class Reply:
    """The answer to a request. body: pieces; it may have close(), which is called at the end. length: of the
    body in bytes; None: it is sent in chunks.
    """

    def __init__(
        self,
        body: bytes | Iterable[bytes] = b"",
        status: int = 200,
        headers: Iterable[tuple[str, str]] = (),
        kind: str | None = None,
        length: int | None = None,
    ) -> None:
        if isinstance(body, bytes):
            body, length = ([body] if body else []), len(body)
        self.body, self.status, self.length = body, status, length
        self.headers: Headers = list(headers)
        if kind is not None:
            self.headers.append(("Content-Type", kind))

    def start(self, start_response: Callable[..., Any], extra: Mapping[str, str]) -> Iterable[bytes]:
        """Send status and headers; return the body. extra: headers that it gets if it has none of that
        name.
        """
        names = {name.lower() for name, _ in self.headers}
        headers = [*self.headers, *(item for item in extra.items() if item[0].lower() not in names)]
        if self.length is not None and self.status not in (204, 304):
            headers.append(("Content-Length", str(self.length)))
        start_response(f"{self.status} {http.HTTPStatus(self.status).phrase}", headers)
        return self.body


def set_cookie(
    request: Request, name: str, value: str, path: bytes, same_site: str = "Lax"
) -> tuple[str, str]:
    """The header that sets a cookie for everything below a path of the host; "" removes it."""
    said = f"{name}={value}; Path={quoted(path) or '/'}; HttpOnly; SameSite={same_site}"
    return "Set-Cookie", said + ("; Secure" if request.is_secure else "") + ("" if value else "; Max-Age=0")


def basic_credentials(header: str) -> tuple[str, str] | None:
    """The name and the password in an Authorization header; None: there are none."""
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "basic" or len(token) > MOST_CREDENTIALS:
        return None
    try:
        name, colon, password = base64.b64decode(token.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return (name, password) if colon else None


def redirect(
    request: Request,
    path: bytes,
    status: int = 303,
    headers: Iterable[tuple[str, str]] = (),
    query: str = "",
) -> Reply:
    """Send a browser to another path of the door. query: encoded already, without the question mark."""
    target = quoted(request.place + path) + (f"?{query}" if query else "")
    return Reply(b"", status, [("Location", target), *headers])


def quoted(path: bytes) -> str:
    """A path, quoted for a URL."""
    return urllib.parse.quote(path, safe="/~!$'()*,;=:@")


def unquoted(text: str) -> bytes:
    """The name or path in a field of a form, as quoted() has encoded it."""
    return urllib.parse.unquote_to_bytes(text.encode("utf-8", "surrogateescape"))
