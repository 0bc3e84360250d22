"""What the window does, without the window: its state, its fields, its log and its history.

The view calls the model when the user does something, and passes on the worker's events; then it shows the
model's state. Nothing here waits. What may not enter: tkinter, threads, sockets, files.
"""

from __future__ import annotations

import enum
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from pysftpserver.failures import one_line
from pysftpserver.laboratory.window import events
from pysftpserver.laboratory.window.fields import (
    FIELDS,
    HOST,
    NAME,
    PASSWORD,
    PORT,
    fault,
    harmless,
    shortened,
)


class Worker(Protocol):
    """Talks to the server. Methods return at once; events report the results."""

    def connect(self, attempt: int, target: events.Target) -> None:
        """Begin an attempt, once the last one has ended."""

    def disconnect(self) -> None:
        """End the attempt at once, or the connection in order."""

    def send(self, text: str) -> None:
        """Send a text to the service."""

    def choose(self, title: str) -> None:
        """Change to another service."""


MOST_ENTRIES = 2000  # log entries that are not shown yet
MOST_PENDING = 100  # texts that a slow server has not read yet
MOST_HISTORY = 100
MOST_NAME = 64  # characters of the server's name in the status
PLAINTEXT_WARNING = "Others can read everything, the password too. Servers may refuse."


class State(enum.Enum):
    """The state of the window."""

    DISCONNECTED = "Not connected"
    CONNECTING = "Connecting"
    CONNECTED = "Connected"
    DISCONNECTING = "Disconnecting"


class Kind(enum.Enum):
    """The kinds of lines in the log."""

    SENT = "sent"
    RECEIVED = "received"
    INFORMATION = "information"
    ERROR = "error"


class Entry(NamedTuple):
    """An entry of the log. when: the time of day. text: printable, perhaps several lines."""

    kind: Kind
    when: str
    text: str


class History:
    """The texts that were sent, for the arrow keys."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque(maxlen=MOST_HISTORY)
        self._place = 0  # counted from the end; 0: what is being typed
        self._draft = ""

    def add(self, text: str) -> None:
        """Add a text that was sent."""
        if not self._texts or self._texts[-1] != text:
            self._texts.append(text)
        self._place = 0

    def back(self, typed: str) -> str:
        """The previous text. typed: the present content of the input line."""
        if self._place == 0:
            self._draft = typed
        self._place = min(self._place + 1, len(self._texts))
        return self._texts[-self._place] if self._place else typed

    def forward(self, typed: str) -> str:
        """The next text; at the end, what was being typed."""
        if self._place == 0:
            return typed
        self._place -= 1
        return self._texts[-self._place] if self._place else self._draft


class Model:
    """The window's state. values: first values of the fields. now: gives the time of day, as text."""

    def __init__(
        self, worker: Worker, values: Mapping[str, str], now: Callable[[], str] | None = None
    ) -> None:
        self._worker = worker
        self._now = now or (lambda: time.strftime("%H:%M:%S"))
        self._values = {field: values.get(field, "") for field in FIELDS}
        self._touched: set[str] = set()
        self._attempt = 0
        self._fresh: deque[Entry] = deque(maxlen=MOST_ENTRIES)
        self._pending = 0
        self._server_name = ""
        self._is_encrypted = False
        self.state = State.DISCONNECTED
        #: Whether to encrypt with a new random key.
        self.encrypts = True
        self.services: tuple[str, ...] = ()
        self.service = ""
        self.history = History()
        #: The field to correct after a refusal; the view puts the focus there, and clears this.
        self.wanted: str | None = None

    # --- fields -------------------------------------------------------------------------------------------

    def value(self, field: str) -> str:
        """The value of a field."""
        return self._values[field]

    def put(self, field: str, text: str) -> None:
        """Set the value of a field after the user has typed."""
        if text != self._values[field]:
            self._values[field] = text
            self._touched.add(field)

    def is_marked(self, field: str) -> bool:
        """Whether the field is shown as wrong: an empty one only after it was changed."""
        return (field in self._touched or bool(self._values[field])) and self._fault(field) is not None

    @property
    def hint(self) -> str:
        """One line that says what is wrong, or an empty text."""
        faults = [(not self.is_marked(field), self._fault(field)) for field in FIELDS]
        # Marked fields come before those that are still empty.
        return next((text for _, text in sorted(faults, key=lambda one: one[0]) if text), "")

    @property
    def is_hint_a_fault(self) -> bool:
        """Whether the hint is about a marked field."""
        return any(map(self.is_marked, FIELDS))

    @property
    def warning(self) -> str:
        """A warning about a connection that is not encrypted, or an empty text."""
        return "" if self.encrypts else PLAINTEXT_WARNING

    def first_empty(self) -> str | None:
        """The first empty field, or None."""
        return next((field for field in FIELDS if not self._values[field]), None)

    def _fault(self, field: str) -> str | None:
        return fault(field, self._values[field])

    # --- what can be done now -----------------------------------------------------------------------------

    @property
    def can_edit(self) -> bool:
        """Whether the fields can be changed."""
        return self.state is State.DISCONNECTED

    @property
    def can_connect(self) -> bool:
        """Whether all fields are right."""
        return self.can_edit and not any(map(self._fault, FIELDS))

    @property
    def can_end(self) -> bool:
        """Whether there is something to cancel or to end."""
        return self.state in (State.CONNECTING, State.CONNECTED)

    @property
    def can_send(self) -> bool:
        """Whether messages can be sent."""
        return self.state is State.CONNECTED

    @property
    def can_choose(self) -> bool:
        """Whether there are services to choose from."""
        return self.state is State.CONNECTED and bool(self.services)

    @property
    def place(self) -> str:
        """The server's address, to be shown."""
        return f"{self._values[HOST].strip()} port {self._values[PORT].strip()}"

    @property
    def status(self) -> str:
        """One line about the state."""
        if self.state is State.DISCONNECTED:
            return State.DISCONNECTED.value
        if self.state is not State.CONNECTED:
            return f"{self.state.value} ({self.place})"
        secrecy = "encrypted" if self._is_encrypted else "not encrypted"
        name = self._server_name
        return (
            f"Connected to {name} ({self.place}), {secrecy}"
            if name
            else f"Connected to {self.place}, {secrecy}"
        )

    # --- what people do -----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect, if all fields are right."""
        if not self.can_connect:
            self._touched.update(FIELDS)
            return
        self._attempt += 1
        self._pending = 0
        self._server_name, self.service, self.services = "", "", ()
        self.state = State.CONNECTING
        self._say(Kind.INFORMATION, f"connecting to {self.place}")
        key = None if self.encrypts else ""
        port = int(self._values[PORT].strip())
        host, name = self._values[HOST].strip(), self._values[NAME].strip()
        self._worker.connect(self._attempt, events.Target(host, port, name, self._values[PASSWORD], key))

    def end(self) -> None:
        """Cancel, or disconnect."""
        if self.state is State.CONNECTING:
            # The attempt may take a while to end; its events are ignored like those of an earlier one.
            self._attempt += 1
            self.state = State.DISCONNECTED
            self._say(Kind.INFORMATION, "cancelled")
            self._worker.disconnect()
        elif self.state is State.CONNECTED:
            self.state = State.DISCONNECTING
            self._worker.disconnect()

    def cancel(self) -> None:
        """Cancel an attempt; an open connection stays."""
        if self.state is State.CONNECTING:
            self.end()

    def send(self, text: str) -> bool:
        """Send a text. Returns whether it was accepted."""
        if not self.can_send or not text:
            return False
        if self._pending >= MOST_PENDING:
            self._say(Kind.ERROR, "the server does not read; wait a moment")
            return False
        self._pending += 1
        self.history.add(text)
        self._worker.send(text)
        return True

    def choose(self, title: str) -> None:
        """Change to another service."""
        if self.can_choose and title in self.services and title != self.service:
            self._worker.choose(title)

    # --- what the worker tells ----------------------------------------------------------------------------

    def on_event(self, event: events.Event) -> None:
        """Handle an event of the worker."""
        if event.attempt != self._attempt or self.state is State.DISCONNECTED:
            return
        if isinstance(event, events.Received):
            self._say(Kind.RECEIVED, event.text)
        elif isinstance(event, events.Sent):
            self._on_sent(event)
        elif isinstance(event, events.Connected):
            self._on_connected(event)
        elif isinstance(event, events.Failed):
            self._over(event.text)
            self.wanted = PASSWORD if event.is_unwelcome else HOST
        elif isinstance(event, events.Disconnected):
            self._over(event.reason)
        elif isinstance(event, events.Named):
            self._server_name = one_line(event.name)[:MOST_NAME]
            self._say(Kind.INFORMATION, f"the name of the server is {event.name}")
        elif isinstance(event, events.Offered):
            self.services, self.service = event.titles, event.used
            self._say(Kind.INFORMATION, f"services: {', '.join(event.titles)}; in use: {event.used}")
        elif isinstance(event, events.Chosen):
            self._on_chosen(event)
        elif isinstance(event, events.Remark):
            self._say(Kind.INFORMATION, event.text)

    def _on_sent(self, event: events.Sent) -> None:
        self._pending -= 1
        if event.error is None:
            self._say(Kind.SENT, event.text)
        else:
            self._say(Kind.ERROR, f"not sent, {event.error}: {event.text}")

    def _on_connected(self, event: events.Connected) -> None:
        self.state = State.CONNECTED
        self._is_encrypted = event.is_encrypted
        how = "encrypted" if event.is_encrypted else "not encrypted: everybody on the path can read it"
        self._say(Kind.INFORMATION, f"connected as {self._values[NAME].strip()}, {how}")

    def _on_chosen(self, event: events.Chosen) -> None:
        if event.error is None:
            self.service = event.title
            self._say(Kind.INFORMATION, f"service in use: {event.title}")
        else:
            self._say(Kind.ERROR, f"service {event.title}: {event.error}")

    def _over(self, reason: str | None) -> None:
        self.state = State.DISCONNECTED
        self.services, self.service, self._pending = (), "", 0
        if reason is None:
            self._say(Kind.INFORMATION, "disconnected")
        else:
            self._say(Kind.ERROR, reason)

    # --- the log ------------------------------------------------------------------------------------------

    def complain(self, text: str) -> None:
        """Add an error of this program to the log."""
        self._say(Kind.ERROR, text)

    def take_entries(self) -> list[Entry]:
        """Return the entries added since the last call."""
        entries = list(self._fresh)
        self._fresh.clear()
        return entries

    def _say(self, kind: Kind, text: str) -> None:
        self._fresh.append(Entry(kind, self._now(), harmless(shortened(text))))
