"""Runs one of our commands without waiting for the disk: python bench/unsynced.py COMMAND ARGUMENT...

COMMAND: its path. Both sides of a row then run the same code on the same disk.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    del sys.argv[0]
    from pysftpserver.host import linux

    os.fsync = lambda descriptor: None
    linux.sync_file_system = lambda descriptor: True
    linux.start_writing = lambda descriptor: None
    runpy.run_path(sys.argv[0], run_name="__main__")
