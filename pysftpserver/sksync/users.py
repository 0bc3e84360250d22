"""The users in sksync.json: listing, adding, changing and removing them.

A file is replaced whole, after checking its new content as a server would. It is locked meanwhile; if an
editor changes it all the same, the change is made again in the new text. What may not enter: prompts,
options. Facts: flock(2), docs/sksync.md.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator

from pysftpserver.failures import BadInput, Unavailable, reason_of
from pysftpserver.host import wholefiles
from pysftpserver.sksync import config, jsontext, srp
from pysftpserver.sksync.wire import minimal

LONGEST_NAME = 255  # bytes
LONGEST_PASSWORD = 4096  # bytes
ATTEMPTS = 100  # to change a file that another program changes
#: Control characters, surrogates, ends of lines and paragraphs.
_UNFIT = ("Cc", "Cs", "Zl", "Zp")


def names(path: str) -> list[str]:
    """The names of a file's users, in the file's order. Raises BadInput."""
    with _opened(path, os.path.realpath(path)) as (text, _):
        if text is None:
            raise BadInput(f"{path}: no such file or directory; adding a user makes it")
        return list(config.read(text, path).users)


def add(path: str, name: str, password: str) -> None:
    """Add a user; a missing file is made. Raises BadInput."""
    check_name(name)
    entry = f'{{"authsrp": {_pair(name, password)}}}'

    def edit(text: str | None) -> str:
        text = "{\n}\n" if text is None else text
        if name in config.read(text, path).users:
            raise BadInput(f"{path}: a user named {name!r} exists; change the password instead")
        if "users" not in jsontext.members(text):
            text = jsontext.with_member(text, 0, "users", "{}")
        return jsontext.with_member(text, jsontext.members(text)["users"].value, name, entry)

    _change(path, edit)


def change(path: str, name: str, password: str) -> None:
    """Give a user another password. Raises BadInput, Unavailable."""
    pair = _pair(name, password)

    def edit(text: str | None) -> str:
        text = _known(path, text, name)
        user = jsontext.members(text, jsontext.members(text)["users"].value)[name]
        return jsontext.with_member(text, user.value, "authsrp", pair)

    _change(path, edit)


def remove(path: str, name: str) -> None:
    """Remove a user. Raises BadInput, Unavailable."""

    def edit(text: str | None) -> str:
        text = _known(path, text, name)
        return jsontext.without_member(text, jsontext.members(text)["users"].value, name)

    _change(path, edit)


def check_new(path: str, name: str) -> None:
    """Raises BadInput for a name that cannot be added."""
    check_name(name)
    if os.path.lexists(path) and name in names(path):
        raise BadInput(f"{path}: a user named {name!r} exists; change the password instead")


def check_known(path: str, name: str) -> None:
    """Raises Unavailable for a user that does not exist, BadInput for a file that cannot be used."""
    with _opened(path, os.path.realpath(path)) as (text, _):
        _known(path, text, name)


def check_name(name: str) -> None:
    """Check that a name can be a user's. Raises BadInput."""
    if not name:
        raise BadInput("the name of a user cannot be empty")
    if any(unicodedata.category(letter) in _UNFIT for letter in name):
        raise BadInput(f"{name!r} cannot be the name of a user: it has control characters")
    if len(name.encode()) > LONGEST_NAME:
        raise BadInput(f"the name of a user cannot be longer than {LONGEST_NAME} bytes")


def check_password(password: str) -> None:
    """Check that a text can be a password. Raises BadInput, whose text does not contain it."""
    if not password:
        raise BadInput("the password is empty")
    if any(unicodedata.category(letter) in _UNFIT for letter in password):
        raise BadInput("the password has control characters, or it is not UTF-8")
    if len(password.encode()) > LONGEST_PASSWORD:
        raise BadInput(f"the password is longer than {LONGEST_PASSWORD} bytes")


# --- the text -------------------------------------------------------------------------------------------


def _pair(name: str, password: str) -> str:
    check_password(password)
    salt = srp.new_salt()
    # Two digits for each byte: other programs read these files as well.
    return json.dumps([salt.hex(), minimal(srp.verifier(name, password, salt)).hex()])


def _known(path: str, text: str | None, name: str) -> str:
    """The text, if that user is in it. Raises BadInput, Unavailable."""
    if text is None:
        raise BadInput(f"{path}: no such file or directory; adding a user makes it")
    if name not in config.read(text, path).users:
        raise Unavailable(f"no user named {name!r} in {path}; pysksync users list names them")
    return text


# --- the file -------------------------------------------------------------------------------------------


def _change(path: str, edit: Callable[[str | None], str]) -> None:
    """Replace the file with what edit() returns for its text (None for no file). Raises BadInput."""
    target = os.path.realpath(path)
    try:
        for _ in range(ATTEMPTS):
            with _opened(path, target) as (text, st):
                new = edit(text)
                config.read(new, path)
                if _replaced(target, new, st):
                    return
    except OSError as error:
        raise BadInput(f"{path}: {reason_of(error)}; the file was not changed") from None
    raise BadInput(f"{path}: another program keeps changing it; it was not changed")


def _replaced(target: str, text: str, st: os.stat_result | None) -> bool:
    """Replace the file; return False if it is not the one whose text was read."""
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
    """(text, status) of a file, which is locked meanwhile; (None, None) if there is none. Raises BadInput."""
    try:
        descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None, None
        return
    except OSError as error:
        raise BadInput(f"{path}: {reason_of(error)}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput(f"{path}: not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            # Some network file systems lock only files open for writing. Changes are noticed anyway.
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP):
                raise BadInput(f"{path}: {reason_of(error)}") from None
        st = os.fstat(descriptor)
        try:
            content = file.read(config.LONGEST_FILE + 1)
            text = content.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: {reason_of(error)}") from None
        if len(content) > config.LONGEST_FILE:
            raise BadInput(f"{path}: longer than {config.LONGEST_FILE} bytes")
        yield text, st
