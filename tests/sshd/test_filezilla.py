"""FileZilla's program for SFTP against pysftpd: each way to log in, transfers, and what a distance costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import unittest
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pyotp

from pysftpserver.people import passwords
from tests.integration import material
from tests.integration.material import MIB, Material
from tests.sshd.filezilla import Failed, FileZilla
from tests.sshd.running import KINDS, DaemonCase, Login
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.processes import Argument, program, require

PASSWORD = "sun over eleven hills"
WRONG = "rain over eleven hills"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
ASKED, CODE = "Password: ", "Verification code: "
WINDOW = 2 * MIB  # of OpenSSH's server, and of pysftpd before a client fills it
SIZE = 64 * MIB
TRIP = 1.0  # seconds: so long that a busy machine makes little of it


def setUpModule() -> None:
    if not IS_HARD and shutil.which("fzsftp") is None:
        raise unittest.SkipTest(
            "FileZilla is not installed: apt-get install --no-install-recommends filezilla"
        )
    require("fzsftp", "puttygen")


class FileZillaCase(DaemonCase):
    """alice has a key of each kind, bob a password, carol a key and a password, dora a password and a code,
    and eve a key and a code."""

    options: ClassVar[Sequence[Argument]] = ("--auth-methods", "publickey password")

    @classmethod
    def users(cls, keys: list[str]) -> dict[str, dict[str, object]]:
        secret = {"password": passwords.hashed(PASSWORD)}
        code = {"totp": SECRET}
        return {
            "alice": {"keys": keys},
            "bob": secret,
            "carol": {"keys": keys, **secret, "methods": ["publickey,password"]},
            "dora": {**secret, **code},
            "eve": {"keys": keys, **code},
        }

    @contextmanager
    def client(  # type: ignore[override]
        self, user: str, *keys: Path, port: int = 0, **answers: str
    ) -> Iterator[FileZilla]:
        """A client that has logged in. answers: to ASKED and CODE, by `password` and `code`."""
        prompts = {"password": ASKED, "code": CODE}
        with FileZilla(self.place) as client:
            given = {prompts[name]: answer for name, answer in answers.items()}
            client.open(user, port or self.server.port, given, *keys)
            yield client

    def key(self, login: Login) -> Path:
        """A key in PuTTY's format, the only one that FileZilla reads."""
        made = login.directory / "client_key.ppk"
        if not made.exists():
            argv = [program("puttygen"), str(login.client_key), "-O", "private", "-o", str(made)]
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
        return made


class TestLogins(FileZillaCase):
    def test_each_way_in(self) -> None:
        now = pyotp.TOTP(SECRET).now
        key = self.key(self.logins["ed25519"])
        for kind in KINDS:
            with self.subTest(kind), self.client("alice", self.key(self.logins[kind])) as client:
                self.assertEqual(client.do("pwd"), 'Current directory is: "/"')
                self.assertEqual(client.asked, [])
        with self.client("bob", password=PASSWORD) as client:
            self.assertEqual(client.asked, [ASKED])
        with self.client("carol", key, password=PASSWORD) as client:
            self.assertEqual(client.asked, [ASKED])
        with self.client("dora", password=PASSWORD, code=now()) as client:
            self.assertEqual(client.asked, [ASKED, CODE])
        with self.client("eve", key, code=now()) as client:
            self.assertEqual(client.asked, [CODE])

    def test_what_is_wrong_is_refused(self) -> None:
        for user, answers in (
            ("bob", {"password": WRONG}),
            ("carol", {"password": PASSWORD}),  # without the key
            ("dora", {"password": PASSWORD, "code": "000000"}),
        ):
            with self.subTest(user), self.assertRaises(Failed), self.client(user, **answers):
                pass


class TestTransfers(FileZillaCase):
    def test_files_and_directories_as_FileZilla_handles_them(self) -> None:
        data = Material()
        key = self.key(self.logins["ed25519"])
        (local, back), names = self.directories(), [".", ".."]
        data.odd_files(local, (0, 1, 16384, 262144, 5 * MIB + 1))
        with self.client("alice", key) as client:
            client.do('mkdir "a b"')
            self.assertEqual(client.do('cd "a b"'), 'New directory is: "/a b"')
            for file in local.iterdir():
                os.utime(file, (1_000_000_000, 1_000_000_000))
                client.put(file, file.name)
                client.get(file.name, back / file.name)
                names.append(file.name)
            self.assertEqual(sorted(client.ls()), sorted(names))
            times = {name: when for _, when, name in client.entries}
            self.assertEqual({times[name] for name in names[2:]}, {1_000_000_000})
            self.assertEqual(client.do("mtime 1.bin"), "1000000000")
            with self.assertRaisesRegex(Failed, "-> 0600$"):  # FileZilla 3.63 says so where it has worked
                client.do("chmod 600 1.bin")
            client.do("mv 1.bin ../one")
            with self.assertRaisesRegex(Failed, "no such file or directory"):
                client.do("rm 1.bin")
            client.do("rm ../one")
        material.assert_same_trees(self, local, back, data.seed)

    def directories(self) -> tuple[Path, Path]:
        made = self.local / "local", self.local / "back"
        for one in made:
            one.mkdir()
        return made

    def test_interrupted_transfers_are_continued(self) -> None:
        def resume() -> None:
            with self.client("alice", self.key(self.logins["ed25519"])) as client:
                client.get("down", self.local / "down", again=True)
                client.put(self.local / "up", "up", again=True)

        material.assert_resumes(self, self.jail, self.local, resume)


@unittest.skipUnless(IS_HARD, "moves much over a slow way")
class TestDistance(FileZillaCase):
    def test_a_put_is_not_held_up_by_the_window_over_a_distance(self) -> None:
        """With a window that stays, each round trip moves no more than that."""
        argv = [sys.executable, "-m", "bench.delay", str(self.server.port), str(TRIP / 2)]
        proxy = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT)
        self.addCleanup(proxy.wait)
        self.addCleanup(proxy.kill)
        assert proxy.stdout is not None
        self.addCleanup(proxy.stdout.close)
        port = int(proxy.stdout.readline())
        (self.local / "big").write_bytes(os.urandom(SIZE))
        with self.client("alice", self.key(self.logins["ed25519"]), port=port) as client:
            began = time.monotonic()
            client.put(self.local / "big", "big")
            put = time.monotonic() - began
            client.get("big", self.local / "back")
            got = time.monotonic() - began - put
        self.assertTrue((self.local / "big").read_bytes() == (self.local / "back").read_bytes())
        least = SIZE / WINDOW * TRIP
        print(
            f"FileZilla, {SIZE // MIB} MiB over {TRIP:g} s: put {put:.1f} s, get {got:.1f} s; with a window"
            f" of {WINDOW // MIB} MiB, a put takes {least:.1f} s at least"
        )
        self.assertLess(put, least)
