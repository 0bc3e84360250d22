"""Shared links over a real socket: what their owners see, and those who have one."""

from __future__ import annotations

import http.client
import io
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from pysftpserver.people import passwords
from pysftpserver.service import throttle
from tests.support.waiting import until
from tests.web.serving import basic, quick, user_lines
from tests.web.sharers import CONTENT, PASSWORD, WRONG, SharesCase


class Owners(SharesCase):
    def test_a_user_makes_a_link_sees_how_often_it_was_used_and_revokes_it_without_a_script(self):
        form = self.owner.get("/shares/new?path=/box")
        self.assertIn("<h1>Share the folder", form.text)
        self.assertIn('value="drop"', form.text)
        link = self.share("/box", most="5")
        self.stranger.get(link + "a.txt")
        listed = self.owner.get("/shares")
        self.assertIn("1 of 5", listed.text)
        self.assertNotIn(link.split("/")[2], listed.text)
        ident = re.search(r'name="id" value="(\w+)"', listed.text)
        answer = self.owner.post("/shares/revoke", {"csrf": listed.csrf, "id": ident[1] if ident else ""})
        self.assertEqual((answer.status, answer.location), (303, "/shares"))
        self.assertEqual(self.stranger.get(link).status, 404)
        self.assertIn("You have shared nothing", self.owner.get("/shares").text)

    def test_forms_of_other_sites_and_strangers_make_and_revoke_nothing(self):
        self.share("/plan.pdf")
        ident = self.only().id
        csrf = self.owner.get("/shares").csrf
        forms = {"/shares/new": {"path": "/box", "days": "7"}, "/shares/revoke": {"id": ident}}
        for target, fields in forms.items():
            with self.subTest(target):
                self.assertEqual(self.owner.post(target, fields).status, 403)
                self.assertEqual(self.owner.post(target, {**fields, "csrf": "x"}).status, 403)
                for header in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
                    answer = self.owner.post(target, {**fields, "csrf": csrf}, **header)
                    self.assertEqual(answer.status, 403, header)
                self.assertEqual(self.stranger.post(target, fields).status, 403)
        with self.served.logged_in("bob") as bob:
            own = bob.get("/shares/new?path=/").csrf
            bob.post("/shares/revoke", {"csrf": own, "id": ident})
        self.assertEqual(self.only().id, ident)
        self.assertEqual(self.owner.get("/shares/revoke?id=" + ident).status, 405)

    def test_what_cannot_be_is_said_and_nothing_is_made(self):
        csrf = self.owner.get("/shares/new?path=/box").csrf
        cases: dict[str, dict[str, str]] = {
            "Choose at most 90 days": {"days": "91"},
            "Give a maximum from 1": {"most": "0"},
            "too easy to guess": {"password": "password1"},
            "Files can be sent into a folder only": {"path": "/plan.pdf", "kind": "drop"},
        }
        for words, fields in cases.items():
            with self.subTest(words):
                sent = {"csrf": csrf, "path": "/box", "days": "7", **fields}
                answer = self.owner.post("/shares/new", sent)
                self.assertEqual(answer.status, 400)
                self.assertIn(words, answer.text)
        for path in ("/nothing", "/../etc", "/%00"):
            self.assertEqual(self.owner.get(f"/shares/new?path={path}").status, 404)
        self.assertEqual(self.door.shares.of(self.door.people.find("alice")), [])

    def test_a_user_whom_only_a_lookup_knows_makes_no_link_that_could_not_work(self):
        sharing = self.door.application.parts[b"shares"]
        with mock.patch.object(sharing, "_may_share", lambda user: False):
            answer = self.owner.get("/shares/new?path=/box")
        self.assertEqual(answer.status, 403)
        self.assertIn("records are kept on this server", answer.text)

    def test_names_of_files_are_text_on_every_page(self):
        name = "<img src=x onerror=alert(1)>\"'&.txt"
        (self.jail / "box" / name).write_bytes(b"x")
        link = self.share("/box")
        quoted = self.owner.get("/shares/new?path=/box/" + urllib.parse.quote(urllib.parse.quote(name)))
        for answer in (self.stranger.get(link), quoted):
            self.assertEqual(answer.status, 200)
            self.assertNotIn("<img", answer.text)
            self.assertIn("&lt;img", answer.text)


class Readers(SharesCase):
    def test_a_file_has_a_page_and_is_downloaded_with_the_name_it_has(self):
        link = self.share("/plan.pdf")
        page = self.stranger.get(link)
        self.assertIn("plan.pdf", page.text)
        self.assertIn("100 kB", page.text)
        self.assertEqual(page.headers["Referrer-Policy"], "no-referrer")
        answer = self.stranger.get(link + "plan.pdf")
        self.assertEqual(answer.body, CONTENT)
        self.assertIn("attachment", answer.headers["Content-Disposition"])
        self.assertIn("sandbox", answer.headers["Content-Security-Policy"])
        for other in ("other.pdf", "plan.pdf/", "plan.pdf/x", "secret"):
            self.assertEqual(self.stranger.get(link + other).status, 404, other)
        self.assertEqual(self.stranger.get(link.rstrip("/")).status, 308)

    def test_a_folder_is_listed_with_those_in_it_and_downloaded_as_a_zip(self):
        link = self.share("/box")
        self.assertIn('href="./in/"', self.stranger.get(link).text)
        self.assertIn("b.bin", self.stranger.get(link + "in/").text)
        self.assertEqual(self.stranger.get(link + "in/b.bin").body, CONTENT)
        answer = self.stranger.get(link + "?zip=1")
        with zipfile.ZipFile(io.BytesIO(answer.body)) as whole:
            self.assertEqual(sorted(whole.namelist()), ["box/", "box/a.txt", "box/in/", "box/in/b.bin"])
        self.assertEqual(self.counts(), (2, 0))
        for method in ("POST", "PUT", "DELETE"):
            self.assertEqual(self.stranger.ask(method, link + "new", b"x").status, 405)

    def test_a_zip_that_cannot_be_completed_breaks_the_connection_off(self):
        for name, other in (("chunked", b"text"), ("announced", None)):
            box = self.jail / name
            box.mkdir()
            with open(box / "large.mp4", "wb") as file:
                file.truncate(64 << 20)
            if other is not None:
                (box / "a.txt").write_bytes(other)
            link = self.share(f"/{name}")
            with self.subTest(name), self.served.browser() as browser:
                browser.connection.request("GET", link + "?zip=1")
                answer = browser.connection.getresponse()
                self.assertEqual(answer.length is None, other is not None)
                os.truncate(box / "large.mp4", 1 << 20)
                with self.assertRaises((http.client.IncompleteRead, ConnectionError)):
                    answer.read()
            shutil.rmtree(box)
        until(lambda: not self.door.visitors.crowd._counts)

    def test_unknown_expired_revoked_and_used_up_links_have_the_same_answer(self):
        used_up, expired = self.share("/plan.pdf", most="1"), self.share("/plan.pdf")
        gone = self.share("/box/a.txt")
        self.stranger.get(used_up + "plan.pdf")
        (self.jail / "box" / "a.txt").unlink()
        with mock.patch.object(self.door.shares, "_clock", lambda: time.time() + 8 * 86400):
            late = self.stranger.get(expired)
        unknown = self.stranger.get(f"/s/{WRONG}/")
        for answer in (late, *map(self.stranger.get, (used_up, used_up + "plan.pdf", gone))):
            self.assertEqual((answer.status, answer.body), (404, unknown.body))

    def test_what_is_sent_and_received_by_a_link_breaks_off_when_it_is_revoked(self):
        for name in ("film.mp4", "film.txt"):  # the latter is in a zip that is not announced
            with open(self.jail / "box" / name, "wb") as file:
                file.truncate(64 << 20)
        link, tray = self.share("/box"), self.share("/in-tray", kind="drop")
        readers = [self.enterContext(self.served.browser()) for _ in range(2)]
        answers = []
        for reader, target in zip(readers, ("film.mp4", "?zip=1"), strict=True):
            reader.connection.request("GET", link + target)
            answers.append(reader.connection.getresponse())
        sender = self.enterContext(self.served.browser()).connection
        sender.putrequest("PUT", tray + "half.bin")
        sender.putheader("Content-Length", "1000000")
        sender.endheaders(CONTENT)
        until(lambda: len(self.names("in-tray")) == 2)
        alice = self.door.people.find("alice")
        for share in self.door.shares.of(alice):
            self.door.shares.revoke(alice, share.id)
        for answer in answers:
            with self.assertRaises((http.client.IncompleteRead, ConnectionError)):
                answer.read()
        sender.send(CONTENT)
        self.assertEqual(sender.getresponse().status, 403)
        until(lambda: self.names("in-tray") == ["old.txt"] and not self.door.visitors.crowd._counts)

    def test_a_link_dies_with_the_user_and_lives_by_the_users_rules(self):
        link = self.share("/plan.pdf")
        self.assertEqual(self.stranger.get(link).status, 200)
        alice, bob = self.door.people.find("alice"), user_lines("bob")
        for fields in ({"active": "false"}, {"networks": '"192.0.2.0/24"'}, None):
            self.served.write_users(bob if fields is None else user_lines("alice", **fields) + bob)
            until(lambda: self.door.people.find("alice") != alice)
            self.assertEqual(self.stranger.get(link).status, 404, fields)
            self.served.write_users(user_lines("alice"), bob)
            until(lambda: self.door.people.find("alice") == alice)
            self.assertEqual(self.stranger.get(link).status, 200)

    def test_a_password_is_asked_for_and_remembered_for_this_link_alone(self):
        with mock.patch.object(passwords, "hashed", quick):
            link, other = (self.share("/plan.pdf", password=PASSWORD) for _ in range(2))
        self.assertEqual(self.stranger.get(link + "plan.pdf").status, 403)
        self.assertNotIn("plan", self.stranger.get(link).text)
        self.assertEqual(self.stranger.post(link, {"password": "wrong"}).status, 403)
        self.assertEqual(self.stranger.post(link, {"password": PASSWORD}).status, 303)
        self.assertEqual(self.stranger.get(link + "plan.pdf").body, CONTENT)
        self.assertEqual(self.stranger.get(other).status, 403)
        self.enterContext(mock.patch.object(throttle, "FIRST", throttle.MOST))  # no delay is over meanwhile
        with self.served.browser() as program:
            right = program.get(link + "plan.pdf", Authorization=basic("alice", PASSWORD))
            self.assertEqual(right.body, CONTENT)
            wrong = [program.get(link, Authorization=basic("alice", "wrong")).status for _ in range(6)]
            self.assertEqual(set(wrong), {403, 429})
            self.assertEqual(program.get(link, Authorization=basic("alice", PASSWORD)).status, 429)

    def test_downloads_are_counted_exactly_also_when_many_begin_at_once(self):
        link = self.share("/plan.pdf", most="3")

        def download(_: int) -> int:
            with self.served.browser() as browser:
                return browser.get(link + "plan.pdf").status

        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(download, range(12)))
        self.assertEqual((statuses.count(200), statuses.count(404)), (3, 9))
        self.assertEqual(self.counts(), (3, 0))

    def test_a_download_that_goes_on_after_a_break_is_counted_once(self):
        link = self.share("/plan.pdf", most="1")
        target = link + "plan.pdf"
        self.assertEqual(self.stranger.ask("HEAD", target).status, 200)
        self.assertEqual(self.stranger.get(target, Range="bytes=0-49999").status, 206)
        rest = self.stranger.get(target, Range="bytes=50000-")
        self.assertEqual((rest.status, rest.body), (206, CONTENT[50000:]))
        self.assertEqual(self.counts(), (1, 0))
        self.assertEqual(self.stranger.get(target).status, 404)
        with self.served.browser() as other:
            self.assertEqual(other.get(target, Range="bytes=50000-", User_Agent="another").status, 404)

    def test_a_client_that_leaves_a_large_download_can_go_on_with_it(self):
        size = 64 << 20
        with open(self.jail / "film.mp4", "wb") as file:
            file.truncate(size)
        link = self.share("/film.mp4", most="1")
        with self.served.browser() as leaving:
            leaving.connection.request("GET", link + "film.mp4")
            leaving.connection.getresponse().read(100_000)
        until(lambda: not self.door.visitors.crowd._counts)
        for start in (100_000, 200_000):
            with self.served.browser() as browser:
                browser.connection.request("GET", link + "film.mp4", headers={"Range": f"bytes={start}-"})
                answer = browser.connection.getresponse()
                self.assertEqual(answer.status, 206)
                answer.read(1000)
            until(lambda: not self.door.visitors.crowd._counts)
        self.assertEqual(self.counts(), (1, 0))


class Programs(SharesCase):
    def test_curl_downloads_goes_on_and_sends_as_the_page_of_the_door_says(self):
        with mock.patch.object(passwords, "hashed", quick):
            link = self.served.url + self.share("/box", password=PASSWORD, most="2")[1:]
        tray = self.served.url + self.share("/in-tray", kind="drop")[1:]
        place = Path(tempfile.mkdtemp(dir=self.place))
        (place / "b.bin").write_bytes(CONTENT[:5000])
        (place / "report.pdf").write_bytes(b"report")
        for arguments in (
            ["-u", f":{PASSWORD}", "-OJ", link + "?zip=1"],
            ["-u", f":{PASSWORD}", "-O", "-C", "-", link + "in/b.bin"],
            ["-T", "report.pdf", tray],
        ):
            subprocess.run(["curl", "-sSf", *arguments], cwd=place, check=True, capture_output=True)
        self.assertEqual(sorted(zipfile.ZipFile(place / "box.zip").namelist())[:2], ["box/", "box/a.txt"])
        self.assertEqual((place / "b.bin").read_bytes(), CONTENT)
        self.assertEqual((self.jail / "in-tray" / "report.pdf").read_bytes(), b"report")


class Droppers(SharesCase):
    def test_files_are_sent_and_nothing_is_seen(self):
        link = self.share("/in-tray", kind="drop")
        page = self.stranger.get(link)
        self.assertIn("Send files to alice", page.text)
        self.assertNotIn("old.txt", page.text)
        answer = self.send(link, (b"one.txt", b"1"), (b"C:\\x\\two.txt", b"2"))
        self.assertIn("2 files were received: one.txt, two.txt", answer.text)
        self.assertEqual(self.names("in-tray"), ["old.txt", "one.txt", "two.txt"])
        self.assertEqual(self.counts(), (0, 2))
        for below in ("old.txt", "one.txt", "../in-tray/old.txt", "?zip=1", "in/"):
            answer = self.stranger.get(link + below)
            self.assertNotIn(b"old.txt", answer.body)
            self.assertTrue(answer.status == 404 or below.startswith("?"), below)

    def test_nothing_is_replaced_and_the_new_name_is_not_told(self):
        link = self.share("/in-tray", kind="drop")
        answer = self.send(link, (b"old.txt", b"new"))
        self.assertIn("received: old.txt", answer.text)
        self.assertNotIn("(2)", answer.text)
        self.assertEqual(self.put(link, "old.txt").status, 201)
        self.assertEqual(self.names("in-tray"), ["old (2).txt", "old (3).txt", "old.txt"])
        self.assertEqual((self.jail / "in-tray/old.txt").read_bytes(), b"old")

    def test_of_more_files_than_may_be_sent_those_that_were_received_are_named(self):
        link = self.share("/in-tray", kind="drop", most="1")
        answer = self.send(link, (b"one", b"1"), (b"two", b"2"))
        self.assertIn("1 file was received: one.", answer.text)
        self.assertIn("The other files were not received", answer.text)
        self.assertEqual(self.names("in-tray"), ["old.txt", "one"])
        self.assertEqual(self.send(link, (b"three", b"3")).status, 404)

    def test_two_that_send_the_same_name_at_once_both_arrive(self):
        link = self.share("/in-tray", kind="drop")

        def put(number: int) -> int:
            with self.served.browser() as browser:
                return browser.ask("PUT", link + "same.txt", str(number).encode() * 50_000).status

        with ThreadPoolExecutor(4) as pool:
            self.assertEqual(set(pool.map(put, range(8))), {201})
        found = {path.read_bytes()[:1] for path in (self.jail / "in-tray").glob("same*")}
        self.assertEqual(found, {str(number).encode() for number in range(8)})

    def test_names_of_strangers_are_harmless_and_stay_in_the_folder(self):
        link = self.share("/in-tray", kind="drop")
        puts = (
            "..%2fx",
            "%2e%2e%2fx",
            "..%5cx",
            ".bashrc",
            "-rf",
            "a%0d%0aX:%20y",
            "%2fetc%2fpasswd",
            "%ff%fe",
        )
        for name in puts:
            self.assertIn(self.put(link, name).status, (201, 404), name)
        sent = (b"../../x", b"..\\..\\x", b"..", b".ssh", b"/etc/passwd", b"a\tb")
        self.send(link, *((name, b"x") for name in sent))
        self.assertEqual(self.names("."), ["box", "in-tray", "plan.pdf", "secret"])
        self.assertFalse((self.served.files / "x").exists())
        for name in self.names("in-tray"):
            self.assertRegex(name, r"\A[^.~\-/\\:\x00-\x1f][^/\\:\x00-\x1f]*\Z")

    def test_what_breaks_off_leaves_nothing_and_is_not_counted(self):
        link = self.share("/in-tray", kind="drop", most="1")
        with self.served.browser() as browser:
            connection = browser.connection
            connection.putrequest("PUT", link + "half.bin")
            connection.putheader("Content-Length", "1000000")
            connection.endheaders(CONTENT)
            until(lambda: self.counts() == (0, 1))
        until(lambda: self.counts() == (0, 0) and self.names("in-tray") == ["old.txt"])
        self.assertEqual(self.put(link, "whole.bin").status, 201)
        self.assertEqual(self.put(link, "more.bin").status, 404)
        self.assertEqual(self.names("in-tray"), ["old.txt", "whole.bin"])
