"""What the jail of the races holds, for the swapper that changes it and the clients that ask for it.

Each place is a name in the jail that is a directory (or a file, or a link inside) now and a link out then.
How it changes is its `how`:

- exchange: a directory and a link change names in one call, renameat2(RENAME_EXCHANGE).
- text: the same with a file and a link to a secret file.
- links: the same with two links, one to a directory inside.
- move: the directory is renamed away, a link is made, removed, and the directory is renamed back.
- make: rmdir and symlink, unlink and mkdir.
"""

from __future__ import annotations

from typing import NamedTuple

STASH = "stash"  # what clients rename and link from and to
REAL = "real"  # the directory inside that the link inside leads to
NAMES = 8  # that clients make in a directory; few, so that they meet
INSIDE = b"inside the jail"


class Place(NamedTuple):
    directory: str  # that it is in; relative to the jail, "" for the top
    name: str
    how: str
    relative: bool  # whether the link's text begins without a slash

    @property
    def path(self) -> str:
        return f"{self.directory}/{self.name}" if self.directory else self.name

    @property
    def spare(self) -> str:
        """The name that the other one of the two has."""
        return f"{self.name}.other"

    def target(self, outside: str) -> str:
        """The link's text. outside: the canaries' directory, next to the jail, by its absolute path."""
        climb = "../" * (self.path.count("/") + 1)
        top = climb + outside.rpartition("/")[2] if self.relative else outside
        return f"{top}/file" if self.how == "text" else top


PLACES = (
    Place("", "absolute", "exchange", False),
    Place("deep/er", "relative", "exchange", True),
    Place("", "text", "text", False),
    Place("deep", "relativetext", "text", True),
    Place("", "links", "links", False),
    Place("", "move", "move", True),
    Place("deep", "absolutemove", "move", False),
    Place("", "make", "make", True),
    Place("deep/er", "absolutemake", "make", False),
)
# For the naive jail: a relative link that a client moves could lead above the temporary directory.
SAFE_PLACES = tuple(place for place in PLACES if not place.relative)
