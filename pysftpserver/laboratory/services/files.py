"""Files: lists, sends and receives the files of a storage, in messages.

The storage is opened by a function that is passed in, anew for each client, so that the next client sees a
directory that has been replaced. Storages block, so everything is done in threads, a piece at a time. An
upload is received in a temporary file, which is removed if the client leaves before the end. What may not
enter: concrete storages, sockets. Facts: docs/laboratory.md, "Files".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.failures import BadInput, reason_of
from pysftpserver.laboratory.service import Client, Service
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.service.audit import result_of
from pysftpserver.uploads.files import StoredFile, attributes, open_temporary
from pysftpserver.uploads.leftovers import remove_leftovers

PIECE = 36 << 10  # bytes of a file in one message; 48 KiB in base64
ENTRIES = 100  # of a directory in one message

HELP = """list [PATH]: list a directory
get PATH: receive a file
put PATH: begin to send a file; then send data BASE64 as often as needed, and end, or abort
In paths, %XX stands for a byte, and %25 for a percent sign."""


class Refusal(SFTPException):
    """Why a request is refused, in words for the client."""


class Upload:
    """A file that a client is sending."""

    def __init__(self, incoming: StoredFile, path: bytes) -> None:
        self.incoming = incoming
        self.path = path
        self.began = time.perf_counter()
        self.is_stored = False
        self.digest = hashlib.sha256()

    def write(self, piece: bytes) -> None:
        """The next piece."""
        self.incoming.write(memoryview(piece))
        self.digest.update(piece)

    def commit(self) -> None:
        """The file is complete: rename it into place."""
        self.incoming.commit()
        self.is_stored = True

    def note(self, client: Client, result: str) -> None:
        """Record the result of the upload in the audit log."""
        seconds = time.perf_counter() - self.began
        digest = {"sha256": self.digest.hexdigest()} if result == "OK" else {}
        client.note("put", result, path=self.path, size=self.incoming.size, seconds=seconds, **digest)


class Files(Service):
    """Lists, sends and receives files; help says how."""

    def __init__(
        self,
        open_storage: Callable[[], SFTPAbstractServerStorage],
        max_bytes: int = 1 << 30,
        read_only: bool = False,
    ) -> None:
        """open_storage: called in a thread at each client's first request; may raise a storage's exceptions
        or BadInput. max_bytes: maximum size of an upload.
        """
        self._open_storage = open_storage
        self._storages: dict[Client, SFTPAbstractServerStorage] = {}
        self._max_bytes = max_bytes
        self._read_only = read_only
        self._uploads: dict[Client, Upload] = {}
        self._requests = {
            "list": self._list,
            "get": self._get,
            "put": self._put,
            "data": self._data,
            "end": self._end,
            "abort": self._abort,
        }

    async def on_message(self, client: Client, text: str) -> None:
        """Serve the request that the first word names."""
        word, _, rest = text.partition(" ")
        action = self._requests.get(word)
        try:
            if action is None:
                client.send(HELP if word == "help" else "error: unknown request; help lists them")
            else:
                await action(client, rest)
        except Refusal as error:
            client.send(f"error: {error}")
        except (OSError, SFTPException) as error:
            await self._give_up(client, error)
            client.send(f"error: {reason_of(error)}")

    async def on_leave(self, client: Client) -> None:
        """Remove an upload that is not complete."""
        await self._give_up(client)
        storage = self._storages.pop(client, None)
        if storage is not None:
            await self.in_thread(storage.release)

    async def _storage(self, client: Client) -> SFTPAbstractServerStorage:
        """The client's storage, opened for its first request. Raises Refusal, and what storages raise."""
        if client not in self._storages:
            try:
                self._storages[client] = await self.in_thread(self._open_storage)
            except BadInput as error:  # its message contains paths of the host
                if self.log is not None:
                    self.log.error(f"Files: {error.message}")
                raise Refusal("the storage cannot be opened now; the server's log says why") from None
        return self._storages[client]

    # --- reading ------------------------------------------------------------------------------------------

    async def _list(self, client: Client, rest: str) -> None:
        path = meant(rest or "/")
        storage = await self._storage(client)
        opened: list[Iterator[tuple[bytes, SFTPAttributes]]] = []
        try:
            await self.in_thread(lambda: opened.append(storage.opendir(path)))
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
        began, moved, result = time.perf_counter(), 0, "FAILURE"
        opened: list[Any] = []  # its handles are closed even if the client leaves during the open
        digest = hashlib.sha256()
        try:
            storage = await self._storage(client)
            attrs = await self.in_thread(_open, storage, path, opened)
            (handle,) = opened
            client.send(f"file {attrs.size or 0} {attrs.mtime or 0}")
            while piece := bytes(await self.in_thread(storage.read, handle, moved, PIECE)):
                moved += len(piece)
                digest.update(piece)
                client.send(f"data {base64.b64encode(piece).decode()}")
                await client.drained()
            result = "OK"
        except (OSError, SFTPException) as error:
            result = result_of(error)
            raise
        finally:
            seconds = time.perf_counter() - began
            found = {"sha256": digest.hexdigest()} if result == "OK" else {}
            client.note("get", result, path=path, size=moved, seconds=seconds, **found)
            for handle in opened:
                await self.in_thread(storage.close, handle)
        client.send(f"end {moved} {digest.hexdigest()}")

    # --- writing ------------------------------------------------------------------------------------------

    async def _put(self, client: Client, rest: str) -> None:
        path = meant(rest)
        if client in self._uploads:
            raise Refusal("another upload is in progress; end or abort it first")
        try:
            if self._read_only:
                raise Refusal("this service is read-only")
            await self.in_thread(self._begin, client, await self._storage(client), path)
        except (OSError, SFTPException) as error:
            client.note("put", result_of(error), path=path)
            raise
        client.send("ready")

    def _begin(self, client: Client, storage: SFTPAbstractServerStorage, path: bytes) -> None:
        """Open an upload. Runs in a thread; the upload is in the dictionary even if the client has left."""
        replaced = attributes(storage.stat, path)
        if replaced is not None:
            check_regular(replaced)
        removed = remove_leftovers(storage, path.rpartition(b"/")[0] or b"/")
        if removed and self.log is not None:
            self.log.info(f"Files: removed {removed} temporary files of interrupted uploads")
        self._uploads[client] = Upload(open_temporary(storage, path, replaced), path)

    async def _data(self, client: Client, rest: str) -> None:
        upload = self._upload(client)
        try:
            piece = base64.b64decode(rest, validate=True)
        except (binascii.Error, ValueError):
            await self._give_up(client)
            raise Refusal("not base64; the upload is aborted") from None
        if upload.incoming.size + len(piece) > self._max_bytes:
            await self._give_up(client)
            raise Refusal(f"more than {self._max_bytes} bytes; the upload is aborted")
        await self.in_thread(upload.write, piece)

    async def _end(self, client: Client, rest: str) -> None:
        upload = self._upload(client)
        await self.in_thread(upload.commit)
        del self._uploads[client]
        upload.note(client, "OK")
        client.send(f"stored {upload.incoming.size} {upload.digest.hexdigest()}")

    async def _abort(self, client: Client, rest: str) -> None:
        self._upload(client)
        await self._give_up(client)
        client.send("aborted")

    def _upload(self, client: Client) -> Upload:
        upload = self._uploads.get(client)
        if upload is None:
            raise Refusal("no upload is in progress; begin one with put PATH")
        return upload

    async def _give_up(self, client: Client, error: Exception | None = None) -> None:
        """Remove the client's upload, if there is one. error: what ended it; None: the client."""
        upload = self._uploads.pop(client, None)
        if upload is None:
            return
        if upload.is_stored:  # the client left during the rename
            upload.note(client, "OK")
        else:
            upload.note(client, "FAILURE" if error is None else result_of(error))
            await self.in_thread(upload.incoming.discard)


def _open(storage: SFTPAbstractServerStorage, path: bytes, opened: list[Any]) -> SFTPAttributes:
    """Open a file, append its handle to opened, return its attributes. Runs in a thread."""
    attrs = storage.stat(path)
    check_regular(attrs)
    opened.append(storage.open(path, os.O_RDONLY, 0))
    return attrs


def some_of(entries: Iterator[tuple[bytes, SFTPAttributes]]) -> list[str]:
    """Lines for the next entries; an empty list at the end."""
    lines: list[str] = []
    for name, attrs in entries:
        if name not in (b".", b".."):
            lines.append(line_of(name, attrs))
            if len(lines) == ENTRIES:
                break
    return lines


def line_of(name: bytes, attrs: SFTPAttributes) -> str:
    """KIND SIZE MTIME NAME. KIND: d (directory), f (file), l (link) or o (other)."""
    mode = attrs.permissions or 0
    kinds = {stat.S_IFDIR: "d", stat.S_IFREG: "f", 0: "f", stat.S_IFLNK: "l"}
    return f"{kinds.get(stat.S_IFMT(mode), 'o')} {attrs.size or 0} {attrs.mtime or 0} {shown(name)}"


def check_regular(attrs: SFTPAttributes) -> None:
    """Raises Refusal for anything but a regular file."""
    if stat.S_IFMT(attrs.permissions or 0) not in (0, stat.S_IFREG):
        raise Refusal("not a regular file")


def shown(name: bytes) -> str:
    """A name as text, with percent signs and bytes that are not printable UTF-8 as %XX."""
    text = name.decode("utf-8", "surrogateescape")
    return "".join(
        letter
        if letter.isprintable() and letter != "%"
        else "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogateescape"))
        for letter in text
    )


def meant(text: str) -> bytes:
    """The path that a request names, made absolute. Raises Refusal."""
    path = unquote_to_bytes(text.strip())
    if not path or b"\0" in path:
        raise Refusal("the path is missing")
    return b"/" + path.lstrip(b"/")
