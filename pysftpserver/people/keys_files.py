"""Files of authorized_keys: read with care, replaced whole, and put back if a later step fails.

What may not enter: what lines mean to sshd, whose they are. Facts: sshd(8) on authorized_keys.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time

from pysftpserver.failures import BadInput, one_line, reason_of
from pysftpserver.host import making, wholefiles
from pysftpserver.people import forced
from pysftpserver.people.keys import fingerprint
from pysftpserver.people.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pysftpserver.host.privileges import Account

KEYS_MODE, ROOTS_KEYS_MODE = 0o600, 0o644  # sshd reads root's as the account that logs in
LARGEST = 64 << 20  # bytes of authorized_keys
LOCK_PATIENCE, LOCK_PAUSE = 10.0, 0.05  # seconds


class KeysFile:
    """A file of authorized_keys. account: its intended owner; None: root, or this process's account."""

    def __init__(self, path: str, account: Account | None) -> None:
        self.path = path
        self.account = account
        self.text = self._read()

    def lines(self) -> list[forced.Line]:
        return forced.lines_of(self.text)

    def _read(self) -> str:
        """The text; "" if there is no file. Raises BadInput."""
        with making.acting_as(self.account):
            try:
                descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:
                return ""
            except OSError as error:
                if os.path.islink(self.path):
                    raise BadInput(
                        f"{self.path}: it is a link; name the file that it leads to with --authorized-keys"
                    ) from None
                how = "run this as root"
                if self.account is not None and os.getuid() == 0:
                    how = f"root reads it as {self.account.name}: let that account, or name another file"
                raise BadInput(f"{self.path}: {reason_of(error)}; {how}") from None
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    raise BadInput(f"{self.path}: not a regular file; name another with --authorized-keys")
                if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    raise BadInput(
                        f"{self.path}: writable by others, so sshd would not read it; run chmod go-w on it"
                    )
                if found.st_size > LARGEST:
                    raise BadInput(f"{self.path}: larger than {LARGEST >> 20} MiB; remove lines from it")
                with open(descriptor, "rb", closefd=False) as file:
                    return file.read().decode("utf-8", "surrogateescape")
            finally:
                os.close(descriptor)

    def write(self, text: str) -> None:
        """Replace the text, if the file is unchanged since it was read. Raises OSError, BadInput."""
        with making.acting_as(self.account), self._locked():
            if self._read_again() != self.text:
                raise BadInput(f"{self.path}: it was changed just now; try again")
            try:
                mode = stat.S_IMODE(os.stat(self.path).st_mode)
                owner = os.stat(self.path) if self.account is None else None
            except FileNotFoundError:
                mode, owner = KEYS_MODE if self.account or os.geteuid() else ROOTS_KEYS_MODE, None
            text = text or "\n"  # an empty file would not be synced
            content = text.encode("utf-8", "surrogateescape")
            with wholefiles.open_temporary(self.path, content, mode, owner) as new:
                new.commit()
        self.text = text

    def remove(self) -> None:
        """Raises OSError."""
        with making.acting_as(self.account):
            os.unlink(self.path)
        self.text = ""

    def _read_again(self) -> str:
        with contextlib.suppress(FileNotFoundError), open(self.path, "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")
        return ""

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold a lock on the file's directory, so that no other process changes it until the end of the
        block.

        Any account that can read the directory can also lock it, so waiting for the lock is limited. Raises
        BadInput.
        """
        directory = os.path.dirname(self.path)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        late_at = time.monotonic() + LOCK_PATIENCE
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > late_at:
                        raise BadInput(
                            f"another process has locked {directory}; find it with lslocks, end it, and try "
                            "again"
                        ) from None
                    time.sleep(LOCK_PAUSE)
            yield
        finally:
            os.close(descriptor)


def writing(file: KeysFile, text: str) -> Step:
    is_new, old = not file.text and not os.path.lexists(file.path), file.text
    undo = file.remove if is_new else rewriting(file, old)
    return Step(f"{'write' if is_new else 'change'} {file.path}", lambda: file.write(text), undo)


def rewriting(file: KeysFile, text: str) -> Callable[[], None]:
    return lambda: file.write(text)


def doubles(path: str, text: str) -> list[str]:
    """Keys that are in two lines: sshd takes the first, and one customer would be in another's jail."""
    seen: dict[bytes, str] = {}
    problems = []
    for number, line in enumerate(forced.lines_of(text), 1):
        if line.blob is None:
            continue
        whose = f"line {number} of {path}" if line.customer is None else f"customer {one_line(line.customer)}"
        if line.blob in seen:
            problems.append(
                f"key {fingerprint(line.blob)}: {seen[line.blob]} and {whose} have it; sshd knows a customer "
                "by the key, so each needs another one"
            )
        seen.setdefault(line.blob, whose)
    return problems
