from __future__ import annotations

import hashlib
import hmac
import json
import os
import tempfile
import threading
import time
import unittest
import unittest.mock

from pysftpserver.failures import BadInput
from pysftpserver.site import file, spool
from pysftpserver.site.delivering import Deliverer
from pysftpserver.site.receivers import LocalSocket, Program, Refused, Web, filled, receivers_of
from pysftpserver.site.spool import Spool
from pysftpserver.storage import SFTPServerStorage
from tests.site.receiving import SocketReceiver, WebReceiver, program
from tests.site.test_ledger import LedgerCase
from tests.support.waiting import until

EVENT = {"event": "upload", "path": "/in/a b.csv", "size": 3, "user": "alice", "sha256": "00"}


class Receivers(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = self.enterContext(tempfile.TemporaryDirectory())

    def test_a_program_gets_arguments_environment_and_input_without_a_shell(self):
        text = (
            "with open(os.path.dirname(sys.argv[0]) + '/got', 'wb') as got:\n"
            "    got.write(repr(sys.argv[1:]).encode() + b'\\n')\n"
            "    got.write(os.environb[b'PYSFTP_PATH'] + b'\\n')\n"
            "    got.write(sys.stdin.buffer.read())"
        )
        path = b"/x;$(id) \xff\n{user}"
        event = {"id": 7, "event": "upload", "user": "al", "path": path.decode(errors="replace")}
        event["path_hex"] = path.hex()
        Program([program(self.directory, text), "-f={path}", "{user}{x}", "{", "{size}"]).take(event)
        with open(f"{self.directory}/got", "rb") as got:
            content = got.read()
        self.assertEqual(
            content.split(b"\n", 1)[0].decode(), repr([f"-f={os.fsdecode(path)}", "al{x}", "{", ""])
        )
        self.assertIn(b"\n" + path + b"\n", content)
        self.assertTrue(content.endswith(json.dumps(event, separators=(",", ":")).encode()))

    def test_what_is_filled_in_is_not_looked_at_again(self):
        self.assertEqual(filled("{path}{user}", {"path": b"{user}", "user": b"a"}), b"{user}a")

    def test_a_program_that_fails_or_is_missing_has_not_taken_it(self):
        for text, reason in (("sys.exit(3)", "status 3"), ("os.kill(os.getpid(), 9)", "signal 9")):
            with self.assertRaisesRegex(Refused, reason):
                Program([program(self.directory, text)]).take({"id": 1, **EVENT})
        with self.assertRaisesRegex(Refused, "no such file"):
            Program([f"{self.directory}/missing"]).take({"id": 1, **EVENT})

    def test_a_program_that_takes_too_long_is_killed_with_what_it_has_started(self):
        text = "os.fork()\nopen('%s/%%d' %% os.getpid(), 'w').close()\nimport time\ntime.sleep(1000)"
        with self.assertRaisesRegex(Refused, "did not end within 1 seconds"):
            Program([program(self.directory, text % self.directory)], 1.0).take({"id": 1, **EVENT})
        started = [int(name) for name in os.listdir(self.directory) if name.isdigit()]
        until(lambda: not any(os.path.exists(f"/proc/{number}/fd/0") for number in started))

    def test_a_post_is_json_with_a_signature(self):
        server = WebReceiver()
        self.addCleanup(server.close)
        Web(server.url, lambda: b"key").take({"id": 5, **EVENT})
        ((headers, content),) = server.requests
        self.assertEqual(json.loads(content), {"id": 5, **EVENT})
        self.assertEqual(headers["X-Pysftp-Event"], "upload")
        self.assertEqual(headers["X-Pysftp-Id"], "5")
        expected = hmac.new(b"key", content, hashlib.sha256).hexdigest()
        self.assertEqual(headers["X-Pysftp-Signature"], f"sha256={expected}")

    def test_any_status_but_success_is_a_refusal_and_redirections_are_not_followed(self):
        server = WebReceiver()
        self.addCleanup(server.close)
        for status in (302, 404, 500):
            server.statuses = [status]
            with self.assertRaisesRegex(Refused, str(status)):
                Web(server.url).take({"id": 5, **EVENT})
        server.close()
        with self.assertRaisesRegex(Refused, "refused"):
            Web(server.url).take({"id": 5, **EVENT})
        for url in (
            "ftp://a/",
            "http:///x",
            "http://user:hush@host/",
            "http://h:x/",
            "http://h/#a",
            "http://[h/",
        ):
            with self.assertRaises(BadInput) as raised:
                file.parse(f'state = "/s"\n[[event]]\non = "upload"\npost = "{url}"\n', "s.toml")
            self.assertIn("s.toml: line 4: post: write", raised.exception.message)
            self.assertNotIn("hush", raised.exception.message)

    def test_a_receiver_whose_secret_cannot_be_read_has_not_taken_it(self):
        server, path = WebReceiver(), f"{self.directory}/secret"
        self.addCleanup(server.close)
        text = f'state = "/s"\n[[event]]\non = "upload"\npost = "{server.url}"\nsecret = "{path}"\n'
        (entry,) = file.parse(text, "s.toml").events
        (receiver,) = receivers_of(entry)
        with self.assertRaisesRegex(Refused, f"s.toml: line 5: secret: {path}: no such file"):
            receiver.take({"id": 5, **EVENT})
        for key in ("one", "two"):  # it may be changed
            with open(path, "w") as secret:
                secret.write(f"{key}\n")
            receiver.take({"id": 5, **EVENT})
            headers, content = server.requests[-1]
            expected = hmac.new(key.encode(), content, hashlib.sha256).hexdigest()
            self.assertEqual(headers["X-Pysftp-Signature"], f"sha256={expected}")

    def test_a_socket_has_to_say_that_it_has_taken_it(self):
        server = SocketReceiver(f"{self.directory}/s")
        self.addCleanup(server.close)
        receiver = LocalSocket(f"{self.directory}/s")
        receiver.take({"id": 5, **EVENT})
        self.assertEqual(server.got, [{"id": 5, **EVENT}])
        for answer in (b"", b"no\n", b'{"ok": false}\n', b'{"ok": true'):
            server.answers = [answer]
            with self.assertRaises(Refused):
                receiver.take({"id": 5, **EVENT})


class Delivering(LedgerCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = self.enterContext(tempfile.TemporaryDirectory())
        self.told: list[str] = []
        self.spool = Spool(self.ledger())
        self.server = WebReceiver()
        self.addCleanup(self.server.close)
        self.name = Web(self.server.url).name

    def add(self, path: str, **fields: object) -> int:
        return self.spool.add({**EVENT, "path": path, **fields}, [path.encode()], [self.name])

    def deliver(self, *receivers, until_idle: bool = True) -> None:
        deliverer = Deliverer(
            self.ledger(),
            receivers or [Web(self.server.url)],
            lambda who: SFTPServerStorage(self.root),
            self.told.append,
        )
        thread = threading.Thread(target=deliverer.run, args=(until_idle,))
        thread.start()
        if until_idle:
            thread.join()
        else:
            self.addCleanup(thread.join)
            self.addCleanup(deliverer.stop)

    def test_events_arrive_in_their_order_and_leave_nothing(self):
        for number in range(20):
            self.add("/a" if number % 2 else "/b", size=number)
        self.deliver()
        self.assertEqual([event["size"] for event in self.server.got], list(range(20)))
        for table in ("event", "event_path", "delivery", "session"):
            self.assertEqual(self.ledger().ask(f"SELECT * FROM {table}"), [], table)

    def test_a_refused_event_holds_back_those_about_its_path_and_no_others(self):
        self.enterContext(unittest.mock.patch.object(spool, "FIRST_PAUSE", 0.1))
        self.server.statuses = [500]
        for path in ("/a", "/a", "/b"):
            self.add(path)
        self.deliver()
        self.assertEqual([event["path"] for event in self.server.got], ["/b", "/a", "/a"])
        self.assertEqual([event["id"] for event in self.server.got], [3, 1, 2])
        self.assertRegex(self.told[0], "event 1: it answered 500; tried again later")
        self.assertRegex(self.told[-1], "event 1: delivered at try 2")

    def test_one_receiver_that_cannot_be_used_holds_back_no_other(self):
        def key() -> bytes:
            raise BadInput("secret: permission denied")

        bad = Web(f"{self.server.url}?token=abc", key)
        self.spool.add(EVENT, [b"/a"], [bad.name, self.name])
        self.deliver(bad, Web(self.server.url), until_idle=False)
        until(lambda: self.server.got and self.told)
        self.assertEqual(self.told, [
            f"post {self.server.url}?...: event 1: secret: permission denied; tried again later"
        ])  # fmt: skip

    def test_an_intent_holds_back_what_comes_after_it(self):
        self.spool._ledger.open_session({})
        intent = self.spool.intend({**EVENT, "path": "/a"}, [b"/a"], [self.name])
        self.add("/a", size=8)
        self.add("/b")
        self.deliver(until_idle=False)
        until(lambda: self.server.got)
        self.assertEqual([event["path"] for event in self.server.got], ["/b"])
        self.spool.finish(intent, {**EVENT, "path": "/a", "size": 9})
        until(lambda: len(self.server.got) == 3)
        self.assertEqual([event["size"] for event in self.server.got[1:]], [9, 8])

    def test_pauses_grow_and_end_with_a_dead_letter_that_can_be_retried(self):
        self.add("/a")
        pauses = []
        began = time.time()
        for _ in range(14):
            ((_, delivery, is_dead, _),) = self.spool.waiting()
            self.assertFalse(is_dead)
            with unittest.mock.patch("time.time", return_value=began):
                self.spool.failed(delivery, "it is away")
            pauses.append(round(self.spool.next_due() - began))
        self.assertEqual(pauses[:5], [1, 2, 4, 8, 16])
        self.assertEqual(pauses[-2:], [3600, 3600])
        ((_, delivery, _, _),) = self.spool.waiting()
        delivery.since = time.time() - spool.GIVE_UP
        self.spool.failed(delivery, "it is away")
        ((receiver, _, is_dead, reason),) = self.spool.waiting()
        self.assertEqual((receiver, is_dead, reason), (self.name, True, "it is away"))
        self.add("/a")  # a dead one holds nothing back
        self.deliver()
        self.assertEqual([event["id"] for event in self.server.got], [2])
        self.assertEqual(self.spool.retry([1]), 1)
        self.deliver()
        self.assertEqual([event["id"] for event in self.server.got], [2, 1])

    def test_what_no_receiver_wants_any_more_is_dead(self):
        self.spool.add(EVENT, [b"/a"], ['run ["gone"]'])
        self.deliver()
        ((_, _, is_dead, reason),) = self.spool.waiting()
        self.assertEqual((is_dead, reason), (True, "not in the site file"))

    def test_each_receiver_goes_at_its_own_pace(self):
        self.enterContext(unittest.mock.patch.object(spool, "FIRST_PAUSE", 0.1))
        socket = SocketReceiver(f"{self.root}/s")
        self.addCleanup(socket.close)
        local = LocalSocket(f"{self.root}/s")
        self.server.statuses = [500]
        self.spool.add(EVENT, [b"/a"], [self.name, local.name])
        self.deliver(Web(self.server.url), local, until_idle=False)
        until(lambda: socket.got)
        until(lambda: self.server.got)
        until(lambda: not self.spool.waiting())

    # --- what killed sessions have left -----------------------------------------------------------

    def left_behind(self, event: dict[str, object], *paths: bytes) -> None:
        def act(ledger) -> None:
            ledger.open_session({})
            Spool(ledger).intend(event, paths, [self.name])

        self.kill(self.child(act))

    def settled(self) -> list[tuple[str, bool]]:
        self.deliver()
        return [(event["event"], event.get("certain", True)) for event in self.server.got]

    def upload(self, content: bytes) -> dict[str, object]:
        return {
            "event": "upload",
            "path": "/f",
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }

    def write(self, content: bytes) -> None:
        with open(f"{self.root}/f", "wb") as file:
            file.write(content)

    def test_an_upload_that_is_in_place_is_told_of(self):
        self.write(b"new")
        self.left_behind({**self.upload(b"new"), "path": f"{self.root}/f"}, b"/f")
        self.assertEqual(self.settled(), [("upload", True)])

    def test_an_upload_that_is_not_in_place_is_forgotten(self):
        self.write(b"old")
        self.left_behind({**self.upload(b"new"), "path": f"{self.root}/f"}, b"/f")
        self.assertEqual(self.settled(), [])
        self.assertEqual(self.spool.waiting(), [])

    def test_one_that_others_may_have_undone_is_told_of_as_uncertain(self):
        self.left_behind({**self.upload(b"new"), "path": f"{self.root}/f"}, b"/f")
        self.spool.add({"event": "delete", "path": f"{self.root}/f"}, [b"/f"], [self.name])
        self.assertEqual(self.settled(), [("upload", False), ("delete", True)])

    def test_other_changes_are_settled_by_what_is_there(self):
        self.write(b"")
        there, missing = f"{self.root}/f", f"{self.root}/missing"
        happened = [
            {"event": "delete", "path": missing},
            {"event": "rmdir", "path": missing},
            {"event": "mkdir", "path": there},
            {"event": "rename", "path": missing, "target": there},
            {"event": "logout", "path": None},
        ]
        for number, event in enumerate(happened):
            self.left_behind(event, b"%d" % number)
        not_happened = [
            {"event": "delete", "path": there},
            {"event": "mkdir", "path": missing},
            {"event": "rename", "path": there, "target": missing},
        ]
        for number, event in enumerate(not_happened):
            self.left_behind(event, b"%d" % (number + 10))
        self.assertEqual(sorted(self.settled()), sorted((str(event["event"]), True) for event in happened))
