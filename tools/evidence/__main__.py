"""Runs the sections, and writes the page: python -m tools.evidence [--quick] [--page FILE] [SECTION...]

If a section fails, the others still run, and the exit status is 1. With names, only these run, and the page
shows the last results of the others. On a terminal it shows what is running; otherwise it prints only what
fails.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.evidence import page
from tools.evidence.results import ROOT, Result, keep, kept
from tools.evidence.sections import SECTIONS, Failed, Run

KEPT = ROOT / "build" / "evidence"
PAGE = ROOT / "docs" / "evidence.md"


@contextlib.contextmanager
def progress(words: str) -> Iterator[None]:
    """Show what is running and for how long, on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    began = time.monotonic()

    def show() -> None:
        while not over.wait(0.5):
            print(f"\r\x1b[K{words} {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def found(name: str, quick: bool, place: Path) -> Result:
    """Run a section. An error becomes a failure in its result."""
    log = place / f"{name}.log"
    place.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    began = time.monotonic()
    load = f"{os.getloadavg()[0]:.1f}"
    try:
        result = SECTIONS[name](Run(log, quick))
    except (Failed, OSError, ValueError, KeyError) as error:
        words = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
        result = Result(name, f"make evidence ARGS={name}", "It did not get to its end.", failures=[words])
    result.seconds = round(time.monotonic() - began, 1)
    result.date = time.strftime("%Y-%m-%d", time.gmtime())
    result.commit = page.commit()
    result.load = load
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="tools.evidence", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="run little of each section, to see that it works"
    )
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page to this file")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="one of " + " ".join(SECTIONS))
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.sections) - set(SECTIONS))
    if unknown:
        parser.error(f"no such section: {' '.join(unknown)}; there are {' '.join(SECTIONS)}")
    place = KEPT / "quick" if given.quick else KEPT
    target = given.page or (place / "page.md" if given.quick else PAGE)
    chosen = [name for name in SECTIONS if not given.sections or name in given.sections]
    is_good = True
    for number, name in enumerate(chosen, 1):
        with progress(f"[{number}/{len(chosen)}] {name}"):
            result = found(name, given.quick, place)
        keep(result, place)
        is_good = is_good and result.is_good
        if sys.stderr.isatty():
            verdict = "passed" if result.is_good else "FAILED"
            print(f"{name}: {verdict} in {result.seconds:.0f} s. {result.ran}", file=sys.stderr)
        for failure in result.failures:
            print(f"{name}: {failure}", file=sys.stderr)
        # After each section, so that an interrupted run has written its results.
        target.parent.mkdir(parents=True, exist_ok=True)
        every = (kept(section, place) for section in SECTIONS)
        target.write_text(page.text([one for one in every if one is not None]))
    return 0 if is_good else 1


if __name__ == "__main__":
    raise SystemExit(main())
