"""The Laboratory protocol: encodes and decodes messages, in the clear and encrypted.

A message is text that ends in a NUL. In the clear that is UTF-8; with a key, each message is a Fernet token
and a line feed. What a peer sends is checked here. What may not enter: I/O, whose turn it is, what messages
mean except for the few words of the protocol's own.
Facts: docs/laboratory.md, "The protocol"; Fernet's specification for the length of tokens.
"""

from __future__ import annotations

import base64
import enum
import re
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pysftpserver.laboratory.config import MOST_NAME

END = "\0"
END_OF_TOKEN = b"\n"
INFO = b"laboratory"
RSA_BITS = 2048
MOST_RSA_BITS = 8192  # maximum that a client accepts: a longer key would keep it busy
RSA_BYTES = RSA_BITS // 8
PADDING = 11  # bytes that PKCS#1 v1.5 needs
MOST_KEY = RSA_BYTES - PADDING  # bytes of a symmetric key
PEM_BEGIN = b"-----BEGIN RSA PUBLIC KEY-----"
PEM_END = b"-----END RSA PUBLIC KEY-----"
REFUSED_BEGIN = b"REFUSED CONNECTION: "
MOST_PEM = 4096  # bytes
BLOCK = 16  # bytes of AES
AROUND = 1 + 8 + BLOCK + 32  # bytes of a token: version, time, vector, code

PASSWORD_WANTED = "PASSWORD ?"
NAME_WANTED = "NAME ?"
ACCEPTED = "ACCEPTED"
STOP = "STOP SERVER"

_OWN = re.compile(
    r"STOP SERVER\Z|(?:NAME|SERVER|SERVICE) \?\Z|(?:NAME|SERVER|SERVICES?|KEY|TEXT) = |REFUSED [A-Z]+: "
)
_FIRST = frozenset("KNRST")  # first letters of the protocol's words
_KEY_CHANGE = "KEY = "
_TOKEN = re.compile(rb"[\w-]+={0,2}", re.ASCII)  # Fernet itself ignores other characters


class Malformed(ValueError):
    """A peer does not follow this protocol. The text is for the log."""


# --- words ------------------------------------------------------------------------------------------------


class Word(enum.Enum):
    """The subject of one of the protocol's own messages."""

    NAME = "NAME"  # ?: the server's; =: the client's
    SERVER = "SERVER"  # the server's name, in an unambiguous answer
    SERVICE = "SERVICE"  # ?: all of them; =: the one in use
    SERVICES = "SERVICES"
    KEY = "KEY"
    TEXT = "TEXT"  # a text for or from a service, which may look like anything
    STOP = "STOP"
    CONNECTION = "CONNECTION"  # only in refusals, like MESSAGE
    MESSAGE = "MESSAGE"


class Form(enum.Enum):
    """The forms of such messages."""

    QUESTION = "?"
    VALUE = "="
    REFUSAL = "REFUSED"
    ORDER = "STOP SERVER"


class Own(NamedTuple):
    """A message of the protocol's own. word: None if it is unknown. value: of a refusal, the reason."""

    form: Form
    word: Word | None
    value: str


def is_own(text: str) -> bool:
    """Whether a text has the form of the protocol's own messages."""
    return _OWN.match(text) is not None


def parse(text: str) -> Own | None:
    """One of the protocol's own messages; None for any other."""
    if text[:1] not in _FIRST:  # as of most texts; the regular expression is slow
        return None
    found = _OWN.match(text)
    if found is None:
        return None
    if text == STOP:
        return Own(Form.ORDER, Word.STOP, "")
    first, second = found[0].split()[:2]
    if first == Form.REFUSAL.value:
        return Own(Form.REFUSAL, _WORDS.get(second[:-1]), text[found.end() :])
    return Own(Form(second), _WORDS[first], text[found.end() :])


_WORDS = {word.value: word for word in Word}


def escaped(text: str) -> str:
    """The text, escaped if it looks like one of the protocol's own messages."""
    return f"TEXT = {text}" if text[:1] in _FIRST and is_own(text) else text


def ask(word: Word) -> str:
    """A question."""
    return f"{word.value} ?"


def tell(word: Word, value: str) -> str:
    """A value, told or set."""
    return f"{word.value} = {value}"


def refused(word: Word, reason: str) -> str:
    """A refusal. A refusal of CONNECTION is the last message."""
    return f"{Form.REFUSAL.value} {word.value}: {reason}"


def name_fault(name: str) -> str | None:
    """What is wrong with a name, or None."""
    if not name.strip():
        return "a name that is blank"
    if len(name) > MOST_NAME:
        return f"a name of more than {MOST_NAME} characters"
    return None if name.isprintable() else "a name that is not printable"


def key_fault(key: str) -> str | None:
    """What is wrong with a symmetric key, or None. The empty key is valid and means no encryption."""
    if END in key:
        return "a key that contains a NUL"
    size = len(key.encode("utf-8", "surrogatepass"))
    return f"a key of more than {MOST_KEY} bytes" if size > MOST_KEY else None


def new_key_fault(key: str, is_encrypted: bool) -> str | None:
    """What is wrong with a new key for a connection, or None. is_encrypted: whether that is encrypted."""
    if not is_encrypted:
        return "this connection is not encrypted, so the key could be read in transit"
    return key_fault(key) if key else "the new key is empty"


# --- messages ---------------------------------------------------------------------------------------------


class Codec:
    """Encodes and decodes the messages of one connection. most: maximum size of a text in bytes.

    failure: why nothing more can be decoded, set once feed() has returned all messages before; or None.
    """

    is_encrypted = False

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = bytearray()
        self.failure: str | None = None

    def feed(self, data: bytes) -> list[str]:
        """Take received bytes; return the texts of the messages that are now complete, in order.

        It stops after a change of keys: call receive_under() and feed(b"") to go on.
        """
        raise NotImplementedError

    def encode(self, texts: Iterable[str]) -> bytes:
        """Encode messages to send, in order. Texts contain no NUL."""
        raise NotImplementedError

    def receive_under(self, key: str) -> None:
        """Decode with another key from now on. Raises Malformed if nothing is encrypted."""
        raise Malformed("a change of keys without encryption")

    def send_under(self, key: str) -> None:
        """Encode with another key from now on."""
        raise Malformed("a change of keys without encryption")

    def _refuse_if_longer(self, size: int, most: int) -> bool:
        """Set failure if size exceeds most; return whether it does."""
        if size > most:
            self.failure = f"a message of more than {self._most} bytes"
        return size > most


class Plain(Codec):
    """Messages in the clear."""

    def feed(self, data: bytes) -> list[str]:
        # All of data is decoded in one call: no loop unless something is wrong.
        if self.failure is not None:
            return []
        head, end, rest = data.rpartition(b"\0")
        if end and self._rest:
            head = bytes(self._rest) + head
            self._rest.clear()
        texts = self._texts(head) if end else []
        if self.failure is None and rest:
            self._rest += rest
            self._refuse_if_longer(len(self._rest), self._most)
        return texts

    def _texts(self, head: bytes) -> list[str]:
        if len(head) <= self._most:
            try:
                return head.decode().split(END)
            except UnicodeDecodeError:
                pass
        texts = []
        for raw in head.split(b"\0"):
            if self._refuse_if_longer(len(raw), self._most):
                break
            try:
                texts.append(raw.decode())
            except UnicodeDecodeError:
                self.failure = "a message that is not UTF-8"
                break
        return texts

    def encode(self, texts: Iterable[str]) -> bytes:
        return "".join([f"{text}\0" for text in texts]).encode("utf-8", "replace")


class Encrypted(Codec):
    """Messages as tokens. key: the symmetric key, not empty."""

    is_encrypted = True

    def __init__(self, key: str, most: int) -> None:
        super().__init__(most)
        self._most_token = most_token(most)
        self._sender = self._receiver = fernet(key)

    def feed(self, data: bytes) -> list[str]:
        if self.failure is not None:
            return []
        if self._rest:
            if END_OF_TOKEN not in data and END_OF_TOKEN not in self._rest:
                self._rest += data
                self._refuse_if_longer(len(self._rest), self._most_token)
                return []
            data = bytes(self._rest) + data
            self._rest.clear()
        texts: list[str] = []
        start = 0
        while (end := data.find(END_OF_TOKEN, start)) >= 0:
            text = self._text(data[start:end])
            if text is None:
                return texts
            texts.append(text)
            start = end + 1
            if text.startswith(_KEY_CHANGE):
                break
        self._rest += data[start:]
        if end < 0:
            self._refuse_if_longer(len(self._rest), self._most_token)
        return texts

    def _text(self, token: bytes) -> str | None:
        """The text of a token; None after setting failure."""
        if self._refuse_if_longer(len(token), self._most_token):
            return None
        try:
            if not _TOKEN.fullmatch(token):
                raise InvalidToken
            raw = self._receiver.decrypt(token)
            text = raw.decode()
        except InvalidToken:
            self.failure = "a token that the key does not decrypt"
            return None
        except UnicodeDecodeError:
            self.failure = "a message that is not UTF-8"
            return None
        if text.find(END) != len(text) - 1 or not text:
            self.failure = "a token that is not one message"
            return None
        return None if self._refuse_if_longer(len(raw), self._most + 1) else text[:-1]

    def encode(self, texts: Iterable[str]) -> bytes:
        encrypt = self._sender.encrypt
        return b"".join([encrypt(f"{text}\0".encode("utf-8", "replace")) + b"\n" for text in texts])

    def receive_under(self, key: str) -> None:
        self._receiver = fernet(key)

    def send_under(self, key: str) -> None:
        self._sender = fernet(key)


def codec(key: str, most: int) -> Codec:
    """The codec for a key; the empty key means no encryption. most: maximum size of a text, in bytes."""
    return Encrypted(key, most) if key else Plain(most)


def most_token(most: int) -> int:
    """The maximum size of a token for a text of up to `most` bytes."""
    padded = ((most + 1) // BLOCK + 1) * BLOCK
    return -(-(AROUND + padded) // 3) * 4


# --- keys -------------------------------------------------------------------------------------------------


def fernet(key: str) -> Fernet:
    """The cipher of a symmetric key."""
    derived = HKDF(hashes.SHA256(), 32, None, INFO).derive(key.encode("utf-8", "surrogatepass"))
    return Fernet(base64.urlsafe_b64encode(derived))


def new_key() -> str:
    """A random symmetric key."""
    return secrets.token_urlsafe(32)


def new_private_key() -> rsa.RSAPrivateKey:
    """Generate a key for the server. Takes tens of milliseconds, in which other threads run."""
    return rsa.generate_private_key(65537, RSA_BITS)


def pem(key: rsa.RSAPrivateKey) -> bytes:
    """The first bytes of a server: the public part of its key."""
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)


def encrypted_key(pem_of_server: bytes, key: str) -> bytes:
    """The first bytes of a client: its symmetric key, encrypted for the server. Raises Malformed."""
    try:
        public = serialization.load_pem_public_key(pem_of_server)
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed("not an RSA key") from None
    if not isinstance(public, rsa.RSAPublicKey) or not RSA_BITS <= public.key_size <= MOST_RSA_BITS:
        raise Malformed(f"not an RSA key of {RSA_BITS} bits")
    return public.encrypt(key.encode(), padding.PKCS1v15())


def decrypted_key(private: rsa.RSAPrivateKey, raw: bytes) -> str:
    """The symmetric key that a client has encrypted.

    If the bytes cannot be decrypted, returns a random key, so that the first message fails as with a wrong
    key: the answer does not reveal whether the padding was right (RFC 8017, section 7.2.2).
    """
    instead = new_key()
    try:
        key = private.decrypt(raw, padding.PKCS1v15()).decode()
    except ValueError:  # UnicodeDecodeError is one
        return instead
    return instead if END in key else key
