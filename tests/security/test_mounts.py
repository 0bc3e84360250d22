"""Mounts in the jail: their content is inside, and neither `..` nor a move leads out of it."""

from __future__ import annotations

import os

from tests.security.attempts import Attempt, every_request
from tests.security.canaries import Canaries
from tests.security.clients import Session
from tests.security.premises import WAYS, Premises
from tests.security.swapper import AT_FDCWD, exchange
from tests.support.packets import CREAT, NO_ATTRS, OK, READ, WRITE, string, u32, u64

OPERATIONS = 5000  # in each race, for each way


class TestMounts(Premises):
    def setUp(self) -> None:
        super().setUp()
        # The directory that is shared by a bind mount has canaries all around it.
        self.source = Canaries(self.hidden / "source", self.token)
        self.source.build()
        self.shared, self.parking = self.source.top / "shared", self.source.top / "parking"
        for top in (self.shared, self.parking):
            (top / "a" / "b" / "c").mkdir(parents=True)
            (top / "a" / "file").write_bytes(b"shared")
        (self.parking / "flat" / "c").mkdir(parents=True)
        for name in ("bound", "memory", "stash"):
            (self.jail / name).mkdir()
        for path in ("file", "stash/file"):
            (self.jail / path).write_bytes(b"inside")
        self.ours += [self.shared, self.parking]
        self.watch()

    def mounted(self, way: str) -> Session:
        """A session with a bind mount and a file system in memory, which has a file and directories."""
        mounts = f"bind={self.shared}={self.jail}/bound", f"tmpfs=tmpfs={self.jail}/memory"
        session = self.session(way, *mounts)
        for name in ("memory/a", "memory/a/b"):
            self.assertEqual(session.ask("mkdir", string(name.encode()), NO_ATTRS).content, OK)
        self.write(session, "memory/file", b"in memory")
        self.assertFalse((self.jail / "memory" / "file").exists())  # it is a mount, and the session's own
        return session

    def write(self, session: Session, path: str, data: bytes) -> None:
        handle = session.ask("open", string(path.encode()), u32(WRITE | CREAT), NO_ATTRS).content
        self.assertEqual(session.ask("write", string(handle), u64(0), string(data)).content, OK)
        session.ask("close", string(handle))

    def read(self, session: Session, path: str) -> bytes:
        handle = session.ask("open", string(path.encode()), u32(READ), NO_ATTRS).content
        data = session.ask("read", string(handle), u64(0), u32(1000)).content
        session.ask("close", string(handle))
        return data

    def test_what_is_mounted_is_inside_and_its_parent_is_the_jail_s(self) -> None:
        for way in WAYS:
            session = self.mounted(way)
            self.assertEqual(self.read(session, "bound/a/file"), b"shared")
            self.assertEqual(self.read(session, "memory/file"), b"in memory")
            self.write(session, "bound/a/file", b"shared")  # a bind mount is a way to share, and written to
            for path in (
                "bound/../file",
                "memory/../file",
                "bound/a/../../file",
                "bound/../../memory/../file",
            ):
                with self.subTest(way=way, path=path):
                    self.assertEqual(self.read(session, path), b"inside")
        self.assert_contained()

    def test_no_request_gets_from_a_mount_to_what_is_around_its_source_or_the_jail(self) -> None:
        for way in WAYS:
            session = self.mounted(way)
            starts = ("bound/..", "bound/a/b/../../..", "bound/../..", "memory/../..", "memory/a/../../../..")
            for start in starts:
                for end in ("outside/file", "source/file", "sub/file", "outside", "link", "parking/a"):
                    path = f"{start}/{end}".encode()
                    with self.subTest(way=way, path=path):
                        attempts = every_request(path, b"stash/file")
                        attempts = [a for a in attempts if a.kind not in ("realpath", "expand-path")]
                        for attempt, reply in zip(attempts, session.ask_all(attempts), strict=True):
                            # Making `outside` in the jail's own top is no escape; getting anything is.
                            if attempt.kind in ("stat", "lstat", "opendir", "readlink", "statvfs", "setstat"):
                                refused = reply.kind == "status" and reply.content != OK
                                self.assertTrue(refused, f"{attempt}: {reply}")
                        self.assertFalse((self.parking / "made0").exists())
                    session.ask_all([Attempt(kind, (string(path),)) for kind in ("remove", "rmdir")])
        self.assert_contained()

    def test_a_directory_that_leaves_the_source_of_a_bind_mount_takes_no_session_along(self) -> None:
        """From a directory that is moved away, as many `..` as led to the jail's top lead to its source's."""
        a = self.shared / "a"
        exchanger = self.exchanger((a, self.parking / "a"), (a / "b", self.parking / "flat"))
        for way in WAYS:
            self.work_while(exchanger, self.mounted(way), self.climbing("bound/a"), {}, OPERATIONS)
        exchanger.end()
        self.assert_contained()

    def test_a_directory_that_leaves_the_jail_takes_no_session_along(self) -> None:
        d = self.jail / "d"
        (d / "b" / "c").mkdir(parents=True)
        exchanger = self.exchanger((d, self.parking / "a"), (d / "b", self.parking / "flat"))
        for way in WAYS:
            self.work_while(exchanger, self.session(way), self.climbing("d"), {}, OPERATIONS)
        exchanger.end()
        self.assert_contained()

    def climbing(self, start: str) -> list[str]:
        """Paths into a directory that is moved away and out again, to what is around where it is moved."""
        return [
            f"{start}/{way}{end}"
            for way in ("b/..", "b/../..", "b/c/../../..", "b/c/../../../..", "b/../b/c/../../../../..")
            for end in ("/sub/file", "/link", "/outside/file", "/source/sub/file", "/.")
        ]

    def test_mount_points_that_turn_into_links_lead_nowhere(self) -> None:
        """In their own namespace they could not be renamed; in the one outside of it they can be."""
        names = {"bound": "../outside", "memory": self.outside}
        for name, target in names.items():
            (self.jail / f"{name}.other").symlink_to(target)
        paths = [
            f"{name}/{end}"
            for name in names
            for end in ("file", "sub/file", ".", "", "..", "../outside/file", "a/../file", "sub", "made1")
        ]
        for way in WAYS:
            session = self.mounted(way)
            exchanger = self.exchanger(*[(self.jail / name, self.jail / f"{name}.other") for name in names])
            self.work_while(exchanger, session, paths, {name: f"{name}/a" for name in names}, OPERATIONS)
            exchanger.end()
            for name in names:  # as it was, for the next
                if (self.jail / name).is_symlink():
                    one, other = (os.fsencode(self.jail / end) for end in (name, f"{name}.other"))
                    self.assertTrue(exchange(AT_FDCWD, one, other))
        self.assert_contained()
