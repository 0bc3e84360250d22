"""The remo client, as a library: log in, get and put files, run commands.

    with connect("host", user="alice", key="alice_key.pem", server_key="server.pem") as remote:
        remote.run("df -h").output

What may not enter: the terminal, concrete storages. An object is for one thread at a time. Numbered mode is
spoken with servers that know it: the first request of a session asks, and does nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from typing import NamedTuple

from pysftpserver.remo import crypto, keyfiles, wire
from pysftpserver.remo.talk import (
    LoginRefused,
    NoSuchPath,
    NotNumbered,
    RemoError,
    RequestFailed,
    Security,
    Talk,
    Unconnected,
)
from pysftpserver.remo.transport import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO, Protocol

    class Sink(Protocol):
        """Somewhere to write to, such as a binary file."""

        def write(self, data: bytes, /) -> object: ...


__all__ = [
    "Client",
    "Entry",
    "Interactive",
    "LoginRefused",
    "NoSuchPath",
    "NotNumbered",
    "RemoError",
    "RequestFailed",
    "Result",
    "Security",
    "Unconnected",
    "connect",
]
TIMEOUT = 60.0  # seconds that a server may be silent


def connect(
    host: str,
    port: int | None = None,
    *,
    user: str,
    key: str | os.PathLike[str] | crypto.PrivateKey,
    server_key: str | os.PathLike[str] | crypto.PublicKey,
    passphrase: str | Callable[[], str] | None = None,
    require_numbered: bool = False,
    timeout: float = TIMEOUT,
) -> Client:
    """Log in to a server. host: a name, an address or an http:// or https:// URL. port: None for the URL's,
    or 8080. user: the user name on the server. key, server_key: the user's private key and the server's
    public one, as files in PEM, or keys. passphrase: of the key's file; asked for only if it is encrypted.
    require_numbered: refuse a server that speaks plain mode only. timeout: seconds that the server may be
    silent.

    Raises ValueError for a bad host, crypto.KeyProblem or OSError for keys, and RemoError for the rest.
    """
    private = _private(key, passphrase) if isinstance(key, str | os.PathLike) else key
    public = server_key
    if isinstance(public, str | os.PathLike):
        public = crypto.load_public(keyfiles.read_pem(public))
    talk = Talk(Place(host, port), user, private, public, require_numbered, timeout)
    talk.log_in()
    return Client(talk)


def _private(path: str | os.PathLike[str], passphrase: str | Callable[[], str] | None) -> crypto.PrivateKey:
    pem = keyfiles.read_pem(path)
    try:
        return crypto.load_private(pem)
    except crypto.PassphraseNeeded:
        if passphrase is None:
            raise
        given = passphrase if isinstance(passphrase, str) else passphrase()
        return crypto.load_private(pem, given.encode("utf-8", "surrogateescape"))


class Result(NamedTuple):
    """How a command ended. status: as in a shell; None if the server does not report it. note: why it was
    stopped, if it was. output: empty if it went to a target.
    """

    status: int | None
    note: str
    output: bytes


class Entry(NamedTuple):
    """A name in a directory. mode: with the file type. size: bytes. mtime: seconds since the epoch. long: the
    line of `ls -l`. Values that the server does not know are None.
    """

    name: str
    mode: int | None
    size: int | None
    mtime: int | None
    long: str


class Client:
    """A session with a server, made by connect(); `with` logs out.

    Names and command lines are text, which encoding turns into bytes. remote: a path on the server, relative
    to where its sessions start. All methods raise RemoError: RequestFailed for what the server refuses,
    Security if an answer is not the server's, Unconnected if it cannot be reached.
    """

    encoding = "utf-8"

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_numbered(self) -> bool:
        """Whether the session is in numbered mode."""
        return self._talk.is_numbered

    def close(self) -> None:
        """Log out."""
        self._talk.log_out()

    def info(self) -> str:
        """What the server calls itself."""
        return b"".join(self._talk.ask("GET", "/info")).decode("utf-8", "replace")

    # --- files --------------------------------------------------------------------------------------------

    def get(self, remote: str, target: Sink, on_bytes: Callable[[int], object] | None = None) -> int:
        """Write a remote file to target; return its length in bytes. on_bytes: called with each piece's
        length.

        After RemoError, target has at most a part of the file.
        """
        count = 0
        with _naming(remote):
            for piece in self._talk.ask("GET", "/get/", self._encoded(remote)):
                target.write(piece)
                count += len(piece)
                if on_bytes is not None:
                    on_bytes(len(piece))
        return count

    def read(self, remote: str) -> bytes:
        """A remote file as bytes."""
        target = io.BytesIO()
        self.get(remote, target)
        return target.getvalue()

    def put(
        self,
        source: BinaryIO | bytes,
        remote: str,
        size: int | None = None,
        on_bytes: Callable[[int], object] | None = None,
    ) -> None:
        """Store a file. source: its content, or a file to read it from. size: bytes, if known, so that
        very long files are sent in longer tokens. on_bytes: called with each piece's length.
        """
        if isinstance(source, bytes):
            size = len(source)
        pieces = _pieces(source, wire.data_size(size), on_bytes)
        with _naming(remote):
            for _ in self._talk.ask("POST", "/put/", self._encoded(remote), pieces):
                pass

    def list(self, remote: str = ".") -> list[Entry]:
        """The entries of the directory at remote, sorted by name. Raises NoSuchPath if the server has no
        listings.
        """
        with _naming(remote):
            said = b"".join(self._talk.ask("GET", "/lst/", self._encoded(remote)))
        found = (Entry(*json.loads(line)) for line in said.splitlines())
        decoded = (one._replace(name=self._decoded(one.name), long=self._decoded(one.long)) for one in found)
        return sorted(decoded, key=lambda entry: entry.name)

    # --- commands -----------------------------------------------------------------------------------------

    def run(self, line: str, given: BinaryIO | bytes | None = None, target: Sink | None = None) -> Result:
        """Run a command line, split into words as in a shell; no shell runs it. given: its input. target:
        receives its output and errors as they arrive; without a target, the result contains them.
        """
        kept = io.BytesIO()
        sink = kept if target is None else target
        pieces = None if given is None else _pieces(given, wire.TOKEN_DATA, None)
        method = "GET" if given is None else "POST"
        for piece in self._talk.ask(method, "/cmd/", self._encoded(line), pieces, is_eager=True):
            sink.write(piece)
        status, note = self.outcome()
        return Result(status, note, kept.getvalue())

    def outcome(self) -> tuple[int | None, str]:
        """(status, note) of the latest command; (None, "") if the server does not report them."""
        if not self._talk.tells_status:
            return None, ""
        said = b"".join(self._talk.ask("GET", "/sts")).decode("utf-8", "replace")
        status, _, note = said.partition(" ")
        return (int(status), note) if status.isascii() and status.isdigit() else (None, note)

    def start(
        self, line: str, given: bytes = b"", size: tuple[int, int] | None = None
    ) -> tuple[Interactive, bytes]:
        """Start an interactive command line; return it and its first output. given: its first input. size:
        columns and rows of its terminal; None: a pair of sockets. Raises NoSuchPath if the server has
        no terminals.
        """
        argument = self._encoded(line)
        if size is not None:
            argument = b"%dx%d %b" % (*size, argument)
        path = "/icm/" if size is None else "/pty/"
        said = b"".join(self._talk.ask("POST", path, argument, _one(given)))
        return Interactive(self), said

    def _decoded(self, text: str) -> str:
        """A name in a listing, which the server sends as UTF-8 if it is valid UTF-8."""
        return text.encode("utf-8", "surrogateescape").decode(self.encoding, "surrogateescape")

    def _encoded(self, text: str) -> bytes:
        return text.encode(self.encoding, "surrogateescape")


class Interactive:
    """An interactive command, made by Client.start().

    is_over: it has ended, and all of its output was read.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._talk = client._talk
        self.is_over = False

    def send(self, given: bytes = b"") -> bytes:
        """Send given as input; return the output of the next moment, 8 KiB at most."""
        if self.is_over:
            return b""
        try:
            return b"".join(self._talk.ask("POST", "/idt", pieces=_one(given)))
        except RequestFailed as error:
            if error.status != 400:
                raise
            self.is_over = True  # the protocol's answer for a command that has ended
            return b""

    def finish(self, given: bytes = b"") -> Iterator[bytes]:
        """Send given, close the input, and return the rest of the output as it arrives."""
        self.is_over = True
        method = "POST" if given else "GET"
        yield from self._talk.ask(method, "/edt", pieces=_one(given) if given else None, is_eager=True)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of its terminal to columns and rows of characters."""
        for _ in self._talk.ask("GET", "/win/", b"%dx%d" % (columns, rows)):
            pass

    def outcome(self) -> tuple[int | None, str]:
        """As Client.outcome()."""
        return self._client.outcome()


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Prefix the server's reason for a refusal with the name of the file."""
    try:
        yield
    except RequestFailed as error:
        raise type(error)(error.status, f"{name}: {error}") from None


def _one(data: bytes) -> Iterable[bytes]:
    return (data,) if data else ()


def _pieces(source: BinaryIO | bytes, size: int, on_bytes: Callable[[int], object] | None) -> Iterator[bytes]:
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    while piece := stream.read(size):
        yield piece
        if on_bytes is not None:
            on_bytes(len(piece))
