"""Run the tests with nose2 and end with one line: N passed, N failed, N skipped.

    python tools/run_tests.py [--counts FILE] [--costs FILE] [--jobs N] [--shuffle [SEED]] [--] [nose2's
        arguments]

With --jobs and without arguments for nose2, the modules below tests/ are run in this many processes at a
time, and the output of each is printed when it has ended. With --shuffle, modules, the classes in them and
their tests run in random order; the same seed gives the same order. With --costs, the processor time of each
class goes to a file: on a busy machine it says more than the duration.

The slowest modules and tests, and the failed tests, are listed before the last line.

Exits with 0 only if a test ran and none failed. Every test counts once, by its worst outcome: failures,
errors, failed subtests and unexpected successes are failed; an expected failure is passed. A failure in place
of tests (a module that cannot be imported, setUpModule, setUpClass and their tear-downs) counts as one
failed.
"""

import argparse
import atexit
import compileall
import json
import math
import os
import random
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from nose2.events import StartTestEvent, StartTestRunEvent, StopTestEvent, TestOutcomeEvent
from nose2.main import PluggableTestProgram

TESTS = Path("tests")
MEMORY = "/dev/shm"
ENOUGH = 4 << 30  # free bytes required for files of tests, which need a tenth
MODULES = 6  # in one process, in random order
#: Seconds of processor time for one process of tests, about: each imports the same libraries, and starts the
#: same helpers.
SHARE = 25
SHORT = 0.5  # approximate seconds of processor time of a module, unless it is one of these
LONG = {
    12: """mongo.test_contract mongo.test_races""",
    7: """cli.test_pysftpmongo_reach mongo.test_failures mongo.test_listing sshd.test_clients
        sshd.test_floods sshd.test_pysftpctl sshd.test_pysftpd sshd.test_session_limits test_install
        web.browser.test_people""",
    4: """faults.test_disk_full faults.test_stored integration.test_gridfs mongo.test_content
        mongo.test_never_half resident.test_memory sksync.test_crowds sshd.test_isolation
        sshd.test_many_servers sshd.test_processes storages.test_embedded test_runner web.browser.test_hostile
        web.browser.test_operators web.browser.test_shares web.browser.test_uploads""",
    2: """cli.test_pysftpmongo cli.test_pysftpremo cli.test_pysftpremo_connect cli.test_pysksync
        differential.test_random faults.test_plugins integration.test_asyncssh
        integration.test_changing_files integration.test_openssh_scp integration.test_openssh_sftp
        integration.test_openssh_transfers integration.test_psftp integration.test_sessions
        integration.test_ways_in laboratory.test_hostile_clients laboratory.test_pysftplab
        laboratory.test_window mongo.test_interoperability mongo.test_logins objects.test_contract
        probe.test_clients probe.test_mutants remo.test_processes resident.test_long_sessions
        security.test_magic security.test_mounts security.test_paths security.test_sandbox
        security.test_swapping service.test_hangups sksync.test_memory sksync.test_srp sshd.test_admin
        sshd.test_authorized_keys_command sshd.test_channel sshd.test_filezilla sshd.test_live
        sshd.test_metrics sshd.test_pysftp_keys sshd.test_redis_users sshd.test_refusals
        sshd.test_resting sshd.test_user_storages storages.test_contract_storages test_architecture
        test_bench test_fuzz_corpus test_testing web.test_operators""",
}
COSTS = {f"tests.{name}": seconds for seconds, names in LONG.items() for name in names.split()}
SLOWEST = 20  # rows
MENTIONED = 0.1  # seconds; faster tests are not listed
VERDICTS = ("passed", "skipped", "failed")  # from the best to the worst


@dataclass
class Results:
    """The results of a run.

    seconds: of each test, and of each class's fixtures. costs: the processor time of each class in seconds,
    by "user", "sys", and "children", which is the part of both used by programs that it started.
    failed: names of tests.
    """

    counts: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    costs: dict[str, Counter[str]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    is_well: bool = True

    def add(self, other: "Results") -> None:
        """Include another run."""
        self.counts.update(other.counts)
        self.seconds.update(other.seconds)
        for name, cost in other.costs.items():
            self.costs.setdefault(name, Counter()).update(cost)
        self.failed += other.failed
        self.is_well = self.is_well and other.is_well

    def report(self) -> str:
        """The slowest and the failed tests, and the closing line."""
        modules: Counter[str] = Counter()
        for name, seconds in self.seconds.items():
            modules[name.partition(":")[0]] += seconds
        rows = []
        for title, table in (("modules", modules), ("tests", self.seconds)):
            slow = [(name, took) for name, took in table.most_common(SLOWEST) if took >= MENTIONED]
            rows += [f"The slowest {title}:"] if slow else []
            rows += [f"{took:8.1f} s  {name.replace(':', '.')}" for name, took in slow]
        rows += [f"FAILED: {name}" for name in self.failed]
        return "\n".join([*rows, self.line()])

    def bill(self) -> str:
        """The cost of each class, the highest first, after the sum."""
        total: Counter[str] = Counter()
        for cost in self.costs.values():
            total.update(cost)
        rows = sorted(self.costs.items(), key=lambda row: -row[1]["user"] - row[1]["sys"])
        lines = [f"{'both':>8} {'user':>8} {'sys':>8} {'children':>8}  seconds of processor time"]
        for name, cost in [("all", total), *rows]:
            figures = (cost["user"] + cost["sys"], cost["user"], cost["sys"], cost["children"])
            lines.append(" ".join(f"{figure:8.2f}" for figure in figures) + f"  {name.replace(':', '.')}")
        return "\n".join(lines) + "\n"

    def line(self) -> str:
        """The closing line."""
        return ", ".join(f"{self.counts[verdict]} {verdict}" for verdict in ("passed", "failed", "skipped"))


class Observer:
    """Keeps the verdict on every test for which nose2 reports an outcome, and its duration.

    shuffle: the seed of a random order, or None.
    """

    def __init__(self, shuffle: int | None = None) -> None:
        # By identity: two tests may share a name. The test is kept so that its id stays its own.
        self._verdicts: dict[str, str] = {}  # by name: a test itself may keep a storage open
        self._seconds: Counter[str] = Counter()
        self._costs: dict[str, Counter[str]] = {}
        self._started: set[str] = set()  # classes
        self._since = time.monotonic()
        self._spent = _spent()
        self._shuffle = shuffle

    def startTestRun(self, event: StartTestRunEvent) -> None:
        """nose2's hook: all tests are loaded, and none has run."""
        if self._shuffle is not None:
            _shuffle(event.suite, random.Random(self._shuffle))
        self._since = time.monotonic()
        self._charge("imports")

    def startTest(self, event: StartTestEvent) -> None:
        """nose2's hook. The time since the last test was the class's or the module's set-up."""
        name = _class_of(event.test)
        self._lap(name, " (fixtures)")
        if name not in self._started:
            # Runs after all other cleanups of the class, which were added before its first test.
            type(event.test)._class_cleanups.insert(0, (self._lap, (name, " (fixtures)"), {}))
            self._started.add(name)

    def stopTest(self, event: StopTestEvent) -> None:
        """nose2's hook."""
        self._lap(_class_of(event.test), f".{event.test.id().rpartition('.')[2]}")

    def _lap(self, name: str, part: str) -> None:
        now = time.monotonic()
        self._seconds[name + part] += now - self._since
        self._since = now
        self._charge(name)

    def _charge(self, name: str) -> None:
        """Charge the time spent since the last call to that class."""
        now = _spent()
        cost = self._costs.setdefault(name, Counter())
        cost.update({what: seconds - self._spent[what] for what, seconds in now.items()})
        self._spent = now

    def testOutcome(self, event: TestOutcomeEvent) -> None:
        """nose2's hook: called at least once for each test, and for each failed or skipped subtest."""
        test = getattr(event.test, "test_case", event.test)  # a subtest names its test
        name = test.id()
        before = self._verdicts.get(name, VERDICTS[0])
        self._verdicts[name] = max(before, _verdict(event), key=VERDICTS.index)

    def results(self) -> Results:
        """The results of the run."""
        counts = Counter(self._verdicts.values())
        failed = [name for name, verdict in self._verdicts.items() if verdict == "failed"]
        return Results(counts, self._seconds, self._costs, failed)


def _spent() -> dict[str, float]:
    """The processor time of this process and of its ended child processes."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    # Ended forks of a process that still runs.
    forked = getattr(sys.modules.get("tests.support.forked"), "spent", {"user": 0.0, "sys": 0.0})
    user, system = children.ru_utime + forked["user"], children.ru_stime + forked["sys"]
    return {"user": own.ru_utime + user, "sys": own.ru_stime + system, "children": user + system}


def _class_of(test: unittest.TestCase) -> str:
    """The module and class of a test, separated by a colon."""
    return f"{type(test).__module__}:{type(test).__qualname__}"


def _shuffle(suite: unittest.TestSuite, order: random.Random) -> None:
    """Put a suite in random order, at every level: tests that share a fixture stay together."""
    tests = list(suite)
    order.shuffle(tests)
    suite._tests = tests  # the only way in
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            _shuffle(test, order)


def _verdict(event: TestOutcomeEvent) -> str:
    if event.outcome == "skipped":
        return "skipped"
    if event.outcome == "subtest":
        return "failed" if event.exc_info else "passed"
    # "expected" holds for a pass, and for a failure that was announced as one.
    return "passed" if event.expected else "failed"


def run(nose2_arguments: list[str], shuffle: int | None = None) -> Results:
    """Run nose2 in this process. shuffle: the seed of a random order."""
    observer = Observer(shuffle)
    if shuffle is not None:
        random.Random(shuffle).shuffle(nose2_arguments)
    program = PluggableTestProgram(
        module=None,
        argv=["nose2", *nose2_arguments],
        exit=False,
        extraHooks=[(hook, observer) for hook in ("startTestRun", "startTest", "stopTest", "testOutcome")],
    )
    # nose2 leaves no result if it fails itself.
    result = getattr(program, "result", None)
    results = observer.results()
    results.is_well = result is not None and bool(result.wasSuccessful())
    return results


def shares(jobs: int, shuffle: int | None = None) -> list[list[str]]:
    """The modules below tests/, in lists that keep directories together; the slowest go first.

    jobs: minimum number of lists, if there are enough modules. shuffle: the seed of a random order, which
    ignores directories and cost.
    """
    modules = sorted(TESTS.rglob("test_*.py"), key=lambda path: (path.parent, path))
    if shuffle is not None:
        random.Random(shuffle).shuffle(modules)
        return [_names(modules[start : start + MODULES]) for start in range(0, len(modules), MODULES)]
    most = min(SHARE, max(2 * SHORT, _sum(modules) / jobs))
    lists: list[list[Path]] = []
    for _, group in groupby(modules, key=lambda path: path.parent):
        together = sorted(group, key=_cost, reverse=True)
        number = min(len(together), math.ceil(_sum(together) / most))
        shared: list[list[Path]] = [[] for _ in range(number)]
        for path in together:
            min(shared, key=_sum).append(path)
        lists += shared
    merged: list[list[Path]] = []
    for paths in sorted(lists, key=_sum, reverse=True):
        with_room = [other for other in merged if _sum(other) + _sum(paths) <= most]
        if with_room:
            with_room[0] += paths
        else:
            merged.append(paths)
    return [_names(paths) for paths in sorted(merged, key=_sum, reverse=True)]


def _cost(path: Path) -> float:
    """The approximate cost of a module."""
    return COSTS.get(_names([path])[0], SHORT)


def _sum(paths: list[Path]) -> float:
    return sum(map(_cost, paths))


def _names(paths: list[Path]) -> list[str]:
    return [".".join(path.with_suffix("").parts) for path in paths]


def run_share(modules: list[str], shuffle: int | None) -> tuple[str, Results]:
    """Run some modules in a separate process; return (output, results)."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "results")
        command = [sys.executable, __file__, "--results", str(file)]
        command += [] if shuffle is None else ["--shuffle", str(shuffle)]
        done = subprocess.run(
            [*command, "--", *modules],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if file.exists():
            said = json.loads(file.read_text())
            results = Results(
                Counter(said["counts"]),
                Counter(said["seconds"]),
                {name: Counter(cost) for name, cost in said["costs"].items()},
                said["failed"],
                said["is_well"],
            )
        else:  # it was not completed
            results = Results(Counter(failed=1), failed=[f"one of {' '.join(modules)}"], is_well=False)
    return done.stdout.decode(errors="replace"), results


def run_in_processes(jobs: int, shuffle: int | None = None) -> Results:
    """Run all tests, `jobs` processes at a time."""
    # Programs of other users import it but cannot write here; what tests import is compiled when needed.
    compileall.compile_dir("pysftpserver", quiet=2, workers=0)
    total = Results()
    with ThreadPoolExecutor(jobs) as workers:
        for future in as_completed(
            [workers.submit(run_share, share, shuffle) for share in shares(jobs, shuffle)]
        ):
            printed, results = future.result()
            print(printed, flush=True)
            total.add(results)
    return total


def keep_files_in_memory() -> None:
    """Have tests keep their files in memory if there is room: a disk takes a fifth of their system time.

    `make test-hard` uses the disk, and so do tests for which TMPDIR names a place.
    """
    is_wanted = "TMPDIR" not in os.environ and os.environ.get("PYSFTP_TEST_HARD") != "1"
    if not is_wanted or not os.access(MEMORY, os.W_OK | os.X_OK):
        return
    there = os.statvfs(MEMORY)
    if there.f_bavail * there.f_frsize < ENOUGH or there.f_flag & os.ST_NOEXEC:
        return
    directory = tempfile.mkdtemp(prefix="t-", dir=MEMORY)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)  # after everything that tests do at exit
    os.chmod(directory, 0o1777)  # as for /tmp: programs of other users also write there
    os.environ["TMPDIR"] = tempfile.tempdir = directory


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--counts", type=Path, metavar="FILE", help="write the line to this file as well")
    parser.add_argument("--costs", type=Path, metavar="FILE", help="write what each class costs to this file")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="run N processes at once (default 1)"
    )
    parser.add_argument(
        "--shuffle",
        type=int,
        nargs="?",
        const=secrets.randbelow(10**6),
        metavar="SEED",
        help="run in random order; print the seed",
    )
    parser.add_argument("--results", type=Path, metavar="FILE", help=argparse.SUPPRESS)  # for run_share()
    parser.add_argument("arguments", nargs="*", help="nose2's own arguments, after --")
    options = parser.parse_args()
    # Under nohup(1) and in the background of a shell script, programs started by tests would inherit ignored
    # signals.
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # tools/venv.sh compiles no libraries: the first process that imports a module compiles it for all others.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    keep_files_in_memory()
    if options.jobs > 1 and not options.arguments:
        results = run_in_processes(options.jobs, options.shuffle)
    else:
        results = run(options.arguments, options.shuffle)
    sys.stderr.flush()
    if options.results is not None:
        options.results.write_text(json.dumps(vars(results)))
        print(results.line(), flush=True)
    else:
        if options.shuffle is not None:
            print(f"In the random order of --shuffle {options.shuffle}.")
        print(results.report(), flush=True)
    if options.counts is not None:
        options.counts.write_text(results.line() + "\n")
    if options.costs is not None:
        options.costs.write_text(results.bill())
    ran = results.counts["passed"] + results.counts["failed"] > 0
    return 0 if ran and not results.counts["failed"] and results.is_well else 1


if __name__ == "__main__":
    sys.exit(main())
