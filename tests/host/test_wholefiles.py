"""Whole files of the host: temporary files that are renamed into place, and files of one line."""

from __future__ import annotations

import os
from unittest import mock

from pysftpserver.failures import BadInput
from pysftpserver.host.wholefiles import first_line, open_temporary
from tests.support.cases import InAPlace


class FileCase(InAPlace):
    def setUp(self) -> None:
        super().setUp()
        self.file = self.place / "f"


class WholeFiles(FileCase):
    def test_what_is_not_committed_is_removed(self) -> None:
        self.file.write_text("old")
        with open_temporary(str(self.file), b"new"):
            self.assertEqual(len(os.listdir(self.place)), 2)
        self.assertEqual((os.listdir(self.place), self.file.read_text()), (["f"], "old"))

    def test_what_is_committed_replaces_the_file_and_has_the_mode_asked_for(self) -> None:
        self.file.write_text("old")
        with open_temporary(str(self.file), mode=0o640) as temporary:
            temporary.file.write(b"new")
            temporary.commit()
            self.assertEqual(self.file.read_text(), "new")
        self.assertEqual((os.listdir(self.place), self.file.stat().st_mode & 0o777), (["f"], 0o640))

    def test_a_file_is_not_replaced_against_the_callers_will_even_without_hard_links(self) -> None:
        for fault in (None, PermissionError(1, "no links here")):
            with mock.patch.object(os, "link", wraps=os.link, side_effect=fault):
                with open_temporary(str(self.file), b"first") as temporary:
                    temporary.commit(replace=False)
                with open_temporary(str(self.file), b"second") as temporary:
                    with self.assertRaises(FileExistsError):
                        temporary.commit(replace=False)
            self.assertEqual((os.listdir(self.place), self.file.read_text()), (["f"], "first"))
            self.file.unlink()


class FirstLines(FileCase):
    def test_come_without_white_space_unless_it_is_part_of_a_password(self) -> None:
        for end in (b"", b"\n", b"\r\n", b"\nsecond\n"):
            self.file.write_bytes(b" a b " + end)
            self.assertEqual(first_line(str(self.file), "file"), "a b")
            self.assertEqual(first_line(str(self.file), "file", keep_spaces=True), " a b ")

    def test_that_cannot_be_read_are_refused_and_never_shown(self) -> None:
        for content, reason in ((None, "no such file or directory"), (b"s3cr3t\xff", "not UTF-8 at byte 6")):
            if content is not None:
                self.file.write_bytes(content)
            with self.assertRaises(BadInput) as caught:
                first_line(str(self.file), "URI file")
            wanted = f"URI file {self.file}: {reason}; name a file that can be read"
            self.assertEqual(caught.exception.message, wanted)
