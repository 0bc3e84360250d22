"""Stores files through one door: python -m tests.faults.storing DOOR SERVED PLACE

DOOR is a name of DOORS. SERVED is the directory that the door serves, in which "old" is replaced and "new" is
made, and with some doors many more; PLACE is for everything else. When the client has been told that all are
stored, "stored" is printed, and the door serves on until standard input ends. With --unsynced, nothing that
this process does is synced.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pysftpserver.laboratory import client
from pysftpserver.laboratory.services.files import Files
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.laboratory import serving
from tests.remo import running
from tests.support.paths import ROOT
from tests.support.ports import LOOPBACK
from tests.support.processes import Program
from tests.support.waiting import PATIENCE

NAMES = ("old", "new")
MANY = (*NAMES, *(f"directory {number % 3}/{number}" for number in range(40)))  # synced together
CONTENT = b"the new content " * 5000
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@contextlib.contextmanager
def sync(server: Path, local: Path, sync_type: str, place: Path) -> Iterator[None]:
    """A server and a client of pysksync, each on its directory."""
    common = {"require_auth": False, "host": LOOPBACK, "protocol": "pysksync 1", "allow_root": True}

    def start(name: str, settings: dict[str, object], *words: str) -> Program:
        (place / f"{name}.json").write_text(json.dumps({**common, **settings}))
        argv = [sys.executable, ROOT / "bin/pysksync", place / f"{name}.json", *words]
        return Program(argv, place / f"{name}.log", cwd=place, env=ENVIRONMENT)

    with contextlib.closing(start("server", {"server_root": str(server), "port": 0})) as process:
        port = int(process.said(r"listening on \S+ port (\d+)")[1])
        section = {"server_path": "/", "client_path": str(local), "recursive": True, "sync_type": sync_type}
        given = {"port": port, "clients": {"one": section}}
        ended = start("client", given, "client", "one", "-q").wait(PATIENCE)
        if ended:
            logs = ((place / f"{name}.log").read_text() for name in ("client", "server"))
            raise AssertionError("\n".join(logs))
        yield


@contextlib.contextmanager
def sync_to_server(served: Path, local: Path) -> Iterator[None]:
    with sync(served, local, "to_server_use_time", local.parent):
        yield


@contextlib.contextmanager
def sync_from_server(served: Path, local: Path) -> Iterator[None]:
    with sync(local, served, "from_server_use_time", local.parent):
        yield


@contextlib.contextmanager
def administration(served: Path, local: Path) -> Iterator[None]:
    """pysftpremo's put."""
    running.furnish(local.parent)
    host = running.Server(local.parent, "--root", str(served))
    try:
        with host.connect() as remote:
            for name in NAMES:
                remote.put(CONTENT, f"/{name}")
        yield
    finally:
        host.kill()


@contextlib.contextmanager
def messages(served: Path, local: Path) -> Iterator[None]:
    """Files of the message server."""
    server = serving.Served((Files(lambda: SFTPServerVirtualChroot(served)),))
    with client.connect(
        serving.HOST, server.port, password=serving.PASSWORD, name="ann", timeout=PATIENCE
    ) as connection:
        for name in NAMES:
            connection.send(f"put /{name}")
            expect(connection, "ready")
            for at in range(0, len(CONTENT), 30_000):
                connection.send(f"data {base64.b64encode(CONTENT[at : at + 30_000]).decode()}")
            connection.send("end")
            expect(connection, "stored")
    yield
    server.stop()


def expect(connection: client.Connection, word: str) -> None:
    said = connection.receive(PATIENCE)
    if said.split()[0] != word:
        raise AssertionError(said)


def sftp(*options: str) -> Callable[[Path, Path], contextlib.AbstractContextManager[None]]:
    """Uploads with OpenSSH's sftp to pysftpjail."""

    @contextlib.contextmanager
    def stored(served: Path, local: Path) -> Iterator[None]:
        server = ["/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, str(ROOT / "bin/pysftpjail")]
        put(local, "-D", shlex.join([*server, *options, str(served)]))
        yield

    return stored


def put(local: Path, *words: str) -> None:
    """Upload with OpenSSH's sftp. words: of its command line."""
    subprocess.run(  # it says itself what fails
        ["sftp", "-q", "-b", "-", *words],
        input="".join(f"put {local / name} {name}\n" for name in NAMES).encode(),
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=PATIENCE,
    )


def pysftpd(*options: str) -> Callable[[Path, Path], contextlib.AbstractContextManager[None]]:
    """Uploads with OpenSSH's sftp to pysftpd."""

    @contextlib.contextmanager
    def stored(served: Path, local: Path) -> Iterator[None]:
        from tests.integration.sshd import TARGET  # slow to import
        from tests.sshd.running import Login, Pysftpd

        (local.parent / "files").symlink_to(served.parent)
        server = Pysftpd(local.parent, *options)
        login = Login(local.parent / "alice", "alice")
        server.write_users({"alice": {"folder": served.name, "keys": [login.public]}})
        server.start()
        try:
            login.meet(server)
            put(local, "-F", str(login.ssh_config), TARGET)
            yield
        finally:
            server.stop()

    return stored


DOORS: dict[str, Callable[[Path, Path], contextlib.AbstractContextManager[None]]] = {
    "pysksync, to the server": sync_to_server,
    "pysksync, from the server": sync_from_server,
    "pysftpremo": administration,
    "pysftplab, Files": messages,
    "pysftpjail --durable": sftp("--durable"),
    "pysftpjail --durable --atomic-uploads": sftp("--durable", "--atomic-uploads"),
    "pysftpjail --atomic-uploads": sftp("--atomic-uploads"),
    "pysftpjail": sftp(),
}
DOORS |= {
    f"pysftpd, {isolation} {' '.join(options)}": pysftpd("--isolation", isolation, *options)
    for isolation in ("process", "thread")
    for options in (("--durable",), ("--durable", "--atomic-uploads"), ("--atomic-uploads",))
}

IN_PLACE = [door for door in DOORS if re.fullmatch("pysftp(jail|d, [a-z]+)( --durable)?", door)]


def names_of(door: str) -> tuple[str, ...]:
    """The names of the files that are stored through a door."""
    return MANY if door.startswith("pysksync") else NAMES


def main() -> None:
    if "--unsynced" in sys.argv:
        os.fsync = lambda _: None
    door, served, place = sys.argv[1:4]
    local = Path(tempfile.mkdtemp(dir=place)) / "local"
    for name in names_of(door):
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes(CONTENT)
        os.utime(local / name, (time.time() + 100,) * 2)  # newer than what is there
    with DOORS[door](Path(served), local):
        print("stored", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
