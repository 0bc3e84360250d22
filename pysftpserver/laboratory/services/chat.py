"""Chat: rooms, private messages, who is there, and what was said last.

Everything that is kept is bounded. What is shown of others is one line, so that nobody can speak in somebody
else's name by a line end. What may not enter: I/O.
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
NUMBER = re.compile(r"#[0-9]+")  # of a client, where names are not clear

HELP = """/join ROOM: go to a room; it is made if there is none of that name
/rooms: the rooms, and how many are there
/who [ROOM]: who is there
/msg NAME TEXT: say it to that person alone; where two have the name, /msg #NUMBER TEXT
/history [N]: what was said last
/help: this
//TEXT: say /TEXT; everything else is said as it is"""


class Room:
    """Who is there, in the order of coming, and what was said. history: messages that are remembered."""

    def __init__(self, history: int) -> None:
        self.clients: dict[Client, None] = {}
        self.said: deque[str] = deque()
        self._most = history
        self._size = 0

    def remember(self, line: str) -> None:
        """Keep it, and forget what is too much."""
        self.said.append(line)
        self._size += len(line)
        while len(self.said) > self._most or self._size > MOST_REMEMBERED:
            self._size -= len(self.said.popleft())


class Place(NamedTuple):
    """Where a client is, and its number."""

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
        """Everybody begins in the lobby."""
        self._last += 1
        self._enter(client, LOBBY, self._last)

    def on_message(self, client: Client, text: str) -> None:
        """Say it, or do it."""
        word, _, rest = text.partition(" ")
        if not text.startswith("/"):
            self._say(client, text)
        elif text.startswith("//"):
            self._say(client, text[1:])
        elif word in self._words:
            self._words[word](client, rest.strip())
        else:
            client.send(f"* {one_line(word)}: no such word; /help lists them")

    def on_rename(self, client: Client, before: str) -> None:
        """All in the room are told."""
        self._tell(self._places[client].room, f"* {one_line(before)} is {one_line(client.name)} now")

    def on_leave(self, client: Client) -> None:
        """All in the room are told."""
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
            client.send(f"* /join ROOM: a name of up to {MOST_ROOM} characters, without blanks")
            return
        if name == self._places[client].room:
            client.send(f"* you are in {name}")
            return
        if name not in self._rooms and not self._make_room(name):
            client.send(f"* there are {len(self._rooms)} rooms, and people in all of them")
            return
        self._enter(client, name, self._go(client).number)

    def _make_room(self, name: str) -> bool:
        """Make a room, in place of an empty one if there are too many; whether that was possible."""
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
        client.send(f"* in {name}: {', '.join(people) or 'nobody'}")

    def _private(self, client: Client, rest: str) -> None:
        whom, _, text = rest.partition(" ")
        if not text or len(text) > MOST_TEXT:
            client.send(f"* /msg NAME TEXT, or /msg #NUMBER TEXT, of up to {MOST_TEXT} characters")
            return
        if NUMBER.fullmatch(whom):  # a number, even where somebody calls himself so
            found = [one for one, place in self._places.items() if whom == f"#{place.number}"]
        else:
            found = [one for one in self._places if whom == one.name]
        if len(found) != 1:
            numbers = ", ".join(f"#{self._places[one].number}" for one in found)
            client.send(f"* several have that name: {numbers}" if found else "* nobody has that name")
            return
        line = f"{one_line(text)}"
        found[0].send(f"[private] {one_line(client.name)} (#{self._places[client].number}): {line}")
        client.send(f"[private to {one_line(found[0].name)} (#{self._places[found[0]].number})] {line}")

    def _tell_history(self, client: Client, rest: str) -> None:
        said = self._rooms[self._places[client].room].said
        count = int(rest) if rest.isascii() and rest.isdecimal() and len(rest) < 6 else len(said)
        lines = list(said)[-count:] if count else []
        client.send("\n".join(lines) or "* nothing was said")


def one_line(text: str) -> str:
    """The text without what would begin another line or drive a terminal."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " for letter in text)
