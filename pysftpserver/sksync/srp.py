"""SRP-6a as this protocol uses it: SHA-1, RFC 5054's 2048-bit group, and none of RFC 5054's padding.

srptools does the arithmetic. It differs from this protocol in three places, which are overridden here: it
pads g in k, and A and B in u, and it converts digests in M to integers, which lose their leading zeros. What
may not enter: lines, sockets, where users are stored. Facts: k = H(N | g), u = H(A | B), x = H(s | H(I ":"
P)), v = g^x, K = H(S), M = H((H(N) xor H(g)) | H(I) | s | A | B | K), HAMK = H(A | M | K); integers as
minimal big-endian bytes, digests as their 20 bytes. RFC 5054 has the group, and the reasons for refusing A, B
and u.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from srptools import SRPContext, constants

from pysftpserver.sksync.wire import minimal

SALT = 16  # bytes of a new user's
PRIVATE = 256  # bits of a and b
EXPONENT = 20  # bytes of x, and of its substitute for an unknown user
PRIME = int(constants.PRIME_2048, 16)
_MADE_UP = 64  # bytes of what an unknown user is made from, before the salt


class Refused(Exception):
    """The other side has failed the login. The text is for the log; the other side is not told."""


class _Context(SRPContext):  # type: ignore[misc]
    """The formulas of one login."""

    def __init__(self, user: str, password: str | None = None) -> None:
        super().__init__(
            user,
            password,
            prime=constants.PRIME_2048,
            generator=constants.PRIME_2048_GEN,
            hash_func=hashlib.sha1,
            bits_random=PRIVATE,
        )

    def pad(self, val: int) -> bytes:
        return minimal(val)  # k and u

    def get_common_session_key_proof(
        self, *, session_key: bytes, salt: bytes, server_public: int, client_public: int
    ) -> bytes:
        digests = (hashlib.sha1(minimal(number)).digest() for number in (self._prime, self._gen))
        mixed = bytes(one ^ other for one, other in zip(*digests, strict=True))
        user = hashlib.sha1(self._user.encode()).digest()
        parts = (mixed, user, salt, minimal(client_public), minimal(server_public), session_key)
        return hashlib.sha1(b"".join(parts)).digest()


def verifier(user: str, password: str, salt: bytes) -> int:
    """v, which a server stores instead of the password."""
    context = _Context(user, password)
    found: int = context.get_common_password_verifier(context.get_common_password_hash(salt))
    return found


def new_salt() -> bytes:
    """A random s."""
    return secrets.token_bytes(SALT)


class ServerLogin:
    """A server's side of one login. Only answer() refuses it, whatever is wrong.

    users: (salt, verifier) by name. decoy: a secret of the server. An unknown user's salt is derived from it,
    so that it is always the same for a name, as a real user's salt is. must_abort: after challenge(), whether
    A is zero in the group. In that case the protocol sends no challenge, which tells the client nothing but
    its own mistake; answer() refuses as usual, after the usual work.
    """

    def __init__(self, users: Mapping[str, tuple[bytes, int]], decoy: bytes) -> None:
        self._users = users
        self._decoy = decoy

    def challenge(self, user: str, public: int) -> tuple[bytes, int]:
        """(s, B) for the client's A. A login that will be refused takes the same work and time.

        A verifier is made up for known users as well, and an A outside the group is replaced by another
        number: stopping here would reveal, by timing, what was wrong.
        """
        self.must_abort = public % PRIME == 0
        made_up = self._made_up(user)
        known = self._users.get(user)
        self._salt, stored = known or made_up
        # A verifier of zero leads to a key that anyone can compute. No password has that verifier.
        self._is_sound = known is not None and stored % PRIME != 0 and 0 < public < PRIME
        self._client_public = public if 0 < public < PRIME else made_up[1]
        self._context = _Context(user)
        private = self._context.generate_server_private()
        self._public: int = self._context.get_server_public(password_verifier=stored, server_private=private)
        common = self._context.get_common_secret(self._public, self._client_public)
        self._is_sound = self._is_sound and self._public != 0 and common != 0
        secret = self._context.get_server_premaster_secret(
            password_verifier=stored,
            server_private=private,
            client_public=self._client_public,
            common_secret=common,
        )
        self._key: bytes = self._context.get_common_session_key(secret)
        return self._salt, self._public

    def _made_up(self, user: str) -> tuple[bytes, int]:
        """(salt, verifier) of an unknown user; the salt is as long as that of a known user."""
        lengths = sorted(len(salt) for salt, _ in self._users.values()) or [SALT]
        seed = hashlib.shake_256(b"%b\0%b" % (self._decoy, user.encode())).digest(_MADE_UP + lengths[-1])
        length = lengths[int.from_bytes(seed[EXPONENT:_MADE_UP], "big") % len(lengths)]
        exponent = int.from_bytes(seed[:EXPONENT], "big")
        return seed[_MADE_UP : _MADE_UP + length], pow(int(constants.PRIME_2048_GEN, 16), exponent, PRIME)

    def answer(self, proof: bytes) -> bytes:
        """HAMK for the client's M; works once. Raises Refused with the same text and timing for any fault."""
        expected = self._context.get_common_session_key_proof(
            session_key=self._key,
            salt=self._salt,
            server_public=self._public,
            client_public=self._client_public,
        )
        is_right = hmac.compare_digest(expected, proof)
        answer: bytes = self._context.get_common_session_key_proof_hash(
            session_key=self._key, session_key_proof=proof, client_public=self._client_public
        )
        is_sound, self._is_sound = self._is_sound, False  # one guess per challenge
        if not (is_right and is_sound):
            raise Refused("user and password do not match")
        return answer


class ClientLogin:
    """A client's side of one login."""

    def __init__(self, user: str, password: str) -> None:
        self._context = _Context(user, password)
        self._private: int = self._context.generate_client_private()
        self.public: int = self._context.get_client_public(client_private=self._private)  # A

    def prove(self, salt: bytes, public: int) -> bytes:
        """M for the server's s and B. Raises Refused."""
        if not 0 < public < PRIME:
            raise Refused("B is not in the group")
        common = self._context.get_common_secret(public, self.public)
        if common == 0:
            raise Refused("u is zero")
        secret = self._context.get_client_premaster_secret(
            password_hash=self._context.get_common_password_hash(salt),
            server_public=public,
            client_private=self._private,
            common_secret=common,
        )
        self._key: bytes = self._context.get_common_session_key(secret)
        self._proof = self._context.get_common_session_key_proof(
            session_key=self._key, salt=salt, server_public=public, client_public=self.public
        )
        return self._proof

    def check(self, answer: bytes) -> None:
        """Check the server's HAMK. Raises Refused if the server does not know the verifier."""
        expected: bytes = self._context.get_common_session_key_proof_hash(
            session_key=self._key, session_key_proof=self._proof, client_public=self.public
        )
        if not hmac.compare_digest(expected, answer):
            raise Refused("the server does not know the password")
