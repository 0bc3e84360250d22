"""Many clients that want to shut others out: silent ones, guesses, and listings that fill the memory."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from unittest import mock

from pysftpserver.service import admission, throttle
from pysftpserver.sksync import shares, wire
from pysftpserver.sksync.client import ClientTLS, SyncType, sync
from pysftpserver.sksync.tls import server_context
from tests.sksync.certificates import Pair
from tests.sksync.peers import HELLO, OLD, PeerCase, Serving, opening, read_line, rest
from tests.sksync.processes import ProcessCase, peak
from tests.sksync.test_logins import SALT, USER, VERIFIER, Login
from tests.support.ports import LOOPBACK
from tests.support.waiting import NEVER, PATIENCE

OTHER = "127.0.0.2"  # another address of this host
FOR_EVER = {"timeout": NEVER, "login_grace": NEVER}  # nothing that is silent makes room by its end
NAMES = 60_000  # of each listing: about 11 MiB
CROWD = 12  # clients that send one each
CEILING = 48 << 20  # bytes, for all of them


class Strangers(PeerCase):
    def silent(self, serving: Serving, count: int, source: str = LOOPBACK, said: bytes = b"") -> None:
        """Connections that say something, and then nothing more."""
        for _ in range(count):
            raw = socket.create_connection((LOOPBACK, serving.port), PATIENCE, (source, 0))
            self.addCleanup(raw.close)
            with contextlib.suppress(OSError):  # one too many
                raw.sendall(said)

    def established(self, serving: Serving, source: str = LOOPBACK) -> bool:
        """Whether a newcomer is let in."""
        with socket.create_connection((LOOPBACK, serving.port), PATIENCE, (source, 0)) as raw:
            with contextlib.suppress(OSError):
                raw.sendall(HELLO)
            return read_line(raw) == wire.ESTABLISHED

    def test_silent_sockets_of_one_address_do_not_shut_out_others(self) -> None:
        for said in (b"", HELLO, wire.srp_start("somebody", 12345)):
            with self.subTest(said):
                serving = self.serve(**FOR_EVER)
                self.silent(serving, 100, said=said)
                self.assertTrue(self.established(serving, OTHER))
                serving.said("others are waiting")
                self.assertEqual(serving.errors, [])

    def test_handshakes_that_do_not_go_on_do_not_shut_out_others(self) -> None:
        pair = Pair(self.place, "server")
        serving = self.serve(tls=server_context(pair.certfile, pair.keyfile, None, "TLSv1.2"), **FOR_EVER)
        for begun in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            self.silent(serving, 100, OTHER, begun)
            request = self.request(serving.port, tls=ClientTLS(pair.certfile))
            sync(self.jailed(self.share / "below"), request)
        self.assertEqual(serving.errors, [])

    def test_an_address_has_a_limit_of_its_own_where_its_oldest_stranger_makes_room(self) -> None:
        serving = self.serve(**FOR_EVER, max_per_address=5)
        with mock.patch.object(admission, "QUICK_LOGIN", NEVER):
            self.silent(serving, 6)
            serving.said("max_per_address")
            self.assertTrue(self.established(serving, OTHER))
            self.assertFalse(self.established(serving))
        with mock.patch.object(admission, "QUICK_LOGIN", 0.0):
            self.assertTrue(self.established(serving), "the silent ones keep their own address out")

    def test_who_has_named_a_directory_stays(self) -> None:
        serving = self.serve(**FOR_EVER, max_connections=2)
        syncing = [serving.connect() for _ in range(2)]
        for raw in syncing:
            self.addCleanup(raw.close)
            raw.sendall(opening(1, "/share", b"pysksync 2\n"))
            self.assertEqual(read_line(raw), wire.ESTABLISHED)
            self.assertEqual(read_line(raw), wire.WITH_DIGESTS)
        self.assertFalse(self.established(serving, OTHER))
        serving.said("max_connections")

    def test_nothing_before_the_first_request_takes_longer_than_login_grace(self) -> None:
        serving = self.serve(timeout=NEVER, login_grace=0.5)
        for said in (b"", HELLO, HELLO + b"1\n0\n", HELLO + b"1\n0\n/sha"):
            serving.lines.clear()
            with self.subTest(said), serving.connect() as raw:
                raw.sendall(said)
                rest(raw)
                serving.said("login_grace")


class Hanging(PeerCase):
    def test_a_directory_that_hangs_holds_up_those_who_ask_for_it(self) -> None:
        find = shares.whole_storage(lambda: self.jailed(self.jail))
        goes_on = threading.Event()

        def find_or_hang(path: str, user: str | None = None) -> shares.Share:
            if path == "/hangs":
                goes_on.wait()
            return find(path)

        serving = self.serve(shared=find_or_hang, **FOR_EVER)
        self.addCleanup(goes_on.set)
        for _ in range(24):
            raw = socket.create_connection((LOOPBACK, serving.port), PATIENCE, (OTHER, 0))
            self.addCleanup(raw.close)
            raw.sendall(opening(1, "/hangs"))
            self.assertEqual(read_line(raw), wire.ESTABLISHED)
        sync(self.jailed(self.share / "directory"), self.request(serving.port))


class Guesses(PeerCase):
    def serving(self) -> Serving:
        users = {USER: {"authsrp": [SALT.hex(), f"{VERIFIER:x}"]}}
        return self.serve(require_auth=True, users=users)

    def challenged(self, serving: Serving, login: Login) -> tuple[socket.socket, bytes]:
        """A connection, and the server's challenge; an empty line instead of it where it refuses to look."""
        raw = serving.connect()
        self.addCleanup(raw.close)
        raw.sendall(login.start())
        return raw, read_line(raw)

    def test_a_password_can_be_guessed_a_few_times_a_minute_and_not_a_hundred_times_a_second(self) -> None:
        serving = self.serving()
        began, looked_at, guesses = time.monotonic(), 0, 0
        while guesses < 60:
            login = Login(password=f"guess {guesses}")
            raw, challenge = self.challenged(serving, login)
            if challenge != wire.END:
                looked_at += 1
                raw.sendall(login.said(challenge))
                self.assertEqual(rest(raw), wire.END)
            raw.close()
            guesses += 1
        seconds, allowed = time.monotonic() - began, throttle.FREE
        while seconds > 0:
            seconds -= throttle.delay(allowed)
            allowed += 1
        self.assertLessEqual(looked_at, allowed)

    @mock.patch.object(throttle, "FIRST", throttle.MOST)
    def test_a_login_that_is_begun_and_left_counts_as_a_failed_one(self) -> None:
        serving = self.serving()
        for number in range(throttle.FREE):
            raw, challenge = self.challenged(serving, Login())
            self.assertNotEqual(challenge, wire.END)
            raw.close()
            serving.said("the client has gone", number + 1)
        self.assertEqual(self.challenged(serving, Login())[1], wire.END)
        serving.said("too many failed logins")

    def test_guesses_at_the_same_time_are_no_way_around_it(self) -> None:
        serving = self.serving()
        logins = [Login(password=f"guess {number}") for number in range(10)] + [Login()]
        raws = [self.challenged(serving, login) for login in logins]
        for login, (raw, challenge) in zip(logins, raws, strict=True):
            self.assertNotEqual(challenge, wire.END)
            raw.sendall(login.said(challenge))
            self.assertEqual(rest(raw), wire.END)  # to the right one, too: it would tell that it is right


class SmallCeilings(PeerCase):
    """max_listing_memory of 1 MiB: 2.6 KiB for each connection, and 384 KiB for one address."""

    def served(self, count: int) -> Serving:
        for number in range(count):
            self.put(f"many/{number:06}", b"")
        return self.serve(max_listing_memory=1 << 20, max_connections=100)

    def test_a_shared_directory_that_is_too_large_is_refused_with_words_for_the_administrator(self) -> None:
        serving = self.served(3000)
        self.fails("its log says why", self.request(serving.port, SyncType.FROM_SERVER_USE_TIME))
        serving.said("its listings need too much memory: one user or address")
        serving.said("max_listing_memory")
        self.assert_serves(serving)

    def test_the_memory_is_there_again_when_a_sync_has_ended(self) -> None:
        serving = self.served(1500)
        for _ in range(3):
            request = self.request(serving.port, server_path="/share/many")
            sync(self.jailed(self.share / "directory"), request)
        with serving.connect() as raw:  # one that breaks off
            raw.sendall(opening(1, "/share/many") + b"1700000000000 name\n" * 1500)
        serving.said("the client has gone")
        sync(self.jailed(self.share / "directory"), self.request(serving.port, server_path="/share/many"))


class Listings(ProcessCase):
    def test_all_listings_together_stay_below_a_ceiling_and_small_syncs_go_on(self) -> None:
        server, port = self.start_server(max_listing_memory=CEILING, max_per_address=None, max_connections=20)
        with socket.create_connection((LOOPBACK, port), PATIENCE) as raw:
            raw.sendall(opening(5, "/share") + b"\n")
            self.assertIn(b"old\n", rest(raw))
        before = peak(server)
        names = [
            b"".join(b"%d IMG_%08d.jpeg\n" % (OLD * 1000, at + n) for n in range(1000))
            for at in range(0, NAMES, 1000)
        ]
        for number in range(CROWD):
            raw = socket.create_connection((LOOPBACK, port), PATIENCE, (f"127.0.1.{number + 1}", 0))
            self.addCleanup(raw.close)
            with contextlib.suppress(OSError):  # it is refused before it has said all
                raw.sendall(opening(5, "/share"))
                for some in names:
                    raw.sendall(some)
        server.said("max_listing_memory")
        # Without a ceiling it is 126 MiB; with it, 72; what the threads take varies.
        self.assertLess(peak(server) - before, (CEILING >> 10) + (48 << 10))
        (self.place / "mine").mkdir()
        summary = sync(self.jailed(self.place / "mine"), self.request(port))
        self.assertEqual(summary.failed, {})
