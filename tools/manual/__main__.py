"""Writes the manual pages and the files for completion below a directory."""

from __future__ import annotations

import argparse
from pathlib import Path

from tools import manual


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tools.manual", description=__doc__)
    parser.add_argument("directory", metavar="DIR", type=Path, help="Write below this directory.")
    directory = parser.parse_args().directory
    for name, text in manual.files().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


main()
