"""The log-in against an implementation of its own, against the published vector, and against who may not."""

from __future__ import annotations

import hashlib
import hmac
import random
import secrets
import unittest
from unittest import mock

import srptools.context

from pysftpserver.sksync import srp
from tests.sksync import srp_integers as plain
from tests.support.hard import IS_HARD

USERS = 1000 if IS_HARD else 60
DECOY = b"a secret of the server's"
LETTERS = 'abcXYZ 019:"\\{}/\n\u00e4\u00df\u0436\u05d0\u4e16\U0001f511\u0301'
#: The protocol's published vector.
VECTOR = int(
    "7443843a24acb936bfb5d5e0d4184a3fd521d4edd8096cf2ac9cdc62eed1a363d9c4a1bd39cb69c8836eb6f77e757e73b77b"
    "e766af8547eeab4d9b3be17e2860c81afde7d4d8b5b855635ccd22352e2538b27a30518c65e825f7bb29a7037e79aa144726"
    "af2dc24ccae76a8e7a2f97fede87aee5ecab1e1ee7e559ce85fc14767ef25314c121b9c093dcf980caab66c60ae7c426a885"
    "e04bcbd761b6289b582a6d194a145932180f9b55f58cb1d937659ded8c9eeb59490705c22263241ead65db01ac218a2b76c4"
    "9947fdaf4f82c5de79c97f17da1101fc1daf14e7f49beb9b8c4496c4a585805a8b858f159ec2c8d423819f84530f496ee530"
    "3d2b2eb6a32b",
    16,
)


def by_chance(chance: random.Random) -> tuple[str, str, bytes]:
    """(user, password, salt): of all lengths, the salt often with zeros in front."""
    user, password = (
        "".join(chance.choices(LETTERS, k=chance.choice([least, 1, 2, 8, 30, 300]))) for least in (1, 0)
    )
    zeros = chance.choice([0, 0, 1, 2, 31])
    salt = bytes(zeros) + chance.randbytes(chance.randint(1, 32 - zeros))
    return user, password, salt


def is_short(number: int) -> bool:
    return number.bit_length() <= 2040


def client_with(user: str, password: str, a: int) -> srp.ClientLogin:
    with mock.patch.object(srp._Context, "generate_client_private", return_value=a):
        return srp.ClientLogin(user, password)


def challenge_with(login: srp.ServerLogin, user: str, A: int, b: int) -> tuple[bytes, int]:
    with mock.patch.object(srp._Context, "generate_server_private", return_value=b):
        return login.challenge(user, A)


class Crossed(unittest.TestCase):
    """Both of our roles against the other implementation's. All of it from one number, which is shown."""

    def setUp(self) -> None:
        self.seed = secrets.randbits(32)
        self.chance = random.Random(self.seed)

    def client_agrees(self, user: str, password: str, salt: bytes, a: int, b: int) -> plain.Server:
        """Our client with the other server."""
        shown = f"seed {self.seed}: {user!r}, {password!r}, {salt.hex()}, a {a:x}, b {b:x}"
        verifier = srp.verifier(user, password, salt)
        self.assertEqual(verifier, plain.v(user, password, salt), shown)
        theirs = plain.Server(user, salt, verifier, b)
        ours = client_with(user, password, a)
        proof = ours.prove(*theirs.challenge(ours.public))
        self.assertEqual(proof, theirs.expected(), shown)
        ours.check(theirs.answer(proof))
        return theirs

    def server_agrees(self, user: str, password: str, salt: bytes, a: int, b: int) -> plain.Client:
        """The other client with our server."""
        shown = f"seed {self.seed}: {user!r}, {password!r}, {salt.hex()}, a {a:x}, b {b:x}"
        theirs = plain.Client(user, password, a)
        ours = srp.ServerLogin({user: (salt, plain.v(user, password, salt))}, DECOY)
        proof = theirs.prove(*challenge_with(ours, user, theirs.A, b))
        try:
            answer = ours.answer(proof)
        except srp.Refused:
            self.fail(shown)
        self.assertEqual(answer, theirs.expected(), shown)
        return theirs

    def test_users_by_chance_agree_with_the_formulas_in_both_roles(self) -> None:
        for _ in range(USERS):
            user, password, salt = by_chance(self.chance)
            a, b = (self.chance.getrandbits(self.chance.choice([8, 24, 24, 64, 64, 256])) for _ in "ab")
            self.client_agrees(user, password, salt, a, b)
            self.server_agrees(user, password, salt, a, b)

    def test_our_own_client_and_server_agree_with_keys_of_their_own(self) -> None:
        for _ in range(5):
            user, password, salt = by_chance(self.chance)
            client = srp.ClientLogin(user, password)
            server = srp.ServerLogin({user: (salt, srp.verifier(user, password, salt))}, DECOY)
            proof = client.prove(*server.challenge(user, client.public))
            client.check(server.answer(proof))

    def test_public_keys_and_secrets_with_zeros_in_front_are_hashed_without_them(self) -> None:
        for a in (1, 7, 8, 2039):  # A is then a power of two, and short
            self.assertTrue(is_short(plain.Client("", "", a).A))
            self.client_agrees("user", "password", b"salt", a, 4711)
            self.server_agrees("user", "password", b"salt", a, 4711)
        A = pow(plain.g, 4711, plain.N)
        verifier = plain.v("user", "password", b"salt")
        for what, b in (("M", 5), ("S", 88), ("K", 480), ("B", 2752)):  # found by trying them all
            theirs = plain.Server("user", b"salt", verifier, b)
            theirs.challenge(A)
            has_zeros = {
                "B": is_short(theirs.B),
                "S": is_short(theirs.S),
                "K": theirs.K[0] == 0,
                "M": theirs.expected()[0] == 0,
            }
            self.assertTrue(has_zeros[what], what)
            self.client_agrees("user", "password", b"salt", 4711, b)
            self.server_agrees("user", "password", b"salt", 4711, b)

    def test_digests_with_zeros_in_front_keep_them(self) -> None:
        """H(I), H(I ":" P), x and u: numbers and salts that were found by trying them all."""
        for number in (256, 559, 108, 189):
            user, password = f"u{number}", f"p{number}"
            with self.subTest(user):
                self.assertEqual(
                    plain.H(user.encode() if number > 200 else f"{user}:{password}".encode())[0], 0
                )
                self.client_agrees(user, password, b"\0\0salt", 3, 5)
                self.server_agrees(user, password, b"\0\0salt", 3, 5)
        for digest, salt in (("x", b"\0\xb7"), ("u", b"\0\x36")):
            with self.subTest(digest):
                B = plain.Server("user", salt, plain.v("user", "password", salt), 78).B
                value = plain.x("user", "password", salt) if digest == "x" else plain.u(1 << 77, B)
                self.assertLessEqual(value.bit_length(), 152)
                self.client_agrees("user", "password", salt, 77, 78)
                self.server_agrees("user", "password", salt, 77, 78)


class Vector(unittest.TestCase):
    """User testuser, password testpassword, salt cf78a7a5."""

    def test_the_published_verifier_is_what_the_password_gives(self) -> None:
        self.assertEqual(srp.verifier("testuser", "testpassword", bytes.fromhex("cf78a7a5")), VECTOR)
        self.assertEqual(plain.v("testuser", "testpassword", bytes.fromhex("cf78a7a5")), VECTOR)

    def test_who_knows_the_password_of_the_published_verifier_gets_in(self) -> None:
        client = srp.ClientLogin("testuser", "testpassword")
        server = srp.ServerLogin({"testuser": (bytes.fromhex("cf78a7a5"), VECTOR)}, DECOY)
        client.check(server.answer(client.prove(*server.challenge("testuser", client.public))))

    def test_the_group_is_the_one_of_the_rfc(self) -> None:
        self.assertEqual((srp.PRIME, int(srp.constants.PRIME_2048_GEN, 16)), (plain.N, plain.g))


class WithAUser(unittest.TestCase):
    """A server with the user known, whose password is right."""

    def setUp(self) -> None:
        self.salt = bytes.fromhex("00cf78a7")
        self.users = {"known": (self.salt, srp.verifier("known", "right", self.salt))}

    def server(self) -> srp.ServerLogin:
        return srp.ServerLogin(self.users, DECOY)

    def refusal(self, server: srp.ServerLogin, proof: bytes) -> str:
        with self.assertRaises(srp.Refused) as caught:
            server.answer(proof)
        self.assertIsNone(caught.exception.__cause__)
        return str(caught.exception)


class Refusals(WithAUser):
    def log_in(self, user: str, password: str, server: srp.ServerLogin | None = None) -> bytes:
        client = srp.ClientLogin(user, password)
        server = server or self.server()
        return server.answer(client.prove(*server.challenge(user, client.public)))

    def test_a_wrong_password_an_unknown_user_and_a_bad_proof_are_told_the_same(self) -> None:
        said = set()
        for user, password in (("known", "wrong"), ("known", ""), ("unknown", "right"), ("Known", "right")):
            with self.assertRaises(srp.Refused) as caught:
                self.log_in(user, password)
            said.add(str(caught.exception))
        for proof in (b"", b"\0", bytes(20), bytes(19), bytes(4096)):
            server = self.server()
            server.challenge("known", srp.ClientLogin("known", "right").public)
            said.add(self.refusal(server, proof))
        self.assertEqual(len(said), 1)
        self.assertTrue(self.log_in("known", "right"))

    def test_an_a_outside_the_group_is_challenged_and_then_refused_even_with_the_proof_of_the_key(
        self,
    ) -> None:
        N = srp.PRIME
        said = set()
        for public in (0, N, 2 * N, 3 * N, N + 1, N + 2, N * N, 1 << 16384):
            server = self.server()
            salt, B = server.challenge("known", public)
            self.assertEqual(salt, self.salt)
            self.assertTrue(0 < B < N)
            # With such an A, S would be 0 or, for another number, that of A mod N.
            for S in (0, 1):
                said.add(self.refusal(server, plain.M("known", salt, public, B, plain.H(srp.minimal(S)))))
            said.add(self.refusal(server, plain.M("known", salt, public % N, B, plain.H(b""))))
        self.assertEqual(len(said), 1)

    def test_an_a_that_is_more_than_the_group_is_refused_with_the_right_password(self) -> None:
        client = plain.Client("known", "right", 1234567)
        client.A += srp.PRIME
        server = self.server()
        self.refusal(server, client.prove(*server.challenge("known", client.A)))

    def test_the_proof_of_the_stand_in_for_a_bad_a_is_refused(self) -> None:
        """Who learns the decoy could compute it: the refusal does not rest on the stand-in's secrecy."""
        server = self.server()
        salt, B = server.challenge("known", 0)
        proof = plain.M("known", salt, server._client_public, B, server._key)
        self.refusal(server, proof)

    def test_a_replayed_proof_is_refused(self) -> None:
        client = srp.ClientLogin("known", "right")
        server = self.server()
        proof = client.prove(*server.challenge("known", client.public))
        self.assertTrue(server.answer(proof))
        self.refusal(server, proof)  # on the same challenge
        again = self.server()
        again.challenge("known", client.public)
        self.refusal(again, proof)

    def test_a_challenge_is_good_for_one_guess(self) -> None:
        client = srp.ClientLogin("known", "right")
        server = self.server()
        proof = client.prove(*server.challenge("known", client.public))
        self.refusal(server, bytes(20))
        self.refusal(server, proof)

    def test_the_verifier_of_a_made_up_user_lets_nobody_in(self) -> None:
        server = self.server()
        client = plain.Client("unknown", "", 99)
        salt, B = server.challenge("unknown", client.A)
        self.refusal(server, plain.M("unknown", salt, client.A, B, server._key))

    def test_a_stored_verifier_of_zero_lets_nobody_in(self) -> None:
        for stored in (0, srp.PRIME):
            server = srp.ServerLogin({"known": (self.salt, stored)}, DECOY)
            A = pow(2, 99, srp.PRIME)
            salt, B = server.challenge("known", A)
            self.refusal(server, plain.M("known", salt, A, B, plain.H(b"\0")))

    def test_a_client_refuses_a_b_outside_the_group(self) -> None:
        for public in (0, srp.PRIME, 2 * srp.PRIME, srp.PRIME + 1, -1):
            with self.subTest(public=public), self.assertRaises(srp.Refused):
                srp.ClientLogin("known", "right").prove(self.salt, public)

    def test_a_client_refuses_a_u_of_zero(self) -> None:
        with mock.patch.object(srp._Context, "get_common_secret", return_value=0):
            with self.assertRaises(srp.Refused):
                srp.ClientLogin("known", "right").prove(self.salt, 5)

    def test_a_server_refuses_a_u_of_zero(self) -> None:
        with mock.patch.object(srp._Context, "get_common_secret", return_value=0):
            server = self.server()
            salt, B = server.challenge("known", 4)
        self.refusal(server, plain.M("known", salt, 4, B, server._key))

    def test_a_client_refuses_a_server_that_does_not_know_the_verifier(self) -> None:
        client = srp.ClientLogin("known", "right")
        impostor = plain.Server("known", self.salt, plain.v("known", "guess", self.salt), 4711)
        proof = client.prove(*impostor.challenge(client.public))
        for answer in (impostor.answer(proof), b"", proof, bytes(20)):
            with self.subTest(answer), self.assertRaises(srp.Refused):
                client.check(answer)


class MadeUpUsers(WithAUser):
    def test_get_the_same_salt_each_time_and_each_another(self) -> None:
        salts = [self.server().challenge(name, 5)[0] for name in ("a", "b", "a", "b", "")]
        self.assertEqual(salts[:2], salts[2:4])
        self.assertEqual(len(set(salts)), 3)
        another, _ = srp.ServerLogin(self.users, b"another secret").challenge("a", 5)
        self.assertNotEqual(another, salts[0])

    def test_have_salts_as_long_as_the_users(self) -> None:
        def lengths(users: dict[str, tuple[bytes, int]]) -> set[int]:
            login = srp.ServerLogin(users, DECOY)
            return {len(login.challenge(f"nobody {number}", 5)[0]) for number in range(12)}

        self.assertEqual(lengths({}), {srp.SALT})
        self.assertEqual(lengths(self.users), {4})
        self.assertEqual(lengths(self.users | {"long": (bytes(300), 5), "new": (bytes(16), 5)}), {4, 16, 300})

    def test_get_another_b_each_time_like_users(self) -> None:
        for name in ("known", "unknown"):
            with self.subTest(name):
                self.assertEqual(len({self.server().challenge(name, 5)[1] for _ in range(2)}), 2)


class SameTime(WithAUser):
    """Same time is shown as same work, which a loaded machine does not change.

    Counted are all exponentiations, with the sizes of base, exponent and modulus, all digests, with the sizes
    of what they are of, and all comparisons of proofs. Sizes are rounded up, for a number by chance may be a
    little shorter than another.
    """

    def work(self, user: str, public: int, proof: bytes) -> list[object]:
        """What a server does for a client, in its order."""
        done: list[object] = []
        sha1, shake, compare = hashlib.sha1, hashlib.shake_256, hmac.compare_digest

        def counted_pow(base: int, exponent: int, modulus: int) -> int:
            sizes = [-(-number.bit_length() // 64) for number in (base, exponent, modulus)]
            done.append(("pow", *sizes))
            return pow(base, exponent, modulus)

        def counted_sha1(data: bytes) -> object:
            done.append(("sha1", -(-len(data) // 64)))
            return sha1(data)

        def counted_shake(data: bytes) -> object:
            done.append(("shake", -(-len(data) // 64)))
            return shake(data)

        def counted_compare(one: bytes, other: bytes) -> bool:
            done.append(("compare", len(one), len(other)))
            return compare(one, other)

        server = self.server()
        with (
            mock.patch.object(srp, "pow", counted_pow, create=True),
            mock.patch.object(srptools.context, "pow", counted_pow, create=True),
            mock.patch.object(hashlib, "sha1", counted_sha1),
            mock.patch.object(hashlib, "shake_256", counted_shake),
            mock.patch.object(hmac, "compare_digest", counted_compare),
        ):
            server.challenge(user, public)
            with self.assertRaises(srp.Refused):
                server.answer(proof)
        return done

    def test_everyone_who_is_refused_has_cost_the_same_work(self) -> None:
        N = srp.PRIME
        A = pow(2, secrets.randbits(256), N)
        expected = self.work("known", A, bytes(20))  # a wrong password
        self.assertEqual([what[0] for what in expected].count("pow"), 4)
        self.assertEqual(expected[-2][0], "compare")
        for what, user, public in (
            ("an unknown user", "other", A),
            ("A = 0", "known", 0),
            ("A = N", "known", N),
            ("A = 2N", "known", 2 * N),
            ("A > N", "known", N + A),
            ("A = 0 of an unknown user", "other", 0),
        ):
            with self.subTest(what):
                self.assertEqual(self.work(user, public, bytes(20)), expected)

    def test_who_gets_in_has_cost_that_work_too(self) -> None:
        client = srp.ClientLogin("known", "right")
        powers = []

        def counted(base: int, exponent: int, modulus: int) -> int:
            powers.append(modulus)
            return pow(base, exponent, modulus)

        server = self.server()
        with (
            mock.patch.object(srp, "pow", counted, create=True),
            mock.patch.object(srptools.context, "pow", counted, create=True),
        ):
            salt, B = server.challenge("known", client.public)
        self.assertEqual(powers, [srp.PRIME] * 4)
        self.assertTrue(server.answer(client.prove(salt, B)))
