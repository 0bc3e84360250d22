"""The arrows of docs/architecture.md: who may import whom. Read from the source, not from memory."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pysftpserver"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
ENGINE = """server bulk requests handlers handles wire segments copying attributes pysftpexceptions hook
abstractstorage limits log audit""".split()
STORAGES = ["storage", "virtualchroot", "entries", "linux", "accounts", "atomic"]
DOORS = ["stdio", "sandbox"]
FOR_DOORS = ["incoming", "temporary", "throttle", "wholefiles"]  # what several of the other doors need
CORE = [*ENGINE, *STORAGES, *DOORS, *FOR_DOORS]
OTHER_STORAGES = ["mongostorage", "mongo", "embedded"]
OTHER_DOORS = ["sshd", "sksync", "remo", "laboratory"]
WIRE_AND_SESSIONS = set("wire server bulk requests handlers handles segments copying hook".split())
FOR_TESTS = {"testing", "contract"}
#: What a person or a WSGI server names instead of a command, and what only hands over to one.
ENTRANCES = [PACKAGE / "remo" / "__main__.py", PACKAGE / "remo" / "app.py"]
MOST_LINES = 500
STARTS_WITHOUT = {"asyncio", "logging", "typing", "dataclasses", "inspect", "socket", "subprocess"}


def only_for_types(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(path: Path) -> set[tuple[str, str]]:
    """(function it is in or "", full module name) of each import that runs."""
    found = set()

    def visit(node: ast.AST, function: str) -> None:
        if only_for_types(node):
            for child in node.orelse:
                visit(child, function)
            return
        if isinstance(node, ast.Import):
            found.update((function, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.relative_to(ROOT).parts[: -node.level]
                base = ".".join((*package, base)).rstrip(".")
            found.add((function, base))
            found.update((function, f"{base}.{alias.name}") for alias in node.names)
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(path.read_text()), "")
    return found


def own(path: Path) -> set[tuple[str, str]]:
    """The imports of this package: (function, module or sub-package of pysftpserver)."""
    found = {
        (function, name.split(".")[1]) for function, name in imports(path) if name.startswith("pysftpserver.")
    }
    # `from pysftpserver import __version__` names no module.
    return {(function, name) for function, name in found if is_module(PACKAGE / name)}


def is_module(path: Path) -> bool:
    return path.with_suffix(".py").exists() or path.is_dir()


def rooms() -> set[str]:
    """The modules and sub-packages that are there, as the table names them."""
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    return modules | {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}


def section(title: str) -> str:
    """The text of docs/architecture.md below a heading."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


class Arrows(unittest.TestCase):
    def test_every_module_has_its_place_here(self):
        known = {*CORE, *OTHER_STORAGES, *OTHER_DOORS, *FOR_TESTS, "cli"}
        present = {room.removesuffix("/").removesuffix(".py") for room in rooms()}
        self.assertEqual(present - known, set())
        self.assertEqual(set(CORE) - present, set())

    def test_the_table_of_rooms_has_every_module_that_is_there_and_no_other(self):
        table = re.findall(r"^\| `([\w./]+)` \|", section("The rooms"), re.MULTILINE)
        self.assertEqual(sorted(table), sorted(rooms()))

    def test_the_page_names_every_method_that_the_jail_replaces(self):
        tree = ast.parse((PACKAGE / "virtualchroot.py").read_text())
        (jail,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
        replaced = {node.name for node in jail.body if isinstance(node, ast.FunctionDef)}
        named = set(re.findall(r"`(\w+)(?:\(path\))?`", section("From a path to a file")))
        self.assertEqual({name for name in replaced if not name.startswith("__")} - named, set())

    def test_the_core_imports_the_standard_library_and_itself_only(self):
        for name in CORE:
            for _, module in imports(PACKAGE / f"{name}.py"):
                top = module.split(".")[0]
                with self.subTest(name, module=module):
                    self.assertIn(top, {*sys.stdlib_module_names, "pysftpserver", "__future__"})

    def test_the_engine_knows_no_storage_no_command_and_no_door_but_the_one_that_run_starts(self):
        forbidden = {*STORAGES, *OTHER_STORAGES, *DOORS, *OTHER_DOORS, *FOR_TESTS, "cli"}
        found = {
            (name, function, module)
            for name in ENGINE
            for function, module in own(PACKAGE / f"{name}.py")
            if module in forbidden
        }
        self.assertEqual(found, {("server", "run", "stdio")})

    def test_storages_know_no_wire_format_no_session_and_no_door(self):
        forbidden = {*WIRE_AND_SESSIONS, *DOORS, *OTHER_DOORS, *FOR_TESTS, "cli"}
        for name in (*STORAGES, *OTHER_STORAGES):
            for path in (PACKAGE / f"{name}.py", *(PACKAGE / name).glob("*.py")):
                if path.exists():
                    with self.subTest(path.name):
                        self.assertEqual({module for _, module in own(path)} & forbidden, set())

    def test_the_plugin_interface_and_hooks_know_no_wire_format_no_session_and_no_door(self):
        forbidden = {*WIRE_AND_SESSIONS, *DOORS, *OTHER_DOORS, "cli"}
        for name in ("abstractstorage", "hook"):
            with self.subTest(name):
                self.assertEqual({module for _, module in own(PACKAGE / f"{name}.py")} & forbidden, set())

    def test_the_stdio_door_knows_no_packets_and_nothing_of_storages(self):
        used = {module for _, module in own(PACKAGE / "stdio.py")}
        forbidden = {"wire", "requests", "handlers", "handles", "attributes", "abstractstorage", *STORAGES}
        self.assertEqual(used & forbidden, set())

    def test_what_is_for_tests_knows_no_concrete_storage_and_no_door(self):
        forbidden = {*STORAGES, *OTHER_STORAGES, *DOORS, *OTHER_DOORS, "cli"}
        for path in (PACKAGE / "testing.py", *(PACKAGE / "contract").glob("*.py")):
            with self.subTest(path.name):
                self.assertEqual({module for _, module in own(path)} & forbidden, set())

    def test_nothing_that_is_served_needs_what_is_for_tests(self):
        for path in PACKAGE.glob("**/*.py"):
            if FOR_TESTS.isdisjoint((path.stem, *path.relative_to(PACKAGE).parts)):
                with self.subTest(path.relative_to(PACKAGE).as_posix()):
                    self.assertEqual({module for _, module in own(path)} & FOR_TESTS, set())

    def test_no_module_is_imported_by_a_name_that_the_source_does_not_show(self):
        for path in PACKAGE.glob("**/*.py"):
            with self.subTest(path.relative_to(PACKAGE).as_posix()):
                self.assertNotIn("__import__", path.read_text())
                self.assertNotIn("importlib", {module.split(".")[0] for _, module in imports(path)})
                # A storage or a service may be a class that options name.
                if path != PACKAGE / "cli" / "storages.py":
                    self.assertNotIn("pkgutil", {module.split(".")[0] for _, module in imports(path)})

    def test_doors_know_no_concrete_storage(self):
        for door in (*DOORS, *OTHER_DOORS):
            for path in [PACKAGE / f"{door}.py", *(PACKAGE / door).glob("**/*.py")]:
                if path.exists():
                    with self.subTest(path.name):
                        used = {module for _, module in own(path)}
                        self.assertEqual(used & {*STORAGES, *OTHER_STORAGES}, set())

    def test_nothing_knows_the_commands_but_the_commands(self):
        for path in PACKAGE.glob("**/*.py"):
            if "cli" not in path.relative_to(PACKAGE).parts and path not in ENTRANCES:
                with self.subTest(path.name):
                    self.assertNotIn("cli", {module for _, module in own(path)})

    def test_entrances_hand_over_to_a_command_and_nobody_imports_them(self):
        for entrance in ENTRANCES:
            name = ".".join(entrance.relative_to(ROOT).with_suffix("").parts)
            with self.subTest(name):
                self.assertEqual({module for _, module in own(entrance)}, {"cli"})
                for path in PACKAGE.glob("**/*.py"):
                    self.assertNotIn(name, {module for _, module in imports(path)})

    def test_only_the_wire_module_calls_struct(self):
        users = {
            path.relative_to(PACKAGE).as_posix()
            for path in PACKAGE.glob("**/*.py")
            for _, module in imports(path)
            if module.split(".")[0] == "struct"
        }
        self.assertEqual({user for user in users if user.removesuffix(".py") in CORE}, {"wire.py"})

    def test_no_module_is_too_long_to_be_read_in_one_sitting(self):
        for path in PACKAGE.glob("**/*.py"):
            with self.subTest(path.relative_to(PACKAGE).as_posix()):
                self.assertLessEqual(len(path.read_text().splitlines()), MOST_LINES)

    def test_every_module_says_what_it_is_for(self):
        for path in PACKAGE.glob("**/*.py"):
            with self.subTest(path.relative_to(ROOT).as_posix()):
                self.assertTrue(ast.get_docstring(ast.parse(path.read_text())))

    def test_a_command_starts_without_what_makes_starting_slow(self):
        commands = {
            module
            for path in (ROOT / "bin").iterdir()
            if path.is_file()
            for module in re.findall(r"^from (pysftpserver\.cli\.\w+) import", path.read_text(), re.MULTILINE)
        }
        self.assertGreaterEqual(len(commands), 8)
        for module in (*commands, "pysftpserver.stdio"):
            code = (
                f"import sys; sys.path.insert(0, {os.fspath(ROOT)!r}); import {module}; print(*sys.modules)"
            )
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", code],
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            )
            loaded = set(done.stdout.split())
            with self.subTest(module):
                self.assertIn(module, loaded)
                self.assertEqual(loaded & STARTS_WITHOUT, set())
