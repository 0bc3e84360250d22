"""WebDAV below /dav/: checks who asks, chooses the method, and turns problems into replies.

The methods are in dav_files.py (bodies), dav_names.py (directories, copies, locks) and dav_listing.py
(properties). It does not use WsgiDAV, which was measured: that names a file before its content has arrived,
keeps the part that has arrived when the client vanishes, builds listings in memory (10,000 entries: 117 MiB,
2.5 s of processor time), and does not support names that are not UTF-8.
What may not enter: concrete storages. Facts: RFC 4918, RFC 9110, RFC 4331; Fetch Metadata Request Headers.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sqlite3
import threading
import time
import urllib.parse

from pysftpserver.http.files import FileProblem
from pysftpserver.uploads.temporary import is_temporary
from pysftpserver.web import dav_files, dav_listing, dav_names
from pysftpserver.web.dav_conditions import If, check, etag_of
from pysftpserver.web.dav_dead import DeadProperties
from pysftpserver.web.dav_locks import Locked, Locks, TooManyLocks, parent_of
from pysftpserver.web.dav_problems import DavRefusal, problem_of, refusal_of, reply_of
from pysftpserver.web.dav_xml import MOST, BadXML, escaped, parse
from pysftpserver.web.downloads import Streamed
from pysftpserver.web.files import Tree
from pysftpserver.web.proxies import host_of
from pysftpserver.web.wire import Refusal, Reply, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any
    from xml.etree import ElementTree

    from pysftpserver.http.files import Target
    from pysftpserver.web.config import WebSettings
    from pysftpserver.web.files import Entry
    from pysftpserver.web.session import Session
    from pysftpserver.web.state import State
    from pysftpserver.web.welcome import Welcome
    from pysftpserver.web.wire import Request

log = logging.getLogger("pysftpserver.web")
MOUNT = b"/dav"
SWEPT = 60.0  # seconds between two looks for leftovers in a directory
MOST_SWEPT = 10_000  # directories
_PLAIN = re.compile(rb"[A-Za-z0-9._/-]*").fullmatch  # nothing in it needs quoting
READING = ("GET", "HEAD", "OPTIONS", "PROPFIND")
METHODS: dict[str, Callable[[Work], Reply]] = {
    "GET": dav_files.get,
    "HEAD": dav_files.get,
    "PUT": dav_files.put,
    "DELETE": dav_names.delete,
    "MKCOL": dav_names.make_collection,
    "COPY": dav_names.copy,
    "MOVE": dav_names.move,
    "LOCK": dav_names.lock,
    "UNLOCK": dav_names.unlock,
    "PROPFIND": dav_listing.propfind,
    "PROPPATCH": dav_listing.proppatch,
}


#: Requests in the audit log, in the words of the other doors.
WORDS = {
    "GET": "get",
    "PUT": "put",
    "DELETE": "remove",
    "MKCOL": "mkdir",
    "COPY": "copy",
    "MOVE": "rename",
    "LOCK": "lock",
    "UNLOCK": "unlock",
    "PROPPATCH": "setstat",
}


class Work:
    """One request of WebDAV: its path, its user's tree of files, and what follows from both.

    moved: bytes of content. other: the other path of a COPY or MOVE. failure: what failed in a request for
    several entries.
    """

    def __init__(
        self, part: Dav, request: Request, session: Session, tree: Tree, path: bytes, conditions: If
    ) -> None:
        self.request, self.session, self.tree, self.path = request, session, tree, path
        self.user = session.name
        self.locks, self.dead = part.locks, part.dead
        self.conditions = conditions
        self._may_sweep = part.may_sweep
        self._hosts = part.hosts(request)
        self._mount = escaped(quoted(request.place + MOUNT))
        self._scope: Any = None
        self.moved = 0
        self.other: bytes | None = None
        self.failure: FileProblem | None = None
        self._began = time.perf_counter()

    def note(self, error: FileProblem | None = None) -> None:
        """Write into the audit log what the request did."""
        word = WORDS.get(self.request.method)
        if word is None and self.request.method == "PROPFIND":
            word = "opendir" if self.request.header("Depth") == "1" else "stat"
        details = {} if self.other is None else {"target": self.other}
        seconds = time.perf_counter() - self._began
        if word is not None:
            self.session.note(word, self.path, self.moved, error or self.failure, seconds, **details)

    @property
    def scope(self) -> Any:
        """Identifies the tree for locks: the directory, which users may share, or else the user."""
        if self._scope is None:
            self._scope = self.tree.scope() or self.user
        return self._scope

    def target(self) -> Target:
        """A file to be stored at the path."""
        return self.tree.target(self.path, self._may_sweep(self.user, parent_of(self.path)))

    def check_conditions(self, entry: Entry | None) -> bool:
        """Whether the client already has what it asks for. entry: at the path. Raises Refusal(412)."""
        self.conditions.check(lambda url: self._look(url, entry))
        return check(self.request, entry)

    def _look(self, url: str, entry: Entry | None) -> tuple[str | None, set[str]]:
        path = self.path
        if url:
            try:
                path = self.path_of_url(url)
            except Refusal:
                return None, set()
            entry = self.tree.find(path)
        tokens = {lock.token for lock in self.locks.covering(self.scope, path)}
        return etag_of(entry) if entry is not None else None, tokens

    def check_locks(self, path: bytes, with_parent: bool = False, with_members: bool = False) -> None:
        """Raise Locked unless the request may change a path."""
        self.locks.check(self.scope, self.user, path, self.conditions.tokens, with_parent, with_members)

    def path_of_url(self, url: str) -> bytes:
        """The path of a URL of this part. Raises Refusal: 502 for a URL outside it."""
        try:
            found = urllib.parse.urlsplit(url)
        except ValueError:
            raise Refusal(400, "The URL is malformed.") from None
        is_whole = found.scheme in ("http", "https") and found.netloc.lower() in self._hosts
        is_path = not found.scheme and not found.netloc and url.startswith("/")
        raw = found.path.encode("latin-1", "replace")  # PEP 3333's bytes in a text
        mount = self.request.place + MOUNT
        if not (is_whole or is_path) or not (raw == mount or raw.startswith(mount + b"/")):
            raise Refusal(502, "That is not on this server.")
        if found.query or found.fragment:
            raise Refusal(400, "The URL has a query or a fragment.")
        # As the web server decodes the path of a request: an encoded slash is not a separator.
        path = b"%2F".join(
            urllib.parse.unquote_to_bytes(piece) for piece in _split(raw[len(mount) :], (b"%2F", b"%2f"))
        )
        return path_of(path)

    def href(self, path: bytes, is_directory: bool = False) -> str:
        """The URL path of a path in the storage."""
        end = "/" if is_directory and path != b"/" else ""
        return self._mount + (path.decode() if _PLAIN(path) else escaped(quoted(path))) + end

    def xml(self) -> ElementTree.Element | None:
        """The body of the request; None: it has none. Raises BadXML, Refusal."""
        body = self.request.body(MOST)
        return parse(body) if body else None

    def parent(self) -> Entry:
        """The directory that the path is in. Raises Refusal(409) if there is none."""
        found = self.tree.find(parent_of(self.path))
        if found is None or not found.is_directory:
            raise Refusal(409, "There is no directory for it.")
        return found

    def existing(self) -> Entry:
        """The entry at the path. Raises Refusal(404)."""
        found = self.tree.find(self.path)
        if found is None:
            raise Refusal(404, "There is nothing of that name.")
        return found

    def depth(self, known: tuple[str, ...], default: str) -> str:
        """The header Depth. Raises Refusal(400) for one that is not known."""
        found = self.request.header("Depth").strip().lower() or default
        if found not in known:
            raise Refusal(400, "The Depth header is not one for this method.")
        return found


def _split(text: bytes, separators: Iterable[bytes]) -> list[bytes]:
    pieces = [text]
    for separator in separators:
        pieces = [part for piece in pieces for part in piece.split(separator)]
    return pieces


def path_of(decoded: bytes) -> bytes:
    """The storage path of a decoded URL path. Raises Refusal for one that leads elsewhere."""
    names = [name for name in decoded.split(b"/") if name]
    if b"\0" in decoded or any(name in (b".", b"..") for name in names):
        raise Refusal(400, "The path has a NUL byte, or a name of dots alone.")
    if any(is_temporary(name) for name in names):
        raise Refusal(403, "Names like that are for files that are being uploaded.")
    return b"/" + b"/".join(names)


class Dav:
    """The part. It checks who asks, and that a page of another site did not make the request."""

    needs_login = False
    is_for_programs = True

    def __init__(self, values: WebSettings, welcome: Welcome, state: State) -> None:
        self._values = values
        self._welcome = welcome
        self.locks = Locks()
        self.dead = DeadProperties(state)
        self._swept: dict[tuple[str, bytes], float] = {}
        self._lock = threading.Lock()

    def may_sweep(self, user: str, directory: bytes) -> bool:
        """Whether to look for leftovers in a directory now: doing so for each upload would take long."""
        now = time.monotonic()
        with self._lock:
            if now - self._swept.get((user, directory), -SWEPT) < SWEPT:
                return False
            if len(self._swept) >= MOST_SWEPT:
                self._swept.clear()
            self._swept[user, directory] = now
        return True

    def hosts(self, request: Request) -> set[str]:
        """The hosts, with ports, by which a client may know this server."""
        ours = urllib.parse.urlsplit(self._values.url or "").netloc
        return {host.lower() for host in (request.header("Host"), ours) if host}

    def answer(self, request: Request, rest: bytes) -> Reply:
        """Answer a request of any method."""
        if request.method == "OPTIONS":
            return self._options()
        try:
            return self._answer(request, rest)
        except Refusal as refusal:
            return reply_of(refusal)

    def _options(self) -> Reply:
        """The methods. They are not secret: Windows asks before it logs in, and for the root of the host."""
        allowed = READING if self._values.read_only else ("OPTIONS", *METHODS)
        headers = [("Allow", ", ".join(allowed)), ("DAV", "1, 2"), ("MS-Author-Via", "DAV")]
        return Reply(b"", 200, headers)

    def _answer(self, request: Request, rest: bytes) -> Reply:
        method = METHODS.get(request.method)
        if method is None:
            raise Refusal(405, "There is no such method here.", [("Allow", ", ".join(("OPTIONS", *METHODS)))])
        self._check_site(request)
        session = self._welcome.of_program(request)
        if self._values.read_only and request.method not in READING:
            raise Refusal(403, "Nothing can be changed here.")
        path, conditions = path_of(rest), If(request.header("If"))
        with contextlib.ExitStack() as stack:
            tree = Tree(stack.enter_context(session.storage()))
            work = Work(self, request, session, tree, path, conditions)
            try:
                reply = self._carried_out(work, method)
            except Refusal as refusal:
                cause = refusal.__cause__
                work.note(cause if isinstance(cause, FileProblem) else problem_of(refusal))
                raise
            if isinstance(reply.body, list):
                if reply.status >= 400:
                    work.note(FileProblem(f"status {reply.status}"))
                elif request.method != "GET":  # after a GET, no content has been sent
                    work.note()
            else:
                stack.callback(work.note)
                reply.body = Streamed(reply.body, stack.pop_all().close)
        return reply

    def _carried_out(self, work: Work, method: Callable[[Work], Reply]) -> Reply:
        """The reply of a method. Raises Refusal."""
        try:
            return method(work)
        except FileProblem as problem:
            raise refusal_of(problem) from problem
        except BadXML as problem:
            raise Refusal(400, str(problem)) from None
        except Locked as locked:
            href = work.href(locked.lock.path)
            condition = f"<D:lock-token-submitted><D:href>{href}</D:href></D:lock-token-submitted>"
            raise DavRefusal(423, "It is locked.", condition) from None
        except TooManyLocks:
            raise Refusal(507, "There are too many locks; unlock something first.") from None
        except sqlite3.Error as problem:
            log.error("%s: properties cannot be kept: %s", self._values.state, problem)
            raise Refusal(503, "Properties cannot be kept now.") from None

    def _check_site(self, request: Request) -> None:
        """Refuse changes and listings that a page of another site has asked for."""
        if request.method in ("GET", "HEAD"):
            return
        site, origin = request.header("Sec-Fetch-Site"), request.header("Origin")
        is_ours = not origin or host_of(origin).lower() in self.hosts(request)
        if not is_ours or site not in ("", "same-origin", "none"):
            raise Refusal(403, "This was sent by a page of another site.")
