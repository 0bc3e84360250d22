"""The server as a process under sshd: how sessions end, what they cost, that they do not mix."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from tests.integration import harness, material
from tests.integration.clients import asynchronous, asyncssh_connection
from tests.integration.harness import ServedCase
from tests.integration.material import GIB, KIB, MIB, Material
from tests.integration.sshd import TARGET
from tests.support.hard import IS_HARD
from tests.support.processes import is_alive, peak_memory, program, require
from tests.support.waiting import until

MEMORY_LIMIT = 20 * MIB


def setUpModule() -> None:
    require("sftp", "ssh")


class TestEnds(ServedCase):
    def test_a_signal_ends_an_idle_session_cleanly(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Run as a command, not as a subsystem: sshd then passes the server's stderr on.
            with self.subTest(number), self.sftp_session("-s", "/any/command") as session:
                session.do("mkdir d", "rmdir d")
                os.kill(self.only_server(), number)
                self.wait_until_no_server_is_left()
                session.leave()
                self.assertEqual(session.errors(), "")
            self.wait_until_no_server_is_left()

    @asynchronous
    async def test_the_end_of_the_input_and_signals_end_the_server_with_status_0(self) -> None:
        async with asyncssh_connection(self.sshd) as connection:
            for number in (None, signal.SIGTERM, signal.SIGHUP):
                with self.subTest(number):
                    # Forced, so any command is the server; its reply to INIT shows that it is ready.
                    process = await connection.create_process("any command", encoding=None)
                    process.stdin.write(packet(1, number_of(3)))
                    await process.stdout.readexactly(4)
                    if number is None:
                        process.stdin.write_eof()
                    else:
                        os.kill(self.only_server(), number)
                    await process.wait_closed()
                    self.assertEqual((process.exit_status, process.exit_signal), (0, None))
                    self.assertEqual(await process.stderr.read(), b"")

    def test_a_signal_ends_an_upload_and_what_arrived_is_in_order(self) -> None:
        data = Material()
        content = data.bytes(8 * MIB)
        (self.local / "f").write_bytes(content)
        with self.sftp_session("-l", "4000", "-s", "/any/command") as session:  # 16 seconds for all of it
            session.send("put f")
            until(has_a_part(self.jail / "f"), "a part has arrived")
            os.kill(self.only_server(), signal.SIGTERM)
            self.wait_until_no_server_is_left()
            self.assertNotEqual(session.leave(), 0)
            self.assertNotIn("Traceback", session.errors())
        arrived = (self.jail / "f").read_bytes()
        self.assertLess(len(arrived), len(content))
        self.assertEqual(arrived, content[: len(arrived)], data.seed)

    def test_a_client_killed_in_a_transfer_leaves_no_server_behind(self) -> None:
        material.sparse(self.jail / "down", GIB)
        material.sparse(self.local / "up", GIB)
        for line, arriving in (
            ("get down", self.local / "down"),
            ("put up", self.jail / "up"),
        ):
            with self.subTest(line), self.sftp_session("-l", "100000") as session:
                session.send(line)
                until(has_a_part(arriving), "a part has arrived")
                server = self.only_server()
                session.kill()
                until(
                    lambda server=server: not is_alive(server), "it has ended, as no child of sshd any more"
                )

    def test_a_client_that_leaves_leaves_no_server_behind(self) -> None:
        with self.sftp_session() as session:
            session.do("pwd")
            self.assertTrue(is_alive(self.only_server()))
            self.assertEqual(session.leave(), 0)
        self.wait_until_no_server_is_left()


class TestMemory(ServedCase):
    def assert_small(self) -> None:
        peak = peak_memory(self.only_server())
        self.assertLess(peak, MEMORY_LIMIT, f"{peak / MIB:.1f} MiB resident")

    def test_many_mebibytes_each_way_take_less_than_20_mib(self) -> None:
        size = GIB if IS_HARD else 64 * MIB
        material.sparse(self.jail / "down", size)
        material.sparse(self.local / "up", size)
        with self.sftp_session() as session:
            session.do("get down /dev/null")
            self.assert_small()
            session.do("put up")
            self.assert_small()
        self.assertEqual(size_of(self.jail / "up"), size)

    def test_a_long_listing_takes_less_than_20_mib(self) -> None:
        material.many_files(self.jail / "many", 4_000)
        with self.sftp_session() as session:
            self.assertEqual(session.do("cd many", "ls -l").count("\n-rw"), 4_000)
            self.assert_small()

    def test_a_client_that_asks_and_does_not_read_takes_less_than_20_mib(self) -> None:
        reads, length = 400, 255 * KIB
        material.sparse(self.jail / "f", GIB)
        requests = [
            packet(1, number_of(3)),
            # OPEN "f" for reading, without attributes; its handle is the first.
            packet(3, number_of(1) + text(b"f") + number_of(1) + number_of(0)),
        ]
        client = subprocess.Popen(
            [program("ssh"), "-F", self.sshd.ssh_config, "-s", TARGET, "sftp"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert client.stdin is not None and client.stdout is not None
        stdin, stdout = client.stdin, client.stdout
        # Whatever happens, ssh ends in time, and with it the reads below.
        timer = threading.Timer(harness.PATIENCE, client.kill)
        timer.start()
        try:
            stdin.write(b"".join(requests))
            read_packet(stdout)
            handle = read_packet(stdout)[5:]
            for index in range(reads):
                offset = (index * length).to_bytes(8, "big")
                stdin.write(packet(5, number_of(2 + index) + handle + offset + number_of(length)))
            server = self.only_server()
            settled(server)
            self.assert_small()
            # It has not given up either: every reply comes, in order.
            for index in range(reads):
                reply = read_packet(stdout)
                self.assertEqual(len(reply), 1 + 4 + 4 + length)
                self.assertEqual(reply[:5], b"\x67" + number_of(2 + index))
            self.assert_small()
        finally:
            timer.cancel()
            client.kill()
            client.wait()
            stdin.close()
            stdout.close()
        until(lambda: not is_alive(server), "it has ended")


class TestConcurrency(ServedCase):
    def test_sessions_at_the_same_time_do_not_mix(self) -> None:
        data = Material()
        for client in range(6):
            data.tree(self.local / f"tree{client}")
            data.odd_files(self.local / f"tree{client}" / "odd", [300_001, 70_000 + client])

        def round_trip(client: int) -> harness.Finished:
            return self.sftp(f"put -r tree{client}", f"get -r tree{client} back{client}")

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            list(pool.map(round_trip, range(6)))
        for client in range(6):
            tree = self.local / f"tree{client}"
            material.assert_same_trees(self, tree, self.jail / f"tree{client}", data.seed)
            material.assert_same_trees(self, tree, self.local / f"back{client}", data.seed)

    def test_one_session_sees_what_another_has_done(self) -> None:
        (self.local / "f").write_text("content")
        with self.sftp_session() as first, self.sftp_session() as second:
            first.do("mkdir d", "put f d/f")
            self.assertIn("f", second.do("cd d", "ls -1"))
            first.do("rename d/f d/g")
            self.assertIn("g", second.do("ls -1"))
            second.do("-get f")
            self.assertIn("not found", second.errors())


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def has_a_part(path: Path) -> Callable[[], bool]:
    return lambda: size_of(path) > 100 * KIB


def settled(pid: int) -> None:
    """Return when a process has used no processor time for half a second."""
    history: list[int] = []

    def same_for_long() -> bool:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        history.append(int(fields[11]) + int(fields[12]))
        return len(history) > 50 and len(set(history[-50:])) == 1

    until(same_for_long, "the server waits")


# The few packets of draft-ietf-secsh-filexfer-02 that a test sends itself.


def number_of(value: int) -> bytes:
    return value.to_bytes(4, "big")


def text(value: bytes) -> bytes:
    return number_of(len(value)) + value


def packet(kind: int, body: bytes) -> bytes:
    return number_of(1 + len(body)) + bytes([kind]) + body


def read_packet(stream: object) -> bytes:
    """Read one packet from an unbuffered pipe; return it without its length."""
    read = stream.read  # type: ignore[attr-defined]

    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = read(size - len(data))
            if not chunk:
                raise AssertionError(f"the stream ended {size - len(data)} bytes early")
            data += chunk
        return data

    return exactly(int.from_bytes(exactly(4), "big"))
