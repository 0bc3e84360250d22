"""The network between the storage and the store fails: cuts, truncated answers, 503, delays, silence.

What is stored is whole, what fails has words, and the session goes on. `make test-hard` tries the same with
servers that others wrote, and what they answer to wrong credentials.
"""

from __future__ import annotations

import itertools
import os
import socket
import tempfile
import time
from unittest import mock
from urllib.parse import urlsplit

from pysftpserver.mountedstorage import SFTPServerMountedStorage
from pysftpserver.pysftpexceptions import SFTPException, SFTPUnavailable, status_of
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.storages.objects import reading, signing
from tests.objects.stores import SECRET, once
from tests.objects.test_uploads import CREATE, MIB, UploadCase
from tests.support.between import CLOSE, DOWN, RESET, UP, Between
from tests.support.hard import IS_HARD
from tests.support.waiting import PATIENCE

BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
AWAY = "^The (connection to the store was lost|store cannot be reached|store did not answer)"
SOON = 2  # seconds that a request may wait in all, where it fails


class NetworkCase(UploadCase):
    """self.between is on the way to the store. self.other has a way of its own."""

    settings = "&timeout=60"

    def setUp(self):
        super().setUp()
        self.between = Between(urlsplit(self.url).port)
        self.addCleanup(self.between.close)
        self.storage = self.open_storage(url=self.between.url)

    def order(self, direction, order, after=0, times=1):
        """Order something at the first pieces in a direction behind so many bytes; with times=None always.

        Connections that are older have to be gone to count from their beginning.
        """
        self.storage._store.close()
        left = itertools.count() if times is None else iter(range(times))

        def asked(its_direction, so_far, piece):
            is_there = its_direction == direction and so_far + len(piece) > after
            return order if is_there and next(left, None) is not None else None

        self.between.order = asked
        self.left = left

    def in_order_again(self):
        self.between.order = lambda direction, so_far, piece: None

    def assert_was_ordered(self):
        self.assertIsNone(next(self.left, None), "the network did not fail")

    def put(self, content, storage=None):
        storage = storage or self.storage
        handle = storage.open(b"/f", CREATE, 0o666)
        try:
            self.write(handle, content, 0, storage)
        except BaseException:
            storage.abandon(handle)
            raise
        storage.close(handle)

    def get(self, storage=None):
        storage = storage or self.storage
        handle = storage.open(b"/f", os.O_RDONLY, 0)
        try:
            step, size = reading.BLOCK // 2, storage.fstat(handle).size
            return b"".join(storage.read(handle, off, step) for off in range(0, size, step))
        finally:
            storage.close(handle)

    def words(self, call, *arguments):
        with self.assertRaises((SFTPException, OSError)) as caught:
            call(*arguments)
        words = status_of(caught.exception)[1].decode()
        for secret in (SECRET, str(self.between.port), self.bucket):
            self.assertNotIn(secret, words)
        return words


class Up(NetworkCase):
    def test_what_fails_once_is_sent_again_and_the_file_is_whole(self):
        for direction, order, after in (
            (UP, RESET, 5 * MIB),
            (UP, CLOSE, 5 * MIB),
            (UP, BUSY, 5 * MIB),
            (DOWN, RESET, 0),
            (DOWN, CLOSE, 20),
        ):
            for content in (self.content, b"small" * 1000):
                with self.subTest(direction=direction, order=order, size=len(content)):
                    self.order(direction, order, min(after, len(content) // 2))
                    self.put(content)
                    self.assert_was_ordered()
                    self.assertTrue(self.get_object("f") == content)
                    self.assertEqual(self.all_uploads(), [])

    def test_an_answer_to_the_completion_that_is_lost_is_no_failure(self):
        handle = self.storage.open(b"/f", CREATE, 0o666)
        self.write(handle, self.content)
        steps = iter((b"POST ", b""))  # the request, then the first piece of its answer
        step = next(steps)

        def lost(direction, so_far, piece):
            nonlocal step
            if step is None or direction != (UP if step else DOWN) or not piece.startswith(step):
                return None
            step = next(steps, None)
            return RESET if direction == DOWN else None

        self.between.order = lost
        self.storage.close(handle)
        self.assertIsNone(step, "the answer was not lost")
        self.assertTrue(self.get_object("f") == self.content)

    def test_a_network_that_goes_away_leaves_the_old_file_and_the_session_goes_on(self):
        self.put_object("f", b"old")
        for content in (self.content, b"small"):
            with self.subTest(size=len(content)):
                with once():  # a part may be on its way
                    handle = self.storage.open(b"/f", CREATE, 0o666)
                    self.write(handle, content)
                    self.order(UP, RESET, times=None)
                    self.assertRegex(self.words(self.storage.close, handle), AWAY)
                self.in_order_again()
                self.assertEqual(self.get_object("f"), b"old")
                self.assertEqual(self.storage.stat(b"/f").size, 3)
        self.put(self.content)
        self.assertTrue(self.get_object("f") == self.content)
        self.storage.close_client()
        self.assertEqual(self.all_uploads(), [])


class Down(NetworkCase):
    def setUp(self):
        super().setUp()
        self.content = os.urandom(10 * reading.BLOCK + 777)
        self.put_object("f", self.content)

    def test_what_is_cut_once_is_asked_for_again_and_the_file_is_whole(self):
        for direction, order, after in (
            (DOWN, RESET, 6 * reading.BLOCK),
            (DOWN, CLOSE, 6 * reading.BLOCK),
            (DOWN, CLOSE, 100),
            (DOWN, RESET, 0),
            (UP, BUSY, 0),
            (DOWN, 0.2, reading.BLOCK),
        ):
            with self.subTest(direction=direction, order=order, after=after):
                self.order(direction, order, after)
                self.assertTrue(self.get() == self.content)
                self.assert_was_ordered()

    def test_a_mount_whose_gateway_finds_no_store_is_away_and_is_tried_again(self):
        storage = self.storage
        self.put_object("f", b"content")
        with tempfile.TemporaryDirectory() as directory:
            tree = SFTPServerMountedStorage(SFTPServerStorage(directory), {b"/far": storage})
            for status in (b"502 Bad Gateway", b"503 Service Unavailable", b"504 Gateway Timeout"):
                with self.subTest(status):
                    self.order(DOWN, BUSY.replace(b"503 Slow Down", status), times=None)
                    impatient = mock.patch.object(storage._store._web, "patience", 0.3)
                    with impatient, self.assertRaises(SFTPUnavailable):
                        tree.stat(b"/far/f")
                    self.in_order_again()
                    with self.assertRaisesRegex(SFTPUnavailable, "^The storage of /far is not available"):
                        tree.stat(b"/far/f")  # not asked
                    tree._tree.mounts[1]._retry_at = 0.0  # the pause is over
                    self.assertEqual(tree.stat(b"/far/f").size, 7)

    def test_what_is_always_cut_fails_with_words_and_the_session_goes_on(self):
        for order in (RESET, CLOSE):
            with self.subTest(order=order):
                storage = self.storage
                self.order(DOWN, order, 6 * reading.BLOCK, times=None)
                handle = storage.open(b"/f", os.O_RDONLY, 0)
                storage.read(handle, 0, 1000)
                self.between.order = lambda direction, so_far, piece, order=order: (
                    order if direction == DOWN else None
                )
                with once():
                    self.assertRegex(self.words(storage.read, handle, 8 * reading.BLOCK, 1000), AWAY)
                self.in_order_again()
                at = 8 * reading.BLOCK
                self.assertEqual(storage.read(handle, at, 1000), self.content[at : at + 1000])
                storage.close(handle)

    def test_a_listing_that_is_cut_is_asked_for_again_and_never_shortened(self):
        for number in range(20):
            self.put_object(f"d/{number}")
        for order in (RESET, CLOSE):
            with self.subTest(order=order):
                self.order(DOWN, order, 1000)
                names = [name for name, _ in self.storage.opendir(b"/d")]
                self.assertEqual(len(names), 22)
                self.assert_was_ordered()

    def test_a_store_that_falls_silent_fails_within_the_timeout(self):
        storage = self.storage
        self.assertEqual(storage.stat(b"/f").size, len(self.content))
        self.order(DOWN, PATIENCE, times=None)
        began = time.monotonic()
        with mock.patch.object(storage._store._web, "patience", SOON):
            self.assertRegex(self.words(storage.opendir, b"/"), AWAY)
        self.assertLess(time.monotonic() - began, PATIENCE / 2)
        self.in_order_again()
        self.assertEqual(storage.stat(b"/f").size, len(self.content))

    def test_a_resolver_that_goes_away_fails_with_words_and_the_session_goes_on(self):
        storage = self.storage
        self.assertEqual(storage.stat(b"/f").size, len(self.content))
        storage._store.close()
        gone = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        with mock.patch.object(socket, "getaddrinfo", side_effect=gone), once():
            self.assertRegex(self.words(storage.stat, b"/f"), "its host name cannot be resolved$")
        self.assertEqual(storage.stat(b"/f").size, len(self.content))


if IS_HARD:

    class UpToRclone(Up):
        server = "rclone"

    class DownFromRclone(Down):
        server = "rclone"

    class UpToMoto(Up):
        server = "moto"

    class DownFromMoto(Down):
        server = "moto"


class Refusals(NetworkCase):
    """rclone's server checks signatures."""

    server = "rclone"

    def setUp(self):
        super().setUp()
        self.put_object("f", b"content")

    def test_credentials_and_clocks_that_are_wrong_are_refused_with_words(self):
        for variables, words in (
            ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "^The store does not accept the credentials"),
            ({"AWS_ACCESS_KEY_ID": "wrong"}, "^The store does not know the access key$"),
        ):
            with self.subTest(variables), mock.patch.dict(os.environ, variables):
                storage = self.open_storage(url=self.between.url)
                for call in (storage.connect, lambda storage=storage: storage.stat(b"/f")):
                    self.assertRegex(self.words(call), words)
        late = time.gmtime(time.time() - 3 * 3600)
        with mock.patch.object(signing.time, "gmtime", return_value=late):
            self.assertRegex(
                self.words(self.storage.stat, b"/f"), "^The (clock of this server|store denies access)"
            )
        self.assertEqual(self.storage.stat(b"/f").size, 7)
