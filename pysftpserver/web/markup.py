"""Elements of HTML whose text is escaped.

What may not enter: what a page is about. Facts: HTML Living Standard.
"""

from __future__ import annotations

import html

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

VOID = {"br", "hr", "img", "input", "link", "meta"}


class Markup(str):
    """Text that is HTML already."""


def escaped(value: object) -> Markup:
    """A text as HTML. Markup stays as it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def joined(values: Iterable[object]) -> Markup:
    """Several as one."""
    return Markup("".join(map(escaped, values)))


def element(tag: str, *content: object, **attributes: object) -> Markup:
    """An element. content: what is not Markup is escaped. attributes: True has no value; None and False are left
    out; an underscore stands for a hyphen, and one at the end for nothing.
    """
    given = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    inside = "" if tag in VOID else f"{joined(content)}</{tag}>"
    return Markup(f"<{tag}{given}>{inside}")
