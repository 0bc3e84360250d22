"""The Laboratory protocol: its messages, to bytes and back, in the clear and encrypted.

A message is text that ends in a zero byte. In the clear that is UTF-8; with a key, each message is a Fernet
token and a line feed. What a peer may send is checked: what comes out of this module can be used. What may
not enter: I/O, whose turn it is, what messages mean but the few words of the protocol's own.
Facts: docs/laboratory.md, "The protocol"; Fernet's specification for the length of tokens.
"""

from __future__ import annotations

import base64
import enum
import re
import secrets
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pysftpserver.laboratory.config import MOST_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class Codec(Protocol):
        """One connection's messages, to bytes and back."""

        is_encrypted: bool
        #: Why no more can be understood, after feed() has returned what came before; None: all is well.
        failure: str | None

        def feed(self, data: bytes) -> list[str]:
            """The texts of the messages that are whole now, in order.

            It stops behind a change of keys: receive_under() and feed(b"") go on.
            """

        def encode(self, texts: Iterable[str]) -> bytes:
            """Messages to send, in order. Texts have no zero in them."""

        def receive_under(self, key: str) -> None:
            """What the peer sends from now on is encrypted with another key."""

        def send_under(self, key: str) -> None:
            """What is encoded from now on is."""


END = "\0"
END_OF_TOKEN = b"\n"
INFO = b"laboratory"
RSA_BITS = 2048
MOST_RSA_BITS = 8192  # that a client accepts: more is a way to keep it busy
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
_FIRST = frozenset("KNRST")  # what those begin with
_KEY_CHANGE = "KEY = "
_TOKEN = re.compile(rb"[\w-]+={0,2}", re.ASCII)  # Fernet passes over what is between such letters


class Malformed(ValueError):
    """What a peer said is not of this protocol. The text is for the log."""


# --- words ------------------------------------------------------------------------------------------------


class Word(enum.Enum):
    """What a message of the protocol's own is about."""

    NAME = "NAME"  # ?: the server's; =: the client's
    SERVER = "SERVER"  # the server's name, in an answer that cannot be taken for anything else
    SERVICE = "SERVICE"  # ?: all of them; =: the one in use
    SERVICES = "SERVICES"
    KEY = "KEY"
    TEXT = "TEXT"  # a text for a service, or from one, whatever it looks like
    STOP = "STOP"
    CONNECTION = "CONNECTION"  # in refusals only, as the next
    MESSAGE = "MESSAGE"


class Form(enum.Enum):
    """The forms of such messages."""

    QUESTION = "?"
    VALUE = "="
    REFUSAL = "REFUSED"
    ORDER = "STOP SERVER"


class Own(NamedTuple):
    """A message of the protocol's own. word: None for one that is not known. value: of a refusal, why."""

    form: Form
    word: Word | None
    value: str


def is_own(text: str) -> bool:
    """Whether a text has the form of the protocol's own messages."""
    return _OWN.match(text) is not None


def parse(text: str) -> Own | None:
    """One of the protocol's own messages; None for any other."""
    if text[:1] not in _FIRST:  # most are: this is much of what a message costs
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
    """The text in a form that arrives as a text, whatever it looks like."""
    return f"TEXT = {text}" if text[:1] in _FIRST and is_own(text) else text


def ask(word: Word) -> str:
    """A question."""
    return f"{word.value} ?"


def tell(word: Word, value: str) -> str:
    """What something is, or is to be."""
    return f"{word.value} = {value}"


def refused(word: Word, reason: str) -> str:
    """No, and why. Of CONNECTION, it is the last message."""
    return f"{Form.REFUSAL.value} {word.value}: {reason}"


def name_fault(name: str) -> str | None:
    """What is wrong with a name, or None."""
    if not name.strip():
        return "a name without a letter"
    if len(name) > MOST_NAME:
        return f"a name of more than {MOST_NAME} characters"
    return None if name.isprintable() else "a name that cannot be printed"


def key_fault(key: str) -> str | None:
    """What is wrong with a symmetric key, or None. The empty one, which means none, is no fault."""
    if END in key:
        return "a key with a zero in it"
    size = len(key.encode("utf-8", "surrogatepass"))
    return f"a key of more than {MOST_KEY} bytes" if size > MOST_KEY else None


# --- messages ---------------------------------------------------------------------------------------------


class Plain:
    """Messages in the clear. most: bytes of a text."""

    is_encrypted = False

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = bytearray()
        self.failure: str | None = None

    def feed(self, data: bytes) -> list[str]:
        """As Codec has it. All of data is looked at in one go: no loop while nothing is wrong."""
        if self.failure is not None:
            return []
        head, end, rest = data.rpartition(b"\0")
        if end and self._rest:
            head = bytes(self._rest) + head
            self._rest.clear()
        texts = self._texts(head) if end else []
        if self.failure is None and rest:
            self._rest += rest
            if len(self._rest) > self._most:
                self.failure = self._too_long()
        return texts

    def _texts(self, head: bytes) -> list[str]:
        if len(head) <= self._most:
            try:
                return head.decode().split(END)
            except UnicodeDecodeError:
                pass
        texts = []
        for raw in head.split(b"\0"):
            if len(raw) > self._most:
                self.failure = self._too_long()
                break
            try:
                texts.append(raw.decode())
            except UnicodeDecodeError:
                self.failure = "a message that is no UTF-8"
                break
        return texts

    def _too_long(self) -> str:
        return f"a message of more than {self._most} bytes"

    def encode(self, texts: Iterable[str]) -> bytes:
        """As Codec has it."""
        return "".join([f"{text}\0" for text in texts]).encode("utf-8", "replace")

    def receive_under(self, key: str) -> None:
        """Nothing can change here."""
        raise Malformed("a key where nothing is encrypted")

    send_under = receive_under


class Encrypted:
    """Messages as tokens. key: the symmetric one, not empty. most: bytes of a text."""

    is_encrypted = True

    def __init__(self, key: str, most: int) -> None:
        self._most = most
        self._most_token = most_token(most)
        self._rest = bytearray()
        self._sender = self._receiver = fernet(key)
        self.failure: str | None = None

    def feed(self, data: bytes) -> list[str]:
        """As Codec has it."""
        if self.failure is not None:
            return []
        if self._rest:
            if END_OF_TOKEN not in data and END_OF_TOKEN not in self._rest:
                self._rest += data
                self._check_rest()
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
            self._check_rest()
        return texts

    def _check_rest(self) -> None:
        if len(self._rest) > self._most_token:
            self.failure = self._too_long()

    def _text(self, token: bytes) -> str | None:
        """The text of a token, or None and a failure."""
        if len(token) > self._most_token:
            self.failure = self._too_long()
            return None
        try:
            if not _TOKEN.fullmatch(token):
                raise InvalidToken
            raw = self._receiver.decrypt(token)
            text = raw.decode()
        except InvalidToken:
            self.failure = "a token that is not of its key"
            return None
        except UnicodeDecodeError:
            self.failure = "a message that is no UTF-8"
            return None
        if text.find(END) != len(text) - 1 or not text:
            self.failure = "a token that is not one message"
            return None
        if len(raw) > self._most + 1:
            self.failure = self._too_long()
            return None
        return text[:-1]

    def _too_long(self) -> str:
        return f"a message of more than {self._most} bytes"

    def encode(self, texts: Iterable[str]) -> bytes:
        """As Codec has it."""
        encrypt = self._sender.encrypt
        return b"".join([encrypt(f"{text}\0".encode("utf-8", "replace")) + b"\n" for text in texts])

    def receive_under(self, key: str) -> None:
        """As Codec has it."""
        self._receiver = fernet(key)

    def send_under(self, key: str) -> None:
        """As Codec has it."""
        self._sender = fernet(key)


def codec(key: str, most: int) -> Codec:
    """What the key asks for; the empty one for nothing."""
    return Encrypted(key, most) if key else Plain(most)


def most_token(most: int) -> int:
    """The most bytes of a token for a text of so many bytes."""
    padded = ((most + 1) // BLOCK + 1) * BLOCK
    return -(-(AROUND + padded) // 3) * 4


# --- keys -------------------------------------------------------------------------------------------------


def fernet(key: str) -> Fernet:
    """The cipher of a symmetric key."""
    derived = HKDF(hashes.SHA256(), 32, None, INFO).derive(key.encode("utf-8", "surrogatepass"))
    return Fernet(base64.urlsafe_b64encode(derived))


def new_key() -> str:
    """A symmetric key that nobody can guess."""
    return secrets.token_urlsafe(32)


def new_private_key() -> rsa.RSAPrivateKey:
    """A key of the server's. Takes tens of milliseconds, in which other threads run."""
    return rsa.generate_private_key(65537, RSA_BITS)


def pem(key: rsa.RSAPrivateKey) -> bytes:
    """How a server begins: the public part of its key."""
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)


def encrypted_key(pem_of_server: bytes, key: str) -> bytes:
    """How a client goes on: its symmetric key, for the server alone. Raises Malformed."""
    try:
        public = serialization.load_pem_public_key(pem_of_server)
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed("no RSA key") from None
    if not isinstance(public, rsa.RSAPublicKey) or not RSA_BITS <= public.key_size <= MOST_RSA_BITS:
        raise Malformed(f"no RSA key of {RSA_BITS} bits")
    return public.encrypt(key.encode(), padding.PKCS1v15())


def decrypted_key(private: rsa.RSAPrivateKey, raw: bytes) -> str:
    """The symmetric key that a client has encrypted.

    What was not encrypted well gives a key that nobody knows, and is found out by the first message, as a
    wrong key is: nobody learns from the answer whether the padding was right (RFC 8017, section 7.2.2).
    """
    instead = new_key()
    try:
        key = private.decrypt(raw, padding.PKCS1v15()).decode()
    except ValueError:  # UnicodeDecodeError is one
        return instead
    return instead if END in key else key
