"""When something breaks in a sync: the old file is whole, nothing lies about, and both sides know."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
from typing import Any

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.sksync import client, shares, wire
from pysftpserver.sksync.client import SyncType, sync
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.sksync.peers import NEWER, TEMPORARY, PeerCase, Serving, opening, read_line, read_listing, rest
from tests.sksync.processes import ProcessCase
from tests.support.waiting import PATIENCE, until

TIME = b"%d" % (NEWER * 1000)
FROM, TO = SyncType.FROM_SERVER_USE_TIME, SyncType.TO_SERVER_USE_TIME
HALF = opening(1, "/share") + TIME + b" old\n\n1000\nhalf of it"


class Failing(SFTPServerVirtualChroot):
    """A storage in which one thing fails. room: bytes that can be written."""

    room = 1 << 40
    forbidden: tuple[bytes, ...] = ()
    has_times = True

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        if path.rpartition(b"/")[2] in self.forbidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fsdecode(self._secret()))
        return super().open(path, flags, mode)

    def _secret(self) -> bytes:
        return b"/a/path/of/the/host"

    def write(self, handle: Any, off: int, chunk: Any) -> None:
        self.room -= len(chunk)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(handle, off, chunk)

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        if new.rpartition(b"/")[2] in self.forbidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        super().rename(old, new, replace)

    def fsetstat(self, handle: Any, attrs: SFTPAttributes) -> None:
        if attrs.mtime is not None and not self.has_times:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        super().fsetstat(handle, attrs)


class FaultCase(PeerCase):
    """A server with the directory share, and a client whose directory is other."""

    def setUp(self) -> None:
        super().setUp()
        self.other = self.jail / "other"
        self.other.mkdir()
        for name, content in (("a", b"new a"), ("old", b"x" * 500_000), ("z", b"new z")):
            (self.other / name).write_bytes(content)
            os.utime(self.other / name, (NEWER, NEWER))

    def storages(self, **faults: Any) -> tuple[Failing, Failing]:
        """Those of the share and of the other; the faults are the first one's."""
        failing, sound = Failing(self.jail), Failing(self.other)
        for name, value in faults.items():
            setattr(failing, name, value)
        return failing, sound

    def upload(self, serving: Serving, words: str = "") -> client.Summary:
        """The other's files, to a server whose storage fails: the client learns that it was not all."""
        with self.assertRaisesRegex(client.SyncError, words or "its log says why") as caught:
            sync(Failing(self.other), self.request(serving.port, TO))
        self.assertNotIn("of/the/host", str(caught.exception))
        self.assertFalse([line for line in serving.lines if "of/the/host" in line])
        self.assert_no_leftovers()
        return caught.exception.summary


class FullDisks(FaultCase):
    def test_a_full_disk_of_the_server_ends_the_sync_and_leaves_the_old_file(self) -> None:
        storage, _ = self.storages(room=100_000)
        serving = self.serve(storage)
        self.upload(serving)
        self.assertEqual((self.share / "old").read_bytes(), b"the old content")
        self.assertEqual((self.share / "a").read_bytes(), b"new a")
        self.assertFalse((self.share / "z").exists())
        serving.said("'old': no space left on device")
        serving.said("ended: to_server_use_time of '/share': no space left on device")
        storage.room = 1 << 40
        summary = sync(Failing(self.other), self.request(serving.port, TO))
        self.assertEqual(set(summary.sent), {"old", "z"})

    def test_a_full_disk_of_the_client_ends_the_sync_and_leaves_the_old_file(self) -> None:
        serving = self.serve()
        storage = Failing(self.share)
        storage.room = 100_000
        request = self.request(serving.port, FROM, server_path="/other")
        with self.assertRaisesRegex(client.SyncError, "^ended: no space left on device$") as caught:
            sync(storage, request)
        self.assertEqual(caught.exception.summary.received, {"a": 5})
        self.assertEqual(caught.exception.summary.failed, {"old": "no space left on device"})
        self.assertEqual((self.share / "old").read_bytes(), b"the old content")
        self.assert_no_leftovers()


class Meanwhile(FaultCase):
    """What somebody here does to a file between the listing and its turn."""

    def request_after(self, change: Any) -> Any:
        """A server that sends a file `old` after something was done here."""

        def script(raw: socket.socket) -> None:
            raw.sendall(wire.ESTABLISHED)
            read_listing(raw)
            change()
            raw.sendall(b"\nold\n" + TIME + b"\n5\ntheir\n")
            rest(raw)

        return self.fake(script).port

    def received(self, sync_type: SyncType, change: Any) -> client.Summary:
        request = self.request(self.request_after(change), sync_type, dialect=wire.Dialect.PYSKSYNC_1)
        return sync(self.jailed(self.share), request)

    def test_a_newer_file_is_not_replaced_at_the_client(self) -> None:
        summary = self.received(FROM, lambda: self.put("old", b"written meanwhile", NEWER + 1))
        self.assertEqual((self.share / "old").read_bytes(), b"written meanwhile")
        self.assertEqual(summary.failed, {"old": "it was changed here meanwhile"})
        self.assertEqual(summary.received, {})
        self.assert_no_leftovers()

    def test_nor_a_new_one_where_only_what_is_missing_goes(self) -> None:
        (self.share / "old").unlink()
        kind = SyncType.FROM_SERVER_NO_TIME
        summary = self.received(kind, lambda: self.put("old", b"written meanwhile", 1))
        self.assertEqual((self.share / "old").read_bytes(), b"written meanwhile")
        self.assertEqual(list(summary.failed), ["old"])

    def test_nor_a_link(self) -> None:
        def link() -> None:
            (self.share / "old").unlink()
            (self.share / "old").symlink_to("../beside/secret")

        summary = self.received(FROM, link)
        self.assertTrue((self.share / "old").is_symlink())
        self.assertEqual(list(summary.failed), ["old"])
        self.assert_no_leftovers()

    def test_an_older_or_missing_one_is_replaced_by_time(self) -> None:
        for change in (lambda: self.put("old", b"x", NEWER - 1), (self.share / "old").unlink):
            self.put("old", b"the old content")
            self.assertEqual(self.received(FROM, change).received, {"old": 5})
            self.assertEqual((self.share / "old").read_bytes(), b"their")

    def test_a_newer_file_is_not_replaced_at_the_server_which_says_so(self) -> None:
        serving = self.serve()
        with serving.connect() as raw:
            raw.sendall(opening(1, "/share") + TIME + b" old\n\n")
            self.assertEqual([read_line(raw), read_line(raw)], [wire.ESTABLISHED, b"old\n"])
            self.put("old", b"written meanwhile", NEWER + 1)
            raw.sendall(b"5\ntheir")
            self.assertEqual(rest(raw), b"\n\n")
        self.assertEqual((self.share / "old").read_bytes(), b"written meanwhile")
        serving.said("'old': it was changed here meanwhile; it was kept")
        self.assert_no_leftovers()


class SingleFiles(FaultCase):
    def test_one_that_may_not_be_written_at_the_server_fails_alone(self) -> None:
        storage, _ = self.storages(forbidden=(b"old",))
        serving = self.serve(storage)
        summary = self.upload(serving)
        self.assertEqual((self.share / "old").read_bytes(), b"the old content")
        self.assertEqual((self.share / "z").read_bytes(), b"new z")
        self.assertEqual(set(summary.sent), {"a", "old", "z"})
        serving.said("'old': permission denied")
        serving.said("1 failed; received 2 files, 10 bytes")

    def test_one_that_may_not_be_written_at_the_client_fails_alone(self) -> None:
        serving = self.serve()
        storage = Failing(self.share)
        storage.forbidden = (b"old",)
        summary = sync(storage, self.request(serving.port, FROM, server_path="/other"))
        self.assertEqual(summary.failed, {"old": "permission denied"})
        self.assertEqual(set(summary.received), {"a", "z"})
        self.assertEqual((self.share / "old").read_bytes(), b"the old content")
        self.assert_no_leftovers()

    def test_one_that_may_not_be_read_at_the_server_fails_alone(self) -> None:
        storage, _ = self.storages(forbidden=(b"old",))
        serving = self.serve(storage)
        request = self.request(serving.port, FROM, server_path="/other")
        with self.assertRaisesRegex(client.SyncError, "its log says why") as caught:
            sync(Failing(self.share), request)
        self.assertEqual(set(caught.exception.summary.received), {"a", "z"})
        serving.said("'old': permission denied")
        self.assertNotIn("of/the/host", "".join(serving.lines))

    def test_one_that_may_not_be_read_at_the_client_fails_alone(self) -> None:
        serving = self.serve()
        storage = Failing(self.other)
        storage.forbidden = (b"old",)
        summary = sync(storage, self.request(serving.port, TO))
        self.assertEqual(summary.failed, {"old": "permission denied"})
        self.assertEqual(set(summary.sent), {"a", "z"})
        self.assertEqual((self.share / "old").read_bytes(), b"the old content")


class Times(FaultCase):
    def test_a_time_that_cannot_be_set_is_a_failure_of_each_file(self) -> None:
        storage, _ = self.storages(has_times=False)
        serving = self.serve(storage)
        self.upload(serving)
        serving.said("3 failed; received 0 files")
        self.assertEqual((self.share / "old").read_bytes(), b"the old content")
        self.assertFalse((self.share / "a").exists())
        local = Failing(self.share)
        local.has_times = False
        summary = sync(local, self.request(serving.port, FROM, server_path="/other"))
        self.assertEqual(set(summary.failed), {"a", "old", "z"})

    def test_unless_such_errors_are_to_be_ignored(self) -> None:
        storage, _ = self.storages(has_times=False)
        serving = self.serve(storage, ignore_time_errors=True)
        sync(Failing(self.other), self.request(serving.port, TO))
        serving.said("3 modification times could not be set")
        self.assertEqual((self.share / "z").read_bytes(), b"new z")
        (self.share / "z").unlink()
        local = Failing(self.share)
        local.has_times = False
        request = self.request(serving.port, FROM, server_path="/other", ignores_time_errors=True)
        self.assertEqual(sync(local, request).time_errors, 1)
        self.assertEqual((self.share / "z").read_bytes(), b"new z")


class Threads(FaultCase):
    def test_what_is_half_there_is_removed_where_it_holds_up_nobody(self) -> None:
        storage, _ = self.storages()
        threads: list[str] = []
        remove = storage.rm

        def rm(path: bytes) -> None:
            threads.append(threading.current_thread().name)
            remove(path)

        storage.rm = rm  # type: ignore[method-assign]
        serving = self.serve(storage)
        with self.nothing_changes():
            self.refused(serving, HALF, "the client has gone before 'old' was complete")
            self.assertEqual(len(threads), 1)
            self.assertTrue(threads[0].startswith("sksync"), threads)


class Ends(ProcessCase):
    def temporaries(self) -> list[str]:
        return [path.name for path in self.share.rglob(TEMPORARY + "*")]

    def half_uploaded(self, port: int) -> socket.socket:
        raw = socket.create_connection(("127.0.0.1", port), 20)
        self.addCleanup(raw.close)
        raw.sendall(HALF)
        until(self.temporaries, "nothing is received")
        return raw

    def test_a_server_that_is_stopped_removes_what_was_half_there(self) -> None:
        serving = self.serve()
        with self.nothing_changes():
            self.half_uploaded(serving.port)
            serving.stop()
        self.assertEqual(serving.errors, [])

    def test_a_server_that_is_told_to_end_removes_what_was_half_there(self) -> None:
        process, port = self.start_server(drain_seconds=0.1)
        before = self.tree(self.share)
        self.half_uploaded(port)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE), 0)
        self.assertEqual(self.tree(self.share), before)
        self.assertNotIn("Traceback", process.log.read_text())  # type: ignore[attr-defined]

    def test_a_killed_server_leaves_the_old_file_and_the_next_session_clears_up(self) -> None:
        process, port = self.start_server()
        self.half_uploaded(port)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertEqual((self.share / "old").read_bytes(), b"the old content")
        self.assertEqual(len(self.temporaries()), 1)
        serving = self.serve()
        self.assert_serves_share(serving)
        self.assertEqual(len(self.temporaries()), 1, "a session that receives nothing, as in a dry run")
        ours = self.jail / "ours"
        ours.mkdir()
        (ours / "new").write_bytes(b"new")
        sync(self.jailed(ours), self.request(serving.port, TO, server_path="/share"))
        self.assertEqual(((self.share / "new").read_bytes(), self.temporaries()), (b"new", []))
        serving.said("removed 1 temporary files of interrupted syncs")

    def assert_serves_share(self, serving: Serving) -> None:
        with serving.connect() as raw:
            raw.sendall(opening(2, "/share") + b"\n")
            raw.shutdown(socket.SHUT_WR)
            self.assertNotIn(TEMPORARY.encode(), rest(raw))
        serving.said("sent 2 files")

    def test_what_another_process_receives_is_left_alone(self) -> None:
        _, port = self.start_server()
        raw = self.half_uploaded(port)
        before = self.temporaries()
        serving = self.serve()
        self.assert_serves_share(serving)  # another process's session
        other, other_port = self.start_server()
        with socket.create_connection(("127.0.0.1", other_port), 20) as beside:
            beside.sendall(opening(2, "/share") + b"\n")
            beside.shutdown(socket.SHUT_WR)
            rest(beside)
        self.assertEqual(self.temporaries(), before)
        raw.sendall(b"x" * 990)
        for line in (wire.ESTABLISHED, b"old\n", b"\n", b"\n", b""):
            self.assertEqual(read_line(raw), line)
        self.assertEqual((self.share / "old").read_bytes(), b"half of it" + b"x" * 990)
        self.assertEqual(self.temporaries(), [])

    def test_a_killed_client_leaves_the_old_file_and_the_next_sync_clears_up(self) -> None:
        def half(raw: socket.socket) -> None:
            raw.sendall(wire.ESTABLISHED + b"\nold\n" + TIME + b"\n1000\nhalf of it")
            rest(raw)

        faked = self.fake(half)
        process = self.start_client(faked.port)
        until(self.temporaries, "nothing is received")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertEqual((self.share / "old").read_bytes(), b"the old content")
        serving = self.serve()
        (self.jail / "other").mkdir()
        (self.jail / "other" / "new").write_bytes(b"new")
        for is_dry, expected in ((True, 1), (False, 0)):
            request = self.request(serving.port, FROM, server_path="/other")
            summary = sync(self.jailed(self.share), request, is_dry=is_dry)
            self.assertEqual((len(self.temporaries()), summary.leftovers), (expected, 1 - expected))

    def test_a_client_that_is_interrupted_leaves_nothing(self) -> None:
        def half(raw: socket.socket) -> None:
            raw.sendall(wire.ESTABLISHED + b"\nold\n" + TIME + b"\n1000\nhalf of it")
            rest(raw)

        faked = self.fake(half)
        process = self.start_client(faked.port)
        until(lambda: any((self.share / name).stat().st_size for name in self.temporaries()), "no content")
        process.send_signal(signal.SIGINT)
        self.assertNotEqual(process.wait(PATIENCE), 0)
        self.assertEqual(self.temporaries(), [])
        self.assertEqual((self.share / "old").read_bytes(), b"the old content")
        self.assertNotIn("Traceback", process.log.read_text())  # type: ignore[attr-defined]


class Replaced(PeerCase):
    """The shared directory itself."""

    def test_no_file_is_stored_in_a_share_that_was_replaced_and_the_next_client_has_the_new_one(self) -> None:
        serving = Serving(self.jailed(), shared=shares.whole_storage(lambda: self.jailed(self.share)))
        self.addCleanup(serving.stop)
        said = opening(1) + b"2000000000000 new\n\n"
        with serving.connect() as raw:
            raw.sendall(said)
            read_line(raw)  # the greeting
            self.assertEqual(read_line(raw), b"new\n")
            moved = self.share.rename(self.jail / "moved")
            self.share.mkdir()
            raw.sendall(b"3\nabc")
            serving.said("moved, replaced or unmounted")
        self.assertFalse((self.share / "new").exists() or (moved / "new").exists())
        with serving.connect() as raw:
            raw.sendall(said + b"3\nabc")
            until(lambda: (self.share / "new").exists(), "the file is in the new directory")
