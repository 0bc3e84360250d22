"""Sizes for tests that only `make test-hard` runs in full; it sets PYSFTP_TEST_HARD=1."""

from __future__ import annotations

import os

IS_HARD = os.environ.get("PYSFTP_TEST_HARD") == "1"
MANY = 3_000 if IS_HARD else 300  # entries of a large directory, if making them takes long
