"""pysftpproxy behind a real sshd, with another one behind it, for sftp, and in hard tests rclone, sshfs."""

from __future__ import annotations

import os
import shutil
import subprocess
import unittest
from pathlib import Path
from typing import ClassVar

from tests.differential.compare import sftp_server
from tests.integration import material
from tests.integration.harness import FAILS, ServedCase
from tests.integration.material import GIB, LONG_AGO, Material
from tests.integration.sshd import HOST, TARGET, Sshd, Way
from tests.support.hard import IS_HARD
from tests.support.processes import command, program, rclone, why_no_fuse
from tests.support.waiting import PATIENCE, until


class ProxyCase(ServedCase):
    """The jail is a directory that the server behind serves, and the root of the proxy."""

    behind: ClassVar[Sshd]

    @classmethod
    def make_directories(cls, below: str = "") -> None:
        super().make_directories(below)
        (cls.place / "behind").mkdir()
        cls.behind = Sshd(cls.place / "behind", Way.SUBSYSTEM, [sftp_server()])
        cls.addClassCleanup(cls.behind.stop)
        cls.behind.start()

    @classmethod
    def server_command(cls) -> list[str]:
        name = f"sftp://{TARGET}{cls.jail}?config={cls.behind.ssh_config}"
        return command("pysftpproxy", "--logfile", cls.server_log, name)


class TestSftp(ProxyCase):
    def test_trees_and_their_times_go_there_and_back(self) -> None:
        data = Material()
        data.tree(self.local / "tree")
        os.utime(self.local / "tree" / "file 0", (LONG_AGO, LONG_AGO))
        self.sftp("put -rp tree", "ls -l tree", f"get -rp tree {self.outside}", "df -h", "rename tree moved")
        material.assert_same_trees(self, self.local / "tree", self.jail / "moved", data.seed)
        material.assert_same_trees(self, self.local / "tree", self.outside / "tree", data.seed)
        self.assertEqual((self.jail / "moved" / "file 0").stat().st_mtime, LONG_AGO)
        self.assertEqual((self.outside / "tree" / "file 0").stat().st_mtime, LONG_AGO)

    def test_a_server_that_goes_away_in_a_transfer_ends_the_session_and_the_next_one_works(self) -> None:
        material.sparse(self.jail / "big", GIB)
        with self.sftp_session("-l", "100000") as session:  # a minute and a half for all of it
            session.send(f"get big {self.outside}/big", "ls")
            until(lambda: (self.outside / "big").exists(), "the transfer has begun")
            self.behind.cut()
            self.assertNotEqual(session.process.wait(PATIENCE), 0)
        self.sftp("ls")

    def test_what_is_above_the_root_is_not_there(self) -> None:
        (self.jail / "f").write_bytes(b"content")
        self.sftp("cd ../..", "ls f", "cd /", "get ../../f", f"get /../f {self.outside}/g")
        self.sftp("get /etc/passwd", status=FAILS)


@unittest.skipUnless(IS_HARD, "daily, OpenSSH's sftp goes through the proxy; other clients take minutes")
class TestOthers(ProxyCase):
    def test_rclone_syncs_and_a_second_sync_moves_nothing(self) -> None:
        config = self.place / "rclone.conf"
        config.write_text(
            f"[there]\ntype = sftp\nhost = {HOST}\nport = {self.sshd.port}\nuser = {self.sshd.user}\n"
            f"key_file = {self.sshd.client_key}\nknown_hosts_file = {self.sshd.known_hosts}\n"
            "shell_type = none\n"
        )
        data = Material()
        data.tree(self.local / "tree")

        def run(*words: str) -> str:
            argv = [rclone(), "--config", str(config), "--retries", "1", "-v", *words]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, cwd=self.local)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stderr

        run("sync", "--create-empty-src-dirs", "tree", "there:tree")
        material.assert_same_trees(self, self.local / "tree", self.jail / "tree", data.seed)
        run("check", "--download", "tree", "there:tree")
        self.assertIn("There was nothing to transfer", run("sync", "tree", "there:tree"))

    def test_sshfs_copies_a_tree(self) -> None:
        lacking = why_no_fuse()
        if lacking:
            self.skipTest(lacking)
        there = self.local / "there"
        there.mkdir()
        words = ["-f", "-F", self.sshd.ssh_config, f"{TARGET}:/", there]
        process = subprocess.Popen([program("sshfs"), *map(os.fspath, words)], stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(subprocess.run, ["fusermount3", "-u", "-z", there], capture_output=True)
        until(lambda: os.path.ismount(there) or process.poll() is not None, "it is mounted or cannot be")
        if process.poll() is not None:
            self.skipTest("sshfs does not mount here")
        data = Material()
        data.tree(self.outside / "tree")
        shutil.copytree(self.outside / "tree", there / "tree", symlinks=True)
        material.assert_same_trees(self, self.outside / "tree", self.jail / "tree", data.seed)
        shutil.copytree(there / "tree", there / "copy", symlinks=True)
        material.assert_same_trees(self, self.outside / "tree", Path(self.jail / "copy"), data.seed)
