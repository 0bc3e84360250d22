"""Shows a sync to the user: progress on a terminal or else a line for each file, and the summary.

What may not enter: what is synced, and how.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator

from pysftpserver.failures import one_line, reason_of
from pysftpserver.service import terminal
from pysftpserver.service.terminal import Progress
from pysftpserver.sksync.client import Observer, Summary

Tell = Callable[[str], None]


class Failures(Observer):
    """A line for each file that failed. tell: prints a line to standard error."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def failed(self, name: str, why: str) -> None:
        self._tell(f"failed: {one_line(name)}: {why}")


class Lines(Failures):
    """A line for each file."""

    def sent(self, name: str, size: int) -> None:
        self._tell(f"sent {one_line(name)}, {size} bytes")

    def received(self, name: str, size: int) -> None:
        self._tell(f"received {one_line(name)}, {size} bytes")


class Display(Observer):
    """One moving line: files, bytes, speed, and the last name."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._sent = self._received = 0
        progress.begin("reading this side")

    def failed(self, name: str, why: str) -> None:
        self._progress.keep(f"failed: {one_line(name)}: {why}")

    def listed(self, files: int) -> None:
        self._progress.say("waiting for the server", f"{files} files here")

    def moved(self, size: int) -> None:
        self._progress.moved(size)

    def sent(self, name: str, size: int) -> None:
        self._sent += 1
        self._say(name)

    def received(self, name: str, size: int) -> None:
        self._received += 1
        self._say(name)

    def _say(self, name: str) -> None:
        self._progress.say(name, f"{self._sent} sent, {self._received} received")


@contextlib.contextmanager
def observer(is_quiet: bool, tell: Tell) -> Iterator[Observer]:
    """An observer that shows progress. is_quiet: only failures. tell: prints a line to standard error."""
    if is_quiet:
        yield Failures(tell)
        return
    with terminal.progress() as progress:
        yield Lines(tell) if progress is None else Display(progress)


def summary_lines(summary: Summary, is_dry: bool) -> Iterator[str]:
    """The summary of a sync; for a dry run, the plan first."""
    if is_dry:
        for verb, files in (("send", summary.sent), ("receive", summary.received)):
            for name, size in sorted(files.items()):
                yield f"would {verb} {one_line(name)}, {size} bytes"
    for path in summary.skipped:
        shown = one_line(path.decode("utf-8", "backslashreplace"))
        yield f"skipped: {shown}: the name cannot be encoded in this protocol"
    if summary.time_errors:
        yield f"modification times that could not be set: {summary.time_errors}"
    if summary.leftovers:
        yield f"temporary files of interrupted syncs that were removed: {summary.leftovers}"
    would = "would be " if is_dry else ""
    yield (
        f"{would}sent {len(summary.sent)}, {would}received {len(summary.received)}, "
        f"unchanged {summary.unchanged}, skipped {len(summary.skipped)}, failed {len(summary.failed)}; "
        f"{summary.bytes} bytes in {summary.seconds:.2f} seconds"
    )


def put_out(lines: Iterable[str], tell: Tell) -> bool:
    """Write lines to standard output, in UTF-8 whatever the locale is; return whether that worked."""
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    try:
        while text:
            text = text[os.write(1, text) :]
    except OSError as error:
        tell(f"standard output: {reason_of(error)}")
        return False
    return True
