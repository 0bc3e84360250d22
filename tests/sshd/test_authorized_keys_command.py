"""pysftp-keys as AuthorizedKeysCommand of a real sshd, with OpenSSH's sftp."""

from __future__ import annotations

import shlex
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import ClassVar
from unittest import mock

from pysftpserver.people.editing import UsersEditor
from pysftpserver.people.file_editing import FileEditor
from pysftpserver.people.redis_editing import RedisEditor
from pysftpserver.people.users import DirectoryError
from tests.integration import harness
from tests.integration.harness import ServedCase
from tests.integration.sshd import Sshd
from tests.sshd.redis_server import RedisServer
from tests.support.processes import command, program, require
from tests.support.waiting import until


def setUpModule() -> None:
    require("sftp")


class AskingSshd(Sshd):
    """An sshd that asks for keys. argv: what it asks."""

    def _write_sshd_config(self) -> None:
        super()._write_sshd_config()
        config = self.directory / "sshd_config"
        asks = " ".join(f'"{word}"' if " " in word else word for word in self._argv)
        lines = [
            line for line in config.read_text().splitlines() if not line.startswith("AuthorizedKeysFile")
        ]
        lines += [
            "AuthorizedKeysFile none",
            f"AuthorizedKeysCommand {asks} %u",
            f"AuthorizedKeysCommandUser {self.user}",
        ]
        config.write_text("\n".join(lines) + "\n")


class AskedCase(ServedCase):
    """The account that logs in has the folder `its files` below the jail of the harness."""

    @classmethod
    def setUpClass(cls) -> None:
        with mock.patch.object(harness, "Sshd", AskingSshd):
            super().setUpClass()

    @classmethod
    def server_command(cls) -> list[str]:
        jail = command("pysftpjail", "--logfile", cls.server_log)
        return command("pysftp-keys", *cls.where(), "--sftp-path", cls.jail, "--command", shlex.join(jail))

    @classmethod
    def where(cls) -> list[str]:
        raise NotImplementedError

    def editor(self) -> UsersEditor:
        raise NotImplementedError

    def setUp(self) -> None:
        super().setUp()
        self.name = self.sshd.user
        self.folder = self.jail / "its files"
        self.folder.mkdir()
        with self.editor() as editor:
            with suppress(DirectoryError):  # the first test of the class has nobody to remove
                editor.remove(self.name)
            editor.add(self.name, [self.public(self.sshd.client_key)], folder=self.folder.name)

    def public(self, key: Path) -> str:
        return key.with_suffix(".pub").read_text()

    def assert_refused(self) -> None:
        run = self.sftp("pwd", status=255)
        self.assertIn("Permission denied (publickey)", run.text)


class ByFile(AskedCase):
    @classmethod
    def where(cls) -> list[str]:
        return ["--users", str(cls.place / "users.toml")]

    def editor(self) -> UsersEditor:
        return FileEditor(self.place / "users.toml")

    def test_a_user_gets_into_the_jail(self) -> None:
        (self.local / "f").write_text("content")
        (self.jail / "outside").touch()
        run = self.sftp("pwd", "put f", "ls -1 /", "-ls /../outside")
        self.assertEqual(run.lines[0], "Remote working directory: /")
        self.assertIn("/f", run.lines)
        self.assertIn("not found", run.text)
        self.assertEqual((self.folder / "f").read_text(), "content")

    def test_a_user_gets_sftp_and_nothing_else(self) -> None:
        trace = self.outside / "trace"
        argv = ["ssh", "-F", self.sshd.ssh_config, "server", f"touch {trace}"]
        self.client(argv, status=harness.ANY)
        self.assertFalse(trace.exists())

    def test_a_deactivated_user_is_refused_until_active_again(self) -> None:
        self.sftp("pwd")
        with self.editor() as editor:
            editor.change(self.name, is_active=False)
            self.assert_refused()
            editor.change(self.name, is_active=True)
            self.sftp("pwd")
            editor.remove(self.name)
            self.assert_refused()

    def test_a_user_is_let_in_from_the_networks_of_the_record(self) -> None:
        with self.editor() as editor:
            for networks, is_welcome in (
                ("!127.0.0.2", True),
                ("::1, 127.0.0.0/8, !127.0.0.1", False),
            ):
                editor.change(self.name, networks=networks)
                self.sftp("pwd") if is_welcome else self.assert_refused()

    def test_a_key_counts_as_long_as_the_directory_has_it(self) -> None:
        other = self.outside / "other"
        make = [program("ssh-keygen"), "-q", "-t", "ecdsa", "-N", "", "-f", str(other)]
        subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
        with self.editor() as editor:
            editor.change(
                self.name, add_keys=[self.public(other)], remove_keys=[self.public(self.sshd.client_key)]
            )
            self.assert_refused()
            self.sftp("pwd", flags=["-i", other, "-o", f"IdentityFile={other}"])

    def test_a_missing_folder_is_not_made_and_the_client_is_turned_away(self) -> None:
        self.folder.rmdir()
        run = self.sftp("pwd", status=255)
        self.assertIn("Connection closed", run.text)
        self.assertFalse(self.folder.exists())

    def test_a_broken_file_lets_nobody_in_and_sshd_logs_it(self) -> None:
        file = self.place / "users.toml"
        good = file.read_text()
        file.write_text(good + "\n[broken\n")
        self.addCleanup(file.write_text, good)
        before = len(self.sshd.log())
        self.assert_refused()
        until(lambda: "failed, status 1" in self.sshd.log()[before:], "sshd logs it")


class ByRedis(AskedCase):
    redis: ClassVar[RedisServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.redis = RedisServer(password="hunter2")
        cls.addClassCleanup(cls.redis.stop)
        cls.redis.start()
        super().setUpClass()

    @classmethod
    def where(cls) -> list[str]:
        config = cls.place / "pysftpd.conf"
        address = cls.redis.address()
        config.write_text(
            f"[options]\nredis_host={address.host}\nredis_port={address.port}\nredis_pass={address.password}\n"
        )
        config.chmod(0o600)
        return ["--config", str(config)]

    def editor(self) -> UsersEditor:
        return RedisEditor(self.redis.address())

    def test_a_user_gets_into_the_jail_and_is_refused_when_deactivated(self) -> None:
        run = self.sftp("pwd", "mkdir d")
        self.assertEqual(run.lines, ["Remote working directory: /"])
        self.assertTrue((self.folder / "d").is_dir())
        with self.editor() as editor:
            editor.change(self.name, is_active=False)
        self.assert_refused()

    def test_nobody_gets_in_while_redis_is_away(self) -> None:
        self.redis.kill()
        self.addCleanup(self.redis.start)
        self.assert_refused()
