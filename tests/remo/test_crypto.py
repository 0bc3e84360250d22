"""Keys, signatures and session keys, held against what is computed without this package."""

from __future__ import annotations

import base64
import hashlib
import unittest
from typing import Any

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, x448

from pysftpserver.remo import crypto, wire
from tests.remo.serving import rsa_key

ED448 = ed448.Ed448PrivateKey.generate()
PEM, SPKI = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo


def pem(key: Any) -> str:
    return key.public_bytes(PEM, SPKI).decode()


def private(key: Any, encryption: Any = None) -> bytes:
    return key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, encryption or serialization.NoEncryption()
    )


class SessionKeys(unittest.TestCase):
    def test_both_sides_come_to_the_key_of_the_page(self) -> None:
        theirs = x448.X448PrivateKey.generate()
        mine = crypto.OneTimeKey()
        found = mine.session_key(theirs.public_key().public_bytes_raw())
        shared = theirs.exchange(x448.X448PublicKey.from_public_bytes(mine.public))
        # NIST SP 800-56A, for one block: the digest of a counter, the secret and the other information.
        digest = hashlib.sha256(b"\0\0\0\1" + shared + b"remo_serv").digest()
        self.assertEqual(found, base64.urlsafe_b64encode(digest))
        cipher = crypto.SessionCipher(found)
        self.assertEqual(Fernet(found).decrypt(cipher.encrypt(b"said")), b"said")
        self.assertEqual(cipher.decrypt(Fernet(found).encrypt(b"said")), b"said")

    def test_no_two_logins_have_a_key_in_common(self) -> None:
        self.assertNotEqual(crypto.OneTimeKey().public, crypto.OneTimeKey().public)

    def test_points_that_give_everybody_the_same_secret_are_refused(self) -> None:
        prime = 2**448 - 2**224 - 1
        for point in (0, 1, prime - 1, prime, prime + 1):
            with self.subTest(point), self.assertRaises(wire.ProtocolError):
                crypto.OneTimeKey().session_key(point.to_bytes(56, "little"))
        for size in (0, 32, 55, 57):
            with self.subTest(size), self.assertRaises(wire.ProtocolError):
                crypto.OneTimeKey().session_key(b"\x05" * size)

    def test_what_is_not_of_the_session_is_a_bad_token(self) -> None:
        cipher = crypto.SessionCipher(Fernet.generate_key())
        token = cipher.encrypt(b"said")
        for wrong in (
            b"",
            b"x",
            b"\xff",
            token[:-1],
            token[:-4],
            b"A" + token[1:],
            Fernet(Fernet.generate_key()).encrypt(b""),
        ):
            with self.subTest(wrong), self.assertRaises(wire.BadToken):
                cipher.decrypt(wrong)


class Signatures(unittest.TestCase):
    def test_both_kinds_of_keys_sign_as_the_page_says(self) -> None:
        for key in (ED448, rsa_key()):
            signature = crypto.sign(key, b"data")
            public = key.public_key()
            self.assertTrue(crypto.is_signed(public, signature, b"data"))
            for other in (b"", signature[:-1], signature + b"x", bytes(len(signature)), signature[::-1]):
                self.assertFalse(crypto.is_signed(public, other, b"data"))
            self.assertFalse(crypto.is_signed(public, signature, b"date"))
        ED448.public_key().verify(crypto.sign(ED448, b"data"), b"data")
        rsa_key().public_key().verify(
            crypto.sign(rsa_key(), b"data"), b"data", padding.PKCS1v15(), hashes.SHA512()
        )

    def test_other_paddings_and_digests_are_refused(self) -> None:
        public = rsa_key().public_key()
        for scheme, digest in (
            (padding.PKCS1v15(), hashes.SHA256()),
            (padding.PSS(padding.MGF1(hashes.SHA512()), 64), hashes.SHA512()),
        ):
            self.assertFalse(crypto.is_signed(public, rsa_key().sign(b"data", scheme, digest), b"data"))

    def test_a_key_does_not_verify_what_another_signed(self) -> None:
        others = (ed448.Ed448PrivateKey.generate(), rsa_key())
        for public in (ED448.public_key(), rsa.generate_private_key(65537, 2048).public_key()):
            for other in others:
                self.assertFalse(crypto.is_signed(public, crypto.sign(other, b"data"), b"data"))


class PublicKeys(unittest.TestCase):
    def test_pem_and_the_base64_of_older_databases_are_read(self) -> None:
        public = ED448.public_key()
        raw = public.public_bytes_raw()
        for text in (
            pem(public), pem(public).encode(), base64.urlsafe_b64encode(raw).decode(), base64.b64encode(raw),
            base64.b64encode(raw) + b"\n",
        ):  # fmt: skip
            self.assertEqual(crypto.load_public(text), public)
        self.assertEqual(crypto.load_public(pem(rsa_key().public_key())), rsa_key().public_key())

    def test_other_curves_sizes_and_texts_are_refused_with_a_reason(self) -> None:
        texts = [
            "", "nonsense", "é", base64.b64encode(bytes(56)).decode(), base64.b64encode(bytes(58)).decode(),
            pem(ed25519.Ed25519PrivateKey.generate().public_key()),
            pem(ec.generate_private_key(ec.SECP256R1()).public_key()),
            pem(x448.X448PrivateKey.generate().public_key()),
            pem(rsa.generate_private_key(65537, 1024).public_key()),
            pem(dsa.generate_private_key(1024).public_key()),
            private(ED448).decode(), pem(ED448.public_key())[:-60], "-----BEGIN PUBLIC KEY-----\n",
            "A" * 100_000,
        ]  # fmt: skip
        for text in texts:
            with self.subTest(text[:70]), self.assertRaises(crypto.KeyProblem) as caught:
                crypto.load_public(text)
            self.assertNotIn("\n", str(caught.exception))

    def test_a_fingerprint_is_that_of_the_whole_key(self) -> None:
        public = ED448.public_key()
        der = public.public_bytes(serialization.Encoding.DER, SPKI)
        wanted = "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")
        self.assertEqual(crypto.fingerprint(public), wanted)


class PrivateKeys(unittest.TestCase):
    def test_keys_are_read_back_with_and_without_a_passphrase(self) -> None:
        for key in (crypto.new_key(), rsa_key()):
            for passphrase in (None, b"open sesame"):
                written = crypto.private_pem(key, passphrase)
                self.assertEqual(b"ENCRYPTED" in written, passphrase is not None)
                found = crypto.load_private(written, passphrase)
                self.assertEqual(private(found), private(key))
        # One too many does no harm.
        self.assertIsInstance(crypto.load_private(private(ED448), b"open sesame"), ed448.Ed448PrivateKey)

    def test_what_is_wrong_with_one_is_told_without_it(self) -> None:
        written = crypto.private_pem(ED448, b"open sesame")
        with self.assertRaises(crypto.PassphraseNeeded):
            crypto.load_private(written)
        for text, passphrase in (
            (written, b"closed sesame"), (b"", None), (b"nonsense", None),
            (pem(ED448.public_key()).encode(), None),
            (private(ed25519.Ed25519PrivateKey.generate()), None),
            (private(ec.generate_private_key(ec.SECP256R1())), None),
            (private(x448.X448PrivateKey.generate()), None),
            (private(rsa.generate_private_key(65537, 1024)), None),
        ):  # fmt: skip
            with self.subTest(text[:40]), self.assertRaises(crypto.KeyProblem) as caught:
                crypto.load_private(text, passphrase)
            self.assertNotIn("sesame", str(caught.exception))
