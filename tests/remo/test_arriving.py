"""When a request is complete enough for a thread, in whatever pieces it comes."""

from __future__ import annotations

import random
import unittest

from pysftpserver.http import arriving
from pysftpserver.http.arriving import Arriving, State
from pysftpserver.remo.wire import MOST_LOGIN
from tests.remo.hosting import chunked, request

INFO = request("GET", "/info")
CHUNKS = request("POST", "/auth", None, None, "Transfer-Encoding: chunked")
#: Requests that are ready with their last byte, and not before.
WHOLE = (
    INFO,
    b"\r\n" + INFO,
    request("POST", "/auth"),
    request("POST", "/auth", b"hello"),
    request("POST", "/put/x", None, None, "Content-Length: 1000"),
    b"POST http://[::1]/%61ut%68?x=y HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    CHUNKS + chunked((b"hello", b"x" * 300)),
    CHUNKS + b"5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    b"GET /info HTTP/1.1\nHost: x\n\n",
)
#: What a thread is to refuse.
MALFORMED = (
    request("POST", "/auth", None, None, "Content-Length: 5", "Content-Length: 5"),
    request("POST", "/auth", b"hello", None, "Transfer-Encoding: chunked")[:-5],
    request("POST", "/auth", None, None, "Content-Length: +5"),
    request("POST", "/auth", None, None, "Transfer-Encoding: gzip"),
    request("POST", "/auth", None, None, "no colon"),
    CHUNKS + b"x\r\n",
    b"POST /auth\r\n\r\n",
    b"GET /" + b"x" * arriving.ENOUGH,
)


def states(data: bytes, size: int) -> list[State]:
    """What is said of each piece, up to the first that is not MORE."""
    found, one = [], Arriving()
    for at in range(0, len(data), size):
        found.append(one.feed(data[at : at + size]))
        if found[-1] is not State.MORE:
            break
    return found


class Pieces(unittest.TestCase):
    def test_a_request_is_ready_with_the_last_byte_that_is_read_of_it(self) -> None:
        for whole in WHOLE:
            with self.subTest(whole[:60]):
                self.assertEqual(states(whole, len(whole)), [State.READY])
                self.assertEqual(states(whole, 1), [State.MORE] * (len(whole) - 1) + [State.READY])
                one = Arriving()
                one.feed(whole + INFO)
                self.assertEqual(one.data, whole + INFO)

    def test_what_is_malformed_is_ready_to_be_refused(self) -> None:
        for said in MALFORMED:
            with self.subTest(said[:60]):
                self.assertEqual(states(said, len(said)), [State.READY])
                self.assertEqual(states(said, 1)[-1], State.READY)

    def test_a_login_that_is_too_long_is_not_waited_for(self) -> None:
        head = request("POST", "/auth", None, None, f"Content-Length: {MOST_LOGIN + 1}")
        self.assertEqual(states(head, len(head)), [State.TOO_LONG])
        for body in (b"%x\r\n" % (MOST_LOGIN + 1), b"1;" + b"x" * 100_000, b"1\r\nx\r\n" * 20_000):
            with self.subTest(body[:10]):
                self.assertEqual(states(CHUNKS + body, 1000)[-1], State.TOO_LONG)

    def test_an_expectation_is_answered_once(self) -> None:
        head = request("POST", "/auth", None, None, "Content-Length: 5", "Expect: 100-continue", "X: y")
        one = Arriving()
        self.assertEqual(one.feed(head), State.EXPECTED)
        self.assertEqual(one.feed(b"hell"), State.MORE)
        self.assertEqual(one.feed(b"o"), State.READY)
        self.assertEqual(
            one.data, request("POST", "/auth", None, None, "Content-Length: 5", "X: y") + b"hello"
        )

    def test_any_bytes_in_any_pieces_end_the_same(self) -> None:
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        for number in range(500):
            said = bytearray(chance.choice(WHOLE))
            for _ in range(chance.randint(1, 4)):
                at = chance.randrange(len(said))
                said[at : at + chance.randrange(3)] = chance.choice((b"", b"\n", b"\r\n", b"5", b"x"))
            with self.subTest(seed=seed, number=number, said=bytes(said)):
                whole, single = states(bytes(said), len(said) or 1), states(bytes(said), 1)
                self.assertEqual(whole[-1:], single[-1:])
