"""Our client against the server that people have, and against ours: what it does, and what it says it did."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

from pysftpserver.sksync.client import Dialect, Observer, Request, SyncError, SyncType, sync
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.sksync import oldstyle
from tests.sksync.serving import NOW, Directories, Served, put, tree

LATIN, GREEK, JAPANESE = "caf\u00e9", "\u03b1\u03b2\u03b3", "\u65e5\u672c\u8a9e"
#: (client's, server's) seconds of each file; None where it is missing.
FILES: dict[str, tuple[int | None, int | None]] = {
    "ours only": (NOW, None),
    "theirs only": (None, NOW),
    "same": (NOW, NOW),
    "newer here": (NOW + 1, NOW),
    "newer there": (NOW, NOW + 1),
    "d/ours only": (NOW, None),
    "d/e/theirs only": (None, NOW),
}


class Notes(Observer):
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.size = 0

    def listed(self, files: int) -> None:
        self.told.append(("listed", files))

    def moved(self, size: int) -> None:
        self.size += size

    def sent(self, name: str, size: int) -> None:
        self.told.append(("sent", name, size))

    def received(self, name: str, size: int) -> None:
        self.told.append(("received", name, size))

    def failed(self, name: str, why: str) -> None:
        self.told.append(("failed", name, why))


class Unreadable(SFTPServerVirtualChroot):
    """A jail in which the file called `locked` cannot be opened to be read."""

    error: OSError = PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        if path.endswith(b"/locked") and not flags & os.O_WRONLY:
            raise self.error
        return super().open(path, flags, mode)


class Clients(Directories):
    """Both kinds of server, on the same directory."""

    def old_server(self, **how: Any) -> oldstyle.Server:
        server = oldstyle.Server(self.root, **how)
        self.addCleanup(server.stop)
        return server

    def servers(self) -> dict[str, Served | oldstyle.Server]:
        return {"ours": self.serve(), "old": self.old_server()}

    def fill(self, files: dict[str, tuple[int | None, int | None]] = FILES) -> None:
        for directory in (self.here, self.there):
            for path in sorted(directory.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        for index, (name, (ours, theirs)) in enumerate(files.items()):
            if ours is not None:
                put(self.here, name, b"here" * index, ours)
            if theirs is not None:
                put(self.there, name, b"there" * 3000 * index, theirs)

    def inodes(self) -> dict[Path, tuple[int, int, int]]:
        """What a write of any sort would change."""
        stats = {path: path.lstat() for root in (self.here, self.root) for path in root.rglob("*")}
        return {path: (st.st_ino, st.st_mtime_ns, st.st_ctime_ns) for path, st in stats.items()}


class Syncs(Clients):
    def test_every_type_and_dialect_does_what_its_dry_run_said_and_nothing_the_second_time(self) -> None:
        for who, server in self.servers().items():
            for dialect in Dialect:
                for kind in SyncType:
                    for depth in (True, False)[: 2 if dialect is Dialect.SKSYNC_1 else 1]:
                        with self.subTest(who, dialect=dialect.title, kind=kind, is_recursive=depth):
                            wanted = {"dialect": dialect, "sync_type": kind, "is_recursive": depth}
                            self.one(server.port, **wanted)

    def one(self, port: int, **wanted: Any) -> None:
        self.fill()
        before_here, before_there, before = tree(self.here), tree(self.there), self.inodes()
        planned = self.sync(port, is_dry=True, **wanted)
        self.assertEqual(self.inodes(), before)
        done = self.sync(port, **wanted)
        self.assertEqual((planned.sent, planned.received), (done.sent, done.received))
        self.assertEqual((planned.unchanged, planned.failed), (done.unchanged, {}))
        self.assertEqual(tree(self.here), before_here | {name: before_there[name] for name in done.received})
        self.assertEqual(tree(self.there), before_there | {name: before_here[name] for name in done.sent})
        self.assert_right(done, **wanted)
        again = self.sync(port, **wanted)
        self.assertEqual((again.sent, again.received, again.failed, again.bytes), ({}, {}, {}, 0))

    def assert_right(self, done: Any, dialect: Dialect, sync_type: int, is_recursive: bool) -> None:
        """Names and sizes, said once more from the protocol's page."""
        sent, received = {}, {}
        files = {n: times for n, times in FILES.items() if is_recursive or "/" not in n}
        for name, (ours, theirs) in files.items():
            index = list(FILES).index(name)
            if sync_type in (0, 1, 3, 4) and ours is not None:
                if theirs is None or (sync_type < 3 and ours > theirs):
                    sent[name] = len(b"here" * index)
            if sync_type in (0, 2, 3, 5) and theirs is not None:
                if ours is None or (sync_type < 3 and theirs > ours):
                    received[name] = len(b"there" * 3000 * index)
        self.assertEqual((done.sent, done.received), (sent, received))
        self.assertEqual(done.bytes, sum(sent.values()) + sum(received.values()))
        kept = {name for name, (ours, _) in files.items() if ours is not None} - {*sent, *received}
        self.assertEqual(done.unchanged, len(kept))

    def test_names_in_latin_greek_and_japanese_go_both_ways_and_only_once(self) -> None:
        names = (LATIN, GREEK, JAPANESE)
        for who, server in self.servers().items():
            for dialect in Dialect:
                with self.subTest(who, dialect=dialect.title):
                    self.fill({})
                    for name in names:
                        put(self.here, f"{name}/h", b"here")
                        put(self.there, f"{name}/t", b"there")
                    kind = SyncType.BIDIRECTIONAL_USE_TIME
                    done = self.sync(server.port, dialect=dialect, sync_type=kind)
                    sayable = [LATIN] if dialect is Dialect.SKSYNC_1 else names
                    self.assertEqual(set(done.sent), {f"{name}/h" for name in sayable})
                    self.assertEqual(set(done.received), {f"{name}/t" for name in sayable})
                    skipped = {f"{name}/h".encode() for name in names if name not in sayable}
                    self.assertEqual(set(done.skipped), skipped)
                    again = self.sync(server.port, dialect=dialect, sync_type=kind)
                    self.assertEqual((again.sent, again.received), ({}, {}))

    def test_milliseconds_on_either_side_are_no_difference(self) -> None:
        put(self.here, "f", b"here", NOW + 0.999)
        put(self.there, "f", b"there", NOW + 0.001)
        put(self.there, "new", b"new", NOW + 0.5)
        server = self.old_server(odd=999)
        done = self.sync(server.port, sync_type=SyncType.BIDIRECTIONAL_USE_TIME)
        self.assertEqual((done.sent, set(done.received)), ({}, {"new"}))
        self.assertEqual((self.here / "new").stat().st_mtime_ns, NOW * 10**9)
        self.assertEqual(server.sessions[-1]["listing"], {"f": NOW * 1000})
        again = self.sync(server.port, sync_type=SyncType.BIDIRECTIONAL_USE_TIME)
        self.assertEqual((again.sent, again.received), ({}, {}))

    def test_a_replaced_file_keeps_its_permissions(self) -> None:
        put(self.here, "f", b"old", NOW).chmod(0o640)
        put(self.there, "f", b"new", NOW + 1)
        self.sync(self.serve().port)
        self.assertEqual(
            ((self.here / "f").stat().st_mode & 0o777, (self.here / "f").read_bytes()), (0o640, b"new")
        )

    def test_a_directory_of_the_storage_can_be_meant_and_is_made_when_a_file_comes(self) -> None:
        put(self.there, "d/f", b"content")
        port = self.serve().port
        self.assertEqual(set(self.sync(port, is_dry=True, path="new").received), {"d/f"})
        self.assertEqual(list(self.here.iterdir()), [])
        self.sync(port, path="/new/")
        self.assertEqual(tree(self.here), {"new/d/f": (b"content", NOW)})

    def test_what_is_excluded_neither_goes_nor_comes(self) -> None:
        for who, server in self.servers().items():
            with self.subTest(who):
                self.fill({})
                for directory in (self.here, self.there):
                    put(directory, f"{directory.name}.tmp")
                    put(directory, f"{directory.name}/cache/f")
                    put(directory, f"{directory.name}.txt")
                wanted = {"sync_type": SyncType.BIDIRECTIONAL_USE_TIME, "excluded": ["*.tmp", "cache"]}
                planned = self.sync(server.port, is_dry=True, **wanted)
                done = self.sync(server.port, **wanted)
                for summary in (planned, done):
                    self.assertEqual(
                        (set(summary.sent), set(summary.received)), ({"here.txt"}, {"there.txt"})
                    )
                self.assertFalse((self.here / "there.tmp").exists())


class Failures(Clients):
    def test_a_file_that_cannot_be_read_fails_and_the_others_are_sent(self) -> None:
        for who, server in self.servers().items():
            with self.subTest(who):
                self.fill({})
                for name in ("a", "locked", "z", "same"):
                    put(self.here, name, name.encode())
                put(self.there, "same")
                notes = Notes()
                storage = Unreadable(self.here)
                done = self.sync(
                    server.port, storage=storage, sync_type=SyncType.TO_SERVER_USE_TIME, observer=notes
                )
                self.assertEqual(done.sent, {"a": 1, "z": 1})
                self.assertEqual(done.failed, {"locked": "permission denied"})
                self.assertEqual(done.unchanged, 1)
                self.assertEqual(set(tree(self.there)), {"a", "z", "same"})
                self.assertEqual(notes.told.count(("failed", "locked", "permission denied")), 1)

    def test_many_that_cannot_be_read_do_not_cost_a_connection_each(self) -> None:
        for number in range(30):
            put(self.here, f"{number}/locked")
        put(self.here, "readable")
        served = self.serve()
        done = self.sync(served.port, storage=Unreadable(self.here), sync_type=SyncType.TO_SERVER_USE_TIME)
        self.assertEqual((list(done.sent), len(done.failed)), (["readable"], 30))
        served.log.wait("received 1 files")
        self.assertEqual(sum(": ended: " in line for line in served.log.lines), 1)

    def test_a_file_that_vanishes_fails_and_the_others_are_sent(self) -> None:
        for who, server in self.servers().items():
            with self.subTest(who):
                self.fill({})
                for name in ("a", "locked", "z"):
                    put(self.here, name, name.encode())
                storage = Unreadable(self.here)
                storage.error = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                done = self.sync(server.port, storage=storage, sync_type=SyncType.TO_SERVER_NO_TIME)
                self.assertEqual((set(done.sent), set(done.failed)), ({"a", "z"}, {"locked"}))

    def test_one_that_cannot_be_read_is_not_replaced_by_the_older_one_of_the_server(self) -> None:
        put(self.here, "locked", b"new", NOW + 10)
        put(self.there, "locked", b"old", NOW)
        put(self.there, "other", b"other", NOW)
        for server in self.servers().values():
            done = self.sync(
                server.port, storage=Unreadable(self.here), sync_type=SyncType.BIDIRECTIONAL_USE_TIME
            )
            self.assertEqual(set(done.failed), {"locked"})
            self.assertEqual((self.here / "locked").read_bytes(), b"new")
        self.assertEqual((self.here / "other").read_bytes(), b"other")

    def test_a_file_that_becomes_shorter_while_it_is_sent_is_not_made_up(self) -> None:
        class Shrinking(SFTPServerVirtualChroot):
            def read(self, handle: Any, off: int, size: int) -> Any:
                return super().read(handle, off, size) if off < 300_000 else b""

        put(self.here, "big", random.Random(7).randbytes(1 << 20))
        put(self.here, "small", b"small")
        for who, server in self.servers().items():
            with self.subTest(who):
                done = self.sync(
                    server.port, storage=Shrinking(self.here), sync_type=SyncType.TO_SERVER_NO_TIME
                )
                self.assertIn("became shorter", done.failed["big"])
                self.assertNotIn("big", tree(self.there) if who == "ours" else {})
                self.assertEqual((self.there / "small").read_bytes(), b"small")
                (self.there / "small").unlink()

    def test_a_name_that_is_a_directory_here_fails_and_the_others_come(self) -> None:
        (self.here / "a").mkdir()
        (self.here / "b").symlink_to("c")
        for name in ("a", "b", "d", "e/f"):
            put(self.there, name, name.encode())
        put(self.here, "e")
        for who, server in self.servers().items():
            with self.subTest(who):
                planned = self.sync(server.port, is_dry=True)
                done = self.sync(server.port)
                self.assertEqual(set(done.failed), {"a", "b", "e/f"})
                self.assertEqual((set(done.received), set(planned.received) - {"e/f"}), ({"d"}, {"d"}))
                (self.here / "d").unlink()
        self.assertTrue((self.here / "b").is_symlink())

    def test_what_fails_on_the_server_makes_the_sync_fail_and_the_summary_tells_what_was_done(self) -> None:
        put(self.here, "a", b"a")
        put(self.here, "b", b"b")
        (self.there / "a").mkdir()
        with self.assertRaises(SyncError) as caught:
            self.sync(self.serve().port, sync_type=SyncType.TO_SERVER_NO_TIME)
        self.assertEqual(caught.exception.summary.sent, {"b": 1})
        self.assertIn("its log says why", str(caught.exception))

    def test_a_missing_directory_of_this_side_is_an_error_to_send_from(self) -> None:
        with self.assertRaisesRegex(SyncError, "no such file"):
            self.sync(self.serve().port, path="gone", sync_type=SyncType.TO_SERVER_NO_TIME)

    def test_where_nobody_listens_one_line_says_so(self) -> None:
        served = self.serve()
        served.stop()
        with self.assertRaisesRegex(
            SyncError, r"\Acannot connect to 127\.0\.0\.1 port \d+: connection refused\Z"
        ):
            self.sync(served.port)

    def test_a_name_that_no_host_can_have_is_refused_in_one_line(self) -> None:
        with self.assertRaisesRegex(SyncError, "not a valid host name"):
            sync(SFTPServerVirtualChroot(self.here), Request("a" * 70 + ".example", "/"))

    def test_a_server_that_wants_a_login_is_told_apart(self) -> None:
        served = self.serve(require_auth=True)
        for is_dry in (True, False):
            with self.assertRaisesRegex(SyncError, "requires a login"):
                self.sync(served.port, is_dry)

    def test_a_server_that_is_slow_with_each_file_is_not_lost_patience_with(self) -> None:
        """Seen with one file after the other over a slow line: names are short, and each takes its time."""
        for number in range(25):
            put(self.here, f"{number}", random.Random(7).randbytes(1000))
        server = self.old_server(pause=0.05)
        done = self.sync(server.port, timeout=1.0, sync_type=SyncType.TO_SERVER_NO_TIME)
        self.assertEqual(len(done.sent), 25)


class Told(Clients):
    def test_the_observer_is_told_of_each_file_and_each_byte(self) -> None:
        self.fill()
        notes = Notes()
        done = self.sync(self.serve().port, sync_type=SyncType.BIDIRECTIONAL_USE_TIME, observer=notes)
        self.assertEqual(notes.told[0], ("listed", 5))
        told = {(what, name): size for what, name, size in notes.told[1:]}
        expected = {("sent", name): size for name, size in done.sent.items()}
        expected |= {("received", name): size for name, size in done.received.items()}
        self.assertEqual(told, expected)
        self.assertGreaterEqual(notes.size, done.bytes)
        self.assertGreater(done.seconds, 0)

    def test_a_dry_run_tells_of_no_file_that_was_moved(self) -> None:
        self.fill()
        notes = Notes()
        self.sync(self.serve().port, True, sync_type=SyncType.BIDIRECTIONAL_USE_TIME, observer=notes)
        self.assertEqual([told for told in notes.told if told[0] in ("sent", "received")], [])

    def test_a_dry_run_of_many_files_with_a_large_one_reads_little_of_it(self) -> None:
        with put(self.there, "b", b"").open("wb") as big:
            big.truncate(1 << 30)
        os.utime(self.there / "b", (NOW, NOW))
        for name in ("a", "c"):
            put(self.there, name, b"x")

        class Counting(SFTPServerVirtualChroot):
            total = 0

            def read(self, handle: Any, off: int, size: int) -> Any:
                found = super().read(handle, off, size)
                self.total += len(found)
                return found

        storage = Counting(self.root)
        planned = self.sync(self.serve(storage).port, is_dry=True)
        self.assertEqual(planned.received, {"a": 1, "b": 1 << 30, "c": 1})
        self.assertLess(storage.total, 64 << 20)

    def test_a_dry_run_against_the_old_server_writes_nothing_there_however_many_it_wants(self) -> None:
        for number in range(30):
            put(self.here, f"{number}", b"new", NOW + 1)
            put(self.there, f"{number}", b"old")
        server = self.old_server()
        before = self.inodes()
        planned = self.sync(server.port, is_dry=True, sync_type=SyncType.TO_SERVER_USE_TIME)
        self.assertEqual(planned.sent, {f"{number}": 3 for number in range(30)})
        self.assertEqual(self.inodes(), before)
        self.assertEqual([session["received"] for session in server.sessions], [[]] * len(server.sessions))
