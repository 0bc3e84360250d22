"""TLS: which certificates are taken on both sides; and the server goes on, whatever a handshake is like."""

from __future__ import annotations

import socket
import ssl
import warnings
from typing import Any

from pysftpserver.failures import BadInput
from pysftpserver.sksync.client import ClientTLS, Dialect, SyncError, SyncType
from pysftpserver.sksync.tls import server_context
from tests.sksync import oldstyle
from tests.sksync.certificates import Pair
from tests.sksync.serving import HOST, NOW, Directories, Served, cuts, put, tree
from tests.support.waiting import PATIENCE

UNTRUSTED = "the server's certificate is not trusted"


def unchecking() -> ssl.SSLContext:
    """For a client that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Encrypted(Directories):
    def setUp(self) -> None:
        super().setUp()
        put(self.there, "f", b"content")

    def pair(self, name: str, *hosts: str, **how: Any) -> Pair:
        return Pair(self.place, name, hosts, **how)

    def tls(self, pair: Pair, clients: str | None = None, minimum: str = "TLSv1.2", **keys: Any) -> Served:
        context = server_context(pair.certfile, pair.keyfile, clients, minimum)
        return self.serve(context=context, **keys)

    def assert_good(self, served: Served, tls: ClientTLS) -> None:
        served.be_patient()
        done = self.sync(served.port, tls=tls)
        self.assertEqual((set(done.received), tree(self.here)), ({"f"}, tree(self.there)))

    def assert_refused(self, served: Served, tls: ClientTLS, words: str) -> None:
        for is_dry in (True, False):
            with self.assertRaisesRegex(SyncError, words):
                self.sync(served.port, is_dry, tls=tls)
        self.assertEqual(tree(self.here), {})


class Servers(Encrypted):
    """What the client thinks of the server's certificate."""

    def test_the_pinned_certificate_is_taken_whatever_host_it_names(self) -> None:
        for number, hosts in enumerate(((), ("elsewhere.example",), (HOST,))):
            with self.subTest(hosts):
                pair = self.pair(f"server-{number}", *hosts)
                self.assert_good(self.tls(pair), ClientTLS(pair.certfile))
                (self.here / "f").unlink()

    def test_another_certificate_than_the_pinned_one_is_refused_even_for_the_right_host(self) -> None:
        served = self.tls(self.pair("server", HOST))
        self.assert_refused(served, ClientTLS(self.pair("other", HOST).certfile), UNTRUSTED)
        self.assert_refused(served, ClientTLS(self.pair("server", HOST).certfile), UNTRUSTED)

    def test_one_that_an_authority_signed_has_to_name_the_host(self) -> None:
        authority = self.pair("authority", is_authority=True)
        trusted = ClientTLS(authority.certfile)
        self.assert_good(self.tls(self.pair("right", HOST, signer=authority)), trusted)
        (self.here / "f").unlink()
        for name, hosts in (
            ("wrong", ("localhost", "10.0.0.1")),
            ("next", ("127.0.0.2",)),
            ("text", ("DNS:127.0.0.1",)),
            ("star", ("*.0.0.1",)),
            ("stars", ("*",)),
            ("none", ()),
        ):
            with self.subTest(name):
                wrong = self.tls(self.pair(name, *hosts, signer=authority))
                self.assert_refused(wrong, trusted, f"does not name {HOST}")

    def test_one_of_another_authority_is_refused(self) -> None:
        authority, other = (self.pair(name, is_authority=True) for name in ("authority", "other"))
        served = self.tls(self.pair("server", HOST, signer=other))
        self.assert_refused(served, ClientTLS(authority.certfile), UNTRUSTED)

    def test_what_a_pinned_certificate_signed_without_being_an_authority_is_refused(self) -> None:
        authority = self.pair("authority", is_authority=True)
        for number, signer in enumerate((None, authority)):
            pinned = self.pair(f"pinned-{number}", HOST, signer=signer)
            forged = self.pair(f"forged-{number}", HOST, signer=pinned)
            self.assert_refused(self.tls(forged), ClientTLS(pinned.certfile), UNTRUSTED)

    def test_one_whose_time_is_over_is_refused(self) -> None:
        pair = self.pair("server", HOST, is_over=True)
        self.assert_refused(self.tls(pair), ClientTLS(pair.certfile), f"{UNTRUSTED}: certificate has expired")

    def test_without_one_to_compare_with_any_is_taken_and_said_to_be_unchecked(self) -> None:
        tls = ClientTLS()
        self.assertFalse(tls.is_checked)
        self.assert_good(self.tls(self.pair("server")), tls)

    def test_a_server_without_tls_is_refused(self) -> None:
        served = self.serve(timeout=0.5)
        with self.assertRaisesRegex(SyncError, "TLS|handshake"):
            self.sync(served.port, tls=ClientTLS(self.pair("server").certfile))
        self.assertEqual(tree(self.here), {})

    def test_a_server_that_does_not_go_on_with_the_handshake_is_given_up(self) -> None:
        with (
            socket.create_server((HOST, 0)) as silent,
            self.assertRaisesRegex(SyncError, "handshake failed: "),
        ):
            self.sync(silent.getsockname()[1], tls=ClientTLS(), timeout=0.3)

    def test_the_old_server_behind_tls_gets_the_same(self) -> None:
        pair = self.pair("server", HOST)
        context = server_context(pair.certfile, pair.keyfile, None, "TLSv1.2")
        server = oldstyle.Server(self.root, context)
        self.addCleanup(server.stop)
        put(self.here, "g", b"here")
        wanted: dict[str, Any] = {
            "tls": ClientTLS(pair.certfile),
            "sync_type": SyncType.BIDIRECTIONAL_USE_TIME,
        }
        before = tree(self.here), tree(self.there)
        planned = self.sync(server.port, is_dry=True, **wanted)
        self.assertEqual((tree(self.here), tree(self.there)), before)
        done = self.sync(server.port, **wanted)
        self.assertEqual((planned.sent, planned.received), (done.sent, done.received))
        self.assertEqual((done.sent, done.received), ({"g": 4}, {"f": 7}))
        self.assertEqual(tree(self.here), tree(self.there))


class ClientCertificates(Encrypted):
    """What the server thinks of the client's."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.pair("server", HOST)
        self.client = self.pair("client")

    def shown(self, pair: Pair | None) -> ClientTLS:
        if pair is None:
            return ClientTLS(self.server.certfile)
        return ClientTLS(self.server.certfile, pair.certfile, pair.keyfile)

    def test_the_one_that_is_wanted_is_taken(self) -> None:
        self.assert_good(self.tls(self.server, self.client.certfile), self.shown(self.client))

    def test_one_that_a_wanted_authority_signed_is_taken(self) -> None:
        authority = self.pair("authority", is_authority=True)
        signed = self.pair("signed", signer=authority)
        self.assert_good(self.tls(self.server, authority.certfile), self.shown(signed))

    def test_the_client_is_told_that_its_certificate_may_be_the_reason(self) -> None:
        served = self.tls(self.server, self.client.certfile)
        words = "TLS: the server says|does not accept this client's certificate"
        for pair in (None, self.pair("other")):
            for login in (None, ("user", "password")):
                with self.assertRaisesRegex(SyncError, words):
                    self.sync(served.port, tls=self.shown(pair), login=login)

    def test_none_or_a_wrong_one_ends_the_connection_before_anything_is_said(self) -> None:
        served = self.tls(self.server, self.client.certfile)
        wrong = (None, self.pair("other"), self.pair("client-2", signer=self.client), self.server)
        for number, pair in enumerate(wrong):
            with self.subTest(number):
                for minimum in ("TLSv1.2", "TLSv1.3"):
                    tls = self.shown(pair)
                    if minimum == "TLSv1.2":
                        tls._context.maximum_version = ssl.TLSVersion.TLSv1_2
                    with self.assertRaises(SyncError) as caught:
                        self.sync(served.port, tls=tls)
                    self.assertNotIn("\n", str(caught.exception))
        served.log.wait("TLS: peer did not return a certificate", 2)
        served.log.wait("TLS: ", 8)
        self.assertEqual(tree(self.here), {})
        self.assert_good(served, self.shown(self.client))

    def test_files_that_do_not_do_are_named_with_their_key(self) -> None:
        put(self.place, "rubbish", b"rubbish")
        rubbish, gone = str(self.place / "rubbish"), str(self.place / "gone")
        cases: tuple[tuple[str, Any], ...] = (
            ("ssl_server_certfile: .*gone: no such file", lambda: ClientTLS(gone)),
            ("ssl_server_certfile: .*rubbish", lambda: ClientTLS(rubbish)),
            ("ssl_client_certfile: .*gone", lambda: ClientTLS(None, gone)),
            ("ssl_client_certfile: .*key values mismatch", lambda: ClientTLS(None, *self.mixed())),
            ("ssl_server_certfile: .*rubbish", lambda: server_context(rubbish, None, None, "TLSv1.2")),
            ("ssl_server_keyfile: .*gone", lambda: server_context(self.mixed()[0], gone, None, "TLSv1.2")),
            ("ssl_server_certfile: .*mismatch", lambda: server_context(*self.mixed(), None, "TLSv1.2")),
        )
        for words, make in cases:
            with self.subTest(words), self.assertRaisesRegex(BadInput, words):
                make()

    def mixed(self) -> tuple[str, str]:
        """A certificate, and the key of another."""
        return self.client.certfile, self.server.keyfile


class Versions(Encrypted):
    def old_client(self, version: ssl.TLSVersion) -> ssl.SSLContext:
        context = unchecking()
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
        return context

    def test_old_versions_are_refused_unless_they_are_asked_for(self) -> None:
        pair = self.pair("server", HOST)
        by_default = self.tls(pair)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asked_for = self.tls(pair, minimum="TLSv1.1")
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with self.subTest(version), self.assertRaises(OSError):
                self.raw(by_default.port, context=self.old_client(version))
        by_default.log.wait("TLS: unsupported protocol", 2)
        client = self.raw(asked_for.port, context=self.old_client(ssl.TLSVersion.TLSv1_1))
        client.say(b"pysksync 2\n")
        self.assertEqual(client.line(), b"Protocol Established\n")
        self.assert_good(by_default, ClientTLS(pair.certfile))

    def test_the_minimum_may_be_the_newest(self) -> None:
        pair = self.pair("server", HOST)
        served = self.tls(pair, minimum="TLSv1.3")
        with self.assertRaises(OSError):
            self.raw(served.port, context=self.old_client(ssl.TLSVersion.TLSv1_2))
        self.assert_good(served, ClientTLS(pair.certfile, minimum_version="TLSv1.3"))

    def test_a_client_refuses_an_old_server(self) -> None:
        pair = self.pair("server", HOST)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context = server_context(pair.certfile, pair.keyfile, None, "TLSv1.1")
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        served = self.serve(context=context)
        self.assert_refused(served, ClientTLS(pair.certfile), "TLS")


class Streams(Encrypted):
    def setUp(self) -> None:
        super().setUp()
        self.server = self.pair("server", HOST)

    def test_every_dialect_and_type_is_the_same_as_without(self) -> None:
        port = self.tls(self.server).port
        for title in oldstyle.TITLES:
            for kind in range(6):
                with self.subTest(title=title, kind=kind):
                    here = self.here / f"{title} {kind}"
                    path = f"there/{title} {kind}"
                    put(here, "h", b"here" * 100_000)
                    put(self.root / path, "t", b"there" * 100_000)
                    sent, received = oldstyle.client(port, here, title, kind, path=path, context=unchecking())
                    self.assertEqual(sent, ["h"] if kind % 3 != 2 else [])
                    self.assertEqual(received, ["t"] if kind % 3 != 1 else [])
                    self.assertEqual(
                        oldstyle.client(port, here, title, kind, path=path, context=unchecking()), ([], [])
                    )

    def test_any_cut_of_what_is_said_gets_the_same_answer(self) -> None:
        port = self.tls(self.server).port
        for how in (0, 1, 5, -1, -2):
            with self.subTest(how):
                client = self.raw(port, context=unchecking())
                client.say(*cuts(b"pysksync 1\n5\n0\nthere\nhere\n%d000 f\n\n" % NOW, how))
                self.assertEqual(client.rest(), b"Protocol Established\n\n\n")

    def test_our_client_moves_much_in_both_directions_at_once(self) -> None:
        for number in range(200):
            put(self.here, f"h/{number}", bytes([number]) * 3000)
            put(self.there, f"t/{number}", bytes([number]) * 3000)
        put(self.here, "h/big", b"big" * 2_000_000)
        put(self.there, "t/big", b"big" * 2_000_000)
        done = self.sync(
            self.tls(self.server).port,
            tls=ClientTLS(self.server.certfile),
            sync_type=SyncType.BIDIRECTIONAL_USE_TIME,
            dialect=Dialect.PYSKSYNC_2,
        )
        self.assertEqual((len(done.sent), len(done.received)), (201, 202))
        self.assertEqual(tree(self.here), tree(self.there))

    def test_rubbish_instead_of_a_handshake_ends_that_connection_only(self) -> None:
        served = self.tls(self.server)
        for number, rubbish in enumerate(
            (b"pysksync 2\n", b"\0" * 500, b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff", b"")
        ):
            with socket.create_connection((HOST, served.port), PATIENCE) as client:
                client.sendall(rubbish)
                if len(rubbish) < 5:  # bytes of which nobody can tell yet that they are none
                    client.shutdown(socket.SHUT_WR)
                try:
                    while client.recv(4096):
                        pass
                except ConnectionResetError:
                    pass
            served.log.wait("ended: TLS", number + 1)
        self.assert_good(served, ClientTLS(self.server.certfile))

    def test_a_connection_that_ends_without_a_word_leaves_no_half_file(self) -> None:
        served = self.tls(self.server)
        client = self.raw(served.port, context=unchecking())
        client.say(b"pysksync 1\n1\n0\nthere\nhere\n%d000 f\n\n5000\nxyz" % (NOW + 9))
        self.assertEqual([client.line(), client.line()], [b"Protocol Established\n", b"f\n"])
        client.close()
        served.log.wait("before 'f' was complete")
        self.assertEqual(tree(self.there), {"f": (b"content", NOW)})
