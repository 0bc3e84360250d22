"""Mutants for the rules of files and what is in them."""

from __future__ import annotations

from tests.probe.mutation import Mutant

MUTANTS: tuple[Mutant, ...] = ()
