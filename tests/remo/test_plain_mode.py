"""Plain mode, and somebody on the path: what it notices, and exactly what it does not.

The security section of the page has the same list.
"""

from __future__ import annotations

from pysftpserver.remo.client import Client, RemoError, Security
from tests.remo import oldstyle
from tests.remo.on_the_path import PathCase
from tests.remo.proxy import Answer, Proxy, Request
from tests.remo.serving import USER, RemoCase, server_key, user_key
from tests.remo.test_on_the_path import flipped

PARTS = (b"one ", b"two ", b"three ", b"four ")


class ServerSide(PathCase):
    """An old-style client in plain mode, and our server."""

    def setUp(self) -> None:
        super().setUp()
        self.client = self.old(port=self.proxy.port)

    def stored(self) -> bytes:
        """What is in a file that the client stores."""
        self.client.ask("POST", "put", "stored", *PARTS)
        return (self.place / "stored").read_bytes()

    # --- what it does not notice --------------------------------------------------------------------------

    def test_plain_mode_does_not_notice_a_request_that_comes_again(self) -> None:
        self.client.ask("GET", "cmd", self.marking)
        self.assertEqual(self.proxy.send(self.last("cmd")).status, 200)
        self.client.send("GET", "/info")
        self.assertEqual(self.proxy.send(self.last("cmd")).status, 200)
        self.assertEqual(self.runs(), 3)

    def test_plain_mode_does_not_notice_a_request_of_long_ago(self) -> None:
        self.client.ahead = -86400
        self.client.ask("GET", "cmd", self.marking)
        self.assertEqual(self.runs(), 1)

    def test_plain_mode_does_not_notice_a_file_that_is_stored_again(self) -> None:
        self.stored()
        (self.place / "stored").write_bytes(b"newer")
        self.proxy.send(self.last("put"))
        self.assertEqual((self.place / "stored").read_bytes(), b"".join(PARTS))

    def test_plain_mode_does_not_notice_parts_that_are_dropped_repeated_or_in_another_order(self) -> None:
        for change, found in (
            (lambda tokens: tokens[1:], b"two three four "),
            (lambda tokens: tokens[:2], b"one two "),
            (lambda tokens: tokens[::-1], b"four three two one "),
            (lambda tokens: tokens[:1] * 3, b"one one one "),
        ):
            with self.subTest(found):
                self.change_request(
                    "put", lambda request, change=change: request.but(tokens=change(request.tokens))
                )
                self.assertEqual(self.stored(), found)

    def test_plain_mode_does_not_notice_a_body_that_is_taken_away(self) -> None:
        self.change_request("put", lambda request: request.but(tokens=[]))
        self.assertEqual(self.stored(), b"")

    def test_plain_mode_does_not_notice_parts_of_another_request(self) -> None:
        self.client.ask("POST", "put", "other", b"other")
        other = self.last("put").tokens
        self.change_request("put", lambda request: request.but(tokens=[*request.tokens[:1], *other]))
        self.assertEqual(self.stored(), b"one other")

    def test_plain_mode_does_not_notice_an_answer_that_comes_as_a_request(self) -> None:
        (self.place / "source").write_bytes(b"a secret of the host")
        (answer,) = self.answers_of(lambda: self.client.ask("GET", "get", "source"))
        self.change_request("put", lambda request: request.but(tokens=answer.tokens or []))
        self.assertEqual(self.stored(), b"a secret of the host")

    def test_plain_mode_does_not_notice_another_argument(self) -> None:
        self.client.ask("GET", "cmd", self.marking)
        earlier = self.last("cmd").path
        self.change_request("cmd", lambda request: request.but(path=earlier))
        self.client.ask("GET", "cmd", "echo")
        self.assertEqual(self.runs(), 2)

    def test_plain_mode_does_not_notice_that_what_was_read_or_stored_is_run(self) -> None:
        script = self.place / "script"
        script.write_text(f"#!/bin/sh\necho x >> {self.marks}\n")
        script.chmod(0o755)
        self.change_request("get", lambda request: request.but(word="cmd"))
        self.client.ask("GET", "get", str(script))
        self.assertEqual(self.runs(), 1)
        # Even the content of a file: a token is a token, in a path and in a body.
        self.client.ask("POST", "put", "notes", self.marking.encode())
        token = self.last("put").tokens[0].decode()
        headers = self.last("put").headers
        self.assertEqual(self.proxy.send(Request("GET", f"/cmd/{token}", headers)).status, 200)
        self.assertEqual(self.runs(), 2)

    def test_an_old_clients_first_request_in_numbers_is_a_plain_one_when_its_body_is_taken_away(self) -> None:
        client = self.old(is_numbered=True, port=self.proxy.port)
        self.change_request("put", lambda request: request.but(tokens=[]))
        path = client.path("put", "stored")
        answer = client.request("POST", path, client.seal(path, PARTS))
        self.assertEqual((answer.status, (self.place / "stored").read_bytes()), (200, b""))
        with self.assertRaises(ValueError):  # but the client notices
            client.opened(answer)

    # --- what it does -------------------------------------------------------------------------------------

    def test_plain_mode_notices_tokens_that_are_changed_or_of_another_session(self) -> None:
        other = self.old(port=self.proxy.port)
        other.ask("POST", "put", "other", *PARTS)
        theirs = self.last("put")
        (self.place / "stored").write_bytes(b"as it was")
        for name, change in {
            "a letter": lambda request: request.but(tokens=[*request.tokens[:1], flipped(request.tokens[1])]),
            "shorter": lambda request: request.but(tokens=[request.tokens[0][:-4], *request.tokens[1:]]),
            "of another session": lambda request: request.but(tokens=theirs.tokens),
            "one of another session": lambda request: request.but(
                tokens=[request.tokens[0], theirs.tokens[1]]
            ),
            "the argument": lambda request: request.but(path=flipped(request.path.encode()).decode()),
            "the argument of another session": lambda request: request.but(path=theirs.path),
            "the cookie": lambda request: request.but(headers=theirs.headers),
            "no cookie": lambda request: request.but(headers={}),
            "cut off": lambda request: request.but(cut=True),
        }.items():
            with self.subTest(name):
                self.change_request("put", change)
                with self.assertRaises(oldstyle.Refused) as caught:
                    self.stored()
                self.assertIn(caught.exception.status, (400, 403))
                self.assertEqual((self.place / "stored").read_bytes(), b"as it was")
        self.assertEqual(self.leftovers(), [])
        self.assertEqual(self.stored(), b"".join(PARTS))

    def test_plain_mode_has_logins_that_cannot_come_again(self) -> None:
        before = len(self.served.sessions)
        self.assertEqual(self.proxy.send(self.last("auth").but(headers={})).status, 403)
        self.assertEqual(len(self.served.sessions), before)

    def test_a_command_does_not_run_when_its_input_is_not_the_sessions(self) -> None:
        self.change_request(
            "cmd", lambda request: request.but(tokens=[*request.tokens[:-1], flipped(request.tokens[-1])])
        )
        with self.assertRaises(oldstyle.Refused):
            self.client.ask("POST", "cmd", self.marking, *PARTS)
        self.assertEqual(self.runs(), 0)


class ClientSide(RemoCase):
    """Our client, and an old-style server that knows plain mode only."""

    def setUp(self) -> None:
        super().setUp()
        self.theirs = oldstyle.Server("plain", USER, user_key().public_key(), server_key())
        self.addCleanup(self.theirs.stop)
        self.theirs.files[b"file"] = bytes(1000) + b"x" * 1000 + b"y" * 1000
        self.theirs.files[b"other"] = b"another"
        self.proxy = Proxy(self.theirs.port)
        self.addCleanup(self.proxy.stop)
        self.remote: Client = self.connect(self.proxy.port)
        self.assertFalse(self.remote.is_numbered)

    def given(self, answer: Answer) -> bytes:
        self.proxy.on_answer = lambda request, _: answer if request.word == "get" else _
        return self.remote.read("file")

    def test_plain_mode_does_not_notice_an_answer_with_parts_dropped_repeated_or_in_another_order(
        self,
    ) -> None:
        self.remote.read("file")
        answer = self.proxy.answers[-1]
        assert answer.tokens is not None
        self.assertEqual(self.given(answer.but(tokens=answer.tokens[:1])), bytes(1000))
        self.assertEqual(self.given(answer.but(tokens=[])), b"")
        self.assertEqual(self.given(answer.but(tokens=answer.tokens[::-1]))[:1000], b"y" * 1000)
        self.assertEqual(len(self.given(answer.but(tokens=answer.tokens * 2))), 6000)

    def test_plain_mode_does_not_notice_the_answer_of_another_request_or_of_long_ago(self) -> None:
        self.theirs.ahead = -86400
        self.remote.read("other")
        self.assertEqual(self.given(self.proxy.answers[-1]), b"another")

    def test_plain_mode_does_not_notice_a_part_of_the_request_as_the_answer(self) -> None:
        self.proxy.on_request = lambda request: (
            Answer(200, {}, [request.path.rpartition("/")[2].encode()])
            if request.word in ("get", "cmd")
            else request
        )
        self.assertEqual(self.remote.read("file"), b"file")
        self.assertEqual(self.remote.run("make it so").output, b"make it so")

    def test_plain_mode_does_not_notice_that_a_failure_is_made_success_or_the_reverse(self) -> None:
        self.proxy.on_answer = lambda request, answer: Answer(200, {}, [])
        self.remote.put(b"content", "stored")
        self.assertEqual(self.remote.read("missing"), b"")
        self.proxy.on_answer = lambda request, answer: Answer(400, {}, None)
        with self.assertRaises(RemoError):
            self.remote.put(b"content", "stored twice")
        self.assertIn(b"stored twice", self.theirs.files)

    def test_plain_mode_notices_answers_that_are_changed_not_encrypted_or_of_another_session(self) -> None:
        other = self.connect(self.proxy.port)
        other.read("file")
        theirs = self.proxy.answers[-1]
        assert theirs.tokens is not None
        for answer in (
            theirs,
            theirs.but(tokens=[flipped(theirs.tokens[0])]),
            Answer(200, {}, None, b"content"),
            Answer(200, {}, [b"content"]),
        ):
            with self.assertRaises(Security):
                self.given(answer)

    def test_an_answer_that_breaks_off_is_noticed_as_far_as_http_does(self) -> None:
        self.remote.read("file")
        answer = self.proxy.answers[-1]
        with self.assertRaises(RemoError):
            self.given(answer.but(cut=True))

    def test_somebody_between_can_talk_a_client_into_plain_mode_if_it_accepts_that(self) -> None:
        proxy = Proxy(self.served.port)
        self.addCleanup(proxy.stop)
        proxy.on_request = lambda request: (
            Answer(404, {}, None)
            if request.word == "sts" or request.tokens and request.word == "get"
            else request
        )
        self.assertFalse(self.connect(proxy.port).is_numbered)
        with self.assertRaises(Security):
            self.connect(proxy.port, require_numbered=True)
        self.assertTrue(self.connect().is_numbered)
