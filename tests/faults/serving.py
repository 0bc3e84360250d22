"""The server process of these tests: python -m tests.faults.serving DIRECTORY LOG [NAME=VALUE ...].

storage: plain, jail, or one of plugins.py. hook=yes: with a hook that sees every request, which keeps the
session off the fast path. file_size: RLIMIT_FSIZE in bytes. control: plugins.Armed has its orders from
that file. It runs by itself under `sftp -D` too, and so imports nothing of the tests but plugins.py.
"""

from __future__ import annotations

import resource
import sys

from pysftpserver.hook import SFTPHook
from pysftpserver.server import SFTPServer
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.virtualchroot import SFTPServerVirtualChroot


def storage_for(name: str, directory: str, control: str) -> SFTPServerStorage:
    if name == "plain":
        return SFTPServerStorage(directory)
    if name == "jail":
        return SFTPServerVirtualChroot(directory)
    from tests.faults import plugins

    if name.startswith("armed"):
        return plugins.Armed(directory, control, has_descriptors=name == "armed-descriptors")
    return plugins.LIARS[name](directory)


def main() -> int:
    directory, log, *words = sys.argv[1:]
    options = dict(word.split("=", 1) for word in words)
    limit = options.get("file_size")
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    storage = storage_for(options.get("storage", "plain"), directory, options.get("control", ""))
    hook = SFTPHook() if "hook" in options else None
    return SFTPServer(storage, hook=hook, logfile=log).run()


if __name__ == "__main__":
    sys.exit(main())
