"""Stored data says its version: what a newer version has written is refused, and left as it is."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable

from pysftpserver import formats
from pysftpserver.engine.chain import chained_sink
from pysftpserver.failures import BadInput
from pysftpserver.people import redis_records, users_file
from pysftpserver.people.redis_editing import RedisEditor
from pysftpserver.people.users import DirectoryError
from pysftpserver.probe.report import json as report
from pysftpserver.probe.results import Report
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.remo.users import Users
from pysftpserver.service.tracing import trace
from pysftpserver.site.ledger import Busy, Ledger
from pysftpserver.site.shared import SharedLedger
from pysftpserver.sksync import config
from pysftpserver.storages.mongo.bucket import DIRECTORY, Bucket
from pysftpserver.web.state import VERSIONS, State
from tests.sshd.redis_server import RedisCase
from tests.support.cases import InAPlace

RECORD = '{"time":"2026-01-02T03:04:05.000000Z","request":"open","path":"/f","result":"OK","user":"a"'


class Versions(InAPlace):
    """Each format by a function that writes data of a version (0: unsaid) and has the package read it."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.place / "data"

    def cases(self) -> dict[formats.Format, Callable[[int], object]]:
        return {
            formats.USERS_FILE: self.users_file,
            formats.REDIS_USER: self.redis_user,
            formats.AUDIT: self.audit,
            formats.CHAIN: self.chain,
            formats.LEDGER: self.ledger,
            formats.SHARED_LEDGER: self.shared_ledger,
            formats.NODE: self.node,
            formats.WEB_STATE: self.web_state,
            formats.REMO_USERS: self.remo_users,
            formats.SKSYNC: self.sksync,
            formats.REPORT: self.report,
        }

    def users_file(self, version: int) -> object:
        self.path.touch(0o600)
        self.path.write_text((f"version = {version}\n" if version else "") + "[users]\n")
        return users_file.load(str(self.path))

    def redis_user(self, version: int) -> object:
        values = dict.fromkeys(redis_records.FIELDS) | {"name": b"a", "folder": b"a", "active": b"True"}
        values["version"] = b"%d" % version if version else None
        record = redis_records.parse_record("1", list(values.values()), [])
        if record.user is None:
            raise DirectoryError(record.problems[0])
        return record

    def audit(self, version: int) -> object:
        self.path.write_text(RECORD + (f',"v":{version}' if version else "") + "}\n")
        return trace("/f", [str(self.path)])

    def chain(self, version: int) -> object:
        state = self.place / "data.chain"
        state.write_text(f"v{version} something that is not known here\n" if version > 1 else "")
        sink = chained_sink(self.path, state)
        sink(b'{"time":"2026"}\n')
        return sink

    def database(self, version: int) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            database.execute(f"PRAGMA user_version = {version}")

    def ledger(self, version: int) -> object:
        directory = self.place / f"state{version}"
        directory.mkdir(exist_ok=True)
        self.path = directory / "ledger.sqlite"
        if version:
            self.database(version if version > 1 else 0)
        ledger = Ledger(str(directory))
        self.addCleanup(ledger.close)
        return ledger

    def shared_ledger(self, version: int) -> object:
        class Connection:
            def call(self, *words: object) -> object:
                if words[0] == "GET":
                    return b"%d" % version if version else None
                return [1, 7, None, [], []]

        shared = SharedLedger(self.ledger(0), Connection(), "site")
        self.path = self.place / "nothing"
        return shared.ask("SELECT name FROM account")

    def node(self, version: int) -> object:
        bucket = Bucket.__new__(Bucket)
        bucket.owner, bucket.began = (0, 0), 0
        said = {"version": version} if version else {}
        return bucket.node_entry({"path": "d", "kind": DIRECTORY, **said})

    def web_state(self, version: int) -> object:
        self.database(version)
        state = State(str(self.path))
        self.addCleanup(state.close)
        return state

    def remo_users(self, version: int) -> object:
        self.path.unlink(missing_ok=True)
        users = Users(str(self.path))
        users.create()
        if version:
            self.database(version)
        return users.all()

    def sksync(self, version: int) -> object:
        return config.read(json.dumps({"version": version} if version else {}), "sksync.json")

    def report(self, version: int) -> object:
        said = json.loads(report.text(Report("target")))
        self.path.write_text(json.dumps({**said, "format": version or 1}))
        return report.read(str(self.path))

    def test_every_format_has_a_case(self) -> None:
        self.assertEqual(set(self.cases()), set(formats.FORMATS))
        self.assertEqual(len(VERSIONS), formats.WEB_STATE.version)

    def test_what_says_no_version_or_the_present_one_is_read(self) -> None:
        for form, read in self.cases().items():
            for version in (0, form.version):
                with self.subTest(form.name, version=version):
                    self.path = self.place / f"{form.place.strip('`')[:5].replace('/', '')}-{version}"
                    if form is formats.WEB_STATE and version:
                        read(0)  # tables of that version
                    self.assertIsNotNone(read(version))

    def test_what_a_newer_version_has_written_is_refused_and_left_as_it_is(self) -> None:
        refusals = BadInput, DirectoryError, SFTPFailure, Busy, OSError
        for form, read in self.cases().items():
            with self.subTest(form.name):
                self.path = self.place / f"new{form.version}-{len(form.name)}"
                with self.assertRaises(refusals) as caught:
                    read(form.version + 1)
                self.assertIn("newer version", str(getattr(caught.exception, "message", caught.exception)))
                if self.path.exists() and "PRAGMA" in form.carrier:
                    with contextlib.closing(sqlite3.connect(self.path)) as database:
                        self.assertEqual(
                            database.execute("PRAGMA user_version").fetchone(), (form.version + 1,)
                        )
                if form is formats.CHAIN:
                    self.assertIn("something", (self.place / "data.chain").read_text())
                    self.assertEqual(os.stat(self.path).st_size, 0)

    def test_what_is_no_version_is_refused(self) -> None:
        for wrong in ("one", -1, 1.5, [1], True, b"\xff"):
            with self.subTest(wrong), self.assertRaisesRegex(BadInput, "f: its version is not a number"):
                formats.USERS_FILE.check(wrong, "f")


class UsersInRedis(RedisCase):
    def test_a_user_of_a_newer_version_cannot_log_in_and_is_not_changed(self) -> None:
        self.put_user(1, "alice", "AAAA", folder="a", version="2", more="what is new")
        before = self.r.hgetall("solt.sftp.user.1")
        with RedisEditor(self.server.address()) as editor:
            (record,) = editor.records()
            self.assertIsNone(record.user)
            self.assertIn("newer version", record.problems[0])
            with self.assertRaisesRegex(DirectoryError, "user alice: format 2 of a newer version"):
                editor.change("alice", folder="b")
        self.assertEqual(self.r.hgetall("solt.sftp.user.1"), before)


class Refused(InAPlace):
    def test_what_is_no_version_is_said_in_one_line(self) -> None:
        digits = "9" * 5000  # more than int() and str() take
        for wrong in (-1, True, 1.0, 1e400, [], "", "-1", "\u00b2", b"\xb2", digits, digits.encode()):
            with self.subTest(str(wrong)[:9]):
                self.assertIn("its version is not a number", str(formats.USERS_FILE.problem(wrong)))
        self.assertIn("of a newer version", str(formats.USERS_FILE.problem(10**10000)))

    def test_a_users_file_with_such_a_version_is_refused(self) -> None:
        path = self.place / "users.toml"
        path.touch(0o600)
        for wrong in ("true", '"\u00b2"', f"0x{'f' * 5000}", "9" * 5000, "[1]", "inf"):
            with self.subTest(wrong[:9]):
                path.write_text(f"version = {wrong}\n[users]\n")
                self.assertRaises((DirectoryError, BadInput), users_file.load, str(path))
