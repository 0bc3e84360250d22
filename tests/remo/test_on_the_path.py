"""Numbered mode, and somebody on the path who aims at the server: it notices, does nothing twice, and ends
the session."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pysftpserver.remo.client import RemoError, Security, Unconnected
from tests.remo.on_the_path import PathCase
from tests.remo.proxy import Answer, Request
from tests.remo.serving import RSA_USER, rsa_key
from tests.support.waiting import PATIENCE, until

TOKEN = 65536  # bytes of a file in one
FILE = b"".join(bytes([number]) * TOKEN for number in range(4))

Change = Callable[[list[bytes]], list[bytes]]

#: What can be done to the tokens of a stream of several.
CHANGES: dict[str, Change] = {
    "the first is dropped": lambda tokens: tokens[1:],
    "one is dropped": lambda tokens: tokens[:1] + tokens[2:],
    "the last is dropped": lambda tokens: tokens[:-1],
    "all but the first are dropped": lambda tokens: tokens[:1],
    "the first comes twice": lambda tokens: tokens[:1] + tokens,
    "one comes twice": lambda tokens: tokens[:2] + tokens[1:],
    "the last comes twice": lambda tokens: tokens + tokens[-1:],
    "two change places": lambda tokens: tokens[:1] + [tokens[2], tokens[1]] + tokens[3:],
    "the order is the reverse": lambda tokens: tokens[::-1],
    "one is shorter": lambda tokens: [tokens[0], tokens[1][:-8], *tokens[2:]],
    "one is cut in two": lambda tokens: [tokens[0], tokens[1][:400], tokens[1][400:], *tokens[2:]],
    "a letter is another": lambda tokens: [tokens[0], flipped(tokens[1]), *tokens[2:]],
    "a letter of the first is another": lambda tokens: [flipped(tokens[0]), *tokens[1:]],
    "there are none": lambda tokens: [],
    "they are made up": lambda tokens: [b"gAAAAA" + b"A" * 200] * 3,
}


def flipped(token: bytes) -> bytes:
    """Another letter in the middle."""
    place = len(token) // 2
    return token[:place] + (b"A" if token[place : place + 1] != b"A" else b"B") + token[place + 1 :]


class Replays(PathCase):
    def test_a_request_that_comes_again_is_refused_and_runs_nothing(self) -> None:
        self.assertEqual(self.remote.run(self.marking).output, b"marked\n")
        answers: list[Answer] = []
        self.server_ends(lambda: answers.append(self.proxy.send(self.last("cmd"))))
        self.assertEqual((answers[0].status, answers[0].tokens), (400, None))
        self.assertEqual(self.runs(), 1)
        self.fails(lambda: self.remote.run("echo"), Security)

    def test_a_request_that_comes_again_after_others_is_refused(self) -> None:
        self.remote.run(self.marking)
        replayed = self.last("cmd")
        for _ in range(3):
            self.remote.info()
        self.server_ends(lambda: self.assertEqual(self.proxy.send(replayed).status, 400))
        self.assertEqual(self.runs(), 1)

    def test_the_first_request_of_a_session_that_comes_again_ends_it(self) -> None:
        first = next(request for request in self.proxy.requests if request.word == "sts")
        self.server_ends(lambda: self.assertEqual(self.proxy.send(first).status, 400))

    def test_a_request_that_comes_again_while_it_is_served_ends_it(self) -> None:
        errors: list[RemoError] = []

        def run() -> None:
            try:
                self.remote.run(f"sh -c 'echo x >> {self.marks}; sleep 60'")
            except RemoError as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        until(self.runs, "it does not run")
        self.server_ends(lambda: self.assertEqual(self.proxy.send(self.last("cmd")).status, 400))
        thread.join(PATIENCE)
        self.assertFalse(thread.is_alive())
        self.assertIsInstance(errors[0], Unconnected)
        self.assertEqual(self.runs(), 1)

    def test_a_put_that_comes_again_stores_nothing(self) -> None:
        self.remote.put(FILE, "stored")
        (self.place / "stored").write_bytes(b"another")
        self.server_ends(lambda: self.assertEqual(self.proxy.send(self.last("put")).status, 400))
        self.assertEqual((self.place / "stored").read_bytes(), b"another")

    def test_a_request_that_was_held_back_is_not_served_after_the_next_session_has_begun(self) -> None:
        self.change_request("cmd", lambda request: None)
        self.fails(lambda: self.remote.run(self.marking), Unconnected)
        held = next(request for request in self.proxy.requests if request.word == "cmd")
        moved = held.but(headers={"Cookie": f"SESSION_ID={self.ident()}"})
        self.server_ends(lambda: self.assertEqual(self.proxy.send(moved).status, 400))
        self.assertEqual(self.runs(), 0)

    def test_a_login_that_comes_again_is_refused_and_makes_no_session(self) -> None:
        before = len(self.served.sessions)
        self.assertEqual(self.proxy.send(self.last("auth").but(headers={})).status, 403)
        self.assertEqual(len(self.served.sessions), before)
        self.assertEqual(self.remote.run("echo").output, b"\n")


class Parts(PathCase):
    def changed_put(self, change: Callable[[Request], Request]) -> None:
        self.remote.info()
        self.change_request("put", change)
        self.server_ends(lambda: self.assertRaises(Security, self.remote.put, FILE, "changed"))
        self.assertFalse((self.place / "changed").exists())
        self.assertEqual(self.leftovers(), [])

    def test_a_body_with_changed_tokens_is_not_stored(self) -> None:
        for name, change in CHANGES.items():
            with self.subTest(name):
                self.changed_put(lambda request, change=change: request.but(tokens=change(request.tokens)))

    def test_a_body_that_breaks_off_is_not_stored_and_ends_the_session(self) -> None:
        for count in (0, 1, 3, 4):
            with self.subTest(count):
                self.remote.info()
                self.change_request(
                    "put", lambda request, count=count: request.but(tokens=request.tokens[:count], cut=True)
                )
                self.server_ends(lambda: self.assertRaises(RemoError, self.remote.put, FILE, "changed"))
                self.assertFalse((self.place / "changed").exists())
                self.assertEqual(self.leftovers(), [])

    def test_a_body_that_is_shorter_than_its_length_ends_the_session(self) -> None:
        self.change_request("cmd", lambda request: request.but(is_chunked=False, cut=True))
        self.server_ends(lambda: self.assertRaises(RemoError, self.remote.run, self.marking))
        self.assertEqual(self.runs(), 0)

    def test_nothing_runs_before_all_of_its_input_was_right(self) -> None:
        for name in ("one is dropped", "the last is dropped", "the last comes twice", "two change places"):
            with self.subTest(name):
                change = CHANGES[name]
                self.remote.info()
                self.change_request(
                    "cmd", lambda request, change=change: request.but(tokens=change(request.tokens))
                )
                self.server_ends(lambda: self.assertRaises(Security, self.remote.run, self.marking, FILE))
                self.assertEqual(self.runs(), 0)

    def test_input_of_an_interactive_command_reaches_it_once(self) -> None:
        command, _ = self.remote.start(f"sh -c 'while read line; do echo $line >> {self.marks}; done'")
        command.send(b"one\n")
        until(self.runs, "the input does not arrive")
        self.server_ends(lambda: self.assertEqual(self.proxy.send(self.last("idt")).status, 400))
        self.assertEqual(self.marks.read_text(), "one\n")

    def test_tokens_of_another_request_are_refused(self) -> None:
        self.remote.put(FILE, "other")
        others = self.last("put").tokens
        for count in range(4):
            with self.subTest(count):

                def swapped(request: Request, count: int = count) -> Request:
                    tokens = [*request.tokens]
                    tokens[count] = others[count]
                    return request.but(tokens=tokens)

                self.changed_put(swapped)

    def test_tokens_of_another_session_of_the_user_are_refused(self) -> None:
        other = self.through()
        other.put(FILE, "other")
        others = self.last("put").tokens
        self.remote.info()
        self.changed_put(lambda request: request.but(tokens=[request.tokens[0], *others[1:]]))
        self.changed_put(lambda request: request.but(tokens=others))
        self.assertEqual(other.run("echo other").output, b"other\n")

    def test_parts_of_an_answer_are_refused_as_parts_of_a_request(self) -> None:
        (self.place / "source").write_bytes(FILE)
        (answer,) = self.answers_of(lambda: self.remote.read("source"))
        assert answer.tokens is not None
        theirs = answer.tokens
        self.changed_put(lambda request: request.but(tokens=theirs))
        self.remote.read("source")
        theirs = self.proxy.answers[-1].tokens or []
        self.changed_put(lambda request: request.but(tokens=[request.tokens[0], *theirs[1:]]))
        self.remote.read("source")
        theirs = self.proxy.answers[-1].tokens or []
        # The path's token too: of its own request, and of an answer.
        self.changed_put(lambda request: request.but(path="/put/" + theirs[0].decode()))


class Redirections(PathCase):
    def redirected(self, word: str, work: Callable[[], object], change: Callable[[Request], Request]) -> None:
        if word != "sts":
            self.remote.info()
        self.change_request(word, change)
        self.server_ends(lambda: self.assertRaises(Security, work))
        self.assertEqual(self.runs(), 0)

    def test_a_request_with_another_verb_is_refused(self) -> None:
        (self.place / "read").write_bytes(b"as it was")
        script = self.place / "script"
        script.write_text(f"#!/bin/sh\necho x >> {self.marks}\n")
        script.chmod(0o755)
        for verb in ("put", "cmd", "icm", "lst"):
            with self.subTest("get", to=verb):
                self.redirected(
                    "get",
                    lambda: self.remote.read(str(script)),
                    lambda request, verb=verb: request.but(word=verb, method="POST"),
                )
        for verb in ("icm", "get", "put"):
            with self.subTest("cmd", to=verb):
                self.redirected(
                    "cmd",
                    lambda: self.remote.run(str(script)),
                    lambda request, verb=verb: request.but(word=verb, method="POST"),
                )
        with self.subTest("sts", to="edt"):
            self.remote.start("cat")
            self.redirected("sts", self.remote.outcome, lambda request: request.but(path="/edt"))
        self.assertEqual((self.place / "read").read_bytes(), b"as it was")
        self.assertTrue(script.exists())

    def test_a_request_for_another_argument_is_refused(self) -> None:
        (self.place / "one").write_bytes(b"one")
        self.remote.read("one")
        earlier = self.last("get").path
        for change in (
            lambda request: request.but(path=earlier),
            lambda request: request.but(path=request.path + "/"),
            lambda request: request.but(path=request.path[:-4] + "AAA="),
            lambda request: request.but(path="/get/" + request.tokens[0].decode()),
            lambda request: request.but(path="/x" + request.path),
        ):
            self.redirected("get", lambda: self.remote.read("two"), change)

    def test_a_request_without_its_body_is_refused(self) -> None:
        for word, work in (
            ("cmd", lambda: self.remote.run(self.marking)),
            ("get", lambda: self.remote.read("users.sqlite")),
            ("info", lambda: self.remote.info()),
        ):
            with self.subTest(word):
                self.redirected(word, work, lambda request: request.but(tokens=[]))

    def test_a_request_without_its_cookie_is_nobodys(self) -> None:
        ident = self.ident()
        self.change_request("cmd", lambda request: request.but(headers={}))
        self.fails(lambda: self.remote.run(self.marking), Security)
        self.assertEqual(self.runs(), 0)
        self.assertIsNotNone(self.session(ident))  # nothing was aimed at it

    def test_a_request_with_the_cookie_of_another_session_ends_that_one(self) -> None:
        for how in ({}, {"user": RSA_USER, "key": rsa_key()}):
            with self.subTest(**how):
                other = self.through(**how)
                theirs = self.ident()
                self.change_request(
                    "cmd",
                    lambda request, theirs=theirs: request.but(headers={"Cookie": f"SESSION_ID={theirs}"}),
                )
                self.fails(lambda: self.remote.run(self.marking), Security)
                self.assertEqual(self.runs(), 0)
                self.assertIsNone(self.session(theirs))
                with self.assertRaises(Security):
                    other.info()

    def test_another_method_changes_nothing_that_is_done(self) -> None:
        self.change_request("cmd", lambda request: request.but(method="POST"))
        self.assertEqual(self.remote.run(self.marking).output, b"marked\n")
        self.assertEqual(self.runs(), 1)
        (self.place / "kept").write_bytes(b"as it was")
        self.change_request("put", lambda request: request.but(method="GET"))
        with self.assertRaises(RemoError):
            self.remote.put(b"new", "kept")
        self.assertEqual((self.place / "kept").read_bytes(), b"as it was")

    def test_a_log_out_is_all_that_a_cookie_alone_can_do(self) -> None:
        ident = self.ident()
        headers = {"Cookie": f"SESSION_ID={ident}"}
        self.assertEqual(self.proxy.send(Request("POST", "/auth", headers)).status, 200)
        self.assertIsNone(self.session(ident))
        self.fails(lambda: self.remote.run(self.marking), Security)
        self.assertEqual(self.runs(), 0)
