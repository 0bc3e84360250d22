"""Both sides of the rows on object stores: programs that do the same on one bucket.

The store's files are in the benchmark's directory. The methods that measure return seconds. Files that are
put exist since the warm-up, and are replaced.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from bench import drivers
from bench.objects import Sizes
from bench.rows import random_file
from tests.objects.stores import CREDENTIALS, NO_OTHERS, rclone, running

PROGRAMS = [sys.executable, "-m", "bench.objects_programs"]
BUCKET = "bench"
SENT, FETCHED, LISTED, UP, DOWN = "sent", "fetched", "listed", "up", "down"  # keys and prefixes
Commands = Callable[[], str]


@contextlib.contextmanager
def started(top: Path, sizes: Sizes) -> Iterator[Sides]:
    """Yield the sides, with a running store."""
    directory = top / "store"
    bucket = directory / BUCKET
    bucket.mkdir(parents=True)
    # Before the store runs, because it caches the content of directories.
    random_file(bucket / FETCHED, sizes.transfer)
    _files(bucket / LISTED, sizes.keys, 0)
    _files(bucket / DOWN, sizes.files, sizes.each)
    with mock.patch.dict(os.environ, NO_OTHERS | CREDENTIALS), running("rclone", directory) as url:
        yield Sides(top, sizes, url)


class Sides:
    """Both sides. Methods with an argument `commands` take one of the methods here that return commands."""

    def __init__(self, top: Path, sizes: Sizes, url: str) -> None:
        self.sizes = sizes
        self._top = top
        self._url = url
        self._local = top / "local"
        self._local.mkdir()
        self._serve = [
            *drivers.command("pysftpsite"),
            "--log-level",
            "ERROR",
            f"s3://{BUCKET}/?endpoint={url}",
        ]
        remote = f":s3,provider=Rclone,env_auth,endpoint='{url}',use_multipart_uploads=true:{BUCKET}"
        self._beside = [rclone(), "--config", os.devnull, "serve", "sftp", "--stdio", "--no-auth", remote]

    # --- measured -----------------------------------------------------------------------------------------

    def ours(self, commands: Commands) -> float:
        """Start sftp and pysftpsite."""
        return drivers.sftp(self._serve, commands())

    def rclone(self, commands: Commands) -> float:
        """Start sftp and rclone."""
        return drivers.sftp(self._beside, commands())

    def library(self, verb: str) -> float:
        """Start a program that does the same as `put` or `get` with obstore."""
        file, key = (str(self._file()), SENT) if verb == "put" else (os.devnull, FETCHED)
        return drivers.timed([*PROGRAMS, verb, self._url, BUCKET, file, key])

    def peak(self, commands: Commands) -> int:
        """The highest resident size (bytes) of pysftpsite."""
        return drivers.peak_memory(self._serve, commands(), self._top / "memory")

    # --- the work, as commands for sftp ---------------------------------------------------------------------

    def _file(self) -> Path:
        return random_file(self._local / "file", self.sizes.transfer)

    def put(self) -> str:
        """Put a file."""
        return f"put {self._file()} /{SENT}\n"

    def get(self) -> str:
        """Get a file."""
        return f"get /{FETCHED} {os.devnull}\n"

    def listing(self) -> str:
        """List a directory."""
        return f"ls -1f /{LISTED}\n"

    def put_files(self) -> str:
        """Put a directory."""
        return f"put -R {_files(self._local / UP, self.sizes.files, self.sizes.each)} /\n"

    def get_files(self) -> str:
        """Get a directory to a place where it does not exist."""
        shutil.rmtree(self._local / DOWN, ignore_errors=True)
        return f"get -R /{DOWN} {self._local}\n"


def _files(directory: Path, count: int, size: int) -> Path:
    """A directory with `count` files of `size` bytes."""
    if not directory.exists():
        directory.mkdir()
        for number in range(count):
            (directory / f"file-{number:05}").write_bytes(os.urandom(size))
    return directory
