"""What a WSGI server is told to import: `application`. What may not enter: anything else.

The settings are in the environ: KEYFILE, USER_SERVICE, and those that begin with `remo_serv.`.
"""

from __future__ import annotations

from pysftpserver.cli.pysftpremo_serve import application

__all__ = ["application"]
