"""What a rule is given: a session, its own directory, and methods to report that something does not hold.

What may not enter: rules, and how sessions are begun (the maker of a Subject provides both).
"""

from __future__ import annotations

import random

from pysftpserver.contract.client import (
    DENIED,
    EOF,
    FAILED,
    NOT_FOUND,
    SENSELESS,
    Broken,
    Client,
    Refused,
    names_of,
    refusal_of,
    status_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.contract.client import Line

#: Statuses that a server may return for an impossible request if the draft has no status for it.
ANY_FAILURE = (FAILED, DENIED, SENSELESS, NOT_FOUND)


class Subject:
    """A server under a rule.

    client: a session that has begun. directory: an existing, empty directory for this rule only; the maker of
    the Subject removes it. connect: opens a line for one more session. lacks: what the server cannot do, in
    the words of Rule.needs. seed: for everything random. many: entries of the largest directory. unencodable:
    names of contract.names.NAMES that the server cannot store.
    """

    def __init__(
        self,
        client: Client,
        directory: bytes,
        connect: Callable[[], Line],
        lacks: frozenset[str] = frozenset(),
        seed: int = 1,
        many: int = 3_000,
        unencodable: frozenset[bytes] = frozenset(),
    ) -> None:
        self.client = client
        self.directory = directory
        self.lacks = lacks
        self.random = random.Random(seed)
        self.many = many
        self.unencodable = unencodable
        self._connect = connect
        self._others: list[Client] = []

    # --- sessions -----------------------------------------------------------------------------------

    def bare(self) -> Client:
        """One more session of the same server, in which nothing has been sent yet; it ends with the rule."""
        client = Client(self._connect(), self.client.seconds)
        client.target_first = self.client.target_first
        self._others.append(client)
        return client

    def another(self) -> Client:
        """One more session that has begun."""
        client = self.bare()
        client.hello()
        return client

    @property
    def sessions(self) -> list[Client]:
        """All sessions of this rule."""
        return [self.client, *self._others]

    def end(self) -> None:
        """End the sessions that the rule has opened."""
        for client in self._others:
            client.close()

    # --- files --------------------------------------------------------------------------------------

    def path(self, name: bytes = b"") -> bytes:
        """The path of a name in the rule's directory; without a name, the directory."""
        return self.directory.rstrip(b"/") + b"/" + name if name else self.directory

    def put(self, path: bytes, content: bytes) -> None:
        """Make or replace a file."""
        self.client.put(path, content)

    def file(self, name: bytes, content: bytes = b"") -> bytes:
        """Put a file into the rule's directory; return its path."""
        path = self.path(name)
        self.put(path, content)
        return path

    def make(self, tree: Mapping[bytes, bytes | None]) -> None:
        """Put files (content by name) and directories (None) into the rule's directory, in order."""
        for name, content in tree.items():
            if content is None:
                self.client.mkdir(self.path(name))
            else:
                self.file(name, content)

    def fill(self, directory: bytes, names: list[bytes]) -> None:
        """Put empty files with these names into a directory."""
        for name in names:
            self.put(directory + b"/" + name, b"")

    def content(self, path: bytes) -> bytes:
        """The whole content of a file."""
        return self.client.content(path)

    def exists(self, path: bytes) -> bool:
        """Whether something has that name."""
        refusal = refusal_of(self.client.lstat, path)
        if refusal is not None and refusal.status != NOT_FOUND:
            raise refusal
        return refusal is None

    def listing(self, path: bytes) -> list[tuple[bytes, bytes, SFTPAttributes]]:
        """(name, longname, attributes) of all entries of a directory."""
        return self.client.listing(path)

    def names(self, path: bytes) -> list[bytes]:
        """The names in a directory, sorted, without `.` and `..`."""
        return sorted(name for name, _, _ in self.listing(path) if name not in (b".", b".."))

    # --- what must hold -----------------------------------------------------------------------------

    def broken(self, text: str) -> NoReturn:
        """Report that the rule is broken, as the text says."""
        raise Broken(text)

    def check(self, holds: bool, text: str) -> None:
        """Report that the rule is broken, as the text says, unless this holds."""
        if not holds:
            raise Broken(text)

    def equal(self, found: object, expected: object, what: str) -> None:
        """Check that something has the expected value; what: its name in a sentence."""
        if found != expected:
            raise Broken(f"{what} is {_shown(found)} instead of {_shown(expected)}")

    def refuses(
        self, expected: int | tuple[int, ...] | None, call: Callable[..., object], *arguments: object
    ) -> Refused:
        """Check that a request is refused with (one of) expected; None: any status. Returns the refusal."""
        refusal = refusal_of(call, *arguments)
        if refusal is None:
            raise Broken(f"the server did what it should have refused: {getattr(call, '__name__', call)}")
        allowed = (expected,) if isinstance(expected, int) else expected
        if allowed is not None and refusal.status not in allowed:
            raise Broken(f"{refusal}, where {names_of(allowed)} was expected")
        return refusal

    def ends(self, handle: bytes, offset: int, length: int = 1) -> None:
        """Check that a READ at this offset is answered with STATUS EOF."""
        refusal = refusal_of(self.client.read, handle, offset, length)
        if refusal is None or refusal.status != EOF:
            came = "DATA" if refusal is None else f"STATUS {status_name(refusal.status)}"
            raise Broken(f"READ at offset {offset} was answered with {came} instead of STATUS EOF (1)")


def _shown(value: object, most: int = 300) -> str:
    """A value for a sentence, shortened."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
