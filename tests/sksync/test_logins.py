"""Logins through real sockets, plain and encrypted, by the formulas of the page in srp_integers."""

from __future__ import annotations

import ssl
from typing import Any
from unittest import mock

from pysftpserver.service import throttle
from pysftpserver.sksync.client import ClientTLS, SyncError
from pysftpserver.sksync.tls import server_context
from tests.sksync import srp_integers as plain
from tests.sksync.certificates import Pair
from tests.sksync.serving import HOST, Directories, RawClient, Served, put, tree

USER, PASSWORD, SALT = "j\u00f6rg", "p\u00e4ss word:", bytes.fromhex("00cf78a7a5")
VERIFIER = plain.v(USER, PASSWORD, SALT)
N = plain.N


class Login(plain.Client):
    """A client's side, from the page's formulas, and what it says."""

    def __init__(self, user: str = USER, password: str = PASSWORD, private: int = 0xA1B2 << 240) -> None:
        super().__init__(user, password, private)

    def start(self, public: int | None = None) -> bytes:
        name = self.user.encode().hex().encode()
        return b"PYSKSYNC SRP START:%s %x\n" % (name, self.A if public is None else public)

    def said(self, answer: bytes) -> bytes:
        """The line with the proof, for the line with salt and B."""
        salt, B = answer.decode().split()
        return self.prove(bytes.fromhex(salt), int(B, 16)).hex().encode() + b"\n"

    def awaited(self) -> bytes:
        """The line with which the server proves itself."""
        return self.expected().hex().encode() + b"\n"


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
        users = {USER: {"authsrp": [SALT.hex(), f"{VERIFIER:x}"]}}
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
                client.say(login.said(client.line()))
                self.assertEqual(client.line(), login.awaited())
                client.say(b"pysksync 1\n5\n0\nthere\nhere\n\n")
                self.assertEqual(client.line(), b"Protocol Established\n")
                self.assertTrue(client.rest().endswith(b"\n7\ncontent\n"))
        self.assertIn(ascii(USER)[1:-1], served.log.wait("sent 1 files"))

    def test_whatever_is_wrong_with_a_login_the_reply_is_the_same(self) -> None:
        served = self.server()
        good, client = Login(), self.connect(served)
        client.say(good.start())
        replayed = good.said(client.line())
        client.say(replayed)
        self.assertEqual(client.line(), good.awaited())
        for what, login in (("password", Login(password="wrong")), ("user", Login(user="nobody"))):
            with self.subTest(what):
                client = self.connect(served)
                client.say(login.start())
                answer = client.line()
                self.assertRegex(answer, rb"\A[0-9a-f]+ [0-9a-f]+\n\Z")
                client.say(login.said(answer))
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
        users = {USER: {"authsrp": [SALT.hex(), f"{VERIFIER:x}"]}}
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
        client.say(*(bytes([byte]) for byte in login.said(client.line())))
        self.assertEqual(client.line(), login.awaited())


class Encrypted(Plain):
    def setUp(self) -> None:
        super().setUp()
        self.pair = Pair(self.place, "server", (HOST,))
        self.tls = ClientTLS(self.pair.certfile)
        self.client_context = ssl.create_default_context(cafile=self.pair.certfile)
        self.client_context.check_hostname = True

    def server_context(self) -> ssl.SSLContext | None:
        return server_context(self.pair.certfile, self.pair.keyfile, None, "TLSv1.2")
