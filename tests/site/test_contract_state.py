"""The contract suite over the layers of quotas and events: with nothing to do for them, nothing changes."""

from __future__ import annotations

import tempfile
import unittest

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.site.accounts import Quota
from pysftpserver.site.events import EventsLayer
from pysftpserver.site.ledger import Ledger
from pysftpserver.site.quota import QuotaLayer
from pysftpserver.site.told import Wish
from pysftpserver.site.who import Who
from pysftpserver.testing import StorageContract
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.site.test_events import ALL
from tests.support.hard import IS_HARD, MANY


class Empty(StorageContract, unittest.TestCase):
    many = MANY
    quotas: list[Quota] = []
    wishes: list[Wish] = []

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.ledger = Ledger(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.addClassCleanup(cls.ledger.close)
        cls.ledger.open_session({})

    def make_storage(self) -> SFTPAbstractServerStorage:
        storage = SFTPServerVirtualChroot(self.enterContext(tempfile.TemporaryDirectory()))
        layer = QuotaLayer(storage, self.ledger, self.quotas, self.id())
        return EventsLayer(layer, self.ledger, self.wishes, Who(), "here")


if IS_HARD:  # a hundred rules once more

    class Full(Empty):
        """With a quota that is not reached and all events, nothing changes either."""

        quotas = [Quota("user:alice", 1 << 62, 1 << 62, None)]
        wishes = [Wish(frozenset(ALL.split()), "post http://x/", None, None)]

        # What was changed by more than writing in order is read for its digest, which is an access
        test_setstat_all_at_once = None  # type: ignore[assignment]
