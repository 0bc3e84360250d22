"""bin/pysftp-keys: what sshd gets to read, and when it gets nothing."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.cli.parser import build_parser
from pysftpserver.cli.pysftp_keys import COMMAND
from tests.cli.commands import CommandCase
from tests.sshd.material import base64_alone, line
from tests.sshd.redis_server import RedisCase, RedisServer, put_user
from tests.sshd.serving import pysftpctl
from tests.support.packets import HELLO, request, string, u64
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE


def forced_command(printed: str) -> tuple[str, str]:
    """The command in a line as sshd reads it (opt_dequote() in OpenSSH's misc.c), and the key behind it."""
    prefix = 'restrict,command="'
    assert printed.startswith(prefix), printed
    at, found = len(prefix), ""
    while printed[at] != '"':
        at += printed.startswith('\\"', at)
        found += printed[at]
        at += 1
    assert printed[at + 1] == " "
    return found, printed[at + 2 :]


class Case(CommandCase):
    prog = "pysftp-keys"

    def lines(self, *arguments: Any, **how: Any) -> list[str]:
        done = self.run_it(*arguments, **how)
        self.assertEqual((done.returncode, done.stderr), (0, b""), done)
        return done.stdout.decode().splitlines()


class FromAFile(Case):
    def setUp(self) -> None:
        super().setUp()
        self.file = self.place / "users.toml"
        self.write(
            f"[users.alice]\nfolder = 'a'\nkeys = ['{line()} her laptop', '{line(1)}']\n"
            f"[users.bob]\nactive = false\nkeys = ['{line(2)}']\n[users.carol]\n"
            f"[users.dave]\nkeys = ['{line(3)}']\nstorage = 'gridfs:dave'\n"
            f"[users.eve]\nfolder = '..'\nkeys = ['{line(4)}']\n"
        )

    def write(self, text: str) -> None:
        self.file.write_text(text)
        self.file.chmod(0o644)

    def test_an_active_user_gets_a_line_for_each_key(self) -> None:
        lines = self.lines(
            "--users", self.file, "--sftp-path", "/srv/sftp", "--command", "pysftpjail", "alice"
        )
        expected = {f'restrict,command="pysftpjail /srv/sftp/a" {key}' for key in (line(), line(1))}
        self.assertEqual(set(lines), expected)

    def test_nobody_else_gets_anything_and_that_is_no_error(self) -> None:
        for name in ("bob", "carol", "nobody", "eve", "", "Alice", "alice ", "a", "caf\u00e9"):
            with self.subTest(name):
                done = self.run_it("--users", self.file, name)
                self.assertEqual((done.returncode, done.stdout), (0, b""))

    def test_the_jail_beside_this_command_is_run_and_the_seeds_path_used_unless_told_otherwise(self) -> None:
        command, _ = forced_command(self.lines("--users", self.file, "alice")[0])
        self.assertEqual(shlex.split(command), [str(ROOT / "bin" / "pysftpjail"), "/opt/solt_sftp/files/a"])

    def test_the_shell_that_sshd_starts_gets_every_name_as_it_is(self) -> None:
        for name in 'a b|it\'s|say "x"|$HOME|back\\slash|`id`|a;b|q\\"|end\\|*|\u00e9|-r'.split("|"):
            with self.subTest(name):
                self.write(f"[users.alice]\nfolder = '''{name}'''\nkeys = ['{line()}']\n")
                (printed,) = self.lines(
                    "--users", self.file, "--sftp-path", "/s p", "--command", "printf %s", "alice"
                )
                command, key = forced_command(printed)
                self.assertEqual(key, line())
                shown = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True)
                self.assertEqual(shown.stdout.decode(), f"/s p/{name}")

    def test_what_authorized_keys_cannot_hold_is_refused(self) -> None:
        for options in (["--command", "a\nb"], ["--command", ""], ["--sftp-path", "/a\nb"]):
            self.assert_refused(self.run_it("--users", self.file, *options, "alice"))

    def test_files_in_a_storage_with_a_name_are_served_by_pysftpsite_if_that_is_allowed(
        self,
    ) -> None:
        (self.place / "alice").mkdir()
        (self.place / "alice" / "f").write_bytes(b"content")
        config = self.place / "pysftpd.toml"
        for_all, own = f'"jail:{self.place}/{{user}}"', f'storage = "jail:{self.place}/alice"'
        for settings, record in ((f"storage = {for_all}", ""), ('storage_schemes = ["jail"]', own)):
            with self.subTest(settings):
                config.write_text(f'users = "{self.file}"\n{settings}\n')
                self.write(f"[users.alice]\nkeys = ['{line()}']\n{record}\n")
                (printed,) = self.lines("--config", config, "alice")
                command, key = forced_command(printed)
                self.assertEqual((key, shlex.split(command)[0]), (line(), str(ROOT / "bin" / "pysftpsite")))
                asked = HELLO + request("stat", 1, string(b"/f"))
                words = ["/bin/sh", "-c", f"{sys.executable} {command}"]
                done = subprocess.run(words, input=asked, capture_output=True, timeout=PATIENCE)
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                self.assertIn(u64(len(b"content")), done.stdout)

    def test_files_that_pysftpsite_cannot_serve_are_refused(self) -> None:
        config = self.place / "pysftpd.toml"
        for settings, record, words in (
            ("", "storage = 'gridfs:dave'", "storage gridfs: not listed in storage_schemes"),
            ("", "storage = 'os:system ls'", "storage os:system: not listed in storage_classes"),
            ("site = '/etc/x.toml'", "", "under a site file; serve this user with pysftpd"),
            ("", "site = '/etc/x.toml'", "under a site file; serve this user with pysftpd"),
            ("", "storage = 'gridfs'", "a part of the database of mongo_uri; serve this user with pysftpd"),
            ("storage = 'jail:/srv/{folder}'", "", "storage: {folder}: no folder is known here"),
        ):
            with self.subTest(record):
                config.write_text(f'users = "{self.file}"\n{settings}\n')
                self.write(f"[users.alice]\nkeys = ['{line()}']\n{record}\n")
                done = self.run_it("--config", config, "alice")
                self.assert_refused(done, words, status=done.returncode)
        config.write_text(f"users = '{self.file}'\nstorage = 'jail:/srv'\n")
        self.write(f"[users.alice]\nkeys = ['{line()}']\n")
        strict = "--config", config, "--command", "pysftpjail -R", "alice"
        self.assert_refused(self.run_it(*strict), "add --site-command", status=1)
        (printed,) = self.lines("--site-command", "pysftpsite -R", *strict)
        self.assertEqual(forced_command(printed)[0], "pysftpsite -R --user=alice -- jail:/srv")

    def test_a_file_that_cannot_be_used_is_one_line_and_status_1(self) -> None:
        self.write("[users.alice]\nkeys =\n")
        self.assert_refused(self.run_it("--users", self.file, "alice"), "line 2, column 7", status=1)
        self.file.chmod(0o666)
        self.assert_refused(self.run_it("--users", self.file, "alice"), "writable by others", status=1)
        self.file.unlink()
        self.assert_refused(self.run_it("--users", self.file, "alice"), "no such file", status=1)

    def test_bad_arguments_are_one_line_and_status_2(self) -> None:
        for arguments in (
            [],
            ["a", "b"],
            ["--users", self.file, "--redis-host", "h", "a"],
            ["--no-such-option", "a"],
        ):
            self.assert_refused(self.run_it(*arguments))

    def test_it_starts_without_what_makes_starting_slow(self) -> None:
        code = (
            "import sys; from pysftpserver.cli.pysftp_keys import main; main(sys.argv[1:]); "
            "print(*sys.modules, file=sys.stderr)"
        )
        done = self.run_argv(["-c", code, "--users", str(self.file), "alice"], forks=False)
        self.assertEqual(done.stdout.count(b"\n"), 2)
        loaded = set(done.stderr.decode().split())
        slow = {"asyncio", "logging", "socket", "subprocess", "argparse", "redis", "asyncssh", "configparser"}
        self.assertEqual(loaded & slow, set())

    def test_the_help_is_complete(self) -> None:
        parser = build_parser(COMMAND)
        for action in parser._actions:
            if action.help == "==SUPPRESS==":
                continue
            self.assertRegex(str(action.help), r"\A(show|[A-Z])")
            if action.option_strings and not str(action.help).endswith("exit.") and action.dest != "help":
                self.assertRegex(str(action.help), " default is |There is none by default")
        self.assertIn("This command creates no folder", " ".join(self.help_text().split()))


class FromRedis(RedisCase, Case):
    def where(self) -> list[str]:
        return ["--redis-host", "127.0.0.1", "--redis_port", str(self.server.port)]

    def test_an_active_user_gets_a_line_for_each_key_and_the_others_nothing(self) -> None:
        self.put_user(5, "alice", base64_alone(5), folder="five")
        self.put_user(1, "alice", base64_alone(), line(1) + " x", "rubbish", folder="one")
        self.put_user(3, "bob", base64_alone(2), folder="b", active="0")
        done = self.run_it(*self.where(), "--sftp_path=/s", "--command=pysftpjail", "alice")
        expected = {f'restrict,command="pysftpjail /s/one" {key}' for key in (line(), line(1))}
        self.assertEqual((done.returncode, set(done.stdout.decode().splitlines())), (0, expected))
        for name in ("bob", "nobody"):
            self.assertEqual(self.lines(*self.where(), name), [])

    def test_a_missing_folder_is_filled_in_as_the_server_does_it(self) -> None:
        self.put_user(1, "alice", base64_alone())
        (printed,) = self.lines(*self.where(), "--command", "j", "alice")
        folder = self.r.hget("solt.sftp.user.1", "folder")
        self.assertEqual(forced_command(printed)[0], f"j /opt/solt_sftp/files/{folder}")
        self.assertRegex(str(folder), r"\A[0-9a-f]{32}\Z")

    def test_the_servers_configuration_is_read_and_the_command_line_wins(self) -> None:
        self.put_user(1, "alice", base64_alone(), folder="a")
        config = self.configuration(
            redis_host="localhost", redis_port=self.server.port, sftp_path="/from/config"
        )
        command, _ = forced_command(self.lines("--config", config, "--command", "j", "alice")[0])
        self.assertEqual(command, "j /from/config/a")
        command, _ = forced_command(
            self.lines("--config", config, "--command", "j", "--sftp-path", "/x", "alice")[0]
        )
        self.assertEqual(command, "j /x/a")
        self.assertEqual(self.lines("--config", config, "--redis-dbindex", "2", "alice"), [])
        users = self.place / "users.toml"
        users.write_text("[users.zoe]\n")
        users.chmod(0o644)
        self.assertEqual(self.lines("--config", config, "--users", users, "alice"), [])

    def test_a_file_means_the_same_here_and_for_pysftpctl_and_pysftpd(self) -> None:
        self.put_user(1, "alice", base64_alone(), folder="a")
        port = self.server.port
        for text in (
            f"[options]\nredis_port={port}\nusers=none\n",
            f"[options]\nREDIS_PORT={port}\nusers=\nsftp-port=0\nlogfile=False\nredis_pass=None\n",
            f"redis_port = {port}\nsftp_port = 0\nread-only = true\n",
        ):
            with self.subTest(text):
                config = self.place / "pysftpd.conf"
                config.write_text(text)
                self.assertEqual(len(self.lines("--config", config, "alice")), 1)
                done = pysftpctl("--config", str(config), "list")
                self.assertEqual((done.returncode, "alice" in done.stdout), (0, True), done)
        for text in (
            f"[options]\nredis_port={port}\nredis_port={port}\n",
            f"[options]\nredis_port={port}\nport=1\nsftp_port=1\n",
            f"[options]\nredis_port={port}\nunknown=1\n",
            f"[options]\nredis_port={port}x\n",
            f"redis_port = {port}\nmax_connections = true\n",
            "redis_port =\n",
        ):
            with self.subTest(text):
                config.write_text(text)
                said = {self.complaint("pysftp-keys", "--config", config, "alice")}
                said.add(self.complaint("pysftpctl", "--config", config, "list"))
                said.add(self.complaint("pysftpd", "--config", config))
                self.assertEqual(len(said), 1, said)

    def complaint(self, prog: str, *words: Any) -> str:
        with mock.patch.object(self, "prog", prog):
            return self.assert_refused(self.run_it(*words)).removeprefix(f"{prog}: ")

    def test_a_password_comes_from_the_configuration_and_is_in_no_message(self) -> None:
        server = RedisServer(password="50%hunter2")
        server.start()
        self.addCleanup(server.stop)
        with server.client() as r:
            put_user(r, 1, "alice", base64_alone(), folder="a")
        config = self.configuration(redis_port=server.port, redis_pass="50%hunter2")
        self.assertEqual(len(self.lines("--config", config, "alice")), 1)
        config = self.configuration(redis_port=server.port, redis_pass="hunter3")
        text = self.assert_refused(self.run_it("--config", config, "alice"), "password is wrong", status=1)
        self.assertNotIn("hunter", text)
        config.write_text("[options]\nredis_pass=hunter2\nhunter2\n")
        text = self.assert_refused(self.run_it("--config", config, "alice"), "line 3")
        self.assertNotIn("hunter", text)

    def test_redis_being_away_is_one_line_and_status_1(self) -> None:
        done = self.run_it("--redis-host", "127.0.0.1", "--redis-port", str(free_port()), "alice")
        self.assert_refused(done, "refused", status=1)

    def test_without_the_library_it_names_the_command_that_installs_it(self) -> None:
        code = "import sys; sys.modules['redis'] = None\n"
        code += "from pysftpserver.cli.pysftp_keys import main; exit(main())"
        done = self.run_argv(["-c", code, *self.where(), "alice"])
        self.assert_refused(done, "redis is missing; run pip install '.[sshd]'")

    def test_options_that_are_no_numbers_are_refused(self) -> None:
        for name, value in (
            ("redis-port", "70000"),
            ("redis-port", "x"),
            ("redis-dbindex", "-1"),
            ("redis_port", "0"),
        ):
            self.assert_refused(self.run_it(f"--{name}={value}", "alice"))

    def configuration(self, **options: Any) -> Path:
        options = {"sftp_port": 2200, "logfile": False, "redis_pass": None, **options}
        path = self.place / "pysftpd.conf"
        path.write_text("[options]\n" + "".join(f"{name}={value}\n" for name, value in options.items()))
        return path
