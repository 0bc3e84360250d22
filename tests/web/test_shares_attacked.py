"""Attacks on shared links: guesses, paths, links in the storage, races, crowds, and logs."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import shutil
import zipfile
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
from tests.web.serving import Browser, quick
from tests.web.sharers import CONTENT, PASSWORD, SECRET, SharesCase


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
