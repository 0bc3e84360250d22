"""The paths of the checkout under test, and of the directory for test files."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_SHARED = "/dev/shm"
# A directory in memory, for tests that need not wait for a disk; None: tempfile's own. TMPDIR overrides it.
IN_MEMORY = _SHARED if "TMPDIR" not in os.environ and os.access(_SHARED, os.W_OK | os.X_OK) else None
