"""Peers that say what they want: raw clients of our server, and scripted servers for our client.

What is served, and what is beside it, is in a directory of the test's own; watch() remembers what no peer
may change. Nothing here sleeps for luck: what is waited for has a deadline.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import ssl
import tempfile
import threading
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.sksync import client, shares
from pysftpserver.sksync.client import Request, SyncError, SyncType
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.sksync.serving import Served
from tests.support.ports import LOOPBACK
from tests.support.trees import below
from tests.support.waiting import PATIENCE, until

OLD = 1_000_000_000  # seconds since the epoch: the time of all files that are there before
NEWER = OLD + 100
HELLO = b"pysksync 1\n"
LONG = 1 << 20  # bytes
TEMPORARY = ".pysftp-"


def shown(path: Path) -> bytes:
    """The content of a file, or what stands for it where that is long."""
    if path.stat().st_size <= LONG:
        return path.read_bytes()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").digest()


def opening(sync_type: int, path: str = "/", hello: bytes = HELLO, recursive: bool = True) -> bytes:
    """What a client says before its listing."""
    return hello + b"%d\n%d\n%b\n/c\n" % (sync_type, 0 if recursive else 1, path.encode())


class Serving(Served):
    """Our server in a thread of its own."""

    def __init__(
        self,
        storage: SFTPAbstractServerStorage,
        tls: ssl.SSLContext | None = None,
        shared: Any = None,
        **keys: Any,
    ) -> None:
        super().__init__(shared or shares.whole_storage(lambda: storage), tls, **keys)
        self.lines = self.log.lines
        self.said = self.log.wait

    def connect(self, buffer: int = 0) -> socket.socket:
        """A raw connection. buffer: bytes that it receives ahead of being read."""
        raw = socket.socket()
        if buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        raw.settimeout(PATIENCE)
        raw.connect((LOOPBACK, self.port))
        return raw


def rest(raw: socket.socket) -> bytes:
    """All that a peer still sends, until it ends the connection."""
    found = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := raw.recv(1 << 16):
            found += piece
    return bytes(found)


def read_line(raw: socket.socket) -> bytes:
    """A line, with its end, and not a byte more; what there is of it where the peer ends."""
    found = bytearray()
    with contextlib.suppress(ConnectionError):
        while not found.endswith(b"\n") and (byte := raw.recv(1)):
            found += byte
    return bytes(found)


def read_listing(raw: socket.socket) -> list[bytes]:
    """All that a client says up to the end of its listing."""
    lines = []
    while (line := read_line(raw)) not in (b"\n", b""):
        lines.append(line)
    return lines


class FakeServer:
    """A server that does what a script says with each connection, and then ends it."""

    def __init__(self, *scripts: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self._scripts = scripts
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for script in self._scripts:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            raw.settimeout(PATIENCE)
            with raw, contextlib.suppress(OSError):
                script(raw)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)


class PeerCase(unittest.TestCase):
    """A directory `share` with some files in a directory `outside` that nobody may touch."""

    def setUp(self) -> None:
        super().setUp()
        self.place = Path(tempfile.mkdtemp(prefix="pysksync-hostile-"))
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)
        self.jail = self.place / "outside"
        self.share = self.jail / "share"
        (self.share / "directory").mkdir(parents=True)
        (self.share / "link").symlink_to("../beside")
        (self.jail / "beside").mkdir()
        (self.jail / "beside" / "secret").write_text("a secret")
        self.put("old", b"the old content")
        self.put("below/file", b"in a directory")

    def put(self, name: str, content: bytes, mtime: int = OLD) -> Path:
        path = self.share / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (mtime, mtime))
        return path

    def jailed(self, path: Path | None = None) -> SFTPServerVirtualChroot:
        return SFTPServerVirtualChroot(path or self.jail)

    def serve(self, storage: SFTPAbstractServerStorage | None = None, **keys: Any) -> Serving:
        serving = Serving(storage or self.jailed(), **keys)
        self.addCleanup(serving.stop)
        return serving

    def fake(self, *scripts: Callable[[socket.socket], None]) -> FakeServer:
        faked = FakeServer(*scripts)
        self.addCleanup(faked.close)
        return faked

    def request(self, port: int, sync_type: SyncType = SyncType.TO_SERVER_USE_TIME, **more: Any) -> Request:
        more = {"server_path": "/share", "is_recursive": True, "timeout": PATIENCE, **more}
        return Request(LOOPBACK, port=port, sync_type=sync_type, **more)

    # --- what is asked after each attack ------------------------------------------------------------------

    def tree(self, top: Path | None = None) -> dict[str, object]:
        """All that is there: contents of files, where links lead."""
        found: dict[str, object] = {}
        for path in below(top or self.place):
            name = str(path.relative_to(self.place))
            with contextlib.suppress(FileNotFoundError):  # it has vanished meanwhile
                if path.is_symlink():
                    found[name] = os.readlink(path)
                else:
                    found[name] = shown(path) if path.is_file() else None
        return found

    def assert_no_leftovers(self) -> None:
        def left() -> list[str]:
            return [str(path) for path in below(self.place) if TEMPORARY in path.name]

        until(lambda: not left(), lambda: f"left behind: {left()}")

    def assert_serves(self, serving: Serving) -> None:
        """An ordinary client is served, and nothing was wrong that nobody expected."""
        serving.be_patient()
        source = Path(tempfile.mkdtemp(dir=self.place))
        (source / "ordinary").write_bytes(b"what an ordinary client sends")
        summary = client.sync(self.jailed(source), self.request(serving.port, server_path="/served"))
        self.assertEqual(list(summary.sent), ["ordinary"])
        self.assertEqual((self.jail / "served/ordinary").read_bytes(), b"what an ordinary client sends")
        shutil.rmtree(source)
        shutil.rmtree(self.jail / "served")
        self.assertEqual(serving.errors, [])
        for line in serving.lines:
            self.assertTrue(line.isascii() and line.isprintable(), line)
            self.assertNotIn("Traceback", line)
            self.assertNotIn("fault", line)

    @contextlib.contextmanager
    def nothing_changes(self) -> Iterator[None]:
        before = self.tree()
        yield
        self.assert_no_leftovers()
        self.assertEqual(self.tree(), before)

    def refused(self, serving: Serving, said: bytes, words: str, half_close: bool = True) -> bytes:
        """Say something; the connection ends with a reason in the log, in one line. What was answered."""
        serving.lines.clear()
        with serving.connect() as raw:
            with contextlib.suppress(OSError):  # it may be over already
                raw.sendall(said)
                if half_close:
                    raw.shutdown(socket.SHUT_WR)
            answered = rest(raw)
        serving.said(words)
        return answered

    def fails(self, words: str, request: Request, sync_dry: bool = False) -> SyncError:
        """Our client gives up, with one clear line."""
        with self.assertRaisesRegex(SyncError, words) as caught:
            client.sync(self.jailed(self.share), request, is_dry=sync_dry)
        text = str(caught.exception)
        self.assertTrue(text.isprintable(), text)
        self.assertNotIn(str(self.place), text)
        return caught.exception
