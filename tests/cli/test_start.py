"""What a command does before its session begins: each module that it imports delays each login."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest

from pysftpserver.testing import sftpint
from tests.support.paths import IN_MEMORY, ROOT
from tests.support.waiting import PATIENCE

INIT = sftpint(5) + b"\1" + sftpint(3)
PACKAGE = "pysftpserver"
#: Modules of this package that a session needs, by their directories. Their number is what a start costs.
OURS = {
    "": "abstractstorage attributes failures pysftpexceptions server stdio storage",
    "cli": "common options session",
    "engine": "bulk copying handlers handles limits log requests segments session wire",
    "host": "accounts budget entries libc linux sandbox",
    "warm": "client",
}
MORE = {"pysftpserver": {"cli.pysftpserver"}, "pysftpjail": {"cli.pysftpjail", "host.homes", "virtualchroot"}}
#: Of the standard library: what is small, or compiled.
THEIRS = set("__future__ _ctypes _struct errno gc grp itertools mmap pwd select struct syslog".split())


def imported(*argv: str) -> set[str]:
    """Return the modules, besides those of os, that a command imports for a session of one request."""
    python = [sys.executable, "-I", "-S", "-X", "importtime", "-c"]
    before = subprocess.run([*python, "import os"], capture_output=True, check=True, timeout=PATIENCE)
    script = [*python[:-1], str(ROOT / "bin" / argv[0]), *argv[1:]]
    environment = {**os.environ, "PYSFTP_WARM": ""}
    done = subprocess.run(
        script, input=INIT, env=environment, capture_output=True, check=True, timeout=PATIENCE
    )
    return _names(done.stderr) - _names(before.stderr)


def _names(times: bytes) -> set[str]:
    lines = times.decode().splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


class Start(unittest.TestCase):
    def test_a_session_imports_what_it_needs_and_no_more(self) -> None:
        shared = {PACKAGE}
        for directory, names in OURS.items():
            prefix = f"{PACKAGE}.{directory}".rstrip(".")
            shared |= {prefix, *(f"{prefix}.{name}" for name in names.split())}
        for prog, more in MORE.items():
            with self.subTest(prog), tempfile.TemporaryDirectory(dir=IN_MEMORY) as jail:
                found = imported(prog, *([jail] if prog == "pysftpjail" else []))
                ours = {name for name in found if name.split(".")[0] == PACKAGE}
                self.assertEqual(ours, shared | {f"{PACKAGE}.{name}" for name in more})
                self.assertEqual(found - ours - THEIRS, set())

    def test_atomic_uploads_need_no_regular_expressions(self) -> None:
        with tempfile.TemporaryDirectory(dir=IN_MEMORY) as jail:
            found = imported("pysftpjail", "--atomic-uploads", "--durable", jail)
        self.assertIn(f"{PACKAGE}.uploads.atomic", found)
        self.assertEqual(found & {"re", "enum", "hashlib"}, set())

    def test_garbage_is_collected_again_once_a_session_begins(self) -> None:
        code = "import gc, sys; gc.disable(); from pysftpserver.cli.pysftpserver import main; main([])\n"
        code += "print(gc.isenabled(), gc.get_freeze_count() > 1000, file=sys.stderr)"
        done = subprocess.run(
            [sys.executable, "-c", code], input=INIT, capture_output=True, check=True, timeout=PATIENCE
        )
        self.assertEqual(done.stderr.split(), [b"True", b"True"])
