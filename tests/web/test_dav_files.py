"""Content over WebDAV: whole uploads, ranges, conditions, and what a browser may do with it."""

from __future__ import annotations

import os
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.http.files import FileProblem, Target
from tests.support.auditing import records_of
from tests.support.hard import IS_HARD
from tests.support.waiting import until
from tests.web.davs import DavCase
from tests.web.serving import Served, basic

HTML = b"<script>document.title='ours'</script>"


class TestFiles(DavCase):
    def test_what_was_put_is_got(self) -> None:
        made = self.ask("PUT", "/a.txt", b"one")
        self.assertEqual(made.status, 201)
        self.assertEqual(self.status("PUT", "/a.txt", b"two"), 204)
        answer = self.ask("GET", "/a.txt")
        self.assertEqual((answer.status, answer.body), (200, b"two"))
        self.assertNotEqual(answer.headers["ETag"], made.headers["ETag"])
        self.assertEqual(self.ask("HEAD", "/a.txt").headers["Content-Length"], "3")

    def test_a_file_has_its_old_content_until_the_new_one_is_there(self) -> None:
        (self.jail / "a").write_text("old")
        for chunked, body in ((False, b"half"), (True, b"4\r\nhalf\r\n")):
            peer = self.begin("PUT /a", body, chunked)
            until(lambda: len(os.listdir(self.jail)) == 2, "a temporary file")
            self.assertEqual((self.jail / "a").read_text(), "old")
            self.assertNotIn("pysftp-", self.ask("PROPFIND", "/", Depth="1").text)
            peer.close()
            until(lambda: os.listdir(self.jail) == ["a"], "no temporary file")
            self.assertEqual((self.jail / "a").read_text(), "old")
        peer = self.begin("PUT /new", b"half")
        peer.close()
        until(lambda: os.listdir(self.jail) == ["a"], "no temporary file")

    def test_an_upload_that_is_shorter_than_expected_is_refused(self) -> None:
        body = iter([b"half"])
        self.assertEqual(self.status("PUT", "/a", body, X_Expected_Entity_Length="8"), 400)
        self.assertEqual(os.listdir(self.jail), [])
        self.assertEqual(self.status("PUT", "/a", iter([b"ha", b"lf"]), X_Expected_Entity_Length="4"), 201)
        self.assertEqual((self.jail / "a").read_text(), "half")

    def test_a_range_is_sent_where_one_is_asked_for(self) -> None:
        (self.jail / "a").write_bytes(b"0123456789")
        for said, status, body in (
            ("bytes=0-0", 206, b"0"),
            ("bytes=8-", 206, b"89"),
            ("bytes=8-99", 206, b"89"),
            ("bytes=-3", 206, b"789"),
            ("bytes=-99", 206, b"0123456789"),
            ("bytes=10-", 416, b""),
            ("bytes=-0", 416, b""),
            ("bytes=5-4", 200, b"0123456789"),
            ("bytes=0-0,2-3", 200, b"0123456789"),
            ("bytes=" + ",".join(["0-"] * 1000), 200, b"0123456789"),
            ("lines=1-2", 200, b"0123456789"),
        ):
            answer = self.ask("GET", "/a", Range=said)
            self.assertEqual((answer.status, answer.body), (status, body), said[:40])
        tag = self.ask("GET", "/a").headers["ETag"]
        self.assertEqual(self.status("GET", "/a", Range="bytes=1-2", If_Range=tag), 206)
        self.assertEqual(self.status("GET", "/a", Range="bytes=1-2", If_Range='"other"'), 200)
        self.assertEqual(self.ask("GET", "/a", Range="bytes=20-").headers["Content-Range"], "bytes */10")

    def test_conditions_are_met_or_nothing_happens(self) -> None:
        self.assertEqual(self.status("PUT", "/a", b"one", If_None_Match="*"), 201)
        self.assertEqual(self.status("PUT", "/a", b"two", If_None_Match="*"), 412)
        answer = self.ask("GET", "/a")
        tag, date = answer.headers["ETag"], answer.headers["Last-Modified"]
        self.assertEqual(self.status("GET", "/a", If_None_Match=f'"x", {tag}'), 304)
        self.assertEqual(self.status("GET", "/a", If_Modified_Since=date), 304)
        self.assertEqual(self.status("GET", "/a", If_Modified_Since="yesterday"), 200)
        self.assertEqual(self.status("PUT", "/a", b"two", If_Match=tag), 204)
        self.assertEqual(self.status("PUT", "/a", b"two", If_Match=tag), 412)
        self.assertEqual(self.status("PUT", "/b", b"two", If_Match="*"), 412)
        self.assertEqual(
            self.status("DELETE", "/a", If_Unmodified_Since="Thu, 01 Jan 1998 00:00:00 GMT"), 412
        )
        self.assertEqual(self.status("PUT", "/a", b"", If="(<urn:x:y>"), 400)
        self.assertEqual(self.status("PUT", "/a", b"", If='(["other"])'), 412)
        self.assertEqual(self.status("PUT", "/a", b"", If="(Not <DAV:no-lock>)"), 204)

    def test_of_two_uploads_that_both_must_be_the_first_one_is(self) -> None:
        peer = self.begin("PUT /a", b"x" * 999)
        until(lambda: os.listdir(self.jail), "a temporary file")
        self.assertEqual(self.status("LOCK", "/a", None), 412)
        token = self.locked("/a", name="alice")
        peer.sendall(b"x")
        self.assertIn(b" 423 ", peer.recv(4096))
        self.assertEqual((self.jail / "a").read_bytes(), b"")
        self.assertEqual(self.status("PUT", "/a", b"mine", If=f"({token})"), 204)

    def test_a_time_that_the_client_sends_is_kept(self) -> None:
        answer = self.ask("PUT", "/a", b"one", X_OC_Mtime="1000000000.5")
        self.assertEqual(answer.headers["X-OC-Mtime"], "accepted")
        self.assertEqual(int((self.jail / "a").stat().st_mtime), 1000000000)
        self.assertIsNone(self.ask("PUT", "/a", b"one", X_OC_Mtime="now").headers["X-OC-Mtime"])

    def test_what_is_in_a_file_never_runs_as_a_page_of_ours(self) -> None:
        (self.jail / "a.html").write_bytes(HTML)
        (self.jail / 'b"\r\nSet-Cookie: x=y;.svg').write_bytes(HTML)
        for path, name in (
            ("/a.html", 'filename="a.html"'),
            ("/b%22%0D%0ASet-Cookie:%20x=y;.svg", "filename"),
        ):
            answer = self.ask("GET", path)
            self.assertEqual(answer.body, HTML)
            self.assertTrue(answer.headers["Content-Disposition"].startswith("attachment; " + name))
            self.assertEqual(answer.headers["Content-Security-Policy"], "default-src 'none'; sandbox")
            self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(answer.headers["Cross-Origin-Resource-Policy"], "same-origin")
            self.assertIsNone(answer.headers["Set-Cookie"])

    def test_pages_of_other_sites_change_nothing(self) -> None:
        host = f"127.0.0.1:{self.served.port}"
        with self.served.logged_in() as browser:
            for headers, status in (
                ({"Origin": "https://evil.example"}, 403),
                ({"Origin": "null"}, 403),
                ({"Origin": f"http://{host}", "Sec-Fetch-Site": "cross-site"}, 403),
                ({"Sec-Fetch-Site": "same-site"}, 403),
                ({"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}, 201),
                ({"Sec-Fetch-Site": "none"}, 204),
            ):
                found = browser.ask("PUT", self.base + "/a", b"x", headers).status
                self.assertEqual(found, status, headers)
                sent = {**headers, "Depth": "0", "Authorization": basic()}
                found = self.browser.ask("PROPFIND", self.base + "/", None, sent).status
                self.assertEqual(found, 403 if status == 403 else 207, headers)

    def test_a_name_and_a_password_are_asked_for(self) -> None:
        for method in ("GET", "PUT", "PROPFIND", "LOCK"):
            answer = self.ask(method, "/a", Authorization="")
            self.assertEqual((answer.status, answer.headers["WWW-Authenticate"][:5]), (401, "Basic"), method)
        self.assertEqual(self.status("GET", "/a", Authorization=basic(password="wrong")), 401)

    def test_a_directory_is_no_file(self) -> None:
        (self.jail / "d").mkdir()
        self.assertEqual(self.status("PUT", "/d", b"x"), 405)
        self.assertEqual(self.status("PUT", "/none/a", b"x"), 409)
        self.assertEqual(self.status("GET", "/d"), 200)
        os.mkfifo(self.jail / "fifo")
        self.assertIn(self.status("GET", "/fifo"), (403, 404))
        self.assertEqual(self.status("PUT", "/a", b"x", Content_Range="bytes 0-0/5"), 400)

    def test_names_that_are_not_utf_8_are_names(self) -> None:
        self.assertEqual(self.status("PUT", "/%FF%C0%AE", b"x"), 201)
        self.assertEqual(os.listdir(os.fsencode(self.jail)), [b"\xff\xc0\xae"])
        answer = self.ask("PROPFIND", "/", Depth="1")
        self.assertIn("/%FF%C0%AE</D:href>", answer.text)
        self.assertEqual(self.status("GET", "/%FF%C0%AE"), 200)


class TestAudit(DavCase):
    @classmethod
    def make(cls, place: Path) -> Served:
        return Served(place, audit=str(place / "audit"))

    def test_what_is_done_is_in_the_audit_log_in_the_words_of_other_doors(self) -> None:
        for method, path, status, headers in (
            ("MKCOL", "/d", 201, {}),
            ("PUT", "/d/a", 201, {}),
            ("GET", "/d/a", 200, {}),
            ("GET", "/d/a", 206, {"Range": "bytes=1-"}),
            ("PROPFIND", "/d", 207, {"Depth": "1"}),
            ("COPY", "/d/a", 201, {"Destination": self.url("/b")}),
            ("MOVE", "/b", 201, {"Destination": self.url("/c")}),
            ("DELETE", "/c", 204, {}),
            ("MKCOL", "/d/a/e", 409, {}),
        ):
            body = b"two" if method == "PUT" else None
            self.assertEqual(self.status(method, path, body, **headers), status, (method, path))
        with mock.patch.object(Target, "write", side_effect=FileProblem("denied", "PERMISSION_DENIED")):
            self.assertEqual(self.status("PUT", "/x", b"x"), 403)
        records = records_of((self.place / "audit").read_bytes())
        found = [
            (one["request"], one["path"].removeprefix(f"/{self.jail.name}"), one["bytes"], one["result"])
            for one in records
            if one["path"] is not None
        ]
        self.assertEqual(
            found,
            [
                ("mkdir", "/d", 0, "OK"),
                ("put", "/d/a", 3, "OK"),
                ("get", "/d/a", 3, "OK"),
                ("get", "/d/a", 2, "OK"),
                ("opendir", "/d", 0, "OK"),
                ("copy", "/d/a", 0, "OK"),
                ("rename", "/b", 0, "OK"),
                ("remove", "/c", 0, "OK"),
                ("mkdir", "/d/a/e", 0, "FAILURE"),
                ("put", "/x", 0, "PERMISSION_DENIED"),
            ],
        )
        targets = [one["target"].rpartition("/")[2] for one in records if "target" in one]
        self.assertEqual((targets, records[-1]["user"]), (["b", "c"], "alice"))


class TestReadOnly(DavCase):
    settings = {"read_only": True}

    def test_nothing_is_changed(self) -> None:
        (self.jail / "a").write_text("old")
        self.assertEqual(self.status("GET", "/a"), 200)
        for method in ("PUT", "DELETE", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "PROPPATCH"):
            self.assertEqual(self.status(method, "/a", Destination=self.url("/b")), 403, method)
        self.assertEqual(os.listdir(self.jail), ["a"])


@unittest.skipUnless(IS_HARD, "half a gigabyte each way")
class TestMemory(DavCase):
    def test_half_a_gigabyte_takes_no_more_memory_than_a_little(self) -> None:
        import tracemalloc

        size = 512 << 20
        with open(self.jail / "big", "wb") as file:
            file.truncate(size)
        self.assertEqual(self.status("PUT", "/little", b"x"), 201)

        def body() -> Any:
            piece = bytes(1 << 20)
            for _ in range(size >> 20):
                yield piece

        tracemalloc.start()
        try:
            self.assertEqual(self.status("PUT", "/up", body()), 201)
            connection = self.browser.connection
            connection.request("GET", self.base + "/up", headers={"Authorization": basic()})
            answer = connection.getresponse()
            count, buffer = 0, bytearray(1 << 20)
            while got := answer.readinto(buffer):
                count += got
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertEqual(count, size)
        self.assertLess(most, 16 << 20)
