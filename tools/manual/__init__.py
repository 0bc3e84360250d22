"""Manual pages and completion of all commands, made from the tables in the code.

    python -m tools.manual DIR

writes them below DIR, as setup.py does below the prefix of an environment. Nothing here is installed, and
nothing but the standard library and the project is imported: a build has no extras.
"""

from __future__ import annotations

from tools.manual import completion, formats, pages


def files() -> dict[str, str]:
    """The text of every file by its path below a prefix."""
    found = {}
    for (name, section), text in {**pages.all_pages(), **formats.all_pages()}.items():
        found[f"share/man/man{section}/{name}.{section}"] = text
    return found | completion.files()
