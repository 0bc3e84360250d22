"""Files that change while a client gets them: their true bytes or a clean error, and never filler.

Most tests speak raw packets to the real ``pysftpjail``, over a socket pair as ``sshd`` makes one, so that
they decide how far a transfer is when the file changes. The rest is OpenSSH's ``sftp -D``.
"""

from __future__ import annotations

import os
import random
import select
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from pysftpserver import stdio
from tests.support.cases import InAPlace
from tests.support.doors import FILE, RESIDENT, TICKS, Door, Doors, Wire
from tests.support.hard import IS_HARD
from tests.support.packets import EOF, MAX_DATA, OK, READ, WRITE, Attributes, attrs, request, string, u32, u64
from tests.support.processes import command, descendants, is_alive, program, require
from tests.support.waiting import PATIENCE, until

DATA, STATUS = 103, 101
DATA_HEADER = 9  # bytes: type, id and length, after the packet's own length
BROKEN = 11  # the exit status of a session that could not go on
PIPELINED = 64
LENGTHS = (32768, MAX_DATA)
ROUNDS = 12 if IS_HARD else 3
BLOCK = 4096
PACE = "800000" if IS_HARD else "250000"  # kbit/s: half a second for a whole file
IN_FLIGHT = 400_000  # bytes; a socket holds less
MIB = 1 << 20
PERIOD = 1_000_003  # bytes of content that are random; no offset of a packet is a multiple of it


def setUpModule() -> None:
    require("sftp")


def content_of(order: random.Random, size: int) -> bytes:
    """Random bytes without a zero: a wrong offset shows in it, and so does filler."""
    return (order.randbytes(min(size, PERIOD)).replace(b"\0", b"\1") * -(-size // PERIOD))[:size]


def is_mixed_from(data: bytes, *truths: bytes) -> bool:
    """Whether every byte is that of one of the truths at the same place."""
    if any(len(truth) != len(data) for truth in truths):
        return False
    for at in range(0, len(data), BLOCK):
        blocks = [truth[at : at + BLOCK] for truth in truths]
        block = data[at : at + BLOCK]
        if block in blocks:
            continue
        if not all(byte in column for byte, *column in zip(block, *blocks, strict=True)):
            return False
    return True


def zeros_from(data: bytes, at: int) -> int:
    """How many zeros there are in a row."""
    return len(data) - at - len(data[at:].lstrip(b"\0"))


class Changing(Doors):
    """A file f in a jail, and a client that has asked for all of it and reads when it pleases."""

    def setUp(self) -> None:
        super().setUp()
        self.seed = random.randrange(2**32)
        self.order = random.Random(self.seed)
        self.path = self.root / "f"

    def argv(self, log: Path, code: str) -> list[str]:
        return command("pysftpjail", "--logfile", log, self.root)

    def fill(self, size: int) -> bytes:
        content = content_of(self.order, size)
        self.path.write_bytes(content)
        return content

    def get(self, length: int) -> tuple[Door, Wire, socket.socket]:
        """Ask for all of f by 64 READs, and wait until the server can send no more of it."""
        door, wire, ours = self.on_socket()
        self.open(wire)
        wire.send(b"".join(request("read", n, FILE, u64(n * length), u32(length)) for n in range(PIPELINED)))
        door.wait_until_it_waits()
        return door, wire, ours

    def some_replies(self, wire: Wire, length: int, content: bytes, most: int = PIPELINED // 2) -> int:
        """Read a few of the replies, which are all of the file as it was; returns how many."""
        count = self.order.randrange(most)
        for number in range(count):
            number_got, reply = wire.reply()
            self.assertEqual((number_got, reply.kind), (number, "data"), self.seed)
            expected = content[number * length : (number + 1) * length]
            self.assertTrue(reply.content == expected, f"reply {number}, seed {self.seed}")
        return count

    def rest(
        self,
        session: tuple[Door, Wire, socket.socket],
        first: int,
        length: int,
        end: int,
        *truths: bytes,
    ) -> tuple[int, bool]:
        """Read the replies from `first` on, and check every byte of them by what the file had there.

        end: the least size that the file had meanwhile. Returns how many replies were DATA, and whether the
        session got to its end: if it did not, it must have ended as the rule says.
        """
        door, wire, ours = session
        data = 0
        for number in range(first, PIPELINED):
            head = wire.take(4)
            size = int.from_bytes(head, "big")
            body = wire.take(size) if len(head) == 4 else b""
            is_whole = len(head) == 4 and len(body) == size
            at = number * length
            if body[:1] == bytes([DATA]):
                held = body[DATA_HEADER:]
                self.assertLessEqual(size, DATA_HEADER + length)
                self.check(held, at, *(truth[at : at + len(held)] for truth in truths))
                if is_whole and len(held) < length:
                    self.assertGreaterEqual(at + len(held), end, f"cut short, seed {self.seed}")
                data += 1
            elif is_whole:
                self.assertEqual((body[0], body[5:9]), (STATUS, u32(EOF)), self.seed)
                self.assertGreaterEqual(at, end, f"EOF inside the file, seed {self.seed}")
            if not is_whole:
                self.assertEqual(door.end(), BROKEN, self.seed)
                self.assertIn("error: session ends:", door.log())
                return data, False
            self.assertEqual(body[1:5], u32(number), self.seed)
        ours.close()
        self.assertEqual(door.end(), 0, f"seed {self.seed}\n{door.log()}")
        self.assertNotIn("error", door.log())
        return data, True

    def check(self, held: bytes, at: int, *truths: bytes) -> None:
        if is_mixed_from(held, *truths):
            return
        wrong = next(
            place
            for place in range(len(held))
            if all(truth[place : place + 1] != held[place : place + 1] for truth in truths)
        )
        zeros = zeros_from(held, wrong)
        self.fail(f"wrong from byte {at + wrong} of the file on: {zeros} zeros there; seed {self.seed}")

    def rounds(self, action: Callable[[int], None]) -> None:
        for length in LENGTHS:
            for number in range(ROUNDS):
                with self.subTest(length=length, round=number, seed=self.seed):
                    action(length)


class Truncated(Changing):
    def point(self, read: int, length: int) -> int:
        """Where to cut: mostly near to what is on its way, and anywhere else."""
        whole = PIPELINED * length
        if self.order.random() < 0.6:
            return min(whole - 1, read * length + self.order.randrange(IN_FLIGHT))
        return self.order.randrange(whole)

    def test_a_truncated_file_gives_true_bytes_and_then_its_end_or_a_clean_error(self) -> None:
        def truncate(length: int) -> None:
            content = self.fill(PIPELINED * length)
            session = self.get(length)
            read = self.some_replies(session[1], length, content)
            point = self.point(read, length)
            os.truncate(self.path, point)
            self.rest(session, read, length, point, content)

        self.rounds(truncate)

    def test_a_file_truncated_to_nothing_gives_true_bytes_and_then_a_clean_error(self) -> None:
        def truncate(length: int) -> None:
            content = self.fill(PIPELINED * length)
            session = self.get(length)
            read = self.some_replies(session[1], length, content, 3)
            os.truncate(self.path, 0)
            data, _ = self.rest(session, read, length, 0, content)
            self.assertLess(read + data, PIPELINED)

        self.rounds(truncate)

    def test_a_file_truncated_before_its_reads_are_served_has_an_end_and_no_error(self) -> None:
        for length in LENGTHS:
            with self.subTest(length=length):
                content = self.fill(4 * length)
                door, wire, ours = self.on_socket()
                self.open(wire)
                end = 2 * length + 1000
                for number in range(PIPELINED):
                    if number == 2:
                        os.truncate(self.path, end)
                    reply = wire.ask("read", FILE, u64(number * length), u32(length))
                    expected = content[number * length : min(end, (number + 1) * length)]
                    if expected:
                        self.assertTrue(reply.content == expected, number)
                    else:
                        self.assertEqual((reply.kind, reply.content), ("status", EOF))
                ours.close()
                self.assertEqual(door.end(), 0)

    def test_a_cut_inside_a_page_puts_no_zeros_into_replies_that_were_sent(self) -> None:
        # The kernel zeroes the rest of the page, and sendfile may have put that very page into the socket.
        for length in LENGTHS:
            with self.subTest(length=length, seed=self.seed):
                content = self.fill(PIPELINED * length)
                session = self.get(length)
                os.truncate(self.path, 5 * BLOCK + 1)
                self.rest(session, 0, length, 5 * BLOCK + 1, content)

    def test_a_file_written_anew_gives_old_or_new_bytes_at_their_own_places(self) -> None:
        def write_anew(length: int) -> None:
            size = PIPELINED * length
            old, new = self.fill(size), content_of(self.order, size)
            session = self.get(length)
            read = self.some_replies(session[1], length, old)
            point = self.order.choice((0, self.point(read, length)))
            with self.path.open("r+b", buffering=0) as file:
                file.truncate(point)
                file.seek(point)
                file.write(new[point:])
            self.rest(session, read, length, point, old, new)

        self.rounds(write_anew)

    def test_a_file_cut_and_made_longer_has_zeros_only_where_it_had_them(self) -> None:
        def cut_and_grow(length: int) -> None:
            size = PIPELINED * length
            old = self.fill(size)
            session = self.get(length)
            read = self.some_replies(session[1], length, old)
            point = self.point(read, length)
            os.truncate(self.path, point)
            os.truncate(self.path, size)
            new = old[:point] + bytes(size - point)
            self.rest(session, read, length, point, old, new)

        self.rounds(cut_and_grow)


class OwnChanges(Changing):
    """What the same client changes behind its READs, before it has read their replies."""

    def changed(self, change: bytes) -> tuple[bytes, bytes]:
        """What f held, and the content of the reply to a READ of it that was sent before the change."""
        content = self.fill(2 * MAX_DATA)
        door, wire, ours = self.on_socket()
        self.open(wire, flags=READ | WRITE)
        length = 100_000  # a socket holds that
        wire.send(request("read", 1, FILE, u64(0), u32(length)))
        door.wait_until_it_waits()
        wire.send(change)
        door.wait_until_it_waits()
        (number, reply), (_, status) = wire.reply(), wire.reply()
        self.assertEqual((number, reply.kind, status.content), (1, "data", OK))
        ours.close()
        self.assertEqual(door.end(), 0)
        return content[:length], reply.content

    def test_a_write_behind_a_read_does_not_show_in_its_reply(self) -> None:
        expected, got = self.changed(request("write", 2, FILE, u64(50_000), string(b"new" * 1000)))
        self.assertTrue(got == expected, f"{got[50_000:50_009]!r} for {expected[50_000:50_009]!r}")

    def test_a_truncation_behind_a_read_does_not_show_in_its_reply(self) -> None:
        expected, got = self.changed(request("fsetstat", 2, FILE, attrs(Attributes(size=50_001))))
        self.assertTrue(got == expected, f"{got.count(0)} zeros from {got.find(0)} on")


class Replaced(Changing):
    def test_a_file_replaced_by_another_gives_all_of_the_old_one(self) -> None:
        for length in LENGTHS:
            with self.subTest(length=length, seed=self.seed):
                size = PIPELINED * length
                old, new = self.fill(size), content_of(self.order, size)
                session = self.get(length)
                read = self.some_replies(session[1], length, old)
                (self.root / "new").write_bytes(new)
                os.rename(self.root / "new", self.path)
                data, whole = self.rest(session, read, length, size, old)
                self.assertEqual((read + data, whole), (PIPELINED, True))

    def test_a_file_that_was_removed_gives_all_of_itself(self) -> None:
        for length in LENGTHS:
            with self.subTest(length=length, seed=self.seed):
                content = self.fill(PIPELINED * length)
                session = self.get(length)
                os.unlink(self.path)
                data, whole = self.rest(session, 0, length, len(content), content)
                self.assertEqual((data, whole), (PIPELINED, True))

    def test_the_next_open_gets_the_new_file(self) -> None:
        self.fill(MAX_DATA)
        _, wire, _ = self.on_socket()
        self.open(wire)
        wire.ask("read", FILE, u64(0), u32(MAX_DATA))
        new = content_of(self.order, MAX_DATA)
        (self.root / "new").write_bytes(new)
        os.rename(self.root / "new", self.path)
        self.open(wire)
        reply = wire.ask("read", string(u32(2)), u64(0), u32(MAX_DATA))
        self.assertTrue(reply.content == new)


class Appended(Changing):
    def append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def test_what_is_appended_during_a_get_is_seen_by_later_reads(self) -> None:
        for length in LENGTHS:
            with self.subTest(length=length, seed=self.seed):
                size = PIPELINED * length - length // 2  # the last READ meets the end
                content, more = self.fill(size), content_of(self.order, 3 * length)
                door, wire, ours = self.get(length)
                read = self.some_replies(wire, length, content)
                self.append(more)
                content += more
                for number in range(read, PIPELINED):
                    _, reply = wire.reply()
                    expected = content[number * length : (number + 1) * length]
                    self.assertEqual(reply.kind, "data")
                    # The last one is as long as the file was when it was served, before or after.
                    served = len(reply.content) if number == PIPELINED - 1 else length
                    self.assertIn(served, (length // 2, length))
                    self.assertTrue(reply.content == expected[:served], f"reply {number}")
                for at in (size - 7, size, size + length, len(content) - 5):
                    reply = wire.ask("read", FILE, u64(at), u32(length))
                    self.assertTrue(reply.content == content[at : at + length], at)
                self.assertEqual(wire.ask("read", FILE, u64(len(content)), u32(length)).content, EOF)
                ours.close()
                self.assertEqual(door.end(), 0)

    def test_a_read_at_the_old_end_gets_what_was_appended(self) -> None:
        for size in (0, 100, 32768, 3 * MAX_DATA):
            for length in LENGTHS:
                with self.subTest(size=size, length=length, seed=self.seed):
                    content = self.fill(size)
                    _, wire, _ = self.on_socket()
                    self.open(wire)
                    for _ in range(4):
                        reply = wire.ask("read", FILE, u64(len(content)), u32(length))
                        self.assertEqual((reply.kind, reply.content), ("status", EOF))
                        more = content_of(self.order, self.order.choice((1, 32767, 32768, length)))
                        self.append(more)
                        reply = wire.ask("read", FILE, u64(len(content)), u32(length))
                        self.assertTrue(reply.content == more[:length])
                        content += more


class OpenSSHClient(InAPlace):
    """OpenSSH's sftp gets a file that another process truncates meanwhile."""

    SIZE = (48 if IS_HARD else 16) * MIB
    ROUNDS = 6 if IS_HARD else 3

    def setUp(self) -> None:
        super().setUp()
        self.jail = self.place / "jail"
        self.jail.mkdir()
        self.seed = random.randrange(2**32)
        self.order = random.Random(self.seed)
        self.content = content_of(self.order, self.SIZE)

    def get_while_truncated(
        self, options: list[str], seen: int, point: int | None, held_up: bool = False
    ) -> bool:
        """Whether the file was cut before all of it had arrived.

        seen: bytes that arrive before the cut. point: where to cut; None: just behind what has arrived.
        held_up: the client is stopped until the server has sent all it can, and the file is cut.
        """
        remote, local = self.jail / "f", self.place / "local"
        remote.write_bytes(self.content)
        local.unlink(missing_ok=True)
        server = shlex.join(command("pysftpjail", "--logfile", self.place / "log", self.jail))
        with (self.place / "errors").open("w+b") as errors:
            process = subprocess.Popen(
                [program("sftp"), *options, "-b", "-", "-D", server],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
            assert process.stdin is not None
            try:
                process.stdin.write(b"get f " + os.fsencode(local) + b"\n")
                process.stdin.close()
                deadline = time.monotonic() + PATIENCE
                while not local.exists() or local.stat().st_size < seen:
                    if process.poll() is not None or time.monotonic() > deadline:
                        break
                    time.sleep(0.001)
                if held_up and process.poll() is None:
                    process.send_signal(signal.SIGSTOP)
                    self.wait_until_the_server_waits(process.pid)
                arrived = local.stat().st_size if local.exists() else 0
                if point is None:
                    point = arrived + self.order.randrange(2 * MAX_DATA)
                os.truncate(remote, min(point, self.SIZE))
                process.send_signal(signal.SIGCONT)
                status = process.wait(PATIENCE)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            errors.seek(0)
            said = errors.read().decode(errors="replace")
        got = local.read_bytes()
        what = f"{options}, cut to {point} when {arrived} were there, seed {self.seed}, {status=}: {said}"
        self.assertLessEqual(len(got), len(self.content), what)
        if got != self.content[: len(got)]:
            wrong = next(at for at in range(len(got)) if got[at] != self.content[at])
            self.fail(f"wrong from {wrong} on: {zeros_from(got, wrong)} zeros there; {what}")
        if not status:
            self.assertGreaterEqual(len(got), point, what)
        return arrived < self.SIZE

    def wait_until_the_server_waits(self, client: int) -> None:
        def ticks() -> list[str]:
            (server,) = (pid for pid, _, _ in descendants(client))
            fields = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()
            return [fields[0], *fields[11:13]]

        history: list[list[str]] = []

        def same_for_long() -> bool:
            history.append(ticks())
            return len(history) > 5 and history[-1][0] == "S" and history[-5:] == [history[-1]] * 5

        until(same_for_long, "the server waits")

    def rounds(self, *options: str) -> None:
        cuts = number = 0
        deadline = time.monotonic() + PATIENCE
        while number < self.ROUNDS or not cuts:
            self.assertLess(time.monotonic(), deadline, "not one transfer was caught on its way")
            with self.subTest(options=options, round=number, seed=self.seed):
                seen = self.order.randrange(1, self.SIZE // 3)
                near = seen + self.order.randrange(4 * MIB)
                point = near if number % 2 else self.order.randrange(self.SIZE // 2)
                # Every other one at a slow pace, for which the server has to wait.
                pace = ["-l", PACE] if number % 3 else []
                cuts += self.get_while_truncated([*options, *pace], seen, point)
            number += 1

    def test_short_reads_leave_a_true_prefix(self) -> None:
        self.rounds("-B", "32768")

    def test_reads_of_the_usual_length_leave_a_true_prefix(self) -> None:
        self.rounds()

    def test_a_cut_just_behind_what_has_arrived_leaves_a_true_prefix(self) -> None:
        for options in (["-B", "32768"], []):
            for number in range(self.ROUNDS):
                with self.subTest(options, round=number, seed=self.seed):
                    seen = self.order.randrange(1, self.SIZE // 3)
                    self.get_while_truncated([*options, "-l", PACE], seen, None, held_up=True)

    def test_a_cut_to_nothing_leaves_a_true_prefix(self) -> None:
        for options in (["-B", "32768"], []):
            with self.subTest(options, seed=self.seed):
                self.get_while_truncated([*options, "-l", PACE], MIB, 0)


class Costs(Changing):
    forks = False  # for its memory

    def test_a_client_that_stops_reading_costs_little_memory_and_no_time(self) -> None:
        for length in LENGTHS:
            with self.subTest(length=length):
                self.fill(16 * MIB)
                door, wire, ours = self.on_socket()
                self.open(wire)
                # As much as fits: the server stops reading as well.
                ours.setblocking(False)
                requests = memoryview(
                    b"".join(request("read", n, FILE, u64(n * 1000), u32(length)) for n in range(30_000))
                )
                while requests:
                    try:
                        requests = requests[ours.send(requests) :]
                    except BlockingIOError:
                        door.wait_until_it_waits()
                        try:
                            requests = requests[ours.send(requests) :]
                        except BlockingIOError:
                            break
                ours.setblocking(True)
                self.assertTrue(requests, "the server took 30,000 requests although nobody reads")
                self.assert_idle(door)
                self.assertLess(door.memory(), RESIDENT)
                ours.close()
                self.assertEqual(door.end(), 0)
                self.assertFalse(is_alive(door.pid))
                self.assertIn('forced close "f"', door.log())

    def test_a_session_that_waits_uses_no_processor_and_ends_by_a_signal(self) -> None:
        for busy in (False, True):
            with self.subTest(busy=busy):
                self.fill(1000)
                door, wire, _ = self.on_socket()
                if busy:  # replies that were answered at once are what makes waiting eager
                    self.open(wire)
                    for _ in range(2000):
                        wire.ask("read", FILE, u64(0), u32(100))
                door.wait_until_it_waits()
                before = door.ticks()
                began = time.monotonic()
                until(lambda began=began: time.monotonic() - began > 1, "a second has passed")
                self.assertLessEqual(door.ticks() - before, TICKS)
                self.assertEqual(door.state(), "S")
                door.process.send_signal(signal.SIGTERM)
                self.assertEqual(wire.take(1), b"")
                self.assertEqual(door.end(), 0)

    def test_waits_in_vain_make_eager_ones_rare_and_one_that_pays_off_brings_them_back(self) -> None:
        class Poll:
            """Has something at once, or only for those who wait for it."""

            def __init__(self) -> None:
                self.at_once = False
                self.eager_waits = 0
                self.is_eager = False

            def register(self, descriptor: int, events: int) -> None:
                pass

            def poll(self, milliseconds: int | None = None) -> list[tuple[int, int]]:
                if milliseconds == 0 and not self.is_eager:
                    self.eager_waits += 1
                self.is_eager = milliseconds == 0 and not self.at_once
                return [(0, select.POLLIN)] if milliseconds is None or self.at_once else []

        ours, theirs = socket.socketpair()
        with ours, theirs, mock.patch("os.sched_getaffinity", return_value={0, 1}):
            waiting = stdio._Waiting(ours.fileno(), ours.fileno(), -1)
        waiting._poll = poll = Poll()

        def waits(count: int) -> int:
            """How many of so many waits are eager."""
            before = poll.eager_waits
            for _ in range(count):
                waiting.wait(receive=True, send=False, is_small=True)
            return poll.eager_waits - before

        self.assertGreater(waits(100), 3)
        waits(3000)
        self.assertLessEqual(waits(10_000), 10)
        poll.at_once = True
        self.assertGreater(waits(3000), 500, "they come back")
        self.assertEqual(waits(50), 50)
