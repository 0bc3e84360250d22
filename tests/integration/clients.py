"""How the clients other than OpenSSH's log in to the sshd of a test.

None of them may ask anything: keys and host keys are given, and there is no terminal.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncssh
import paramiko

from tests.integration.harness import Finished, ServedCase
from tests.integration.sshd import HOST, TARGET, Sshd
from tests.support.processes import Argument, program
from tests.support.waiting import PATIENCE

Case = TypeVar("Case")
Words = ParamSpec("Words")

_fingerprints: dict[bytes, str] = {}  # by the key's file
# A line of `ls -l` in sftp.
LONGNAME = re.compile(
    r"(?P<mode>[-dlcbps][-rwxsStT]{9}) +(?P<links>\d+|\?) +(?P<user>\S+) +(?P<group>\S+) +"
    r"(?P<size>\d+) (?P<date>[A-Z][a-z]{2} [ \d]\d (?:\d\d:\d\d| \d{4})) (?P<name>.+)"
)


def asynchronous(
    test: Callable[Concatenate[Case, Words], Awaitable[None]],
) -> Callable[Concatenate[Case, Words], None]:
    """Run a coroutine as a test, within the time limit of a client.

    ``IsolatedAsyncioTestCase`` would run it in asyncio's debug mode, many times slower.
    """

    @functools.wraps(test)
    def run(case: Case, *words: Words.args, **more: Words.kwargs) -> None:
        async def limited() -> None:
            await asyncio.wait_for(test(case, *words, **more), 2 * PATIENCE)

        asyncio.run(limited())

    return run


@asynccontextmanager
async def asyncssh_connection(sshd: Sshd, **more: Any) -> AsyncIterator[asyncssh.SSHClientConnection]:
    connection = await asyncssh.connect(
        HOST,
        sshd.port,
        username=sshd.user,
        client_keys=[str(sshd.client_key)],
        known_hosts=str(sshd.known_hosts),
        agent_path=None,
        config=None,
        **more,
    )
    async with connection:
        yield connection


@asynccontextmanager
async def asyncssh_client(sshd: Sshd) -> AsyncIterator[asyncssh.SFTPClient]:
    async with asyncssh_connection(sshd) as connection, connection.start_sftp_client() as client:
        yield client


@contextmanager
def paramiko_client(sshd: Sshd) -> Iterator[paramiko.SFTPClient]:
    with paramiko.SSHClient() as connection:
        connection.load_host_keys(str(sshd.known_hosts))
        connection.connect(
            HOST,
            sshd.port,
            username=sshd.user,
            key_filename=str(sshd.client_key),
            allow_agent=False,
            look_for_keys=False,
            timeout=PATIENCE,
            banner_timeout=PATIENCE,
            auth_timeout=PATIENCE,
        )
        client = connection.open_sftp()
        client.get_channel().settimeout(PATIENCE)  # type: ignore[union-attr]
        yield client


def lftp(case: ServedCase, *commands: str, status: int | None = 0, stop: bool = True) -> Finished:
    """Run commands with lftp.

    Args:
        status: as in ``ServedCase.client``.
        stop: end at the first command that fails.
    """
    script = [
        f'set sftp:connect-program "ssh -a -x -F {case.sshd.ssh_config}"',
        "set net:max-retries 1",
        "set net:reconnect-interval-base 1",
        f"set cmd:fail-exit {'yes' if stop else 'no'}",
        # The empty password keeps it from asking for one: the key does the work.
        f"open -u {case.sshd.user}, sftp://{TARGET}",
        *commands,
    ]
    return case.client(["lftp", "--norc", "-c", "; ".join(script)], status=status)


def fingerprint(path: Path) -> str:
    """Of a key in a file, as ssh-keygen shows it."""
    key = path.read_bytes()
    if key not in _fingerprints:
        words = [program("ssh-keygen"), "-l", "-f", path]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        _fingerprints[key] = done.stdout.split()[1]
    return _fingerprints[key]


def psftp(case: ServedCase, *commands: Argument, status: int | None = 0) -> Finished:
    """Run commands with PuTTY's psftp until the first one that fails."""
    key = case.sshd.directory / "client_key.ppk"
    if not key.exists():
        convert: list[str | Path] = [program("puttygen"), case.sshd.client_key, "-O", "private", "-o", key]
        subprocess.run(convert, check=True, stdin=subprocess.DEVNULL)
    script = case.place / "psftp-script"
    script.write_bytes(b"".join(os.fsencode(line) + b"\n" for line in (*commands, "quit")))
    argv: list[Argument] = ["psftp", "-batch", "-b", script, "-i", key]
    argv += ["-hostkey", fingerprint(case.sshd.host_key)]
    where = ["-P", str(case.sshd.port), f"{case.sshd.user}@{HOST}"]
    return case.client([*argv, *where], status=status)
