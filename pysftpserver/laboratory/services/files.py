"""Files: what a storage has, listed, got and put, in messages.

The storage is handed in: the same that SFTP serves. It blocks, so everything is done in threads, a piece at a
time. A put is received in a temporary file; a client that leaves before its end leaves nothing.
What may not enter: concrete storages, sockets. Facts: docs/laboratory.md, "Files".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from typing import Any
from urllib.parse import unquote_to_bytes

from pysftpserver.failures import reason_of
from pysftpserver.laboratory.service import Client, Service
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.uploads.files import StoredFile, is_missing, open_temporary
from pysftpserver.uploads.leftovers import remove_leftovers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.attributes import SFTPAttributes

PIECE = 36 << 10  # bytes of a file in one message; 48 KiB in base64
ENTRIES = 100  # of a directory in one message

HELP = """list [PATH]: what is in a directory
get PATH: a file
put PATH: begin to send one; then data BASE64, as often as it takes, and end, or abort
In paths, %XX stands for a byte, and %25 for a percent sign."""


class Refusal(Exception):
    """Why something is not done, in words for the client."""


class Upload:
    """A file that a client is sending."""

    def __init__(self, incoming: StoredFile) -> None:
        self.incoming = incoming
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, piece: bytes) -> None:
        """The next piece."""
        self.incoming.write(memoryview(piece))
        self.digest.update(piece)
        self.size += len(piece)

    def finish(self) -> None:
        """All was there: put it in place."""
        self.incoming.sync()
        self.incoming.commit()


class Files(Service):
    """What a storage has: help says how to list, get and put it."""

    def __init__(
        self, storage: SFTPAbstractServerStorage, max_bytes: int = 1 << 30, read_only: bool = False
    ) -> None:
        """max_bytes: of an upload."""
        self._storage = storage
        self._max_bytes = max_bytes
        self._read_only = read_only
        self._uploads: dict[Client, Upload] = {}
        self._words = {
            "list": self._list,
            "get": self._get,
            "put": self._put,
            "data": self._data,
            "end": self._end,
            "abort": self._abort,
        }

    async def on_message(self, client: Client, text: str) -> None:
        """Do what the first word says."""
        word, _, rest = text.partition(" ")
        action = self._words.get(word)
        try:
            if action is None:
                client.send(HELP if word == "help" else "error: help lists the words")
            else:
                await action(client, rest)
        except Refusal as error:
            client.send(f"error: {error}")
        except (OSError, SFTPException) as error:
            await self._give_up(client)
            client.send(f"error: {reason_of(error)}")

    async def on_leave(self, client: Client) -> None:
        """Nothing that is half there stays."""
        await self._give_up(client)

    # --- reading ------------------------------------------------------------------------------------------

    async def _list(self, client: Client, rest: str) -> None:
        path = meant(rest or "/")
        opened: list[Iterator[tuple[bytes, SFTPAttributes]]] = []
        try:
            await self.in_thread(lambda: opened.append(self._storage.opendir(path)))
            while lines := await self.in_thread(some_of, opened[0]):
                client.send("entries\n" + "\n".join(lines))
                await client.drained()
        finally:
            for entries in opened:
                close = getattr(entries, "close", None)
                if close is not None:
                    await self.in_thread(close)
        client.send("end")

    async def _get(self, client: Client, rest: str) -> None:
        path = meant(rest)
        opened: list[Any] = []  # what is in it is closed, even if the client goes away while it is opened
        digest = hashlib.sha256()
        position = 0
        try:
            attrs = await self.in_thread(self._open, path, opened)
            (handle,) = opened
            client.send(f"file {attrs.size or 0} {attrs.mtime or 0}")
            while piece := bytes(await self.in_thread(self._storage.read, handle, position, PIECE)):
                position += len(piece)
                digest.update(piece)
                client.send(f"data {base64.b64encode(piece).decode()}")
                await client.drained()
        finally:
            for handle in opened:
                await self.in_thread(self._storage.close, handle)
        client.send(f"end {position} {digest.hexdigest()}")

    def _open(self, path: bytes, opened: list[Any]) -> SFTPAttributes:
        attrs = self._storage.stat(path)
        check_regular(attrs)
        opened.append(self._storage.open(path, os.O_RDONLY, 0))
        return attrs

    # --- writing ------------------------------------------------------------------------------------------

    async def _put(self, client: Client, rest: str) -> None:
        if self._read_only:
            raise Refusal("this is for reading only")
        if client in self._uploads:
            raise Refusal("another file is being sent: end or abort it")
        await self.in_thread(self._begin, client, meant(rest))
        client.send("ready")

    def _begin(self, client: Client, path: bytes) -> None:
        """In a thread; what it opened is in the dictionary even where nobody waits for it any more."""
        replaced: SFTPAttributes | None = None
        try:
            replaced = self._storage.stat(path)
        except (OSError, SFTPException) as error:
            if not is_missing(error):
                raise
        if replaced is not None:
            check_regular(replaced)
        remove_leftovers(self._storage, path.rpartition(b"/")[0] or b"/")
        self._uploads[client] = Upload(open_temporary(self._storage, path, replaced))

    async def _data(self, client: Client, rest: str) -> None:
        upload = self._upload(client)
        try:
            piece = base64.b64decode(rest, validate=True)
        except (binascii.Error, ValueError):
            await self._give_up(client)
            raise Refusal("no base64; the file is aborted") from None
        if upload.size + len(piece) > self._max_bytes:
            await self._give_up(client)
            raise Refusal(f"more than {self._max_bytes} bytes; the file is aborted")
        await self.in_thread(upload.write, piece)

    async def _end(self, client: Client, rest: str) -> None:
        upload = self._upload(client)
        await self.in_thread(upload.finish)
        del self._uploads[client]
        client.send(f"stored {upload.size} {upload.digest.hexdigest()}")

    async def _abort(self, client: Client, rest: str) -> None:
        self._upload(client)
        await self._give_up(client)
        client.send("aborted")

    def _upload(self, client: Client) -> Upload:
        upload = self._uploads.get(client)
        if upload is None:
            raise Refusal("no file is being sent: put PATH begins with one")
        return upload

    async def _give_up(self, client: Client) -> None:
        upload = self._uploads.pop(client, None)
        if upload is not None:
            await self.in_thread(upload.incoming.discard)


def some_of(entries: Iterator[tuple[bytes, SFTPAttributes]]) -> list[str]:
    """Lines for the next entries; none at the end."""
    lines: list[str] = []
    for name, attrs in entries:
        if name not in (b".", b".."):
            lines.append(line_of(name, attrs))
            if len(lines) == ENTRIES:
                break
    return lines


def line_of(name: bytes, attrs: SFTPAttributes) -> str:
    """KIND SIZE MTIME NAME. KIND: d, f (a file), l (a link) or o (another thing)."""
    mode = attrs.permissions or 0
    kinds = {stat.S_IFDIR: "d", stat.S_IFREG: "f", 0: "f", stat.S_IFLNK: "l"}
    return f"{kinds.get(stat.S_IFMT(mode), 'o')} {attrs.size or 0} {attrs.mtime or 0} {shown(name)}"


def check_regular(attrs: SFTPAttributes) -> None:
    """Raises Refusal for what is no file."""
    if stat.S_IFMT(attrs.permissions or 0) not in (0, stat.S_IFREG):
        raise Refusal("not a regular file")


def shown(name: bytes) -> str:
    """A name as text: what is not printable UTF-8, and the percent sign, as %XX."""
    text = name.decode("utf-8", "surrogateescape")
    return "".join(
        letter
        if letter.isprintable() and letter != "%"
        else "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogateescape"))
        for letter in text
    )


def meant(text: str) -> bytes:
    """The path that a client means, absolute. Raises Refusal."""
    path = unquote_to_bytes(text.strip())
    if not path or b"\0" in path:
        raise Refusal("name a path")
    return b"/" + path.lstrip(b"/")
