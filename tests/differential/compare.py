"""One sequence of requests, two servers, two trees: where do they part?

The reference gets the path of its root before every absolute path, and so does ours unless it is a jail,
whose `/` is the root already; what they answer is brought back to `/` the same way. Not compared: status
messages, the order of a directory's entries, handles as bytes, times within seconds of now, the free space
of statvfs, and how many handles a server allows.
"""

import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tests.support.paths import IN_MEMORY
from tests.support.processes import command

from . import packets, twins
from .intended import INTENDED, Situation
from .model import BOGUS_HANDLES, LAYOUTS, NO_HANDLE, Handle, OpenHandle, Step
from .packets import Attributes, BadReply, Entry, Reply
from .session import Session, SessionEnded

ENTRY_LIMIT = 1000  # NAME replies to one reading of a directory, before it is called endless
_STATVFS_STABLE = (0, 1, 2, 8, 9, 10)  # bsize frsize blocks fsid flag namemax; not what is free
# Which of an extended reply's uint64s must agree. Of limits, the number of handles is each server's own.
_STABLE_FIELDS = {
    "statvfs@openssh.com": _STATVFS_STABLE,
    "fstatvfs@openssh.com": _STATVFS_STABLE,
    "limits@openssh.com": (0, 1, 2),
}
_REPLIES_WITH_PATHS = ("realpath", "readlink", "expand-path@openssh.com", "home-directory")
_CHANGING_NAMES = frozenset(
    ("rename", "posix-rename@openssh.com", "rmdir", "remove", "symlink", "hardlink@openssh.com")
)
_ENCODERS: dict[str, Callable] = {
    "u32": packets.u32,
    "u64": packets.u64,
    "string": packets.string,
    "attrs": packets.attrs,
}


def sftp_server() -> str:
    """OpenSSH's sftp-server: `PYSFTP_REFERENCE`, or where distributions put it."""
    places = (
        "/usr/lib/openssh/sftp-server",  # Debian
        "/usr/libexec/openssh/sftp-server",  # Fedora
        "/usr/lib/ssh/sftp-server",  # Arch, SUSE
        "/usr/libexec/sftp-server",  # BSDs
    )
    named = os.environ.get("PYSFTP_REFERENCE")
    for place in (named,) if named else places:
        if os.access(place, os.X_OK):
            return place
    raise RuntimeError("these tests need sftp-server: apt-get install openssh-sftp-server")


class Server(NamedTuple):
    """A program to compare: its command line without arguments, and whether it is a jail."""

    program: tuple[str, ...]
    jailed: bool = False

    @property
    def name(self) -> str:
        return os.path.basename(self.program[-1])

    def argv(self, root: Path, flags: Sequence[str]) -> list[str]:
        """The command line that serves `root`."""
        place = (str(root),) if self.jailed else ("-e", "-d", str(root))
        return [*self.program, *flags, *place]


REFERENCE = Server((sftp_server(),))
DROP_IN = Server(tuple(command("pysftpserver")))
JAIL = Server(tuple(command("pysftpjail")), jailed=True)


class Side:
    """One of the two: a server, its twin, and the paths between them."""

    def __init__(self, server: Server, outer: Path, flags: Sequence[str]) -> None:
        self.server = server
        self.outer = outer
        self.root = outer / "tree"
        twins.plant(self.root)
        self._flags = flags
        self.session = self.start()
        try:
            self.version, self.extensions = self.session.hello()
        except (SessionEnded, BadReply) as error:
            self.session.end()
            log = self.session.log.decode(errors="replace")
            raise SessionEnded(f"{server.name} does not start: {error}\n{log}") from error

    def start(self) -> Session:
        """A new session on this twin, without INIT."""
        return Session(self.server.argv(self.root, self._flags), self.root)

    def outgoing(self, path: bytes) -> bytes:
        """A path of the sequence as this server must get it."""
        return bytes(self.root) + path if path.startswith(b"/") and not self.server.jailed else path

    def incoming(self, path: bytes) -> bytes:
        """A path that this server answered, as the sequence would have it."""
        if not self.server.jailed:
            for prefix, name in ((bytes(self.root), b""), (bytes(self.outer), b"/..")):
                if path == prefix or path.startswith(prefix + b"/"):
                    return name + path[len(prefix) :] or b"/"
        return path


class Disagreement(Exception):
    """The servers, or their trees, differ; the text says where."""


class Pair:
    """The reference and a candidate on fresh twins."""

    def __init__(self, candidate: Server, flags: Sequence[str] = ()) -> None:
        self._directory = Path(os.path.realpath(tempfile.mkdtemp(prefix="twins-", dir=IN_MEMORY)))
        self._umask = os.umask(0o022)
        self.clock = twins.Clock()
        self.jailed = candidate.jailed
        self._open: list[OpenHandle] = []
        self._closed: list[OpenHandle] = []
        self.sides: tuple[Side, ...] = ()
        try:
            # Names of the same length, so that even the sizes of absolute symlinks agree.
            for server, name in ((REFERENCE, "reference"), (candidate, "candidate")):
                self.sides += (Side(server, self._directory / name, flags),)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Pair":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.end()
        os.umask(self._umask)
        twins.uproot(self._directory)

    def end(self) -> tuple[int, ...]:
        """End both sessions; gives their exit statuses."""
        return tuple(side.session.end() for side in self.sides)

    # One step

    def take(self, step: Step) -> Reply | None:
        """Send one step to both and compare; gives our reply, None if the step cannot be compared.

        Raises:
            Disagreement: they differ.
        """
        if not self._is_comparable(step):
            return None
        chosen = [self._choose(value) for value in step.arguments if isinstance(value, Handle)]
        if step.request == "copy-data" and _feeds_itself(step, chosen):
            return None
        names = [known.names for known in chosen]
        live = tuple(known if known in self._open else None for known in chosen)
        situation = Situation(step, live, self.sides[0].root, self.jailed)
        row = next((row for row in INTENDED if row.applies(situation)), None)
        if row is not None and row.instead is None:
            if self.sides[1].server is REFERENCE:
                return None
            reply = self._ask(1, step, names)
            if row.ours is not None and (reply.kind, reply.content) != ("status", row.ours):
                expected = packets.STATUS_NAMES[row.ours]
                raise Disagreement(
                    f"{step}\n  ours: {reply}\n  expected of ours: {expected}: {row.difference}"
                )
            if reply.kind == "handle":
                self.sides[1].session.ask(packets.REQUEST_TYPES["close"], packets.string(reply.content))
            return reply
        for_reference = row.instead(step) if row is not None and row.instead is not None else step
        replies = self._ask(0, for_reference, names), self._ask(1, step, names)
        difference = self._difference(step, *replies)
        if difference:
            raise Disagreement(
                f"{step}\n  {difference}\n  reference: {replies[0]}\n  ours:      {replies[1]}"
            )
        self._remember(step, replies, names)
        return replies[1]

    def ask_reference(self, steps: Iterable[Step]) -> Reply:
        """Send steps to the reference alone, whatever is intended; gives the last reply.

        Raises:
            SessionEnded: it ended, or did not answer.
        """
        for step in steps:
            names = [self._choose(value).names for value in step.arguments if isinstance(value, Handle)]
            reply = self.sides[0].session.ask(*self._encode(0, step, names))
            self._remember(step, (reply, reply), names)
        return reply

    def _is_comparable(self, step: Step) -> bool:
        root = self.sides[0].root
        levels = 0 if self.jailed else 1
        if any(b"\0" not in path and twins.climbs(root, path, levels) for path in step.paths):
            return False
        if step.request in _CHANGING_NAMES:
            # A jail's root cannot be moved or removed; the reference's, an ordinary directory, can.
            return not any(path.startswith(b"/") and not path.strip(b"/") for path in step.paths)
        return not self._locks_out(step)

    def _locks_out(self, step: Step) -> bool:
        """Whether a step takes a right from the way to the start directory, or from the way to itself.

        The reference stays in its start directory, and looks a path up anew for each attribute; ours goes
        there by path or descriptor, and sets them all on what it found. To root it is all the same.
        """
        if step.request not in ("setstat", "fsetstat", "lsetstat@openssh.com"):
            return False
        attributes = step.argument("attrs")
        if attributes.permissions is None and attributes.owner is None:
            return False
        root = self.sides[0].root
        inodes = {directory.stat().st_ino for directory in (root, self.sides[0].outer)}
        if step.request == "fsetstat":
            return self._choose(step.arguments[0]).inode in inodes
        path = step.paths[0]
        if path.endswith((b"/.", b"/..")):
            return True
        try:
            return bool(path) and os.stat(bytes(root) + b"/" + path).st_ino in inodes
        except (OSError, ValueError):
            return False

    def _choose(self, handle: Handle) -> OpenHandle:
        """What a symbolic handle stands for now."""
        if handle.kind == "bogus":
            name = BOGUS_HANDLES[handle.number % len(BOGUS_HANDLES)]
            return OpenHandle("none", (name, name))
        pool = self._closed if handle.kind == "closed" else self._open
        matching = [known for known in pool if handle.kind in ("closed", known.kind)]
        if not matching:
            return NO_HANDLE
        known = matching[handle.number % len(matching)]
        # Servers may use the name of a closed handle again, and not both at the same time.
        in_use = any(live.names[side] == known.names[side] for live in self._open for side in (0, 1))
        return NO_HANDLE if handle.kind == "closed" and in_use else known

    def _ask(self, number: int, step: Step, names: Sequence[tuple[bytes, bytes]]) -> Reply:
        side = self.sides[number]
        try:
            if step.request == "readdir":
                return _whole_listing(side.session, names[0][number])
            kind, body = self._encode(number, step, names)
            return side.session.ask(kind, body)
        except (SessionEnded, BadReply) as error:
            who = ("the reference", "ours")[number]
            side.session.end()
            log = side.session.log.decode(errors="replace")
            raise Disagreement(f"{step}\n  {who}: {error}\n  stderr: {log}") from error

    def _encode(self, number: int, step: Step, names: Sequence[tuple[bytes, bytes]]) -> tuple[int, bytes]:
        if step.request == "raw":
            return step.arguments
        handles = iter(names)
        body = b""
        for layout, value in zip(LAYOUTS[step.request], step.arguments, strict=True):
            if layout == "handle":
                body += packets.string(next(handles)[number])
            elif layout in ("path", "target"):
                body += packets.string(self.sides[number].outgoing(value))
            else:
                body += _ENCODERS[layout](value)
        kind = packets.REQUEST_TYPES.get(step.request)
        if kind is None:
            return packets.EXTENDED, packets.string(step.request.encode()) + body
        return kind, body

    def _remember(self, step: Step, replies: Sequence[Reply], names: Sequence[tuple[bytes, bytes]]) -> None:
        if replies[0].kind == "handle":
            kind = "directory" if step.request == "opendir" else "file"
            opened = os.stat(self.sides[0].root / os.fsdecode(step.paths[0].lstrip(b"/")))
            issued = replies[0].content, replies[1].content
            self._open.append(OpenHandle(kind, issued, step, opened.st_ino, stat.S_ISDIR(opened.st_mode)))
        elif step.request == "close" and replies[0].content == packets.OK:
            closed = next(known for known in self._open if known.names == names[0])
            self._open.remove(closed)
            self._closed.append(closed)

    # Comparing

    def _difference(self, step: Step, reference: Reply, ours: Reply) -> str:
        """What is different in two replies, empty if nothing."""
        if reference.kind != ours.kind:
            return "different kinds of reply"
        if reference.kind == "handle":
            return ""
        if reference.kind == "name" and step.request in _REPLIES_WITH_PATHS:
            return self._path_difference(reference.content, ours.content)
        if reference.kind == "name":
            return self._listing_difference(reference.content, ours.content)
        if reference.kind == "attrs":
            return self._attributes_difference(reference.content, ours.content)
        stable = _STABLE_FIELDS.get(step.request)
        if stable and reference.kind == "extended":
            one, other = _numbers(reference.content), _numbers(ours.content)
            same = len(one) == len(other) and all(one[place] == other[place] for place in stable)
            return "" if same else f"different numbers: {one} and {other}"
        return "" if reference.content == ours.content else f"different {reference.kind}"

    def _path_difference(self, reference: Sequence[Entry], ours: Sequence[Entry]) -> str:
        names = [
            [side.incoming(entry.name) for entry in entries]
            for side, entries in zip(self.sides, (reference, ours), strict=True)
        ]
        if names[0] != names[1]:
            return f"different paths: {names[0]} and {names[1]}"
        for one, other in zip(reference, ours, strict=True):
            if other.attributes != one.attributes:
                return "different attributes"
            if (one.longname == one.name) != (other.longname == other.name):
                return "different longnames"
        return ""

    def _attributes_difference(self, reference: Attributes, ours: Attributes) -> str:
        for field, one, other in zip(Attributes._fields, reference, ours, strict=True):
            if one == other:
                continue
            if field == "times" and one and other and self._times_agree(reference, ours):
                continue
            return f"different {field}"
        return ""

    def _times_agree(self, reference: Attributes, ours: Attributes) -> bool:
        (one_accessed, one_modified), (other_accessed, other_modified) = reference.times, ours.times
        if not self.clock.agree(one_modified, other_modified):
            return False
        if self.clock.agree(one_accessed, other_accessed):
            return True
        # Whoever looks up a path through a link has accessed it, and so has this test; and the attributes
        # of "." in a listing may be from before or after the directory was read.
        mode = reference.permissions or 0
        fresh = self.clock.is_fresh(one_accessed) or self.clock.is_fresh(other_accessed)
        return fresh and (stat.S_ISLNK(mode) or stat.S_ISDIR(mode))

    def _listing_difference(self, reference: Sequence[Entry], ours: Sequence[Entry]) -> str:
        left, right = ({entry.name: entry for entry in entries} for entries in (reference, ours))
        if len(left) != len(reference) or len(right) != len(ours) or left.keys() != right.keys():
            names = sorted(entry.name for entry in reference), sorted(entry.name for entry in ours)
            return f"different names: {names[0]} and {names[1]}"
        for name, one in left.items():
            other = right[name]
            if self.jailed and name == b".." and other.attributes == right[b"."].attributes:
                continue  # the parent of a jail's root is the root
            difference = self._attributes_difference(one.attributes, other.attributes)
            if not difference and self._columns(one) != self._columns(other):
                difference = "different longnames"
            if difference:
                return f"{difference} of {name!r}: {one} and {other}"
        return ""

    def _columns(self, entry: Entry) -> tuple[bytes, bytes]:
        """The longname without its name and, if that is about now, without its date."""
        if not entry.longname.endswith(b" " + entry.name):
            return entry.longname, b"the name is not at the end"
        columns = entry.longname[: -len(entry.name) - 1]
        front, date = columns[:-12], columns[-12:]
        times = entry.attributes.times
        return front, b"now" if times and self.clock.is_fresh(times[1]) else date

    def finish(self) -> None:
        """End both sessions and compare the trees.

        Raises:
            Disagreement: they differ.
        """
        self.end()
        trees = [twins.snapshot(side.root if self.jailed else side.outer, side.root) for side in self.sides]
        lines = twins.tree_differences(*trees, self.clock)
        if lines:
            raise Disagreement("the trees differ:\n  " + "\n  ".join(lines))


def _feeds_itself(step: Step, handles: Sequence[OpenHandle]) -> bool:
    """Whether copy-data to the end copies a file to itself, by another name, and so never gets there."""
    to_the_end = step.argument("u64", 1) == 0
    source, target = handles
    return to_the_end and source is not target and source.inode == target.inode != 0


def _numbers(body: bytes) -> list[int]:
    """The uint64s that an extended reply consists of."""
    reader = packets.Reader(body)
    numbers = [reader.u64() for _ in range(len(body) // 8)]
    reader.finish()
    return numbers


def _whole_listing(session: Session, handle: bytes) -> Reply:
    """All entries that are left, if any; otherwise the status."""
    entries: list[Entry] = []
    for _ in range(ENTRY_LIMIT):
        reply = session.ask(packets.REQUEST_TYPES["readdir"], packets.string(handle))
        if reply.kind != "name":
            at_end = (reply.kind, reply.content) == ("status", packets.EOF)
            return Reply("name", tuple(entries)) if entries and at_end else reply
        if not reply.content:
            raise BadReply("a NAME reply to READDIR without a name")
        entries.extend(reply.content)
    raise BadReply("READDIR does not come to an end")


def run(candidate: Server, steps: Iterable[Step]) -> None:
    """Send a whole sequence to the reference and a candidate, and compare replies and trees.

    Raises:
        Disagreement: they differ. Its text says which step it was.
    """
    with Pair(candidate) as pair:
        for count, step in enumerate(steps, 1):
            try:
                pair.take(step)
            except Disagreement as error:
                raise Disagreement(f"step {count}: {error}") from None
        pair.finish()


def disagreement(candidate: Server, steps: Iterable[Step]) -> str | None:
    """What `run` says, None if all agree."""
    try:
        run(candidate, steps)
    except Disagreement as error:
        return str(error)
    return None


def minimal(candidate: Server, steps: Sequence[Step], attempts: int = 300) -> tuple[list[Step], str]:
    """A shorter sequence that still disagrees, by leaving out ever smaller pieces; and how it disagrees.

    Any disagreement counts, not only the one found first: what matters is a short sequence to look at.
    """
    best = list(steps)
    text = disagreement(candidate, best) or "no disagreement when tried again"
    size = len(best) // 2
    while size and attempts:
        at = 0
        while at < len(best) and attempts:
            shorter = best[:at] + best[at + size :]
            attempts -= 1
            found = disagreement(candidate, shorter) if shorter else None
            if found:
                best, text = shorter, found
            else:
                at += size
        size //= 2
    return best, text
