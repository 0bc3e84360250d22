"""File attributes of SFTP version 3, and the `ls -l` line that goes with them.

What may not enter: the wire encoding (wire.py) and any look-up of files or users; callers pass in both
names and numbers. Facts: draft-ietf-secsh-filexfer-02, sections 5 and 7.
"""

from __future__ import annotations

import time
from stat import filemode

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    NameOfId = Callable[[int], bytes | None]

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
HALF_A_YEAR = 365 * 24 * 3600 // 2  # seconds
A_DAY = 24 * 3600  # seconds
FIELDS = ("atime", "gid", "mtime", "nlink", "permissions", "size", "uid")
CACHED_PARTS = 4096  # of each kind; a directory rarely holds more distinct times


class SFTPAttributes:
    """What is known of a file; a field that is None is unknown, or not to be changed.

    size: bytes. uid, gid: numbers; they travel only together. permissions: the POSIX st_mode, file
    type bits included. atime, mtime: whole seconds since the epoch; they travel only together.
    nlink: number of hard links, shown in listings and never sent as a field. extended: how many extended
    attributes a client sent with these; they are ignored. device, inode: numbers that tell files apart, if
    the storage knows them; they are never sent.
    """

    __slots__ = (
        "atime",
        "device",
        "extended",
        "gid",
        "inode",
        "mtime",
        "nlink",
        "permissions",
        "size",
        "uid",
    )

    def __init__(
        self,
        size: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        permissions: int | None = None,
        atime: int | None = None,
        mtime: int | None = None,
        nlink: int = 1,
    ) -> None:
        self.size = size
        self.uid = uid
        self.gid = gid
        self.permissions = permissions
        self.atime = atime
        self.mtime = mtime
        self.nlink = nlink
        self.extended = 0
        self.device: int | None = None
        self.inode: int | None = None

    @classmethod
    def from_stat(cls, st: os.stat_result) -> SFTPAttributes:
        """Attributes with all fields set. st: the result of os.stat(), os.fstat() or similar."""
        attrs = cls.__new__(cls)  # without __init__(), whose call takes as long as the rest of this
        # As a tuple, stat_result has whole seconds already, and no floats have to be made.
        mode, attrs.inode, attrs.device, attrs.nlink, attrs.uid, attrs.gid, attrs.size, atime, mtime, _ = st
        attrs.permissions, attrs.atime, attrs.mtime = mode, atime, mtime  # type: ignore[assignment]
        attrs.extended = 0
        return attrs

    @property
    def identity(self) -> tuple[int, int] | None:
        """Device and inode, the same for all names of one file; None if the storage does not know them."""
        return None if self.inode is None or self.device is None else (self.device, self.inode)

    def is_empty(self) -> bool:
        """Whether no field is set."""
        fields = (self.size, self.uid, self.gid, self.permissions, self.atime, self.mtime)
        return all(field is None for field in fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SFTPAttributes):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in FIELDS)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        known = ((name, getattr(self, name)) for name in FIELDS)
        fields = ", ".join(f"{name}={value}" for name, value in known if value is not None)
        return f"SFTPAttributes({fields})"


class LongnameFormatter:
    """Makes the longnames of directory entries, and caches the parts that repeat.

    username, groupname: functions that return the name for a number, or None.
    The caches are bounded, so memory does not grow with the listing.
    """

    def __init__(self, username: NameOfId, groupname: NameOfId) -> None:
        self._username = username
        self._groupname = groupname
        self._owners: dict[tuple[int | None, int | None], bytes] = {}
        self._modes: dict[int | None, bytes] = {}
        self._dates: dict[int | None, bytes] = {}
        self._now = time.time()

    def refresh(self) -> None:
        """Start a new listing: decide again which dates count as recent."""
        now = time.time()
        if now - self._now > A_DAY / 24:
            self._dates.clear()
        self._now = now

    def longname(self, name: bytes, attrs: SFTPAttributes) -> bytes:
        """One line as `ls -l` prints it, without a line end.

        Mode, links, user, group, size, date, name: FileZilla and other clients parse this, so a
        missing field becomes a placeholder and never an empty column.
        """
        mode = self._modes.get(attrs.permissions) or self._mode(attrs.permissions)
        owner = self._owners.get((attrs.uid, attrs.gid)) or self._owner(attrs.uid, attrs.gid)
        date = self._dates.get(attrs.mtime) or self._date(attrs.mtime)
        return b"%b  %3d %b %8d %b %b" % (mode, attrs.nlink, owner, attrs.size or 0, date, name)

    def _mode(self, permissions: int | None) -> bytes:
        if len(self._modes) >= CACHED_PARTS:
            self._modes.clear()
        text = b"?---------" if permissions is None else filemode(permissions & 0xFFFFFFFF).encode()
        self._modes[permissions] = text
        return text

    def _owner(self, uid: int | None, gid: int | None) -> bytes:
        columns = []
        for number, lookup in ((uid, self._username), (gid, self._groupname)):
            column = b"?" if number is None else lookup(number) or b"%d" % number
            columns.append(column.ljust(8))
        text = b" ".join(columns)
        if len(self._owners) >= CACHED_PARTS:
            self._owners.clear()
        self._owners[uid, gid] = text
        return text

    def _date(self, mtime: int | None) -> bytes:
        try:
            moment = time.localtime(mtime or 0)
        except (OSError, OverflowError, ValueError):  # a time out of range
            moment = time.localtime(0)
        text = f"{MONTHS[moment.tm_mon - 1]} {moment.tm_mday:2d} "
        # Clocks differ a little, so up to a day ahead is recent too; further ahead needs its year.
        if -A_DAY < self._now - (mtime or 0) < HALF_A_YEAR:
            text += f"{moment.tm_hour:02d}:{moment.tm_min:02d}"
        else:
            text += f" {moment.tm_year:4d}"
        if len(self._dates) >= CACHED_PARTS:
            self._dates.clear()
        self._dates[mtime] = text.encode()
        return self._dates[mtime]
