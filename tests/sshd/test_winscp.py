"""WinSCP's order of requests, played back: it logs in, lists, uploads with `.filepart`, resumes, downloads.

Facts, from its sources (source/core/SftpFileSystem.cpp): it announces version 6, sends the size of a file
with OPEN, does not wait for the replies to WRITE, sends CLOSE before they have come, and the next READDIR as
soon as it has names. Files from 100 KiB on are uploaded as NAME.filepart: then the old file is removed, the
new one renamed, and its times are set. It answers one question with the stored password.
"""

from __future__ import annotations

import shutil
import tempfile
import unittest
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.differential.packets import Attributes, Entry, Reply
from tests.sshd.inprocess import Running, asynchronous, raw, running
from tests.sshd.test_ways_in import BOTH, ONLY_QUESTIONS, PASSWORD, SECRET, Answers, code, with_password
from tests.support.packets import (
    CREAT,
    EOF,
    EXCL,
    INIT,
    NO_ATTRS,
    NO_SUCH_FILE,
    OK,
    READ,
    TRUNC,
    WRITE,
    attrs,
    extensions,
    packet,
    replies,
    request,
    string,
    u32,
    u64,
)

BLOCK = 32 << 10  # bytes of a READ and a WRITE
QUEUE = 32  # READs at once
THEN = (1_000_000_001, 1_000_000_001)


class WinSCP:
    """One session. It sends without waiting, and takes replies in the order of the requests."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.sent = self.taken = 0

    def send(self, name: str, *parts: bytes) -> None:
        self.sent += 1
        self.channel.send(request(name, self.sent, *parts))

    async def take(self) -> Reply:
        self.taken += 1
        ((number, reply),) = replies(await self.channel.packet())
        assert number == self.taken, (number, self.taken)
        return reply

    async def ask(self, name: str, *parts: bytes) -> Any:
        """The content of the reply: there are no others on their way."""
        assert self.sent == self.taken
        self.send(name, *parts)
        return (await self.take()).content

    async def begin(self) -> None:
        """What it does before it shows a directory."""
        self.channel.send(packet(INIT, u32(6)))
        extensions((await self.channel.packet())[4:])
        (home,) = await self.ask("realpath", string(b"."))
        assert home.name == b"/"
        assert isinstance(await self.ask("lstat", string(b"/")), Attributes)

    async def names(self, path: bytes) -> set[bytes]:
        """A listing, with the next READDIR on its way while names are read."""
        handle = string(await self.ask("opendir", string(path)))
        found: set[bytes] = set()
        self.send("readdir", handle)
        while (reply := await self.take()).kind == "name":
            self.send("readdir", handle)
            assert isinstance(reply.content, tuple)
            found.update(entry.name for entry in reply.content if isinstance(entry, Entry))
        assert reply.content == EOF
        assert await self.ask("close", handle) == OK
        return found

    def write(self, handle: bytes, content: bytes, offset: int = 0) -> None:
        for start in range(0, len(content), BLOCK):
            self.send("write", handle, u64(offset + start), string(content[start : start + BLOCK]))

    async def put_large(self, name: bytes, content: bytes, stops_at: int | None = None) -> None:
        """Upload with NAME.filepart, and go on with one that is there. stops_at: bytes that arrive."""
        part = name + b".filepart"
        old = await self.ask("lstat", string(name))
        rest = await self.ask("lstat", string(part))
        offset = rest.size if isinstance(rest, Attributes) else 0
        assert offset is not None
        flags = WRITE | CREAT | (0 if offset else TRUNC)
        size = attrs(Attributes(size=len(content))) if flags & TRUNC else NO_ATTRS
        handle = string(await self.ask("open", string(part), u32(flags), size))
        self.write(handle, content[offset:stops_at], offset)
        if stops_at is not None:
            await self.all_is_well()
            return
        self.send("close", handle)
        await self.all_is_well()
        was_there = isinstance(old, Attributes)
        if was_there:
            assert await self.ask("remove", string(name)) == OK
        else:
            assert old == NO_SUCH_FILE
        assert await self.ask("rename", string(part), string(name)) == OK
        kept = Attributes(permissions=old.permissions & 0o7777 if was_there else None, times=THEN)
        assert await self.ask("setstat", string(name), attrs(kept)) == OK

    async def put_small(self, name: bytes, content: bytes) -> None:
        """Upload under the name at once, if there is none; the times are set before replies have come."""
        size = attrs(Attributes(size=len(content)))
        flags = u32(WRITE | CREAT | EXCL | TRUNC)
        handle = string(await self.ask("open", string(name), flags, size))
        self.write(handle, content)
        self.send("close", handle)
        self.send("setstat", string(name), attrs(Attributes(times=THEN)))
        await self.all_is_well()

    async def get(self, name: bytes) -> bytes:
        """Download with QUEUE requests at once; CLOSE is sent at the first end."""
        handle = string(await self.ask("open", string(name), u32(READ), NO_ATTRS))
        size = (await self.ask("fstat", handle)).size
        for number in range(min(size // BLOCK + 1, QUEUE)):
            self.send("read", handle, u64(number * BLOCK), u32(BLOCK))
        asked = min(size // BLOCK + 1, QUEUE) * BLOCK
        content = b""
        while (reply := await self.take()).kind == "data":
            assert isinstance(reply.content, bytes)
            content += reply.content
            self.send("read", handle, u64(asked), u32(BLOCK))
            asked += BLOCK
        self.send("close", handle)
        assert reply.content == EOF
        while self.taken < self.sent - 1:
            assert (await self.take()).content == EOF
        await self.all_is_well()
        return content

    async def all_is_well(self) -> None:
        """Take the replies that are missing, which must all be OK."""
        while self.taken < self.sent:
            reply = await self.take()
            assert reply.content == OK, reply


class TestWinSCP(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="pysftpserver-winscp-"))
        self.addCleanup(shutil.rmtree, self.place)

    @asynccontextmanager
    async def session(self, server: Running) -> AsyncIterator[WinSCP]:
        async with await server.connect() as connection:
            session = WinSCP(await raw(connection))
            await session.begin()
            yield session

    def serve(self) -> Any:
        return running(lambda user: SFTPServerVirtualChroot(self.place), with_password(), options=BOTH)

    @asynchronous
    async def test_it_logs_in_with_the_stored_password_in_either_order_of_methods(self) -> None:
        people = with_password(), with_password("bob", totp=SECRET)
        async with running(lambda user: SFTPServerVirtualChroot(self.place), *people, options=BOTH) as server:
            for order in ("keyboard-interactive,password", "password,keyboard-interactive"):
                client = Answers(PASSWORD)
                how = {**ONLY_QUESTIONS, "preferred_auth": order, "password": PASSWORD}
                (await server.connect(client_factory=lambda client=client: client, **how)).close()
            # A code is asked for in a question of its own, which the stored password does not answer.
            client = Answers(code())
            how = {"client_keys": [], "preferred_auth": "password,keyboard-interactive", "password": PASSWORD}
            (await server.connect("bob", client_factory=lambda: client, **how)).close()
            self.assertEqual(client.asked, ["Verification code: "])

    @asynchronous
    async def test_uploads_and_downloads_are_whole_and_keep_times_and_permissions(self) -> None:
        content = bytes(range(256)) * 8192  # 2 MiB
        (self.place / "old").write_bytes(b"old")
        (self.place / "old").chmod(0o640)
        async with self.serve() as server, self.session(server) as client:
            await client.put_large(b"new", content + b"x")
            await client.put_large(b"old", content)
            await client.put_small(b"small", content[: 3 * BLOCK])
            self.assertEqual(await client.names(b"/"), {b".", b"..", b"new", b"old", b"small"})
            self.assertEqual(await client.get(b"new"), content + b"x")
            self.assertEqual(await client.get(b"old"), content)  # its end is that of a block
            self.assertEqual(await client.get(b"small"), content[: 3 * BLOCK])
        for name in ("new", "old", "small"):
            self.assertEqual((self.place / name).stat().st_mtime, THEN[1], name)
        self.assertEqual((self.place / "old").stat().st_mode & 0o7777, 0o640)

    @asynchronous
    async def test_an_interrupted_upload_leaves_what_has_come_and_is_continued(self) -> None:
        """The size in OPEN is a hint: were the file made that long, its end would count as uploaded."""
        content = bytes(range(256)) * 4096
        (self.place / "file").write_bytes(b"old")
        async with self.serve() as server:
            async with self.session(server) as client:
                await client.put_large(b"file", content, stops_at=5 * BLOCK)
            self.assertEqual((self.place / "file.filepart").stat().st_size, 5 * BLOCK)
            self.assertEqual((self.place / "file").read_bytes(), b"old")
            async with self.session(server) as client:
                await client.put_large(b"file", content)
                self.assertEqual(await client.names(b"/"), {b".", b"..", b"file"})
        self.assertEqual((self.place / "file").read_bytes(), content)
