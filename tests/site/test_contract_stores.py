"""The contract suite over quotas that are not reached, and all events, on stores: nothing changes."""

from __future__ import annotations

import tempfile
import unittest
from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.site import file
from pysftpserver.site.accounts import Quota
from pysftpserver.site.events import EventsLayer
from pysftpserver.site.guard import RulesLayer
from pysftpserver.site.ledger import Ledger
from pysftpserver.site.quota import QuotaLayer
from pysftpserver.site.rules import NameRules, Rules
from pysftpserver.site.told import Wish
from pysftpserver.site.who import Who
from pysftpserver.testing import StorageContract
from tests.mongo.databases import DatabaseCase
from tests.mongo.test_contract import InABucket
from tests.objects.stores import StoreCase
from tests.site.test_events import ALL
from tests.site.test_guard_contract import ELSEWHERE
from tests.site.test_staging import BETTER, GOOD, content, put
from tests.support.hard import IS_HARD, MANY

WISHES = [Wish(frozenset(ALL.split()), "post http://x/", None, None)]
LARGE = Quota("user:alice", 1 << 62, 1 << 62, None)
SMALL = Quota("user:alice", len(GOOD) + len(BETTER) + 10, 2, None)


class Behind:
    """Puts the layers of a site in front of a storage. quota: that counts."""

    def layered(self: Any, storage: SFTPAbstractServerStorage, quota: Quota = LARGE) -> RulesLayer:
        self.inner = storage
        ledger = Ledger(self.enterContext(tempfile.TemporaryDirectory()))
        self.addCleanup(ledger.close)
        ledger.open_session({})
        layer = EventsLayer(
            QuotaLayer(storage, ledger, [quota], self.id()), ledger, WISHES, Who("alice"), "here"
        )
        site = file.parse(ELSEWHERE, "s.toml")
        return RulesLayer(layer, Rules(site, Who("alice")), NameRules(site.names))

    def fill(self: Any, directory: bytes, names: list[bytes]) -> None:
        """Past the layers, which sync each event."""
        storage, self.storage = self.storage, self.inner
        super().fill(directory, names)  # type: ignore[misc]
        self.storage = storage

    def failing(self) -> None:
        return None


class Filling(Behind):
    """What a small quota does on any storage."""

    def below(self) -> SFTPAbstractServerStorage:
        raise NotImplementedError

    def test_what_would_pass_it_leaves_the_old_file_and_what_is_removed_is_given_back(self: Any) -> None:
        storage = self.layered(self.below(), SMALL)
        put(storage, b"/a", GOOD)
        put(storage, b"/b", BETTER)
        for path, sent in ((b"/a", BETTER * 2), (b"/c", b"x"), (b"/b", BETTER + bytes(11))):
            with self.assertRaises((OSError, SFTPException)):
                put(storage, path, sent)
        self.assertEqual(content(storage, b"/a"), GOOD)
        self.assertEqual(content(storage, b"/b"), BETTER)
        self.assertIsNone(content(storage, b"/c"))
        storage.rm(b"/a")
        put(storage, b"/c", GOOD)
        storage.rename(b"/c", b"/b", True)
        put(storage, b"/a", BETTER)
        self.assertEqual({name for name, _ in self.inner.opendir(b"/")} - {b".", b".."}, {b"a", b"b"})


class FillingObjects(Filling, StoreCase):
    def below(self) -> SFTPAbstractServerStorage:
        return self.open_storage()


if IS_HARD:

    class FillingMoto(FillingObjects):
        server = "moto"

    class FillingGridFS(Filling, DatabaseCase):
        def below(self) -> SFTPAbstractServerStorage:
            return self.open_storage()

    class OnMoto(Behind, StorageContract, StoreCase):
        many = MANY
        server = "moto"
        settings = "&setstat=refuse&timeout=20"
        unsupported = frozenset("symlink readlink link fsync owner permissions times".split())
        unencodable = frozenset({b"\xff\xfe\x80"})

        # It is open, see the contract of objects on moto
        test_a_name_longer_than_the_limit_is_a_senseless_request = None
        test_statvfs_namemax_is_a_limit = None  # type: ignore[assignment]

        # moto has no such keys with control characters
        test_unusual_names = None  # type: ignore[assignment]
        test_control_characters_in_names = None  # type: ignore[assignment]

        def make_storage(self) -> SFTPAbstractServerStorage:
            return self.layered(self.open_storage())

    class OnGridFS(Behind, InABucket, StorageContract):
        unsupported = frozenset({"link"})

        def make_storage(self) -> SFTPAbstractServerStorage:
            return self.layered(self.open_storage())


if __name__ == "__main__":
    unittest.main()
