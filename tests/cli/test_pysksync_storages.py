"""pysksync with a database on either side."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys

from tests.cli.test_pysksync import COMMAND, SkSyncCase
from tests.mongo.databases import DatabaseCase, uri
from tests.sksync import oldstyle
from tests.sksync.serving import HOST, NOW, put, tree
from tests.support.forked import Process
from tests.support.waiting import PATIENCE, until


class WithADatabase(DatabaseCase, SkSyncCase):
    def storage(self, **keys: str) -> dict[str, str]:
        return {"type": "gridfs", "uri": uri(), "database": self.db_name, **keys}

    def test_a_server_shares_a_database(self) -> None:
        put(self.here, "d/\u03b1", b"content")
        server = self.serve(storage=self.storage())
        self.assertIn("sharing a database", server.wait("listening"))
        self.assertEqual(oldstyle.client(server.port, self.here), (["d/\u03b1"], []))
        self.assertEqual(oldstyle.client(server.port, self.here), ([], []))
        other = self.place / "other"
        other.mkdir()
        self.assertEqual(oldstyle.client(server.port, other), ([], ["d/\u03b1"]))
        self.assertEqual(tree(other), tree(self.here))
        self.assertEqual(server.end(), 0)

    def test_a_client_keeps_a_directory_in_a_database_and_its_dry_run_leaves_no_trace_there(self) -> None:
        put(self.there, "d/f", b"content", NOW)
        server = self.serve(server_root=str(self.jail))
        uri_file = self.place / "uri"
        uri_file.write_text(uri() + "\n")
        storage = {"type": "gridfs", "uri_file": str(uri_file), "database": self.db_name}
        config = self.client(server.port, client_path="backup", storage=storage)
        done = self.run_it("-n", config, "client", "me")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertTrue(done.stdout.startswith(b"would receive d/f, 7 bytes\n"))
        self.assertEqual(self.database.list_collection_names(), [])
        for expected in ("received 1, unchanged 0", "received 0, unchanged 1"):
            done = self.run_it(config, "client", "me")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(expected, done.stdout.decode())
        self.assertEqual(self.gridfs.find_one({"filename": "backup/d/f"}).read(), b"content")

    def test_a_database_that_is_not_there_is_exit_status_1_in_one_line_without_secrets(self) -> None:
        with socket.socket() as closed:
            closed.bind((HOST, 0))
            address = f"mongodb://me:hush@{HOST}:{closed.getsockname()[1]}/?serverSelectionTimeoutMS=200"
            storage = {"type": "gridfs", "uri": address, "database": "d"}
            config = self.configure("s.json", storage=storage)
            text = self.assert_refused(self.run_it(config), "storage: ", status=1)
        self.assertNotIn("hush", text)


class ByName(SkSyncCase):
    def test_a_server_and_a_client_have_storages_by_their_names(self) -> None:
        put(self.there, "d/f", b"content", NOW)
        server = self.serve(storage=f"jail:{self.jail}")
        self.assertIn(f"sharing jail:{self.jail}\n", server.wait("listening"))
        (self.place / "site.toml").write_text(
            f'storage = "jail:{self.here}"\n[[mount]]\npath = "/m"\nstorage = "jail:{self.place}/other"\n'
        )
        (self.place / "other").mkdir()
        config = self.client(server.port, client_path="/m", storage=str(self.place / "site.toml"))
        done = self.run_it(config, "client", "me")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((tree(self.place / "other"), tree(self.here)), (tree(self.there), {}))
        self.assertEqual(server.end(), 0)

    def test_a_name_that_cannot_be_used_is_one_line_and_files_that_clients_reach_are_logged(
        self,
    ) -> None:
        for name, words in (
            ("/srv", "storage: /srv: unknown storage; write"),
            ("jail:/srv/{folder}", "storage: {folder}: no folder is known here"),
            ("jail:/srv/{user}", "storage: {user} needs logins; set require_auth to true"),
            ("s3://me:hush@bucket", "storage: s3: no credentials in a name"),
        ):
            with self.subTest(name):
                text = self.assert_refused(
                    self.run_it(self.configure("s.json", storage=name, require_auth=False)), words
                )
                self.assertNotIn("hush", text)
        server = self.serve(storage=f"jail:{self.place}")
        self.assertIn("clients can read and replace it", server.wait("listening"))
        self.assertEqual(server.end(), 0)


class OfUsers(SkSyncCase):
    def test_each_user_has_the_storage_with_that_name_and_no_other(self) -> None:
        users = {}
        for name in ("alice", "bob", "../bob"):
            self.run_it("users", "add", name, "--password-file", "-", stdin=b"pw")
        users = json.loads((self.place / "sksync.json").read_text())["users"]
        site = self.place / "site.toml"
        site.write_text(f'storage = "jail:{self.jail}/{{user}}"\n')
        for name in ("alice", "bob"):
            put(self.jail / name, f"there/of {name}", b"content")
        for storage in (f"jail:{self.jail}/{{user}}", str(site)):
            with self.subTest(storage):
                server = self.serve(require_auth=True, users=users, storage=storage)
                for name in ("alice", "bob"):
                    put(self.here, name, b"content")  # makes the directory
                    mine = self.place / f"mine-{name}"
                    mine.mkdir(exist_ok=True)
                    config = self.client(server.port, client_path=str(mine), username=name, password="pw")
                    done = self.run_it(config, "client", "me")
                    self.assertEqual((done.returncode, set(tree(mine))), (0, {f"of {name}"}), done.stderr)
                config = self.client(server.port, client_path="here", username="../bob", password="pw")
                self.assertEqual(self.run_it(config, "client", "me").returncode, 1)
                server.wait("{user}: ")
                self.assertEqual(server.end(), 0)

    def test_files_of_the_server_that_a_user_reaches_are_logged(self) -> None:
        self.run_it("users", "add", self.place.name, "--password-file", "-", stdin=b"pw")
        users = json.loads((self.place / "sksync.json").read_text())["users"]
        server = self.serve(require_auth=True, users=users, storage=f"jail:{self.place.parent}/{{user}}")
        self.assertIn("clients can read and replace it", server.wait("listening"))
        self.assertEqual(server.end(), 0)


class Interrupted(SkSyncCase):
    def test_a_client_that_is_interrupted_in_a_file_leaves_nothing_of_it(self) -> None:
        put(self.here, "f", b"old", NOW)
        with socket.create_server((HOST, 0)) as listener:
            config = self.client(listener.getsockname()[1], protocol="pysksync 1")
            argv = [sys.executable, COMMAND, config, "client", "me"]
            process = Process(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.place)
            self.unless_over(process.kill, PATIENCE)
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                self.assertEqual(stream.readline(), b"pysksync 1\n")
                connection.sendall(b"Protocol Established\n")
                while stream.readline() != b"\n":
                    pass
                connection.sendall(b"\nf\n%d000\n1000\nhalf" % (NOW + 1))
                until(lambda: len(list(self.here.iterdir())) == 2, "a half of a file")
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, tree(self.here)), (130, {"f": (b"old", NOW)}))
