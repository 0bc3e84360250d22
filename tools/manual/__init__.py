"""Manual pages and completion of all commands, made from the tables in the code.

    python -m tools.manual DIR

writes them below DIR, as setup.py does below the prefix of an environment. Nothing here is installed, and
only the standard library and the project are imported: a build has no extras.
"""

from __future__ import annotations

from tools.manual import completion, formats, pages


def files() -> dict[str, str]:
    """The text of each file, by its path below a prefix."""
    found = {}
    for (name, section), text in {**pages.all_pages(), **formats.all_pages()}.items():
        found[f"share/man/man{section}/{name}.{section}"] = text
    return found | completion.files()
