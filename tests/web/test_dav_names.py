"""Names over WebDAV: directories, copies, moves, paths that lead elsewhere, and properties."""

from __future__ import annotations

import os
import sqlite3
from unittest import mock

from pysftpserver.web import dav_dead, dav_names
from tests.web.davs import MOUNT, DavCase, responses
from tests.web.serving import HOST

MICROSOFT = "{urn:schemas-microsoft-com:}"


class TestNames(DavCase):
    def test_a_path_leads_nowhere_but_where_it_says(self) -> None:
        (self.served.place / "secret").write_text("secret")
        for path in (
            "/../../../secret",
            "/%2e%2e/%2e%2e/%2e%2e/secret",
            "/.%2e/a",
            "/a/./b",
            "/%00",
            "/a%00.txt",
        ):
            for method in ("GET", "PUT", "PROPFIND", "DELETE", "MKCOL", "LOCK"):
                self.assertEqual(self.status(method, path, Depth="0"), 400, (method, path))
            self.assertEqual(self.status("COPY", "/", Destination=self.base + path), 400, path)
        for path in ("/..%2f..%2fsecret", "/%c0%ae%c0%ae/secret", "/..\\..\\secret", "/%2fetc%2fpasswd"):
            self.assertEqual(self.status("GET", path), 404, path)
            self.assertIn(self.status("PUT", path, b"x"), (201, 409), path)
        self.assertEqual((self.served.place / "secret").read_text(), "secret")

    def test_names_of_unfinished_uploads_cannot_be_asked_for(self) -> None:
        hidden = ".pysftpserver-upload-0123456789abcdef"
        (self.jail / hidden).write_text("half")
        self.assertEqual(self.status("GET", f"/{hidden}"), 403)
        self.assertNotIn(hidden, self.ask("PROPFIND", "/", Depth="1").text)

    def test_a_destination_elsewhere_is_a_bad_gateway(self) -> None:
        (self.jail / "a").write_text("one")
        own = f"http://{HOST}:{self.served.port}"
        for destination, status in (
            ("http://other.example" + self.base + "/b", 502),
            (f"//{HOST}{self.base}/b", 502),
            (f"ftp://{HOST}:{self.served.port}{self.base}/b", 502),
            (own + "/elsewhere/b", 502),
            (f"{own}/davother/b", 502),
            (own + self.base + "/b?x=y", 400),
            ("http://[", 400),
            ("", 400),
            (f"{own.upper()}{self.base}/b", 201),
            (self.base + "/b%20c", 201),
        ):
            found = self.status("COPY", "/a", Destination=destination)
            self.assertEqual(found, status, destination)
        self.assertEqual(sorted(os.listdir(self.jail)), ["a", "b", "b c"])

    def test_directories_are_made_once_and_in_directories(self) -> None:
        self.assertEqual(self.status("MKCOL", "/d"), 201)
        self.assertEqual(self.status("MKCOL", "/d/"), 405)
        self.assertEqual(self.status("MKCOL", "/none/d"), 409)
        self.assertEqual(self.status("MKCOL", "/e", b"body"), 415)
        self.assertEqual(os.listdir(self.jail), ["d"])

    def test_a_directory_is_copied_with_all_or_with_nothing_in_it(self) -> None:
        (self.jail / "d/sub").mkdir(parents=True)
        (self.jail / "d/sub/a").write_text("one")
        (self.jail / "d/loop").symlink_to("../d")
        self.assertEqual(self.status("COPY", "/d", Destination=self.url("/all")), 201)
        self.assertEqual((self.jail / "all/sub/a").read_text(), "one")
        self.assertEqual(os.readlink(self.jail / "all/loop"), "../d")
        self.assertEqual(self.status("COPY", "/d", Destination=self.url("/none"), Depth="0"), 201)
        self.assertEqual(os.listdir(self.jail / "none"), [])
        self.assertEqual(self.status("COPY", "/d", Destination=self.url("/d/sub/d")), 403)
        self.assertEqual(self.status("COPY", "/d/sub", Destination=self.url("/d")), 403)
        self.assertEqual(self.status("COPY", "/d", Destination=self.url("/d")), 403)
        self.assertEqual(self.status("COPY", "/d", Destination=self.url("/x"), Depth="1"), 400)

    def test_what_is_replaced_goes_when_its_successor_is_there(self) -> None:
        for name in ("d", "e"):
            (self.jail / name).mkdir()
            (self.jail / name / name).write_text(name)
        self.assertEqual(self.status("MOVE", "/d", Destination=self.url("/e"), Overwrite="F"), 412)
        with mock.patch.object(dav_names._Transfer, "_move", side_effect=OSError(5, "broken")):
            self.assertEqual(self.status("MOVE", "/d", Destination=self.url("/e")), 500)
        self.assertEqual((self.jail / "e/e").read_text(), "e")
        self.assertEqual(self.status("MOVE", "/d", Destination=self.url("/e")), 204)
        self.assertEqual((os.listdir(self.jail), os.listdir(self.jail / "e")), (["e"], ["d"]))
        self.assertEqual(self.status("PUT", "/f", b"f"), 201)
        self.assertEqual(self.status("MOVE", "/f", Destination=self.url("/e")), 204)
        self.assertEqual((self.jail / "e").read_text(), "f")

    def test_a_move_that_the_storage_cannot_do_is_a_copy(self) -> None:
        (self.jail / "d").mkdir()
        (self.jail / "d/a").write_text("one")
        from pysftpserver.web.files import Tree

        far = mock.Mock(side_effect=dav_names.FileProblem("cross-device link", "FAILURE", 18))
        with mock.patch.object(Tree, "move", far):
            self.assertEqual(self.status("MOVE", "/d", Destination=self.url("/e")), 201)
        self.assertEqual((os.listdir(self.jail), (self.jail / "e/a").read_text()), (["e"], "one"))

    def test_links_are_removed_and_moved_and_not_what_they_lead_to(self) -> None:
        (self.jail / "d").mkdir()
        (self.jail / "d/a").write_text("one")
        (self.jail / "link").symlink_to("d")
        (self.jail / "broken").symlink_to("nowhere")
        self.assertEqual(self.status("MOVE", "/link", Destination=self.url("/moved")), 201)
        self.assertEqual(self.status("DELETE", "/moved"), 204)
        self.assertEqual(self.status("DELETE", "/broken"), 204)
        self.assertEqual((self.jail / "d/a").read_text(), "one")
        self.assertEqual(os.listdir(self.jail), ["d"])

    def test_what_cannot_be_removed_is_named(self) -> None:
        (self.jail / "d/sub").mkdir(parents=True)
        (self.jail / "d/sub/a").write_text("one")
        from pysftpserver.virtualchroot import SFTPServerVirtualChroot

        with mock.patch.object(SFTPServerVirtualChroot, "rm", side_effect=PermissionError(13, "denied")):
            answer = self.ask("DELETE", "/d")
        self.assertEqual(answer.status, 207)
        self.assertIn(f"{self.base}/d/sub/a</D:href><D:status>HTTP/1.1 403 ", answer.text)

    def test_a_full_disk_is_said_to_be_full(self) -> None:
        from pysftpserver.http.files import Target

        full = dav_names.FileProblem("no space left on device", "FAILURE", 28)
        with mock.patch.object(Target, "write", side_effect=full):
            answer = self.ask("PUT", "/a", b"x")
        self.assertEqual(answer.status, 507)
        self.assertIn("quota-not-exceeded", answer.text)
        self.assertEqual(os.listdir(self.jail), [])

    def test_only_one_directory_is_listed_at_a_time(self) -> None:
        (self.jail / "d/e").mkdir(parents=True)
        (self.jail / "d/a b").write_text("one")
        for headers in ({}, {"Depth": "infinity"}):
            answer = self.ask("PROPFIND", "/", **headers)
            self.assertEqual(answer.status, 403)
            self.assertIn("<D:propfind-finite-depth/>", answer.text)
        found = responses(self.ask("PROPFIND", "/d", Depth="1"))
        self.assertEqual(set(found), {f"{self.base}/d/", f"{self.base}/d/e/", f"{self.base}/d/a%20b"})
        self.assertEqual(self.status("PROPFIND", "/d", Depth="2"), 400)
        self.assertEqual(self.status("PROPFIND", "/none", Depth="0"), 404)


class TestProperties(DavCase):
    def patch(self, path: str, xml: str) -> str:
        """Send a PROPPATCH; the text of the answer."""
        body = f'<D:propertyupdate xmlns:D="DAV:" xmlns:Z="urn:z" xmlns:M="{MICROSOFT[1:-1]}">{xml}'
        answer = self.ask("PROPPATCH", path, body + "</D:propertyupdate>")
        self.assertEqual(answer.status, 207, answer.text)
        return answer.text

    def test_what_is_known_of_a_file_is_told(self) -> None:
        (self.jail / "a<&.txt").write_text("one")
        answer = self.ask("GET", "/a%3C&.txt")
        found = self.properties(
            "/a%3C&.txt",
            *("{DAV:}displayname", "{DAV:}getcontentlength", "{DAV:}getetag", "{DAV:}getlastmodified"),
            *("{DAV:}getcontenttype", "{DAV:}quota-used-bytes", "{urn:z}x"),
        )
        self.assertEqual(found["{DAV:}displayname"], ("200", "a<&.txt"))
        self.assertEqual(found["{DAV:}getcontentlength"], ("200", "3"))
        self.assertEqual(found["{DAV:}getcontenttype"], ("200", "text/plain"))
        self.assertEqual(found["{DAV:}getetag"], ("200", answer.headers["ETag"]))
        self.assertEqual(found["{DAV:}getlastmodified"], ("200", answer.headers["Last-Modified"]))
        self.assertEqual(found["{DAV:}quota-used-bytes"][0], "404")
        self.assertEqual(found["{urn:z}x"][0], "404")

    def test_the_room_that_there_is_is_told_for_directories(self) -> None:
        found = self.properties("/", "{DAV:}quota-used-bytes", "{DAV:}quota-available-bytes")
        space = os.statvfs(self.jail)
        self.assertEqual({status for status, _ in found.values()}, {"200"})
        total = sum(int(text) for _, text in found.values())
        self.assertLessEqual(total, space.f_blocks * space.f_frsize)
        self.assertNotIn("quota", self.ask("PROPFIND", "/", Depth="0").text)

    def test_dead_properties_follow_their_file(self) -> None:
        self.assertEqual(self.status("PUT", "/a", b"x"), 201)
        self.patch("/a", "<D:set><D:prop><Z:p>one <b xmlns='urn:b'>two</b></Z:p></D:prop></D:set>")
        self.assertEqual(self.properties("/a", "{urn:z}p")["{urn:z}p"], ("200", "one "))
        for method, path in (("COPY", "/b"), ("MOVE", "/c")):
            self.assertEqual(self.status(method, "/a", Destination=self.url(path)), 201)
            self.assertEqual(self.properties(path, "{urn:z}p")["{urn:z}p"][0], "200", method)
        self.assertEqual(self.status("DELETE", "/b"), 204)
        for path in ("/a", "/b"):
            self.assertEqual(self.status("PUT", path, b"x"), 201)
            self.assertEqual(self.properties(path, "{urn:z}p")["{urn:z}p"][0], "404")
        self.assertEqual(os.stat(self.served.values.state).st_mode & 0o777, 0o600)

    def test_either_all_properties_are_changed_or_none(self) -> None:
        text = self.patch("/", "<D:set><D:prop><Z:p>1</Z:p><D:getetag>x</D:getetag></D:prop></D:set>")
        self.assertIn("HTTP/1.1 403 Forbidden", text)
        self.assertIn("cannot-modify-protected-property", text)
        self.assertIn("HTTP/1.1 424 ", text)
        self.assertEqual(self.properties("/", "{urn:z}p")["{urn:z}p"][0], "404")

    def test_dead_properties_beyond_the_limits_are_refused(self) -> None:
        many = "".join(f"<Z:p{number}/>" for number in range(dav_dead.MOST_PER_FILE + 1))
        long = f"<Z:p>{'x' * dav_dead.MOST_SIZE}</Z:p>"
        for xml in (many, long):
            text = self.patch("/", f"<D:set><D:prop>{xml}</D:prop></D:set>")
            self.assertIn("HTTP/1.1 507 ", text)
        with mock.patch.object(dav_dead, "MOST_PER_USER", 0):
            self.assertIn(" 507 ", self.patch("/", "<D:set><D:prop><Z:p/></D:prop></D:set>"))
        with sqlite3.connect(self.served.values.state) as database:
            count = database.execute("select count(*) from dav_properties where tag like '%urn:z}p_%'")
            self.assertEqual(count.fetchone(), (0,))

    def test_xml_that_would_grow_or_has_no_end_is_refused(self) -> None:
        bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]><D:propfind xmlns:D="DAV:">&a;'
        for body, status in (
            (bomb, 400),
            ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>', 400),
            ("<a>" * 50_000, 400),
            ("<a>" + "<b/>" * 50_000 + "</a>", 400),
            ('<D:propfind xmlns:D="DAV:">' + " " * (1 << 20), 413),
            ('<D:propfind xmlns:D="DAV:"/>', 400),
            ("<x/>", 400),
            ("not XML", 400),
        ):
            self.assertEqual(self.status("PROPFIND", "/", body, Depth="0"), status, body[:60])
        self.assertEqual(self.status("PROPFIND", "/", Depth="0"), 207)

    def test_another_users_tree_has_its_own_properties(self) -> None:
        (self.served.jail("bob") / self.jail.name).mkdir()
        self.patch("/", "<D:set><D:prop><Z:mine>1</Z:mine></D:prop></D:set>")
        answer = self.ask("PROPFIND", "/", name="bob", Depth="0")
        self.assertEqual((answer.status, "mine" in answer.text), (207, False))

    def test_the_options_are_told_to_strangers_also_for_the_root_of_the_host(self) -> None:
        for path in ("/", MOUNT, MOUNT + "/", "*"):
            answer = self.browser.ask("OPTIONS", path)
            self.assertEqual((answer.status, answer.headers["DAV"]), (200, "1, 2"), path)
            self.assertEqual(answer.headers["MS-Author-Via"], "DAV")
            self.assertIn("PROPFIND", answer.headers["Allow"])
        self.assertEqual(self.status("POST", "/a", b"x"), 405)
