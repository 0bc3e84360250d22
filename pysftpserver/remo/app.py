"""The WSGI application that WSGI servers import. What may not enter: anything else.

Its settings are in the environ: KEYFILE, USER_SERVICE, and those that begin with `remo_serv.`.
"""

from __future__ import annotations

from pysftpserver.remo.server import FromEnviron

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.remo.server import OpenByName

__all__ = ["application"]


def _storages() -> OpenByName:
    # Under another WSGI server, no command passes in the storage opener.
    from pysftpserver.storages.sharing import Storages

    return Storages()


#: The WSGI application. Its settings are in the environ of each request.
application = FromEnviron(_storages)
