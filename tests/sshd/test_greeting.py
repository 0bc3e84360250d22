"""What clients are shown before their login, and what --check-config says of the settings."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import unittest
from contextlib import chdir, redirect_stderr, redirect_stdout

import asyncssh

from pysftpserver.cli import pysftpd
from pysftpserver.sshd.config import ServerSettings
from tests.service.test_notifying import Systemd
from tests.sshd.inprocess import HOST, asynchronous, running
from tests.sshd.running import Place, write_private
from tests.sshd.running import pysftpd as argv
from tests.sshd.test_logins import files
from tests.support.hard import IS_HARD
from tests.support.waiting import PATIENCE, until


class Shown(asyncssh.SSHClient):
    """A client that keeps banners."""

    def __init__(self) -> None:
        self.banners: list[str] = []

    def auth_banner_received(self, msg: str, lang: str) -> None:
        self.banners.append(msg)


class Banner(unittest.TestCase):
    @asynchronous
    async def test_it_is_shown_once_before_the_login(self) -> None:
        async with running(files) as server:
            for text in ("", "Ours alone.\nYou are watch\u00e9d.\n"):
                server.server.greet(server.server.greeting._replace(banner=text))
                client = Shown()
                keys = [asyncssh.generate_private_key("ssh-ed25519")]
                with self.assertRaises(asyncssh.PermissionDenied):
                    await server.connect("nobody", client_keys=keys, client_factory=lambda: client)  # noqa: B023
                self.assertEqual(client.banners, [text] if text else [])


class Reloading(Place):
    def key_shown(self, port: int) -> str:
        """The Ed25519 key that the server shows."""
        done = self.start_client("ssh-keyscan", "-t", "ed25519", "-p", str(port), HOST)
        return done.communicate()[0].decode()

    def test_host_keys_and_the_banner_are_read_again_on_a_hangup(self) -> None:
        banner = self.place / "banner"
        banner.write_text("before\n")
        server = self.server("--banner", banner)
        before = self.key_shown(server.port)
        kept = self.start_idle(self.alice)
        server.logs("logged in with")
        key = server.host_keys / "ssh_host_ed25519_key"
        new = asyncssh.generate_private_key("ssh-ed25519")
        write_private(key, new.export_private_key().decode())
        banner.write_text("after\n")
        server.signal(signal.SIGHUP)
        server.logs(f"host key ssh-ed25519 {new.get_fingerprint()}")
        until(lambda: self.key_shown(server.port) not in ("", before))
        self.assertIn(new.export_public_key().decode().split()[1], self.key_shown(server.port))
        known = self.place / "known"
        known.write_text(f"[{HOST}]:{server.port} {new.export_public_key().decode()}")
        done = self.sftp(
            self.alice, "pwd", flags=["-o", f"UserKnownHostsFile={known}", "-o", "LogLevel=INFO"]
        )
        self.assertEqual((done.returncode, done.stderr), (0, "after\n"))
        write_private(key, "nonsense")
        server.signal(signal.SIGHUP)
        server.logs("not reloaded: host key")
        self.assertIn(new.export_public_key().decode().split()[1], self.key_shown(server.port))
        self.assertIsNone(kept.poll())


class CheckConfig(Place):
    def check(self, status: int, **settings: object) -> str:
        """What it says of some settings."""
        every = {"users": self.place / "users.toml", "sftp_path": self.place, **settings}
        config = self.place / "pysftpd.toml"
        lines = [f"{key} = {json.dumps(str(value))}\n" for key, value in every.items()]
        config.write_text("".join(["allow_root = true\n", *lines]))
        with redirect_stderr(io.StringIO()) as said, redirect_stdout(io.StringIO()), chdir(self.place):
            given = pysftpd.check(ServerSettings.load(str(config), {}), str(config))
        self.assertEqual(given, status, said.getvalue())
        self.assertFalse((self.place / "host-keys").exists())
        return said.getvalue()

    def test_a_command_says_it_and_starts_nothing(self) -> None:
        given, said = self.fails(*argv("--check-config", "--users", self.place / "none"))
        self.assertEqual(given, 2)
        self.assertIn("users file", said)

    def test_what_is_in_order_and_what_is_not_are_all_told_at_once(self) -> None:
        users = self.place / "users.toml"
        write_private(users, "[users.alice]\n")
        self.assertEqual(self.check(0), "")
        write_private(users, '[users.alice]\nactve = false\n[users.bob]\nkeys = ["x"]\n')
        said = self.check(1).splitlines()
        self.assertEqual(len(said), 2, said)
        self.assertTrue(said[0].startswith("pysftpd: user alice: 'actve'") and "key 1 is left out" in said[1])
        write_private(users, '[users.alice]\nmethods = ["password"]\n[users.bob]\nmethods = ["publickey"]\n')
        said = self.check(1, lookup_command="./nowhere --all")
        self.assertIn(
            "user alice: no method that the server has lets the user in: password; add password to auth_methods\n",
            said,
        )
        self.assertIn("lookup_command: ./nowhere: there is no such program", said)
        self.assertEqual(len(said.splitlines()), 2, said)
        self.assertEqual(
            self.check(0, auth_methods="publickey password", lookup_command="sh -c 'exit 1'"), ""
        )
        self.assertIn("lookup_command: no program", self.check(2, lookup_command=" ' ' "))
        write_private(self.place / "krl", "SSHKRL\n\0")
        write_private(users, "[users.alice")
        said = self.check(
            2,
            revoked_keys=self.place / "krl",
            trusted_user_ca_keys=self.place / "none",
            banner=self.place / "none",
            sftp_path=self.place / "none",
            storage="nothing:",
        ).splitlines()
        for words in (
            "krl: the KRL is cut off",
            "trusted_user_ca_keys",
            "banner",
            "sftp_path",
            "storage",
            "line 1",
        ):
            self.assertEqual(sum(words in line for line in said), 1, said)
        self.assertEqual(len(said), 6, said)


class Notifying(Place):
    def test_systemd_hears_of_one_process_and_of_two(self) -> None:
        for workers in (1, 2) if IS_HARD else (2,):
            with self.subTest(workers=workers):
                systemd = Systemd(self)
                server = self.server(workers=workers, start=False)
                self.addCleanup(server.stop)
                watchdog = {"WATCHDOG_USEC": str(int(PATIENCE * 1e6))}
                server.start(env={**os.environ, **systemd.environment, **watchdog})
                self.assertEqual(systemd.heard(), "READY=1")
                server.stop()
                told = iter(systemd.heard, "STOPPING=1")
                self.assertLessEqual(set(told), {"WATCHDOG=1"})
                (self.place / "stderr").unlink()
                shutil.rmtree(self.place / "alice")
