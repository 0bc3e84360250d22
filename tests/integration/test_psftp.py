"""PuTTY's ``psftp``: another implementation of SSH and of SFTP, in batch mode."""

from __future__ import annotations

import os
import re

from tests.integration import material
from tests.integration.clients import psftp
from tests.integration.harness import ServedCase
from tests.integration.material import Material, permissions
from tests.support.processes import require


def setUpModule() -> None:
    require("psftp", "puttygen")


class TestPsftp(ServedCase):
    def test_get_and_put_are_identical(self) -> None:
        data = Material()
        data.odd_files(self.local / "odd")
        psftp(self, "put -r odd", "get -r odd back")
        material.assert_both_ways(self, "odd", data.seed)

    def test_trees_and_wildcards_go_both_ways(self) -> None:
        data = Material()
        data.tree(self.local / "tree")
        psftp(self, "put -r tree", "get -r tree back", "mkdir d", "cd d", "mput back/f/*")
        material.assert_both_ways(self, "tree", data.seed)
        material.assert_same_trees(self, self.local / "tree" / "f", self.jail / "d", data.seed)

    def test_reget_and_reput_continue_partial_files(self) -> None:
        material.assert_resumes(self, self.jail, self.local, lambda: psftp(self, "reget down", "reput up"))

    def test_reget_and_reput_continue_files_over_4_gib(self) -> None:
        material.assert_resumes_over_4_gib(
            self, self.jail, self.local, lambda: psftp(self, "reget down", "reput up")
        )

    def test_pwd_cd_dir_and_ls(self) -> None:
        (self.jail / "d").mkdir()
        (self.jail / "d" / "f").write_bytes(b"12345")
        os.chmod(self.jail / "d" / "f", 0o640)
        run = psftp(self, "pwd", "cd d", "pwd", "dir", "ls f*", "cd ..", "pwd")
        self.assertIn("Remote directory is /\n", run.out)
        self.assertIn("Remote directory is /d\n", run.out)
        self.assertEqual(len(re.findall(r"^-rw-r----- .* 5 .* f$", run.out, re.MULTILINE)), 2)

    def test_mkdir_mv_chmod_del_and_rmdir(self) -> None:
        (self.jail / "f").write_text("content")
        (self.jail / "g").touch()
        psftp(self, "mkdir d", "mv f d/f2", "chmod 600 d/f2", "del g", "mkdir e", "rmdir e")
        self.assertEqual((self.jail / "d" / "f2").read_text(), "content")
        self.assertEqual(permissions(self.jail / "d" / "f2"), 0o600)
        self.assertEqual(os.listdir(self.jail), ["d"])
        psftp(self, "chmod u+x,go=r d/f2", "mv d/f2 d/f3")
        self.assertEqual(permissions(self.jail / "d" / "f3"), 0o744)

    def test_any_name_survives_a_tree_both_ways(self) -> None:
        material.awkward_files(self.local / "names")
        psftp(self, "put -r names", "get -r names back")
        material.assert_both_ways(self, "names")

    def test_a_listing_of_thousands_is_complete(self) -> None:
        names = material.many_files(self.jail / "many", 1500)
        out = psftp(self, "ls many").out
        self.assertEqual(re.findall(r"entry \d{5}$", out, re.MULTILINE), names)

    def test_errors_reach_the_user(self) -> None:
        for line in ("get missing", "cd missing", "rmdir missing", "del missing", "mv missing x"):
            with self.subTest(line):
                run = psftp(self, line, "mkdir after", status=2)
                self.assertIn("no such file or directory", run.text)
        self.assertEqual(os.listdir(self.jail), [])
