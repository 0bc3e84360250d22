#!/usr/bin/env python3
"""Serves a storage in memory on stdin and stdout. From the project's directory:

sftp -D "python3 examples/memory_storage/serve.py"
"""

from memorystorage import SFTPServerMemoryStorage

from pysftpserver.server import SFTPServer

if __name__ == "__main__":
    raise SystemExit(SFTPServer(SFTPServerMemoryStorage()).run())
