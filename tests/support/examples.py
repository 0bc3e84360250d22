"""Hypothesis with the settings of all tests here: however slow the machine is, that alone is no failure.

Tests import given, settings and the like from this module, and so none runs with Hypothesis's own settings.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st

from tests.support.hard import IS_HARD

__all__ = ["SEEDED", "HealthCheck", "Phase", "example", "given", "seed", "settings", "st"]

settings.register_profile(
    "here",
    deadline=None,
    max_examples=100 if IS_HARD else 30,  # fifty tests have no number of their own: a minute of a processor
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("here")
#: The same examples in every run.
SEEDED = settings(derandomize=True, database=None)
