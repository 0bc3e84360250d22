"""A display of its own, the window client on it, and a person at the keyboard.

Each of them is a process that is ended by whoever started it.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until


class Display:
    """A screen in memory. directory: where Xvfb keeps it, for whoever wants to take its picture."""

    def __init__(self, size: str = "1000x800x24", directory: str | None = None) -> None:
        reader, writer = os.pipe()
        command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", size, "-nolisten", "tcp"]
        if directory is not None:
            command += ["-fbdir", directory]
        self._process = subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL)
        os.close(writer)
        with open(reader, "rb") as numbers:
            if not select.select([numbers], [], [], PATIENCE)[0]:
                self.close()
                raise AssertionError("Xvfb does not start")
            self.name = f":{numbers.readline().decode().strip()}"

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(PATIENCE)


class WindowProcess:
    """The command, on a display. home: where it keeps its state."""

    def __init__(self, display: str, home: Path, *arguments: str, password: str | None = None) -> None:
        environ = {key: value for key, value in os.environ.items() if key != "PYSFTPLAB_PASSWORD"}
        environ |= {"DISPLAY": display, "XDG_STATE_HOME": str(home)}
        if password is not None:
            environ["PYSFTPLAB_PASSWORD"] = password
        self._environ = environ
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.laboratory.window_driver", *arguments],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.xdotool("search", "--sync", "--onlyvisible", "--class", "Pysftplab", "windowfocus", "--sync")

    def xdotool(self, *words: str) -> str:
        """What a person does."""
        done = subprocess.run(
            ["xdotool", *words], env=self._environ, capture_output=True, text=True, timeout=PATIENCE
        )
        if done.returncode:
            raise AssertionError(f"xdotool {' '.join(words)}: {done.stderr}")
        return done.stdout

    def keys(self, *names: str) -> None:
        """Press keys: names are X's, such as Return or alt+c."""
        self.xdotool("key", "--delay", "2", *names)

    def type(self, text: str, *then: str) -> None:
        """Write something, and press keys."""
        keys = ["key", "--delay", "2", *then] if then else []
        self.xdotool("type", "--delay", "2", text)
        if keys:
            self.xdotool(*keys)

    def ask(self, word: str) -> Any:
        """A word for the driver, and its answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            raise AssertionError(f"the window does not answer: {word}")
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the window has ended: {self.process.stderr.read().decode()}")  # type: ignore[union-attr]
        return json.loads(line)

    def look(self) -> dict[str, Any]:
        """What is to be seen now."""
        found: dict[str, Any] = self.ask("look")
        return found

    def wait(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """What is to be seen as soon as it is as it should be."""
        seen: dict[str, Any] = {}

        def look() -> object:
            seen.update(self.look())
            return condition(seen)

        until(look, lambda: f"this does not come: {json.dumps(seen, indent=1)}")
        return seen

    def wait_for_line(self, kind: str, text: str) -> dict[str, Any]:
        """The same, as soon as there is such a line in the log. kind: its tag."""
        return self.wait(lambda seen: any(kind == tag and text in line for tag, line in seen["lines"]))

    def end(self) -> int:
        """Wait for its end; return the exit status."""
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
