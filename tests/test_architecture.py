"""The arrows of docs/architecture.md: which room may import which. Read from the source, not from memory."""

from __future__ import annotations

import ast
import functools
import gc
import os
import re
import subprocess
import sys
import unittest
from importlib import import_module
from pathlib import Path
from typing import TypeGuard

from tests.support.paths import ROOT

PACKAGE = ROOT / "pysftpserver"
PAGE = (ROOT / "docs" / "architecture.md").read_text()

#: Modules of Python that are not promised. What is promised imports much more at the start of a session.
UNPROMISED = {"_ctypes", "_signal", "_socket", "_thread"}
#: The rooms, and which others each may import (its own modules always). A room is a directory, or a module on
#: top; modules that share a line are one room. The order is from the floor up: no arrow points upwards.
FLOOR = {"failures", "formats", "pysftpexceptions"}
API = {"abstractstorage", "attributes", "hook"}
STORAGES = {
    *("storage", "virtualchroot", "mongostorage", "objectstorage"),
    *("mountedstorage", "fsspecstorage", "proxystorage"),
}
DOORS = {"stdio", "sshd", "sksync", "remo", "laboratory", "warm", "web"}
ROOMS_OF_DOORS = FLOOR | API | {"engine", "host", "server", "service", "uploads"}
SHARED = {"sshd": {"people"}, "remo": {"http"}, "web": {"people", "http"}}  # what several doors have
ARROWS: dict[str, set[str]] = {
    "failures": set(),
    "formats": {"failures"},
    "pysftpexceptions": {"failures"},
    "attributes": {"pysftpexceptions"},
    "abstractstorage": {"attributes", "pysftpexceptions"},
    "hook": {"pysftpexceptions"},
    "host": FLOOR | API,
    "uploads": FLOOR | API | STORAGES | {"host"},
    **{name: FLOOR | API | STORAGES | {"host", "storages"} for name in STORAGES},
    "storages": FLOOR | API | STORAGES | {"host"},
    "engine": FLOOR | API,
    "server": FLOOR | API | {"engine"},
    "service": FLOOR | API | {"engine", "host", "server"},
    "site": FLOOR | API | {"engine", "host", "uploads"},
    "people": FLOOR | API | {"engine", "host", "service"},
    "http": FLOOR | API | {"service", "uploads"},
    **{door: ROOMS_OF_DOORS | SHARED.get(door, set()) for door in DOORS},
    "contract": FLOOR | API | {"engine", "server"},
    "testing": FLOOR | API | {"engine", "server", "contract"},
    "probe": FLOOR | API | {"contract", "engine", "host", "service"},
    "cli": FLOOR
    | API
    | STORAGES
    | DOORS
    | {"engine", "host", "http", "people", "probe", "server", "service", "site", "storages", "uploads"},
}
#: Arrows that point upwards all the same, each inside one function that a caller asks for by name.
ON_CALL = {
    ("server.py", "run", "stdio"),  # SFTPServer.run(), which the seed's plugins call
    ("remo/__main__.py", "main", "cli"),  # `python -m pysftpserver.remo` is a command
    ("storages/sites.py", "room", "site"),  # a name that ends in .toml is a site file's
    ("remo/app.py", "_storages", "storages"),  # what a WSGI server imports: no command hands it a storage
}
#: A client of SFTP speaks its wire format: the storage on another SFTP server, and its parts.
SPEAKS_SFTP = ("proxystorage.py", "storages/sftp/")
#: Rooms that run where nothing but the standard library is installed.
CORE = [
    *FLOOR,
    *API,
    "storage",
    "virtualchroot",
    "host",
    "uploads",
    "engine",
    "server",
    "stdio",
    "warm",
    "site",
]
STARTS_WITHOUT = {"asyncio", "logging", "typing", "dataclasses", "inspect", "socket", "subprocess"}
#: Commands that fork a process for each session, and modules that the server with its children has.
FORKING = {
    "pysftpd": ("pysftpserver.sshd.forkserver", "pysftpserver.people.user_storages"),
    "pysftp_warm": ("pysftpserver.warm.server", "pysftpserver.service.logs"),
}


def only_for_types(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@functools.cache
def attributes(tree: ast.AST, name: str) -> set[str]:
    """The attributes of a name that a module uses."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in found if isinstance(node.value, ast.Name) and node.value.id == name}


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a module: each is parsed once, and kept, so that garbage is not looked for in it."""
    tree = ast.parse(path.read_text())
    gc.freeze()
    return tree


@functools.cache
def import_statements(path: Path) -> list[tuple[ast.Import | ast.ImportFrom, str, bool]]:
    """(it, function it is in or "", whether it runs) of each. Statements alone are looked into."""
    found = []

    def visit(node: ast.AST, function: str, runs: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append((node, function, runs))
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        skipped = node.body if only_for_types(node) else ()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                visit(child, inside, runs and child not in skipped)

    visit(parsed(path), "", True)
    return found


@functools.cache
def imports(path: Path) -> set[tuple[str, str]]:
    """(function it is in or "", full module name) of each import that runs."""
    found = set()
    for node, function, runs in import_statements(path):
        if isinstance(node, ast.Import) and runs:
            found.update((function, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and runs:
            base = node.module or ""
            if node.level:
                package = path.relative_to(ROOT).parts[: -node.level]
                base = ".".join((*package, base)).rstrip(".")
            found.add((function, base))
            found.update((function, f"{base}.{alias.name}") for alias in node.names)
    return found


def room_of(path: Path) -> str:
    """The room that a module of the package is in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def arrows(path: Path) -> set[tuple[str, str]]:
    """(function or "", other room) for each import of another room's."""
    found = {
        (function, name.split(".")[1]) for function, name in imports(path) if name.startswith("pysftpserver.")
    }
    return {(function, room) for function, room in found if room in rooms() and room != room_of(path)}


@functools.cache
def rooms() -> set[str]:
    """The rooms that are there."""
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    return modules | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


@functools.cache
def sources(*names: str) -> list[Path]:
    """The modules of some rooms, or of all."""
    return [path for path in sorted(PACKAGE.glob("**/*.py")) if not names or room_of(path) in names]


def shown(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def section(title: str) -> str:
    """The text of docs/architecture.md below a heading."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


class Arrows(unittest.TestCase):
    def test_every_room_has_its_arrows_here(self):
        self.assertEqual(rooms(), set(ARROWS))

    def test_the_page_lists_every_room_that_is_there_and_no_other(self):
        table = re.findall(r"^\| `(\w+)(?:\.py|/)`", section("The rooms"), re.MULTILINE)
        self.assertEqual(sorted(table), sorted(rooms()))

    def test_every_file_that_a_recipe_names_is_there(self):
        for title in re.findall(r"^## (How to .+)$", PAGE, re.MULTILINE):
            names = re.findall(r"`([\w/]+\.(?:py|md))`", section(title))
            self.assertTrue(names, title)
            for name in names:
                if "NAME" not in name:  # which stands for the new one's
                    with self.subTest(title, name=name):
                        self.assertTrue((ROOT / name).is_file() or any(PACKAGE.glob(f"**/{name}")))

    def test_every_arrow_between_rooms_is_an_allowed_one(self):
        for path in sources():
            for function, room in arrows(path):
                with self.subTest(f"{shown(path)} -> {room}"):
                    if room == "engine" and shown(path).startswith(SPEAKS_SFTP):
                        modules = {module for _, module in imports(path) if ".engine." in module}
                        self.assertTrue(all(".engine.wire" in module for module in modules), modules)
                    elif (shown(path), function, room) not in ON_CALL:
                        self.assertIn(room, ARROWS.get(room_of(path), set()))

    def test_no_two_rooms_import_each_other(self):
        for room, others in ARROWS.items():
            for other in others - STORAGES:
                with self.subTest(f"{room} and {other}"):
                    self.assertNotIn(room, ARROWS[other] - STORAGES)

    def test_no_door_imports_another(self):
        for door in DOORS:
            for path in sources(door):
                with self.subTest(shown(path)):
                    self.assertEqual({room for _, room in arrows(path)} & DOORS, set())

    def test_no_module_of_the_engine_imports_one_that_imports_it(self):
        modules = {f"pysftpserver.{room_of(path)}": path for path in sources("server")}
        modules |= {f"pysftpserver.engine.{path.stem}": path for path in sources("engine")}
        known = {
            name: {module for _, module in imports(path) if module in modules and module != name}
            for name, path in modules.items()
        }

        def below(name: str, seen: frozenset[str]) -> set[str]:
            self.assertNotIn(name, seen, "a circle")
            return known[name].union(*(below(other, seen | {name}) for other in known[name]))

        for name in known:
            with self.subTest(name):
                self.assertNotIn(name, below(name, frozenset()))

    def test_nothing_in_the_engine_knows_the_server(self):
        for path in sources("engine"):
            with self.subTest(shown(path)):
                self.assertNotIn("SFTPServer", path.read_text())

    def test_the_core_imports_the_standard_library_and_itself_only(self):
        for path in sources(*CORE):
            for _, module in imports(path):
                with self.subTest(shown(path), module=module):
                    top = module.split(".")[0]
                    self.assertIn(top, {*sys.stdlib_module_names, "pysftpserver", "__future__"})

    def test_the_stdio_door_knows_no_packets(self):
        used = {module for path in sources("stdio") for _, module in imports(path)}
        unwanted = {f"pysftpserver.engine.{name}" for name in ("wire", "requests", "handlers", "handles")}
        self.assertEqual(used & unwanted, set())

    def test_the_page_names_every_method_that_the_jail_replaces(self):
        tree = parsed(PACKAGE / "virtualchroot.py")
        (jail,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
        replaced = {node.name for node in jail.body if isinstance(node, ast.FunctionDef)}
        named = set(re.findall(r"`(\w+)(?:\(path\))?`", section("From a path to a file")))
        self.assertEqual({name for name in replaced if not name.startswith("__")} - named, set())

    def test_no_module_is_imported_by_a_name_that_the_source_does_not_show(self):
        for path in sources():
            with self.subTest(shown(path)):
                self.assertNotIn("__import__", path.read_text())
                # What keeps the code of a door says where modules are:
                if shown(path) != "service/keeping.py":
                    self.assertNotIn("importlib", {module.split(".")[0] for _, module in imports(path)})
                # Classes that options and configurations name, and the modules of the table of storages:
                if shown(path) not in ("storages/classes.py", "storages/reach.py"):
                    self.assertNotIn("pkgutil", {module.split(".")[0] for _, module in imports(path)})

    def test_what_python_does_not_promise_is_listed_and_there(self):
        for path in sources():
            used: dict[str, set[str]] = {}  # by the private module
            for node, _, _ in import_statements(path):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("_"):
                    used.setdefault(node.module or "", set()).update(alias.name for alias in node.names)
                for alias in node.names if isinstance(node, ast.Import) else ():
                    if alias.name.startswith("_"):
                        used.setdefault(alias.name, set()).update(
                            attributes(parsed(path), alias.asname or alias.name)
                        )
            with self.subTest(shown(path)):
                self.assertEqual(used.keys() - UNPROMISED - {"__future__"}, set())
                for module, names in used.items():
                    self.assertEqual(
                        {name for name in names if not hasattr(import_module(module), name)}, set()
                    )

    def test_every_module_says_what_it_is_for(self):
        for path in sources():
            with self.subTest(shown(path)):
                self.assertTrue(ast.get_docstring(parsed(path)))

    def test_a_command_starts_without_what_makes_starting_slow(self):
        commands = {
            module
            for path in (ROOT / "bin").iterdir()
            if path.is_file()
            for module in re.findall(r"^from (pysftpserver\.cli\.\w+) import", path.read_text(), re.MULTILINE)
        }
        self.assertGreaterEqual(len(commands), 8)
        for module in (*commands, "pysftpserver.stdio"):
            loaded = loaded_by(f"import {module}")
            with self.subTest(module):
                self.assertIn(module, loaded)
                self.assertEqual(loaded & STARTS_WITHOUT, set())

    def test_a_server_that_forks_holds_nothing_that_works_in_each_new_process(self):
        for command, modules in FORKING.items():
            loaded = loaded_by(
                f"import {', '.join(modules)}; from pysftpserver.cli.{command} import prepare; prepare()"
            )
            with self.subTest(command):
                self.assertLessEqual(set(modules), loaded)
                self.assertEqual(loaded & {"threading", "logging", "random"}, set())


def loaded_by(code: str) -> set[str]:
    """The modules that an interpreter of its own has loaded when it has run the code."""
    code = f"import sys; sys.path.insert(0, {os.fspath(ROOT)!r}); {code}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    return set(done.stdout.split())
