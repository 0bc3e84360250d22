"""What README.md promises of an installation, on one that is made here: commands, `make try` and the like."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.parse
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pymongo

from pysftpserver import __version__
from pysftpserver.cli.registry import PROGRAMS
from pysftpserver.cli.session import request_names
from pysftpserver.storages.by_name import SCHEMES
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.processes import rclone
from tests.support.waiting import PATIENCE
from tools import manual

PACKAGED = ("pysftpserver", "bin", "tools", "pyproject.toml", "setup.py", "README.md", "LICENSE")
COMMANDS = tuple(sorted(path.name for path in (ROOT / "bin").iterdir() if path.is_file()))
TRIED = (
    "ls -la",
    "get welcome.txt",
    "!cat welcome.txt",
    "get passwd",
    "cd /../..",
    "pwd",
    "put notes.txt",
    "bye\n",
)
TRIED_ON_GRIDFS = (
    "ls -la",
    "get welcome.txt",
    "!cat welcome.txt",
    "cd reports",
    "pwd",
    "ls",
    "put notes.txt",
    "bye\n",
)
TRIED_ON_S3 = (
    "ls -la",
    "get welcome.txt",
    "!cat welcome.txt",
    "put notes.txt reports",
    "ls -l reports",
    "bye\n",
)


class Stay(urllib.request.HTTPErrorProcessor):
    """Follows no redirection, and takes every status for an answer."""

    def http_response(self, request, response):
        return response


BUILDS_WITH = 77  # setuptools, as pyproject.toml has it; pip fetches that where it is not there


def setuptools_is_here() -> bool:
    try:
        return int(metadata.version("setuptools").split(".")[0]) >= BUILDS_WITH
    except metadata.PackageNotFoundError:
        return False


DAILY = "daily, the jail, the server and the browser door are tried"


class Installation(unittest.TestCase):
    """A copy of the checkout, installed into a fresh virtual environment in the place of `make venv`'s.

    The package is built and installed in two steps of pip, so that the environment needs no pip of its own,
    which would take longer than all the rest.
    """

    @classmethod
    def setUpClass(cls) -> None:
        holder = cls.enterClassContext(tempfile.TemporaryDirectory())
        # The environment of whoever runs the tests is not to help: no PYTHONPATH, no working directory.
        cls.top = Path(holder).resolve()
        cls.checkout = cls.top / "checkout"
        cls.environment = cls.checkout / ".venv"
        cls.checkout.mkdir()
        for name in PACKAGED:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, cls.checkout / name, ignore=ignored)
            else:
                shutil.copy2(ROOT / name, cls.checkout)
        python = cls.environment / "bin" / "python"
        cls.call(sys.executable, "-m", "venv", "--without-pip", cls.environment)
        isolation = ["--no-build-isolation"] if setuptools_is_here() else []
        cls.pip("wheel", "--no-deps", *isolation, "--wheel-dir", cls.top / "wheels", cls.checkout)
        (wheel,) = (cls.top / "wheels").iterdir()
        cls.pip("--python", python, "install", "--no-compile", "--no-deps", "--no-index", wheel)

    @classmethod
    def pip(cls, *arguments: str | Path) -> None:
        cls.call(sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--no-input", *arguments)

    @classmethod
    def call(cls, *words: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program in an empty place; what it says is in the error when it fails."""
        temporary = cls.top / "tmp"
        temporary.mkdir(exist_ok=True)
        done = subprocess.run(
            words,
            input=text,
            cwd=cls.top,
            env=cls.variables(temporary),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=4 * PATIENCE,
        )
        if done.returncode:
            raise AssertionError(f"{words} ended with {done.returncode}:\n{done.stdout}")
        return done

    @staticmethod
    def variables(temporary: Path) -> dict[str, str]:
        """The environment. Modules are compiled by the first command that imports them, and by no other."""
        left = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
        return {name: value for name, value in os.environ.items() if name not in left} | {
            "TMPDIR": str(temporary)
        }

    def lend_libraries(self) -> None:
        """What the extras would install is here already, for the tests."""
        (packages,) = self.environment.glob("lib/python*/site-packages")
        lent = packages / "lent.pth"
        lent.write_text(f"{Path(pymongo.__file__).parents[1]}\n")
        self.addCleanup(lent.unlink)

    def test_the_commands_start_with_the_interpreter_they_were_installed_for(self) -> None:
        for command in COMMANDS:
            with self.subTest(command):
                path = self.environment / "bin" / command
                self.assertEqual(path.read_text().splitlines()[0], f"#!{self.environment / 'bin' / 'python'}")
                self.assertTrue(os.access(path, os.X_OK))

    def test_the_commands_are_there_and_tell_their_version(self) -> None:
        for command in COMMANDS:
            with self.subTest(command):
                done = self.call(self.environment / "bin" / command, "--version")
                # Two go by names that older installations know.
                name = "pysftpremo" if command in ("add_user", "build_key_pair") else command
                self.assertEqual(done.stdout, f"{name} {__version__}\n")

    def test_manual_pages_and_completion_are_where_man_and_shells_look(self) -> None:
        share = self.environment / "share"
        present = {str(path.relative_to(self.environment)) for path in share.rglob("*") if path.is_file()}
        self.assertEqual(present, set(manual.files()))
        self.assertIn("share/man/man8/pysftpjail.8", present)
        for name, text in manual.files().items():
            self.assertEqual((self.environment / name).read_text(), text)

    def test_the_commands_of_sshd_start_without_the_module_site(self) -> None:
        directory = self.environment / "bin"
        for command in ("pysftpjail", "pysftpserver"):
            done = self.call(directory / "python", "-IS", directory / command, "--version")
            self.assertEqual(done.stdout, f"{command} {__version__}\n")

    def test_a_command_lists_the_requests_without_what_else_it_needs(self) -> None:
        done = self.call(self.environment / "bin" / "pysftpmongo", "-Q")
        self.assertEqual(done.stdout.split(), request_names())

    def test_the_installed_package_is_whole_and_says_that_it_is_typed(self) -> None:
        (installed,) = self.environment.glob("lib/python*/site-packages/pysftpserver")
        self.assertTrue((installed / "py.typed").is_file())
        present = {path.relative_to(installed) for path in installed.glob("**/*.py")}
        package = self.checkout / "pysftpserver"
        self.assertEqual(present, {path.relative_to(package) for path in package.glob("**/*.py")})

    def test_the_installation_brings_nothing_else_with_it(self) -> None:
        (packages,) = self.environment.glob("lib/python*/site-packages")
        names = {path.name.split("-")[0] for path in packages.iterdir()}
        self.assertEqual(names - {"__pycache__"}, {"pysftpserver"})

    def test_make_try_shows_a_jail_that_nobody_can_leave_and_removes_it(self) -> None:
        done = self.call(self.checkout / "tools" / "try.sh", text="\n".join(TRIED))
        self.assertIn("welcome.txt", done.stdout)
        self.assertIn("This is a jail", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^l[rwx-]{9} .* passwd")
        # The link leads to /etc/passwd in the jail, and there is none; nothing of the host's is shown.
        self.assertRegex(done.stdout, r"stat remote: No such file or directory|File .* not found")
        self.assertNotIn("root:", done.stdout)
        self.assertIn("Remote working directory: /\n", done.stdout)
        self.assertIn("Uploading notes.txt to /notes.txt", done.stdout)
        self.assertEqual(list((self.top / "tmp").iterdir()), [])

    @unittest.skipUnless(IS_HARD, DAILY)
    def test_make_try_gridfs_shows_files_in_a_database_and_removes_it(self) -> None:
        self.lend_libraries()
        done = self.call(self.checkout / "tools" / "try-gridfs.sh", text="\n".join(TRIED_ON_GRIDFS))
        self.assertIn("for trying out and tests", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^-[rwx-]{9} .* welcome.txt")
        self.assertIn("This file is in a MongoDB-compatible database", done.stdout)
        self.assertIn("Remote working directory: /reports\n", done.stdout)
        self.assertIn("visits.csv", done.stdout)
        self.assertIn("Uploading notes.txt to /reports/notes.txt", done.stdout)
        self.assertEqual(list((self.top / "tmp").iterdir()), [])

    @unittest.skipUnless(IS_HARD, DAILY)
    def test_make_try_s3_shows_a_bucket_and_removes_everything(self) -> None:
        lent = self.environment / "bin" / "rclone"
        lent.symlink_to(rclone())
        self.addCleanup(lent.unlink)
        done = self.call(self.checkout / "tools" / "try-s3.sh", text="\n".join(TRIED_ON_S3))
        self.assertRegex(done.stdout, r"(?m)^-[rwx-]{9} .* welcome.txt")
        self.assertIn("This file is an object in the bucket", done.stdout)
        self.assertIn("Uploading notes.txt to /reports/notes.txt", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^-[rwx-]{9} .* reports/visits.csv")
        self.assertEqual(list((self.top / "tmp").iterdir()), [])

    @contextlib.contextmanager
    def served(self, script: str) -> Iterator[Iterator[str]]:
        """A script that serves until Ctrl-C, which ends it with nothing left. Yields the lines it prints."""
        self.lend_libraries()
        temporary = self.top / script
        temporary.mkdir()
        self.addCleanup(shutil.rmtree, temporary, ignore_errors=True)
        served = subprocess.Popen(
            [self.checkout / "tools" / script],
            cwd=self.top,
            env=self.variables(temporary),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert served.stdout is not None
        lines = iter(served.stdout)
        try:
            yield lines
        finally:
            os.killpg(served.pid, signal.SIGINT)  # as Ctrl-C does
            said = "".join(lines)
            self.assertEqual(served.wait(PATIENCE), 0, said)
            served.stdout.close()
        self.assertEqual(list(temporary.iterdir()), [])

    def test_make_try_server_prints_a_command_that_gets_in_and_removes_everything(self) -> None:
        with self.served("try-server.sh") as lines:
            words = next(shlex.split(line) for line in lines if line.strip().startswith("sftp -i "))
            done = self.call(words[0], "-b", "-", *words[1:], text="ls\n")
            self.assertIn("welcome.txt", done.stdout)

    def test_make_try_web_prints_a_link_and_a_password_that_get_in_and_removes_everything(self) -> None:
        with self.served("try-web.sh") as lines:
            url, name, password = (
                next(line.split()[-1] for line in lines if re.match(start, line))
                for start in (" +http://", " +name ", " +password ")
            )
            form = urllib.parse.urlencode({"name": name, "password": password}).encode()
            with urllib.request.urlopen(url + "login") as page:
                self.assertIn(b"Password", page.read())
            opener = urllib.request.build_opener(Stay)
            with opener.open(url + "login", form) as answer:
                self.assertEqual(answer.status, 303)
                self.assertIn("pysftpweb=", answer.headers["Set-Cookie"])

    @unittest.skipUnless(IS_HARD, DAILY)
    def test_make_try_laboratory_is_a_server_and_a_client_and_removes_both(self) -> None:
        self.lend_libraries()
        text = "hello\n:use files\nget /welcome.txt\n"
        done = self.call(self.checkout / "tools" / "try-laboratory.sh", text=text)
        self.assertIn('I received "hello" from you.\n', done.stdout)
        self.assertRegex(done.stdout, r"(?m)^file \d+ \d+$")
        self.assertEqual(list((self.top / "tmp").iterdir()), [])


class InstallLines(unittest.TestCase):
    """The name of this project on the package index is another program's, at 1.4.0."""

    NAMED = re.compile(r"pip(?:3)? install (?:-[\w-]+ )*('[^']*'|\"[^\"]*\"|[^\s`;)]+)")

    def lines(self) -> dict[str, set[str]]:
        """What the pages and messages say to install, by file."""
        files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")]
        found = {}
        for path in [*files, *(ROOT / "pysftpserver").rglob("*.py")]:
            named = {words.strip("'\"") for words in self.NAMED.findall(path.read_text())}
            found[os.fspath(path.relative_to(ROOT))] = named
        return found

    def test_no_page_and_no_message_names_the_package_of_the_index(self) -> None:
        rows = (*PROGRAMS, *SCHEMES.values())
        right = {".", ".[embedded]", ".[{extra}]", ".[{program.extra}]", ".[{scheme.extra}]"}
        right |= {f".[{row.extra}]" for row in rows if row.extra}
        right |= {"obstore"}  # of an example
        for file, named in self.lines().items():
            with self.subTest(file):
                # The README says what that name would install.
                allowed = right | {"pysftpserver"} if file == "README.md" else right
                # A wheel from a checkout; tests/packaging installs those.
                self.assertLessEqual({words for words in named if ".whl" not in words}, allowed)

    @unittest.skipUnless(IS_HARD, "pip takes minutes; class Installation has the plain line")
    def test_each_line_installs_this_program_and_an_upgrade_keeps_it(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            top = Path(name)
            checkout = top / "checkout"
            shutil.copytree(
                ROOT, checkout, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests", "fuzz")
            )
            python = top / "environment" / "bin" / "python"
            self.call(top, sys.executable, "-m", "venv", "--without-pip", python.parents[1])
            said = {words for named in self.lines().values() for words in named if words.startswith(".")}
            for words in sorted(words for words in said if "{" not in words and ".whl" not in words):
                with self.subTest(words):
                    self.pip(checkout, python, "install", words)
                    version = self.call(top, python, "-c", "import pysftpserver as p; print(p.__version__)")
                    self.assertEqual(version, f"{__version__}\n")
            for module in ("pymongo", "asyncssh", "srptools", "cheroot", "rich", "redis"):
                self.call(top, python, "-c", f"import {module}")
            self.call(top, python.parent / "pysftpd", "--version")
            # The index as it is, as far as this name goes.
            other = top / "other"
            other.mkdir()
            (other / "pyproject.toml").write_text('[project]\nname = "pysftpserver"\nversion = "1.4.0"\n')
            (other / "pysftpserver.py").write_text("")
            wheels = top / "wheels"
            self.pip(other, python, "wheel", "--no-deps", "--wheel-dir", wheels, ".")
            local = ("--upgrade", "--no-deps", "--no-index", "--find-links", wheels)
            self.pip(top, python, "install", *local, "pysftpserver")
            after = self.call(top, python, "-c", "import pysftpserver as p; print(p.__version__)")
            self.assertEqual(after, f"{__version__}\n")

    def pip(self, directory: Path, python: Path, *arguments: str | Path) -> None:
        options = ["-q", "--disable-pip-version-check", "--no-input", "--python", python]
        self.call(directory, sys.executable, "-m", "pip", *options, *arguments)

    def call(self, directory: Path, *words: str | Path) -> str:
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            words,
            cwd=directory,
            env=inherited,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.assertEqual(done.returncode, 0, f"{words}: {done.stdout}{done.stderr}")
        return done.stdout
