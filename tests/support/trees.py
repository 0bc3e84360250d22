"""Looks at directories in which files appear and disappear."""

from __future__ import annotations

import os
from pathlib import Path


def below(top: Path) -> list[Path]:
    """Everything below a directory, sorted. Entries that disappear meanwhile may be missing."""
    return sorted(
        Path(directory, name)
        for directory, directories, files in os.walk(top)
        for name in (*directories, *files)
    )
