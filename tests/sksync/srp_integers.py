"""SRP-6a with plain integers and hashlib: what the other side of a login would compute.

Written from the protocol page and RFC 5054's appendix A alone, so that it can disagree with ours. Nothing of
pysftpserver and of srptools may enter.
"""

from __future__ import annotations

import functools
import hashlib

#: RFC 5054, appendix A, the group of 2048 bits.
N = int(
    "AC6BDB41324A9A9BF166DE5E1389582FAF72B6651987EE07FC3192943DB56050A37329CBB4A099ED8193E0757767A13D"
    "D52312AB4B03310DCD7F48A9DA04FD50E8083969EDB767B0CF6095179A163AB3661A05FBD5FAAAE82918A9962F0B93B8"
    "55F97993EC975EEAA80D740ADBF4FF747359D041D5C33EA71D281E446B14773BCA97B43A23FB801676BD207A436C6481"
    "F1D2B9078717461A5B9D32E688F87748544523B524B0D57D5EA77A2775D2ECFA032CFBDBF52FB3786160279004E57AE6"
    "AF874E7303CE53299CCC041C7BC308D82A5698F3A8D0C38271AE35F8E9DBFBB694B5C803D89F7AE435DE236D525F5475"
    "9B65E372FCD68EF20FA7111F9E4AFF73",
    16,
)
g = 2


def H(*parts: bytes) -> bytes:
    return hashlib.sha1(b"".join(parts)).digest()


def integer(digest: bytes) -> int:
    return int.from_bytes(digest, "big")


def shortest(number: int) -> bytes:
    """The digits of a number to the base 256, none of them a leading zero."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


k = integer(H(shortest(N), shortest(g)))


def x(user: str, password: str, salt: bytes) -> int:
    return integer(H(salt, H(user.encode("utf-8") + b":" + password.encode("utf-8"))))


@functools.lru_cache(maxsize=4)
def v(user: str, password: str, salt: bytes) -> int:
    return pow(g, x(user, password, salt), N)


def u(A: int, B: int) -> int:
    return integer(H(shortest(A), shortest(B)))


def M(user: str, salt: bytes, A: int, B: int, K: bytes) -> bytes:
    left, right = integer(H(shortest(N))), integer(H(shortest(g)))
    mixed = (left ^ right).to_bytes(20, "big")
    return H(mixed, H(user.encode("utf-8")), salt, shortest(A), shortest(B), K)


def HAMK(A: int, proof: bytes, K: bytes) -> bytes:
    return H(shortest(A), proof, K)


class Client:
    """a is given, so that a test can choose an A. After prove(): S and K."""

    def __init__(self, user: str, password: str, a: int) -> None:
        self.user, self.password, self.a = user, password, a
        self.A = pow(g, a, N)

    def prove(self, salt: bytes, B: int) -> bytes:
        secret = x(self.user, self.password, salt)
        base = (B - k * v(self.user, self.password, salt)) % N
        self.S = pow(base, self.a + u(self.A, B) * secret, N)
        self.K = H(shortest(self.S))
        self.proof = M(self.user, salt, self.A, B, self.K)
        return self.proof

    def expected(self) -> bytes:
        return HAMK(self.A, self.proof, self.K)


class Server:
    """b is given, so that a test can choose a B. After challenge(): S and K."""

    def __init__(self, user: str, salt: bytes, verifier: int, b: int) -> None:
        self.user, self.salt, self.verifier, self.b = user, salt, verifier, b
        self.B = (k * verifier + pow(g, b, N)) % N

    def challenge(self, A: int) -> tuple[bytes, int]:
        self.A = A
        self.S = pow(A * pow(self.verifier, u(A, self.B), N), self.b, N)
        self.K = H(shortest(self.S))
        return self.salt, self.B

    def expected(self) -> bytes:
        return M(self.user, self.salt, self.A, self.B, self.K)

    def answer(self, proof: bytes) -> bytes:
        return HAMK(self.A, proof, self.K)
