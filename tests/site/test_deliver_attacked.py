"""Receivers that misbehave, and a deliverer that is killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pysftpserver.site import receivers, spool
from pysftpserver.site.delivering import Deliverer
from pysftpserver.site.ledger import Ledger
from pysftpserver.site.receivers import LocalSocket, Program, Receiver, Refused, Web
from pysftpserver.site.spool import Spool
from pysftpserver.storage import SFTPServerStorage
from tests.site.receiving import SocketReceiver, WebReceiver, program
from tests.site.test_delivering import EVENT
from tests.site.test_ledger import LedgerCase
from tests.support.hard import IS_HARD
from tests.support.processes import command
from tests.support.waiting import PATIENCE, until

STATUS = b"HTTP/1.1 200 OK\r\n"
SHORT = 0.3  # seconds that a receiver has


class RawServer:
    """A TCP server that reads a request, and does what a function says. requests: what it has read."""

    def __init__(self, answer: Callable[[socket.socket], object]) -> None:
        self.requests: list[bytes] = []
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection:
            request = b""
            while len(request) < request.find(b"\r\n\r\n") + 5 or not request.endswith(b"}"):
                piece = connection.recv(65536)  # all of it: what is left makes a reset of the answer
                if not piece:
                    return
                request += piece
            self.requests.append(request)
            try:
                self._answer(connection)
            except OSError:
                pass

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def drops(begin: bytes, one: bytes) -> Callable[[socket.socket], object]:
    """Answer with a beginning, and then for ever with a little more."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(one)
            time.sleep(0.01)

    return answer


class Broken(Receiver):
    """One that fails as no receiver should, until it is mended."""

    is_broken = True

    def __init__(self) -> None:
        super().__init__("broken")
        self.got: list[Any] = []

    def take(self, event: Any) -> None:
        if self.is_broken and event["path"] == "/poison":
            raise RuntimeError("a fault\n")
        self.got.append(event["path"])


class Receivers(unittest.TestCase):
    def server(self, answer: Callable[[socket.socket], object]) -> RawServer:
        server = RawServer(answer)
        self.addCleanup(server.close)
        return server

    def refused(self, receiver: Receiver) -> str:
        began = time.monotonic()
        with self.assertRaises(Refused) as raised:
            receiver.take({"id": 1, **EVENT})
        self.assertLess(time.monotonic() - began, PATIENCE)
        return str(raised.exception)

    def test_an_answer_over_http_that_never_ends_is_none(self) -> None:
        for answer in (
            drops(b"", b"H"),
            drops(STATUS, b"X"),
            drops(STATUS, b"X: y\r\n"),
            drops(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            lambda connection: connection.recv(1),
        ):
            said = self.refused(Web(self.server(answer).url, patience=SHORT))
            self.assertRegex(
                said, r"did not answer within 0\.3 s|LineTooLong|HTTPException|timed out|reset|without"
            )

    def test_a_body_is_not_waited_for_because_the_status_has_said_it_all(self) -> None:
        self.enterContext(unittest.mock.patch.object(receivers, "REST", SHORT))
        for headers, body in (
            (b"Transfer-Encoding: chunked", b"1\r\nx\r\n"),
            (b"Content-Length: 100000", b"x" * 50),
            (b"Connection: close", b"x"),
        ):
            server = self.server(drops(STATUS + headers + b"\r\n\r\n", body))
            began = time.monotonic()
            Web(server.url, patience=PATIENCE).take({"id": 1, **EVENT})
            self.assertLess(time.monotonic() - began, PATIENCE / 2)
            self.assertEqual(len(server.requests), 1)

    def test_an_answer_over_http_that_is_garbage_is_a_refusal(self) -> None:
        for said in (
            b"",
            b"\0\xff\n\n",
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 2e2 OK\r\n\r\n",
            b"HTTP/9.9 999 \r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n",
            b"x" * 70_000,
        ):
            server = self.server(lambda connection, said=said: connection.sendall(said))  # type: ignore[misc]
            self.assertTrue(self.refused(Web(server.url, patience=PATIENCE)).isprintable(), said[:30])

    def test_a_redirection_gives_nobody_else_the_event_or_its_signature(self) -> None:
        other = self.server(lambda connection: connection.sendall(STATUS + b"Content-Length: 0\r\n\r\n"))
        for status in (301, 302, 303, 307, 308):
            text = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {other.url}\r\nContent-Length: 0\r\n\r\n"
            server = self.server(lambda connection, text=text: connection.sendall(text.encode()))  # type: ignore[misc]
            environment = dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY"), other.url)
            with unittest.mock.patch.dict(os.environ, environment):
                self.assertEqual(self.refused(Web(server.url, lambda: b"key")), f"it answered {status}")
            self.assertEqual(len(server.requests), 1)
        self.assertEqual(other.requests, [])

    def test_a_socket_that_answers_too_deeply_or_for_ever_has_not_taken_it(self) -> None:
        place = self.enterContext(tempfile.TemporaryDirectory())
        server = SocketReceiver(f"{place}/s")
        self.addCleanup(server.close)
        for answer in (
            b"[" * 4000 + b"\n",
            b"x" * 9000,
            b'{"ok": 1}\n',
            b'{"ok": true, "x": 1}\n',
            b"\xff\n",
        ):
            server.answers = [answer]
            self.refused(LocalSocket(f"{place}/s"))

    def test_a_program_that_forks_prints_megabytes_or_reads_nothing(self) -> None:
        place = self.enterContext(tempfile.TemporaryDirectory())
        noted = Path(place, "child")
        text = f"if os.fork() == 0:\n    os.setsid()\n    open({str(noted)!r}, 'w').write(str(os.getpid()))\n"
        text += f"    os.execvp('sleep', ['sleep', '{PATIENCE}'])\n"
        text += "sys.stdout.write('x' * 5_000_000)\nsys.stderr.write('x' * 5_000_000)"
        began = time.monotonic()
        Program([program(place, text)], PATIENCE).take({"id": 1, **EVENT})  # its child goes on
        self.assertLess(time.monotonic() - began, PATIENCE / 2)
        until(lambda: noted.exists() and noted.read_text(), "the child is there")
        os.kill(int(noted.read_text()), signal.SIGKILL)
        hangs = "import signal\nfor n in (15, 1, 2):\n    signal.signal(n, signal.SIG_IGN)\nsignal.pause()"
        self.assertIn("did not end", self.refused(Program([program(place, hangs)], SHORT)))


class Delivering(LedgerCase):
    def test_an_event_that_a_receiver_stumbles_over_holds_back_no_others(self) -> None:
        self.enterContext(unittest.mock.patch.object(spool, "FIRST_PAUSE", 0.05))
        receiver, told = Broken(), []
        events = Spool(self.ledger())
        for path in ("/poison", "/a", "/poison"):
            events.add({**EVENT, "path": path}, [path.encode()], [receiver.name])
        deliverer = Deliverer(self.ledger(), [receiver], lambda who: SFTPServerStorage("/"), told.append)
        thread = threading.Thread(target=deliverer.run, args=(True,))
        thread.start()
        try:
            until(lambda: receiver.got)
            until(lambda: any(delivery.tries > 1 for _, delivery, _, _ in events.waiting()))
            self.assertEqual(receiver.got, ["/a"])
            self.assertIn("internal error: RuntimeError", events.waiting()[0][3])
        finally:
            receiver.is_broken = False
            thread.join(PATIENCE)
        self.assertEqual(receiver.got, ["/a", "/poison", "/poison"])
        self.assertTrue(all(line.isprintable() for line in told), told)

    def test_one_that_hangs_does_not_keep_the_deliverer_from_ending(self) -> None:
        server = RawServer(drops(STATUS, b"X"))
        self.addCleanup(server.close)
        web = Web(server.url, patience=SHORT)
        Spool(self.ledger()).add(EVENT, [b"/a"], [web.name])
        deliverer = Deliverer(self.ledger(), [web], lambda who: SFTPServerStorage("/"), lambda text: None)
        thread = threading.Thread(target=deliverer.run)
        thread.start()
        until(lambda: server.requests)
        deliverer.stop()
        thread.join(PATIENCE)
        self.assertFalse(thread.is_alive())
        self.assertEqual(len(Spool(self.ledger()).waiting()), 1)


if IS_HARD:

    class Killed(unittest.TestCase):
        """The real command, killed at any moment while receivers fail and events keep coming."""

        def test_every_event_comes_and_in_order_for_each_path(self) -> None:
            place = Path(self.enterContext(tempfile.TemporaryDirectory()))
            (place / "state").mkdir(0o700)
            (place / "root").mkdir()
            web = WebReceiver()
            self.addCleanup(web.close)
            chance = random.Random(3)
            got = place / "got"
            run = place / "run"
            run.write_text(f'#!/bin/sh\nprintf "%s %s\\n" "$PYSFTP_ID" "$PYSFTP_PATH" >> {got}\n')
            run.chmod(0o755)
            site = place / "site.toml"
            site.write_text(
                f'storage = "jail:{place}/root"\nstate = "{place}/state"\n'
                f'[[event]]\non = "upload"\npost = "{web.url}"\nrun = ["{run}"]\n'
            )
            ledger = Ledger(str(place / "state"))
            self.addCleanup(ledger.close)
            events = Spool(ledger)
            names = [f'run ["{run}"]', f"post {web.url}"]
            numbers = []
            for number in range(300):
                path = f"/p{number % 7}"
                numbers.append(events.add({"event": "upload", "path": path}, [path.encode()], names))
                if number % 10 == 0:
                    web.statuses += [500] * chance.randrange(2)
                    deliverer = subprocess.Popen(
                        command("pysftp-deliver", str(site), "--once", "-l", str(place / "log"))
                    )
                    try:
                        deliverer.wait(chance.uniform(0.1, 1.2))
                    except subprocess.TimeoutExpired:
                        deliverer.kill()
                        deliverer.wait()
            events.retry()
            subprocess.run(
                command("pysftp-deliver", str(site), "--once", "-l", str(place / "log")),
                check=True,
                timeout=300,
            )
            self.assertEqual(events.waiting(), [])
            lines = [line.split(" ") for line in got.read_text().splitlines()]
            by_program = [(int(number), path) for number, path in lines]
            by_web = [(event["id"], event["path"]) for event in web.got]
            for told in (by_program, by_web):
                self.assertEqual({number for number, _ in told}, set(numbers))
                for path in {path for _, path in told}:
                    firsts = list(dict.fromkeys(number for number, other in told if other == path))
                    self.assertEqual(firsts, sorted(firsts), path)

        def test_dead_letters_are_kept_listed_and_tried_again(self) -> None:
            place = Path(self.enterContext(tempfile.TemporaryDirectory()))
            (place / "state").mkdir(0o700)
            site = place / "site.toml"
            site.write_text(
                f'state = "{place}/state"\n[[event]]\non = "upload"\npost = "http://127.0.0.1:9/x"\n'
            )
            ledger = Ledger(str(place / "state"))
            self.addCleanup(ledger.close)
            events = Spool(ledger)
            for path in ("/a\x1b[2J\n", "/b"):
                events.add({"event": "upload", "path": path}, [path.encode()], ["post http://127.0.0.1:9/x"])
            for _, delivery, _, _ in events.waiting():
                delivery.since = time.time() - spool.GIVE_UP - 1
                events.failed(delivery, "it answered 500")
            for words, expected in (
                (["--list"], ["1 dead 1 upload /a\\x1b[2J: post http://127.0.0.1:9/x: it answered 500"]),
                (["--retry", "1"], ["1 deliveries are due again"]),
                (["--list"], ["1 waiting 0 upload", "2 dead 1 upload /b"]),
                (["--retry", "all"], ["2 deliveries are due again"]),
            ):
                said = subprocess.run(
                    command("pysftp-deliver", str(site), *words), capture_output=True, text=True, check=True
                ).stdout
                for text in expected:
                    self.assertIn(text, said)
                self.assertTrue(said.replace("\n", "").isprintable())


if __name__ == "__main__":
    sys.exit(unittest.main())
