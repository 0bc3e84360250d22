#!/usr/bin/env python3
"""Serves a SQLite database on standard input and output: serve.py DATABASE."""

import sys

from sqlitestorage import SFTPServerSQLiteStorage

from pysftpserver.server import SFTPServer

if __name__ == "__main__":
    raise SystemExit(SFTPServer(SFTPServerSQLiteStorage(sys.argv[1])).run())
