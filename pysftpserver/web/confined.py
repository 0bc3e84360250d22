"""A part of a storage that no path or link leads out of.

Links are refused: by the storage, in the call that would follow one, if it can do that; otherwise every path
is checked before it is used. What may not enter: HTTP, who sees the part.
"""

from __future__ import annotations

from pysftpserver.abstractstorage import check_no_links
from pysftpserver.http.files import FileProblem, as_problems
from pysftpserver.uploads.temporary import is_temporary
from pysftpserver.web.files import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.http.files import Source
    from pysftpserver.web.files import Entry
    from pysftpserver.web.incoming import Incoming


class ConfinedTree(Tree):
    """The tree at and below a path of a storage. storage: for this tree alone. root: a path without links.

    Paths are the storage's, as within() returns them.
    """

    def __init__(self, storage: SFTPAbstractServerStorage, root: bytes) -> None:
        super().__init__(storage)
        self.root = root
        refuse_links = getattr(storage, "refuse_links", None)
        self._has_to_ask = refuse_links is None
        if refuse_links is not None:
            with as_problems():
                refuse_links()

    def within(self, rest: bytes) -> bytes:
        """The storage's path of a path below the root. Raises FileProblem for an invalid one."""
        names = [name for name in rest.split(b"/") if name]
        if b"\0" in rest or b"." in names or b".." in names or any(map(is_temporary, names)):
            raise FileProblem("no such file or directory", "NO_SUCH_FILE")
        return b"/".join([self.root.rstrip(b"/"), *names]) or b"/"

    def find(self, path: bytes) -> Entry | None:
        self._check(path)
        return super().find(path)

    def entries(self, path: bytes) -> Iterator[Entry]:
        self._check(path)
        return super().entries(path)

    def source(self, path: bytes) -> Source:
        self._check(path)
        return super().source(path)

    def receive(self, path: bytes, replaces: bool, hidden: bytes = b"") -> Incoming:
        self._check(path.rpartition(b"/")[0] or b"/")
        return super().receive(path, replaces, hidden)

    def _check(self, path: bytes) -> None:
        if self._has_to_ask:
            with as_problems():
                check_no_links(self.storage, path, True)
