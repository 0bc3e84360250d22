"""What a WSGI server is told to import: `application`. What may not enter: anything else.

Its settings are in the environ: KEYFILE, USER_SERVICE, and those that begin with `remo_serv.`.
"""

from __future__ import annotations

from pysftpserver.remo.server import FromEnviron

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

__all__ = ["application"]


def _open_storage(name: str, setting: str) -> SFTPAbstractServerStorage:
    # No command is there to hand over a storage: only the setting has its name.
    from pysftpserver.storages.by_name import open_storage

    return open_storage(name, setting)


application = FromEnviron(_open_storage)
