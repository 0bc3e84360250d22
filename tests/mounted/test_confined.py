"""A session on several storages is confined although one of them is away, and that one comes back."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import ssl
import sys
import threading
from urllib.parse import urlsplit

from tests.differential.compare import sftp_server
from tests.objects.fake import FakeS3
from tests.objects.stores import CREDENTIALS, NO_OTHERS
from tests.proxy.servers import script
from tests.sksync.certificates import Pair
from tests.support import packets as sftp
from tests.support.between import DOWN, Between
from tests.support.cases import InAPlace
from tests.support.doors import Door, DoorCase, Wire
from tests.support.forked import environment
from tests.support.packets import request, string
from tests.support.paths import ROOT
from tests.support.ports import LOOPBACK, free_port
from tests.support.processes import is_alive
from tests.support.waiting import NEVER, PATIENCE, until

SERVE = f"""
import sys
sys.path.insert(0, {os.fspath(ROOT)!r})
from pysftpserver.cli import pysftpsite
from pysftpserver.storages.mounted import mount
mount.PAUSE = 0.0
"""
RUN = "raise SystemExit(pysftpsite.main(sys.argv[1:]))"
#: Each request to a store is tried once: there is no time for a pause.
ONCE = f"from pysftpserver.storages.objects import web\nweb.FIRST_PAUSE = {NEVER}\n"
GONE = b"The storage of /far is not available; try again later"


class ConfinedCase(DoorCase, InAPlace):
    def setUp(self) -> None:
        super().setUp()
        self.top, self.far = self.place / "top", self.place / "far"
        for directory in (self.top, self.far):
            directory.mkdir()
            (directory / "f").write_text(directory.name)

    def serve(self, name: str, more: str = "", **variables: str) -> tuple[Door, Wire]:
        """A session whose /far is the storage with this name. more: lines of its program."""
        site = self.place / "site.toml"
        site.write_text(f'storage = "jail:{self.top}"\n[[mount]]\npath = "/far"\nstorage = "{name}"\n')
        their_in, our_out = os.pipe()
        our_in, their_out = os.pipe()
        argv = [sys.executable, "-c", SERVE + more + RUN, "-l", str(self.place / "log"), str(site)]
        door = self.start_door(argv, self.place / "log", their_in, their_out, env=environment(**variables))
        for descriptor in (their_in, their_out):
            os.close(descriptor)
        for descriptor in (our_in, our_out):
            self.addCleanup(os.close, descriptor)
        wire = Wire(our_in, our_out)
        wire.hello()
        self.assert_confined(door)
        return door, wire

    def assert_confined(self, door: Door) -> None:
        line = next(line for line in door.log().splitlines() if "sandbox: " in line)
        for words in ("files beneath the storage only", "no programs"):
            self.assertIn(words, line)

    def stat(self, wire: Wire, path: bytes) -> str:
        return wire.ask("stat", string(path)).kind


class Confined(ConfinedCase):
    def test_another_sftp_server_that_is_away_at_first_and_lost_again(self) -> None:
        programs = self.place / "programs"
        programs.mkdir()
        here, pid = self.place / "here", self.place / "pid"
        server = f"exec {shlex.join([sftp_server()])}"
        script(programs / "ssh", f"test -e {here} || exit 1\necho $$ > {pid}\n{server}")
        path = f"{programs}:{os.environ['PATH']}"
        door, wire = self.serve(f"sftp://server{self.far}", PATH=path)
        self.assertEqual((self.stat(wire, b"/f"), self.stat(wire, b"/far/f")), ("attrs", "status"))
        here.touch()
        handle = self.open(wire, b"/far/f")
        first = int(pid.read_text())
        os.kill(first, signal.SIGKILL)
        until(lambda: not is_alive(first), "ssh has ended")
        self.assertEqual(wire.ask("fstat", handle).kind, "status")
        self.assertEqual((self.stat(wire, b"/far/f"), self.stat(wire, b"/far/f")), ("attrs", "attrs"))
        self.assertNotEqual(self.open(wire, b"/far/f"), b"")
        self.assertEqual(wire.ask("fstat", handle).kind, "status")  # it is another connection's
        self.assertEqual(wire.ask("close", handle).kind, "status")
        second = int(pid.read_text())
        self.assertNotEqual(first, second)
        door.kill()
        until(lambda: not is_alive(second), "ssh ends with the session")

    def open(self, wire: Wire, path: bytes) -> bytes:
        reply = wire.ask("open", string(path), sftp.u32(sftp.READ), sftp.NO_ATTRS)
        self.assertEqual(reply.kind, "handle")
        return string(reply.content)

    def test_an_object_store_that_is_away_at_first(self) -> None:
        port = free_port()
        authority = Pair(self.place, "authority", is_authority=True)
        pair = Pair(self.place, "store", ("localhost",), authority)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certfile, pair.keyfile)
        settings = f"timeout={PATIENCE}&spool={self.place}&ca_file={authority.certfile}"
        name = f"s3://b/p?endpoint=https://localhost:{port}&{settings}"
        _, wire = self.serve(name, ONCE, **NO_OTHERS, **CREDENTIALS)
        self.assertEqual((self.stat(wire, b"/f"), self.stat(wire, b"/far/f")), ("attrs", "status"))
        store = FakeS3(context, port)
        self.addCleanup(store.close)
        store.buckets["b"], store.uploads["b"] = {}, {}
        flags = sftp.u32(sftp.WRITE | sftp.CREAT)
        opened = wire.ask("open", string(b"/far/new"), flags, sftp.NO_ATTRS)
        self.assertEqual(opened.kind, "handle", opened)
        handle = string(opened.content)
        far = 20 << 20  # bytes: in the spool
        for offset in (far, 0):
            done = wire.ask("write", handle, sftp.u64(offset), string(b"content"))
            self.assertEqual(done.content, 0, done)
        self.assertEqual(wire.ask("close", handle).content, 0)
        self.assertEqual(len(store.buckets["b"]["p/new"].content), far + 7)


class WaitingForAStore(ConfinedCase):
    """An object store that is waited for keeps no session from ending."""

    def setUp(self) -> None:
        super().setUp()
        self.listener = socket.create_server((LOOPBACK, 0))
        self.addCleanup(self.listener.close)
        self.listener.settimeout(PATIENCE)

    def ask(self) -> tuple[Door, Wire, socket.socket]:
        """A session that waits for the answer of a store, whose side is returned."""
        port = self.listener.getsockname()[1]
        name = f"s3://b/p?endpoint=http://{LOOPBACK}:{port}&timeout={NEVER}"
        door, wire = self.serve(name, **NO_OTHERS, **CREDENTIALS)
        wire.send(request("stat", 1, string(b"/far/f")))
        return door, wire, self.asked()

    def asked(self) -> socket.socket:
        store, _ = self.listener.accept()
        self.addCleanup(store.close)
        store.settimeout(PATIENCE)
        self.assertIn(b"HTTP/1.1", store.recv(1 << 16))
        return store

    def test_a_signal_ends_it(self) -> None:
        door, _, _ = self.ask()
        os.kill(door.pid, signal.SIGTERM)
        self.assertEqual(door.end(), 0)

    def test_a_signal_ends_it_between_two_attempts(self) -> None:
        door, _, store = self.ask()
        for _ in range(2):
            store.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            store = self.asked()
        os.kill(door.pid, signal.SIGTERM)
        self.assertEqual(door.end(), 0)

    def test_the_client_s_going_away_ends_it(self) -> None:
        door, wire, _ = self.ask()
        for descriptor in (wire._reading, wire._writing):
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, descriptor)
            os.close(null)
        self.assertEqual(door.end(), 0)

    def test_a_part_of_an_upload_that_the_store_does_not_take_is_discarded(self) -> None:
        store = FakeS3()
        self.addCleanup(store.close)
        store.buckets["b"], store.uploads["b"] = {}, {}
        between = Between(urlsplit(store.url).port or 0)
        self.addCleanup(between.close)
        hung = threading.Event()

        def order(direction: str, so_far: int, piece: bytes) -> float | None:
            if direction == DOWN or b"partNumber=" not in piece:
                return None
            hung.set()
            return NEVER

        between.order = order
        name = f"s3://b/p?endpoint={between.url}&path_style=true&timeout={NEVER}&spool={self.place}"
        door, wire = self.serve(name, **NO_OTHERS, **CREDENTIALS)
        flags = sftp.u32(sftp.WRITE | sftp.CREAT)
        handle = string(wire.ask("open", string(b"/far/new"), flags, sftp.NO_ATTRS).content)
        for offset in range(0, 10 << 20, 1 << 17):  # more than one part, less than two
            wire.send(request("write", 9, handle, sftp.u64(offset), string(bytes(1 << 17))))
        self.assertTrue(hung.wait(PATIENCE))
        self.assertTrue(store.uploads["b"])
        os.kill(door.pid, signal.SIGTERM)
        self.assertEqual(door.end(), 0)
        self.assertEqual((store.uploads["b"], store.buckets["b"]), ({}, {}))
