"""A command run in the process of the tests, in a tenth of the time that one of its own would take."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from unittest import mock


def called(
    main: Callable[[list[str]], int],
    words: Iterable[str],
    cwd: Path,
    given: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Call main with words: it has standard descriptors, a directory and an environment of its own.

    Args:
        main: takes the words and returns the exit status, or raises SystemExit.
        given: its standard input.
        environment: all of it; None for this process's.
    """
    place, kept = os.getcwd(), [os.dup(number) for number in range(3)]
    streams = sys.stdin, sys.stdout, sys.stderr
    variables = dict(os.environ if environment is None else environment)
    words = list(words)
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        stdin.write(given)
        stdin.seek(0)
        try:
            for number, file in enumerate((stdin, out, err)):
                os.dup2(file.fileno(), number)
            sys.stdin, sys.stdout, sys.stderr = (open(n, "w" if n else "r", closefd=False) for n in range(3))
            os.chdir(cwd)
            with mock.patch.dict(os.environ, variables, clear=True):
                try:
                    status = main(words)
                except SystemExit as error:
                    status = int(error.code or 0)
            sys.stdout.flush()
        finally:
            sys.stdin, sys.stdout, sys.stderr = streams
            os.chdir(place)
            for number, descriptor in enumerate(kept):
                os.dup2(descriptor, number)
                os.close(descriptor)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, status, out.read(), err.read())
