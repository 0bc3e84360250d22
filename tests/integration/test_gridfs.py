"""GridFS behind a real sshd: pysftpmongo with OpenSSH's sftp, lftp and psftp, and pymongo beside them."""

from __future__ import annotations

import os
import uuid
from typing import Any, ClassVar

import gridfs
import pymongo

from tests.integration import material
from tests.integration.clients import lftp, psftp
from tests.integration.harness import ANY, FAILS, ServedCase
from tests.integration.material import LONG_AGO, MIB, Material, permissions
from tests.mongo import databases
from tests.support.processes import command, require
from tests.support.waiting import until


def setUpModule() -> None:
    for client in ("sftp", "lftp", "psftp"):
        require(client)


class GridFSCase(ServedCase):
    """An sshd with pysftpmongo behind it, on a database of the class's own; each test has an empty bucket."""

    db_name: ClassVar[str]
    other: ClassVar[pymongo.MongoClient[dict[str, Any]]]
    options: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def setUpClass(cls) -> None:
        cls.db_name = f"pysftpserver_{uuid.uuid4().hex[:16]}"
        cls.other = pymongo.MongoClient(databases.uri(), tz_aware=True)
        cls.addClassCleanup(cls.other.close)
        cls.addClassCleanup(cls.other.drop_database, cls.db_name)
        super().setUpClass()

    @classmethod
    def server_command(cls) -> list[str]:
        where = cls.place / "uri"
        where.write_text(databases.uri() + "\n")
        log = ("--logfile", cls.server_log, "--log-level", "VERBOSE")
        return command("pysftpmongo", "--uri-file", where, "--database", cls.db_name, *log, *cls.options)

    def setUp(self) -> None:
        super().setUp()
        for name in ("files", "chunks", "nodes"):
            self.other[self.db_name][f"fs.{name}"].delete_many({})
        self.gridfs = gridfs.GridFS(self.other[self.db_name])

    def stored(self, name: str) -> bytes:
        """The content of a file, as another program reads it."""
        return self.gridfs.get_last_version(name).read()


class TestSftp(GridFSCase):
    def test_put_and_get_are_identical_at_every_odd_size(self) -> None:
        data = Material()
        data.odd_files(self.local)
        names = sorted(os.listdir(self.local))
        self.sftp("put *")
        for name in names:
            self.assertTrue(
                self.stored(name) == (self.local / name).read_bytes(), f"{name}, seed {data.seed}"
            )
        self.sftp(f"get * {self.outside}")
        material.assert_same_trees(self, self.local, self.outside, data.seed)

    def test_trees_go_there_and_back(self) -> None:
        data = Material()
        data.tree(self.local / "tree")
        self.sftp("put -r tree", f"get -r tree {self.outside}")
        material.assert_same_trees(self, self.local / "tree", self.outside / "tree", data.seed)

    def test_what_another_program_stores_is_there_at_once(self) -> None:
        with self.sftp_session() as session:
            self.assertNotIn("report", session.do("ls -1"))
            self.gridfs.put(b"from elsewhere", filename="report/2026.txt")
            self.assertIn("report", session.do("ls -1"))
            session.do("get report/2026.txt")
        self.assertEqual((self.local / "2026.txt").read_bytes(), b"from elsewhere")

    def test_put_p_keeps_time_and_permissions_and_get_p_brings_them_back(self) -> None:
        (self.local / "f").write_bytes(b"content")
        os.chmod(self.local / "f", 0o640)
        os.utime(self.local / "f", (LONG_AGO, LONG_AGO))
        self.sftp("put -p f", "get -p f back")
        self.assertEqual(permissions(self.local / "back"), 0o640)
        self.assertEqual((self.local / "back").stat().st_mtime, LONG_AGO)
        known = self.other[self.db_name]["fs.files"].find_one({"filename": "f"})
        assert known is not None
        self.assertEqual(known["metadata"]["permissions"], 0o640)
        self.assertEqual(known["metadata"]["mtime"].timestamp(), LONG_AGO)

    def test_the_other_commands_do_what_they_do_on_a_directory(self) -> None:
        (self.local / "f").write_bytes(b"0123456789")
        run = self.sftp(
            "mkdir d",
            "put -f f d/f",
            "rename d/f d/g",
            "ln -s d/g link",
            "get link through",
            "chmod 600 d/g",
            "chown 1234 d/g",
            "copy d/g d/copy",
            "rename d e",
            "ls -ln e",
            "df",
            "rm e/copy",
            "-rmdir e",
            "rm e/g",
            "rmdir e",
            "rm link",
            "ls -1",
        )
        self.assertEqual((self.local / "through").read_bytes(), b"0123456789")
        self.assertRegex(run.out, r"-rw------- .* 1234 .* 10 .* e/g")
        self.assertIn("%Capacity", run.out)
        self.assertEqual(self.gridfs.list(), [])
        self.assertEqual(self.other[self.db_name]["fs.chunks"].count_documents({}), 0)

    def test_hard_links_are_refused_as_unsupported(self) -> None:
        self.gridfs.put(b"x", filename="f")
        run = self.sftp("ln f g", status=FAILS)
        self.assertRegex(run.text, "(?i)unsupported|not support")

    def test_a_client_that_is_killed_leaves_the_old_file(self) -> None:
        self.gridfs.put(b"old", filename="f")
        with (self.local / "f").open("wb") as file:
            file.truncate(200 * MIB)
        with self.sftp_session("-l", "20000") as session:
            session.send("put f")
            chunks = self.other[self.db_name]["fs.chunks"]
            until(lambda: chunks.count_documents({}) > 2, "chunks of the upload are stored")
            self.assertEqual(self.stored("f"), b"old")
            session.kill()
        # The server is sshd's child no more by then, and clears up behind itself all the same.
        until(lambda: chunks.count_documents({}) == 1, "the upload's chunks are gone")
        self.assertEqual(self.stored("f"), b"old")

    def test_many_sessions_at_once_do_not_disturb_each_other(self) -> None:
        (self.local / "f").write_bytes(os.urandom(MIB))
        with self.sftp_session() as one, self.sftp_session() as two:
            for number in range(10):
                one.send(f"put f one-{number}", "put f same")
                two.send(f"put f two-{number}", "put f same")
            self.assertNotIn("remote", one.do("ls -1").replace("one", ""))
            two.do("pwd")
            self.assertEqual(one.leave(), 0)
            self.assertEqual(two.leave(), 0)
        self.assertTrue(self.stored("same") == (self.local / "f").read_bytes())
        self.assertEqual(len(self.gridfs.list()), 21)
        self.assertEqual(self.other[self.db_name]["fs.chunks"].count_documents({}), 21 * 5)


class TestOtherClients(GridFSCase):
    options = ("--prefix", "users/alice")

    def test_lftp_mirrors_there_and_back_and_removes_trees(self) -> None:
        data = Material()
        data.tree(self.local / "tree")
        lftp(self, "mirror -R tree", "mirror tree back")
        material.assert_same_trees(self, self.local / "tree", self.local / "back", data.seed)
        self.assertTrue(all(name.startswith("users/alice/tree/") for name in self.gridfs.list()))
        lftp(self, "rm -r tree")
        self.assertEqual(self.gridfs.list(), [])

    def test_psftp_puts_lists_and_gets(self) -> None:
        (self.local / "f").write_bytes(os.urandom(600_000))
        psftp(self, "mkdir d", "put f d/g", "ls d", "mv d/g d/h", "get d/h back")
        self.assertEqual((self.local / "back").read_bytes(), (self.local / "f").read_bytes())

    def test_nothing_outside_the_prefix_is_reached(self) -> None:
        self.gridfs.put(b"secret", filename="users/bob/secret")
        self.gridfs.put(b"mine", filename="users/alice/mine")
        run = self.sftp(
            "-get ../bob/secret",
            "-get /users/bob/secret",
            "-ln -s ../../bob/secret link",
            "-get link",
            "-ls ..",
            "-rename mine ../bob/stolen",
            "pwd",
            status=ANY,
        )
        self.assertNotIn("bob/", run.out.split("sftp> -ls ..")[1].split("sftp> ")[0])
        self.assertFalse((self.local / "secret").exists() or (self.local / "link").exists())
        self.assertEqual(self.stored("users/bob/secret"), b"secret")
        self.assertNotIn("users/bob/stolen", self.gridfs.list())


class TestReadOnly(GridFSCase):
    options = ("--read-only",)

    def test_files_are_read_and_nothing_is_changed(self) -> None:
        self.gridfs.put(b"content", filename="d/f")
        before = list(self.other[self.db_name]["fs.files"].find())
        (self.local / "new").write_bytes(b"x")
        run = self.sftp("get d/f", "-put new", "-rm d/f", "-mkdir e", "-rename d/f g", status=ANY)
        self.assertEqual((self.local / "f").read_bytes(), b"content")
        self.assertGreaterEqual(run.text.lower().count("permission denied"), 3)
        self.assertEqual(list(self.other[self.db_name]["fs.files"].find()), before)
        self.assertEqual(self.other[self.db_name]["fs.nodes"].count_documents({}), 0)
