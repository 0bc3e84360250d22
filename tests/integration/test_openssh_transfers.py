"""get and put of sftp(1), OpenSSH's own client: contents, trees, continuing, files over 4 GiB."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration import material
from tests.integration.clients import LONGNAME
from tests.integration.harness import ServedCase
from tests.integration.material import GIB, KIB, LONG_AGO, MIB, Material, permissions
from tests.integration.sshd import TARGET
from tests.support.processes import Argument, is_alive, require
from tests.support.waiting import until

if TYPE_CHECKING:
    Mixin = ServedCase
else:
    # No test case by itself, or it would be run without a direction.
    Mixin = object


def setUpModule() -> None:
    require("sftp")


class Transfers(Mixin):
    """What get and put have in common. verb: the command; it goes from self.source to self.target."""

    verb: str
    source: Path
    target: Path

    def test_odd_sizes_are_identical(self) -> None:
        data = Material()
        data.odd_files(self.source / "odd")
        self.sftp(f"{self.verb} -r odd")
        material.assert_same_trees(self, self.source, self.target, data.seed)

    def test_any_request_size_and_count_give_the_same(self) -> None:
        data = Material()
        (self.source / "f").write_bytes(data.bytes(300_001))
        for flags in (
            ["-B", "999", "-R", "1"],
            ["-B", "32768", "-R", "64"],
            ["-X", "buffer=40000", "-X", "nrequests=3"],
            ["-C"],
        ):
            with self.subTest(flags=flags, seed=data.seed):
                (self.target / "f").unlink(missing_ok=True)
                self.sftp(f"{self.verb} f", flags=flags)
                self.assertEqual((self.target / "f").read_bytes(), (self.source / "f").read_bytes())

    def test_a_longer_file_is_replaced(self) -> None:
        (self.source / "f").write_bytes(b"short")
        (self.target / "f").write_bytes(b"much longer than that")
        self.sftp(f"{self.verb} f")
        self.assertEqual((self.target / "f").read_bytes(), b"short")

    def test_p_keeps_mode_and_times_and_f_syncs(self) -> None:
        (self.source / "f").write_bytes(b"x" * 100_000)
        os.chmod(self.source / "f", 0o741)
        os.utime(self.source / "f", (LONG_AGO, LONG_AGO + 1))
        run = self.sftp(f"{self.verb} -p f", f"{self.verb} -f f g", flags=["-N"])
        self.assertNotIn("fsync", run.text)
        self.assertEqual(permissions(self.target / "f"), 0o741)
        self.assertEqual((self.target / "f").stat().st_mtime, LONG_AGO + 1)
        self.assertEqual((self.target / "g").stat().st_size, 100_000)

    def test_r_copies_a_tree(self) -> None:
        data = Material()
        data.tree(self.source / "tree")
        self.sftp(*(f"{self.verb} {flag} tree copy{flag}" for flag in ("-R", "-r")))
        for flag in ("-R", "-r"):
            material.assert_same_trees(self, self.source / "tree", self.target / f"copy{flag}", data.seed)

    def test_rp_keeps_modes_and_times_of_directories(self) -> None:
        (self.source / "d").mkdir()
        (self.source / "d" / "f").touch()
        os.chmod(self.source / "d", 0o750)
        os.utime(self.source / "d", (LONG_AGO, LONG_AGO))
        self.sftp(f"{self.verb} -Rp d")
        self.assertEqual(permissions(self.target / "d"), 0o750)
        self.assertEqual((self.target / "d").stat().st_mtime, LONG_AGO)

    def test_globs_are_taken(self) -> None:
        for name in ("a1.txt", "a2.txt", "b1.txt", "c.bin"):
            (self.source / name).write_text(name)
        (self.target / "to").mkdir()
        self.sftp(f"{self.verb} [ab]1.* to", f"m{self.verb} *.bin")
        self.assertEqual(sorted(os.listdir(self.target / "to")), ["a1.txt", "b1.txt"])
        self.assertEqual((self.target / "c.bin").read_text(), "c.bin")

    def test_a_partial_file_is_continued_and_keeps_what_is_there(self) -> None:
        data = Material()
        content = data.bytes(200_000)
        (self.source / "f").write_bytes(content)
        for line in (f"{self.verb} -a f", f"re{self.verb} f"):
            with self.subTest(line, seed=data.seed):
                # A wrong beginning shows that only the rest was asked for.
                (self.target / "f").write_bytes(b"#" * 70_001)
                self.sftp(line)
                self.assertEqual((self.target / "f").read_bytes(), b"#" * 70_001 + content[70_001:])

    def test_one_that_was_cut_off_is_continued(self) -> None:
        data = Material()
        (self.source / "f").write_bytes(data.bytes(4 * MIB))
        arriving = self.target / "f"
        with self.sftp_session("-l", "2000") as session:  # 16 seconds for all of it
            session.send(f"{self.verb} f")
            until(lambda: arriving.exists() and arriving.stat().st_size > 64 * KIB, "a part has arrived")
            server = self.only_server()
            session.kill()
        until(lambda: not is_alive(server), "the server has ended, as no child of sshd any more")
        self.assertLess(arriving.stat().st_size, 4 * MIB)
        self.sftp(f"{self.verb} -a f")
        material.assert_same_trees(self, self.source, self.target, data.seed)

    def test_the_end_of_a_file_over_4_gib_is_fetched_and_sent(self) -> None:
        data = Material()
        size, end = 4 * GIB + 3 * MIB + 1, data.bytes(3 * MIB)
        material.sparse(self.source / "big", size, end)
        material.sparse(self.target / "big", 4 * GIB + 1)
        run = self.sftp(f"{self.verb} -a big", "ls -l big")
        self.assertEqual((self.target / "big").stat().st_size, size)
        self.assertEqual(material.tail(self.target / "big", 3 * MIB), end, data.seed)
        match = LONGNAME.fullmatch(run.answers[-1][0])
        assert match is not None
        self.assertEqual(int(match["size"]), size)


class TestGet(Transfers, ServedCase):
    verb = "get"

    def setUp(self) -> None:
        super().setUp()
        self.source, self.target = self.jail, self.local

    def test_get_copies_a_file_under_its_name_or_another(self) -> None:
        (self.jail / "remote").write_bytes(b"content")
        self.sftp("get remote", "get /remote other")
        self.assertEqual((self.local / "remote").read_bytes(), b"content")
        self.assertEqual((self.local / "other").read_bytes(), b"content")

    def test_get_of_a_missing_file_says_so(self) -> None:
        run = self.sftp("get missing", status=1)
        self.assertIn('File "/missing" not found', run.err)

    def test_get_with_r_copies_no_links(self) -> None:
        Material().tree(self.jail / "tree")
        (self.jail / "tree" / "link").symlink_to("f")
        run = self.sftp("get -R tree copy")
        self.assertIn('"/tree/link": not a regular file', run.text)
        self.assertNotIn("link", os.listdir(self.local / "copy"))

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


class TestPut(Transfers, ServedCase):
    verb = "put"

    def setUp(self) -> None:
        super().setUp()
        self.source, self.target = self.local, self.jail

    def test_put_copies_a_file_under_its_name_or_another_or_into_a_directory(self) -> None:
        (self.local / "f").write_bytes(b"content")
        (self.jail / "d").mkdir()
        self.sftp("put f", "put f other", "put f d", "put f /d/third")
        for name in ("f", "other", "d/f", "d/third"):
            self.assertEqual((self.jail / name).read_bytes(), b"content", name)

    def test_put_where_no_directory_is_says_so(self) -> None:
        (self.local / "f").touch()
        run = self.sftp("put f missing/f", status=1)
        self.assertIn('dest open "/missing/f": No such file or directory', run.err)

    def test_put_with_p_sends_the_time_of_the_last_access_too(self) -> None:
        (self.local / "f").write_bytes(b"x")
        os.utime(self.local / "f", (LONG_AGO, LONG_AGO + 1))
        self.sftp("put -p f")
        self.assertEqual((self.jail / "f").stat().st_atime, LONG_AGO)
