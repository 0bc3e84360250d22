"""The processes of pysftpd: signals, workers, sockets that are handed over, and a good end."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

from tests.integration.clients import paramiko_client
from tests.integration.sshd import HOST
from tests.sshd.running import Place, Pysftpd, write_private
from tests.support.processes import is_alive
from tests.support.waiting import PATIENCE, until

MIB = 1 << 20


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection((HOST, port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


class TestStarting(Place):
    def test_the_pid_file_is_there_while_it_runs(self) -> None:
        for workers in (1, 2):
            with self.subTest(workers):
                self.setUp()
                server = self.server("--pid-file", "pid", workers=workers)
                self.assertEqual((self.place / "pid").read_text(), f"{server.pid}\n")
                server.stop()
                self.assertFalse((self.place / "pid").exists())

    def test_a_socket_that_is_handed_over_is_served(self) -> None:
        with socket.create_server((HOST, 0)) as listening:
            server = self.server(workers=2, start=False)
            # LISTEN_PID is known when the process is there: as systemd does it.
            code = "import os, sys; os.dup2(int(sys.argv[1]), 3)\n"
            code += "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
            code += "os.execv(sys.argv[2], sys.argv[2:])"
            server.argv = [sys.executable, "-c", code, str(listening.fileno()), *server.argv]
            self.addCleanup(server.stop)
            server.start(pass_fds=(listening.fileno(), 3) if listening.fileno() != 3 else (3,))
            self.assertEqual(server.port, listening.getsockname()[1])
            self.alice.meet(server)
            for _ in range(3):
                self.assertEqual(self.sftp(self.alice, "pwd").returncode, 0)

    def test_an_idle_connection_is_ended(self) -> None:
        server = self.server("--idle-timeout", "1")
        self.assertNotEqual(self.start_idle(self.alice).wait(PATIENCE), 0)
        server.logs("nothing moved for 1 seconds")


class TestReloading(Place):
    def reload(self, server: Pysftpd, word: str = "reloaded") -> None:
        before = server.log().count(word)
        server.signal(signal.SIGHUP)
        server.logs(word, before + server.workers)

    def test_sighup_reloads_options_and_a_broken_file_changes_nothing(self) -> None:
        for workers in (1, 2):
            with self.subTest(workers):
                self.setUp()
                config = self.place / "conf"
                write_private(config, "[options]\nread_only = no\n")
                server = self.server("--config", config, workers=workers)
                self.assertEqual(self.sftp(self.alice, "mkdir one").returncode, 0)
                write_private(config, "[options]\nread_only = yes\nmax_per_user = 1\n")
                self.reload(server)
                self.assertEqual(self.sftp(self.alice, "mkdir two").returncode, 1)
                write_private(config, "[options]\nread_only = perhaps\n")
                self.reload(server, "read_only: has to be")
                server.logs(": gone", 2)  # there may be one connection only
                self.assertEqual(self.sftp(self.alice, "mkdir two").returncode, 1)
                server.logs(": gone", 3)
                there = self.start_sftp(self.alice, "ls")
                server.logs("logged in", 4)
                self.assertEqual(self.sftp(self.alice, "ls").returncode, 255)
                server.logs("max_per_user")
                there.communicate()
                for methods, status in (("password", 255), ("publickey password", 0)):
                    write_private(config, f"[options]\nauth_methods = {methods}\n")
                    self.reload(server)
                    self.assertEqual(self.sftp(self.alice, "pwd").returncode, status)

    def test_a_worker_that_comes_later_has_the_options_of_the_last_reload(self) -> None:
        config = self.place / "conf"
        write_private(config, "[options]\nread_only = no\n")
        server = self.server("--config", config, workers=2)
        write_private(config, "[options]\nread_only = yes\n")
        self.reload(server)
        ready = server.log().count("ready")
        for pid in server.processes():
            os.kill(pid, signal.SIGKILL)
        server.logs("ready", ready + 2)
        for _ in range(4):
            self.assertEqual(self.sftp(self.alice, "mkdir d").returncode, 1)

    def test_sighup_goes_on_in_a_new_log_and_one_that_cannot_be_made_costs_nothing(self) -> None:
        path = self.place / "logs" / "log"
        path.parent.mkdir()
        server = self.server("--logfile", path, start=False)
        server.stderr = path
        self.addCleanup(server.stop)
        server.start()
        self.alice.meet(server)
        path.rename(path.with_name("old"))
        server.signal(signal.SIGHUP)
        server.logs("reloaded")
        path.parent.rename(self.place / "moved")
        server.signal(signal.SIGHUP)
        for _ in range(3):
            self.assertEqual(self.sftp(self.alice, "pwd").returncode, 0)


class TestEnding(Place):
    def test_a_running_transfer_ends_well_and_nobody_else_comes_in(self) -> None:
        for workers in (1, 2):
            with self.subTest(workers):
                self.setUp()
                server = self.server("--drain-seconds", "300", workers=workers)
                idle = self.start_idle(self.alice)
                with paramiko_client(self.alice) as client, client.open("f", "wb") as file:
                    file.write(bytes(MIB))
                    server.logs("logged in", 2)
                    server.signal(signal.SIGTERM)
                    self.assertNotEqual(idle.wait(PATIENCE), 0)
                    until(lambda s=server: refuses(s.port), "nobody listens")
                    file.write(bytes(MIB))
                    file.close()
                    self.assertEqual(server.wait(PATIENCE), 0)
                self.assertEqual((server.files / "a" / "f").stat().st_size, 2 * MIB)

    def test_a_transfer_that_takes_too_long_is_cut(self) -> None:
        for workers in (1, 2):
            with self.subTest(workers):
                self.setUp()
                server = self.server("--drain-seconds", "1", workers=workers)
                (self.place / "f").write_bytes(bytes(16 * MIB))
                upload = self.start_sftp(self.alice, "put f", flags=["-l", "2000"])  # a minute
                until(lambda s=server: any((s.files / "a").glob("*")), "the upload runs")
                began = time.monotonic()
                server.signal(signal.SIGTERM)
                self.assertEqual(server.wait(PATIENCE), 0)
                self.assertGreaterEqual(time.monotonic() - began, 0.9)
                self.assertNotEqual(upload.wait(PATIENCE), 0)

    def test_a_client_that_has_stopped_does_not_hold_up_the_end(self) -> None:
        server = self.server("--drain-seconds", "1")
        with (server.files / "a" / "f").open("wb") as file:
            file.truncate(256 * MIB)
        client = self.start_sftp(self.alice, "get f /dev/null")
        server.logs("logged in")
        os.killpg(client.pid, signal.SIGSTOP)
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(PATIENCE), 0)

    def test_many_signals_at_once_end_it_in_good_order(self) -> None:
        server = self.server(workers=2)
        for _ in range(20):
            server.signal(signal.SIGHUP)
        server.signal(signal.SIGINT)
        self.assertEqual(server.wait(PATIENCE), 0)
        self.assertNotIn("started another", server.log())


class TestWorkers(Place):
    def test_one_that_is_killed_is_replaced_and_its_places_are_free_again(self) -> None:
        server = self.server("--max-per-user", "1", workers=2)
        held = self.start_idle(self.alice)
        server.logs("logged in")
        before = server.processes()
        ready = server.log().count("ready")
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        self.assertNotEqual(held.wait(PATIENCE), 0)
        server.logs("ready", ready + 2)
        self.assertEqual(len(server.processes()), 2)
        self.assertFalse(set(before) & set(server.processes()))
        self.assertEqual(self.sftp(self.alice, "pwd").returncode, 0)

    def test_none_is_left_when_the_one_that_looks_after_them_is_killed(self) -> None:
        server = self.server(workers=2)
        workers = server.processes()
        self.assertEqual(len(workers), 2)
        server.signal(signal.SIGKILL)
        self.assertEqual(server.wait(), -signal.SIGKILL)
        server.process = None
        until(lambda: not any(map(is_alive, workers)), "the workers have ended")

    def test_a_change_of_users_reaches_them_all(self) -> None:
        server = self.server(workers=2)
        clients = [self.start_idle(self.alice) for _ in range(6)]
        server.logs("logged in", 6)
        server.write_users({"alice": {"folder": "a", "keys": [self.alice.public], "active": False}})
        for client in clients:
            self.assertNotEqual(client.wait(PATIENCE), 0)


class TestMemory(Place):
    def test_clients_that_take_nothing_and_clients_that_are_killed_cost_little(self) -> None:
        server = self.server()
        with (server.files / "a" / "f").open("wb") as file:
            file.truncate(1024 * MIB)
        self.assertEqual(self.sftp(self.alice, "pwd").returncode, 0)
        before = resident(server.pid)
        clients = []
        for number in range(8):
            client = self.start_sftp(self.alice, "get f /dev/null", flags=["-R", "256", "-B", "261120"])
            server.logs("logged in", number + 2)
            os.killpg(client.pid, signal.SIGSTOP)
            clients.append(client)
        # Another session is served meanwhile, and shows that the server goes round.
        for _ in range(3):
            self.assertEqual(self.sftp(self.alice, "ls").returncode, 0)
            self.assertLess(resident(server.pid) - before, 48 * MIB)
        for client in clients:
            os.killpg(client.pid, signal.SIGKILL)
        server.logs(": gone", 8 + 1 + 3)
        self.assertLess(resident(server.pid) - before, 48 * MIB)


def resident(pid: int) -> int:
    """Bytes of memory that a process has now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmRSS")


class TestAddresses(Place):
    def test_it_listens_on_every_address_that_is_asked_for(self) -> None:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("this machine has no ::1")
        server = self.server("--listen-address=::1,127.0.0.1")
        for address in ("::1", "127.0.0.1"):
            with self.subTest(address):
                self.assertIn(f"listening on {address} port {server.port}", server.log())
                done = self.sftp(
                    self.alice, "pwd", flags=["-o", f"HostName={address}", "-o", "StrictHostKeyChecking=no"]
                )
                self.assertEqual(done.returncode, 0, done.stderr)
                server.logs(f"{address} 'alice': logged in")
