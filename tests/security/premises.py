"""A temporary directory with a jail, canaries around it, and the processes that work there.

TEMPORARY/                      what the naive jail is shut into
    canary-TOKEN/               the host's path has this sign in it ...
        outside/                the canaries
        jail/                   what is served
    alias -> canary-TOKEN       ... and the links out do not: their texts may be told
    work/                       logs, counters
"""

from __future__ import annotations

import mmap
import os
import random
import secrets
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from tests.security.attempts import Attempt, every_request
from tests.security.canaries import SECRET, TIME, Canaries, differences, state
from tests.security.clients import Ended, Session, end, start
from tests.security.layout import NAMES, PLACES, SAFE_PLACES, Place
from tests.security.served import CANNOT_MOUNT
from tests.support.packets import string
from tests.support.paths import IN_MEMORY
from tests.support.waiting import PATIENCE, until

WAYS = ("openat2", "walk")
CAP_SYS_ADMIN = 21  # its bit
EXCHANGES = 1000  # that there have to be while a client works
MADE = {f"made{number}" for number in range(NAMES)}


class Swapper:
    """The process that swaps, and its counters."""

    def __init__(self, jail: Path, outside: str, work: Path, safe: bool) -> None:
        self.places: tuple[Place, ...] = SAFE_PLACES if safe else PLACES
        path, self._counts = counters(work / "counts", len(self.places))
        self.process = start("swapper", jail, outside, path, *(["safe"] if safe else []))
        try:
            until(
                lambda: all(self.counts().values()) or self.process.poll() is not None,
                "a first swap of each place",
            )
        except BaseException:
            self.end()
            raise

    def counts(self) -> dict[str, int]:
        numbers = struct.unpack(f"={len(self.places)}Q", self._counts)
        return {place.path: number for place, number in zip(self.places, numbers, strict=True)}

    def end(self) -> None:
        end(self.process)


class Exchanger:
    """The process that lets pairs of names change places. count: how often it did."""

    def __init__(self, pairs: tuple[tuple[Path, Path], ...], work: Path) -> None:
        path, self._counts = counters(work / "exchanges", 1)
        names = [name for pair in pairs for name in pair]
        self.process = start("swapper", "--exchange", path, *names)
        try:
            until(lambda: self.count or self.process.poll() is not None, "a first exchange")
        except BaseException:
            self.end()
            raise

    @property
    def count(self) -> int:
        return int.from_bytes(self._counts[:], sys.byteorder)

    def end(self) -> None:
        end(self.process)


def counters(path: Path, number: int) -> tuple[Path, mmap.mmap]:
    """A file of counters that another process counts in, and what it shows."""
    path.write_bytes(bytes(8 * number))
    with path.open("rb") as file:
        return path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Premises(unittest.TestCase):
    """A test on such a directory; what was started and made there is gone with the test.

    ESCAPE_SEED in the environment makes it send what a run with that seed sent.
    """

    def setUp(self) -> None:
        super().setUp()
        self.seed = os.environ.get("ESCAPE_SEED") or secrets.token_hex(4)
        self.rng = random.Random(self.seed)
        self.token = secrets.token_hex(6)
        self.temporary = Path(tempfile.mkdtemp(prefix="pysftpserver-escape-", dir=IN_MEMORY)).resolve()
        self.addCleanup(self._remove)
        self.sessions: list[Session] = []
        self.hidden = self.temporary / f"canary-{self.token}"
        self.jail = self.hidden / "jail"
        self.jail.mkdir(parents=True)
        self.work = self.temporary / "work"
        self.work.mkdir()
        (self.temporary / "alias").symlink_to(self.hidden.name)
        self.outside = f"{self.temporary}/alias/outside"
        self.canaries = Canaries(self.hidden / "outside", self.token)
        self.canaries.build()
        # So that the outside has a file where one `..` too many would look for it.
        beside = self.hidden / "file"
        beside.write_bytes(SECRET)
        os.utime(beside, (TIME, TIME))
        self.ours = [self.work, self.jail]  # what is not outside
        self.watch()

    def _remove(self) -> None:
        # rm, because trees deeper than Python's recursion and than the longest path are no matter to it.
        subprocess.run(["rm", "-rf", "--one-file-system", "--", self.temporary], check=True)

    def watch(self) -> None:
        """Take the present state of the outside for the one that has to stay."""
        self._before = self.look_outside()

    def look_outside(self) -> dict[str, dict[str, object]]:
        seen = state(self.temporary, without=tuple(self.ours))
        for above in self.temporary.parents:  # shared with others: only what has our name is looked at
            names = {name for name in os.listdir(above) if self.token in name or name in MADE}
            seen[f"above: {above}"] = {"content": names}
        return seen

    def effects(self) -> set[str]:
        """What has changed outside."""
        return differences(self._before, self.look_outside())

    def leaks(self) -> list[str]:
        return [leak for session in self.sessions for leak in session.leaks]

    def assert_contained(self) -> None:
        self.assertEqual(self.effects(), set(), f"outside effects; seed {self.seed}")
        self.assertEqual(self.leaks()[:5], [], f"leaks; seed {self.seed}")
        for session in self.sessions:
            log = session.log.read_text() if session.log.exists() else ""
            self.assertNotIn("Traceback", log, f"a fault in the server; seed {self.seed}")

    def session(self, way: str, *mounts: str, jail: Path | None = None) -> Session:
        """Serve a jail; the session is ended with the test."""
        log = self.work / f"log{len(self.sessions)}"
        try:
            session = Session(way, jail or self.jail, log, self.canaries.signs, mounts)
        except Ended as error:
            if error.status == CANNOT_MOUNT and not may_mount():
                self.skipTest(f"neither root nor a user namespace that may mount: {error}")
            raise
        self.sessions.append(session)
        self.addCleanup(session.close)
        return session

    def swapper(self, outside: str = "", safe: bool = False) -> Swapper:
        """Start swapping in the jail; it is ended with the test. outside: what absolute links say instead.

        safe: for the naive jail.
        """
        outside = outside or self.outside
        swapper = Swapper(self.jail, outside, self.work, safe)
        self.addCleanup(swapper.end)
        self.assertIsNone(swapper.process.poll(), "the swapper has ended")
        return swapper

    def exchanger(self, *pairs: tuple[Path, Path]) -> Exchanger:
        """Start to let names change places, outside or inside; it is ended with the test."""
        exchanger = Exchanger(pairs, self.work)
        self.addCleanup(exchanger.end)
        self.assertIsNone(exchanger.process.poll(), "the exchanging process has ended")
        return exchanger

    def work_while(
        self,
        exchanger: Exchanger,
        session: Session,
        paths: list[str],
        probes: dict[str, str],
        operations: int,
    ) -> None:
        """Send requests on paths until there were enough of them, and of the exchanges meanwhile.

        All that there are but those that would take away for good what is exchanged. probes: paths that are
        there in one state and not in the other, and names for them; both have to be seen.
        """
        chosen = [
            attempt
            for path in paths
            for attempt in every_request(path.encode(), b"stash/file")
            if attempt.kind not in ("rename", "posix-rename", "rmdir", "remove")
        ]
        asked = [Attempt("stat", (string(path.encode()),), name) for name, path in probes.items()]
        wanted = {(name, there) for name in probes for there in (True, False)}
        before, served, exchanges = exchanger.count, 0, 0
        deadline = time.monotonic() + PATIENCE
        while served < operations or exchanges < EXCHANGES or not wanted <= session.probes.keys():
            done = f"{session.way}: {served} operations, {exchanges} exchanges, {dict(session.probes)}"
            self.assertLess(time.monotonic(), deadline, f"{done}; seed {self.seed}")
            attempts = self.rng.sample(chosen, min(60, len(chosen))) + asked * 3
            self.rng.shuffle(attempts)
            session.send(session.go_on() + attempts)
            served += len(session.receive())
            exchanges = exchanger.count - before
        print(f"{session.way}: {served} operations, {exchanges} exchanges", file=sys.stderr)


def may_mount() -> bool:
    """Whether this process has CAP_SYS_ADMIN, with which there is no reason to skip anything."""
    with open("/proc/self/status") as file:
        effective = next(line for line in file if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> CAP_SYS_ADMIN & 1)
