"""The services that are supplied: Chat, HTTP and Files; Echo and Time are tried with the server."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any

from pysftpserver.laboratory import client
from pysftpserver.laboratory.service import Service
from pysftpserver.laboratory.services import http as http_service
from pysftpserver.laboratory.services.chat import LOBBY, Chat
from pysftpserver.laboratory.services.files import Files, meant, shown
from pysftpserver.laboratory.services.http import HTTP, checked, is_below, place_of
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.laboratory.serving import HOST, Served, ServiceCase
from tests.support.waiting import PATIENCE, until


class InChat(ServiceCase):
    def heard(self, connection: client.Connection) -> list[str]:
        """All that has come until now."""
        connection.server_name()
        found = []
        try:
            while True:
                found.append(connection.receive(0.0))
        except client.TimedOut:
            return found

    def test_people_talk_in_rooms_and_hear_what_was_said_before(self) -> None:
        served = self.serve(Chat(history=2))
        ann, bob = self.connect(served), self.connect(served, "bob")
        for text in ("one", "two", "//three"):
            ann.send(text)
        self.heard(ann)
        self.assertEqual(self.heard(bob)[1:], ["[lobby] ann: one", "[lobby] ann: two", "[lobby] ann: /three"])
        bob.send("/join lab")
        bob.send("quiet here")
        self.assertEqual(
            self.heard(bob),
            ["* you are #2, in lab, with 0 others; /help helps", "[lab] bob: quiet here"],
        )
        self.assertEqual(self.heard(ann), ["* bob (#2) has gone"])
        eve = self.connect(served, "eve")
        self.assertEqual(
            self.heard(eve),
            [
                "* you are #3, in lobby, with 1 other; /help helps",
                "[lobby] ann: two",
                "[lobby] ann: /three",
            ],
        )
        self.assertEqual(self.ask(eve, "/rooms"), "* lobby: 2\n* lab: 1")
        self.assertEqual(self.ask(eve, "/who"), "* in lobby: ann (#1), eve (#3)")
        self.assertEqual(self.ask(eve, "/who lab"), "* in lab: bob (#2)")
        self.assertEqual(self.ask(eve, "/history 1"), "[lobby] ann: /three")
        eve.rename("dropper")
        self.heard(eve)
        eve.close()
        served.log.wait("ended: gone")
        deadline = time.monotonic() + PATIENCE
        heard: list[str] = []
        while len(heard) < 3 and time.monotonic() < deadline:
            heard += self.heard(ann)
        self.assertEqual(heard, ["* eve (#3) has come", "* eve is now dropper", "* dropper (#3) has gone"])

    def test_a_private_message_is_heard_by_one_person_and_names_have_to_be_clear(self) -> None:
        served = self.serve(Chat())
        ann, bob, other = (self.connect(served, name) for name in ("ann", "bob", "bob"))
        for connection in (ann, bob, other):
            self.heard(connection)
        self.assertEqual(self.ask(ann, "/msg bob psst"), "* several clients have that name: #2, #3")
        self.assertEqual(self.ask(ann, "/msg #3 psst"), "[private to bob (#3)] psst")
        self.assertEqual(self.heard(other), ["[private] ann (#1): psst"])
        self.assertEqual(self.heard(bob), [])
        self.assertEqual(self.ask(ann, "/msg zoë psst"), "* no client has that name")

    def test_nobody_speaks_in_anothers_name_by_a_line_end(self) -> None:
        ann = self.connect(self.serve(Chat()))
        self.heard(ann)
        self.assertEqual(
            self.ask(ann, "hi\n[lobby] bob: I am a fool\x1b[2J"),
            "[lobby] ann: hi [lobby] bob: I am a fool [2J",
        )

    def test_everything_has_its_bounds(self) -> None:
        ann = self.connect(self.serve(Chat(history=1000, rooms=3)))
        self.heard(ann)
        self.assertEqual(self.ask(ann, "x" * 4001), "* not said: more than 4000 characters")
        self.assertIn("without spaces", self.ask(ann, f"/join {'r' * 33}"))
        self.assertIn("unknown command", self.ask(ann, "/nonsense"))
        self.assertIn("/who", self.ask(ann, "/help"))
        for number in range(10):
            ann.send(f"/join room{number}")
        self.heard(ann)
        self.assertEqual(self.ask(ann, "/rooms"), "* lobby: 0\n* room8: 0\n* room9: 1")
        for _ in range(40):
            ann.send("y" * 4000)
        self.heard(ann)
        self.assertLess(len(self.ask(ann, "/history")), 70_000)

    def test_a_room_is_not_made_where_people_are_in_all_of_them(self) -> None:
        served = self.serve(Chat(rooms=1))
        self.assertIn("1 rooms", self.last(served, "/join other"))
        self.assertEqual(LOBBY, "lobby")

    def last(self, served: Served, text: str) -> str:
        ann = self.connect(served)
        self.heard(ann)
        return self.ask(ann, text)


class Web(http.server.BaseHTTPRequestHandler):
    """A few pages."""

    pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
    release = threading.Event()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/ok/slow":
            self.release.wait(PATIENCE)
        status, headers, body = self.pages.get(path, (404, {}, b"none"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value.replace("PORT", str(self.server.server_port)))  # type: ignore[attr-defined]
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


Web.pages = {
    "/ok/page": (
        200,
        {"Content-Type": "text/html; charset=iso-8859-1", "X-One": "1"},
        "Zoë".encode("latin-1"),
    ),
    "/ok/data": (200, {"Content-Type": "application/octet-stream"}, bytes(range(256))),
    "/ok/broken": (200, {"Content-Type": "text/plain"}, b"\xff\xfe"),
    "/ok/large": (200, {}, b"x" * 3000),
    "/ok/short": (200, {"Content-Length": "10"}, b"12345"),
    "/ok/here": (302, {"Location": "page"}, b""),
    "/ok/away": (302, {"Location": "/secret"}, b""),
    "/ok/elsewhere": (302, {"Location": "http://127.0.0.2:PORT/ok/page"}, b""),
    "/ok/round": (302, {"Location": "/ok/round"}, b""),
    "/secret": (200, {}, b"secret"),
}


class OverHTTP(ServiceCase):
    def setUp(self) -> None:
        Web.release.clear()
        self.web = http.server.ThreadingHTTPServer((HOST, 0), Web)
        self.web.handle_error = lambda request, address: None  # type: ignore[method-assign]
        self.web.daemon_threads = True
        thread = threading.Thread(target=self.web.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(self.web.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(self.web.shutdown)
        self.addCleanup(Web.release.set)
        self.top = f"http://{HOST}:{self.web.server_port}"

    def service(self, **given: Any) -> Service:
        return HTTP([f"{self.top}/ok"], **given)

    def test_status_headers_and_body_come_back(self) -> None:
        ann = self.connect(self.serve(self.service()))
        for wanted in (f"GET {self.top}/ok/page?a=b", f"{self.top}/ok/page"):
            head, _, body = self.ask(ann, wanted).partition("\n\n")
            lines = head.split("\n")
            self.assertEqual(lines[0], "HTTP 200 OK")
            self.assertIn("laboratory-body: text", lines)
            self.assertIn("x-one: 1", lines)
            self.assertEqual(body, "Zoë")
        self.assertTrue(self.ask(ann, f"GET {self.top}/ok/none").startswith("HTTP 404 "))

    def test_a_body_that_is_no_text_comes_as_base64(self) -> None:
        ann = self.connect(self.serve(self.service()))
        for page in ("data", "broken"):
            head, _, body = self.ask(ann, f"GET {self.top}/ok/{page}").partition("\n\n")
            self.assertIn("laboratory-body: base64", head)
            self.assertEqual(base64.b64decode(body), Web.pages[f"/ok/{page}"][2])

    def test_only_what_is_on_the_list_is_fetched_by_whatever_way(self) -> None:
        ann = self.connect(self.serve(self.service()))
        self.assertIn("laboratory-url: " + self.top + "/ok/page", self.ask(ann, f"GET {self.top}/ok/here"))
        for url in (
            f"{self.top}/secret",
            f"{self.top}/okay",
            f"{self.top}/ok/../secret",
            f"{self.top}/ok/%2e%2e/secret",
            f"{self.top}/ok/%252e%252e/secret",
            f"{self.top}/ok/away",
            f"{self.top}/ok/elsewhere",
            f"{self.top}/ok/round",
            f"http://ann@{HOST}:{self.web.server_port}/ok/page",
            f"https://{HOST}:{self.web.server_port}/ok/page",
            f"http://localhost:{self.web.server_port}/ok/page",
            f"http://{HOST}/ok/page",
            f"http://{HOST}:{self.web.server_port}\\@evil/ok/page",
            "file:///etc/passwd",
            "http://",
            "nonsense",
            "http://[::1/ok",
            "POST x y",
            "",
        ):
            with self.subTest(url):
                said = self.ask(ann, f"GET {url}")
                self.assertTrue(said.startswith("error: "), said)
                self.assertNotIn("secret", said)

    def test_what_is_too_large_or_too_slow_is_given_up(self) -> None:
        ann = self.connect(self.serve(self.service(timeout=PATIENCE, max_bytes=2000)))
        self.assertEqual(self.ask(ann, f"GET {self.top}/ok/large"), "error: a body of more than 2000 bytes")
        ann = self.connect(self.serve(self.service(timeout=0.2)))
        began = time.monotonic()
        self.assertEqual(self.ask(ann, f"GET {self.top}/ok/slow"), "error: it took more than 0.2 seconds")
        self.assertLess(time.monotonic() - began, PATIENCE / 2)

    def test_a_body_that_breaks_off_is_no_answer(self) -> None:
        ann = self.connect(self.serve(self.service()))
        self.assertTrue(self.ask(ann, f"GET {self.top}/ok/short").startswith("error: "))

    def test_others_are_served_while_somebody_waits_for_a_page(self) -> None:
        served = self.serve(self.service())
        slow, ann = self.connect(served), self.connect(served)
        slow.send(f"GET {self.top}/ok/slow")
        self.assertTrue(self.ask(ann, f"GET {self.top}/ok/page").startswith("HTTP 200"))
        Web.release.set()
        self.assertTrue(slow.receive(PATIENCE).startswith("HTTP 404"))

    def test_a_client_that_leaves_does_not_hold_a_thread_until_the_page_is_there(self) -> None:
        served = self.serve(self.service(timeout=PATIENCE))
        began = time.monotonic()
        for _ in range(http_service.AT_ONCE):
            slow = self.connect(served)
            slow.send(f"GET {self.top}/ok/slow")
            slow.hang_up()
        ann = self.connect(served)
        self.assertTrue(self.ask(ann, f"GET {self.top}/ok/page").startswith("HTTP 200"))
        self.assertLess(time.monotonic() - began, PATIENCE / 2)

    def test_a_list_that_cannot_be_meant_is_refused(self) -> None:
        for url in (
            "ftp://x/",
            "example.org",
            "http://a b/",
            "http://u@h/",
            "http://h:99999/",
            "http://h/../x",
        ):
            with self.subTest(url), self.assertRaises(ValueError):
                HTTP([url])
        self.assertEqual(place_of("HTTP://Example.ORG"), ("http", "example.org", 80, "/"))
        self.assertTrue(is_below("/a/b", "/a/"))
        self.assertFalse(is_below("/ab", "/a"))
        self.assertEqual(checked("http://h/%41").path, "/%41")
        self.assertEqual(http_service.PORTS["https"], 443)


class OnFiles(ServiceCase):
    def setUp(self) -> None:
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.root / "d").mkdir()
        (self.root / "a.txt").write_bytes(b"hello")

    def served(self, **given: Any) -> Served:
        return self.serve(Files(lambda: SFTPServerVirtualChroot(self.root), **given))

    def put(self, connection: client.Connection, path: str, content: bytes, step: int = 40_000) -> str:
        if (said := self.ask(connection, f"put {path}")) != "ready":
            return said
        for at in range(0, len(content), step):
            connection.send(f"data {base64.b64encode(content[at : at + step]).decode()}")
        return self.ask(connection, "end")

    def get(self, connection: client.Connection, path: str) -> bytes | str:
        said = self.ask(connection, f"get {path}")
        if not said.startswith("file "):
            return said
        content = b""
        while (said := connection.receive(PATIENCE)).startswith("data "):
            content += base64.b64decode(said[5:])
        self.assertEqual(said, f"end {len(content)} {hashlib.sha256(content).hexdigest()}")
        return content

    def test_files_go_and_come_whole(self) -> None:
        ann = self.connect(self.served())
        for size in (0, 1, 36 << 10, 700_001):
            content = os.urandom(size)
            said = self.put(ann, "/d/new", content)
            self.assertEqual(said, f"stored {size} {hashlib.sha256(content).hexdigest()}")
            self.assertEqual((self.root / "d/new").read_bytes(), content)
            self.assertEqual(self.get(ann, "d/new"), content)

    def test_directories_are_listed_with_names_that_can_be_used_again(self) -> None:
        for name in (b"100%", b"two words", b"\xff", b"line\nend", "zoë".encode()):
            (self.root / "d" / os.fsdecode(name)).write_bytes(name)
            self.assertEqual(meant(shown(name)), b"/" + name)
        ann = self.connect(self.served())
        said = self.ask(ann, "list d")
        self.assertEqual(ann.receive(PATIENCE), "end")
        names = [line.split(" ", 3) for line in said.split("\n")[1:]]
        self.assertEqual(
            sorted(name for *_, name in names), ["%FF", "100%25", "line%0Aend", "two words", "zoë"]
        )
        for kind, size, _, name in names:
            content = self.get(ann, f"d/{name}")
            self.assertEqual((kind, int(size)), ("f", len(content)))

    def test_long_listings_come_in_several_messages(self) -> None:
        for number in range(250):
            (self.root / "d" / str(number)).touch()
        ann = self.connect(self.served())
        ann.send("list /d")
        lines: list[str] = []
        while (said := ann.receive(PATIENCE)) != "end":
            lines += said.split("\n")[1:]
        self.assertEqual(len(lines), 250)

    def test_a_client_that_leaves_in_the_middle_leaves_nothing(self) -> None:
        served = self.served()
        ann = self.connect(served)
        self.assertEqual(self.ask(ann, "put /a.txt"), "ready")
        ann.send(f"data {base64.b64encode(b'half').decode()}")
        ann.server_name()
        self.assertEqual(len(os.listdir(self.root)), 3)
        ann.close()
        self.only_old()

    def only_old(self) -> None:
        until(lambda: len(os.listdir(self.root)) <= 2, "the temporary file is gone")
        self.assertEqual(sorted(os.listdir(self.root)), ["a.txt", "d"])
        self.assertEqual((self.root / "a.txt").read_bytes(), b"hello")

    def test_an_upload_that_is_aborted_broken_or_too_large_leaves_the_old_file(self) -> None:
        ann = self.connect(self.served(max_bytes=10))
        for texts, wanted in (
            (["abort"], "aborted"),
            (["data no base64!"], "error: not base64; the upload is aborted"),
            (
                [f"data {base64.b64encode(b'x' * 11).decode()}"],
                "error: more than 10 bytes; the upload is aborted",
            ),
        ):
            self.assertEqual(self.ask(ann, "put a.txt"), "ready")
            for text in texts:
                self.assertEqual(self.ask(ann, text), wanted)
            self.only_old()
            self.assertTrue(self.ask(ann, "end").startswith("error: no upload is in progress"))

    def test_choosing_another_service_gives_an_upload_up(self) -> None:
        from pysftpserver.laboratory.services.echo import Echo

        ann = self.connect(self.serve(Files(lambda: SFTPServerVirtualChroot(self.root)), Echo()))
        self.assertEqual(self.ask(ann, "put a.txt"), "ready")
        ann.choose("echo")
        ann.server_name()
        self.only_old()

    def test_errors_are_told_in_words_and_name_no_path_of_the_host(self) -> None:
        os.mkfifo(self.root / "fifo")
        ann = self.connect(self.served())
        for text in (
            "get /none",
            "get d",
            "get fifo",
            "put d",
            "put fifo",
            "put none/x",
            "list none",
            "list a.txt",
            "get ../../etc/passwd",
            "get a%00",
            "get",
            "nonsense",
            "data eA==",
            "put",
        ):
            with self.subTest(text):
                said = self.ask(ann, text)
                self.assertTrue(said.startswith("error: "), said)
                self.assertNotIn(str(self.root), said)
        self.assertIn("put PATH", self.ask(ann, "help"))

    def test_uploads_can_be_forbidden(self) -> None:
        ann = self.connect(self.served(read_only=True))
        self.assertEqual(self.put(ann, "x", b"x"), "error: this service is read-only")
        self.assertEqual(self.get(ann, "a.txt"), b"hello")


class OnBrokenStorages(ServiceCase):
    def test_a_storage_that_fails_in_the_middle_gives_the_upload_up(self) -> None:
        class Full(SFTPServerVirtualChroot):
            def write(self, handle: Any, off: int, chunk: Any) -> None:
                raise OSError(28, "No space left on device")

        with tempfile.TemporaryDirectory() as place:
            ann = self.connect(self.serve(Files(lambda: Full(place))))
            self.assertEqual(self.ask(ann, "put x"), "ready")
            self.assertEqual(self.ask(ann, "data eA=="), "error: no space left on device")
            self.assertEqual(os.listdir(place), [])


class Contract(unittest.TestCase):
    def test_a_service_can_be_tried_without_a_server(self) -> None:
        self.assertEqual(Service().clients, ())
        Service().broadcast("to nobody")
