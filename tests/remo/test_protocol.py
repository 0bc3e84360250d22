"""The protocol's page, line by line: old-style clients and our server."""

from __future__ import annotations

import base64
import hashlib
import http.client
import http.cookies
import json
from typing import Any
from unittest import mock

from tests.remo import oldstyle
from tests.remo.serving import RSA_USER, USER, RemoCase, rsa_key, said_by, server_key, user_key


def logging_in(**changes: Any) -> bytes:
    """The body of a login of the right user; a change to None leaves something out."""
    said = {**json.loads(oldstyle.login(USER, user_key())[0]), **changes}
    return json.dumps({name: value for name, value in said.items() if value is not None}).encode()


class OldClients(RemoCase):
    def refused(self, client: oldstyle.Client, method: str, word: str, *rest: Any) -> int:
        """The status, of a refusal that is signed where it has to be."""
        with self.assertRaises(oldstyle.Refused) as caught:
            client.ask(method, word, *rest)
        self.assertEqual(caught.exception.is_signed, client.is_numbered)
        return caught.exception.status

    def modes(self, *users: str) -> Any:
        """A client in each mode, of each user."""
        for user, key in ((USER, user_key()), (RSA_USER, rsa_key())):
            if users and user not in users:
                continue
            for is_numbered in (False, True):
                with self.subTest(user=user, is_numbered=is_numbered):
                    yield self.old(is_numbered, user=user, key=key)

    def test_files_are_stored_and_fetched_whole(self) -> None:
        parts = [bytes([number]) * (1000 * number) for number in range(1, 30)]
        for client in self.modes():
            for given in (parts, parts[:1], [b""]):
                client.ask("POST", "put", "a name", *given)
                self.assertEqual((self.place / "a name").read_bytes(), b"".join(given))
                self.assertEqual(client.ask("GET", "get", "a name"), b"".join(given))
            self.assertEqual(client.ask("POST", "get", str(self.place / "a name"), b"ignored"), b"")

    def test_an_empty_body_is_an_empty_file_in_plain_mode(self) -> None:
        client = self.old()
        self.assertEqual(client.ask("POST", "put", "empty"), b"")
        self.assertEqual((self.place / "empty").read_bytes(), b"")

    def test_one_token_may_have_a_whole_file_and_lines_may_end_as_they_like(self) -> None:
        client = self.old()
        content = bytes(range(256)) * 8192
        client.ask("POST", "put", "large", content)
        self.assertEqual((self.place / "large").read_bytes(), content)
        tokens = [client.encrypt(part) for part in (b"a", b"b", b"c")]
        for body in (b"\r\n".join(tokens), b"\n".join(tokens), b"\r\n".join([b"", *tokens, b"", b""])):
            self.assertEqual(client.send("POST", client.path("put", "joined"), body).status, 200)
            self.assertEqual((self.place / "joined").read_bytes(), b"abc")

    def test_a_token_may_come_in_any_pieces(self) -> None:
        client = self.old()
        body = b"\r\n".join(client.encrypt(part) for part in (b"a" * 100, b"b" * 100))
        for size in (1, 7, len(body) - 1):
            pieces = (body[start : start + size] for start in range(0, len(body), size))
            self.assertEqual(client.send("POST", client.path("put", "pieces"), pieces).status, 200)
            self.assertEqual((self.place / "pieces").read_bytes(), b"a" * 100 + b"b" * 100)

    def test_commands_run_without_a_shell_with_their_input_and_all_that_they_say(self) -> None:
        for client in self.modes():
            self.assertEqual(client.ask("GET", "cmd", "echo 'a  b' $HOME '*'"), b"a  b $HOME *\n")
            self.assertEqual(client.ask("POST", "cmd", "cat", b"in", b"put"), b"input")
            self.assertEqual(client.ask("POST", "cmd", "sh -c 'echo out; echo err >&2'"), b"out\nerr\n")
            self.assertEqual(client.ask("GET", "cmd", "false"), b"")

    def all_said(self, client: oldstyle.Client, said: bytes, wanted: bytes) -> bytes:
        return said_by(lambda given: client.ask("POST", "idt", None, given), wanted, said)

    def test_interactive_commands_are_talked_to(self) -> None:
        for client in self.modes(USER):
            for method in ("GET", "POST"):
                self.assertEqual(
                    self.all_said(client, client.ask(method, "icm", "cat", b"one\n"), b"one\n"), b"one\n"
                )
                said = client.ask("POST", "idt", None, b"two\n", b"three\n")
                self.assertEqual(self.all_said(client, said, b"two\nthree\n"), b"two\nthree\n")
                self.assertEqual(client.ask("GET", "edt"), b"")
                self.assertEqual(self.refused(client, "POST", "idt", None, b"five"), 400)
                self.assertEqual(self.refused(client, "GET", "edt"), 400)
            client.ask("GET", "icm", "sh -c 'read x; cat; echo end of $x'")
            self.assertEqual(client.ask("POST", "edt", None, b"x\nlast"), b"lastend of x\n")

    def test_every_refusal_has_its_status(self) -> None:
        (self.place / "directory").mkdir(exist_ok=True)
        for client in self.modes():
            self.assertEqual(self.refused(client, "GET", "get", "missing"), 400)
            self.assertEqual(self.refused(client, "GET", "get", "directory"), 400)
            self.assertEqual(self.refused(client, "POST", "put", "missing/file", b"x"), 400)
            self.assertEqual(self.refused(client, "POST", "put", "directory", b"x"), 400)
            self.assertEqual(self.refused(client, "GET", "cmd", "no-such-command"), 400)
            self.assertEqual(self.refused(client, "GET", "cmd", "echo 'open"), 400)
            self.assertEqual(self.refused(client, "GET", "cmd", ""), 400)
            self.assertEqual(self.refused(client, "GET", "icm", "no-such-command"), 400)
            self.assertEqual(self.refused(client, "POST", "idt"), 400)
            self.assertEqual(self.refused(client, "GET", "edt"), 400)
            self.assertEqual(self.refused(client, "GET", "unknown"), 404)
            self.assertEqual(self.refused(client, "GET", ""), 404)
            self.assertEqual(self.refused(client, "GET", "put", "file"), 405)
            self.assertEqual(self.refused(client, "PUT", "get", "file"), 405)
        self.assertEqual([path.name for path in self.place.iterdir() if path.name.startswith(".")], [])

    def test_an_argument_that_does_not_decrypt_is_refused_as_the_page_says(self) -> None:
        for is_numbered in (False, True):
            client, other = self.old(is_numbered), self.old()
            for word, status in (("cmd", 403), ("icm", 403), ("get", 400), ("put", 400)):
                for path in (other.path(word, "echo"), f"/{word}/nonsense", f"/{word}/"):
                    with self.subTest(path[:8], is_numbered=is_numbered):
                        tokens = client.seal(path, ()) if is_numbered else [client.encrypt(b"")]
                        answer = client.request("POST", path, tokens)
                        self.assertEqual(answer.status, status)


class Sessions(RemoCase):
    settings = {"max_per_user": 3}

    def test_what_the_server_is_can_be_asked_without_a_session(self) -> None:
        client = oldstyle.Client(self.served.port)
        self.addCleanup(client.close)
        for method in ("GET", "POST"):
            answer = client.send(method, "/info")
            self.assertEqual((answer.status, answer.tokens), (200, None))
            self.assertRegex(answer.text.decode(), r"^\S+ \d+\.\d+")
        self.assertEqual(self.old().send("GET", "/info").text, answer.text)

    def test_everything_else_is_403_without_a_session(self) -> None:
        client = oldstyle.Client(self.served.port)
        self.addCleanup(client.close)
        paths = (
            "/",
            "/get/x",
            "/put/x",
            "/cmd/x",
            "/icm/x",
            "/idt",
            "/edt",
            "/sts",
            "/unknown",
            "/info/",
            "/..",
        )
        for cookie in ("", "A" * 32, "../../x", '"'):
            client.cookie = cookie
            for path in paths:
                for method in ("GET", "POST", "HEAD", "DELETE"):
                    with self.subTest(path, method=method, cookie=cookie):
                        answer = client.send(method, path)
                        self.assertEqual((answer.status, answer.tokens), (403, None))

    def test_every_answer_has_the_cookie_which_scripts_and_other_sites_do_not_get(self) -> None:
        client = self.old()
        idents = set()
        for method, path in (
            ("GET", "/info"), ("GET", client.path("get", "missing")), ("GET", client.path("cmd", "echo")),
            ("GET", "/unknown"), ("POST", "/idt"), ("GET", "/auth"),
        ):  # fmt: skip
            idents.add(self.ident(client.send(method, path)))
        self.assertEqual(idents, {client.cookie})
        client.cookie = ""
        for method, path, body in (
            ("GET", "/info", None), ("GET", "/get/x", None), ("POST", "/auth", b""), ("POST", "/auth", b"{"),
            ("GET", "/auth", None), ("POST", "/auth", logging_in(user="nobody")),
        ):  # fmt: skip
            idents.add(self.ident(client.send(method, path, body)))
        self.assertEqual(len(idents), 7)

    def ident(self, answer: oldstyle.Answer) -> str:
        cookies = http.cookies.SimpleCookie(answer.headers["set-cookie"])
        (morsel,) = cookies.values()
        self.assertEqual(morsel.key, "SESSION_ID")
        self.assertTrue(morsel["httponly"])
        self.assertEqual((morsel["samesite"], morsel["path"]), ("Strict", "/"))
        self.assertGreaterEqual(len(base64.urlsafe_b64decode(morsel.value + "==")), 16)
        return morsel.value

    def test_a_login_is_answered_with_a_signed_one_time_key(self) -> None:
        client = oldstyle.Client(self.served.port)
        self.addCleanup(client.close)
        keys = set()
        for _ in range(2):
            answer = client.send("POST", "/auth", logging_in())
            self.assertEqual((answer.status, answer.tokens), (200, None))
            lines = answer.text.split(b"\r\n")
            self.assertEqual(len(lines), 2)
            public, signature = map(base64.urlsafe_b64decode, lines)
            self.assertEqual(len(public), 56)
            server_key().public_key().verify(signature, public)
            keys.add(public)
        self.assertEqual(len(keys), 2)

    def test_a_login_within_a_session_ends_that_one(self) -> None:
        client = self.old()
        before = client.cookie
        self.assertEqual(client.log_in(USER, user_key(), server_key().public_key()).status, 200)
        self.assertNotEqual(client.cookie, before)
        self.assertIsNone(self.session(before))
        self.assertEqual(client.ask("GET", "cmd", "echo"), b"\n")

    def test_one_login_too_many_of_a_user_ends_his_session_that_was_used_least_recently(self) -> None:
        clients = [self.old() for _ in range(4)]
        for client in clients:
            client.ask("GET", "cmd", "echo")
        self.assertEqual(
            [self.session(client.cookie) is None for client in clients], [True, False, False, False]
        )


class Numbers(RemoCase):
    """What numbered mode looks like on the wire, byte by byte."""

    def test_a_session_is_in_numbered_mode_from_its_first_numbered_token_for_good(self) -> None:
        client = self.old()
        client.ask("GET", "cmd", "echo")
        self.assertFalse(self.session(client.cookie).is_numbered)
        client.is_numbered = True
        self.assertEqual(client.ask("GET", "cmd", "echo"), b"\n")
        answer = client.send("GET", client.path("cmd", self.marking))
        self.assertEqual((answer.status, answer.tokens), (400, None))
        self.assertIsNone(self.session(client.cookie))
        self.assertEqual(self.runs(), 0)

    def test_every_token_of_an_answer_has_its_numbers_and_the_first_the_status(self) -> None:
        (self.place / "file").write_bytes(b"x" * 200_000)
        client = self.old(is_numbered=True)
        for word, argument, status in (("get", "file", 200), ("get", "missing", 400), ("unknown", None, 404)):
            path = client.path(word, argument)
            answer = client.request("GET", path, client.seal(path, ()))
            self.assertEqual(answer.status, status)
            plain = [client.fernet.decrypt(token) for token in answer.tokens or []]
            for count, part in enumerate(plain):
                magic = (b"." if count else b"B") + (b"E" if count == len(plain) - 1 else b".")
                self.assertEqual(part[:6], magic + bytes([0, client.number, 0, count]))
            self.assertEqual(plain[0][6:9], str(status).encode())
        self.assertGreater(client.number, 2)

    def test_a_numbered_token_with_anything_wrong_in_it_ends_the_session(self) -> None:
        for name, (head, is_right_path) in {
            "another number": (b"BE\0\3\0\0", True),
            "the same number": (b"BE\0\1\0\0", True),
            "number 0": (b"BE\0\0\0\0", True),
            "a negative number": (b"BE\xff\xfe\0\0", True),
            "another token": (b"BE\0\2\0\1", True),
            "not the first": (b".E\0\2\0\0", True),
            "not the last": (b"B.\0\2\0\0", True),
            "no magic": (b"be\0\2\0\0", True),
            "another path": (b"BE\0\2\0\0", False),
            "nothing": (b"", False),
        }.items():
            with self.subTest(name):
                client = self.old(is_numbered=True)
                client.ask("GET", "cmd", "echo")
                path = client.path("cmd", self.marking)
                bound = hashlib.sha384(path.encode() if is_right_path else b"/cmd/").digest()
                answer = client.request("POST", path, [client.encrypt(head + bound if head else b"")])
                self.assertEqual((answer.status, answer.tokens), (400, None))
                self.assertIsNone(self.session(client.cookie))
        self.assertEqual(self.runs(), 0)

    def test_tokens_are_fresh_for_ten_seconds(self) -> None:
        for ahead, is_fresh in (
            (0, True),
            (-8, True),
            (-12, False),
            (-86400, False),
            (40, True),
            (90, False),
        ):
            with self.subTest(ahead):
                client = self.old(is_numbered=True)
                client.ask("GET", "cmd", "echo")
                client.ahead = ahead
                if is_fresh:
                    self.assertEqual(client.ask("GET", "cmd", "echo"), b"\n")
                    continue
                with self.assertRaises(oldstyle.Refused) as caught:
                    client.ask("GET", "cmd", self.marking)
                self.assertEqual(caught.exception.status, 400)
                self.assertIsNone(self.session(client.cookie))
        self.assertEqual(self.runs(), 0)

    def test_an_old_token_in_the_middle_of_a_body_is_refused(self) -> None:
        client = self.old(is_numbered=True)
        path = client.path("put", "aged")
        tokens = client.seal(path, (b"a", b"b", b"c"))
        client.ahead = -12
        tokens[1] = client.seal(path, (b"a", b"b", b"c"), client.number)[1]
        self.assertEqual(client.request("POST", path, tokens).status, 400)
        self.assertIsNone(self.session(client.cookie))
        self.assertFalse((self.place / "aged").exists())

    def test_letters_between_those_of_a_token_do_not_make_it_fresh(self) -> None:
        for junk in (b"!", b"!!!!", b"====", b"\x80" * 8):
            for place in (0, 1, 4, 8, 11):
                with self.subTest(junk, place=place):
                    client = self.old(is_numbered=True)
                    client.ask("GET", "cmd", "echo")
                    client.ahead = -12
                    path = client.path("cmd", self.marking)
                    (token,) = client.seal(path, ())
                    body = token[:place] + junk + token[place:]
                    self.assertEqual(client.send("POST", path, body).status, 400)
                    self.assertIsNone(self.session(client.cookie))
        self.assertEqual(self.runs(), 0)

    def test_numbers_go_on_below_zero(self) -> None:
        client = self.old(is_numbered=True)
        client.ask("GET", "cmd", "echo")
        self.session(client.cookie)._number = client.number = 32766
        for number in (32767, -32768, -32767):
            self.assertEqual(client.ask("GET", "cmd", "echo"), b"\n")
            self.assertEqual(client.number, number)

    def test_after_a_pause_any_number_may_come_but_no_request_twice(self) -> None:
        client = self.old(is_numbered=True)
        client.ask("GET", "cmd", self.marking)
        path = client.path("cmd", self.marking)
        replayed = client.seal(path, (), client.number)
        with mock.patch("pysftpserver.remo.session.PAUSE", 0.0):
            client.ahead, client.number = 1, 6
            self.assertEqual(client.ask("GET", "cmd", self.marking), b"marked\n")
            self.assertEqual(client.ask("GET", "cmd", self.marking), b"marked\n")
            self.assertEqual(client.request("POST", path, replayed).status, 400)
        self.assertIsNone(self.session(client.cookie))
        self.assertEqual(self.runs(), 3)
        client = self.old(is_numbered=True)
        client.ask("GET", "cmd", "echo")
        client.ahead, client.number = 1, 6
        with self.assertRaises(oldstyle.Refused):
            client.ask("GET", "cmd", self.marking)
        self.assertEqual(self.runs(), 3)


class RequiredNumbers(RemoCase):
    settings = {"require_numbered": True}

    def test_a_plain_session_is_refused(self) -> None:
        for tokens in (0, 1, 3):
            client = self.old()
            path = client.path("cmd", self.marking)
            answer = client.request("POST", path, [client.encrypt(b"x")] * tokens)
            self.assertEqual((answer.status, answer.tokens), (400, None))
            self.assertIsNone(self.session(client.cookie))
        self.assertEqual(self.runs(), 0)
        self.assertEqual(self.old(is_numbered=True).ask("GET", "cmd", "echo"), b"\n")
        self.assertTrue(self.connect().is_numbered)
