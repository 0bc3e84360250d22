"""The storage on object stores keeps the storage contract, with what it cannot do declared."""

from __future__ import annotations

from contextlib import AbstractContextManager

from pysftpserver.objectstorage import SFTPServerObjectStorage
from pysftpserver.testing import StorageContract
from tests.objects.stores import StoreCase, cut_off
from tests.support.hard import IS_HARD, MANY


class ObjectsKeepTheContract(StorageContract, StoreCase):
    many = MANY
    unsupported = frozenset("symlink readlink link statvfs fstatvfs fsync owner permissions times".split())
    unencodable = frozenset({b"\xff\xfe\x80"})
    settings = "&setstat=refuse&timeout=60"

    def make_storage(self) -> SFTPServerObjectStorage:
        return self.open_storage()

    def failing(self) -> AbstractContextManager[None] | None:
        return None if self.which == "given" else cut_off(self.storage)


if IS_HARD:

    class OnMoto(ObjectsKeepTheContract):
        """A server that others wrote."""

        server = "moto"
        settings = "&setstat=refuse&timeout=20"

        # moto has no such keys with control characters
        test_unusual_names = None  # type: ignore[assignment]
        test_control_characters_in_names = None  # type: ignore[assignment]

    class BelowAPrefix(ObjectsKeepTheContract):
        def make_storage(self) -> SFTPServerObjectStorage:
            self.put_object("users/bob/file", b"of another user")
            return self.open_storage("users/alice")
