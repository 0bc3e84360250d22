"""A package that is installed in a directory of its own, and then replaced under the programs that run.

The new version is hostile: each of its modules writes its name to a file and fails. A session of the old
version that imports one of them shows in that file.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.support.paths import ROOT

PACKAGE = "pysftpserver"
HOSTILE = """\
import os
with open({marks!r}, "a") as file:
    file.write(__name__ + "\\n")
raise ImportError("a module of another version")
"""
#: At the end of each module of a version that works.
NEXT = """
with open({marks!r}, "a") as _file:
    _file.write(f"{{__import__('os').getpid()}}\\n")
"""
#: Starts a command of bin/ from the installed package alone. Its name is the first argument.
RUN = "import sys; sys.path.insert(0, {top!r}); sys.argv[0] = {command!r}; exec(open({command!r}).read())"


class Installed:
    """A copy of this checkout's package and commands. place: an empty directory for it."""

    def __init__(self, place: Path) -> None:
        self.top = place / "installed"
        self.marks = place / "imported"
        self.top.mkdir()
        self._put(ROOT / PACKAGE, self.top)
        shutil.copytree(ROOT / "bin", self.top / "bin")

    def command(self, name: str, *arguments: object) -> list[str]:
        """The argv that runs one of its commands."""
        script = RUN.format(top=str(self.top), command=str(self.top / "bin" / name))
        return [sys.executable, "-P", "-c", script, *map(str, arguments)]

    def replace(self) -> None:
        """Remove the version that is installed, and install another one, as pip does."""
        package = self.top / PACKAGE
        names = [path.relative_to(package) for path in package.rglob("*.py")]
        package.rename(self.top / "~ysftpserver")
        for name in names:
            path = package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(HOSTILE.format(marks=str(self.marks)))
        shutil.rmtree(self.top / "~ysftpserver")

    def install_next(self, **changes: str) -> None:
        """Replace the version that is installed by one that differs: it says in a file which processes load
        it. changes: of the text of its module of that name (sshd_server), from what to what (one=>another).
        """
        package = self.top / PACKAGE
        package.rename(self.top / "~ysftpserver")
        self._put(ROOT / PACKAGE, self.top)
        for path in package.rglob("*.py"):
            path.write_text(path.read_text() + NEXT.format(marks=str(self.marks)))
        for name, change in changes.items():
            path, (before, after) = package / f"{name.replace('_', '/')}.py", change.split("=>")
            text = path.read_text()
            assert before in text, before
            path.write_text(text.replace(before, after))
        shutil.rmtree(self.top / "~ysftpserver")

    def imported(self) -> list[str]:
        """The modules of the new version that were imported."""
        return self.marks.read_text().split() if self.marks.exists() else []

    def restore(self) -> None:
        """Install the old version again."""
        shutil.rmtree(self.top / PACKAGE)
        self._put(ROOT / PACKAGE, self.top)
        self.marks.unlink(missing_ok=True)

    @staticmethod
    def _put(source: Path, top: Path) -> None:
        # With the compiled files: a test is not to pay for them.
        shutil.copytree(source, top / source.name)
