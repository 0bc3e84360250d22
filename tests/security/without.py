"""Run a command without some system calls: ``python -m tests.security.without 444,317 COMMAND ...``."""

from __future__ import annotations

import os
import sys

from tests.integration.without_openat2 import hide

if __name__ == "__main__":
    hide(*map(int, sys.argv[1].split(",")))
    os.execvp(sys.argv[2], sys.argv[2:])
