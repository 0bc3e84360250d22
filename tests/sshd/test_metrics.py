"""Figures for Prometheus, of a pysftpd that runs and whose clients are OpenSSH's."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import signal
import socket
import tempfile
import unittest
from unittest import mock

from prometheus_client import generate_latest

from pysftpserver.engine.bulk import TRANSFERS
from pysftpserver.engine.log import SFTPLog
from pysftpserver.engine.wire import SSH2_FX_EOF, SSH2_FX_FAILURE, SSH2_FX_OK
from pysftpserver.hook import SFTPEvent
from pysftpserver.server import SFTPServer
from pysftpserver.service.admin_client import AdminError, ask
from pysftpserver.service.serving import listen
from pysftpserver.service.transfers import total
from pysftpserver.sshd import metrics, metrics_http
from pysftpserver.sshd.metrics import Counting, Metrics
from tests.sshd.running import kill_group
from tests.sshd.serving import HOST, SIZE, Daemon, DaemonCase
from tests.support.storages import Whole
from tests.support.waiting import PATIENCE, until

LINE = re.compile(r'([a-z_]+)(?:\{([a-z]+)="((?:[^"\\]|\\.)*)"\})? ([0-9.e+-]+)')


def parsed(text: str) -> dict[tuple[str, str], float]:
    """The samples of an exposition: (name, label's value or "") -> value. Raises what is no exposition."""
    samples: dict[tuple[str, str], float] = {}
    kinds = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            _, _, name, kinds[name] = line.split(" ")
            continue
        match = LINE.fullmatch(line)
        if match is None or match[1] not in kinds or (match[1], match[3] or "") in samples:
            raise AssertionError(f"no sample: {line!r}")
        samples[match[1], match[3] or ""] = float(match[4])
    assert text.endswith("\n")
    return samples


class MetricsCase(DaemonCase):
    def with_metrics(self, workers: int = 1, admin: bool = False) -> Daemon:
        daemon = self.started("--metrics", "0", workers=workers, admin=admin)
        self.port = int(daemon.process.said(r"metrics on 127\.0\.0\.1 port (\d+)")[1])
        return daemon

    def get(self, method: str = "GET", path: str = "/metrics") -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)
        self.addCleanup(connection.close)
        connection.request(method, path)
        return connection.getresponse()

    def samples(self) -> dict[tuple[str, str], float]:
        response = self.get()
        self.assertEqual(response.status, 200)
        self.assertRegex(
            str(response.getheader("Content-Type")), r"\Atext/plain; version=[01][0-9.]+; charset=utf-8"
        )
        return parsed(response.read().decode())


class OneProcess(MetricsCase):
    def test_logins_requests_errors_bytes_and_sessions_are_counted(self):
        daemon = self.with_metrics()
        first = self.samples()
        self.assertEqual(first["pysftpd_logins_total", "accepted"], 0)
        self.assertEqual(first["pysftpd_processes", ""], 1)
        done = daemon.do("mkdir one", f"get large {daemon.directory}/got", "-rm nothing")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(daemon.do("pwd", user="nobody-here").returncode, 255)
        samples = until(self.settled, "all are gone")
        self.assertEqual(samples["pysftpd_logins_total", "accepted"], 1)
        self.assertEqual(samples["pysftpd_logins_total", "refused"], 1)
        self.assertEqual(samples["pysftpd_requests_total", "mkdir"], 1)
        self.assertEqual(samples["pysftpd_requests_total", "close"], 1)
        self.assertEqual(samples["pysftpd_content_bytes_total", "read"], SIZE)
        self.assertEqual(samples["pysftpd_request_errors_total", "mkdir"], 0)
        self.assertNotIn(("pysftpd_requests_total", "read"), samples)
        failed = [
            name for (_, name), count in samples.items() if _ == "pysftpd_request_errors_total" and count
        ]
        self.assertTrue(set(failed) & {"lstat", "stat", "remove"}, failed)
        self.assertGreater(samples["pysftpd_request_seconds_total", "close"], 0)
        self.assertGreater(samples["pysftpd_bytes_total", "sent"], SIZE)
        self.assertLess(samples["pysftpd_bytes_total", "sent"], SIZE * 1.1)
        self.assertGreater(samples["pysftpd_bytes_total", "received"], 100)

    def settled(self) -> dict[tuple[str, str], float] | None:
        samples = self.samples()
        is_refused = samples["pysftpd_logins_total", "refused"] == 1
        return samples if is_refused and samples["pysftpd_connections", ""] == 0 else None

    def test_bytes_of_a_session_are_counted_while_it_goes_on_and_never_become_less(self):
        daemon = self.with_metrics()
        client = daemon.get_slowly()
        until(lambda: self.samples()["pysftpd_bytes_total", "sent"] > 1e5, "bytes move")
        self.assertEqual(self.samples()["pysftpd_sessions", ""], 1)
        before = self.samples()["pysftpd_bytes_total", "sent"]
        kill_group(client)
        seen = [before]

        def is_over() -> bool:
            samples = self.samples()
            seen.append(samples["pysftpd_bytes_total", "sent"])
            return samples["pysftpd_connections", ""] == 0

        until(is_over, "the session is over")
        self.assertEqual(seen, sorted(seen))

    def test_anything_but_get_metrics_is_refused(self):
        self.with_metrics()
        for method, path, status in (
            ("GET", "/", 404),
            ("GET", "/metrics/", 404),
            ("POST", "/other", 404),
            ("POST", "/metrics", 405),
            ("HEAD", "/metrics", 405),
        ):
            with self.subTest(f"{method} {path}"):
                self.assertEqual(self.get(method, path).status, status)
        for raw, status_line in (
            (b"nonsense\r\n\r\n", rb"(HTTP/1.\d 400 |<!DOCTYPE)"),  # of HTTP/0.9 there is no status line
            (b"GET /metrics x y\r\n\r\n", rb"HTTP/1.\d 400 |<!DOCTYPE"),
            (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 3000, rb"HTTP/1.\d 431 "),
            (b"GET /metrics?a=b HTTP/1.0\r\n\r\n", rb"HTTP/1.\d 200 "),
        ):
            with self.subTest(raw[:40]), socket.create_connection((HOST, self.port), timeout=PATIENCE) as one:
                one.sendall(raw)
                self.assertRegex(one.recv(100), status_line)
        self.assertIn(("pysftpd_sessions", ""), self.samples())

    def test_it_listens_on_the_loopback_address_alone(self):
        self.with_metrics()
        listening = [line.split() for line in open("/proc/net/tcp")][1:]
        mine = [line[1] for line in listening if line[1].endswith(f":{self.port:04X}") and line[3] == "0A"]
        self.assertEqual(mine, [f"0100007F:{self.port:04X}"])

    def test_a_port_that_is_taken_is_one_line(self):
        self.with_metrics()
        status, words = self.daemon("--metrics", str(self.port)).refused()
        self.assertEqual(status, 1)
        self.assertEqual(
            words.splitlines()[-1],
            f"pysftpd: metrics: port {self.port} of 127.0.0.1: address already in use",
        )

    def test_without_the_option_there_is_no_hook_and_no_port(self):
        daemon = self.started()
        daemon.do("pwd")
        figures = ask(os.fspath(daemon.socket), {"ask": "figures"})["figures"]
        self.assertEqual(figures["logins"]["accepted"], 1)
        self.assertEqual(figures["requests"], {})
        self.assertNotIn("metrics", daemon.log())


class TwoProcesses(MetricsCase):
    def test_the_sums_are_those_of_all_processes_and_survive_one_that_is_replaced(self):
        daemon = self.with_metrics(workers=2, admin=True)
        paths = [f"{daemon.socket}.{number}" for number in (0, 1)]

        def logins(path: str) -> int:
            return int(ask(path, {"ask": "figures"})["figures"]["logins"]["accepted"])

        count = 0
        while count < 40 and not all(map(logins, paths)):
            self.assertEqual(daemon.do("mkdir one", "rmdir one").returncode, 0)
            count += 1
        self.assertEqual(sum(map(logins, paths)), count)
        samples = self.samples()
        self.assertEqual(samples["pysftpd_processes", ""], 2)
        self.assertEqual(samples["pysftpd_logins_total", "accepted"], count)
        self.assertEqual(samples["pysftpd_requests_total", "mkdir"], count)
        process = ask(paths[1], {"ask": "figures"})["pid"]
        os.kill(process, signal.SIGKILL)
        until(lambda: answers_as_another(paths[1], process), "another process answers")
        samples = self.samples()
        self.assertEqual(samples["pysftpd_processes", ""], 2)
        self.assertEqual(samples["pysftpd_logins_total", "accepted"], count)

    def test_processes_are_asked_where_there_is_no_admin_socket_and_nothing_is_left_behind(self):
        with mock.patch.dict(os.environ, {"TMPDIR": self.enterContext(tempfile.TemporaryDirectory())}):
            daemon = self.with_metrics(workers=2)
            (private,) = os.listdir(os.environ["TMPDIR"])
            path = os.path.join(os.environ["TMPDIR"], private)
            self.assertEqual(os.stat(path).st_mode & 0o7777, 0o700)
            self.assertEqual(sorted(os.listdir(path)), ["admin.0", "admin.1"])
            for _ in range(6):
                daemon.do("pwd")
            until(lambda: self.samples()["pysftpd_connections", ""] == 0 and self.samples(), "all are gone")
            self.assertEqual(self.samples()["pysftpd_logins_total", "accepted"], 6)
            self.assertEqual(daemon.end(), 0)
            self.assertEqual(os.listdir(os.environ["TMPDIR"]), [])


def answers_as_another(path: str, process: int) -> bool:
    try:
        return bool(ask(path, {"ask": "figures"}, 1.0)["pid"] != process)
    except AdminError:
        return False


class WithoutAServer(unittest.TestCase):
    def test_a_slow_client_is_sent_away(self):
        async def scene() -> bytes:
            listening = listen(HOST, 0)
            door = metrics_http.MetricsEndpoint(dict, dict, (), SFTPLog(None))
            port = listening.getsockname()[1]
            await door.start(listening)
            try:
                reader, writer = await asyncio.open_connection(HOST, port)
                writer.write(b"GET /met")
                try:
                    return await asyncio.wait_for(reader.read(), PATIENCE)
                except ConnectionResetError:
                    return b""
                finally:
                    writer.close()
            finally:
                await door.close()

        with mock.patch.object(metrics_http, "PATIENCE", 0.1):
            self.assertEqual(asyncio.run(scene()), b"")

    def test_what_a_process_had_counted_stays_while_it_does_not_answer(self):
        answers = [
            {"pid": 1, "figures": {"logins": {"accepted": 5}, "sessions": 2}},
            AdminError("no answer"),
            {"pid": 2, "figures": {"logins": {"accepted": 1}, "sessions": 1}},
        ]

        def answer(*_: object) -> object:
            given = answers.pop(0)
            if isinstance(given, Exception):
                raise given
            return given

        collector = metrics_http.Collector(lambda: {"logins": {"accepted": 10}, "sessions": 1}, ["other"])
        with mock.patch.object(metrics_http, "ask", answer):
            seen = [collector.figures() for _ in range(3)]
        self.assertEqual([figures["logins"]["accepted"] for figures in seen], [15, 15, 16])
        self.assertEqual([figures["sessions"] for figures in seen], [3, 1, 2])

    def test_a_request_is_an_error_by_its_status_and_the_end_of_a_file_is_none(self):
        counted = Metrics()
        hook = Counting(counted)
        for status in (SSH2_FX_OK, SSH2_FX_EOF, SSH2_FX_FAILURE):
            event = SFTPEvent("readdir", {}, None)
            event.status, event.seconds = status, 0.25
            hook.before(event)
            hook.after(event)
        hook.rejected(SFTPEvent("unknown", {}, None))
        figures = counted.figures()
        self.assertEqual(figures["requests"], {"readdir": 3, "unknown": 1})
        self.assertEqual(figures["errors"], {"readdir": 1, "unknown": 1})
        self.assertEqual(figures["seconds"]["readdir"], 0.75)

    def test_users_have_figures_of_their_own_up_to_a_number(self):
        counted = Metrics(users=2)
        for name in ("alice", "bob", "carol", "dora", "alice"):
            counted.count_login(name)
            counted.count_moved(10, 1, name)
        counted.count_moved(5, 5, None)  # without a login
        figures = counted.figures()
        self.assertEqual(figures["user_logins"], {"alice": 2, "bob": 1, "": 2})
        self.assertEqual(figures["user_received"], {"alice": 20, "bob": 10, "": 20})
        self.assertEqual(figures["user_sent"], {"alice": 2, "bob": 1, "": 2})
        self.assertEqual((figures["logins"]["accepted"], figures["moved"]["received"]), (5, 55))
        silent = Metrics()
        silent.count_login("alice")
        self.assertEqual(silent.figures()["user_logins"], {})

    def test_reads_and_writes_stay_on_the_fast_path_and_their_bytes_are_told_at_the_end(self):
        counted = Metrics()
        server = SFTPServer(Whole(), hook=Counting(counted))
        self.assertEqual(server.transfers, frozenset(TRANSFERS))
        for name in ("close", "abandoned"):
            event = SFTPEvent(name, {}, b"f")
            event.read, event.written = 7, 5
            getattr(server.hook, "after" if name == "close" else name)(event)
        self.assertEqual(counted.figures()["content"], {"read": 14, "written": 10})
        self.assertEqual(counted.figures()["requests"], {"close": 1})

    def test_sums_are_by_name_and_by_label(self):
        summed = total([{"a": 1, "b": {"x": 1}}, {}, {"a": 2, "b": {"x": 2, "y": 3}}])
        self.assertEqual(summed, {"a": 3, "b": {"x": 3, "y": 3}})

    def test_every_figure_has_its_line_from_the_first_moment(self):
        samples = parsed(generate_latest(metrics_http.Collector(Metrics().figures, ())).decode())
        for name, title, *_ in metrics.GAUGES:
            with self.subTest(name):
                self.assertEqual(samples[title, ""], 0)
        for outcome in metrics.OUTCOMES:
            self.assertEqual(samples["pysftpd_logins_total", outcome], 0)
