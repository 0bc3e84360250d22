"""Write the tables of the pages that come from tables in the code.

    python tools/docs_tables.py [--check]

A comment in a page names the source of a table, `<!-- table: pysftpserver.sshd.config:ServerSettings -->`,
and another one marks its end, `<!-- end of table -->`. With --check nothing is written, and the exit status
is 1 if a page is not up to date.
"""

from __future__ import annotations

import argparse
import difflib
import pkgutil
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = re.compile(r"(<!-- table: ([\w.:]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """The text of a page with its tables brought up to date from the code."""
    return TABLE.sub(lambda found: f"{found[1]}{_table(found[2])}{found[3]}", page)


def _table(name: str) -> str:
    from pysftpserver.cli import options
    from pysftpserver.service.settings import Settings, markdown_table

    found = pkgutil.resolve_name(name)
    if isinstance(found, options.Command):
        return options.markdown_table(found)
    if isinstance(found, type) and issubclass(found, Settings):
        return markdown_table(found)
    return str(found())  # a function that returns the table


def pages() -> list[Path]:
    """All pages that may have tables."""
    return [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is out of date")
    options = parser.parse_args()
    status = 0
    for page in pages():
        before = page.read_text()
        after = with_tables(before)
        if after == before:
            continue
        if options.check:
            status = 1
            lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
            print(f"{page.relative_to(ROOT)} is out of date; run make docs-tables", *lines, sep="\n")
        else:
            page.write_text(after)
    return status


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
