"""Uploads with the script of pages: dropped files, lost connections, pauses, names that are taken."""

from __future__ import annotations

import random
import re
import threading

from tests.support import between
from tests.support.between import Between
from tests.support.waiting import PATIENCE, until
from tests.web.browser.cases import BrowserCase

SIZE = 4 << 20  # bytes


class TestUploads(BrowserCase):
    def setUp(self) -> None:
        super().setUp()
        self.expect("status of 409")  # by which the server says that a name is taken, and what has arrived
        self.content = random.Random(22).randbytes(SIZE)

    def through(self) -> Between:
        """A network on the way to the server, from now on."""
        network = Between(self.served.port)
        self.addCleanup(network.close)
        self.url = network.url + "/"
        return network

    def drop(self, *files: tuple[str, bytes]) -> None:
        """Drop files on the page."""
        self.browser.drop("main", *files)

    def choose(self, name: str, content: bytes) -> None:
        """Choose a file and press the button."""
        sent = self.browser.place / name
        sent.write_bytes(content)
        self.browser.press("Upload", kinds="summary")
        self.browser.find("Files", "input[type=file]").send_keys(str(sent))
        self.browser.press("Upload", kinds="form button")

    def test_dropped_files_are_there_and_listed(self) -> None:
        self.log_in()
        self.drop(("one.txt", b"1\n"), ("two.txt", b"22\n"))
        self.browser.see("one.txt", "two.txt", "2 files uploaded.")
        self.wait_for_file("one.txt", b"1\n")
        self.wait_for_file("two.txt", b"22\n")
        self.check("after an upload")

    def test_somebody_is_asked_what_becomes_of_a_file_whose_name_is_taken(self) -> None:
        self.write("taken.txt", b"old\n")
        self.log_in()
        self.drop(("taken.txt", b"new\n"))
        self.browser.see("This name is taken")
        self.check("a question", daily=True)
        self.browser.press("Keep both")
        self.browser.see("1 file uploaded.")
        self.wait_for_file("taken (2).txt", b"new\n")
        self.assertEqual((self.jail / "taken.txt").read_bytes(), b"old\n")
        self.drop(("taken.txt", b"new\n"))
        self.browser.press("Replace")
        self.wait_for_file("taken.txt", b"new\n")

    def test_an_upload_goes_on_where_the_connection_was_lost(self) -> None:
        network = self.through()
        begun, cut = [], threading.Event()

        def order(direction: str, so_far: int, piece: bytes) -> between.Order:
            if direction == between.UP:
                begun.extend(map(int, re.findall(rb"(?i)\r\nupload-offset: (\d+)", piece)))
                if so_far > SIZE // 2 and not cut.is_set():
                    cut.set()
                    return between.RESET
            return None

        network.order = order
        self.expect("ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
        self.log_in()
        self.choose("large.bin", self.content)
        self.wait_for_file("large.bin", self.content)
        self.browser.see("large.bin", "1 file uploaded.")
        self.assertTrue(cut.is_set())
        self.assertGreater(max(begun), 0, "what had arrived was sent again")

    def test_an_upload_that_was_paused_before_it_began_is_sent_once(self) -> None:
        network = self.through()
        may_begin, sent = threading.Event(), []

        def order(direction: str, so_far: int, piece: bytes) -> between.Order:
            if direction == between.UP and piece.startswith(b"POST /upload/"):
                may_begin.wait(PATIENCE)
            sent.extend(re.findall(rb"PATCH /upload/", piece))
            return None

        network.order = order
        self.log_in()
        self.choose("large.bin", self.content)
        self.browser.press("Pause large.bin")
        self.browser.press("Resume large.bin")
        self.browser.find("Pause large.bin")
        may_begin.set()
        self.wait_for_file("large.bin", self.content)
        self.browser.see("1 file uploaded.")
        self.assertEqual(len(sent), 1)

    def test_an_upload_is_paused_and_resumed_and_another_is_given_up(self) -> None:
        network, goes_on = self.through(), threading.Event()
        self.addCleanup(goes_on.set)

        def order(direction: str, so_far: int, piece: bytes) -> between.Order:
            if direction == between.UP and so_far > SIZE // 4 and len(piece) > 16384:
                goes_on.wait(PATIENCE)
            return None

        network.order = order
        self.log_in()
        self.choose("large.bin", self.content)
        self.browser.find("Pause large.bin")
        self.check("an upload that runs")
        self.browser.press("Pause large.bin")
        self.browser.see("Paused")
        self.browser.find("Resume large.bin")
        self.assertFalse((self.jail / "large.bin").exists(), "it appears whole or not at all")
        goes_on.set()
        self.browser.press("Resume large.bin")
        self.wait_for_file("large.bin", self.content)
        goes_on.clear()
        self.choose("given up.bin", self.content[::-1])
        self.browser.press("Cancel given up.bin")
        self.browser.miss("given up.bin")
        until(lambda: [file.name for file in self.jail.iterdir()] == ["large.bin"], "something is left of it")
