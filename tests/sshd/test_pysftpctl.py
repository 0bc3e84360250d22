"""pysftpctl: users in a file and in Redis, and what a server that runs makes of a change."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import subprocess
import tempfile
import termios
import unittest
from pathlib import Path
from typing import Any

from tests.integration.sshd import HOST
from tests.sshd.material import line
from tests.sshd.redis_server import RedisCase
from tests.sshd.serving import DaemonCase, pysftpctl
from tests.support.forked import Process, run
from tests.support.processes import command
from tests.support.waiting import PATIENCE, until

EDITS = ("list", "add", "change", "activate", "deactivate", "remove")


class Editing:
    """What the directories of users have in common. where: the options that name one."""

    where: tuple[str, ...]

    def say(self: Any, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = pysftpctl(*self.where, *words)
        self.assertEqual((done.returncode, done.stderr if not status else ""), (status, ""))
        return done

    def complaint(self: Any, *words: str, status: int) -> str:
        done = self.say(*words, status=status)
        self.assertEqual(done.stdout, "")
        (said,) = done.stderr.splitlines()
        self.assertTrue(said.startswith("pysftpctl: "), said)
        return said

    def users(self) -> dict[str, Any]:
        return {user["name"]: user for user in json.loads(self.say("list", "--json").stdout)}

    def test_a_file_of_users_is_imported_whole_and_again_for_what_has_changed(self: Any) -> None:
        with tempfile.TemporaryDirectory() as place:
            file = Path(place, "customers.csv")
            Path(place, "eve.pub").write_text(f"{line(1)}\n{line(2)}\n")
            file.write_text(f"name;key;networks\neve;eve.pub;192.0.2.0/24\nfay;{line(3)}\nfay;{line(4)}\n")
            before = self.users()
            self.assertEqual(
                self.say("import", str(file), "--dry-run").stdout, "eve: would add\nfay: would add\n"
            )
            self.assertEqual(self.users(), before)
            self.say("--sftp-path", place, "import", str(file))
            self.assertLessEqual(before.items(), self.users().items())
            self.assertEqual({len(self.users()[name]["keys"]) for name in ("eve", "fay")}, {2})
            self.assertEqual(self.users()["eve"]["networks"], "192.0.2.0/24")
            self.assertTrue(Path(place, self.users()["fay"]["folder"]).is_dir())
            self.assertIn("nothing to do", self.say("import", str(file)).stdout)
            file.write_text(f"name,key\nfay,{line(3)}\neve,\n")
            self.assertEqual(self.say("import", str(file)).stdout, "fay: change remove keys\n")
            self.assertEqual(
                {name: len(self.users()[name]["keys"]) for name in ("eve", "fay")}, {"eve": 2, "fay": 1}
            )
            file.write_text(f"name,key,read_only\ngil,{line(5)},no\nhal,{line(6)},yes\n")
            self.assertIn(
                "hal: pysftpctl has no use for read_only", self.complaint("import", str(file), status=2)
            )
            self.assertNotIn("gil", self.users())
            file.write_text(f"name,key,site\ngil,{line(5)},\nhal,{line(6)},no/path\n")
            said = self.complaint("import", str(file), status=2)
            self.assertIn("user hal: site is not the absolute path of a site file", said)
            self.assertNotIn("gil", self.users())

    def test_passwords_codes_and_methods_are_set_and_removed(self: Any) -> None:
        self.say("add", "carol")
        for typed, words in (
            (b"xyzzy", "shorter than"),
            (b"Carol was here", "name"),
            (b"\xff" * 12, "UTF-8"),
        ):
            done = run(command("pysftpctl", *self.where, "passwd", "carol"), input=typed + b"\n")
            self.assertEqual((done.returncode, done.stdout), (2, b""))
            self.assertIn(words, done.stderr.decode())
            self.assertNotIn(typed, done.stderr)
        argv = command("pysftpctl", *self.where, "passwd", "carol")
        self.assertEqual(run(argv, input=b"sun over eleven hills\n").returncode, 0)
        said = json.loads(self.say("totp", "carol", "--issuer", "files", "--json").stdout)
        self.assertTrue(said["uri"].startswith("otpauth://totp/files:carol?secret=" + said["secret"]))
        self.say("change", "carol", "--methods", "publickey,password password,totp")
        methods = ["publickey,password", "password,totp"]
        carol = self.users()["carol"]
        self.assertEqual(
            [carol[one] for one in ("has_password", "has_totp", "methods")], [True, True, methods]
        )
        self.assertEqual(carol["problems"], [])
        self.assertIn("has to be publickey", self.complaint("change", "carol", "--methods", "totp", status=2))
        self.say("passwd", "carol", "--remove")
        self.say("totp", "carol", "--remove")
        self.say("change", "carol", "--methods", "none", "--principals", "carol, deploy")
        self.assertEqual(self.users()["carol"]["principals"], ["carol", "deploy"])
        self.assertIn("principals deploy", self.say("change", "carol", "--principals", "deploy").stdout)
        self.say("change", "carol", "--principals", "none")
        carol = self.users()["carol"]
        self.assertEqual(
            [carol[one] for one in ("has_password", "has_totp", "methods")], [False, False, None]
        )


class UsersInAFile(Editing, unittest.TestCase):
    def setUp(self) -> None:
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.where = ("--users", f"{directory}/users.toml")
        self.say("add", "first")

    def test_a_terminal_is_asked_twice_and_shows_nothing(self) -> None:
        self.say("add", "dora")
        right, wrong = b"sun over eleven hills\n", b"rain over eleven hills\n"
        for typed, words in (((right, right), ""), ((right, wrong), "differ"), ((b"\x04",), "no password")):
            terminal, its = os.openpty()
            with Process(
                command("pysftpctl", *self.where, "passwd", "dora"),
                stdin=its,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # without a terminal of its own, which would be asked instead
            ) as process:
                self.addCleanup(os.close, terminal)
                self.addCleanup(os.close, its)
                for answer in typed:
                    asked = b""
                    while not asked.endswith(b": "):  # what was typed before is dropped
                        piece = os.read(process.stderr.fileno(), 100)
                        self.assertTrue(piece, asked)
                        asked += piece
                    self.assertFalse(termios.tcgetattr(its)[3] & termios.ECHO)
                    os.write(terminal, answer)
                out, errors = process.communicate(timeout=PATIENCE)
            self.assertIn(words, errors.decode())
            self.assertEqual(process.returncode, 2 if words else 0)
            self.assertNotIn(b"over", out + errors)
        self.assertTrue(self.users()["dora"]["has_password"])

    def test_a_user_is_added_listed_changed_deactivated_activated_and_removed(self) -> None:
        said = self.say("add", "carol", "--key", line(1), "--folder", "c").stdout
        self.assertEqual(said, "carol: active, 1 key, folder c\n")
        carol = self.users()["carol"]
        self.assertEqual((carol["folder"], carol["active"], carol["storage"]), ("c", True, None))
        self.assertEqual([key["line"] for key in carol["keys"]], [line(1)])
        fingerprint = carol["keys"][0]["fingerprint"]
        self.say("change", "carol", "--add-key", line(2), "--remove-key", fingerprint, "--folder", "d")
        carol = self.users()["carol"]
        self.assertEqual((carol["folder"], [key["line"] for key in carol["keys"]]), ("d", [line(2)]))
        self.assertEqual(self.say("deactivate", "carol").stdout, "carol: not active, 1 key, folder d\n")
        self.assertFalse(self.users()["carol"]["active"])
        self.say("activate", "carol")
        self.assertTrue(self.users()["carol"]["active"])
        self.say("change", "carol", "--active", "no")
        self.assertFalse(self.users()["carol"]["active"])
        self.assertEqual(self.say("remove", "carol").stdout, "removed carol; the files are still there\n")
        self.assertNotIn("carol", self.users())

    def test_networks_of_a_user_are_shown_and_edited(self) -> None:
        said = self.say("add", "carol", "--networks", "192.0.2.0/24, !192.0.2.7").stdout
        self.assertTrue(said.endswith(", from 192.0.2.0/24, !192.0.2.7\n"), said)
        self.assertEqual(self.users()["carol"]["networks"], "192.0.2.0/24, !192.0.2.7")
        self.complaint("change", "carol", "--networks", "example.net", status=1)
        self.say("change", "carol", "--networks", "none")
        self.assertIsNone(self.users()["carol"]["networks"])

    def test_several_keys_are_taken_from_options_and_files(self) -> None:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(f"# mine\n{line(1)} laptop\n\n{line(2)}\n")
            file.flush()
            self.say("add", "carol", "--key", line(3), f"--key={file.name}")
            keys = {key["line"] for key in self.users()["carol"]["keys"]}
            self.assertEqual(keys, {line(1), line(2), line(3)})
            self.say("change", "carol", "--remove-key", file.name)
        self.assertEqual([key["line"] for key in self.users()["carol"]["keys"]], [line(3)])

    def test_the_folder_of_a_user_is_made_where_the_server_looks_for_it(self) -> None:
        with tempfile.TemporaryDirectory() as files:
            if os.geteuid() == 0:
                os.chown(files, 1234, 2345)
            self.say("--sftp-path", files, "add", "carol", "--folder", "c")
            self.say("--sftp-path", files, "change", "carol", "--folder", "d")
            self.say("--sftp-path", files, "add", "dave", "--storage", "gridfs:x")
            self.assertEqual(sorted(os.listdir(files)), ["c", "d"])
            made = os.stat(f"{files}/c")
            self.assertEqual((made.st_uid, made.st_gid), (os.stat(files).st_uid, os.stat(files).st_gid))
            self.assertEqual(made.st_mode & 0o777, 0o700)
            done = self.say("--sftp-path", f"{files}/none", "add", "eve", status=2)
        self.assertIn(f"sftp_path {files}/none: no such directory; make it with: install -d", done.stderr)
        self.assertNotIn("eve", self.say("list").stdout)

    @unittest.skipIf(os.geteuid(), "these tests do not run as root")
    def test_root_manages_the_file_of_another_account_and_it_keeps_owner_and_mode(self) -> None:
        path = Path(self.where[1])
        self.assertEqual((path.stat().st_uid, path.stat().st_mode & 0o777), (0, 0o600))
        for owner, mode in (((0, 2345), 0o640), ((1234, 2345), 0o600)):
            os.chown(path, *owner)
            path.chmod(mode)
            self.say("add", f"user{owner[0]}")
            found = path.stat()
            self.assertEqual((found.st_uid, found.st_gid, found.st_mode & 0o777), (*owner, mode))
        path.chmod(0o660)
        self.assertIn("it is writable by others", self.complaint("list", status=1))
        path.unlink()
        os.chown(path.parent, 0, 2345)
        self.say("add", "new")
        found = path.stat()
        self.assertEqual((found.st_uid, found.st_gid, found.st_mode & 0o777), (0, 2345, 0o640))

    def test_an_account_is_set_and_taken_away_and_gets_the_folder(self) -> None:
        with tempfile.TemporaryDirectory() as files:
            where = "--sftp-path", files
            self.assertIn("runs as nobody", self.say(*where, "add", "carol", "--run-as", "nobody").stdout)
            if os.geteuid() == 0:
                self.assertEqual(os.stat(f"{files}/carol").st_uid, pwd.getpwnam("nobody").pw_uid)
        self.assertEqual(self.users()["carol"]["run_as"], "nobody")
        self.say("change", "carol", "--run-as", "none")
        self.assertIsNone(self.users()["carol"]["run_as"])

    def test_a_storage_is_set_and_taken_away(self) -> None:
        self.assertIn("storage gridfs:x", self.say("add", "carol", "--storage", "gridfs:x").stdout)
        self.assertEqual(self.users()["carol"]["storage"], "gridfs:x")
        self.say("change", "carol", "--storage", "none")
        self.assertIsNone(self.users()["carol"]["storage"])

    def test_each_change_says_as_json_what_the_user_is_now(self) -> None:
        for words in (("add", "carol", "--key", line(1)), ("deactivate", "carol"), ("activate", "carol")):
            user = json.loads(self.say("--json", *words).stdout)
            with self.subTest(words[0]):
                self.assertEqual(user["name"], "carol")
                self.assertEqual(user["active"], words[0] != "deactivate")
        self.assertEqual(json.loads(self.say("--json", "remove", "carol").stdout), {"removed": "carol"})

    def test_the_list_for_people_has_a_line_for_each_user(self) -> None:
        self.say("add", "carol", "--folder", "c")
        self.say("add", "dave", "--folder", "d", "--storage", "gridfs:x")
        self.say("deactivate", "dave")
        heading, *lines = self.say("list").stdout.splitlines()
        self.assertEqual(heading.split(), ["USER", "ACTIVE", "KEYS", "FOLDER", "STORAGE", "ACCOUNT"])
        self.assertIn(["carol", "yes", "0", "c"], [one.split() for one in lines])
        self.assertIn(["dave", "no", "0", "d", "gridfs:x"], [one.split() for one in lines])

    def test_the_list_shows_the_account_that_users_without_their_own_have(self) -> None:
        self.say("add", "carol")
        self.say("add", "dave", "--run-as", "daemon")
        for settings, account in (
            ("account = sshd\n", "sshd"),
            ("account = sshd\nrun_as = nobody\n", "nobody"),
        ):
            with tempfile.NamedTemporaryFile("w", suffix=".ini") as file:
                file.write(f"[options]\nusers = {self.where[1]}\n{settings}")
                file.flush()
                told = self.say("list", "--config", file.name).stdout
            accounts = {line.split()[0]: line.split()[-1] for line in told.splitlines()[1:]}
            self.assertEqual((accounts["carol"], accounts["dave"]), (account, "daemon"))

    def test_what_the_directory_refuses_is_one_line_and_status_1(self) -> None:
        self.say("add", "carol")
        for words, said in (
            (("add", "carol"), "already"),
            (("remove", "nobody"), "no user named nobody"),
            (("change", "nobody", "--folder", "x"), "no user named nobody"),
            (("add", "eve", "--folder", "../up"), "folder"),
            (("add", "eve", "--key", "ssh-ed25519 AAAA"), "key 1"),
        ):
            with self.subTest(words):
                self.assertIn(said, self.complaint(*words, status=1))
        self.assertNotIn("eve", self.users())

    def test_the_file_is_named_by_the_server_s_configuration_as_well(self) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".ini") as file:
            file.write(f"[options]\nsftp_port = 2200\nusers = {self.where[1]}\nworkers = 2\n")
            file.flush()
            done = pysftpctl("--config", file.name, "list", "--json")
        self.assertEqual([user["name"] for user in json.loads(done.stdout)], ["first"])

    def test_without_any_option_it_is_users_toml_in_the_current_directory(self) -> None:
        done = pysftpctl("list", "--json", cwd=os.path.dirname(self.where[1]))
        self.assertEqual([user["name"] for user in json.loads(done.stdout)], ["first"])

    def test_a_user_that_is_unusable_is_listed_with_the_reason(self) -> None:
        with open(self.where[1], "a") as file:
            file.write('[users.broken]\nfolder = "../x"\n')
        done = pysftpctl(*self.where, "list")
        self.assertEqual(done.returncode, 0)
        self.assertIn(["broken", "unusable"], [one.split() for one in done.stdout.splitlines()])
        self.assertIn("user broken: the folder is not a single name", done.stderr)
        self.assertIn("problems", self.users()["broken"])


class UsersInRedis(Editing, RedisCase):
    def setUp(self) -> None:
        super().setUp()
        self.where = ("--redis-port", str(self.server.port), "--redis_host", "127.0.0.1")
        self.say("add", "first")

    def test_a_change_is_published(self) -> None:
        listener = self.r.pubsub(ignore_subscribe_messages=True)
        self.addCleanup(listener.close)
        listener.subscribe("other_channel")
        listener.get_message(timeout=PATIENCE)
        self.say("--redis-channel", "other_channel", "add", "carol")
        id = self.users()["carol"]["id"]
        message = listener.get_message(timeout=PATIENCE)
        assert message is not None
        self.assertEqual(message["data"], id)

    def test_typed_options_win_over_a_file_of_users_in_the_configuration(self) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".ini") as file:
            file.write("[options]\nusers = /nowhere/users.toml\n")
            file.flush()
            done = pysftpctl("--config", file.name, *self.where, "list", "--json")
        self.assertEqual([user["name"] for user in json.loads(done.stdout)], ["first"])

    def test_a_redis_that_is_away_is_one_line_and_status_1(self) -> None:
        done = pysftpctl("--redis-port", "1", "--redis-host", "127.0.0.1", "list")
        self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (1, "", 1))
        self.assertIn("users in Redis at 127.0.0.1", done.stderr)


class BadArguments(unittest.TestCase):
    def test_each_is_one_line_and_status_2(self) -> None:
        for words, said in (
            ((), "the command is missing"),
            (("dance",), "one of list, add"),
            (("add",), "required: NAME"),
            (("add", "a", "b"), "unrecognized arguments: b"),
            (("list", "a"), "unrecognized arguments: a"),
            (("--json", "list", "--json", "a"), "unrecognized arguments: a"),
            (("--users",), "expected one argument"),
            (("--json", "--users=u"), "the command is missing"),
            (("list", "--folder", "x"), "unrecognized arguments: --folder"),
            (("add", "a", "--active", "no"), "unrecognized arguments: --active"),
            (("change", "a"), "say what"),
            (("change", "a", "--active", "perhaps"), "yes or no"),
            (("change", "a", "--by-name", "--folder", "x"), "unrecognized arguments: --by-name"),
            (("add", "a", "--key", "/nowhere/key.pub"), "no such file"),
            (("add", "a", "--key", "/dev/null"), "no key in it"),
            (("--users", "u", "--redis-host", "h", "list"), "give one of them"),
            (("--config", "/nowhere.ini", "list"), "no such file"),
            (("sessions",), "--admin-socket"),
            (("end", "1"), "--admin-socket"),
            (("live",), "--admin-socket"),
        ):
            with self.subTest(words):
                done = pysftpctl(*words, cwd="/")
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertIn(said, done.stderr)

    def test_a_socket_where_nobody_listens_is_status_1(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            for path in (f"{directory}/none", f"{directory}/none/at/all"):
                for words in (("sessions",), ("end", "1"), ("live",)):
                    with self.subTest(words, path=path):
                        done = pysftpctl("--admin-socket", path, *words)
                        self.assertEqual((done.returncode, done.stdout), (1, ""))
                        self.assertEqual(done.stderr.count("\n"), 1)

    def test_the_help_names_every_word_and_the_defaults(self) -> None:
        said = " ".join(pysftpctl("--help").stdout.split())
        for word in (*EDITS, "sessions", "end", "live"):
            with self.subTest(word):
                self.assertIn(word, said)
        self.assertIn("Redis if a setting says where it is, otherwise users.toml", said)
        said = pysftpctl("change", "--help").stdout
        for option in ("--add-key", "--active", "--admin-socket", "--redis-host"):
            self.assertIn(option, said)
        self.assertNotIn("--by-name", said)


class WithAServer(DaemonCase):
    def test_a_user_who_is_added_can_log_in_and_one_who_is_deactivated_is_sent_away(self) -> None:
        daemon = self.shared()
        key = os.fspath(daemon.key.with_suffix(".pub"))
        self.assertEqual(daemon.ctl("add", "carol", "--key", key).returncode, 0)
        until(lambda: daemon.do("pwd", user="carol").returncode == 0, "carol can log in")
        daemon.client(user="carol")
        until(lambda: [one["user"] for one in daemon.json("sessions")] == ["carol"], "carol is there")
        self.assertEqual(daemon.ctl("deactivate", "carol").returncode, 0)
        until(lambda: daemon.json("sessions") == [], "carol is gone")
        self.assertEqual(daemon.do("pwd", user="carol").returncode, 255)

    def test_sessions_are_shown_and_ended(self) -> None:
        for workers in (1, 2):
            with self.subTest(workers=workers):
                daemon = self.shared(workers=workers)
                for user in ("alice", "alice", "bob"):
                    daemon.client(user=user)
                until(lambda daemon=daemon: len(daemon.json("sessions")) == 3, "all are there")
                heading, *lines = daemon.ctl("sessions").stdout.splitlines()
                self.assertEqual(heading.split()[:3], ["NUMBER", "USER", "ADDRESS"])
                self.assertEqual(sorted(one.split()[1] for one in lines), ["alice", "alice", "bob"])
                number = next(one.split()[0] for one in lines if "bob" in one)
                daemon.logs(f"#{number} 127.0.0.1 'bob': logged in")
                self.assertEqual(daemon.ctl("end", number).stdout, f"ended {number}\n")
                until(lambda daemon=daemon: len(daemon.json("sessions")) == 2, "bob is gone")
                again = daemon.ctl("end", number)
                self.assertEqual((again.returncode, again.stdout), (1, ""))
                self.assertEqual(again.stderr, f"pysftpctl: no session with number {number}\n")
                self.assertEqual(len(daemon.json("end", "alice")["ended"]), 2)
                until(lambda daemon=daemon: daemon.json("sessions") == [], "nobody is there")

    def test_a_ban_holds_in_each_process_until_it_is_lifted(self) -> None:
        daemon = self.shared(workers=2)
        banned = daemon.ctl("bans", "--add", "127.0.0.1", "--for", "1d")
        self.assertEqual((banned.returncode, banned.stdout), (0, "banned 127.0.0.1 for 1d00h\n"))
        for _ in range(6):  # the kernel chooses the process
            with contextlib.suppress(ConnectionError), socket.create_connection((HOST, daemon.port)) as one:
                one.settimeout(PATIENCE)
                self.assertEqual(one.recv(1), b"")
        (ban,) = daemon.json("bans")
        self.assertEqual((ban["address"], ban["cause"], ban["bans"]), ("127.0.0.1", "admin", 1))
        self.assertAlmostEqual(ban["seconds"], 86400, delta=PATIENCE)
        heading, line = daemon.ctl("bans").stdout.splitlines()
        self.assertEqual((heading.split()[0], line.split()[0]), ("ADDRESS", "127.0.0.1"))
        self.assertEqual(daemon.json("bans", "--lift", "127.0.0.1"), {"lifted": True})
        again = daemon.ctl("bans", "--lift", "127.0.0.1")
        self.assertEqual((again.returncode, again.stderr), (1, "pysftpctl: nothing is known of 127.0.0.1\n"))
        self.assertEqual(daemon.do("pwd").returncode, 0)

    def test_what_is_asked_of_bans_has_to_make_sense(self) -> None:
        daemon = self.shared(workers=2)
        for words, status, said in (
            (("--for", "1h"), 2, "--for needs --add"),
            (("--add", "::1", "--lift", "::1"), 2, "give one of them"),
            (("--add", "::1", "--for", "soon"), 2, "a time such as 90s"),
            (("--add", "example.net"), 1, "address has to be an address"),
            (("--lift", "192.0.2.0/24"), 1, "address has to be an address"),
        ):
            done = daemon.ctl("bans", *words)
            self.assertEqual(done.returncode, status, words)
            self.assertIn(said, done.stderr)

    def test_a_user_whose_name_is_a_number_is_ended_by_name(self) -> None:
        daemon = self.shared()
        key = os.fspath(daemon.key.with_suffix(".pub"))
        daemon.ctl("add", "77", "--key", key)
        until(lambda: daemon.do("pwd", user="77").returncode == 0, "77 can log in")
        until(lambda: daemon.json("sessions") == [], "it is gone")
        daemon.client(user="77")
        until(lambda: daemon.json("sessions"), "77 is there")
        self.assertEqual(daemon.ctl("end", "77").returncode, 1)
        self.assertEqual(daemon.ctl("end", "--by-name", "77").returncode, 0)


class WithAServerOnRedis(DaemonCase, RedisCase):
    def test_one_file_of_options_is_enough_for_both(self) -> None:
        daemon = self.daemon(users=False, admin=False)
        config = daemon.directory / "pysftpd.ini"
        config.write_text(
            f"[options]\nredis_host = 127.0.0.1\nredis_port = {self.server.port}\n"
            f"admin_socket = {daemon.socket}\nsftp_path = {daemon.directory}/files\n"
        )
        daemon.argv += ["--config", os.fspath(config)]
        daemon.start()
        where = ("--config", os.fspath(config))
        key = os.fspath(Path(f"{daemon.key}.pub"))
        self.assertEqual(pysftpctl(*where, "add", "carol", "--key", key).returncode, 0)
        until(lambda: daemon.do("pwd", user="carol").returncode == 0, "carol can log in")
        daemon.client(user="carol")
        until(lambda: "carol" in pysftpctl(*where, "sessions").stdout, "carol is there")
        self.assertEqual(pysftpctl(*where, "remove", "carol").returncode, 0)
        until(lambda: "carol" not in pysftpctl(*where, "sessions").stdout, "carol is gone")
