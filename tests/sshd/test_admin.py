"""The admin socket of a pysftpd that runs: who may ask, what is answered, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import tempfile
import time
import unittest
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.engine.log import SFTPLog
from pysftpserver.service.admin_client import LONGEST_QUESTION, AdminError, NoServer, ask, found
from pysftpserver.sshd import admin
from tests.sshd.serving import SIZE, Daemon, DaemonCase
from tests.support.waiting import PATIENCE, until

NOBODY = 65534


def talk(path: Path, *lines: bytes) -> list[Any]:
    """The answers to lines on one connection, until the server ends it or each line is answered."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(PATIENCE)
        one.connect(os.fspath(path))
        one.sendall(b"".join(lines))
        one.shutdown(socket.SHUT_WR)
        with one.makefile("rb") as answers:
            return [json.loads(answer) for answer in answers]


def as_somebody_else(question: Callable[[], Any]) -> str:
    """What a process of another account gets, as JSON."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writing, json.dumps(question()).encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as said:
        text = said.read()
    os.waitpid(process, 0)
    return text


class WithOneProcess(DaemonCase):
    def test_a_transfer_is_told_of_with_user_address_bytes_path_and_size(self):
        daemon = self.shared()
        began = time.time()
        daemon.get_slowly()
        files = until(
            lambda: [s for s in daemon.sessions() if s["received"] and s["files"]], "the file is read"
        )
        (session,) = files
        self.assertEqual((session["user"], session["address"]), ("alice", "127.0.0.1"))
        self.assertEqual((session["process"], session["more_files"]), (0, 0))
        self.assertLess(abs(session["since"] - began), PATIENCE)
        self.assertLess(session["idle"], 15)
        (file,) = session["files"]
        self.assertEqual((file["path"], file["size"], file["written"]), ("/large", SIZE, 0))
        before = file["read"]
        (later,) = until(
            lambda: [
                s for s in daemon.sessions() if s["files"][0]["read"] > before and s["sent"] > session["sent"]
            ],
            "more is read and sent",
        )
        self.assertEqual(later["files"][0]["id"], file["id"])

    def test_an_upload_has_no_known_size(self):
        daemon = self.shared()
        daemon.put_slowly()
        (session,) = until(
            lambda: [s for s in daemon.sessions() if s["files"] and s["files"][0]["written"] > 1e5],
            "the file is written",
        )
        (file,) = session["files"]
        self.assertEqual((file["path"], file["size"], file["read"]), ("/uploaded", None, 0))
        self.assertLessEqual(file["written"], session["received"])

    def test_the_idle_time_grows_where_nothing_moves(self):
        daemon = self.shared()
        daemon.client()
        first = until(lambda: [s for s in daemon.sessions() if s["received"]], "somebody is there")
        until(lambda: daemon.sessions()[0]["idle"] > first[0]["idle"] + 0.5, "time passes")
        self.assertEqual(daemon.sessions()[0]["files"], [])

    def test_a_session_is_ended_by_its_number_and_no_other_is(self):
        daemon = self.shared()
        first, second = daemon.client(), daemon.client(user="bob")
        sessions = until(lambda: len(daemon.sessions()) == 2 and daemon.sessions(), "both are there")
        number = next(one["number"] for one in sessions if one["user"] == "alice")
        answer = ask(os.fspath(daemon.socket), {"ask": "end", "number": number})
        self.assertEqual(answer["ended"], [number])
        daemon.type(first, "ls")  # it looks only when it has something to do
        self.assertNotEqual(first.wait(PATIENCE), 0)
        until(lambda: [one["user"] for one in daemon.sessions()] == ["bob"], "one is left")
        self.assertIsNone(second.poll())
        until(lambda: "'alice': ended: by pysftpctl" in daemon.log(), "it is logged")

    def test_all_sessions_of_a_user_are_ended_by_the_name(self):
        daemon = self.shared()
        for user in ("alice", "alice", "bob"):
            daemon.client(user=user)
        until(lambda: len(daemon.sessions()) == 3, "all are there")
        self.assertEqual(len(ask(os.fspath(daemon.socket), {"ask": "end", "user": "alice"})["ended"]), 2)
        until(lambda: [one["user"] for one in daemon.sessions()] == ["bob"], "one is left")
        self.assertEqual(ask(os.fspath(daemon.socket), {"ask": "end", "user": "alice"})["ended"], [])

    def test_what_is_no_question_is_answered_by_an_error_and_the_next_one_is_answered(self):
        daemon = self.shared()
        bad = {
            b"{": "not valid JSON",
            b"\xff\xfe": "not valid JSON",
            b"[" * 2000: "not valid JSON",
            b"[]": "not a JSON object",
            b"{}": "ask has to be one of sessions, end, figures",
            b'{"ask": ["end"]}': "ask has to be one of",
            b'{"ask": "everything"}': "ask has to be one of",
            b'{"ask": "sessions", "number": 1}': "sessions does not go with 'number'",
            b'{"ask": "end"}': "a number or a user",
            b'{"ask": "end", "number": 1, "user": "a"}': "a number or a user",
            b'{"ask": "end", "number": true}': "number has to be",
            b'{"ask": "end", "number": "1"}': "number has to be",
            b'{"ask": "end", "user": 1}': "user has to be",
        }
        answers = talk(daemon.socket, *(line + b"\n" for line in bad), b'{"ask": "sessions"}')
        self.assertEqual(len(answers), len(bad) + 1)
        for (line, words), answer in zip(bad.items(), answers, strict=False):
            with self.subTest(line):
                self.assertEqual(list(answer), ["error"])
                self.assertIn(words, answer["error"])
        self.assertEqual(answers[-1]["sessions"], [])

    def test_a_question_that_is_too_long_ends_the_connection_and_nothing_else(self):
        daemon = self.shared()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.settimeout(PATIENCE)
            one.connect(os.fspath(daemon.socket))
            one.sendall(b" " * (LONGEST_QUESTION + 1))
            with one.makefile("rb") as answers:
                self.assertIn("longer than", json.loads(answers.readline())["error"])
                self.assertEqual(answers.read(), b"")
        self.assertEqual(daemon.sessions(), [])

    def test_clients_that_say_nothing_or_take_no_answer_are_few_and_in_nobody_s_way(self):
        daemon = self.started()
        there = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3 * admin.MOST_ASKING)]
        for number, one in enumerate(there):
            self.addCleanup(one.close)
            one.settimeout(PATIENCE)
            one.connect(os.fspath(daemon.socket))
            if number % 2:
                one.setblocking(False)
                with contextlib.suppress(OSError):  # it may have had to make room
                    while one.send(b'{"ask": "figures"}\n' * 100):
                        pass
            self.assertEqual(daemon.sessions(), [])
        own = os.listdir(f"/proc/{daemon.pid}/fd")
        self.assertLess(len(own), 4 * admin.MOST_ASKING)
        self.assertEqual(daemon.end(), 0)
        others = [line for line in daemon.log().splitlines() if " pysftpd[" not in line]
        self.assertEqual(others, [], "the rest are still connected")

    def test_the_socket_is_the_account_s_own_and_goes_with_the_server(self):
        daemon = self.started()
        mode = daemon.socket.stat().st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(stat.S_IMODE(mode), 0o600)
        self.assertEqual(daemon.end(), 0)
        self.assertFalse(daemon.socket.exists())

    @unittest.skipUnless(os.geteuid() == 0, "only root can be somebody else")
    def test_another_account_is_refused_even_where_the_mode_would_let_it_in(self):
        daemon = self.started()
        daemon.directory.chmod(0o755)
        daemon.socket.chmod(0o666)
        said = as_somebody_else(lambda: talk(daemon.socket, b'{"ask": "sessions"}\n'))
        self.assertIn("only root and the server's account", json.loads(said)[0]["error"])
        until(lambda: f"user {NOBODY} was refused" in daemon.log(), "it is logged")

    def test_the_socket_of_a_server_that_was_killed_is_replaced(self):
        daemon = self.started()
        daemon.end(signal.SIGKILL)
        with self.assertRaises(NoServer):
            ask(os.fspath(daemon.socket), {"ask": "sessions"})
        daemon.start()
        self.assertEqual(daemon.sessions(), [])

    def test_the_socket_of_a_server_that_lives_is_an_error(self):
        daemon = self.shared()
        status, words = daemon.refused()
        self.assertEqual(status, 1)
        self.assertEqual(
            words.splitlines()[-1],
            f"pysftpd: admin_socket {daemon.socket}: another server is listening there",
        )
        self.assertEqual(daemon.sessions(), [])

    def test_a_file_where_the_socket_should_be_is_an_error_and_stays(self):
        daemon = self.daemon()
        daemon.socket.write_text("precious")
        status, words = daemon.refused()
        self.assertEqual(status, 1)
        self.assertIn("exists and is not a socket", words)
        self.assertEqual(daemon.socket.read_text(), "precious")

    def test_a_path_that_cannot_be_is_one_line(self):
        for path, words in (("/nowhere/at/all", "no such file"), ("/tmp/" + "x" * 200, "too long")):
            daemon = self.daemon("--admin-socket", path, admin=False)
            status, said = daemon.refused()
            with self.subTest(path):
                self.assertEqual(status, 1)
                self.assertIn(words, said.splitlines()[-1])


class WithTwoProcesses(DaemonCase):
    def both_busy(self, daemon: Daemon) -> list[dict[str, Any]]:
        """Sessions, some in each process: the system says who takes a client."""

        for count in range(1, 40):
            daemon.client()
            until(lambda count=count: len(daemon.sessions()) == count, "the client is there")
            sessions = daemon.sessions()
            if {session["process"] for session in sessions} == {0, 1}:
                return sessions
        raise AssertionError("one process takes them all")

    def test_each_process_has_a_socket_and_numbers_are_different_everywhere(self):
        daemon = self.shared(workers=2)
        paths = [Path(path).name for path in found(os.fspath(daemon.socket))]
        self.assertEqual(paths, ["admin.0", "admin.1"])
        sessions = self.both_busy(daemon)
        self.assertEqual(len({session["number"] for session in sessions}), len(sessions))
        for path in found(os.fspath(daemon.socket)):
            ended = ask(path, {"ask": "end", "number": sessions[0]["number"]})["ended"]
            is_there = path.endswith(f".{sessions[0]['process']}")
            self.assertEqual(ended, [sessions[0]["number"]] if is_there else [])
        until(lambda: len(daemon.sessions()) == len(sessions) - 1, "one less is there")

    def test_a_process_that_replaces_another_answers_on_the_same_socket(self):
        daemon = self.shared(workers=2)
        path = f"{daemon.socket}.1"
        process = ask(path, {"ask": "figures"})["pid"]
        os.kill(process, signal.SIGKILL)
        answer = until(lambda: asked(path, but_not=process), "another answers")
        self.assertEqual(answer["process"], 1)

    def test_all_sockets_go_with_the_server(self):
        daemon = self.started(workers=2)
        self.assertEqual(daemon.end(), 0)
        self.assertEqual(found(os.fspath(daemon.socket)), [])


def asked(path: str, but_not: int) -> dict[str, Any] | None:
    try:
        answer = ask(path, {"ask": "figures"}, 1.0)
    except AdminError:
        return None
    return answer if answer["pid"] != but_not else None


class SlowClients(unittest.TestCase):
    def scene(self, talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]) -> bytes:
        """What comes of a client, of which the server waits for nothing longer than a moment."""

        async def scene(path: str) -> bytes:
            (listening,) = admin.listening(path, 1)
            door = admin.Admin(mock.Mock(), mock.Mock(), 0, SFTPLog(None))
            await door.start(listening)
            try:
                reader, writer = await asyncio.open_unix_connection(path)
                said = await asyncio.wait_for(talk(reader, writer), PATIENCE)
                writer.close()
                return said
            finally:
                await door.close()

        with tempfile.TemporaryDirectory() as directory, mock.patch.object(admin, "PATIENCE", 0.1):
            return asyncio.run(scene(os.path.join(directory, "socket")))

    def test_one_that_asks_nothing_is_sent_away(self):
        async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
            writer.write(b'{"ask"')
            return await reader.read()

        self.assertEqual(json.loads(self.scene(half)), {"error": "no question in 0.1 seconds"})

    def test_one_that_takes_no_answers_is_sent_away(self):
        async def without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
            try:
                while True:
                    writer.write(b"?\n" * 10_000)
                    await writer.drain()
            except OSError:
                return b"away"

        self.assertEqual(self.scene(without_end), b"away")
