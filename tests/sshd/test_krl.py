"""Lists of revoked keys, against ssh-keygen -Q."""

from __future__ import annotations

import random
import unittest
from pathlib import Path

from pysftpserver.people.keys import fingerprint
from pysftpserver.sshd.certificates import is_certificate
from pysftpserver.sshd.krl import MAGIC, BadList, read
from tests.sshd.certifying import WorkshopCase, blob_of, certificate_in
from tests.support.hard import IS_HARD
from tests.support.packets import string, u32, u64

HEADER = MAGIC + u32(1) + u64(3) + u64(1_700_000_000) + u64(0) + string(b"") + string(b"why")
SERIALS = (1, 2, 7, 8, 100, 101, 5000, 70_000, (1 << 32) + 5, (1 << 64) - 1)


def section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + string(content)


class WhatIsRevoked(WorkshopCase):
    def is_revoked(self, content: bytes, path: Path) -> bool:
        """Whether a list revokes the key or certificate in a file."""
        revoked, blob = read(content), blob_of(path)
        if is_certificate(blob):
            return revoked.fault(certificate_in(path)) is not None
        return revoked.has_key(blob)

    def test_lists_say_the_same_as_ssh_keygen(self) -> None:
        workshop, other = self.workshop, self.workshop.key()
        second = workshop.key("ecdsa")
        rest = random.Random(5).sample(range(1 << 20), 40)
        files = [
            *(workshop.certify(self.authority, self.key, serial=serial) for serial in SERIALS),
            workshop.certify(self.authority, self.key, key_id="gone"),
            workshop.certify(second, self.key, serial=7, key_id="gone"),
            workshop.certify(second, other, serial=5000),
            *(path.with_suffix(".pub") for path in (self.key, other, self.authority, second)),
        ]
        ca = self.authority.with_suffix(".pub")
        key_line = self.key.with_suffix(".pub").read_text()
        ca_line = second.with_suffix(".pub").read_text()
        lists = {
            "nothing": "",
            "serials": "serial: 7\nserial: 5000\n",
            "a range": "serial: 1-100\n",
            "bits": "".join(f"serial: {one}\n" for one in range(1, 200, 2)),
            "many": "".join(f"serial: {one}\n" for one in [*rest, 7, 101]),
            "the last": "serial: 18446744073709551615\nserial: 4294967296-4294967301\n",
            "a key id": "id: gone\n",
            "keys": f"key: {key_line}",
            "digests": f"sha1: {key_line}sha256: {ca_line}",
            "a hash": f"hash: {fingerprint(blob_of(other.with_suffix('.pub')))}\n",
            "a CA": f"key: {ca_line}",
        }
        for name, text in lists.items():
            for about in (ca, "none") if IS_HARD or "a " in name else (ca,):
                with self.subTest(name, about=about):
                    krl = workshop.revoke(text, "-s", about)
                    found = [self.is_revoked(krl.read_bytes(), path) for path in files]
                    self.assertEqual(found, workshop.asks(krl, *files))

    def test_a_list_of_lines_revokes_keys_certificates_of_them_and_of_the_CA(self) -> None:
        certificate = self.workshop.certify(self.authority, self.key)
        key, ca = (path.with_suffix(".pub") for path in (self.key, self.authority))
        for words, content in (
            ("its key is revoked", f"# comment\n\n{key.read_text()}"),
            ("its key is revoked", f"  {fingerprint(blob_of(key))} lost\r\n"),
            ("its key is revoked", certificate.read_text()),
            ("its CA is revoked", f"{ca.read_text()}# end"),
            (None, ""),
            (None, self.workshop.key().with_suffix(".pub").read_text()),
        ):
            with self.subTest(content):
                revoked = read(content.encode())
                self.assertEqual(revoked.fault(certificate_in(certificate)), words)
                self.assertEqual(revoked.has_key(blob_of(key)), words == "its key is revoked")

    def test_serial_0_is_never_revoked_by_serial(self) -> None:
        certificate = certificate_in(self.workshop.certify(self.authority, self.key, serial=0))
        part = section(0x22, u64(0) + string(b"\x7e"))
        content = HEADER + section(1, string(b"") + string(b"") + part)
        self.assertIsNone(read(content).fault(certificate))


class WhatIsUnusable(WorkshopCase):
    def assert_bad(self, content: bytes, words: str) -> None:
        with self.assertRaisesRegex(BadList, words) as caught:
            read(content)
        self.assertTrue(str(caught.exception).isprintable())

    def test_what_is_not_understood_makes_the_whole_list_unusable(self) -> None:
        every = string(b"") + string(b"")
        for words, content in (
            ("version 2", MAGIC + u32(2) + HEADER[12:]),
            ("cut off", MAGIC),
            ("zero byte", HEADER.replace(b"why", b"w\0y")),
            ("type 9 in", HEADER + section(9, b"")),
            ("type 4 in", HEADER + section(4, b"")),
            ("an extension", HEADER + section(255, string(b"new") + b"\1" + string(b""))),
            ("an extension", HEADER + section(1, every + section(0x39, string(b"n") + b"\1" + string(b"")))),
            ("type 36", HEADER + section(1, every + section(0x24, b""))),
            ("serial 0", HEADER + section(1, every + section(0x20, u64(0)))),
            ("serial 0", HEADER + section(1, every + section(0x22, u64(0) + string(b"\1")))),
            ("ends before", HEADER + section(1, every + section(0x21, u64(5) + u64(4)))),
            ("more after", HEADER + section(1, every + section(0x21, u64(5) + u64(6) + b"\0"))),
            ("negative", HEADER + section(1, every + section(0x22, u64(5) + string(b"\x80")))),
            ("too long", HEADER + section(1, every + section(0x22, u64(5) + string(b"\1" + bytes(2048))))),
            ("too long", HEADER + section(1, every + section(0x22, b"\xff" * 8 + string(b"\2")))),
            ("wrong length", HEADER + section(3, string(bytes(19)))),
            ("wrong length", HEADER + section(5, string(bytes(20)))),
            ("line 2: ", b"# SSHKRL\nSSHKRL\n"),
            ("line 1: the fingerprint's length", b"SHA256:AAAA"),
            ("line 1: ", b"SHA256:!"),
            ("neither a KRL nor text", b"SSHKRL\n\xff"),
        ):
            with self.subTest(words):
                self.assert_bad(content, words)
        for optional in (section(255, string(b"new") + b"\0" + string(b"x")), b""):
            self.assertEqual(len(read(HEADER + optional)), 0)

    def test_no_part_of_a_list_is_a_list_unless_it_ends_with_a_section(self) -> None:
        text = f"serial: 5\nserial: 9-300\nid: gone\nkey: {self.key.with_suffix('.pub').read_text()}"
        content = self.workshop.revoke(text, "-s", self.authority.with_suffix(".pub")).read_bytes()
        usable = 0
        for length in range(len(content)):
            try:
                read(content[:length])
                usable += length > 0
            except BadList:
                pass
        self.assertEqual(usable, 2)  # after the header, and after the section of certificates
        with self.assertRaises(BadList):
            read(content + b"\0")

    def test_damaged_lists_are_as_unusable_as_ssh_keygen_says(self) -> None:
        chance = random.Random(11)
        every = "".join(f"serial: {one}\n" for one in [*range(1, 90, 3), *range(500, 900)])
        key = self.key.with_suffix(".pub")
        text = f"{every}id: gone\nsha256: {key.read_text()}"
        content = self.workshop.revoke(text, "-s", self.authority.with_suffix(".pub")).read_bytes()
        files = [self.workshop.certify(self.authority, self.key, serial=one) for one in (7, 600)]
        damaged = self.workshop.place / "damaged"
        seen = set()
        for _ in range(1500 if IS_HARD else 25):
            changed = bytearray(content)
            for _ in range(chance.randint(1, 2)):
                changed[chance.randrange(len(MAGIC), len(changed))] = chance.choice((0, 1, 255, 32, 33, 34))
            if chance.random() < 0.2:
                del changed[chance.randrange(len(MAGIC), len(changed)) :]
            damaged.write_bytes(changed)
            try:
                revoked = read(bytes(changed))
                found: list[bool] | None = [revoked.fault(certificate_in(one)) is not None for one in files]
            except BadList:
                found = None
            said = self.workshop.asks(damaged, *files)
            if found != said:
                # ssh-keygen also wants a CA's key to be one, and older ones know no extensions.
                self.assertTrue(said is None, f"{found}, {said}: {changed.hex()}")
            seen.add(found is None)
        self.assertEqual(seen, {True, False})


class HowFast(unittest.TestCase):
    def test_a_long_list_is_searched_and_not_walked_through(self) -> None:
        starts = range(10, 2_000_000, 1000)
        parts = b"".join(section(0x21, u64(one) + u64(one + 3)) for one in starts)
        bits = b"".join(section(0x22, u64(one + 50) + string(b"\5")) for one in starts)
        content = HEADER + section(1, string(b"") + string(b"") + parts + bits)
        inner = read(content).certificates[b""]

        class At:
            key_id = b""

            def __init__(self, serial: int) -> None:
                self.serial = serial

        serials = (9, 10, 13, 14, 1_999_010, 1_999_060, 1_999_061, 1_999_062)
        has = [inner.has(At(one)) for one in serials]  # type: ignore[arg-type]
        self.assertEqual(has, [False, True, True, False, True, True, False, True])
