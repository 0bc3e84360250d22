"""What peers may say to the server: each is answered with a clean status, or left; it serves on."""

from __future__ import annotations

import base64
import json
import random
import sqlite3
import unittest

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x448

from pysftpserver.http.arriving import MOST_CHUNKED
from pysftpserver.remo import crypto, wire
from tests.remo.hosting import USER, HostCase, Login, Peer, chunked, request
from tests.support.waiting import until

INFO = request("GET", "/info")
AUTH = "POST /auth HTTP/1.1\r\nHost: x\r\n"
#: Points of X448 with which the secret is zero, whoever multiplies them.
LOW_ORDER = (bytes(56), b"\1" + bytes(55), b"\xfe" + b"\xff" * 27 + b"\xfe" + b"\xff" * 27)
NO_LENGTHS = ("+5", "-1", "5 5", "0x5", "1_0", "5,5", "five", "", "9" * 19, "9" * 5000, "\xb2", "1.0", "1e3")
NO_CHUNKS = (
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    b"-1\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\n0\n\n",
    b"\r\n\r\n",
    b"g\r\n",
    b"ffffffffffffffff\r\nhello",
    b"4\r\nhello\r\n0\r\n\r\n",
    b"5;" + b"x" * 200_000 + b"\r\nhello\r\n0\r\n\r\n",
    b"0\r\n" + b"x: y\r\n" * 60_000 + b"\r\n",
    b"x" * 200_000,
)
NO_REQUESTS = {
    "nothing that is a request": (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
    "two words": (b"GET /info\r\n\r\n", 400),
    "no version": (b"GET /info HTTP\r\n\r\n", 400),
    "a version of the future": (b"GET /info HTTP/2.0\r\n\r\n", 505),
    "lines that end in LF only": (b"GET /info HTTP/1.1\nHost: x\n\n", 400),
    "an URI without end": (b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n", 414),
    "a path with an odd address": (b"GET //[::1 HTTP/1.1\r\n\r\n", 400),
    "an URI of another host": (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
    "a header without end": (b"GET /info HTTP/1.1\r\nX: " + b"x" * 200_000, 413),
    "headers without end": (b"GET /info HTTP/1.1\r\n" + b"X: y\r\n" * 50_000, 400),
    "a folded line for the first": (b"GET /info HTTP/1.1\r\n folded\r\n\r\n", 400),
    "a folded length": (b"POST /auth HTTP/1.1\r\nContent-Length: 0\r\n 5\r\n\r\nhello", 400),
    "a header without a colon": (b"GET /info HTTP/1.1\r\nHost\r\n\r\n", 400),
    "a header without a name": (b"GET /info HTTP/1.1\r\n: x\r\n\r\n", 400),
    "a name with a space": (b"POST /auth HTTP/1.1\r\nContent-Length : 5\r\n\r\nhello", 400),
    "a NUL in a header": (b"GET /info HTTP/1.1\r\nX: \0\r\n\r\n", 400),
    "a CR in a header": (b"GET /info HTTP/1.1\r\nX: a\rContent-Length: 5\r\n\r\n", 400),
    "a tunnel": (b"CONNECT x:80 HTTP/1.1\r\n\r\n", 405),
}
SMUGGLING = {
    "a length and chunks": "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "chunks and a length": "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "two lengths": "Content-Length: 5\r\nContent-Length: 0",
    "the same length twice": "Content-Length: 0\r\nContent-Length: 0",
    "two codings": "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    "chunks twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "chunks in chunks": "Transfer-Encoding: chunked, chunked",
    "a coding that is not known": "Transfer-Encoding: xchunked",
    "no coding": "Transfer-Encoding: identity",
    "an empty coding": "Transfer-Encoding:",
}


class Requests(HostCase):
    def test_what_is_no_request_is_told_so_and_the_connection_ends(self) -> None:
        for what, (said, status) in NO_REQUESTS.items():
            with self.subTest(what), self.host.raw() as raw:
                answer = raw.ask(said)
                self.assertEqual(answer.status, status)
                self.assertTrue(answer.closes)
                self.assertTrue(raw.is_over())

    def test_a_length_that_is_none_is_refused_and_nothing_behind_it_is_taken_for_a_request(self) -> None:
        for length in NO_LENGTHS:
            with self.subTest(length[:40]), self.host.raw() as raw:
                answer = raw.ask(f"{AUTH}Content-Length: {length}\r\n\r\n".encode("latin-1") + INFO)
                self.assertEqual(answer.status, 400)
                self.assertTrue(raw.is_over())

    def test_a_body_that_may_be_read_in_two_ways_is_refused_and_not_read_in_either(self) -> None:
        for what, headers in SMUGGLING.items():
            with self.subTest(what), self.host.raw() as raw:
                answer = raw.ask(f"{AUTH}{headers}\r\n\r\n".encode() + b"0\r\n\r\n" + INFO)
                self.assertIn(answer.status, (400, 501))
                self.assertTrue(raw.is_over())

    def test_http_1_0_has_no_chunks(self) -> None:
        head = AUTH.replace("1.1", "1.0") + "Connection: Keep-Alive\r\nTransfer-Encoding: chunked\r\n\r\n"
        raw = self.connect()
        self.assertEqual(raw.ask(head.encode() + b"0\r\n\r\n" + INFO).status, 400)
        self.assertTrue(raw.is_over())

    def test_a_header_with_an_underscore_is_nobody_s(self) -> None:
        for header in ("Content_Length: 5", "Transfer_Encoding: chunked"):
            with self.subTest(header), self.host.raw() as raw:
                self.assertEqual(raw.ask(f"{AUTH}{header}\r\n\r\n".encode()).status, 200)
                self.assertEqual(raw.ask(INFO).status, 200)

    def test_chunks_that_are_none_are_refused(self) -> None:
        for body in NO_CHUNKS:
            with self.subTest(body[:40]), self.host.raw() as raw:
                answer = raw.ask(f"{AUTH}Transfer-Encoding: chunked\r\n\r\n".encode() + body + INFO)
                self.assertEqual(answer.status, 413 if len(body) > MOST_CHUNKED else 400)
                self.assertTrue(answer.closes)
                self.assertTrue(raw.is_over())

    def test_requests_that_come_all_at_once_are_answered_in_their_order(self) -> None:
        paths = ("/info", "/get/x", "/info", "/nowhere", "/info")
        raw = self.connect()
        raw.say(b"".join(request("GET", path) for path in paths * 20))
        found = [getattr(raw.answer(), "status", None) for _ in paths * 20]
        self.assertEqual(found, [200, 403, 200, 403, 200] * 20)

    def test_a_refused_body_that_comes_late_is_not_taken_for_a_request(self) -> None:
        for body in (INFO, INFO * 30, b"x" * 40_000 + INFO):
            with self.subTest(len(body)), self.host.raw() as raw:
                head = request("POST", "/nowhere", None, None, f"Content-Length: {len(body)}")
                self.assertEqual(raw.ask(head + body[:10]).status, 403)
                raw.say(body[10:])
                self.assertTrue(raw.is_over())

    def test_a_refused_body_that_is_there_spares_the_connection(self) -> None:
        raw = self.connect()
        for status in (403, 400, 413):
            path, body = ("/nowhere", b"x" * 1000) if status == 403 else ("/auth", b"{" * 1000)
            if status == 413:
                body = b"x" * 20_000
            with self.subTest(status):
                self.assertEqual(raw.ask(request("POST", path, body)).status, status)
                if status != 413:
                    self.assertEqual(raw.ask(INFO).status, 200)

    def assert_refused(self, head: bytes, piece: bytes, status: int) -> None:
        """What is said behind a refusal is taken, so that nothing is reset and the answer arrives."""
        with self.host.raw() as raw:
            raw.socket.sendall(head)
            for _ in range(32):
                raw.socket.sendall(piece)
            answer = raw.answer()
            self.assertEqual(getattr(answer, "status", None), status)
            self.assertTrue(raw.is_over())

    def test_the_refusal_of_a_body_without_end_arrives(self) -> None:
        for length in ("1099511627776", "999999999999999999"):
            for path, status in (("/auth", 413), ("/put/x", 403)):
                with self.subTest(length, path=path):
                    head = request("POST", path, None, None, f"Content-Length: {length}")
                    self.assert_refused(head, bytes(65536), status)

    def test_the_refusal_of_chunks_without_end_arrives(self) -> None:
        for piece in (b"10000\r\n" + bytes(65536) + b"\r\n", b"1\r\nx\r\n" * 10_000):
            for path, status in (("/auth", 413), ("/put/x", 403)):
                with self.subTest(piece[:10], path=path):
                    head = request("POST", path, None, None, "Transfer-Encoding: chunked")
                    self.assert_refused(head, piece, status)

    def test_a_peer_that_waits_for_leave_to_send_its_body_gets_the_refusal_at_once(self) -> None:
        for header in ("Expect: 100-continue", "X: y"):
            with self.subTest(header):
                head = request("POST", "/put/x", None, None, "Content-Length: 1000", header)
                self.assertEqual(self.one(head).status, 403)

    def test_an_answer_to_head_has_no_body(self) -> None:
        raw = self.connect()
        raw.say(request("HEAD", "/info"), INFO)
        first, second = raw.answer(has_body=False), raw.answer()
        self.assertEqual((first.status, second.status), (200, 200))  # type: ignore[union-attr]
        self.assertEqual(second.body, wire.NAME.encode())  # type: ignore[union-attr]

    def test_cookies_that_are_none_open_nothing(self) -> None:
        for cookie in ("", "x", "x" * 5000, '"\\"', "\xff", "a; SESSION_ID=", "../..", "\x01"):
            with self.subTest(cookie[:20]):
                self.assertEqual(self.one(request("GET", "/sts", None, cookie)).status, 403)

    def test_connections_that_are_half_closed_are_answered(self) -> None:
        raw = self.connect()
        raw.say(INFO)
        raw.socket.shutdown(1)
        self.assertEqual(raw.answer().status, 200)  # type: ignore[union-attr]
        self.assertTrue(raw.is_over())

    def test_connections_that_break_at_any_place_leave_nothing(self) -> None:
        whole = request("POST", "/auth", b'{"user": "x"}')
        before = len(self.host.descriptors())
        for end in (0, 1, 20, len(whole) - 5, len(whole)):
            for way in ("reset", "close"):
                raw = self.host.raw()
                raw.say(whole[:end])
                getattr(raw, way)()
        until(lambda: len(self.host.descriptors()) <= before, "descriptors are left")

    def test_whatever_bytes_come_it_serves_on(self) -> None:
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        whole = request("POST", "/auth", b"x" * 20, "abc", "Expect: 100-continue") + INFO
        for number in range(150):
            said = bytearray(whole)
            for _ in range(chance.randint(1, 5)):
                at = chance.randrange(len(said))
                said[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
            with self.subTest(seed=seed, number=number), self.host.raw() as raw:
                raw.say(bytes(said))
                raw.socket.shutdown(1)
                while (answer := raw.answer(has_body=not said.startswith(b"HEAD"))) is not None:
                    self.assertIn(answer.status, (200, 400, 403, 405, 413, 414, 501, 505))


class Logins(HostCase):
    def refused(self, body: bytes) -> int:
        answer = self.one(request("POST", "/auth", body))
        self.assertTrue(answer.is_whole)
        return answer.status

    def test_what_is_no_login_is_400(self) -> None:
        good = json.loads(Login(USER, self.host.user_key).body)
        for body in (
            *(
                b"x",
                b"{",
                b"[]",
                b"null",
                b'"x"',
                b"{}",
                b"1" * 5000,
                b"[" * 16_000,
                b"\xff",
                b'{"user": "\xff"}',
            ),
            json.dumps([good]).encode(),
            *(json.dumps({**good, name: value}).encode() for name in good for value in (None, 1, [], {})),
            *(json.dumps({key: good[key] for key in good if key != name}).encode() for name in good),
            *(
                json.dumps({**good, name: value}).encode()
                for name in ("key", "sign")
                for value in ("!", "A", "AA=", "AAAA\n", "\u00e4", good[name][:-1] + "\0", "+/+/")
            ),
            json.dumps({**good, "user": "\ud800"}).encode(),
        ):
            with self.subTest(body[:60]):
                self.assertEqual(self.refused(body), 400)

    def test_keys_of_other_lengths_and_curves_are_400(self) -> None:
        others = [
            *(bytes(length) for length in (0, 1, 32, 55, 57, 112, 5000)),
            ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw(),
            ec.generate_private_key(ec.SECP256R1())
            .public_key()
            .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint),
        ]
        for key in others:
            signature = crypto.sign(self.host.user_key, wire.signed_by_user(USER, key))
            with self.subTest(key[:8]):
                self.assertEqual(self.refused(wire.Login(USER, key, signature).encode()), 400)

    def test_points_of_low_order_are_400_though_a_user_has_signed_them(self) -> None:
        for key in LOW_ORDER:
            signature = crypto.sign(self.host.user_key, wire.signed_by_user(USER, key))
            with self.subTest(key.hex()[:8]):
                self.assertEqual(self.refused(wire.Login(USER, key, signature).encode()), 400)

    def test_a_login_that_is_too_long_is_413(self) -> None:
        self.assertEqual(self.refused(b" " * (wire.MOST_LOGIN + 1)), 413)
        self.assertEqual(self.refused(b" " * wire.MOST_LOGIN), 400)

    def test_only_post_logs_in(self) -> None:
        for method in ("GET", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW"):
            with self.subTest(method), self.host.raw() as raw:
                raw.say(request(method, "/auth"))
                self.assertEqual(raw.answer(has_body=False).status, 405)  # type: ignore[union-attr]


class ForeignKeys(HostCase):
    """Keys in the database that no login can be checked with."""

    # One failure an address, of which nobody has to wait: each test has its own.
    def test_users_with_such_keys_are_refused_as_if_they_were_not_there(self) -> None:
        pem = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        keys = {
            "curve": ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*pem),
            "x448": x448.X448PrivateKey.generate().public_key().public_bytes(*pem),
            "ed25519": ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(*pem),
            "short-rsa": rsa.generate_private_key(65537, 1024).public_key().public_bytes(*pem),
            "private": crypto.private_pem(crypto.new_key(), None),
            "cut": crypto.public_pem(crypto.new_key().public_key())[:60],
            "short": base64.b64encode(bytes(56)),
            "long": b"-----BEGIN " + b"x" * 70_000,
            "none": b"",
        }
        with sqlite3.connect(self.host.place / "users_db.sqlite") as database:
            for name, key in keys.items():
                database.execute("INSERT INTO users (user, pub) VALUES (?, ?)", (name, key.decode()))
            database.execute("INSERT INTO users (user, pub) VALUES (?, NULL)", ("null",))
            pub = crypto.public_pem(self.host.user_key.public_key()).decode()
            database.execute("INSERT INTO users (user, pub, permissions) VALUES ('odd', ?, 'x')", (pub,))
        database.close()
        raws = {}
        for number, name in enumerate((*keys, "null", "odd", "nobody"), 1):
            raws[name] = self.connect(f"127.0.1.{number}")
            raws[name].say(request("POST", "/auth", Login(name, self.host.user_key).body))
        said = [raw.answer() for raw in raws.values()]
        answers = {(answer.status, answer.body) for answer in said if answer is not None}
        self.assertNotIn(None, said)
        self.host.process.said(r"error: login of odd: 'x' is not a permission")
        self.looked = len(self.host.log())  # that one is the administrator's to mend
        self.assertEqual(answers, {(403, b"login refused")})
        self.host.log_in()


class Sessions(HostCase):
    """Somebody who has seen a session's cookie, or is its user, and says what he should not."""

    options = ("--most-token", "100000", "--command-input", "100000", "--most-put", "300000")

    def setUp(self) -> None:
        super().setUp()
        self.peer: Peer = self.host.log_in()
        self.assertEqual(self.one(self.peer.plain("info")).status, 200)

    def test_bodies_that_are_no_tokens_are_400_and_nothing_is_stored(self) -> None:
        good = self.peer.tokens(b"content")
        for body in (
            b"x",
            b"\0" * 1000,
            good[:-10],
            good[10:],
            good + b"x",
            good + b"\xff" * 99,
            b"gAAAAA==\r\n",
            good[:40] + good[41:],
        ):
            with self.subTest(body[:20]):
                self.assertEqual(
                    self.one(self.peer.request("POST", self.peer.path("put", b"/new"), body)).status, 400
                )
                self.assertEqual([path.name for path in self.host.files.iterdir()], ["small"])

    def test_a_token_without_end_is_400(self) -> None:
        head = request(
            "POST", self.peer.path("put", b"/new"), None, self.peer.cookie, "Transfer-Encoding: chunked"
        )
        with self.host.raw() as raw:
            raw.say(head, *[b"8000\r\n" + b"A" * 32768 + b"\r\n"] * 8)
            self.assertEqual(raw.answer().status, 400)  # type: ignore[union-attr]
        self.assertEqual([path.name for path in self.host.files.iterdir()], ["small"])

    def test_files_and_input_that_are_too_long_are_413_and_leave_nothing(self) -> None:
        pieces = (bytes(60_000),) * 10
        for word, argument in (("put", b"/new"), ("cmd", b"touch made"), ("icm", b"touch made")):
            big = pieces if word != "icm" else pieces * 2
            path = self.peer.path(word, argument)
            said = request("POST", path, None, self.peer.cookie, "Transfer-Encoding: chunked")
            with self.subTest(word):
                answer = self.one(said + chunked(self.peer.cipher.encrypt(piece) + b"\r\n" for piece in big))
                self.assertEqual(answer.status, 413)
        self.assertEqual([path.name for path in self.host.files.iterdir()], ["small"])
        self.assertFalse((self.host.place / "made").exists())

    def test_a_body_that_breaks_off_leaves_nothing(self) -> None:
        body = self.peer.tokens(b"content", b"more")
        head = request("POST", self.peer.path("put", b"/new"), None, self.peer.cookie, "Content-Length: 5000")
        for way in ("reset", "close", "shutdown"):
            with self.subTest(way), self.host.raw() as raw:
                raw.say(head + body)
                until(lambda: len(list(self.host.files.iterdir())) == 2, "nothing is being stored")
                if way == "shutdown":
                    raw.socket.shutdown(1)
                    self.assertEqual(raw.answer().status, 400)  # type: ignore[union-attr]
                else:
                    getattr(raw, way)()
                until(lambda: len(list(self.host.files.iterdir())) == 1, "something was left")

    def test_a_broken_chunk_in_numbered_mode_ends_the_session(self) -> None:
        for body in (b"5\r\nhello", b"-1\r\n", b"zz\r\n\r\n", b""):
            peer = self.host.log_in()
            self.assertEqual(peer.opened(self.one(peer.numbers("sts"))), b"none")
            head = request("POST", peer.path("put", b"/new"), None, peer.cookie, "Transfer-Encoding: chunked")
            with self.subTest(body), self.host.raw() as raw:
                raw.say(head + body)
                raw.socket.shutdown(1)
                self.assertEqual(raw.answer().status, 400)  # type: ignore[union-attr]
                self.assertEqual(self.one(peer.numbers("sts")).status, 403)

    def test_a_numbered_request_that_is_reset_half_way_ends_the_session_and_stores_nothing(self) -> None:
        peer = self.host.log_in()
        path = peer.path("put", b"/new")
        tokens = peer.sealed(path, b"one", b"two")
        with self.host.raw() as raw:
            raw.say(request("POST", path, None, peer.cookie, "Content-Length: 5000") + tokens[0])
            until(lambda: len(list(self.host.files.iterdir())) == 2, "nothing is being stored")
            raw.reset()
        until(lambda: len(list(self.host.files.iterdir())) == 1, "something was left")
        until(lambda: self.one(request("GET", "/nowhere", None, peer.cookie)).status == 403)
        self.host.process.said(r"session \w{16} of alice: ended, because of a tampered request: ")

    def test_odd_paths_are_clean_statuses(self) -> None:
        paths = {
            "/nowhere": 404,
            "/": 404,
            "/get": 404,
            "/info/": 404,
            "/idt/x": 404,
            "/get/": 400,
            "/get/x": 400,
            "/get/%ff": 400,
            "/cmd/x": 403,
            "/pty/x": 403,
            "/get/" + "A" * 60_000: 400,
            self.peer.path("get", b""): 400,
            self.peer.path("get", b"\0"): 400,
            self.peer.path("get", b"/not/there"): 400,
            self.peer.path("get", b"/"): 400,
            self.peer.path("get", b"x" * 20_000): 400,
            self.peer.path("cmd", b""): 400,
            self.peer.path("cmd", b"'"): 400,
            self.peer.path("cmd", b"\0"): 400,
            self.peer.path("cmd", b"no-such-command"): 400,
            self.peer.path("cmd", b"/"): 400,
            self.peer.path("pty", b"80x24"): 400,
            self.peer.path("pty", b"x cat"): 400,
            self.peer.path("win", b"80x24"): 400,
            "/idt": 400,
        }
        raw = self.connect()
        for path, status in paths.items():
            with self.subTest(path[:30]):
                method = "POST" if path == "/idt" else "GET"
                self.assertEqual(raw.ask(self.peer.request(method, path)).status, status)
                self.assertEqual(raw.ask(INFO).status, 200)


if __name__ == "__main__":
    unittest.main()
