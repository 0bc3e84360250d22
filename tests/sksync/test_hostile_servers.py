"""What servers may say to our client: whatever it is, one clear line, and nothing else has changed."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Callable
from unittest import mock

from pysftpserver.service.patience import Patience
from pysftpserver.sksync import client, wire
from pysftpserver.sksync.client import Dialect, SyncType, sync
from tests.sksync.peers import NEWER, OLD, PeerCase, read_line, read_listing, rest
from tests.sksync.test_hostile_clients import BAD_NAMES, ENDLESS, HUGE, NO_NUMBERS
from tests.support.waiting import PATIENCE

TIME = b"%d\n" % (NEWER * 1000)
NEW = b"new\n" + TIME + b"3\nabc"
FROM, TO, BOTH = SyncType.FROM_SERVER_USE_TIME, SyncType.TO_SERVER_USE_TIME, SyncType.BIDIRECTIONAL_USE_TIME
Script = Callable[[socket.socket], None]


def answering(*said: bytes, dialect: Dialect = Dialect.PYSKSYNC_1, wait: bool = True) -> Script:
    """A server that listens to the end of the listing and then says this. wait: until the client ends."""

    def script(raw: socket.socket) -> None:
        assert read_line(raw) == f"{dialect.title}\n".encode()
        raw.sendall(wire.ESTABLISHED)
        for _ in range(4):
            read_line(raw)
        if dialect.has_digests:
            raw.sendall(wire.WITH_DIGESTS)
        read_listing(raw)
        for one in said:
            raw.sendall(one)
        if wait:
            raw.shutdown(socket.SHUT_WR)
            rest(raw)

    return script


class HostileServers(PeerCase):
    def meets(
        self, said: bytes | Script, words: str, kind: SyncType = FROM, is_dry: bool = False, **more: object
    ) -> None:
        """Our client gives up with these words, and nothing changes."""
        dialect = more.setdefault("dialect", Dialect.PYSKSYNC_1)
        assert isinstance(dialect, Dialect)
        script = answering(said, dialect=dialect) if isinstance(said, bytes) else said
        faked = self.fake(script)
        with self.subTest(said=said if callable(said) else said[:60], kind=kind.name), self.nothing_changes():
            error = self.fails(words, self.request(faked.port, kind, **more), is_dry)
            self.assertEqual(error.summary.received, {})
        faked.close()


class Names(HostileServers):
    def test_a_name_that_leads_elsewhere_ends_the_sync(self) -> None:
        for name in BAD_NAMES:
            if name:  # or it is the end
                self.meets(b"\n" + name + b"\n" + TIME + b"3\nabc\n", "ended: the server sent a name ")
                self.meets(name + b"\n\n\n", "ended: the server sent a name ", TO)

    def test_a_name_that_is_taken_by_something_else_fails_alone(self) -> None:
        names = {
            b"directory": "that name here",
            b"link": "that name here",
            b"link/new": "not a directory",
            b"old/new": "not a directory",
            b".pysftp-0123456789ab-1-1-0123456789abcdef": "temporary files",
            b"directory/.pysftp-0123456789ab-1-1-0123456789abcdef/new": "temporary files",
            b"n" * 300: "file name too long",
        }
        said = b"".join(name + b"\n" + TIME + b"3\nabc" for name in names)
        faked = self.fake(answering(b"\n" + said + NEW + b"\n"))
        before = self.tree()
        summary = sync(self.jailed(self.share), self.request(faked.port, FROM, dialect=Dialect.PYSKSYNC_1))
        self.assertEqual(summary.received, {"new": 3})
        self.assertEqual(list(summary.failed), [name.decode() for name in names])
        for name, why in names.items():
            self.assertIn(why, summary.failed[name.decode()])
        (self.share / "new").unlink()
        self.assertEqual(self.tree(), before)

    def test_a_slash_where_one_directory_only_is_synced_ends_the_sync(self) -> None:
        said = b"\nbelow/new\n" + TIME + b"3\nabc\n"
        self.meets(said, "a file in a directory", is_recursive=False)

    def test_wanting_what_was_not_offered_ends_the_sync(self) -> None:
        for wanted in (b"new\n", b"link\n", b"directory\n", b"link/secret\n", b"Old\n"):
            self.meets(wanted + b"\n\n", "a file that it was not offered", TO)
            self.meets(wanted + b"\n\n", "a file that it was not offered", TO, is_dry=True)
        for kind in (FROM, SyncType.FROM_SERVER_NO_TIME):
            self.meets(b"old\n\n\n", "not offered", kind)
        self.meets(b"below/file\n\n\n", "not offered", TO, is_recursive=False)

    def test_wanting_something_twice_ends_the_sync(self) -> None:
        for kind in (TO, BOTH):
            self.meets(b"old\nold\n\n\n", "or already has", kind)

    def test_what_was_not_asked_for_is_not_taken(self) -> None:
        older, same = b"%d\n" % (OLD * 1000 - 1000), b"%d\n" % (OLD * 1000 + 999)
        for kind in (FROM, BOTH):
            for mtime in (older, same, b"0\n"):
                self.meets(b"\nold\n" + mtime + b"3\nabc\n", "not asked for", kind)
        for kind in (SyncType.FROM_SERVER_NO_TIME, SyncType.BIDIRECTIONAL_NO_TIME):
            self.meets(b"\nold\n" + TIME + b"3\nabc\n", "not asked for", kind)
        for kind in (TO, SyncType.TO_SERVER_NO_TIME):
            self.meets(b"\n" + NEW + b"\n", "not asked for", kind)

    def test_a_file_for_the_second_time_is_not_taken(self) -> None:
        faked = self.fake(answering(b"\n" + NEW + NEW + b"\n"))
        error = self.fails("second time", self.request(faked.port, FROM, dialect=Dialect.PYSKSYNC_1))
        self.assertEqual(error.summary.received, {"new": 3})
        self.assert_no_leftovers()

    def test_files_without_number_end_at_a_limit(self) -> None:
        files = b"".join(b"link/%d\n" % number + TIME + b"0\n" for number in range(101))
        for limit in ({"max_names": 100}, {"max_name_bytes": 600}):
            self.meets(b"\n" + files + b"\n", "too many files", **limit)

    def test_a_dry_run_ends_however_often_a_server_offers_the_same(self) -> None:
        script = answering(b"\nnew\n" + TIME + b"%d\n" % (1 << 40))
        faked = self.fake(*[script] * 5)
        with self.nothing_changes():
            request = self.request(faked.port, FROM, dialect=Dialect.PYSKSYNC_1)
            self.fails("second time", request, sync_dry=True)


class Numbers(HostileServers):
    def test_a_number_that_is_none_ends_the_sync(self) -> None:
        for bad in (*NO_NUMBERS, *HUGE):
            self.meets(b"\nnew\n" + bad + b"\n3\nabc\n", "the server sent time: not a number")
            self.meets(b"\nnew\n" + TIME + bad + b"\nabc\n", "the server sent length: not a number")

    def test_a_wrong_digest_leaves_the_old_file(self) -> None:
        right = hashlib.md5(b"abc").hexdigest().encode()
        for digest in (b"0" * 32, right[:-1], b"", right[:-1] + b"\xff", right + b" "):
            said = b"\nold\n" + TIME + b"3\nabc" + digest + b"\n\n"
            self.meets(said, "the server sent (a malformed digest|a digest that)", dialect=Dialect.PYSKSYNC_2)


class Breaks(HostileServers):
    def test_a_line_without_end_ends_the_sync_at_every_step(self) -> None:
        for said in (b"", b"\n", b"\nnew\n", b"\nnew\n" + TIME):
            self.meets(said + ENDLESS * 3, "a line of more than 65536 bytes")
        greeting = self.saying(ENDLESS * 3)
        self.meets(greeting, "a line of more than 65536 bytes")
        self.meets(self.saying(wire.ESTABLISHED + ENDLESS * 3), "a line of", dialect=Dialect.PYSKSYNC_2)

    @staticmethod
    def saying(said: bytes) -> Script:
        def script(raw: socket.socket) -> None:
            with contextlib.suppress(ConnectionError):
                raw.sendall(said)
            raw.shutdown(socket.SHUT_WR)
            rest(raw)

        return script

    def test_a_server_that_goes_away_at_any_byte_leaves_the_old_file(self) -> None:
        digest = hashlib.md5(b"newer").hexdigest().encode() + b"\n"
        said = b"\nold\n" + TIME + b"5\nnewer" + digest
        for end in range(len(said)):
            self.meets(said[:end], "ended the connection early", dialect=Dialect.PYSKSYNC_2)
        for end in range(len(wire.ESTABLISHED)):
            self.meets(self.saying(wire.ESTABLISHED[:end]), "does not speak pysksync 1 or requires a login")
        self.meets(self.saying(wire.ESTABLISHED), "ended the connection early")

    def test_a_server_that_does_not_want_us_is_understood(self) -> None:
        self.meets(self.saying(b"\n"), "does not speak pysksync 1 or requires a login")
        self.meets(self.saying(b"HTTP/1.1 400 Bad Request\r\n"), "does not speak pysksync 1")
        faked = self.fake()
        faked.close()
        with self.nothing_changes():
            self.fails("cannot connect to 127.0.0.1 port", self.request(faked.port))

    def test_a_login_that_is_answered_with_anything_is_refused_in_one_line(self) -> None:
        login = ("user", "password")
        proved = wire.srp_challenge(b"salt", 12345) + b"00" * 20 + b"\n"
        for said, words in (
            (b"\n", "refused the login"),
            (b"", "refused the login"),
            (b"zz zz\n", "a malformed hexadecimal number"),
            (b"one\n", "a malformed reply to a login"),
            (b"00 00\n", "the server does not know the password"),
            (b"ab " + b"f" * 5000 + b"\n", "a number that is too long"),
            (ENDLESS * 2, "a line of more than"),
            (proved, "the server does not know the password"),
            (proved.replace(b"00" * 20, b"x"), "a malformed hexadecimal number"),
        ):
            self.meets(self.saying(said), words, login=login)

    def test_silence_ends_the_sync(self) -> None:
        def silent(raw: socket.socket) -> None:
            rest(raw)

        words = "waiting for the server, it was silent or too slow for 0.3 seconds"
        self.meets(silent, words, timeout=0.3)
        for said in (b"", b"\n", b"\nold\n", b"\nold\n" + TIME + b"9\n", b"\nold\n" + TIME + b"9\nabc"):
            script = answering(said, wait=False)

            def speaking(raw: socket.socket, script: Script = script) -> None:
                script(raw)
                rest(raw)

            self.meets(speaking, words, timeout=0.3)

    def test_a_byte_now_and_then_ends_the_sync(self) -> None:
        def trickle(raw: socket.socket) -> None:
            answering(b"\nold\n" + TIME + b"9999\n", wait=False)(raw)
            for _ in range(1000):
                raw.sendall(b"x")
                time.sleep(0.02)  # the slowness is what is tested

        self.meets(trickle, "too slow for 0.5 seconds", timeout=0.5)

    def test_a_server_that_does_not_read_ends_the_sync(self) -> None:
        self.put("large", bytes(64 << 20))

        is_deaf, done = threading.Event(), threading.Event()

        def deaf(raw: socket.socket) -> None:
            answering(wait=False)(raw)
            is_deaf.set()
            raw.sendall(b"large\n")
            done.wait(PATIENCE)

        def left(_: Patience) -> float:
            return 0.5 if is_deaf.is_set() else PATIENCE

        faked = self.fake(deaf)
        with self.nothing_changes(), mock.patch.object(Patience, "left", left):
            self.fails("stopped reading", self.request(faked.port, TO, dialect=Dialect.PYSKSYNC_1))
        done.set()

    def test_a_content_without_end_is_received_in_pieces_and_removed(self) -> None:
        sent = bytes(32 << 20)
        self.meets(b"\nold\n" + TIME + b"9223372036854775807\n" + sent, "ended the connection early")


class WhatIsTold(PeerCase):
    def test_no_path_of_the_host_goes_over_the_wire(self) -> None:
        heard = bytearray()

        def listening(raw: socket.socket) -> None:
            raw.sendall(wire.ESTABLISHED + b"\n\n")
            heard.extend(rest(raw))

        faked = self.fake(listening)
        request = self.request(faked.port, BOTH, dialect=Dialect.PYSKSYNC_1, client_path="/as/configured")
        sync(self.jailed(self.share), request)
        faked.close()
        self.assertIn(b"/as/configured\n", heard)
        self.assertNotIn(str(self.place).encode(), heard)
        self.assertNotIn(b"secret", heard)

    def test_a_name_that_drives_a_terminal_does_not_do_it_in_an_error(self) -> None:
        (self.share / "gone").write_bytes(b"")
        script = answering(b"\n\x1b[2J\n" + b"x\n")
        faked = self.fake(script)
        with self.assertRaises(client.SyncError) as caught:
            sync(self.jailed(self.share), self.request(faked.port, FROM, dialect=Dialect.PYSKSYNC_1))
        self.assertTrue(str(caught.exception).isprintable())
