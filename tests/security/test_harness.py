"""Tests the tests: they notice what escapes from a jail that does not hold, and every kind of change."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.security.attempts import Attempts
from tests.security.canaries import SECRET
from tests.security.clients import race
from tests.security.layout import SAFE_PLACES
from tests.security.premises import Premises
from tests.support.packets import NO_ATTRS, READ, string, u32
from tests.support.waiting import PATIENCE

# Batches between two looks at the outside: what is got by one is used with the next, before all is put right.
ROUNDS = 3
# What has to be seen outside and to be told; what is rarer is left to the tests below, which need no luck.
ASPECTS = {"appeared", "gone", "content", "mode", "modified"}
TOLD = {"the content of a secret file", "the size of a secret file", "the time of something outside"}


class TestHarness(Premises):
    def test_a_jail_that_checks_first_and_uses_later_is_caught(self) -> None:
        # Run by root, the naive jail's processes are in a chroot of the temporary directory.
        outside = "/alias/outside" if os.getuid() == 0 else self.outside
        swapper = self.swapper(outside, safe=True)
        sessions = [self.session("naive"), self.session("naive")]
        batches = Attempts(SAFE_PLACES, outside, self.rng, safe=True).batches()
        aspects: set[str] = set()
        told: set[str] = set()
        deadline = time.monotonic() + 5 * PATIENCE
        while not (aspects >= ASPECTS and told >= TOLD):
            self.assertLess(time.monotonic(), deadline, f"only {aspects}, {told}; seed {self.seed}")
            for _ in range(ROUNDS):
                race(sessions, batches, self.rng)
            aspects |= {effect.partition(":")[0] for effect in self.effects()}
            told |= {what for what in self.canaries.signs if any(what in leak for leak in self.leaks())}
            # Put right again what has changed, so that there is something for others to change.
            self.canaries.build()
            self.watch()
        served = sum(sum(session.counts.values()) for session in sessions)
        print(
            f"naive: caught reading, writing, making, removing and changing after {served} operations",
            file=sys.stderr,
        )
        swapper.end()

    def test_nothing_is_noticed_where_nothing_happens(self) -> None:
        self.assertEqual(self.effects(), set())

    def test_every_effect_outside_is_noticed(self) -> None:
        def written(path: Path) -> None:
            with path.open("r+b") as file:
                file.write(b"x")

        effects: dict[str, Callable[[Path], object]] = {
            "written": written,
            "truncated": lambda path: os.truncate(path, 7),
            "a mode": lambda path: path.chmod(0o600),
            "a time": lambda path: os.utime(path, (1, 1)),
            "a link count": lambda path: os.link(path, self.jail / "taken"),
            "replaced": lambda path: (path.unlink(), path.write_bytes(SECRET)),
            "renamed": lambda path: path.rename(path.with_name("other")),
            "removed": lambda path: path.unlink(),
            "a new file": lambda path: path.with_name("new").touch(),
            "a new directory": lambda path: path.with_name("new").mkdir(),
            "a new link": lambda path: path.with_name("new").symlink_to("x"),
            "beside the jail": lambda path: (self.hidden / "new").touch(),
            "above it": lambda path: (self.temporary / "new").touch(),
        }
        for name in ("file", "sub/file", "program", "link"):
            for what, effect in effects.items():
                if name == "link" and what in ("written", "truncated", "a mode", "a time"):
                    continue  # through the link: the file's
                with self.subTest(what, name=name):
                    before = self.look_outside()
                    effect(self.canaries.top / name)
                    self.assertNotEqual(before, self.look_outside())
                    self.put_right()

    def put_right(self) -> None:
        for path in (self.hidden / "new", self.temporary / "new", self.jail / "taken"):
            path.unlink(missing_ok=True)
        self.canaries.build()

    def test_every_sign_of_the_outside_is_noticed_in_replies(self) -> None:
        """A jail on the canaries themselves shows all of their signs."""
        session = self.session("openat2", jail=self.canaries.top)
        secret = string(session.ask("open", string(b"file"), u32(READ), NO_ATTRS).content)
        session.ask("read", secret, bytes(8), u32(100))
        session.ask("stat", string(b"file"))
        listing = string(session.ask("opendir", string(b"/")).content)
        session.ask("readdir", listing)
        for what in self.canaries.signs:
            self.assertTrue(any(what in leak for leak in session.leaks), what)
        # Attributes alone, and a listing's names.
        self.assertTrue(any("NAME" in leak for leak in session.leaks))
