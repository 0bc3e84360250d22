"""get and put of sftp(1), OpenSSH's own client: contents, trees, continuing, files over 4 GiB."""

from __future__ import annotations

import os

from tests.integration import material
from tests.integration.clients import LONGNAME
from tests.integration.harness import ServedCase
from tests.integration.material import GIB, LONG_AGO, MIB, Material, permissions
from tests.integration.sshd import TARGET
from tests.support.processes import Argument, require
from tests.support.waiting import until


def setUpModule() -> None:
    require("sftp")


class TestGet(ServedCase):
    def test_get_copies_a_file_under_its_name_or_another(self) -> None:
        (self.jail / "remote").write_bytes(b"content")
        self.sftp("get remote", "get /remote other")
        self.assertEqual((self.local / "remote").read_bytes(), b"content")
        self.assertEqual((self.local / "other").read_bytes(), b"content")

    def test_get_of_odd_sizes_is_identical(self) -> None:
        data = Material()
        data.odd_files(self.jail / "odd")
        self.sftp("get -r odd")
        material.assert_same_trees(self, self.jail / "odd", self.local / "odd", data.seed)

    def test_get_is_identical_with_any_request_size_and_count(self) -> None:
        data = Material()
        (self.jail / "f").write_bytes(data.bytes(300_001))
        for flags in (
            ["-B", "999", "-R", "1"],
            ["-B", "32768", "-R", "64"],
            ["-B", "261120", "-R", "256"],
            ["-X", "buffer=40000", "-X", "nrequests=3"],
            ["-C"],
        ):
            with self.subTest(flags=flags, seed=data.seed):
                self.sftp("get f", flags=flags)
                self.assertEqual((self.local / "f").read_bytes(), (self.jail / "f").read_bytes())

    def test_get_replaces_a_longer_local_file(self) -> None:
        (self.jail / "f").write_bytes(b"short")
        (self.local / "f").write_bytes(b"much longer than that")
        self.sftp("get f")
        self.assertEqual((self.local / "f").read_bytes(), b"short")

    def test_get_of_a_missing_file_says_so(self) -> None:
        run = self.sftp("get missing", status=1)
        self.assertIn('File "/missing" not found', run.err)

    def test_get_with_p_keeps_mode_and_times(self) -> None:
        (self.jail / "f").write_bytes(b"x")
        os.chmod(self.jail / "f", 0o741)
        os.utime(self.jail / "f", (LONG_AGO, LONG_AGO + 1))
        self.sftp("get -p f")
        self.assertEqual(permissions(self.local / "f"), 0o741)
        self.assertEqual((self.local / "f").stat().st_mtime, LONG_AGO + 1)

    def test_get_with_f_syncs_and_copies(self) -> None:
        (self.jail / "f").write_bytes(b"x" * 100_000)
        self.sftp("get -f f")
        self.assertEqual((self.local / "f").stat().st_size, 100_000)

    def test_get_with_r_copies_a_tree_and_not_its_links(self) -> None:
        data = Material()
        data.tree(self.jail / "tree")
        for flags in ("-R", "-r"):
            self.sftp(f"get {flags} tree copy{flags}")
            material.assert_same_trees(self, self.jail / "tree", self.local / f"copy{flags}", data.seed)
        (self.jail / "tree" / "link").symlink_to("f")
        run = self.sftp("get -R tree copy")
        self.assertIn('"/tree/link": not a regular file', run.text)
        self.assertNotIn("link", os.listdir(self.local / "copy"))

    def test_get_with_rp_keeps_times_of_directories(self) -> None:
        (self.jail / "d").mkdir()
        (self.jail / "d" / "f").touch()
        os.chmod(self.jail / "d", 0o750)
        os.utime(self.jail / "d", (LONG_AGO, LONG_AGO))
        self.sftp("get -Rp d")
        self.assertEqual(permissions(self.local / "d"), 0o750)
        self.assertEqual((self.local / "d").stat().st_mtime, LONG_AGO)

    def test_get_and_mget_take_globs(self) -> None:
        for name in ("a1.txt", "a2.txt", "b1.txt", "c.bin"):
            (self.jail / name).write_text(name)
        (self.local / "to").mkdir()
        self.sftp("get [ab]1.* to", "mget *.bin")
        self.assertEqual(sorted(os.listdir(self.local / "to")), ["a1.txt", "b1.txt"])
        self.assertEqual((self.local / "c.bin").read_text(), "c.bin")

    def test_get_a_continues_a_partial_file_and_leaves_what_is_there(self) -> None:
        data = Material()
        content = data.bytes(200_000)
        (self.jail / "f").write_bytes(content)
        for line in ("get -a f", "reget f"):
            with self.subTest(line, seed=data.seed):
                # A wrong beginning shows that only the rest was asked for.
                (self.local / "f").write_bytes(b"#" * 70_001)
                self.sftp(line)
                self.assertEqual((self.local / "f").read_bytes(), b"#" * 70_001 + content[70_001:])

    def test_get_a_refuses_a_local_file_that_is_larger(self) -> None:
        (self.jail / "f").write_bytes(b"short")
        (self.local / "f").write_bytes(b"longer than that")
        self.sftp("get -a f", status=1)
        self.assertEqual((self.local / "f").read_bytes(), b"longer than that")

    def test_get_a_continues_whole_trees(self) -> None:
        data = Material()
        data.tree(self.jail / "tree")
        (self.jail / "tree" / "big").write_bytes(data.bytes(100_000))
        (self.local / "tree").mkdir()
        (self.local / "tree" / "big").write_bytes((self.jail / "tree" / "big").read_bytes()[:33_333])
        self.sftp("reget -R tree")
        material.assert_same_trees(self, self.jail / "tree", self.local / "tree", data.seed)

    def test_a_path_in_the_destination_is_fetched_or_entered(self) -> None:
        (self.jail / "d").mkdir()
        (self.jail / "d" / "f").write_bytes(b"content")
        argv: list[Argument] = ["sftp", "-q", "-F", self.sshd.ssh_config]
        self.client([*argv, f"{TARGET}:/d/f", "fetched"])
        self.assertEqual((self.local / "fetched").read_bytes(), b"content")
        self.assertIn("Remote working directory: /d", self.sftp("pwd", to="server:d").lines)


class TestPut(ServedCase):
    def test_put_copies_a_file_under_its_name_or_another_or_into_a_directory(self) -> None:
        (self.local / "f").write_bytes(b"content")
        (self.jail / "d").mkdir()
        self.sftp("put f", "put f other", "put f d", "put f /d/third")
        for name in ("f", "other", "d/f", "d/third"):
            self.assertEqual((self.jail / name).read_bytes(), b"content", name)

    def test_put_of_odd_sizes_is_identical(self) -> None:
        data = Material()
        data.odd_files(self.local / "odd")
        self.sftp("put -r odd")
        material.assert_same_trees(self, self.local / "odd", self.jail / "odd", data.seed)

    def test_put_is_identical_with_any_request_size_and_count(self) -> None:
        data = Material()
        (self.local / "f").write_bytes(data.bytes(300_001))
        for flags in (
            ["-B", "999", "-R", "1"],
            ["-B", "261120", "-R", "256"],
            ["-X", "buffer=40000", "-X", "nrequests=3"],
            ["-C"],
        ):
            with self.subTest(flags=flags, seed=data.seed):
                self.sftp("put f", flags=flags)
                self.assertEqual((self.jail / "f").read_bytes(), (self.local / "f").read_bytes())

    def test_put_replaces_a_longer_remote_file(self) -> None:
        (self.local / "f").write_bytes(b"short")
        (self.jail / "f").write_bytes(b"much longer than that")
        self.sftp("put f")
        self.assertEqual((self.jail / "f").read_bytes(), b"short")

    def test_put_where_no_directory_is_says_so(self) -> None:
        (self.local / "f").touch()
        run = self.sftp("put f missing/f", status=1)
        self.assertIn('dest open "/missing/f": No such file or directory', run.err)

    def test_put_with_p_keeps_mode_and_times(self) -> None:
        (self.local / "f").write_bytes(b"x")
        os.chmod(self.local / "f", 0o741)
        os.utime(self.local / "f", (LONG_AGO, LONG_AGO + 1))
        self.sftp("put -p f")
        self.assertEqual(permissions(self.jail / "f"), 0o741)
        status = (self.jail / "f").stat()
        self.assertEqual((status.st_atime, status.st_mtime), (LONG_AGO, LONG_AGO + 1))

    def test_put_with_f_syncs(self) -> None:
        (self.local / "f").write_bytes(b"x" * 100_000)
        run = self.sftp("put -f f", flags=["-N"])
        self.assertNotIn("fsync", run.text)
        self.assertEqual((self.jail / "f").stat().st_size, 100_000)

    def test_put_with_r_copies_a_tree(self) -> None:
        data = Material()
        data.tree(self.local / "tree")
        for flags in ("-R", "-r"):
            self.sftp(f"put {flags} tree copy{flags}")
            material.assert_same_trees(self, self.local / "tree", self.jail / f"copy{flags}", data.seed)

    def test_put_with_rp_keeps_modes_and_times_of_directories(self) -> None:
        (self.local / "d").mkdir()
        (self.local / "d" / "f").touch()
        os.chmod(self.local / "d", 0o750)
        os.utime(self.local / "d", (LONG_AGO, LONG_AGO))
        self.sftp("put -Rp d")
        self.assertEqual(permissions(self.jail / "d"), 0o750)
        self.assertEqual((self.jail / "d").stat().st_mtime, LONG_AGO)

    def test_put_and_mput_take_globs(self) -> None:
        for name in ("a1.txt", "a2.txt", "b1.txt", "c.bin"):
            (self.local / name).write_text(name)
        self.sftp("mkdir to", "put [ab]1.* to", "mput *.bin")
        self.assertEqual(sorted(os.listdir(self.jail / "to")), ["a1.txt", "b1.txt"])
        self.assertEqual((self.jail / "c.bin").read_text(), "c.bin")

    def test_put_a_continues_a_partial_file_and_leaves_what_is_there(self) -> None:
        data = Material()
        content = data.bytes(200_000)
        (self.local / "f").write_bytes(content)
        for line in ("put -a f", "reput f"):
            with self.subTest(line, seed=data.seed):
                (self.jail / "f").write_bytes(b"#" * 70_001)
                self.sftp(line)
                self.assertEqual((self.jail / "f").read_bytes(), b"#" * 70_001 + content[70_001:])

    def test_an_upload_that_was_cut_off_is_continued(self) -> None:
        data = Material()
        (self.local / "f").write_bytes(data.bytes(4 * MIB))
        with self.sftp_session("-l", "16000") as session:
            session.send("put f")
            until(
                lambda: (self.jail / "f").exists() and (self.jail / "f").stat().st_size > MIB,
                "a part of the file has arrived",
            )
            session.kill()
        self.wait_until_no_server_is_left()
        self.assertLess((self.jail / "f").stat().st_size, 4 * MIB)
        self.sftp("put -a f")
        material.assert_same_trees(self, self.local, self.jail, data.seed)

    def test_a_download_that_was_cut_off_is_continued(self) -> None:
        data = Material()
        (self.jail / "f").write_bytes(data.bytes(4 * MIB))
        with self.sftp_session("-l", "16000") as session:
            session.send("get f")
            until(
                lambda: (self.local / "f").exists() and (self.local / "f").stat().st_size > MIB,
                "a part of the file has arrived",
            )
            session.kill()
        self.assertLess((self.local / "f").stat().st_size, 4 * MIB)
        self.sftp("get -a f")
        material.assert_same_trees(self, self.jail, self.local, data.seed)


class TestFilesOver4GiB(ServedCase):
    SIZE = 4 * GIB + 3 * MIB + 1

    def test_get_a_fetches_the_end_of_a_file_over_4_gib(self) -> None:
        data = Material()
        end = data.bytes(3 * MIB)
        material.sparse(self.jail / "big", self.SIZE, end)
        material.sparse(self.local / "big", 4 * GIB + 1)
        self.sftp("get -a big")
        self.assertEqual((self.local / "big").stat().st_size, self.SIZE)
        self.assertEqual(material.tail(self.local / "big", 3 * MIB), end, data.seed)

    def test_put_a_sends_the_end_of_a_file_over_4_gib(self) -> None:
        data = Material()
        end = data.bytes(3 * MIB)
        material.sparse(self.local / "big", self.SIZE, end)
        material.sparse(self.jail / "big", 4 * GIB + 1)
        self.sftp("put -a big")
        self.assertEqual((self.jail / "big").stat().st_size, self.SIZE)
        self.assertEqual(material.tail(self.jail / "big", 3 * MIB), end, data.seed)

    def test_ls_shows_the_size_of_a_file_over_4_gib(self) -> None:
        material.sparse(self.jail / "big", self.SIZE)
        match = LONGNAME.fullmatch(self.sftp("ls -l big").lines[0])
        assert match is not None
        self.assertEqual(int(match["size"]), self.SIZE)
