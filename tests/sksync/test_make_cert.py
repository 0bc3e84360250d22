"""pysksync make-cert: every option, and what it prints."""

from __future__ import annotations

import os
import re
import ssl
import stat
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519

from pysftpserver.cli import pysksync_cert
from pysftpserver.sksync import config
from tests.sksync.commands import CommandCase


class MakeCert(CommandCase):
    module = "pysksync_cert"

    def run_it(self, *words: object, stdin: bytes = b"") -> Any:
        return super().run_it("make-cert", *words)

    def certificate(self, name: str = "cert.pem") -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.place / name).read_bytes())

    def names(self) -> list[str]:
        san = self.certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [str(one.value) for one in san]

    def test_without_options_writes_a_pair_for_this_host(self) -> None:
        done = self.run_it()
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(sorted(os.listdir(self.place)), ["cert.pem", "key.pem"])
        self.assertEqual(stat.S_IMODE((self.place / "key.pem").stat().st_mode), 0o600)
        self.assertEqual(self.names()[-3:], ["localhost", "127.0.0.1", "::1"])
        made = self.certificate()
        self.assertEqual((made.not_valid_after_utc - made.not_valid_before_utc).days, 365)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            self.place / "cert.pem", self.place / "key.pem"
        )

    def test_prints_lines_that_a_configuration_takes(self) -> None:
        printed = self.run_it("--cert", "c.pem", "--key", "k.pem").stdout.decode()
        self.assertNotIn("PRIVATE", printed)
        server, clients, client, servers = (
            config.parse(f"{{{part}}}", "f") for part in re.findall(r":\n((?:    .*\n)+)", printed)
        )
        cert, key = str((self.place / "c.pem").resolve()), str((self.place / "k.pem").resolve())
        self.assertEqual(server, {"use_ssl": True, "ssl_server_certfile": cert, "ssl_server_keyfile": key})
        self.assertEqual(clients, {"use_ssl": True, "ssl_server_certfile": cert})
        self.assertEqual(client, {"use_ssl": True, "ssl_client_certfile": cert, "ssl_client_keyfile": key})
        self.assertEqual(servers, {"use_ssl": True, "ssl_client_certfile": cert})

    def test_takes_names_days_type_and_files(self) -> None:
        file = str(self.place / "cert.pem")
        words = ("--cert", file, "--key", str(self.place / "k"), "--name", "a.example, 192.0.2.1,::2")
        done = self.run_it(*words, "--days", "2", "--type", "ED25519")
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"a.example, 192.0.2.1, ::2", done.stdout)
        self.assertEqual(self.names(), ["a.example", "192.0.2.1", "::2"])
        made = self.certificate()
        self.assertEqual((made.not_valid_after_utc - made.not_valid_before_utc).days, 2)
        self.assertIsInstance(made.public_key(), ed25519.Ed25519PublicKey)

    def test_replaces_nothing_unless_forced(self) -> None:
        self.assertEqual(self.run_it().returncode, 0)
        before = (self.place / "cert.pem").read_bytes()
        self.assert_refused(says="--force")
        self.assertEqual((self.place / "cert.pem").read_bytes(), before)
        self.assertEqual(self.run_it("--force").returncode, 0)
        self.assertNotEqual((self.place / "cert.pem").read_bytes(), before)

    def test_refuses_what_cannot_be_in_one_line(self) -> None:
        for words in (
            ["--days", "0"], ["--days", "36501"], ["--days", "1.5"], ["--days=-1"], ["--type", "rsa"],
            ["--name", ""], ["--name", "a,,b"], ["--name", "a b"], ["--cert", "no/c"], ["--key", "no/k"],
            ["--cert", "same", "--key", "./same"], ["word"], ["--cert", "."], ["--cert", ""],
        ):  # fmt: skip
            with self.subTest(words):
                self.assert_refused(*words, says="")
                self.assertEqual(os.listdir(self.place), [])

    def test_names_the_extra_that_is_missing(self) -> None:
        self.assert_names_the_extra("cryptography", "make-cert")

    def test_says_the_same_limits_as_what_makes_the_pair(self) -> None:
        from pysftpserver.sksync import certificates

        self.assertEqual(pysksync_cert.TYPES, certificates.TYPES)

    def test_starts_without_what_makes_starting_slow(self) -> None:
        self.assert_starts_quickly()
