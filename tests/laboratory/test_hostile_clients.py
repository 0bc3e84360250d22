"""Clients that mean harm, or break: they are disconnected with a reason, others go on, and memory stays."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
import time
import tracemalloc
from unittest import mock

from pysftpserver.laboratory import client as library
from pysftpserver.laboratory import wire
from pysftpserver.laboratory.server import TRY_LATER
from pysftpserver.laboratory.service import Client, Service
from pysftpserver.laboratory.services.echo import Echo
from pysftpserver.service import throttle
from tests.laboratory.serving import HOST, PASSWORD, OldClient, Served, ServerCase, cipher
from tests.support.hard import IS_HARD
from tests.support.waiting import NEVER, PATIENCE, until

KEY = "k"
MIB = 1 << 20
GUESSES = 1000 if IS_HARD else 100
FLOOD = 20_000  # messages


class Hostile(ServerCase):
    def is_well(self, served: Served) -> None:
        """Somebody else is served as ever, and may be slow on a busy machine."""
        served.server.settings.step_timeout = served.server.settings.login_grace = PATIENCE
        self.assertEqual(self.old(served, "well").ask("x"), 'I received "x" from you.')

    def ends(self, client: OldClient, served: Served, reason: str) -> bytes:
        said = client.rest()
        served.log.wait(reason)
        self.is_well(served)
        return said

    def test_one_that_is_silent_at_any_step_is_disconnected_and_others_are_not(self) -> None:
        served = self.serve()
        accepted = self.old(served, KEY)
        clients = [self.raw(served) for _ in range(2)]
        clients[0].send_key(KEY)
        clients[0].receive()
        served.server.settings.step_timeout = 1.0  # of the steps that begin now
        clients[0].send(PASSWORD)
        clients[0].receive()
        clients[1].send_key(KEY)
        clients[1].receive()
        clients += [self.raw(served) for _ in range(2)]
        clients[2].pem()
        clients[2].send_bytes(b"x" * 100)
        for client, reason in zip(
            clients,
            (
                "its name did not come",
                "its password did not come",
                "its key (100 of its 256 bytes came) did not come",
                "its key did not come within 1 seconds",
            ),
            strict=True,
        ):
            with self.subTest(reason):
                self.ends(client, served, reason)
        self.assertEqual(accepted.ask("x"), 'I received "x" from you.')

    def test_time_runs_for_each_step_and_does_not_begin_anew_with_each_byte(self) -> None:
        served = self.serve(step_timeout=0.3)
        client = self.raw(served)
        client.pem()
        done = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                while not done.wait(0.05):
                    client.send_bytes(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        self.ends(client, served, "did not come within 0.3 seconds")
        done.set()
        thread.join()

    def test_all_steps_together_have_a_time_limit_too(self) -> None:
        served = self.serve(step_timeout=PATIENCE, login_grace=NEVER)
        client = self.raw(served)
        client.send_key(KEY)
        client.receive()
        (session,) = served.server._sessions
        session._must_be_in += 0.1 - NEVER  # type: ignore[attr-defined]
        client.send(PASSWORD)
        client.receive()
        self.ends(client, served, "its name did not come in time (login_grace)")

    def test_one_that_goes_away_at_any_step_leaves_nothing(self) -> None:
        served = self.serve()
        for count in range(4):
            client = self.raw(served)
            client.pem()
            client.send_bytes(b"x" * (100 * count))
            client.close()
        self.is_well(served)
        self.gone(served)

    def gone(self, served: Served) -> None:
        """All connections but those of is_well() are over."""
        served.log.wait("accepted")
        until(lambda: served.server.count <= 1, "connections are left")

    @mock.patch.object(throttle, "FIRST", throttle.MOST)
    def test_hundreds_of_wrong_passwords_are_slowed_and_the_right_one_waits_with_them(self) -> None:
        served = self.serve(key_uses=100)
        kinds = dict.fromkeys(("wrong password", TRY_LATER), 0)
        for number in range(GUESSES):
            with socket.create_connection((HOST, served.port), PATIENCE) as raw:
                data = b""
                while b"END RSA PUBLIC KEY-----\n" not in data and b"\0" not in data:
                    data += raw.recv(4096)
                if b"\0" not in data:
                    raw.sendall(wire.encrypted_key(data, KEY))
                    codec = wire.codec(KEY, 1000)
                    said: list[str] = []
                    while not said:
                        said += codec.feed(raw.recv(4096))
                    raw.sendall(codec.encode([f"guess {number}"]))
                    while len(said) < 2:
                        said += codec.feed(raw.recv(4096))
                    text = said[1]
                else:
                    text = data.rstrip(b"\0").decode()
                kinds[text.removeprefix("REFUSED CONNECTION: ")] += 1
        self.assertLess(kinds["wrong password"], 10)
        self.assertEqual(sum(kinds.values()), GUESSES)
        with self.assertRaises(library.Refused):
            library.connect(HOST, served.port, password=PASSWORD, name="late")
        self.assertLess(len(served.log.lines), 2.5 * GUESSES)

    @mock.patch.object(throttle, "FIRST", throttle.MOST)
    def test_many_guesses_at_once_are_no_way_around_it(self) -> None:
        served = self.serve()
        clients = [self.raw(served) for _ in range(12)]
        for client in clients:
            client.send_key(KEY)
            client.receive()
        answers = [client.ask("a guess") for client in clients]
        self.assertEqual(answers.count("REFUSED CONNECTION: wrong password"), 3)
        self.assertEqual(len([answer for answer in answers if "too many wrong" in answer]), 9)

    def test_passwords_are_compared_in_constant_time(self) -> None:
        served = self.serve()
        with mock.patch("hmac.compare_digest", return_value=True) as compared:
            client = self.raw(served)
            client.introduce(KEY, "any", "old")
        ((one, other), _) = compared.call_args
        self.assertEqual((len(one), len(other)), (32, 32))
        self.assertNotEqual(one, other)

    def test_ten_mebibytes_without_an_end_are_not_kept(self) -> None:
        served = self.serve(allow_plaintext=True)
        for key in ("", KEY):
            client = self.old(served, key)
            with contextlib.suppress(OSError):
                for _ in range(160):
                    client.send_bytes(b"x" * 65536)
            self.ends(client, served, "ended: a message of more than 65536 bytes")

    def test_a_flood_of_empty_messages_lets_others_have_their_turn(self) -> None:
        served = self.serve(allow_plaintext=True, stall_timeout=PATIENCE)
        flood = self.old(served)
        turns: list[int] = []
        before = Echo.on_message

        def on_message(echo: Echo, client: Client, text: str) -> None:
            turns.append(client.address[1])
            before(echo, client, text)

        with mock.patch.object(Echo, "on_message", on_message):
            reader = threading.Thread(target=lambda: [flood.receive() for _ in range(FLOOD)])
            reader.start()
            flood.send_bytes(b"\0" * FLOOD)
            other = self.old(served, KEY)
            self.assertEqual(other.ask("x"), 'I received "x" from you.')
            reader.join()
        self.assertEqual(len(turns), FLOOD + 1)

    def test_bytes_that_are_no_message_end_it_with_the_reason(self) -> None:
        served = self.serve(allow_plaintext=True)
        bad_texts = (b"\xff\xfe\0", b"a\xc3\0")
        for data in bad_texts:
            client = self.old(served)
            client.send_bytes(data)
            said = self.ends(client, served, "ended: a message that is not UTF-8")
            self.assertEqual(said, b"REFUSED CONNECTION: a message that is not UTF-8\0")
        for data in (b"nonsense\n", cipher("other").encrypt(b"x\0") + b"\n", b"\n", b"\0" * 300 + b"\n"):
            client = self.old(served, KEY)
            client.send_bytes(data)
            self.ends(client, served, "ended: a token that the key does not decrypt")

    def test_a_key_that_was_encrypted_badly_is_answered_as_a_wrong_one(self) -> None:
        served = self.serve()
        key = served.server.keys.get().private
        for raw in (b"\0" * 256, os.urandom(256)):
            while not wire.decrypted_key(key, raw):
                raw = os.urandom(256)  # what OpenSSL makes of a wrong padding may be empty: another test's
            client = self.raw(served)
            client.pem()
            client.send_bytes(raw)
            self.assertTrue(client.until(b"\n"))  # a question that nobody can read
            client.send_bytes(cipher(KEY).encrypt(PASSWORD.encode() + b"\0") + b"\n")
            self.ends(client, served, "ended: a token that the key does not decrypt")

    @mock.patch.object(throttle, "FIRST", throttle.MOST)
    def test_who_only_sends_what_nobody_understands_is_slowed_too(self) -> None:
        served = self.serve()
        for _ in range(3):
            client = self.raw(served)
            client.send_key(KEY)
            client.send_bytes(b"nonsense\n")
            client.rest()
        self.assertIn(b"too many", self.raw(served).rest())

    def test_a_wrong_step_is_a_wrong_password(self) -> None:
        served = self.serve()
        client = self.raw(served)
        client.send_key(KEY)
        client.send("NAME ?")
        self.assertEqual(client.receive(), "PASSWORD ?")
        self.ends(client, served, "login refused: wrong password")

    def test_too_many_connections_are_refused_in_all_and_from_one_address(self) -> None:
        for limit in ("max_connections", "max_per_address"):
            served = self.serve(**{limit: 2})
            kept = [self.old(served, KEY), self.old(served, KEY)]
            third = self.raw(served)
            self.assertIn(f"({limit})".encode(), third.rest())
            kept.pop().close()
            served.log.wait("ended: gone")
            until(lambda served=served: served.server.count < 2, "the place is not free again")
            self.is_well(served)

    def test_an_address_that_fills_the_log_is_counted_instead(self) -> None:
        served = self.serve(log_rate=1, max_connections=1)
        self.old(served, KEY)
        for _ in range(60):
            self.assertIn(b"(max_connections)", self.raw(served).rest())
        served.stop()
        served.log.wait("log lines were left out (log_rate)")
        self.assertLess(sum("max_connections" in line for line in served.log.lines), 40)

    def test_one_that_is_silent_for_too_long_is_disconnected_where_that_is_asked_for(self) -> None:
        served = self.serve(idle_timeout=0.2)
        client = self.old(served, KEY)
        self.assertEqual(client.receive(), "REFUSED CONNECTION: silent for too long")
        served.log.wait("silent for 0.2 seconds (idle_timeout)")


class Wordy(Service):
    """Has a lot to say to each message."""

    def __init__(self) -> None:
        self.asked = 0

    def on_message(self, client: Client, text: str) -> None:
        self.asked += 1
        client.send("y" * 100_000)


class Loud(Service):
    """Says a lot to everybody."""

    def on_message(self, client: Client, text: str) -> None:
        if text == "more":
            self.broadcast("x" * 50_000)
        client.send("said")


class NeverReading(ServerCase):
    def test_one_whose_own_answers_it_does_not_take_is_waited_for_and_then_disconnected(self) -> None:
        served = self.serve(allow_plaintext=True, stall_timeout=0.3)
        client = self.old(served)
        other = self.old(served, KEY)
        with contextlib.suppress(OSError):
            while True:
                client.send_bytes(b"y\0" * 10_000)
                if any("it does not read" in line for line in served.log.lines):
                    break
        served.log.wait("it does not read: it was silent or too slow for 0.3 seconds (stall_timeout)")
        self.assertEqual(other.ask("x"), 'I received "x" from you.')

    def test_a_service_that_says_much_for_little_is_asked_no_more_than_is_taken(self) -> None:
        wordy = Wordy()
        served = self.serve(wordy, allow_plaintext=True, stall_timeout=0.2, max_unsent=200_000)
        client = self.old(served)
        client.send_bytes(b"\0" * 60_000)
        served.log.wait("it does not read: it was silent or too slow")
        self.assertLess(wordy.asked, 120)  # and what the system keeps for a connection
        served.server.settings.stall_timeout = PATIENCE  # a busy machine may be slow to read
        reading = self.old(served, KEY)
        reading.send(*["x"] * 100)
        self.assertEqual({len(reading.receive()) for _ in range(100)}, {100_000})

    def test_one_that_reads_slowly_is_waited_for(self) -> None:
        served = self.serve(allow_plaintext=True, stall_timeout=1.0)
        client = self.old(served)
        count = 300_000
        began = time.monotonic()
        sender = threading.Thread(target=lambda: client.send_bytes(b"y\0" * count))
        sender.start()
        come = 0
        while come < count:
            time.sleep(0.015)  # the slowness is what is tested
            piece = client.socket.recv(100_000)
            self.assertTrue(piece, "it was not waited for")
            come += piece.count(b"\0")
        sender.join()
        self.assertGreater(time.monotonic() - began, 1.0)
        self.assertEqual(client.ask("x"), 'I received "x" from you.')

    def test_one_that_reads_a_few_bytes_now_and_then_is_disconnected(self) -> None:
        served = self.serve(allow_plaintext=True, stall_timeout=0.3)
        client = OldClient(served.port, 4096)
        self.addCleanup(client.close)
        client.introduce("", PASSWORD, "slow")
        over = threading.Event()

        def trickle() -> None:
            with contextlib.suppress(OSError):
                while not over.wait(0.1) and client.socket.recv(20):
                    pass

        reader = threading.Thread(target=trickle)
        reader.start()
        with contextlib.suppress(OSError):
            while not any("it does not read" in line for line in served.log.lines):
                client.send_bytes(b"y\0" * 10_000)
        over.set()
        reader.join()
        served.log.wait("it does not read: it was silent or too slow for 0.3 seconds (stall_timeout)")

    def test_one_whom_others_talk_to_is_disconnected_when_too_much_waits_for_it(self) -> None:
        served = self.serve(Loud(), Echo(), allow_plaintext=True, max_unsent=300_000, stall_timeout=PATIENCE)
        deaf = self.old(served)
        talker = self.old(served, KEY)
        for _ in range(400):
            talker.send("more")
            while talker.receive() != "said":
                pass
            if any("it does not read" in line for line in served.log.lines):
                break
        served.log.wait("bytes are unsent (max_unsent)")
        deaf.rest()
        self.assertEqual(talker.ask("x"), "said")


class Memory(ServerCase):
    def test_it_stays_flat_with_all_of_them(self) -> None:
        lingering = mock.patch("pysftpserver.laboratory.session.LINGER", 0.1)
        lingering.start()
        self.addCleanup(lingering.stop)
        served = self.serve(allow_plaintext=True, stall_timeout=0.1, max_unsent=100_000)
        self.once(served)
        gc.collect()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(2):
            self.once(served)
        served.log.lines.clear()
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
        self.assertLess(after - before, MIB // 2)
        self.assertLess(peak - before, 4 * MIB)

    def once(self, served: Served) -> None:
        """Each kind of them."""
        clients = []
        for kind in (1, 2, 3, 4, 0):
            served.server.settings.step_timeout = PATIENCE if kind else 0.5
            client = OldClient(served.port, 4096)
            clients.append(client)
            with contextlib.suppress(OSError, EOFError):
                if kind == 0:
                    client.pem()
                    client.send_bytes(b"x" * 255)
                elif kind == 1:
                    client.introduce("", PASSWORD, "endless")
                    for _ in range(10):
                        client.send_bytes(b"x" * 65536)
                elif kind == 2:
                    client.introduce("", PASSWORD, "deaf")
                    client.socket.settimeout(0.3)
                    while True:
                        client.send_bytes(b"y\0" * 10_000)
                elif kind == 3:
                    client.introduce("", PASSWORD, "bad")
                    client.send_bytes(b"a\0" * 1000 + b"\xff\0")
                elif kind == 4:
                    client.introduce(KEY, PASSWORD, "tokens")
                    client.send_bytes(b"A" * 10_000 + b"\n")
        until(lambda: not served.server.count, "connections are left")
        for client in clients:
            client.close()
