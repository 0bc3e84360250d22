"""Services that fail in every way, and ends of connections: nothing that was asked or said before is lost."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from unittest import mock

from pysftpserver.engine.log import SFTPLog
from pysftpserver.laboratory import client as library
from pysftpserver.laboratory import keys
from pysftpserver.laboratory.service import Client, Service
from pysftpserver.laboratory.services.echo import Echo
from tests.laboratory.serving import HOST, PASSWORD, OldClient, ServerCase
from tests.support.waiting import PATIENCE, eventually, until


class Own(BaseException):
    """An error that is no Exception."""


RAISED = {
    "own": Own,
    "value": ValueError,
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "cancel": asyncio.CancelledError,
    "generator": GeneratorExit,
    "stop": StopIteration,
}


class Wild(Service):
    """Raises what it is told to."""

    def __init__(self) -> None:
        self.left = threading.Event()

    def on_message(self, client: Client, text: str) -> object:  # type: ignore[override]
        word, _, how = text.partition(" ")
        if how == "later":
            return self.later(word)
        if word == "yield":
            return (number for number in range(3))
        if word == "odd":
            return 42
        if word == "zero":
            client.send("a\0b")
        if word in RAISED:
            raise RAISED[word]
        client.send(f"heard {text}")
        return None

    async def later(self, word: str) -> None:
        await asyncio.sleep(0)
        raise RAISED[word]

    async def on_leave(self, client: Client) -> None:
        await asyncio.sleep(0.05)
        self.left.set()
        raise Own


class Faults(ServerCase):
    def test_whatever_a_service_raises_costs_a_message_and_nothing_else(self) -> None:
        served = self.serve(Wild())
        client, other = self.old(served, "k"), self.old(served, "l")
        for word, kind in RAISED.items():
            for text in (word, f"{word} later"):
                with self.subTest(text):
                    self.assertRegex(
                        client.ask(text), r"\AREFUSED MESSAGE: the service Wild failed \(\w+\)\Z"
                    )
                    if text == word:
                        served.log.wait(kind.__name__)
                    self.assertEqual(client.ask("x"), "heard x")
        self.assertIn("failed (ValueError)", client.ask("zero"))
        self.assertEqual(other.ask("x"), "heard x")

    def test_a_method_with_a_yield_in_it_is_a_fault_and_not_silence(self) -> None:
        served = self.serve(Wild())
        client = self.old(served, "k")
        self.assertEqual(client.ask("yield"), "REFUSED MESSAGE: the service Wild failed (TypeError)")
        served.log.wait("a method with a yield in it")
        client.send("odd")
        self.assertEqual(client.ask("x"), "heard x")

    def test_a_good_bye_is_said_to_its_end_even_if_the_client_leaves_in_the_middle(self) -> None:
        wild = Wild()
        served = self.serve(wild, Echo())
        client = self.old(served, "k")
        self.assertEqual(client.ask("SERVICE = echo"), "SERVICE = Echo")
        client.close()
        self.assertTrue(wild.left.wait(PATIENCE))
        served.log.wait("the service failed in on_leave()")

    def test_a_slow_service_does_not_keep_others_waiting_for_all_of_a_pipeline(self) -> None:
        turns: list[int] = []
        may_go_on = threading.Event()

        class Slow(Service):
            def on_message(self, client: Client, text: str) -> None:
                turns.append(client.address[1])
                may_go_on.wait(PATIENCE)
                if text != "x":
                    time.sleep(0.002)
                client.send("y")

        served = self.serve(Slow(), allow_plaintext=True)
        flood, other = self.old(served), self.old(served, "k")
        flood.send_bytes(b"\0" * 600)
        until(lambda: turns, "the first is handled")
        other.send("x")
        may_go_on.set()
        other.receive()
        port = other.socket.getsockname()[1]
        self.assertLess(turns.index(port), 400)


class Ends(ServerCase):
    def test_last_words_reach_a_client_that_is_still_sending(self) -> None:
        class Bouncer(Service):
            def on_message(self, client: Client, text: str) -> None:
                client.disconnect("not\0you")

        served = self.serve(Bouncer())
        for _ in range(5):
            with library.connect(HOST, served.port, password=PASSWORD, name="ann") as connection:
                with contextlib.suppress(library.Ended):
                    for _ in range(200):
                        connection.send("x" * 10_000)
                with self.assertRaises(library.Ended) as caught:
                    connection.receive(PATIENCE)
                self.assertEqual(str(caught.exception), "the server has ended the connection: not you")

    def test_no_connection_is_reset_while_a_client_may_still_read(self) -> None:
        served = self.serve(allow_plaintext=True)
        self.enterContext(mock.patch("pysftpserver.laboratory.session.LINGER", PATIENCE))
        for _ in range(3):
            client = self.old(served)
            client.send_bytes(b"\xff\0")
            for _ in range(20):
                client.send_bytes(b"x" * 20_000)
            said = b""
            while piece := client.socket.recv(65536):  # and not ConnectionResetError
                said += piece
            self.assertEqual(said, b"REFUSED CONNECTION: a message that is not UTF-8\0")

    def test_one_that_does_not_go_is_cut_off_and_one_that_floods_is_not_listened_to(self) -> None:
        with mock.patch("pysftpserver.laboratory.session.LINGER", 0.2):
            served = self.serve(allow_plaintext=True)
            client = self.old(served)
            client.send_bytes(b"\xff\0")
            self.assertEqual(client.receive(), "REFUSED CONNECTION: a message that is not UTF-8")
            with self.assertRaises(OSError):
                while True:
                    client.send_bytes(b"x\0" * 10_000)
            self.assertEqual(len([line for line in served.log.lines if "ended" in line]), 1)
            until(lambda: not served.server.count, "it is cut off")

    def test_what_had_come_is_handled_before_the_server_ends(self) -> None:
        begun, may_go_on = threading.Event(), threading.Event()

        class Slow(Service):
            async def on_message(self, client: Client, text: str) -> None:
                begun.set()
                await self.in_thread(may_go_on.wait, PATIENCE)
                client.send(f"done {text}")

        served = self.serve(Slow(), drain_seconds=PATIENCE)
        client = self.old(served, "k")
        client.send("one", "two", "NAME ?", "three")
        self.assertTrue(begun.wait(PATIENCE))
        served.loop.call_soon_threadsafe(served.server.stop_wanted)
        until(lambda: served.server._is_stopping, "it is stopping")
        may_go_on.set()
        self.assertEqual(
            [client.receive() for _ in range(5)],
            ["done one", "done two", "Laboratory", "done three", "STOP SERVER"],
        )
        client.close()
        served.join()

    def test_a_service_that_never_finishes_keeps_neither_the_server_nor_its_last_words(self) -> None:
        class Stuck(Service):
            async def on_message(self, client: Client, text: str) -> None:
                client.send("begun")
                await asyncio.Event().wait()

        served = self.serve(Stuck(), drain_seconds=0.2)
        client = self.old(served, "k")
        client.send("x", "never")
        self.assertEqual(client.receive(), "begun")
        served.stop()
        self.assertEqual(client.receive(), "STOP SERVER")

    def test_over_ipv6_it_is_all_the_same_and_the_log_has_the_port_apart(self) -> None:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("there is no IPv6 here")
        served = self.serve(host="::1")
        with library.connect("::1", served.port, password=PASSWORD, name="ann") as connection:
            connection.send("x")
            self.assertEqual(connection.receive(PATIENCE), 'I received "x" from you.')
            served.log.wait(f"[::1]:{connection.address[1]}: accepted")

    def test_an_rsa_key_that_was_used_is_forgotten_even_if_nobody_comes_any_more(self) -> None:
        async def later(was_used: bool) -> bool:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(1) as threads:
                pool = keys.Keys(threads, 0.05, 1000, SFTPLog())
                await pool.start()
                first = pool.get() if was_used else pool._key
                if was_used:
                    await eventually(lambda: pool._key is not first, "it stays in use")
                await asyncio.sleep(0.1)
                pool.close()
                return pool._key is not first

        with mock.patch.object(keys, "AGAIN", 0.05):
            self.assertTrue(asyncio.run(later(True)))
            self.assertFalse(asyncio.run(later(False)))


class Flooding(ServerCase):
    def test_an_order_that_is_not_obeyed_is_logged_once_for_a_connection(self) -> None:
        served = self.serve()
        client: OldClient = self.old(served, "k")
        for _ in range(5):
            self.assertTrue(client.ask("STOP SERVER").startswith("REFUSED STOP: "))
        self.assertEqual(len([line for line in served.log.lines if "STOP SERVER" in line]), 1)
