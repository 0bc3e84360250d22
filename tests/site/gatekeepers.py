"""What gates of sites ask, for tests: clamd with one signature, a fake of it that says so, and programs."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.waiting import PATIENCE, until

EVIL = b"EVIL-CONTENT"
MOST = 1 << 20  # bytes that clamd takes
CLAMD = "/usr/sbin/clamd"
CONFIGURATION = """
DatabaseDirectory {place}/signatures
TemporaryDirectory {place}
LocalSocket {place}/clamd.sock
StreamMaxLength 1M
Foreground yes
SelfCheck 100000
"""
Handler = Callable[[socketserver.StreamRequestHandler], None]


@contextlib.contextmanager
def listening(path: str, handle: Handler) -> Iterator[str]:
    """A Unix socket where each connection is handled by a function in a thread; its path."""

    class OfOne(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                handle(self)

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    with Server(path, OfOne) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield path
        finally:
            server.shutdown()
            thread.join()


def listens(path: str) -> bool:
    """Whether somebody does: the socket is there a moment before."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def fake_clamd(talk: socketserver.StreamRequestHandler) -> None:
    """What clamd answers to INSTREAM. It looks for EVIL, and is a fake."""
    assert talk.rfile.read(10) == b"zINSTREAM\0"
    content = b""
    while size := int.from_bytes(talk.rfile.read(4), "big"):
        content += talk.rfile.read(size)
        if len(content) > MOST:
            talk.wfile.write(b"INSTREAM size limit exceeded. ERROR\0")
            return
    talk.wfile.write(b"stream: A-fake-of-clamd FOUND\0" if EVIL in content else b"stream: OK\0")


@contextlib.contextmanager
def clamd(place: Path) -> Iterator[str]:
    """Debian's clamd with one signature, or where it is not installed, the fake; the path of its socket."""
    path = str(place / "clamd.sock")
    if not Path(CLAMD).exists():
        with listening(path, fake_clamd):
            yield path
        return
    (place / "signatures").mkdir()
    (place / "signatures" / "test.ndb").write_text(f"Evil.Test:0:*:{EVIL.hex()}\n")
    (place / "clamd.conf").write_text(CONFIGURATION.format(place=place))
    with (place / "clamd.log").open("wb") as log:
        process = subprocess.Popen([CLAMD, "-c", str(place / "clamd.conf")], stdout=log, stderr=log)
    try:
        until(
            lambda: listens(path) or process.poll() is not None,
            lambda: (place / "clamd.log").read_text(errors="replace"),
        )
        yield path
    finally:
        process.terminate()
        process.wait(PATIENCE)
