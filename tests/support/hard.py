"""What only `make test-hard` does in full: it sets PYSFTP_TEST_HARD=1."""

from __future__ import annotations

import os

IS_HARD = os.environ.get("PYSFTP_TEST_HARD") == "1"
