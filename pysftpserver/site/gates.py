"""Gates, which are asked about a file before it is visible under its name, and their answers.

clamd is asked with its INSTREAM command, an administrator's program by the protocol below; limits are checked
directly. Only accept lets a file in: a missing, late or invalid answer rejects it. What may not enter: where
files wait (staging.py), sessions.

The protocol of `ask`, over a Unix socket, one connection for each file: a line of JSON (version, path, size,
user, groups, address, session), then size bytes of content. The answer is a line of JSON, such as
{"verdict": "reject", "words": "no such customer"}; verdict is accept, reject or quarantine. It may be sent
before all of the content has been read.
Facts: clamd(8), section COMMANDS; unix(7).
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import select
import socket
import struct
import time

from pysftpserver.failures import BadInput, one_line
from pysftpserver.host import watch
from pysftpserver.pysftpexceptions import SFTPForbidden
from pysftpserver.site import magic
from pysftpserver.site.patterns import Pattern, Patterns, filled, names_of, place_of, text_of
from pysftpserver.site.who import is_meant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pysftpserver.site.file import Entry, Site
    from pysftpserver.site.who import Who

ACCEPT, REJECT, QUARANTINE = "accept", "reject", "quarantine"
VERDICTS = (ACCEPT, REJECT, QUARANTINE)
LONGEST_ANSWER = 64 << 10  # bytes
LOOK = 5.0  # seconds of waiting for a connection between two checks whether the session is over
LONGEST_WORDS = 200  # characters, for the client
VERSION = 1  # of the protocol of `ask`


class Verdict:
    """An answer. kind: one of VERDICTS. words: for the client."""

    __slots__ = ("kind", "words")

    def __init__(self, kind: str, words: str = "") -> None:
        self.kind, self.words = kind, one_line(words)[:LONGEST_WORDS]

    def __repr__(self) -> str:
        return f"Verdict({self.kind!r}, {self.words!r})"


class Rejected(SFTPForbidden):
    """A file was not let in. verdict: why. path: that it would have had."""

    is_rejection = True  # for events: each rejection is reported

    def __init__(self, verdict: Verdict, path: bytes) -> None:
        super().__init__(f"Not accepted: {verdict.words or 'no reason was given'}")
        self.verdict, self.path = verdict, path


class Away(Exception):
    """A gate could not be reached."""


class Failed(Exception):
    """A gate was reached, but gave no valid answer. The file is never let in."""


class Candidate:
    """A file that waits for its name. path: with that name. names: to be checked by limits. size: in bytes.

    pieces: yields the content from its beginning, each time it is called.
    """

    def __init__(
        self, path: bytes, names: tuple[str, ...], size: int, pieces: Callable[[], Iterator[bytes]], who: Who
    ) -> None:
        self.path, self.names, self.size, self.pieces, self.who = path, names, size, pieces, who


# --- what can be asked --------------------------------------------------------------------------------


class Talk:
    """A connection to a gate. timeout: seconds, for each step and for the answer. Raises Away, Failed."""

    def __init__(self, path: str, timeout: float) -> None:
        self._timeout = timeout
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._connect(path)
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._heed()

    def _connect(self, path: str) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            left = max(0.0, deadline - time.monotonic())
            # Without this option, connect() fails at once if too many others wait (unix(7), EAGAIN).
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(min(left, LOOK)))
            try:
                self._socket.connect(path)
                return
            except BlockingIOError as error:  # the gate is running
                if left <= LOOK or watch.is_over():
                    raise Failed("too many wait for it") from error
            except OSError as error:
                raise Away from error

    def _heed(self) -> None:
        """Also wait for the end of this thread's session."""
        self._poll = select.poll()
        self._watch = watch.here.watch
        for descriptor, events in self._watch.descriptors.items() if self._watch is not None else ():
            self._poll.register(descriptor, events)

    def send(self, data: bytes) -> bool:
        """Send all data; False if the other side has answered or hung up first. Raises Failed."""
        left = memoryview(data)
        while left:
            if self._wait(select.POLLIN | select.POLLOUT, self._timeout) & ~select.POLLOUT:
                return False
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                pass
            except OSError:
                return False
        return True

    def answer(self, end: bytes) -> bytes:
        """The answer, up to end. Raises Failed."""
        deadline = time.monotonic() + self._timeout
        found = b""
        while end not in found:
            self._wait(select.POLLIN, deadline - time.monotonic())
            try:
                piece = self._socket.recv(LONGEST_ANSWER)
            except OSError as error:
                raise Failed("no answer") from error
            found += piece
            if not piece or len(found) > LONGEST_ANSWER:
                raise Failed("no answer" if not piece else "too long an answer")
        said, _, more = found.partition(end)
        if more:
            raise Failed("more than one answer")
        return said

    def _wait(self, events: int, seconds: float) -> int:
        self._poll.register(self._socket, events)
        deadline = time.monotonic() + seconds
        while self._watch is None or not self._watch.is_over():
            ready = dict(self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
            if self._socket.fileno() in ready:
                return ready[self._socket.fileno()]
            if not ready or self._watch is None:
                raise Failed("no answer in time")
            self._watch.look()
        raise Failed("the session is over")

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _timeval(seconds: float) -> bytes:
    """A struct timeval (socket(7), SO_SNDTIMEO), never zero, which would mean no limit."""
    return struct.pack("ll", int(seconds), max(1, int(seconds % 1 * 1_000_000)))


def ask_clamd(path: str, candidate: Candidate, timeout: float) -> Verdict:
    """Ask clamd to scan a file. Raises Away, Failed."""
    is_sent = False
    with Talk(path, timeout) as talk:
        if talk.send(b"zINSTREAM\0"):
            for piece in candidate.pieces():
                if not talk.send(len(piece).to_bytes(4, "big") + piece):
                    break  # for example, the file is larger than it accepts
            else:
                is_sent = talk.send(bytes(4))
        verdict = clamd_verdict(talk.answer(b"\0"))
    if verdict.kind == ACCEPT and not is_sent:
        raise Failed("an answer before the end of the file")
    return verdict


def clamd_verdict(answer: bytes) -> Verdict:
    """The verdict in an answer of clamd. Raises Failed for one that is not about the file."""
    said = answer.decode(errors="replace").strip()
    if said == "stream: OK":
        return Verdict(ACCEPT)
    if said.startswith("stream: ") and said.endswith(" FOUND"):
        return Verdict(QUARANTINE, f"the scanner found {said[8:-6]}")
    if said.startswith("INSTREAM size limit exceeded"):
        return Verdict(REJECT, "larger than the scanner takes")
    raise Failed("an error of the scanner")


def ask_program(path: str, candidate: Candidate, timeout: float) -> Verdict:
    """Ask an administrator's program. Raises Away, Failed."""
    who = candidate.who
    question = {
        "version": VERSION,
        "path": text_of(candidate.path),
        "size": candidate.size,
        "user": who.user,
        "groups": who.groups,
        "address": who.address,
        "session": who.session,
    }
    left = candidate.size
    with Talk(path, timeout) as talk:
        if talk.send(json.dumps(question).encode() + b"\n"):
            for piece in candidate.pieces():
                left -= len(piece)
                if left < 0 or not talk.send(piece):
                    break
            else:
                if left:
                    raise Failed("the file became shorter")
            if left < 0:
                raise Failed("the file became longer")
        return program_verdict(talk.answer(b"\n"))


def program_verdict(answer: bytes) -> Verdict:
    """The verdict in a program's answer. Raises Failed for an invalid one."""
    try:
        said = json.loads(answer.decode(), object_pairs_hook=_only_once)
    except (ValueError, RecursionError):
        raise Failed("an answer that is not JSON") from None
    kind, words = (said.get("verdict"), said.get("words", "")) if type(said) is dict else (None, "")
    if type(kind) is not str or kind not in VERDICTS or type(words) is not str:
        raise Failed("an answer without a verdict")
    return Verdict(kind, words)


def _only_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON. Raises ValueError if it has a key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


class Limit:
    """Limits for a file. found: the value in the site file. Raises ValueError as filled() does."""

    def __init__(self, found: dict[str, object], who: Who) -> None:
        self._size, self._magic = found["size"], found["magic"]
        patterns: tuple[str, ...] = found["pattern"] or ()  # type: ignore[assignment]
        texts = [one for text in patterns for one in filled(text, who)]
        self._patterns = [re.compile(fnmatch.translate(text.lower())) for text in texts]
        self._shown = ", ".join(patterns)

    def of_names(self, names: tuple[str, ...]) -> Verdict:
        """Whether a file may have one of these names."""
        if self._shown and not any(one.match(name.lower()) for one in self._patterns for name in names):
            return Verdict(REJECT, f"names have to be like {self._shown}")
        return Verdict(ACCEPT)

    def of(self, candidate: Candidate) -> Verdict:
        """Whether a file is within the limits."""
        if type(self._size) is int and candidate.size > self._size:
            return Verdict(REJECT, f"larger than {self._size} bytes")
        kinds: tuple[str, ...] = self._magic or ()  # type: ignore[assignment]
        if kinds:
            beginning = b""
            for piece in candidate.pieces():
                beginning += piece
                if len(beginning) >= magic.LONGEST_LOOK:
                    break
            if not any(magic.is_kind(kind, beginning[: magic.LONGEST_LOOK]) for kind in kinds):
                return Verdict(REJECT, f"the content has to be {' or '.join(kinds)}")
        return self.of_names(candidate.names)


# --- the gates of a site ------------------------------------------------------------------------------


class Gate:
    """A gate, as it applies to one user. Raises ValueError if a field in its paths has no value."""

    def __init__(self, entry: Entry, who: Who) -> None:
        self.patterns: list[Pattern] = Patterns(entry.path, who).patterns
        self._limit = None if entry.limit is None else Limit(entry.limit, who)
        self._asked = [
            (ask, path)
            for ask, path in ((ask_clamd, entry.clamd), (ask_program, entry.ask))
            if path is not None
        ]
        self._timeout: float = entry.timeout
        self._when_away: str = entry.or_
        self.quarantine: bytes | None = None
        if entry.quarantine is not None:
            self.quarantine = os.fsencode(place_of(entry.quarantine, who))

    def of_names(self, names: tuple[str, ...]) -> Verdict:
        """The verdict of its limits on new names of a file that it has let in."""
        return Verdict(ACCEPT) if self._limit is None else self._limit.of_names(names)

    def verdict(self, candidate: Candidate) -> Verdict:
        """Its verdict on a file. Raises the exceptions of reading the file."""
        found = Verdict(ACCEPT) if self._limit is None else self._limit.of(candidate)
        for ask, path in self._asked:
            if found.kind != ACCEPT:
                break
            try:
                found = ask(path, candidate, self._timeout)
            except Away:
                if self._when_away != ACCEPT:
                    found = Verdict(REJECT, "what has to look at files is away; try again later")
            except Failed as error:
                found = Verdict(REJECT, f"what has to look at files failed: {error}")
        if found.kind == QUARANTINE and self.quarantine is None:
            return Verdict(REJECT, found.words)
        return found


class Gates:
    """The gates of a site that apply to one user. Raises BadInput if a field in a path has no value."""

    def __init__(self, site: Site, who: Who) -> None:
        self.who = who
        try:
            self.gates = [Gate(one, who) for one in site.gates if is_meant(who, one.users, one.groups)]
        except ValueError as error:
            raise BadInput(f"{site.file}: {error}") from None

    def of(self, path: bytes) -> tuple[Gate, ...]:
        """The gates in front of a canonical path."""
        names = names_of(text_of(path))
        return tuple(gate for gate in self.gates if any(one.matches(names) for one in gate.patterns))

    def are_evaded(self, path: bytes) -> bool:
        """Whether a link at a path could lead past gates in front of the path, or of anything below it."""
        names = names_of(text_of(path))
        return any(pattern.is_evaded(names) for gate in self.gates for pattern in gate.patterns)

    def differ(self, old: bytes, new: bytes) -> bool:
        """Whether the new path, or anything below it, has gates that the old path does not have."""
        olds, news = names_of(text_of(old)), names_of(text_of(new))
        for gate in self.gates:
            for pattern in gate.patterns:
                is_asked = pattern.matches(news) or pattern.reaches_below(news)
                if is_asked and pattern.states(olds) != pattern.states(news):
                    return True
        return False
