"""A command's state directory, the history of its prompt, and its progress display on a terminal.

Nothing is shown in a pipe. What may not enter: what is typed, what is moved. Facts: XDG Base Directory
Specification, $XDG_STATE_HOME.
"""

from __future__ import annotations

import contextlib
import os

from pysftpserver.failures import one_line
from pysftpserver.host import wholefiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.progress import Progress as Bars

MOST_LINES = 1000  # of a history
MOST_BYTES = 1 << 20
MOST_NAME = 40  # characters of a name in a progress display


def state_directory(command: str, environ: Mapping[str, str]) -> str:
    """The directory for a command's state of its user. It need not exist."""
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # the specification: a relative path counts as not set
        state = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, command)


class History:
    """The lines typed at a prompt in earlier runs, in a file that only its owner can read.

    Several terminals may add to one file. Passwords are not typed at a prompt that has a history.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self) -> list[str]:
        """The lines, oldest first; none if the file cannot be read."""
        try:
            # O_NONBLOCK: opening a FIFO would wait for its writer.
            with open(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                content = file.read(MOST_BYTES)
        except OSError:
            return []
        lines = content.decode("utf-8", "replace").split("\n")
        return [line for line in lines if line and line.isprintable()][-MOST_LINES:]

    def add(self, lines: Sequence[str]) -> None:
        """Append lines; if there are more than MOST_LINES, drop the oldest. Raises OSError."""
        kept = [*self.load(), *(line for line in lines if line and line.isprintable())][-MOST_LINES:]
        content = "".join(f"{line}\n" for line in kept).encode("utf-8", "replace")
        while len(content) > MOST_BYTES:
            content = content.partition(b"\n")[2]
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        with wholefiles.open_temporary(self._path, content) as temporary:
            temporary.commit()


@contextlib.contextmanager
def prompt_history(path: str, failed: Callable[[OSError], None]) -> Iterator[None]:
    """Save the lines that are typed in the block in a file, for the next session, if there is readline.

    failed: called when they cannot be saved.
    """
    try:
        import readline
    except ImportError:
        yield
        return
    lines = History(path)
    for line in lines.load():
        readline.add_history(line)
    before = readline.get_current_history_length()
    try:
        yield
    finally:
        after = readline.get_current_history_length()
        try:
            lines.add([readline.get_history_item(number) for number in range(before + 1, after + 1)])
        except OSError as error:
            failed(error)


class Progress:
    """One moving line on standard error: a name, what has been done, bytes and their speed. bars: rich's."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=None, note="")

    def begin(self, name: str, size: int | None = None) -> None:
        """Begin with a file. size: in bytes, None if not known."""
        self._bars.reset(self._task, description=shortened(name), total=size)

    def moved(self, count: int) -> None:
        """Add bytes that have been moved."""
        self._bars.update(self._task, advance=count)

    def say(self, name: str, note: str = "") -> None:
        """Change the text of the line. note: what has been done so far."""
        self._bars.update(self._task, description=shortened(name), note=note)

    def keep(self, line: str) -> None:
        """Print a line that stays, above the moving one."""
        self._bars.console.print(line, markup=False, highlight=False)


def shortened(name: str) -> str:
    """A name on one line, without its beginning if it is long."""
    shown = one_line(name)
    return shown if len(shown) <= MOST_NAME else f"...{shown[3 - MOST_NAME :]}"


@contextlib.contextmanager
def progress() -> Iterator[Progress | None]:
    """A progress display on standard error; None if that is not a terminal, or rich is not installed."""
    if not os.isatty(2):
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import DownloadColumn, SpinnerColumn, TextColumn, TransferSpeedColumn
        from rich.progress import Progress as Bars
    except ModuleNotFoundError:
        yield None
        return
    with Bars(
        SpinnerColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        yield Progress(bars)
