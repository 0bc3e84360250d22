"""Logins, lines and numbered bodies, to the byte; the expected bytes are the page's."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import unittest
from collections.abc import Iterator
from unittest import mock

from cryptography.fernet import Fernet

from pysftpserver.remo import bodies, crypto, wire
from pysftpserver.remo.session import Session
from pysftpserver.remo.users import Permissions, User
from tests.remo import oldstyle
from tests.support.examples import SEEDED, given, st

KEY = Fernet.generate_key()
CIPHER = crypto.SessionCipher(KEY)
FERNET = Fernet(KEY)
PATH = b"/put/token"
PARTS = st.lists(st.binary(max_size=40), min_size=1, max_size=6)
NUMBERS = st.integers(-32768, 32767)
NOW = 1_700_000_000


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    """data in pieces, cut at these places."""
    ends = sorted(place % (len(data) + 1) for place in places)
    for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
        yield data[start:end]


def body(parts: list[bytes], number: int, bound: bytes, made: int = NOW) -> list[bytes]:
    """Tokens, as an independent peer makes them."""
    return [
        FERNET.encrypt_at_time(oldstyle.sealed(number, count, count == len(parts) - 1, bound, part), made)
        for count, part in enumerate(parts)
    ]


def session() -> Session:
    return Session(User("alice", "", None), Permissions.ALL, CIPHER, "", 0.0)


class Logins(unittest.TestCase):
    @given(
        st.text(st.characters(exclude_categories=["Cs"])), st.binary(min_size=56, max_size=56), st.binary()
    )
    @SEEDED
    def test_a_login_is_the_json_of_the_page(self, user: str, key: bytes, signature: bytes) -> None:
        said = json.loads(wire.Login(user, key, signature).encode())
        encoded = {
            name: base64.urlsafe_b64encode(raw).decode() for name, raw in (("key", key), ("sign", signature))
        }
        self.assertEqual(said, {"user": user, **encoded})
        found = wire.parse_login(json.dumps(said).encode())
        self.assertEqual((found.user, found.key, found.signature), (user, key, signature))
        self.assertEqual(wire.signed_by_user(user, key), user.encode() + key)

    @given(st.binary(max_size=200))
    @SEEDED
    def test_anything_else_is_a_protocol_error(self, data: bytes) -> None:
        for parse in (wire.parse_login, wire.parse_login_reply):
            with self.assertRaises(wire.ProtocolError):
                parse(data)

    @given(
        st.recursive(st.none() | st.integers() | st.text(max_size=9), st.lists, max_leaves=4),
        st.sampled_from(["user", "key", "sign"]),
    )
    @SEEDED
    def test_json_of_another_shape_is_a_protocol_error(self, value: object, name: str) -> None:
        said = {"user": "a", "key": wire.b64(bytes(56)), "sign": "AA==", name: value}
        if name == "user" and isinstance(value, str):
            return
        if name == "sign" and isinstance(value, str):
            value = value + "?"
        with self.assertRaises(wire.ProtocolError):
            wire.parse_login(json.dumps({**said, name: value}).encode())

    def test_the_answer_is_two_lines(self) -> None:
        said = wire.login_reply(b"k" * 56, b"signature")
        self.assertEqual(
            said, base64.urlsafe_b64encode(b"k" * 56) + b"\r\n" + base64.urlsafe_b64encode(b"signature")
        )
        for ending in (b"", b"\r\n", b"\n"):
            self.assertEqual(wire.parse_login_reply(said + ending), (b"k" * 56, b"signature"))
        for wrong in (
            said[5:],
            said + b"\r\nAAAA",
            said.partition(b"\r\n")[0],
            wire.login_reply(b"k" * 55, b""),
        ):
            with self.assertRaises(wire.ProtocolError):
                wire.parse_login_reply(wrong)

    @given(st.binary())
    @SEEDED
    def test_base64_is_url_safe_padded_and_strict(self, data: bytes) -> None:
        text = wire.b64(data)
        self.assertEqual(text, base64.urlsafe_b64encode(data).decode())
        self.assertEqual(wire.unb64(text), data)
        for wrong in (
            text + "=",
            text + "\n",
            " " + text,
            "+" + text[1:],
            "/" + text[1:],
            text + "é",
            text[:-1],
        ):
            if wrong != "" and (text or wrong != text[:-1]):
                with self.assertRaises(wire.ProtocolError):
                    wire.unb64(wrong)


class LinesOfTokens(unittest.TestCase):
    @given(
        st.lists(st.from_regex(rb"[A-Za-z0-9_=-]{1,30}", fullmatch=True), max_size=6),
        st.lists(st.integers(0, 400), max_size=8),
        st.sampled_from([b"\r\n", b"\n", b"\r\n\r\n"]),
        st.booleans(),
    )
    @SEEDED
    def test_tokens_are_the_same_in_whatever_pieces_they_come(
        self, tokens: list[bytes], places: list[int], end: bytes, is_ended: bool
    ) -> None:
        data = end.join(tokens) + (end if is_ended else b"")
        lines = wire.Lines(30)
        with_end = wire.Lines(32)
        for splitter in (with_end, lines) if end == b"\n" else (with_end,):
            found = [token for piece in cut(data, places) for token in splitter.feed(piece)]
            self.assertEqual([*found, *splitter.end()], tokens)

    def test_a_line_that_is_too_long_is_refused_before_all_of_it_is_there(self) -> None:
        for pieces in (
            [b"x" * 101],
            [b"x" * 60, b"x" * 60],
            [b"y\n" + b"x" * 101],
            [b"x" * 101 + b"\n"],
            [b"x\n"] * 3 + [b"x" * 101 + b"\ny\n"],
        ):
            lines = wire.Lines(100)
            with self.assertRaises(wire.ProtocolError):
                for piece in pieces:
                    list(lines.feed(piece))

    def test_endless_empty_lines_take_no_memory(self) -> None:
        lines = wire.Lines(100)
        for _ in range(1000):
            self.assertEqual(list(lines.feed(b"\r\n" * 100)), [])
        self.assertLess(len(lines._rest), 100)


class NumberedBodies(unittest.TestCase):
    @given(PARTS, NUMBERS, st.binary(max_size=50))
    @SEEDED
    def test_parts_are_sealed_as_the_page_says(self, parts: list[bytes], number: int, bound: bytes) -> None:
        for count, part in enumerate(parts):
            is_last = count == len(parts) - 1
            plain = wire.sealed(number, count, part, is_last, bound)
            self.assertEqual(plain, oldstyle.sealed(number, count, is_last, bound, part))
            self.assertEqual(struct.unpack(">hh", plain[2:6]), (number, count))

    @given(PARTS, NUMBERS, st.data())
    @SEEDED
    def test_only_the_right_tokens_in_the_right_order_are_a_body(
        self, parts: list[bytes], number: int, data: st.DataObject
    ) -> None:
        tokens = body(parts, number, b"200")
        others = body(parts, wire.next_number(number), b"200") + body(parts, number, b"400")[:1]
        given_tokens = data.draw(
            st.lists(st.sampled_from(tokens + others), max_size=len(tokens) + 2) | st.permutations(tokens)
        )
        opener = wire.Opener(CIPHER, b"200", number, lambda: NOW)
        found = []
        try:
            found.extend(opener.open(token) for token in given_tokens)
            opener.finish()
        except wire.Tampered:
            self.assertNotEqual(given_tokens, tokens)
        else:
            self.assertEqual(given_tokens, tokens)
            self.assertEqual(found, parts)

    @given(PARTS, st.lists(st.integers(0, 5000), max_size=8), st.booleans())
    @SEEDED
    def test_a_request_says_the_same_in_whatever_pieces_it_comes(
        self, parts: list[bytes], places: list[int], is_numbered: bool
    ) -> None:
        tokens = (
            body(parts, 1, wire.path_hash(PATH)) if is_numbered else [FERNET.encrypt(part) for part in parts]
        )
        stream = b"".join(token + b"\r\n" for token in tokens)
        with mock.patch("pysftpserver.remo.wire.check_age"):
            exchange = bodies.opened(session(), cut(stream, places), [PATH], 1 << 20, False, 0.0)
            self.assertEqual(list(exchange.data), parts)
        self.assertEqual(exchange.number, 1 if is_numbered else None)

    @given(PARTS, st.lists(st.integers(0, 5000), max_size=3), st.integers(0, 5000), st.integers(1, 255))
    @SEEDED
    def test_a_request_in_which_a_byte_is_another_is_refused_or_says_the_same(
        self, parts: list[bytes], places: list[int], place: int, change: int
    ) -> None:
        stream = bytearray(b"".join(token + b"\r\n" for token in body(parts, 1, wire.path_hash(PATH))))
        stream[place % len(stream)] ^= change
        said: list[bytes] = []
        try:
            with mock.patch("pysftpserver.remo.wire.check_age"):
                exchange = bodies.opened(session(), cut(bytes(stream), places), [PATH], 1 << 20, False, 0.0)
                said.extend(exchange.data)
        except wire.ProtocolError:
            self.assertTrue(b"".join(parts).startswith(b"".join(said)))
            self.assertLess(len(said), len(parts))  # the last part comes only when all was right
        else:
            self.assertEqual(said, parts)

    @given(PARTS, NUMBERS, st.sampled_from([200, 400, 404]), st.booleans())
    @SEEDED
    def test_an_answer_is_what_an_old_client_reads(
        self, parts: list[bytes], number: int, status: int, is_eager: bool
    ) -> None:
        exchange = bodies.Exchange(session(), number, iter(()))
        lines = list(exchange.reply(status, parts, is_eager))
        self.assertTrue(all(line.endswith(b"\r\n") for line in lines))
        found = oldstyle.unsealed([FERNET.decrypt(line[:-2]) for line in lines], number, 3)
        self.assertEqual(found, (b"%d" % status, b"".join(parts)))

    def test_a_body_without_parts_has_one_token(self) -> None:
        for is_eager in (False, True):
            lines = list(bodies.Exchange(session(), 7, iter(())).reply(200, [], is_eager))
            self.assertEqual([FERNET.decrypt(line) for line in lines], [b"BE\0\7\0\0" + b"200"])
        self.assertEqual(list(bodies.Exchange(session(), None, iter(())).reply(200, [], False)), [])

    def test_a_body_without_numbers_is_told_from_one_that_was_changed(self) -> None:
        def opened(*plain: bytes) -> None:
            opener = wire.Opener(CIPHER, b"200", 1, lambda: NOW)
            for part in plain:
                opener.take(part, NOW)
            opener.finish()

        for plain in (
            (),
            (b"",),
            (b"BE\0\1\0",),
            (b"a file",),
            (b"BX\0\1\0\0" + b"200",),
            (b".E\0\1\0\0" + b"200",),
            (b"BE\0\1\0\1" + b"200",),
        ):
            with self.subTest(plain), self.assertRaises(wire.Unnumbered):
                opened(*plain)
        for plain in (
            (b"BE\0\2\0\0" + b"200",),
            (b"BE\0\1\0\0" + b"400",),
            (b"B.\0\1\0\0" + b"200",),
            (b"B.\0\1\0\0" + b"200", b""),
            (b"BE\0\1\0\0" + b"200", b".E\0\1\0\1"),
        ):
            with self.subTest(plain), self.assertRaises(wire.Tampered) as caught:
                opened(*plain)
            self.assertNotIsInstance(caught.exception, wire.Unnumbered)

    def test_token_numbers_go_on_below_zero(self) -> None:
        opener = wire.Opener(CIPHER, b"200", 1, lambda: NOW)
        for count in range(70_000):
            number = (count + 32768) % 65536 - 32768
            head = (b".." if count else b"B.") + struct.pack(">hh", 1, number)
            plain = wire.sealed(1, count, b"x", False, b"200")
            self.assertEqual(plain[:6], head)
            self.assertEqual(opener.take(plain, NOW), b"x")
        for count in (69_999, 70_001, 0):
            with self.assertRaises(wire.Tampered):
                opener.take(wire.sealed(1, count, b"x", False), NOW)

    def test_after_the_numbers_have_come_round_the_order_is_held_by_time(self) -> None:
        opener = wire.Opener(CIPHER, b"200", 1, lambda: NOW)
        opener.take(wire.sealed(1, 0, b"", False, b"200"), NOW)
        opener.take(wire.sealed(1, 1, b"", False), NOW - 1)
        with self.assertRaises(wire.Tampered):
            opener.take(wire.sealed(1, 2, b"", False), NOW - 2)

    def test_request_numbers_go_round(self) -> None:
        number, seen = 0, []
        for _ in range(65536):
            number = wire.next_number(number)
            seen.append(number)
        self.assertEqual((seen[0], seen[32766], seen[32767], seen[-1]), (1, 32767, -32768, 0))
        self.assertEqual(len(set(seen)), 65536)

    def test_long_files_go_in_longer_tokens_so_that_numbers_do_not_run_out(self) -> None:
        for length in (0, 1, 1 << 30, (1 << 31) - 1, 1 << 31, 1 << 33, 1 << 34):
            size = wire.data_size(length)
            self.assertGreaterEqual(size, 65536)
            self.assertLess(length / size, 32768)
        self.assertEqual(wire.data_size(None), 65536)
        self.assertEqual(wire.data_size(1 << 60), 1 << 20)


class Ages(unittest.TestCase):
    def opened(self, made: int, now: float, held: float = 0.0) -> bytes:
        opener = wire.Opener(CIPHER, b"200", 1, lambda: now)
        opener.held = held
        (token,) = body([b"said"], 1, b"200", made)
        return opener.open(token)

    def test_tokens_are_fresh_for_ten_seconds_of_this_hosts_clock(self) -> None:
        for age in (0, 1, 9.9, 10, 10.9, -1, -59, -60):
            self.assertEqual(self.opened(NOW, NOW + age), b"said")
        for age in (11, 12, 3600, -61, -3600):
            with self.subTest(age), self.assertRaises(wire.Tampered):
                self.opened(NOW, NOW + age)

    def test_the_time_in_which_nobody_here_read_does_not_count(self) -> None:
        self.assertEqual(self.opened(NOW, NOW + 70, held=60), b"said")
        for age, held in ((72, 60), (-61, 60)):
            with self.subTest(age), self.assertRaises(wire.Tampered):
                self.opened(NOW, NOW + age, held)

    def test_a_slow_disk_of_the_servers_makes_no_token_old(self) -> None:
        clock = [0.0]
        tokens = body([b"a", b"b", b"c"], 1, wire.path_hash(PATH))
        real = wire.Opener

        def opener(cipher: object, bound: bytes) -> wire.Opener:
            return real(CIPHER, bound, None, lambda: NOW + clock[0])

        with mock.patch.object(wire, "Opener", opener), mock.patch.object(bodies, "time") as time:
            time.monotonic = lambda: clock[0]
            exchange = bodies.opened(session(), [b"\r\n".join(tokens)], [PATH], 1 << 20, False, 0.0)
            found = []
            for part in exchange.data:
                found.append(part)
                clock[0] += 30
        self.assertEqual(found, [b"a", b"b", b"c"])

    def test_when_a_token_was_made_is_read_from_its_own_letters_only(self) -> None:
        token = FERNET.encrypt_at_time(b"x", NOW)
        self.assertEqual(wire.made_at(token), NOW)
        for junk in (b"!", b"=", b"\n", b"!!!!", b"\xff" * 4):
            for place in range(36):
                with self.assertRaises(wire.BadToken):
                    wire.made_at(token[:place] + junk + token[place:])
        for short in (b"", b"gAAAA", token[:35]):
            with self.assertRaises(wire.BadToken):
                wire.made_at(short)

    def test_no_two_tokens_are_known_by_the_same(self) -> None:
        tokens = [FERNET.encrypt_at_time(b"x", NOW) for _ in range(100)]
        self.assertEqual(len({wire.known_by(token) for token in tokens}), 100)
        self.assertEqual(
            wire.known_by(tokens[0])[:20], base64.urlsafe_b64encode(base64.urlsafe_b64decode(tokens[0])[9:24])
        )


class Requests(unittest.TestCase):
    """What a first token makes of a session."""

    def opened(
        self, of: Session, *plain: bytes, needs_numbers: bool = False, now: float = 0.0
    ) -> bodies.Exchange:
        tokens = [FERNET.encrypt(part) for part in plain]
        return bodies.opened(of, [b"\r\n".join(tokens)], [PATH], 1 << 20, needs_numbers, now)

    def first(self, number: int, path: bytes = PATH) -> bytes:
        return oldstyle.sealed(number, 0, True, hashlib.sha384(path).digest(), b"")

    def test_only_number_1_of_the_right_path_begins_numbered_mode(self) -> None:
        of = session()
        for plain in (
            b"",
            b"BE\0\1\0\0",
            self.first(1, b"/cmd/token"),
            self.first(1)[:-1],
            b"b" + self.first(1)[1:],
        ):
            self.assertIsNone(self.opened(of, plain).number)
            self.assertFalse(of.is_numbered)
        with self.assertRaises(wire.Tampered):
            self.opened(of, self.first(2))
        self.assertEqual(self.opened(of, self.first(1)).number, 1)
        self.assertTrue(of.is_numbered)

    def test_where_numbers_are_needed_nothing_else_is_taken(self) -> None:
        for plain in ((), (b"",), (self.first(1, b"/x"),)):
            with self.assertRaises(wire.Tampered):
                self.opened(session(), *plain, needs_numbers=True)
        self.assertEqual(self.opened(session(), self.first(1), needs_numbers=True).number, 1)

    def test_in_a_numbered_session_whatever_is_wrong_is_tampering(self) -> None:
        for pieces in (
            [],
            [b"nonsense"],
            [b"x" * 5000],
            iter([FERNET.encrypt(b"")]),
            self.broken(OSError()),
            self.broken(wire.ProtocolError("short")),
        ):
            of = session()
            self.opened(of, self.first(1))
            with self.assertRaises(wire.Tampered):
                bodies.opened(of, pieces, [PATH], 4096, False, 0.0)

    def test_a_body_that_breaks_off_after_its_first_token_is_tampering(self) -> None:
        first = FERNET.encrypt(oldstyle.sealed(1, 0, False, wire.path_hash(PATH), b"a"))
        for error in (OSError(), TimeoutError(), wire.ProtocolError("short"), None):
            pieces = self.broken(error, first + b"\r\n")
            exchange = bodies.opened(session(), pieces, [PATH], 4096, False, 0.0)
            with self.subTest(error), self.assertRaises(wire.Tampered):
                list(exchange.data)

    def test_in_a_plain_session_a_broken_connection_stays_what_it_is(self) -> None:
        with self.assertRaises(TimeoutError):
            bodies.opened(session(), self.broken(TimeoutError()), [PATH], 4096, False, 0.0)

    def broken(self, error: Exception | None, *pieces: bytes) -> Iterator[bytes]:
        yield from pieces
        if error is not None:
            raise error
