"""A store that is slow, busy, away or refuses: a failure in words, in time, and the session goes on."""

from __future__ import annotations

import itertools
import os
import ssl
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

from pysftpserver.contract.packets import SFTPTestClient, get_sftphandle, get_sftpstatus
from pysftpserver.engine.log import ERROR, SFTPLog
from pysftpserver.failures import BadInput, Unavailable
from pysftpserver.pysftpexceptions import (
    SFTPException,
    SFTPFailure,
    SFTPForbidden,
    SFTPUnavailable,
    status_of,
)
from pysftpserver.storages.by_name import open_storage
from pysftpserver.storages.objects import credentials, reading
from pysftpserver.storages.objects.names import Name
from tests.objects.fake import FakeS3
from tests.objects.stores import KEY, SECRET, StoreCase, fake, once
from tests.sksync.certificates import Pair
from tests.support.ports import LOOPBACK, free_port

BLOCK = reading.BLOCK


class FailureCase(StoreCase):
    server = "fake"
    settings = "&timeout=60"

    def setUp(self):
        super().setUp()
        self.storage = self.open_storage()
        self.put_object("f", b"content")

    def failing(self, fault):
        """Make the store fail. fault: what FakeS3.fault returns, or a function of (method, key, query)."""
        asked = fault if callable(fault) else lambda method, key, query: fault
        return mock.patch.object(fake(), "fault", asked)

    def words(self, call, *arguments):
        """The text of what a call raises, which must be an answer without a secret."""
        with self.assertRaises((SFTPException, OSError)) as caught:
            call(*arguments)
        words = status_of(caught.exception)[1].decode()
        for secret in (SECRET, KEY, LOOPBACK, str(fake().server_port), self.bucket):
            self.assertNotIn(secret, words)
            self.assertNotIn(secret, str(caught.exception))
        return words


class Answers(FailureCase):
    def test_every_refusal_has_words(self):
        for fault, words in (
            ((403, "AccessDenied"), r"^The store denies access \(AccessDenied\)$"),
            ((400, "ExpiredToken"), r"^The credentials for the store have expired$"),
            ((403, "InvalidAccessKeyId"), r"^The store does not know the access key$"),
            ((403, "SignatureDoesNotMatch"), r"the secret key is wrong$"),
            ((403, "RequestTimeTooSkewed"), r"^The clock of this server and that of the store"),
            ((301, "PermanentRedirect"), r"^The bucket is in another region"),
            ((404, "NoSuchBucket"), r"^The bucket does not exist$"),
            ((503, "SlowDown"), r"^The store is busy \((SlowDown|503)\); try again later$"),
            ((500, "InternalError"), r"^The store has a fault or is busy \((InternalError|500)\)"),
            ((418, "Teapot\r\n"), r"^The store refused the request"),
        ):
            with self.subTest(fault), self.failing(fault), once():
                self.assertRegex(self.words(self.storage.stat, b"/f"), words)
                self.assertRegex(self.words(self.storage.opendir, b"/"), words)
        self.assertEqual(self.storage.stat(b"/f").size, 7)

    def test_what_is_denied_is_a_permission_that_is_missing(self):
        with self.failing((403, "AccessDenied")):
            self.assertRaises(SFTPForbidden, self.storage.opendir, b"/")

    def test_a_busy_store_is_asked_again(self):
        count = itertools.count()
        busy = self.failing(lambda *request: (503, "SlowDown") if next(count) < 2 else None)
        with busy:
            self.assertEqual(self.storage.stat(b"/f").size, 7)

    def test_a_close_that_fails_says_so_and_the_session_goes_on(self):
        client = SFTPTestClient(self.storage, log=SFTPLog(lambda level, text: None, ERROR))
        self.addCleanup(client.close)
        handle = get_sftphandle(client.call("open", b"/f", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666))
        self.assertEqual(get_sftpstatus(client.call("write", handle, 0, b"new")), 0)
        with self.failing((503, "SlowDown")), once():
            self.assertIn(b"The store is busy", client.call("close", handle))
        self.assertEqual(self.get_object("f"), b"content")
        self.assertEqual(get_sftpstatus(client.call("rm", b"/f")), 0)


class Silence(FailureCase):
    def test_a_store_that_does_not_answer_fails_within_the_timeout(self):
        ended = threading.Event()
        self.addCleanup(ended.set)
        impatient = mock.patch.object(self.storage._store._web, "patience", 0.5)
        with impatient, self.failing(lambda *request: ended.wait):
            began = time.monotonic()
            words = self.words(self.storage.stat, b"/f")
            self.assertRegex(words, "^The store did not answer within [0-9.]+ seconds$")
            self.assertGreaterEqual(time.monotonic() - began, 0.25)
        ended.set()
        self.assertEqual(self.storage.stat(b"/f").size, 7)

    def test_a_store_that_is_away_and_a_name_that_is_unknown(self):
        away = self.open_storage(settings="&timeout=0.5", url=f"http://{LOOPBACK}:{free_port()}")
        self.assertEqual(self.words(away.stat, b"/f"), "The store cannot be reached: connection refused")
        self.assertRaises(SFTPUnavailable, away.stat, b"/f")  # which mounts of several storages go by
        nowhere = self.open_storage(settings="&timeout=0.5", url="http://nowhere.invalid")
        self.assertIn("host name cannot be resolved", self.words(nowhere.stat, b"/f"))

    def test_a_connection_that_the_store_has_closed_is_replaced(self):
        for _ in range(3):
            self.assertEqual(self.storage.stat(b"/f").size, 7)
            for _, connection in self.storage._store._web._idle:
                connection.sock.shutdown(2)


class OverTls(FailureCase):
    def setUp(self):
        super().setUp()
        place = Path(self.enterContext(tempfile.TemporaryDirectory()))
        authority = Pair(place, "authority", is_authority=True)
        pair = Pair(place, "store", (LOOPBACK,), authority)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certfile, pair.keyfile)
        self.safe = FakeS3(context)
        self.addCleanup(self.safe.close)
        self.safe.buckets, self.safe.uploads = fake().buckets, fake().uploads
        self.ca_file = authority.certfile

    def test_the_certificate_is_checked(self):
        storage = self.open_storage(settings=f"&ca_file={self.ca_file}", url=self.safe.url)
        handle = storage.open(b"/new", os.O_WRONLY | os.O_CREAT, 0o666)
        for off in range(0, 9 << 20, 1 << 20):
            storage.write(handle, off, bytes(1 << 20))
        storage.close(handle)
        self.assertEqual(storage.stat(b"/new").size, 9 << 20)

    def test_a_certificate_that_is_not_trusted_is_reported_at_once(self):
        storage = self.open_storage(url=self.safe.url)
        words = "The store cannot be reached: its certificate is not trusted"
        self.assertEqual(self.words(storage.stat, b"/f"), words)


class Downloads(FailureCase):
    def setUp(self):
        super().setUp()
        self.content = os.urandom(12 * BLOCK + 777)
        self.put_object("large", self.content)

    def read_all(self, step=BLOCK // 2):
        handle = self.storage.open(b"/large", os.O_RDONLY, 0)
        try:
            return b"".join(self.storage.read(handle, off, step) for off in range(0, len(self.content), step))
        finally:
            self.storage.close(handle)

    def test_reads_in_order_are_two_requests(self):
        before = len(fake().requests)
        self.assertTrue(self.read_all() == self.content)
        self.assertEqual(len(fake().requests) - before, 2)

    def test_reads_at_random_fetch_blocks_and_keep_some(self):
        handle = self.storage.open(b"/large", os.O_RDONLY, 0)
        before = len(fake().requests)
        for off in (9, 7, 11, 7, 9, 5, 5):
            at = off * BLOCK - 100
            self.assertEqual(self.storage.read(handle, at, 200), self.content[at : at + 200])
        self.assertLessEqual(len(fake().requests) - before, 8)
        self.storage.close(handle)

    def test_a_download_that_is_cut_goes_on(self):
        count = itertools.count()
        with self.failing(lambda *request: "cut" if next(count) == 1 else None):
            self.assertTrue(self.read_all() == self.content)

    def test_a_download_that_is_always_cut_fails_and_never_ends_early(self):
        handle = self.storage.open(b"/large", os.O_RDONLY, 0)
        with self.failing("cut"), once():
            self.assertIn(
                "connection to the store was lost", self.words(self.storage.read, handle, 11 * BLOCK, BLOCK)
            )
        self.assertTrue(self.storage.read(handle, 11 * BLOCK, BLOCK) == self.content[11 * BLOCK : 12 * BLOCK])

    def test_a_store_that_ignores_ranges_serves_what_is_small(self):
        with mock.patch.object(fake(), "knows_ranges", False):
            handle = self.storage.open(b"/f", os.O_RDONLY, 0)
            self.assertEqual(self.storage.read(handle, 3, 9), b"tent")
            self.assertIn("whole objects only", self.words(self.storage.open, b"/large", os.O_RDONLY, 0))

    def test_a_file_that_is_replaced_or_removed_meanwhile_is_not_mixed_with_another(self):
        handle = self.storage.open(b"/large", os.O_RDONLY, 0)
        self.put_object("large", self.content[::-1])
        self.assertIn("was replaced while", self.words(self.storage.read, handle, 6 * BLOCK, 10))
        self.storage.rm(b"/large")
        self.assertIn("was removed while", self.words(self.storage.read, handle, 6 * BLOCK, 10))


class Names(FailureCase):
    def refused(self, name):
        with self.assertRaises(ValueError) as caught:
            type(self.storage)(name)
        return str(caught.exception)

    def test_mistakes_in_names_are_explained(self):
        for settings, words in (
            ("timeout=9&timeout=9", "^timeout: given twice$"),
            ("tim%65out=9", "^unknown setting"),
            ("credentials=/no+where", r"^/no\+where: no such file"),
            ("colour=blue", "^colour: unknown setting; known are account, ca_file, credentials,"),
            ("timeout=x", "^timeout: write a number of seconds"),
            ("times=local", "^times: write server or metadata$"),
            ("setstat=no", "^setstat: write ignore or refuse$"),
            ("path_style=maybe", "^path_style: write true or false$"),
            ("endpoint=store", "^endpoint: write http://HOST:PORT"),
            ("spool=/nowhere", "^spool: /nowhere: no such directory$"),
            ("spool_size=lots", "^spool_size: write a number of bytes"),
            ("credentials=/nowhere", "^/nowhere: no such file or directory$"),
        ):
            with self.subTest(settings):
                self.assertRegex(self.refused(f"s3://bucket?{settings}"), words)
        self.assertRegex(self.refused("s3://bucket/a/../b"), "^a prefix has no")
        self.assertRegex(self.refused("ftp://bucket"), "^unknown kind of store")

    def test_secrets_are_not_taken_from_names_and_not_shown(self):
        for name in (f"s3://{KEY}:{SECRET}@bucket", f"s3://bucket?{SECRET}=1",
                     "s3://bucket?" + SECRET.replace("-", ""), f"s3://bucket?secret_key={SECRET}",
                     f"s3://b?endpoint=http://{KEY}:{SECRET}@host"):  # fmt: skip
            with self.subTest(name):
                words = self.refused(name)
                self.assertNotIn(SECRET, words)
                self.assertNotIn(SECRET.replace("-", ""), words)

    def test_keys_come_from_the_file_that_the_name_points_to(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("[default]\naws_access_key_id = x\n[other]\n")
            file.write(f"aws_access_key_id={KEY}\naws_secret_access_key={SECRET}\n")
            file.flush()
            with mock.patch.dict(os.environ, {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}):
                storage = self.open_storage(settings=f"&credentials={file.name}&profile=other")
                self.assertEqual(storage.stat(b"/f").size, 7)
                self.assertRegex(
                    self.refused(f"s3://bucket?credentials={file.name}"), "has no aws_access_key_id and"
                )

    def test_a_profile_without_keys_fails_when_it_is_needed(self):
        storage = self.open_storage(settings="&profile=absent")
        self.assertEqual(self.words(storage.stat, b"/f"), "The profile for the store has no access keys")

    def test_doors_open_it_by_name_and_are_told_what_is_wrong(self):
        self.assertEqual(open_storage(self.name(), "storage").stat(b"/f").size, 7)
        with self.assertRaisesRegex(BadInput, "^storage: s3: colour: unknown setting"):
            open_storage("s3://bucket?colour=blue", "storage")
        with self.assertRaisesRegex(Unavailable, "^storage: s3://absent/: the bucket does not exist$"):
            open_storage(self.name().replace(self.bucket, "absent"), "storage")

    def test_the_parts_of_a_name(self):
        name = Name.of("s3://bucket/a%20b/c/?region=eu-west-1&endpoint=https://h:1")
        self.assertEqual((name.kind, name.bucket, name.prefix), ("s3", "bucket", "a b/c"))
        self.assertEqual(name.settings, {"region": "eu-west-1", "endpoint": "https://h:1"})


class Credentials(FailureCase):
    def test_a_program_of_the_profile_prints_the_keys_and_fails_with_words_alone(self):
        place = Path(self.enterContext(tempfile.TemporaryDirectory()))
        keys, config = place / "keys", place / "config"
        keys.write_text(f'{{"Version": 1, "AccessKeyId": "{KEY}", "SecretAccessKey": "{SECRET}"}}')
        config.write_text(
            f"[default]\ncredential_process = cat {keys}\n[profile bad]\ncredential_process = cat {config}\n"
            f"[profile absent]\ncredential_process = {place}/nothing\n"
        )
        shared = {"AWS_ACCESS_KEY_ID": "", "AWS_CONFIG_FILE": str(config)}
        with mock.patch.dict(os.environ, shared):
            found = credentials.found(os.environ, None, "us-east-1", 60)
            self.assertEqual((found.key, found.secret), (KEY, SECRET))
            self.assertEqual(self.open_storage().stat(b"/f").size, 7)
            for profile in ("bad", "absent"):
                storage = self.open_storage(settings=f"&profile={profile}")
                words = "The program for the credentials of the store has failed"
                self.assertEqual(self.words(storage.stat, b"/f"), words)

    def test_a_failure_to_renew_keys_is_a_failure_in_words(self):
        url = f"http://{LOOPBACK}:{free_port()}/keys"
        away = {"AWS_ACCESS_KEY_ID": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": url}
        with mock.patch.dict(os.environ, away):
            storage = self.open_storage()
            with once(), self.assertRaisesRegex(SFTPFailure, "cannot be reached"):
                storage.stat(b"/f")
