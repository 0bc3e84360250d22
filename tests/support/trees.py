"""Looking at directories in which files come and go."""

from __future__ import annotations

import os
from pathlib import Path


def below(top: Path) -> list[Path]:
    """All that is below a directory, sorted. What vanishes while it is looked at may be missing."""
    return sorted(
        Path(directory, name)
        for directory, directories, files in os.walk(top)
        for name in (*directories, *files)
    )
