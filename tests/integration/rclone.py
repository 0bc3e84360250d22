"""rclone's comparisons by checksums, which it has the server compute: the same for every door."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from tests.integration.sshd import HOST
from tests.support.processes import rclone
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.integration.harness import ServedCase as Mixin
else:
    Mixin = object


class Rclone(Mixin):
    def rclone(self, *words: str, status: int = 0) -> str:
        """Run it with a configuration that says nothing of the server's abilities; return what it logs."""
        config = self.sshd.directory / "rclone.conf"
        if not config.exists():
            config.write_text(
                f"[there]\ntype = sftp\nhost = {HOST}\nport = {self.sshd.port}\nuser = {self.sshd.user}\n"
                f"key_file = {self.sshd.client_key}\nknown_hosts_file = {self.sshd.known_hosts}\n"
            )
        run = subprocess.run(
            [rclone(), "--config", config, "--retries", "1", "-vv", *words],
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
            cwd=self.local,
            stdin=subprocess.DEVNULL,
            env={"HOME": str(self.home), "PATH": os.defpath},
        )
        self.assertEqual(run.returncode, status, run.stderr)
        self.assert_hides_the_jail(run.stdout + run.stderr)
        return run.stderr

    def test_it_compares_and_copies_by_checksums(self) -> None:
        names = "plain", "odd 'name\" \\"
        (self.local / "tree").mkdir()
        for name in names:
            (self.local / "tree" / name).write_text(name)
        said = self.rclone("sync", "--checksum", "tree", "there:tree")
        self.assertIn("Hash command accepted", said)
        self.assertIn("md5 = ", said)  # compared after the upload
        changed = self.jail / "tree" / names[1]
        before = changed.stat()
        changed.write_text(names[1].upper())
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
        said = self.rclone("check", "tree", "there:tree", status=1)
        self.assertIn("md5 differ", said)
        self.assertIn("1 differences found", said)
        self.assertIn("1 matching files", said)
        self.rclone("sync", "--checksum", "tree", "there:tree")
        self.assertEqual(
            {name: (self.jail / "tree" / name).read_text() for name in names},
            dict(zip(names, names, strict=True)),
        )
