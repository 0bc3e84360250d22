"""The parts from which clients' scripts are made: the table of scripts, a session that plays a client, and
words for what its user would see.

What may not enter: what a particular client sends.
"""

from __future__ import annotations

import random

from pysftpserver.contract.client import NOT_FOUND, Broken, Refused, refusal_of, status_name
from pysftpserver.engine import wire
from pysftpserver.probe.clients.transfers import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.contract.client import Line

    Function = Callable[["Play"], None]

#: Where a script comes from. OBSERVED: the real client was recorded, and a test compares the two. DOCUMENTED:
#: from the client's sources.
OBSERVED, DOCUMENTED = "observed", "documented"
UPLOAD, DOWNLOAD, RESUME, SYNC, EDIT = "upload", "download", "resume", "sync", "edit"

SIZE = 300_000  # bytes of a file that clients transfer; WinSCP treats files over 100 KiB differently
PARTS = 2  # last names of a path, which its REALPATH has as well: they are the probe's
MTIME = 1_600_000_000  # of uploaded files: long ago, so that a server that does not keep times is found out
MODE = 0o640  # of the same


class Failed(Exception):
    """The client gives up, or leaves damage; the text says what its user gets."""


class Script:
    """A client at a task. basis: OBSERVED or DOCUMENTED. play: sends and reads what the client does; it
    raises Failed or Refused if the user does not get the wanted result."""

    def __init__(self, client: str, task: str, basis: str, play: Function) -> None:
        self.client = client
        self.task = task
        self.basis = basis
        self.play = play


#: In the order of the report: filled by the modules of the clients.
SCRIPTS: list[Script] = []


def script(client: str, task: str, basis: str) -> Callable[[Function], Function]:
    """Add a function to SCRIPTS."""

    def enter(play: Function) -> Function:
        SCRIPTS.append(Script(client, task, basis, play))
        return play

    return enter


class Play(Session):
    """A client at work.

    keeper: another session, which prepares the directory and checks what was done. size: of files, in bytes.
    buts: what the user would notice, each as the end of "works, but ..."; notes: what else is worth knowing.
    bytes: the content of the client's file, and of the server's file "there"; the first `half` of it is in
    the server's file "half".
    """

    def __init__(self, line: Line, keeper: Session, directory: bytes, size: int, seconds: float) -> None:
        super().__init__(line, seconds)
        self.keeper = keeper
        self.directory = directory
        self.bytes = random.Random(1).randbytes(size)
        self.half = size // 2
        self.buts: list[str] = []
        self.notes: list[str] = []

    # --- words --------------------------------------------------------------------------------------

    def but(self, text: str) -> None:
        """Add to buts: the task works, but..."""
        if text not in self.buts:
            self.buts.append(text)

    def note(self, text: str) -> None:
        """Add to notes."""
        if text not in self.notes:
            self.notes.append(text)

    def unless(self, text: str, call: Callable[..., object], *arguments: object) -> bool:
        """Send an optional request; return whether it was done. text: what the user gets if not."""
        refusal = refusal_of(call, *arguments)
        if refusal is not None:
            self.but(f"{text}, because {why(refusal)}")
        return refusal is None

    # --- as clients do ------------------------------------------------------------------------------

    def path(self, name: bytes = b"") -> bytes:
        """A path in the task's directory; without a name, the directory."""
        return self.directory + b"/" + name if name else self.directory

    def resolved(self, path: bytes) -> bytes:
        """REALPATH of a path where something will be changed. A real client would go wherever that leads; a
        script must not."""
        found = self.realpath(path)
        if found.split(b"/")[-PARTS:] != path.split(b"/")[-PARTS:]:
            raise Failed("works in the wrong directory, because REALPATH answers another one")
        return found

    def there(self, call: Callable[[bytes], SFTPAttributes], path: bytes) -> SFTPAttributes | None:
        """LSTAT or STAT; None for any refusal, as for a missing file."""
        try:
            return call(path)
        except Refused as refusal:
            if refusal.status != NOT_FOUND:
                self.note(f"{refusal}")
            return None

    def size_of(self, attributes: SFTPAttributes) -> int:
        """The size in attributes, for a client that cannot do without it."""
        if attributes.size is None:
            raise Failed("fails: the server does not say how long the file is")
        return attributes.size

    def limit(self, usual: int = 1 << 15) -> tuple[int, int]:
        """Ask limits@openssh.com if it is announced; return the longest READ and WRITE. usual: otherwise."""
        if b"limits@openssh.com" not in self.extensions:
            return usual, usual
        try:
            _, longest_read, longest_write, _ = self.limits()
        except (Refused, Broken):
            return usual, usual
        return min(longest_read or usual, wire.MAX_DATA), min(longest_write or usual, wire.MAX_DATA)

    def close_unheard(self, handle: bytes) -> None:
        """CLOSE, for a client that ignores the answer."""
        refusal = refusal_of(self.close_handle, handle)
        if refusal is not None:
            self.but(f"does not say that the file may be lost, because {why(refusal)}")

    def replace(self, old: bytes, new: bytes) -> None:
        """posix-rename@openssh.com if it is announced, or else RENAME."""
        if b"posix-rename@openssh.com" in self.extensions:
            self.posix_rename(old, new)
        else:
            self.rename(old, new)

    # --- what came of it ----------------------------------------------------------------------------

    def has(self, name: bytes, content: bytes | None = None) -> None:
        """Check that the server has this content (None: the file that clients transfer) under a name. If only
        the client's own session sees it, that is noted, and counts."""
        wanted = self.bytes if content is None else content
        problem = self._problem(self.keeper, name, wanted)
        if problem and not self._problem(self, name, wanted):
            self.note("another session does not see at once what this one has written")
        elif problem:
            raise Failed(problem)

    def _problem(self, session: Session, name: bytes, wanted: bytes) -> str:
        """What is wrong with a file, as a session sees it, or ""."""
        sent = list(self.exchanges)
        try:
            found = session.content(self.path(name), size=len(wanted))
        except Refused as refusal:
            if refusal.status == NOT_FOUND:
                return f"loses the file: {name.decode()} is not there afterwards"
            return f"leaves a file that cannot be read, because {why(refusal)}"
        finally:
            self.exchanges.clear()  # the report shows what the client asked
            self.exchanges.extend(sent)
        if len(found) != len(wanted):
            return f"damages the file: it is too {'long' if len(found) > len(wanted) else 'short'}"
        return "" if found == wanted else "damages the file: it has other bytes than were sent"

    def attributes_of(self, name: bytes) -> SFTPAttributes:
        """Attributes of a file in the directory, as another session sees it, or else the client's own."""
        try:
            return self.keeper.stat(self.path(name))
        except Refused:
            return self.stat(self.path(name))

    def got(self, content: bytes, start: int = 0) -> None:
        """Check that the client has downloaded what the server has."""
        wanted = self.bytes[start:]
        if len(content) != len(wanted):
            raise Failed(f"takes {len(content)} of {len(wanted)} bytes for the whole file")
        if content != wanted:
            raise Failed("gets other bytes than the server has")

    def keeps_times(self, name: bytes, text: str = "files have the time of the upload") -> bool:
        """Whether an uploaded file has MTIME. text: what the user gets if not."""
        mtime = self.attributes_of(name).mtime
        kept = mtime is not None and abs(mtime - MTIME) <= 1
        if not kept:
            self.but(f"{text}, because times are not kept")
        return kept

    def keeps_mode(self, name: bytes, text: str = "files have other permissions than they had") -> None:
        """Check that an uploaded file has MODE. text: what the user gets if not."""
        permissions = self.attributes_of(name).permissions
        if permissions is None or permissions & 0o777 != MODE:
            self.but(f"{text}, because permissions are not kept")


def why(refusal: Refused) -> str:
    """A refusal in a few words: "FSETSTAT is answered with PERMISSION_DENIED"."""
    return f"{refusal.request} is answered with {status_name(refusal.status).partition(' (')[0]}"
