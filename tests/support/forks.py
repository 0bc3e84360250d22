"""Commands of bin/ in a fork of this process, which has imported what a new one needs up to a second for.

A fork is a process with its own descriptors, environment, arguments, signals and sandbox. What it does not
show is that the interpreter starts: some tests of each command start it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import os
import random
import runpy
import signal
import sys
import syslog
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pysftpserver.host.linux import end_with_parent
from tests.support.paths import ROOT

BIN = ROOT / "bin"
#: What a command imports when it knows what it is to do.
LATER = {
    "pysftpd": """asyncssh asyncio pysftpserver.sshd.processes pysftpserver.sshd.user_storages
        pysftpserver.sshd.file_users pysftpserver.sshd.redis_users pysftpserver.sshd.metrics_http
        pysftpserver.storages.by_name pysftpserver.virtualchroot""".split(),
}


def fork_of(
    argv: Sequence[str | bytes | Path], environment: Mapping[str, str] | None = None, keep: Sequence[int] = ()
) -> Callable[[], None] | None:
    """Return a `preexec_fn` for subprocess that runs a command of this checkout and never returns.

    Args:
        argv: what subprocess would run. Unless that is this interpreter on a script of bin/, None is
            returned, and subprocess runs it.
        environment: all of the command's variables. The default is this process's.
        keep: the descriptors above 2 that the command gets.
    """
    words = list(map(os.fsdecode, argv))
    at = next((number for number, word in enumerate(words) if word == sys.executable), None)
    before = ["/usr/bin/env", f"PYTHONPATH={ROOT}"]  # as in processes.command()
    if at is None or words[:at] not in ([], before) or len(words) < at + 2:
        return None
    script = Path(words[at + 1])
    variables = dict(os.environ if environment is None else environment)
    here = {**os.environ, "PYTHONPATH": variables.get("PYTHONPATH")}
    if script.parent != BIN or any(
        here.get(name) != variables[name] for name in variables if name[:6] == "PYTHON"
    ):
        return None
    for name in (f"pysftpserver.cli.{script.name.replace('-', '_')}", *LATER.get(script.name, ())):
        if name not in sys.modules and importlib.util.find_spec(name) is not None:
            importlib.import_module(name)

    parent = os.getpid()

    def run() -> None:
        status = 1
        try:
            end_with_parent(parent, signal.SIGTERM)
            _be_new(words[at + 1 :], variables, keep)
            runpy.run_path(str(script), run_name="__main__")
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None and not stream.closed:
                    try:
                        stream.flush()
                    except OSError:
                        status = status or 120  # as the interpreter has it
            os._exit(status)

    return run


def _of_python(variables: Mapping[str, str]) -> set[tuple[str, str]]:
    """Those that an interpreter heeds when it starts."""
    return {one for one in variables.items() if one[0][:6] == "PYTHON" and one[0] != "PYTHONPATH"}


def _be_new(words: list[str], variables: dict[str, str], keep: Sequence[int]) -> None:
    """Make this fork what a new interpreter would be."""
    gc.freeze()  # objects of the tests must not close descriptors whose numbers are used again
    gc.enable()
    syslog.closelog()
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number not in keep:
            with contextlib.suppress(OSError):  # listdir's own
                os.close(number)  # one of them tells subprocess that the command runs
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    tempfile.tempdir = None
    random.seed()
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    sys.argv = words
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, "w" if number else "r", errors=errors, closefd=False)
        for number, errors in enumerate((None, None, "backslashreplace"))
    )
