"""Logins through real sockets, plain and encrypted, by the formulas of the page written once more."""

from __future__ import annotations

import hashlib
import ssl
import unittest
from typing import Any
from unittest import mock

from pysftpserver.service import throttle
from pysftpserver.sksync import srp
from pysftpserver.sksync.client import ClientTLS, SyncError
from pysftpserver.sksync.tls import server_context
from tests.sksync.certificates import Pair
from tests.sksync.serving import HOST, Directories, RawClient, Served, put, tree

USER, PASSWORD, SALT = "j\u00f6rg", "p\u00e4ss word:", bytes.fromhex("00cf78a7a5")
G = 2


def H(*parts: bytes) -> bytes:
    return hashlib.sha1(b"".join(parts)).digest()


def b(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


N = srp.PRIME  # RFC 5054's; that it is the right one is tested where the formulas are


class Login:
    """A client's side, from the page's formulas."""

    def __init__(self, user: str = USER, password: str = PASSWORD, private: int = 0xA1B2 << 240) -> None:
        self.user, self.password, self.private = user, password, private
        self.A = pow(G, private, N)

    def start(self, public: int | None = None) -> bytes:
        return b"PYSKSYNC SRP START:%s %x\n" % (
            self.user.encode().hex().encode(),
            self.A if public is None else public,
        )

    def proof(self, answer: bytes) -> bytes:
        salt_hex, b_hex = answer.split()
        salt, B = bytes.fromhex(salt_hex.decode()), int(b_hex, 16)
        k = int.from_bytes(H(b(N), b(G)), "big")
        u = int.from_bytes(H(b(self.A), b(B)), "big")
        x = int.from_bytes(H(salt, H(f"{self.user}:{self.password}".encode())), "big")
        S = pow(B - k * pow(G, x, N), self.private + u * x, N)
        self.K = H(b(S))
        mixed = bytes(one ^ other for one, other in zip(H(b(N)), H(b(G)), strict=True))
        self.M = H(mixed, H(self.user.encode()), salt, b(self.A), b(B), self.K)
        return self.M.hex().encode() + b"\n"

    def expected(self) -> bytes:
        return H(b(self.A), self.M, self.K).hex().encode() + b"\n"


def verifier(user: str = USER, password: str = PASSWORD) -> int:
    return pow(G, int.from_bytes(H(SALT, H(f"{user}:{password}".encode())), "big"), N)


class LoginCase(Directories):
    """Without TLS; what inherits from it, with."""

    client_context: ssl.SSLContext | None = None
    tls: ClientTLS | None = None

    def setUp(self) -> None:
        super().setUp()
        put(self.there, "f", b"content")
        unlimited = mock.patch.object(throttle, "FREE", 1000)  # all come from one address
        unlimited.start()
        self.addCleanup(unlimited.stop)

    def server(self, **keys: Any) -> Served:
        users = {USER: {"authsrp": [SALT.hex(), f"{verifier():x}"]}}
        return self.serve(require_auth=True, users=users, context=self.server_context(), **keys)

    def server_context(self) -> ssl.SSLContext | None:
        return None

    def connect(self, served: Served) -> RawClient:
        return self.raw(served.port, context=self.client_context)


class Plain(LoginCase):
    def test_the_right_password_logs_in_by_the_formulas_and_the_server_proves_itself(self) -> None:
        served = self.server()
        for private in (3, 0xABC << 200, N - 5):
            with self.subTest(private % 1000):
                login, client = Login(private=private), self.connect(served)
                client.say(login.start())
                client.say(login.proof(client.line()))
                self.assertEqual(client.line(), login.expected())
                client.say(b"pysksync 1\n5\n0\nthere\nhere\n\n")
                self.assertEqual(client.line(), b"Protocol Established\n")
                self.assertTrue(client.rest().endswith(b"\n7\ncontent\n"))
        self.assertIn(ascii(USER)[1:-1], served.log.wait("sent 1 files"))

    def test_whatever_is_wrong_with_a_login_the_reply_is_the_same(self) -> None:
        served = self.server()
        good, client = Login(), self.connect(served)
        client.say(good.start())
        replayed = good.proof(client.line())
        client.say(replayed)
        self.assertEqual(client.line(), good.expected())
        for what, login in (("password", Login(password="wrong")), ("user", Login(user="nobody"))):
            with self.subTest(what):
                client = self.connect(served)
                client.say(login.start())
                answer = client.line()
                self.assertRegex(answer, rb"\A[0-9a-f]+ [0-9a-f]+\n\Z")
                client.say(login.proof(answer))
                self.assertEqual(client.rest(), b"\n")
        for what, proof in (
            ("replayed", replayed),
            ("empty", b"\n"),
            ("no hex", b"zz\n"),
            ("short", b"00\n"),
        ):
            with self.subTest(what):
                client = self.connect(served)
                client.say(good.start())
                client.line()
                client.say(proof)
                self.assertEqual(client.rest(), b"\n")
        for what, start in (
            ("A = 0", good.start(0)),
            ("A = N", good.start(N)),
            ("A = 2N", good.start(2 * N)),
            ("no A", b"PYSKSYNC SRP START:61\n"),
            ("no hex", b"PYSKSYNC SRP START:zz zz\n"),
        ):
            with self.subTest(what):
                client = self.connect(served)
                client.say(start)
                self.assertEqual(client.rest(), b"\n")
        served.log.wait("login refused", 11)
        self.assertEqual([line for line in served.log.lines if "nobody" in line], [])
        self.assertEqual(self.sync(served.port, login=(USER, PASSWORD), tls=self.tls).bytes, 7)

    def test_an_unknown_user_has_the_same_salt_each_time_as_a_known_one_has(self) -> None:
        served = self.server()
        salts: dict[str, set[bytes]] = {USER: set(), "nobody": set(), "nobody else": set()}
        for user in salts:
            for _ in range(3):
                client = self.connect(served)
                client.say(Login(user).start())
                salts[user].add(client.line().split()[0])
        self.assertEqual([len(found) for found in salts.values()], [1, 1, 1])
        self.assertEqual(len(set.union(*salts.values())), 3)

    def test_without_a_login_the_reply_is_a_bare_line_feed(self) -> None:
        served = self.server()
        client = self.connect(served)
        client.say(b"pysksync 2\n")
        self.assertEqual(client.rest(), b"\n")
        served.log.wait("does not log in")

    def test_a_user_may_log_in_where_nobody_has_to(self) -> None:
        users = {USER: {"authsrp": [SALT.hex(), f"{verifier():x}"]}}
        served = self.serve(users=users, context=self.server_context())
        self.assertEqual(self.sync(served.port, login=(USER, PASSWORD), tls=self.tls).bytes, 7)
        with self.assertRaisesRegex(SyncError, "refused the login"):
            self.sync(served.port, login=(USER, "wrong"), tls=self.tls)

    def test_our_client_logs_in_and_says_when_it_may_not(self) -> None:
        served = self.server()
        for is_dry in (True, False):
            for login in ((USER, "wrong"), ("nobody", PASSWORD), (USER, "")):
                with self.assertRaisesRegex(SyncError, "refused the login: check username and password"):
                    self.sync(served.port, is_dry, login=login, tls=self.tls)
        self.assertEqual(tree(self.here), {})
        self.assertEqual(set(self.sync(served.port, login=(USER, PASSWORD), tls=self.tls).received), {"f"})

    def test_a_login_in_single_bytes_is_the_same_login(self) -> None:
        served = self.server()
        login, client = Login(), self.connect(served)
        client.say(*(bytes([byte]) for byte in login.start()))
        client.say(*(bytes([byte]) for byte in login.proof(client.line())))
        self.assertEqual(client.line(), login.expected())


class Encrypted(Plain):
    def setUp(self) -> None:
        super().setUp()
        self.pair = Pair(self.place, "server", (HOST,))
        self.tls = ClientTLS(self.pair.certfile)
        self.client_context = ssl.create_default_context(cafile=self.pair.certfile)
        self.client_context.check_hostname = True

    def server_context(self) -> ssl.SSLContext | None:
        return server_context(self.pair.certfile, self.pair.keyfile, None, "TLSv1.2")


class FalseServers(unittest.TestCase):
    def test_a_server_that_does_not_know_the_verifier_is_told_apart(self) -> None:
        login = srp.ClientLogin(USER, PASSWORD)
        login.prove(SALT, pow(G, 12345, N))
        with self.assertRaises(srp.Refused):
            login.check(bytes(20))
        for public in (0, N, 2 * N):
            with self.assertRaises(srp.Refused):
                srp.ClientLogin(USER, PASSWORD).prove(SALT, public)
