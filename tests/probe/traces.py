"""What a client sent, in lines that two runs can be compared by: the kinds of its requests, their flags, the
names and attributes in them, the sizes of chunks, and how many requests wait for answers at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pysftpserver.engine import wire

KINDS = {
    getattr(wire, name): name.removeprefix("SSH2_FXP_") for name in vars(wire) if name.startswith("SSH2_FXP_")
}
FLAGS = {1: "READ", 2: "WRITE", 4: "APPEND", 8: "CREAT", 16: "TRUNC", 32: "EXCL"}
BY_HANDLE = {"CLOSE", "READ", "WRITE", "FSTAT", "FSETSTAT", "READDIR"}
OF_HANDLE = {b"fsync@openssh.com", b"fstatvfs@openssh.com"}
Packet = tuple[str, bytes]


def recorded(path: Path) -> list[Packet]:
    """The packets of a session that recorder.py wrote down."""
    content = path.read_bytes()
    found, position = [], 0
    while position < len(content):
        size = int.from_bytes(content[position + 1 : position + 5], "big")
        found.append((chr(content[position]), content[position + 5 : position + 5 + size]))
        position += 5 + size
    return found


class Trace:
    """The lines of one session. directory: its name at the top, from which paths are shown."""

    def __init__(self, packets: Iterable[Packet], directory: bytes) -> None:
        self.lines: list[str] = []
        self._directory = directory
        self._names: dict[bytes, str] = {}
        self._opens: dict[int, str] = {}
        self._waiting: set[int] = set()
        self._run: tuple[str, str] | None = None
        self._sizes: dict[int, int] = {}
        self._end = self._depth = 0
        for direction, packet in packets:
            if direction == "<":
                self._reply(packet)
            elif direction == "$":
                self._line(f"shell {packet.decode(errors='replace')}")
            else:
                self._request(packet)
        self._end_run()

    def _reply(self, packet: bytes) -> None:
        if packet[4] == wire.SSH2_FXP_VERSION:
            return
        request_id = int.from_bytes(packet[5:9], "big")
        self._waiting.discard(request_id)
        if packet[4] == wire.SSH2_FXP_HANDLE and request_id in self._opens:
            self._names[packet[13:]] = self._opens[request_id]

    def _request(self, packet: bytes) -> None:
        kind = KINDS.get(packet[4], f"type {packet[4]}")
        if kind == "INIT":
            self._line(f"INIT {int.from_bytes(packet[5:9], 'big')}")
            return
        request_id = int.from_bytes(packet[5:9], "big")
        self._waiting.add(request_id)
        end = len(packet)
        first, position = wire.string_at(packet, 9, end)
        if kind in BY_HANDLE:
            name = self._names.get(first, "?")
            if kind in ("READ", "WRITE"):
                self._transfer(kind, name, packet, position)
                return
            more = f" {_attributes(packet, position)}" if kind == "FSETSTAT" else ""
            self._line(f"{kind} {name}{more}")
        elif kind == "EXTENDED":
            self._line(f"{first.decode()} {self._arguments(first, packet, position)}".rstrip())
        elif kind == "OPEN":
            flags = int.from_bytes(packet[position : position + 4], "big")
            words = "|".join(word for bit, word in FLAGS.items() if flags & bit)
            self._opens[request_id] = self._shown(first)
            self._line(f"OPEN {self._shown(first)} {words} {_attributes(packet, position + 4)}".rstrip())
        else:
            if kind == "OPENDIR":
                self._opens[request_id] = self._shown(first)
            more = ""
            if kind in ("RENAME", "SYMLINK"):
                more = f" {self._shown(wire.string_at(packet, position, end)[0])}"
            elif position < end:
                more = f" {_attributes(packet, position)}"
            self._line(f"{kind} {self._shown(first)}{more}".rstrip())

    def _arguments(self, name: bytes, packet: bytes, position: int) -> str:
        words = []
        while position + 4 <= len(packet):
            try:
                value, position = wire.string_at(packet, position, len(packet))
            except wire.MalformedPacket:
                break
            if name in OF_HANDLE:
                words.append(self._names.get(value, "?"))
                break
            words.append(self._shown(value))
            if not name.endswith(b"@openssh.com") or name == b"lsetstat@openssh.com":
                break
        return " ".join(words)

    def _transfer(self, kind: str, name: str, packet: bytes, position: int) -> None:
        if self._run != (kind, name):
            self._end_run()
            self._run = (kind, name)
        offset = int.from_bytes(packet[position : position + 8], "big")
        size = int.from_bytes(packet[position + 8 : position + 12], "big")
        self._sizes[offset] = max(self._sizes.get(offset, 0), size)
        self._depth = max(self._depth, len(self._waiting))

    def _end_run(self) -> None:
        if self._run is None:
            return
        kind, name = self._run
        offsets = sorted(self._sizes)
        sizes = [self._sizes[offset] for offset in offsets]
        usual = max(set(sizes), key=sizes.count)
        end = f" to {offsets[-1] + sizes[-1]}" if kind == "WRITE" else ""
        self.lines.append(f"{kind} {name} from {offsets[0]}{end} by {usual}, {self._depth} at a time")
        self._run, self._sizes, self._depth = None, {}, 0

    def _line(self, text: str) -> None:
        self._end_run()
        self.lines.append(text)

    def _shown(self, path: bytes) -> str:
        short = path.removeprefix(b"/").removeprefix(self._directory).removeprefix(b"/")
        return _made_up(repr(short)[2:-1]) or "/"


def _attributes(packet: bytes, position: int) -> str:
    """The attributes of a request: what they set, and permissions by their value."""
    attributes = wire.attributes_at(packet, position, len(packet))
    words = []
    if attributes.size is not None:
        words.append("size")
    if attributes.uid is not None:
        words.append("owner")
    if attributes.permissions is not None:
        words.append(f"{attributes.permissions:o}")
    if attributes.mtime is not None:
        words.append("times")
    return "+".join(words)


def _made_up(name: str) -> str:
    """A name without what differs from run to run."""
    name = re.sub(r"(\.|-restic-temp-)[0-9a-f]{8,}(?=$|\.partial)", r"\1#", name)
    name = re.sub(r"^repo/data/[0-9a-f]{2}(?=$|/)", "repo/data/##", name)
    return re.sub(r"^(repo/(?:data/##|[a-z]+)/)(?:[0-9a-f]{64}|[a-z])(?=$|-)", r"\1#", name)
