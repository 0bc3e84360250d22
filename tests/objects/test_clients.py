"""Other people's clients in front, other people's servers behind.

OpenSSH's sftp, rclone, restic and sshfs; rclone's and moto's S3.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.objects.stores import StoreCase
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.processes import program, rclone, why_no_fuse
from tests.support.waiting import PATIENCE, until

SERVE = """
import atexit, sys
from pysftpserver.objectstorage import SFTPServerObjectStorage
from pysftpserver.server import SFTPServer
status, report = open("/proc/self/status"), open(sys.argv[2], "w")  # before the sandbox
atexit.register(lambda: report.write(status.read()))
SFTPServer(SFTPServerObjectStorage(sys.argv[1])).run(sandbox=True)
"""
MOST_RESIDENT = 64 << 10  # KiB


class ClientCase(StoreCase):
    def setUp(self):
        super().setUp()
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.status = self.place / "status"
        script = self.place / "serve.py"
        script.write_text(SERVE)
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.serve = [sys.executable, str(script), self.name("prefix"), str(self.status)]

    def sftp(self, *lines, expected=0):
        """Run lines in an sftp session; return its output."""
        done = subprocess.run(
            [program("sftp"), "-b", "-", "-D", " ".join(self.serve)],
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=10 * PATIENCE,
        )
        self.assertEqual(done.returncode, expected, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def peak(self):
        """The most memory that the server of the last session had, in KiB."""
        (line,) = (line for line in self.status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1])


class Everything(ClientCase):
    def test_a_session_of_everything(self):
        (self.place / "tree" / "sub").mkdir(parents=True)
        for name in ("a", "sub/b", "sub/c d"):
            (self.place / "tree" / name).write_bytes(name.encode())
        out = self.sftp(
            f"put -R {self.place}/tree",
            "mkdir tree/empty",
            "rename tree/a tree/z",
            "rename tree/sub tree/moved",
            "ls -la tree",
            f"get -R tree {self.place}/back",
            "rm tree/moved/*",
            "rmdir tree/moved",
            "rmdir tree/empty",
            "ls tree",
        )
        back = {p.relative_to(self.place / "back").as_posix() for p in (self.place / "back").rglob("*")}
        self.assertEqual(back, {"z", "moved", "moved/b", "moved/c d", "empty"})
        self.assertRegex(out, r"-rw-r--r-- .* 1 .* tree/z")
        self.assertEqual([key for key in self.all_keys() if not key.endswith("/")], ["prefix/tree/z"])


class Large(ClientCase):
    size = 40 << 20  # bytes

    def test_a_large_file_goes_up_is_resumed_and_comes_down_in_a_bounded_memory(self):
        large, back = self.place / "large", self.place / "back"
        with large.open("wb") as file:
            for _ in range(self.size >> 20):
                file.write(os.urandom(1 << 20))
        self.sftp(f"put {large} f")
        self.assertLessEqual(self.peak(), MOST_RESIDENT)
        self.assertEqual(self.other.head("prefix/f").size, self.size)
        with large.open("ab") as file:
            file.write(b"more" * 1000)
        self.sftp(f"reput {large} f")
        self.sftp(f"get f {back}")
        self.assertLessEqual(self.peak(), MOST_RESIDENT)
        subprocess.run(["cmp", large, back], check=True)


class Killed(ClientCase):
    def test_a_server_that_is_killed_leaves_no_file_and_an_upload_that_gc_aborts(self):
        client = subprocess.Popen(
            [program("sftp"), "-b", "-", "-D", " ".join(self.serve)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment,
        )
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        with (self.place / "large").open("wb") as file:
            file.truncate(16 << 30)  # sparse, and longer than the test takes
        client.stdin.write(f"put {self.place}/large f\n".encode())
        client.stdin.flush()
        until(self.all_uploads, "no upload begins")
        (server,) = (
            int(entry)
            for entry in os.listdir("/proc")
            if entry.isdigit() and _line(entry) == " ".join(self.serve)
        )
        os.kill(server, signal.SIGKILL)
        client.stdin.close()
        client.wait(PATIENCE)
        self.assertEqual(self.all_keys(), [])
        self.assertEqual(len(self.all_uploads()), 1)
        self.assertEqual(len(self.open_storage("prefix").gc(older_than=0)), 1)
        self.assertEqual(self.all_uploads(), [])


def _line(pid):
    """The command line of a process, with spaces."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().strip("\0").replace("\0", " ")
    except OSError:
        return ""


class EverythingOnRclone(Everything):
    """rclone's server checks signatures, and holds no markers of directories."""

    server = "rclone"


if IS_HARD:

    class LargeOnRclone(Large):
        server = "rclone"
        size = 1 << 30

    class EverythingOnMoto(Everything):
        server = "moto"

    class LargeOnMoto(Large):
        server = "moto"
        settings = "&timeout=120"  # it joins parts in Python
        size = 1 << 28

    class KilledOnMoto(Killed):
        server = "moto"

    class WithRestic(ClientCase):
        server = "moto"

        def restic(self, *words):
            there = ["-r", "sftp:store:/repository", "-o", f"sftp.command={shlex.join(self.serve)}"]
            done = subprocess.run(
                [program("restic"), "--no-cache", *there, *words],
                capture_output=True, text=True, timeout=10 * PATIENCE,
                env={**self.environment, "RESTIC_PASSWORD": "test"},
            )  # fmt: skip
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            return done.stdout

        def test_backups_are_made_checked_pruned_and_restored(self):
            source, back = self.place / "source", self.place / "back"
            (source / "sub").mkdir(parents=True)
            (source / "large").write_bytes(os.urandom(20 << 20))
            (source / "sub" / "small").write_bytes(b"first")
            self.restic("init")
            self.restic("backup", source)
            (source / "sub" / "small").write_bytes(b"second")
            self.restic("backup", source)
            self.restic("forget", "--keep-last", "1", "--prune")
            self.assertIn("no errors were found", self.restic("check", "--read-data"))
            self.restic("restore", "latest", "--target", back)
            subprocess.run(["diff", "-r", source, f"{back}{source}"], check=True)
            self.assertEqual(self.all_uploads(), [])

    class WithResticOnRclone(WithRestic):
        server = "rclone"

    class WithSshfs(ClientCase):
        server = "moto"

        def setUp(self):
            lacking = why_no_fuse()
            if lacking:
                self.skipTest(lacking)
            super().setUp()
            self.there = self.place / "there"
            self.there.mkdir()

        def mount(self):
            ours, its = socket.socketpair()
            with ours, its:
                server = subprocess.Popen(self.serve, stdin=ours, stdout=ours, env=self.environment)
                self.addCleanup(server.wait, PATIENCE)
                words = [program("sshfs"), "-f", "-o", "passive", ":/", self.there]
                sshfs = subprocess.Popen(words, stdin=its, stdout=its, stderr=subprocess.PIPE)
            self.addCleanup(sshfs.stderr.close)
            self.addCleanup(sshfs.wait, PATIENCE)
            self.addCleanup(subprocess.run, ["fusermount3", "-u", "-z", self.there], capture_output=True)
            until(lambda: os.path.ismount(self.there) or sshfs.poll() is not None, "sshfs has mounted")
            if sshfs.poll() is not None:
                self.skipTest(f"sshfs does not mount here: {sshfs.stderr.read().decode().strip()}")

        def test_a_mounted_bucket_is_worked_on_as_files_are(self):
            source = self.place / "source"
            (source / "sub").mkdir(parents=True)
            (source / "large").write_bytes(os.urandom(20 << 20))
            (source / "sub" / "small").write_bytes(b"small")
            self.mount()
            shutil.copytree(source, self.there / "tree")
            subprocess.run(["diff", "-r", source, self.there / "tree"], check=True)
            with (self.there / "tree" / "sub" / "small").open("ab") as file:
                file.write(b" and more")
            with (self.there / "tree" / "large").open("r+b") as file:
                file.seek(1 << 20)
                file.write(b"in the middle")
            os.truncate(self.there / "tree" / "large", 2 << 20)
            (self.there / "tree" / "sub").rename(self.there / "moved")
            self.assertEqual((self.there / "moved" / "small").read_bytes(), b"small and more")
            self.assertEqual(sorted(os.listdir(self.there)), ["moved", "tree"])
            content = (source / "large").read_bytes()
            content = content[: 1 << 20] + b"in the middle" + content[(1 << 20) + 13 : 2 << 20]
            until(lambda: self.get_object("prefix/tree/large") == content, "the object is as the file is")
            shutil.rmtree(self.there / "tree")
            self.assertEqual(os.listdir(self.there), ["moved"])

    class WithRclone(ClientCase):
        """rclone as the client: a second sync moves nothing."""

        server = "moto"

        def sync(self, settings, *options):
            source = self.place / "source"
            if not source.exists():
                (source / "sub").mkdir(parents=True)
                for name in ("a", "sub/b"):
                    (source / name).write_bytes(name.encode())
                    os.utime(source / name, (1_000_000_000, 1_000_000_000))
            ssh = self.place / "ssh"
            serve = " ".join((*self.serve[:2], f"'{self.name('prefix', settings)}'", self.serve[3]))
            ssh.write_text(f"#!/bin/sh\nexec {serve}\n")
            ssh.chmod(0o700)
            done = subprocess.run(
                [rclone(), "--config", os.devnull, "sync", str(source), ":sftp:/there"]
                + ["--sftp-ssh", str(ssh)]
                + ["--sftp-disable-hashcheck", "--stats-one-line", "-v", *options],
                capture_output=True, text=True, env=self.environment, timeout=10 * PATIENCE,
            )  # fmt: skip
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stderr.count(": Copied (") + done.stderr.count(": Updated modification time")

        def test_times_in_metadata(self):
            self.assertEqual(self.sync("&times=metadata"), 2)
            self.assertEqual(self.sync("&times=metadata"), 0)

        def test_times_of_the_server(self):
            self.assertEqual(self.sync("", "--update"), 2)
            self.assertEqual(self.sync("", "--update"), 0)
