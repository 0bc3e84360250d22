"""Public keys in the forms in which people write them, against ssh-keygen."""

from __future__ import annotations

import base64
import random
import subprocess
import tempfile
import unittest
from pathlib import Path

from pysftpserver.people.keys import (
    BadKey,
    entry_line,
    fingerprint,
    key_line,
    key_type,
    parse_authorized_keys,
    parse_entry,
    parse_key,
)
from tests.sshd.material import base64_alone, blob, line
from tests.support.processes import program

KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


def field(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def text_of(*fields: bytes) -> str:
    return base64.b64encode(b"".join(map(field, fields))).decode()


SK_ED25519 = text_of(b"sk-ssh-ed25519@openssh.com", bytes(32), b"ssh:")
SK_ECDSA = text_of(b"sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", b"\4" + bytes(64), b"ssh:")


class Keys(unittest.TestCase):
    def assert_bad(self, text: str, words: str) -> None:
        with self.assertRaisesRegex(BadKey, words) as caught:
            parse_key(text)
        told = str(caught.exception)
        self.assertTrue(told.isprintable())
        for word in text.split():
            if len(word) > 40:
                self.assertNotIn(word[:40], told)

    def test_every_kind_is_taken_as_base64_alone_and_as_a_line_with_any_comment(self) -> None:
        for kind in KINDS:
            with self.subTest(kind):
                for text in (
                    base64_alone(0, kind),
                    f" {base64_alone(0, kind)}\n",
                    line(0, kind),
                    f"{line(0, kind)} somebody's key on a laptop",
                    f"\t{line(0, kind)}\tz\u00e9\r\n",
                ):
                    self.assertEqual(parse_key(text), blob(0, kind))
                self.assertEqual(key_type(blob(0, kind)), kind)

    def test_rsa_keys_are_taken_from_2048_bits_on(self) -> None:
        text = line(0, "ssh-rsa", key_size=2048)
        self.assertEqual(parse_key(text), blob(0, "ssh-rsa", key_size=2048))
        self.assert_bad(line(0, "ssh-rsa", key_size=1024), "RSA with 1024 bits")
        enormous = text_of(b"ssh-rsa", b"\1\0\1", b"\1" + bytes(5000))
        self.assert_bad(enormous, "RSA with 40001 bits")

    def test_security_keys_are_taken(self) -> None:
        for text in (SK_ED25519, SK_ECDSA):
            self.assertEqual(base64.b64encode(parse_key(text)).decode(), text)
            kind = key_type(parse_key(text))
            self.assertEqual(parse_key(f"{kind} {text} a token"), parse_key(text))

    def test_lines_and_fingerprints_are_those_of_ssh_keygen(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            for kind, bits in (("ed25519", "256"), ("ecdsa", "384"), ("rsa", "2048")):
                file = Path(place) / kind
                words = [*f"-q -t {kind} -b {bits} -f {file} -N".split(), "", "-C", "a b"]
                subprocess.run([program("ssh-keygen"), *words], check=True, stdin=subprocess.DEVNULL)
                written = file.with_suffix(".pub").read_text().strip()
                key = parse_key(written)
                self.assertEqual(key_line(key, "a b"), written)
                shown = subprocess.run(
                    [program("ssh-keygen"), "-l", "-f", f"{file}.pub"],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                self.assertEqual(shown.stdout.split()[1], fingerprint(key))

    def test_options_before_a_key_are_refused_by_name_and_not_dropped(self) -> None:
        for options in ("restrict", 'command="x y"', 'from="192.0.2.0/24",no-pty', "cert-authority"):
            with self.subTest(options):
                self.assert_bad(f"{options} {line()}", "options before the key")

    def test_the_key_of_a_CA_is_marked_and_may_name_principals(self) -> None:
        key = blob()
        for text, principals in (
            (f"cert-authority {line()}", ()),
            (f'Cert-Authority,PRINCIPALS="al, bo" {line()} ours', ("al", "bo")),
            (f' principals="a b",cert-authority {line()}\r\n', ("a b",)),
            (f"cert-authority {base64_alone()}", ()),
        ):
            with self.subTest(text):
                entry, _ = parse_entry(text)
                self.assertEqual(entry, (key, principals))
                self.assertEqual(parse_entry(entry_line(entry, "c")), (entry, "c"))
        self.assertEqual(parse_entry(f"{line()} of cert-authority x"), ((key, None), "of cert-authority x"))
        for options, words in (
            ("cert-authority,no-pty", "others would have no effect"),
            ('principals="a",cert-authority,principals="b"', "once"),
            ("cert-authority,principals=", "not names"),
            ('cert-authority,principals=""', "not names"),
            ('cert-authority,principals="a,,b"', "not names"),
            ("cert-authority,principals=a", "not names"),
            ('cert-authority,principals="a"b"', "options before the key"),
            ('cert-authority,principals="a\\"', "backslashes"),
            ('principals="a"', "options before the key"),
            ('cert-authority,principals="a', "options before the key"),
            ("cert-authority,cert-authority restrict", "options before the key"),
        ):
            with self.subTest(options), self.assertRaisesRegex(BadKey, words):
                parse_entry(f"{options} {line()}")

    def test_a_private_key_is_called_one(self) -> None:
        self.assert_bad("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk=\n-----END", "private key")

    def test_what_is_no_key_is_refused_with_a_reason(self) -> None:
        good = blob()
        for text, words in (
            ("", "empty"),
            ("AAAAB3NzaC1yc2E...", "not valid base64"),
            (f"ssh-ed25519 {base64_alone()}!", "not valid base64"),
            ("ssh-ed25519", "nothing follows"),
            ("some words here", "neither base64"),
            (f"{line()}\n{line(1)}", "more than one line"),
            (f"ssh-dss {text_of(b'ssh-dss', b'x')}", "not a supported type"),
            (text_of(b"ssh-dss", b"x"), "not a supported type"),
            (f"ssh-rsa {base64_alone()}", "line says ssh-rsa, but the key is ssh-ed25519"),
            (base64.b64encode(good[:-1]).decode(), "cut off"),
            (base64.b64encode(good + b"x").decode(), "more after the key"),
            (text_of(b"ssh-ed25519", bytes(31)), "length"),
            (text_of(b"ecdsa-sha2-nistp256", b"nistp384", b"\4" + bytes(96)), "curve"),
            (text_of(b"ecdsa-sha2-nistp256", b"nistp256", b"\2" + bytes(32)), "length"),
            (text_of(b"ssh-rsa", b"\1\0\1", b"\x80" + bytes(256)), "number"),
            (text_of(b"ssh-rsa", b"\1\0\0", b"\1" + bytes(256)), "exponent"),
            (text_of(b"sk-ssh-ed25519@openssh.com", bytes(32), b""), "application"),
            ("A" * 20000, "longer"),
        ):
            with self.subTest(text[:60]):
                self.assert_bad(text, words)

    def test_no_damage_to_a_key_is_more_than_a_bad_key(self) -> None:
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        for _ in range(3000):
            damaged = bytearray(blob(0, chance.choice(KINDS)))
            for _ in range(chance.randrange(1, 4)):
                damaged[chance.randrange(min(40, len(damaged)))] = chance.randrange(256)
            del damaged[chance.randrange(len(damaged)) :]
            with self.assertRaises(BadKey):
                parse_key(base64.b64encode(damaged).decode())

    def test_authorized_keys_gives_the_good_keys_and_the_numbers_of_bad_lines(self) -> None:
        text = f"# staff\n\n{line()}\r\nrestrict {line(1)}\n  # more\n{line(2)} c\nrubbish here"
        blobs, problems = parse_authorized_keys(text, parse_key)
        self.assertEqual(blobs, [blob(), blob(2)])
        self.assertEqual([problem.split(":")[0] for problem in problems], ["line 4", "line 7"])
