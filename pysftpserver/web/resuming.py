"""Uploads that go on after a lost connection, for the script of pages.

    POST   /upload/     {"path", "size", "modified", "existing"}: begins an upload, or finds the one begun
                        with the same values; {"id", "offset"}. {"path", "folder": true}: makes a folder.
    HEAD   /upload/ID   Upload-Offset: bytes that have arrived; another request that still sends is cut off.
    PATCH  /upload/ID   Upload-Offset: where the body goes on. With its last byte, the file appears.
    DELETE /upload/ID   Gives it up.

Received bytes wait in a hidden file next to the target, whose name is derived from the user and the upload:
so a restarted server finds it, if the storage has real files. Otherwise an upload ends with the server. An
abandoned upload is removed after a day. What may not enter: HTML, concrete storages.
Facts: RFC 9110; draft-ietf-httpbis-resumable-upload, for the names of headers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import posixpath
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import Any

from pysftpserver.failures import BadInput, reason_of
from pysftpserver.http import ProtocolError
from pysftpserver.http.files import FileProblem, as_problems
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.uploads.temporary import is_temporary, lasting_name, new_name
from pysftpserver.web.application import check_csrf, refusal_of
from pysftpserver.web.files import Tree
from pysftpserver.web.html import plain
from pysftpserver.web.upload import KEEP, REPLACE, SKIP
from pysftpserver.web.wire import Refusal, Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pysftpserver.web.incoming import Incoming
    from pysftpserver.web.pages import Files
    from pysftpserver.web.session import Session
    from pysftpserver.web.wire import Request

JSON = "application/json"
ASK = "ask"
MOST_WORDS = 65536  # bytes of the request that begins an upload
MOST_OF_USER = 32  # incomplete uploads
MOST = 1000
MOST_SIZE = 1 << 62
PIECE = 131072  # bytes that are received at once
KEPT = 24 * 3600.0  # seconds without a byte, after which an upload ends
KEPT_OPEN = 3600.0  # the same where it has a storage open meanwhile
OFFSET, LENGTH, COMPLETE = "Upload-Offset", "Upload-Length", "Upload-Complete"


@dataclass(frozen=True)
class Wish:
    """An upload as announced. modified: Unix time."""

    path: bytes
    size: int
    modified: int | None
    existing: str


class Upload:
    """An upload of a user. turn: the request that may write; others were cut off. placed: its path.

    Between requests, its file is closed if it can be reopened; then it needs no open storage.
    """

    def __init__(self, ident: str, session: Session, wish: Wish, hidden: bytes) -> None:
        self.id, self.session, self.wish, self.hidden = ident, session, wish, hidden
        self.offset = 0
        self.turn = 0
        self.used = time.monotonic()
        self.placed: bytes | None = None
        self.lock = threading.Lock()
        self._requests = 0  # that are sending
        self._file: Incoming | None = None
        self._opened = contextlib.ExitStack()
        self._can_reopen: bool | None = None  # None: not tried yet

    @property
    def is_open(self) -> bool:
        """Whether it has a storage open."""
        return self._file is not None

    @property
    def _replaces(self) -> bool:
        return self.wish.existing == REPLACE

    def begin(self) -> None:
        """Find the bytes that arrived before, or begin; the caller holds the lock. Raises FileProblem."""
        try:
            self._file = file = self._found() or self._new()
        except BaseException:
            self._opened.close()
            raise
        if file.size > self.wish.size:  # so this user has not sent it
            self._give_up()
            raise FileProblem("what arrived before does not fit; try again")
        self.offset = file.size
        if self.offset == self.wish.size:
            self._finish(file)

    def _found(self) -> Incoming | None:
        tree = self._tree()
        with contextlib.suppress(FileProblem):  # it is another server's, or may not be reopened
            if tree.look(self._hidden_path) is not None:
                return tree.receive_more(self.wish.path, self._replaces, self.hidden)
        return None

    def _new(self) -> Incoming:
        tree = self._tree()
        try:
            return tree.receive(self.wish.path, self._replaces, self.hidden)
        except FileProblem:
            self.hidden = new_name()  # the other one may be taken
            return tree.receive(self.wish.path, self._replaces, self.hidden)

    @property
    def _hidden_path(self) -> bytes:
        return posixpath.join(posixpath.dirname(self.wish.path), self.hidden)

    def cut_off(self) -> None:
        """Stop the request that is writing now."""
        with self.lock:
            self.turn += 1
            self.used = time.monotonic()

    def enter(self) -> int:
        """Become the request that may write. Returns the turn; leave() has to be called."""
        with self.lock:
            self.turn += 1
            self._requests += 1
            return self.turn

    def leave(self) -> None:
        """Note that a request is over."""
        with self.lock:
            self._requests -= 1
            if not self._requests:
                self._rest()

    def write(self, turn: int, piece: bytes) -> None:
        """Append a piece. Raises FileProblem, and Refusal if another request has the turn."""
        with self.lock:
            if turn != self.turn or self.placed is not None:
                raise Refusal(409, "Another request goes on with this upload.")
            if self.offset + len(piece) > self.wish.size:
                raise Refusal(400, "That is more than the size that was announced.")
            file = self._open()
            with as_problems():
                file.write(memoryview(piece))
            self.offset = file.size
            self.used = time.monotonic()
            if self.offset == self.wish.size:
                self._finish(file)

    def give_up(self) -> None:
        """Remove what has arrived."""
        with self.lock:
            self.turn += 1
            if self.placed is None:
                with contextlib.suppress(FileProblem):
                    self._open()
                self._give_up()

    def stop(self) -> None:
        """Keep received bytes if they can be found again: the server stops."""
        with self.lock:
            self.turn += 1
            self._can_reopen = self._file is not None and self._file.descriptor() is not None
            self._rest()
            self._give_up()

    def _tree(self) -> Tree:
        self._opened.close()
        try:
            return Tree(self._opened.enter_context(self.session.storage()))
        except (OSError, SFTPException, BadInput) as error:
            raise FileProblem(reason_of(error)) from None

    def _open(self) -> Incoming:
        if self._file is None:
            try:
                self._file = self._tree().receive_more(self.wish.path, self._replaces, self.hidden)
                if self._file.size != self.offset:
                    self._give_up()
                    raise FileProblem("what arrived before has changed; try again")
            except BaseException:
                self._opened.close()
                raise
        return self._file

    def _rest(self) -> None:
        """Close the file, if it can be reopened."""
        if self._file is None:
            return
        if self._can_reopen is None:
            self._can_reopen = self._file.descriptor() is not None and self._opens_elsewhere()
        if self._can_reopen:
            file, self._file = self._file, None
            with contextlib.suppress(OSError, SFTPException):  # whatever opens it next will find out
                file.pause()
            self._opened.close()

    def _opens_elsewhere(self) -> bool:
        """Whether a new storage of the user, such as later requests use, can open the file."""
        try:
            with self.session.storage() as storage:
                storage.close(storage.open(self._hidden_path, os.O_WRONLY, 0))
        except (OSError, SFTPException, BadInput, FileProblem):
            return False
        return True

    def _finish(self, file: Incoming) -> None:
        self._file = None
        try:
            with as_problems():
                if self.wish.modified is not None:
                    with contextlib.suppress(OSError, SFTPException):
                        file.set_time(self.wish.modified)
                file.commit()
            self.placed = file.path
        finally:
            self._opened.close()

    def _give_up(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.discard()
        self._opened.close()


class Uploads:
    """The part of the door that receives uploads in pieces. secret: to find them again after a restart."""

    needs_login = True
    is_for_programs = False

    def __init__(self, files: Files, secret: bytes) -> None:
        self._files = files
        self._secret = secret
        self._uploads: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def answer(self, request: Request, rest: bytes) -> Reply:
        """Begin an upload, continue it, or report its progress."""
        assert request.session is not None
        try:
            if request.method != "HEAD":
                check_csrf(request.session, request.header("X-CSRF"))
            if self._files.values.read_only:
                raise Refusal(403, "These files can be read, and not changed.")
            ident = rest[1:].decode("latin-1")
            if not ident:
                request.allow("POST")
                return self._begin(request, request.session)
            upload = self._uploads.get(ident)
            if upload is None or upload.session.user != request.session.user:
                raise Refusal(404, "There is no such upload; begin it again.")
            upload.session = request.session
            request.allow(*METHODS)
            return METHODS[request.method](self, request, upload)
        except FileProblem as error:
            return told({"words": f"{error}."}, refusal_of(error).status)
        except Refusal as refusal:
            reply = told({"words": refusal.words}, refusal.status)
            reply.headers += refusal.headers
            return reply

    def close(self) -> None:
        """Keep uploads that can be found again; remove the rest."""
        with self._lock:
            found = list(self._uploads.values())
            self._uploads.clear()
        for upload in found:
            if upload.placed is None:
                upload.stop()

    def _begin(self, request: Request, session: Session) -> Reply:
        words = request.body(MOST_WORDS)
        path, is_folder, said = path_and_words(words)
        if any(self._files.deletions.hides(session, above) for above in directories_of(path)):
            raise FileProblem("the folder was deleted", "NO_SUCH_FILE")
        self._files.deletions.settle(session, path)
        with self._tree(session) as tree:
            if is_folder:
                tree.make_directories(path)
                return told({})
            wish = wish_of(path, said)
            taken = tree.look(path) if wish.existing in (ASK, SKIP) else None
            ident, hidden = self._names_of(session, wish)
            upload = self._uploads.get(ident)
            if upload is not None and upload.session.user != session.user:
                self._forget(upload)  # it used the folder and rules of the former record
                upload.stop()
                upload = None
            if upload is None or upload.placed is not None:
                if taken is not None:
                    return told({"exists": True, "words": "There is something of that name already."}, 409)
                there = next((above for above in directories_of(path) if tree.find(above)), b"/")
                space = tree.space(there)
                if space is not None and any(space) and wish.size > space[1]:
                    raise Refusal(507, "There is not enough room left for this file.")
                tree.make_directories(posixpath.dirname(path))
                upload = self._add(Upload(ident, session, wish, hidden))
            else:
                upload.session = session
                upload.cut_off()
        return self._state(upload, 201, {"id": ident, "offset": upload.offset})

    def _add(self, upload: Upload) -> Upload:
        self._sweep()
        with self._lock:
            other = self._uploads.get(upload.id)
            if other is not None and other.placed is None:
                return other
            running = [one for one in self._uploads.values() if one.placed is None]
            mine = [one for one in running if one.session.name == upload.session.name]
            if len(mine) >= MOST_OF_USER or len(running) >= MOST:
                raise Refusal(
                    429,
                    "Too many uploads are not complete; finish some of them first.",
                    [("Retry-After", "10")],
                )
            upload.lock.acquire()  # a request that finds it waits until it has begun
            self._uploads[upload.id] = upload
        try:
            try:
                upload.begin()
            finally:
                upload.lock.release()
        except BaseException as error:
            self._forget(upload)
            if isinstance(error, FileProblem):
                upload.session.note("put", upload.wish.path, error=error)
            raise
        if upload.placed is not None:
            self._placed(upload)
        return upload

    def _append(self, request: Request, upload: Upload) -> Reply:
        offset = request.header(OFFSET)
        turn = upload.enter()
        try:
            if offset != str(upload.offset):
                words = {"words": "This upload goes on elsewhere.", "offset": upload.offset}
                return self._state(upload, 409, words)
            read = request.environ["wsgi.input"].read
            while piece := read(PIECE):
                upload.write(turn, piece)
        except FileProblem as error:
            upload.session.note("put", upload.wish.path, error=error)
            self._forget(upload)
            upload.give_up()
            raise
        except (ProtocolError, TimeoutError):
            raise Refusal(408, "The connection was too slow.", [("Connection", "close")]) from None
        finally:
            upload.leave()
        if upload.placed is None:
            return self._state(upload, 200, {"offset": upload.offset})
        return self._placed(upload)

    def _placed(self, upload: Upload) -> Reply:
        assert upload.placed is not None
        upload.session.note("put", upload.placed, size=upload.wish.size)
        self._trim()
        name = posixpath.basename(upload.placed)
        return self._state(upload, 200, {"offset": upload.offset, "name": plain(name)})

    def _tell(self, request: Request, upload: Upload) -> Reply:
        upload.cut_off()
        return self._state(upload, 204)

    def _end(self, request: Request, upload: Upload) -> Reply:
        self._forget(upload)
        upload.give_up()
        return Reply(b"", 204)

    def _state(self, upload: Upload, status: int, words: dict[str, Any] | None = None) -> Reply:
        reply = Reply(b"", status) if words is None else told(words, status)
        is_complete = "?1" if upload.placed is not None else "?0"
        values = str(upload.offset), str(upload.wish.size), is_complete
        reply.headers += zip((OFFSET, LENGTH, COMPLETE), values, strict=True)
        if words is not None and upload.placed is not None:
            words.setdefault("name", plain(posixpath.basename(upload.placed)))
            return told_again(reply, words)
        return reply

    @contextlib.contextmanager
    def _tree(self, session: Session) -> Iterator[Tree]:
        with contextlib.ExitStack() as opened:
            try:
                storage = opened.enter_context(session.storage())
            except (OSError, SFTPException, BadInput):
                raise Refusal(503, "Your files cannot be reached now; try again later.") from None
            yield Tree(storage)

    def _names_of(self, session: Session, wish: Wish) -> tuple[str, bytes]:
        """The id of an upload, and the name of its hidden file, which clients are not told."""
        text = json.dumps([session.name, wish.path.hex(), wish.size, wish.modified, wish.existing])
        digest = hashlib.blake2b(text.encode(), key=self._secret, digest_size=24).digest()
        return digest[8:].hex(), lasting_name(digest[:8])

    def _forget(self, upload: Upload) -> None:
        with self._lock:
            if self._uploads.get(upload.id) is upload:
                del self._uploads[upload.id]

    def _trim(self) -> None:
        """Forget the oldest complete uploads."""
        with self._lock:
            complete = [ident for ident, one in self._uploads.items() if one.placed is not None]
            for ident in complete[: max(0, len(complete) - MOST)]:
                del self._uploads[ident]

    def _sweep(self) -> None:
        """End abandoned uploads."""
        now = time.monotonic()
        for upload in list(self._uploads.values()):
            if now - upload.used > (KEPT_OPEN if upload.is_open else KEPT):
                self._forget(upload)
                upload.give_up()


METHODS = {"HEAD": Uploads._tell, "PATCH": Uploads._append, "DELETE": Uploads._end}


def told(words: dict[str, Any], status: int = 200) -> Reply:
    """A reply to the script."""
    return Reply(json.dumps(words).encode(), status, kind=JSON)


def told_again(reply: Reply, words: dict[str, Any]) -> Reply:
    """The same reply with other values."""
    again = told(words, reply.status)
    again.headers += [header for header in reply.headers if header[0] != "Content-Type"]
    return again


def directories_of(path: bytes) -> Iterator[bytes]:
    """The directories above a path, except the root."""
    while (path := posixpath.dirname(path)) != b"/":
        yield path


def path_and_words(data: bytes) -> tuple[bytes, bool, dict[str, Any]]:
    """The path, whether it is a folder's, and all values in the request. Raises Refusal."""
    try:
        said = json.loads(data)
        path = urllib.parse.unquote_to_bytes(said["path"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refusal(400, "That is not how an upload begins.") from None
    names = path.strip(b"/").split(b"/")
    for name in names:
        if name in (b"", b".", b"..") or b"\0" in name or is_temporary(name) or len(name) > 255:
            raise Refusal(400, f"{plain(name) or 'Nothing'}: this cannot be the name of a file.")
    return b"/" + b"/".join(names), said.get("folder") is True, said


def wish_of(path: bytes, said: dict[str, Any]) -> Wish:
    """The upload that a request announces. Raises Refusal."""
    size, modified, existing = said.get("size"), said.get("modified"), said.get("existing", KEEP)
    is_known = existing in (ASK, KEEP, REPLACE, SKIP)
    if type(size) is not int or not 0 <= size <= MOST_SIZE or not is_known:
        raise Refusal(400, "That is not how an upload begins.")
    is_time = type(modified) is int and 0 <= modified < 1 << 32
    return Wish(path, size, modified if is_time else None, existing)
