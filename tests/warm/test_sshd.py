"""Behind a real sshd: sessions are handed over, do what sessions do, and end with their connections."""

from __future__ import annotations

import os
import re
import signal

from tests.integration.harness import ServedCase
from tests.support.processes import Program, command, is_alive, require
from tests.support.waiting import until


def setUpModule() -> None:
    require("sftp", "ssh")


class BehindSshd(ServedCase):
    resident: Program

    @classmethod
    def jail_command(cls, *options: object) -> list[str]:
        return ["/usr/bin/env", f"PYSFTP_WARM={cls.place}/run/socket", *super().jail_command()]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        argv = [*command("pysftp-warm"), "--socket", f"{cls.place}/run/socket"]
        cls.resident = Program(argv, cls.place / "resident.log")
        cls.addClassCleanup(cls.resident.close)
        cls.resident.said("listening on")

    def session(self) -> int:
        """The process of the latest session."""
        found = until(
            lambda: re.findall(r"pysftpjail\[(\d+)\] session opened", self.server_text()), "a session"
        )
        return int(found[-1])

    def test_files_go_both_ways_and_the_session_is_logged_with_its_client(self) -> None:
        content = bytes(range(256)) * 5000
        (self.local / "f").write_bytes(content)
        finished = self.sftp("put f", "get f back", "mkdir d", "ls -l", "rm f")
        self.assertIn(" d", finished.text)
        self.assertEqual((self.local / "back").read_bytes(), content)
        key = re.escape(self.sshd.fingerprint())
        self.assertRegex(self.server_text(), rf"session opened for local user \S+ .* with key {key}\n")
        self.wait_until_no_server_is_left()

    def test_a_session_ends_with_its_connection_and_the_other_way_round(self) -> None:
        with self.sftp_session() as session:
            session.do("ls")
            client, server = self.only_server(), self.session()
            self.assertNotEqual(client, server, self.resident.output())
            self.assertTrue(is_alive(server))
            session.kill()
            until(lambda: not is_alive(server), "the session has ended")
            self.wait_until_no_server_is_left()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with self.subTest(number), self.sftp_session() as session:
                session.do("ls")
                server = self.session()
                os.kill(self.only_server(), number)
                until(lambda server=server: not is_alive(server), "the session has ended")
