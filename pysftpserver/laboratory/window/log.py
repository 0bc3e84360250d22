"""The log in the window: a limited number of coloured lines, to read and to copy.

What may not enter: what the lines say.
"""

from __future__ import annotations

import tkinter as tk
from collections.abc import Sequence
from tkinter import ttk

from pysftpserver.laboratory.window.model import Entry, Kind

MOST_LINES = 2000
BACKGROUND = "#ffffff"
# Each has a contrast of 5:1 or more to the background, and a sign for people who do not see colours.
COLOURS = {
    Kind.SENT: ("#0b5394", "→"),
    Kind.RECEIVED: ("#1b6b1b", "←"),
    Kind.INFORMATION: ("#5f6368", "·"),
    Kind.ERROR: ("#b3261e", "!"),
}
TIME = "time"  # the tag for time stamps


class Log(ttk.Frame):
    """A text to read and copy. While its end is visible, it scrolls with new lines."""

    def __init__(self, parent: tk.Misc) -> None:
        super().__init__(parent)
        self.text = tk.Text(
            self,
            state="disabled",
            wrap="word",
            font="TkFixedFont",
            width=84,
            height=16,
            background=BACKGROUND,
            foreground="#202124",
            selectbackground="#c2dbff",
            selectforeground="#202124",
            inactiveselectbackground="#dfe6f0",
            relief="flat",
            borderwidth=0,
            highlightthickness=1,
            highlightbackground="#bdc1c6",
            highlightcolor="#4a78b5",
            padx=8,
            pady=6,
            spacing1=1,
            spacing3=1,
            takefocus=True,
        )
        scrollbar = ttk.Scrollbar(self, command=self.text.yview)
        self.text.configure(yscrollcommand=scrollbar.set)
        self.text.grid(row=0, column=0, sticky="nsew")
        scrollbar.grid(row=0, column=1, sticky="ns")
        self.rowconfigure(0, weight=1)
        self.columnconfigure(0, weight=1)
        self._add_tags()
        self._menu = tk.Menu(self, tearoff=False)
        self._menu.add_command(label="Copy", underline=0, accelerator="Ctrl+C", command=self.copy)
        self._menu.add_command(label="Select all", underline=7, accelerator="Ctrl+A", command=self.select_all)
        self._menu.add_separator()
        self._menu.add_command(label="Clear", underline=1, command=self.clear)
        # A disabled widget takes no focus by itself, but the keys for copying need it.
        self.text.bind("<Button-1>", lambda event: self.text.focus_set())
        self.text.bind("<Button-3>", lambda event: self._menu.tk_popup(event.x_root, event.y_root))
        self.text.bind("<Control-a>", lambda event: self.select_all())
        self.text.bind("<Control-c>", lambda event: self.copy())

    def _add_tags(self) -> None:
        width = self.tk.call("font", "measure", "TkFixedFont", "00:00:00 ← ")
        for kind, (colour, _) in COLOURS.items():
            # Continuation lines are indented: no line of a message can pass for an entry of the log.
            self.text.tag_configure(kind.value, foreground=colour, lmargin2=width)
        self.text.tag_configure(TIME, foreground="#80868b")
        self.text.tag_raise("sel")

    def add(self, entries: Sequence[Entry]) -> None:
        """Append entries."""
        if not entries:
            return
        is_at_end = self.text.yview()[1] >= 1.0
        self.text.configure(state="normal")
        for kind, when, text in entries:
            sign = COLOURS[kind][1]
            lines = text.replace("\n", f"\n{' ' * (len(when) + 3)}")
            self.text.insert("end", when, (kind.value, TIME), f" {sign} {lines}\n", (kind.value,))
        excess = int(self.text.index("end-1c").split(".")[0]) - 1 - MOST_LINES
        if excess > 0:
            self.text.delete("1.0", f"{excess + 1}.0")
        self.text.configure(state="disabled")
        if is_at_end:
            self.text.see("end")

    def copy(self) -> str:
        """Copy the selection to the clipboard."""
        if self.text.tag_ranges("sel"):
            self.clipboard_clear()
            self.clipboard_append(self.text.get("sel.first", "sel.last"))
        return "break"

    def select_all(self) -> str:
        """Select everything."""
        self.text.tag_add("sel", "1.0", "end-1c")
        return "break"

    def clear(self) -> None:
        """Remove all lines."""
        self.text.configure(state="normal")
        self.text.delete("1.0", "end")
        self.text.configure(state="disabled")
