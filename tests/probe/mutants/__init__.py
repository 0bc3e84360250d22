"""Servers with one fault each, a module for each subject of rules; each module has a tuple MUTANTS."""

from __future__ import annotations

import importlib
import pkgutil

from tests.probe.mutation import Mutant

MUTANTS: list[Mutant] = [
    mutant
    for module in pkgutil.iter_modules(__path__)
    for mutant in importlib.import_module(f"{__name__}.{module.name}").MUTANTS
]
