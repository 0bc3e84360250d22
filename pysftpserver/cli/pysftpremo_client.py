"""What the verbs of pysftpremo's client share: options, logging in, files of this host, progress.

What may not enter: the protocol.
"""

from __future__ import annotations

import contextlib
import fnmatch
import getpass
import glob
import os
import posixpath
import stat
import sys

from pysftpserver.cli.options import BadValue, Option
from pysftpserver.cli.pysftpremo_keys import PASSPHRASE
from pysftpserver.failures import BadInput, Unavailable, one_line
from pysftpserver.host import wholefiles
from pysftpserver.remo import client, crypto
from pysftpserver.remo.known import KnownServers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

SERVER_KEY = "remo_serv.pem"
MAGIC = "*?["
NEW = 0o666  # what the umask leaves of it


def _encoding(text: str) -> str:
    try:
        "".encode(text)
    except LookupError:
        raise BadValue(f"{text}: no such encoding; utf-8 and latin-1 are two") from None
    return text


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e9:
        raise BadValue(f"{text}: write a number of seconds above 0")
    return found


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise BadValue(f"{text}: a port is a number from 1 to 65535")
    return int(text)


OPTIONS = (
    Option(
        "-s",
        "--server",
        metavar="FILE",
        default=SERVER_KEY,
        help=f"The server's public key, by which it is known. The default is {SERVER_KEY}.",
    ),
    Option("-u", "--user", metavar="NAME", help="Who logs in. The default is the user of this host."),
    Option(
        "-k",
        "--key",
        metavar="FILE",
        help="The user's private key; the passphrase of an encrypted one is asked for, or taken from the "
        f"environment variable {PASSPHRASE}. The default is NAME_key.pem.",
    ),
    Option(
        "-e",
        "--encoding",
        metavar="NAME",
        convert=_encoding,
        default="utf-8",
        help="The encoding of names and commands there. The default is utf-8.",
    ),
    Option(
        "--require-numbered",
        help="Refuse a server that does not speak numbered mode. The other mode is weaker."
        " It is accepted by default.",
    ),
    Option(
        "--timeout",
        metavar="SECONDS",
        convert=_seconds,
        default=client.TIMEOUT,
        help=f"How long the server may be silent. The default is {client.TIMEOUT:g}.",
    ),
)
PORT = Option(
    "-p",
    "--port",
    metavar="PORT",
    convert=_port,
    help="The server's port. The default is 8080, or the URL's.",
)
HOST = ("HOST", "The server: a name, an address, or an http:// or https:// URL.")


def log_in(options: dict[str, Any], port: int | None) -> client.Client:
    """Raises BadInput, Unavailable."""
    user = options["user"] or getpass.getuser()
    key = options["key"] or f"{user}_key.pem"

    def passphrase() -> str:
        if PASSPHRASE in os.environ:
            return os.environ[PASSPHRASE]
        if not sys.stdin.isatty():
            raise BadInput(f"--key {key}: it is encrypted: set {PASSPHRASE}, or use a terminal")
        return getpass.getpass(f"Passphrase for {key}: ")

    private = _key(key, "--key", lambda pem: crypto.load_private(pem), passphrase)
    public = _key(options["server"], "--server", crypto.load_public)
    known = KnownServers(os.path.join(state_directory(), "numbered"))
    was_numbered = known.is_numbered(crypto.fingerprint(public))
    try:
        opened = client.connect(
            options["HOST"],
            port,
            user=user,
            key=private,
            server_key=public,
            require_numbered=options["require_numbered"] or was_numbered,
            timeout=options["timeout"],
        )
    except ValueError as error:
        raise BadInput(str(error)) from None
    except client.NotNumbered as error:
        hint = f"; it did before, and {known.path} says so" if was_numbered else ""
        raise Unavailable(f"{error}{hint}") from None
    except client.RemoError as error:
        raise Unavailable(str(error)) from None
    if opened.is_numbered:
        known.remember(crypto.fingerprint(public))
    opened.encoding = options["encoding"]
    return opened


def state_directory() -> str:
    """Where this command keeps what it remembers."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "pysftpremo")


def _key(
    path: str, option: str, load: Callable[[bytes], Any], passphrase: Callable[[], str] | None = None
) -> Any:
    try:
        with open(path, "rb") as file:
            pem = file.read(crypto.MOST_PEM)
        try:
            return load(pem)
        except crypto.PassphraseNeeded:
            if passphrase is None:
                raise
            return crypto.load_private(pem, passphrase().encode("utf-8", "surrogateescape"))
    except OSError as error:
        reason = (error.strerror or "failure").lower()
        raise BadInput(f"{option} {path}: {reason}; name a file with a key in PEM") from None
    except crypto.KeyProblem as error:
        raise BadInput(f"{option} {path}: {error}") from None


# --- files --------------------------------------------------------------------------------------------------


def fetch(remote: client.Client, name: str, target: str, progress: Progress) -> None:
    """A remote file, whole or not at all; `-` is standard output. Raises RemoError, OSError."""
    if target == "-":
        remote.get(name, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    path = os.path.join(target, posixpath.basename(name)) if os.path.isdir(target) else target
    size = _size_of(remote, name) if progress.is_shown else None
    mode = os.stat(path).st_mode if os.path.exists(path) else stat.S_IFREG | NEW & ~_umask()
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe or a device: nothing to put in its place
        with open(path, "wb") as file, progress.of(name, size) as on_bytes:
            remote.get(name, file, on_bytes)
        return
    with wholefiles.open_temporary(os.path.realpath(path), mode=mode & 0o777) as temporary:
        with progress.of(name, size) as on_bytes:
            remote.get(name, temporary.file, on_bytes)
        temporary.commit()


def store(remote: client.Client, source: str, name: str, progress: Progress) -> None:
    """A file of this host; `-` is standard input. Raises RemoError, OSError."""
    if source == "-":
        remote.put(sys.stdin.buffer, name)
        return
    with open(source, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        with progress.of(source, size) as on_bytes:
            remote.put(file, name, size, on_bytes)


def remote_names(remote: client.Client, pattern: str) -> list[str]:
    """What a pattern means there, in the last part of a path; a name without * ? [ is itself.

    Raises BadInput where nothing fits, RemoError.
    """
    directory, slash, last = pattern.rpartition("/")
    if not any(letter in last for letter in MAGIC):
        return [pattern]
    entries = remote.list(directory + slash or ".")
    found = [
        directory + slash + entry.name
        for entry in entries
        if fnmatch.fnmatchcase(entry.name, last)
        and not (entry.name.startswith(".") and not last.startswith("."))
    ]
    if not found:
        raise BadInput(f"{pattern}: nothing there has such a name")
    return found


def local_names(pattern: str) -> list[str]:
    """What a pattern means here. Raises BadInput where nothing fits."""
    if pattern == "-" or os.path.lexists(pattern) or not any(letter in pattern for letter in MAGIC):
        return [pattern]
    found = sorted(glob.glob(pattern))
    if not found:
        raise BadInput(f"{pattern}: nothing here has such a name")
    return found


def is_directory(remote: client.Client, name: str) -> bool:
    """Whether something there is a directory, as far as the server says. Raises RemoError."""
    if name.endswith("/"):
        return True
    try:
        remote.list(name)
    except client.RequestFailed:
        return False
    return True


def _size_of(remote: client.Client, name: str) -> int | None:
    directory, slash, last = name.rpartition("/")
    try:
        entries = remote.list(directory + slash or ".")
    except client.RequestFailed:
        return None
    return next((entry.size for entry in entries if entry.name == last), None)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def unsayable(error: UnicodeError, encoding: str) -> BadInput:
    """What to tell of a text that the server's encoding cannot say."""
    text = error.object if isinstance(error, UnicodeEncodeError) else ""
    return BadInput(f"{text}: {encoding} has no such letters; choose another --encoding")


class Progress:
    """Bars on a terminal, and nothing elsewhere."""

    def __init__(self) -> None:
        self.is_shown = sys.stderr.isatty()

    @contextlib.contextmanager
    def of(self, name: str, size: int | None) -> Iterator[Callable[[int], object] | None]:
        """What to tell of each piece of a file."""
        if not self.is_shown:
            yield None
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=Console(stderr=True)) as bars:
            task = bars.add_task(one_line(name), total=size)
            yield lambda count: bars.advance(task, count)
