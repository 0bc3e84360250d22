"""The walk is openat2: both lead to the same place, or fail alike."""

from __future__ import annotations

import errno
import os
import random
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pysftpserver.host.linux import openat2
from pysftpserver.pysftpexceptions import status_of
from pysftpserver.virtualchroot import RESOLVE, walk
from tests.support.examples import HealthCheck, example, given, seed, settings, st
from tests.support.hard import IS_HARD

NAMES = st.sampled_from(["a", "b", "c", ".", "..", ""])
PATHS = st.builds(
    lambda parts, leading, trailing: (leading + "/".join(parts) + trailing).encode(),
    st.lists(NAMES, min_size=1, max_size=6),
    st.sampled_from(["", "/", "//"]),
    st.sampled_from(["", "", "", "/"]),
)
LEAVES = st.one_of(st.just("file"), st.tuples(st.just("link"), PATHS))
TREES = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.recursive(
        LEAVES, lambda below: st.dictionaries(st.sampled_from(["a", "b", "c"]), below), max_leaves=8
    ),
    max_size=3,
)
FLAGS = (
    os.O_PATH,
    os.O_PATH | os.O_NOFOLLOW,
    os.O_PATH | os.O_DIRECTORY,
    os.O_RDONLY,
    os.O_RDONLY | os.O_DIRECTORY,
    os.O_RDWR,
    os.O_RDONLY | os.O_NOFOLLOW,
    os.O_WRONLY | os.O_CREAT,
    os.O_WRONLY | os.O_CREAT | os.O_EXCL,
)


def build(top: Path, tree: dict[str, Any]) -> None:
    for name, value in tree.items():
        path = top / name
        if isinstance(value, dict):
            path.mkdir()
            build(path, value)
        elif value == "file":
            path.touch()
        elif value[1]:
            os.symlink(value[1], os.fsencode(path))


def where(root: str, opening: Callable[[int], int]) -> tuple[str, Any]:
    """What an open in root leads to: a path below root, or the status that a client gets."""
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        descriptor = opening(directory)
    except OSError as error:
        return "error", status_of(error)[0]
    finally:
        os.close(directory)
    try:
        return "opened", os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(root)
    finally:
        os.close(descriptor)


class TheWalkIsOpenat2(unittest.TestCase):
    @seed(20261122)
    @settings(max_examples=250 if IS_HARD else 80, suppress_health_check=list(HealthCheck))
    @given(tree=TREES, paths=st.lists(PATHS, min_size=1, max_size=12))
    @example(tree={"a": ("link", b"a")}, paths=[b"a", b"a/", b"a/b", b"/a/.."])
    @example(tree={"a": ("link", b"b"), "b": {}}, paths=[b"a", b"a/", b"a/.", b"a/..", b"a/c"])
    @example(tree={"a": ("link", b"c"), "b": "file"}, paths=[b"a", b"a/", b"b/", b"b/.", b"b/..", b"c/"])
    @example(tree={"a": ("link", b"b/"), "b": "file"}, paths=[b"a", b"a/"])
    @example(tree={"a": ("link", b"c/")}, paths=[b"a", b"a/"])
    def test_both_lead_to_the_same_place_or_fail_alike(
        self, tree: dict[str, Any], paths: list[bytes]
    ) -> None:
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
            for top in (first, second):
                build(Path(top), tree)
            for path in paths:
                for flags in FLAGS:
                    flags |= os.O_CLOEXEC
                    mode = 0o600 if flags & os.O_CREAT else 0
                    by_kernel = where(first, lambda d, a=(path, flags, mode): openat2(d, *a, RESOLVE))
                    by_walk = where(second, lambda d, a=(path, flags, mode): walk(d, *a))
                    self.assertEqual(by_walk, by_kernel, f"{path!r}, flags {flags:#o}")

    def test_long_chains_of_links_end_alike(self) -> None:
        with tempfile.TemporaryDirectory() as top:
            for number in range(45):
                os.symlink(f"{number + 1}", os.path.join(top, str(number)))
            Path(top, "45").touch()
            for number in range(45):
                path = b"%d" % number
                by_kernel = where(top, lambda d, p=path: openat2(d, p, os.O_PATH, 0, RESOLVE))
                by_walk = where(top, lambda d, p=path: walk(d, p, os.O_PATH))
                self.assertEqual(by_walk, by_kernel, path)

    def test_names_and_paths_that_are_too_long_fail_alike(self) -> None:
        rng = random.Random(1)
        with tempfile.TemporaryDirectory() as top:
            for path in (
                b"x" * 255,
                b"x" * 256,
                b"a/" * 2047 + b"a",
                b"./" * 2047,
                b"./" * 2048,
                b"../" * 1400,
            ):
                flags = rng.choice((os.O_PATH, os.O_RDONLY))
                by_kernel = where(top, lambda d, a=(path, flags): openat2(d, *a, 0, RESOLVE))
                by_walk = where(top, lambda d, a=(path, flags): walk(d, *a))
                self.assertEqual(by_walk, by_kernel, (path[:10], len(path)))


class TheWalkEnds(unittest.TestCase):
    """Every `..` makes the walk begin again at the top: a path may ask for only so much of that."""

    def test_a_path_that_goes_up_and_down_for_ever_is_refused(self):
        with tempfile.TemporaryDirectory() as top:
            deep = Path(top, *(["d"] * 200))
            deep.mkdir(parents=True)
            root = os.open(top, os.O_PATH | os.O_DIRECTORY)
            self.addCleanup(os.close, root)
            below = b"d/" * 200
            os.close(walk(root, below, os.O_PATH))
            os.close(walk(root, below + b"../d/" * 10, os.O_PATH))
            with self.assertRaises(OSError) as raised:
                walk(root, below + b"../d/" * 700, os.O_PATH)
            self.assertEqual(raised.exception.errno, errno.ELOOP)
