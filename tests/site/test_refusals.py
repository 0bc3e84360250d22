"""What rules, names and permissions refuse, as receivers of `rejected` are told of it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any
from unittest import mock

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPException, SFTPForbidden
from pysftpserver.site import file, opening
from pysftpserver.site.guard import RulesLayer
from pysftpserver.site.ledger import Ledger
from pysftpserver.site.spool import Spool
from pysftpserver.site.told import MOST_REFUSALS, SAME_AGAIN, Refusals
from pysftpserver.site.who import Who
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.cases import InADirectory

NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
RULES = """
hidden = "/secret/**"
[[rule]]
path = "/in/**"
allow = ["list", "upload"]
[[rule]]
path = "/shut/**"
deny = "all"
[names]
refuse = "*.exe"
"""
EVENTS = '[[event]]\non = ["%s"]\nrun = "/bin/true"\n'


class Refused(InADirectory):
    def setUp(self) -> None:
        super().setUp()
        self.state = self.enterContext(tempfile.TemporaryDirectory())
        for name in ("in", "shut", "secret", "free"):
            (self.root / name).mkdir()
            (self.root / name / "f").write_bytes(b"content")

    def session(self, on: str = "rejected", more: str = "") -> SFTPAbstractServerStorage:
        text = f'state = "{self.state}"\n{RULES}{EVENTS % on}{more}'
        with mock.patch("pysftpserver.site.starting.start_deliverer"):
            storage = opening.layered(
                SFTPServerVirtualChroot(str(self.root)), file.parse(text, "s.toml"), Who("al")
            )
        self.addCleanup(storage.release)
        return storage

    def events(self) -> list[dict[str, Any]]:
        with contextlib.closing(Ledger(self.state)) as ledger:
            return [delivery.event for _, delivery, _, _ in Spool(ledger).waiting()]

    def kinds(self) -> list[str]:
        return [event["event"] for event in self.events()]

    def told(self) -> list[tuple[str, str]]:
        return [(event["path"], event["reason"]) for event in self.events() if event["event"] == "rejected"]

    def test_each_refusal_of_a_rule_is_told_of_with_the_path_and_the_action(self) -> None:
        storage = self.session()
        handle = storage.open(b"/in/new", NEW, 0o666)
        attempts: list[tuple[str, str, Any]] = [
            ("/in/f", "download", lambda: storage.open(b"/in/f", os.O_RDONLY, 0)),
            ("/in/f", "overwrite", lambda: storage.open(b"/free/../in/f", NEW, 0o666)),
            ("/in/f", "delete", lambda: storage.rm(b"/in/f")),
            ("/shut", "list", lambda: storage.opendir(b"/shut")),
            ("/shut/x", "upload", lambda: storage.open(b"/shut/x", NEW, 0o666)),
            ("/shut/f", "rename", lambda: storage.rename(b"/free/f", b"/shut/f")),
            ("/in/f", "rename", lambda: storage.rename(b"/in/f", b"/free/g")),
            ("/shut/f", "setstat", lambda: storage.setstat(b"/shut/f", SFTPAttributes(permissions=0))),
            ("/in/l", "link", lambda: storage.link(b"/free/f", b"/in/l")),
            ("/shut/d", "mkdir", lambda: storage.mkdir(b"/shut/d", 0o777)),
        ]
        for _, _, attempt in attempts:
            with self.assertRaises(SFTPForbidden):
                attempt()
        storage.close(handle)
        told = [(path, f"Not allowed here: {action}") for path, action, _ in attempts]
        self.assertEqual(self.told(), told)

    def test_a_name_that_is_refused_is_told_of_and_what_is_hidden_is_not(self) -> None:
        storage = self.session()
        for path in (b"/free/x.exe", b"/secret/f"):
            with self.assertRaises((SFTPException, OSError)):
                storage.open(path, NEW, 0o666)
        self.assertEqual(self.told(), [("/free/x.exe", "Names such as *.exe are not allowed here")])

    def test_without_a_receiver_nothing_is_written_down(self) -> None:
        storage = self.session("delete")
        assert isinstance(storage, RulesLayer)
        self.assertIsNone(storage._tell)
        with self.assertRaises(SFTPForbidden):
            storage.rm(b"/in/f")
        self.assertEqual(self.told(), [])

    def test_a_refusal_may_be_the_first_that_a_session_does(self) -> None:
        storage = self.session('login", "rejected')
        with self.assertRaises(SFTPForbidden):
            storage.rm(b"/in/f")
        self.assertEqual(self.kinds(), ["login", "rejected"])

    def test_each_verdict_of_a_gate_is_told_of(self) -> None:
        gate = '[[gate]]\npath = "/free/**"\nlimit = { size = 1 }\n'
        storage = self.session(more=gate)
        for number in range(MOST_REFUSALS + 5):
            handle = storage.open(b"/free/%d" % (number % 10), NEW, 0o666)
            storage.write(handle, 0, b"xx")
            with self.assertRaises(SFTPException):
                storage.close(handle)
        self.assertEqual(len(self.told()), MOST_REFUSALS + 5)

    def test_a_client_that_is_refused_again_and_again_fills_no_spool(self) -> None:
        storage = self.session()
        for number in range(200):
            with self.assertRaises(SFTPForbidden):
                storage.rm(b"/in/f")
            with self.assertRaises(SFTPForbidden):
                storage.mkdir(b"/shut/%d" % number, 0o777)
        self.assertEqual(len(self.told()), MOST_REFUSALS)
        self.assertEqual(len({path for path, _ in self.told()}), MOST_REFUSALS)

    def test_what_was_left_out_is_counted_and_told_of_with_the_next(self) -> None:
        now = [0.0]
        refusals = Refusals(lambda: now[0])
        self.assertTrue(refusals.is_due(b"/f", "no"))
        self.assertFalse(refusals.is_due(b"/f", "no"))
        self.assertTrue(refusals.is_due(b"/f", "not so"))
        now[0] = SAME_AGAIN
        self.assertTrue(refusals.is_due(b"/f", "no"))
        self.assertEqual(refusals.left_out, 1)
