"""SIGKILL at any moment of a session: what is counted is what is there, and each change was told of."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from pysftpserver.engine import wire
from pysftpserver.site.accounts import Quota
from pysftpserver.site.ledger import Ledger
from pysftpserver.site.quota import QuotaLayer
from pysftpserver.site.spool import Spool
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.site.receiving import WebReceiver, deliverers
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.waiting import until

FILES, ROUNDS = 6, 30
CREATE = wire.SSH2_FXF_WRITE | wire.SSH2_FXF_CREAT | wire.SSH2_FXF_TRUNC


def packet(kind: int, number: int, *fields: bytes | int) -> bytes:
    body = b"".join(
        field.to_bytes(4, "big") if isinstance(field, int) else wire.encode_string(field) for field in fields
    )
    return wire.encode_packet(kind, number, body)


def content(number: int) -> bytes:
    return b"%d " % number * (1000 + number * 37 % 5000)


def requests() -> bytes:
    """A session that stores, replaces, renames and removes files. Handles count from 1."""
    found = [wire.encode_packet(wire.SSH2_FXP_INIT, 3, b"")]
    for number in range(1, ROUNDS + 1):
        path, handle = b"/f%d" % (number % FILES), number.to_bytes(4, "big")
        found += [
            packet(wire.SSH2_FXP_OPEN, number, path, CREATE, 0),
            packet(wire.SSH2_FXP_WRITE, number, handle, 0, 0, content(number)),
            packet(wire.SSH2_FXP_CLOSE, number, handle),
        ]
        if number % 5 == 0:
            found.append(packet(wire.SSH2_FXP_REMOVE, number, path))
        if number % 7 == 0:
            found.append(packet(wire.SSH2_FXP_RENAME, number, path, b"/r%d" % number))
    return b"".join(found)


class Kills(unittest.TestCase):
    def setUp(self) -> None:
        top = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.root, self.state, self.site, self.stream = (
            top / name for name in ("root", "state", "s.toml", "in")
        )
        self.root.mkdir()
        self.state.mkdir(0o700)
        self.receiver = WebReceiver()
        self.addCleanup(self.receiver.close)
        self.site.write_text(
            f'storage = "jail:{self.root}"\nstate = "{self.state}"\n[quota]\nbytes = "1 GiB"\n'
            f'[[event]]\non = ["upload", "delete", "rename"]\npost = "{self.receiver.url}"\n'
        )
        self.stream.write_bytes(requests())
        self.ledger = Ledger(str(self.state))
        self.addCleanup(self.ledger.close)

    def run_session(self, seconds: float | None) -> float:
        """Run the session, and kill it after that time; return how long it took."""
        command = [sys.executable, "-IS", f"{ROOT}/bin/pysftpsite", str(self.site), "--user", "alice"]
        began = time.monotonic()
        with self.stream.open("rb") as stream:
            process = subprocess.Popen(
                [*command, "-l", f"{self.state}/log"], stdin=stream, stdout=subprocess.DEVNULL
            )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return time.monotonic() - began

    def check(self) -> None:
        until(lambda: not Spool(self.ledger).waiting())
        until(lambda: not deliverers(self.site))  # it ends when nothing is left to do
        told = {
            (event["path"], event.get("sha256")) for event in self.receiver.got if event["event"] == "upload"
        }
        renamed = {event["target"] for event in self.receiver.got if event["event"] == "rename"}
        for path in self.root.iterdir():
            if not path.name.startswith(".pysftpserver-upload-"):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                name = f"/{path.name}"
                self.assertTrue((name, digest) in told or name in renamed, name)
        quota = Quota("user:alice:/**", 1 << 30, None, None)
        other = Ledger(str(self.state))
        try:
            other.open_session({})
            layer = QuotaLayer(SFTPServerVirtualChroot(str(self.root)), other, [quota], f"jail:{self.root}")
            self.assertTrue(layer._accounts.is_counted(quota))
            self.assertEqual(layer._accounts.used(quota), layer.recount(quota))
        finally:
            other.close()

    def test_a_killed_session_leaves_no_debt_and_no_change_that_was_not_told_of(self):
        whole = self.run_session(None)
        self.check()
        self.assertEqual(sum(event["event"] == "upload" for event in self.receiver.got), ROUNDS)
        chance = random.Random(7)
        for number in range(100 if IS_HARD else 2):
            with self.subTest(number=number):
                self.run_session(chance.uniform(0.2, 1) * whole)
                self.check()

    def test_a_deliverer_that_is_killed_delivers_again(self):
        self.receiver.statuses = [500] * 1000
        self.run_session(None)
        (number,) = deliverers(self.site)
        os.kill(number, 9)
        until(lambda: not deliverers(self.site))
        self.assertTrue(Spool(self.ledger).waiting())
        self.receiver.statuses = []
        Spool(self.ledger).retry()
        self.run_session(None)  # starts another one
        self.check()
