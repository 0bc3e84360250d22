"""Which rules of the contract a test class runs daily; `make test-hard` runs all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pysftpserver.contract.rules import RULES
from tests.support.hard import IS_HARD

T = TypeVar("T", bound=type)


def daily(*groups: str, also: tuple[type, ...] = ()) -> Callable[[T], T]:
    """A decorator for a test class for which the whole contract takes long.

    Args:
        groups: modules of the table whose rules it runs daily.
        also: parts of the suite whose rules it runs daily.
    """
    wanted = {f"test_{rule.check.__name__}" for rule in RULES.values() if rule.group in groups}
    wanted.update(*map(dir, also))

    def choose(case: T) -> T:
        for name in dir(case) if not IS_HARD else ():
            if name.startswith("test_") and name not in wanted | vars(case).keys():
                setattr(case, name, None)
        return case

    return choose
