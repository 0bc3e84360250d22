"""Renames a directory: every object in it is copied to its new key and then removed from the old one.

At any time, an object has its old key or its new one. So an interrupted rename loses nothing, and the store
shows how far it came. What may not enter: paths, files that are being written.
"""

from __future__ import annotations

from pysftpserver.failures import one_line
from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure
from pysftpserver.storages.objects.task import ahead

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.storages.objects.s3 import S3, Meta

AT_ONCE = 8


def move_directory(store: S3, old: str, new: str) -> int:
    """Move all objects whose keys begin with old; return their number. old, new: end with a slash.

    Raises SFTPFailure, whose text says how many have moved and which one has not.
    """

    def move(meta: Meta) -> None:
        store.copy(meta, new + meta.key[len(old) :])
        store.delete(meta.key)

    moved = 0
    failed = ""
    gone: set[str] = set()
    while True:
        found = store.page(old).objects  # always the first page: moved objects are no longer in it
        objects = [meta for meta in found if meta.key not in gone]
        if not found:
            return moved
        gone = {meta.key for meta in found}
        try:
            if not objects:
                raise SFTPFailure("The store still lists objects that were removed")
            for meta, _ in ahead(move, objects, AT_ONCE):
                moved += 1
                failed = meta.key
        except SFTPException as error:
            later = one_line(failed[len(old) :])
            where = f"up to {later} " if moved else ""
            raise SFTPFailure(
                f"{error}. {moved} files {where}are in the new directory, the others still in the old one"
            ) from error
