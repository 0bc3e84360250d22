"""One channel between asyncssh and the engine: order, backpressure, fairness, and clients that misbehave."""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import tempfile
import threading
import unittest
import unittest.mock
from pathlib import Path

import asyncssh
from asyncssh.constants import MSG_CHANNEL_CLOSE

from pysftpserver.people.users import User
from pysftpserver.server import SFTPServer
from pysftpserver.service.threads import THREADS
from pysftpserver.sshd.channel import MOST_UNSENT
from pysftpserver.sshd.connection import MOST_CHANNELS
from pysftpserver.sshd.threaded import has_packet
from pysftpserver.sshd.window import FIRST as FIRST_WINDOW
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.sshd.inprocess import HOST, Raw, asynchronous, raw, running, user
from tests.support.hard import IS_HARD
from tests.support.packets import HELLO, MAX_DATA, NO_ATTRS, replies, request, split, string, u32, u64
from tests.support.waiting import PATIENCE, eventually

READ, WRITE, CREAT, TRUNC = 1, 2, 8, 16
LONGEST = 262144  # bytes of a packet
FIRST = string(u32(1))  # the handle of what is opened first
MIB = 1 << 20
ROUNDS = 40 if IS_HARD else 4
CLIENTS = 200 if IS_HARD else 30


class SlowStorage(SFTPServerStorage):
    """Its stat() waits until a test lets it go on. It says that it talks to another host."""

    uses_network = True

    def __init__(self, path: Path, gate: threading.Event) -> None:
        super().__init__(path)
        self.gate = gate
        self.entered = threading.Event()

    def stat(self, path: bytes) -> object:
        self.entered.set()
        self.gate.wait(2 * PATIENCE)
        return super().stat(path)


class RemoteStorage(SFTPServerStorage):
    """Local files that are served as those of another host would be: in threads."""

    uses_network = True


class ChannelCase(unittest.TestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="pysftpserver-channel-"))
        self.addCleanup(shutil.rmtree, self.root, ignore_errors=True)

    def jail(self, user: object = None) -> SFTPServerVirtualChroot:
        return SFTPServerVirtualChroot(self.root)

    def remote(self, user: object = None) -> RemoteStorage:
        return RemoteStorage(self.root)

    async def opened(self, connection: object, path: bytes, flags: int) -> Raw:
        """A channel on which INIT was answered and a file is open, with the handle FIRST."""
        channel = await raw(connection)
        channel.send(HELLO + request("open", 1, string(path), u32(flags), NO_ATTRS))
        _, answer = split(await channel.packets(2))
        self.assertEqual(answer[5:], FIRST)
        return channel


class TestCompletePackets(unittest.TestCase):
    """What is worth a thread."""

    def test_a_packet_is_served_when_it_is_complete(self) -> None:
        packet = request("stat", 1, string(b"f"))
        self.assertTrue(has_packet(bytearray(packet + packet[:5]), LONGEST))
        for length in range(len(packet)):
            self.assertFalse(has_packet(bytearray(packet[:length]), LONGEST))

    def test_a_length_that_no_packet_has_is_the_engines_to_complain_of(self) -> None:
        for length in (0, LONGEST + 1, 0xFFFFFFFF):
            self.assertTrue(has_packet(bytearray(u32(length) + b"x"), LONGEST))


class TestOrder(ChannelCase):
    """What is answered is what the engine alone answers."""

    def stream(self, chance: random.Random) -> bytes:
        """A session's packets: quick and slow ones mixed, of which some fail."""
        packets = [HELLO]
        number = 0

        def add(name: str, *parts: bytes) -> None:
            nonlocal number
            number += 1
            packets.append(request(name, number, *parts))

        names = [b"a", b"b", b"d/c", b"none/x"]
        add("mkdir", string(b"d"), NO_ATTRS)
        for _ in range(chance.randrange(30, 120)):
            name, other = (string(chance.choice(names)) for _ in range(2))
            handle = string(u32(chance.randrange(1, 8)))
            offset = u64(chance.randrange(0, 200_000))
            kind = chance.choice(
                "open open write write write read read read close fsync stat fstat remove rename "
                "posix-rename realpath setstat mkdir rmdir readlink hardlink copy-data limits unknown".split()
            )
            if kind == "open":
                add(
                    "open",
                    name,
                    u32(chance.choice((READ, READ | WRITE | CREAT, WRITE | CREAT | TRUNC))),
                    NO_ATTRS,
                )
            elif kind == "write":
                add("write", handle, offset, string(chance.randbytes(chance.choice((0, 1, 5000, 32768)))))
            elif kind == "read":
                add("read", handle, offset, u32(chance.choice((1, 32768, MAX_DATA))))
            elif kind in ("close", "fsync"):
                add(kind, handle)
            elif kind in ("rename", "posix-rename", "hardlink"):
                add(kind, name, other)
            elif kind == "setstat":
                add(kind, name, u32(1) + u64(chance.randrange(0, 100_000)))
            elif kind == "mkdir":
                add(kind, name, NO_ATTRS)
            elif kind == "copy-data":
                add(kind, handle, u64(0), u64(1000), string(u32(chance.randrange(1, 8))), offset)
            elif kind == "fstat":
                add("read", handle, offset, u32(10))
            elif kind == "limits":
                add(kind)
            elif kind == "unknown":
                packets.append(u32(5) + bytes([99]) + u32(number + 1))
                number += 1
            elif kind == "stat":
                add("opendir", string(b"no such directory"))
            else:
                add(kind, name)
        return b"".join(packets)

    def alone(self, stream: bytes, storage: SFTPServerStorage) -> bytes:
        server = SFTPServer(storage)
        server.input_queue = stream
        server.process()
        output = server.output_queue
        server.close()
        return output

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file()
        }

    def empty(self) -> None:
        shutil.rmtree(self.root)
        self.root.mkdir()

    async def compare(self, storage_of: object, rounds: int) -> None:
        async with running(storage_of) as server, await server.connect() as connection:
            for _ in range(rounds):
                seed = random.randrange(2**32)
                with self.subTest(seed=seed):
                    chance = random.Random(seed)
                    stream = self.stream(chance)
                    expected = self.alone(stream, storage_of(None))
                    files = self.files()
                    self.empty()
                    channel = await raw(connection)
                    position = 0
                    while position < len(stream):  # in pieces that end anywhere
                        size = chance.choice((1, 3, 100, 5000, 100_000))
                        channel.send(stream[position : position + size])
                        position += size
                        if chance.random() < 0.3:
                            await asyncio.sleep(0)
                    channel.writer.write_eof()
                    self.assertEqual(split(await channel.rest()), split(expected))
                    await channel.writer.channel.wait_closed()
                    self.assertEqual(self.files(), files)
                    self.empty()

    @asynchronous
    async def test_a_local_storage_answers_random_streams_as_the_engine_alone_does(self) -> None:
        await self.compare(self.jail, ROUNDS)

    @asynchronous
    async def test_a_storage_in_threads_answers_random_streams_as_the_engine_alone_does(self) -> None:
        await self.compare(self.remote, ROUNDS)


class TestPackets(ChannelCase):
    """Packets that come in pieces, are broken or never end."""

    @asynchronous
    async def test_a_packet_in_two_pieces_is_answered_however_they_come(self) -> None:
        for storage_of in (self.jail, self.remote):
            async with running(storage_of) as server, await server.connect() as connection:
                channel = await raw(connection)
                channel.send(HELLO)
                await channel.packet()
                for round in range(20):
                    data = request("mkdir", round, string(b"d" * 60), NO_ATTRS)
                    cut = random.randrange(1, len(data))
                    channel.send(data[:cut])
                    if round % 2:
                        await asyncio.sleep(0.005)
                    channel.send(data[cut:])
                    answer = await asyncio.wait_for(channel.packet(), PATIENCE)
                    self.assertEqual(replies(answer)[0][0], round)

    @asynchronous
    async def test_a_length_that_no_packet_has_ends_the_session_with_a_word_in_the_log(self) -> None:
        for storage_of in (self.jail, self.remote):
            for length in (0, LONGEST + 1, 0xFFFFFFFF):
                async with running(storage_of) as server, await server.connect() as connection:
                    channel = await raw(connection)
                    channel.send(HELLO + u32(length) + b"x")
                    self.assertEqual(len(split(await asyncio.wait_for(channel.rest(), PATIENCE))), 1)
                    await channel.writer.channel.wait_closed()
                    self.assertEqual(channel.writer.channel.get_exit_status(), 255)
                    self.assertTrue(any(f"a packet of {length} bytes" in line for line in server.lines))
                    self.assertFalse(any("Traceback" in line for line in server.lines))

    @asynchronous
    async def test_garbage_ends_the_session_and_no_other(self) -> None:
        for storage_of in (self.jail, self.remote):
            async with running(storage_of) as server, await server.connect() as connection:
                good = await raw(connection)
                good.send(HELLO)
                await good.packet()
                for seed in range(20):
                    bad = await raw(connection)
                    bad.send(random.Random(seed).randbytes(5000))
                    bad.writer.write_eof()
                    await asyncio.wait_for(bad.rest(), PATIENCE)
                good.send(request("stat", 1, string(b".")))
                self.assertEqual(replies(await good.packet())[0][0], 1)

    @asynchronous
    async def test_an_end_in_the_middle_of_a_packet_is_an_end(self) -> None:
        for storage_of in (self.jail, self.remote):
            async with running(storage_of) as server, await server.connect() as connection:
                for cut in (1, 4, 5, 9):
                    channel = await raw(connection)
                    channel.send(HELLO + request("stat", 1, string(b"."))[:cut])
                    channel.writer.write_eof()
                    self.assertEqual(len(split(await asyncio.wait_for(channel.rest(), PATIENCE))), 1)
                    await asyncio.wait_for(channel.writer.channel.wait_closed(), PATIENCE)

    @asynchronous
    async def test_a_client_that_sends_no_more_still_gets_every_reply(self) -> None:
        (self.root / "f").write_bytes(bytes(8 * MIB))
        for storage_of in (self.jail, self.remote):
            async with running(storage_of) as server, await server.connect() as connection:
                channel = await self.opened(connection, b"f", READ)
                for number in range(256):
                    channel.send(request("read", number, FIRST, u64(number * 32768), u32(32768)))
                channel.writer.write_eof()
                answered = split(await channel.rest())
                self.assertEqual(len(answered), 256)
                self.assertEqual(sum(len(answer) - 9 for answer in answered), 8 * MIB)
                await channel.writer.channel.wait_closed()
                self.assertEqual(channel.writer.channel.get_exit_status(), 0)


class TestSeveralAtOnce(ChannelCase):
    @asynchronous
    async def test_a_storage_that_blocks_stalls_no_other_session(self) -> None:
        gate = threading.Event()
        slow = SlowStorage(self.root, gate)

        def storage_of(user: object) -> SFTPServerStorage:
            return slow if user.name == "slow" else self.jail()

        async with running(storage_of, user("slow"), user("quick")) as server:
            try:
                async with await server.connect("slow") as one, await server.connect("quick") as other:
                    waiting = await raw(one)
                    waiting.send(HELLO)
                    await waiting.packet()
                    waiting.send(request("stat", 1, string(b".")))
                    await eventually(slow.entered.is_set)
                    quick = await raw(other)
                    quick.send(HELLO)
                    await quick.packet()
                    for number in range(100):
                        quick.send(request("mkdir", number, string(b"d%d" % number), NO_ATTRS))
                        await asyncio.wait_for(quick.packet(), PATIENCE)
                    self.assertFalse(gate.is_set())
                    gate.set()
                    self.assertEqual(replies(await waiting.packet())[0][0], 1)
            finally:
                gate.set()

    @asynchronous
    async def test_the_channels_of_one_connection_are_sessions_of_their_own(self) -> None:
        async with running(self.jail) as server, await server.connect() as connection:
            channels = [await self.opened(connection, b"%d" % n, WRITE | CREAT) for n in range(10)]
            with self.assertRaises(asyncssh.ChannelOpenError):
                await raw(connection)
            for number, channel in enumerate(channels):
                channel.send(request("write", 7, FIRST, u64(0), string(b"%d" % number * 1000)))
            for channel in channels:
                self.assertEqual(replies(await channel.packet())[0][0], 7)
            channels[0].writer.write_eof()
            await channels[0].rest()
            await channels[0].writer.channel.wait_closed()
            await eventually(lambda: len(next(iter(server.server.connections)).channels) == 9)
            await self.opened(connection, b"more", WRITE | CREAT)
        for number in range(10):
            self.assertEqual((self.root / f"{number}").read_bytes(), b"%d" % number * 1000)

    @asynchronous
    async def test_a_connection_whose_channel_has_ended_counts_from_then_as_idle(self) -> None:
        async with running(self.jail) as server:
            async with await server.connect() as connection:
                channel = await self.opened(connection, b"f", WRITE | CREAT)
                last = asyncio.get_running_loop().time()
                channel.send(request("write", 2, FIRST, u64(0), string(b"x")))
                await channel.packet()
                (there,) = server.server.connections
                channel.writer.channel.close()
                await eventually(lambda: not there.channels)
                self.assertGreaterEqual(there.moved_at(), last)

    @asynchronous
    async def test_channels_that_were_refused_leave_room_for_others(self) -> None:
        async with running(self.jail) as server, await server.connect() as connection:
            for _ in range(25):
                with self.assertRaises(asyncssh.ChannelOpenError):
                    await connection.open_session(subsystem="nothing", encoding=None)
            await self.opened(connection, b"f", WRITE | CREAT)

    @asynchronous
    async def test_channels_that_the_client_never_closes_count(self) -> None:
        async with running(self.jail) as server, await server.connect() as connection:
            with self.assertRaises(asyncssh.ChannelOpenError):
                for _ in range(MOST_CHANNELS + 1):
                    channel = await self.opened(connection, b"f", WRITE | CREAT)
                    there = channel.writer.channel
                    there._packet_handlers = {**there._packet_handlers, MSG_CHANNEL_CLOSE: lambda *_: True}
                    channel.writer.write_eof()
            (ours,) = server.server.connections
            self.assertEqual(len(ours.channels), MOST_CHANNELS)
            self.assertEqual(len(ours.conn._channels), MOST_CHANNELS)

    @asynchronous
    async def test_a_storage_that_cannot_be_had_refuses_the_session_and_is_logged(self) -> None:
        def storage_of(user: object) -> SFTPServerStorage:
            raise OSError(28, "No space left on device")

        async with running(storage_of) as server, await server.connect() as connection:
            for _ in range(2):
                with self.assertRaises(asyncssh.ChannelOpenError):
                    await raw(connection)
            self.assertTrue(
                any("cannot be opened: no space left" in line for line in server.lines), server.lines
            )


class TestThreads(ChannelCase):
    """What takes long is done in threads, which one user cannot have all of."""

    @asynchronous
    async def test_one_user_who_takes_all_he_can_keeps_nobody_waiting(self) -> None:
        gate = threading.Event()
        people = user("alice"), user("bob")
        slow = SlowStorage(self.root, gate)

        def storage_of(who: User) -> SFTPServerStorage:
            return slow if who.name == "alice" else RemoteStorage(self.root)

        async with running(storage_of, *people) as server:
            try:
                for _ in range(THREADS // MOST_CHANNELS + 1):
                    connection = await server.connect("alice")
                    for _ in range(MOST_CHANNELS):
                        (await raw(connection)).send(HELLO + request("stat", 1, string(b".")))
                await eventually(slow.entered.is_set)
                channel = await raw(await server.connect("bob"))
                channel.send(HELLO + request("stat", 1, string(b".")))
                await asyncio.wait_for(channel.packets(2), PATIENCE)
            finally:
                gate.set()

    @asynchronous
    async def test_a_storage_that_hangs_does_not_hold_up_the_end_for_ever(self) -> None:
        gate = threading.Event()
        self.addCleanup(gate.set)
        slow = SlowStorage(self.root, gate)
        with unittest.mock.patch("pysftpserver.sshd.server.CLOSING", 0.5):
            async with running(lambda who: slow) as server:
                (await raw(await server.connect())).send(HELLO + request("stat", 1, string(b".")))
                await eventually(slow.entered.is_set)
                began = asyncio.get_running_loop().time()
                await server.server.stop()
                self.assertLess(asyncio.get_running_loop().time() - began, PATIENCE / 2)
                self.assertTrue(any("did not end in time" in line for line in server.lines), server.lines)


class TestTheEnd(ChannelCase):
    @asynchronous
    async def test_a_session_with_an_open_file_holds_up_the_end_until_it_closes_the_file(self) -> None:
        for storage_of in (self.jail, self.remote):
            async with running(storage_of, options={"drain_seconds": "60"}) as server:
                channel = await self.opened(await server.connect(), b"f", WRITE | CREAT)
                idle = await raw(await server.connect())
                stopping = asyncio.create_task(server.server.stop())
                self.assertEqual(await idle.rest(), b"")  # its connection ends at once
                self.assertEqual(len(server.server.connections), 1)
                channel.send(request("close", 2, FIRST))
                await channel.packet()
                await asyncio.wait_for(stopping, PATIENCE)
                self.assertEqual(len(server.server.channels), 0)

    @asynchronous
    async def test_replies_that_the_client_has_not_taken_hold_it_up_too(self) -> None:
        (self.root / "f").write_bytes(bytes(4 * MIB))
        for storage_of in (self.jail, self.remote):
            async with running(storage_of, options={"drain_seconds": "60"}) as server:
                channel = await self.opened(await server.connect(window=65536), b"f", READ)
                channel.reader.channel.pause_reading()
                for number in range(64):
                    channel.send(request("read", number, FIRST, u64(number << 16), u32(1 << 16)))
                channel.send(request("close", 99, FIRST))
                (connection,) = server.server.connections
                (there,) = connection.channels
                await eventually(lambda: there._is_full)  # noqa: B023
                stopping = asyncio.create_task(server.server.stop())
                await asyncio.sleep(0)
                channel.reader.channel.resume_reading()
                answers = split(await asyncio.wait_for(channel.packets(65), PATIENCE))
                self.assertEqual({len(one) for one in answers[:-1]}, {(1 << 16) + 13 - 4})
                await asyncio.wait_for(stopping, PATIENCE)

    @asynchronous
    async def test_asyncio_has_nothing_to_log_when_a_client_is_cut_off_that_has_asked_for_much(self) -> None:
        (self.root / "f").write_bytes(bytes(16 * MIB))
        async with running(self.jail) as server:
            connection = await server.connect()
            channel = await self.opened(connection, b"f", READ)
            with self.assertNoLogs("asyncio", "WARNING"):
                for number in range(40):
                    channel.send(request("read", number, FIRST, u64(number << 16), u32(1 << 18)))
                with socket.fromfd(connection.get_extra_info("socket").fileno(), 0, 0) as client:
                    client.shutdown(socket.SHUT_RDWR)  # the requests have been sent; replies are refused
                await eventually(lambda: not len(server.server.connections))

    @asynchronous
    async def test_nor_when_a_channel_is_closed_while_a_thread_serves_it(self) -> None:
        gate = threading.Event()
        self.addCleanup(gate.set)
        slow = SlowStorage(self.root, gate)
        self.enterContext(unittest.mock.patch("pysftpserver.sshd.server.CLOSING", 0.1))
        async with running(lambda who: slow) as server:
            (await raw(await server.connect())).send(HELLO + request("stat", 1, string(b".")))
            await eventually(slow.entered.is_set)
            (there,) = server.server.channels
            session = there.session
            with self.assertNoLogs("asyncio", "WARNING"):
                gate.set()
                server.server.threads.shutdown(wait=True)  # the reply is there, and the loop has not seen it
                there.chan.close()
                await eventually(lambda: not session._is_busy)
            there.session = None  # there are no threads to close it in


class TestBackpressure(ChannelCase):
    """Nobody's slowness fills the memory."""

    @asynchronous
    async def test_replies_wait_in_the_files_while_nobody_takes_them(self) -> None:
        (self.root / "f").write_bytes(bytes(16 * MIB))
        for storage_of in (self.jail, self.remote):
            async with running(storage_of) as server, await server.connect(window=65536) as connection:
                channel = await self.opened(connection, b"f", READ)
                channel.reader.channel.pause_reading()
                for number in range(64):
                    channel.send(request("read", number, FIRST, u64(number * MAX_DATA), u32(MAX_DATA)))
                (there,) = next(iter(server.server.connections)).channels
                await eventually(lambda: there._is_full or there.session._is_busy)  # noqa: B023
                for _ in range(20):
                    await asyncio.sleep(0.01)
                    self.assertLess(there.chan.get_write_buffer_size(), MOST_UNSENT + 12 * MAX_DATA)
                channel.reader.channel.resume_reading()
                await asyncio.wait_for(channel.packets(64), PATIENCE)

    @asynchronous
    async def test_a_huge_window_makes_nobody_keep_what_the_peer_does_not_take(self) -> None:
        (self.root / "f").write_bytes(bytes(40 * MIB))  # more than the kernel's buffers
        for storage_of in (self.jail, self.remote):
            async with running(storage_of) as server, await server.connect(window=1 << 30) as connection:
                channel = await self.opened(connection, b"f", READ)
                connection._transport.pause_reading()
                for number in range(160):
                    channel.send(request("read", number, FIRST, u64(number * MAX_DATA), u32(MAX_DATA)))
                there = next(iter(server.server.connections))
                await eventually(lambda: there.is_full)  # noqa: B023
                for _ in range(30):
                    await asyncio.sleep(0.01)
                    self.assertLess(there.conn._transport.get_write_buffer_size(), 4 * MIB)
                connection._transport.resume_reading()
                await asyncio.wait_for(channel.packets(160), PATIENCE)

    @asynchronous
    async def test_a_client_that_sends_faster_than_the_storage_writes_has_to_wait(self) -> None:
        gate = threading.Event()
        slow = SlowStorage(self.root, gate)
        async with running(lambda user: slow) as server, await server.connect() as connection:
            try:
                channel = await self.opened(connection, b"f", WRITE | CREAT)
                channel.send(request("stat", 2, string(b".")))
                await eventually(slow.entered.is_set)
                for number in range(256):
                    channel.send(request("write", number, FIRST, u64(0), string(bytes(32768))))
                (there,) = next(iter(server.server.connections)).channels
                await eventually(lambda: there.window.kept > FIRST_WINDOW * 15 // 16)
                self.assertLessEqual(len(there.session._rest), FIRST_WINDOW)
                self.assertGreater(channel.writer.channel.get_write_buffer_size(), 4 * MIB)
                gate.set()
                await asyncio.wait_for(channel.packets(257), PATIENCE)
            finally:
                gate.set()

    @asynchronous
    async def test_a_client_that_fills_its_window_gets_a_larger_one_but_no_larger_than_the_setting(
        self,
    ) -> None:
        for most in (8 * MIB, FIRST_WINDOW):
            options: dict[str, str | bool] = {"window": str(most)}
            async with running(self.jail, options=options) as server, await server.connect() as connection:
                channel = await self.opened(connection, b"f", WRITE | CREAT)
                (there,) = server.server.channels
                for _ in range(3):
                    rest, count = channel.writer.channel._send_window, 0
                    self.assertLessEqual(rest, most)
                    while rest:  # exactly as much as it may send
                        size = min(rest, 1 << 16) if rest > 2 << 16 or rest <= 1 << 16 else rest // 2
                        content = string(bytes(size - len(request("write", 1, FIRST, u64(0), string(b"")))))
                        channel.send(request("write", count, FIRST, u64(0), content))
                        rest, count = rest - size, count + 1
                    await channel.packets(count)
                self.assertEqual(there.window.size, most)


class TestBeforeTheHandshake(ChannelCase):
    @asynchronous
    async def test_garbage_instead_of_ssh_ends_that_connection_alone(self) -> None:
        async with running(self.jail) as server, await server.connect() as connection:
            for data in (
                b"GET / HTTP/1.1\r\n\r\n",
                b"\0" * 5000,
                b"SSH-1.5-old\r\n",
                b"SSH-2.0-x\r\n" + b"\xff" * 99,
            ):
                reader, writer = await asyncio.open_connection(HOST, server.port)
                writer.write(data)
                writer.write_eof()
                try:
                    await asyncio.wait_for(reader.read(), PATIENCE)
                except ConnectionResetError:
                    pass
                writer.close()
            await eventually(lambda: len(server.server.connections) == 1)
            await self.opened(connection, b"f", WRITE | CREAT)

    @asynchronous
    async def test_many_clients_at_once_are_all_served(self) -> None:
        async with running(self.jail) as server:

            async def one(number: int) -> None:
                async with await server.connect(login_timeout=50) as connection:
                    channel = await self.opened(connection, b"%d" % number, WRITE | CREAT)
                    channel.send(request("write", 2, FIRST, u64(0), string(b"x" * number)))
                    self.assertEqual(replies(await channel.packet())[0][0], 2)

            await asyncio.gather(*(one(number) for number in range(CLIENTS)))
            await eventually(lambda: not server.server.connections)
        self.assertEqual(len(list(self.root.iterdir())), CLIENTS)
