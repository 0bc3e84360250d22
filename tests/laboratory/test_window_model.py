"""The window client without a window: what is said of fields, the states, the log, the last server."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from pysftpserver.laboratory.services.echo import Echo
from pysftpserver.laboratory.window import remembered
from pysftpserver.laboratory.window.events import (
    Chosen,
    Connected,
    Disconnected,
    Event,
    Failed,
    Named,
    Offered,
    Received,
    Sent,
    Target,
)
from pysftpserver.laboratory.window.fields import FIELDS, MOST_SHOWN, fault, harmless
from pysftpserver.laboratory.window.model import (
    MOST_ENTRIES,
    MOST_PENDING,
    PLAINTEXT_WARNING,
    History,
    Kind,
    Model,
    State,
)
from pysftpserver.laboratory.window.worker import Worker
from tests.laboratory.serving import HOST, PASSWORD, ServerCase, is_awaited, noted
from tests.support.waiting import PATIENCE, until

VALUES = {"host": "127.0.0.1", "port": "12800", "name": "Ada", "password": "secret"}


class FakeWorker:
    """Remembers what it was told to do."""

    def __init__(self) -> None:
        self.orders: list[tuple[object, ...]] = []

    def connect(self, attempt: int, target: Target) -> None:
        self.orders.append(("connect", attempt, target))

    def disconnect(self) -> None:
        self.orders.append(("disconnect",))

    def send(self, text: str) -> None:
        self.orders.append(("send", text))

    def choose(self, title: str) -> None:
        self.orders.append(("choose", title))


class ModelCase(unittest.TestCase):
    def setUp(self) -> None:
        self.worker = FakeWorker()
        self.model = Model(self.worker, VALUES, lambda: "12:00:00")

    def said(self) -> list[tuple[str, str]]:
        return [(entry.kind.value, entry.text) for entry in self.model.take_entries()]

    def tell(self, *events: Event) -> None:
        for event in events:
            self.model.on_event(event)

    def connected(self) -> None:
        self.model.connect()
        self.tell(Connected(1, True), Named(1, "Lab"), Offered(1, ("Echo", "Chat"), "Echo"))
        self.model.take_entries()


class Fields(unittest.TestCase):
    def test_what_does_is_not_complained_about(self) -> None:
        good = {
            "host": [
                "127.0.0.1",
                "::1",
                "fe80::1%eth0",
                "localhost",
                "a-b.example.",
                "bücher.example",
                " h ",
            ],
            "port": ["1", "65535", " 12800 "],
            "name": ["Ada", "Ada Lovelace", "Ğ" * 64],
            "password": ["x", " ", "с пробелом"],
        }
        for field, texts in good.items():
            for text in texts:
                with self.subTest(field, text=text):
                    self.assertIsNone(fault(field, text))

    def test_what_does_not_do_gets_a_sentence_that_says_what_would(self) -> None:
        bad = {
            "host": {
                "": "Give the server",
                "192.168.1.300": "four numbers",
                "1.2.3": "four numbers",
                "example.org:80": "port goes into its own field",
                "[::1]": "without brackets",
                "a b": "Not a host name",
                "-a.example": "Not a host name",
                "a..b": "Not a host name",
                "x" * 64: "Not a host name",
                "é" * 100_000: "Not a host name",
            },
            "port": dict.fromkeys(("", "0", "65536", "-1", "http", "１２", "9" * 5000), "1 to 65535"),
            "name": {"": "Give a name", "  ": "Give a name", "x" * 65: "64 characters", "a\nb": "printable"},
            "password": {"": "Give the server's password", "a\0b": "NUL"},
        }
        for field, texts in bad.items():
            for text, words in texts.items():
                with self.subTest(field, text=text[:20]):
                    self.assertRegex(fault(field, text) or "", rf"^(?=[A-Z]).*{words}.*\.$")

    def test_text_from_a_server_is_shown_without_what_drives_a_display(self) -> None:
        self.assertEqual(
            harmless("a\x1b[31m\a\u202eb\r\nc\td\x85\u2028"), "a\\x1b[31m\\x07\\u202eb\nc\\td\\x85\\u2028"
        )
        self.assertEqual(harmless("Grüße, 世界"), "Grüße, 世界")


class BeforeConnecting(ModelCase):
    def test_what_nobody_has_come_to_yet_is_asked_for_and_not_marked(self) -> None:
        model = Model(self.worker, {})
        self.assertIn("IP address", model.hint)
        self.assertFalse(model.is_hint_a_fault)
        self.assertFalse(any(model.is_marked(field) for field in FIELDS))
        self.assertFalse(model.can_connect)

    def test_what_is_wrong_is_marked_as_it_is_typed_and_comes_before_what_is_missing(self) -> None:
        model = Model(self.worker, {})
        model.put("port", "x")
        self.assertTrue(model.is_marked("port"))
        self.assertIn("65535", model.hint)
        model.put("port", "")
        self.assertTrue(model.is_marked("port"))
        model.put("port", "1")
        self.assertFalse(model.is_marked("port"))
        self.assertIn("IP address", model.hint)

    def test_nothing_is_connected_while_something_is_wrong(self) -> None:
        self.model.put("password", "")
        self.model.connect()
        self.assertEqual(self.worker.orders, [])
        self.assertTrue(self.model.is_marked("password"))

    def test_the_worker_gets_what_is_in_the_fields_and_a_key_of_its_own_to_make(self) -> None:
        self.model.put("host", " ::1 ")
        self.model.connect()
        self.assertEqual(self.worker.orders, [("connect", 1, Target("::1", 12800, "Ada", "secret", None))])
        self.assertIs(self.model.state, State.CONNECTING)

    def test_no_encryption_is_warned_of(self) -> None:
        self.assertEqual(self.model.warning, "")
        self.model.encrypts = False
        self.assertEqual(self.model.warning, PLAINTEXT_WARNING)
        self.model.connect()
        self.assertEqual(self.worker.orders[0][2].key, "")  # type: ignore[attr-defined]


class Connecting(ModelCase):
    def test_cancelling_is_done_at_once_and_what_comes_later_is_of_no_interest(self) -> None:
        self.model.connect()
        self.model.cancel()
        self.assertIs(self.model.state, State.DISCONNECTED)
        self.assertEqual(self.worker.orders[1:], [("disconnect",)])
        self.tell(Connected(1, True), Received(1, "late"))
        self.assertIs(self.model.state, State.DISCONNECTED)
        self.model.connect()
        self.tell(Failed(1, "late", False))
        self.assertIs(self.model.state, State.CONNECTING)
        self.assertNotIn("late", str(self.said()))

    def test_a_refusal_is_an_error_and_leads_to_the_password(self) -> None:
        self.model.connect()
        self.tell(Failed(1, "wrong password", True))
        self.assertEqual(self.said()[-1], ("error", "wrong password"))
        self.assertEqual(self.model.wanted, "password")
        self.assertTrue(self.model.can_connect)

    def test_what_cannot_be_reached_leads_to_the_host(self) -> None:
        self.model.connect()
        self.tell(Failed(1, "refused", False))
        self.assertEqual(self.model.wanted, "host")


class ConnectedModel(ModelCase):
    def test_the_status_says_where_and_how(self) -> None:
        self.connected()
        self.assertEqual(self.model.status, "Connected to Lab (127.0.0.1 port 12800), encrypted")
        self.assertFalse(self.model.can_edit)
        self.model.cancel()
        self.assertIs(self.model.state, State.CONNECTED)

    def test_a_text_is_logged_when_it_is_sent_and_an_answer_when_it_comes(self) -> None:
        self.connected()
        self.assertTrue(self.model.send("hello"))
        self.assertEqual(self.said(), [])
        self.tell(Sent(1, "hello"), Received(1, "hi\aho"))
        self.assertEqual(self.said(), [("sent", "hello"), ("received", "hi\\x07ho")])
        self.tell(Sent(1, "x", "closed"))
        self.assertEqual(self.said(), [("error", "not sent, closed: x")])

    def test_a_server_that_takes_nothing_is_not_given_ever_more(self) -> None:
        self.connected()
        self.assertTrue(all(self.model.send("x") for _ in range(MOST_PENDING)))
        self.assertFalse(self.model.send("x"))
        self.assertEqual(self.said()[-1][0], "error")
        self.tell(Sent(1, "x"))
        self.assertTrue(self.model.send("x"))

    def test_services_are_chosen_from_those_there_are(self) -> None:
        self.connected()
        self.model.choose("Nonsense")
        self.model.choose("Echo")
        self.model.choose("Chat")
        self.assertEqual(self.worker.orders[1:], [("choose", "Chat")])
        self.assertEqual(self.model.service, "Echo")
        self.tell(Chosen(1, "Chat"))
        self.assertEqual(self.model.service, "Chat")
        self.tell(Chosen(1, "Echo", "no"))
        self.assertEqual(self.model.service, "Chat")
        self.assertEqual(self.said()[-1], ("error", "service Echo: no"))

    def test_the_end_is_information_where_it_was_wanted_and_an_error_where_not(self) -> None:
        self.connected()
        self.model.end()
        self.assertIs(self.model.state, State.DISCONNECTING)
        self.assertFalse(self.model.can_end or self.model.can_send)
        self.tell(Disconnected(1, None))
        self.assertEqual(self.said(), [("information", "disconnected")])
        self.model.connect()
        self.tell(Connected(2, True), Disconnected(2, "the server is going down"))
        self.assertEqual(self.said()[-1], ("error", "the server is going down"))

    def test_the_log_is_bounded_and_so_is_each_text_in_it(self) -> None:
        self.connected()
        self.tell(*(Received(1, str(number)) for number in range(MOST_ENTRIES + 5)))
        self.assertEqual(len(self.said()), MOST_ENTRIES)
        self.tell(Received(1, "x" * (MOST_SHOWN + 7)))
        (entry,) = self.model.take_entries()
        self.assertIs(entry.kind, Kind.RECEIVED)
        self.assertTrue(entry.text.endswith("x ... (7 more characters are not shown)"))


class HistoryKeys(unittest.TestCase):
    def test_up_and_down_go_through_what_was_sent_and_keep_what_was_being_typed(self) -> None:
        history = History()
        self.assertEqual(history.back("draft"), "draft")
        for text in ("one", "two", "two"):
            history.add(text)
        self.assertEqual([history.back("draft") for _ in range(3)], ["two", "one", "one"])
        self.assertEqual([history.forward("") for _ in range(3)], ["two", "draft", ""])


class LastServer(unittest.TestCase):
    def setUp(self) -> None:
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.file = remembered.path({"XDG_STATE_HOME": directory})
        self.top = Path(directory)

    def test_it_is_kept_with_neither_password_nor_key_for_its_owner_alone(self) -> None:
        remembered.save(self.file, VALUES)
        self.assertEqual(self.file, str(self.top / "pysftplab" / "window.json"))
        self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o600)
        kept = json.loads(Path(self.file).read_text())
        self.assertEqual(kept, {"host": "127.0.0.1", "port": "12800", "name": "Ada"})
        self.assertEqual(remembered.load(self.file), kept)
        self.assertEqual(os.listdir(os.path.dirname(self.file)), ["window.json"])

    def test_a_damaged_file_is_ignored_as_far_as_it_is_damaged(self) -> None:
        os.makedirs(os.path.dirname(self.file))
        for content in (b"", b"{", b"[1]", b"\xff\xfe", b"[" * 4000, b'"x"', b"null"):
            with self.subTest(content[:10]):
                Path(self.file).write_bytes(content)
                self.assertEqual(remembered.load(self.file), {})
        Path(self.file).write_text('{"host": "a b", "port": 80, "name": ["x"], "password": "p"}')
        self.assertEqual(remembered.load(self.file), {"port": "80"})

    def test_the_fields_begin_with_what_is_given_then_with_what_was_last_then_with_what_is_usual(
        self,
    ) -> None:
        last = {"host": "lab.example", "port": "99", "name": "Ada"}
        for given, before, wanted in (
            ({}, {}, {"port": "12800", "name": "account"}),
            ({}, last, last),
            ({"name": "Grace"}, last, {**last, "name": "Grace"}),
            ({"host": "lab.example"}, last, last),
            ({"host": "other"}, last, {"host": "other", "port": "12800", "name": "Ada"}),
            ({"host": "other", "port": "7"}, last, {"host": "other", "port": "7", "name": "Ada"}),
        ):
            with self.subTest(given=given, last=before):
                self.assertEqual(remembered.beginning(given, before, "account"), wanted)

    def test_a_relative_state_directory_is_none(self) -> None:
        with mock.patch.dict(os.environ, {"HOME": "/home/ada"}):
            self.assertEqual(
                remembered.path({"XDG_STATE_HOME": "here"}), "/home/ada/.local/state/pysftplab/window.json"
            )


class WorkerThread(ServerCase):
    def worker(self, remember: Callable[[Target], None] = lambda target: None) -> Worker:
        worker = Worker(remember, timeout=PATIENCE)
        self.addCleanup(worker.stop)
        return worker

    def until(self, worker: Worker, kind: type[Event]) -> list[Event]:  # type: ignore[valid-type]
        found: list[Event] = []
        while not found or not isinstance(found[-1], kind):
            found.append(worker.events.get(timeout=PATIENCE))
        return found

    def target(self, port: int, host: str = HOST, password: str = PASSWORD) -> Target:
        return Target(host, port, "Ada", password, None)

    def test_what_was_typed_before_the_end_is_sent(self) -> None:
        said: list[str] = []
        is_all = threading.Event()

        class Listener(Echo):
            def on_message(self, client: object, text: str) -> None:
                said.append(text)
                if text == "49":
                    is_all.set()

        served = self.serve(Listener())
        worker = self.worker()
        worker.connect(1, self.target(served.port))
        self.until(worker, Offered)
        for number in range(50):
            worker.send(str(number))
        worker.disconnect()
        self.assertEqual(self.until(worker, Disconnected)[-1], Disconnected(1, None))
        self.assertTrue(is_all.wait(PATIENCE), said)
        self.assertEqual(said, [str(number) for number in range(50)])

    def test_every_failure_is_one_line_that_says_what_happened(self) -> None:
        served = self.serve()
        with socket.create_server((HOST, 0)) as closed:
            port = closed.getsockname()[1]
        worker = self.worker()
        worker.connect(1, self.target(served.port, password="wrong"))
        (refused,) = self.until(worker, Failed)
        self.assertEqual(refused, Failed(1, "the server refuses the connection: wrong password", True))
        worker.connect(2, self.target(port))
        (unreachable,) = self.until(worker, Failed)
        self.assertRegex(unreachable.text, r"^the server cannot be reached: .* connection refused$")
        self.assertFalse(unreachable.is_unwelcome)
        unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        with mock.patch("socket.getaddrinfo", side_effect=unknown):
            worker.connect(3, self.target(port, host="nobody.invalid"))
            (unknown,) = self.until(worker, Failed)
        self.assertRegex(unknown.text, "^the server cannot be reached: nobody.invalid port")

    def test_a_server_of_another_kind_and_one_that_says_nothing_are_told_apart(self) -> None:
        with socket.create_server((HOST, 0)) as listener:
            port = listener.getsockname()[1]
            worker = self.worker()
            with noted() as connections:
                worker.connect(1, self.target(port))
                until(lambda: is_awaited("its key", connections), "it does not connect")
            loop = worker._thread.loop
            with mock.patch.object(loop, "time", lambda: time.monotonic() + 2 * PATIENCE):
                loop.call_soon_threadsafe(lambda: None)  # it looks at the clock
                (silent,) = self.until(worker, Failed)
            self.assertRegex(silent.text, "^timed out: .*waiting for its key")
            worker = self.worker()
            listener.accept()[0].close()
            worker.connect(2, self.target(port))
            with listener.accept()[0] as connection:
                connection.sendall(b"220 ready\r\n")
                (other,) = self.until(worker, Failed)
            self.assertRegex(other.text, "^not connected: the server does not speak this protocol")

    def test_a_look_up_that_takes_for_ever_can_be_given_up_and_holds_nothing(self) -> None:
        has_begun, is_over = threading.Event(), threading.Event()
        self.addCleanup(is_over.set)

        def never(*given: object, **named: object) -> list[object]:
            has_begun.set()
            is_over.wait()
            return []

        with mock.patch("socket.getaddrinfo", never):
            worker = Worker(lambda target: None)
            worker.connect(1, self.target(1, host="slow.example"))
            self.assertTrue(has_begun.wait(PATIENCE))
            began = time.monotonic()
            worker.disconnect()
            worker.stop()
            self.assertLess(time.monotonic() - began, PATIENCE / 2)
        looking = [thread for thread in threading.enumerate() if thread.name == "laboratory-look-up"]
        self.assertTrue(all(thread.daemon for thread in looking))

    def test_a_mistake_of_ours_ends_the_connection_and_leaves_no_window_waiting(self) -> None:
        worker = self.worker()
        with mock.patch("pysftpserver.laboratory.client.connect_async", side_effect=KeyError("x")):
            with mock.patch("traceback.print_exc"):
                worker.connect(1, self.target(1))
                (ended,) = self.until(worker, Disconnected)
        self.assertIn("internal error (KeyError)", ended.reason or "")

    def test_a_server_that_cannot_be_remembered_is_said_and_used(self) -> None:
        def fail(target: Target) -> None:
            raise PermissionError(13, "Permission denied")

        served = self.serve()
        worker = self.worker(fail)
        worker.connect(1, self.target(served.port))
        texts = [getattr(event, "text", "") for event in self.until(worker, Offered)]
        if not any("not remembered" in text for text in texts):
            texts.append(worker.events.get(timeout=PATIENCE).text)  # type: ignore[union-attr]
        self.assertIn("this server is not remembered: permission denied", texts)
