"""Probes some of the servers of `make conformance`: python -m tools.evidence.probing WORD...

What is found is kept where `make conformance` keeps it, so that its pages have it the next time.
"""

from __future__ import annotations

import sys

from tools.conformance.__main__ import probed
from tools.conformance.servers import SERVERS

if __name__ == "__main__":
    raise SystemExit(probed([server for server in SERVERS if server.word in sys.argv[1:]]))
