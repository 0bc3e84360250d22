"""lftp, which pipelines everything and mirrors trees; it runs OpenSSH's ``ssh`` underneath."""

from __future__ import annotations

import os

from tests.integration import material
from tests.integration.clients import lftp
from tests.integration.harness import ServedCase
from tests.integration.material import MIB, Material, permissions
from tests.support.processes import require


def setUpModule() -> None:
    require("lftp")


class TestLftp(ServedCase):
    def test_get_and_put_are_identical(self) -> None:
        data = Material()
        data.odd_files(self.local)
        names = sorted(os.listdir(self.local))
        lftp(self, f"mput {' '.join(names)}")
        material.assert_same_trees(self, self.local, self.jail, data.seed)
        lftp(self, f"mget -O {self.outside} *")
        material.assert_same_trees(self, self.local, self.outside, data.seed)

    def test_mirror_copies_trees_both_ways(self) -> None:
        data = Material()
        data.tree(self.local / "tree")
        (self.local / "tree" / "link").symlink_to("f")
        lftp(self, "mirror -R tree", "mirror tree back")
        material.assert_both_ways(self, "tree", data.seed)

    def test_mirror_deletes_what_the_source_has_not(self) -> None:
        (self.local / "tree").mkdir()
        (self.local / "tree" / "new").write_text("new")
        (self.jail / "tree" / "old" / "deep").mkdir(parents=True)
        (self.jail / "tree" / "old" / "f").touch()
        lftp(self, "mirror -R --delete tree")
        material.assert_same_trees(self, self.local / "tree", self.jail / "tree")

    def test_ls_cls_cat_and_pwd(self) -> None:
        (self.jail / "d").mkdir()
        (self.jail / "d" / "f").write_text("content\n")
        os.chmod(self.jail / "d" / "f", 0o640)
        run = lftp(self, "cd d", "ls", "cls -1", "cat f", "pwd")
        *listing, name, content, place = run.out.splitlines()
        self.assertRegex("\n".join(listing), r"(?m)^-rw-r----- .* 8 .* f$")
        self.assertEqual((name, content), ("f", "content"))
        self.assertTrue(place.endswith("/d"), place)

    def test_mkdir_mv_chmod_ln_rm_and_rmdir(self) -> None:
        (self.jail / "f").write_text("content")
        lftp(self, "mkdir -p a/b; mv f a/g; chmod 600 a/g; ln -s a/g link; mkdir gone; rmdir gone")
        self.assertEqual((self.jail / "a" / "g").read_text(), "content")
        self.assertEqual(permissions(self.jail / "a" / "g"), 0o600)
        self.assertEqual(os.readlink(self.jail / "link"), "a/g")
        lftp(self, "rm -r a", "rm link")
        self.assertEqual(os.listdir(self.jail), [])

    def test_c_continues_partial_files_both_ways(self) -> None:
        material.assert_resumes(self, self.jail, self.local, lambda: lftp(self, "get -c down", "put -c up"))

    def test_c_continues_files_over_4_gib_both_ways(self) -> None:
        material.assert_resumes_over_4_gib(
            self, self.jail, self.local, lambda: lftp(self, "get -c down", "put -c up")
        )

    def test_pget_reads_one_file_in_several_places_at_once(self) -> None:
        data = Material()
        (self.jail / "f").write_bytes(data.bytes(3 * MIB + 1))
        lftp(self, "pget -n 3 f")
        self.assertEqual((self.local / "f").read_bytes(), (self.jail / "f").read_bytes(), data.seed)

    def test_any_name_survives_a_mirror_both_ways(self) -> None:
        material.awkward_files(self.local / "names")
        raw = 'set sftp:charset ""'
        lftp(self, raw, "mirror -R names", "mirror names back")
        material.assert_both_ways(self, "names")

    def test_a_listing_of_thousands_is_complete(self) -> None:
        names = material.many_files(self.jail / "many", 1500)
        self.assertEqual(lftp(self, "cd many", "cls -1").out.splitlines(), names)

    def test_errors_reach_the_user(self) -> None:
        self.assertIn("No such file", lftp(self, "get missing", status=1).err)
        lftp(self, "rmdir missing", status=1)
        (self.jail / "d" / "full").mkdir(parents=True)
        lftp(self, "rmdir d", status=1)
        self.assertTrue((self.jail / "d" / "full").is_dir())
