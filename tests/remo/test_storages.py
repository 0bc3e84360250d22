"""Files in storages of every kind, named as the server's options name them."""

from __future__ import annotations

import json
import random

from tests.mongo.databases import DatabaseCase, uri
from tests.remo.running import USER, Furnished, Served, Server


class OnADirectory(Served):
    @classmethod
    def prepare(cls) -> None:
        (cls.place / "files").mkdir()


class APlainDirectory(OnADirectory):
    words = ("--storage", "plain:files")

    def test_names_begin_there_and_commands_are_off(self) -> None:
        self.remote.put(b"data", "name")
        self.assertEqual((self.place / "files/name").read_bytes(), b"data")
        with self.refused(403):
            self.remote.run("true")


class AJail(OnADirectory):
    words = ("--storage", "jail:files")

    def test_it_is_not_left(self) -> None:
        self.remote.put(b"data", "/../../name")
        self.assertEqual((self.place / "files/name").read_bytes(), b"data")
        with self.refused(400):
            self.remote.read("/etc/passwd")


class OfEachUser(OnADirectory):
    words = ("--storage", "jail:files/{user}")

    def test_the_user_s_name_is_in_the_name(self) -> None:
        (self.place / "files" / USER).mkdir()
        self.remote.put(b"data", "name")
        self.assertEqual((self.place / "files" / USER / "name").read_bytes(), b"data")


class ThreeMethods(Served):
    words = ("--storage", "tests.remo.storages:ThreeMethods " + json.dumps({"name": "text" * 20_000}))

    def test_what_it_has_can_be_had(self) -> None:
        self.assertEqual(self.remote.read("name"), b"text" * 20_000)
        with self.refused(400, "no such file"):
            self.remote.read("missing")

    def test_what_it_does_not_do_is_refused(self) -> None:
        with self.refused(400):
            self.remote.put(b"data", "name")
        with self.refused(400, "the storage does not do that"):
            self.remote.list("/")
        self.assertEqual(self.remote.read("name"), b"text" * 20_000)


class WithoutRename(OnADirectory):
    words = ("--storage", 'tests.remo.storages:WriteOnly "files"')

    def test_a_put_that_could_not_be_put_in_place_leaves_nothing_behind(self) -> None:
        with self.refused(400, "the storage does not do that"):
            self.remote.put(b"data", "name")
        self.assertEqual(list((self.place / "files").iterdir()), [])


class GridFS(DatabaseCase, Furnished):
    def setUp(self) -> None:
        super().setUp()
        (self.place / "uri").write_text(f"{uri()}/{self.db_name}\n")
        self.gridfs_server = Server(self.place, "--storage", "gridfs:uri,prefix=top")
        self.addCleanup(self.gridfs_server.kill)

    def test_files_are_in_the_database_whole_or_not_at_all(self) -> None:
        data = random.Random(5).randbytes(1_000_001)
        with self.gridfs_server.connect() as remote:
            remote.put(b"old", "/name")
            remote.put(data, "/name")
            self.assertEqual(remote.read("/name"), data)
            self.assertEqual([entry.name for entry in remote.list("/")], ["name"])
        names = [file["filename"] for file in self.database["fs.files"].find()]
        self.assertEqual({name.strip("/") for name in names}, {"top/name"})
