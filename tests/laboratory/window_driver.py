"""`pysftplab window`, with an ear on standard input: python -m tests.laboratory.window_driver [arguments]

The command is the real one; keys and the mouse are not replaced. Each word that comes on standard input is
answered with one line of JSON on standard output: what the widgets show ("look"), or what the window did.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import tkinter as tk
from typing import Any

from pysftpserver.cli import pysftplab
from pysftpserver.laboratory.window import start
from pysftpserver.laboratory.window.view import Window

TICK = 10  # milliseconds
MOST_LINES = 20  # that are told


class Ear:
    """Reads words, and counts how often the window has time for something else."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._ticks = 0
        self._longest = 0.0  # seconds between two ticks
        self._last = time.monotonic()
        self._words = {
            "look": self._look,
            "ticks": self._count,
            "close": self._close,
            "top": self._top,
            "raise": self._raise,
        }
        window.root.tk.createfilehandler(sys.stdin, tk.READABLE, self._on_input)
        window.root.after(TICK, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        self._ticks += 1
        self._window.root.after(TICK, self._tick)

    def _on_input(self, *_: object) -> None:
        words = os.read(0, 4096).decode().split()
        if not words:
            self._window.root.tk.deletefilehandler(sys.stdin)
            self._window.root.destroy()
        for word in words:
            print(json.dumps(self._words[word]()), flush=True)

    def _count(self) -> dict[str, float]:
        """Ticks since the last question, and the longest time without one."""
        found = {"ticks": self._ticks, "longest": self._longest}
        self._ticks, self._longest = 0, 0.0
        return found

    def _close(self) -> bool:
        """What a window manager does when somebody closes the window."""
        root = self._window.root
        root.after_idle(lambda: root.tk.call(root.protocol("WM_DELETE_WINDOW")))
        return True

    def _top(self) -> float:
        """Scroll the log to its beginning."""
        self._window.log.text.yview_moveto(0)
        return 0.0

    def _raise(self) -> bool:
        """Have a handler of the window fail."""
        self._window.root.after_idle(lambda: 1 // 0)
        return True

    def _look(self) -> dict[str, Any]:
        """Everything that is to be seen."""
        window = self._window
        root = window.root
        focus = str(root.tk.call("focus"))  # focus_get() does not know the list that drops down
        names = {str(entry): field for field, entry in window._entries.items()}
        names[str(window._input)] = "message"
        names[str(window.log.text)] = "log"
        names[str(window._connect_button)], names[str(window._end_button)] = "connect", "end"
        names[str(window._services)] = "services"
        names[f"{window._services}.popdown.f.l"] = "list of services"
        clipboard = ""
        with contextlib.suppress(tk.TclError):  # nothing is there
            clipboard = root.clipboard_get()
        return {
            "fields": {field: entry.get() for field, entry in window._entries.items()},
            "masked": [field for field, entry in window._entries.items() if str(entry.cget("show"))],
            "marked": [
                field
                for field, entry in window._entries.items()
                if str(entry.cget("style")).startswith("Bad")
            ],
            "disabled": [
                field for field, entry in window._entries.items() if str(entry.cget("state")) == "disabled"
            ],
            "hint": str(window._hint.cget("text")),
            "warning": str(window._warning.cget("text")) if window._warning.winfo_ismapped() else "",
            "status": str(window._status.cget("text")),
            "title": root.title(),
            "can_connect": str(window._connect_button.cget("state")) == "normal",
            "end": str(window._end_button.cget("text")),
            "can_end": str(window._end_button.cget("state")) == "normal",
            "can_send": str(window._input.cget("state")) == "normal",
            "message": window._message.get(),
            "services": list(window._services.cget("values")),
            "service": window._service.get(),
            "focus": names.get(focus, focus),
            "lines": self._lines(),
            "count": self._count_lines(),
            "is_at_end": window.log.text.yview()[1] >= 1.0,
            "is_at_top": window.log.text.yview()[0] <= 0.0,
            "colours": {
                tag: str(window.log.text.tag_cget(tag, "foreground")) for tag in window.log.text.tag_names()
            },
            "clipboard": clipboard,
            "size": [root.winfo_width(), root.winfo_height()],
        }

    def _lines(self) -> list[list[str]]:
        """(tag, text) of the last lines of the log."""
        text = self._window.log.text
        found = []
        count = self._count_lines()
        for number in range(max(1, count + 1 - MOST_LINES), count + 1):
            tags = [tag for tag in text.tag_names(f"{number}.end-1c") if tag != "sel"]
            found.append([",".join(tags), text.get(f"{number}.0", f"{number}.end")])
        return found

    def _count_lines(self) -> int:
        return int(self._window.log.text.index("end-1c").split(".")[0]) - 1


def main() -> int:
    """The command, heard."""
    run = start.run

    def run_heard(started: start.Started) -> None:
        Ear(started.window)
        run(started)

    start.run = run_heard
    return pysftplab.main(["window", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
