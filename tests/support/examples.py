"""Hypothesis with the settings for all tests: a slow machine alone does not make a test fail.

Tests import given, settings and the like from this module, so none runs with Hypothesis's own settings.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st

from tests.support.hard import IS_HARD

__all__ = ["SEEDED", "HealthCheck", "Phase", "example", "given", "seed", "settings", "st"]

settings.register_profile(
    "here",
    deadline=None,
    max_examples=100 if IS_HARD else 30,  # the default of fifty tests: a minute of processor time
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("here")
#: Use the same examples in every run.
SEEDED = settings(derandomize=True, database=None)
