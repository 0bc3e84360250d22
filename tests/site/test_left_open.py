"""Files that are written in place and never closed, and files that others rename while they are open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.mountedstorage import SFTPServerMountedStorage
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.site import ledger as ledger_module
from pysftpserver.site.accounts import Quota
from pysftpserver.site.delivering import Deliverer
from pysftpserver.site.events import EventsLayer
from pysftpserver.site.ledger import Ledger
from pysftpserver.site.quota import QuotaLayer
from pysftpserver.site.receivers import Receiver
from pysftpserver.site.spool import Spool
from pysftpserver.site.told import Wish
from pysftpserver.site.who import Who
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.site.test_events import NEW, EventsCase, sha256
from tests.site.test_ledger import LedgerCase
from tests.support.memory import SFTPServerMemoryStorage

RECEIVER = "post http://x/"


def layer(
    ledger: Ledger, below: SFTPAbstractServerStorage, on: str = "upload delete rename rejected"
) -> EventsLayer:
    """A storage that tells one receiver. ledger: one with a session."""
    is_part = lambda name: name.endswith(".part")  # noqa: E731
    wishes = [Wish(frozenset(on.split()), RECEIVER, None, None)]
    return EventsLayer(below, ledger, wishes, Who("alice"), "here", is_part)


class LeftOpen(EventsCase):
    def over(self, below: SFTPAbstractServerStorage) -> EventsLayer:
        ledger = Ledger(self.state)
        self.addCleanup(ledger.close)
        ledger.open_session({"user": "alice"})
        return layer(ledger, below)

    def in_place(self) -> EventsLayer:
        return self.over(SFTPServerVirtualChroot(self.root))

    def write(self, storage: SFTPAbstractServerStorage, path: bytes, flags: int = NEW) -> Any:
        handle = storage.open(path, flags, 0o666)
        storage.write(handle, 0, b"half")
        return handle

    def notes(self) -> list[tuple[Any, ...]]:
        return self.ledger.ask("SELECT seq FROM event WHERE NOT is_ready")

    def test_what_was_written_in_place_is_told_of_at_the_end_of_the_session(self) -> None:
        storage = self.in_place()
        storage.abandon(self.write(storage, b"/f"))
        handle = self.write(storage, b"/g")
        storage.write(handle, 9, b"out of order")
        storage.abandon(handle)
        fields = ("event", "path", "size", "sha256", "complete", "certain")
        self.assertEqual(
            self.told(*fields),
            [
                ("upload", "/f", 4, sha256(b"half"), False, None),
                ("upload", "/g", 21, None, False, None),
            ],
        )
        self.assertEqual(self.notes(), [])

    def test_what_is_not_there_or_not_changed_is_not_told_of(self) -> None:
        Path(self.root, "f").write_bytes(b"old")
        whole = self.over(SFTPAtomicVirtualChroot(self.root))
        whole.abandon(self.write(whole, b"/f"))
        storage = self.in_place()
        storage.abandon(storage.open(b"/f", os.O_WRONLY, 0))
        storage.abandon(self.write(storage, b"/f.part"))
        self.assertEqual(self.told(), [])
        self.assertEqual(self.notes(), [])

    def test_a_storage_without_inode_numbers_is_looked_at_as_well(self) -> None:
        storage = self.over(SFTPServerMemoryStorage())
        storage.abandon(self.write(storage, b"/f"))
        self.assertEqual(self.told("path", "size", "certain"), [("/f", 4, False)])

    def test_a_file_that_a_quota_has_cut_off_is_told_of_with_the_refusal(self) -> None:
        ledger = Ledger(self.state)
        self.addCleanup(ledger.close)
        ledger.open_session({"user": "alice"})
        quota = Quota("user:alice", 10, None, None)
        storage = layer(ledger, QuotaLayer(SFTPServerVirtualChroot(self.root), ledger, [quota], "here"))
        handle = self.write(storage, b"/f")
        with self.assertRaises(OSError):
            storage.write(handle, 4, b"more than there is")
        storage.close(handle)
        self.assertEqual(
            self.told("event", "size", "complete"), [("rejected", None, None), ("upload", 4, False)]
        )

    def test_an_open_file_holds_back_no_event(self) -> None:
        storage = self.in_place()
        self.write(storage, b"/f")
        self.in_place().rm(b"/f")
        self.assertEqual(
            [delivery.event["event"] for delivery in Spool(self.ledger).due(RECEIVER)], ["delete"]
        )

    def test_each_close_leaves_nothing_behind(self) -> None:
        storage = self.in_place()
        for path in (b"/f", b"/g.part"):
            storage.close(self.write(storage, path))
        handle = self.write(storage, b"/h")
        storage.rename(b"/h", b"/i")
        storage.write(handle, 4, b"x")
        storage.close(handle)
        self.assertEqual(self.told("event", "path"), [("upload", "/f"), ("rename", "/h"), ("upload", "/i")])
        self.assertEqual(self.notes(), [])

    def test_what_a_ledger_that_hangs_refuses_is_closed_and_leaves_the_old_file(self) -> None:
        Path(self.root, "f").write_bytes(b"old")
        storage = self.over(SFTPAtomicVirtualChroot(self.root))
        handle = self.write(storage, b"/f")
        with mock.patch.object(ledger_module, "PATIENCE", 0.02), self.ledger.changing():
            with self.assertRaisesRegex(SFTPException, "Another session has held"):
                storage.close(handle)
        self.assertEqual(os.listdir(self.root), ["f"])
        self.assertEqual(Path(self.root, "f").read_bytes(), b"old")
        with self.assertRaises(OSError):
            os.fstat(handle)
        self.assertEqual(self.told(), [])

    # --- renamed by others ------------------------------------------------------------------------------

    def test_a_file_that_another_session_renames_is_told_of_under_its_new_name(self) -> None:
        for name in ("d", "top", "top/d"):
            Path(self.root, name).mkdir()
        tree = SFTPServerMountedStorage(
            SFTPServerVirtualChroot(f"{self.root}/top"), {b"/m": SFTPServerVirtualChroot(self.root)}
        )
        for storage, top in ((self.in_place(), b""), (self.over(tree), b"/m")):
            handles = [self.write(storage, top + path) for path in (b"/f", b"/d/g")]
            os.rename(f"{self.root}/f", f"{self.root}/f2")
            os.rename(f"{self.root}/d", f"{self.root}/e")
            storage.close(handles[0])
            storage.abandon(handles[1])
            os.rename(f"{self.root}/e", f"{self.root}/d")
        paths = ["/f2", "/e/g"]
        self.assertEqual([path for (path,) in self.told("path")], [*paths, *("/m" + path for path in paths)])

    def test_a_directory_that_is_renamed_while_a_file_is_received_in_it(self) -> None:
        Path(self.root, "d").mkdir()
        storage = self.over(SFTPAtomicVirtualChroot(self.root))
        handle = self.write(storage, b"/d/f")
        os.rename(f"{self.root}/d", f"{self.root}/e")
        storage.close(handle)
        self.assertEqual(self.told("path", "sha256"), [("/e/f", sha256(b"half"))])
        self.assertEqual(os.listdir(f"{self.root}/e"), ["f"])

    def test_a_file_that_others_have_removed_keeps_its_name(self) -> None:
        storage = self.in_place()
        handle = self.write(storage, b"/f")
        os.rename(f"{self.root}/f", f"{self.root}/g")
        os.unlink(f"{self.root}/g")
        storage.close(handle)
        self.assertEqual(self.told("path", "size"), [("/f", 4)])


class Collected(Receiver):
    def __init__(self) -> None:
        super().__init__(RECEIVER)
        self.got: list[dict[str, Any]] = []

    def take(self, event: Any) -> None:
        self.got.append(dict(event))


class Killed(LedgerCase):
    """Sessions that are killed while a file is open."""

    def setUp(self) -> None:
        super().setUp()
        self.root = f"{self.state}/root"
        os.mkdir(self.root)

    def killed_while(self, path: bytes, kind: Any = SFTPServerVirtualChroot) -> None:
        def act(ledger: Ledger) -> None:
            ledger.open_session({"user": "alice"})
            storage = layer(ledger, kind(self.root))
            storage.write(storage.open(path, NEW, 0o666), 0, b"half")

        self.kill(self.child(act))

    def settled(self) -> list[tuple[Any, ...]]:
        receiver = Collected()
        ledger = self.ledger()
        Deliverer(ledger, [receiver], lambda who: SFTPServerVirtualChroot(self.root), print).run(True)
        for table in ("event", "event_path", "delivery", "session"):
            self.assertEqual(ledger.ask(f"SELECT * FROM {table}"), [], table)
        return [
            tuple(event.get(field) for field in ("path", "size", "sha256", "complete", "certain"))
            for event in receiver.got
        ]

    def test_what_it_has_written_in_place_is_told_of(self) -> None:
        self.killed_while(b"/f")
        self.assertEqual(self.settled(), [("/f", 4, sha256(b"half"), False, False)])

    def test_what_is_not_there_is_not_told_of(self) -> None:
        self.killed_while(b"/whole", SFTPAtomicVirtualChroot)
        self.killed_while(b"/gone")
        os.unlink(f"{self.root}/gone")
        self.assertEqual(self.settled(), [])
