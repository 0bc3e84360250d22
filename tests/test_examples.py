"""The examples' own tests, which lie beside the examples, run with all the others."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"
TESTED = ("memory_storage", "minimal_plugin", "mongodb_gridfs", "s3_storage", "sqlite_storage")


def load_tests(
    loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None
) -> unittest.TestSuite:
    """Every test module of every example; an example finds its own modules as it would when run."""
    suite = unittest.TestSuite([tests])
    for example in TESTED:
        sys.path.insert(0, str(EXAMPLES / example))
        for module in sorted((EXAMPLES / example).glob("test_*.py")):
            suite.addTests(loader.loadTestsFromName(module.stem))
    return suite


class Examples(unittest.TestCase):
    def test_every_example_with_tests_is_run(self) -> None:
        self.assertEqual({path.parent.name for path in EXAMPLES.glob("*/test_*.py")}, set(TESTED))

    @unittest.skipUnless(shutil.which("logrotate"), "logrotate is not installed")
    def test_logrotate_understands_the_sample(self) -> None:
        for path in (EXAMPLES / "logrotate").iterdir():
            argv = [str(shutil.which("logrotate")), "--debug", "--state", "/dev/null", str(path)]
            done = subprocess.run(argv, capture_output=True, text=True)
            self.assertEqual((done.returncode, "error:" in done.stderr), (0, False), done.stderr)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd is not installed")
    def test_systemd_finds_no_fault_in_the_units(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            units = []
            for unit in (*EXAMPLES.glob("*.service"), *EXAMPLES.glob("*.socket")):
                text = unit.read_text().replace("/opt/pysftpserver/bin/", f"{place}/")
                for line in text.splitlines():
                    if line.startswith("ExecStart="):
                        program = Path(line.removeprefix("ExecStart=").split()[0])
                        program.touch(0o755)
                units.append(Path(place, unit.name))
                units[-1].write_text(text)
            self.assertGreater(len(units), 3)
            argv = ["systemd-analyze", "verify", "--man=no", *map(str, units)]
            done = subprocess.run(argv, capture_output=True, text=True)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
