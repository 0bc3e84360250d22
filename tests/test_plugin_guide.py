"""docs/plugins.md: its programs run, and its tables tell what the code does."""

from __future__ import annotations

import errno
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

from pysftpserver import pysftpexceptions, testing
from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.contract.base import METHODS
from pysftpserver.testing import SFTPTestClient, get_sftphandle, get_sftpstatus
from tests.support.memory import SFTPServerMemoryStorage
from tests.support.paths import ROOT

GUIDE = (ROOT / "docs" / "plugins.md").read_text()


MEMORY_STORAGE = ROOT / "examples" / "memory_storage" / "memorystorage.py"


def python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def programs() -> dict[str, str]:
    """The whole files in the guide, by the file name in their first line."""
    found = {}
    for block in python_blocks():
        if name := re.match(r"# (\w+\.py)\n", block):
            found[name[1]] = block
    return found


def excerpts() -> list[str]:
    """All other Python in the guide."""
    return [block for block in python_blocks() if block not in programs().values()]


class Tables(unittest.TestCase):
    def setUp(self) -> None:
        rows = re.findall(r"^\| `(\w+)\((.*?)\)` \| .* \| (.*) \|$", GUIDE, re.MULTILINE)
        self.rows = {name: (arguments, default) for name, arguments, default in rows}
        self.methods = {
            name: method
            for name, method in inspect.getmembers(SFTPAbstractServerStorage, inspect.isfunction)
            if not name.startswith("_")
        }

    def test_every_method_of_the_interface_is_in_the_table_and_nothing_else(self) -> None:
        self.assertEqual(self.rows.keys(), self.methods.keys())

    def test_the_arguments_in_the_table_are_those_of_the_methods(self) -> None:
        for name, method in self.methods.items():
            parameters = [
                p.replace(annotation=p.empty) for p in inspect.signature(method).parameters.values()
            ]
            expected = ", ".join(str(parameter) for parameter in parameters[1:])
            self.assertEqual(self.rows[name][0], expected, name)

    def test_what_is_called_unsupported_is(self) -> None:
        unsupported = {name for name, (_, default) in self.rows.items() if default == "unsupported"}
        self.assertEqual(unsupported, METHODS)

    def test_every_name_of_the_exceptions_and_of_the_testing_module_exists(self) -> None:
        for name in re.findall(r"`(SFTP(?:NotFound|Forbidden|\w+Message|Failure|Session\w+))`", GUIDE):
            self.assertTrue(hasattr(pysftpexceptions, name), name)
        for name in re.findall(r"`((?:get_)?sftp(?:cmd|[a-z0-9]+))`", GUIDE):
            if name != "sftp":
                self.assertIn(name, testing.__all__)

    def test_the_errnos_have_the_statuses_that_it_says(self) -> None:

        for words, status in (
            ("ENOENT ENOTDIR ELOOP", 2),
            ("EPERM EACCES", 3),
            ("EINVAL ENAMETOOLONG", 5),
            ("EEXIST ENOTEMPTY EISDIR ENOSPC", 4),
        ):
            for word in words.split():
                self.assertIn(f"`{word}`", GUIDE)
                self.assertEqual(
                    pysftpexceptions.status_of(OSError(getattr(errno, word), ""))[0], status, word
                )


class Excerpts(unittest.TestCase):
    def test_every_excerpt_is_in_the_memory_storage_word_for_word(self) -> None:
        source = MEMORY_STORAGE.read_text()
        for excerpt in excerpts():
            with self.subTest(excerpt.splitlines()[0]):
                self.assertEqual(source.count("\n" + excerpt), 1)

    def test_they_show_the_nodes_an_error_the_handles_a_listing_and_a_rename(self) -> None:
        shown = "".join(excerpts())
        for name in ("class Node", "def fail", "class OpenFile", "def opendir", "def rename"):
            self.assertEqual(len(re.findall(rf"^ *{name}\b", shown, re.MULTILINE)), 1, name)

    def test_the_memory_storage_lacks_the_methods_that_the_guide_says_it_lacks(self) -> None:
        methods = {name for name in vars(SFTPAbstractServerStorage) if not name.startswith("_")} - {
            "home",
            "lacks",
            "uses_network",
            "window",
        }
        missing = methods - vars(SFTPServerMemoryStorage).keys()
        of_all = set("abandon check_root copy_range fileno groupname promise_read promise_write".split())
        of_all |= {
            "path_of",
            "check_write",
            "checksum",
            "reads",
            "release",
            "spoil",
            "sync_directory",
            "territory",
        }
        self.assertEqual(missing, of_all | {"userhome", "username"})


class Programs(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name, text in programs().items():
            (self.directory / name).write_text(text)
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def test_there_are_the_four_that_are_tested_here(self) -> None:
        self.assertEqual(set(programs()), {"greetings.py", "backups.py", "test_greetings.py", "serve.py"})

    def test_the_storage_of_the_guide_keeps_the_contract(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "unittest", "test_greetings"],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, r"Ran \d{2,} tests")
        self.assertNotIn("skipped", done.stderr)

    def test_the_real_client_lists_and_gets_from_it(self) -> None:
        sftp = shutil.which("sftp")
        self.assertIsNotNone(sftp, "OpenSSH's client is needed")
        done = subprocess.run(
            [str(sftp), "-b", "-", "-D", shlex.join([sys.executable, "serve.py"])],
            input="ls -l\nget english copy\n-put serve.py x\n",
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("esperanto", done.stdout)
        self.assertEqual((self.directory / "copy").read_bytes(), b"Hello!\n")

    def test_the_hook_keeps_backups_and_counts(self) -> None:
        names: dict[str, Any] = {}
        exec(compile(programs()["backups.py"], "backups.py", "exec"), names)
        hook = names["KeepBackups"]()
        client = SFTPTestClient(SFTPServerMemoryStorage(), hook=hook)
        for path in (b"/a.bak", b"/a"):
            handle = get_sftphandle(client.call("open", path, os.O_WRONLY | os.O_CREAT, 0o666))
            client.call("write", handle, 0, b"12345")
            client.call("write", handle, 5, b"678")
        self.assertEqual(get_sftpstatus(client.call("rm", b"/a.bak")), 3)
        self.assertEqual(get_sftpstatus(client.call("rm", b"/a")), 0)
        self.assertEqual(hook.written, {b"/a.bak": 8, b"/a": 8})
