"""Every request that takes a path, on paths that lead through the places that are swapped.

Requests are made with tests.support.packets, by a seeded random generator, in batches sent as a whole.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.differential.packets import Attributes, attrs
from tests.security.canaries import SIZE, TIME
from tests.security.layout import NAMES, STASH, Place
from tests.support.packets import APPEND, CREAT, EXCL, NO_ATTRS, READ, TRUNC, WRITE, request, string, u32, u64

ONE_PATH = ("stat", "lstat", "opendir", "mkdir", "rmdir", "remove", "readlink", "realpath", "expand-path")
TWO_PATHS = ("rename", "posix-rename", "hardlink")
CHANGES = ("setstat", "lsetstat")
BATCH = 480  # requests sent before a reply is waited for; far less than what a server takes unread
BATCHES = 24  # made before a race, so that the clients' part in it is to send, to count and to search
KINDS = (*ONE_PATH, "statvfs", "open", "symlink", *TWO_PATHS, *CHANGES)
ON_FILES = ("fstat", "read", "write", "fsetstat", "fstatvfs", "close")
ON_DIRECTORIES = ("readdir", "close")
OPENS = (
    READ,
    READ | WRITE,
    WRITE,
    WRITE | APPEND,
    READ | TRUNC,
    WRITE | CREAT,
    WRITE | CREAT | TRUNC,
    READ | WRITE | CREAT | EXCL,
    WRITE | CREAT | APPEND,
)
# Not the canaries' own figures, and nothing that would keep the owner himself out.
CHANGED = (
    Attributes(permissions=0o765),
    Attributes(permissions=0o700, times=(TIME + 100, TIME + 100)),
    Attributes(times=(TIME + 200, TIME + 300)),
    Attributes(owner=(12345, 12345)),
    Attributes(size=7),
    Attributes(size=0, permissions=0o750),
)


class Attempt(NamedTuple):
    """A request. kind: its name. probe: the name of the place, if all it does is to ask for it."""

    kind: str
    parts: tuple[bytes, ...]
    probe: str = ""

    def packed(self, number: int) -> bytes:
        return request(self.kind, number, *self.parts)


class Batch(NamedTuple):
    """Requests, and their bytes with ids from 0 on."""

    attempts: list[Attempt]
    packed: bytes


class Attempts:
    """Makes attempts. outside: the absolute path of what must not be reached.

    safe: nothing with `..`, and no path of the host, for the naive jail.
    """

    def __init__(
        self, places: tuple[Place, ...], outside: str, rng: random.Random, safe: bool = False
    ) -> None:
        self.outside = outside
        self.rng = rng
        self.safe = safe
        self.places = places
        self.paths = [path.encode() for place in places for path in self._through(place)]
        self.makers: tuple[Callable[[], Attempt], ...] = (
            *[self._one_path] * len(ONE_PATH),
            *[self._open] * 5,
            *[self._two_paths] * len(TWO_PATHS),
            self._symlink,
            self._change,
            self._change,
            self._statvfs,
        )

    def batches(self) -> list[Batch]:
        return [self.batch(BATCH) for _ in range(BATCHES)]

    def batch(self, size: int) -> Batch:
        """So many attempts or a few more; some ask for one place again and again between the others."""
        made: list[Attempt] = []
        while len(made) < size:
            place = self.rng.choice(self.places)
            path = place.path if place.how == "text" else f"{place.path}/file"
            probe = Attempt("stat", (string(path.encode()),), place.path)
            made += [probe] * 4
            made += [self.rng.choice(self.makers)() for _ in range(16)]
        return Batch(made, b"".join(attempt.packed(number) for number, attempt in enumerate(made)))

    def _through(self, place: Place) -> Iterator[str]:
        """Paths through a place, or to it."""
        at = place.path
        yield from (at, f"{at}/", f"/{at}/.")
        if place.how == "text":
            return
        yield from (f"{at}/{name}" for name in ("file", "file", "file", "program", "link", "sub", "sub/file"))
        yield from (f"{at}/sub/", f"/{at}//sub/deeper", f"./{at}/./file", f"{at}/link/")
        # At the top of the place, where a file can be made whichever tree it is in.
        yield from (f"{at}/made{self.rng.randrange(NAMES)}" for _ in range(3))
        yield f"{at}/sub/made{self.rng.randrange(NAMES)}"
        if not self.safe:
            yield from (f"{at}/sub/../file", f"{at}/sub/deeper/../../file", f"{at}/sub/..")
            yield from (f"{at}/..", f"{at}/../file", f"{at}/../{place.name}/file", f"{at}/file/..")
            yield from (f"{at}/../../../outside/file", f"../{at}/../../outside/file")
            yield from (f"{at}/sub/../../../../../outside/file", f"{at}{self.outside}/file")
            yield f"/..{self.outside}/sub/file"

    def path(self) -> bytes:
        if self.rng.random() < 0.04:
            return f"{STASH}/{self.name()}".encode()
        return self.rng.choice(self.paths)

    def name(self) -> str:
        return f"made{self.rng.randrange(NAMES)}"

    def _one_path(self) -> Attempt:
        kind = self.rng.choice(ONE_PATH)
        parts = [string(self.path())]
        if kind == "mkdir":
            parts.append(NO_ATTRS if self.rng.random() < 0.5 else attrs(Attributes(permissions=0o777)))
        return Attempt(kind, tuple(parts))

    def _statvfs(self) -> Attempt:
        return Attempt("statvfs", (string(self.path()),))

    def _open(self) -> Attempt:
        block = NO_ATTRS if self.rng.random() < 0.7 else attrs(Attributes(permissions=0o666))
        return Attempt("open", (string(self.path()), u32(self.rng.choice(OPENS)), block))

    def _two_paths(self) -> Attempt:
        inside = string(f"{STASH}/{self.name()}".encode())
        there = string(self.path())
        pair = self.rng.choice(((there, inside), (inside, there), (there, string(self.path()))))
        return Attempt(self.rng.choice(TWO_PATHS), pair)

    def _symlink(self) -> Attempt:
        texts = [self.outside, f"{self.outside}/file"]
        if not self.safe:
            texts += [
                "../outside",
                "../../outside/file",
                "..",
                f"/..{self.outside}",
                "/proc/self/cwd/outside",
            ]
        return Attempt("symlink", (string(self.rng.choice(texts).encode()), string(self.path())))

    def _change(self) -> Attempt:
        kind = self.rng.choice(CHANGES)
        changed = self.rng.choice(CHANGED)
        if kind == "lsetstat":
            changed = changed._replace(size=None, permissions=changed.permissions or 0o751)
        return Attempt(kind, (string(self.path()), attrs(changed)))


def on_handle(handle: bytes, is_directory: bool) -> list[Attempt]:
    """What is done with a handle, wherever it came from."""
    this = string(handle)
    if is_directory:
        return [Attempt("readdir", (this,)), Attempt("close", (this,))]
    return [
        Attempt("fstat", (this,)),
        Attempt("read", (this, u64(0), u32(300))),
        Attempt("read", (this, u64(SIZE - 100), u32(300))),
        Attempt("write", (this, u64(3), string(b"written by a client"))),
        Attempt("fsetstat", (this, attrs(Attributes(permissions=0o751, times=(TIME + 400, TIME + 500))))),
        Attempt("fstatvfs", (this,)),
        Attempt("close", (this,)),
    ]


def every_request(path: bytes, inside: bytes, changed: tuple[Attributes, ...] = CHANGED) -> list[Attempt]:
    """Each request there is on one path, with what is inside as the other one where there are two.

    changed: what SETSTAT is to set. A path that leads to something that is not the test's own is only given
    what is so already: if it ever got there, nothing would be lost.
    """
    this, other = string(path), string(inside)
    there, more = string(path.rstrip(b"/") + b"/made0"), string(inside + b".2")
    made = [Attempt(kind, (this,)) for kind in ONE_PATH if kind not in ("mkdir", "rmdir", "remove")]
    made += [Attempt("statvfs", (this,)), Attempt("open", (this, u32(READ), NO_ATTRS))]
    for attributes in changed:
        made.append(Attempt("setstat", (this, attrs(attributes))))
        if attributes.size is None:
            made.append(Attempt("lsetstat", (this, attrs(attributes))))
    if changed is CHANGED:
        made += [Attempt("open", (this, u32(flags), NO_ATTRS)) for flags in OPENS]
        made += [Attempt("open", (there, u32(flags), NO_ATTRS)) for flags in OPENS if flags & CREAT]
        made += [Attempt("mkdir", (name, NO_ATTRS)) for name in (this, there)]
        made += [Attempt("symlink", (string(b"text"), name)) for name in (this, there)]
        made += [Attempt(kind, (other, name)) for kind in TWO_PATHS for name in (this, there)]
        made += [Attempt(kind, (this, more)) for kind in TWO_PATHS]
        made += [Attempt(kind, (this,)) for kind in ("rmdir", "remove")]
    return made
