"""Draw the picture of the README, docs/images/overview.svg: doors above, storages below, one API between.

    python tools/pictures.py [--check]

The names in it come from the table of commands (pysftpserver/cli/registry.py) and the table of storages
(pysftpserver/storages/tables.py). With --check nothing is written, and the exit status is 1 when the picture
is not up to date.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from pysftpserver.cli.registry import doors  # noqa: E402
from pysftpserver.storages.by_name import SCHEMES  # noqa: E402
from pysftpserver.storages.tables import GROUPS  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "overview.svg"
WIDTH, GAP, PAD, LINE = 900, 10, 10, 17
BAR = 58  # the height of the box in the middle
WIRE = 26  # the length of a line from a box to it
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.large { font-size: 17px; font-weight: 600 }
.name { font: 12px ui-monospace, monospace; fill: #57606a }
.door, .storage { fill: #f6f8fa; stroke: #afb8c1 }
.api { fill: #ddf4ff; stroke: #54aeff }
path { stroke: #8c959f; fill: none }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .name { fill: #9ea7b3 }
  .door, .storage { fill: #161b22; stroke: #444c56 }
  .api { fill: #0c2d4a; stroke: #388bfd }
  path { stroke: #6e7681 }
}
"""


class Box(NamedTuple):
    """What is in a box: a title, and names below it."""

    title: str
    names: list[str]

    @property
    def width(self) -> float:
        """The width of its texts, in the widest of the usual fonts."""
        return max(len(self.title) * 8.8, *(len(name) * 7.4 for name in self.names)) + 2 * PAD

    @property
    def height(self) -> int:
        return (len(self.names) + 1) * LINE + 2 * PAD


def door_boxes() -> list[Box]:
    """The doors, grouped by how they are reached."""
    ways: dict[str, list[str]] = {}
    for door in doors():
        ways.setdefault(door.by, []).append(door.name)
    return [Box(way, names) for way, names in ways.items()]


def storage_boxes() -> list[Box]:
    """The kinds of storages, with the prefixes of their names."""
    return [
        Box(title, [SCHEMES[scheme].form.partition("[")[0].strip() for scheme in schemes])
        for title, (_, schemes) in GROUPS.items()
    ]


def text(x: float, y: float, kind: str, words: str, anchor: str = "") -> str:
    where = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{where}>{escape(words)}</text>'


def row(boxes: list[Box], kind: str, top: int, is_above: bool) -> list[str]:
    """A row of boxes over the whole width, each with a line to the box in the middle."""
    spare = (WIDTH - 2 - sum(box.width for box in boxes) - GAP * (len(boxes) - 1)) / len(boxes)
    if spare < 0:
        raise SystemExit(f"the boxes of {kind} need {-spare * len(boxes):.0f} more than WIDTH")
    height = max(box.height for box in boxes)
    drawn, x = [], 1.0
    for box in boxes:
        width = round(box.width + spare, 1)
        drawn.append(f'<rect class="{kind}" x="{x:g}" y="{top}" width="{width:g}" height="{height}" rx="6"/>')
        drawn.append(text(x + PAD, top + PAD + 12, "title", box.title))
        for number, name in enumerate(box.names, 1):
            drawn.append(text(x + PAD, top + PAD + 12 + number * LINE, "name", name))
        start = top + height if is_above else top - WIRE
        drawn.append(f'<path d="M{round(x + width / 2, 1):g} {start}v{WIRE}"/>')
        x = round(x + width + GAP, 1)
    return drawn


def picture() -> str:
    """The SVG."""
    above, below = door_boxes(), storage_boxes()
    middle = 1 + max(box.height for box in above) + WIRE
    bottom = middle + BAR + WIRE
    height = bottom + max(box.height for box in below) + 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>One storage API, many doors</title>",
        f"<style>{STYLE}</style>",
        *row(above, "door", 1, True),
        f'<rect class="api" x="1" y="{middle}" width="{WIDTH - 2}" height="{BAR}" rx="6"/>',
        text(WIDTH / 2, middle + 25, "large", "one storage API", "middle"),
        text(WIDTH / 2, middle + 45, "", "rules, quotas, gates, events and audit for every door", "middle"),
        *row(below, "storage", bottom, False),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if the picture is out of date")
    drawn = picture()
    if not parser.parse_args().check:
        PICTURE.write_text(drawn)
    elif not PICTURE.exists() or PICTURE.read_text() != drawn:
        print(f"{PICTURE.relative_to(ROOT)} is out of date; run make pictures")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
