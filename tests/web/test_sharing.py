"""Shared links as the database has them: counted exactly, gone when they expire, kept over restarts."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from pysftpserver.failures import Unavailable
from pysftpserver.people.users import User
from pysftpserver.web import shares
from pysftpserver.web.shares import DROP, KEPT, READ, Share, Shares, TooManyShares
from pysftpserver.web.state import State
from tests.support.cases import InADirectory

ALICE, BOB = (User(name, name, name, True, frozenset()) for name in ("alice", "bob"))
DAY = 86400


class SharingCase(InADirectory):
    """now: the time."""

    def setUp(self) -> None:
        super().setUp()
        self.now = 1_000_000.0
        self.shares = self.opened()

    def opened(self) -> Shares:
        """The shares of the database, opened anew."""
        state = State(os.fspath(Path(self.root) / "state.sqlite"))
        self.addCleanup(state.close)
        return Shares(state, lambda: self.now)

    def share(self, kind: str = READ, most: int | None = None) -> Share:
        return self.shares.add(ALICE, b"/a/f", kind, DAY, None, most)[0]

    def begin(self, share: Share, client: str = "one", is_range: bool = False, length: int = 100) -> object:
        """Begin a download of a file of 100 bytes."""
        return self.shares.begin_download(share, client, b"f", 100, length, is_range)

    def counts(self) -> list[tuple[int, int]]:
        return [(share.downloads, share.uploads) for share in self.shares.of(ALICE)]


class Links(SharingCase):
    def test_a_link_is_found_by_its_token_also_after_a_restart_until_it_expires(self):
        share, token = self.shares.add(ALICE, b"/\xff/f", READ, DAY, "hash", 3)
        self.assertGreaterEqual(len(token), 22)  # characters, for 128 bits
        for links in (self.shares, self.opened()):
            self.assertEqual(links.find(token), share)
        self.now += DAY - 1
        self.assertEqual(self.shares.find(token), share)
        self.now += 1
        self.assertIsNone(self.shares.find(token))

    def test_the_database_holds_no_token_and_is_for_the_account_alone(self):
        _, token = self.shares.add(ALICE, b"/f", READ, DAY)
        for path in Path(self.root).iterdir():
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path)
            self.assertNotIn(token.encode(), path.read_bytes())

    def test_what_is_no_token_finds_nothing(self):
        share, token = self.shares.add(ALICE, b"/f", READ, DAY)
        near = (token[:-1], token + "x", token.swapcase(), share.id)
        for wrong in (*near, "", "\udcff", "x" * 100_000, "' OR 1 --"):
            self.assertIsNone(self.shares.find(wrong))

    def test_a_user_sees_and_revokes_their_own_alone(self):
        share, token = self.shares.add(ALICE, b"/f", READ, DAY)
        self.assertEqual(self.shares.of(BOB), [])
        self.assertIsNone(self.shares.revoke(BOB, share.id))
        self.assertEqual(self.shares.revoke(ALICE, share.id), share)
        self.assertIsNone(self.shares.find(token))
        self.assertIsNone(self.begin(share))
        self.assertFalse(self.shares.begin_upload(share))

    def test_a_user_has_no_more_than_so_many(self):
        with mock.patch.object(shares, "MOST_SHARES", 2):
            self.share()
            self.share()
            with self.assertRaises(TooManyShares):
                self.share()

    def test_what_has_expired_is_swept_with_its_downloads(self):
        self.begin(self.share())
        self.now += 2 * DAY
        self.share()
        self.assertEqual(len(self.shares.of(ALICE)), 1)
        with self.shares._state.look() as connection:
            self.assertEqual(connection.execute("SELECT count(*) FROM downloads").fetchone(), (0,))

    def test_a_database_of_a_newer_version_or_no_database_is_refused_in_words(self):
        with self.shares._state.change() as connection:
            connection.execute("PRAGMA user_version = 1000")
        with self.assertRaisesRegex(Unavailable, "newer version"):
            self.opened()
        text = Path(self.root) / "text"
        text.write_text("no database" * 100)
        for path in (text, Path(self.root), Path(self.root) / "missing" / "x"):
            with self.assertRaisesRegex(Unavailable, "state .*name a file"):
                State(os.fspath(path))


class Counting(SharingCase):
    def test_with_many_at_once_not_one_more_than_the_maximum_is_let_through(self):
        share = self.share(most=7)
        with ThreadPoolExecutor(8) as pool:
            begun = list(pool.map(lambda number: self.begin(share, str(number)), range(40)))
        self.assertEqual(sum(one is not None for one in begun), 7)
        self.assertEqual(self.counts(), [(7, 0)])

    def test_every_whole_download_counts(self):
        share = self.share()
        for _ in range(3):
            self.begin(share)
        self.assertEqual(self.counts(), [(3, 0)])

    def test_a_download_that_broke_off_and_goes_on_is_one_however_often(self):
        share = self.share(most=1)
        download = self.begin(share)
        self.shares.end_download(download, 90)
        for start in range(10, 95, 5):
            part = self.begin(share, is_range=True, length=100 - start)
            self.assertIsNotNone(part, start)
            self.shares.end_download(part, 95 - start)
        self.assertEqual(self.counts(), [(1, 0)])
        self.assertIsNone(self.begin(share))

    def test_the_parts_of_a_download_in_several_parts_are_one(self):
        share = self.share(most=1)
        parts = [self.begin(share, is_range=True, length=25) for _ in range(4)]
        self.assertNotIn(None, parts)
        self.assertEqual(self.counts(), [(1, 0)])

    def test_ranges_cannot_be_asked_for_without_end(self):
        share = self.share(most=2)
        lengths = 0
        while self.begin(share, is_range=True, length=50) is not None:
            lengths += 50
        self.assertEqual(lengths, 400)  # twice the size for each
        self.assertEqual(self.counts(), [(2, 0)])

    def test_another_client_another_file_and_another_day_are_other_downloads(self):
        share = self.share()
        self.begin(share)
        self.begin(share, "two", True, 10)
        self.shares.begin_download(share, "one", b"other", 100, 10, True)
        self.assertEqual(self.counts(), [(3, 0)])
        long = self.shares.add(ALICE, b"/f", READ, 10 * DAY)[0]
        self.begin(long, is_range=True, length=1)
        self.now += KEPT + 100
        self.shares.sweep()
        self.begin(long, is_range=True, length=1)
        self.assertEqual(self.counts(), [(2, 0)])

    def test_no_refund_makes_room_for_more_than_twice_the_size(self):
        share = self.share(most=1)
        download = self.begin(share)
        for _ in range(5):
            self.shares.end_download(download, 100)
        self.assertIsNotNone(self.begin(share, is_range=True, length=100))
        self.assertIsNotNone(self.begin(share, is_range=True, length=100))
        self.assertIsNone(self.begin(share, is_range=True, length=100))

    def test_uploads_are_counted_apart_and_given_back_when_nothing_came_of_them(self):
        share = self.share(DROP, most=2)
        self.assertEqual([self.shares.begin_upload(share) for _ in range(3)], [True, True, False])
        self.shares.undo_upload(share)
        self.assertTrue(self.shares.begin_upload(share))
        self.assertEqual(self.counts(), [(0, 2)])
        self.assertTrue(self.shares.of(ALICE)[0].is_spent)
