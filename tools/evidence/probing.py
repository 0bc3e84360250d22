"""Probes some of the servers of `make conformance`: python -m tools.evidence.probing WORD...

The reports are kept where `make conformance` keeps its own, so that its next pages include them.
"""

from __future__ import annotations

import sys

from tools.conformance.__main__ import probed
from tools.conformance.servers import SERVERS

if __name__ == "__main__":
    raise SystemExit(probed([server for server in SERVERS if server.word in sys.argv[1:]]))
