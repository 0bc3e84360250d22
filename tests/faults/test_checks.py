"""The tests of the tests: servers that lie in each way that these tests are there to find, and are found out.

A check that never fails proves nothing. Every liar serves a real session, which ends well by its own
words; the account of the client says otherwise.
"""

from __future__ import annotations

from tests.faults.disks import DiskCase
from tests.faults.sessions import KIB, MIB, NEW, FaultCase, Session, Upload, content_of
from tests.support.packets import OK, Reply

ALL_IS_WELL = Reply("status", OK, b"Success")


class Liars(FaultCase):
    def uploaded(self, liar: str) -> tuple[Session, Upload]:
        """A finished session in which a liar acknowledged every WRITE."""
        session = self.start(f"storage={liar}")
        upload = Upload(content_of(self.order, 200_000))
        handle = session.open(b"upload", NEW)
        session.write(upload, handle, upload.pieces(32 * KIB))
        session.must("fsync", handle)
        session.must("close", handle)
        self.assertFalse(upload.refused)
        session.leave()
        return session, upload

    def test_a_storage_that_stores_what_it_was_sent_passes(self):
        _, upload = self.uploaded("plain")
        self.assertEqual(self.assert_upload(upload, "upload"), upload.content)
        self.assert_next_session_works(files={"upload"})

    def test_a_storage_that_stores_anything_else_is_found_out(self):
        for liar, found in (
            ("halving", "32768 bytes at 0 were acknowledged"),
            ("forgetting", "were acknowledged and are not there"),
            ("misplacing", "were acknowledged and are not there"),
            ("inventing", "the file has 200004 bytes, and 200000 were sent"),
        ):
            _, upload = self.uploaded(liar)
            with self.subTest(liar), self.assertRaisesRegex(AssertionError, found):
                self.assert_upload(upload, "upload")
            (self.served / "upload").unlink()

    def test_a_storage_that_leaves_files_about_is_found_out(self):
        _, upload = self.uploaded("littering")
        self.assert_upload(upload, "upload")
        with self.assertRaisesRegex(AssertionError, "stray or missing files"):
            self.assert_next_session_works(files={"upload"})

    def test_a_next_session_that_does_not_do_its_work_is_found_out(self):
        for liar in ("halving", "misplacing", "inventing"):
            with self.subTest(liar), self.assertRaises(AssertionError):
                self.assert_next_session_works(f"storage={liar}")
            (self.served / "next").unlink(missing_ok=True)

    def test_a_server_that_says_nothing_of_its_end_is_found_out(self):
        session = self.start("storage=plain")
        session.door.process.kill()
        with self.assertRaisesRegex(AssertionError, "the server ended with -9"):
            session.leave()


class LiarsOnAFullDisk(DiskCase):
    def test_a_storage_that_hushes_up_what_did_not_fit_is_found_out(self):
        self.mount("size=1m")
        session = self.start("storage=hushing")
        upload = Upload(content_of(self.order, 2 * MIB))
        handle = session.open(b"upload", NEW)
        session.write(upload, handle, upload.pieces(100_000))
        self.assertFalse(upload.refused)
        with self.assertRaisesRegex(AssertionError, "100000 bytes at 1000000 were acknowledged"):
            self.assert_upload(upload, "upload")
        session.leave()


class Accounts(FaultCase):
    """Upload.wrong(), where no server is needed."""

    def account(self, *pieces: tuple[int, int], acknowledged: int = 0) -> Upload:
        """An upload of which pieces were sent, and the first few of them acknowledged."""
        upload = Upload(content_of(self.order, 1000))
        for number, piece in enumerate(pieces):
            upload.waiting[number] = piece
            upload.sent.add(piece)
            if number < acknowledged:
                upload.heard(number, ALL_IS_WELL)
        return upload

    def test_accept_a_beginning_of_what_was_not_acknowledged_and_a_hole_in_its_place(self):
        upload = self.account((0, 100), (100, 100), (200, 100), acknowledged=1)
        for data in (
            upload.content[:100],
            upload.content[:150],
            upload.content[:300],
            upload.content[:100] + bytes(100) + upload.content[200:300],
            upload.content[:120] + bytes(80) + upload.content[200:250],
        ):
            self.assertEqual(upload.wrong(data), "")

    def test_accept_no_hole_and_no_end_in_what_was_acknowledged(self):
        upload = self.account((0, 100), (100, 100), acknowledged=2)
        for data in (
            b"",
            upload.content[:199],
            bytes(100) + upload.content[100:200],
            upload.content[:100] + bytes(100),
            upload.content[:50] + b"\0" + upload.content[51:200],
        ):
            self.assertIn("were acknowledged and are not there", upload.wrong(data))

    def test_accept_nothing_that_was_not_sent(self):
        upload = self.account((0, 100), (200, 100), acknowledged=1)
        whole = upload.content
        for data, complaint in (
            (whole[:150] + bytes(50) + whole[200:300], "never sent"),
            (whole[:100] + bytes(100) + whole[:100], "none that were sent there"),
            (whole[:100] + bytes(100) + bytes(50) + whole[250:300], "none that were sent there"),
            (whole[:100] + bytes(100) + whole[200:301], "the file has 301 bytes, and 300 were sent"),
            (whole[:100] + bytes(201), "the file has 301 bytes, and 300 were sent"),
        ):
            self.assertIn(complaint, upload.wrong(data))

    def test_take_no_other_reply_for_an_acknowledgement(self):
        upload = self.account((0, 100), (100, 100))
        upload.heard(0, Reply("status", 4, b"Success"))
        upload.heard(1, Reply("handle", b"\0\0\0\0"))
        self.assertEqual((upload.acknowledged, len(upload.refused)), (set(), 2))
