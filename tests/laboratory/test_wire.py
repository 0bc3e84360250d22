"""Messages to bytes and back, whatever way the bytes are cut; words of the protocol's own; the beginning."""

from __future__ import annotations

import unittest

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pysftpserver.laboratory import wire
from pysftpserver.laboratory.handshake import ClientHandshake, ServerHandshake, Step
from pysftpserver.laboratory.wire import Form, Malformed, Word
from tests.support.examples import given, settings, st

MOST = 40
TEXTS = ["one", "", "zwölf", "日本語", "😀", "x" * MOST, "", "last"]
KEYS = ("", "a key")
PRIVATE = wire.new_private_key()


def fed(codec: wire.Codec, *pieces: bytes) -> list[str]:
    return [text for piece in pieces for text in codec.feed(piece)]


class Messages(unittest.TestCase):
    def test_cut_at_every_byte_they_arrive_whole_and_in_order(self) -> None:
        for key in KEYS:
            data = wire.codec(key, MOST).encode(TEXTS)
            for cut in range(len(data) + 1):
                with self.subTest(key=key, cut=cut):
                    codec = wire.codec(key, MOST)
                    self.assertEqual(fed(codec, data[:cut], data[cut:]), TEXTS)
                    self.assertIsNone(codec.failure)

    def test_a_byte_at_a_time_they_arrive_whole_and_in_order(self) -> None:
        for key in KEYS:
            codec = wire.codec(key, MOST)
            data = codec.encode(TEXTS)
            self.assertEqual(fed(codec, *(data[at : at + 1] for at in range(len(data)))), TEXTS)

    @settings(max_examples=60)
    @given(
        st.lists(
            st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=9),
            max_size=12,
        ),
        st.lists(st.integers(0, 400), max_size=6),
        st.sampled_from(KEYS),
    )
    def test_any_texts_arrive_in_any_pieces(self, texts: list[str], cuts: list[int], key: str) -> None:
        texts = [text for text in texts if not text.startswith("KEY = ")]
        codec = wire.codec(key, MOST)
        data = codec.encode(texts)
        places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        pieces = [data[start:end] for start, end in zip(places, places[1:], strict=False)]
        self.assertEqual(fed(codec, *pieces), texts)

    def test_one_that_is_too_long_ends_it_behind_those_before_it_however_it_is_cut(self) -> None:
        for key in KEYS:
            sender = wire.codec(key, 1000)
            data = sender.encode(["a", "b", "x" * (MOST + 1), "after"])
            for cut in range(0, len(data), 1 if not key else 7):
                codec = wire.codec(key, MOST)
                with self.subTest(key=key, cut=cut):
                    self.assertEqual(fed(codec, data[:cut], data[cut:], b"more\0"), ["a", "b"])
                    self.assertEqual(codec.failure, f"a message of more than {MOST} bytes")

    def test_one_without_an_end_is_not_kept_for_longer_than_it_may_be_long(self) -> None:
        for key in KEYS:
            codec = wire.codec(key, MOST)
            pieces = 0
            while codec.failure is None:
                codec.feed(b"x" * 10)
                pieces += 1
            self.assertLessEqual(10 * pieces, 10 + (wire.most_token(MOST) if key else MOST))
            self.assertEqual(codec.feed(b"y\0"), [])

    def test_bytes_that_are_no_utf_8_end_it_behind_those_before_them(self) -> None:
        for cut in range(8):
            data = b"ok\0b\xffd\0after\0"
            codec = wire.codec("", MOST)
            self.assertEqual(fed(codec, data[:cut], data[cut:]), ["ok"])
            self.assertEqual(codec.failure, "a message that is not UTF-8")

    def test_tokens_that_are_not_of_the_key_or_not_one_message_end_it(self) -> None:
        own, other = wire.fernet("a key"), wire.fernet("another")
        good = own.encrypt(b"ok\0")
        flipped = bytearray(good)
        flipped[40] ^= 1
        for bad in (
            other.encrypt(b"ok\0"),
            bytes(flipped),
            b"",
            b"gAAAA",
            good[:-4],
            good + b"\r",
            own.encrypt(b"no end"),
            own.encrypt(b""),
            own.encrypt(b"two\0in one\0"),
            own.encrypt(b"\xff\xff\0"),
            b"\xff\xfe",
        ):
            with self.subTest(bad):
                codec = wire.codec("a key", MOST)
                self.assertEqual(codec.feed(good + b"\n" + bad + b"\n" + good + b"\n"), ["ok"])
                self.assertIsNotNone(codec.failure)

    def test_the_longest_token_has_room_for_the_longest_message(self) -> None:
        for most in range(1, 70):
            token = wire.fernet("a key").encrypt(b"x" * most + b"\0")
            self.assertEqual(len(token), wire.most_token(most))

    def test_behind_a_change_of_keys_nothing_is_read_under_the_old_one(self) -> None:
        codec = wire.codec("old", MOST)
        data = codec.encode(["before", "KEY = new"]) + wire.codec("new", MOST).encode(["after", "it"])
        for cut in range(len(data) + 1):
            codec = wire.codec("old", MOST)
            texts = []
            for piece in (data[:cut], data[cut:]):
                found = codec.feed(piece)
                while found:
                    texts += found
                    if found[-1] == "KEY = new":
                        codec.receive_under("new")
                    found = codec.feed(b"")
            with self.subTest(cut):
                self.assertEqual(texts, ["before", "KEY = new", "after", "it"])
                self.assertIsNone(codec.failure)

    def test_without_encryption_no_key_can_be_changed(self) -> None:
        with self.assertRaises(Malformed):
            wire.codec("", MOST).receive_under("new")


class Words(unittest.TestCase):
    def test_each_is_known_with_its_value(self) -> None:
        for text, wanted in {
            "NAME ?": (Form.QUESTION, Word.NAME, ""),
            "SERVER ?": (Form.QUESTION, Word.SERVER, ""),
            "SERVICE ?": (Form.QUESTION, Word.SERVICE, ""),
            "SERVICE = chat": (Form.VALUE, Word.SERVICE, "chat"),
            "SERVICES = Echo\nEcho: text": (Form.VALUE, Word.SERVICES, "Echo\nEcho: text"),
            "NAME = a = b": (Form.VALUE, Word.NAME, "a = b"),
            "KEY = ": (Form.VALUE, Word.KEY, ""),
            "TEXT = NAME ?": (Form.VALUE, Word.TEXT, "NAME ?"),
            "STOP SERVER": (Form.ORDER, Word.STOP, ""),
            "REFUSED KEY: why": (Form.REFUSAL, Word.KEY, "why"),
            "REFUSED NOTHING: why": (Form.REFUSAL, None, "why"),
        }.items():
            with self.subTest(text):
                self.assertEqual(wire.parse(text), wanted)
                self.assertEqual(wire.parse(wire.escaped(text)), (Form.VALUE, Word.TEXT, text))

    def test_what_only_looks_similar_is_a_text_and_stays_as_it_is(self) -> None:
        for text in (
            "",
            "NAME",
            "NAME ? ",
            "name ?",
            " NAME ?",
            "NAME ?\n",
            "STOP SERVER\n",
            "STOP",
            "KEY=x",
            "PASSWORD ?",
            "ACCEPTED",
            "REFUSED x: why",
        ):
            with self.subTest(text):
                self.assertIsNone(wire.parse(text))
                self.assertEqual(wire.escaped(text), text)

    def test_names_and_keys_that_cannot_be_said_are_told_from_others(self) -> None:
        for name in ("", "  ", "x" * 65, "a\nb", "a\x1b[m"):
            self.assertIsNotNone(wire.name_fault(name), name)
        for name in ("x" * 64, "Zoë", "two words"):
            self.assertIsNone(wire.name_fault(name), name)
        self.assertIsNone(wire.key_fault("é" * 122))
        self.assertIsNotNone(wire.key_fault("é" * 123))
        self.assertIsNotNone(wire.key_fault("a\0"))


class Keys(unittest.TestCase):
    def test_a_symmetric_key_is_read_as_it_was_encrypted(self) -> None:
        for key in ("", "k", "é" * 122, wire.new_key()):
            raw = wire.encrypted_key(wire.pem(PRIVATE), key)
            self.assertEqual(len(raw), 256)
            self.assertEqual(wire.decrypted_key(PRIVATE, raw), key)

    def test_what_is_no_key_gives_a_key_that_nobody_knows(self) -> None:
        public = PRIVATE.public_key()
        for text in (b"\xff\xfe", b"a\0b"):
            raw = public.encrypt(text, padding.PKCS1v15())
            found = {wire.decrypted_key(PRIVATE, raw) for _ in range(2)}
            self.assertEqual(len(found), 2, "a new one each time")
            self.assertFalse(any("\0" in key or len(key) < 20 for key in found))

    def test_what_was_not_encrypted_well_gives_a_key_like_any_other(self) -> None:
        """OpenSSL makes up a text for it, which may be empty, as keys may: what it is says nothing."""
        for raw in (b"\0" * 256, b"\xff" * 256, b"\1" * 256):
            self.assertNotIn("\0", wire.decrypted_key(PRIVATE, raw))

    def test_a_client_takes_no_key_of_another_kind_or_size(self) -> None:
        small = rsa.generate_private_key(65537, 1024)
        for pem in (wire.pem(small), b"-----BEGIN RSA PUBLIC KEY-----\nAAAA\n" + wire.PEM_END, b""):
            with self.assertRaises(Malformed):
                wire.encrypted_key(pem, "key")

    def test_the_public_key_is_pkcs_1(self) -> None:
        pem = wire.pem(PRIVATE)
        self.assertTrue(pem.startswith(b"-----BEGIN RSA PUBLIC KEY-----\n"))
        self.assertEqual(serialization.load_pem_public_key(pem), PRIVATE.public_key())


class Beginnings(unittest.TestCase):
    def test_both_sides_come_to_the_end_whatever_way_the_bytes_are_cut(self) -> None:
        for key in KEYS:
            for step in (1, 2, 7, 100, 5000):
                with self.subTest(key=key, step=step):
                    self.assertEqual(self.talk(key, step), ["secret", "ann"])

    def talk(self, key: str, step: int) -> list[str]:
        client = ClientHandshake("secret", "ann", key, MOST)
        server = ServerHandshake()
        codec: wire.Codec | None = None
        answers: list[str] = []
        to_client, to_server = wire.pem(PRIVATE), b""
        while not client.is_done:
            self.assertTrue(to_client or to_server)
            for at in range(0, len(to_client), step):
                to_server += client.feed(to_client[at : at + step])
            to_client = b""
            for at in range(0, len(to_server), step):
                piece = to_server[at : at + step]
                if codec is None:
                    found = server.feed(piece)
                    if found is None:
                        continue
                    codec = wire.codec(wire.decrypted_key(PRIVATE, found[0]), MOST)
                    piece = found[1]
                    to_client += codec.encode([server.next()])
                for text in codec.feed(piece):
                    answers.append(text)
                    to_client += codec.encode([server.next()])
            to_server = b""
        self.assertIs(server.step, Step.ACCEPTED)
        return answers

    def test_what_comes_behind_accepted_is_kept(self) -> None:
        client = ClientHandshake("secret", "ann", "", MOST)
        client.feed(wire.pem(PRIVATE) + b"PASSWORD ?\0NAME ?\0ACCEPTED\0hello\0wor")
        self.assertTrue(client.is_done)
        self.assertEqual(client.texts, ["hello"])
        assert client.codec is not None
        self.assertEqual(client.codec.feed(b"ld\0"), ["world"])

    def test_a_refusal_is_understood_in_place_of_the_key_and_later(self) -> None:
        early = ClientHandshake("secret", "ann", "", MOST)
        for byte in b"REFUSED CONNECTION: too many\0":
            early.feed(bytes([byte]))
        self.assertEqual(early.refusal, "too many")
        late = ClientHandshake("secret", "ann", "", MOST)
        late.feed(wire.pem(PRIVATE) + b"PASSWORD ?\0REFUSED CONNECTION: wrong password\0")
        self.assertEqual(late.refusal, "wrong password")

    def test_a_server_of_another_kind_is_told_from_ours(self) -> None:
        for said in (b"SSH-2.0-x\r\n", b"HTTP/1.1 400\r\n", b"\0", b"-----BEGIN RSA PRIVATE KEY-----\n"):
            with self.subTest(said), self.assertRaises(Malformed):
                ClientHandshake("secret", "ann", "", MOST).feed(said)
        for said in (b"hello\0", b"NAME ?\0", b"ACCEPTED\0", b"\xff\0", b"x" * 100):
            with self.subTest(said), self.assertRaises(Malformed):
                ClientHandshake("secret", "ann", "", MOST).feed(wire.pem(PRIVATE) + said)
        with self.assertRaises(Malformed):
            ClientHandshake("secret", "ann", "", MOST).feed(wire.PEM_BEGIN + b"A" * 5000)
