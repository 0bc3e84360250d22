"""The clients that people use log in with passwords, one-time codes, and a key and a password."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
import unittest
from typing import ClassVar

import asyncssh
import paramiko
import pyotp

from pysftpserver.people import passwords
from tests.integration.sshd import HOST
from tests.sshd.running import Place
from tests.sshd.test_ways_in import Answers
from tests.support.hard import IS_HARD
from tests.support.processes import program, require
from tests.support.waiting import PATIENCE

PASSWORD = "sun over eleven hills"
WRONG = "rain over eleven hills"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
ASKPASS = """#!/bin/sh
case "$1" in
*code*) printf '%s\\n' "$CODE" ;;
*) printf '%s\\n' "$ANSWER" ;;
esac
"""


def setUpModule() -> None:
    require("sftp", "psftp", "puttygen", "curl")


class Clients(Place):
    """One server for each test. bob has a password, carol a key and a password, dora also a code."""

    options: ClassVar = ("--auth-methods", "publickey password")
    workers = 1

    def setUp(self) -> None:
        super().setUp()
        self.sshd = self.server(*self.options, workers=self.workers, start=False)
        hash = passwords.hashed(PASSWORD)
        keys = [self.alice.public]
        self.sshd.write_users(
            {
                "bob": {"folder": "bob", "password": hash},
                "carol": {"folder": "bob", "password": hash, "keys": keys, "methods": ["publickey,password"]},
                "dora": {"folder": "bob", "password": hash, "keys": keys, "totp": SECRET},
            }
        )
        self.addCleanup(self.sshd.stop)
        self.sshd.start()
        self.alice.meet(self.sshd)
        self.askpass = self.place / "askpass"
        self.askpass.write_text(ASKPASS)
        self.askpass.chmod(0o700)

    def openssh(self, user: str, answer: str, *options: str, has_key: bool = True, code: str = "") -> int:
        """The exit status of OpenSSH's sftp, which is asked as on a terminal."""
        more = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "NumberOfPasswordPrompts=1"]
        key = self.alice.client_key if has_key else "none"
        more += ["BatchMode=no", "IdentitiesOnly=yes", f"IdentityFile={key}", *options]
        argv = [program("sftp"), "-F", "none", *(word for one in more for word in ("-o", one)), "-b", "-"]
        asked = {"SSH_ASKPASS": str(self.askpass), "SSH_ASKPASS_REQUIRE": "force", "ANSWER": answer}
        return subprocess.run(
            [*argv, "-P", str(self.sshd.port), f"{user}@{HOST}"],
            input=b"pwd\n",
            env={**os.environ, **asked, "CODE": code},
            capture_output=True,
            timeout=PATIENCE,
        ).returncode


class TestOpenSSH(Clients):
    def test_passwords_and_a_key_besides(self) -> None:
        self.assertEqual(self.openssh("bob", PASSWORD, has_key=False), 0)
        self.assertEqual(self.openssh("carol", PASSWORD), 0)
        self.assertNotEqual(self.openssh("carol", PASSWORD, has_key=False), 0)
        self.sshd.logs("and a password")
        self.assertNotIn(PASSWORD, self.sshd.log())


@unittest.skipUnless(IS_HARD, "starts many clients")
class TestOthers(Clients):
    workers = 2

    def test_openssh_by_each_method_and_with_a_code(self) -> None:
        for method in ("password", "keyboard-interactive"):
            only = f"PreferredAuthentications={method}"
            self.assertEqual(self.openssh("bob", PASSWORD, only, has_key=False), 0, method)
            self.assertNotEqual(self.openssh("bob", WRONG, only, has_key=False), 0, method)
        code = pyotp.TOTP(SECRET).now()
        self.assertEqual(self.openssh("dora", PASSWORD, code=code), 0, self.sshd.log())  # key and code
        self.assertNotEqual(self.openssh("dora", PASSWORD, code=code), 0)
        self.assertEqual(self.openssh("carol", PASSWORD), 0)

    def psftp(self, user: str, *words: str, typed: str = "pwd\n") -> int:
        key = self.place / "key.ppk"
        if not key.exists():
            made = [program("puttygen"), str(self.alice.client_key), "-O", "private", "-o", str(key)]
            subprocess.run(made, check=True, timeout=PATIENCE)
        host_key = asyncssh.read_private_key(str(self.alice.host_key)).get_fingerprint()
        argv = [program("psftp"), "-batch", "-b", "-", "-be", "-hostkey", host_key, "-P", str(self.sshd.port)]
        (self.place / "batch").write_text(typed)
        argv[3] = str(self.place / "batch")
        done = subprocess.run(
            [*argv, *words, f"{user}@{HOST}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            env={**os.environ, "HOME": str(self.place)},
        )
        return done.returncode

    def test_psftp(self) -> None:
        file = self.place / "password"
        file.write_text(PASSWORD + "\n")
        self.assertEqual(self.psftp("bob", "-pw", PASSWORD), 0)
        self.assertEqual(self.psftp("bob", "-pwfile", str(file)), 0)
        self.assertNotEqual(self.psftp("bob", "-pw", WRONG), 0)
        key = str(self.place / "key.ppk")
        self.assertEqual(self.psftp("carol", "-i", key, "-pw", PASSWORD), 0)
        self.assertNotEqual(self.psftp("carol", "-i", key, "-pw", WRONG), 0)

    def test_paramiko(self) -> None:
        key = paramiko.Ed25519Key.from_private_key_file(str(self.alice.client_key))
        for user in ("bob", "carol"):
            with paramiko.Transport((HOST, self.sshd.port)) as transport:
                transport.start_client(timeout=PATIENCE)
                if user == "carol":
                    self.assertEqual(
                        set(transport.auth_publickey(user, key)), {"password", "keyboard-interactive"}
                    )
                with self.assertRaises(paramiko.AuthenticationException):
                    transport.auth_password(user, WRONG)
                self.assertEqual(transport.auth_password(user, PASSWORD), [])
                with paramiko.SFTPClient.from_transport(transport) as client:
                    self.assertEqual(client.normalize("."), "/")
        with paramiko.Transport((HOST, self.sshd.port)) as transport:
            transport.start_client(timeout=PATIENCE)
            asked: list[str] = []

            def answer(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
                asked.extend(prompt for prompt, _ in prompts)
                known = {"Password: ": PASSWORD, "Verification code: ": pyotp.TOTP(SECRET).at(time.time())}
                return [known[prompt] for prompt, _ in prompts]

            self.assertEqual(transport.auth_interactive("dora", answer), [])
            self.assertEqual(asked, ["Password: ", "Verification code: "])

    def test_of_several_processes_one_accepts_a_code_once(self) -> None:
        accepted = []
        code = pyotp.TOTP(SECRET).now()

        async def try_all() -> None:
            for _ in range(5):
                client = Answers(PASSWORD, code)
                with contextlib.suppress(asyncssh.Error):
                    connection = await asyncssh.connect(
                        HOST,
                        self.sshd.port,
                        username="dora",
                        known_hosts=None,
                        config=None,
                        client_factory=lambda client=client: client,
                        client_keys=[],
                        preferred_auth="keyboard-interactive",
                    )
                    accepted.append(connection)
                    connection.close()

        asyncio.run(try_all())
        self.assertEqual(len(accepted), 1)

    def curl(self, *words: str) -> int:
        argv = [program("curl"), "-q", "-s", "-k", f"sftp://{HOST}:{self.sshd.port}/", *words]
        return subprocess.run(argv, stdout=subprocess.DEVNULL, timeout=PATIENCE).returncode

    def test_curl(self) -> None:
        self.assertEqual(self.curl("-u", f"bob:{PASSWORD}"), 0)
        self.assertNotEqual(self.curl("-u", f"bob:{WRONG}"), 0)
        key = ("--key", str(self.alice.client_key), "--pubkey", f"{self.alice.client_key}.pub")
        self.assertEqual(self.curl("-u", f"carol:{PASSWORD}", *key), 0)


if __name__ == "__main__":
    unittest.main()
