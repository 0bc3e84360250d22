"""What Windows, Office and macOS ask over WebDAV, request by request, written from their documentation.

Facts: Microsoft's [MS-WDV] and [MS-WDVME] for the Mini-Redirector and its properties; Apple's sources of
webdavfs (webdav_network.c) for the bodies that macOS sends, and its X-Expected-Entity-Length.
"""

from __future__ import annotations

import os
from typing import Any

from tests.web.davs import DavCase, responses
from tests.web.serving import Answer, basic

REDIRECTOR = {"User-Agent": "Microsoft-WebDAV-MiniRedir/10.0.19045", "translate": "f"}
WINDOWS_LOCK = (
    '<?xml version="1.0" encoding="utf-8" ?><D:lockinfo xmlns:D="DAV:">'
    "<D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype>"
    "<D:owner><D:href>DESKTOP\\alice</D:href></D:owner></D:lockinfo>"
)
TIMES = (
    '<?xml version="1.0" encoding="utf-8" ?><D:propertyupdate xmlns:D="DAV:" '
    'xmlns:Z="urn:schemas-microsoft-com:"><D:set><D:prop>'
    "<Z:Win32CreationTime>Sun, 09 Sep 2001 01:46:00 GMT</Z:Win32CreationTime>"
    "<Z:Win32LastAccessTime>Sun, 09 Sep 2001 01:46:10 GMT</Z:Win32LastAccessTime>"
    "<Z:Win32LastModifiedTime>Sun, 09 Sep 2001 01:46:40 GMT</Z:Win32LastModifiedTime>"
    "<Z:Win32FileAttributes>00000020</Z:Win32FileAttributes></D:prop></D:set></D:propertyupdate>"
)
FINDER = {"User-Agent": "WebDAVFS/3.0.0 (03008000) Darwin/23.0.0 (arm64)", "Accept": "*/*"}
STAT = (
    '<?xml version="1.0" encoding="utf-8"?>\n<D:propfind xmlns:D="DAV:">\n<D:prop>\n<D:getlastmodified/>\n'
    "<D:getcontentlength/>\n<D:creationdate/>\n<D:resourcetype/>\n</D:prop>\n</D:propfind>\n"
)
STATFS = (
    '<?xml version="1.0" encoding="utf-8"?>\n<D:propfind xmlns:D="DAV:">\n<D:prop>\n'
    "<D:quota-available-bytes/>\n"
    "<D:quota-used-bytes/>\n<D:quota/>\n<D:quotaused/>\n</D:prop>\n</D:propfind>\n"
)
APPLE_LOCK = (
    '<?xml version="1.0" encoding="utf-8"?>\n<D:lockinfo xmlns:D="DAV:">\n'
    "<D:lockscope><D:exclusive/></D:lockscope>\n<D:locktype><D:write/></D:locktype>\n"
    "<D:owner>\n<D:href>http://www.apple.com/webdav_fs/</D:href>\n</D:owner>\n"
    "</D:lockinfo>\n"
)


class TestRecorded(DavCase):
    def play(
        self, client: dict[str, str], status: int, method: str, path: str, body: Any, **more: str
    ) -> Answer:
        """Send a request as that client does; it is answered with the status."""
        headers = {**client, "Authorization": basic()}
        headers.update({key.replace("_", "-"): value for key, value in more.items()})
        answer = self.browser.ask(method, self.base + path, body, headers)
        self.assertEqual(answer.status, status, f"{method} {path}: {answer.body[:500]!r}")
        return answer

    def windows(self, status: int, method: str, path: str, body: Any = None, **more: str) -> Answer:
        return self.play(REDIRECTOR, status, method, path, body, **more)

    def finder(self, status: int, method: str, path: str, body: Any = None, **more: str) -> Answer:
        return self.play(FINDER, status, method, path, body, **more)

    def test_windows_connects_a_drive(self) -> None:
        answer = self.browser.ask("OPTIONS", "/", None, REDIRECTOR)
        self.assertEqual((answer.status, answer.headers["MS-Author-Via"]), (200, "DAV"))
        refused = self.browser.ask("PROPFIND", self.base, None, {**REDIRECTOR, "Depth": "0"})
        self.assertEqual(refused.status, 401)
        found = self.windows(207, "PROPFIND", "", None, Depth="0", Content_Length="0")
        ((href, of_one),) = responses(found).items()
        self.assertEqual(href, self.base + "/")
        self.assertIsNotNone(of_one["{DAV:}resourcetype"][1].find("{DAV:}collection"))
        for name in ("desktop.ini", "folder.jpg", "AutoRun.inf"):
            self.windows(404, "PROPFIND", f"/{name}", None, Depth="0")

    def test_windows_explorer_stores_a_file_and_its_times(self) -> None:
        self.windows(404, "PROPFIND", "/a%20b.txt", None, Depth="0")
        self.windows(201, "PUT", "/a%20b.txt", b"")
        locked = self.windows(200, "LOCK", "/a%20b.txt", WINDOWS_LOCK, Timeout="Second-3600")
        token = locked.headers["Lock-Token"]
        self.windows(423, "PUT", "/a%20b.txt", b"of another program")
        self.windows(207, "PROPPATCH", "/a%20b.txt", TIMES, If=f"({token})")
        self.windows(200, "HEAD", "/a%20b.txt")
        self.windows(204, "PUT", "/a%20b.txt", b"content", If=f"({token})")
        told = self.windows(207, "PROPPATCH", "/a%20b.txt", TIMES, If=f"({token})")
        self.assertEqual(told.text.count("HTTP/1.1 200 OK"), 1)
        self.windows(204, "UNLOCK", "/a%20b.txt", None, Lock_Token=token)
        self.assertEqual(int((self.jail / "a b.txt").stat().st_mtime), 1_000_000_000)
        self.windows(201, "MOVE", "/a%20b.txt", None, Destination=self.url("/c.txt"), Overwrite="F")
        self.windows(204, "DELETE", "/c.txt")
        self.assertEqual(os.listdir(self.jail), [])

    def test_office_saves_under_another_name_and_moves_it_into_place(self) -> None:
        (self.jail / "report.docx").write_text("old")
        locked = self.windows(200, "LOCK", "/report.docx", WINDOWS_LOCK, Timeout="Second-3600")
        token = locked.headers["Lock-Token"]
        made = self.windows(201, "LOCK", "/~WRD0000.tmp", WINDOWS_LOCK, Timeout="Second-3600")
        temporary = made.headers["Lock-Token"]
        self.windows(204, "PUT", "/~WRD0000.tmp", b"new", If=f"({temporary})")
        self.windows(204, "UNLOCK", "/~WRD0000.tmp", None, Lock_Token=temporary)
        self.windows(423, "MOVE", "/~WRD0000.tmp", None, Destination=self.url("/report.docx"), Overwrite="T")
        self.windows(
            *(204, "MOVE", "/~WRD0000.tmp", None),
            Destination=self.url("/report.docx"),
            Overwrite="T",
            If=f"<{self.url('/report.docx')}> ({token})",
        )
        self.windows(200, "LOCK", "/report.docx", None, If=f"({token})", Timeout="Second-3600")
        self.windows(204, "UNLOCK", "/report.docx", None, Lock_Token=token)
        self.assertEqual((self.jail / "report.docx").read_text(), "new")
        self.assertEqual(os.listdir(self.jail), ["report.docx"])

    def test_macos_mounts_and_asks_how_much_room_there_is(self) -> None:
        answer = self.finder(200, "OPTIONS", "/")
        self.assertIn("2", answer.headers["DAV"])  # without locks, it mounts for reading
        self.finder(207, "PROPFIND", "/", STAT, Depth="0")
        found = responses(self.finder(207, "PROPFIND", "/", STATFS, Depth="0"))[self.base + "/"]
        self.assertEqual(found["{DAV:}quota-available-bytes"][0], "200")
        self.assertEqual(found["{DAV:}quotaused"][0], "404")
        for name in ("._.", ".hidden", ".metadata_never_index", "Contents"):
            self.finder(404, "PROPFIND", f"/{name}", STAT, Depth="0")

    def test_macos_stores_a_file_with_its_resource_fork_beside_it(self) -> None:
        data = os.urandom(100_000)
        for name, content in ((".DS_Store", data[:6148]), ("._a.txt", data[:4096]), ("a.txt", data)):
            self.finder(404, "PROPFIND", f"/{name}", STAT, Depth="0")
            self.finder(201, "PUT", f"/{name}", b"")
            locked = self.finder(200, "LOCK", f"/{name}", APPLE_LOCK, Depth="0", Timeout="Second-600")
            token = locked.headers["Lock-Token"]
            pieces = (content[start : start + 4096] for start in range(0, len(content), 4096))
            length = str(len(content))
            self.finder(204, "PUT", f"/{name}", pieces, If=f"({token})", X_Expected_Entity_Length=length)
            self.finder(200, "LOCK", f"/{name}", None, If=f"({token})", Timeout="Second-600")
            self.finder(204, "UNLOCK", f"/{name}", None, Lock_Token=token)
            self.assertEqual((self.jail / name).read_bytes(), content)
        found = responses(self.finder(207, "PROPFIND", "/", STAT, Depth="1"))
        self.assertEqual(found[self.base + "/a.txt"]["{DAV:}getcontentlength"][1].text, "100000")
        self.finder(201, "MOVE", "/a.txt", None, Destination=self.url("/b.txt"), Overwrite="F")
        self.finder(201, "MOVE", "/._a.txt", None, Destination=self.url("/._b.txt"), Overwrite="F")
        etag = self.finder(200, "HEAD", "/b.txt").headers["ETag"]
        self.finder(206, "GET", "/b.txt", None, Range="bytes=50000-", If_Range=etag)
        self.assertEqual(sorted(os.listdir(self.jail)), [".DS_Store", "._b.txt", "b.txt"])
