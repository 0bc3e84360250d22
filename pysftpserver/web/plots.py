"""Plots of the last hour, as SVG without styles: the style sheet gives the colours.

What may not enter: where the numbers come from. Facts: SVG 2; WAI-ARIA 1.2 on role img.
"""

from __future__ import annotations

from pysftpserver.web.html import Markup, element

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Line = tuple[str, Sequence[float | None]]  # its name and its points, the oldest first; None: a gap

WIDTH, HEIGHT = 600, 120
LEAST = 1e-9


def plot(title: str, lines: Sequence[Line], words: Callable[[float], str], note: str = "") -> Markup:
    """A figure with lines that share a scale. words: formats a value. note: text below the title."""
    top = max((value for _, points in lines for value in points if value is not None), default=0.0)
    drawn = [
        element("path", d=_path(points, top), class_=f"line line{number}", fill="none")
        for number, (_, points) in enumerate(lines)
    ]
    last = [
        (name, next((one for one in reversed(points) if one is not None), None)) for name, points in lines
    ]
    said = ", ".join(f"{name} {'unknown' if value is None else words(value)}" for name, value in last)
    image = element(
        "svg",
        element("line", x1=0, x2=WIDTH, y1=HEIGHT, y2=HEIGHT, class_="axis"),
        *drawn,
        viewBox=f"0 -4 {WIDTH} {HEIGHT + 8}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{title}, the last hour: at most {words(top)}; now {said}",
    )
    names = [
        element(
            "span",
            name,
            " ",
            element("b", "–" if value is None else words(value)),
            class_=f"key line{number}",
        )
        for number, (name, value) in enumerate(last)
    ]
    return element(
        "figure",
        element("figcaption", element("strong", title), " ", *names, f" {note}" if note else ""),
        element("div", words(top), class_="top-value"),
        image,
        element("div", element("span", "an hour ago"), element("span", "now"), class_="hours"),
        class_="plot",
    )


def _path(points: Sequence[float | None], top: float) -> str:
    """The path of a line; a single point between gaps becomes a short line."""
    step = WIDTH / max(1, len(points))
    parts: list[str] = []
    is_drawing = False
    for number, value in enumerate(points):
        if value is None:
            is_drawing = False
            continue
        height = HEIGHT - HEIGHT * value / max(top, LEAST)
        parts.append(f"{'L' if is_drawing else 'M'}{number * step:.1f} {height:.1f}")
        if not is_drawing:
            parts.append(f"h{step:.1f}")
        is_drawing = True
    return "".join(parts)
