"""Run the tests with nose2 and end with one line: N passed, N failed, N skipped.

    python tools/run_tests.py [--counts FILE] [--] [nose2's arguments]

Exits with 0 only if a test ran and none failed. Every test counts once, by the worst that happened to it:
failures, errors, failed subtests and unexpected successes are failed; an expected failure is passed. What
fails in place of tests (a module that cannot be imported, setUpModule, setUpClass and their tear-downs)
counts as one failed.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from nose2.events import TestOutcomeEvent
from nose2.main import PluggableTestProgram

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
    line = "{passed} passed, {failed} failed, {skipped} skipped".format(**counts)
    sys.stderr.flush()
    print(line, flush=True)
    if counts_file is not None:
        counts_file.write_text(line + "\n")
    ran = counts["passed"] + counts["failed"] > 0
    return ran and not counts["failed"] and result is not None and bool(result.wasSuccessful())


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--counts", type=Path, metavar="FILE", help="write the line to this file as well")
    parser.add_argument("arguments", nargs="*", help="nose2's own arguments, after --")
    options = parser.parse_args()
    return 0 if run(options.arguments, options.counts) else 1


if __name__ == "__main__":
    sys.exit(main())
