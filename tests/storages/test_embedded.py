"""The database server for trials and tests: it starts, keeps its data, and ends with its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import pymongo

from pysftpserver.storages import embedded
from pysftpserver.storages.embedded import LOOPBACK, EmbeddedFailed, EmbeddedMissing, EmbeddedMongo
from tests.support.paths import ROOT
from tests.support.processes import is_alive
from tests.support.waiting import PATIENCE, until


class Embedded(unittest.TestCase):
    def setUp(self) -> None:
        holder = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = Path(holder) / "database"

    def test_it_listens_on_loopback_keeps_its_data_and_has_its_directory_for_itself(self):
        with EmbeddedMongo(self.directory) as server, pymongo.MongoClient(LOOPBACK, server.port) as client:
            listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
            addresses = [line.split()[1] for line in listening if line.split()[3] == "0A"]
            (ours,) = [address for address in addresses if address.endswith(f":{server.port:04X}")]
            self.assertEqual(ours.partition(":")[0], "0100007F")
            self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)
            pid = server._process.pid
            self.assertEqual(os.getpgid(pid), pid, "signals of the terminal go to another process group")
            with self.assertRaises(EmbeddedFailed) as raised:
                EmbeddedMongo(self.directory)
            self.assertRegex(str(raised.exception), r"\ASecantusDB does not start: [^\n]+\Z")
            client.db.things.insert_one({"name": "kept"})
        server.stop()  # twice is once
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, server.port)).close()
        # It keeps its data from one start to the next, and two servers do not get in each other's way.
        with (
            EmbeddedMongo(self.directory) as one,
            EmbeddedMongo(self.directory.with_name("other")) as other,
            pymongo.MongoClient(LOOPBACK, one.port) as client,
            pymongo.MongoClient(LOOPBACK, other.port) as others,
        ):
            self.assertNotEqual(one.port, other.port)
            self.assertEqual(client.db.things.find_one()["name"], "kept")
            self.assertEqual(others.db.things.count_documents({}), 0)

    def test_it_ends_when_the_process_that_started_it_is_killed(self):
        code = (
            "import sys; from pysftpserver.storages.embedded import EmbeddedMongo\n"
            "server = EmbeddedMongo(sys.argv[1]); print(server._process.pid, flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, self.directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as starter:
            assert starter.stdout is not None
            pid = int(starter.stdout.readline())
            starter.send_signal(signal.SIGKILL)
            starter.wait(PATIENCE)
        until(lambda: not is_alive(pid), "the server has ended")

    def test_a_missing_package_is_told_with_what_to_install(self):
        with tempfile.TemporaryDirectory() as elsewhere:
            # A package of that name that cannot be run stands in for none.
            wrong = Path(elsewhere) / "secantus.py"
            wrong.write_text("raise SystemExit('No module named secantus')\n")
            with (
                mock.patch.dict(os.environ, PYTHONPATH=elsewhere),
                self.assertRaises(EmbeddedMissing) as raised,
            ):
                EmbeddedMongo(self.directory)
            self.assertIn("pip install '.[embedded]'", str(raised.exception))

    def test_a_start_that_takes_too_long_is_ended(self):
        with mock.patch.object(embedded, "PATIENCE", 0.0), self.assertRaises(EmbeddedFailed):
            EmbeddedMongo(self.directory)
