"""A session that is handed over is as it would be without, and ends with its client and with its status."""

from __future__ import annotations

import ast
import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import unittest

from tests.support.forked import environment
from tests.support.packets import CREAT, HELLO, NO_ATTRS, PERMISSION_DENIED, WRITE, request, string, u32
from tests.support.paths import ROOT
from tests.support.processes import is_alive
from tests.support.waiting import PATIENCE, until
from tests.warm.residents import ResidentCase, status_of

SOON_LOST = """
from pysftpserver.cli import pysftp_warm
from pysftpserver.warm import server
server.LOST = 0.5
raise SystemExit(pysftp_warm.main())
"""
PIDFD_GETFD = 438  # the same number on every architecture


def copy_of(process: int, descriptor: int) -> socket.socket:
    """A copy of another process's socket, for root."""
    it = os.pidfd_open(process)
    copy = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, it, descriptor, 0)
    os.close(it)
    if copy < 0:
        raise unittest.SkipTest(f"no copy: {os.strerror(ctypes.get_errno())}")
    return socket.socket(fileno=copy)


class HandedOver(ResidentCase):
    def setUp(self) -> None:
        super().setUp()
        self.program = self.resident()

    def test_a_session_has_the_options_environment_umask_and_limits_of_its_client(self) -> None:
        most = 77

        def prepare() -> None:
            os.umask(0o027)
            os.nice(3)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most + 1))

        client = self.client(
            "--name",
            "alice",
            env={"SSH_CONNECTION": "192.0.2.7 4242 192.0.2.1 22", "USER": "alice"},
            preexec_fn=prepare,
        )
        self.assert_handed_over(client)
        client.wire.ask("open", string(b"f"), u32(WRITE | CREAT), NO_ATTRS)
        client.wire.ask("mkdir", string(b"d"), NO_ATTRS)
        self.assertEqual((self.jail / "d").stat().st_mode & 0o777, 0o750)
        server = client.server()
        limits = resource.prlimit(server, resource.RLIMIT_NOFILE)
        self.assertEqual(limits, (most, most + 1))
        self.assertEqual(os.getpriority(os.PRIO_PROCESS, server), os.getpriority(os.PRIO_PROCESS, 0) + 3)
        log = client.log()
        self.assertRegex(log, r"session opened for alice \(local user .+\) from \[192.0.2.7\]\n")
        self.assertRegex(log, r"sandbox: (?!none)")
        self.assertEqual(status_of(server)["NoNewPrivs"], ["1"])
        self.assertEqual(client.leave(), 0)
        self.assertRegex(client.log(), r'forced close "f".*\n(.*\n)*.*session closed for alice')
        until(lambda: not is_alive(server), "its process has ended")

    def test_refusals_help_and_directories_are_those_of_the_command(self) -> None:
        client = self.client("--read-only")
        self.assertEqual(client.wire.ask("mkdir", string(b"d"), NO_ATTRS).content, PERMISSION_DENIED)
        self.assertEqual(client.leave(), 0)
        variables = environment(PYSFTP_WARM=str(self.socket))
        for arguments, status, out, errors in (
            (["--umask", "999", "."], 2, b"", b"pysftpjail: argument -u/--umask: invalid umask"),
            (["-Q"], 0, b"open\n", b""),
            (["-l", "log", "jail"], 0, b"", b""),  # where the client is
        ):
            with self.subTest(arguments):
                done = subprocess.run(
                    [sys.executable, ROOT / "bin" / "pysftpjail", *arguments],
                    env=variables,
                    cwd=self.place,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=PATIENCE,
                )
                self.assertEqual(done.returncode, status, done)
                self.assertIn(out, done.stdout)
                self.assertEqual(done.stderr[: len(errors)] or b"", errors)
        self.assertIn("session closed", (self.place / "log").read_text())

    def test_commands_for_checksums_are_answered(self) -> None:
        (self.jail / "f").write_bytes(b"")
        done = subprocess.run(
            [sys.executable, ROOT / "bin" / "pysftpjail", "-l", self.place / "log", "--checksums", self.jail],
            env=environment(PYSFTP_WARM=str(self.socket), SSH_ORIGINAL_COMMAND="md5sum f"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
        )
        expected = b"d41d8cd98f00b204e9800998ecf8427e  f\n"
        self.assertEqual((done.stdout, done.stderr, done.returncode), (expected, b"", 0))

    def test_signals_to_the_client_end_the_session_cleanly(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            client = self.client()
            self.assert_handed_over(client)
            client.process.send_signal(number)
            self.assertEqual(client.status(), 0)
            self.assertIn("session closed", client.log())

    def test_a_killed_client_ends_its_session(self) -> None:
        client = self.client()
        self.assert_handed_over(client)
        server = client.server()
        client.process.kill()
        until(lambda: "session closed" in client.log(), "the session ends")
        until(lambda: not is_alive(server), "its process ends")

    def test_a_session_that_does_not_end_with_its_client_is_killed(self) -> None:
        """One that hangs, or was taken over and does not heed the signal."""
        self.program.kill()
        self.program.wait(PATIENCE)
        program = self.resident(argv=(sys.executable, "-c", SOON_LOST))
        client = self.client()
        self.assert_handed_over(client)
        server = client.server()
        os.kill(server, signal.SIGSTOP)
        client.process.kill()
        until(lambda: not is_alive(server), "it is killed")
        program.said("a session did not end with its client: killed")
        self.assert_handed_over(self.client())

    def test_a_killed_session_is_told_to_its_client(self) -> None:
        client = self.client()
        os.kill(client.server(), signal.SIGKILL)
        self.assertEqual(client.status(), 128 + signal.SIGKILL)

    def test_a_session_that_has_filled_its_connection_holds_up_nobody(self) -> None:
        """One that was taken over could, when it is killed."""
        client = self.client()
        self.assert_handed_over(client)
        server = client.server()
        client.process.send_signal(signal.SIGSTOP)  # it takes nothing
        for name in os.listdir(f"/proc/{server}/fd"):
            if not os.readlink(f"/proc/{server}/fd/{name}").startswith("socket:"):
                continue
            with copy_of(server, int(name)) as copy:
                copy.setblocking(True)
                if copy.type == socket.SOCK_SEQPACKET:
                    with self.assertRaises(BlockingIOError):
                        while True:
                            copy.send(b"0", socket.MSG_DONTWAIT)
        os.kill(server, signal.SIGKILL)
        until(lambda: not is_alive(server), "it has ended")
        self.assert_handed_over(self.client())

    def test_sessions_go_on_when_the_resident_is_killed_and_new_ones_serve_themselves(self) -> None:
        first = self.client()
        self.assert_handed_over(first)
        self.program.kill()
        self.program.wait(PATIENCE)
        second = self.client()
        self.assert_by_itself(second)
        self.assertEqual(first.wire.ask("stat", string(b"/")).kind, "attrs")
        self.assertEqual((first.leave(), second.leave()), (0, 0))

    def test_a_resident_that_is_told_to_end_removes_its_socket_and_leaves_sessions_alone(self) -> None:
        client = self.client()
        self.assertEqual(self.program.stop(), 0)
        self.assertFalse(self.socket.exists())
        self.assertEqual(client.wire.ask("stat", string(b"/")).kind, "attrs")
        self.assertEqual(client.leave(), 0)

    def test_the_drop_in_is_handed_over_too(self) -> None:
        variables = environment(PYSFTP_WARM=str(self.socket))
        argv = [sys.executable, ROOT / "bin" / "pysftpserver", "-e", "-l", "INFO", "-d", self.jail]
        done = subprocess.run(
            argv,
            env=variables,
            input=HELLO + request("realpath", 1, string(b".")),
            capture_output=True,
            timeout=PATIENCE,
        )
        self.assertEqual(done.returncode, 0)
        self.assertIn(os.fsencode(self.jail), done.stdout)
        self.assertIn(b"session opened", done.stderr)


class Imports(unittest.TestCase):
    def test_a_client_imports_almost_nothing(self) -> None:
        code = (
            f"import sys; sys.path.insert(0, {os.fspath(ROOT)!r}); before = set(sys.modules);"
            "from pysftpserver.warm import client; import _socket; print(*set(sys.modules) - before)"
        )
        done = subprocess.run(
            [sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
        )
        ours = {"pysftpserver", "pysftpserver.warm", "pysftpserver.warm.client"}
        self.assertEqual(set(done.stdout.split()), {*ours, "_socket"})
        tree = ast.parse((ROOT / "pysftpserver" / "warm" / "client.py").read_text())
        imported = {node.names[0].name for node in ast.walk(tree) if isinstance(node, ast.Import)}
        self.assertEqual(imported, {"_signal", "_socket", "posix", "sys"})
