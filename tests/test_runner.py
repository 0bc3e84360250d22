"""tools/run_tests.py: what it prints last, the order it runs tests in, and its exit status."""

import re
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

RUNNER = ROOT / "tools" / "run_tests.py"


class ClosingLine(unittest.TestCase):
    """Each test writes one module of tests and has the runner run it in a directory of its own."""

    def run_module(self, source: str) -> tuple[str, int]:
        """The last line on standard output, and the exit status, for a module of tests."""
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "test_sample.py").write_text("import unittest\n" + textwrap.dedent(source))
            counts = Path(directory, "counts")
            done = subprocess.run(
                [sys.executable, RUNNER, "--counts", counts, "--", "--no-user-config"],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            line = done.stdout.splitlines()[-1]
            self.assertEqual(counts.read_text(), line + "\n")
            return line, done.returncode

    def test_counts_passed_skipped_and_expected_failures(self):
        line, status = self.run_module("""
            class Sample(unittest.TestCase):
                def test_passes(self):
                    pass

                @unittest.expectedFailure
                def test_fails_as_expected(self):
                    self.fail()

                @unittest.skip("why not")
                def test_is_skipped(self):
                    pass

                def test_skips_itself(self):
                    self.skipTest("why not")
            """)
        self.assertEqual((line, status), ("2 passed, 0 failed, 2 skipped", 0))

    def test_counts_failures_errors_and_unexpected_successes_as_failed(self):
        line, status = self.run_module("""
            class Sample(unittest.TestCase):
                def test_passes(self):
                    pass

                def test_fails(self):
                    self.fail()

                def test_errs(self):
                    raise RuntimeError

                def test_exits(self):
                    raise SystemExit(0)

                @unittest.expectedFailure
                def test_succeeds_unexpectedly(self):
                    pass
            """)
        self.assertEqual((line, status), ("1 passed, 4 failed, 0 skipped", 1))

    def test_counts_a_test_once_whatever_its_subtests_and_its_tear_down_do(self):
        line, status = self.run_module("""
            class Sample(unittest.TestCase):
                def tearDown(self):
                    if "errs" in self.id():
                        raise RuntimeError

                def test_passes_in_all_subtests(self):
                    for number in range(3):
                        with self.subTest(number=number):
                            pass

                def test_fails_in_two_subtests(self):
                    for number in range(4):
                        with self.subTest(number=number):
                            self.assertLess(number, 2)

                def test_skips_a_subtest(self):
                    for number in range(2):
                        with self.subTest(number=number):
                            if number:
                                self.skipTest("why not")

                def test_fails_and_errs(self):
                    self.fail()

                def test_passes_and_errs(self):
                    pass
            """)
        self.assertEqual((line, status), ("1 passed, 3 failed, 1 skipped", 1))

    def test_counts_a_broken_class_fixture_as_failed(self):
        line, status = self.run_module("""
            class Sample(unittest.TestCase):
                @classmethod
                def setUpClass(cls):
                    raise RuntimeError

                def test_is_never_reached(self):
                    pass

            class Other(unittest.TestCase):
                @classmethod
                def tearDownClass(cls):
                    raise RuntimeError

                def test_passes(self):
                    pass
            """)
        self.assertEqual((line, status), ("1 passed, 2 failed, 0 skipped", 1))

    def test_counts_a_broken_module_fixture_as_failed(self):
        line, status = self.run_module("""
            def setUpModule():
                raise RuntimeError

            class Sample(unittest.TestCase):
                def test_is_never_reached(self):
                    pass
            """)
        self.assertEqual((line, status), ("0 passed, 1 failed, 0 skipped", 1))

    def test_counts_a_module_that_cannot_be_imported_as_failed(self):
        line, status = self.run_module("import no_such_module_anywhere")
        self.assertEqual((line, status), ("0 passed, 1 failed, 0 skipped", 1))

    def run_tree(self, *options: str, **modules: str) -> tuple[str, int, str]:
        """Last line, exit status and all that was printed, for modules below tests/ in two processes."""
        with tempfile.TemporaryDirectory() as directory:
            for name, source in {"__init__": "", "deep/__init__": "", **modules}.items():
                path = Path(directory, "tests", f"{name.replace('__in_', '/')}.py")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("import unittest\n" + textwrap.dedent(source))
            done = subprocess.run(
                [sys.executable, RUNNER, "--jobs", "2", *options],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            return done.stdout.splitlines()[-1], done.returncode, done.stdout + done.stderr

    def test_names_the_slowest_tests_and_fixtures_and_those_that_failed(self):
        slow = """
            import time

            now = time.monotonic()
            time.monotonic = lambda: now  # the clock that the runner looks at

            def spend(seconds):
                global now
                now += seconds

            class Sample(unittest.TestCase):
                @classmethod
                def setUpClass(cls):
                    spend(0.3)

                def test_is_slow(self):
                    spend(0.2)
                    self.fail()

                def test_is_quick(self):
                    pass
            """
        line, _, printed = self.run_tree(test_a=slow)
        self.assertEqual(line, "1 passed, 1 failed, 0 skipped")
        self.assertRegex(
            printed,
            r"The slowest modules:\n +0\.\d s  tests\.test_a\n"
            r"The slowest tests:\n +0\.\d s  tests\.test_a\.Sample \(fixtures\)\n"
            r" +0\.\d s  tests\.test_a\.Sample\.test_is_slow\n"
            r"FAILED: tests\.test_a\.Sample\.test_is_slow\n1 passed",
        )

    def test_a_seed_decides_the_order_of_modules_classes_and_tests(self):
        said = "print('TOLD', self.id(), file=sys.stderr, flush=True)"
        sample = "import sys\n" + "".join(
            f"class {name}(unittest.TestCase):\n"
            + "".join(f"    def test_{number}(self): {said}\n" for number in range(9))
            for name in ("First", "Second")
        )

        def order(*options: str) -> tuple[list[str], str]:
            line, status, printed = self.run_tree(*options, test_a=sample, test_b=sample)
            self.assertEqual((line, status), ("36 passed, 0 failed, 0 skipped", 0))
            return re.findall(r"TOLD (\S+)", printed), printed

        straight, _ = order()
        self.assertEqual(straight, sorted(straight))
        shuffled, printed = order("--shuffle")
        seed = re.findall(r"--shuffle (\d+)", printed)[0]
        again, printed = order("--shuffle", seed)
        self.assertIn(f"--shuffle {seed}", printed)
        self.assertEqual(shuffled, again)
        self.assertNotEqual(shuffled, straight)
        self.assertEqual(sorted(shuffled), straight)
        classes = [name.rpartition(".")[0] for name in shuffled]
        changes = sum(before != after for before, after in zip(classes, classes[1:], strict=False))
        self.assertEqual(changes, 3, "a class stays together")

    def test_names_what_each_class_costs_with_the_programs_that_it_starts(self):
        spends = "deadline = time.process_time() + 0.3\nwhile time.process_time() < deadline: pass"
        sample = f"""
            import subprocess
            import sys

            class First(unittest.TestCase):
                def test_starts_a_program(self):
                    subprocess.run([sys.executable, "-c", {"import time" + chr(10) + spends!r}], check=True)

            class Second(unittest.TestCase):
                def test_does_nothing(self):
                    pass
            """
        with tempfile.TemporaryDirectory() as directory:
            costs = Path(directory, "costs")
            self.run_tree("--costs", str(costs), test_a=sample)
            rows = {line.split()[-1]: line.split()[:-1] for line in costs.read_text().splitlines()[1:]}
        self.assertEqual(list(rows)[:2], ["all", "tests.test_a.First"])
        self.assertGreaterEqual(float(rows["tests.test_a.First"][3]), 0.3)
        self.assertLess(float(rows["tests.test_a.Second"][0]), 0.3)

    def test_adds_up_what_several_processes_count(self):
        sample = """
            class Sample(unittest.TestCase):
                def test_passes(self):
                    pass

                @unittest.skip("why not")
                def test_is_skipped(self):
                    pass
            """
        line, status, _ = self.run_tree(test_a=sample, test_b=sample, deep__in_test_c=sample)
        self.assertEqual((line, status), ("3 passed, 0 failed, 3 skipped", 0))

    def test_a_process_that_fails_or_dies_fails_the_run(self):
        dies = "import os\nos._exit(0)"
        fails = """
            class Sample(unittest.TestCase):
                def test_fails(self):
                    self.fail("so it is said")
            """
        line, status, printed = self.run_tree(test_a=fails, deep__in_test_b=dies, deep__in_test_c=fails)
        self.assertEqual((line, status), ("0 passed, 2 failed, 0 skipped", 1))
        self.assertIn("so it is said", printed)

    def test_fails_when_no_test_ran(self):
        line, status = self.run_module("")
        self.assertEqual((line, status), ("0 passed, 0 failed, 0 skipped", 1))
