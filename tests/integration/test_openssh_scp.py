"""OpenSSH's ``scp``, which speaks SFTP unless told otherwise (scp(1))."""

from __future__ import annotations

import os

from tests.integration import material
from tests.integration.harness import FAILS, Finished, ServedCase
from tests.integration.material import MIB, Material, permissions
from tests.support.processes import Argument, require
from tests.support.waiting import PATIENCE

LONG_AGO = 1_000_000_000


def setUpModule() -> None:
    require("scp")


class ScpCase(ServedCase):
    def scp(self, *arguments: Argument, status: int | None = 0, seconds: float = PATIENCE) -> Finished:
        argv = ["scp", "-F", self.sshd.ssh_config, *arguments]
        return self.client(argv, status=status, seconds=seconds)


class TestScp(ScpCase):
    def test_files_go_up_and_down(self) -> None:
        data = Material()
        (self.local / "f").write_bytes(data.bytes(300_001))
        self.scp("f", "server:g")
        self.scp("server:/g", "h")
        self.assertEqual((self.jail / "g").read_bytes(), (self.local / "f").read_bytes(), data.seed)
        self.assertEqual((self.local / "h").read_bytes(), (self.local / "f").read_bytes(), data.seed)

    def test_several_files_go_into_a_directory(self) -> None:
        for name in ("a", "b"):
            (self.local / name).write_text(name)
        (self.jail / "d").mkdir()
        self.scp("a", "b", "server:d")
        self.scp("server:d/*", "server:/d/a", self.outside)
        self.assertEqual(material.contents(self.jail / "d"), material.contents(self.local))
        self.assertEqual(material.contents(self.outside), material.contents(self.local))

    def test_r_copies_trees_both_ways(self) -> None:
        data = Material()
        data.tree(self.local / "tree")
        data.odd_files(self.local / "tree" / "odd")
        self.scp("-r", "tree", "server:")
        material.assert_same_trees(self, self.local / "tree", self.jail / "tree", data.seed)
        self.scp("-r", "server:tree", "back")
        material.assert_same_trees(self, self.local / "tree", self.local / "back", data.seed)

    def test_p_keeps_modes_and_times(self) -> None:
        (self.local / "f").touch()
        os.chmod(self.local / "f", 0o741)
        os.utime(self.local / "f", (LONG_AGO, LONG_AGO))
        self.scp("-p", "f", "server:")
        self.scp("-p", "server:f", "g")
        for copy in (self.jail / "f", self.local / "g"):
            self.assertEqual((permissions(copy), copy.stat().st_mtime), (0o741, LONG_AGO))

    def test_3_copies_from_remote_to_remote(self) -> None:
        data = Material()
        (self.jail / "f").write_bytes(data.bytes(300_001))
        self.scp("-3", "server:f", "server:/g")
        self.assertEqual((self.jail / "g").read_bytes(), (self.jail / "f").read_bytes(), data.seed)

    def test_any_name_survives_a_tree_both_ways(self) -> None:
        material.awkward_files(self.local / "names")
        self.scp("-r", "names", "server:")
        material.assert_same_trees(self, self.local / "names", self.jail / "names")
        self.scp("-r", "server:names", "back")
        material.assert_same_trees(self, self.local / "names", self.local / "back")

    def test_a_glob_finds_its_names_among_thousands(self) -> None:
        material.many_files(self.jail / "many", 1300)
        self.scp("server:many/entry 0123*", ".")
        self.assertEqual(sorted(os.listdir(self.local)), [f"entry 0123{digit}" for digit in range(10)])

    def test_missing_files_are_reported(self) -> None:
        self.assertIn("No such file or directory", self.scp("server:f", ".", status=FAILS).err)
        (self.local / "f").touch()
        self.scp("f", "server:missing/f", status=FAILS)
        self.assertEqual(os.listdir(self.jail), [])

    def test_a_larger_file_goes_both_ways(self) -> None:
        data = Material()
        (self.local / "f").write_bytes(data.bytes(9 * MIB + 1))
        self.scp("f", "server:")
        self.scp("server:f", "g")
        contents = material.contents(self.local)
        self.assertEqual(contents[b"f"], contents[b"g"], data.seed)


class TestTheOldProtocol(ScpCase):
    """``scp -O`` runs ``scp`` on the server; where only SFTP is served, it has to fail."""

    def test_it_fails_and_copies_nothing(self) -> None:
        (self.local / "f").write_text("content")
        (self.jail / "g").write_text("content")
        for arguments in (("f", "server:"), ("server:g", ".")):
            with self.subTest(arguments):
                run = self.scp("-O", *arguments, status=FAILS, seconds=PATIENCE)
                self.assertIn("sftp connections only", run.err)
        self.assertEqual(os.listdir(self.jail), ["g"])
        self.assertEqual(os.listdir(self.local), ["f"])
        self.wait_until_no_server_is_left()
