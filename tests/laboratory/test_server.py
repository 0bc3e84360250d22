"""The server, with clients of the old style: the beginning, Echo, the words of its own, services, its end."""

from __future__ import annotations

import asyncio
import threading
import time
from unittest import mock

from pysftpserver.engine.log import SFTPLog
from pysftpserver.laboratory import keys
from pysftpserver.laboratory.config import options
from pysftpserver.laboratory.server import Server
from pysftpserver.laboratory.service import Client, Service
from pysftpserver.laboratory.services.clock import Time
from pysftpserver.laboratory.services.echo import Echo
from tests.laboratory.serving import PASSWORD, Served, ServerCase, cipher
from tests.support.waiting import PATIENCE, until

KEYS = ("", "a key that was chosen")


class Odd(Service):
    """Says what it hears to all, or sleeps.

    And more.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.may_go_on = threading.Event()

    async def on_join(self, client: Client) -> None:
        self.seen.append(("join", client.name))

    def on_message(self, client: Client, text: str) -> object:  # type: ignore[override]
        if text.startswith("later "):
            return self.later(client, text)
        self.broadcast(f"{client.name} says {text}")
        return None

    async def later(self, client: Client, text: str) -> None:
        await self.in_thread(self.may_go_on.wait, PATIENCE)
        self.send(client, text)

    async def on_leave(self, client: Client) -> None:
        self.seen.append(("leave", client.name))


class OldClients(ServerCase):
    def test_one_without_encryption_and_one_with_it_are_answered_by_echo(self) -> None:
        served = self.serve(allow_plaintext=True)
        for key in KEYS:
            client = self.old(served, key)
            for text in ("hello", "", "zwölf", "REFUSED", "x" * 65536):
                self.assertEqual(client.ask(text), f'I received "{text}" from you.')
        self.assertEqual(len([line for line in served.log.lines if "NOT ENCRYPTED: an empty key" in line]), 1)

    def test_messages_cut_at_every_byte_and_merged_arrive_whole_and_in_order(self) -> None:
        served = self.serve(allow_plaintext=True)
        texts = ["one", "", "zwölf", "日本"]
        wanted = [f'I received "{text}" from you.' for text in texts]
        for key in KEYS:
            client = self.old(served, key)
            data = client.bytes_of(*texts)
            for cut in range(0, len(data) + 1, 1 if not key else 9):
                client.send_bytes(data[:cut])
                client.send_bytes(data[cut:])
                self.assertEqual([client.receive() for _ in texts], wanted)
            for at in range(len(data)):
                client.send_bytes(data[at : at + 1])
            self.assertEqual([client.receive() for _ in texts], wanted)
            client.send(*(str(number) for number in range(2000)))
            for number in range(2000):
                self.assertEqual(client.receive(), f'I received "{number}" from you.')

    def test_the_whole_beginning_may_come_in_one_piece(self) -> None:
        client = self.raw(self.serve())
        whole = []
        with mock.patch.object(client, "send_bytes", whole.append):
            client.send_key("k")
        client.send_bytes(b"".join(whole) + client.bytes_of(PASSWORD, "old", "hello", "NAME ?"))
        said = [client.receive() for _ in range(5)]
        self.assertEqual(
            said, ["PASSWORD ?", "NAME ?", "ACCEPTED", 'I received "hello" from you.', "Laboratory"]
        )

    def test_the_server_says_its_name_at_any_time(self) -> None:
        client = self.old(self.serve(name="Here"), "k")
        self.assertEqual(client.ask("NAME ?"), "Here")
        self.assertEqual(client.ask("SERVER ?"), "SERVER = Here")

    def test_two_clients_may_have_one_name(self) -> None:
        served = self.serve(Odd())
        one, two = self.old(served, "k", "same"), self.old(served, "l", "same")
        self.assertEqual(one.ask("x"), "same says x")
        self.assertEqual(two.receive(), "same says x")

    def test_an_empty_key_is_refused_with_the_reason_unless_it_is_allowed(self) -> None:
        served = self.serve()
        client = self.raw(served)
        client.send_key("")
        self.assertEqual(
            client.rest(), b"REFUSED CONNECTION: this server requires encryption, and the key is empty\0"
        )
        served.log.wait("an empty key; allow_plaintext would allow it")

    def test_a_wrong_password_ends_it_and_no_password_is_ever_logged(self) -> None:
        served = self.serve()
        client = self.raw(served)
        client.send_key("k")
        self.assertEqual(client.receive(), "PASSWORD ?")
        self.assertEqual(client.ask("guess 123"), "REFUSED CONNECTION: wrong password")
        self.assertEqual(client.rest(), b"")
        self.old(served, "kk").send("a secret message")
        served.log.wait("accepted as 'old', encrypted")
        text = "\n".join(served.log.lines)
        for secret in (PASSWORD, "guess 123", "secret message"):
            self.assertNotIn(secret, text)

    def test_a_name_that_is_none_ends_it(self) -> None:
        served = self.serve()
        for name in ("", " ", "a\nb", "n" * 65):
            client = self.raw(served)
            client.send_key("k")
            client.send(PASSWORD, name)
            said = [client.receive() for _ in range(3)]
            self.assertTrue(said[2].startswith("REFUSED CONNECTION: a name"), said)

    def test_names_are_shown_in_the_log_without_what_drives_terminals(self) -> None:
        served = self.serve()
        self.old(served, "k", "Zoë 'x'")
        line = served.log.wait("accepted")
        self.assertTrue(line.isascii() and line.isprintable())

    def test_there_is_no_server_without_a_password(self) -> None:
        for password in (None, ""):
            with self.assertRaises(ValueError):
                Server(options(password=password), [Echo()], SFTPLog())


class OwnWords(ServerCase):
    def test_a_client_changes_its_name(self) -> None:
        served = self.serve(Odd())
        client = self.old(served, "k")
        self.assertEqual(client.ask("NAME = new"), "NAME = new")
        self.assertEqual(client.ask("x"), "new says x")
        self.assertTrue(client.ask("NAME = \x1b").startswith("REFUSED NAME: "))
        self.assertEqual(client.ask("y"), "new says y")
        served.log.wait("'old' is now 'new'")

    def test_a_key_is_changed_in_the_middle_of_messages_that_were_sent_ahead(self) -> None:
        served = self.serve()
        client = self.old(served, "first")
        old, new = cipher("first"), cipher("second")
        data = client.bytes_of("before", "KEY = second")
        client.cipher = new
        data += client.bytes_of("after", "KEY = third")
        client.cipher = cipher("third")
        data += client.bytes_of("last")
        client.send_bytes(data)
        said = []
        for one in (old, old, new, new, client.cipher):
            client.cipher = one
            said.append(client.receive())
        self.assertEqual(
            said,
            [
                'I received "before" from you.',
                "KEY = changed",
                'I received "after" from you.',
                "KEY = changed",
                'I received "last" from you.',
            ],
        )
        self.assertNotIn("second", "\n".join(served.log.lines))

    def test_what_comes_under_the_old_key_after_a_change_ends_it(self) -> None:
        served = self.serve()
        client = self.old(served, "first")
        client.send("KEY = second", "replayed")
        self.assertEqual(client.receive(), "KEY = changed")
        client.cipher = cipher("second")
        self.assertIn("a token that the key does not decrypt", client.receive())
        self.assertEqual(client.rest(), b"")

    def test_a_key_is_refused_where_nothing_is_encrypted_and_where_it_is_none(self) -> None:
        served = self.serve(allow_plaintext=True)
        plain, other = self.old(served), self.old(served, "k")
        self.assertIn("REFUSED KEY: this connection is not encrypted", plain.ask("KEY = x"))
        self.assertEqual(other.ask("KEY = "), "REFUSED KEY: the new key is empty")
        self.assertIn("REFUSED KEY: a key of more than 245", other.ask("KEY = " + "x" * 246))
        for client in (plain, other):
            self.assertEqual(client.ask("still"), 'I received "still" from you.')

    def test_services_are_listed_and_chosen(self) -> None:
        served = self.serve(Echo(), Time(), Odd())
        client = self.old(served, "k")
        listing = "\nEcho: Says what it has received.\nTime: Says what time it is here."
        odd = "\nOdd: Says what it hears to all, or sleeps."
        self.assertEqual(client.ask("SERVICE ?"), f"SERVICES = Echo{listing}{odd}")
        self.assertEqual(client.ask("SERVICE = time"), "SERVICE = Time")
        self.assertRegex(client.ask("anything"), r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}$")
        self.assertTrue(client.ask("SERVICE ?").startswith("SERVICES = Time\n"))
        self.assertTrue(client.ask("SERVICE = none").startswith("REFUSED SERVICE: "))
        self.assertEqual(client.ask("SERVICE = ECHO"), "SERVICE = Echo")
        self.assertEqual(client.ask("x"), 'I received "x" from you.')

    def test_a_text_that_looks_like_one_of_them_reaches_the_service_escaped(self) -> None:
        client = self.old(self.serve(Odd()), "k")
        for text in ("STOP SERVER", "NAME ?", "KEY = x", "TEXT = y", "SERVICE = Odd"):
            self.assertEqual(client.ask(f"TEXT = {text}"), f"old says {text}")
        self.assertEqual(client.ask("SERVER = no question"), "old says SERVER = no question")

    def test_what_a_service_says_is_escaped_where_it_looks_like_one_of_them(self) -> None:
        class Parrot(Service):
            def on_message(self, client: Client, text: str) -> None:
                self.send(client, text)

        client = self.old(self.serve(Parrot()), "k")
        self.assertEqual(client.ask("TEXT = STOP SERVER"), "TEXT = STOP SERVER")
        self.assertEqual(client.ask("REFUSED CONNECTION: x"), "TEXT = REFUSED CONNECTION: x")
        self.assertEqual(client.ask("ordinary"), "ordinary")

    def test_a_client_stops_the_server_only_where_that_is_allowed(self) -> None:
        served = self.serve()
        client = self.old(served, "k")
        self.assertTrue(client.ask("STOP SERVER").startswith("REFUSED STOP: "))
        self.assertEqual(client.ask("x"), 'I received "x" from you.')
        served.log.wait("STOP SERVER was refused; allow_remote_stop would allow it")
        willing = self.serve(allow_remote_stop=True, drain_seconds=0.2)
        client, other = self.old(willing, "k"), self.old(willing, "l")
        client.send("STOP SERVER")
        self.assertEqual([client.receive(), other.receive()], ["STOP SERVER"] * 2)
        willing.join()


class Services(ServerCase):
    def test_one_that_is_slow_delays_its_own_client_only_and_keeps_the_order(self) -> None:
        odd = Odd()
        served = self.serve(Echo(), odd)
        client, other = self.old(served, "k"), self.old(served, "l")
        self.assertEqual(client.ask("SERVICE = odd"), "SERVICE = Odd")
        client.send("later one", "two", "NAME ?", "SERVICE = echo", "three")
        self.assertEqual(other.ask("x"), 'I received "x" from you.')
        odd.may_go_on.set()
        self.assertEqual(
            [client.receive() for _ in range(5)],
            ["later one", "old says two", "Laboratory", "SERVICE = Echo", 'I received "three" from you.'],
        )
        self.assertEqual(odd.seen, [("join", "old"), ("leave", "old")])

    def test_a_client_that_leaves_while_it_is_served_is_said_good_bye_to_once(self) -> None:
        odd = Odd()
        served = self.serve(odd)
        client = self.old(served, "k")
        client.send("later one")
        client.close()
        odd.may_go_on.set()
        until(lambda: ("leave", "old") in odd.seen, "it has left")
        self.assertEqual(odd.seen, [("join", "old"), ("leave", "old")])
        self.assertEqual(odd.clients, ())

    def test_one_that_raises_when_a_client_comes_serves_it_all_the_same(self) -> None:
        class Shy(Echo):
            def on_join(self, client: Client) -> None:
                raise LookupError

            async def on_rename(self, client: Client, before: str) -> None:
                raise LookupError

        client = self.old(self.serve(Shy()), "k")
        said = "REFUSED MESSAGE: the service Shy failed (LookupError)"
        self.assertEqual(client.receive(), said)
        self.assertEqual(client.ask("NAME = new"), "NAME = new")
        self.assertEqual(client.receive(), said)
        self.assertEqual(client.ask("x"), 'I received "x" from you.')

    def test_a_service_can_send_somebody_away(self) -> None:
        class Bouncer(Service):
            def on_message(self, client: Client, text: str) -> None:
                client.disconnect("not you")

        client = self.old(self.serve(Bouncer()), "k")
        client.send("x", "y")
        self.assertEqual(client.receive(), "REFUSED CONNECTION: not you")
        self.assertEqual(client.rest(), b"")

    def test_two_of_one_name_are_refused(self) -> None:
        with self.assertRaises(ValueError):
            Server(options(password="x"), [Echo(), Echo()], SFTPLog())


class TheEnd(ServerCase):
    def test_every_accepted_client_is_told_that_the_server_goes_down(self) -> None:
        served = self.serve(allow_plaintext=True, drain_seconds=0.3)
        clients = [self.old(served, key) for key in KEYS]
        waiting = self.raw(served)
        waiting.pem()
        served.stop()
        self.assertEqual([client.receive() for client in clients], ["STOP SERVER"] * 2)
        self.assertEqual([client.rest() for client in (*clients, waiting)], [b""] * 3)

    def test_a_client_that_does_not_read_does_not_keep_it_from_ending(self) -> None:
        served = self.serve(drain_seconds=0.1, allow_plaintext=True, stall_timeout=PATIENCE)
        client = self.old(served)
        client.socket.settimeout(0.3)
        try:
            while True:
                client.send_bytes(b"x" * 1000 + b"\0" + b"y\0" * 1000)
        except TimeoutError:
            pass
        began = time.monotonic()
        served.stop()
        self.assertLess(time.monotonic() - began, PATIENCE / 2)


class RSAKeys(ServerCase):
    def test_they_are_replaced_by_use_and_by_age_and_nobody_waits_for_one(self) -> None:
        served = self.serve(key_uses=2)
        seen = [self.pem_of(served) for _ in range(3)]
        self.assertEqual(seen[0], seen[1])
        deadline = time.monotonic() + PATIENCE
        while seen[-1] == seen[0] and time.monotonic() < deadline:
            seen.append(self.pem_of(served))  # until the next one has been made
        self.assertNotEqual(seen[-1], seen[0])

    def pem_of(self, served: Served) -> bytes:
        client = self.raw(served)
        try:
            return client.pem()
        finally:
            client.close()

    def test_while_one_is_made_the_old_one_serves(self) -> None:
        async def uses() -> list[bytes]:
            from concurrent.futures import ThreadPoolExecutor

            may_go_on = threading.Event()
            made = [keys.make(), keys.make(), keys.make()]

            def slowly() -> keys.ServerKey:
                one = made.pop(0)
                if len(made) == 1:
                    may_go_on.wait(PATIENCE)
                return one

            with ThreadPoolExecutor(1) as threads, mock.patch.object(keys, "make", slowly):
                pool = keys.Keys(threads, 1000, 1, SFTPLog())
                await pool.start()
                found = [pool.get().pem for _ in range(3)]
                may_go_on.set()
                assert pool._next is not None
                await asyncio.wait([pool._next])
                found.append(pool.get().pem)
            return found

        one, two, three, after = asyncio.run(uses())
        self.assertEqual([one, one], [two, three])
        self.assertNotEqual(after, one)
