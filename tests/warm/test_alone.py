"""Whatever is wrong with the resident or its socket, a session is served: by the command itself."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys

from tests.support.forked import environment, run
from tests.support.paths import ROOT
from tests.support.processes import command
from tests.support.waiting import PATIENCE, until
from tests.warm.residents import NOBODY, ResidentCase


class Alone(ResidentCase):
    def assert_serves(self) -> None:
        client = self.client()
        self.assert_by_itself(client)
        self.assertEqual(client.leave(), 0)

    def listen(self, kind: int = socket.SOCK_SEQPACKET) -> socket.socket:
        self.directory.mkdir(exist_ok=True, mode=0o755)
        self.socket.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, kind)
        self.addCleanup(listener.close)
        listener.bind(os.fspath(self.socket))
        listener.listen()
        return listener

    def assert_not_asked(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        with self.assertRaises(BlockingIOError):
            listener.accept()

    def test_a_resident_without_a_place_for_its_socket_says_what_to_do(self) -> None:
        done = subprocess.run(
            [*command("pysftp-warm"), "--socket", self.place / "none" / "here" / "socket"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertIn("none/here/socket: no such file or directory; create ", done.stderr)
        self.assertIn("or name another with --socket", done.stderr)
        self.assertEqual(done.returncode, 1)

    def test_with_no_socket_or_what_is_none(self) -> None:
        self.assert_serves()
        self.directory.mkdir()
        self.socket.write_text("")
        self.assert_serves()

    def test_where_others_may_write_or_own_the_directory_or_the_socket(self) -> None:
        listener = self.listen()
        self.directory.chmod(0o777)
        self.assert_serves()
        self.directory.chmod(0o755)
        for path in (self.directory, self.socket) if os.geteuid() == 0 else ():
            os.chown(path, NOBODY, NOBODY)
            self.assert_serves()
            os.chown(path, 0, 0)
        link = self.place / "link"
        link.symlink_to(self.directory)
        self.socket = link / "socket"
        self.assert_serves()
        self.assert_not_asked(listener)

    def test_where_the_resident_is_gone_or_something_else_or_silent_or_talks_rubbish(
        self,
    ) -> None:
        self.listen().close()
        self.assert_serves()
        self.listen(socket.SOCK_STREAM)
        self.assert_serves()
        silent = self.listen()
        self.patience = 0.5
        self.assert_serves()
        self.patience = PATIENCE
        talker = silent.accept()[0]
        talker.close()
        client = self.client(greet=False)
        connection, _ = silent.accept()
        with connection:
            connection.send(b"rubbish")
            client.wire.hello()
            self.assert_by_itself(client)

    def test_a_session_that_is_too_many_is_served_by_its_own_process(self) -> None:
        self.resident("--max-per-user", "1")
        first = self.client()
        self.assert_handed_over(first)
        self.assert_serves()
        server = first.server()
        self.assertEqual(first.leave(), 0)
        until(lambda: not os.path.exists(f"/proc/{server}"), "the first session's process is gone")
        self.assert_handed_over(self.client())

    def test_a_process_that_has_given_up_privileges_does_not_get_them_back(self) -> None:
        program = self.resident()
        client = self.client(
            argv=["setpriv", "--no-new-privs", sys.executable, str(ROOT / "bin" / "pysftpjail")]
        )
        self.assert_by_itself(client)
        program.said("it is in a sandbox")

    def test_a_process_without_the_host_s_network_does_not_get_it_back(self) -> None:
        if subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("a network namespace cannot be made here")
        program = self.resident()
        script = str(ROOT / "bin" / "pysftpjail")
        self.assert_by_itself(self.client(argv=["unshare", "--net", sys.executable, script]))
        program.said("it has another root or other namespaces")

    def test_another_version_of_the_code_is_not_used_and_a_replaced_one_ends(
        self,
    ) -> None:
        copy = self.place / "copy"
        for name in ("pysftpserver", "bin"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        argv = ["/usr/bin/env", f"PYTHONPATH={copy}", sys.executable, str(copy / "bin" / "pysftp-warm")]
        program = self.resident(argv=argv)
        self.assert_serves()
        (copy / "pysftpserver" / "engine" / "wire.py").touch()
        done = subprocess.run(
            [sys.executable, copy / "bin" / "pysftpjail", "--log-level", "QUIET", self.jail],
            env={**environment(PYSFTP_WARM=str(self.socket)), "PYTHONPATH": str(copy)},
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
        self.assertEqual(done.returncode, 0)
        self.assertEqual(program.wait(PATIENCE), 0)
        self.assertIn("pysftpserver has been replaced", program.output())

    def test_a_second_resident_and_a_directory_that_others_may_write_are_refused_in_a_line(self) -> None:
        self.resident()
        for mode, words in (
            (0o755, "another server is listening there"),
            (0o777, "no other may write"),
        ):
            with self.subTest(words):
                self.directory.chmod(mode)
                done = run([*command("pysftp-warm"), "--socket", self.socket], text=True)
                self.assertIn(done.returncode, (1, 2))
                self.assertRegex(done.stderr, rf"\Apysftp-warm: socket .*{words}.*\n\Z")
