"""Runs one target under libFuzzer, in a process that fuzz/run.py starts and whose output it reads.

    python -m fuzz.under_atheris TARGET [libFuzzer's options and directories]

No other file imports atheris. What may not enter: what is checked.
"""

from __future__ import annotations

import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["pysftpserver", "memorystorage"]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Run until libFuzzer ends the process."""
    name, *options = sys.argv[1:]
    target = TARGETS[name]
    run = target.make()
    random = Random()

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        random.seed(seed)
        return target.mutate(data, most, random, atheris.Mutate)  # type: ignore[misc]

    def cross(one: bytes, other: bytes, most: int, seed: int) -> bytes:
        random.seed(seed)
        return target.cross(one, other, most, random)  # type: ignore[misc]

    own = {}
    if target.mutate is not None:
        own["custom_mutator"] = mutate
    if target.cross is not None:
        own["custom_crossover"] = cross
    atheris.Setup([sys.argv[0], *options], run, **own)
    atheris.Fuzz()


main()
