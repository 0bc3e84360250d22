"""What long-running doors share: listening, signals, draining, the log, the audit log, the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import multiprocessing
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

from pysftpserver.engine.log import SFTPLog
from pysftpserver.failures import BadInput, Unavailable
from pysftpserver.people.users import User
from pysftpserver.pysftpexceptions import SFTPNotFound
from pysftpserver.service import logs, serving, terminal
from pysftpserver.service.audit import AuditFile, DoorAudit, result_of
from pysftpserver.service.logs import LogFile, ServiceLog
from pysftpserver.service.settings import LogSettings
from pysftpserver.sshd.hooks import hook_of
from pysftpserver.sshd.metrics import Metrics
from pysftpserver.sshd.tickets import Ticket
from tests.support.waiting import PATIENCE, until


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.lines: list[str] = []
        self.log = SFTPLog(lambda level, text: self.lines.append(text))


class Listening(Case):
    def listening(self, *arguments) -> list[list[socket.socket]]:
        groups = serving.listening_sockets(*arguments)
        for one in {one for group in groups for one in group}:
            self.addCleanup(one.close)
        return groups

    def test_port_0_is_one_free_port_for_all_addresses_and_groups(self):
        groups = self.listening(("127.0.0.1", "127.0.0.2"), 0, 2)
        names = [one.getsockname() for group in groups for one in group]
        self.assertEqual(len({port for _, port in names}), 1)
        self.assertEqual([name for name, _ in names], ["127.0.0.1", "127.0.0.2"] * 2)

    def taken_at(self, address: str, port: int) -> socket.socket:
        taken = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.addCleanup(taken.close)
        if ":" in address:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind((address, port))
        taken.listen()
        return taken

    def test_a_port_that_another_program_has_at_the_second_address_is_not_the_free_one(self):
        listen, taken = serving.listen, []

        def and_another_program(address, port, is_shared=False):
            one = listen(address, port, is_shared)
            if port == 0 and len(taken) < 2 and is_shared == (groups > 1):
                taken.append(one.getsockname()[1])
                self.taken_at("127.0.0.2", taken[-1])
            return one

        for groups in (1, 2):
            taken.clear()
            with self.subTest(groups=groups), mock.patch.object(serving, "listen", and_another_program):
                found = self.listening(("127.0.0.1", "127.0.0.2"), 0, groups)
                names = [one.getsockname() for group in found for one in group]
                self.assertEqual([name for name, _ in names], ["127.0.0.1", "127.0.0.2"] * groups)
                self.assertEqual(len(taken), 2)
                self.assertEqual(len({port for _, port in names} - set(taken)), 1)

    @unittest.skipUnless(socket.has_ipv6, "IPv6 is what is taken")
    def test_a_port_that_is_taken_for_ipv6_is_not_a_host_without_it(self):
        for _ in range(serving.FREE_PORT_TRIES):  # other programs may have the port for IPv4
            port = self.taken_at("::1", 0).getsockname()[1]
            with self.assertRaisesRegex(Unavailable, "address already in use") as caught:
                self.listening(None, port)
            if f" {port}:" in str(caught.exception) and " :: " in str(caught.exception):
                return
        self.fail("the port is always taken for IPv4, too")

    def test_an_address_that_is_taken_is_named_with_the_reason(self):
        ((first,),) = self.listening(("127.0.0.1",), 0)
        port = first.getsockname()[1]
        for groups in (1, 2):
            with self.assertRaisesRegex(Unavailable, f"127.0.0.1 port {port}: address already in use"):
                self.listening(("127.0.0.1",), port, groups)

    def test_a_name_of_no_host_is_named(self):
        with self.assertRaisesRegex(Unavailable, "cannot listen on no host! port 0: "):
            self.listening(("no host!",), 0)

    def test_only_tcp_sockets_that_listen_are_taken_over_from_systemd(self):
        for family, kind in (
            (socket.AF_UNIX, socket.SOCK_STREAM),
            (socket.AF_INET, socket.SOCK_DGRAM),
            (socket.AF_INET, socket.SOCK_STREAM),
        ):
            with self.subTest(f"{family!r} {kind!r}"), socket.socket(family, kind) as one:
                if family == socket.AF_UNIX:
                    one.bind(os.fspath(self.directory / "socket"))
                    one.listen()
                passed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
                with (
                    mock.patch.dict(os.environ, passed),
                    mock.patch.object(serving, "FIRST_PASSED", os.dup(one.fileno())),
                    self.assertRaisesRegex(Unavailable, "LISTEN_FDS: .* not a TCP socket that listens"),
                ):
                    serving.passed_sockets()

    def test_the_log_names_what_is_listened_on(self):
        ((one,),) = self.listening(("127.0.0.1",), 0)
        serving.log_addresses([one], self.log, " with TLS")
        self.assertEqual(self.lines, [f"listening on 127.0.0.1 port {one.getsockname()[1]} with TLS"])


class Signals(Case):
    def test_hangups_reload_and_a_signal_to_end_ends_an_asyncio_server(self):
        """From when it says that it is ready: the handlers of Python itself would end the tests."""
        me = os.getpid()

        async def serve() -> None:
            await serving.until_told(
                lambda: lambda: os.kill(me, signal.SIGTERM),
                self.log,
                ready=lambda: os.kill(me, signal.SIGHUP),
            )

        before = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        asyncio.run(asyncio.wait_for(serve(), PATIENCE))
        self.assertEqual(self.lines, ["reloaded"])

    def test_hangups_reload_and_a_signal_to_end_ends_a_server_of_threads(self):
        def reload() -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            raise BadInput("users.toml: unknown key")

        before = signal.getsignal(signal.SIGTERM)
        serving.block_until_told(reload, self.log, lambda: os.kill(os.getpid(), signal.SIGHUP))
        until(lambda: self.lines, "the reload is over")
        self.assertEqual(self.lines, ["not reloaded: users.toml: unknown key"])
        self.assertIs(signal.getsignal(signal.SIGTERM), before)

    def test_a_signal_that_another_thread_takes_ends_a_server_of_threads(self):
        thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM))
        self.addCleanup(thread.join)
        before = threading.Timer(0.2, thread.start)  # once the main thread sleeps, most likely
        self.addCleanup(before.join)
        serving.block_until_told(lambda: None, self.log, before.start)

    def test_a_fault_in_a_reload_is_logged_and_ends_no_server(self):
        serving.reload_quietly(lambda: [].remove(1), self.log)
        self.assertEqual(self.lines[:2], ["not reloaded:", "ValueError: list.remove(x): x not in list"])

    def test_a_program_started_by_nohup_goes_on_after_a_hangup(self):
        code = (
            "import asyncio, os, signal\n"
            "from pysftpserver.engine.log import SFTPLog\n"
            "from pysftpserver.service.serving import until_told\n"
            "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
            "async def main():\n"
            "    done = asyncio.ensure_future(until_told(lambda: print('reloaded'), SFTPLog()))\n"
            "    await asyncio.sleep(0)\n"
            "    os.kill(os.getpid(), signal.SIGHUP)\n"
            "    os.kill(os.getpid(), signal.SIGTERM)\n"
            "    await done\n"
            "    print('ended')\n"
            "asyncio.run(main())\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual((done.stdout, done.returncode), ("ended\n", 0), done.stderr)


class Draining(unittest.TestCase):
    def test_the_end_of_the_last_member_is_waited_for_and_not_longer_than_asked(self):
        async def drain() -> tuple[bool, bool, bool]:
            members = serving.Members()
            at_once = await members.emptied(30)
            members.add("a")
            members.add("b")
            too_short = await members.emptied(0.01)
            asyncio.get_running_loop().call_soon(members.discard, "a")
            asyncio.get_running_loop().call_soon(members.discard, "b")
            return at_once, too_short, await members.emptied(30)

        self.assertEqual(asyncio.run(drain()), (True, False, True))


class Logs(Case):
    def settings(self, **values) -> LogSettings:
        return LogSettings(logfile=os.fspath(self.directory / "log"), **values)

    def read(self, name: str = "log") -> str:
        return (self.directory / name).read_text()

    def test_plain_lines_have_the_time_in_utc_the_program_and_the_level(self):
        log = ServiceLog("pysftpx", self.settings())
        log.info("ready")
        log.error("odd")
        stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
        who = rf"pysftpx\[{os.getpid()}\]"
        self.assertRegex(self.read(), rf"\A{stamp} {who} ready\n{stamp} {who} error: odd\n\Z")

    def test_json_lines_have_the_same_as_an_object(self):
        ServiceLog("pysftpx", self.settings(log_format="json")).error("odd")
        found = json.loads(self.read())
        self.assertEqual(
            (found["program"], found["process"], found["level"], found["message"]),
            ("pysftpx", os.getpid(), "error", "odd"),
        )

    def test_lines_that_a_full_disk_does_not_take_are_counted_and_told_of_later(self):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        self.enterContext(mock.patch.object(logs, "LAST_LINES", PATIENCE))
        for in_thread in (False, True):
            with self.subTest(in_thread=in_thread):
                log = ServiceLog("pysftpx", self.settings())
                with log.in_thread() if in_thread else contextlib.nullcontext():
                    log.info("before")
                    log.flush()
                    size = (self.directory / "log").stat().st_size
                    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))  # within the next line
                    for _ in range(5):
                        log.info("lost")
                    log.flush()
                    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
                    log.info("after")
                    log.info("more")
                    log.flush()
                lines = self.read()[size:].splitlines()
                self.assertEqual(len(lines[0]), 10)
                self.assertEqual(
                    [line.partition("] ")[2] for line in lines[1:]],
                    [
                        "after",
                        "error: 5 log lines were left out, because the log could not be written",
                        "more",
                    ],
                )

    def test_a_log_is_rotated_at_its_size_and_so_many_are_kept(self):
        log = ServiceLog("pysftpx", self.settings(log_size=1, log_keep=2))
        for _ in range(4):
            os.truncate(self.directory / "log", 1 << 20)
            log.info("the first line of a file")
        names = sorted(path.name for path in self.directory.iterdir())
        self.assertEqual(names, ["log", "log.1", "log.2"])
        self.assertTrue(self.read().endswith("the first line of a file\n"))

    def test_a_log_is_rotated_unless_that_is_asked_for(self):
        log, path = ServiceLog("pysftpx", self.settings()), self.directory / "log"
        os.truncate(path, 100 << 20)
        log.info("more")
        self.assertEqual((self.directory / "log.1").stat().st_size, 100 << 20)
        log = ServiceLog("pysftpx", self.settings(log_size=None))
        os.truncate(path, 200 << 20)
        log.info("more")
        self.assertGreater(path.stat().st_size, 200 << 20)

    def test_a_log_that_is_a_link_is_not_renamed(self):
        (self.directory / "there").touch()
        (self.directory / "log").symlink_to("there")
        log = LogFile(os.fspath(self.directory / "log"), 20, 1)
        for _ in range(3):
            log.append(b"0123456789\n")
        self.assertEqual((self.directory / "there").stat().st_size, 33)
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()), ["log", "there"])

    def test_threads_and_processes_that_share_a_log_lose_no_line_when_it_is_rotated(self):
        path = os.fspath(self.directory / "log")
        shared = LogFile(path, 1000, 110)

        def write(log: LogFile | None = None) -> None:
            log = log or LogFile(path, 1000, 110)
            for _ in range(200):
                log.append(b"0123456789" * 8 + b"\n")

        forks = multiprocessing.get_context("fork")
        writers = [forks.Process(target=write, daemon=True) for _ in range(3)]
        for writer in writers:
            writer.start()
        writers += [threading.Thread(target=write, args=(shared,), daemon=True) for _ in range(3)]
        for writer in writers[3:]:
            writer.start()
        for writer in writers:
            writer.join(PATIENCE)
            self.assertFalse(writer.is_alive(), "it waits for ever")
        found = b"".join(one.read_bytes() for one in self.directory.iterdir())
        self.assertEqual(found, (b"0123456789" * 8 + b"\n") * 1200)

    def test_a_rotation_leaves_no_lock_to_a_process_that_was_forked_before(self):
        path = os.fspath(self.directory / "log")
        log = LogFile(path, 20, 1)
        forks = multiprocessing.get_context("fork")
        over = forks.Event()
        child = forks.Process(target=over.wait, daemon=True)
        with open(path, "rb") as before:
            child.start()
            try:
                for _ in range(2):
                    log.append(b"0123456789\n")
                self.assertTrue(os.path.exists(f"{path}.1"))
                fcntl.flock(before, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                over.set()
                child.join()

    def test_a_log_that_cannot_be_rotated_goes_on_and_keeps_no_other_process_waiting(self):
        path = os.fspath(self.directory / "log")
        os.mkdir(f"{path}.1")
        log = LogFile(path, 20, 1)
        for _ in range(3):
            log.append(b"0123456789\n")
        self.assertEqual(self.read(), "0123456789\n" * 3)
        with open(path, "rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_a_reload_goes_on_in_the_file_that_has_the_name_now(self):
        log = ServiceLog("pysftpx", self.settings())
        log.info("before")
        os.rename(self.directory / "log", self.directory / "old")
        log.reload(self.settings(log_level="VERBOSE"))
        log.write(4, "after")
        self.assertIn("before", self.read("old"))
        self.assertIn("after", self.read())

    def test_a_log_that_cannot_be_opened_is_named_with_the_reason(self):
        with self.assertRaisesRegex(BadInput, "logfile .*/none/log: no such file or directory"):
            ServiceLog("pysftpx", LogSettings(logfile=os.fspath(self.directory / "none" / "log")))


class Audits(Case):
    def test_a_request_of_any_door_is_recorded_in_the_same_words(self):
        path = self.directory / "audit"
        session = DoorAudit(AuditFile(os.fspath(path)), "alice", "192.0.2.1", 22, self.log)
        session.note("put", result_of(SFTPNotFound()), path=b"/\xff", size=3, command=b"ls")
        session.ended()
        put, end = map(json.loads, path.read_text().splitlines())
        self.assertEqual(
            list(put),
            "time session peer port user request path result bytes duration path_hex command".split(),
        )
        self.assertEqual((put["result"], put["user"], put["command"]), ("NO_SUCH_FILE", "alice", "ls"))
        self.assertEqual((end["request"], end["bytes"], end["session"]), ("end", 3, put["session"]))

    def test_after_a_rotation_running_sessions_go_on_in_the_new_file_and_else_in_the_old_one(self):
        path = self.directory / "audit"
        file = AuditFile(os.fspath(path))
        session = DoorAudit(file, "alice", None, None, self.log)
        path.rename(self.directory / "old")
        path.mkdir()
        with self.assertRaisesRegex(BadInput, "audit log .*/audit: is a directory"):
            file.reopen()
        session.note("get")
        path.rmdir()
        file.reopen()
        session.note("put")
        for name, request in (("old", "get"), ("audit", "put")):
            (record,) = map(json.loads, (self.directory / name).read_text().splitlines())
            self.assertEqual(record["request"], request)

    def fifo(self) -> tuple[int, int]:
        """Descriptors of a FIFO for the audit log: one that reads, and one that writes."""
        os.mkfifo(self.directory / "audit")
        ends = [os.open(self.directory / "audit", how | os.O_NONBLOCK) for how in (os.O_RDONLY, os.O_WRONLY)]
        for end in ends:
            self.addCleanup(os.close, end)
        return ends[0], ends[1]

    def test_records_of_several_threads_are_whole_however_long_they_are(self):
        reading, _ = self.fifo()
        self.enterContext(mock.patch("pysftpserver.service.audit.WAIT", int(1000 * PATIENCE)))
        sink = AuditFile(os.fspath(self.directory / "audit"))
        lines = [letter * 100_000 + b"\n" for letter in (b"a", b"b", b"c", b"d")]
        threads = [threading.Thread(target=sink, args=(line,), daemon=True) for line in lines]
        for thread in threads:
            thread.start()
        found = b""
        while len(found) < sum(map(len, lines)):
            self.assertTrue(select.select([reading], [], [], PATIENCE)[0])
            found += os.read(reading, 1 << 16)
        self.assertEqual(sorted(found.splitlines(True)), lines)

    def test_a_reader_that_does_not_read_does_not_stop_the_event_loop_of_a_door(self):
        _, writing = self.fifo()
        path = os.fspath(self.directory / "audit")
        with self.assertRaises(BlockingIOError):
            while True:
                os.write(writing, bytes(select.PIPE_BUF))
        ticket = Ticket(User("1", "alice", "a", True, frozenset()), "192.0.2.1", 22, 1, 0, audit=path)
        for audit in (
            DoorAudit(AuditFile(path), "alice", None, None, self.log),
            hook_of(ticket, self.log, Metrics()),
        ):
            began = time.monotonic()
            audit.ended()
            self.assertLess(time.monotonic() - began, PATIENCE / 2)
            self.assertIn("audit: connection timed out", self.lines.pop(0))
            self.lines.clear()

    def test_an_audit_log_that_cannot_be_opened_is_named_with_the_reason(self):
        with self.assertRaisesRegex(BadInput, "audit log /: is a directory"):
            AuditFile("/")


class Terminals(Case):
    def test_the_state_directory_follows_the_specification(self):
        self.assertEqual(terminal.state_directory("x", {"XDG_STATE_HOME": "/s"}), "/s/x")
        for environ in ({}, {"XDG_STATE_HOME": "relative"}):
            found = terminal.state_directory("x", environ)
            self.assertEqual(found, os.path.expanduser("~/.local/state/x"))

    def test_a_history_keeps_the_newest_lines_for_its_owner_alone(self):
        history = terminal.History(os.fspath(self.directory / "state" / "history"))
        self.assertEqual(history.load(), [])
        history.add(["one", "", "two\n"])
        history.add([f"line {number}" for number in range(terminal.MOST_LINES - 1)])
        found = history.load()
        self.assertEqual((found[0], len(found)), ("one", terminal.MOST_LINES))
        self.assertEqual((self.directory / "state" / "history").stat().st_mode & 0o777, 0o600)

    def test_there_is_no_progress_display_in_a_pipe(self):
        code = "from pysftpserver.service.terminal import progress\nwith progress() as found: print(found)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual((done.stdout, done.stderr), ("None\n", ""))
