"""A /proc mounted in the jail, with magic links to the host's root and to open files."""

from __future__ import annotations

import os
import stat
import sys
import time

from tests.differential.packets import Attributes
from tests.security.attempts import KINDS, Attempts, every_request
from tests.security.clients import Session, race
from tests.security.layout import PLACES
from tests.security.premises import WAYS, Premises
from tests.support.hard import IS_HARD
from tests.support.packets import NO_ATTRS, OK, READ, WRITE, string, u32
from tests.support.waiting import PATIENCE

OPERATIONS = 10_000 if IS_HARD else 4000  # of the race, for each way
SWAPS = 1000  # meanwhile
HARMLESS = ("lstat", "lsetstat")  # of a magic link itself: it may be seen to be there
DESCRIPTORS = 12  # more than a session has


class TestMagicLinks(Premises):
    def setUp(self) -> None:
        super().setUp()
        (self.jail / "proc").mkdir()
        (self.jail / "deep").mkdir()
        (self.jail / "file").write_bytes(b"inside")
        (self.jail / "stash").mkdir()
        (self.jail / "stash" / "file").write_bytes(b"inside")
        # The same doors behind links of the jail's own.
        (self.jail / "cwd").symlink_to("proc/self/cwd")
        (self.jail / "deep" / "host").symlink_to("/proc/self/root")
        (self.jail / "deep" / "climb").symlink_to("../../proc/thread-self/cwd/..")

    def proc_session(self, way: str) -> Session:
        session = self.session(way, f"proc=proc={self.jail}/proc")
        # Not skipped, and not an empty directory: it is a /proc.
        self.assertEqual(session.ask("stat", string(b"proc/self/status")).kind, "attrs")
        return session

    def processes(self, session: Session) -> list[str]:
        server, parent = session.process.pid, os.getpid()
        return [
            "self",
            "thread-self",
            "1",
            str(server),
            f"{server}/task/{server}",
            str(parent),
            "self/../self",
        ]

    def descriptors(self, process: str, session: Session) -> list[str]:
        number = process if process.isdecimal() else str(session.process.pid)
        top = f"/proc/{number}/fd"
        # Looked at twice: the first look at our own has a descriptor that is one of them.
        return [name for name in sorted(os.listdir(top)) if os.path.lexists(f"{top}/{name}")][:DESCRIPTORS]

    def assert_refused(self, session: Session, path: str, attempts: list, but: tuple[str, ...] = ()) -> None:
        for attempt, reply in zip(attempts, session.ask_all(attempts), strict=True):
            if attempt.kind not in but:
                self.assertTrue(reply.kind == "status" and reply.content != OK, f"{path}: {attempt}: {reply}")

    def test_no_request_gets_through_a_magic_link_to_what_is_outside(self) -> None:
        outside = str(self.canaries.top)
        for way in WAYS:
            session = self.proc_session(way)
            doors = [f"proc/{process}/root{outside}" for process in self.processes(session)]
            doors += [f"proc/{process}/cwd/outside" for process in self.processes(session)]
            # The jail's own descriptor is one of these, and its parent has the canaries.
            doors += [f"proc/self/fd/{number}/../outside" for number in range(DESCRIPTORS)]
            doors += ["cwd/outside", f"deep/host{outside}", f"deep/climb/{self.hidden.name}/outside"]
            tried = 0
            for door in doors:
                for end in ("/file", "/sub/", "/link", ""):
                    path = f"{door}{end}".encode()
                    attempts = every_request(path, b"stash/file")
                    tried += len(attempts)
                    with self.subTest(way=way, path=path):
                        self.assert_refused(session, path.decode(), attempts)
            print(f"{way}: {tried} operations through magic links, all refused", file=sys.stderr)
            self.assertEqual((self.jail / "stash" / "file").read_bytes(), b"inside")
        self.assert_contained()

    def test_magic_links_themselves_are_not_followed_and_do_not_tell_what_they_name(self) -> None:
        top = os.stat("/")
        # These lead to what is not the test's own: what is set is what is so.
        same = (Attributes(permissions=stat.S_IMODE(top.st_mode)), Attributes(owner=(top.st_uid, top.st_gid)))
        for way in WAYS:
            session = self.proc_session(way)
            for process in self.processes(session):
                names = ["root", "cwd", "exe", "ns/mnt", "ns/user"]
                # (For one that is not open, REALPATH would answer as for any name that is missing.)
                names += [f"fd/{number}" for number in self.descriptors(process, session)]
                for name in names:
                    for end in ("", "/", "/.", "/..", "/../.") if name in ("root", "cwd", "fd/4") else ("",):
                        path = f"proc/{process}/{name}{end}"
                        attempts = every_request(path.encode(), b"stash/file", same)
                        with self.subTest(way=way, path=path):
                            self.assert_refused(session, path, attempts, () if end else HARMLESS)
        self.assert_contained()

    def test_files_and_directories_of_proc_are_not_opened_by_any_path(self) -> None:
        for way in WAYS:
            session = self.proc_session(way)
            (self.jail / "environ").unlink(missing_ok=True)
            (self.jail / "environ").symlink_to("proc/self/environ")
            for name in (
                "environ",
                *(f"proc/self/{name}" for name in ("environ", "mem", "maps", "mountinfo", "fd/0")),
            ):
                for flags in (READ, WRITE, READ | WRITE):
                    with self.subTest(way=way, name=name, flags=flags):
                        reply = session.ask("open", string(name.encode()), u32(flags), NO_ATTRS)
                        self.assertEqual(reply.kind, "status")
            for name in ("proc", "proc/self", "proc/self/fd", "proc/1", "cwd/../proc/self/ns"):
                with self.subTest(way=way, name=name):
                    self.assertEqual(session.ask("opendir", string(name.encode())).kind, "status")
        self.assert_contained()

    def test_directories_that_turn_into_links_to_magic_links_lead_nowhere(self) -> None:
        """The race, where the links out go through the jail's own /proc to the server's own directory."""
        swapper = self.swapper("/proc/self/cwd/outside")
        for way in WAYS:
            session = self.proc_session(way)
            before = sum(swapper.counts().values())
            batches = Attempts(PLACES, "/proc/self/cwd/outside", self.rng).batches()
            swaps = flips = 0
            deadline = time.monotonic() + 5 * PATIENCE  # a shared processor shows few changes
            while session.served(*KINDS) < OPERATIONS or swaps <= SWAPS or not flips:
                note = f"{way}: {swaps} swaps, {flips} seen; seed {self.seed}"
                self.assertLess(time.monotonic(), deadline, note)
                race([session], batches, self.rng)
                swaps = sum(swapper.counts().values()) - before
                flips = sum(session.flips.values())
            print(
                f"{way}: {session.served(*KINDS)} operations, {swaps} swaps to magic links", file=sys.stderr
            )
        swapper.end()
        self.assert_contained()
