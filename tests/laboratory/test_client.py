"""The client library: both ways of waiting, requests, and each way in which a connection can fail or end."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
import unittest
from collections.abc import Callable, Iterator
from unittest import mock

from pysftpserver.laboratory import client, wire
from pysftpserver.laboratory.service import Client, Service
from pysftpserver.laboratory.services.clock import Time
from pysftpserver.laboratory.services.echo import Echo
from tests.laboratory.serving import HOST, PASSWORD, Served, ServerCase, is_awaited, noted
from tests.sksync.peers import FakeServer
from tests.support.waiting import NEVER, PATIENCE, eventually

KEYS = (None, "chosen", "")


class Flood(Service):
    """Sends a lot for one message, and says what it hears to all."""

    def on_message(self, client: Client, text: str) -> None:
        for number in range(int(text)):
            self.send(client, f"{number:0500}")


class Blocking(ServerCase):
    def connect(self, served: Served, **given: object) -> client.Connection:
        wanted = {"password": PASSWORD, "name": "ann", "timeout": PATIENCE, **given}
        connection = client.connect(HOST, served.port, **wanted)  # type: ignore[arg-type]
        self.addCleanup(connection.close)
        return connection

    def test_texts_go_and_come_with_any_key_and_whatever_they_look_like(self) -> None:
        served = self.serve(allow_plaintext=True)
        for key in KEYS:
            with self.connect(served, key=key) as connection:
                self.assertEqual(connection.is_encrypted, key != "")
                for text in ("hello", "", "NAME ?", "STOP SERVER", "KEY = x", "TEXT = y", "zwölf\n"):
                    connection.send(text)
                    self.assertEqual(connection.receive(PATIENCE), f'I received "{text}" from you.')

    def test_requests_are_answered_in_the_middle_of_other_texts(self) -> None:
        served = self.serve(Echo(), Time(), name="Here")
        connection = self.connect(served)
        connection.send("one")
        self.assertEqual(connection.server_name(), "Here")
        self.assertEqual(connection.service(), "Echo")
        self.assertEqual(connection.services()[1], ("Time", "Says what time it is here."))
        connection.send("two")
        connection.rename("zoë")
        self.assertEqual(connection.name, "zoë")
        connection.change_key()
        connection.send("three")
        connection.change_key("chosen")
        self.assertEqual(connection.choose("ECHO"), "Echo")
        for text in ("one", "two", "three"):
            self.assertEqual(connection.receive(PATIENCE), f'I received "{text}" from you.')
        with self.assertRaises(client.TimedOut):
            connection.receive(0.01)
        with self.assertRaisesRegex(client.Refused, "no service has that name"):
            connection.choose("nothing")
        with self.assertRaisesRegex(client.Refused, "may not stop"):
            connection.stop_server()
        self.assertEqual(connection.address[0], HOST)

    def test_words_of_the_protocol_can_be_typed_as_they_are(self) -> None:
        connection = self.connect(self.serve(name="Here"))
        connection.send_raw("NAME ?")
        self.assertEqual(connection.receive(PATIENCE), "Here")
        connection.send_raw("SERVICE = none")
        self.assertTrue(connection.receive(PATIENCE).startswith("REFUSED SERVICE: "))
        with self.assertRaises(ValueError):
            connection.send_raw("KEY = x")

    def test_what_cannot_be_said_is_refused_before_it_is(self) -> None:
        served = self.serve(allow_plaintext=True)
        for given in ({"name": ""}, {"name": "a\n"}, {"key": "x" * 246}, {"password": "a\0"}):
            with self.subTest(given), self.assertRaises(ValueError):
                self.connect(served, **given)
        connection = self.connect(served, key="")
        for call in (
            lambda: connection.send("a\0b"),
            lambda: connection.rename("x" * 65),
            lambda: connection.change_key("x"),
        ):
            with self.assertRaises(ValueError):
                call()
        connection.send("x")
        self.assertEqual(connection.receive(PATIENCE), 'I received "x" from you.')

    def test_one_thread_receives_while_others_send(self) -> None:
        connection = self.connect(self.serve())
        received: list[str] = []
        receiver = threading.Thread(target=lambda: received.extend(connection))
        senders = [
            threading.Thread(target=lambda one=one: [connection.send(f"{one} {n}") for n in range(50)])
            for one in range(4)
        ]
        for thread in (receiver, *senders):
            thread.start()
        for thread in senders:
            thread.join()
        self.assertEqual(connection.server_name(), "Laboratory")
        connection.hang_up()
        receiver.join(PATIENCE)
        for one in range(4):
            mine = [text for text in received if text.startswith(f'I received "{one} ')]
            self.assertEqual(mine, [f'I received "{one} {n}" from you.' for n in range(50)])

    def test_closing_it_ends_what_waits_in_another_thread(self) -> None:
        connection = self.connect(self.serve())
        raised: list[Exception] = []
        waiting = threading.Event()

        def receive() -> None:
            waiting.set()
            try:
                connection.receive()
            except client.Ended as error:
                raised.append(error)

        thread = threading.Thread(target=receive)
        thread.start()
        waiting.wait(PATIENCE)
        connection.close()
        thread.join(PATIENCE)
        self.assertEqual(len(raised), 1)
        connection.close()
        for call in (connection.receive, connection.server_name, lambda: connection.send("x")):
            with self.assertRaises(client.Ended):
                call()

    def test_a_lot_that_nobody_receives_waits_at_the_server(self) -> None:
        served = self.serve(Flood(), max_unsent=1 << 28)
        connection = self.connect(served, key="chosen")
        for count in (4000, 1000):
            connection.send(str(count))
            if count == 1000:
                self.assertEqual(connection.server_name(), "Laboratory")  # it reads on for an answer
            self.assertEqual([int(connection.receive(PATIENCE)) for _ in range(count)], list(range(count)))

    def test_the_server_may_be_stopped_where_it_allows_that(self) -> None:
        served = self.serve(allow_remote_stop=True)
        connection, other = self.connect(served), self.connect(served)
        connection.stop_server()
        with self.assertRaisesRegex(client.Stopped, "going down"):
            other.receive(PATIENCE)
        self.assertIsInstance(other.ended, client.Stopped)
        served.join()

    def test_each_way_to_fail_has_its_error(self) -> None:
        served = self.serve()
        with self.assertRaisesRegex(client.Refused, "wrong password"):
            self.connect(served, password="wrong")
        with self.assertRaisesRegex(client.Refused, "requires encryption"):
            self.connect(served, key="")
        with socket.create_server((HOST, 0)) as probe:
            free = probe.getsockname()[1]
        with self.assertRaisesRegex(client.Unreachable, "connection refused"):
            client.connect(HOST, free, password="x", name="x")
        unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        with mock.patch("socket.getaddrinfo", side_effect=unknown), self.assertRaises(client.Unreachable):
            client.connect("nobody.invalid", 1, password="x", name="x")
        with self.assertRaisesRegex(client.Unreachable, "not a host name"):
            client.connect("a..b", 1, password="x", name="x")
        full = self.serve(max_connections=1)
        self.connect(full)
        with self.assertRaisesRegex(client.Refused, "too many connections"):
            self.connect(full)
        before = threading.active_count()
        with self.assertRaises(client.Refused):
            self.connect(full)
        self.assertLessEqual(threading.active_count(), before)


class AtASocket(unittest.TestCase):
    """Servers that are a function of a socket."""

    def serve(self, talk: Callable[[socket.socket], None]) -> int:
        faked = FakeServer(talk)
        self.addCleanup(faked.close)
        return faked.port

    def failing(self, talk: Callable[[socket.socket], None]) -> Exception:
        with self.assertRaises(client.LaboratoryError) as caught:
            client.connect(HOST, self.serve(talk), password="x", name="x", key="", timeout=PATIENCE)
        return caught.exception

    async def too_slow(self, port: int, awaited: str) -> None:
        """Connect; the time is over when that is awaited."""
        with noted() as connections:
            connecting = asyncio.create_task(
                client.connect_async(HOST, port, password="x", name="x", key="", timeout=NEVER)
            )
            await eventually(lambda: is_awaited(awaited, connections), f"{awaited} is not awaited")
            loop = asyncio.get_running_loop()
            with mock.patch.object(loop, "time", lambda: time.monotonic() + NEVER):
                await connecting

    def test_a_server_that_is_silent_times_out_and_says_where(self) -> None:
        pem = wire.pem(wire.new_private_key())
        for said, awaited in ((b"", "its key"), (pem, "'PASSWORD ?'"), (pem + b"PASSWORD ?\0", "'NAME ?'")):

            def talk(one: socket.socket, said: bytes = said) -> None:
                one.sendall(said)
                while one.recv(1000):
                    pass

            with self.assertRaisesRegex(client.TimedOut, f"waiting for {re.escape(awaited)}"):
                asyncio.run(self.too_slow(self.serve(talk), awaited))

    def test_a_server_of_another_kind_is_a_protocol_error_and_one_that_goes_a_refusal(self) -> None:
        self.assertIsInstance(self.failing(lambda one: one.sendall(b"SSH-2.0-x\r\n")), client.ProtocolError)
        self.assertIsInstance(self.failing(lambda one: None), client.Refused)

    def test_a_server_that_knows_the_original_words_only_is_asked_for_its_name_with_those(self) -> None:
        private = wire.new_private_key()

        def messages(one: socket.socket) -> Iterator[str]:
            rest = b""
            while piece := one.recv(4096):
                *whole, rest = (rest + piece).split(b"\0")
                yield from (raw.decode() for raw in whole)

        def talk(one: socket.socket) -> None:
            one.sendall(wire.pem(private))
            one.recv(256, socket.MSG_WAITALL)
            coming = messages(one)
            for text in ("PASSWORD ?", "NAME ?"):
                one.sendall(f"{text}\0".encode())
                next(coming)
            one.sendall(b"ACCEPTED\0")
            for text in coming:
                answer = "Original" if text == "NAME ?" else f'I received "{text}" from you.'
                one.sendall(f"{answer}\0".encode())

        port = self.serve(talk)
        with client.connect(HOST, port, password="x", name="x", key="", timeout=PATIENCE) as connection:
            self.assertEqual(connection.server_name(), "Original")
            for call in (connection.services, lambda: connection.rename("y")):
                with self.assertRaisesRegex(client.ProtocolError, "does not know"):
                    call()
            connection.send("hello")
            self.assertEqual(connection.receive(PATIENCE), 'I received "hello" from you.')

    def test_a_connection_that_breaks_ends_it_after_what_has_come(self) -> None:
        private = wire.new_private_key()

        def talk(one: socket.socket) -> None:
            one.sendall(wire.pem(private))
            one.recv(256, socket.MSG_WAITALL)
            one.sendall(b"PASSWORD ?\0NAME ?\0ACCEPTED\0one\0two\0thr")

        with client.connect(HOST, self.serve(talk), password="x", name="x", key="") as connection:
            self.assertEqual(list(connection), ["one", "two"])
            self.assertIsNotNone(connection.ended)
            with self.assertRaises(client.Ended):
                connection.send("x")


class WithAsyncio(ServerCase):
    def test_the_same_methods_are_coroutines(self) -> None:
        served = self.serve(Echo(), Time(), name="Here")

        async def talk() -> None:
            made = client.connect_async(HOST, served.port, password=PASSWORD, name="ann")
            async with await made as connection:
                await connection.send("hello")
                self.assertEqual(await connection.receive(PATIENCE), 'I received "hello" from you.')
                found = await asyncio.gather(
                    connection.server_name(), connection.service(), connection.services()
                )
                self.assertEqual(found[:2], ["Here", "Echo"])
                await connection.change_key()
                await connection.rename("bob")
                await connection.send("last")
                self.assertEqual(await connection.server_name(), "Here")
                await connection.close()
                self.assertEqual([text async for text in connection], ['I received "last" from you.'])
                with self.assertRaises(client.Ended):
                    await connection.receive()

        asyncio.run(talk())
