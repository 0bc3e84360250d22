"""Writes build/site: python -m tools.site_builder [--to DIR]

Every warning of Sphinx, such as a broken link or anchor, is an error, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from tools.site_builder.pages import ROOT, Site

HERE = Path(__file__).resolve().parent


def sphinx(source: Path, target: Path) -> list[str]:
    """The command that makes the site from the pages that Site has written."""
    command = [sys.executable, "-m", "sphinx", "--quiet", "--nitpicky", "--fail-on-warning", "--keep-going"]
    doctrees = source.with_name(f"{target.name}-doctrees")
    return [*command, "-j", "auto", "-E", "-c", str(HERE), "-d", str(doctrees), str(source), str(target)]


def main() -> int:
    """The command. Returns the exit status."""
    description = str(__doc__).partition(":")[0]
    parser = argparse.ArgumentParser(prog="python -m tools.site_builder", description=description)
    parser.add_argument(
        "--to", type=Path, default=ROOT / "build" / "site", metavar="DIR", help="write it there"
    )
    target: Path = parser.parse_args().to.absolute()
    site = Site(target.with_name(f"{target.name}-source"))
    site.write()
    for problem in site.problems:
        print(problem, file=sys.stderr)
    shutil.rmtree(target, ignore_errors=True)
    status = subprocess.run(sphinx(site.target, target), cwd=ROOT).returncode
    if site.problems or status:
        return 1
    print(f"{target} is written; open index.html in it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
