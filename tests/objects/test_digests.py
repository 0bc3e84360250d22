"""Digests that stores have: which headers are believed, and that nothing is read then."""

from __future__ import annotations

import base64
import hashlib
import os
import unittest
import zlib

from pysftpserver.storages.objects.digests import in_azure, in_google, in_s3
from tests.objects.stores import StoreCase, fake
from tests.support.packets import Client, string

CONTENT = b"content"
MD5 = hashlib.md5(CONTENT)
ETAG = f'"{MD5.hexdigest()}"'


def text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


class Headers(unittest.TestCase):
    def test_of_s3(self):
        sha = hashlib.sha256(CONTENT).digest()
        crc = zlib.crc32(CONTENT).to_bytes(4, "big")
        kept = {"etag": ETAG, "x-amz-checksum-sha256": text(sha), "x-amz-checksum-crc32": text(crc)}
        for algorithm, digest in (("md5", MD5.digest()), ("sha256", sha), ("crc32", crc), ("sha1", None)):
            self.assertEqual(in_s3(kept, algorithm), digest)
            self.assertEqual(in_s3({**kept, "x-amz-checksum-type": "FULL_OBJECT"}, algorithm), digest)
        self.assertEqual(in_s3({"etag": ETAG, "x-amz-server-side-encryption": "AES256"}, "md5"), MD5.digest())

    def test_of_s3_that_are_of_something_else(self):
        for headers in (
            {},
            {"etag": f'"{MD5.hexdigest()}-2"'},
            {"etag": '"not-a-digest"'},
            {"etag": ETAG, "x-amz-server-side-encryption": "aws:kms"},
            {"etag": ETAG, "x-amz-server-side-encryption-customer-algorithm": "AES256"},
            {"x-amz-checksum-md5": text(MD5.digest()), "x-amz-checksum-type": "COMPOSITE"},
            {"x-amz-checksum-md5": text(MD5.digest()) + "-3"},
        ):
            with self.subTest(headers):
                self.assertIsNone(in_s3(headers, "md5"))

    def test_of_google_and_azure(self):
        both = {"x-goog-hash": f"crc32c=AAAAAA==, md5={text(MD5.digest())}", "etag": '"x"'}
        self.assertEqual(in_google(both, "md5"), MD5.digest())
        self.assertIsNone(in_google(both, "crc32"))
        self.assertIsNone(in_google({"x-goog-hash": "crc32c=AAAAAA=="}, "md5"))
        self.assertEqual(in_azure({"content-md5": text(MD5.digest())}, "md5"), MD5.digest())
        self.assertIsNone(in_azure({"content-md5": text(MD5.digest())}, "sha1"))
        self.assertIsNone(in_azure({}, "md5"))


class Asking(StoreCase):
    server = "fake"

    def asked(self, algorithm: bytes) -> tuple[bytes, list[str]]:
        """The digest of f, as a client is told, and the methods of the requests that took."""
        before = len(fake().requests)
        client = Client(self.storage)
        body = client.content("extended", "check-file-name", string(b"f"), string(algorithm) + bytes(20))
        client.server.close()
        return body.removeprefix(string(algorithm)), [method for method, _, _ in fake().requests[before:]]

    def setUp(self):
        super().setUp()
        self.storage = self.open_storage()

    def test_what_the_store_knows_is_not_read(self):
        self.put_object("f", CONTENT)
        self.assertEqual(self.asked(b"md5"), (MD5.digest(), ["HEAD"]))
        self.assertEqual(self.asked(b"sha256"), (hashlib.sha256(CONTENT).digest(), ["HEAD", "GET"]))
        self.assertEqual(self.asked(b"sha512"), (hashlib.sha512(CONTENT).digest(), ["GET"]))

    def test_what_was_uploaded_in_parts_is_read(self):
        upload = self.other.begin("f")
        fake().uploads[self.bucket][upload].parts[1] = CONTENT
        self.other.complete("f", upload, [(1, ETAG)], len(CONTENT))
        self.assertEqual(self.asked(b"md5"), (MD5.digest(), ["HEAD", "GET"]))

    def test_what_a_session_is_writing_is_its_own(self):
        self.put_object("f", CONTENT)
        handle = self.storage.open(b"/f", os.O_WRONLY | os.O_TRUNC, 0)
        self.storage.write(handle, 0, b"new")
        self.assertIsNone(self.storage.checksum(b"/f", "md5"))
        self.storage.close(handle)
        self.assertEqual(self.storage.checksum(b"/f", "md5"), hashlib.md5(b"new").digest())
