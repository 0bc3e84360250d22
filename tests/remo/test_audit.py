"""The audit log: who did what, one object a line, for each login, file and command."""

from __future__ import annotations

import json
import logging
import os
import stat
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.engine.audit import file_sink
from pysftpserver.remo import crypto, login, wire
from pysftpserver.service import throttle
from tests.remo.hosting import USER, HereCase, HostCase, Login, Peer, chunked, request
from tests.support.ports import LOOPBACK
from tests.support.waiting import until

KEYS = {"time", "session", "peer", "port", "user", "request", "path", "result", "bytes", "duration"}


class Lines(HostCase):
    options = ("--command-output", "1000")

    def setUp(self) -> None:
        super().setUp()
        self.before = len(self.host.audit_path.read_bytes())
        self.address = LOOPBACK

    def lines(self, count: int) -> list[dict[str, Any]]:
        """What this test has added, when there are so many of them."""

        def look() -> list[dict[str, Any]]:
            added = self.host.audit_path.read_bytes()[self.before :]
            found = [json.loads(line) for line in added.splitlines()] if added.endswith(b"\n") else []
            return found if len(found) >= count else []

        found = until(look, f"{count} lines")
        self.assertEqual(len(found), count, found)
        for line in found:
            self.assertLessEqual(KEYS, line.keys())
            self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
            self.assertEqual(line["peer"], self.address)
            self.assertIsInstance(line["port"], int)
        return found

    def ends(self) -> list[str]:
        """Why sessions ended."""
        return [line["message"] for line in self.lines(1) if line["request"] == "end"]

    def asked(self, peer: Peer, word: str, argument: bytes | None = None, *pieces: bytes) -> int:
        return self.one(peer.plain(word, argument, *pieces)).status

    def test_every_login_is_in_it_and_why_it_was_refused(self) -> None:
        good = Login(USER, self.host.user_key)
        bodies = (
            good.body,
            good.body,
            Login(USER, self.host.server_key).body,
            b"{}",
            Login("nobody", self.host.user_key).body,
        )
        self.address = "127.0.0.4"  # from which no other test has failed to log in
        for body in bodies:
            with self.host.raw(self.address) as raw:
                raw.ask(request("POST", "/auth", body))
        lines = self.lines(5)
        self.assertEqual({line["request"] for line in lines}, {"login"})
        self.assertEqual(
            [(line["user"], line["result"], line.get("message")) for line in lines],
            [
                (USER, "OK", None),
                (USER, "PERMISSION_DENIED", "a replayed login"),
                (USER, "PERMISSION_DENIED", "wrong signature"),
                ("", "BAD_MESSAGE", 'the login needs the texts "user", "key" and "sign"'),
                ("nobody", "PERMISSION_DENIED", "no such user"),
            ],
        )
        self.assertEqual(len({line["session"] for line in lines}), 5)

    def log_in(self, user: str = USER, key: crypto.PrivateKey | None = None) -> Peer:
        """From an address that has not failed; it is the session's from then on."""
        self.address = "127.0.0.5"
        with self.host.raw(self.address) as raw:
            peer = self.host.log_in(raw, user, key)
        self.before = len(self.host.audit_path.read_bytes())
        return peer

    def test_every_file_is_in_it(self) -> None:
        peer = self.log_in()
        self.assertEqual(self.asked(peer, "get", b"/small"), 200)
        self.assertEqual(self.asked(peer, "get", b"/not"), 400)
        self.assertEqual(self.asked(peer, "put", b"/new", b"12345"), 200)
        self.assertEqual(self.asked(peer, "put", b"/not/new", b"12345"), 400)
        self.assertEqual(self.asked(peer, "lst", b"/"), 200)
        head = peer.request("POST", peer.path("put", b"/cut")).replace(
            b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        self.one(head + chunked([peer.tokens(b"123")])[:-5] + b"wrong\r\n")
        path = peer.path("put", b"/numbered")
        self.one(peer.request("POST", path, peer.sealed(path, b"1", b"2")[0]))
        found = [
            {"user": USER, "request": "get", "result": "OK", "path": "/small", "bytes": 13},
            {"request": "get", "result": "NO_SUCH_FILE", "path": "/not"},
            {"request": "put", "result": "OK", "path": "/new", "bytes": 5},
            {"request": "put", "result": "NO_SUCH_FILE", "message": "no such file or directory"},
            {"request": "lst", "result": "OK", "path": "/", "names": 2},
            {"request": "put", "result": "CONNECTION_LOST", "path": "/cut", "bytes": 3},
            {"request": "put", "result": "CONNECTION_LOST", "path": "/numbered"},
            {"request": "end", "bytes": 21},
        ]
        lines = self.lines(len(found))
        for wanted, line in zip(found, lines, strict=True):
            with self.subTest(wanted=wanted):
                self.assertEqual({**line, **wanted}, line)
                self.assertEqual(line["session"], lines[0]["session"])

    def test_every_command_is_in_it_and_how_it_ended(self) -> None:
        peer = self.log_in()
        for line, said in ((b"sh -c 'exit 3'", b"x"), (b"cat", b"12345"), (b"not-there", b"")):
            self.asked(peer, "cmd", line, said)
        self.asked(peer, "cmd", b"yes", b"")
        self.asked(peer, "icm", b"cat", b"x")
        self.asked(peer, "edt")
        self.asked(peer, "pty", b"80x24 cat", b"x")
        self.asked(peer, "get", b"/small")  # which ends it
        lines = self.lines(9)
        self.assertEqual(
            [
                tuple(line.get(key) for key in ("request", "result", "command", "status", "message"))
                for line in lines
            ],
            [
                ("cmd", "OK", "sh -c 'exit 3'", 3, None),
                ("cmd", "OK", "cat", 0, None),
                ("cmd", "FAILURE", "not-there", None, "not-there: no such command"),
                ("cmd", "FAILURE", "yes", 124, "stopped after 1000 bytes of output"),
                ("icm", "OK", "cat", None, None),
                ("exit", "OK", None, 0, None),
                ("pty", "OK", "cat", None, None),
                ("exit", "OK", None, lines[7]["status"], None),
                ("get", "OK", None, None, None),
            ],
        )
        self.assertEqual(lines[1]["input"], 5)

    def test_what_is_not_permitted_is_in_it(self) -> None:
        key = crypto.new_key()
        self.host.users.add("reader", crypto.public_pem(key.public_key()).decode(), "read")
        peer = self.log_in("reader", key)
        asked = {"put": b"/x", "cmd": b"id", "icm": b"id", "pty": b"80x24 id", "idt": None}
        for word, argument in asked.items():
            self.assertEqual(self.asked(peer, word, argument, b"x"), 403)
        lines = self.lines(5)
        self.assertEqual(
            {(line["user"], line["result"]) for line in lines}, {("reader", "PERMISSION_DENIED")}
        )
        self.assertEqual([line["request"] for line in lines], list(asked))
        self.assertEqual([line["argument"] for line in lines], ["/x", "id", "id", "80x24 id", ""])

    def test_the_end_of_a_session_is_in_it(self) -> None:
        for _ in range(2):
            peer = self.log_in()
            self.one(request("POST", "/auth", b"", peer.cookie))
            self.assertEqual(self.ends(), ["logged out"])
        peer = self.log_in()
        self.assertEqual(peer.opened(self.one(peer.numbers("sts"))), b"none")
        self.one(peer.plain("sts"))
        self.assertEqual(self.ends(), ["ended, because of a tampered request: a request without numbers"])

    def test_names_cannot_forge_a_line_or_drive_a_terminal(self) -> None:
        peer = self.log_in()
        names = (
            b'a\n{"request":"login","result":"OK"}',
            b"\x1b[2J\x7f\x9b",
            b"\xff\xfe",
            "\u2028\u202e".encode(),
        )
        for name in names:
            self.asked(peer, "get", b"/" + name)
            self.asked(peer, "cmd", b"not-there " + name)
        self.one(request("POST", "/auth", Login("x\n\x1b\x7f" * 500, self.host.user_key).body))
        added = self.host.audit_path.read_bytes()[self.before :]
        self.assertEqual(len(added.splitlines()), 2 * len(names) + 1)
        for line in added.splitlines():
            self.assertTrue(line.decode("ascii").isprintable(), line)
            self.assertLess(len(line), 2000)
        log = self.host.log()[self.looked :]
        self.assertTrue(log.replace("\n", "").isprintable(), log)

    def test_it_is_for_its_owner_alone(self) -> None:
        self.assertEqual(stat.S_IMODE(os.stat(self.host.audit_path).st_mode), 0o600)


class WithoutCommands(HostCase):
    @classmethod
    def setUpClass(cls) -> None:
        place = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="pysftpserver-remo-"))
        conf = Path(place) / "conf"
        conf.write_text("commands = true\nport = 1\n")
        cls.options = ("--conf", str(conf), "--commands", "no")
        super().setUpClass()

    def test_where_an_option_says_so_commands_are_for_nobody_whatever_the_file_says(self) -> None:
        peer = self.host.log_in()
        for word, argument in (("cmd", b"id"), ("icm", b"id"), ("pty", b"80x24 id")):
            self.assertEqual(self.one(peer.plain(word, argument)).status, 403)
        lines = [json.loads(line) for line in self.host.audit_path.read_text().splitlines()]
        self.assertEqual([line["result"] for line in lines], ["OK"] + ["PERMISSION_DENIED"] * 3)


class ThatCannotBeWritten(HereCase):
    def test_nobody_logs_in_and_the_log_has_the_record(self) -> None:
        here = self.serve(audit="/dev/full")
        with self.assertLogs("pysftpserver.remo", logging.ERROR) as log:
            self.assertEqual(
                here.called("POST", "/auth", Login(USER, here.user_key).body).status,
                403,
            )
        self.assertRegex(log.output[0], "(?i)audit: no space left on device; not recorded: .*login")

    def test_a_session_ends_with_the_first_request_that_is_not_recorded(self) -> None:
        here = self.serve(audit=os.devnull)
        peer = here.log_in()
        asked = peer.path("get", b"users.sqlite")
        self.assertEqual(here.called("GET", asked, cookie=peer.cookie).status, 200)
        with (
            mock.patch.object(here.application._trail._file, "_sink", file_sink("/dev/full")),
            self.assertLogs("pysftpserver.remo", logging.ERROR),
        ):
            here.called("GET", asked, cookie=peer.cookie)
        self.assertEqual(here.called("GET", asked, cookie=peer.cookie).status, 403)


class WithoutAFile(HereCase):
    def test_it_goes_to_the_log(self) -> None:
        here = self.serve()
        with self.assertLogs("pysftpserver.remo.audit", logging.INFO) as log:
            peer = here.log_in()
            here.called("GET", peer.path("get", b"users.sqlite"), cookie=peer.cookie)
        lines = [json.loads(record.getMessage()) for record in log.records]
        self.assertEqual(
            [(line["request"], line["result"]) for line in lines], [("login", "OK"), ("get", "OK")]
        )
        self.assertEqual(len({line["session"] for line in lines}), 1)
        self.assertNotIn(wire.COOKIE, log.output[0])

    @mock.patch.object(throttle, "FIRST", throttle.MOST)
    @mock.patch.object(login, "REFUSED_AFTER", 0.0)
    def test_an_address_that_has_to_wait_is_in_it_with_the_reason_and_no_name(self) -> None:
        here = self.serve()
        with self.assertLogs("pysftpserver.remo.audit", logging.INFO) as log:
            for _ in range(throttle.FREE + 1):
                here.called("POST", "/auth", Login(USER, here.key).body)
        last = json.loads(log.records[-1].getMessage())
        self.assertEqual(
            (last["user"], last["result"], last["message"]),
            ("", "PERMISSION_DENIED", "too many failed logins from this address"),
        )
