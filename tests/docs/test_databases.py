"""Lines of the pages on databases and buckets, with servers that answer like those."""

from __future__ import annotations

import unittest

from tests.docs.stage import Stage, line_of, runs
from tests.mongo import databases
from tests.objects import stores
from tests.support.hard import IS_HARD

PAGE = "docs/gridfs.md"


@unittest.skipUnless(IS_HARD, "daily, tests.cli.test_pysftpmongo names databases in the same ways")
class GridFS(databases.DatabaseCase, Stage):
    def setUp(self) -> None:
        super().setUp()
        self.uri = f"{databases.uri()}/{self.db_name}"
        for name in ("etc/pysftpserver/uri", "etc/sftp/documents.uri"):
            (self.place / name).parent.mkdir(parents=True)
            (self.place / name).write_text(f"{self.uri}\n")
        (self.home / "x").write_text("content")

    def stored(self) -> list[str]:
        return sorted(each["filename"] for each in self.database["fs.files"].find())

    @runs(PAGE, "pysftpmongo db.example.com 27017 documents")
    def test_a_database_by_host_port_and_name(self, command: str) -> None:
        host, port = databases.uri().removeprefix("mongodb://").split(":")
        command = command.replace("db.example.com 27017 documents", f"{host} {port} {self.db_name}")
        self.batch(f"sftp -D '{command}'", "put x", where=self.home)
        self.assertEqual(self.stored(), ["x"])

    @runs(PAGE, "pysftpmongo --uri-file /etc/sftp/documents.uri --prefix users/alice")
    def test_a_key_for_a_directory_of_a_database(self, command: str) -> None:
        line = line_of(PAGE, f'command="{command}"').replace("pysftpmongo", f"{self.bin}/pysftpmongo", 1)
        self.behind_sshd(line)
        self.batch("sftp server", "put x", where=self.home)
        self.assertIn("users/alice/x", self.stored())

    @runs(
        PAGE,
        "/opt/pysftpserver/bin/pysftpmongo --uri-file /etc/pysftpserver/uri",
        "pysftpmongo --uri-file /etc/pysftpserver/uri --gc > /dev/null",
    )
    def test_a_key_for_a_database_and_the_removal_of_what_uploads_left(self, command: str, gc: str) -> None:
        self.behind_sshd(line_of(PAGE, f'restrict,command="{command}"'))
        self.batch("sftp server", "put x", where=self.home)
        self.assertEqual(self.stored(), ["x"])
        self.assertEqual(self.type(gc), "")
        self.assertIn("removed 0 orphaned uploads", self.type(gc.replace("> /dev/null", "")))
        self.assertEqual(self.stored(), ["x"])


@unittest.skipUnless(IS_HARD, "daily, tests.objects has the same names")
class Objects(stores.StoreCase, Stage):
    @runs(
        "docs/objects.md",
        "/opt/pysftpserver/bin/pysftpsite "
        "'s3://documents/alice?region=eu-central-1&credentials=/etc/alice.keys'",
    )
    def test_a_key_for_a_directory_of_a_bucket(self, command: str) -> None:
        (self.place / "etc").mkdir()
        (self.place / "etc/alice.keys").write_text(
            f"[default]\naws_access_key_id = {stores.KEY}\naws_secret_access_key = {stores.SECRET}\n"
        )
        (self.home / "x").write_text("content")
        line = line_of("docs/objects.md", f'restrict,command="{command}"')
        self.behind_sshd(
            line.replace("s3://documents", f"s3://{self.bucket}"),
            f"SetEnv SHLVL=1 AWS_ENDPOINT_URL_S3={self.url}",
        )
        self.batch("sftp server", "put x", where=self.home)
        self.assertEqual(self.get_object("alice/x"), b"content")
