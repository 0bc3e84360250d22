"""Keeps the package's code as it is when a door starts, so that later imports are of the same version.

An upgrade replaces modules on the disk while a door serves. Without this, a session would import a module of
the new version into the old one. What may not enter: what a door serves, modules of other packages.
Facts: importlib on finders and loaders, PEP 552 on compiled files.
"""

from __future__ import annotations

import marshal
import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import MAGIC_NUMBER, cache_from_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

PACKAGE, TOP = __name__.partition(".")[0], os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HEADER = 16  # bytes of a compiled file before its code
INIT = "__init__"
#: Rooms that a door keeps only if it has begun to load them: those of other doors, and unused ones.
APART = ("contract", "laboratory", "probe", "remo", "sksync", "sshd", "warm", "web")


def keep_code() -> None:
    """From now on, keep the code that is not loaded yet. A second call does nothing."""
    if not any(isinstance(finder, Kept) for finder in sys.meta_path):
        sys.meta_path.insert(0, Kept(TOP))


class Kept:
    """Finds and loads the modules of the package in a directory, from their files as they are now."""

    def __init__(self, top: str) -> None:
        self._files: dict[str, tuple[str, bytes, bytes]] = {}
        for name, path in _modules(top, PACKAGE) if os.path.isdir(top) else ():  # not in a ZIP file
            if name not in sys.modules:
                try:
                    self._files[name] = (path, *_read(path))
                except OSError:
                    pass  # not a module, such as an editor's link; importing it would report the error

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """For importlib: the spec of a module; None if it is not of the package."""
        found = self._files.get(name)
        if found is None:
            return None
        spec = ModuleSpec(name, self, origin=found[0])  # type: ignore[arg-type]
        spec.has_location = True
        if found[0].endswith(f"{os.sep}{INIT}.py"):
            spec.submodule_search_locations = [os.path.dirname(found[0])]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """For importlib: None, for an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """For importlib: run the code of a module."""
        path, source, compiled = self._files[module.__name__]
        code = compile(source, path, "exec", dont_inherit=True) if not compiled else marshal.loads(compiled)
        exec(code, module.__dict__)


def _modules(top: str, name: str) -> Iterator[tuple[str, str]]:
    """The modules of a package and the files that they are in."""
    yield name, os.path.join(top, f"{INIT}.py")
    with os.scandir(top) as entries:
        for entry in entries:
            if entry.name.endswith(".py") and entry.name != f"{INIT}.py":
                yield f"{name}.{entry.name[:-3]}", entry.path
                continue
            inner = f"{name}.{entry.name}"
            is_apart = entry.name in APART and inner not in sys.modules
            if not is_apart and os.path.exists(os.path.join(entry.path, f"{INIT}.py")):
                yield from _modules(entry.path, inner)


def _read(path: str) -> tuple[bytes, bytes]:
    """The source of a module, and its compiled code. One of them is empty."""
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        try:
            with open(cache_from_source(path), "rb") as cached:
                compiled = cached.read()
        except OSError:
            compiled = b""
        times = (int(found.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little")
        size = (found.st_size & 0xFFFFFFFF).to_bytes(4, "little")
        if compiled[:HEADER] == MAGIC_NUMBER + bytes(4) + times + size:
            return b"", compiled[HEADER:]
        return file.read(), b""
