"""The pages of files: what they list, how files are sent, and what their forms do."""

from __future__ import annotations

import email.utils
import html.parser
import os
import shutil
import unittest
import urllib.parse
from unittest import mock

from pysftpserver.storage import SFTPServerStorage
from pysftpserver.web import deletions, downloads, listing
from pysftpserver.web.files import Entry
from pysftpserver.web.html import Markup, element, plain, size_text
from pysftpserver.web.listing import View, look
from tests.support.waiting import PATIENCE, until
from tests.web.serving import Served, WebCase

ODD = [
    b"<script>alert(1)<script>.txt",
    b"\"><img src=x onerror='alert(2)'>",
    b"caf\xe9 not utf-8",
    b"line\nbreak\r\tand \x1b[31m colour",
    b"invoice\xe2\x80\xaefdp.exe",
    b"javascript:alert(3)",
    b"a%2Fb?c#d&e=f;g",
    b" blanks at both ends ",
    b"x" * 255,
    b"\\..\\back",
]
PLAINLY = {"Accept": "text/html"}


class Tags(html.parser.HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data

    def values(self, tag: str, name: str) -> list[str]:
        return [attrs[name] or "" for found, attrs in self.tags if found == tag and name in attrs]


class PagesCase(WebCase):
    def setUp(self) -> None:
        self.jail = self.served.jail()
        for entry in os.scandir(bytes(self.jail)):
            if entry.is_dir():
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        self.me = self.enterContext(self.served.logged_in())

    def write(self, name: str | bytes, content: bytes = b"content") -> None:
        with open(os.path.join(bytes(self.jail), os.fsencode(name)), "wb") as file:
            file.write(content)

    def do(self, at: str, do: str, names: tuple[bytes, ...] = (), **more: str):
        """Send a form of the directory at a path."""
        fields = [("csrf", self.me.get(at).csrf), *(("name", urllib.parse.quote(name)) for name in names)]
        body = urllib.parse.urlencode([*fields, ("do", do), *more.items()])
        return self.me.ask("POST", at, body, {"Content-Type": "application/x-www-form-urlencoded"})


class TestListings(PagesCase):
    def test_every_name_is_shown_as_text_and_can_be_opened_and_downloaded(self) -> None:
        for name in ODD:
            self.write(name, name)
        page = self.me.get("/files/")
        found = Tags(page.text)
        self.assertEqual(
            found.values("script", "src"), [s for s in found.values("script", "src") if "/static/" in s]
        )
        self.assertNotIn("x", found.values("img", "src"))
        self.assertFalse([attrs for _, attrs in found.tags if any(name.startswith("on") for name in attrs)])
        self.assertNotIn("\u202e", page.text)
        names = [urllib.parse.unquote_to_bytes(value) for value in found.values("input", "value")]
        for name in ODD:
            self.assertIn(name, names)
            href = "./" + urllib.parse.quote(name, safe="/~!$'()*,;=:@")
            self.assertIn(href, found.values("a", "href"))
            answer = self.me.get("/files" + href[1:])
            self.assertEqual((answer.status, answer.body), (200, name))
            self.assertEqual(answer.headers["Content-Type"], "application/octet-stream")
            self.assertTrue(answer.headers["Content-Disposition"].startswith("attachment"), name)
            self.assertIn("sandbox", answer.headers["Content-Security-Policy"])
            view = self.me.get("/files" + href[1:] + "?view=1")
            self.assertEqual(view.status, 200)
            self.assertIn(plain(name), Tags(view.text).words)

    def test_pages_are_whole_for_a_screen_reader(self) -> None:
        self.write("one.txt")
        found = Tags(self.me.get("/files/").text)
        tags = [tag for tag, _ in found.tags]
        for tag in ("header", "main", "table", "caption", "h1"):
            self.assertEqual(tags.count(tag), 1, tag)
        self.assertEqual(found.values("html", "lang"), ["en"])
        self.assertEqual(set(found.values("th", "scope")), {"col", "row"})
        self.assertEqual(found.values("th", "aria-sort"), ["ascending"])
        self.assertEqual(
            [attrs["href"] for _, attrs in found.tags if attrs.get("class") == "skip"], ["#main"]
        )
        labelled = set(found.values("label", "for"))
        for tag, attrs in found.tags:
            if tag in ("input", "select") and attrs.get("type") != "hidden":
                self.assertTrue("aria-label" in attrs or attrs.get("id") in labelled, attrs)
            self.assertNotIn("style", attrs)
        ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
        self.assertEqual(len(ids), len(set(ids)))

    def test_paths_that_are_no_paths_of_ours_are_not_found(self) -> None:
        (self.served.files / "secret.txt").write_text("secret")
        hidden = ".pysftp-000000000000-0-0-0123456789abcdef"
        for path in (
            *("../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt", "%2e%2e%2fsecret.txt", "%00", hidden),
            *("..%5csecret.txt", "a%00/../..", "....//secret.txt", "%c0%ae%c0%ae/secret.txt", "a/../../b"),
        ):
            answer = self.me.get("/files/" + path)
            self.assertEqual(answer.status, 404, path)
            self.assertNotIn("secret</", answer.text)
            self.assertIn("<h1>There is nothing here</h1>", answer.text)

    def test_a_directory_has_a_slash_at_its_end_and_a_file_has_none(self) -> None:
        (self.jail / "dir").mkdir(exist_ok=True)
        self.write("file")
        self.assertEqual(self.me.get("/files/dir").location, "/files/dir/")
        self.assertEqual(self.me.get("/files/file/").location, "/files/file")
        self.assertIn("This folder is empty", self.me.get("/files/dir/").text)

    def test_the_order_and_the_filter_are_kept_from_page_to_page(self) -> None:
        with mock.patch.object(listing, "ON_A_PAGE", 2):
            (self.jail / "many").mkdir()
            for number in range(5):
                self.write(f"many/img {number}", b"x" * number)
            page = self.me.get("/files/many/?sort=size&order=desc&q=img&page=2").text
        self.assertIn("img 2", page)
        self.assertIn("img 1", page)
        self.assertNotIn("img 3", page)
        self.assertIn("sort=size&amp;order=desc&amp;q=img&amp;page=3", page)
        self.assertIn('action="/files/many/?sort=size&amp;order=desc&amp;q=img&amp;page=2"', page)

    def test_temporary_files_of_uploads_are_not_listed(self) -> None:
        self.write(".pysftp-000000000000-0-0-0123456789abcdef")
        self.assertNotIn(".pysftp-", self.me.get("/files/").text)

    def test_static_files_are_kept_by_what_is_in_them(self) -> None:
        address = Tags(self.me.get("/files/").text).values("script", "src")[0]
        answer = self.me.get(address)
        self.assertEqual(answer.headers["Content-Type"], "text/javascript; charset=utf-8")
        self.assertIn("immutable", answer.headers["Cache-Control"])
        again = self.me.get("/static/pages.js", If_None_Match=answer.headers["ETag"])
        self.assertEqual((again.status, again.headers["Cache-Control"]), (304, "no-cache"))
        self.assertEqual(self.me.get("/static/__init__.py").status, 404)
        self.assertEqual(self.me.get("/static/../pages.py").status, 404)


class TestDownloads(PagesCase):
    def setUp(self) -> None:
        super().setUp()
        self.write("ten", b"0123456789")
        os.utime(self.jail / "ten", (1_700_000_000, 1_700_000_000))

    def test_ranges(self) -> None:
        for asked, status, body, said in (
            ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
            ("bytes=3-", 206, b"3456789", "bytes 3-9/10"),
            ("bytes=7-100", 206, b"789", "bytes 7-9/10"),
            ("bytes=-4", 206, b"6789", "bytes 6-9/10"),
            ("bytes=-100", 206, b"0123456789", "bytes 0-9/10"),
            ("bytes=10-", 416, b"", "bytes */10"),
            ("bytes=-0", 416, b"", "bytes */10"),
            ("bytes=5-3", 200, b"0123456789", None),
            ("bytes=0-1,3-4", 200, b"0123456789", None),
            ("lines=1-2", 200, b"0123456789", None),
            ("bytes=" + "0-0," * 5000 + "1-1", 200, b"0123456789", None),
        ):
            answer = self.me.get("/files/ten", Range=asked)
            self.assertEqual((answer.status, answer.body), (status, body), asked[:40])
            self.assertEqual(answer.headers["Content-Range"], said, asked[:40])
            if status == 200:
                self.assertEqual(answer.headers["Content-Length"], "10")

    def test_conditions(self) -> None:
        whole = self.me.get("/files/ten")
        tag, date = whole.headers["ETag"], whole.headers["Last-Modified"]
        before = email.utils.formatdate(1_600_000_000, usegmt=True)
        for headers, status in (
            ({"If_None_Match": tag}, 304),
            ({"If_None_Match": f'"x", W/{tag}'}, 304),
            ({"If_None_Match": '"x"', "If_Modified_Since": date}, 200),
            ({"If_Modified_Since": date}, 304),
            ({"If_Modified_Since": before}, 200),
            ({"If_Modified_Since": "yesterday"}, 200),
            ({"If_Match": '"x"'}, 412),
            ({"If_Match": tag}, 200),
            ({"If_Unmodified_Since": before}, 412),
            ({"Range": "bytes=1-2", "If_Range": tag}, 206),
            ({"Range": "bytes=1-2", "If_Range": date}, 206),
            ({"Range": "bytes=1-2", "If_Range": '"x"'}, 200),
        ):
            self.assertEqual(self.me.get("/files/ten", **headers).status, status, headers)
        self.write("ten", b"9876543210")
        with mock.patch.object(downloads, "SETTLED", PATIENCE):
            self.assertIsNone(self.me.get("/files/ten").headers["ETag"])  # it may change again in this second

    def test_each_file_is_closed_once(self) -> None:
        """A second time, its descriptor might be a connection's."""
        closed = self.enterContext(mock.patch.object(SFTPServerStorage, "close", autospec=True))
        closed.side_effect = lambda storage, handle: os.close(handle)
        for count, (method, headers) in enumerate(
            (
                ("GET", {}),
                ("HEAD", {}),
                ("GET", {"Range": "bytes=3-4"}),
                ("GET", {"Range": "bytes=30-40"}),
            ),
            1,
        ):
            self.me.ask(method, "/files/ten", None, headers)
            until(lambda count=count: closed.call_count >= count)
            self.me.get("/files/ten", If_None_Match="*")
            self.assertEqual(closed.call_count, count, (method, headers))

    def test_head_says_how_long_it_would_be(self) -> None:
        answer = self.me.ask("HEAD", "/files/ten")
        self.assertEqual((answer.status, answer.headers["Content-Length"], answer.body), (200, "10", b""))

    def test_what_is_shown_has_a_type_from_the_list_and_no_rights(self) -> None:
        for name, kind in (("a.png", "image/png"), ("a.pdf", "application/pdf"), ("a.mp4", "video/mp4")):
            self.write(name, b"<script>alert(1)</script>")
            answer = self.me.get(f"/files/{name}?inline=1")
            self.assertEqual(answer.headers["Content-Type"], kind)
            self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
            policy = answer.headers["Content-Security-Policy"]
            self.assertTrue(policy.startswith("default-src 'none'") and policy.endswith("sandbox"), policy)
            self.assertNotIn("allow-", policy)
        for name in ("a.html", "a.svg", "a.xml", "a.js", "a", "a.xhtml", "a.mht"):
            self.write(name, b"<script>alert(1)</script>")
            self.assertEqual(self.me.get(f"/files/{name}?inline=1").status, 404, name)
            self.assertIn("&lt;script&gt;alert(1)", self.me.get(f"/files/{name}?view=1").text)

    def test_texts_are_shown_up_to_a_limit_and_other_content_is_not(self) -> None:
        self.write("long.log", b"line\n" * 100_000)
        page = self.me.get("/files/long.log?view=1").text
        self.assertIn("These are the first 262 kB", page)
        self.assertLess(len(page), 300_000)
        self.write("data", b"\0\1\2")
        self.assertIn("There is no preview", self.me.get("/files/data?view=1").text)


class TestActions(PagesCase):
    def test_making_renaming_and_moving(self) -> None:
        self.assertEqual(self.do("/files/", "mkdir", new="new & old").location, "/files/")
        self.assertTrue((self.jail / "new & old").is_dir())
        self.assertIn("The folder <bdi>new &amp; old</bdi> is there now.", self.me.get("/files/").text)
        self.write(b"caf\xe9", b"coffee")
        asked = self.do("/files/", "rename", (b"caf\xe9",))
        self.assertIn('value="caf%E9"', asked.text)
        self.do("/files/", "rename", (b"caf\xe9",), new="café")
        self.assertEqual((self.jail / "café").read_bytes(), b"coffee")
        asked = self.do("/files/", "move", ("café".encode(),))
        self.assertIn('<option value="/new%20%26%20old">', asked.text)
        self.do("/files/", "move", ("café".encode(),), to="/new%20%26%20old")
        self.assertEqual((self.jail / "new & old" / "café").read_bytes(), b"coffee")
        self.do("/files/new%20%26%20old/", "move", ("café".encode(),), to="/", typed="..")
        self.assertTrue((self.jail / "café").exists())

    def test_what_cannot_be_done_is_told_on_the_next_page(self) -> None:
        for name in ("here", "there"):
            (self.jail / name).mkdir()
        for do, names, more, words in (
            ("mkdir", (), {"new": "here"}, "something of that name already"),
            ("mkdir", (), {"new": "a/b"}, "without slashes"),
            ("mkdir", (), {"new": ".."}, "without slashes"),
            ("rename", (b"here",), {"new": "there"}, "something of that name already"),
            ("rename", (b"here", b"there"), {"new": "x"}, "one by one"),
            ("rename", (b"gone",), {"new": "x"}, "no such file"),
            ("move", (b"here",), {"to": "/here"}, "into itself"),
            ("move", (b"here",), {"to": "/nowhere"}, "There is no folder"),
            ("delete", (), {}, "choose files or folders first"),
            ("delete", (b"gone",), {}, "no such file"),
            ("undo", (), {"id": "x"}, "too late"),
        ):
            self.assertEqual(self.do("/files/", do, names, **more).status, 303)
            self.assertIn(words, self.me.get("/files/").text, (do, more))
        self.assertEqual(self.do("/files/", "dance").status, 400)
        self.assertEqual(self.do("/files/", "delete", (b"../alice",)).status, 400)
        self.assertEqual(sorted(os.listdir(self.jail)), ["here", "there"])

    def test_no_form_of_another_page_is_taken(self) -> None:
        fields = {"do": "mkdir", "new": "forged"}
        for token in ("", "x"):
            self.assertEqual(self.me.post("/files/", {**fields, "csrf": token}).status, 403)
        with self.served.logged_in("bob") as bob:
            token = bob.get("/files/").csrf
        self.assertEqual(self.me.post("/files/", {**fields, "csrf": token}).status, 403)
        mine = {**fields, "csrf": self.me.get("/files/").csrf}
        self.assertEqual(self.me.post("/files/", mine, Sec_Fetch_Site="cross-site").status, 403)
        self.assertEqual(self.me.post("/files/", mine, Origin="http://evil.example").status, 403)
        self.assertFalse((self.jail / "forged").exists())


class TestDeletes(PagesCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.clock = cls.enterClassContext(mock.patch.object(deletions, "SECONDS", 3600.0))
        super().setUpClass()

    def let_time_pass(self) -> None:
        """The ten seconds of all deletes are over."""
        found = self.served.door.files.deletions
        with found._changed:
            for one in found._waiting.values():
                one.due = 0.0
            found._changed.notify_all()

    def test_what_is_deleted_is_hidden_and_then_removed(self) -> None:
        (self.jail / "dir" / "in").mkdir(parents=True)
        self.write("dir/in/file")
        self.write("file")
        self.do("/files/", "delete", (b"dir", b"file"))
        page = self.me.get("/files/")
        self.assertIn("Deleted: 2 entries", page.text)
        self.assertIn("This folder is empty", page.text)
        for path in ("/files/dir/", "/files/dir/in/file", "/files/file"):
            self.assertEqual(self.me.get(path).status, 404)
        self.assertTrue((self.jail / "dir" / "in" / "file").exists())
        self.let_time_pass()
        until(lambda: not (self.jail / "dir").exists() and not (self.jail / "file").exists())

    def test_undo_keeps_it(self) -> None:
        self.write("kept")
        self.do("/files/", "delete", (b"kept",))
        ident = self.served.door.files.deletions.of(self.served.door.sessions.all()[-1])[-1].id
        with self.served.logged_in("bob") as bob:
            fields = {"csrf": bob.get("/files/").csrf, "do": "undo", "id": ident}
            bob.post("/files/", fields)
            self.assertIn("too late", bob.get("/files/").text)
        self.do("/files/", "undo", id=ident)
        page = self.me.get("/files/").text
        self.assertIn("Nothing was deleted", page)
        self.assertIn("kept", page)

    def test_what_changed_meanwhile_is_kept_and_that_is_told(self) -> None:
        self.write("changed", b"old")
        self.do("/files/", "delete", (b"changed",))
        self.write("changed.new", b"longer")
        os.replace(self.jail / "changed.new", self.jail / "changed")
        self.let_time_pass()
        until(lambda: "was not deleted: it has changed since" in self.me.get("/files/").text)
        self.assertEqual((self.jail / "changed").read_bytes(), b"longer")

    def test_a_server_that_stops_removes_it_first_and_one_that_is_killed_keeps_it(self) -> None:
        self.write("file")
        self.do("/files/", "delete", (b"file",))
        other = Served(self.place)  # as if this one had been killed
        self.addCleanup(other.stop)
        with other.logged_in() as browser:
            self.assertIn("file", browser.get("/files/").text)
        found = self.served.door.files.deletions
        found.close()
        self.assertEqual(os.listdir(self.jail), [])
        self.served.door.files.deletions = type(found)(found._on_removed)

    def test_what_comes_in_its_place_ends_the_ten_seconds(self) -> None:
        (self.jail / "place").mkdir()
        self.write("place/file")
        self.do("/files/", "delete", (b"place",))
        self.do("/files/", "mkdir", new="place")
        self.assertEqual(os.listdir(self.jail / "place"), [])
        self.let_time_pass()
        self.assertTrue((self.jail / "place").exists())
        os.rmdir(self.jail / "place")


class TestReadOnly(PagesCase):
    settings = {"read_only": True}

    def test_nothing_that_changes_files_is_offered_or_done(self) -> None:
        self.write("file")
        page = self.me.get("/files/").text
        self.assertIn("Read only", page)
        for words in ("Upload", "New folder", "Delete", "Rename"):
            self.assertNotIn(words, page)
        for do, more in (("mkdir", {"new": "x"}), ("delete", {}), ("rename", {"new": "x"})):
            self.assertEqual(self.do("/files/", do, (b"file",), **more).status, 403)
        self.assertEqual(os.listdir(self.jail), ["file"])


class TestParts(unittest.TestCase):
    def test_elements_escape_what_is_not_markup(self) -> None:
        made = element("a", "<b>", Markup("<i></i>"), href='"x"', data_to="&", hidden=True, id=None)
        self.assertEqual(made, '<a href="&quot;x&quot;" data-to="&amp;" hidden>&lt;b&gt;<i></i></a>')

    def test_sizes_as_people_read_them(self) -> None:
        sizes = {
            1: "1 byte",
            999: "999 bytes",
            1000: "1.0 kB",
            9949: "9.9 kB",
            999_700: "1.0 MB",
            1 << 40: "1.1 TB",
        }
        self.assertEqual({size: size_text(size) for size in sizes}, sizes)

    def test_ten_thousand_entries_are_sorted_as_people_count(self) -> None:
        entries = [
            Entry(b"/f %d" % number, number % 100 == 0, True, number, number) for number in range(10_000)
        ]
        seen = look(entries, View(page=2))
        self.assertEqual((seen.pages, seen.found, len(seen.entries)), (20, 10_000, 500))
        self.assertEqual(seen.entries[0].name, b"f 405")
        self.assertEqual(look(entries, View("date", True)).entries[0].name, b"f 9900")
        self.assertEqual(look(entries, View(words="F 99?")).found, 10)
        self.assertEqual(look([], View(page=9)).page, 1)
