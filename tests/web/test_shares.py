"""Shared links over a real socket: what their owners and those who have them see, and what attackers try."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
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
from typing import Any
from unittest import mock

from pysftpserver.engine.log import SFTPLog
from pysftpserver.people import passwords
from pysftpserver.pysftpexceptions import SFTPSessionEnd
from pysftpserver.service.audit import DoorAudit
from pysftpserver.web import crowding, guest
from tests.security.premises import Exchanger
from tests.support.hard import IS_HARD
from tests.support.waiting import until
from tests.web.serving import Answer, Browser, WebCase, basic, quick, user_lines

CONTENT = os.urandom(100_000)
SECRET = b"it is secret"
PASSWORD = "green ladders at noon"
WRONG = "A" * 24


class SharesCase(WebCase):
    """self.jail: alice's files, with /plan.pdf, /box/a.txt, /box/in/b.bin, /in-tray/old.txt and /secret."""

    settings = {"threads": 32}

    def setUp(self) -> None:
        super().setUp()
        self.jail = self.served.jail()
        for path in self.jail.rglob("*"):
            if path.is_symlink() or path.is_file():
                path.unlink()
        for name in ("box/in", "in-tray"):
            (self.jail / name).mkdir(parents=True, exist_ok=True)
        files = {"plan.pdf": CONTENT, "box/a.txt": b"a", "box/in/b.bin": CONTENT}
        for name, content in {**files, "in-tray/old.txt": b"old", "secret": SECRET}.items():
            (self.jail / name).write_bytes(content)
        self.owner = self.enterContext(self.served.logged_in())
        self.stranger = self.enterContext(self.served.browser())
        self.served.door.visitors._guesses = crowding.Guesses()
        self.door = self.served.door

    def share(self, path: str, **fields: str) -> str:
        """The path of a new link of alice's."""
        csrf = self.owner.get(f"/shares/new?path={path}").csrf
        answer = self.owner.post("/shares/new", {"csrf": csrf, "path": path, "days": "7", **fields})
        self.assertEqual(answer.status, 200, answer.text)
        found = re.search(r'value="http://[^/"]+(/s/[^"]+)"', answer.text)
        assert found is not None, answer.text
        return found[1]

    def counts(self) -> tuple[int, int]:
        """Downloads and uploads of the newest link."""
        share = self.door.shares.of(self.door.people.find("alice"))[0]
        return share.downloads, share.uploads

    def only(self) -> Any:
        (share,) = self.door.shares.of(self.door.people.find("alice"))
        return share

    def tearDown(self) -> None:
        alice = self.door.people.find("alice")
        for share in self.door.shares.of(alice):
            self.door.shares.revoke(alice, share.id)
        super().tearDown()

    def put(self, link: str, name: str, data: bytes = b"new") -> Answer:
        return self.stranger.ask("PUT", link + name, data)

    def send(self, link: str, *files: tuple[bytes, bytes]) -> Answer:
        """Send files as the form on a page does."""
        parts = b"".join(
            b'--XX\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n' % file
            for file in files
        )
        kind = {"Content-Type": "multipart/form-data; boundary=XX"}
        return self.stranger.ask("POST", link, parts + b"--XX--\r\n", kind)

    def names(self, directory: str) -> list[str]:
        return sorted(path.name for path in (self.jail / directory).iterdir())


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


class Attackers(SharesCase):
    def test_no_path_in_any_encoding_leads_out_of_what_is_shared(self):
        link = self.share("/box")
        steps = (
            "..",
            "%2e%2e",
            "%2E.",
            ".%2e",
            "..%2f..",
            "..%5c..",
            "%252e%252e",
            "%c0%ae%c0%ae",
            "in/..",
            "./",
        )
        for step in steps:
            for target in ("secret", "plan.pdf", "%2fsecret", "/secret", "in/../../secret"):
                for path in (f"{link}{step}/{target}", f"{link}{step}%2f{target}", f"{link}{step}"):
                    answer = self.stranger.get(path)
                    self.assertIn(answer.status, (400, 404), path)
                    self.assertNotIn(SECRET, answer.body)
        for target in ("%00", "a.txt%00", "a.txt/", "a.txt/x", "%2fetc%2fpasswd", "//etc/passwd"):
            self.assertEqual(self.stranger.get(link + target).status, 404, target)

    def test_links_in_the_folder_lead_nowhere_not_even_within_the_storage(self):
        box = self.jail / "box"
        links = {"up": "..", "file": "../secret", "loop": ".", "root": "/", "own": "a.txt"}
        for name, target in links.items():
            (box / name).symlink_to(target)
        link = self.share("/box")
        page = self.stranger.get(link)
        self.assertNotIn("secret", page.text)
        for target in (
            "up/secret",
            "up/",
            "file",
            "loop/a.txt",
            "root/secret",
            "own",
            "up/?zip=1",
            "root/?zip",
        ):
            answer = self.stranger.get(link + target)
            self.assertGreaterEqual(answer.status, 400, target)
            self.assertNotIn(SECRET, answer.body)
        whole = zipfile.ZipFile(io.BytesIO(self.stranger.get(link + "?zip=1").body))
        self.assertEqual(sorted(whole.namelist()), ["box/", "box/a.txt", "box/in/", "box/in/b.bin"])

    def test_a_folder_that_is_swapped_for_a_link_is_not_followed(self):
        link, tray = self.share("/box/in"), self.share("/in-tray", kind="drop")
        (self.jail / "box/in").rename(self.jail / "box/was")
        (self.jail / "box/in").symlink_to("..")
        (self.jail / "in-tray").rename(self.jail / "was")
        (self.jail / "in-tray").symlink_to("box")
        try:
            for path in (link, link + "secret", link + "box/a.txt", tray):
                self.assertGreaterEqual(self.stranger.get(path).status, 400, path)
            self.assertGreaterEqual(self.put(tray, "x").status, 400)
            self.assertNotIn("x", self.names("box"))
        finally:
            (self.jail / "in-tray").unlink()
            (self.jail / "was").rename(self.jail / "in-tray")
            (self.jail / "box/in").unlink()
            (self.jail / "box/was").rename(self.jail / "box/in")

    def test_nothing_else_is_sent_while_somebody_swaps_folders_for_links(self):
        (self.jail / "out").mkdir(exist_ok=True)
        (self.jail / "out" / "b.bin").write_bytes(SECRET)
        (self.jail / "box" / "in.other").symlink_to("../out")
        (self.jail / "tray.other").symlink_to("out")
        link, tray = self.share("/box"), self.share("/in-tray", kind="drop")
        pairs = [(self.jail / "box" / "in", self.jail / "box" / "in.other")]
        pairs.append((self.jail / "in-tray", self.jail / "tray.other"))
        exchanger = Exchanger(tuple(pairs), self.place)
        try:
            found = set()
            for number in range(400 if IS_HARD else 20):
                answer = self.stranger.get(link + "in/b.bin", Range=f"bytes={number}-")
                found.add(answer.status)
                self.assertNotIn(answer.body, (SECRET[number:], SECRET))
                found.add(self.put(tray, f"{number}").status)
                try:
                    answer = self.stranger.get(link + "?zip=1")
                except http.client.IncompleteRead:  # a folder that has become a link breaks it off
                    self.stranger.close()
                    continue
                if answer.status == 200:
                    with zipfile.ZipFile(io.BytesIO(answer.body)) as whole:
                        self.assertNotIn(SECRET, map(whole.read, whole.namelist()))
                found.add(answer.status)
        finally:
            exchanger.end()
        self.assertLessEqual(found, {200, 201, 206, 403, 404, 409})
        inside = self.jail / ("in-tray" if not (self.jail / "in-tray").is_symlink() else "tray.other")
        self.assertEqual(self.names("out"), ["b.bin"])
        self.assertIn("old.txt", [path.name for path in inside.iterdir()])
        for first, second in pairs:
            if first.is_symlink():
                first.unlink()
                second.rename(first)
            else:
                second.unlink()
        shutil.rmtree(self.jail / "out")

    def test_one_network_leaves_others_room_on_the_links_of_a_user(self):
        link = self.share("/box")
        crowd = self.door.visitors.crowd
        user, most = self.only().user_id, 8  # a quarter of the threads
        ends = [crowd.enter((("of", user), most), (("of", user, "127.0.0.1"), 6)) for _ in range(6)]
        self.assertEqual(self.stranger.get(link).status, 503)
        with self.served.browser(address="127.0.0.9") as other:
            self.assertEqual(other.get(link).status, 200)
        for end in ends:
            end()
        self.assertEqual(self.stranger.get(link).status, 200)

    def test_guesses_are_slowed_down_for_a_network_and_for_no_other(self):
        link = self.share("/plan.pdf")
        statuses = [self.stranger.get(f"/s/{number}/").status for number in range(crowding.MOST_MISSES + 1)]
        self.assertEqual(statuses.count(404), crowding.MOST_MISSES)
        limited = self.stranger.get(link)
        self.assertEqual(limited.status, 429)
        self.assertTrue(limited.headers["Retry-After"].isdigit())
        with self.served.browser(address="127.0.0.9") as other:
            self.assertEqual(other.get(link).status, 200)

    def test_no_token_is_in_the_log_or_in_the_name_of_a_link(self):
        link = self.share("/box")
        token = link.split("/")[2]
        for path in (link, link + "a.txt", link + "?zip=1", link + "nothing", f"/s/{token}"):
            self.stranger.get(path)
        with mock.patch.object(self.door.shares, "find", side_effect=ValueError("broken")):
            self.assertEqual(self.stranger.get(link).status, 500)
        text = "\n".join(self.log.lines)
        self.assertNotIn(token, text)
        self.assertNotIn(hashlib.sha256(token.encode()).hexdigest(), text)

    def test_the_audit_log_has_the_owner_the_visitor_and_the_links_id_and_no_token(self):
        records: list[bytes] = []

        def audit_of(user: str, address: str, port: int | None) -> DoorAudit:
            return DoorAudit(records.append, user, address, port, SFTPLog())

        link, tray = self.share("/plan.pdf"), self.share("/in-tray", kind="drop")
        with mock.patch.object(self.door.trail, "of", audit_of):
            self.stranger.get(link + "plan.pdf")
            self.put(tray, "x")
            until(lambda: len(records) == 3)
        shares = {share.kind: share.id for share in self.door.shares.of(self.door.people.find("alice"))}
        found = [json.loads(record) for record in records]
        self.assertEqual(
            [(one["request"], one["path"], one["bytes"], one["share"]) for one in found],
            [
                ("open", "/plan.pdf", 0, shares["read"]),
                ("close", "/plan.pdf", len(CONTENT), shares["read"]),
                ("put", "/in-tray/x", 3, shares["drop"]),
            ],
        )
        self.assertEqual({(one["user"], one["peer"]) for one in found}, {("alice", "127.0.0.1")})
        for secret in (link, tray):
            self.assertNotIn(secret.split("/")[2].encode(), b"".join(records))

    def test_what_cannot_be_recorded_is_not_done(self):
        broken = mock.Mock(**{"note.side_effect": SFTPSessionEnd("disk full")})
        link = self.share("/plan.pdf")
        with mock.patch.object(self.door.trail, "of", lambda *who: broken):
            self.assertEqual(self.stranger.get(link + "plan.pdf").status, 503)

    def test_zips_of_strangers_are_bounded_in_size_and_number(self):
        link = self.share("/box")
        with mock.patch.object(guest, "MOST_ZIPPED", 2):
            self.assertEqual(self.stranger.get(link + "?zip=1").status, 413)
        self.assertEqual(self.counts(), (0, 0))
        with open(self.jail / "box" / "large.mp4", "wb") as file:
            file.truncate(64 << 20)
        waiting: list[Browser] = []
        for _ in range(guest.ZIPS_OF_NETWORK):
            browser = self.enterContext(self.served.browser())
            browser.connection.request("GET", link + "?zip=1")
            self.assertEqual(browser.connection.getresponse().status, 200)
            waiting.append(browser)
        refused = self.stranger.get(link + "?zip=1")
        self.assertEqual(refused.status, 503)
        with self.served.browser(address="127.0.0.9") as other:
            other.connection.request("HEAD", link + "?zip=1")
            self.assertEqual(other.connection.getresponse().status, 200)
        for browser in waiting:
            browser.close()
        until(lambda: not self.door.visitors.crowd._counts)

    def test_ranges_that_make_no_sense_or_are_many_send_the_whole_once_or_nothing(self):
        link = self.share("/plan.pdf")
        many = "bytes=" + ",".join(f"{number}-{number}" for number in range(1000))
        found = {many: 200, "bytes=5-1": 200, "bytes=999999-": 416, "bytes=-0": 416, "x": 200}
        for value, status in found.items():
            answer = self.stranger.get(link + "plan.pdf", Range=value)
            self.assertEqual(answer.status, status, value)
            self.assertLessEqual(len(answer.body), len(CONTENT))

    def test_links_outlive_a_restart_and_so_does_a_password_that_was_given(self):
        with mock.patch.object(passwords, "hashed", quick):
            link = self.share("/plan.pdf", password=PASSWORD)
        self.stranger.post(link, {"password": PASSWORD})
        again = self.served_again()
        with again.browser() as browser:
            self.assertEqual(browser.get(link + "plan.pdf").status, 403)
            browser.cookies = self.stranger.cookies
            self.assertEqual(browser.get(link + "plan.pdf").body, CONTENT)
        self.assertEqual(self.counts(), (1, 0))

    def served_again(self) -> Any:
        served = type(self).make(self.place)
        self.addCleanup(served.stop)
        return served
