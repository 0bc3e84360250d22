"""Logging in with passwords, one-time codes and combinations, and what refusals look like."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
import unittest
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import asyncssh
import pyotp
from argon2 import low_level

from pysftpserver.people import passwords, users_file
from pysftpserver.people.users import User
from pysftpserver.service.shared import Codes, Penalties, Shared
from pysftpserver.sshd.config import ServerSettings
from pysftpserver.sshd.login import Login
from tests.sshd.inprocess import KEY, OTHER_KEY, Running, asynchronous, running, user
from tests.sshd.test_logins import files
from tests.support.hard import IS_HARD
from tests.support.waiting import PATIENCE, eventually

PASSWORD = "sun over eleven hills"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def quick(password: str) -> str:
    """A hash that takes a millisecond."""
    return low_level.hash_secret(password.encode(), bytes(16), 1, 64, 1, 32, low_level.Type.ID).decode()


HASH = quick(PASSWORD)
BOTH = {"auth_methods": "publickey password"}
ONLY_PASSWORD = {"client_keys": [], "preferred_auth": "password"}
ONLY_QUESTIONS = {"client_keys": [], "preferred_auth": "keyboard-interactive"}


def setUpModule() -> None:
    dummy = mock.patch.object(passwords, "DUMMY", quick("nobody's"))
    dummy.start()
    unittest.addModuleCleanup(dummy.stop)


def with_password(name: str = "alice", *keys: asyncssh.SSHKey, **more: Any) -> User:
    return replace(user(name, *keys), password=HASH, **more)


def code(step: int = 0) -> str:
    """The code of now, or of a step later."""
    return pyotp.TOTP(SECRET).at(time.time(), counter_offset=step)


class Answers(asyncssh.SSHClient):
    """A client that notes what it is asked, and answers."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def kbdint_auth_requested(self) -> str | None:
        return "" if self.answers else None

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Any
    ) -> list[str] | None:
        self.asked += [prompt for prompt, _ in prompts]
        return [self.answers.pop(0) for _ in prompts] if len(self.answers) >= len(prompts) else None


async def is_let_in(server: Running, name: str = "alice", **how: Any) -> bool:
    """Whether a client can log in; failures so far do not slow it down."""
    server.server.penalties = Penalties(Shared(1, 10), 0)
    try:
        connection = await server.connect(name, **how)
    except (asyncssh.PermissionDenied, asyncssh.ConnectionLost, asyncssh.DisconnectError):
        return False
    connection.close()
    await connection.wait_closed()
    return True


async def answers(server: Running, *given: str, name: str = "alice", **how: Any) -> tuple[bool, list[str]]:
    """Whether a client is let in with these answers to questions, and what it was asked."""
    client = Answers(*given)
    more = {**ONLY_QUESTIONS, "client_factory": lambda: client, **how}
    return await is_let_in(server, name, **more), client.asked


class TestPasswords(unittest.TestCase):
    @asynchronous
    async def test_there_are_none_unless_they_are_asked_for(self) -> None:
        async with running(files, with_password(methods=("password",))) as server:
            with self.assertRaises(asyncssh.PermissionDenied):
                await server.connect(client_keys=[], password=PASSWORD)
            self.assertFalse(await is_let_in(server))  # the record does not want keys
            self.assertEqual(server.server.passwords._pool._threads, set())

    @asynchronous
    async def test_the_right_one_lets_in_by_both_methods_and_a_key_still_does(self) -> None:
        async with running(files, with_password(), options=BOTH) as server:
            self.assertTrue(await is_let_in(server, password=PASSWORD, **ONLY_PASSWORD))
            self.assertTrue(await is_let_in(server, password=PASSWORD, **ONLY_QUESTIONS))
            self.assertEqual(await answers(server, PASSWORD), (True, ["Password: "]))
            self.assertTrue(await is_let_in(server))
            await eventually(lambda: any("logged in with a password" in line for line in server.lines))
            self.assertFalse(any(PASSWORD in line or HASH in line for line in server.lines))

    @asynchronous
    async def test_all_refusals_have_the_same_words_for_the_client_and_others_for_the_log(self) -> None:
        people = (
            with_password(),
            user("keys"),
            replace(with_password("gone"), is_active=False),
            with_password("strict", methods=("publickey",)),
        )
        cases = (
            ("alice", "wrong password"),
            ("nobody", "unknown user, password"),
            ("keys", "no password is set, password"),
            ("gone", "inactive user, password"),
            ("strict", "password is not what the user needs now, password"),
        )
        async with running(files, *people, options=BOTH) as server:
            said = set()
            for how in (ONLY_PASSWORD, ONLY_QUESTIONS):
                for name, words in cases:
                    server.server.penalties = Penalties(Shared(1, 10), 0)
                    guess = PASSWORD if name in ("gone", "strict") else "a wrong guess"
                    with self.assertRaises(asyncssh.PermissionDenied) as caught:
                        await server.connect(name, password=guess, **how)
                    said.add(str(caught.exception).replace(name, "NAME"))
                    line = f"'{name}': login failed: {words}"
                    await eventually(lambda line=line: any(line in one for one in server.lines))
            self.assertEqual(len(said), 1, said)
            self.assertFalse(any("wrong guess" in line for line in server.lines))

    @asynchronous
    async def test_each_wrong_one_counts_and_a_connection_has_auth_tries(self) -> None:
        class Guessing(asyncssh.SSHClient):
            tries = 0

            def password_auth_requested(self) -> str:
                self.tries += 1
                return f"guess number {self.tries}"

        async with running(files, with_password(), options={**BOTH, "auth_tries": "2"}) as server:
            client = Guessing()
            with self.assertRaises(asyncssh.Error):
                await server.connect(client_factory=lambda: client, **ONLY_PASSWORD)
            self.assertLessEqual(client.tries, 3)
            await eventually(lambda: any("wrong password (2 times)" in line for line in server.lines))
            self.assertEqual(server.server.penalties.delay("127.0.0.1", time.monotonic()), 0)
            self.assertFalse(await self.guess(server))
            self.assertGreater(server.server.penalties.delay("127.0.0.1", time.monotonic()), 0)

    async def guess(self, server: Running) -> bool:
        try:
            await server.connect(password="another guess", **ONLY_PASSWORD)
        except asyncssh.PermissionDenied:
            return False
        return True

    @asynchronous
    async def test_a_request_for_a_change_is_refused(self) -> None:
        class Changing(asyncssh.SSHClient):
            """It sends a change (RFC 4252, section 8) in place of a password."""

            def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
                send = conn.send_userauth_request

                async def change(method: bytes, *fields: bytes, **how: Any) -> None:
                    new = asyncssh.packet.String(b"another long password")
                    await send(method, b"\1", *fields[1:], new, **how)

                conn.send_userauth_request = change

        async with running(files, with_password(), options=BOTH) as server:
            with self.assertRaises(asyncssh.PermissionDenied):
                await server.connect(client_factory=Changing, password=PASSWORD, **ONLY_PASSWORD)
            await eventually(lambda: any("a change of the password" in line for line in server.lines))

    @asynchronous
    async def test_one_question_has_one_answer(self) -> None:
        class Many(Answers):
            """It answers many times at once."""

            def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
                send = conn.send_packet

                def often(number: int, *fields: bytes, **how: Any) -> None:
                    for _ in range(20 if number == 61 else 1):  # an answer
                        send(number, *fields, **how)

                conn.send_packet = often

        async with running(files, with_password(), options=BOTH) as server:
            checked = []
            run = server.server.passwords.run

            async def counted(network: str, work: Any) -> Any:
                checked.append(network)
                return await run(network, work)

            server.server.passwords.run = counted
            client = Many("a wrong guess")
            with self.assertRaises(asyncssh.Error):
                await server.connect(client_factory=lambda: client, **ONLY_QUESTIONS)
            await eventually(lambda: not server.server.connections)
            self.assertLessEqual(len(checked), 1)

    @asynchronous
    async def test_requests_that_come_at_once_are_no_more_than_auth_tries(self) -> None:
        class Hasty(asyncssh.SSHClient):
            """It does not wait for answers."""

            def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
                send = conn.send_userauth_request

                async def often(method: bytes, *fields: bytes, **how: Any) -> None:
                    for _ in range(20 if method == b"password" else 1):
                        await send(method, *fields, **how)

                conn.send_userauth_request = often

        async with running(files, with_password(), options=BOTH) as server:
            begun = []
            verify = passwords.verify

            def counted(hash: str, password: str) -> bool:
                begun.append(hash)
                return verify(hash, password)

            with mock.patch.object(passwords, "verify", counted):
                with self.assertRaises((asyncssh.Error, OSError)):
                    await server.connect(client_factory=Hasty, password="a wrong guess", **ONLY_PASSWORD)
                await eventually(lambda: not server.server.connections)
            self.assertLessEqual(len(begun), 6)
            self.assertEqual(server.server.metrics.logins["accepted"], 0)

    @asynchronous
    async def test_a_new_password_ends_what_began_with_the_old_one(self) -> None:
        people = with_password(), with_password("bob")
        async with running(files, *people, options=BOTH) as server:
            alice = await server.connect(password=PASSWORD, **ONLY_PASSWORD)
            bob = await server.connect("bob")  # with a key
            for name in ("alice", "bob"):
                server.users.put(replace(with_password(name), password=quick("quite another")))
            await alice.wait_closed()
            self.assertEqual([one.name for one in server.server.connections], ["bob"])
            (there,) = server.server.connections
            self.assertIsNone(there.user.password)  # no session needs it
            bob.close()

    @asynchronous
    async def test_floods_of_one_network_do_not_keep_another_from_its_turn(self) -> None:
        async with running(files, options=BOTH) as server:
            order: list[str] = []

            def work(name: str) -> None:
                time.sleep(0.001)
                order.append(name)

            checks = server.server.passwords
            flood = [asyncio.ensure_future(checks.run("many", lambda: work("many"))) for _ in range(50)]
            await checks.run("one", lambda: work("one"))
            self.assertLess(len(order), 5)
            for one in flood:
                one.cancel()


@unittest.skipUnless(IS_HARD, "takes many seconds")
class TestFloods(unittest.TestCase):
    """Crowds that guess passwords from one address, and honest users from another."""

    @asynchronous
    async def test_honest_users_log_in_and_work_meanwhile(self) -> None:
        real = passwords.hashed(PASSWORD)
        people = replace(user("alice"), password=real), user("bob")
        with mock.patch.object(passwords, "DUMMY", passwords._dummy()):
            async with running(files, *people, options={**BOTH, "max_connections": "300"}) as server:

                async def guess(number: int) -> None:
                    name = "alice" if number % 2 else f"user{number}"
                    while True:
                        with contextlib.suppress(asyncssh.Error, OSError):
                            await server.connect(name, password=f"guess {number}", **ONLY_PASSWORD)
                        # Without the delays, which would make the flood a trickle.
                        server.server.penalties = Penalties(Shared(1, 10), 0)

                crowd = [asyncio.create_task(guess(number)) for number in range(60)]
                await eventually(lambda: server.server.metrics.logins["refused"] > 20)
                there = {"local_addr": ("127.0.0.2", 0)}
                seconds: dict[str, list[float]] = {"key": [], "password": [], "stat": []}
                for _ in range(5):
                    for name, how in (("key", {}), ("password", {"password": PASSWORD, **ONLY_PASSWORD})):
                        began = time.monotonic()
                        who = "bob" if name == "key" else "alice"
                        async with await server.connect(who, **how, **there) as one:
                            seconds[name].append(time.monotonic() - began)
                            async with one.start_sftp_client() as sftp:
                                began = time.monotonic()
                                await sftp.stat(".")
                                seconds["stat"].append(time.monotonic() - began)
                print({name: f"{max(values):.2f} s at most" for name, values in seconds.items()})
                for one in crowd:
                    one.cancel()
                self.assertLess(max(seconds["key"] + seconds["password"]), PATIENCE / 2, seconds)


class TestCombinations(unittest.TestCase):
    """What is needed besides, and in which order."""

    @asynchronous
    async def test_a_key_and_a_password_are_both_needed_in_that_order(self) -> None:
        people = with_password(methods=("publickey,password",)), with_password("bob")
        async with running(files, *people, options=BOTH) as server:
            self.assertFalse(await is_let_in(server))
            self.assertFalse(await is_let_in(server, password=PASSWORD, client_keys=[]))
            self.assertFalse(await is_let_in(server, password="a wrong guess"))
            self.assertFalse(await is_let_in(server, password=PASSWORD, client_keys=[OTHER_KEY]))
            self.assertTrue(await is_let_in(server, password=PASSWORD))
            self.assertTrue(
                await is_let_in(server, password=PASSWORD, preferred_auth="publickey,keyboard-interactive")
            )
            await eventually(lambda: any(" and a password" in line for line in server.lines))
            line = "wrong password; the key had been right"
            await eventually(lambda: any(line in one for one in server.lines))
            self.assertTrue(await is_let_in(server, "bob"))

    @asynchronous
    async def test_the_server_may_want_them_of_everybody(self) -> None:
        options = {"auth_methods": "publickey,password", "auth_tries": "1"}  # a right one does not count
        async with running(files, with_password(), options=options) as server:
            self.assertFalse(await is_let_in(server))
            self.assertTrue(await is_let_in(server, password=PASSWORD))

    @asynchronous
    async def test_a_key_that_is_shown_and_not_proved_does_not_count(self) -> None:
        class Shown(asyncssh.SSHClient):
            """Its signatures are wrong."""

        pair = asyncssh.load_keypairs([KEY])[0]
        pair.sign = lambda data: OTHER_KEY.sign(data, b"ssh-ed25519")
        people = with_password(methods=("publickey,password", "publickey"))
        async with running(files, people, options=BOTH) as server:
            self.assertFalse(await is_let_in(server, client_keys=[pair], password=PASSWORD))

    @asynchronous
    async def test_who_changes_in_the_middle_is_refused(self) -> None:
        class Slow(asyncssh.SSHClient):
            tries = 0

            def password_auth_requested(self) -> str | None:
                self.tries += 1
                if self.tries > 1:
                    return None
                server.users.put(with_password(methods=("publickey,password",), folder="b"))
                return PASSWORD

        async with running(files, with_password(methods=("publickey,password",)), options=BOTH) as server:
            self.assertFalse(await is_let_in(server, client_factory=Slow))


class TestReloading(unittest.TestCase):
    @asynchronous
    async def test_other_methods_hold_at_once_and_end_what_began_without_them(self) -> None:
        async with running(files, with_password(), user("bob")) as server:
            known = await server.connect()
            for methods, lets_in in ((("password",), False), (("password", "publickey"), True)):
                server.server.settings.take_over(ServerSettings(auth_methods=methods))
                server.server.apply_limits()
                self.assertEqual(await is_let_in(server, "bob"), lets_in)
                self.assertTrue(await is_let_in(server, password=PASSWORD, **ONLY_PASSWORD))
            await known.wait_closed()


class TestCodes(unittest.TestCase):
    @asynchronous
    async def test_a_code_is_needed_besides_a_key_or_a_password_and_is_accepted_once(self) -> None:
        async with running(files, with_password(totp=SECRET), options=BOTH) as server:
            self.assertFalse(await is_let_in(server))
            self.assertFalse(await is_let_in(server, password=PASSWORD))
            used = code()
            asked = ["Password: ", "Verification code: "]
            self.assertEqual(await answers(server, PASSWORD, used), (True, asked))
            self.assertEqual(await answers(server, PASSWORD, used), (False, asked))
            await eventually(lambda: any("a code that was used before" in line for line in server.lines))
            # The key, then the code; a password by its own method, then the code.
            for how in ({"client_keys": [KEY]}, {"password": PASSWORD}):
                server.server.codes = Codes(Shared(1, 10), 0)
                more = {**how, "preferred_auth": "publickey,password,keyboard-interactive"}
                self.assertEqual(await answers(server, code(), **more), (True, asked[1:]))
            self.assertFalse(any(SECRET in line for line in server.lines))

    @asynchronous
    async def test_a_code_that_takes_long_to_check_lets_nobody_in_who_is_locked_out_meanwhile(self) -> None:
        person = with_password(totp=SECRET)
        async with running(files, person, options=BOTH) as server:

            async def use_code(user: User, step: int) -> bool:
                server.users.put(replace(person, is_active=False))  # while Redis has not answered yet
                return True

            server.users.use_code = use_code  # type: ignore[method-assign]
            self.assertFalse((await answers(server, PASSWORD, code()))[0])
            await eventually(lambda: any("the user has changed" in line for line in server.lines))

    @asynchronous
    async def test_a_key_alone_is_not_enough_although_nothing_is_configured(self) -> None:
        async with running(files, user("bob"), replace(user("alice"), totp=SECRET)) as server:
            self.assertFalse(await is_let_in(server))
            how = {"client_keys": [KEY], "preferred_auth": "publickey,keyboard-interactive"}
            self.assertEqual(await answers(server, code(1), **how), (True, ["Verification code: "]))
            self.assertEqual((await answers(server, code(5), **how))[0], False)
            self.assertTrue(await is_let_in(server, "bob"))

    @asynchronous
    async def test_who_has_no_code_cannot_log_in_where_everybody_needs_one(self) -> None:
        async with running(files, with_password(), options={"auth_methods": "publickey,totp"}) as server:
            self.assertFalse(await is_let_in(server))

    @asynchronous
    async def test_after_many_wrong_codes_none_is_accepted_for_a_while(self) -> None:
        people = replace(user("alice"), totp=SECRET), replace(user("bob"), totp=SECRET)
        async with running(files, *people) as server:
            for _ in range(10):
                server.server.penalties.failed_code("alice", time.monotonic())
            penalties = server.server.penalties
            how = {"client_keys": [KEY], "preferred_auth": "publickey,keyboard-interactive"}
            for name, is_expected in (("alice", False), ("bob", True)):
                client = Answers(code())
                try:
                    (await server.connect(name, **how, client_factory=lambda c=client: c)).close()
                    is_in = True
                except asyncssh.PermissionDenied:
                    is_in = False
                self.assertEqual(is_in, is_expected)
            self.assertIs(server.server.penalties, penalties)

    def test_of_two_processes_one_accepts_a_code(self) -> None:
        shared = Shared(2, 10)
        one, other = Codes(shared, 0), Codes(shared, 1)
        self.assertTrue(one.use("alice", 1))
        self.assertFalse(other.use("alice", 1))
        self.assertFalse(one.use("alice", 1))
        shared.wipe(0)  # its process was killed
        self.assertFalse(other.use("alice", 1))
        self.assertTrue(other.use("alice", 2))
        self.assertTrue(other.use("bob", 1))


class TestStrength(unittest.TestCase):
    def test_weak_ones_are_told_by_what_is_wrong(self) -> None:
        for password, words in (
            ("short", "shorter than"),
            ("aaaaaaaaaaaaaaa", "different characters"),
            ("xx-Alice-2031-xx", "the user's name"),
            ("P4ssw0rd!2031", "most common"),
            ("qwertyuiop", "row of keys"),
            ("1234567890", "row of keys"),
            ("Welcome2031!!", "most common"),
        ):
            self.assertIn(words, passwords.weakness(password, "alice") or "nothing", password)
        for password in (PASSWORD, "Tr4m-9uLe.xo"):
            self.assertIsNone(passwords.weakness(password, "alice"), password)

    def test_only_hashes_that_can_be_checked_are_taken(self) -> None:
        self.assertIsNone(passwords.hash_problem(HASH))
        for text in (
            PASSWORD,
            HASH.replace("argon2id", "argon2i"),
            HASH.replace("m=64", "m=4194304"),
            HASH.replace("t=1", "t=200"),
            HASH.replace("p=1", "p=64"),
            HASH + " ",
        ):
            self.assertIsNotNone(passwords.hash_problem(text), text)

    def test_a_file_with_hashes_is_not_for_others_and_bad_ones_let_nobody_in(
        self,
    ) -> None:
        path = Path(self.enterContext(tempfile.TemporaryDirectory()), "users.toml")
        path.write_text(
            f"[users.alice]\npassword = '{HASH}'\ntotp = '{SECRET}'\nmethods = ['password']\n"
            f"[users.bob]\npassword = '{PASSWORD}'\n[users.carol]\nmethods = ['totp']\n"
            "[users.dora]\nmethods = []\n[users.eve]\ntotp = 'short'\n[users.frank]\n"
        )
        for mode in (0o640, 0o644):
            path.chmod(mode)
            alice, *others, frank = users_file.load(str(path)).records
            assert alice.user is not None and frank.user is not None
            found = alice.user.password, alice.user.totp, alice.user.methods
            self.assertEqual(found, (HASH, SECRET, ("password",)))
            self.assertNotIn(HASH, repr(alice))
            self.assertEqual(any("others may read" in one for one in alice.problems), mode == 0o644)
            self.assertEqual([one.user for one in others], [None] * 4)
            self.assertEqual(frank.problems, ())

    def test_a_password_that_is_spelled_in_another_way_is_the_same(self) -> None:
        self.assertEqual(passwords.prepared("cafe\u0301 au lait"), passwords.prepared("caf\u00e9 au lait"))
        for text in ("\x07bell in the middle", "x" * 300):
            with self.assertRaises(ValueError):
                passwords.prepared(text)


async def refusals(
    case: unittest.TestCase, count: int, after: Callable[[str, float], None] = lambda name, seconds: None
) -> None:
    """Refuse each kind of login so many times. after: called with its name and its processor time."""
    hash = passwords.hashed(PASSWORD)
    case.enterContext(mock.patch.object(passwords, "DUMMY", passwords._dummy()))
    people = (
        replace(user("alice"), password=hash),
        user("keys"),
        replace(user("gone"), password=hash, is_active=False),
        replace(user("strict"), password=hash, methods=("publickey",)),
        replace(user("coded"), password=hash, methods=("password",), totp=SECRET),
        replace(user("key first"), password=hash, methods=("publickey,password",)),
    )
    names = ("alice", "nobody", "keys", "gone", "strict", "coded", "key first")
    async with running(files, *people, options={**BOTH, "login_share": "100"}) as server:
        for _ in range(count):
            for name in names:
                login = Login(server.server, Client())
                login.requested(b"password")
                await login.begin(name)
                if name == "coded":  # the password was right
                    login._right = "password", people[4]
                    login.proved()
                    login.question()
                began = time.process_time()
                if name == "coded":
                    case.assertFalse(await login.answered(name, ["000000"]))
                else:
                    case.assertFalse(await login.is_password_of(name, "a wrong guess"))
                after(name, time.process_time() - began)
                server.server.penalties = Penalties(Shared(1, 10), 0)


class Client:
    """Who logs in without a connection."""

    address = network = "127.0.0.1"

    def tell(self, words: str) -> None:
        pass


class TestTiming(unittest.TestCase):
    """What a refusal costs the server does not tell why it was refused."""

    @asynchronous
    async def test_each_refusal_compares_one_hash_of_the_same_cost(self) -> None:
        compared: list[str] = []
        costs: dict[str, list[str]] = {}

        def verify(hash: str, password: str) -> bool:
            compared.append(hash.rsplit("$", 2)[0])  # its kind and cost, without salt and hash
            return verified(hash, password)

        def after(name: str, seconds: float) -> None:
            costs[name] = compared[:]
            compared.clear()

        verified = passwords.verify
        with mock.patch.object(passwords, "verify", verify):
            await refusals(self, 1, after)
        self.assertEqual(set(map(tuple, costs.values())), {tuple(costs["alice"])}, costs)
        self.assertEqual(len(costs["alice"]), 1)

    @unittest.skipUnless(IS_HARD, "takes a minute, and measures time")
    def test_two_hundred_refusals_of_each_kind_take_the_same(self) -> None:
        spent: dict[str, list[float]] = {}
        asyncio.run(refusals(self, 200, lambda name, seconds: spent.setdefault(name, []).append(seconds)))
        medians = {name: statistics.median(values) for name, values in spent.items()}
        print({name: f"{1000 * value:.2f} ms" for name, value in medians.items()})
        self.assertLess(max(medians.values()) / min(medians.values()), 1.1, medians)


if __name__ == "__main__":
    unittest.main()
