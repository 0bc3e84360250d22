"""Keys, signatures and session keys: the cryptography of the remo protocol.

What may not enter: sockets, HTTP, users, files. Facts: RFC 8032 (Ed448), RFC 7748 (X448), NIST SP 800-56A
(the derivation), the Fernet specification; RSA users sign with PKCS#1 v1.5 and SHA-512.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed448, padding, rsa, x448
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from pysftpserver.remo.wire import OTHER_INFO, BadToken, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    PublicKey: TypeAlias = ed448.Ed448PublicKey | rsa.RSAPublicKey
    PrivateKey: TypeAlias = ed448.Ed448PrivateKey | rsa.RSAPrivateKey

ED448_BYTES = 57
LEAST_RSA = 2048  # bits
MOST_RSA = 8192  # bits; longer ones take the server too long
MOST_PEM = 65536  # characters
SESSION_KEY_BYTES = 32


class KeyProblem(Exception):
    """A key that cannot be used; the text says why, without a path."""


class PassphraseNeeded(KeyProblem):
    """The private key is encrypted, and no passphrase was given."""


class SessionCipher:
    """Fernet that raises this package's exceptions."""

    def __init__(self, key: bytes) -> None:
        fernet = Fernet(key)
        self.encrypt = fernet.encrypt
        self._decrypt = fernet.decrypt

    def decrypt(self, token: bytes) -> bytes:
        """Raises BadToken."""
        try:
            return self._decrypt(token)
        except InvalidToken:
            raise BadToken("not a token of this session") from None


class OneTimeKey:
    """An X448 key for one login."""

    def __init__(self) -> None:
        self._private = x448.X448PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    def session_key(self, peer: bytes) -> bytes:
        """The session's key. peer: the other side's public key, raw. Raises ProtocolError."""
        try:
            shared = self._private.exchange(x448.X448PublicKey.from_public_bytes(peer))
        except ValueError:  # a point of low order, whose secret is public
            raise ProtocolError("the one-time key is unusable") from None
        derived = ConcatKDFHash(hashes.SHA256(), SESSION_KEY_BYTES, OTHER_INFO).derive(shared)
        return base64.urlsafe_b64encode(derived)


def sign(key: PrivateKey, data: bytes) -> bytes:
    """A signature."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA512())
    return key.sign(data)


def is_signed(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether the signature over data was made with this key."""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), hashes.SHA512())
        else:
            key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


# --- keys as files have them ----------------------------------------------------------------------------


def new_key() -> ed448.Ed448PrivateKey:
    """A long-term key."""
    return ed448.Ed448PrivateKey.generate()


def private_pem(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """The key as PKCS#8 in PEM, encrypted if there is a passphrase."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def public_pem(key: PublicKey) -> bytes:
    """The key as SubjectPublicKeyInfo in PEM."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_private(pem: bytes, passphrase: bytes | None = None) -> PrivateKey:
    """A user's or the server's private key. Raises PassphraseNeeded, KeyProblem."""
    try:
        key = serialization.load_pem_private_key(pem, passphrase or None)
    except TypeError:  # the library's error for a missing or an unneeded passphrase
        if passphrase:
            return load_private(pem)
        raise PassphraseNeeded("it is encrypted, and needs its passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        wrong = "the passphrase is wrong, or " if passphrase else ""
        raise KeyProblem(f"{wrong}it is not a private key in PEM") from None
    if isinstance(key, ed448.Ed448PrivateKey | rsa.RSAPrivateKey):
        _check_size(key)
        return key
    raise KeyProblem("it is neither an Ed448 nor an RSA key")


def load_public(text: str | bytes) -> PublicKey:
    """A public key: PEM, or the URL-safe or plain base64 of a raw Ed448 one. Raises KeyProblem."""
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if len(raw) > MOST_PEM:
        raise KeyProblem("it is too long for a public key")
    if b"-----BEGIN" not in raw:
        return _from_base64(raw)
    try:
        key = serialization.load_pem_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        hint = ": it is a private one" if b"PRIVATE KEY" in raw else ""
        raise KeyProblem(f"it is not a public key in PEM{hint}") from None
    if isinstance(key, ed448.Ed448PublicKey | rsa.RSAPublicKey):
        _check_size(key)
        return key
    raise KeyProblem("it is neither an Ed448 nor an RSA key")


def _from_base64(text: bytes) -> ed448.Ed448PublicKey:
    try:
        raw = base64.b64decode(text.strip().translate(bytes.maketrans(b"-_", b"+/")), validate=True)
        if len(raw) != ED448_BYTES:
            raise ValueError
        return ed448.Ed448PublicKey.from_public_bytes(raw)
    except (ValueError, binascii.Error):
        raise KeyProblem("it is neither PEM nor the base64 of a raw Ed448 key") from None


def _check_size(key: PublicKey | PrivateKey) -> None:
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey) and not LEAST_RSA <= key.key_size <= MOST_RSA:
        raise KeyProblem(
            f"an RSA key has to have {LEAST_RSA} to {MOST_RSA} bits, and this has {key.key_size}"
        )


def fingerprint(key: PublicKey) -> str:
    """A public key's fingerprint, `SHA256:` and base64, as ssh-keygen writes it."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")
