"""Keys, logs and waiting for the tests of user directories."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any

import asyncssh

from pysftpserver.engine.log import DEBUG1, SFTPLog
from pysftpserver.sshd.users import UserDirectory

PATIENCE = 15.0  # seconds
_made: dict[tuple[str, int], asyncssh.SSHKey] = {}


def private_key(number: int = 0, algorithm: str = "ssh-ed25519", **options: Any) -> asyncssh.SSHKey:
    """A key pair of a kind; the same one for the same number."""
    wanted = (f"{algorithm} {options}", number)
    if wanted not in _made:
        _made[wanted] = asyncssh.generate_private_key(algorithm, **options)
    return _made[wanted]


def line(number: int = 0, algorithm: str = "ssh-ed25519", **options: Any) -> str:
    """Its public half, as a line without a comment."""
    return private_key(number, algorithm, **options).export_public_key().decode().strip()


def blob(number: int = 0, algorithm: str = "ssh-ed25519", **options: Any) -> bytes:
    """Its public half, as SSH sends it."""
    return private_key(number, algorithm, **options).public_data


def base64_alone(number: int = 0, algorithm: str = "ssh-ed25519", **options: Any) -> str:
    """Its public half, as the protocol's page has it."""
    return base64.b64encode(blob(number, algorithm, **options)).decode()


class Lines:
    """A log that is kept: .log is it, .lines what it has been told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.log = SFTPLog(lambda _, text: self.lines.append(text), DEBUG1)

    def count(self, *words: str) -> int:
        """How many lines have all of these words."""
        return sum(all(word in line for word in words) for line in self.lines)

    def __str__(self) -> str:
        return "\n".join(self.lines)


class Watcher:
    """Starts a directory, and keeps what it announces."""

    def __init__(self, directory: UserDirectory) -> None:
        self.directory = directory
        self.changes: list[str] = []

    async def __aenter__(self) -> Watcher:
        await self.directory.start(self.changes.append)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.directory.close()

    async def until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        await until(condition, seconds)


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Return when the condition is true. Raises AssertionError when it stays false for so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain")
        await asyncio.sleep(0.005)
