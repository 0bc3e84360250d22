"""Two servers on one Redis and one GridFS database: what one machine is out-grown by."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import redis

from tests.mongo.databases import DatabaseCase, uri
from tests.sshd.redis_server import DATABASE, HOST, RedisServer
from tests.sshd.running import Login, Place, Pysftpd
from tests.support.waiting import PATIENCE, until

SIZE = 6 << 20  # bytes
SLOWLY = ("-l", "8000")  # Kbit/s: six seconds for that


class OneOfMany(Pysftpd):
    """A server whose users are in Redis and whose files are in a database."""

    def __init__(self, directory: Path, port: int, database: str, host_keys: Path) -> None:
        super().__init__(directory)
        self.host_keys = host_keys
        words = iter(self.argv)
        kept = [word for word in words if word != "--users" or not next(words)]
        self.argv = [
            *kept,
            f"--redis-host={HOST}",
            f"--redis-port={port}",
            f"--redis-dbindex={DATABASE}",
            f"--mongo-uri={uri()}",
            f"--mongo-database={database}",
            f"--host-key-dir={host_keys}",
        ]


class TwoServers(DatabaseCase, Place):
    def setUp(self) -> None:
        super().setUp()
        self.redis_server = RedisServer()
        self.addCleanup(self.redis_server.stop)
        self.redis_server.start()
        self.redis = redis.Redis(HOST, self.redis_server.port, DATABASE)
        self.addCleanup(self.redis.close)
        self.alice = Login(self.place / "alice", "alice")
        self.redis.sadd("solt.sftp.users", 1)
        self.redis.hset("solt.sftp.user.1", mapping={"name": "alice", "active": "True", "folder": "home"})
        self.redis.hset("solt.sftp.user.1", "storage", "gridfs")
        self.redis.sadd("solt.sftp.user.1.keys", self.alice.public)
        self.servers = []
        for name in ("one", "two"):
            (self.place / name).mkdir()
            server = OneOfMany(
                self.place / name, self.redis_server.port, self.db_name, self.place / "host-keys"
            )
            self.addCleanup(server.stop)
            server.start()
            self.servers.append(server)
        self.open_storage().mkdir(b"/home", 0o755)

    def through(self, server: Pysftpd, *lines: str) -> str:
        """What a batch of OpenSSH's sftp prints through one of them."""
        self.alice.meet(server)
        done = self.sftp(self.alice, *lines)
        self.assertEqual(done.returncode, 0, done.stderr + server.log())
        return done.stdout

    def test_what_is_done_through_one_is_there_through_the_other(self) -> None:
        one, two = self.servers
        content = os.urandom(300_000)
        (self.place / "here").write_bytes(content)
        self.through(one, f"put {self.place}/here file", "mkdir directory")
        listed = self.through(two, "ls -1", f"get file {self.place}/back", "rename file directory/moved")
        self.assertEqual(set(re.findall(r"^(\w+)\s*$", listed, re.MULTILINE)), {"file", "directory"})
        self.assertEqual((self.place / "back").read_bytes(), content)
        self.assertIn("moved", self.through(one, "ls -1 directory"))

    def test_a_user_who_is_deactivated_is_gone_from_both_at_once(self) -> None:
        sessions = []
        for server in self.servers:
            self.alice.meet(server)
            sessions.append(self.start_idle(self.alice))
            server.logs("logged in")
        self.redis.hset("solt.sftp.user.1", "active", "False")
        self.redis.publish("sftp_users", "1")
        for session in sessions:
            self.assertNotEqual(session.wait(PATIENCE), 0)

    def test_a_server_that_dies_in_an_upload_tears_no_file_and_the_other_takes_it(self) -> None:
        one, two = self.servers
        old, new = os.urandom(100_000), os.urandom(SIZE)
        (self.place / "old").write_bytes(old)
        (self.place / "new").write_bytes(new)
        self.through(two, f"put {self.place}/old file")
        self.alice.meet(one)
        client = self.start_sftp(self.alice, f"put {self.place}/new file", flags=SLOWLY)
        one.logs('open "/file" flags WRITE')
        until(lambda: self.chunk_count() > 5, "chunks are on their way")
        assert one.process is not None
        os.kill(one.pid, signal.SIGKILL)
        one.process.wait()
        one.process = None
        self.assertNotEqual(client.wait(PATIENCE), 0)
        self.through(two, f"get file {self.place}/after")
        self.assertEqual((self.place / "after").read_bytes(), old)
        self.through(two, f"put {self.place}/new file", f"get file {self.place}/again")
        self.assertEqual((self.place / "again").read_bytes(), new)

    def test_users_are_served_while_redis_is_away(self) -> None:
        one, _ = self.servers
        self.redis_server.kill()
        until(lambda: "Redis" in one.log() or "redis" in one.log(), "the server has noticed")
        self.assertIn("Remote working directory", self.through(one, "pwd"))


class Storages(DatabaseCase, Place):
    def serve_user(self, storage: str, *options: str) -> Pysftpd:
        """A server with alice, who has that storage."""
        shutil.rmtree(self.place / "alice", ignore_errors=True)
        server = self.server(*options, start=False)
        user = {"folder": "hers", "keys": [self.alice.public], "storage": storage}
        server.write_users({"alice": user})
        self.addCleanup(server.stop)
        server.start()
        self.alice.meet(server)
        return server

    def run_sftp(self, *lines: str) -> subprocess.CompletedProcess[str]:
        return self.sftp(self.alice, *lines)

    def test_a_prefix_of_gridfs_is_a_users_root(self) -> None:
        self.serve_user("gridfs:some/where", f"--mongo-uri={uri()}", f"--mongo-database={self.db_name}")
        (self.place / "file").write_bytes(b"content")
        self.open_storage().mkdir(b"/some", 0o755)
        self.open_storage().mkdir(b"/some/where", 0o755)
        done = self.run_sftp(f"put {self.place}/file name", "ls -1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.gridfs.get_last_version("some/where/name").read(), b"content")

    def test_a_class_that_the_options_allow_is_made_with_what_follows_it(self) -> None:
        name = "pysftpserver.virtualchroot:SFTPServerVirtualChroot"
        (self.place / "hers").mkdir()
        (self.place / "hers" / "file").write_bytes(b"")
        self.serve_user(f'{name} ["{self.place}/{{folder}}"]', f"--storage-classes={name}")
        done = self.run_sftp("ls -1")
        self.assertEqual((done.returncode, done.stdout.splitlines()[1:]), (0, ["file"]), done.stderr)

    def test_what_the_options_do_not_allow_is_not_made_and_told_in_the_log_only(self) -> None:
        for storage, said in (
            ("os:system ls", "not listed in storage_classes"),
            ("gridfs", "needs mongo_uri"),
        ):
            with self.subTest(storage):
                server = self.serve_user(storage)
                done = self.run_sftp("pwd")
                self.assertNotEqual(done.returncode, 0)
                self.assertNotIn(said, done.stderr)
                server.logs(said)
                server.stop()
