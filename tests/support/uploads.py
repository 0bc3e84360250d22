"""Helpers for tests of atomic uploads: the three storages that have them, on a watched directory."""

from __future__ import annotations

import gc
import os
import random
import struct
from pathlib import Path
from typing import Any

from pysftpserver.uploads.atomic import AtomicUploads, SFTPAtomicStorage, SFTPAtomicVirtualChroot
from pysftpserver.uploads.temporary import LOCKED_PREFIX
from tests.support.cases import InAPlace
from tests.support.packets import Client, string, u64
from tests.support.paths import IN_MEMORY

NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
ONLY_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
OLD_CONTENT, NEW_CONTENT = b"the old content", b"new"
LOOKS_LEFT = LOCKED_PREFIX.decode() + "0123456789abcdef"


class OnAStorage(InAPlace):
    """A storage on self.top, an empty directory. Every test checks at its end that no descriptor is left
    open, and no temporary file unless it says so. seed: for everything random."""

    kind: type[AtomicUploads]
    options: dict[str, Any] = {}
    leaves = False
    made_in = IN_MEMORY

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        gc.collect()
        gc.freeze()  # so descriptors() collects only garbage of these tests, not objects kept by others

    def setUp(self) -> None:
        super().setUp()
        self.seed = random.randrange(2**32)
        self.order = random.Random(self.seed)
        self.top = self.place / "top"
        self.top.mkdir()
        self.addCleanup(self._check_what_is_left)
        self._descriptors = descriptors()
        self.storage = self.make_storage()
        self.addCleanup(self.__dict__.pop, "storage")

    def make_storage(self, umask: int | None = None) -> AtomicUploads:
        return self.kind(self.top, umask, **self.options)  # type: ignore[call-arg]

    def _check_what_is_left(self) -> None:
        self.assertLessEqual(descriptors().items(), self._descriptors.items(), "descriptors are left open")
        if not self.leaves:
            found = [name for _, _, names in os.walk(self.place) for name in names if is_temporary(name)]
            self.assertEqual(found, [], f"left over, seed {self.seed}")

    def path(self, name: str | bytes) -> bytes:
        """The storage's path of a name below the top."""
        top = b"" if self.kind is SFTPAtomicVirtualChroot else os.fsencode(self.top)
        return top + b"/" + os.fsencode(name)

    def names(self) -> list[str]:
        """The names at the top, without those of temporary files."""
        return sorted(name for name in os.listdir(self.top) if not is_temporary(name))

    def temporary(self) -> list[str]:
        return sorted(name for name in os.listdir(self.top) if is_temporary(name))

    def old_file(self, name: str = "f") -> Path:
        (self.top / name).write_bytes(OLD_CONTENT)
        return self.top / name

    def upload(self, name: str, content: bytes = NEW_CONTENT, flags: int = NEW, mode: int = 0o666) -> None:
        handle = self.storage.open(self.path(name), flags, mode)
        self.storage.write(handle, 0, content)
        self.storage.close(handle)

    def client(self, **options: Any) -> Client:
        client = Client(self.storage, **options)
        self.addCleanup(client.server.__dict__.clear)  # it holds the storage
        self.addCleanup(client.server.close)
        return client


class OnThePlainStorage(OnAStorage):
    kind = SFTPAtomicStorage


class InAJail(OnAStorage):
    kind = SFTPAtomicVirtualChroot
    options = {"use_openat2": True}


class InAJailWithTheWalk(OnAStorage):
    kind = SFTPAtomicVirtualChroot
    options = {"use_openat2": False}


def descriptors() -> dict[str, str]:
    """The open descriptors of this process, except the one that lists them."""
    while gc.collect():  # a jail has one until its last reference is gone, perhaps another test's
        pass
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            pass
    return found


def is_temporary(name: str) -> bool:
    return name.startswith(LOCKED_PREFIX.decode())


def write_request(handle: bytes, content: bytes, offset: int = 0) -> tuple[bytes, ...]:
    return handle, u64(offset), string(content)


def access_list(**permissions: int) -> bytes:
    """An access control list as the kernel keeps it: user, named_<uid>, group, mask, other."""
    tags = {"user": 0x01, "named": 0x02, "group": 0x04, "mask": 0x10, "other": 0x20}
    entries = b""
    for name, permission in permissions.items():
        tag, _, number = name.partition("_")
        entries += struct.pack("<HHI", tags[tag], permission, int(number) if number else 0xFFFFFFFF)
    return struct.pack("<I", 2) + entries
