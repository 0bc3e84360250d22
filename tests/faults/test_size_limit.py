"""RLIMIT_FSIZE of the server's process: writes beyond it fail, and writes up to it succeed.

The kernel also sends SIGXFSZ, which must end no session. Facts: setrlimit(2).
"""

from __future__ import annotations

import errno
import os

from tests.faults.sessions import KIB, NEW, VARIANTS, FaultCase, Session, Upload, content_of
from tests.support import packets as sftp
from tests.support.packets import Attributes, attrs, string, u64

TOO_LARGE = (sftp.FAILURE, os.strerror(errno.EFBIG))
LIMIT = 500_001  # bytes; no multiple of a page or of any chunk


class SizeLimit(FaultCase):
    def limited(self, *options: str, limit: int = LIMIT) -> Session:
        return self.start(f"file_size={limit}", *options)

    def test_writes_are_acknowledged_up_to_the_limit_and_the_one_across_it_is_not(self):
        for options in VARIANTS:
            for length, limit in ((1, 2000), (32 * KIB, LIMIT), (sftp.MAX_DATA, LIMIT)):
                with self.subTest(options=options, length=length, seed=self.seed):
                    session = self.limited(*options, limit=limit)
                    upload = Upload(content_of(self.order, limit + 2 * length + 9))
                    handle = session.open(b"upload", NEW)
                    answers = session.write(upload, handle, upload.pieces(length))
                    fitting = limit // length
                    self.assertEqual({answer.content for answer in answers[:fitting]}, {sftp.OK})
                    refused = {(answer.content, answer.message.decode()) for answer in answers[fitting:]}
                    self.assertEqual(refused, {TOO_LARGE})
                    # The part of it that is allowed may be there.
                    self.assertLessEqual(len(self.assert_upload(upload, "upload")), limit)
                    session.must("fsync", handle)

                    # What lies inside is still welcome: on the same handle, and in another file.
                    inside = (limit // 3, min(length, 100))
                    (answer,) = session.write(upload, handle, [inside])
                    self.assertEqual(answer.content, sftp.OK)
                    session.must("close", handle)
                    other = session.open(b"other", NEW)
                    session.must("write", other, u64(0), string(b"x"))
                    session.must("close", other)
                    session.must("remove", string(b"other"))
                    session.leave()
                    self.assert_upload(upload, "upload")
                    self.resume(upload, length, *options)

    def resume(self, upload: Upload, length: int, *options: str) -> None:
        """A session without the limit sends what was refused."""
        session = self.start(*options)
        handle = session.open(b"upload", sftp.WRITE)
        session.write(upload, handle, upload.missing(length))
        session.must("close", handle)
        session.leave()
        self.assertEqual(self.assert_upload(upload, "upload"), upload.content)
        self.assert_next_session_works(*options, files={"upload"})
        (self.served / "upload").unlink()

    def test_an_append_across_the_limit_is_a_failure(self):
        for options in VARIANTS:
            with self.subTest(options=options, seed=self.seed):
                before, more = content_of(self.order, LIMIT - 1000), content_of(self.order, 1001)
                (self.served / "f").write_bytes(before)
                session = self.limited(*options)
                handle = session.open(b"f", sftp.WRITE | sftp.APPEND)
                self.assertEqual(session.status("write", handle, u64(0), string(more)), TOO_LARGE)
                self.assertEqual((self.served / "f").read_bytes(), (before + more)[:LIMIT])
                self.assertEqual(session.status("write", handle, u64(0), string(b"x")), TOO_LARGE)
                session.must("close", handle)
                session.leave()
                self.assert_next_session_works(*options, files={"f"})

    def test_a_size_beyond_the_limit_is_refused_and_changes_nothing(self):
        for options in VARIANTS:
            with self.subTest(options=options):
                (self.served / "f").write_bytes(b"as it was")
                session = self.limited(*options)
                handle = session.open(b"f", sftp.READ | sftp.WRITE)
                for size in (LIMIT + 1, 1 << 40):
                    larger = attrs(Attributes(size=size))
                    self.assertEqual(session.status("setstat", string(b"f"), larger), TOO_LARGE)
                    self.assertEqual(session.status("fsetstat", handle, larger), TOO_LARGE)
                    self.assertEqual((self.served / "f").read_bytes(), b"as it was")
                session.must("setstat", string(b"f"), attrs(Attributes(size=LIMIT)))
                session.must("fsetstat", handle, attrs(Attributes(size=5)))
                self.assertEqual(session.content(b"f"), b"as it")
                session.must("close", handle)
                session.leave()
                self.assert_next_session_works(*options, files={"f"})

    def test_a_refused_size_keeps_the_other_attributes_from_passing_as_done(self):
        # As in OpenSSH the rest is tried; the status tells that not all of it was done.
        (self.served / "f").write_bytes(b"as it was")
        session = self.limited()
        both = attrs(Attributes(size=LIMIT + 1, permissions=0o600))
        self.assertEqual(session.status("setstat", string(b"f"), both), TOO_LARGE)
        self.assertEqual((self.served / "f").read_bytes(), b"as it was")
        session.leave()

    def test_copy_data_across_the_limit_is_a_failure_and_leaves_a_beginning(self):
        for options in VARIANTS:
            with self.subTest(options=options, seed=self.seed):
                content = content_of(self.order, LIMIT + 100_000)
                (self.served / "f").write_bytes(content)
                session = self.limited(*options)
                source, target = session.open(b"f"), session.open(b"copy", sftp.WRITE | sftp.CREAT)
                whole = (source, u64(0), u64(0), target, u64(0))
                self.assertEqual(session.status("copy-data", *whole), TOO_LARGE)
                data = (self.served / "copy").read_bytes()
                self.assertEqual(data, content[: len(data)])
                self.assertLessEqual(len(data), LIMIT)
                session.must("copy-data", source, u64(0), u64(LIMIT), target, u64(0))
                self.assertEqual((self.served / "copy").read_bytes(), content[:LIMIT])
                one_more = (source, u64(0), u64(1), target, u64(LIMIT))
                self.assertEqual(session.status("copy-data", *one_more), TOO_LARGE)
                session.must("close", source)
                session.must("close", target)
                session.leave()
                self.assert_next_session_works(*options, files={"f", "copy"})
                (self.served / "copy").unlink()


class OpenSSHUnderALimit(FaultCase):
    def test_a_put_that_is_too_large_fails_and_one_of_the_limit_does_not(self):
        content = content_of(self.order, 2 * LIMIT)
        (self.local / "large").write_bytes(content)
        (self.local / "small").write_bytes(content[:LIMIT])
        for options in VARIANTS:
            with self.subTest(options=options, seed=self.seed):
                limited = (f"file_size={LIMIT}", *options)
                status, said = self.sftp("put large", "put small never", options=limited)
                self.assertEqual(status, 1, said)
                self.assertEqual(self.tree(), {"large"})
                self.assertEqual((self.served / "large").read_bytes(), content[:LIMIT])
                status, said = self.sftp("put small", "rm large", options=limited)
                self.assertEqual(status, 0, said)
                self.assertEqual((self.served / "small").read_bytes(), content[:LIMIT])
                self.assert_next_session_works(*options, files={"small"})
                for path in self.served.iterdir():
                    path.unlink()
