"""What our client says, byte for byte, to a server that says what it is told to; and what it makes of it."""

from __future__ import annotations

import hashlib
import random
import socket
from typing import Any

from pysftpserver.sksync.client import Dialect, SyncError, SyncType
from pysftpserver.sksync.sending import BLOCK
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.sksync import oldstyle
from tests.sksync.peers import FakeServer
from tests.sksync.serving import NOW, Directories, cuts, put, tree
from tests.support.waiting import PATIENCE


class Scripted(FakeServer):
    """A server for one client, which says its lines in any pieces, whatever it hears. heard: all of that.

    script: (how much to hear first: up to those bytes; what to say then).
    """

    def __init__(self, script: list[tuple[bytes, bytes]], how: int = 0) -> None:
        self.heard = b""
        self._lines = script
        self._how = how
        super().__init__(self._talk)

    def _talk(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for until, words in self._lines:
            while not self.heard.endswith(until):
                piece = connection.recv(4096)
                if not piece:
                    return
                self.heard += piece
            for piece in cuts(words, self._how):
                connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(4096):
            self.heard += piece

    def end(self) -> bytes:
        """Wait for its end; what it heard."""
        self._thread.join(PATIENCE)
        return self.heard


class Words(Directories):
    def scripted(self, script: list[tuple[bytes, bytes]], how: int = 0) -> Scripted:
        server = Scripted(script, how)
        self.addCleanup(server.close)
        return server

    def download(
        self, dialect: Dialect, files: dict[str, bytes], end: bytes = b"\n", how: int = 0
    ) -> Scripted:
        """A server that sends files, and then `end`."""
        said = b"\n"
        for name, content in files.items():
            said += f"{name}\n{NOW}999\n{len(content)}\n".encode(dialect.encoding) + content
            if dialect.has_digests:
                said += hashlib.md5(content).hexdigest().encode() + b"\n"
        script = [(f"{dialect.title}\n".encode(), b"Protocol Established\n")]
        if dialect.has_digests:
            script.append((b"/\n", b"md5\n"))
        return self.scripted([*script, (b"\n\n", said + end)], how)

    def test_it_says_what_the_original_client_said(self) -> None:
        for number, mtime in ((2, 1345316070), (1, 1345316082), (3, 1345316010)):
            put(self.here, f"test{number}.txt", b"", mtime + 0.5)
        server = self.scripted([(b"sksync 1\n", b"Protocol Established\n"), (b"\n\n", b"\n\n")])
        done = self.sync(
            server.port,
            server_path="/tmp/skmemos",
            client_path="/sdcard/skmemos",
            sync_type=SyncType.FROM_SERVER_NO_TIME,
            dialect=Dialect.SKSYNC_1,
        )
        lines = server.end().split(b"\n")
        head = [b"sksync 1", b"5", b"0", b"/tmp/skmemos", b"/sdcard/skmemos"]
        files = [b"1345316010000 test3.txt", b"1345316070000 test2.txt", b"1345316082000 test1.txt"]
        self.assertEqual((lines[:5], sorted(lines[5:8]), lines[8:]), (head, files, [b"", b""]))
        self.assertEqual((done.bytes, done.unchanged), (0, 3))

    def test_what_a_server_says_in_any_pieces_is_the_same(self) -> None:
        files = {"a": b"", "caf\u00e9": b"x\n\n", "d/e": bytes(range(256)) * 30}
        for dialect in Dialect:
            for how in (0, 1, 2, 5, -21, -22, -23):
                with self.subTest(dialect=dialect.title, how=how):
                    server = self.download(dialect, files, how=how)
                    done = self.sync(server.port, path=f"{dialect.title} {how}", dialect=dialect)
                    self.assertEqual(set(done.received), set(files))
                    expected = {name: (content, NOW) for name, content in files.items()}
                    self.assertEqual(tree(self.here / f"{dialect.title} {how}"), expected)

    def test_an_upload_is_what_the_page_says(self) -> None:
        put(self.here, "caf\u00e9", b"abc\n", NOW)
        for dialect in Dialect:
            with self.subTest(dialect.title):
                name = "caf\u00e9\n".encode(dialect.encoding)
                script = [(f"{dialect.title}\n".encode(), b"Protocol Established\n")]
                digest = b""
                if dialect.has_digests:
                    script.append((b"/\n", b"md5\n"))
                    digest = hashlib.md5(b"abc\n").hexdigest().encode() + b"\n"
                content = b"4\nabc\n" + digest
                script += [(b"\n\n", name), (content, b"\n\n")]
                server = self.scripted(script)
                self.sync(
                    server.port, dialect=dialect, sync_type=SyncType.TO_SERVER_NO_TIME, is_recursive=False
                )
                expected = f"{dialect.title}\n4\n1\nthere\n/\n{NOW}000 ".encode() + name + b"\n" + content
                self.assertEqual(server.end(), expected)

    def test_a_server_that_ends_before_the_end_is_a_failure_and_what_came_whole_stays(self) -> None:
        for end, whole in ((b"", {"a"}), (b"b\n5000\n100\nabc", {"a"}), (b"b", {"a"}), (b"b\n", {"a"})):
            with self.subTest(end):
                server = self.download(Dialect.PYSKSYNC_1, {"a": b"whole"}, end)
                with self.assertRaises(SyncError) as caught:
                    self.sync(server.port, dialect=Dialect.PYSKSYNC_1)
                self.assertEqual(set(caught.exception.summary.received), whole)
                self.assertEqual(tree(self.here), {"a": (b"whole", NOW)})
                (self.here / "a").unlink()

    def test_files_as_large_as_a_block_or_nearly_go_both_ways(self) -> None:
        sizes = (BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7, BLOCK // 2, BLOCK // 2 - 5)
        for size in sizes:
            put(self.here, f"h{size}", random.Random(7).randbytes(size))
            put(self.there, f"t{size}", random.Random(7).randbytes(size))
        old = oldstyle.Server(self.root)
        self.addCleanup(old.stop)
        both: dict[str, Any] = {"sync_type": SyncType.BIDIRECTIONAL_USE_TIME}
        ours = self.serve().port
        for dialect in Dialect:
            for port in (ours, old.port):
                self.sync(port, dialect=dialect, **both)
                self.assertEqual(tree(self.here), tree(self.there))
                for size in sizes:
                    (self.here / f"t{size}").unlink()
                    (self.there / f"h{size}").unlink()

    def test_a_file_that_vanished_on_the_server_while_it_was_asked_for_is_made_anew(self) -> None:
        put(self.there, "f", b"old", NOW)
        client = self.raw(self.serve().port)
        client.say(b"pysksync 1\n1\n0\nthere\nhere\n%d000 f\n\n" % (NOW + 1))
        self.assertEqual([client.line(), client.line()], [b"Protocol Established\n", b"f\n"])
        (self.there / "f").unlink()
        client.say(b"3\nnew")
        self.assertEqual(client.rest(), b"\n\n")
        self.assertEqual(tree(self.there), {"f": (b"new", NOW + 1)})

    def test_what_the_server_cannot_read_makes_the_sync_fail_and_the_others_come(self) -> None:
        class Locked(SFTPServerVirtualChroot):
            def open(self, path: bytes, flags: int, mode: int) -> Any:
                if path.endswith(b"locked"):
                    raise PermissionError(13, "Permission denied")
                return super().open(path, flags, mode)

        for name in ("a", "locked", "z"):
            put(self.there, name, b"content")
        served = self.serve(Locked(self.root))
        with self.assertRaises(SyncError) as caught:
            self.sync(served.port)
        self.assertEqual(set(caught.exception.summary.received), {"a", "z"})
        served.log.wait("'locked': permission denied")
