"""The outside of the jail: a tree that must not change, and bytes that no reply may contain.

A tree of the same shape as the ones that are swapped inside, so that a path which gets out finds
something. Its state is everything that a request could change; its signs are what no reply may contain.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from tests.differential.packets import u32, u64

SECRET = b"<canary: what no client may read>"
SIZE = 0x03C5A7  # bytes of a secret file: a number that nothing else has
TIME = 0x4BE3D95A  # in 2010, when nothing else was modified
# What the directories have, inside and outside.
FILES = ("file", "program", "sub/file")


class Canaries:
    """The tree at `top`. sign: a name that only it has, and that is in the path of the host as well."""

    def __init__(self, top: Path, token: str) -> None:
        self.top = top
        self.token = token
        self.name = f"canary-{token}"
        self.signs = {
            "the content of a secret file": SECRET,
            "the size of a secret file": u64(SIZE),
            "the time of something outside": u32(TIME),
            "the name of something outside": self.name.encode(),
        }

    def build(self) -> None:
        """Make the tree, instead of whatever has become of it."""
        if self.top.exists():
            shutil.rmtree(self.top)
        for name in ("", "sub", "sub/deeper", self.name):
            (self.top / name).mkdir()
        for name in (*FILES, f"{self.name}/file"):
            with (self.top / name).open("xb") as file:
                for offset in (0, SIZE // 2, SIZE - len(SECRET)):  # the rest is holes, and costs nothing
                    file.seek(offset)
                    file.write(SECRET)
        (self.top / "program").chmod(0o755)
        (self.top / "link").symlink_to("file")
        for path in [*self.top.rglob("*"), self.top]:
            os.utime(path, (TIME, TIME), follow_symlinks=False)


def state(top: Path, *, without: tuple[Path, ...] = ()) -> dict[str, dict[str, object]]:
    """Everything about everything below top, and top itself; not what is in (or at) some paths.

    Directories are entered without following links. The time of the last access is left out, because
    looking changes it.
    """
    found: dict[str, dict[str, object]] = {}
    todo = [top]
    while todo:
        path = todo.pop()
        if path in without:
            continue
        st = path.lstat()
        content: object = None
        if stat.S_ISDIR(st.st_mode):
            content = tuple(sorted(os.listdir(path)))
            todo += [path / name for name in content]
        elif stat.S_ISLNK(st.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(st.st_mode):
            content = path.read_bytes()
        found[str(path.relative_to(top))] = {
            "inode": (st.st_dev, st.st_ino),
            "mode": st.st_mode,
            "owner": (st.st_uid, st.st_gid),
            "links": st.st_nlink,
            "size": st.st_size if not stat.S_ISDIR(st.st_mode) else None,
            "modified": st.st_mtime_ns,
            "changed": st.st_ctime_ns,
            "content": content,
        }
    return found


def differences(before: dict[str, dict[str, object]], after: dict[str, dict[str, object]]) -> set[str]:
    """What changed from one state to another: `aspect: path`, the aspects as in state()."""
    found = {f"appeared: {path}" for path in after.keys() - before.keys()}
    found |= {f"gone: {path}" for path in before.keys() - after.keys()}
    for path in before.keys() & after.keys():
        found |= {
            f"{aspect}: {path}" for aspect in before[path] if before[path][aspect] != after[path][aspect]
        }
    return found
