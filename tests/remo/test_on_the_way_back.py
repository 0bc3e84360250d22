"""Numbered mode, and somebody on the path who aims at the client: it notices, takes nothing for an answer
that is none, and ends its session."""

from __future__ import annotations

import io
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ed448, x448

from pysftpserver.remo.client import RemoError, RequestFailed, Security, Unconnected
from tests.remo import oldstyle
from tests.remo.on_the_path import PathCase
from tests.remo.proxy import Answer, Request
from tests.remo.serving import user_key
from tests.remo.test_on_the_path import CHANGES, FILE

PLAIN = {"Content-Type": "text/plain"}


def said(status: int, text: bytes = b"") -> Answer:
    """An answer that nobody has signed."""
    return Answer(status, PLAIN, None, text)


class Parts(PathCase):
    def setUp(self) -> None:
        super().setUp()
        (self.place / "source").write_bytes(FILE)

    def test_a_file_with_changed_tokens_is_none(self) -> None:
        for name, change in CHANGES.items():
            with self.subTest(name):
                taken = io.BytesIO()
                self.change_answer(
                    "get", lambda answer, change=change: answer.but(tokens=change(answer.tokens or []))
                )
                self.fails(lambda taken=taken: self.remote.get("source", taken), Security)
                self.assertTrue(FILE.startswith(taken.getvalue()))
                self.assertLess(len(taken.getvalue()), len(FILE) + 1)

    def test_a_file_that_breaks_off_is_none(self) -> None:
        for count in (0, 1, 4):
            with self.subTest(count):
                self.change_answer(
                    "get", lambda answer, count=count: answer.but(tokens=answer.tokens[:count], cut=True)
                )
                self.fails(lambda: self.remote.read("source"), RemoError)
        self.change_answer("get", lambda answer: None)
        self.fails(lambda: self.remote.read("source"), Unconnected)

    def test_the_answer_of_another_request_is_refused(self) -> None:
        (earlier,) = self.answers_of(lambda: self.remote.read("source"))
        self.change_answer("get", lambda answer: earlier)
        self.fails(lambda: self.remote.read("users.sqlite"), Security)

    def test_the_answer_of_another_session_of_the_user_is_refused(self) -> None:
        other = self.through()
        self.remote.info()
        (theirs,) = self.answers_of(lambda: other.read("source"))  # with the same number
        self.change_answer("get", lambda answer: theirs)
        self.fails(lambda: self.remote.read("source"), Security)

    def test_parts_of_another_answer_are_refused(self) -> None:
        (earlier,) = self.answers_of(lambda: self.remote.read("source"))
        self.change_answer(
            "get", lambda answer: answer.but(tokens=[answer.tokens[0], *(earlier.tokens or [])[1:]])
        )
        self.fails(lambda: self.remote.read("source"), Security)

    def test_parts_of_the_request_are_refused_as_the_answer(self) -> None:
        def reflected(request: Request) -> Answer:
            return Answer(200, PLAIN, request.tokens)

        self.change_request("put", reflected)
        self.fails(lambda: self.remote.put(FILE, "stored"), Security)
        self.change_request("cmd", reflected)
        self.fails(lambda: self.remote.run(self.marking), Security)
        # The server's first token, and then what the client has sent in the same places.
        requests: list[Request] = []

        def kept(request: Request) -> Request:
            requests.append(request.but())
            self.change_answer(
                "cmd", lambda answer: answer.but(tokens=[answer.tokens[0], *requests[0].tokens[1:]])
            )
            return request

        self.change_request("cmd", kept)
        sink = io.BytesIO()
        self.fails(lambda: self.remote.run("cat", FILE, sink), Security)
        self.assertLessEqual(len(sink.getvalue()), 65536)
        self.assertEqual(self.runs(), 0)

    def test_the_token_of_the_path_is_refused_as_the_answer(self) -> None:
        self.change_request(
            "get", lambda request: Answer(200, PLAIN, [request.path.rpartition("/")[2].encode()])
        )
        self.fails(lambda: self.remote.read("source"), Security)


class Statuses(PathCase):
    def test_another_status_is_refused(self) -> None:
        (self.place / "source").write_bytes(b"source")
        for status in (400, 403, 404, 201, 204, 206, 304, 500):
            with self.subTest(status):
                self.change_answer("get", lambda answer, status=status: answer.but(status=status))
                self.fails(lambda: self.remote.read("source"), Security)

    def test_a_failure_is_not_taken_for_success(self) -> None:
        with self.assertRaises(RequestFailed) as caught:
            self.remote.read("missing")
        self.assertEqual(caught.exception.status, 400)
        for word, work in (
            ("get", lambda: self.remote.read("missing")),
            ("put", lambda: self.remote.put(b"", "missing/file")),
            ("cmd", lambda: self.remote.run("missing-command")),
        ):
            with self.subTest(word):
                self.change_answer(word, lambda answer: answer.but(status=200))
                self.fails(work, Security)

    def test_an_answer_that_nobody_has_signed_is_refused(self) -> None:
        (self.place / "source").write_bytes(b"source")
        for status in (200, 400, 403, 404, 500, 503):
            for text in (b"", b"source"):
                with self.subTest(status, text=text):
                    self.change_answer("get", lambda _, status=status, text=text: said(status, text))
                    self.fails(lambda: self.remote.read("source"), Security)

    def test_a_redirection_is_not_followed(self) -> None:
        target = f"http://127.0.0.1:{self.served.port}/get/x"
        for status in (301, 302, 307, 308):
            answer = Answer(status, {"Location": target}, None)
            self.change_answer("get", lambda _, answer=answer: answer)
            self.fails(lambda: self.remote.read("source"), Security)

    def test_a_stored_file_is_stored_once_whatever_its_answer_becomes(self) -> None:
        self.change_answer("cmd", lambda answer: said(400))
        self.fails(lambda: self.remote.run(self.marking), Security)
        self.assertEqual(self.runs(), 1)

    def test_the_end_of_a_command_cannot_be_made_up(self) -> None:
        command, _ = self.remote.start("cat")
        self.change_answer("idt", lambda answer: said(400))
        self.fails(lambda: command.send(b"x"), Security)


class Logins(PathCase):
    def login_answer(self, change: Callable[[Answer], Answer]) -> None:
        def on_answer(request: Request, answer: Answer) -> Answer:
            return change(answer) if request.word == "auth" else answer

        self.proxy.on_answer = on_answer

    def refused(self, change: Callable[[Answer], Answer]) -> None:
        """Whichever mode the client accepts."""
        self.login_answer(change)
        for require_numbered in (True, False):
            before = len(self.proxy.requests)
            with self.assertRaises(Security):
                self.through(require_numbered=require_numbered)
            self.assertEqual({each.word for each in self.proxy.requests[before:]}, {"auth"})

    def test_a_one_time_key_of_somebody_else_is_refused(self) -> None:
        public = x448.X448PrivateKey.generate().public_key().public_bytes_raw()

        def text(signature: bytes) -> bytes:
            return oldstyle.to_b64(public) + b"\r\n" + oldstyle.to_b64(signature)

        self.refused(lambda answer: answer.but(text=text(ed448.Ed448PrivateKey.generate().sign(public))))
        self.refused(lambda answer: answer.but(text=text(user_key().sign(public))))
        self.refused(
            lambda answer: answer.but(
                text=oldstyle.to_b64(public) + b"\r\n" + answer.text.partition(b"\r\n")[2]
            )
        )
        self.refused(lambda answer: answer.but(text=b"\r\n".join(answer.text.split()[::-1])))
        for broken in (b"", b"x", b"x\r\ny", b"\xff\r\n\xff", text(b"")):
            self.refused(lambda answer, broken=broken: answer.but(text=broken))

    def test_an_earlier_one_time_key_of_the_server_opens_nothing(self) -> None:
        (earlier,) = [answer for answer in self.proxy.answers if len(answer.text) > 200]
        self.login_answer(lambda answer: answer.but(text=earlier.text))
        with self.assertRaises(Security):
            self.through()

    def test_the_cookie_of_another_session_opens_nothing(self) -> None:
        theirs = {"Set-Cookie": f"SESSION_ID={self.ident()}"}
        self.login_answer(lambda answer: answer.but(headers=theirs))
        with self.assertRaises(Security):
            self.through()
        self.login_answer(lambda answer: answer.but(headers={}))
        with self.assertRaises(RemoError):
            self.through()

    def test_a_probe_without_a_signed_answer_is_refused_where_numbers_are_required(self) -> None:
        for status in (200, 400, 404):
            with self.subTest(status):
                self.proxy.on_request = lambda request, status=status: (
                    request if request.word == "auth" else said(status)
                )
                with self.assertRaises(Security):
                    self.through()

    def test_a_client_that_has_spoken_in_numbers_does_not_fall_back(self) -> None:
        remote = self.through(require_numbered=False)
        self.assertTrue(remote.is_numbered)
        self.proxy.on_request = lambda request: request if request.word == "auth" else said(404)
        for _ in range(2):
            with self.assertRaises(Security):
                remote.run(self.marking)
        self.proxy.pass_on()
        self.assertEqual(remote.run(self.marking).output, b"marked\n")
        self.assertTrue(remote.is_numbered)
        self.assertEqual(self.runs(), 1)
