"""pysftpd is upgraded under sessions: those go on to their end, and new ones meet the new version."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import unittest
from typing import Any

import paramiko

from tests.keeping.replacing import Installed
from tests.keeping.systemd import HOST, Systemd
from tests.sshd.material import put_host_keys
from tests.sshd.running import make_key, write_private
from tests.support.cases import InAPlace
from tests.support.hard import IS_HARD
from tests.support.paths import IN_MEMORY
from tests.support.processes import descendants
from tests.support.waiting import PATIENCE, until

CHANGES = {"sshd_server": 'server_version="pysftpd"=>server_version="pysftpd_next"'}
CONTENT = random.Random(24).randbytes(3 << 20)


class AnUpgrade(InAPlace):
    made_in = IN_MEMORY

    def setUp(self) -> None:
        super().setUp()
        self.installed = Installed(self.place)
        # As a script of pip's, whose first line names the interpreter.
        self.script = self.installed.top / "bin/pysftpd"
        lines = self.script.read_text().splitlines()[1:]
        lines.insert(0, f"import sys; sys.path.insert(0, {str(self.installed.top)!r})")
        self.script.write_text("\n".join([f"#!{sys.executable} -P", *lines]) + "\n")
        put_host_keys(self.place / "keys")
        public = make_key(self.place / "alice")
        (self.place / "files/alice").mkdir(parents=True)
        write_private(self.place / "users.toml", f'[users.alice]\nkeys = ["{public}"]\n')
        self.log = self.place / "stderr"
        self.argv = [str(self.script), "--users", str(self.place / "users.toml"), "--allow-root"]
        self.argv += ["--sftp-path", str(self.place / "files"), "--host-key-dir", str(self.place / "keys")]
        self.argv += ["--drain-seconds", "5", "--pid-file", str(self.place / "pid")]

    def said(self, words: str, count: int = 1) -> None:
        until(lambda: self.log.read_text().count(words) >= count, lambda: self.log.read_text())

    def login(self, port: int) -> paramiko.SFTPClient:
        client = paramiko.SSHClient()
        self.addCleanup(client.close)
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        how: dict[str, Any] = dict.fromkeys(("timeout", "banner_timeout", "auth_timeout"), PATIENCE)
        how |= {"look_for_keys": False, "allow_agent": False}
        client.connect(HOST, port, "alice", key_filename=str(self.place / "alice"), **how)
        return client.open_sftp()

    def version(self, sftp: paramiko.SFTPClient) -> str:
        channel = sftp.get_channel()
        assert channel is not None
        return channel.get_transport().remote_version

    def upgrade(self, systemd: Systemd) -> None:
        before = systemd.main
        self.installed.install_next(**CHANGES)
        systemd.signal(signal.SIGUSR2)
        systemd.hear("MAINPID=")
        self.assertNotEqual(systemd.main, before)

    def test_no_session_is_lost_and_no_connection_refused(self) -> None:
        systemd = Systemd(self, [*self.argv, "--web-socket", "nothing"], self.log)
        systemd.hear("READY=1")
        old = systemd.main
        sftp = self.login(systemd.port)
        uploaded = sftp.open("upload", "wb")
        uploaded.write(CONTENT[: 1 << 20])
        refused: list[Exception] = []
        logins: list[str] = []
        is_over = threading.Event()

        def keep_coming() -> None:
            while not is_over.is_set():
                try:
                    one = self.login(systemd.port)
                    logins.append(self.version(one))
                    one.get_channel().get_transport().close()
                except Exception as error:
                    refused.append(error)

        coming = threading.Thread(target=keep_coming)
        coming.start()
        self.addCleanup(coming.join)
        self.addCleanup(is_over.set)
        of_old = {old, *(pid for pid, _, _ in descendants(old))}
        self.upgrade(systemd)
        until(lambda: len(logins) > 2 and logins[-1].endswith("pysftpd_next"), lambda: f"{logins} {refused}")
        is_over.set()
        coming.join(PATIENCE)
        self.assertEqual(refused, [])
        self.assertEqual((self.place / "pid").read_text(), f"{systemd.main}\n")

        of_old |= {pid for pid, _, _ in descendants(old)}
        uploaded.write(CONTENT[1 << 20 :])
        uploaded.close()
        self.assertEqual((self.place / "files/alice/upload").read_bytes(), CONTENT)
        # And a second session on that connection: what it needs is of the version that it began with.
        another = sftp.get_channel().get_transport().open_sftp_client()
        self.assertEqual(another.listdir("."), ["upload"])
        with another.open("upload", "rb") as fetched:
            self.assertEqual(fetched.read(), CONTENT)
        another.rename("upload", "renamed")
        links = sftp.get_channel().get_transport().open_session()
        links.exec_command("web")  # what answers is imported for the first one
        self.assertNotEqual(links.recv_exit_status(), -1)
        of_old |= {pid for pid, _, _ in descendants(old)}
        loaded_next = set(map(int, self.installed.imported()))
        self.assertEqual(loaded_next & of_old, set())
        self.assertIn(systemd.main, loaded_next)

        ended = os.pidfd_open(old)
        self.addCleanup(os.close, ended)
        sftp.get_channel().get_transport().close()
        systemd.first.wait(PATIENCE)  # the old version ends with its last session
        self.assertTrue((self.place / "pid").exists())
        systemd.hear("WATCHDOG=1")  # of the new one
        self.assertEqual([line for line in systemd.heard if line.startswith("STOPPING")], [])

    @unittest.skipUnless(IS_HARD, "the first test does in its place")
    def test_a_stop_ends_sessions_of_the_old_version_as_well(self) -> None:
        systemd = Systemd(self, self.argv, self.log)
        systemd.hear("READY=1")
        sftp = self.login(systemd.port)
        self.upgrade(systemd)
        began = time.monotonic()
        systemd.stop()
        self.assertLess(time.monotonic() - began, PATIENCE)
        self.assertEqual(systemd.first.wait(PATIENCE), 0)
        until(lambda: not sftp.get_channel().get_transport().is_active())

    @unittest.skipUnless(IS_HARD, "the first test does in its place")
    def test_a_new_version_that_does_not_start_leaves_the_old_one_in_charge(self) -> None:
        systemd = Systemd(self, self.argv, self.log)
        systemd.hear("READY=1")
        sftp = self.login(systemd.port)
        for fault in ("import nothing_of_that_name", 'raise RuntimeError("broken")'):
            late = 'log.info("ready")=>' + f'log.info("late"); {fault}'
            self.installed.install_next(sshd_processes=late)
            before = self.log.read_text().count("not handed over: the new version has ended")
            systemd.signal(signal.SIGUSR2)
            self.said("not handed over: the new version has ended", before + 1)
            self.assertEqual((self.place / "pid").read_text(), f"{systemd.main}\n")
        self.assertEqual(sftp.listdir("."), [])
        self.assertEqual(self.version(self.login(systemd.port)), "SSH-2.0-pysftpd")
        self.upgrade(systemd)  # and another time it does

    @unittest.skipUnless(IS_HARD, "the first test does in its place")
    def test_several_processes_without_a_socket_unit_hand_over_all_that_they_listen_on(self) -> None:
        options = ["--workers", "2", "--sftp-port", "0", "--metrics", "0", "--admin-socket", "admin"]
        systemd = Systemd(self, [*self.argv, *options], self.log, has_socket=False)
        systemd.hear("READY=1")
        found = systemd.first.said(r"listening on \S+ port (\d+)")
        port = int(found[1])
        sftp = self.login(port)
        before = (self.place / "admin.0").stat().st_ino
        self.upgrade(systemd)
        self.said("handed over; connections that go on here", 2)
        self.assertEqual(self.version(self.login(port)), "SSH-2.0-pysftpd_next")
        self.assertEqual(sftp.listdir("."), [])
        sftp.get_channel().get_transport().close()
        self.assertEqual(systemd.first.wait(PATIENCE), 0)
        self.assertEqual((self.place / "admin.0").stat().st_ino, before)
        systemd.hear("WATCHDOG=1")
