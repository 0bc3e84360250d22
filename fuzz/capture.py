"""Records the seed corpus: what real clients send to a real server in ordinary use.

    python -m fuzz.capture

Each client is one text file in fuzz/corpus/common, each session one input in it. The jail is the fuzzers'
tree, so that a replayed session finds the same files. The data of WRITE is shortened; names of this host, its
users or its paths stop the capture. What may not enter: how the corpus is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import socket
import sys
import unittest
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncssh

from fuzz import corpus
from fuzz.mutator import cut, joined
from fuzz.storages import TIMES, Tree
from tests.integration.clients import asyncssh_client, lftp, paramiko_client, psftp
from tests.integration.harness import ServedCase, empty
from tests.integration.sshd import Way
from tests.support.packets import string

WRITE = 6
MOST_DATA = 12  # bytes of a WRITE's data that are kept
RECORDER = Path(__file__).with_name("recorder.py")


class Capture(ServedCase):
    """One session with each client; the recorder is what sshd starts."""

    way = Way.AUTHORIZED_KEYS

    @classmethod
    def server_command(cls) -> list[str]:
        return [sys.executable, str(RECORDER), str(cls.place / "record"), *cls.jail_command()]

    def setUp(self) -> None:
        super().setUp()
        for name in ("one", "two"):
            (self.local / name).write_text(f"the content of {name}\n")
            os.utime(self.local / name, TIMES)
        self.record = self.place / "record"
        self.texts: list[str] = []
        self.anew()

    def anew(self) -> None:
        """Reset the jail to the state in which every replay begins."""
        empty(self.jail)
        Tree(self.jail)
        for path in (*self.local.rglob("*"), self.local):
            os.utime(path, TIMES)

    def keep(self, what: str) -> None:
        """Add the session that has just ended as one input."""
        self.wait_until_no_server_is_left()
        stream = shortened(self.record.read_bytes())
        self.record.unlink()
        private = {
            str(self.place),
            self.place.name,
            str(Path.home()),
            os.getcwd(),
            "/tmp",
            socket.gethostname(),
        }
        if getpass.getuser() != "root":  # which is an ordinary word in many places
            private.add(getpass.getuser())
        for word in private:
            if os.fsencode(word) in stream:
                raise RuntimeError(f"the session of {what} names {word!r}")
        self.texts.append(corpus.to_text(b"\0" + stream, what))
        self.anew()

    def write(self, client: str) -> None:
        """Write the inputs to one file."""
        path = corpus.HERE / "common" / f"{client}.txt"
        path.write_text(f"# What {client} sends, recorded by fuzz/capture.py.\n\n" + "\n".join(self.texts))
        print(f"{path.name}: {len(self.texts)} sessions")

    def test_openssh_sftp(self) -> None:
        for commands in (
            ("pwd", "ls -la", "ls -l d", "cd d", "ls", "cd ..", "df", "df -h d", "-ls missing"),
            ("put one", "put -p two d/two", "-put one d", "ls -ln"),
            ("get f", "get -p d/g", "get big", "-get missing", "-reget f"),
            ("get -r d",),
            ("put one", "-reput one", "put -f two again", "put -a one f"),
            ("-put -r . new",),
            (
                "mkdir new",
                "rename f new/f",
                "rename l f",
                "-rename big d",
                "-rmdir new",
                "rm new/*",
                "rmdir new",
            ),
            ("ln f hard", "ln -s f soft", "-ln d hard", "ls -ln", "rm hard", "rm soft"),
            (
                "chmod 600 f",
                "chown 0 f",
                "chgrp 0 f",
                "-chmod -h 700 l",
                "-chown -h 0 l",
                "-chmod 600 missing",
            ),
            ("copy f copied", "-copy f f", "-copy missing new", "ls -l copied"),
        ):
            self.sftp(*commands)
            self.keep(f"sftp: {'; '.join(commands)}")
        self.write("openssh-sftp")

    def test_lftp(self) -> None:
        (self.local / "tree").mkdir()
        (self.local / "tree" / "deep").write_text("deep\n")
        self.anew()
        for commands in (
            ("ls", "cls -l d", "find d/e", "du d/e", "cat d/g"),
            ("put one", "get f", "pget -n 2 big", "put -c one"),
            ("mkdir -p a/b", "mv f a/f", "chmod 600 a/f", "ln -s a/f link", "rm a/f", "rmdir a/b a"),
            ("mirror -R tree", "mirror tree back", "rm -r tree"),
            ("ls missing", "get missing", "rm missing"),
        ):
            lftp(self, *commands, status=None, stop=False)
            self.keep(f"lftp: {'; '.join(commands)}")
        self.write("lftp")

    def test_psftp(self) -> None:
        for commands in (
            ("pwd", "dir", "ls d", "cd d", "cd ..", "ls missing"),
            ("put one", "get f", "mkdir new", "mv one new/one", "get -r new back"),
            ("put -r back new", "chmod 640 new/one", "del new/one", "rmdir new"),
            ("put one", "reput two one", "get big"),
        ):
            psftp(self, *commands, status=None)
            self.keep(f"psftp: {'; '.join(commands)}")
        self.write("psftp")

    def test_paramiko(self) -> None:
        with paramiko_client(self.sshd) as client:
            client.listdir_attr("d")
            client.put(str(self.local / "one"), "one")
            client.get("big", str(self.local / "big"))
            with contextlib.suppress(OSError):
                client.open("/missing")
        self.keep("paramiko: listdir_attr, put, get, a file that is missing")
        with paramiko_client(self.sshd) as client:
            with client.open("d/new", "w+b") as file:
                file.set_pipelined(True)
                file.write(b"0123456789" * 3)
                file.seek(2)
                file.read(4)
                file.truncate(5)
                file.chmod(0o600)
                file.utime(TIMES)
                file.stat()
            with client.open("big", "rb") as file:
                list(file.readv([(0, 10), (32_768, 100), (39_999, 5)]))
        self.keep("paramiko: an open file written, read, truncated and changed; scattered reads")
        with paramiko_client(self.sshd) as client:
            client.symlink("f", "soft")
            client.readlink("soft")
            client.lstat("soft")
            client.normalize("d/..")
            client.rename("f", "one")
            client.posix_rename("big", "one")
            client.mkdir("new")
            client.chdir("new")
            client.rmdir("/new")
            client.remove("/one")
        self.keep("paramiko: links, renames, directories, removals")
        self.write("paramiko")

    def test_asyncssh(self) -> None:
        async def transfers(client: asyncssh.SFTPClient) -> None:
            await client.put(str(self.local / "one"), "one", preserve=True)
            await client.get("big", str(self.local / "big"))
            await client.get("d", str(self.local / "d"), recurse=True, preserve=True)

        async def tree(client: asyncssh.SFTPClient) -> None:
            await client.statvfs("d")
            await client.link("f", "hard")
            await client.symlink("f", "soft")
            await client.realpath("d/up")
            await client.utime("soft", TIMES, follow_symlinks=False)
            await client.chmod("f", 0o640)
            await client.rename("hard", "harder")
            await client.posix_rename("harder", "f")
            await client.makedirs("a/b/c")
            await client.rmtree("a")

        async def files(client: asyncssh.SFTPClient) -> None:
            await client.copy("f", "copied", remote_only=True)
            async with client.open("f", "r+b") as file:
                await file.statvfs()
                await file.fsync()
                await file.write(b"changed", 3)
                await file.read(-1, 0)
                await file.truncate(4)
                await file.utime(TIMES)
            async for _ in client.scandir("d"):
                pass

        async def run(session: Callable[[asyncssh.SFTPClient], Awaitable[None]]) -> None:
            async with asyncssh_client(self.sshd) as client:
                await session(client)

        for session in (transfers, tree, files):
            asyncio.run(run(session))
            self.keep(f"asyncssh: {session.__name__}")
        self.write("asyncssh")


def shortened(stream: bytes) -> bytes:
    """Return the stream with the data of WRITEs shortened."""
    packets, rest = cut(stream)
    for index, packet in enumerate(packets):
        if packet[0] == WRITE:
            start = 9 + int.from_bytes(packet[5:9], "big") + 8
            packets[index] = packet[:start] + string(packet[start + 4 :][:MOST_DATA])
    return joined(packets) + rest


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "Capture"])
