"""HTTP: fetches a URL that is on the list for a client, and passes the answer on.

What may not enter: URLs that are not on the list, however a request leads there: by a redirect, dots in a
path, a user before the host. Facts: RFC 3986, RFC 9110; httpx's pages on clients, timeouts and streaming.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Iterable
from time import monotonic
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import httpx

from pysftpserver.failures import one_line
from pysftpserver.laboratory.loop import LoopThread
from pysftpserver.laboratory.service import Client, Service

AT_ONCE = 8  # fetches
GOODBYE = 2.0  # seconds for the thread to end
MOST_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
TURN = 0.02  # seconds of work on the body of one fetch before other fetches have their turn
MOST_URL = 4096  # characters
MOST_HEADERS = 64 << 10  # bytes of all of them
PORTS = {"http": 80, "https": 443}
CHARSETS = {"utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252"}  # charsets that become text
TEXT = re.compile(r"text/|application/(?:json|xml|javascript|[\w.-]+\+(?:json|xml))")
HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close", "User-Agent": "pysftplab"}
_UNSAFE = re.compile(r"[^!-~]|[\\\"<>^`{|}]")

HELP = "GET URL fetches it, where the list allows that"


class NotFetched(Exception):
    """Why a URL was not fetched, in words for the client."""


class Place(NamedTuple):
    """The beginning of URLs."""

    scheme: str
    host: str
    port: int
    path: str


class Answer(NamedTuple):
    """An origin server's answer."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    url: str


class HTTP(Service):
    """Fetches a URL: GET URL. Answers with status, headers and body."""

    def __init__(self, allow: Iterable[str], timeout: float = 10.0, max_bytes: int = 262_144) -> None:
        """allow: beginnings of URLs, such as `https://example.org/here`. timeout: seconds for a whole fetch,
        name lookups and redirects included. max_bytes: maximum size of a body. Raises ValueError for an
        entry that is not the beginning of a URL.
        """
        self._allowed = tuple(beginning_of(url) for url in allow)
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._thread: LoopThread | None = None
        # The system's certificates; httpx would use certifi's.
        self._tls = ssl.create_default_context()

    async def on_message(self, client: Client, text: str) -> None:
        """Fetch what the client names."""
        word, _, rest = text.strip().partition(" ")
        url = rest.strip() if word.upper() == "GET" else word if not rest else ""
        if not url:
            client.send(f"error: {HELP}")
            return
        if self._thread is None:
            # In its own thread: parsing an answer takes time that other clients must not lose.
            self._thread = LoopThread("laboratory-http")
        try:
            async with self._turns:
                client.send(said(await asyncio.wrap_future(self._thread.submit(self._fetch(url)))))
        except NotFetched as error:
            client.send(f"error: {error}")

    def detach(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.stop(GOODBYE)

    async def _fetch(self, url: str) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                for _ in range(MOST_REDIRECTS + 1):
                    parts = self._allowed_parts(url)
                    answer = await self._get(parts)
                    location = dict(answer.headers).get("location")
                    if answer.status not in REDIRECTS or location is None:
                        return answer
                    url = urljoin(parts.geturl(), location)
                raise NotFetched(f"more than {MOST_REDIRECTS} redirects")
        except TimeoutError:
            raise NotFetched(f"it took more than {self._timeout:g} seconds") from None

    async def _get(self, parts: SplitResult) -> Answer:
        """One request. Raises NotFetched."""
        place = place_of(parts.geturl())
        try:
            # A new client for each request, so that no cookies are kept. trust_env=False: no proxies.
            async with httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=None) as client:
                request = client.build_request("GET", parts.geturl(), headers=HEADERS)
                check_same(request.url, place, parts)
                response = await client.send(request, stream=True)
                return await self._read(response, parts.geturl())
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            reason = one_line(str(error)) or type(error).__name__
            raise NotFetched(f"{place.host}: {reason}") from None

    async def _read(self, response: httpx.Response, url: str) -> Answer:
        headers = response.headers.multi_items()
        if sum(len(name) + len(value) for name, value in headers) > MOST_HEADERS:
            raise NotFetched(f"headers of more than {MOST_HEADERS} bytes")
        body = bytearray()
        turn_ends = monotonic() + TURN
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > self._max_bytes:
                raise NotFetched(f"a body of more than {self._max_bytes} bytes")
            if monotonic() > turn_ends:  # pieces already received arrive without a pause
                await asyncio.sleep(0)
                turn_ends = monotonic() + TURN
        return Answer(response.status_code, response.reason_phrase, headers, bytes(body), url)

    def _allowed_parts(self, url: str) -> SplitResult:
        """The parts of a URL, if it is on the list. Raises NotFetched."""
        try:
            parts = checked(url)
            here = place_of(url)
        except ValueError as error:
            raise NotFetched(str(error)) from None
        for place in self._allowed:
            if here[:3] == place[:3] and is_below(here.path, place.path):
                return parts
        raise NotFetched("this server does not allow that URL")


def checked(url: str) -> SplitResult:
    """The parts of a URL. Raises ValueError for an ambiguous one."""
    if len(url) > MOST_URL or _UNSAFE.search(url):
        raise ValueError(f"not a URL: it has to be percent-encoded ASCII of up to {MOST_URL} characters")
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError("not a URL: it has to begin with http:// or https:// and a host")
    if "@" in parts.netloc:
        raise ValueError("URLs with a user are refused")
    path = parts.path
    for _ in range(3):  # some servers decode twice what is encoded twice
        path = unquote(path)
    # What follows a semicolon is a parameter of that path segment, which some servers remove.
    if {"..", "."} & {part.partition(";")[0] for part in re.split(r"[/\\]", path)}:
        raise ValueError("URLs with . or .. in the path are refused")
    return parts


def check_same(meant: httpx.URL, place: Place, parts: SplitResult) -> None:
    """Raises NotFetched if httpx reads a URL in another way than we do."""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    found = (meant.scheme, meant.host, meant.port or PORTS.get(meant.scheme), meant.raw_path)
    if found != (place.scheme, place.host, place.port, target.encode()):
        raise NotFetched("that URL can be read in two ways")


def place_of(url: str) -> Place:
    """The place that a URL names. Raises ValueError."""
    parts = checked(url)
    assert parts.hostname is not None
    port = parts.port if parts.port is not None else PORTS[parts.scheme]
    return Place(parts.scheme, parts.hostname, port, parts.path or "/")


def beginning_of(url: str) -> Place:
    """An entry of the list. Raises ValueError, with the entry in its text."""
    try:
        place, parts = place_of(url), urlsplit(url)
    except ValueError as error:
        raise ValueError(f"{url!r}: {error}") from None
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r}: only scheme, host, port and path are compared; remove the rest")
    return place


def is_below(path: str, top: str) -> bool:
    """Whether a path is `top`, or below it."""
    return path == top or path.startswith(top if top.endswith("/") else top + "/")


def said(answer: Answer) -> str:
    """The message for the client: status, headers, an empty line, and the body."""
    kind, body = body_of(answer)
    lines = [
        f"HTTP {answer.status} {answer.reason}",
        f"laboratory-url: {answer.url}",
        f"laboratory-body: {kind}",
    ]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    # A folded header becomes one line.
    return "\n".join(" ".join(line.replace("\0", "").split()) for line in lines) + "\n\n" + body


def body_of(answer: Answer) -> tuple[str, str]:
    """("text" or "base64", the body in that form)."""
    headers = dict(answer.headers)
    kind = headers.get("content-type", "")
    is_coded = headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")
    charset = re.search(r"charset=\"?([\w-]+)", kind, re.IGNORECASE)
    encoding = charset[1].lower() if charset else "utf-8"
    if TEXT.match(kind.lower()) and encoding in CHARSETS and not is_coded:
        try:
            text = answer.body.decode(encoding)
        except UnicodeDecodeError:
            text = "\0"
        if "\0" not in text:
            return "text", text
    return "base64", base64.b64encode(answer.body).decode()
