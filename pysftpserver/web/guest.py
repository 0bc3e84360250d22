"""One request of a visitor with a shared link, which reads or stores files.

What may not enter: who holds a link, what pages look like.
"""

from __future__ import annotations

import contextlib
import posixpath
import time

from pysftpserver.http import ProtocolError
from pysftpserver.http.files import FileProblem, as_problems
from pysftpserver.pysftpexceptions import SFTPSessionEnd
from pysftpserver.service.throttle import network_of
from pysftpserver.web import downloads, guestpages, zipping
from pysftpserver.web.html import count_text, message, plain
from pysftpserver.web.multipart import Malformed, boundary_of, form_parts
from pysftpserver.web.wire import TEXT, Refusal, Reply, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from pysftpserver.service.audit import DoorAudit
    from pysftpserver.web.confined import ConfinedTree
    from pysftpserver.web.crowding import Crowd
    from pysftpserver.web.files import Entry
    from pysftpserver.web.html import Markup
    from pysftpserver.web.shares import Share, Shares
    from pysftpserver.web.wire import Request

NOT_THERE = "There is nothing here, or no longer. Ask the person who sent you the link for another one."
MOST_ZIPPED = 10_000  # files and folders in one zip
ZIPS_OF_NETWORK, ZIPS_OF_SHARE = 2, 4  # at the same time
MOST_LISTED = 20  # names of files that were received
PIECE = 131072  # bytes of an upload that are received at once


class Guest:
    """A request of a visitor with a link.

    tree: for this request alone. audit: of the user who made the link. closing: closed with the reply.
    """

    def __init__(
        self,
        request: Request,
        shares: Shares,
        share: Share,
        tree: ConfinedTree,
        crowd: Crowd,
        audit: DoorAudit,
        closing: contextlib.ExitStack,
    ) -> None:
        self.request, self.crowd, self.audit = request, crowd, audit
        self.shares, self.share, self.tree, self.closing = shares, share, tree, closing
        self._network = network_of(request.address)

    def note(self, what: str, path: bytes, error: FileProblem | None = None, **details: Any) -> None:
        """Write a record into the audit log. Raises Refusal if that fails."""
        result = "OK" if error is None else error.result
        try:
            self.audit.note(what, result, path=path, share=self.share.id, **details)
        except SFTPSessionEnd:
            raise Refusal(503, "This cannot be recorded now, and is not done; try again later.") from None

    # --- to read --------------------------------------------------------------------------------------

    def read(self, below: bytes) -> Reply:
        """A page or a download. below: the path after the link. Raises Refusal, FileProblem."""
        self.request.allow("GET", "HEAD")
        root = self._entry(self.share.path)
        if root.is_directory:
            found = root if not below else self._entry(self.tree.within(below))
        elif not below:
            found = root
        elif below == self._name(root):
            return self._send(root)
        else:
            raise Refusal(404, NOT_THERE)
        if found.is_file and root.is_directory:
            if below.endswith(b"/"):
                raise Refusal(404, NOT_THERE)
            return self._send(found)
        if found.is_directory and below and not below.endswith(b"/"):
            return Reply(b"", 308, [("Location", quoted(self.request.place + self.request.path) + "/")])
        if "zip" in self.request.query() and found.is_directory:
            return self._send_zip(found)
        if self.share.is_spent:
            raise Refusal(404, NOT_THERE)
        if found.is_directory:
            name = self.share.name if not below else found.name
            return guestpages.folder(self.request, name, self.tree.entries(found.path), below != b"")
        return guestpages.file(self.request, found, self._name(found))

    def _entry(self, path: bytes) -> Entry:
        found = self.tree.find(path)
        if found is None or not (found.is_file or found.is_directory):
            raise Refusal(404, NOT_THERE)
        return found

    def _name(self, entry: Entry) -> bytes:
        return entry.name or b"file"

    def _send(self, entry: Entry) -> Reply:
        moved: list[int] = []  # by sendfile(2), which leaves no pieces to be counted
        reply = downloads.download(self.request, self.tree, entry, moved.append)
        if self.request.method == "HEAD" or reply.status not in (200, 206):
            return reply
        what = b"%b|%d|%d" % (entry.path, entry.size, entry.mtime or 0)
        length = reply.length or 0
        return self._counted(reply, entry, what, entry.size, length, reply.status == 206, moved)

    def _send_zip(self, entry: Entry) -> Reply:
        if self.share.is_spent:
            raise Refusal(404, NOT_THERE)
        if self.request.method == "HEAD":
            return Reply([], 200, kind="application/zip")
        self.closing.callback(
            self.crowd.enter(
                (("zip", self._network), ZIPS_OF_NETWORK), (("zip", self.share.id), ZIPS_OF_SHARE)
            )
        )
        reply = zipping.zip_reply(self.tree, [entry.path], most=MOST_ZIPPED)
        return self._counted(reply, entry, b"zip", 0, 0, False)

    def _counted(
        self,
        reply: Reply,
        entry: Entry,
        what: bytes,
        size: int,
        length: int,
        is_range: bool,
        moved: Sequence[int] = (),
    ) -> Reply:
        """The same reply, counted as a download, if there may be another one."""
        shares, share = self.shares, self.share
        client = f"{self._network}|{self.request.header('User-Agent')}"
        began = time.perf_counter()
        try:
            download = shares.begin_download(share, client, what, size, length, is_range)
            if download is None:
                raise Refusal(404, NOT_THERE)
            self.note("open", entry.path)
        except BaseException:
            reply.body.close()  # type: ignore[attr-defined]
            raise

        def end(sent: int) -> None:
            sent = sent or sum(moved)
            shares.end_download(download, length - sent)
            with contextlib.suppress(Refusal):  # the log says that
                self.note("close", entry.path, size=sent, seconds=time.perf_counter() - began)

        reply.body = Counted(reply.body, end)
        return reply

    # --- to drop files into -----------------------------------------------------------------------------

    def drop(self, below: bytes) -> Reply:
        """The page to drop files, or the result of an upload. Raises Refusal, FileProblem."""
        self.request.allow("GET", "HEAD", "POST", "PUT")
        if (below != b"") != (self.request.method == "PUT") or self.share.is_spent:
            raise Refusal(404, NOT_THERE)
        root = self.tree.find(self.share.path)
        if root is None or not root.is_directory:
            raise Refusal(404, NOT_THERE)
        if self.request.method == "PUT":
            try:
                self._store(below, self._body(), self._announced())
            except (Malformed, ProtocolError):
                raise Refusal(400, "The upload broke off; try again.") from None
            return Reply(b"Received.\n", 201, kind=TEXT)
        if self.request.method == "POST":
            return self._receive()
        return guestpages.drop(self.request, self.share.user)

    def _announced(self) -> int | None:
        length: str = self.request.environ.get("CONTENT_LENGTH") or ""
        return int(length) if length.isdecimal() else None

    def _body(self) -> Iterator[bytes]:
        while piece := self.request.environ["wsgi.input"].read(PIECE):
            yield piece

    def _receive(self) -> Reply:
        environ = self.request.environ
        stored: list[bytes] = []
        said: list[Markup] = []
        try:
            for part in form_parts(environ["wsgi.input"].read, boundary_of(environ.get("CONTENT_TYPE", ""))):
                if not part.filename:
                    continue
                name = part.filename.replace(b"\\", b"/").rpartition(b"/")[2]
                try:
                    self._store(name, part.pieces, None)
                    stored.append(name)
                except FileProblem as error:
                    words = f"{plain(name)} was not received: {error}."
                    said.append(message(words, is_problem=True))
        except (Malformed, ProtocolError) as error:
            words = str(error) if isinstance(error, Malformed) else "The upload broke off; try again."
            said.append(message(words, is_problem=True))
        except Refusal:  # the maximum is reached
            if not stored:
                raise
            said.append(
                message("The other files were not received: that is all for this link.", is_problem=True)
            )
        if stored:
            names = ", ".join(plain(name) for name in stored[:MOST_LISTED])
            more = ", and others" if len(stored) > MOST_LISTED else ""
            words = count_text(len(stored), "file was received", "files were received")
            said.insert(0, message(f"{words}: {names}{more}."))
        elif not said:
            said.append(message("Choose at least one file.", is_problem=True))
        return guestpages.drop(self.request, self.share.user, said, 200 if stored else 400)

    def _store(self, sent_name: bytes, pieces: Iterable[bytes], size: int | None) -> None:
        """Store a file under a free name. size: as announced. Raises FileProblem, Refusal."""
        name = dropped_name(sent_name)
        path = posixpath.join(self.share.path, name)
        shares = self.shares
        if not shares.begin_upload(self.share):
            raise Refusal(404, NOT_THERE)
        file = None
        try:
            file = self.tree.receive(path, False)
            for piece in pieces:
                with as_problems():
                    file.write(memoryview(piece))
            if size is not None and file.size != size:
                raise Malformed("The upload broke off; try again.")
            with as_problems():
                file.commit()
        except BaseException as error:
            if file is not None:
                file.discard()
            shares.undo_upload(self.share)
            if isinstance(error, FileProblem):
                self.note("put", path, error)
            raise
        self.note("put", file.path, size=file.size)


class Counted:
    """The body of a reply. ended: called once, with the number of bytes that were taken from it."""

    def __init__(self, body: Iterable[bytes], ended: Callable[[int], None]) -> None:
        self._body = body
        self._ended: Callable[[int], None] | None = ended
        self._sent = 0

    def __iter__(self) -> Iterator[bytes]:
        before = 0
        for piece in self._body:
            self._sent += before  # the last piece may not have been sent
            before = len(piece)
            yield piece
        self._sent += before

    def close(self) -> None:
        """Close the body."""
        ended, self._ended = self._ended, None
        if ended is not None:
            try:
                self._body.close()  # type: ignore[attr-defined]
            finally:
                ended(self._sent)


def dropped_name(name: bytes) -> bytes:
    """The name under which a stranger's file is stored: never one that has a meaning to programs."""
    text = zipping.safe_name(name)
    return zipping.shortened("_" + text if text[:1] in ".-~" else text, zipping.LONGEST).encode()
