"""The clients that people use, against pysftpd: what SSH could get wrong. SFTP is in tests/integration."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration import material
from tests.integration.clients import asynchronous, asyncssh_client, lftp, paramiko_client, psftp
from tests.integration.material import MIB, Material
from tests.integration.sshd import HOST, TARGET
from tests.sshd.running import SHORT_RSA, DaemonCase, Login, kill_group
from tests.support.hard import IS_HARD
from tests.support.processes import program, rclone, require, why_no_fuse
from tests.support.waiting import PATIENCE, until

SIZES = (0, 1, MIB - 1, MIB, MIB + 1, (64 if IS_HARD else 5) * MIB)  # the last is several windows of asyncssh
LIMIT = 2 * PATIENCE  # seconds for what moves 64 MiB

if TYPE_CHECKING:
    Mixin = DaemonCase
else:
    # No test case by itself, or it would be run without a client.
    Mixin = object


def setUpModule() -> None:
    require("sftp", "scp", "lftp", "psftp", "puttygen")


class RoundTrips(Mixin):
    """What has to work with each client."""

    def put(self, name: str) -> None:
        """Upload the file or directory of that name."""
        raise NotImplementedError

    def get(self, name: str, to: str) -> None:
        """Download it under another name."""
        raise NotImplementedError

    def test_trees_of_files_of_all_sizes_arrive_whole_both_ways(self) -> None:
        data = Material()
        data.odd_files(self.local / "odd", SIZES)
        data.tree(self.local / "odd" / "tree")
        self.put("odd")
        self.get("odd", "back")
        material.assert_both_ways(self, "odd", data.seed)

    def test_each_kind_of_key_opens(self) -> None:
        for kind in self.with_each_key():
            (self.local / kind).mkdir()
            (self.local / kind / "file").write_text(kind)
            self.put(kind)
            self.assertEqual((self.jail / kind / "file").read_text(), kind)
            self.server.logs("logged in with SHA256:")


class TestOpenSSHSftp(RoundTrips, DaemonCase):
    def put(self, name: str) -> None:
        self.sftp(f"put -r {name}", seconds=LIMIT)

    def get(self, name: str, to: str) -> None:
        self.sftp(f"get -r {name} {to}", seconds=LIMIT)

    def test_reget_and_reput_continue_partial_files(self) -> None:
        material.assert_resumes(self, self.jail, self.local, lambda: self.sftp("reget down", "reput up"))

    def test_rename_links_modes_and_df_work(self) -> None:
        (self.jail / "f").write_text("content")
        run = self.sftp(
            "rename f g", "ln -s g soft", "ln g hard", "chmod 600 g", "df -h", "ls -l g", "rm hard"
        )
        self.assertEqual(os.readlink(self.jail / "soft"), "g")
        self.assertEqual(material.permissions(self.jail / "g"), 0o600)
        self.assertFalse((self.jail / "hard").exists())
        self.assertRegex(run.out, r"%Capacity|Avail")

    def test_any_name_survives(self) -> None:
        material.awkward_files(self.local / "names")
        self.sftp("put -r names", "get -r names back")
        material.assert_both_ways(self, "names")

    def test_many_requests_at_once_and_small_ones_both_work(self) -> None:
        data = Material()
        data.odd_files(self.local / "odd", (3 * MIB + 7,))
        for flags in (["-R", "1024"], ["-B", "5000", "-R", "1"], ["-B", "261120"]):
            with self.subTest(flags):
                self.sftp("put -r odd", "get -r odd back", flags=flags)
                material.assert_same_trees(self, self.local / "odd", self.local / "back", data.seed)
                shutil.rmtree(self.local / "back")


class TestScp(RoundTrips, DaemonCase):
    def scp(self, *words: str | Path) -> None:
        self.client(["scp", "-r", "-F", self.sshd.ssh_config, *words], seconds=LIMIT)

    def put(self, name: str) -> None:
        self.scp(name, f"{TARGET}:")

    def get(self, name: str, to: str) -> None:
        self.scp(f"{TARGET}:{name}", to)

    def test_the_old_protocol_is_refused(self) -> None:
        (self.local / "f").write_text("content")
        run = self.client(["scp", "-O", "-F", self.sshd.ssh_config, "f", f"{TARGET}:"], status=None)
        self.assertNotEqual(run.status, 0)
        self.assertEqual(os.listdir(self.jail), [])


class TestLftp(RoundTrips, DaemonCase):
    def put(self, name: str) -> None:
        lftp(self, f"mirror -R {name}")

    def get(self, name: str, to: str) -> None:
        lftp(self, f"mirror {name} {to}")

    def test_several_connections_at_once_read_one_file(self) -> None:
        data = Material()
        (self.jail / "f").write_bytes(data.bytes(8 * MIB + 1))
        lftp(self, "pget -n 4 f")
        self.assertEqual((self.local / "f").read_bytes(), (self.jail / "f").read_bytes(), data.seed)


class TestPsftp(RoundTrips, DaemonCase):
    @classmethod
    def users(cls, keys: list[str]) -> dict[str, dict[str, object]]:
        cls.short = Login(cls.place / SHORT_RSA, "bob", SHORT_RSA)
        return {**super().users(keys), "bob": {"keys": [cls.short.public]}}

    def put(self, name: str) -> None:
        psftp(self, f"put -r {name}")

    def get(self, name: str, to: str) -> None:
        psftp(self, f"get -r {name} {to}")

    def test_an_rsa_signature_without_its_leading_zeros_opens(self) -> None:
        self.short.meet(self.server)
        self.sshd = self.short  # type: ignore[misc, assignment]
        for _ in range(100 if IS_HARD else 2):
            psftp(self, "pwd")


class TestParamiko(DaemonCase):
    def test_files_go_both_ways(self) -> None:
        data = Material()
        data.odd_files(self.local / "odd", SIZES)
        (self.local / "back").mkdir()
        with paramiko_client(self.sshd) as client:
            client.get_channel().settimeout(LIMIT)
            for size in SIZES:
                client.put(str(self.local / "odd" / f"{size}.bin"), f"{size}.bin")
                client.get(f"{size}.bin", str(self.local / "back" / f"{size}.bin"))
        material.assert_same_trees(self, self.local / "odd", self.local / "back", data.seed)

    def test_each_kind_of_key_opens(self) -> None:
        for kind in self.with_each_key():
            with paramiko_client(self.sshd) as client:
                client.mkdir(kind)
            self.assertTrue((self.jail / kind).is_dir())


class TestAsyncssh(RoundTrips, DaemonCase):
    @asynchronous
    async def _put(self, name: str) -> None:
        async with asyncssh_client(self.sshd) as client:
            await client.put(str(self.local / name), name, recurse=True)

    @asynchronous
    async def _get(self, name: str, to: str) -> None:
        async with asyncssh_client(self.sshd) as client:
            await client.get(name, str(self.local / to), recurse=True)

    put, get = _put, _get


class TestRclone(RoundTrips, DaemonCase):
    def rclone(self, *words: str | Path) -> None:
        config = self.sshd.directory / "rclone.conf"
        config.write_text(
            f"[there]\ntype = sftp\nhost = {HOST}\nport = {self.sshd.port}\nuser = {self.sshd.user}\n"
            f"key_file = {self.sshd.client_key}\nknown_hosts_file = {self.sshd.known_hosts}\n"
            "shell_type = none\n"
        )
        words = (rclone(), "--config", config, "--retries", "1", *words)
        run = subprocess.run(
            words, capture_output=True, text=True, timeout=LIMIT, cwd=self.local, stdin=subprocess.DEVNULL
        )
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assert_hides_the_jail(run.stdout + run.stderr)

    def put(self, name: str) -> None:
        self.rclone("copy", "--create-empty-src-dirs", name, f"there:{name}")

    def get(self, name: str, to: str) -> None:
        self.rclone("copy", "--create-empty-src-dirs", f"there:{name}", to)

    def test_check_and_sync_agree(self) -> None:
        data = Material()
        data.tree(self.local / "tree")
        self.put("tree")
        self.rclone("check", "--download", "tree", "there:tree")
        (self.local / "tree" / "file 0").unlink()
        (self.local / "tree" / "new").write_text("new")
        self.rclone("sync", "--create-empty-src-dirs", "tree", "there:tree")
        material.assert_same_trees(self, self.local / "tree", self.jail / "tree", data.seed)


class TestSshfs(DaemonCase):
    def setUp(self) -> None:
        super().setUp()
        lacking = why_no_fuse()
        if lacking:
            self.skipTest(lacking)

    def mount(self) -> Path:
        there = self.local / "there"
        there.mkdir()
        words = ["sshfs", "-f", "-F", self.sshd.ssh_config, f"{TARGET}:/", there]
        process = subprocess.Popen(
            [program("sshfs"), *words[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.addCleanup(kill_group, process)
        self.addCleanup(subprocess.run, ["fusermount3", "-u", "-z", there], capture_output=True)
        until(lambda: os.path.ismount(there) or process.poll() is not None, "it is mounted or cannot be")
        if process.poll() is not None:
            assert process.stdout is not None
            self.skipTest(f"this machine does not mount FUSE: {process.stdout.read().decode().strip()}")
        return there

    def test_a_mounted_tree_is_worked_on_as_files_are(self) -> None:
        data = Material()
        data.odd_files(self.local / "odd", SIZES)
        there = self.mount()
        shutil.copytree(self.local / "odd", there / "odd")
        (there / "odd" / "1.bin").rename(there / "one")
        os.symlink("one", there / "link")
        self.assertEqual(os.readlink(there / "link"), "one")
        (there / "one").rename(there / "odd" / "1.bin")
        shutil.copytree(there / "odd", self.local / "back")
        material.assert_both_ways(self, "odd", data.seed)
