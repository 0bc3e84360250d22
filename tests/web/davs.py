"""A client of WebDAV for tests: requests as programs send them, and multistatus replies taken apart."""

from __future__ import annotations

import socket
import urllib.parse
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pysftpserver.web.dav import Dav
from pysftpserver.web.dav_locks import Locks
from tests.support.waiting import PATIENCE
from tests.web.serving import HOST, Answer, Browser, WebCase, basic

MOUNT = "/dav"
EXCLUSIVE = (
    '<?xml version="1.0" encoding="utf-8"?><D:lockinfo xmlns:D="DAV:">'
    "<D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype>"
    "<D:owner>a test</D:owner></D:lockinfo>"
)
SHARED = EXCLUSIVE.replace("exclusive", "shared")


def responses(answer: Answer) -> dict[str, dict[str, tuple[str, ElementTree.Element]]]:
    """Of a multistatus: (status, element) of each property, by tag, of each URL."""
    found: dict[str, dict[str, tuple[str, ElementTree.Element]]] = {}
    for response in ElementTree.fromstring(answer.body).findall("{DAV:}response"):
        of_one = found.setdefault(response.findtext("{DAV:}href") or "", {})
        for part in response.findall("{DAV:}propstat"):
            status = (part.findtext("{DAV:}status") or "").split()[1]
            for element in part.find("{DAV:}prop") or ():
                of_one[element.tag] = status, element
    return found


class DavCase(WebCase):
    """Alice's client of a server of the class's own. jail: her files, which each test finds empty."""

    jail: Path

    def setUp(self) -> None:
        super().setUp()
        self.jail = self.served.jail() / self.id().rpartition(".")[2][:60]
        self.jail.mkdir()
        part = self.served.door.application.parts[b"dav"]
        assert isinstance(part, Dav)
        part.locks = Locks()
        self.locks = part.locks
        self.base = f"{MOUNT}/{self.jail.name}"
        self.browser = Browser(self.served.port)
        self.addCleanup(self.browser.close)

    def ask(
        self, method: str, path: str = "/", body: Any = None, name: str = "alice", **headers: str
    ) -> Answer:
        """Send a request. path: below the test's directory. headers: with _ where their names have -."""
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        sent.setdefault("Authorization", basic(name))
        return self.browser.ask(method, self.base + path, body, sent)

    def status(self, method: str, path: str = "/", body: Any = None, **headers: str) -> int:
        """The status of the answer to a request."""
        return self.ask(method, path, body, **headers).status

    def url(self, path: str) -> str:
        """The URL of a path below the test's directory."""
        return f"http://{HOST}:{self.served.port}{self.base}{urllib.parse.quote(path)}"

    def properties(self, path: str, *tags: str) -> dict[str, tuple[str, str]]:
        """(status, text) of each of these properties of one path, by tag."""
        wanted = "".join(
            f'<p:{tag.partition("}")[2]} xmlns:p="{tag[1:].partition("}")[0]}"/>' for tag in tags
        )
        body = f'<D:propfind xmlns:D="DAV:"><D:prop>{wanted}</D:prop></D:propfind>'
        answer = self.ask("PROPFIND", path, body, Depth="0")
        self.assertEqual(answer.status, 207, answer.text)
        (found,) = responses(answer).values()
        return {tag: (status, element.text or "") for tag, (status, element) in found.items()}

    def locked(self, path: str, body: str = EXCLUSIVE, name: str = "alice", **headers: str) -> str:
        """Lock a path; the token."""
        answer = self.ask("LOCK", path, body, name, **headers)
        self.assertIn(answer.status, (200, 201), answer.text)
        return answer.headers["Lock-Token"]

    def begin(self, head: str, body: bytes = b"", chunked: bool = False, length: int = 1000) -> socket.socket:
        """Send the beginning of a request of Alice's over a connection of its own. head: method and path.

        length: what is said to be the body's.
        """
        method, _, path = head.partition(" ")
        coding = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"
        lines = [
            f"{method} {self.base}{path} HTTP/1.1",
            f"Host: {HOST}:{self.served.port}",
            f"Authorization: {basic()}",
            coding,
        ]
        peer = socket.create_connection((HOST, self.served.port), PATIENCE)
        self.addCleanup(peer.close)
        peer.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return peer
