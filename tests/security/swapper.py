"""A process in the jail that swaps directories for links out as fast as it can, until it is killed.

``python -m tests.security.swapper JAIL OUTSIDE COUNTS [safe]``: OUTSIDE is what absolute links lead
to; COUNTS a file of one 8 byte number for each of layout.PLACES, where the swaps are counted as they
happen. Or ``--exchange COUNTS ONE OTHER ...``: only lets two names, or several pairs, change places.
What clients remove, replace or move away is made again. Everything is done relative to
descriptors of directories in the jail, and follows no link: this process must not get out either.
Facts: rename(2), prctl(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
import os
import shutil
import signal
import stat
import struct
import sys
import time
from collections.abc import Callable

from tests.security.layout import INSIDE, NAMES, PLACES, REAL, SAFE_PLACES, STASH, Place

RENAME_EXCHANGE = 2
AT_FDCWD = -100
PR_SET_PDEATHSIG = 1
# How many rounds a swap has to wait for its turn: those that make and remove things take many times longer
# than an exchange, which would otherwise wait for them.
TURNS = {"move": 2, "make": 4}
TIDY = 100  # rounds after which what clients moved together is removed
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# Swaps in a row, which take microseconds each, as do the moments in which a server could be caught. An odd
# number: between them, a place rests now in one state and now in the other.
BURST = 15
HOLD_EVERY, HOLD = 200, 0.02  # bursts, and seconds in which names hold still
LOOK = 4 * BURST  # swaps between two looks at whether a place still is what it should be
RENEW = 6000  # swaps after which a place is made anew, because clients move trees into each other

_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = _libc.renameat2


def exchange(directory: int, one: bytes, other: bytes) -> bool:
    """Let two names of a directory change places; False when that fails."""
    return _renameat2(directory, one, directory, other, RENAME_EXCHANGE) == 0


def end_with_the_parent() -> None:
    """Let this process be killed when the one that started it ends, however that ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def take_processor(swapper: bool) -> None:
    """Give the swapper a processor of its own, where there are several, so that it is never waited for.

    Without this the servers of two sessions have both of two processors, and the tree holds still for them.
    """
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) > 1:
        os.sched_setaffinity(0, processors[-1:] if swapper else processors[:-1])


def fill(directory: int) -> None:
    """Put into an open directory what clients ask for, if it is not there."""
    for name, mode in (("file", 0o644), ("program", 0o755)):
        _file(directory, name, mode)
    with contextlib.suppress(FileExistsError):
        os.mkdir("sub", dir_fd=directory)
    with contextlib.suppress(FileExistsError):
        os.symlink("file", "link", dir_fd=directory)
    with contextlib.suppress(OSError):
        below = os.open("sub", DIRECTORY, dir_fd=directory)
        try:
            _file(below, "file", 0o644)
            with contextlib.suppress(FileExistsError):
                os.mkdir("deeper", dir_fd=below)
        finally:
            os.close(below)


def _file(directory: int, name: str, mode: int) -> None:
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode, dir_fd=directory)
        try:
            os.write(descriptor, INSIDE)
        finally:
            os.close(descriptor)


def clear(directory: int, name: str) -> None:
    """Remove whatever has this name, as long as nobody puts something new into it."""
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=directory)
        else:
            os.unlink(name, dir_fd=directory)


class Swap:
    """One place, and how it is swapped. count: how often it was."""

    def __init__(self, jail: int, place: Place, outside: str) -> None:
        self.place = place
        self.directory = os.open(place.directory or ".", DIRECTORY, dir_fd=jail)
        self.target = place.target(outside)
        self.name, self.spare = place.name.encode(), place.spare.encode()
        self.count = self.renewed = 0
        swap: Callable[[], int] = getattr(self, f"_{place.how}", self._exchange)
        self.swap = swap
        self.make()

    def make(self) -> None:
        """Make both, whatever is there."""
        for name in (self.place.name, self.place.spare):
            clear(self.directory, name)
        with contextlib.suppress(OSError):  # a client was faster: the next look will tell
            if self.place.how == "text":
                _file(self.directory, self.place.name, 0o644)
            elif self.place.how == "links":
                os.symlink(REAL, self.place.name, dir_fd=self.directory)
            else:
                os.mkdir(self.place.name, dir_fd=self.directory)
                self.fill(self.place.name)
            if self.place.how not in ("move", "make"):
                os.symlink(self.target, self.place.spare, dir_fd=self.directory)

    def fill(self, name: str) -> None:
        if self.place.how != "make":  # that one has to be removed again and again
            directory = os.open(name, DIRECTORY, dir_fd=self.directory)
            try:
                fill(directory)
            finally:
                os.close(directory)

    def look(self) -> None:
        """See to it that there is a way in and a way out, or that the swap can make them."""
        kinds = self._kind(self.place.name), self._kind(self.place.spare)
        if self.place.how in ("move", "make"):
            good = kinds == ("in", "")
        else:
            good = set(kinds) == {"in", "out"}
        if not good or self.count >= self.renewed + RENEW:
            self.renewed = self.count
            self.make()

    def _kind(self, name: str) -> str:
        """ "out" for the link out, "in" for what is inside, which is filled again, "" for nothing."""
        try:
            target = os.readlink(name, dir_fd=self.directory)
        except FileNotFoundError:
            return ""
        except OSError:  # no link
            if self.place.how in ("text", "links"):
                return "in" if self.place.how == "text" else "?"
            try:
                self.fill(name)
            except OSError:  # a file that a client has put there
                return "?"
            return "in"
        if target == self.target:
            return "out"
        return "in" if self.place.how == "links" and target == REAL else "?"

    def _exchange(self) -> int:
        for done in range(BURST):
            if not exchange(self.directory, self.name, self.spare):
                return done
        return BURST

    def _move(self) -> int:
        ends = {"src_dir_fd": self.directory, "dst_dir_fd": self.directory}
        os.rename(self.name, self.spare, **ends)
        os.symlink(self.target, self.name, dir_fd=self.directory)
        os.unlink(self.name, dir_fd=self.directory)
        os.rename(self.spare, self.name, **ends)
        return 1

    def _make(self) -> int:
        try:
            os.rmdir(self.name, dir_fd=self.directory)
        except OSError:
            clear(self.directory, self.place.name)
        os.symlink(self.target, self.name, dir_fd=self.directory)
        os.unlink(self.name, dir_fd=self.directory)
        os.mkdir(self.name, dir_fd=self.directory)
        if not self.count % 2:
            descriptor = os.open(self.name, DIRECTORY, dir_fd=self.directory)
            _file(descriptor, "file", 0o644)
            os.close(descriptor)
        return 1


def prepare(jail: int) -> None:
    """Make the directories that stay where they are."""
    for name in ("deep", "deep/er", STASH, REAL):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=jail)
    for name in (".", STASH, REAL):
        directory = os.open(name, DIRECTORY, dir_fd=jail)
        fill(directory)
        os.close(directory)


def tidy(jail: int) -> None:
    """Empty the stash of whatever clients made and moved there, and fill it again."""
    stash = os.open(STASH, DIRECTORY, dir_fd=jail)
    for number in range(NAMES):
        clear(stash, f"made{number}")
    fill(stash)
    os.close(stash)
    for name in (".", REAL):
        directory = os.open(name, DIRECTORY, dir_fd=jail)
        fill(directory)
        os.close(directory)


def main(jail_path: str, outside: str, counts_path: str, safe: str = "") -> None:
    end_with_the_parent()
    take_processor(swapper=True)
    jail = os.open(jail_path, DIRECTORY)
    prepare(jail)
    swaps = [Swap(jail, place, outside) for place in (SAFE_PLACES if safe else PLACES)]
    with open(counts_path, "r+b") as file:
        counts = mmap.mmap(file.fileno(), 0)
    rounds = 0
    while True:
        rounds += 1
        for number, swap in enumerate(swaps):
            if rounds % TURNS.get(swap.place.how, 1):
                continue
            before = swap.count
            try:
                swap.count += swap.swap()
            except OSError:  # clients work on the same names
                pass
            struct.pack_into("=Q", counts, 8 * number, swap.count)
            if swap.count == before or swap.count // LOOK > before // LOOK:
                with contextlib.suppress(OSError):
                    swap.look()
        if rounds % TIDY == 0:
            with contextlib.suppress(OSError):
                tidy(jail)


def exchange_only(counts_path: str, *names: str) -> None:
    end_with_the_parent()
    take_processor(swapper=True)
    with open(counts_path, "r+b") as file:
        counts = mmap.mmap(file.fileno(), 0)
    pairs = [
        (os.fsencode(one), os.fsencode(other)) for one, other in zip(names[::2], names[1::2], strict=True)
    ]
    count = 0
    for turn in itertools.count():
        # Names hold still now and then, since a walk along 4,095 bytes takes longer than a burst, and after
        # an odd number of exchanges, so that they do so in either state.
        holds = turn % HOLD_EVERY == 0
        for one, other in pairs:
            for _ in range(BURST + holds):
                count += exchange(AT_FDCWD, one, other)
        struct.pack_into("=Q", counts, 0, count)
        if holds:
            time.sleep(HOLD)


if __name__ == "__main__":
    if sys.argv[1] == "--exchange":
        exchange_only(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
