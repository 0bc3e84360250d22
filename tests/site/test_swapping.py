"""Somebody on the host swaps directories and files for links while a session works: rules are not outrun.

PYSFTP_TEST_HARD=1 makes it many times longer.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from collections import Counter

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.mountedstorage import SFTPServerMountedStorage
from pysftpserver.pysftpexceptions import (
    SSH2_FX_FAILURE,
    SSH2_FX_NO_SUCH_FILE,
    SSH2_FX_PERMISSION_DENIED,
    is_expected,
    status_of,
)
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.security.premises import Exchanger
from tests.site.test_guard_contract import under
from tests.support.cases import InADirectory
from tests.support.hard import IS_HARD
from tests.support.waiting import PATIENCE

OPERATIONS, EXCHANGES = (20_000, 100_000) if IS_HARD else (150, 100)
PUBLIC, SECRET = b"public", b"it is secret"


class Swapped(InADirectory):
    def setUp(self) -> None:
        super().setUp()
        self.seed = os.environ.get("ESCAPE_SEED") or secrets.token_hex(4)
        self.rng = random.Random(self.seed)
        self.top = self.root / "top"
        for name in ("secret/d", "out/p/d", "stash"):
            (self.top / name).mkdir(parents=True)
        (self.top / "out/p/f").write_bytes(PUBLIC)
        (self.top / "out/q").write_bytes(PUBLIC)
        (self.top / "secret/f").write_bytes(SECRET)
        (self.top / "stash/f").write_bytes(PUBLIC)
        (self.top / "out/p.other").symlink_to("../secret")
        (self.top / "out/q.other").symlink_to("../secret/f")
        pairs = tuple((self.top / "out" / name, self.top / "out" / f"{name}.other") for name in ("p", "q"))
        exchanger = Exchanger(pairs, self.root)
        self.addCleanup(exchanger.end)
        self.exchanger = exchanger

    def secret(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for path in (self.top / "secret", *sorted((self.top / "secret").rglob("*"))):
            st = path.lstat()
            content = path.read_bytes() if path.is_file() else None
            found[path.name] = (st.st_mode, st.st_nlink, st.st_size, st.st_mtime_ns, content)
        return found

    def act(self, storage: SFTPAbstractServerStorage, at: bytes) -> str:
        """One operation at random; what became of it. Fails if it shows what is secret."""
        path = at + self.rng.choice(
            (b"/out/p/f", b"/out/q", b"/out/p/new", b"/out/p/d/new", b"/out/./p/d/../f")
        )
        what = self.rng.randrange(12)
        try:
            if what < 3:
                handle = storage.open(path, os.O_RDONLY, 0)
                try:
                    self.assertNotEqual(storage.read(handle, 0, 99), SECRET, self.seed)
                finally:
                    storage.close(handle)
            elif what < 5:
                flags = self.rng.choice(
                    (0, os.O_CREAT, os.O_CREAT | os.O_TRUNC, os.O_APPEND, os.O_CREAT | os.O_EXCL)
                )
                handle = storage.open(path, os.O_WRONLY | flags, 0o666)
                try:
                    storage.write(handle, 0, PUBLIC)
                finally:
                    storage.close(handle)
            elif what == 5:
                storage.rm(path)
            elif what == 6:
                storage.mkdir(at + b"/out/p/made", 0o777)
            elif what == 7:
                storage.rmdir(at + b"/out/p/" + self.rng.choice((b"made", b"d")))
            elif what == 8:
                storage.rename(at + b"/stash/f", path, True)
            elif what == 9:
                storage.setstat(
                    path,
                    SFTPAttributes(size=3) if self.rng.random() < 0.5 else SFTPAttributes(atime=1, mtime=1),
                )
            elif what == 10:
                storage.link(path, at + b"/stash/" + secrets.token_hex(8).encode())
            else:
                storage.symlink(path, b"nowhere")
        except Exception as error:
            self.assertTrue(is_expected(error), f"{error!r} {self.seed}")
            status = status_of(error)[0]
            self.assertIn(status, (SSH2_FX_NO_SUCH_FILE, SSH2_FX_PERMISSION_DENIED, SSH2_FX_FAILURE))
            return f"{status}"
        return "done"

    def mend(self) -> None:
        """Put back what the session has removed, so that there is something to be swapped and read."""
        for path in ("stash/f", "out/q", "out/q.other"):
            if not os.path.lexists(self.top / path):
                (self.top / path).write_bytes(PUBLIC)

    def swap(self, storage: SFTPAbstractServerStorage, at: bytes, refusal: str) -> None:
        before, began = self.secret(), self.exchanger.count
        counts: Counter[str] = Counter()
        deadline = time.monotonic() + PATIENCE
        while (
            counts.total() < OPERATIONS
            or self.exchanger.count - began < EXCHANGES
            or not all(counts[name] for name in ("done", refusal))
        ):
            self.assertLess(time.monotonic(), deadline, (counts, self.exchanger.count - began, self.seed))
            counts[self.act(storage, at)] += 1
            if not counts.total() % 20:
                self.mend()
        self.assertEqual(before, self.secret(), self.seed)
        files = [path for path in (self.top / "stash").iterdir() if not path.is_symlink()]
        held = [path.read_bytes() for path in files if path.is_file()]
        self.assertNotIn(SECRET, held, self.seed)

    def test_no_operation_reaches_what_rules_refuse(self) -> None:
        text = '[[rule]]\npath = "{}/secret/**"\n{}\n'
        jails = (
            SFTPServerVirtualChroot(self.top, use_openat2=True),
            SFTPServerVirtualChroot(self.top, use_openat2=False),
            SFTPAtomicVirtualChroot(self.top),
        )
        top = os.fsencode(self.top)
        mounted = SFTPServerMountedStorage(SFTPServerVirtualChroot(self.root), {b"/m": jails[0]})
        places = [*((jail, b"") for jail in jails), (SFTPServerStorage("/"), top), (mounted, b"/m")]
        whats = [('deny = "all"', "3"), ("hidden = true", "2")]
        for number, (storage, at) in enumerate(places):
            for what, refusal in whats if IS_HARD else [whats[number % 2]]:
                with self.subTest(type(storage).__name__, what=what):
                    self.swap(under(storage, text.format(os.fsdecode(at), what)), at, refusal)
