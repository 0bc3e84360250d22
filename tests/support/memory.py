"""The example storage in memory, for tests that need a storage but no files."""

from __future__ import annotations

import sys

from tests.support.paths import ROOT

sys.path.insert(0, str(ROOT / "examples" / "memory_storage"))
from memorystorage import SFTPServerMemoryStorage

__all__ = ["SFTPServerMemoryStorage"]
