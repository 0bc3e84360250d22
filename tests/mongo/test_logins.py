"""A server that wants a login and speaks TLS: the storage gets in with what a URI says, and only then."""

from __future__ import annotations

import datetime
import ipaddress
import tempfile
import unittest
from pathlib import Path

import pymongo
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.storages.embedded import LOOPBACK, EmbeddedMongo
from pysftpserver.storages.mongo.connection import MongoUnavailable
from tests.mongo.sessions import get, put

USER, PASSWORD = "alice", "p@ss/w0rd"
TYPED = "p%40ss%2Fw0rd"


def make_certificate(certificate: Path, key: Path) -> None:
    """A self-signed pair for loopback, for today."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, LOOPBACK)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOOPBACK))])
    builder = x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(address, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    made = builder.sign(private, hashes.SHA256())
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


class LoginsOverTLS(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        place = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="pysftpserver-mongo-"))
        cls.certificate, key = Path(place, "certificate.pem"), Path(place, "key.pem")
        make_certificate(cls.certificate, key)
        data = Path(place, "data")
        with EmbeddedMongo(data) as server, pymongo.MongoClient(LOOPBACK, server.port) as client:
            roles = [{"role": "readWriteAnyDatabase", "db": "admin"}]
            client.admin.command("createUser", USER, pwd=PASSWORD, roles=roles)
        options = ("--auth", "--tls-cert-file", str(cls.certificate), "--tls-key-file", str(key))
        server = EmbeddedMongo(data, *options)
        cls.addClassCleanup(server.stop)
        cls.port = server.port

    def storage(self, login: str, tls: bool = True) -> SFTPServerMongoStorage:
        options = f"&tls=true&tlsCAFile={self.certificate}" if tls else ""
        uri = f"mongodb://{login}{LOOPBACK}:{self.port}/files?authSource=admin{options}"
        storage = SFTPServerMongoStorage.from_uri(uri)
        self.addCleanup(storage.close_client)
        return storage

    def test_the_right_password_is_let_in_and_files_are_stored_and_read(self) -> None:
        storage = self.storage(f"{USER}:{TYPED}@")
        storage.connect()
        storage.prepare()
        put(storage, b"/f", b"over TLS")
        self.assertEqual(get(storage, b"/f"), b"over TLS")

    def test_a_wrong_password_is_refused_and_not_repeated(self) -> None:
        with self.assertRaises(MongoUnavailable) as raised:
            self.storage(f"{USER}:wr0ng@").connect()
        self.assertIn("refuses", str(raised.exception))
        self.assertNotIn("wr0ng", str(raised.exception))

    def test_without_tls_no_valid_answer_arrives(self) -> None:
        with self.assertRaises(MongoUnavailable):
            self.storage(f"{USER}:{TYPED}@", tls=False).connect(1.0)
