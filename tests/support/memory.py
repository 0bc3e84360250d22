"""The example storage in memory, for tests that need some storage and no files."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "memory_storage"))
from memorystorage import SFTPServerMemoryStorage

__all__ = ["SFTPServerMemoryStorage"]
