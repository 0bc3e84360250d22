"""Run the tests with nose2 and end with one line: N passed, N failed, N skipped.

    python tools/run_tests.py [--counts FILE] [--jobs N] [--] [nose2's arguments]

With --jobs and no arguments of nose2's, the modules below tests/ are run in several processes, as many at
once as asked for, and what each prints comes when it has ended.

Exits with 0 only if a test ran and none failed. Every test counts once, by the worst that happened to it:
failures, errors, failed subtests and unexpected successes are failed; an expected failure is passed. What
fails in place of tests (a module that cannot be imported, setUpModule, setUpClass and their tear-downs)
counts as one failed.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import groupby
from pathlib import Path

from nose2.events import TestOutcomeEvent
from nose2.main import PluggableTestProgram

TESTS = Path("tests")
MODULES = 5  # in one process: fewer are started more often, more may be waited for at the end
VERDICTS = ("passed", "skipped", "failed")  # from the best to the worst


class OutcomeCounter:
    """Keeps the verdict on every test that nose2 reports an outcome for."""

    def __init__(self) -> None:
        # By identity: two tests may share a name. The test is kept so that its id stays its own.
        self._verdicts: dict[int, tuple[object, str]] = {}

    def testOutcome(self, event: TestOutcomeEvent) -> None:
        """nose2's hook: called at least once for each test, and for each failed or skipped subtest."""
        test = getattr(event.test, "test_case", event.test)  # a subtest names its test
        _, before = self._verdicts.get(id(test), (test, VERDICTS[0]))
        verdict = max(before, _verdict(event), key=VERDICTS.index)
        self._verdicts[id(test)] = (test, verdict)

    def counts(self) -> dict[str, int]:
        """How many tests have each of VERDICTS."""
        counter = Counter(verdict for _, verdict in self._verdicts.values())
        return {verdict: counter[verdict] for verdict in VERDICTS}


def _verdict(event: TestOutcomeEvent) -> str:
    if event.outcome == "skipped":
        return "skipped"
    if event.outcome == "subtest":
        return "failed" if event.exc_info else "passed"
    # "expected" holds for a pass, and for a failure that was announced as one.
    return "passed" if event.expected else "failed"


def run(nose2_arguments: list[str], counts_file: Path | None = None) -> bool:
    """Run nose2, print the line and write it to `counts_file`. True if a test ran and none failed."""
    counter = OutcomeCounter()
    program = PluggableTestProgram(
        module=None,
        argv=["nose2", *nose2_arguments],
        exit=False,
        extraHooks=[("testOutcome", counter)],
    )
    # nose2 leaves no result when it breaks down itself.
    result = getattr(program, "result", None)
    counts = counter.counts()
    close(counts, counts_file)
    ran = counts["passed"] + counts["failed"] > 0
    return ran and not counts["failed"] and result is not None and bool(result.wasSuccessful())


def close(counts: dict[str, int], counts_file: Path | None) -> None:
    """Print the line, and write it to `counts_file`."""
    line = "{passed} passed, {failed} failed, {skipped} skipped".format(**counts)
    sys.stderr.flush()
    print(line, flush=True)
    if counts_file is not None:
        counts_file.write_text(line + "\n")


def shares() -> list[list[str]]:
    """The modules below tests/, in lists that stay within a directory; what takes longest goes first."""
    modules = sorted(TESTS.rglob("test_*.py"), key=lambda path: (path.parent, path))
    lists = []
    for _, group in groupby(modules, key=lambda path: path.parent):
        together = list(group)
        number = -(-len(together) // MODULES)
        lists += [together[start::number] for start in range(number)]
    # What is in directories below tests/ runs other programs, and the more so the longer it is.
    lists.sort(key=lambda paths: (len(paths[0].parts) < 3, -sum(path.stat().st_size for path in paths)))
    return [[".".join(path.with_suffix("").parts) for path in paths] for paths in lists]


def run_share(modules: list[str]) -> tuple[str, dict[str, int], bool]:
    """Run some modules in a process of their own: (what it printed, the counts, whether all is well)."""
    with tempfile.TemporaryDirectory() as directory:
        counts_file = Path(directory, "counts")
        command = [sys.executable, __file__, "--counts", str(counts_file), "--", *modules]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said = counts_file.read_text() if counts_file.exists() else ""
    numbers = [int(number) for number in re.findall(r"\d+", said)]
    counts = dict(zip(("passed", "failed", "skipped"), numbers, strict=False))
    if not counts:  # it did not get to the end
        counts = {"passed": 0, "failed": 1, "skipped": 0}
    return done.stdout.decode(errors="replace"), counts, done.returncode == 0


def run_in_processes(jobs: int, counts_file: Path | None) -> bool:
    """Run all tests, `jobs` processes at a time; the rest as in run()."""
    total = Counter(dict.fromkeys(VERDICTS, 0))
    is_well = True
    with ThreadPoolExecutor(jobs) as workers:
        for future in as_completed([workers.submit(run_share, share) for share in shares()]):
            printed, counts, went_well = future.result()
            print(printed, flush=True)
            total.update(counts)
            is_well = is_well and went_well
    close(dict(total), counts_file)
    return is_well and total["passed"] > 0


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--counts", type=Path, metavar="FILE", help="write the line to this file as well")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="run N processes at once (default 1)"
    )
    parser.add_argument("arguments", nargs="*", help="nose2's own arguments, after --")
    options = parser.parse_args()
    if options.jobs > 1 and not options.arguments:
        return 0 if run_in_processes(options.jobs, options.counts) else 1
    return 0 if run(options.arguments, options.counts) else 1


if __name__ == "__main__":
    sys.exit(main())
