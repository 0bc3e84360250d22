"""What a sync looks like: a progress display on a terminal, lines elsewhere, and the summary.

What may not enter: what is synced, and how.
"""

from __future__ import annotations

import contextlib
import os

from pysftpserver.cli.common import tell
from pysftpserver.failures import one_line
from pysftpserver.sksync.client import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID

    from pysftpserver.sksync.client import Summary

MOST_NAME = 40  # characters of a name in the display


class Lines(Observer):
    """A line to standard error for each file."""

    def sent(self, name: str, size: int) -> None:
        tell(f"sent {one_line(name)}, {size} bytes")

    def received(self, name: str, size: int) -> None:
        tell(f"received {one_line(name)}, {size} bytes")

    def failed(self, name: str, why: str) -> None:
        tell(f"failed: {one_line(name)}: {why}")


class Failures(Observer):
    """A line to standard error for each file that failed."""

    def failed(self, name: str, why: str) -> None:
        tell(f"failed: {one_line(name)}: {why}")


class Display(Observer):
    """One moving line: files, bytes, speed, and the last name. Failures are lines that stay."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task("reading this side", total=None, files="")
        self._sent = self._received = 0

    def listed(self, files: int) -> None:
        self._progress.update(self._task, description="waiting for the server", files=f"{files} files here")

    def moved(self, size: int) -> None:
        self._progress.advance(self._task, size)

    def sent(self, name: str, size: int) -> None:
        self._sent += 1
        self._say(name)

    def received(self, name: str, size: int) -> None:
        self._received += 1
        self._say(name)

    def _say(self, name: str) -> None:
        shown = one_line(name)
        shown = shown if len(shown) <= MOST_NAME else f"...{shown[3 - MOST_NAME :]}"
        counts = f"{self._sent} sent, {self._received} received"
        self._progress.update(self._task, description=shown, files=counts)

    def failed(self, name: str, why: str) -> None:
        self._progress.console.print(f"failed: {one_line(name)}: {why}", markup=False, highlight=False)


@contextlib.contextmanager
def observer(is_quiet: bool) -> Iterator[Observer]:
    """Who is told how a sync goes on."""
    if is_quiet:
        yield Failures()
        return
    if os.isatty(2):
        try:
            from rich.console import Console
            from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn
        except ModuleNotFoundError:
            pass  # then lines have to do
        else:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.fields[files]}", markup=False),
                DownloadColumn(binary_units=True),
                TransferSpeedColumn(),
                TextColumn("{task.description}", markup=False),
            )
            with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
                yield Display(progress)
            return
    yield Lines()


def report(summary: Summary, is_dry: bool) -> Iterator[str]:
    """The lines of a summary; those of a plan, before it."""
    if is_dry:
        for verb, files in (("send", summary.sent), ("receive", summary.received)):
            for name, size in sorted(files.items()):
                yield f"would {verb} {one_line(name)}, {size} bytes"
    for path in summary.skipped:
        shown = one_line(path.decode("utf-8", "backslashreplace"))
        yield f"skipped: {shown}: the protocol's encoding does not have that name"
    if summary.time_errors:
        yield f"modification times that could not be set: {summary.time_errors}"
    would = "would be " if is_dry else ""
    yield (
        f"{would}sent {len(summary.sent)}, {would}received {len(summary.received)}, "
        f"unchanged {summary.unchanged}, skipped {len(summary.skipped)}, failed {len(summary.failed)}; "
        f"{summary.bytes} bytes in {summary.seconds:.2f} seconds"
    )
