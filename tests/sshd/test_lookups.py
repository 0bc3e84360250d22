"""Users that a program or an HTTP service knows: what it is asked, and what is made of its answers."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import tempfile
import threading
import time
import unittest
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pyotp

from pysftpserver.failures import BadInput
from pysftpserver.people.keys import fingerprint, key_line
from pysftpserver.people.lookups import Lookup, NoAnswer, parsed, source_of
from pysftpserver.sshd.config import ServerSettings
from tests.sshd.certifying import WorkshopCase, blob_of
from tests.sshd.inprocess import KEY, OTHER_KEY, asynchronous, raw, running, user
from tests.sshd.test_certificates import pair_of
from tests.sshd.test_logins import files
from tests.sshd.test_ways_in import HASH, ONLY_PASSWORD, PASSWORD, SECRET, answers, is_let_in
from tests.sshd.test_ways_in import setUpModule as setUpModule
from tests.support.processes import is_alive
from tests.support.waiting import PATIENCE, eventually, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOB = KEY.public_data


class Service:
    """An HTTP service. answer: makes (status, body) of a question, or blocks; asked: all questions."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any]) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.asked.append(question)
                service.tokens.append(self.headers["Authorization"])
                found = service.answer(question)
                status, body = found if isinstance(found, tuple) else (200, json.dumps(found).encode())
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *words: None  # a client that has gone

    @property
    def options(self) -> dict[str, str | bool]:
        url = f"http://127.0.0.1:{self.server.server_port}/users"
        return {"lookup_url": url, "auth_methods": "publickey password"}


@contextmanager
def serving(answer: Callable[[dict[str, Any]], Any]) -> Iterator[Service]:
    service = Service(answer)
    thread = threading.Thread(target=service.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.server.shutdown()
        service.server.server_close()
        thread.join(PATIENCE)


def by_password(question: dict[str, Any]) -> Any:
    return {"folder": "f", "accepted": True} if question.get("password") == PASSWORD else None


class TestCertificates(WorkshopCase):
    @asynchronous
    async def test_users_of_a_lookup_log_in_with_certificates_of_the_servers_CAs(self) -> None:
        workshop = self.workshop
        trusted = workshop.place / "trusted"
        trusted.write_text(self.authority.with_suffix(".pub").read_text())
        right = workshop.certify(
            self.authority, self.key, key_id="her laptop", serial=7, principals="alice,x"
        )
        other = workshop.certify(workshop.key(), self.key)
        answers: dict[str, Any] = {
            "alice": {"folder": "f"},
            "bob": {"folder": "f", "accepted": False},
            "carol": {"folder": "f", "principals": "x"},
            "dora": {"folder": "f", "active": False},
        }
        with serving(lambda question: answers.get(question["name"])) as service:
            options = {**service.options, "trusted_user_ca_keys": str(trusted), "lookup_cache": "0"}
            async with running(files, user("nobody"), options=options) as server:
                server.server.authorities._interval = 0.02

                async def enters(name: str, certificate: Path) -> bool:
                    return await is_let_in(server, name, client_keys=[pair_of(self.key, certificate)])

                for name, lets_in, words in (
                    ("alice", True, "logged in with certificate"),
                    ("bob", False, "the lookup does not accept it"),
                    ("carol", True, "(by lookup)"),
                    ("dora", False, "inactive user"),
                    ("eve", False, "unknown user"),
                ):
                    with self.subTest(name):
                        self.assertEqual(await enters(name, right), lets_in)
                        await eventually(lambda words=words: any(words in line for line in server.lines))
                shown = {
                    "key_id": "her laptop",
                    "serial": 7,
                    "ca": fingerprint(blob_of(self.authority.with_suffix(".pub"))),
                }
                key = blob_of(self.key.with_suffix(".pub"))
                shown |= {"key": key_line(key), "fingerprint": fingerprint(key), "address": "127.0.0.1"}
                self.assertEqual(service.asked[0], {"name": "alice", "method": "certificate", **shown})
                service.asked.clear()
                self.assertFalse(await enters("alice", other))
                self.assertEqual(service.asked, [])
                connection = await server.connect(client_keys=[pair_of(self.key, right)])
                trusted.write_text("")
                await asyncio.wait_for(connection.wait_closed(), PATIENCE)


class TestHTTP(unittest.TestCase):
    @asynchronous
    async def test_it_gets_what_the_client_shows_and_says_who_is_let_in(self) -> None:
        with serving(by_password) as service:
            async with running(files, user("bob"), options=service.options) as server:
                connection = await server.connect(password=PASSWORD, **ONLY_PASSWORD)
                (there,) = server.server.connections
                self.assertEqual((there.user.name, there.user.folder), ("alice", "f"))
                connection.close()
                self.assertFalse(await is_let_in(server, password="a wrong guess", **ONLY_PASSWORD))
                self.assertFalse(await is_let_in(server))  # with a key
                asked = {"name": "alice", "address": "127.0.0.1"}
                key = {"key": key_line(BLOB), "fingerprint": fingerprint(BLOB)}
                self.assertEqual(service.asked[0], {**asked, "method": "password", "password": PASSWORD})
                self.assertEqual(service.asked[-1], {**asked, "method": "publickey", **key})
                await eventually(lambda: any("a password (by lookup)" in line for line in server.lines))
                await eventually(lambda: any("unknown user, password" in line for line in server.lines))
                self.assertFalse(any(PASSWORD in line for line in server.lines))

    @asynchronous
    async def test_a_record_without_a_word_of_acceptance_needs_the_key_or_the_hash(self) -> None:
        record = {"keys": [key_line(BLOB)], "password": HASH}
        with serving(lambda question: record) as service:
            async with running(files, user("bob"), options=service.options) as server:
                self.assertTrue(await is_let_in(server))
                self.assertEqual(len(service.asked), 1)  # a client asks about a key, and then signs
                self.assertTrue(await is_let_in(server))
                self.assertEqual(len(service.asked), 1)
                self.assertFalse(await is_let_in(server, client_keys=[OTHER_KEY]))
                self.assertTrue(await is_let_in(server, password=PASSWORD, **ONLY_PASSWORD))
                self.assertFalse(await is_let_in(server, password="a wrong guess", **ONLY_PASSWORD))

    @asynchronous
    async def test_stored_users_come_first_the_unusable_ones_too(self) -> None:
        people = user("alice", is_active=False), user("keys", OTHER_KEY)
        with serving(lambda question: {"accepted": True}) as service:
            async with running(files, *people, options=service.options) as server:
                server.users.has = lambda name: name == "broken" or server.users.find(name) is not None
                for name in ("alice", "keys", "broken"):
                    self.assertFalse(await is_let_in(server, name), name)
                    self.assertFalse(await is_let_in(server, name, password=PASSWORD, **ONLY_PASSWORD), name)
                self.assertEqual(service.asked, [])
                async with await server.connect("carol") as carol:
                    server.users.put(user("carol", OTHER_KEY))  # now stored
                    await asyncio.wait_for(carol.wait_closed(), PATIENCE)

    @asynchronous
    async def test_no_answer_lets_nobody_in_and_the_log_says_why(self) -> None:
        with serving(lambda question: given.pop(0)) as service:
            options = {**service.options, "lookup_cache": "0"}
            async with running(files, user("bob"), options=options) as server:
                given: list[Any] = [(500, b""), (302, b"{}"), {"accepted": 1}, (404, b""), (204, b"")]
                while given:
                    self.assertFalse(await is_let_in(server, password=PASSWORD, **ONLY_PASSWORD), given)
                self.assertEqual(sum("lookup of 'alice'" in line for line in server.lines), 3)
                self.assertFalse(any(PASSWORD in line for line in server.lines), server.lines)
                self.assertTrue(await is_let_in(server, "bob"))

    @asynchronous
    async def test_one_that_does_not_answer_in_time_lets_nobody_in(self) -> None:
        go_on = threading.Event()
        with serving(lambda question: go_on.wait(PATIENCE) and None) as service:
            options = {**service.options, "lookup_seconds": "0.2"}
            async with running(files, user("bob"), options=options) as server:
                self.assertFalse(await is_let_in(server, password=PASSWORD, **ONLY_PASSWORD))
            go_on.set()

    @asynchronous
    async def test_one_that_does_not_answer_keeps_no_stored_user_waiting(self) -> None:
        go_on = threading.Event()

        def wait(question: dict[str, Any]) -> Any:
            go_on.wait(PATIENCE)
            return {"accepted": True}

        with serving(wait) as service:
            options = {**service.options, "lookup_seconds": f"{PATIENCE}", "lookup_most": "2"}
            async with running(files, user("bob"), options=options) as server:
                waiting = [
                    asyncio.create_task(
                        is_let_in(server, f"user{number}", password=PASSWORD, **ONLY_PASSWORD)
                    )
                    for number in range(6)
                ]
                await eventually(lambda: len(service.asked) == 2)
                async with await server.connect("bob") as bob:
                    await raw(bob)
                self.assertEqual(len(service.asked), 2)  # at once
                go_on.set()
                self.assertEqual(await asyncio.gather(*waiting), [True] * 6)

    @asynchronous
    async def test_a_record_may_ask_for_more(self) -> None:
        record = {"keys": [key_line(BLOB)], "methods": ["publickey,password"], "totp": SECRET}

        def answer(question: dict[str, Any]) -> Any:
            if question["method"] == "publickey":
                return record
            return {**record, "keys": [], "accepted": question["password"] == PASSWORD}

        with serving(answer) as service:
            async with running(files, user("bob"), options=service.options) as server:
                self.assertFalse(await is_let_in(server))
                self.assertFalse(await is_let_in(server, password=PASSWORD))
                how = {"client_keys": [KEY], "preferred_auth": "publickey,keyboard-interactive"}
                code = pyotp.TOTP(SECRET).at(time.time())
                asked = ["Password: ", "Verification code: "]
                self.assertEqual(await answers(server, PASSWORD, code, **how), (True, asked))
                for name in ("alice", "Alice"):  # one person, if what is asked does not mind the case
                    self.assertEqual((await answers(server, PASSWORD, code, name=name, **how))[0], False)

    @asynchronous
    async def test_strangers_who_show_many_keys_do_not_fill_the_memory_with_the_record(
        self,
    ) -> None:
        record = {"keys": [key_line(BLOB)] * 100}
        with serving(lambda question: record) as service:
            settings = ServerSettings(lookup_url=str(service.options["lookup_url"]))
            lookup = Lookup(source_of(settings), settings)  # type: ignore[arg-type]
            self.addCleanup(lookup.shutdown)
            asked = [await lookup.find("x", "alice", "publickey", "x", key=bytes([n])) for n in range(5)]
            self.assertEqual(len({id(found) for found, _ in asked}), 1)
            record["keys"] = []
            found, _ = await lookup.find("x", "alice", "publickey", "x", key=b"another")
            assert found is not None
            self.assertEqual(found.keys, frozenset())

    def test_a_token_is_sent_and_nothing_goes_over_the_network_in_the_clear(self) -> None:
        with tempfile.NamedTemporaryFile("w") as file, serving(lambda question: None) as service:
            file.write("a-token\n")
            file.flush()
            url = str(service.options["lookup_url"])
            source = source_of(ServerSettings(lookup_url=url, lookup_token_file=file.name))
            assert source is not None
            self.assertEqual(source.ask(b"{}"), b"null")
            self.assertEqual(service.tokens, ["Bearer a-token"])
        for url in ("http://files.example.org/", "ftp://127.0.0.1/", "https://me:secret@x/", "https:///x"):
            with self.assertRaises(BadInput):
                source_of(ServerSettings(lookup_url=url))


class TestCommand(unittest.TestCase):
    def ask(self, script: str, seconds: float = PATIENCE) -> bytes:
        settings = ServerSettings(lookup_command=f"sh -c {shlex.quote(script)}", lookup_seconds=seconds)
        source = source_of(settings)
        assert source is not None
        return source.ask(b'{"name": "alice"}')

    def test_it_reads_the_question_and_writes_the_answer(self) -> None:
        self.assertEqual(self.ask("cat"), b'{"name": "alice"}')
        self.assertEqual(self.ask("exit 0"), b"")
        for script, words in (("exit 3", "status 3"), ("kill -9 $$", "status -9")):
            with self.assertRaisesRegex(NoAnswer, words):
                self.ask(script)
        with self.assertRaisesRegex(NoAnswer, "no such file"):
            source_of(ServerSettings(lookup_command="/nowhere/at/all")).ask(b"")

    def test_one_that_takes_too_long_is_killed_with_what_it_has_started(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "pid"
            communicate = subprocess.Popen.communicate

            def once_it_runs(process: Any, *how: Any) -> Any:
                until(lambda: path.exists() and path.read_text().endswith("\n"), "it runs")
                return communicate(process, *how)

            slow = mock.patch.object(subprocess.Popen, "communicate", once_it_runs)
            with slow, self.assertRaisesRegex(NoAnswer, "took longer than 0.2 seconds"):
                self.ask(f"sleep 1000 & echo $! > {path}; wait", 0.2)
            until(lambda: not is_alive(int(path.read_text())), "it has ended")

    def test_an_answer_that_is_no_record_is_none(self) -> None:
        for text, words in (
            (b"no json", "not JSON"),
            (b"[" * 60_000, "not JSON"),
            (b'{"accepted": true}' + b" " * 70_000, "not JSON"),
            (b"[1]", "not an object"),
            (b'{"accepted": "yes"}', "accepted"),
            (b'{"accepted": null}', "accepted"),
            (b'{"accepted": true, "folder": "../b"}', "folder"),
            (b'{"accepted": true, "actve": false}', "actve"),
            (b'{"accepted": true, "keys": "no list"}', "keys"),
            (b'{"accepted": true, "password": "in the clear"}', "argon2id"),
            (b'{"accepted": true, "authorized_keys": "/etc/passwd"}', "authorized_keys"),
        ):
            with self.assertRaisesRegex(NoAnswer, words):
                parsed("alice", text)

    def test_no_answer_is_none_and_a_record_has_the_fields_of_a_stored_one(self) -> None:
        for text in (b"", b"  ", b"null"):
            self.assertEqual(parsed("alice", text), (None, None))
        found, is_accepted = parsed("alice", b'{"folder": "f"}')
        assert found is not None
        self.assertEqual((found.folder, found.is_active, is_accepted), ("f", True, None))


if __name__ == "__main__":
    unittest.main()


class Reloading(unittest.TestCase):
    @asynchronous
    async def test_another_service_is_asked_after_a_reload_and_earlier_questions_are_answered(
        self,
    ) -> None:
        asked, goes_on = threading.Event(), threading.Event()

        def first(question: dict[str, Any]) -> Any:
            asked.set()
            goes_on.wait(PATIENCE)
            return {"accepted": True}

        with serving(first) as old, serving(lambda question: {"accepted": True}) as new:
            async with running(files, options=old.options) as server:
                waiting = asyncio.create_task(is_let_in(server, "old"))
                await eventually(asked.is_set)
                settings = ServerSettings(**{"lookup_url": new.options["lookup_url"], "lookup_most": 1})
                server.server.settings.take_over(settings)
                server.server.ask_about_users(source_of(settings))
                self.assertTrue(await is_let_in(server, "new"))
                goes_on.set()
                self.assertTrue(await waiting)
                server.server.ask_about_users(None)
                self.assertFalse(await is_let_in(server, "new"))
                self.assertEqual([one["name"] for one in new.asked], ["new", "old"])  # who has proved his key
