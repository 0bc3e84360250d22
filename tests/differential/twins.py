"""Twin directory trees: planting them, looking at them, and comparing what became of them.

Each twin is a directory `root` in a directory of its own, so that a request may climb one level up and
still meet nothing of the other twin. Everything planted has a time long past: a time that a server
changed is then either exactly what the sequence asked for, or close to the present.
"""

import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LONG_PAST = 1_000_000_000  # seconds since the epoch; planted files count up from here
FRESH = 5  # seconds by which "now" may differ between the twins
LONG_NAME = b"n" * 255

_DIRECTORIES = (b"d", b"d/e", b"empty", b"a b")
_FILES = {
    b"f": b"0123456789",
    b"g": b"The quick brown fox jumps over the lazy dog.\n" * 20,
    b"d/f": b"",
    b"d/e/f": b"deep",
    b"new\nline": b"newline",
    b"caf\xe9\xff": b"not UTF-8",
    b"a b/c d": b"spaces",
    b"large": bytes(range(256)) * 1100,  # longer than the longest READ and four times copy-data's 64 KiB
    LONG_NAME: b"long",
}
_LINKS = {
    b"to-f": b"f",
    b"to-d": b"d",
    b"d/up": b"../f",
    b"dangling": b"missing",
    b"loop": b"loop",
    b"d/to-loop": b"../loop",
    b"to-to-f": b"to-f",
}


def plant(root: Path) -> None:
    """Make the tree that every sequence starts from; `root` must not exist."""
    top = bytes(root)
    os.makedirs(top, 0o755)
    for name in _DIRECTORIES:
        os.mkdir(os.path.join(top, name), 0o755)
    for name, content in _FILES.items():
        with open(os.path.join(top, name), "xb") as file:
            file.write(content)
    os.link(os.path.join(top, b"f"), os.path.join(top, b"hard"))
    for name, target in _LINKS.items():
        os.symlink(target, os.path.join(top, name))
    os.mkfifo(os.path.join(top, b"fifo"), 0o644)
    for count, path in enumerate(sorted(_everything(top), reverse=True)):
        os.utime(path, (LONG_PAST + count, LONG_PAST + 1000 + count), follow_symlinks=False)
    os.utime(top, (LONG_PAST, LONG_PAST))
    os.utime(os.path.dirname(top), (LONG_PAST, LONG_PAST))


def _everything(top: bytes) -> Iterator[bytes]:
    for directory, names, files in os.walk(top):
        for name in names + files:
            yield os.path.join(directory, name)


class Clock:
    """Tells whether two times, whole seconds, are the same time within one run."""

    def __init__(self) -> None:
        self._start = time.time() - FRESH

    def agree(self, one: int, other: int) -> bool:
        return one == other or (self.is_fresh(one) and self.is_fresh(other))

    def is_fresh(self, moment: int) -> bool:
        return self._start <= moment <= time.time() + FRESH


class Node(NamedTuple):
    """What is left at one path. `content` is a file's bytes, a link's text (root cut off), or None."""

    mode: int
    links: int
    owner: tuple[int, int]
    size: int
    mtime: int
    content: bytes | None


def snapshot(directory: Path, root: Path) -> dict[bytes, Node]:
    """Everything under `directory`. Opens up what the sequence closed to its owner, so look only once."""
    top = bytes(directory)
    nodes = {}
    pending = [b"."]
    while pending:
        name = pending.pop()
        path = os.path.join(top, name)
        found = os.lstat(path)
        content = None
        size = found.st_size
        if stat.S_ISLNK(found.st_mode):
            content = os.readlink(path).replace(bytes(root), b"")
        elif stat.S_ISREG(found.st_mode):
            os.chmod(path, 0o600)
            with open(path, "rb") as file:
                content = file.read()
        elif stat.S_ISDIR(found.st_mode):
            os.chmod(path, 0o700)
            pending.extend(os.path.join(name, entry) for entry in os.listdir(path))
            size = 0  # a matter of the file system's, not of the tree
        nodes[name] = Node(
            found.st_mode,
            found.st_nlink,
            (found.st_uid, found.st_gid),
            size,
            int(found.st_mtime // 1),
            content,
        )
    return nodes


def tree_differences(reference: dict[bytes, Node], ours: dict[bytes, Node], clock: Clock) -> list[str]:
    """One line for each path that is not the same in both trees."""
    lines = []
    for name in sorted(reference.keys() | ours.keys()):
        one, other = reference.get(name), ours.get(name)
        if one is None or other is None:
            lines.append(f"{name!r} is only in the tree of {'ours' if one is None else 'the reference'}")
            continue
        for field, left, right in zip(Node._fields, one, other, strict=True):
            if left == right or (field == "mtime" and clock.agree(one.mtime, other.mtime)):
                continue
            if field == "mode":
                left, right = oct(one.mode), oct(other.mode)
            lines.append(f"{name!r}: {field} {_short(left)} (reference), {_short(right)} (ours)")
    return lines


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}... ({len(text)} characters)"


def uproot(directory: Path) -> None:
    """Remove a twin, whatever permissions the sequence left."""
    os.chmod(directory, 0o700)
    for path, names, _ in os.walk(bytes(directory)):
        for name in names:
            if not os.path.islink(inside := os.path.join(path, name)):
                os.chmod(inside, 0o700)
    shutil.rmtree(bytes(directory))


def climbs(root: Path, path: bytes, levels: int) -> bool:
    """Whether `path`, read from `root` by the kernel's rules, leaves `root` by more than `levels` on its way.

    Absolute link texts count as leaving: the twins only have relative ones, or such as start with `root`.
    """
    depth_limit = 40
    above = bytes(root).split(b"/")[1:]
    here: list[bytes] = []  # the components under the root; negative levels are counted in `up`
    up = 0
    rest = [part for part in path.split(b"/") if part not in (b"", b".")]
    while rest:
        part = rest.pop(0)
        if part == b"..":
            if here:
                here.pop()
            else:
                up += 1
                if up > levels:
                    return True
            continue
        at = b"/" + b"/".join(above[: len(above) - up] + here + [part])
        if os.path.islink(at):
            depth_limit -= 1
            if depth_limit == 0:
                return False
            target = os.readlink(at)
            if target.startswith(b"/"):
                if not target.startswith(bytes(root)):
                    return True
                target = target.removeprefix(bytes(root))
                here, up = [], 0
            rest[:0] = [piece for piece in target.split(b"/") if piece not in (b"", b".")]
        elif up and part == above[len(above) - up]:
            up -= 1
        else:
            here.append(part)
    return False
