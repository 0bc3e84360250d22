"""The command pysftpd: its options and its configuration, its files, and how it refuses what cannot be."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import subprocess
from pathlib import Path

from pysftpserver.service.verifying import verify
from tests.integration.sshd import HOST
from tests.sshd.redis_server import RedisServer
from tests.sshd.running import Login, Place, Pysftpd, kill_group, make_key, pysftpd, write_private
from tests.support.forked import Process
from tests.support.paths import ROOT
from tests.support.processes import command, program
from tests.support.waiting import PATIENCE, until

#: As the seed has it, word for word.
SAMPLE = """[options]
sftp_port=2200
sftp_path=/opt/solt_sftp/files
log_level=info
logfile=False
redis_host=localhost
redis_port=6379
redis_dbindex=1
redis_pass=None
redis_channel=sftp_users
"""


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class TestOptions(Place):
    def config(self, text: str) -> Path:
        path = self.place / "pysftpd.conf"
        write_private(path, text)
        return path

    def refused(self, *words: object) -> str:
        """The line with which pysftpd refuses to start, and status 2."""
        base = ["--sftp-port", "0", "--listen-address", HOST, "--host-key-dir", self.place / "host-keys"]
        base += ["--sftp-path", self.place]
        status, text = self.fails(*pysftpd(*base, *words))
        self.assertEqual(status, 2, text)
        lines = [line for line in text.splitlines() if not line.startswith("20")]  # not those of the log
        self.assertEqual(len(lines), 1, text)
        self.assertTrue(lines[0].startswith("pysftpd: "), text)
        return lines[0]

    def test_the_sample_of_solt_sftp_starts_without_redis_says_so_and_serves_nobody(self) -> None:
        server = Pysftpd(self.place)
        sample = SAMPLE.replace("/opt/solt_sftp/files", os.fspath(server.files))
        config = self.config(sample.replace("redis_port=6379", f"redis_port={closed_port()}"))
        server.argv = pysftpd("--config", config, "--sftp-port", "0", "--listen-address", HOST)
        server.argv += ["--host-key-dir", str(server.host_keys)]
        alice = Login(self.place / "alice", "alice")
        self.addCleanup(server.stop)
        server.start()
        alice.meet(server)
        server.logs("edis")
        self.assertEqual(self.sftp(alice, "pwd").returncode, 255)

    def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(self) -> None:
        config = self.config("[options]\nlog_format = json\nread_only = yes\npid_file = in-file\n")
        server = self.server("--config", config, "--pid-file", "typed")
        self.assertTrue((self.place / "typed").exists())
        self.assertFalse((self.place / "in-file").exists())
        self.assertIn('"message": "ready"', server.log())
        self.assertNotEqual(self.sftp(self.alice, "mkdir d").returncode, 0)
        self.assertEqual(self.sftp(self.alice, "ls").returncode, 0)

    def test_a_bad_value_is_one_line_that_names_the_option(self) -> None:
        bad = {
            "sftp_port": ("70000", "-1", "x", "2 2"),
            "log_level": ("loud",),
            "redis_port": ("0", "none"),
            "redis_dbindex": ("x",),
            "workers": ("0", "1000"),
            "max_connections": ("0", "many"),
            "login_grace": ("0",),
            "drain_seconds": ("soon",),
            "log_size": ("-5",),
            "log_format": ("xml",),
            "metrics": ("http",),
        }
        for name, values in bad.items():
            for value in values:
                with self.subTest(f"{name}={value}"):
                    self.assertIn(name, self.refused(f"--{name}={value}"))
        for name, values in (*bad.items(), ("read_only", ("perhaps",)), ("allow_root", ("2",))):
            if name != "sftp_port":
                with self.subTest(f"{name} in the file"):
                    config = self.config(f"[options]\n{name} = {values[0]}\n")
                    words = [
                        word
                        for word in pysftpd("--config", config)
                        if name != "allow_root" or word != "--allow-root"
                    ]
                    status, text = self.fails(*words)
                    self.assertEqual((status, len(text.splitlines())), (2, 1), text)
                    self.assertIn(name, text)

    def test_a_file_that_is_none_is_one_line_without_what_is_in_it(self) -> None:
        secret = "hunter2-and-more"
        for text in (
            f"[options]\nredis_pass {secret}\n",
            f"redis_pass = {secret}\n",
            f"[options]\nredis_pass = {secret}\nredis_pass = {secret}\n",
            f"[options]\nredis_pass = {secret}\nunknown = 1\n",
            f"[other]\nredis_pass = {secret}\n",
            f"[options]\n[options]\nredis_pass={secret}",
            f"[options]\nredis_pass={secret}\nredis_port={secret[:0]}x\n",
        ):
            with self.subTest(text):
                line = self.refused("--config", self.config(text))
                self.assertIn("redis_port" if "redis_port" in text else "pysftpd.conf", line)
                self.assertNotIn(secret, line)
        self.assertIn("no such file", self.refused("--config", self.place / "missing"))

    def test_root_is_refused_unless_it_is_allowed(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("these tests run as an ordinary user")
        status, text = self.fails(*command("pysftpd"))
        self.assertEqual((status, len(text.splitlines())), (2, 1), text)
        self.assertIn("--allow-root", text)

    def test_a_users_file_that_cannot_be_used_is_one_line_with_any_number_of_workers(self) -> None:
        for workers in ("1", "2"):
            line = self.refused("--users", self.place / "missing.toml", "--workers", workers)
            self.assertIn("missing.toml", line)

    def test_a_directory_of_folders_that_cannot_be_used_is_one_line_with_what_to_do(self) -> None:
        users = self.place / "users.toml"
        write_private(users, "[users]\n")
        for path in ("missing", "users.toml"):
            line = self.refused("--users", users, "--sftp-path", path)
            self.assertIn(f"sftp_path {path}: no", line)
            self.assertIn("create it", line)

    def test_a_missing_folder_is_made_at_login_only_if_that_is_set(self) -> None:
        server = self.server()
        folder = server.files / "a"
        folder.rmdir()
        self.assertNotEqual(self.sftp(self.alice, "pwd").returncode, 0)
        server.logs(f"'alice': no session: the storage cannot be opened: folder {folder} is missing")
        self.assertFalse(folder.exists())
        server.stop()
        server.argv.append("--create-folders")
        server.start()
        self.alice.meet(server)
        self.assertEqual(self.sftp(self.alice, "pwd").returncode, 0)
        self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)

    def test_no_folder_is_served_while_its_disk_is_not_mounted_if_a_marker_is_set(self) -> None:
        server = self.server("--disk-marker", ".mounted", "--create-folders")
        self.assertNotEqual(self.sftp(self.alice, "pwd").returncode, 0)
        server.logs(f"'alice': no session: the storage cannot be opened: sftp_path {server.files} has no .m")
        (server.files / ".mounted").touch()
        self.assertEqual(self.sftp(self.alice, "pwd").returncode, 0)

    def test_the_file_with_the_process_number_can_be_read_by_all(self) -> None:
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)
        self.server("--pid-file", "pid")
        self.assertEqual(stat.S_IMODE((self.place / "pid").stat().st_mode), 0o644)

    def test_a_redis_that_refuses_the_password_is_one_line_with_any_number_of_workers(self) -> None:
        redis = RedisServer(password="right")
        self.addCleanup(redis.stop)
        redis.start()
        config = self.config(f"[options]\nredis_port={redis.port}\nredis_pass=wrong\n")
        for workers in ("1", "2"):
            status, text = self.fails(
                *pysftpd("--config", config, "--sftp-port", "0", "--listen-address", HOST),
                *("--host-key-dir", self.place / "host-keys", "--workers", workers, "--sftp-path", "."),
            )
            self.assertEqual(status, 2, text)
            self.assertIn("the password is wrong", text.splitlines()[-1])

    def test_sockets_that_were_not_handed_over_are_one_line(self) -> None:
        users = self.place / "users.toml"
        write_private(users, "[users]\n")
        said = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=x exec "$@"', "sh"]
        status, text = self.fails(
            *said, *pysftpd("--users", users, "--host-key-dir", "keys", "--sftp-path", ".")
        )
        self.assertEqual(status, 1, text)
        self.assertIn("LISTEN_FDS", text.splitlines()[-1])

    def test_the_unit_refuses_what_it_forbids_and_ends_nothing(self) -> None:
        """A client may ask for chown(2), which is among @privileged: without an error number, that kills."""
        unit = (ROOT / "examples" / "pysftpd.service").read_text()
        self.assertIn("SystemCallErrorNumber=EPERM", unit.splitlines())

    def test_files_that_cannot_be_written_are_named(self) -> None:
        users = self.place / "users.toml"
        write_private(users, "[users]\n")
        for option in ("logfile", "pid_file"):
            with self.subTest(option):
                words = ("--users", users, "--sftp-path", ".", f"--{option}", self.place / "none" / "x")
                status, text = self.fails(
                    *pysftpd("--sftp-port", "0", "--listen-address", HOST, "--host-key-dir", "keys", *words)
                )
                self.assertEqual(status, 2, text)
                self.assertIn(option, text.splitlines()[-1])

    def test_a_port_in_use_is_said_with_one_worker_and_with_two(self) -> None:
        first = self.server(workers=2)
        for workers in ("1", "2"):
            status, text = self.fails(*first.argv, "--sftp-port", str(first.port), "--workers", workers)
            self.assertEqual(status, 1, text)
            self.assertIn(f"port {first.port}: address already in use", text)


class TestHostKeys(Place):
    has_host_keys = False

    def test_they_are_made_once_for_the_owner_alone_and_used_again(self) -> None:
        server = self.server()
        paths = sorted(server.host_keys.iterdir())
        self.assertEqual([path.name for path in paths], ["ssh_host_ed25519_key", "ssh_host_rsa_key"])
        for path in paths:
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        bits = subprocess.run([program("ssh-keygen"), "-l", "-f", paths[1]], capture_output=True, text=True)
        self.assertTrue(bits.stdout.startswith("3072 "), bits.stdout)
        self.assertIn(bits.stdout.split()[1], server.log())
        before = [path.read_bytes() for path in paths]
        server.stop()
        server.start()
        self.assertEqual([path.read_bytes() for path in paths], before)
        self.assertEqual(server.log().count("made the host key"), 2)

    def test_a_users_file_that_nobody_has_made_is_told_before_anything_is_made(self) -> None:
        status, text = self.fails(*pysftpd("--sftp-port", "0"))
        self.assertEqual(status, 2)
        self.assertIn("create it with: pysftpctl --users users.toml add NAME --key FILE", text)
        self.assertEqual(list(self.place.iterdir()), [])

    def test_a_key_that_others_may_read_is_refused(self) -> None:
        key = self.place / "key"
        make_key(key)
        write_private(self.place / "users.toml", "[users]\n")
        for mode in (0o640, 0o604):
            key.chmod(mode)
            status, text = self.fails(*pysftpd("--sftp-port", "0", "--sftp-path", ".", "--host_key", key))
            self.assertEqual(status, 2)
            self.assertIn("others may read it", text)

    def test_one_key_of_ones_own_is_used_alone(self) -> None:
        server = self.server(start=False)
        server.host_keys = self.place / "own"
        server.host_keys.mkdir()
        key = server.host_keys / "ssh_host_ed25519_key"
        make_key(key)
        key.with_suffix(".pub").unlink()
        at = server.argv.index("--host-key-dir")
        server.argv[at : at + 2] = ["--host-key", str(key)]
        self.addCleanup(server.stop)
        server.start()
        self.alice.meet(server)
        self.assertEqual(self.sftp(self.alice, "pwd").returncode, 0)

    def test_two_servers_that_start_at_once_agree(self) -> None:
        servers = []
        for name in ("one", "two"):
            (self.place / name).mkdir()
            server = Pysftpd(self.place / name, host_keys=False)
            at = server.argv.index("--host-key-dir")
            server.argv[at + 1] = str(self.place / "host-keys")
            server.write_users({})
            servers.append(server)
        processes = [
            Process(server.argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for server in servers
        ]
        texts = []
        for process in processes:
            assert process.stderr is not None
            lines = []
            for line in process.stderr:
                lines.append(line)
                if "ready" in line:
                    break
            process.terminate()
            process.stderr.read()
            process.stderr.close()
            self.assertEqual(process.wait(PATIENCE), 0)
            texts.append("".join(lines))
        keys = [
            [line.split("host key")[1] for line in text.splitlines() if " host key ssh" in line]
            for text in texts
        ]
        self.assertEqual(len(keys[0]), 2, texts)
        self.assertEqual(keys[0], keys[1])
        self.assertEqual(len(list((self.place / "host-keys").iterdir())), 2)


class TestLogs(Place):
    def test_json_is_an_object_a_line(self) -> None:
        server = self.server("--log-format", "json")
        self.sftp(self.alice, "pwd")
        server.logs("logged in")
        for line in server.log().splitlines():
            entry = json.loads(line)
            self.assertEqual(set(entry), {"time", "program", "process", "level", "message"})

    def test_a_log_goes_on_in_new_files_and_is_shared_by_two_workers(self) -> None:
        path = self.place / "log"
        server = self.server(
            *("--logfile", path, "--log-size", "1", "--log-keep", "3", "--log-level", "debug3"),
            start=False,
            workers=2,
        )
        server.stderr = path
        self.addCleanup(server.stop)
        server.start()
        self.alice.meet(server)
        self.assertEqual(self.sftp(self.alice, "mkdir d").returncode, 0)
        server.logs(": gone")  # nothing more is written
        os.truncate(path, 1 << 20)  # it is full
        self.assertEqual(self.sftp(self.alice, "rmdir d").returncode, 0)
        until(lambda: path.stat().st_size < 1 << 20, "it goes on in a new file")
        for one in (path, path.with_name("log.1")):
            for line in one.read_text().rstrip("\0").splitlines():
                self.assertRegex(line, r"^\d{4}-\d\d-\d\dT\S+Z pysftpd\[\d+\] ")


class TestAudit(Place):
    def test_the_audit_log_has_who_did_what_from_where(self) -> None:
        how = ("--audit-digests", "--audit-chain", "--metrics", "0")
        server = self.server("--audit", self.place / "audit", *how)
        (self.place / "sent").write_bytes(b"content")
        self.assertEqual(self.sftp(self.alice, f"put {self.place}/sent name", "rm name").returncode, 0)
        records = [json.loads(line) for line in (self.place / "audit").read_text().splitlines()]
        self.assertEqual({(record["user"], record["peer"]) for record in records}, {("alice", HOST)})
        self.assertIn("remove", {record.get("request") for record in records})
        digests = [record["sha256"] for record in records if record["request"] == "close"]
        self.assertEqual(digests, [hashlib.sha256(b"content").hexdigest()])
        found = verify([os.fspath(self.place / "audit")], {})
        self.assertEqual((found.problems, found.notes), ([], []))
        (number,) = {record["number"] for record in records}
        (key,) = {record["key"] for record in records}
        self.assertTrue(key.startswith("SHA256:"), key)
        server.logs(f"#{number} {HOST} 'alice': logged in with {key}")

    def test_a_session_whose_audit_log_cannot_be_written_is_refused(self) -> None:
        server = self.server("--audit", self.place / "missing" / "audit")
        self.assertNotEqual(self.sftp(self.alice, "pwd").returncode, 0)
        server.logs("no session")


class TestUploads(Place):
    def test_an_upload_that_is_interrupted_leaves_nothing_if_uploads_are_atomic(self) -> None:
        server = self.server("--atomic-uploads", "--durable")
        (self.place / "sent").write_bytes(bytes(16 << 20))
        self.assertEqual(self.sftp(self.alice, f"put {self.place}/sent whole").returncode, 0)
        client = self.start_sftp(self.alice, f"put {self.place}/sent half", flags=["-l", "4000"])
        folder = server.files / "a"
        until(lambda: any(name.startswith(".pysftpserver-upload-") for name in os.listdir(folder)), "it runs")
        self.assertNotIn("half", os.listdir(folder))
        kill_group(client)
        until(lambda: os.listdir(folder) == ["whole"], "it is gone")


class TestReplacedDirectories(Place):
    def test_a_directory_that_is_replaced_while_the_server_runs_is_served_to_the_next_session(self) -> None:
        server = self.server()
        (self.place / "sent").write_bytes(b"content")
        for path in (server.files / "a", server.files):
            with self.subTest(path.name):
                self.assertEqual(self.sftp(self.alice, f"put {self.place}/sent old").returncode, 0)
                old = path.rename(self.place / f"{path.name}-before")
                (server.files / "a").mkdir(parents=True)
                self.assertEqual(self.sftp(self.alice, f"put {self.place}/sent new").returncode, 0)
                self.assertEqual(os.listdir(server.files / "a"), ["new"])
                self.assertEqual(list(old.glob("**/new")), [])
                os.unlink(server.files / "a" / "new")
