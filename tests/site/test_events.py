from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import unittest
from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure
from pysftpserver.site.events import EventsLayer
from pysftpserver.site.ledger import Ledger
from pysftpserver.site.spool import Spool
from pysftpserver.site.told import Wish
from pysftpserver.site.who import Who
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from pysftpserver.uploads.files import open_temporary
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.site.receiving import WebReceiver, deliverers
from tests.support.paths import ROOT
from tests.support.waiting import until

NEW, OLD = os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_CREAT
ALL = "upload download delete rename mkdir rmdir login logout rejected"


class EventsCase(unittest.TestCase):
    def setUp(self) -> None:
        self.state = self.enterContext(tempfile.TemporaryDirectory())
        self.root = self.enterContext(tempfile.TemporaryDirectory())
        self.ledger = Ledger(self.state)
        self.addCleanup(self.ledger.close)

    def session(self, on: str = ALL, matches: Any = None, wait: float | None = None) -> EventsLayer:
        ledger = Ledger(self.state)
        self.addCleanup(ledger.close)
        ledger.open_session({"user": "alice"})
        wishes = [Wish(frozenset(on.split()), "post http://x/", matches, wait)]
        who = Who("alice", ("staff",), "192.0.2.7", "s1")
        is_part = lambda name: name.endswith(".filepart")  # noqa: E731
        return EventsLayer(SFTPAtomicVirtualChroot(self.root), ledger, wishes, who, "here", is_part)

    def told(self, *fields: str) -> list[Any]:
        events = [delivery.event for _, delivery, _, _ in Spool(self.ledger).waiting()]
        if not fields:
            return [event["event"] for event in events]
        return [tuple(event.get(field) for field in fields) for event in events]

    def put(self, storage: SFTPAbstractServerStorage, path: bytes, content: bytes, flags: int = NEW) -> None:
        handle = storage.open(path, flags, 0o666)
        for start in range(0, len(content), 10):
            storage.write(handle, start, content[start : start + 10])
        storage.close(handle)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Events(EventsCase):
    def test_an_upload_has_name_size_digest_who_and_from_where(self):
        self.put(self.session("upload"), b"/f", b"hello, " * 10)
        event = {
            "path": "/f",
            "size": 70,
            "sha256": sha256(b"hello, " * 10),
            "user": "alice",
            "group": "staff",
        }
        event |= {"event": "upload", "address": "192.0.2.7", "session": "s1"}
        self.assertEqual(self.told(*event), [tuple(event.values())])

    def test_the_digest_is_of_the_file_however_it_was_written(self):
        storage = self.session("upload")
        handle = storage.open(b"/f", NEW, 0o666)
        storage.write(handle, 3, b"def")
        storage.write(handle, 0, b"abc")
        storage.close(handle)
        handle = storage.open(b"/f", os.O_WRONLY, 0)  # keeps its content
        storage.write(handle, 0, b"A")
        storage.close(handle)
        handle = storage.open(b"/f", os.O_WRONLY | os.O_APPEND, 0)
        storage.write(handle, 0, b"g")
        storage.close(handle)
        handle = storage.open(b"/f", OLD, 0)
        storage.write(handle, 0, b"abcd")
        storage.fsetstat(handle, SFTPAttributes(size=2))
        storage.close(handle)
        digests = [sha256(content) for content in (b"abcdef", b"Abcdef", b"Abcdefg", b"ab")]
        self.assertEqual(self.told("sha256"), [(digest,) for digest in digests])

    def test_each_change_is_told_of_once_it_has_happened(self):
        storage = self.session("delete rename mkdir rmdir")
        storage.mkdir(b"/d", 0o777)
        self.put(storage, b"/a", b"")
        storage.rename(b"/a", b"/d/b", True)
        storage.rm(b"/d/b")
        storage.rmdir(b"/d")
        for act in (storage.rm, storage.rmdir):
            with self.assertRaises(OSError):
                act(b"/missing")
        expected = [
            ("mkdir", "/d", None),
            ("rename", "/a", "/d/b"),
            ("delete", "/d/b", None),
            ("rmdir", "/d", None),
        ]
        self.assertEqual(self.told("event", "path", "target"), expected)

    def test_an_upload_under_a_temporary_name_is_told_of_under_its_final_one(self):
        storage = self.session()
        self.put(storage, b"/f.csv.filepart", b"content")
        storage.rename(b"/f.csv.filepart", b"/f.csv")
        file = open_temporary(storage, b"/g.csv", None)
        file.write(memoryview(b"content"))
        file.commit()
        expected = [("upload", path, 7, sha256(b"content")) for path in ("/f.csv", "/g.csv")]
        self.assertEqual(self.told("event", "path", "size", "sha256")[-2:], expected)
        self.assertEqual(
            self.told("event")[:-2], [("login",)] if len(self.told()) == 3 else [("login",), ("logout",)]
        )

    def test_uploads_that_are_not_put_in_place_are_not_told_of(self):
        storage = self.session("upload")
        handle = storage.open(b"/f", NEW, 0o666)
        storage.write(handle, 0, b"x")
        storage.abandon(handle)
        handle = storage.open(b"/f", NEW, 0o666)
        storage.write(handle, 0, b"x")
        storage.spoil(handle)
        with self.assertRaises(SFTPException):
            storage.close(handle)
        self.put(storage, b"/f", b"x")
        storage.close(storage.open(b"/f", OLD, 0o666))  # nothing was written
        self.assertEqual(self.told(), ["upload"])

    def test_downloads_and_refusals_are_told_of(self):
        self.put(SFTPServerVirtualChroot(self.root), b"/f", b"abc")
        storage = self.session("download rejected")
        handle = storage.open(b"/f", os.O_RDONLY, 0)
        storage.read(handle, 0, 3)
        storage.close(handle)

        def refuse(*arguments: object) -> None:
            raise PermissionError(13, "no")

        storage.below.rm = refuse  # type: ignore[method-assign]
        with self.assertRaises(PermissionError):
            storage.rm(b"/f")
        self.assertEqual(self.told("event", "path", "size", "reason")[:1], [("download", "/f", 3, None)])

    def test_only_the_paths_that_a_receiver_wants_are_told_of(self):
        storage = self.session("upload mkdir", matches=lambda path: path.startswith(b"/in"))
        for name in (b"/in", b"/out"):
            storage.mkdir(name, 0o777)
            self.put(storage, name + b"/f", b"x")
        self.assertEqual(self.told("path"), [("/in",), ("/in/f",)])

    def test_names_that_are_not_utf8_arrive_whole(self):
        self.put(self.session("upload"), b"/\xff\n", b"")
        self.assertEqual(self.told("path_hex"), [(b"/\xff\n".hex(),)])

    def test_a_session_begins_with_its_first_request_and_ends_with_its_release(self):
        storage = self.session("login logout")
        self.assertEqual(self.told(), [])
        storage.realpath(b"/")
        storage.stat(b"/")
        self.assertEqual(self.ledger.ask("SELECT is_ready FROM event"), [(1,), (0,)])
        storage.release()
        self.assertEqual(self.told(), ["login", "logout"])
        self.assertEqual(self.ledger.ask("SELECT is_ready FROM event"), [(1,), (1,)])

    def test_a_client_can_wait_for_a_receiver(self):
        storage = self.session("mkdir", wait=0.05)
        with self.assertRaisesRegex(SFTPFailure, "has not done so"):
            storage.mkdir(b"/d", 0o777)
        self.assertEqual(os.listdir(self.root), ["d"])


class Sessions(unittest.TestCase):
    """`sftp -D` with the whole house: site file, sandbox, a deliverer that it starts, an HTTP receiver."""

    def setUp(self) -> None:
        top = self.enterContext(tempfile.TemporaryDirectory())
        self.root, self.state = f"{top}/root", f"{top}/state"
        os.mkdir(self.root)
        os.mkdir(self.state, 0o700)
        self.receiver = WebReceiver()
        self.addCleanup(self.receiver.close)
        self.key, self.site = f"{top}/key", f"{top}/site.toml"
        with open(self.key, "w") as file:
            file.write("secret\n")
        with open(self.site, "w") as file:
            file.write(
                f'storage = "jail:{self.root}"\nstate = "{self.state}"\n[quota]\nbytes = "1 MiB"\n'
                f'[[event]]\non = {json.dumps(ALL.split())}\npost = "{self.receiver.url}"\n'
                f'secret = "{self.key}"\n'
            )
        self.addCleanup(lambda: until(lambda: not deliverers(self.site)))  # it ends when nothing is left

    def sftp(self, batch: str) -> subprocess.CompletedProcess[str]:
        server = f"{sys.executable} -IS {ROOT}/bin/pysftpsite {self.site} --user alice"
        server += f" -l {self.state}/log --audit {self.state}/audit"
        return subprocess.run(
            ["sftp", "-q", "-b", "-", "-D", server],
            input=batch,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def got(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.receiver.got if event["event"] == kind]

    def test_what_a_client_does_arrives_signed_and_in_order(self):
        with open(f"{self.state}/f", "wb") as file:
            file.write(b"x" * 300_000)
        done = self.sftp(
            f"put {self.state}/f a\nmkdir d\nrename a d/b\nget d/b /dev/null\nrm d/b\nrmdir d\ndf\n"
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        until(lambda: len(self.receiver.got) >= 8)
        kinds = [event["event"] for event in self.receiver.got]
        self.assertEqual(sorted(kinds), sorted(ALL.replace(" rejected", "").split()))
        about_the_file = [kind for kind in kinds if kind in ("upload", "rename", "download", "delete")]
        self.assertEqual(about_the_file, ["upload", "rename", "download", "delete"])
        ((upload),) = self.got("upload")
        self.assertEqual((upload["size"], upload["sha256"]), (300_000, sha256(b"x" * 300_000)))
        self.assertEqual(upload["user"], "alice")
        with open(f"{self.state}/audit") as records:
            sessions = {json.loads(record)["session"] for record in records}
        self.assertEqual({event["session"] for event in self.receiver.got}, sessions)
        self.assertTrue(all("X-Pysftp-Signature" in headers for headers, _ in self.receiver.requests))

    def test_a_quota_refuses_and_leaves_the_old_file(self):
        with open(f"{self.state}/f", "wb") as file:
            file.write(b"x" * (1 << 20) + b"y")
        with open(f"{self.root}/f", "wb") as file:
            file.write(b"old")
        done = self.sftp(f"put {self.state}/f f\n")
        self.assertNotEqual(done.returncode, 0)
        with open(f"{self.root}/f", "rb") as file:
            self.assertEqual(file.read(), b"old")
        until(lambda: self.got("rejected"))
        self.assertEqual(self.got("rejected")[0]["reason"], "Disk quota exceeded")
        done = self.sftp("df\n")
        self.assertRegex(done.stdout, r"\b1024\s+4\s+1020\b")
        until(lambda: len(self.got("logout")) == 2)
