"""Google's words of the same dialect, which fake.FakeS3 knows as well, and where its tokens come from."""

from __future__ import annotations

import base64
import json
import os
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from unittest import mock
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pysftpserver.objectstorage import SFTPServerObjectStorage
from pysftpserver.pysftpexceptions import SFTPFailure
from tests.objects.stores import StoreCase, fake
from tests.support.ports import LOOPBACK


class Tokens(BaseHTTPRequestHandler):
    """Answers every request with a token; `asked` has the forms."""

    asked: list[dict[str, str]] = []
    status = 200

    def do_POST(self):
        self.asked.append(dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode())))
        content = json.dumps({"access_token": "the-token", "expires_in": 3600}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


class GoogleCase(StoreCase):
    server = "fake"

    def setUp(self):
        super().setUp()
        self.tokens = HTTPServer((LOOPBACK, 0), Tokens)
        threading.Thread(target=self.tokens.serve_forever, args=(0.05,), daemon=True).start()
        self.addCleanup(self.tokens.server_close)
        self.addCleanup(self.tokens.shutdown)
        Tokens.asked = []

    def open_google(self, settings="", **credentials):
        """A storage whose credentials are a file with these fields."""
        file = self.enterContext(tempfile.NamedTemporaryFile("w"))
        json.dump({"token_uri": f"http://{LOOPBACK}:{self.tokens.server_port}/token", **credentials}, file)
        file.flush()
        name = f"gs://{self.bucket}/p?endpoint={self.url}&credentials={file.name}{settings}"
        storage = SFTPServerObjectStorage(name)
        self.addCleanup(storage.close_client)
        return storage

    def user(self, settings=""):
        return self.open_google(settings, type="authorized_user", client_id="c", refresh_token="r")


class Files(GoogleCase):
    def write(self, storage, path, content, flags=os.O_WRONLY | os.O_CREAT):
        handle = storage.open(path, flags, 0o666)
        storage.write(handle, 0, content)
        storage.close(handle)

    def test_files_are_written_read_renamed_and_removed(self):
        storage = self.user("&times=metadata")
        with mock.patch.object(fake(), "copies_parts", False):
            large = os.urandom(9 << 20)
            self.write(storage, b"/f", large)
            self.write(storage, b"/f", b"more", os.O_WRONLY | os.O_APPEND)
        self.assertTrue(self.get_object("p/f") == large + b"more")
        storage.mkdir(b"/d", 0o777)
        storage.rename(b"/f", b"/d/g")
        self.assertEqual(storage.stat(b"/d/g").size, len(large) + 4)
        storage.rm(b"/d/g")
        self.assertEqual([name for name, _ in storage.opendir(b"/")][2:], [b"d"])

    def test_a_file_that_appears_meanwhile_is_not_replaced(self):
        storage = self.user()
        handle = storage.open(b"/f", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self.put_object("p/f", b"of another")
        with self.assertRaisesRegex(SFTPFailure, "exists already"):
            storage.close(handle)
        self.assertEqual(self.get_object("p/f"), b"of another")


class Credentials(GoogleCase):
    def test_a_token_of_a_user_is_asked_for_once(self):
        storage = self.user()
        storage.connect()
        storage.connect()
        (form,) = Tokens.asked
        self.assertEqual((form["grant_type"], form["refresh_token"]), ("refresh_token", "r"))

    def test_a_service_account_signs_for_its_token(self):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        self.open_google(type="service_account", private_key=text, client_email="me@example").connect()
        content, _, signature = Tokens.asked[0]["assertion"].rpartition(".")
        claims = json.loads(base64.urlsafe_b64decode(content.split(".")[1] + "=="))
        self.assertEqual(claims["iss"], "me@example")
        signed = base64.urlsafe_b64decode(signature + "==")
        key.public_key().verify(signed, content.encode(), padding.PKCS1v15(), hashes.SHA256())

    def test_a_token_is_not_sent_in_the_open(self):
        with self.assertRaisesRegex(ValueError, "^endpoint: write https://"):
            SFTPServerObjectStorage("gs://bucket?endpoint=http://store.example")

    def test_credentials_that_are_refused_or_none_are_reported_without_them(self):
        with mock.patch.object(Tokens, "status", 400):
            storage = self.user()
            with self.assertRaisesRegex(SFTPFailure, "^The service for credentials of the store has refused"):
                storage.connect()
        for fields, words in (
            ({"type": "external_account"}, "not credentials of a service account or of a user"),
            ({"type": "service_account", "private_key": "secret"}, "its private_key cannot be used"),
        ):
            with self.assertRaisesRegex(ValueError, words) as caught:
                self.open_google(**fields)
            self.assertNotIn("secret", str(caught.exception))
