"""Keys, logs and waiting for the tests of user directories."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh

from pysftpserver.people.updating import UserDirectory
from pysftpserver.sshd.hostkeys import KINDS
from tests.support.waiting import PATIENCE, eventually

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


def put_host_keys(directory: Path) -> None:
    """The host keys of a pysftpd, which takes a second to make its own longer ones. directory: is made."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for name, (algorithm, bits) in KINDS.items():
        key = private_key(0, algorithm, **({"key_size": 2048} if bits else {}))
        (directory / name).touch(0o600)
        (directory / name).write_bytes(key.export_private_key())


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
        await eventually(condition, seconds=seconds)
