"""The examples' own tests, which lie beside the examples, run with all the others."""

from __future__ import annotations

import sys
import unittest

from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"
TESTED = ("memory_storage", "minimal_plugin", "mongodb_gridfs")


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
