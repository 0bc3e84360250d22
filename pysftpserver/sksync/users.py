"""The users in sksync.json: listing, adding, changing and removing them, without touching what else is there.

A file is replaced whole, after its new content has been read as a server would read it. It is locked
meanwhile, and where it has been changed all the same, by an editor, the change is made again on what is there
then. What may not enter: prompts, options. Facts: flock(2), docs/sksync.md.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import unicodedata

from pysftpserver.host import wholefiles
from pysftpserver.sksync import config, jsontext, srp
from pysftpserver.sksync.config import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST_NAME = 255  # bytes
LONGEST_PASSWORD = 4096  # bytes
ATTEMPTS = 100  # at changing a file that others change, too
#: Control characters, halves of characters, ends of lines and paragraphs.
_UNFIT = ("Cc", "Cs", "Zl", "Zp")


def names(path: str) -> list[str]:
    """The users of a file, in its order. Raises ConfigError."""
    with _opened(path, os.path.realpath(path)) as (text, _):
        if text is None:
            raise ConfigError(f"{path}: no such file; --add makes it")
        return list(config.read(text, path).users)


def add(path: str, name: str, password: str) -> None:
    """Add a user, and make the file if there is none. Raises ConfigError."""
    check_name(name)
    entry = _entry(name, password)

    def edit(text: str | None) -> str:
        text = "{\n}\n" if text is None else text
        if name in config.read(text, path).users:
            raise ConfigError(f"{path}: there is a user {name!r} already; --change gives it another password")
        if "users" not in jsontext.members(text):
            text = jsontext.with_member(text, 0, "users", "{}")
        return jsontext.with_member(text, jsontext.members(text)["users"].value, name, entry)

    _change(path, edit)


def change(path: str, name: str, password: str) -> None:
    """Give a user another password. Raises ConfigError."""
    pair = _pair(name, password)

    def edit(text: str | None) -> str:
        text = _known(path, text, name)
        user = jsontext.members(text, jsontext.members(text)["users"].value)[name]
        return jsontext.with_member(text, user.value, "authsrp", pair)

    _change(path, edit)


def remove(path: str, name: str) -> None:
    """Remove a user. Raises ConfigError."""

    def edit(text: str | None) -> str:
        text = _known(path, text, name)
        return jsontext.without_member(text, jsontext.members(text)["users"].value, name)

    _change(path, edit)


def check_new(path: str, name: str) -> None:
    """Raises ConfigError for a name that cannot be added, before anyone types a password for it."""
    check_name(name)
    if os.path.lexists(path) and name in names(path):
        raise ConfigError(f"{path}: there is a user {name!r} already; --change gives it another password")


def check_known(path: str, name: str) -> None:
    """Raises ConfigError for a user that is not there."""
    with _opened(path, os.path.realpath(path)) as (text, _):
        _known(path, text, name)


def check_name(name: str) -> None:
    """Raises ConfigError for what cannot be the name of a user."""
    if not name:
        raise ConfigError("the name of a user cannot be empty")
    if any(unicodedata.category(letter) in _UNFIT for letter in name):
        raise ConfigError(f"{name!r} cannot be the name of a user: there are control characters in it")
    if len(name.encode()) > LONGEST_NAME:
        raise ConfigError(f"the name of a user cannot be longer than {LONGEST_NAME} bytes")


def check_password(password: str) -> None:
    """Raises ConfigError for what cannot be a password, without showing it."""
    if not password:
        raise ConfigError("the password is empty")
    if any(unicodedata.category(letter) in _UNFIT for letter in password):
        raise ConfigError("there are control characters in the password, or it is no UTF-8")
    if len(password.encode()) > LONGEST_PASSWORD:
        raise ConfigError(f"the password is longer than {LONGEST_PASSWORD} bytes")


# --- the text -------------------------------------------------------------------------------------------


def _pair(name: str, password: str) -> str:
    check_password(password)
    salt = srp.new_salt()
    # Whole bytes: other programs read these files, too.
    return json.dumps([salt.hex(), srp.minimal(srp.verifier(name, password, salt)).hex()])


def _entry(name: str, password: str) -> str:
    return f'{{"authsrp": {_pair(name, password)}}}'


def _known(path: str, text: str | None, name: str) -> str:
    """The text, if that user is in it. Raises ConfigError."""
    if text is None:
        raise ConfigError(f"{path}: no such file; --add makes it")
    if name not in config.read(text, path).users:
        raise ConfigError(f"{path}: there is no user {name!r}; --list names them, --add makes one")
    return text


# --- the file -------------------------------------------------------------------------------------------


def _change(path: str, edit: Callable[[str | None], str]) -> None:
    """Replace the file with what edit makes of its text, None for no file. Raises ConfigError."""
    target = os.path.realpath(path)
    try:
        for _ in range(ATTEMPTS):
            with _opened(path, target) as (text, st):
                new = edit(text)
                config.read(new, path)
                if _replaced(target, new, st):
                    return
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; it was not changed") from None
    raise ConfigError(f"{path}: something else keeps changing it; it was not changed")


def _replaced(target: str, text: str, st: os.stat_result | None) -> bool:
    """Whether the file could be replaced. False: it is not the one any more whose text was read."""
    with wholefiles.open_temporary(target, text.encode(), owner=st) as new:
        if st is None:
            try:
                new.commit(replace=False)
            except FileExistsError:
                return False
            return True
        if not _is_same(target, st):
            return False
        new.commit()
        return True


def _is_same(target: str, st: os.stat_result) -> bool:
    try:
        now = os.stat(target)
    except FileNotFoundError:
        return False
    return all(
        getattr(now, what) == getattr(st, what)
        for what in ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    )


@contextlib.contextmanager
def _opened(path: str, target: str) -> Iterator[tuple[str | None, os.stat_result | None]]:
    """(text, status) of a file that is locked meanwhile; (None, None) for none. Raises ConfigError."""
    try:
        descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None, None
        return
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigError(f"{path}: no regular file")
    with os.fdopen(descriptor, "rb") as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            # Some network file systems lock only what is open for writing: a change is found out anyway.
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP):
                raise ConfigError(f"{path}: {error.strerror}") from None
        st = os.fstat(descriptor)
        try:
            content = file.read(config.MOST_BYTES + 1)
            text = content.decode()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: byte {error.start} is no UTF-8") from None
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        if len(content) > config.MOST_BYTES:
            raise ConfigError(f"{path}: longer than {config.MOST_BYTES} bytes")
        yield text, st
