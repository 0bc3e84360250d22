"""A server whose sessions are processes, with users whose storages hang, compute and fail."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import asyncssh

from tests.sshd.inprocess import CHEAP, HOST, raw
from tests.sshd.running import Place, Pysftpd, make_key
from tests.support.packets import HELLO, request, string, u32
from tests.support.processes import descendants
from tests.support.waiting import PATIENCE, eventually

BAD = "tests.sshd.badstorage:Bad"
READ, WRITE, CREAT = 1, 2, 8
FIRST = string(u32(1))


class IsolationCase(Place):
    isolation = "process"

    def serve(self, *options: str, workers: int = 1, starts: bool = True) -> Pysftpd:
        """A server with alice and bob, who have folders, and mallory and others, whose storages are bad."""
        os.mkfifo(self.place / "fifo")
        server = Pysftpd(
            self.place,
            *("--isolation", self.isolation, "--storage-classes", BAD, "--drain-seconds", "1"),
            *("--admin-socket", self.place / "admin", "--create-folders", *options),
            workers=workers,
        )
        make_key(self.place / "key")
        self.key = asyncssh.read_private_key(self.place / "key")
        public = (self.place / "key.pub").read_text().strip()
        users: dict[str, dict[str, object]] = {
            name: {"folder": name, "keys": [public]} for name in ("alice", "bob")
        }
        for name in ("mallory", "none", "hangs"):
            users[name] = {
                "folder": name,
                "keys": [public],
                "storage": f'{BAD} "{self.place}/files/{{folder}}"',
            }
            (self.place / "files" / name).mkdir(parents=True)
        self.users = users
        server.write_users(users)
        self.addCleanup(server.stop)
        if starts:
            server.start()
        self.running = server
        return server

    async def connect(self, name: str, **more: Any) -> Any:
        return await asyncssh.connect(
            HOST,
            self.running.port,
            username=name,
            client_keys=[self.key],
            known_hosts=None,
            agent_path=None,
            config=None,
            **{"encryption_algs": [CHEAP], **more},
        )

    async def begun(self, name: str, **more: Any) -> Any:
        """A channel on which INIT was answered."""
        channel = await raw(await self.connect(name, **more))
        channel.send(HELLO)
        await channel.packet()
        return channel

    def sessions(self) -> list[int]:
        """The processes of sessions, where several processes serve."""
        return [pid for pid, name, _ in descendants(self.running.pid) if name.startswith("sftp ")]

    async def processes(self, count: int) -> list[int]:
        """The processes of sessions, once there are so many."""
        found: list[int] = []

        def are_there() -> bool:
            found[:] = self.running.sessions()
            return len(found) == count

        await eventually(are_there, f"{count} sessions")
        return found

    def run_async(self, test: Any) -> None:
        async def limited() -> None:
            await asyncio.wait_for(test(), 3 * PATIENCE)

        asyncio.run(limited())


async def answer(channel: Any, name: str, number: int, *parts: bytes) -> bytes:
    """Make a request; the packet that answers it."""
    channel.send(request(name, number, *parts))
    packet = await asyncio.wait_for(channel.packet(), PATIENCE)
    assert packet[5:9] == u32(number), packet
    return packet  # type: ignore[no-any-return]


def cpu_seconds(process: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss(process: int) -> int:
    """Resident memory of a process in bytes."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
