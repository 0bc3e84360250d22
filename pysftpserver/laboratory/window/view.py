"""The window itself: widgets, keys and colours around the model.

Nothing here waits: the worker's events are handled a few at a time, between other work of the window. What
may not enter: what happens on a connection, what is right or wrong in a field.
"""

from __future__ import annotations

import contextlib
import queue
import tkinter as tk
from collections.abc import Callable, Mapping
from tkinter import ttk
from types import TracebackType
from typing import Any, Protocol

from pysftpserver.failures import one_line
from pysftpserver.laboratory.window.events import Event
from pysftpserver.laboratory.window.fields import HOST, NAME, PASSWORD, PORT
from pysftpserver.laboratory.window.log import Log
from pysftpserver.laboratory.window.model import Model, State, Worker


class EventfulWorker(Worker, Protocol):
    """A worker, and the queue of its events."""

    events: queue.SimpleQueue[Event]


TITLE = "Laboratory"
POLL = 25  # milliseconds between polls of the worker's events
MOST_AT_ONCE = 100  # events shown in one go before keys and the mouse have their turn
BAD, FINE = "Bad.TEntry", "TEntry"
RED, AMBER, GREY, GREEN = "#b3261e", "#8a4b00", "#5f6368", "#1b6b1b"
STATE_COLOURS = {
    State.DISCONNECTED: GREY,
    State.CONNECTING: AMBER,
    State.CONNECTED: GREEN,
    State.DISCONNECTING: AMBER,
}
BACKGROUND, INK, EDGE, FOCUS, FAINT = "#f1f3f4", "#202124", "#bdc1c6", "#4a78b5", "#9aa0a6"
LABELS = {HOST: ("Server", 0), PORT: ("Port", 0), NAME: ("Name", 0), PASSWORD: ("Password", 4)}
CONNECT, DISCONNECT, CANCEL = "Connect", "Disconnect", "Cancel"


class Window:
    """The window. Raises TclError if there is no display."""

    def __init__(self, worker: EventfulWorker, values: Mapping[str, str]) -> None:
        self.root = tk.Tk(className="Pysftplab")
        self.model = Model(worker, values)
        self._events = worker.events
        self._is_leaving = False
        self._shown_state: State | None = None
        self._texts: dict[str, tk.StringVar] = {}
        self._entries: dict[str, ttk.Entry] = {}
        self._message = tk.StringVar(self.root)
        self._encrypts = tk.BooleanVar(self.root, self.model.encrypts)
        self._service = tk.StringVar(self.root)
        self.root.title(TITLE)
        self.root.report_callback_exception = self._on_fault
        self.root.protocol("WM_DELETE_WINDOW", self.leave)
        self._set_style()
        self._build()
        self._bind_keys()
        self._refresh()
        self.root.update_idletasks()
        self._set_least_size()
        self._entries[self.model.first_empty() or PASSWORD].focus_set()
        self._poll()

    def run(self) -> None:
        """Run until it is closed."""
        self.root.mainloop()

    def leave(self) -> None:
        """Disconnect cleanly, then close the window; a second call closes it at once."""
        if self._is_leaving or self.model.state is State.DISCONNECTED:
            self.root.destroy()
            return
        self._is_leaving = True
        self.model.end()
        self._refresh()

    def leave_soon(self) -> None:
        """The same, for signal handlers, which may be called at any time."""
        with contextlib.suppress(tk.TclError):  # it is closed
            self.root.after_idle(self.leave)

    def _set_least_size(self) -> None:
        """Keep buttons visible; the log becomes smaller instead."""
        room = self.root.winfo_reqwidth() - self.log.winfo_reqwidth()
        log = self.log.winfo_reqheight()
        self.root.minsize(self._form.winfo_reqwidth() + room, self.root.winfo_reqheight() - log * 2 // 3)

    # --- widgets ------------------------------------------------------------------------------------------

    def _set_style(self) -> None:
        style = ttk.Style(self.root)
        style.theme_use("clam")
        style.configure(
            ".",
            background=BACKGROUND,
            foreground=INK,
            bordercolor=EDGE,
            lightcolor=BACKGROUND,
            darkcolor=BACKGROUND,
            troughcolor=BACKGROUND,
            focuscolor=FOCUS,
        )
        # The theme's own greys do not match.
        style.map(".", background=[("disabled", BACKGROUND)], foreground=[("disabled", FAINT)])
        style.configure("TEntry", padding=4, lightcolor="#ffffff")
        style.configure("TCombobox", padding=3, arrowsize=14)
        style.configure("TButton", padding=(12, 4), background="#ffffff")
        style.map(
            "TButton",
            background=[("disabled", BACKGROUND), ("pressed", "#dadce0"), ("active", "#e8f0fe")],
            bordercolor=[("focus", FOCUS)],
        )
        style.map("TCheckbutton", background=[("active", BACKGROUND)])
        style.configure("TCheckbutton", indicatorsize=13, indicatormargin=(0, 0, 8, 0))
        style.configure("Vertical.TScrollbar", background="#dadce0", arrowcolor=GREY, gripcount=0)
        style.map("Vertical.TScrollbar", background=[("disabled", BACKGROUND), ("active", EDGE)])
        for kind in ("TEntry", "TCombobox"):
            style.map(
                kind,
                fieldbackground=[("disabled", "#e8eaed"), ("readonly", "#ffffff")],
                foreground=[("disabled", GREY)],
                bordercolor=[("focus", FOCUS)],
                lightcolor=[("focus", FOCUS), ("disabled", "#e8eaed")],
            )
        style.configure(BAD, fieldbackground="#fce8e6", bordercolor=RED, lightcolor=RED)
        style.map(BAD, bordercolor=[("focus", RED)], lightcolor=[("focus", RED)])
        self.root.configure(background=BACKGROUND)

    def _build(self) -> None:
        outer = ttk.Frame(self.root, padding=10)
        outer.pack(fill="both", expand=True)
        outer.columnconfigure(0, weight=1)
        outer.rowconfigure(1, weight=1)
        self._form = self._build_form(outer)
        self._form.grid(row=0, sticky="ew")
        self.log = Log(outer)
        self.log.grid(row=1, sticky="nsew", pady=(8, 8))
        self._build_input(outer).grid(row=2, sticky="ew")
        self._status = ttk.Label(outer, width=1)
        self._status.grid(row=3, sticky="ew", pady=(8, 0))

    def _build_form(self, parent: ttk.Frame) -> ttk.Frame:
        form = ttk.Frame(parent)
        form.columnconfigure(1, weight=3)
        form.columnconfigure(3, weight=2)
        for number, field in enumerate((HOST, PORT, NAME, PASSWORD)):
            self._add_field(form, field, *divmod(number, 2))
        self._checkbox = ttk.Checkbutton(
            form,
            text="Encrypt with a new random key",
            underline=0,
            variable=self._encrypts,
            command=self._on_encrypts,
        )
        self._checkbox.grid(row=2, column=1, sticky="w", pady=(6, 0))
        buttons = ttk.Frame(form)
        buttons.grid(row=2, column=2, columnspan=2, sticky="e", pady=(6, 0))
        self._connect_button = ttk.Button(buttons, text=CONNECT, underline=0, command=self._connect)
        self._end_button = ttk.Button(
            buttons, text=DISCONNECT, underline=0, command=self._end, width=len(DISCONNECT)
        )
        for button, action in ((self._connect_button, self._connect), (self._end_button, self._end)):
            button.bind("<Return>", lambda event, action=action: action())  # type: ignore[misc]
        self._connect_button.grid(row=0, column=0, padx=(0, 8))
        self._end_button.grid(row=0, column=1)
        # A long line does not make the window wider.
        self._hint = ttk.Label(form, width=1)
        self._hint.grid(row=3, column=1, columnspan=3, sticky="ew", pady=(6, 0))
        self._warning = ttk.Label(form, foreground=AMBER, width=1)
        self._warning.grid(row=4, column=1, columnspan=3, sticky="ew", pady=(2, 0))
        return form

    def _add_field(self, form: ttk.Frame, field: str, row: int, half: int) -> None:
        label, letter = LABELS[field]
        text = tk.StringVar(self.root, self.model.value(field))
        entry = ttk.Entry(form, textvariable=text, show="•" if field == PASSWORD else "", width=14)
        text.trace_add("write", lambda *_: self._on_typed(field))
        ttk.Label(form, text=label, underline=letter).grid(
            row=row, column=2 * half, sticky="w", padx=(12 * half, 8), pady=3
        )
        entry.grid(row=row, column=2 * half + 1, sticky="ew", pady=3)
        entry.bind("<Return>", lambda event: self._connect())
        entry.bind("<KP_Enter>", lambda event: self._connect())
        self._texts[field], self._entries[field] = text, entry
        self._on_alt(label[letter], lambda: _go_to(entry))

    def _build_input(self, parent: ttk.Frame) -> ttk.Frame:
        line = ttk.Frame(parent)
        line.columnconfigure(1, weight=1)
        self._input_label = ttk.Label(line, text="Message", underline=0)
        self._input_label.grid(row=0, column=0, padx=(0, 8))
        self._input = ttk.Entry(line, textvariable=self._message, font="TkFixedFont")
        self._input.grid(row=0, column=1, sticky="ew")
        self._send_button = ttk.Button(line, text="Send", command=self._send, width=5)
        self._send_button.grid(row=0, column=2, padx=(8, 0))
        self._service_label = ttk.Label(line, text="Service", underline=3)
        self._service_label.grid(row=0, column=3, padx=(16, 8))
        self._services = ttk.Combobox(line, textvariable=self._service, state="disabled", width=14)
        self._services.grid(row=0, column=4)
        self._input.bind("<Return>", lambda event: self._send())
        self._input.bind("<KP_Enter>", lambda event: self._send())
        self._input.bind("<Up>", lambda event: self._recall(self.model.history.back))
        self._input.bind("<Down>", lambda event: self._recall(self.model.history.forward))
        self._services.bind("<<ComboboxSelected>>", lambda event: self._choose())
        return line

    def _bind_keys(self) -> None:
        self.root.bind("<Escape>", lambda event: self._cancel())
        self.root.bind("<Control-q>", lambda event: self.leave())
        self._on_alt("e", self._checkbox.invoke)
        self._on_alt("c", self._alt_c)
        self._on_alt("d", self._alt_d)
        self._on_alt("m", lambda: _go_to(self._input))
        self._on_alt("v", lambda: _go_to(self._services))
        self._on_alt("l", self.log.text.focus_set)

    def _on_alt(self, letter: str, action: Callable[[], object]) -> None:
        def act(event: object) -> str:
            action()
            return "break"

        self.root.bind(f"<Alt-{letter.lower()}>", act)

    def _alt_c(self) -> None:
        """Press Connect or Cancel, which share a letter and are never shown together."""
        if self.model.state is State.CONNECTING:
            self._cancel()
        else:
            self._connect()

    def _alt_d(self) -> None:
        if self.model.state is State.CONNECTED:
            self._end()

    # --- what people do -----------------------------------------------------------------------------------

    def _on_typed(self, field: str) -> None:
        self.model.put(field, self._texts[field].get())
        self._refresh()

    def _on_encrypts(self) -> None:
        self.model.encrypts = self._encrypts.get()
        self._refresh()

    def _connect(self) -> None:
        self.model.connect()
        self._refresh()

    def _end(self) -> None:
        self.model.end()
        self._refresh()

    def _cancel(self) -> None:
        self.model.cancel()
        self._refresh()

    def _send(self) -> None:
        if self.model.send(self._message.get()):
            self._message.set("")
        self._refresh()

    def _recall(self, step: Callable[[str], str]) -> str:
        self._message.set(step(self._message.get()))
        self._input.icursor("end")
        return "break"

    def _choose(self) -> None:
        number = self._services.current()
        if 0 <= number < len(self.model.services):
            self.model.choose(self.model.services[number])
        self._services.selection_clear()
        self._input.focus_set()
        self._refresh()

    # --- what happens -------------------------------------------------------------------------------------

    def _poll(self) -> None:
        try:
            self._take_events()
        finally:
            if self._is_leaving and self.model.state is State.DISCONNECTED:
                self.root.destroy()
            else:
                self.root.after(POLL, self._poll)

    def _take_events(self) -> None:
        has_news = False
        with contextlib.suppress(queue.Empty):
            for _ in range(MOST_AT_ONCE):
                self.model.on_event(self._events.get_nowait())
                has_news = True
        if has_news:
            self._refresh()

    def _on_fault(self, kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
        """Show an exception of a handler, and go on."""
        import traceback

        traceback.print_exception(kind, fault, trace)
        self.model.complain(f"internal error ({kind.__name__}); the terminal says more")
        self.log.add(self.model.take_entries())

    # --- showing ------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Show the state of the model."""
        model = self.model
        self.log.add(model.take_entries())
        for field, entry in self._entries.items():
            entry.configure(style=BAD if model.is_marked(field) else FINE)
        hint = model.hint if model.can_edit else ""
        self._hint.configure(text=hint, foreground=RED if model.is_hint_a_fault else GREY)
        self._warning.configure(text=model.warning)
        if model.warning:
            self._warning.grid()
        else:
            self._warning.grid_remove()
        _enable(self._connect_button, model.can_connect)
        self._status.configure(text=f"● {model.status}", foreground=STATE_COLOURS[model.state])
        self._services.configure(values=[one_line(title) for title in model.services])
        self._service.set(one_line(model.service))
        if model.state is not self._shown_state:
            self._shown_state = model.state
            self._show_state()
        _enable(self._services, model.can_choose, "readonly")
        _enable(self._service_label, model.can_choose)

    def _show_state(self) -> None:
        """Show what changes only with the state."""
        model = self.model
        for widget in (*self._entries.values(), self._checkbox):
            _enable(widget, model.can_edit)
        self._end_button.configure(text=CANCEL if model.state is State.CONNECTING else DISCONNECT)
        _enable(self._end_button, model.can_end)
        for widget in (self._input, self._send_button, self._input_label):
            _enable(widget, model.can_send)
        self.root.title(TITLE if model.can_edit else f"{TITLE} - {model.place}")
        if model.can_send:
            self._input.focus_set()
        elif model.can_end:
            self._end_button.focus_set()
        elif model.wanted is not None:
            entry = self._entries[model.wanted]
            entry.focus_set()
            entry.selection_range(0, "end")
            model.wanted = None
        elif self.root.focus_get() in (self._input, self._end_button):  # they are disabled now
            self._connect_button.focus_set()


def _enable(widget: Any, is_enabled: bool, state: str = "normal") -> None:
    widget.configure(state=state if is_enabled else "disabled")


def _go_to(widget: ttk.Widget) -> None:
    """Put the focus on a widget, if it is enabled."""
    if not widget.instate(["disabled"]):
        widget.focus_set()
