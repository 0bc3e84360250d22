"""Requests of one session that meet, sessions that end meanwhile, and what there is too little of."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

from pysftpserver.http import ReplyBroken
from pysftpserver.remo import audit, processes
from pysftpserver.remo.bodies import Exchange
from pysftpserver.remo.login import Reception, Refused
from tests.remo.hosting import USER, Here, HereCase, Login, Peer, Raw, called, request
from tests.support.ports import LOOPBACK
from tests.support.processes import open_descriptors
from tests.support.waiting import PATIENCE, until

FAR = 10_000.0  # seconds: longer than any session lasts
STRANGERS = "127.0.0.7", "127.0.0.8"
INFO = request("GET", "/info")


class Case(HereCase):
    def logged_in(self, **given: Any) -> tuple[Here, Peer, Any]:
        """A server, somebody's session that is proved, and what the server knows of it."""
        here = self.serve(**given)
        peer = here.log_in()
        self.asked(here, peer, "get", b"/not there")
        return here, peer, here.application.sessions.find(peer.cookie, time.monotonic())

    def asked(self, here: Here, peer: Peer, word: str, argument: bytes | None = None, *pieces: bytes) -> Any:
        body = peer.tokens(*pieces)
        return here.called("POST" if body else "GET", peer.path(word, argument), body, peer.cookie)

    def begun(self, here: Here, peer: Peer, word: str, argument: bytes | None = None) -> Iterator[bytes]:
        """An answer that nobody has read yet."""
        found: list[Any] = []

        def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            found.append(here.application(environ, start_response))
            return []

        called(application, "GET", peer.path(word, argument), cookie=peer.cookie)
        self.addCleanup(found[0].close)
        answer: Iterator[bytes] = found[0]
        return answer


class Ends(Case):
    def test_a_file_whose_session_ends_while_it_is_read_is_not_told_as_whole(self) -> None:
        for stop_at in (1, 2, 4):
            with self.subTest(stop_at=stop_at):
                self.assert_breaks_off("read", stop_at)

    def assert_breaks_off(self, name: str, stop_at: int) -> None:
        here, peer, session = self.logged_in()
        (here.place / "long").write_bytes(bytes(300_000))
        storage = here.application._routes._open_storage("tester", "127.0.0.1")
        read, count = getattr(storage, name), 0

        def stopping(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == stop_at:
                here.application.sessions.end(session, "the test wants it")
            return read(*arguments)

        with mock.patch.object(storage, name, stopping), self.assertRaises(ReplyBroken):
            self.asked(here, peer, "get", bytes(here.place / "long"))

    def test_so_is_a_listing(self) -> None:
        here, peer, session = self.logged_in()
        storage = here.application._routes._open_storage("tester", "127.0.0.1")

        def entries(path: bytes) -> Iterator[Any]:
            yield from [*storage.__class__.opendir(storage, path)][:1]
            here.application.sessions.end(session, "the test wants it")
            yield from [*storage.__class__.opendir(storage, path)][1:]

        with mock.patch.object(storage, "opendir", entries), self.assertRaises(ReplyBroken):
            next(self.begun(here, peer, "lst", bytes(here.place)))

    def test_a_command_whose_session_ends_says_so_and_its_reply_breaks_off(self) -> None:
        here, peer, session = self.logged_in()
        answer = self.begun(here, peer, "cmd", b"sh -c 'echo here; exec sleep 600'")
        said = [next(answer)]
        here.application.sessions.end(session, "the test wants it")
        with self.assertRaises(ReplyBroken):
            said += answer
        self.assertEqual(
            b"".join(map(peer.cipher.decrypt, said)), b"here\n\n[stopped, because the session ended]\n"
        )

    def test_a_command_that_is_waited_for_may_be_silent_for_longer_than_sessions_last(self) -> None:
        here, peer, session = self.logged_in()
        sessions = here.application.sessions
        self.asked(here, peer, "icm", b"sleep 60")
        answer = self.begun(here, peer, "edt")
        self.assertEqual(sessions.sweep(time.monotonic() + FAR), [])
        answer.close()  # type: ignore[attr-defined]
        self.assertEqual(sessions.sweep(time.monotonic() + FAR), [session])

    def test_after_its_end_a_server_begins_nothing(self) -> None:
        here, peer, _ = self.logged_in()
        here.application.close()
        for method, path, body in (
            ("POST", "/auth", Login(USER, here.user_key).body),
            ("GET", peer.path("cmd", b"true"), b""),
            ("GET", "/info", b""),
        ):
            self.assertEqual(here.called(method, path, body, peer.cookie).status, 503)

    def test_every_end_of_a_session_is_in_the_audit_log_once_whatever_it_was(self) -> None:
        here, _, first = self.logged_in(max_per_user=1)
        peer = here.log_in()
        with self.assertLogs(audit.LOGGER, "INFO") as log:
            self.asked(here, peer, "get", b"/not there")
            second = here.application.sessions.find(peer.cookie, time.monotonic())
            here.application.sessions.find(peer.cookie, time.monotonic() + FAR)
            third = here.log_in()
            self.asked(here, third, "get", b"/not there")
            here.log_in()  # nobody has proved that it is his
            here.application.close()
            here.application.close()
        lines = [json.loads(line.partition(f"{audit.LOGGER}:")[2]) for line in log.output]
        self.assertEqual(
            [(line["session"], line["message"]) for line in lines if line["request"] == "end"],
            [
                (first.label, "the user has too many sessions, and this was the least recently used"),
                (second.label, "timed out"),
                (lines[3]["session"], "the server stops"),
            ],
        )


class AtOnce(Case):
    def test_a_request_ends_the_command_that_another_one_waits_for(self) -> None:
        here, peer, session = self.logged_in()
        self.asked(here, peer, "icm", b"sleep 60")
        waiting = threading.Thread(target=self.asked, args=(here, peer, "edt"))
        waiting.start()
        until(session.turn.locked, "nobody waits for it")
        began = time.monotonic()
        self.assertEqual(self.asked(here, peer, "get", b"/not there").status, 400)
        waiting.join()
        self.assertLess(time.monotonic() - began, 30)
        self.assertEqual(peer.opened(self.asked(here, peer, "sts")), b"124 stopped by another request")

    def test_of_two_commands_that_are_started_at_once_one_goes_and_leaves_nothing_open(self) -> None:
        here, _, session = self.logged_in()
        routes = here.application._routes
        routes.icm(Exchange(session, None, iter(())), b"sleep 60")
        first, descriptors = session.command, open_descriptors()
        routes.icm(Exchange(session, None, iter(())), b"sleep 60")
        self.assertIsNotNone(first._process.returncode)
        self.assertEqual(open_descriptors(), descriptors)


class TooLittle(Case):
    def test_a_command_ends_in_time_though_nobody_reads_what_it_says(self) -> None:
        here, peer, session = self.logged_in(command_seconds=0.2)
        mark = here.place / "mark"
        with mock.patch.object(processes, "LOOK", 0.1):
            line = f"sh -c 'echo here; touch {mark}; exec sleep 600'"
            answer = self.begun(here, peer, "cmd", line.encode())
            until(mark.exists, "it says nothing")
            first = next(answer)  # from now on, its time counts
            (command,) = session._work
            until(lambda: command._process.returncode is not None, "it runs on")
            said = b"".join(map(peer.cipher.decrypt, (first, *answer)))
        self.assertEqual(said, b"here\n\n[stopped after 0.2 seconds]\n")
        status = self.asked(here, peer, "sts")
        self.assertEqual(peer.opened(status), b"124 stopped after 0.2 seconds")

    def test_where_a_command_s_input_has_no_room_nothing_runs_and_both_modes_are_told(self) -> None:
        here, peer, _ = self.logged_in()
        mark = here.place / "mark"
        line = f"touch {mark}".encode()

        def full(*_: Any, **__: Any) -> Any:
            return open("/dev/full", "r+b", buffering=0)

        with mock.patch.object(tempfile, "TemporaryFile", full):
            said = self.asked(here, peer, "cmd", line, b"input")
            self.assertEqual(
                (said.status, said.body),
                (503, b"the input of the command cannot be stored: no space left on device"),
            )
            path = peer.path("cmd", line)
            body = b"".join(peer.sealed(path, b"input"))
            said = here.called("POST", path, body, peer.cookie)
        self.assertEqual(said.status, 503)
        self.assertIn(b"no space left", peer.opened(said))
        self.assertFalse(mark.exists())

    def test_commands_can_be_ended_without_a_list_of_processes(self) -> None:
        process = processes.Command([b"sleep", b"60"], None)
        with mock.patch.object(os, "listdir", side_effect=OSError(24, "Too many open files")):
            process.close()
        self.assertIsNotNone(process._process.returncode)

    def test_slow_strangers_leave_threads_for_addresses_that_sessions_come_from(self) -> None:
        here, peer, _ = self.logged_in(threads=4, max_per_address=2, idle_timeout=PATIENCE)
        here.listen()
        released = threading.Event()
        self.addCleanup(released.set)

        def slow_log_in(*_: Any) -> Any:
            released.wait(PATIENCE)
            raise Refused

        slow = [Raw(here.port, STRANGERS[number // 2]) for number in range(4)]
        with mock.patch.object(Reception, "log_in", slow_log_in):
            for raw in slow:
                self.addCleanup(raw.close)
                raw.say(request("POST", "/auth", b"x"))
            server = here.server
            assert server is not None
            until(lambda: server._queue, "none of them waits")
            began = time.monotonic()
            with Raw(here.port, LOOPBACK) as raw:
                self.assertEqual(raw.ask(INFO).status, 200)
                self.assertEqual(raw.ask(peer.plain("get", b"/not there")).status, 400)
            self.assertLess(time.monotonic() - began, PATIENCE / 2)
            released.set()
            self.assertEqual([getattr(raw.answer(), "status", None) for raw in slow], [403] * 4)
        until(lambda: not server._turns[False], "they count still")
        self.assertFalse(server._queue)

    def test_slow_users_leave_a_thread_for_logins(self) -> None:
        here, peer, _ = self.logged_in(threads=4, max_per_address=4, idle_timeout=PATIENCE)
        here.listen()
        for number in range(4):
            slow = Raw(here.port)
            self.addCleanup(slow.close)
            path = peer.path("put", b"/slow %d" % number)
            slow.say(request("POST", path, None, peer.cookie, "Content-Length: 1000"))
        server = here.server
        assert server is not None
        until(lambda: server._queue, "none of them waits")
        with Raw(here.port, STRANGERS[0]) as raw:
            self.assertEqual(raw.ask(request("POST", "/auth", Login(USER, here.user_key).body)).status, 200)
