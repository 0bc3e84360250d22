"""Whether a window can be shown: tkinter, a display, and what to do if one is missing.

tkinter is imported only when something is to be shown. What may not enter: what the window does.
"""

from __future__ import annotations

import os

from pysftpserver.failures import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def show(given: Mapping[str, str], account: str) -> None:
    """Show the window until it is closed. given: values of fields. account: the default name.

    Raises Unavailable.
    """
    try:
        import tkinter
    except ImportError:
        raise Unavailable(
            "tkinter is missing; on Debian, run apt-get install python3-tk (elsewhere it is a part of Python)"
        ) from None
    from pysftpserver.laboratory.window import start

    try:
        started = start.start(given, account, os.environ)
    except tkinter.TclError as error:
        raise Unavailable(f"no window: {why_not(str(error))}") from None
    start.run(started)


def why_not(error: str) -> str:
    """Tk's reason why there is no window, and what to do."""
    display = os.environ.get("DISPLAY")
    if not display:
        return "there is no display; run it on a desktop, or set DISPLAY (ssh -X does)"
    return f"the display {display} (DISPLAY) does not answer, or refuses us ({error})"
