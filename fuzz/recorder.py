"""Runs a server for a client, and appends what the client sends to a file.

    python recorder.py FILE COMMAND [ARGUMENTS]

What may not enter: imports of this repository, because sshd starts this with its own environment.
"""

from __future__ import annotations

import os
import subprocess
import sys


def main() -> int:
    """Copy standard input to the file and to the command until its end; return the command's exit status."""
    record = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    server = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, bufsize=0)
    assert server.stdin is not None
    try:
        while data := os.read(0, 1 << 16):
            os.write(record, data)
            server.stdin.write(data)
    except BrokenPipeError:
        pass  # the server ended the session
    server.stdin.close()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
