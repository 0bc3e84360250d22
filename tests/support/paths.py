"""Where the checkout is whose code is tested, and where tests may keep files."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_SHARED = "/dev/shm"
# A directory in memory, for tests that need not wait for a disk; None is tempfile's own. TMPDIR overrides.
IN_MEMORY = _SHARED if "TMPDIR" not in os.environ and os.access(_SHARED, os.W_OK | os.X_OK) else None
