"""The storages whose costs are measured: each behind pysftpsite on a pair of sockets, and behind pysftpd.

What may not enter: what is measured.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

from bench import drivers
from bench.costs_clients import SFTP
from bench.costs_counting import Counter, MongoCommands, RedisCommands, StoreRequests
from bench.costs_doors import USER, Door, Standalone
from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.storages.embedded import LOOPBACK, EmbeddedMongo
from tests.differential.compare import sftp_server
from tests.integration.sshd import TARGET, Sshd, Way
from tests.objects.fake import FakeS3
from tests.objects.stores import CREDENTIALS, NO_OTHERS
from tests.sshd.redis_server import DATABASE, HOST, RedisServer, put_user

BUCKET = "bench"
QUOTA = """
storage = "jail:{files}"
state = "{state}"
{ledger}

[[rule]]
path = "/secret/**"
allow = ["list"]

[[rule]]
path = "/**"
allow = ["all"]

[quota]
bytes = "100 GiB"
files = 1_000_000
"""


def on_a_pipe(argv: Sequence[str], trips: Sequence[Counter] = (), prefix: str = "/") -> Door:
    """Sessions that are child processes of this one, without SSH: they cost what storage and engine cost."""
    begun: list[SFTP] = []

    def begin() -> SFTP:
        begun.append(SFTP(argv, prefix))
        return begun[-1]

    def pids() -> list[int]:
        return [session.process.pid for session in begun if session.process.poll() is None]

    return Door(pids, begin, trips=trips, is_server=False)


def site_command(name: str) -> list[str]:
    return [*drivers.command("pysftpsite"), "--log-level", "ERROR", "--user", USER, name]


@contextlib.contextmanager
def jail(top: Path) -> Iterator[Door]:
    (top / "jail").mkdir()
    yield on_a_pipe(site_command(f"jail:{top / 'jail'}"))


@contextlib.contextmanager
def site(top: Path, ledger: str = "", trips: Sequence[Counter] = ()) -> Iterator[Door]:
    """A jail behind rules and a quota."""
    (top / "jail").mkdir()
    (top / "state").mkdir(mode=0o700)
    file = top / "site.toml"
    file.write_text(QUOTA.format(files=top / "jail", state=top / "state", ledger=ledger))
    yield on_a_pipe(site_command(str(file)), trips)


@contextlib.contextmanager
def site_in_redis(top: Path) -> Iterator[Door]:
    """A jail behind rules and a quota that is counted in Redis."""
    with redis_server() as server, contextlib.closing(server.client(0)) as client:
        ledger = f'ledger = "redis://{HOST}:{server.port}/0?prefix=bench"'
        with site(top, ledger, [RedisCommands(client)]) as door:
            yield door


@contextlib.contextmanager
def gridfs(top: Path) -> Iterator[Door]:
    with database(top) as (uri, commands):
        file = top / "uri"
        file.touch(0o600)
        file.write_text(uri + "\n")
        yield on_a_pipe(site_command(f"gridfs:{file}"), trips=[commands])


@contextlib.contextmanager
def objects(top: Path) -> Iterator[Door]:
    with store() as (address, requests):
        yield on_a_pipe(site_command(address), trips=[requests])


@contextlib.contextmanager
def proxy(top: Path) -> Iterator[Door]:
    """pysftpproxy, with the ssh that it starts, in front of OpenSSH's sftp-server."""
    (top / "jail").mkdir()
    (top / "behind").mkdir(mode=0o700)
    sshd = Sshd(top / "behind", Way.SUBSYSTEM, [sftp_server()])
    sshd.start()
    try:
        words = ["--log-level", "ERROR", "-c", str(sshd.ssh_config), TARGET]
        yield on_a_pipe([*drivers.command("pysftpproxy"), *words], prefix=f"{top}/jail/")
    finally:
        sshd.stop()


# --- the same behind pysftpd, whose users are in Redis ------------------------------------------------------


@contextlib.contextmanager
def pysftpd_jail(top: Path) -> Iterator[Door]:
    with pysftpd_redis(top, {}) as door:
        yield door


@contextlib.contextmanager
def pysftpd_gridfs(top: Path) -> Iterator[Door]:
    with database(top) as (uri, commands):
        options = {"mongo_uri": uri, "mongo_database": "bench"}
        made = SFTPServerMongoStorage(LOOPBACK, commands.port, "bench")
        made.mkdir(f"/{USER}".encode(), 0o755)
        made.close_client()
        with pysftpd_redis(top, options, commands, storage="gridfs") as door:
            yield door


@contextlib.contextmanager
def pysftpd_objects(top: Path) -> Iterator[Door]:
    with store() as (address, requests):
        with pysftpd_redis(top, {"storage_schemes": "s3"}, requests, storage=address) as door:
            yield door


@contextlib.contextmanager
def pysftpd_redis(top: Path, options: dict[str, str], *trips: Counter, **fields: str) -> Iterator[Door]:
    """pysftpd with its user in Redis, bans included. fields: of the user."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(redis_server())
        client = stack.enter_context(contextlib.closing(server.client()))
        standalone = Standalone(top)
        put_user(client, 1, USER, standalone.public, folder=USER, **fields)
        pid = standalone.start(stack, "bans", **redis_options(server), **options)
        yield standalone.door(pid, RedisCommands(client), *trips)


def redis_options(server: RedisServer) -> dict[str, object]:
    """Options of pysftpd for users in a Redis server."""
    return {"redis_host": HOST, "redis_port": server.port, "redis_dbindex": DATABASE}


# --- what is behind them ------------------------------------------------------------------------------------


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def database(top: Path) -> Iterator[tuple[str, MongoCommands]]:
    """The URI of a SecantusDB, and the counter of its commands."""
    with EmbeddedMongo(top / "database") as server:
        commands = MongoCommands(server.port)
        try:
            # A direct connection: otherwise the server would announce its own port and bypass the relay.
            yield f"mongodb://{LOOPBACK}:{commands.port}/bench?directConnection=true", commands
        finally:
            commands.close()


@contextlib.contextmanager
def store() -> Iterator[tuple[str, StoreRequests]]:
    """The storage name of an object store in this process, and the counter of its requests."""
    server = FakeS3()
    server.buckets[BUCKET], server.uploads[BUCKET] = {}, {}
    try:
        with mock.patch.dict(os.environ, NO_OTHERS | CREDENTIALS):
            yield f"s3://{BUCKET}/?endpoint={server.url}&path_style=true", StoreRequests(server)
    finally:
        server.close()
