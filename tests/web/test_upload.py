"""Uploads: by a form, and piece by piece with pauses, lost connections and another server."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import urllib.parse
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.web import deletions, resuming
from pysftpserver.web.resuming import Upload
from tests.support.waiting import PATIENCE, until
from tests.web.serving import HOST, Served
from tests.web.test_multipart import BOUNDARY, body_of
from tests.web.test_pages import PagesCase

FORM = {"Content-Type": "multipart/form-data; boundary=" + BOUNDARY.decode()}


class TestForms(PagesCase):
    def upload(
        self, *files: tuple[bytes, bytes], at: str = "/files/", token: str | None = None, **fields: str
    ):
        """Send files by the form of a directory."""
        fields = {"csrf": self.me.get(at).csrf if token is None else token, **fields}
        parts = [(name.encode(), None, value.encode()) for name, value in fields.items()]
        return self.me.ask("POST", at, body_of([*parts, *((b"file", *file) for file in files)]), FORM)

    def test_files_arrive_under_their_names(self) -> None:
        answer = self.upload(
            (b"one.txt", b"1"), (b"caf\xe9 %22x%22", b"2" * 300_000), (b"dir/in/it", b"3"), (b"", b"")
        )
        self.assertEqual((answer.status, answer.location), (303, "/files/"))
        found = {
            name: Path(os.fsdecode(self.jail / os.fsdecode(name))).read_bytes()
            for name in os.listdir(bytes(self.jail))
        }
        self.assertEqual(found, {b"one.txt": b"1", b'caf\xe9 "x"': b"2" * 300_000, b"it": b"3"})
        self.assertIn("3 files uploaded", self.me.get("/files/").text)

    def test_nothing_is_overwritten_unless_that_was_chosen(self) -> None:
        self.write("a.txt", b"old")
        self.upload((b"a.txt", b"new"))
        self.upload((b"a.txt", b"newer"), existing="keep")
        self.upload((b"a.txt", b"newest"), existing="skip")
        self.assertIn("was left as it is", self.me.get("/files/").text)
        found = {path.name: path.read_bytes() for path in self.jail.iterdir()}
        self.assertEqual(found, {"a.txt": b"old", "a (2).txt": b"new", "a (3).txt": b"newer"})
        self.upload((b"a.txt", b"wanted"), existing="replace")
        self.assertEqual((self.jail / "a.txt").read_bytes(), b"wanted")

    def test_no_file_is_stored_without_the_token_before_it(self) -> None:
        self.assertEqual(self.upload((b"forged", b"x"), token="x").status, 403)
        token = self.me.get("/files/").csrf
        late = body_of([(b"file", b"forged", b"x"), (b"csrf", None, token.encode())])
        self.assertEqual(self.me.ask("POST", "/files/", late, FORM).status, 403)
        self.assertEqual(os.listdir(self.jail), [])

    def test_what_breaks_off_leaves_nothing(self) -> None:
        token = self.me.get("/files/").csrf.encode()
        whole = body_of([(b"csrf", None, token), (b"file", b"half", b"x" * 200_000)])
        self.assertEqual(self.me.ask("POST", "/files/", whole[:-20], FORM).status, 400)
        self.assertEqual(os.listdir(self.jail), [])
        with socket.create_connection((HOST, self.served.port), PATIENCE) as raw:
            cookie = "; ".join(f"{name}={value}" for name, value in self.me.cookies.items())
            head = f"POST /files/ HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nContent-Length: {len(whole)}\r\n"
            raw.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n".encode() + whole[:150_000])
            until(lambda: os.listdir(self.jail), "nothing arrives")
        until(lambda: not os.listdir(self.jail), "a part of a file stays")

    def test_names_that_are_none_and_places_that_are_not_there_are_told(self) -> None:
        self.upload((b"..", b"x"), (b"x" * 256, b"x"), (b".pysftp-000000000000-0-0-0123456789abcdef", b"x"))
        page = self.me.get("/files/").text
        self.assertEqual(page.count("was not uploaded"), 3)
        self.upload((b"x", b"x"), at="/files/", token=self.me.get("/files/").csrf)
        self.assertEqual(os.listdir(self.jail), ["x"])


class Sender:
    """What the script of pages does, by hand."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser
        self.token = browser.get("/files/").csrf

    def ask(self, method: str, target: str, body: Any = None, **headers: str):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.browser.ask(method, target, body, {"X-CSRF": self.token, **sent})
        answer.said = json.loads(answer.body) if answer.body.startswith(b"{") else {}
        return answer

    def begin(self, name: str, size: int, **more: Any):
        wish = {"path": "/" + urllib.parse.quote(name), "size": size, **more}
        return self.ask("POST", "/upload/", json.dumps(wish))

    def send(self, ident: str, offset: int, piece: bytes):
        return self.ask("PATCH", f"/upload/{ident}", piece, Upload_Offset=str(offset))

    def offset(self, ident: str) -> int:
        return int(self.ask("HEAD", f"/upload/{ident}").headers["Upload-Offset"])


class TestResuming(PagesCase):
    def setUp(self) -> None:
        super().setUp()
        self.sender = Sender(self.me)

    def names(self) -> list[str]:
        return sorted(name for name in os.listdir(self.jail) if not name.startswith(".pysftp-"))

    def test_a_file_arrives_in_pieces_and_appears_whole(self) -> None:
        begun = self.sender.begin("dir/in it/a.txt", 10, modified=1_600_000_000)
        self.assertEqual((begun.status, begun.said["offset"]), (201, 0))
        ident = begun.said["id"]
        self.assertEqual(self.sender.send(ident, 0, b"01234").said["offset"], 5)
        self.assertEqual(self.sender.offset(ident), 5)
        wrong = self.sender.send(ident, 3, b"x")
        self.assertEqual((wrong.status, wrong.headers["Upload-Offset"]), (409, "5"))
        self.assertEqual(self.me.get("/files/dir/in%20it/").text.count("<tr"), 0)
        self.assertEqual(self.sender.send(ident, 5, b"x" * 6).status, 400)
        last = self.sender.send(ident, 5, b"56789")
        self.assertEqual(
            (last.status, last.said["name"], last.headers["Upload-Complete"]), (200, "a.txt", "?1")
        )
        self.assertEqual(os.listdir(self.jail / "dir/in it"), ["a.txt"])
        self.assertEqual((self.jail / "dir/in it/a.txt").read_bytes(), b"0123456789")
        self.assertEqual((self.jail / "dir/in it/a.txt").stat().st_mtime, 1_600_000_000)
        self.assertEqual(self.sender.offset(ident), 10)  # for one whose last answer was lost

    def test_the_same_file_of_the_same_person_goes_on_where_it_was(self) -> None:
        ident = self.sender.begin("a", 10, modified=5).said["id"]
        self.sender.send(ident, 0, b"0123")
        again = self.sender.begin("a", 10, modified=5)
        self.assertEqual((again.said["id"], again.said["offset"]), (ident, 4))
        self.assertEqual(self.sender.begin("a", 10, modified=6).said["offset"], 0)

    def test_a_lost_connection_keeps_what_has_arrived_and_another_one_goes_on_at_once(self) -> None:
        size = 300_000
        ident = self.sender.begin("big", size).said["id"]
        raw = socket.create_connection((HOST, self.served.port), PATIENCE)
        self.addCleanup(raw.close)
        cookie = "; ".join(f"{name}={value}" for name, value in self.me.cookies.items())
        head = f"PATCH /upload/{ident} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n"
        head += f"X-CSRF: {self.sender.token}\r\nUpload-Offset: 0\r\nContent-Length: {size}\r\n\r\n"
        raw.sendall(head.encode() + b"x" * 100_000)
        upload = self.served.door.uploads._uploads[ident]
        until(lambda: upload.offset == 100_000, "it has not arrived")
        self.assertEqual(self.sender.offset(ident), 100_000)  # the first connection is still open
        raw.sendall(b"y" * 1000)  # too late: another request asked
        self.assertEqual(self.sender.send(ident, 100_000, b"x" * 200_000).status, 200)
        self.assertEqual((self.jail / "big").read_bytes(), b"x" * size)

    def test_a_server_that_was_started_again_goes_on_with_it(self) -> None:
        self.go_on(is_killed=False)

    def test_one_that_was_killed_does_too(self) -> None:
        self.go_on(is_killed=True)

    def go_on(self, is_killed: bool) -> None:
        """Send a file to two servers, one after the other. is_killed: the first one does not clean up."""
        place = self.place / f"restarted{is_killed}"
        place.mkdir()
        first = Served(place)
        self.addCleanup(first.stop)
        with first.logged_in() as browser:
            sender = Sender(browser)
            ident = sender.begin("a", 6).said["id"]
            sender.send(ident, 0, b"012")
        if not is_killed:
            first.door.uploads.close()
        second = Served(place)
        self.addCleanup(second.stop)
        with second.logged_in() as browser:
            sender = Sender(browser)
            self.assertEqual(sender.send(ident, 3, b"345").status, 404)
            again = sender.begin("a", 6)
            self.assertEqual((again.said["id"], again.said["offset"]), (ident, 3))
            self.assertEqual(sender.send(ident, 3, b"345").status, 200)
        self.assertEqual((second.jail() / "a").read_bytes(), b"012345")
        self.assertEqual(os.listdir(second.jail()), ["a"])

    def test_what_becomes_of_a_name_that_is_taken_is_asked_or_was_said(self) -> None:
        self.write("a", b"old")
        asked = self.sender.begin("a", 3, existing="ask")
        self.assertEqual((asked.status, asked.said["exists"]), (409, True))
        kept = self.sender.begin("a", 3, existing="keep").said["id"]
        self.assertEqual(self.sender.send(kept, 0, b"new").said["name"], "a (2)")
        replaced = self.sender.begin("a", 3, existing="replace").said["id"]
        self.sender.send(replaced, 0, b"NEW")
        self.assertEqual((self.jail / "a").read_bytes(), b"NEW")
        fresh = self.sender.begin("b", 3, existing="ask").said["id"]
        self.write("b", b"meanwhile")
        self.assertEqual(self.sender.send(fresh, 0, b"new").said["name"], "b (2)")
        self.assertEqual((self.jail / "b").read_bytes(), b"meanwhile")

    def test_empty_files_and_folders(self) -> None:
        self.assertEqual(self.sender.begin("empty", 0).said["name"], "empty")
        self.assertEqual(self.sender.ask("POST", "/upload/", '{"path": "/a/b", "folder": true}').status, 200)
        self.assertEqual(self.names(), ["a", "empty"])
        self.assertTrue((self.jail / "a" / "b").is_dir())

    def test_giving_up_removes_it(self) -> None:
        ident = self.sender.begin("a", 10).said["id"]
        self.sender.send(ident, 0, b"01234")
        self.assertEqual(self.sender.ask("DELETE", f"/upload/{ident}").status, 204)
        self.assertEqual(os.listdir(self.jail), [])
        self.assertEqual(self.sender.ask("HEAD", f"/upload/{ident}").status, 404)

    def test_an_upload_is_its_users_and_their_number_is_bounded(self) -> None:
        ident = self.sender.begin("a", 10).said["id"]
        with self.served.logged_in("bob") as browser:
            other = Sender(browser)
            for method in ("HEAD", "DELETE"):
                self.assertEqual(other.ask(method, f"/upload/{ident}").status, 404)
            self.assertEqual(other.send(ident, 0, b"x").status, 404)
        with mock.patch.object(resuming, "MOST_OF_USER", 1):
            self.assertEqual(self.sender.begin("b", 10).status, 429)
        with mock.patch.object(resuming, "KEPT", -1.0), mock.patch.object(resuming, "KEPT_OPEN", -1.0):
            self.assertEqual(self.sender.begin("c", 0).status, 201)
        self.assertEqual(self.sender.ask("HEAD", f"/upload/{ident}").status, 404)
        self.assertEqual(os.listdir(self.jail), ["c"])

    def test_no_page_of_another_session_uploads(self) -> None:
        self.sender.token = "x"
        self.assertEqual(self.sender.begin("forged", 1).status, 403)
        with self.served.browser() as stranger:
            stranger.cookies = {}
            answer = stranger.ask("POST", "/upload/", "{}", {"X-CSRF": "x"})
            self.assertEqual(answer.status, 403)

    def test_what_is_no_upload_is_refused_in_words(self) -> None:
        hidden = "/.pysftp-000000000000-0-0-0123456789abcdef"
        paths = ("", "/", "/../a", "/a/./b", "/a%00", "/a//b", hidden, "/" + "x" * 256)
        for wish in (
            *("", "[]", "{}", '{"path": 1}', '{"path": "/a"}', "[" * 50_000),
            *(f'{{"path": "/a", "size": {size}}}' for size in ("-1", "1.5", "true", "null", '"1"', 1 << 70)),
            *(f'{{"path": "{path}", "size": 1}}' for path in paths),
            '{"path": "/a", "size": 1, "existing": "x"}',
        ):
            answer = self.sender.ask("POST", "/upload/", wish)
            self.assertEqual(answer.status, 400, wish[:60])
            self.assertTrue(answer.said["words"])
        self.assertEqual(self.sender.begin("a", 1 << 60).status, 507)
        self.assertEqual(self.sender.ask("PUT", "/upload/x").status, 404)
        self.assertEqual(self.sender.ask("GET", "/upload/").status, 405)
        self.assertEqual(os.listdir(self.jail), [])

    def test_two_tabs_with_one_file_make_one_file(self) -> None:
        size, ends = 200_000, []

        def send() -> None:
            with self.served.logged_in() as browser:
                sender = Sender(browser)
                ident = sender.begin("both", size).said["id"]
                while (offset := sender.offset(ident)) < size:
                    if sender.send(ident, offset, b"z" * min(50_000, size - offset)).status not in (200, 409):
                        break
                ends.append(sender.offset(ident))

        tabs = [threading.Thread(target=send) for _ in range(2)]
        for tab in tabs:
            tab.start()
        for tab in tabs:
            tab.join()
        found = {name: (self.jail / name).read_bytes() for name in os.listdir(self.jail)}
        self.assertEqual(set(found.values()), {b"z" * size})
        self.assertEqual(ends, [size, size])

    def test_a_tab_waits_while_another_one_begins_the_same_file(self) -> None:
        begin, cut_off, order = Upload.begin, Upload.cut_off, []
        began, asked = threading.Event(), threading.Event()

        def begins(upload: Upload) -> None:
            began.set()
            asked.wait(PATIENCE)
            begin(upload)
            order.append("begun")

        def cuts_off(upload: Upload) -> None:
            asked.set()
            cut_off(upload)
            order.append("cut off")

        with (
            self.served.logged_in() as browser,
            mock.patch.object(Upload, "begin", begins),
            mock.patch.object(Upload, "cut_off", cuts_off),
        ):
            other = Sender(browser)
            first = threading.Thread(target=self.sender.begin, args=("both", 5))
            first.start()
            self.assertTrue(began.wait(PATIENCE))
            sent = other.send(other.begin("both", 5).said["id"], 0, b"zzzzz")
            first.join()
        self.assertEqual((sent.status, order), (200, ["begun", "cut off"]))


class TestUnderASite(PagesCase):
    """Where files may be uploaded and listed, and nothing else, and a quota counts them."""

    SITE = (
        'state = "{}"\n[quota]\nbytes = "1 MiB"\n[names]\nrefuse = ["*.exe"]\n'
        '[[rule]]\nallow = ["list", "upload"]\n[[rule]]\ndeny = "all"\n'
    )

    @classmethod
    def make(cls, place: Path) -> Served:
        (place / "ledger").mkdir(0o700)
        (place / "site.toml").write_text(cls.SITE.format(place / "ledger"))
        return Served(place, site=str(place / "site.toml"))

    def test_uploads_go_on_and_rules_and_quotas_decide(self) -> None:
        sender = Sender(self.me)
        ident = sender.begin("a", 10).said["id"]
        sender.send(ident, 0, b"01234")
        self.assertEqual(sender.send(ident, sender.offset(ident), b"56789").said["name"], "a")
        self.assertEqual((self.jail / "a").read_bytes(), b"0123456789")
        self.assertEqual(sender.begin("big", 2 << 20).status, 507)
        refused = sender.send(sender.begin("x.exe", 1).said["id"], 0, b"x")
        self.assertEqual((refused.status, "*.exe" in refused.said["words"]), (403, True))
        replaced = sender.send(sender.begin("a", 1, existing="replace").said["id"], 0, b"x")
        self.assertEqual(replaced.status, 403)
        self.assertEqual(os.listdir(self.jail), ["a"])

    def test_what_is_not_allowed_is_told(self) -> None:
        self.write("a")
        with mock.patch.object(deletions, "SECONDS", 0.0):
            self.do("/files/", "delete", (b"a",))
        until(lambda: "a</bdi> was not deleted: not allowed here: delete." in self.me.get("/files/").text)
        self.do("/files/", "rename", (b"a",), new="b")
        self.assertIn("a</bdi> was not renamed: not allowed here: rename.", self.me.get("/files/").text)
        self.assertEqual(self.me.get("/files/a").status, 403)
        self.assertEqual(self.me.get("/files/a?view=1").status, 200)


class TestReadOnly(PagesCase):
    settings = {"read_only": True}

    def test_nothing_is_uploaded(self) -> None:
        sender = Sender(self.me)
        self.assertEqual(sender.begin("a", 1).status, 403)
        parts = body_of([(b"csrf", None, sender.token.encode()), (b"file", b"a", b"x")])
        self.assertEqual(self.me.ask("POST", "/files/", parts, FORM).status, 403)
        self.assertEqual(os.listdir(self.jail), [])
        self.assertIsInstance(self.me.connection, http.client.HTTPConnection)
