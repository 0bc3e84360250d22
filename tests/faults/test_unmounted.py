"""A disk that is unmounted or mounted over during an upload: what would not be found is not acknowledged."""

from __future__ import annotations

from pathlib import Path

from tests.faults.disks import DiskCase
from tests.faults.sessions import NEW, Upload, content_of
from tests.support import packets as sftp
from tests.support.processes import command


class Unmounted(DiskCase):
    def command(self, *options: str) -> tuple[list[str], Path]:
        log = self.place / "log"
        return [*self.inside, *command("pysftpjail", "--logfile", log, *options, self.served)], log

    def test_an_upload_to_a_disk_that_is_not_there_any_more_fails_and_a_new_session_serves_what_is(self):
        changes = {
            "unmounted": ("umount", "--lazy", self.served),
            "mounted over": ("mount", "-t", "tmpfs", "tmpfs", self.served),
        }
        for what, words in changes.items():
            for options in (("--atomic-uploads",), ("--atomic-uploads", "--durable")):
                with self.subTest(what, options=options, seed=self.seed):
                    disk = self.mount("size=4m")
                    session = self.start(*options)
                    upload = Upload(content_of(self.order, 100_000))
                    handle = session.open(b"upload", NEW)
                    session.write(upload, handle, upload.pieces(30_000))
                    disk.run(*words)
                    code, said = session.status("close", handle)
                    self.assertEqual(code, sftp.FAILURE)
                    self.assertIn("moved, replaced or unmounted", said)
                    session.leave()
                    self.assert_next_session_works(*options)
