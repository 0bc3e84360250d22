"""Checksums without a shell: commands behind command= in authorized_keys, and rclone, which runs them."""

from __future__ import annotations

import hashlib
import os
import subprocess

from tests.integration.clients import paramiko_client
from tests.integration.harness import Finished, ServedCase
from tests.integration.material import MIB, Material
from tests.integration.rclone import Rclone
from tests.integration.sshd import TARGET
from tests.support.processes import require


def setUpModule() -> None:
    require("ssh", "sftp", "md5sum")


class TestCommands(ServedCase):
    @classmethod
    def server_command(cls) -> list[str]:
        return cls.jail_command("--checksums")

    def ssh(self, command: str, status: int | None = 0, stdin: bytes = b"") -> Finished:
        return self.client(["ssh", "-F", self.sshd.ssh_config, TARGET, command], status=status, stdin=stdin)

    def test_the_output_is_that_of_coreutils_in_the_jail(self) -> None:
        (self.jail / "d").mkdir()
        name = "d/with 'quotes\", \\ and\na line end"
        (self.jail / name).write_bytes(os.urandom(MIB + 1))
        quoted = "'" + name.replace("'", "'\\''") + "'"
        real = subprocess.run(["sha512sum", name], cwd=self.jail, capture_output=True, text=True, check=True)
        self.assertEqual(self.ssh(f"sha512sum {quoted}").out, real.stdout)
        self.assertIn("check-file-name", self.server_text())

    def test_what_is_outside_stays_outside(self) -> None:
        (self.outside / "secret").write_text("secret")
        (self.jail / "link").symlink_to(self.outside / "secret")
        run = self.ssh("sha256sum ../../../../link", status=1)
        self.assertEqual((run.out, run.err), ("", "sha256sum: ../../../../link: No such file\n"))

    def test_nothing_else_is_run(self) -> None:
        (self.jail / "f").write_text("content")
        self.assertIn("one path only, quoted", self.ssh("md5sum f > $(id)", status=2).err)
        self.assertEqual(self.ssh("/usr/bin/md5sum f", status=None).out, "")
        self.assertEqual(os.listdir(self.jail), ["f"])

    def test_paramikos_check_agrees(self) -> None:
        data = Material()
        content = data.bytes(MIB + 77)
        (self.jail / "f").write_bytes(content)
        with paramiko_client(self.sshd) as client, client.open("f", "rb") as file:
            self.assertEqual(file.check("sha256"), hashlib.sha256(content).digest(), data.seed)
            found = file.check("md5", 5, 1000, 300)
        blocks = [content[5 + at : 5 + min(at + 300, 1000)] for at in range(0, 1000, 300)]
        self.assertEqual(found, b"".join(hashlib.md5(block).digest() for block in blocks), data.seed)

    def test_without_the_option_there_is_none_of_it(self) -> None:
        self.serve(self.jail_command())
        (self.jail / "f").write_text("content")
        self.assertEqual(self.ssh("md5sum f", status=None).out, "")

    def test_a_refused_request_refuses_the_commands(self) -> None:
        self.serve(self.jail_command("--checksums", "--deny-requests", "check-file-name"))
        (self.jail / "f").write_text("content")
        self.assertEqual(self.ssh("md5sum f", status=1).err, "md5sum: f: Permission denied\n")


class TestRclone(Rclone, ServedCase):
    """Compares and copies by checksums, with what it finds out about the server by itself."""

    @classmethod
    def server_command(cls) -> list[str]:
        return cls.jail_command("--checksums")
