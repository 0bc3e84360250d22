"""Chat: rooms, private messages, lists of clients, and a history.

Everything that is kept is bounded. Clients' texts are shown as one line, so that no client can use a line end
to write in another's name. What may not enter: I/O.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from pysftpserver.laboratory.service import Client, Service

LOBBY = "lobby"
MOST_ROOM = 32  # characters of a room's name
MOST_TEXT = 4000  # characters of what is said
MOST_REMEMBERED = 64 << 10  # characters of a room's history
NUMBER = re.compile(r"#[0-9]+")  # identifies a client, because names are not unique

HELP = """/join ROOM: enter a room; it is created if there is none with that name
/rooms: list the rooms, with the number of clients in each
/who [ROOM]: list the clients in a room
/msg NAME TEXT: send a text to one client; if two have the name, use /msg #NUMBER TEXT
/history [N]: show the last messages
/help: list the commands
//TEXT: say /TEXT; everything else is said as it is"""


class Room:
    """Its clients, in the order in which they joined, and its last messages, at most `history`."""

    def __init__(self, history: int) -> None:
        self.clients: dict[Client, None] = {}
        self.said: deque[str] = deque()
        self._most = history
        self._size = 0

    def remember(self, line: str) -> None:
        """Add a line to the history; drop the oldest."""
        self.said.append(line)
        self._size += len(line)
        while len(self.said) > self._most or self._size > MOST_REMEMBERED:
            self._size -= len(self.said.popleft())


class Place(NamedTuple):
    """The room of a client, and its number."""

    room: str
    number: int


class Chat(Service):
    """Rooms to talk in; /help says how."""

    def __init__(self, history: int = 50, rooms: int = 100) -> None:
        self._history = history
        self._most_rooms = rooms
        self._rooms: dict[str, Room] = {LOBBY: Room(history)}
        self._places: dict[Client, Place] = {}
        self._last = 0
        self._words: dict[str, Callable[[Client, str], None]] = {
            "/join": self._join,
            "/rooms": self._tell_rooms,
            "/who": self._who,
            "/msg": self._private,
            "/history": self._tell_history,
            "/help": lambda client, rest: client.send(HELP),
        }

    # --- what the server calls ----------------------------------------------------------------------------

    def on_join(self, client: Client) -> None:
        """Clients begin in the lobby."""
        self._last += 1
        self._enter(client, LOBBY, self._last)

    def on_message(self, client: Client, text: str) -> None:
        """Say a text, or obey a command."""
        word, _, rest = text.partition(" ")
        if not text.startswith("/"):
            self._say(client, text)
        elif text.startswith("//"):
            self._say(client, text[1:])
        elif word in self._words:
            self._words[word](client, rest.strip())
        else:
            client.send(f"* {one_line(word)}: unknown command; /help lists them")

    def on_rename(self, client: Client, before: str) -> None:
        """Tell the room."""
        self._tell(self._places[client].room, f"* {one_line(before)} is now {one_line(client.name)}")

    def on_leave(self, client: Client) -> None:
        """Tell the room."""
        if client in self._places:
            self._go(client)

    # --- rooms --------------------------------------------------------------------------------------------

    def _enter(self, client: Client, name: str, number: int) -> None:
        room = self._rooms[name]
        self._tell(name, f"* {one_line(client.name)} (#{number}) has come")
        room.clients[client] = None
        self._places[client] = Place(name, number)
        others = len(room.clients) - 1
        client.send(f"* you are #{number}, in {name}, with {others} other{'s' * (others != 1)}; /help helps")
        for line in room.said:
            client.send(line)

    def _go(self, client: Client) -> Place:
        place = self._places.pop(client)
        del self._rooms[place.room].clients[client]
        self._tell(place.room, f"* {one_line(client.name)} (#{place.number}) has gone")
        return place

    def _join(self, client: Client, name: str) -> None:
        if not name or len(name) > MOST_ROOM or not name.isprintable() or " " in name:
            client.send(f"* /join ROOM: a name of up to {MOST_ROOM} characters, without spaces")
            return
        if name == self._places[client].room:
            client.send(f"* you are in {name}")
            return
        if name not in self._rooms and not self._make_room(name):
            client.send(f"* there are {len(self._rooms)} rooms, and none is empty")
            return
        self._enter(client, name, self._go(client).number)

    def _make_room(self, name: str) -> bool:
        """Create a room, replacing an empty one if there are too many. Returns whether that worked."""
        if len(self._rooms) >= self._most_rooms:
            empty = [known for known, room in self._rooms.items() if not room.clients and known != LOBBY]
            if not empty:
                return False
            del self._rooms[empty[0]]
        self._rooms[name] = Room(self._history)
        return True

    # --- words --------------------------------------------------------------------------------------------

    def _say(self, client: Client, text: str) -> None:
        if len(text) > MOST_TEXT:
            client.send(f"* not said: more than {MOST_TEXT} characters")
            return
        name = self._places[client].room
        line = f"[{name}] {one_line(client.name)}: {one_line(text)}"
        self._rooms[name].remember(line)
        self._tell(name, line)

    def _tell(self, name: str, line: str) -> None:
        for client in self._rooms[name].clients:
            client.send(line)

    def _tell_rooms(self, client: Client, rest: str) -> None:
        lines = [f"* {name}: {len(room.clients)}" for name, room in self._rooms.items()]
        client.send("\n".join(lines))

    def _who(self, client: Client, name: str) -> None:
        name = name or self._places[client].room
        if name not in self._rooms:
            client.send("* no such room")
            return
        people = [f"{one_line(one.name)} (#{self._places[one].number})" for one in self._rooms[name].clients]
        client.send(f"* in {name}: {', '.join(people) or 'none'}")

    def _private(self, client: Client, rest: str) -> None:
        whom, _, text = rest.partition(" ")
        if not text or len(text) > MOST_TEXT:
            client.send(f"* /msg NAME TEXT, or /msg #NUMBER TEXT, of up to {MOST_TEXT} characters")
            return
        if NUMBER.fullmatch(whom):  # taken as a number, even if it is the name of a client
            found = [one for one, place in self._places.items() if whom == f"#{place.number}"]
        else:
            found = [one for one in self._places if whom == one.name]
        if len(found) != 1:
            numbers = ", ".join(f"#{self._places[one].number}" for one in found)
            client.send(
                f"* several clients have that name: {numbers}" if found else "* no client has that name"
            )
            return
        line = one_line(text)
        found[0].send(f"[private] {one_line(client.name)} (#{self._places[client].number}): {line}")
        client.send(f"[private to {one_line(found[0].name)} (#{self._places[found[0]].number})] {line}")

    def _tell_history(self, client: Client, rest: str) -> None:
        said = self._rooms[self._places[client].room].said
        count = int(rest) if rest.isascii() and rest.isdecimal() and len(rest) < 6 else len(said)
        lines = list(said)[-count:] if count else []
        client.send("\n".join(lines) or "* no messages")


def one_line(text: str) -> str:
    """The text with a space in place of each character that would begin a line or control a terminal."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " for letter in text)
