"""Our client and servers of every kind: old ones in plain mode and in both manners of numbered mode, ours."""

from __future__ import annotations

import base64
import contextlib
import io
import socket
import threading
from collections.abc import Iterator
from unittest import mock

from pysftpserver.remo import client, crypto, talk, transport
from pysftpserver.remo.client import NoSuchPath, RemoError, RequestFailed, Security, Unconnected
from pysftpserver.remo.talk import LoginRefused
from tests.remo import oldstyle
from tests.remo.proxy import Answer, Proxy
from tests.remo.serving import HOST, RSA_USER, USER, RemoCase, rsa_key, said_by, server_key, user_key
from tests.support.waiting import PATIENCE

MODES = ("plain", "numbered", "signed")


class OldServers(RemoCase):
    def serve(self, mode: str, user_of: str = USER, ahead: int = 0) -> oldstyle.Server:
        key = user_key() if user_of == USER else rsa_key()
        theirs = oldstyle.Server(mode, user_of, key.public_key(), server_key(), ahead)
        self.addCleanup(theirs.stop)
        return theirs

    def test_the_mode_is_found_by_asking(self) -> None:
        for mode in MODES:
            with self.subTest(mode):
                self.assertEqual(self.connect(self.serve(mode).port).is_numbered, mode != "plain")
        self.assertTrue(self.connect().is_numbered)

    def test_asking_does_nothing_that_a_plain_session_would_do(self) -> None:
        theirs = self.serve("plain")
        before = dict(theirs.files)
        self.connect(theirs.port)
        self.assertLessEqual(set(theirs.words), {"auth", "sts", "get"})
        self.assertEqual(theirs.files, before)
        self.assertEqual(len(set(theirs.logins)), theirs.words.count("auth"))  # each with a key of its own

    def test_a_plain_server_is_refused_where_numbers_are_required(self) -> None:
        theirs = self.serve("plain")
        with self.assertRaisesRegex(Security, "numbered mode, which is required"):
            self.connect(theirs.port, require_numbered=True)
        for mode in ("numbered", "signed"):
            self.assertTrue(self.connect(self.serve(mode).port, require_numbered=True).is_numbered)

    def test_files_go_both_ways_whole(self) -> None:
        content = bytes(range(256)) * 1000
        for user, key in ((USER, user_key()), (RSA_USER, rsa_key())):
            for mode in MODES:
                with self.subTest(mode, user=user):
                    theirs = self.serve(mode, user)
                    remote = self.connect(theirs.port, user=user, key=key)
                    for given in (content, b"x", b""):
                        remote.put(io.BytesIO(given), "a name")
                        self.assertEqual(theirs.files[b"a name"], given)
                        self.assertEqual(remote.read("a name"), given)

    def test_commands_run_and_are_talked_to(self) -> None:
        for mode in MODES:
            with self.subTest(mode):
                remote = self.connect(self.serve(mode).port)
                result = remote.run("cat", b"input")
                self.assertEqual((result.output, result.status), (b"input", None))
                self.assertEqual(remote.run("echo 'a  b'").output, b"a  b\n")
                command, said = remote.start("cat", b"one\n")
                self.assertEqual(said_by(command.send, b"one\n", said), b"one\n")
                self.assertEqual(said_by(command.send, b"two\n", command.send(b"two\n")), b"two\n")
                self.assertEqual(b"".join(command.finish(b"three\n")), b"three\n")
                self.assertTrue(command.is_over)

    def test_failures_are_told_as_such_where_they_are_signed_or_signs_are_not_expected(self) -> None:
        for mode in ("plain", "signed"):
            with self.subTest(mode):
                remote = self.connect(self.serve(mode).port)
                for work in (lambda: remote.read("missing"), lambda: remote.run("no-such-command")):  # noqa: B023
                    with self.assertRaises(RequestFailed) as caught:
                        work()
                    self.assertEqual(caught.exception.status, 400)
                with self.assertRaises(NoSuchPath):
                    remote.list()
                self.assertEqual(remote.run("echo on").output, b"on\n")

    def test_a_failure_that_an_old_server_has_not_signed_ends_the_session_and_not_more(self) -> None:
        theirs = self.serve("numbered")
        remote = self.connect(theirs.port)
        with self.assertRaisesRegex(Security, "not signed"):
            remote.read("missing")
        self.assertEqual(remote.run("echo on").output, b"on\n")
        self.assertTrue(remote.is_numbered)

    def test_what_a_server_is_can_be_asked_in_every_mode(self) -> None:
        self.assertEqual(self.connect(self.serve("plain").port).info(), "old")
        self.assertRegex(self.connect().info(), r"^pysftpserver\.remo \d")

    def test_clocks_may_differ_a_little_in_numbered_mode_and_as_they_like_in_plain_mode(self) -> None:
        for ahead in (-8, 40):
            remote = self.connect(self.serve("signed", ahead=ahead).port)
            self.assertTrue(remote.is_numbered)
        for ahead, words in ((-12, "seconds ago"), (90, "the future")):
            with self.assertRaisesRegex(Security, words):
                self.connect(self.serve("signed", ahead=ahead).port)
            self.assertFalse(self.connect(self.serve("plain", ahead=ahead).port).is_numbered)

    def test_a_session_that_was_not_used_for_long_is_begun_anew_if_it_is_over(self) -> None:
        for mode in MODES:
            with self.subTest(mode):
                theirs = self.serve(mode)
                remote = self.connect(theirs.port)
                theirs.sessions.clear()
                with mock.patch.object(talk, "IDLE", 0.0):
                    self.assertEqual(remote.run("echo on").output, b"on\n")
                self.assertEqual(remote.is_numbered, mode != "plain")

    def test_a_session_that_was_not_used_for_long_is_kept_if_it_is_not_over(self) -> None:
        theirs = self.serve("plain")
        remote = self.connect(theirs.port)
        command, _ = remote.start("cat")
        before = theirs.words.count("auth")
        with mock.patch.object(talk, "IDLE", 0.0):
            self.assertEqual(said_by(command.send, b"one\n", command.send(b"one\n")), b"one\n")
        self.assertEqual(theirs.words.count("auth"), before)
        ours = self.connect()
        command, _ = ours.start("cat")
        with mock.patch.object(talk, "IDLE", 0.0):
            self.assertEqual(said_by(command.send, b"one\n", command.send(b"one\n")), b"one\n")

    def test_a_plain_session_that_the_server_has_forgotten_fails_once(self) -> None:
        theirs = self.serve("plain")
        remote = self.connect(theirs.port)
        theirs.sessions.clear()
        with self.assertRaises(RequestFailed):
            remote.run("echo on")
        self.assertEqual(remote.run("echo on").output, b"on\n")


class OurServer(RemoCase):
    def test_a_numbered_session_that_the_server_has_ended_fails_once(self) -> None:
        remote = self.connect()
        self.served.sessions.close()
        with self.assertRaises(Security):
            remote.run(self.marking)
        self.assertEqual(self.runs(), 0)
        self.assertEqual(remote.run(self.marking).output, b"marked\n")
        self.assertEqual(self.runs(), 1)

    def test_how_a_command_ended_is_told(self) -> None:
        remote = self.connect()
        for line, status in (("true", 0), ("sh -c 'exit 7'", 7), ("sh -c 'kill -9 $$'", 137)):
            self.assertEqual(remote.run(line).status, status)
        with self.assertRaises(RequestFailed):
            remote.run("no-such-command")
        self.assertEqual(remote.outcome()[0], 127)

    def test_a_command_may_be_silent_for_longer_than_a_server_may(self) -> None:
        with self.connect() as remote:
            with mock.patch.object(remote._talk._transport, "_timeout", 0.3):
                said = remote._talk.ask("GET", "/cmd/", b"sh -c 'sleep 0.8; echo done'", is_eager=True)
                self.assertEqual(b"".join(said), b"done\n")
            self.assertEqual(remote.run("true").status, 0)

    def test_the_rest_of_an_answer_that_nobody_wants_does_not_disturb_the_session(self) -> None:
        (self.place / "large").write_bytes(bytes(3_000_000))

        class Full(Exception):
            pass

        class Sink:
            def write(self, data: bytes) -> None:
                raise Full

        remote = self.connect()
        for _ in range(2):
            with self.assertRaises(Full):
                remote.get("large", Sink())
            self.assertEqual(remote.run("echo on").output, b"on\n")
        self.assertEqual(len(self.served.sessions.all()), 1)

    def test_one_who_reads_slowly_is_given_the_time(self) -> None:
        content = bytes(300_000)
        (self.place / "slowly").write_bytes(content)
        moment = [0.0]
        taken = io.BytesIO()

        class Sink:
            def write(self, data: bytes) -> None:
                moment[0] += 60
                taken.write(data)

        remote = self.connect()
        real = talk.time.time
        with (
            mock.patch("pysftpserver.remo.talk.time", mock.Mock(monotonic=lambda: moment[0])),
            mock.patch("pysftpserver.remo.talk.now", lambda: real() + moment[0]),
        ):
            remote.get("slowly", Sink())
        self.assertEqual(taken.getvalue(), content)

    def test_an_error_of_the_servers_own_is_no_reason_to_fall_back(self) -> None:
        proxy = Proxy(self.served.port)
        self.addCleanup(proxy.stop)
        proxy.on_request = lambda request: (
            request if request.word == "auth" else Answer(503, {}, None, b"full")
        )
        with self.assertRaises(RequestFailed) as caught:
            self.connect(proxy.port)
        self.assertEqual(caught.exception.status, 503)

    def test_wrong_keys_are_told_apart(self) -> None:
        with self.assertRaises(LoginRefused):
            self.connect(key=crypto.new_key())
        with self.assertRaisesRegex(Security, "impostor"):
            self.connect(server_key=crypto.new_key().public_key())
        with self.assertRaises(LoginRefused):
            self.connect(user="nobody")

    def test_a_server_that_is_not_there_is_told_as_such(self) -> None:
        theirs = oldstyle.Server("plain", USER, user_key().public_key(), server_key())
        remote = self.connect(theirs.port)
        theirs.stop()
        with mock.patch.object(transport, "KEEP", -1.0):
            for _ in range(2):
                with self.assertRaises(Unconnected):
                    remote.run("echo")
        with self.assertRaises(Unconnected):
            self.connect(theirs.port)


class Limits(RemoCase):
    settings = {"max_put": 100_000}

    def test_a_file_that_is_refused_half_way_is_told_as_such(self) -> None:
        remote = self.connect()
        for _ in range(3):
            with self.assertRaises(RequestFailed) as caught:
                remote.put(io.BytesIO(bytes(5_000_000)), "long")
            self.assertEqual(caught.exception.status, 413)
            self.assertEqual(remote.run("echo on").output, b"on\n")
        self.assertFalse((self.place / "long").exists())
        self.assertEqual(len(self.served.sessions.all()), 1)


class Silence(RemoCase):
    def test_a_request_whose_connection_breaks_is_never_made_again(self) -> None:
        proxy = Proxy(self.served.port)
        self.addCleanup(proxy.stop)
        remote = self.connect(proxy.port)
        proxy.on_answer = lambda request, answer: None
        with self.assertRaisesRegex(Unconnected, "may have been served"):
            remote.run(self.marking)
        self.assertEqual(self.runs(), 1)
        self.assertEqual([each.word for each in proxy.requests].count("cmd"), 1)

    def test_what_a_slow_line_cannot_take_yet_is_not_made_yet(self) -> None:
        made = 0

        def pieces() -> Iterator[bytes]:
            nonlocal made
            for _ in range(200):
                made += 50_000
                yield b"x" * 50_000

        with socket.create_server((HOST, 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            line = transport.Transport(transport.Place(HOST, listener.getsockname()[1]), 0.3)
            self.addCleanup(line.close)
            with self.assertRaises(transport.Unreachable):
                line.request("POST", "/put/x", pieces(), None)
        self.assertLess(made, 1_000_000)

    def test_whatever_is_answered_is_one_of_the_errors_of_the_library(self) -> None:
        head = b"HTTP/1.1 200 OK\r\n"
        key = base64.urlsafe_b64encode(bytes(56))
        answers = [
            *(b"", b"\0", b"\xff" * 100, b"SSH-2.0-x\r\n", b"\r\n\r\n", b"HTTP/1.1\r\n\r\n"),
            *(b"HTTP/1.1 99999 x\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 x\r\n\r\n"),
            *(b"HTTP/1.0 403 x\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 " + b"x" * 70_000),
            *(head + b"x" * 70_000 + b"\r\n\r\n", head + b"a: b\r\n" * 200 + b"\r\n", head + b"\r\n" + key),
            *(head + b"Content-Length: " + rest for rest in (b"x\r\n\r\n", b"5\r\n\r\nx", b"-1\r\n\r\n")),
            *(
                head + b"Transfer-Encoding: chunked\r\n\r\n" + rest
                for rest in (b"x\r\n", b"-5\r\nx", b"5\r\n")
            ),
            head + b"Set-Cookie: ;;=;=\r\nContent-Length: 0\r\n\r\n",
        ]
        with socket.create_server((HOST, 0)) as listener:

            def serve() -> None:
                for answer in answers:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):  # of one who has left already
                        connection.recv(65536)
                        connection.sendall(answer)
                        connection.shutdown(socket.SHUT_WR)
                        connection.recv(65536)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            for answer in answers:
                with self.subTest(answer[:80]), self.assertRaises(RemoError) as caught:
                    self.connect(listener.getsockname()[1])
                self.assertNotIn("\n", str(caught.exception))
            thread.join(PATIENCE)

    def test_a_session_id_that_is_none_is_refused(self) -> None:
        proxy = Proxy(self.served.port)
        self.addCleanup(proxy.stop)
        for said in (r'"a\015\012X: y"', r'"\000"', "", '"', "é", "a" * 5000):
            headers = {"Set-Cookie": f"SESSION_ID={said}"}
            proxy.on_answer = lambda request, answer, headers=headers: answer.but(headers=headers)
            with self.subTest(said[:20]), self.assertRaises(RemoError):
                self.connect(proxy.port, require_numbered=True)

    def test_a_server_that_says_nothing_is_left_after_the_time_that_was_given(self) -> None:
        proxy = Proxy(self.served.port)
        self.addCleanup(proxy.stop)
        held = threading.Event()
        self.addCleanup(held.set)

        def wait(request: object) -> None:
            held.wait(PATIENCE)

        proxy.on_request = wait
        with self.assertRaisesRegex(RemoError, "no reply in time"):
            self.connect(proxy.port, timeout=0.2)


class Library(RemoCase):
    def test_keys_are_files_or_keys(self) -> None:
        key, public = self.place / "key.pem", self.place / "public.pem"
        key.write_bytes(crypto.private_pem(user_key(), b"open sesame"))
        public.write_bytes(crypto.public_pem(server_key().public_key()))
        given = {"user": USER, "key": key, "server_key": str(public)}
        for passphrase in ("open sesame", lambda: "open sesame"):
            with client.connect(HOST, self.served.port, **given, passphrase=passphrase) as remote:
                self.assertEqual(remote.run("echo").output, b"\n")
        with self.assertRaises(crypto.PassphraseNeeded):
            client.connect(HOST, self.served.port, **given)
        with self.assertRaisesRegex(crypto.KeyProblem, "passphrase is wrong"):
            client.connect(HOST, self.served.port, **given, passphrase="no")
        self.assertFalse(any("sesame" in line for line in self.log.lines))

    def test_a_server_may_be_below_a_path_that_a_proxy_takes_away(self) -> None:
        proxy = Proxy(self.served.port)
        self.addCleanup(proxy.stop)
        proxy.on_request = lambda request: request.but(path=request.path.removeprefix("/below/it"))
        given = {"user": USER, "key": user_key(), "server_key": server_key().public_key()}
        with client.connect(f"http://{HOST}:{proxy.port}/below/it/", **given) as remote:
            self.assertTrue(remote.is_numbered)
            self.assertEqual(remote.run("echo").output, b"\n")
        self.assertTrue(all(request.path.startswith("/below/it/") for request in proxy.requests))

    def test_a_url_says_where_the_server_is(self) -> None:
        given = {"user": USER, "key": user_key(), "server_key": server_key().public_key()}
        with client.connect(f"http://{HOST}:{self.served.port}", **given) as remote:
            self.assertTrue(remote.is_numbered)
        for bad in ("ftp://x", "http://", "http://a@b/", "http://x/?q", "x/#f"):
            with self.assertRaises(ValueError):
                client.connect(bad, **given)
