"""The fast path where something is odd: faults, hooks, refusals, plugins, odd files, pauses."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from pysftpserver.engine.bulk import LATE_FROM
from pysftpserver.engine.log import DEBUG1, ERROR, VERBOSE
from pysftpserver.engine.wire import transfer_at
from pysftpserver.hook import SFTPEvent, SFTPHook
from pysftpserver.pysftpexceptions import SFTPSessionEnd
from pysftpserver.server import SFTPServer
from pysftpserver.storage import SFTPServerStorage
from tests.support import packets as sftp
from tests.support.packets import Client, replies, request, string, u32, u64
from tests.support.watching import BIG, MEDIUM, READING, WRITING, Watched, counters


class Failing(SFTPServerStorage):
    """The second write raises. fileno() is its own, so descriptors and views are offered as ever."""

    def __init__(self, home: Path, error: BaseException) -> None:
        super().__init__(home)
        self.error = error
        self.writes: list[int] = []

    def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
        self.writes.append(off)
        if len(self.writes) == 2:
            raise self.error
        super().write(handle, off, chunk)

    def fileno(self, handle: int) -> int | None:
        return handle


class Faults(Watched):
    """A write that raises, between two that do not. Both ways, because they are one to a client."""

    def three_writes(self, error: BaseException, fast: bool) -> tuple[Client, Failing]:
        (self.root / "f").write_bytes(b"")
        storage = Failing(self.root, error)
        client = self.client_of(storage, fast)
        handle = client.open(b"f", sftp.READ | sftp.WRITE)
        client.server.input_queue = b"".join(
            request("write", 11 + place, handle, u64(10 * place), string(b"%d" % place * 10))
            for place in range(3)
        )
        return client, storage

    def answers(self, client: Client) -> list[tuple[int, object, bytes]]:
        return [(number, reply.content, reply.message) for number, reply in replies(client.feed(b""))]

    def test_an_os_error_is_its_status_and_the_rest_is_served(self):
        for fast in (True, False):
            with self.subTest(fast=fast):
                client, storage = self.three_writes(OSError(errno.ENOSPC, "no"), fast)
                full = os.strerror(errno.ENOSPC).encode()
                expected = [(11, sftp.OK, b"Success"), (12, sftp.FAILURE, full), (13, sftp.OK, b"Success")]
                self.assertEqual(self.answers(client), expected)
                self.assertEqual(storage.writes, [0, 10, 20])
                self.assertEqual((self.root / "f").read_bytes(), b"0" * 10 + bytes(10) + b"2" * 10)
                self.assertEqual(counters(client.server), [(u32(1), 0, 20)])
                self.assertEqual(client.lines(ERROR), [])
        self.assert_fast(WRITING, 3)

    def test_the_end_of_the_session_leaves_the_rest_unserved(self):
        for fast in (True, False):
            with self.subTest(fast=fast):
                client, storage = self.three_writes(SFTPSessionEnd("enough"), fast)
                self.assertEqual(self.answers(client), [(11, sftp.OK, b"Success")])
                self.assertEqual(client.server.ended, "enough")
                self.assertEqual(client.server.input_queue, b"")
                self.assertEqual(storage.writes, [0, 10])
                self.assertEqual(client.feed(request("stat", 1, string(b"f"))), b"")
                self.assertEqual(client.lines(ERROR), ["session ends: enough"])
        self.assert_fast(WRITING, 2)

    def test_a_fault_is_a_status_and_is_logged_and_the_rest_is_served(self):
        for fast in (True, False):
            with self.subTest(fast=fast):
                client, storage = self.three_writes(RuntimeError("odd"), fast)
                self.assertEqual([answer[:2] for answer in self.answers(client)], [(11, 0), (12, 4), (13, 0)])
                self.assertEqual(storage.writes, [0, 10, 20])
                self.assertEqual(
                    client.lines(ERROR)[:2],
                    ["write failed, and the session goes on:", "RuntimeError: odd"],
                )
                self.assertRegex(
                    client.lines(ERROR)[-1], r"^  in tests\.engine\.test_bulk_around, line \d+, write$"
                )
        self.assert_fast(WRITING, 3)

    def test_an_interrupt_is_raised_and_nothing_is_served_twice(self):
        for fast in (True, False):
            with self.subTest(fast=fast):
                client, storage = self.three_writes(KeyboardInterrupt(), fast)
                with self.assertRaises(KeyboardInterrupt):
                    client.server.process()
                self.assertEqual(storage.writes, [0, 10])
                self.assertEqual(
                    [answer[:2] for answer in self.answers(client)], [(11, sftp.OK), (13, sftp.OK)]
                )
                self.assertEqual(storage.writes, [0, 10, 20])
                self.assertEqual((client.server.input_queue, client.server.ended), (b"", None))
        self.assertEqual(self.watch.calls, 2)

    def test_a_file_that_shrinks_before_a_write_settles_it_is_read_as_it_is_then(self):
        content = self.random_file("f", BIG)
        client = self.client_of(self.storage())
        handle = client.open(b"f", sftp.READ | sftp.WRITE)
        server = client.server
        server.input_queue = request("read", 1, handle, u64(0), u32(sftp.MAX_DATA))
        server.process()
        self.assertEqual(server.output.late, 1)
        os.truncate(self.root / "f", 100)
        server.input_queue = request("write", 2, handle, u64(0), string(b"x")) * 2
        server.process()
        answers = replies(server.output_queue)
        self.assertEqual(answers[0], (1, ("data", content[:100], b"")))
        self.assertEqual([answer[1].content for answer in answers[1:]], [sftp.OK, sftp.OK])
        self.assertEqual((self.root / "f").read_bytes(), b"x" + content[1:100])
        self.assert_fast(READING, 1)

    def test_an_interrupt_between_two_requests_leaves_none_to_be_served_twice(self):
        class Recording(SFTPServerStorage):
            writes: ClassVar[list[int]] = []

            def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
                self.writes.append(off)
                super().write(handle, off, chunk)

            def fileno(self, handle: int) -> int | None:
                return handle

        def interrupted(buffer: memoryview, start: int) -> tuple[Any, ...]:
            if len(storage.writes) == 2 and not interrupts:
                interrupts.append(start)
                raise KeyboardInterrupt  # as Python does it between any two calls
            return transfer_at(buffer, start)

        interrupts: list[int] = []
        (self.root / "f").write_bytes(b"")
        storage = Recording(self.root)
        client = self.client_of(storage)
        handle = client.open(b"f", sftp.WRITE)
        client.server.input_queue = b"".join(
            request("write", place, handle, u64(place), string(b"x")) for place in range(4)
        )
        with mock.patch("pysftpserver.engine.bulk.transfer_at", interrupted):
            with self.assertRaises(KeyboardInterrupt):
                client.server.process()
            answered = [number for number, _ in replies(client.feed(b""))]
        self.assertEqual(len(interrupts), 1)
        self.assertEqual(storage.writes, [0, 1, 2, 3])
        self.assertEqual(answered, [0, 1, 2, 3])


class Observer(SFTPHook):
    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def after(self, event: SFTPEvent) -> None:
        self.seen.append((event.name, event.status, event.size))


class WhoWantsToKnow(Watched):
    """Hooks, logs and refusals, none of which the fast path knows."""

    def transfers(self, client: Client, flags: int = sftp.READ | sftp.WRITE) -> list[tuple[str, object]]:
        """Kind and content of the replies to WRITE, READ and a long READ, sent at once."""
        handle = client.open(b"f", flags)
        stream = (
            request("write", 1, handle, u64(0), string(b"new"))
            + request("read", 2, handle, u64(0), u32(3))
            + request("read", 3, handle, u64(0), u32(sftp.MAX_DATA))
        )
        return [(reply.kind, reply.content) for _, reply in replies(client.feed(stream))]

    def test_without_any_of_them_the_fast_path_is_taken(self):
        content = self.random_file("f", MEDIUM)
        answers = self.transfers(self.client_of(self.storage(), level=VERBOSE))
        self.assertEqual(answers, [("status", sftp.OK), ("data", b"new"), ("data", b"new" + content[3:])])
        self.assert_fast(READING, 2)
        self.assert_fast(WRITING, 1)

    def test_a_hook_sees_every_read_and_write(self):
        self.random_file("f", MEDIUM)
        hook = Observer()
        self.transfers(self.client_of(self.storage(), hook=hook))
        self.assertEqual(
            hook.seen[2:], [("write", sftp.OK, 3), ("read", sftp.OK, 3), ("read", sftp.OK, MEDIUM)]
        )
        self.assert_never_fast()

    def test_a_hook_that_comes_later_sees_what_comes_after_it(self):
        self.random_file("f", MEDIUM)
        client = self.client_of(self.storage())
        self.transfers(client)
        before = self.watch.calls
        client.server.hook = hook = Observer()
        self.transfers(client)
        self.assertEqual(self.watch.calls, before)
        self.assertEqual([name for name, _, _ in hook.seen], ["open", "write", "read", "read"])

    def test_a_log_of_every_request_has_every_read_and_write(self):
        self.random_file("f", MEDIUM)
        client = self.client_of(self.storage(), level=DEBUG1)
        self.transfers(client)
        self.assert_never_fast()
        lines = "\n".join(client.lines(DEBUG1))
        self.assertEqual((lines.count(": write"), lines.count(": read")), (1, 2), lines)

    def test_a_log_that_wants_more_later_gets_it(self):
        self.random_file("f", MEDIUM)
        client = self.client_of(self.storage())
        self.transfers(client)
        before = self.watch.calls
        client.server.log.level = DEBUG1
        self.transfers(client)
        self.assertEqual(self.watch.calls, before)
        lines = "\n".join(client.lines(DEBUG1))
        self.assertEqual((lines.count(": write"), lines.count(": read")), (1, 2), lines)

    def test_refused_reads_are_refused(self):
        content = self.random_file("f", MEDIUM)
        answers = self.transfers(self.client_of(self.storage(), deny=("read",)))
        self.assertEqual(answers, [("status", sftp.OK)] + [("status", sftp.PERMISSION_DENIED)] * 2)
        self.assertEqual((self.root / "f").read_bytes(), b"new" + content[3:])

    def test_refused_writes_are_refused(self):
        content = self.random_file("f", MEDIUM)
        for options, flags in (
            ({"deny": ("write",)}, sftp.READ | sftp.WRITE),
            ({"allow": ("open", "read", "close")}, sftp.READ | sftp.WRITE),
            ({"read_only": True}, sftp.READ),
        ):
            with self.subTest(options):
                answers = self.transfers(self.client_of(self.storage(), **options), flags)
                refused = ("status", sftp.PERMISSION_DENIED)
                self.assertEqual(answers, [refused, ("data", content[:3]), ("data", content)])
                self.assertEqual((self.root / "f").read_bytes(), content)

    def test_a_request_before_init_ends_the_session(self):
        server = SFTPServer(self.storage())
        server.input_queue = request("read", 1, string(u32(1)), u64(0), u32(1))
        server.process()
        self.assertIn("before INIT", server.ended)
        self.assertEqual(server.output_queue, b"")

    def test_an_error_that_is_to_be_raised_is_raised(self):
        server = SFTPServer(self.storage(), raise_on_error=True)
        server.input_queue = request("read", 1, string(u32(1)), u64(0), u32(1))
        with self.assertRaisesRegex(Exception, "Not the handle"):
            server.process()
        self.assert_never_fast()


class Upper(SFTPServerStorage):
    """Files read and written in capitals. It has fileno() from its base class, which knows nothing of it."""

    def read(self, handle: int, off: int, size: int) -> bytes:
        return super().read(handle, off, size).upper()


class Lower(SFTPServerStorage):
    def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
        super().write(handle, off, bytes(chunk).lower())


class Plugins(Watched):
    def test_a_read_of_a_storages_own_is_not_passed_by(self):
        (self.root / "f").write_bytes(b"letter" * 50_000)
        client = self.client_of(Upper(self.root))
        handle = client.open(b"f", sftp.READ | sftp.WRITE)
        for length in (6, LATE_FROM, sftp.MAX_DATA):
            got = client.content("data", "read", handle, u64(0), u32(length))
            self.assertEqual(got, (b"LETTER" * 50_000)[:length])
        self.assert_fast(READING, 0)
        self.assertEqual(client.status("write", handle, u64(0), string(b"x")), sftp.OK)
        self.assert_fast(WRITING, 1)

    def test_a_write_of_a_storages_own_is_not_passed_by_and_gets_bytes(self):
        seen = []

        class Kept(Lower):
            def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
                seen.append(type(chunk))
                super().write(handle, off, chunk)

        (self.root / "f").write_bytes(b"")
        client = self.client_of(Kept(self.root))
        handle = client.open(b"f", sftp.READ | sftp.WRITE)
        self.assertEqual(client.status("write", handle, u64(0), string(b"LETTER")), sftp.OK)
        self.assertEqual((self.root / "f").read_bytes(), b"letter")
        self.assertEqual(seen, [bytes])
        self.assert_fast(WRITING, 0)
        self.assertEqual(client.content("data", "read", handle, u64(0), u32(6)), b"letter")
        self.assert_fast(READING, 1)

    def test_methods_set_on_the_storage_itself_are_not_passed_by(self):
        (self.root / "f").write_bytes(b"file")
        storage = self.storage()
        chunks = []
        storage.read = lambda handle, off, size: b"mine"
        storage.write = lambda handle, off, chunk: chunks.append(chunk)
        client = self.client_of(storage)
        handle = client.open(b"f", sftp.READ | sftp.WRITE)
        self.assertEqual(client.content("data", "read", handle, u64(0), u32(9)), b"mine")
        self.assertEqual(client.status("write", handle, u64(0), string(b"x")), sftp.OK)
        self.assertEqual(chunks, [b"x"])
        self.assertEqual((self.watch.served, (self.root / "f").read_bytes()), ({5: 0, 6: 0}, b"file"))

    def test_an_append_is_written_at_no_offset_whatever_was_sent(self):
        offsets = []

        class Appending(SFTPServerStorage):
            def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
                offsets.append(off)
                super().write(handle, off, chunk)

            def fileno(self, handle: int) -> int | None:
                return handle

        (self.root / "f").write_bytes(b"before")
        client = self.client_of(Appending(self.root))
        handle = client.open(b"f", sftp.WRITE | sftp.APPEND)
        for offset in (0, 3, 2**64 - 1):
            self.assertEqual(client.status("write", handle, u64(offset), string(b"+")), sftp.OK)
        self.assertEqual(offsets, [0, 0, 0])
        self.assertEqual((self.root / "f").read_bytes(), b"before+++")

    def test_a_write_that_makes_the_file_shorter_is_seen_by_the_read_behind_it(self):
        class Cutting(SFTPServerStorage):
            def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
                os.truncate(handle, off)

            def fileno(self, handle: int) -> int | None:
                return handle

        for fast in (True, False):
            with self.subTest(fast=fast):
                content = self.random_file("f", BIG)
                client = self.client_of(Cutting(self.root), fast)
                handle = client.open(b"f", sftp.READ | sftp.WRITE)
                read = request("read", 1, handle, u64(0), u32(sftp.MAX_DATA))
                cut = request("write", 2, handle, u64(100_000), string(b"x"))
                answers = replies(client.feed(read + cut + read))
                self.assertIsNone(client.server.ended)
                self.assertEqual(len(answers), 3)
                self.assertTrue(answers[0][1].content == content[: sftp.MAX_DATA])
                self.assertTrue(answers[2][1].content == content[:100_000])
        self.assert_fast(READING, 2)

    def test_a_write_that_tells_the_server_to_stop_is_the_last_request_served(self):
        for fast in (True, False):
            with self.subTest(fast=fast):
                client: Client

                class Stopping(SFTPServerStorage):
                    def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
                        super().write(handle, off, chunk)
                        client.server.stopping = off == 10  # noqa: B023 -- called within this round

                    def fileno(self, handle: int) -> int | None:
                        return handle

                (self.root / "f").write_bytes(b"")
                client = self.client_of(Stopping(self.root), fast)
                handle = client.open(b"f", sftp.WRITE)
                writes = [request("write", n, handle, u64(10 * n), string(b"x" * 10)) for n in range(4)]
                self.assertEqual([number for number, _ in replies(client.feed(b"".join(writes)))], [0, 1])
                self.assertEqual((self.root / "f").stat().st_size, 20)
                self.assertEqual(client.server.input_queue, b"".join(writes[2:]))
        self.assert_fast(WRITING, 2)


class OddFiles(Watched):
    """Files that are not regular, or whose size says nothing."""

    LENGTHS = (0, 1, 100, LATE_FROM - 1, LATE_FROM, LATE_FROM + 1, sftp.MAX_DATA, 2**32 - 1)

    def client_on_the_host(self, fast: bool = True) -> Client:
        return self.client_of(SFTPServerStorage("/"), fast)

    def assert_same(self, path: bytes) -> list[Any]:
        """Several READs of each length give the same both ways; returns the replies."""
        answers = []
        for fast in (True, False):
            client = self.client_on_the_host(fast)
            handle = client.open(path)
            stream = b"".join(
                request("read", number, handle, u64(offset), u32(length))
                for number, (length, offset) in enumerate(
                    (length, offset) for _ in range(3) for length in self.LENGTHS for offset in (0, 5)
                )
            )
            answers.append(client.feed(stream))
            client.server.close()
        self.assertGreater(self.watch.calls, 0)
        self.assertTrue(answers[0] == answers[1], path)
        return replies(answers[0])

    def test_zeros_without_end_are_as_many_as_are_asked_for(self):
        answers = self.assert_same(b"/dev/zero")
        lengths = [min(length, sftp.MAX_DATA) for _ in range(3) for length in self.LENGTHS for _ in range(2)]
        self.assertEqual([len(reply.content) for _, reply in answers], lengths)
        self.assertFalse(any(any(reply.content) for _, reply in answers))

    def test_nothing_is_the_end_of_the_file(self):
        for _, reply in self.assert_same(b"/dev/null"):
            self.assertIn((reply.kind, reply.content), (("status", sftp.EOF), ("data", b"")))

    def test_a_fifo_cannot_be_read_at_an_offset(self):
        fifo = self.root / "fifo"
        os.mkfifo(fifo)
        writer = os.open(fifo, os.O_RDWR)
        self.addCleanup(os.close, writer)
        os.write(writer, b"waiting")
        for _, reply in self.assert_same(os.fsencode(fifo)):
            self.assertIn((reply.kind, reply.content), (("status", sftp.FAILURE), ("data", b"")))
        self.assertEqual(os.read(writer, 100), b"waiting")

    def test_a_directory_opened_as_a_file_is_not_read(self):
        for _, reply in self.assert_same(os.fsencode(self.root)):
            self.assertIn((reply.kind, reply.content), (("status", sftp.FAILURE), ("data", b"")))

    def test_a_file_that_is_one_hole_reads_as_zeros(self):
        hole = self.root / "hole"
        hole.touch()
        os.truncate(hole, 2**20)
        for _, reply in self.assert_same(os.fsencode(hole)):
            self.assertEqual((reply.kind, any(reply.content)), ("data", False))

    def read_to_the_end(self, path: str, length: int, fast: bool) -> bytes:
        client = self.client_on_the_host(fast)
        handle = client.open(path.encode())
        content = b""
        while True:
            reply = client.ask("read", handle, u64(len(content)), u32(length))
            if reply.kind == "status":
                self.assertEqual(reply.content, sftp.EOF)
                client.server.close()
                return content
            content += reply.content

    def test_files_of_proc_and_sys_have_their_true_content(self):
        # Not /proc/filesystems, which changes when a module is loaded.
        paths = ["/proc/version", "/proc/self/auxv", "/proc/self/cmdline", "/proc/self/environ"]
        for path in ("/sys/kernel/mm/transparent_hugepage/enabled", "/sys/devices/system/cpu/online"):
            if os.path.exists(path):
                paths.append(path)
        for path in paths:
            expected = Path(path).read_bytes()
            self.assertTrue(expected)
            for length in (1, LATE_FROM, sftp.MAX_DATA):
                for fast in (True, False):
                    with self.subTest(path, length=length, fast=fast):
                        self.assertEqual(self.read_to_the_end(path, length, fast), expected)
        self.assertGreater(self.watch.served[READING], 0)

    def test_a_process_can_read_its_own_status(self):
        def steady(content: bytes) -> list[bytes]:
            lines = content.splitlines()
            kept = (b"Name:", b"Pid:", b"Uid:", b"CapEff:", b"Seccomp:", b"Mems_allowed:")
            return [line for line in lines if line.startswith(kept)]

        expected = steady(Path("/proc/self/status").read_bytes())
        self.assertGreaterEqual(len(expected), 4)
        for length in (LATE_FROM, sftp.MAX_DATA):
            with self.subTest(length):
                self.assertEqual(steady(self.read_to_the_end("/proc/self/status", length, True)), expected)


class Pausing(Watched):
    def drained(self, client: Client, stream: bytes) -> tuple[bytes, int]:
        """All replies to a stream, taken whenever consume() pauses, and how often it did."""
        server = client.server
        buffer = memoryview(bytearray(stream))
        output, at, pauses = b"", 0, 0
        while at < len(buffer):
            before = at
            at = server.consume(buffer, at, len(buffer))
            self.assertGreater(at, before)
            self.assertLessEqual(server.output.size, server.queue_limit + sftp.MAX_PACKET + 4)
            if at < len(buffer):
                pauses += 1
                self.assertGreater(server.output.size, server.queue_limit)
                self.assertEqual(server.consume(buffer, at, len(buffer)), at, "goes on although it is full")
            output += bytes(server.output)
            server.output.clear()
        return output, pauses

    def test_reads_go_on_where_they_paused_and_none_is_lost(self):
        content = self.random_file("f", BIG)
        seed = random.randrange(2**32)
        order = random.Random(seed)
        client = self.client_of(self.storage())
        handle = client.open(b"f")
        asked = [
            (order.randrange(BIG - 1), order.choice((1, 5000, LATE_FROM, sftp.MAX_DATA))) for _ in range(200)
        ]
        stream = b"".join(
            request("read", number, handle, u64(offset), u32(length))
            for number, (offset, length) in enumerate(asked)
        )
        output, pauses = self.drained(client, stream)
        self.assertGreater(pauses, 3, f"seed {seed}")
        self.assert_fast(READING, 200)
        self.assertLess(self.watch.calls, 200, "many requests a call is the point")
        for number, (answered, (offset, length)) in enumerate(zip(replies(output), asked, strict=True)):
            expected = (number, ("data", content[offset : offset + length], b""))
            self.assertTrue(answered == expected, f"reply {number}, seed {seed}")

    def test_writes_between_the_reads_are_served_once_and_in_their_turn(self):
        self.random_file("f", BIG)
        client = self.client_of(self.storage())
        handle = client.open(b"f", sftp.READ | sftp.WRITE)
        stream = b"".join(
            request("write", number, handle, u64(0), string(u32(number)))
            + request("read", number, handle, u64(0), u32(sftp.MAX_DATA))
            for number in range(40)
        )
        output, pauses = self.drained(client, stream)
        self.assertGreater(pauses, 3)
        answered = replies(output)
        self.assertEqual([number for number, _ in answered], [n for n in range(40) for _ in range(2)])
        self.assertEqual([reply.content for _, reply in answered[::2]], [sftp.OK] * 40)
        self.assertEqual([reply.content[:4] for _, reply in answered[1::2]], [u32(n) for n in range(40)])
        self.assert_fast(WRITING, 40)

    def test_nothing_of_the_buffer_is_kept_when_a_write_was_served(self):
        (self.root / "f").write_bytes(b"")
        client = self.client_of(self.storage())
        handle = client.open(b"f", sftp.WRITE)
        data = bytearray(request("write", 1, handle, u64(0), string(b"kept")))
        with memoryview(data) as view:
            self.assertEqual(client.server.consume(view, 0, len(data)), len(data))
        data.clear()  # raises BufferError while anybody refers to it
        self.assertEqual((self.root / "f").read_bytes(), b"kept")
        self.assert_fast(WRITING, 1)
