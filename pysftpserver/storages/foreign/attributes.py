"""Attributes from fsspec's description of a file. What may not enter: paths, requests."""

from __future__ import annotations

import contextlib
import time
from stat import S_IFDIR, S_IFREG

from pysftpserver.attributes import SFTPAttributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TIMES = "mtime LastModified last_modified Last-Modified modified updated date_time created".split()


def attributes_of(info: dict[str, Any], read_only: bool, born: int) -> SFTPAttributes:
    """The attributes of a file that a file system describes. born: the time of directories without one."""
    is_directory = info["type"] == "directory"
    mode = info.get("mode")
    bits = (mode & 0o7777) if isinstance(mode, int) else 0o755 if is_directory else 0o644
    if read_only:
        bits &= ~0o222
    moment = next((m for name in TIMES if (m := _seconds(info.get(name))) is not None), None)
    uid, gid = info.get("uid"), info.get("gid")
    if not isinstance(uid, int) or not isinstance(gid, int):
        uid = gid = None
    if is_directory and moment is None:
        moment = born
    kind = S_IFDIR if is_directory else S_IFREG
    return SFTPAttributes(info.get("size") or 0, uid, gid, kind | bits, moment, moment)


def _seconds(moment: Any) -> int | None:
    """A time from a file system of fsspec: seconds, a datetime, a tuple of zipfile's, or a text."""
    if isinstance(moment, (int, float)):
        return int(moment)
    if isinstance(moment, tuple) and len(moment) == 6:
        return int(time.mktime((*moment, 0, 0, -1)))
    if isinstance(moment, str):
        from datetime import datetime
        from email.utils import parsedate_to_datetime  # as HTTP has it

        for parse in (datetime.fromisoformat, parsedate_to_datetime):
            with contextlib.suppress(ValueError):
                return int(parse(moment).timestamp())
        return None
    return int(moment.timestamp()) if hasattr(moment, "timestamp") else None
