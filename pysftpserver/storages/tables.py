"""Tables of the storages for pages (docs/storages.md), from the table of the code.

What may not enter: anything that a session needs.
"""

from __future__ import annotations

from pysftpserver.storages.by_name import CLASS, SCHEMES, SITE

#: Abilities that people ask for, and the methods or attributes that each needs.
ABILITIES = {
    "links": "symlink readlink",
    "hard links": "link",
    "times": "times",
    "permissions": "permissions",
    "owners": "owner",
    "`df`": "statvfs",
    "`fsync`": "fsync",
}

#: Names for lists of storages: a page in docs/, and the schemes of each.
GROUPS = {
    "directories": ("storages.md", ("jail", "plain")),
    "GridFS": ("gridfs.md", ("gridfs",)),
    "S3, GCS, Azure": ("objects.md", ("s3", "gs", "az")),
    "SFTP servers": ("proxy.md", ("sftp",)),
    "fsspec": ("fsspec.md", ("fsspec",)),
    "your class": ("plugins.md", (CLASS,)),
    "site files": ("site.md", (SITE,)),
}


def markdown_table() -> str:
    """The table of storages for the page."""
    rows = ["| name | is | install |", "| --- | --- | --- |"]
    for scheme in SCHEMES.values():
        install = f"`pip install '.[{scheme.extra}]'`" if scheme.extra else ""
        rows.append(f"| `{scheme.form}` | {scheme.what} | {install} |".replace("  |", " |"))
    return "\n".join(rows) + "\n"


def ability_table() -> str:
    """The table of what storages can do, for the page."""
    rows = [f"| | {' | '.join(ABILITIES)} |", "| --- |" + " --- |" * len(ABILITIES)]
    for name, scheme in SCHEMES.items():
        if scheme.cannot is not None:
            marks = ("no" if scheme.cannot & set(needs.split()) else "yes" for needs in ABILITIES.values())
            rows.append(f"| `{name}` | {' | '.join(marks)} |")
    return "\n".join(rows) + "\n"
