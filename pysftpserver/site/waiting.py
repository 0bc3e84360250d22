"""A file that waits under a hidden name until it is put in place.

It takes the steps of uploads/files.py; the gates decide about the step that renames it. What may not
enter: which paths have gates, what a session has open.
"""

from __future__ import annotations

import contextlib
from stat import S_IMODE

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure
from pysftpserver.site.gates import QUARANTINE, Rejected
from pysftpserver.uploads.files import StoredFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.site.gates import Gate
    from pysftpserver.site.staging import GatesLayer

FOR_OWNER = 0o600


class Waiting(StoredFile):
    """A file that waits for its name.

    handles: number of the client's open ones. is_exclusive: whether the name has to be free. is_broken:
    whether a write failed. mode: its final permissions; None: those that it has. path: its final path.
    waits_as: its path until then. gates: those that have to let it in.
    """

    def __init__(
        self, layer: GatesLayer, handle: Any, waits_as: bytes, path: bytes, gates: tuple[Gate, ...]
    ) -> None:
        super().__init__(layer.below, handle, waits_as, path, None)
        self.path, self.waits_as = path, waits_as
        self._layer, self._gates = layer, gates
        self.handles = 1
        self.is_exclusive = self.is_broken = False
        self.mode: int | None = None
        self.check = self._ask

    def take_attributes(self, like: SFTPAttributes | None) -> None:
        """Give it the owner and permissions of another file when it is in place; until then, a file of the
        host is accessible to its owner only.
        """
        if like is not None:
            self._keep_attributes(like)
        if self._storage.fileno(self._handle) is not None:
            with contextlib.suppress(OSError, SFTPException):
                found = self._storage.fstat(self._handle).permissions
                if found is not None:
                    self._storage.fsetstat(self._handle, SFTPAttributes(permissions=FOR_OWNER))
                    self.mode = S_IMODE(found)

    def reopen(self, flags: int) -> Any:
        """Close it, and open it for the client; return the handle. Raises the storage's exceptions."""
        self.close()
        self._handle = self._storage.open(self.waits_as, flags, 0)
        self._is_open = True
        return self._handle

    def put_in_place(self, handle: Any) -> None:
        """Put it in place or discard it. handle: the last one, to be closed. Raises Rejected, storage's
        exceptions.
        """
        self._handle = handle
        self.commit()

    def drop(self, handle: Any) -> None:
        """Discard it. handle: the last one; it is closed."""
        self._handle = handle
        self.discard()

    def prepare(self) -> None:
        if self.is_broken:
            raise incomplete()
        super().prepare()

    def rename(self) -> None:
        if not self.is_exclusive:
            super().rename()
            return
        self._storage.check_root()
        self._ask()
        self._storage.rename(self.waits_as, self.path)
        self._is_there = False

    def _ask(self) -> None:
        refusal = self._layer.refusal(self._gates, self.waits_as, self.path)
        if refusal is not None:
            gate, verdict = refusal
            if verdict.kind == QUARANTINE and self._layer.keep(gate, self.waits_as, self.path):
                self._is_there = False
            raise Rejected(verdict, self.path)
        if self.mode is not None:
            with contextlib.suppress(OSError, SFTPException):  # then its owner does not change
                self._storage.setstat(self.waits_as, SFTPAttributes(permissions=self.mode))


def incomplete() -> SFTPFailure:
    """The error for a file that is discarded because part of it is missing."""
    return SFTPFailure("Not put in place: a part of it could not be written")
