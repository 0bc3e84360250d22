"""What the tests share in which somebody is between our client and our server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pysftpserver.remo.client import Client, RemoError
from tests.remo.proxy import Answer, Proxy, Request
from tests.remo.serving import RemoCase

ENDED = "ended, because of a tampered request"


def cookie(request: Request) -> str:
    """The session that a request is of."""
    return request.headers.get("Cookie", "").partition("SESSION_ID=")[2]


class PathCase(RemoCase):
    """self.proxy is on the path of self.remote, and of whatever connects to its port."""

    require_numbered = True

    def setUp(self) -> None:
        super().setUp()
        self.proxy = Proxy(self.served.port)
        self.addCleanup(self.proxy.stop)
        self.remote = self.through()

    def through(self, **how: Any) -> Client:
        """Our client, logged in over the proxy."""
        return self.connect(self.proxy.port, **{"require_numbered": self.require_numbered, **how})

    def change_request(self, word: str, change: Callable[[Request], Request | Answer | None]) -> None:
        """Do that to the next request with that verb, and nothing afterwards."""

        def on_request(request: Request) -> Request | Answer | None:
            if request.word != word:
                return request
            self.proxy.pass_on()
            return change(request)

        self.proxy.on_request = on_request

    def change_answer(self, word: str, change: Callable[[Answer], Answer | None]) -> None:
        """The same for the answer to such a request."""

        def on_answer(request: Request, answer: Answer) -> Answer | None:
            if request.word != word:
                return answer
            self.proxy.pass_on()
            return change(answer)

        self.proxy.on_answer = on_answer

    def last(self, word: str) -> Request:
        """The latest request with that verb."""
        return next(request for request in reversed(self.proxy.requests) if request.word == word)

    def answers_of(self, work: Callable[[], object]) -> list[Answer]:
        """What the server answers while something is done."""
        before = len(self.proxy.answers)
        work()
        return self.proxy.answers[before:]

    def ident(self) -> str:
        """The session of the client's latest request."""
        return cookie(next(each for each in reversed(self.proxy.requests) if each.word != "auth"))

    def fails(self, work: Callable[[], object], kind: type[RemoError]) -> RemoError:
        """Our client refuses what it gets, and begins another session afterwards. Returns the error."""
        before = self.ident()
        with self.assertRaises(kind) as caught:
            work()
        self.proxy.pass_on()
        self.assertEqual(self.remote.run("echo again").output, b"again\n")
        self.assertTrue(self.remote.is_numbered)
        self.assertNotEqual(self.ident(), before)
        return caught.exception

    def server_ends(self, work: Callable[[], object]) -> None:
        """The server ends the client's session because of what is done."""
        ident = self.ident()
        label = self.session(ident).label
        work()
        self.assertIsNone(self.session(ident))
        self.assertTrue(any(ENDED in line and label in line for line in self.log.lines))

    def leftovers(self) -> list[str]:
        """Files that are neither whole nor gone."""
        return [path.name for path in self.place.iterdir() if path.name.startswith(".")]
