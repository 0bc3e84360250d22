"""Certificates of make-cert in handshakes over real sockets, as servers' and as clients'."""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import ssl
import stat
import threading
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography import x509

from pysftpserver.failures import BadInput
from pysftpserver.host.wholefiles import TemporaryFile
from pysftpserver.sksync import certificates
from tests.support.cases import InAPlace
from tests.support.waiting import PATIENCE

NAMES = ("sync.example", "*.lan.example", "127.0.0.1", "::1")


class CertificateCase(InAPlace):
    def make(self, name: str = "", kind: str = "ecdsa", replace: bool = False) -> tuple[str, str]:
        cert, key = str(self.place / f"{name}cert.pem"), str(self.place / f"{name}key.pem")
        certificates.make_pair(cert, key, NAMES, 30, kind, replace)
        return cert, key


class Handshakes(CertificateCase):
    def handshake(self, server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> bytes:
        """What the client reads; an end without anything if the server refused. Raises SSLError."""
        listening = socket.create_server(("127.0.0.1", 0))
        listening.settimeout(PATIENCE)

        def answer() -> None:
            taken, _ = listening.accept()
            taken.settimeout(PATIENCE)
            try:
                with server.wrap_socket(taken, server_side=True) as tls:
                    tls.sendall(b"hello")
            except OSError:
                taken.close()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with socket.create_connection(listening.getsockname(), PATIENCE) as raw:
                with client.wrap_socket(raw, server_hostname=name) as tls:
                    return tls.recv(5)
        finally:
            thread.join(PATIENCE)
            listening.close()

    def contexts(self, kind: str, strict: bool) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """(server's, client's), each of which checks the other's certificate."""
        (cert, key), (client_cert, client_key) = (
            self.make(f"{kind}-", kind),
            self.make(f"{kind}-client-", kind),
        )
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(cert, key)
        server.load_verify_locations(client_cert)
        server.verify_mode = ssl.CERT_REQUIRED
        client = ssl.create_default_context(cafile=cert)
        client.load_cert_chain(client_cert, client_key)
        for context in (server, client):
            if strict:
                context.verify_flags |= ssl.VERIFY_X509_STRICT
            else:
                context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return server, client

    def test_succeed_with_both_sides_checking_strictly_or_not_under_every_name(self) -> None:
        for kind in certificates.TYPES:
            for strict in (True, False):
                server, client = self.contexts(f"{kind}", strict)
                for name in ("sync.example", "a.lan.example", "127.0.0.1", "::1"):
                    with self.subTest(kind, strict=strict, name=name):
                        self.assertEqual(self.handshake(server, client, name), b"hello")
                shutil.rmtree(self.place)
                self.place.mkdir()

    def test_fail_under_another_name_and_with_another_certificate(self) -> None:
        server, client = self.contexts("ecdsa", True)
        with self.assertRaises(ssl.SSLCertVerificationError):
            self.handshake(server, client, "other.example")
        stranger = ssl.create_default_context(cafile=self.make("other-")[0])
        with self.assertRaises(ssl.SSLCertVerificationError):
            self.handshake(server, stranger, "sync.example")

    def test_fail_without_and_with_another_clients_certificate(self) -> None:
        server, _ = self.contexts("ecdsa", True)
        for pair in (None, self.make("other-")):
            client = ssl.create_default_context(cafile=str(self.place / "ecdsa-cert.pem"))
            if pair is not None:
                client.load_cert_chain(*pair)
            with self.subTest(pair):
                try:
                    read = self.handshake(server, client, "sync.example")
                except OSError:  # with TLS 1.3, at the first read
                    read = b""
                self.assertEqual(read, b"")


class Files(CertificateCase):
    def test_the_key_is_its_owners_and_the_certificate_is_everybodys(self) -> None:
        mask = os.umask(0o077)
        self.addCleanup(os.umask, mask)
        cert, key = self.make()
        self.assertEqual(stat.S_IMODE(os.stat(key).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(cert).st_mode), 0o644)
        self.assertEqual(sorted(os.listdir(self.place)), ["cert.pem", "key.pem"])

    def test_the_certificate_says_what_it_should(self) -> None:
        cert, _ = self.make()
        made = x509.load_pem_x509_certificate(Path(cert).read_bytes())
        now = datetime.datetime.now(datetime.UTC)
        minute = datetime.timedelta(minutes=1)
        self.assertLess(abs(now - datetime.timedelta(hours=1) - made.not_valid_before_utc), minute)
        self.assertLess(abs(now + datetime.timedelta(days=30) - made.not_valid_after_utc), minute)
        san = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(san.get_values_for_type(x509.DNSName), ["sync.example", "*.lan.example"])
        self.assertEqual([str(one) for one in san.get_values_for_type(x509.IPAddress)], ["127.0.0.1", "::1"])
        constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
        self.assertEqual((constraints.critical, constraints.value.ca), (True, False))

    def test_files_that_are_there_stay_unless_they_may_go(self) -> None:
        for name in ("cert.pem", "key.pem"):
            (self.place / name).write_text("mine")
            with self.assertRaisesRegex(BadInput, f"{name}: exists; --force"):
                self.make()
            self.assertEqual(os.listdir(self.place), [name])
            self.assertEqual((self.place / name).read_text(), "mine")
            (self.place / name).unlink()
        first = [Path(one).read_bytes() for one in self.make()]
        second = [Path(one).read_bytes() for one in self.make(replace=True)]
        self.assertTrue(all(one != other for one, other in zip(first, second, strict=True)))

    def test_what_comes_in_between_stays_and_nothing_else_is_left(self) -> None:
        for late in ("cert.pem", "key.pem"):
            shutil.rmtree(self.place)
            self.place.mkdir()

            def slow(
                file: TemporaryFile, replace: bool, late: str = late, commit: Any = TemporaryFile.commit
            ) -> None:
                if file.path.endswith(late):
                    Path(file.path).write_text("mine")
                commit(file, replace)

            with mock.patch.object(TemporaryFile, "commit", slow), self.assertRaises(BadInput):
                self.make()
            self.assertEqual(os.listdir(self.place), [late])
            self.assertEqual((self.place / late).read_text(), "mine")

    def test_a_full_disk_leaves_nothing(self) -> None:
        for failing in (1, 2):
            results: list[Any] = [None] * (failing - 1) + [OSError(28, "no space left on device")]
            with (
                mock.patch.object(os, "fsync", side_effect=results),
                self.assertRaises(BadInput) as caught,
            ):
                self.make()
            self.assertIn("no space left", str(caught.exception))
            self.assertEqual(os.listdir(self.place), [])

    def test_bad_places_and_names_are_refused(self) -> None:
        good = str(self.place / "f")
        for cert, key, names in (
            (good, good, ["h"]),
            (str(self.place), good, ["h"]),
            (str(self.place / "missing" / "c"), good, ["h"]),
            (good, f"{good}k", [""]),
            (good, f"{good}k", ["a b"]),
            (good, f"{good}k", ["-a"]),
            (good, f"{good}k", ["a" * 64]),
            (good, f"{good}k", ["h", "a..b"]),
            (good, f"{good}k", ["1.2.3.4/5"]),
        ):
            with self.subTest(cert, key=key, names=names):
                with self.assertRaises(BadInput):
                    certificates.make_pair(cert, key, names, 1, "ecdsa", True)
                self.assertEqual(os.listdir(self.place), [])

    def test_names_that_are_no_ascii_are_encoded(self) -> None:
        certificates.make_pair(
            str(self.place / "c"), str(self.place / "k"), ["b\u00fccher.example"], 1, "ed25519", False
        )
        made = x509.load_pem_x509_certificate((self.place / "c").read_bytes())
        san = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(san.get_values_for_type(x509.DNSName), ["xn--bcher-kva.example"])
