"""Hidden paths: neither what a client is told nor the work for it says that something is there."""

from __future__ import annotations

import gc
import os
import sys
import unittest
from collections.abc import Callable
from types import FrameType
from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPException, status_of
from pysftpserver.site.layer import Layer
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.mongo.databases import DatabaseCase
from tests.objects.stores import StoreCase
from tests.site.test_guard_contract import under
from tests.site.test_staging import put
from tests.support.cases import InAPlace
from tests.support.hard import IS_HARD
from tests.support.memory import SFTPServerMemoryStorage

HIDDEN = 'hidden = ["/secret/**", "/d/hidden", "/d/h-*"]\n'
RULES = ("", '[[rule]]\npath = "/**"\nallow = {}\n')
ALLOWED = [f'["{word}"]' for word in "read list delete rename upload overwrite mkdir setstat".split()]
THERE, NOT_THERE = (b"/d/hidden", b"/d/h-there"), (b"/d/h-none", b"/d/h-ever")
MISSING = (b"/d/nothin", b"/d/g-there")
Call = Callable[[SFTPAbstractServerStorage, bytes], object]


def opened(flags: int) -> Call:
    return lambda s, path: s.open(path, flags, 0o600)


#: What makes nothing; what would make something says that a name is hidden, and the page says so.
CALLS: dict[str, Call] = {
    "stat": lambda s, path: s.stat(path),
    "lstat": lambda s, path: s.lstat(path),
    "stat in it": lambda s, path: s.stat(path + b"/x"),
    "stat with a slash": lambda s, path: s.stat(path + b"/"),
    "stat out of it": lambda s, path: s.stat(path + b"/../.."),
    "open": opened(os.O_RDONLY),
    "open to write": opened(os.O_RDWR),
    "open to append": opened(os.O_WRONLY | os.O_APPEND),
    "open to empty": opened(os.O_WRONLY | os.O_TRUNC),
    "opendir": lambda s, path: s.opendir(path),
    "readlink": lambda s, path: s.readlink(path),
    "setstat": lambda s, path: s.setstat(path, SFTPAttributes(permissions=0o600)),
    "setstat of the size": lambda s, path: s.setstat(path, SFTPAttributes(size=0)),
    "lsetstat": lambda s, path: s.lsetstat(path, SFTPAttributes(atime=1, mtime=1)),
    "rm": lambda s, path: s.rm(path),
    "rmdir": lambda s, path: s.rmdir(path),
    "rename from it": lambda s, path: s.rename(path, b"/d/new"),
    "rename over": lambda s, path: s.rename(path, b"/d/there", True),
    "link from it": lambda s, path: s.link(path, b"/d/new"),
    "mkdir in it": lambda s, path: s.mkdir(path + b"/x", 0o700),
    "rename into it": lambda s, path: s.rename(b"/d/there", path + b"/x"),
    "statvfs": lambda s, path: s.statvfs(path),
    "checksum": lambda s, path: s.checksum(path, "sha256"),
    "realpath": lambda s, path: s.realpath(path).replace(path, b"it"),
    "realpath in it": lambda s, path: s.realpath(path + b"/x").replace(path, b"it"),
    "realpath out of it": lambda s, path: s.realpath(path + b"/../there"),
}


class Asked(Layer):
    """Notes the paths that a storage is asked about."""

    def __init__(self, below: SFTPAbstractServerStorage) -> None:
        super().__init__(below)
        self.paths: list[bytes] = []

    def _noted(name: str) -> Any:  # type: ignore[misc]
        def call(self: Any, *arguments: Any, **named: Any) -> Any:
            self.paths += [one for one in arguments if type(one) is bytes]
            return getattr(self.below, name)(*arguments, **named)

        return call

    for _name in (
        "realpath stat lstat setstat lsetstat opendir mkdir rmdir open rm rename symlink readlink link"
        " statvfs checksum"
    ).split():
        locals()[_name] = _noted(_name)


class Hiding:
    """On any storage."""

    def below(self) -> SFTPAbstractServerStorage:
        raise NotImplementedError

    def setUp(self: Any) -> None:
        super().setUp()  # type: ignore[misc]
        self.bottom = Asked(self.below())
        for path in (b"/d", b"/secret"):
            self.bottom.mkdir(path, 0o777)
        for path in (*THERE, b"/d/there", b"/secret/f"):
            put(self.bottom, path, b"content")

    def told(self: Any, text: str, call: Call, path: bytes) -> object:
        storage = under(self.bottom, text)
        try:
            return repr(call(storage, path))
        except (OSError, SFTPException) as error:
            return status_of(error)

    def test_every_request_says_the_same_as_for_what_is_not_there(self: Any) -> None:
        texts = [HIDDEN, *(HIDDEN + RULES[1].format(actions) for actions in ALLOWED)]
        for text in texts if IS_HARD else texts[:3]:
            for name, call in CALLS.items():
                said = {path: self.told(text, call, path) for path in (*MISSING, *NOT_THERE, *THERE)}
                self.assertEqual(len(set(map(str, said.values()))), 1, (text, name, said))

    def test_the_storage_is_never_asked_about_what_is_hidden(self: Any) -> None:
        for call in CALLS.values():
            for path in THERE:
                self.bottom.paths.clear()
                self.told(HIDDEN, call, path)
                self.assertEqual([one for one in self.bottom.paths if path in one], [])

    def test_nothing_is_made_in_the_place_of_what_is_hidden(self: Any) -> None:
        for make in (
            lambda s, path: s.mkdir(path, 0o700),
            lambda s, path: s.symlink(path, b"/d/there"),
            lambda s, path: s.rename(b"/d/there", path),
            lambda s, path: s.rename(b"/d/there", path, True),
            lambda s, path: s.link(b"/d/there", path),
            opened(os.O_WRONLY | os.O_CREAT),
            opened(os.O_WRONLY | os.O_CREAT | os.O_EXCL),
            opened(os.O_RDONLY | os.O_CREAT),
            opened(os.O_RDWR | os.O_CREAT | os.O_TRUNC),
        ):
            for path in (*THERE, *NOT_THERE):
                before = sorted(name for name, _ in self.bottom.opendir(b"/d"))
                with self.assertRaises((OSError, SFTPException)):
                    make(under(self.bottom, HIDDEN), path)
                self.assertEqual(sorted(name for name, _ in self.bottom.opendir(b"/d")), before)


class Jail(Hiding, InAPlace):
    def below(self) -> SFTPAbstractServerStorage:
        return SFTPServerVirtualChroot(str(self.place), 0o022)


class Memory(Hiding, unittest.TestCase):
    """It cannot refuse links, and is asked whether there are some."""

    def below(self) -> SFTPAbstractServerStorage:
        return SFTPServerMemoryStorage()


if IS_HARD:

    class GridFS(Hiding, DatabaseCase):
        def below(self) -> SFTPAbstractServerStorage:
            return self.open_storage()

    class Objects(Hiding, StoreCase):
        def below(self) -> SFTPAbstractServerStorage:
            return self.open_storage()


class Work(InAPlace):
    """The bytecodes that a request executes, which do not depend on what else the host does."""

    def setUp(self) -> None:
        super().setUp()
        self.storage = SFTPServerVirtualChroot(str(self.place), use_openat2=True)
        for path in (b"/d", b"/secret"):
            self.storage.mkdir(path, 0o777)
        for path in (*THERE, b"/d/there", b"/secret/f"):
            put(self.storage, path, b"content")

    def counted(self, guarded: SFTPAbstractServerStorage, call: Call, path: bytes) -> int:
        count = 0

        def look(frame: FrameType, event: str, _: object) -> object:
            nonlocal count
            frame.f_trace_lines, frame.f_trace_opcodes = False, True
            count += event == "opcode"
            return look

        before = sys.gettrace()
        gc.disable()  # finalizers of others would count
        sys.settrace(look)
        try:
            call(guarded, path)
        except (OSError, SFTPException):
            pass
        finally:
            sys.settrace(before)
            gc.enable()
        return count

    def test_a_request_does_the_same_whether_or_not_something_hidden_is_there(self) -> None:
        paths = (b"/d/h-there", *NOT_THERE)  # all of one pattern
        for name, call in CALLS.items():
            sessions = {path: under(self.storage, HIDDEN) for path in paths}
            for turn in ("first", "second"):
                found = {path: self.counted(one, call, path) for path, one in sessions.items()}
                self.assertEqual(len(set(found.values())), 1, (name, turn, found))
                self.assertGreater(min(found.values()), 100, (name, turn))

    def test_a_request_does_little_more_for_what_is_hidden_than_for_what_is_missing(self) -> None:
        guarded = under(self.storage, HIDDEN)
        for name, call in CALLS.items():
            there, missing = (
                [self.counted(guarded, call, path) for path in (*paths, *paths)][-1]
                for paths in (THERE, MISSING)
            )
            self.assertLess(abs(there - missing), 150, (name, there, missing))


if __name__ == "__main__":
    unittest.main()
