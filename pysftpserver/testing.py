"""All that a plugin author needs to test a storage: `from pysftpserver.testing import *`.

Packet helpers (sftpcmd, get_sftphandle, ...), a client for requests one at a time (SFTPTestClient), the
storage contract suite (StorageContract), and a working folder for tests (t_path). Their code is in
pysftpserver.contract, whose structure may change; the names of this module stay.

cmd: one of SSH2_FXP_*. parts: encoded arguments, as sftpstring(), sftpint(), sftpint64() and sftpattrs() make
them. request_id: a uint32. output: a server's answer, one whole packet unless a function says otherwise; a
reply of another type raises an AssertionError that names it. What may not enter: anything that a served
session needs.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile

from pysftpserver.contract.packets import (
    SFTPTestClient,
    get_sftpdata,
    get_sftpentries,
    get_sftpextended,
    get_sftpextensions,
    get_sftphandle,
    get_sftpint,
    get_sftpint64,
    get_sftpname,
    get_sftpnames,
    get_sftppackets,
    get_sftpstat,
    get_sftpstatus,
    get_sftpstring,
    sftpattrs,
    sftpcmd,
    sftpint,
    sftpint64,
    sftpstring,
)
from pysftpserver.contract.suite import StorageContract

__all__ = [
    "SFTPTestClient",
    "StorageContract",
    "get_sftpdata",
    "get_sftpentries",
    "get_sftpextended",
    "get_sftpextensions",
    "get_sftphandle",
    "get_sftpint",
    "get_sftpint64",
    "get_sftpname",
    "get_sftpnames",
    "get_sftppackets",
    "get_sftpstat",
    "get_sftpstatus",
    "get_sftpstring",
    "sftpattrs",
    "sftpcmd",
    "sftpint",
    "sftpint64",
    "sftpstring",
    "t_path",
]


def t_path(name: str = "") -> str:
    """A path in the working folder of this process's tests; without a name, the folder itself.

    The folder is made at the first call, and removed with its contents when the process ends.
    """
    folder = _working_folder(os.getpid())
    return os.path.join(folder, name) if name else folder


@functools.cache
def _working_folder(pid: int) -> str:
    """The folder of one process: a forked child gets its own, and does not remove its parent's."""
    folder = tempfile.mkdtemp(prefix="pysftpserver-test-")

    def remove() -> None:
        if os.getpid() == pid:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
